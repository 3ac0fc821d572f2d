# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""What can go wrong when a release of the snapshot controller is installed."""

from __future__ import annotations

from .._errors import CertflowError


class ReleaseError(CertflowError):
    """The release that is asked for does not exist, or may not be installed."""

    code = "release-unavailable"


class SourceError(CertflowError):
    """The manifests of a release cannot be had: not there, not reachable, or not what they have to be."""

    code = "source-unusable"


class StepError(CertflowError):
    """A step of a plan cannot be carried out as it is written."""

    code = "invalid-step"


class NotYetError(StepError):
    """Something is missing that an earlier step of the plan makes; in check mode that is no fault."""

    code = "step-too-early"


class OwnedObjectError(CertflowError):
    """An object belongs to another writer, who would undo the change or be undone by it."""

    code = "owned-by-another"


class RefusedObjectError(CertflowError):
    """The API server refuses an object; ``values`` go into the failed result."""

    code = "object-refused"


class RolloutError(CertflowError):
    """A Deployment does not become available; ``values`` go into the failed result."""

    code = "rollout-failed"


class MigrationError(CertflowError):
    """Objects of a CustomResourceDefinition could not all be stored at its storage version."""

    code = "migration-failed"


class PreflightError(CertflowError):
    """A step of a plan would fail; ``values`` go into the failed result."""

    code = "preflight-failed"


class UnprovenError(CertflowError):
    """What a step was to prove is not so, or cannot be told; ``values`` go into the failed result."""

    code = "verification-failed"


class UpgradeRefused(CertflowError):
    """A hazard or another manager prevents the upgrade; ``values`` go into the failed result."""

    code = "upgrade-refused"


class UpgradeError(CertflowError):
    """An upgrade ended in the middle. Its code is that of the failure; ``values`` go into the failed result."""
