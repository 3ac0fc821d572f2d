# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Paths that start from a home directory, also for a user without one."""

from __future__ import annotations

import os

from ._errors import CertflowError


def expand(path: str) -> str:
    """Return the path with its ~ or ~user replaced.

    Raises CertflowError if the home directory is not known. Otherwise the file would be read or written below a directory
    with the name "~". A container often has neither HOME nor an entry for its user in /etc/passwd.
    """
    expanded = os.path.expanduser(path)
    if expanded.startswith("~"):
        raise CertflowError(
            f"the path {path} starts with a home directory that is not known",
            code="no-home-directory",
            remedy="set HOME, or give an absolute path",
        )
    return expanded


def existing(path: str) -> str:
    """Return the expanded path if it exists, "" otherwise, also if the home directory is not known."""
    expanded = os.path.expanduser(path)
    return expanded if not expanded.startswith("~") and os.path.exists(expanded) else ""
