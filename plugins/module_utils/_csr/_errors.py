# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""What can be wrong with a request before anything is sent."""

from __future__ import annotations

from .._errors import CertflowError


class RequestError(CertflowError):
    """What the task asks for cannot be requested: a name, a usage, a lifetime, a signer."""


class ProviderError(CertflowError):
    """A provider's row is wrong, or names a provider that no row describes."""
