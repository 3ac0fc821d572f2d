# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The errors of requests, providers, Secrets and certificates."""

from __future__ import annotations

from .._base.errors import CertflowError


class RequestError(CertflowError):
    """The task asks for a name, a usage, a lifetime or a signer that cannot be requested."""

    code = "invalid-request"


class ProviderError(CertflowError):
    """A provider's row is wrong, or the task names a provider without a row."""


class SecretError(CertflowError):
    """The existing Secret must not or cannot be written."""

    code = "secret-unusable"


class AnchorError(CertflowError):
    """No known CA vouches for the certificate."""

    code = "no-trust-anchor"


class IssueError(CertflowError):
    """The signer did not answer, or its certificate cannot be used."""

    code = "not-issued"
