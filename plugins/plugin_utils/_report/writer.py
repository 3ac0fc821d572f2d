# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Write the files of a report."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from pathlib import Path

from ansible_collections.certflow.kubernetes.plugins.module_utils._errors import CertflowError

#: node_exporter runs as a user of its own, and must read the file.
READABLE = 0o644
PRIVATE = 0o600


def check_place(path: str) -> None:
    """Raise CertflowError if a file cannot be written there, before the work whose result it will have."""
    _check_kind(path)
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise _error(path, "its folder does not exist", "Create the folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _error(path, "its folder is not writable", "Change the mode of the folder, or name another one")


def write(path: str, text: str, mode: int = PRIVATE) -> None:
    """Write a file beside the path, and rename it. So a reader sees the whole old file or the whole new one.

    A link at the path is replaced. Raises CertflowError. The old file is then unchanged.
    """
    _check_kind(path)
    beside = f"{path}.{secrets.token_hex(8)}.tmp"
    try:
        descriptor = os.open(
            beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
        try:
            with open(descriptor, "w", encoding="utf-8", errors="backslashreplace", newline="") as file:
                file.write(text)
                file.flush()
                os.fchmod(descriptor, mode)
                os.fsync(descriptor)
            os.replace(beside, path)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(beside).unlink()
            raise
    except OSError as error:
        raise _error(
            path, os.strerror(error.errno or 0), "Check the folder, its mode and the free space"
        ) from error


def _check_kind(path: str) -> None:
    """Raise CertflowError for a folder or a device. It would be replaced by the file."""
    with contextlib.suppress(OSError):
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise _error(path, "it is not a regular file", "Name a file")


def _error(path: str, cause: str, remedy: str) -> CertflowError:
    return CertflowError(
        f"the report {path} cannot be written: {cause}", code="report-not-written", remedy=remedy
    )
