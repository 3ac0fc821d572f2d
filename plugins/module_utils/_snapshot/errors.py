# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The errors of an upgrade of the snapshot controller."""

from __future__ import annotations

from .._base.errors import CertflowError


class ReleaseError(CertflowError):
    """The requested release does not exist, or it must not be installed."""

    code = "release-unavailable"


class StepError(CertflowError):
    """A step of a plan cannot be carried out in its form."""

    code = "invalid-step"


class NotYetError(StepError):
    """An object is missing that an earlier step of the plan creates. In check mode this is not an error."""


class OwnedObjectError(CertflowError):
    """An object belongs to another manager, which would revert the change or break."""

    code = "owned-by-another"


class RefusedObjectError(CertflowError):
    """The API server refuses an object. ``values`` go into the failed result."""

    code = "object-refused"


class RolloutError(CertflowError):
    """A Deployment does not become available, or objects are not stored at a version."""

    code = "rollout-failed"


class PreflightError(CertflowError):
    """A step of a plan would fail. ``values`` go into the failed result."""

    code = "preflight-failed"


class UpgradeError(CertflowError):
    """An upgrade failed after its first write. Its code is that of the failure. ``values`` go into the failed result."""
