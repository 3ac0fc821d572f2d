# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Write the files of a report."""

from __future__ import annotations

from ansible_collections.certflow.kubernetes.plugins.module_utils import _paths
from ansible_collections.certflow.kubernetes.plugins.module_utils._errors import CertflowError

#: node_exporter runs as a user of its own, and must read the file.
READABLE = 0o644
PRIVATE = 0o600


def write(path: str, text: str, mode: int = PRIVATE, **options: bool) -> None:
    """Write a file whole, with the options of ``_paths.write``. Raises CertflowError. The old file is then unchanged."""
    try:
        _paths.write(path, text.encode("utf-8", "backslashreplace"), mode, **options)
    except OSError as error:
        raise unwritable(path, error) from error


def unwritable(path: str, error: OSError) -> CertflowError:
    """Return the error of a report that cannot be written."""
    return CertflowError(
        f"the report {path} cannot be written: {error.strerror}",
        code="report-not-written",
        remedy="Set a path in a folder that only you may write to. If the disk is full, free space",
    )
