# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Errors of webhooks and their CA bundles."""

from __future__ import annotations

from .._base.errors import CertflowError


class TargetError(CertflowError):
    """An object cannot take a caBundle: it does not exist, has no fitting client configuration, or has an invalid name."""

    code = "invalid-target"


class OwnedTargetError(TargetError):
    """The caBundle of an object belongs to another manager."""

    code = "owned-by-another"


class StaleError(TargetError):
    """A webhook still serves another certificate than the one in its Secret."""

    code = "certificate-not-served"


class UntrustedLeafError(TargetError):
    """With this bundle the API server would refuse the webhook's certificate.

    verdict: the fault, an id of call_faults.
    """

    code = "certificate-untrusted"

    def __init__(self, cause: str, *, verdict: str = "", remedy: str = "") -> None:
        super().__init__(cause, remedy=remedy)
        self.verdict = verdict


class StillNeededError(TargetError):
    """After the removal of a CA the API server would refuse what an endpoint serves, or may serve."""

    code = "still-needed"


class ProbeError(CertflowError):
    """The webhook cannot be probed in this way."""

    code = "probe-impossible"


class ProofError(CertflowError):
    """A webhook failed its probe, or the probe proves nothing although a proof is required. ``values`` are keys of the result."""

    code = "webhook-unproven"
