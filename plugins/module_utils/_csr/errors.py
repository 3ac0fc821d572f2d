# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""What can be wrong with a request before anything is sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .._errors import CertflowError


class RequestError(CertflowError):
    """What the task asks for cannot be requested: a name, a usage, a lifetime, a signer."""

    code = "invalid-request"


class ProviderError(CertflowError):
    """A provider's row is wrong, or names a provider that no row describes."""

    code = "invalid-provider"


class SecretError(CertflowError):
    """The Secret that is there must not, or cannot, be written."""

    code = "secret-unusable"


class AnchorError(CertflowError):
    """No CA that is known here vouches for the certificate."""

    code = "no-trust-anchor"


class IssueError(CertflowError):
    """The signer's answer cannot be used, or there is none; ``values`` go into the failed result as they are."""

    code = "not-issued"

    def __init__(
        self,
        cause: str,
        *,
        code: str = "",
        evidence: Sequence[str] = (),
        remedy: str = "",
        **values: Any,
    ) -> None:
        super().__init__(cause, code=code, evidence=evidence, remedy=remedy)
        self.values = values
