# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Errors of this room."""

from __future__ import annotations

from .._errors import CertflowError


class TargetError(CertflowError):
    """An object that cannot take a caBundle: absent, without a fitting client configuration, or badly named."""

    code = "invalid-target"


class OwnedTargetError(TargetError):
    """An object whose caBundle is another writer's."""

    code = "owned-by-another"


class StaleError(TargetError):
    """A webhook goes on serving another certificate than the one that its Secret holds now."""

    code = "certificate-not-served"


class UntrustedLeafError(TargetError):
    """A bundle that would leave the API server unable to verify the webhook's certificate.

    verdict: the code of the verification's verdict, a key of _x509._verify.REASONS.
    """

    code = "certificate-untrusted"

    def __init__(self, cause: str, *, verdict: str = "", remedy: str = "") -> None:
        super().__init__(cause, remedy=remedy)
        self.verdict = verdict


class ProbeError(CertflowError):
    """What is asked of a probe cannot be asked of this webhook."""

    code = "probe-impossible"


class ProofError(CertflowError):
    """A webhook failed its proof, or was not proven where that is required; ``values`` go into the failed result."""

    code = "webhook-unproven"
