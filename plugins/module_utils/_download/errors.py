# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The error of a download."""

from __future__ import annotations

from .._errors import CertflowError


class SourceError(CertflowError):
    """The manifests of a release do not exist, cannot be fetched, or do not equal their sums."""

    code = "source-unusable"
