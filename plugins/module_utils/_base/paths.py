# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Resolve paths, and read and write whole files of this machine, without following links of other users.

Another user of the machine may create names in a common folder such as /tmp. A link there must not lead a write elsewhere.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from .errors import CertflowError

# A folder on the way to a file is opened only to find a name in it, which needs no permission to list it.
_FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# As Linux follows (path_resolution(7)).
_MOST_LINKS = 40


def expand(path: str) -> str:
    """Return the path with its ~ or ~user replaced.

    Raises CertflowError if the home directory is not known. Otherwise the file would be read or written below a directory
    with the name "~". A container often has neither HOME nor an entry for its user in /etc/passwd.
    """
    expanded = os.path.expanduser(path)
    if expanded.startswith("~"):
        raise CertflowError(
            f"the path {path} starts with a home directory that is not known",
            remedy="Set HOME, or give an absolute path",
        )
    return expanded


def existing(path: str) -> str:
    """Return the expanded path if it exists, "" otherwise, also if the home directory is not known."""
    expanded = os.path.expanduser(path)
    return expanded if not expanded.startswith("~") and os.path.exists(expanded) else ""


def resolve(path: str) -> str:
    """Return the absolute path without links. Raises OSError for a link that another user may have made, or may replace."""
    place, links = "/", 0
    todo = os.path.join(os.getcwd(), path).split("/")[::-1]
    while todo:
        name = todo.pop()
        step = os.path.dirname(place) if name == ".." else os.path.join(place, "" if name == "." else name)
        step = step.rstrip("/") or "/"
        try:
            target = os.readlink(step)
        except OSError:  # not a link, or it does not exist
            place = step
            continue
        links += 1
        if links > _MOST_LINKS or not (keeps_entries(os.stat(place)) and _is_trusted(os.lstat(step))):
            raise OSError(errno.ELOOP, f"{step} is a link, and other users may write to its folder")
        place = "/" if target.startswith("/") else place
        todo += target.split("/")[::-1]
    return place


def keeps_entries(folder: os.stat_result) -> bool:
    """Return True if no other user but root can rename or delete an entry that this user made in a folder.

    In a sticky folder, such as /tmp, only the owner of the entry and the owner of the folder can.
    """
    is_shared = folder.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not folder.st_mode & stat.S_ISVTX
    return _is_trusted(folder) and not is_shared


def _is_trusted(entry: os.stat_result) -> bool:
    return entry.st_uid in (0, os.geteuid())


@contextmanager
def open_folder(path: str) -> Iterator[int]:
    """Open a folder for the block, and yield its descriptor. path: from ``resolve``. Raises OSError for a link on the way."""
    descriptor = os.open("/", _FOLDER)
    try:
        for name in filter(None, path.split("/")):
            inner = os.open(name, _FOLDER, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


def write(path: str, content: bytes, mode: int, *, is_exact: bool = False, is_trial: bool = False) -> None:
    """Write a file beside the path, and rename it. So a reader sees the whole old file or the whole new one.

    path: from ``resolve``.
    mode: of the file. A file that exists never gets a wider mode, unless is_exact is True.
    is_trial: True to only try it. It leaves nothing behind.
    Raises OSError, also for a folder or a device at the path. The old file is then unchanged.
    """
    folder, name = os.path.split(path)
    beside = f"{name}.{secrets.token_hex(8)}.tmp"
    with open_folder(folder) as directory:
        with contextlib.suppress(FileNotFoundError):
            present = os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode
            if not stat.S_ISREG(present):
                raise OSError(errno.EINVAL, "it is not a regular file")
            mode = mode if is_exact else mode & present
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(beside, flags, 0o600, dir_fd=directory)
        try:
            with open(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fchmod(descriptor, mode)
                os.fsync(descriptor)
            if not is_trial:
                os.replace(beside, name, src_dir_fd=directory, dst_dir_fd=directory)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(beside, dir_fd=directory)


def read(path: str, most: int) -> bytes:
    """Return the content of a regular file of at most ``most`` bytes. It does not wait for a pipe. Raises OSError."""
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"it is larger than {most} bytes")
    return content
