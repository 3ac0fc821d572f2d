# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The files of a fleet run: opened without links, checked, kept private, locked, and appended to whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ...module_utils._base import paths
from ...module_utils._base.errors import CertflowError

#: Seconds to wait for the lock. A process holds it for milliseconds.
LOCK_TIMEOUT = 30.0
#: The file must be a regular file with one name. Opening must not wait for a pipe, and must not follow a link.
OPEN_FLAGS = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


class RunFileError(CertflowError):
    """A file of the run cannot be used, so no further cluster may start."""

    code = "run-file-unusable"


class PrivateFile:
    """An open file of a run."""

    def __init__(self, path: str, descriptor: int) -> None:
        self.path = path
        self.descriptor = descriptor

    @property
    def size(self) -> int:
        return os.fstat(self.descriptor).st_size

    def make_private(self) -> None:
        """Take every permission of other users away."""
        if stat.S_IMODE(os.fstat(self.descriptor).st_mode) != 0o600:
            os.fchmod(self.descriptor, 0o600)

    def read(self, start: int, end: int) -> bytes:
        """Return the bytes from ``start`` to ``end``, fewer if the file is shorter."""
        parts: list[bytes] = []
        while start < end and (part := os.pread(self.descriptor, end - start, start)):
            parts.append(part)
            start += len(part)
        return b"".join(parts)

    def append(self, data: bytes) -> None:
        """Append the data. The file stays as it was if that fails."""
        size, view = self.size, memoryview(data)
        try:
            while view:
                view = view[os.write(self.descriptor, view) :]
        except OSError:
            os.ftruncate(self.descriptor, size)
            raise

    def replace(self, content: bytes) -> None:
        """Put a file with this content in the place of this one, which keeps its lock. A kill leaves one of them whole."""
        paths.write(self.path, content, 0o600)


@contextmanager
def opened(path: str, *, create: bool = False, is_locked: bool = False) -> Iterator[PrivateFile]:
    """Open the file, check that it is this user's, and hold its lock in the block if it is wanted. Raises RunFileError."""
    try:
        descriptor = _open_file(path, create)
        try:
            if is_locked:
                _lock(path, descriptor)
                # The process that had the lock may have replaced the file.
                while not os.fstat(descriptor).st_nlink:
                    replaced, descriptor = descriptor, _open_file(path, create)
                    os.close(replaced)
                    _lock(path, descriptor)
            yield PrivateFile(path, descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise unusable(path, error) from error


def _open_file(path: str, create: bool) -> int:
    folder, name = os.path.split(os.path.abspath(path))
    with paths.open_folder(folder) as directory:
        # In a folder such as /tmp other users may create files, but not replace this one.
        if not paths.keeps_entries(os.fstat(directory)):
            raise problem_error(
                path,
                "is in a folder that other users may write to",
                "Use a folder of your own with the mode 0700",
            )
        descriptor = os.open(name, OPEN_FLAGS | (os.O_CREAT if create else 0), 0o600, dir_fd=directory)
    try:
        _check_file(path, descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check_file(path: str, descriptor: int) -> None:
    """Check that the file is a regular file of this user, which no link leads to."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        raise problem_error(path, "is not a regular file with one name", "Delete it or use another path")
    if status.st_uid != os.geteuid():
        raise problem_error(path, "belongs to another user", "Use another path")


def _lock(path: str, descriptor: int) -> None:
    end = time.monotonic() + LOCK_TIMEOUT
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > end:
                text = f"has been locked by another process for {LOCK_TIMEOUT:.0f} seconds"
                raise problem_error(path, text, "End the process that hangs") from None
        time.sleep(0.005)


#: Number of a system error -> what it means for the run file, the remedy.
_PROBLEMS = {
    errno.ENOENT: (
        "does not exist, or its folder does not",
        "Create the folder, and do not delete the file during a run",
    ),
    errno.ENOSPC: ("cannot be written: the disk is full", "Free space and run the playbook again"),
    errno.EDQUOT: ("cannot be written: the quota is used up", "Free space and run the playbook again"),
    errno.ELOOP: ("is a symbolic link, or a link of another user leads to it", "Name the file itself"),
    errno.EFBIG: ("cannot be written: it would be larger than this process may write", "Move or delete it"),
}


def unusable(path: str, error: OSError) -> RunFileError:
    """Return the error of a run file that the system refuses."""
    other = f"cannot be used: {error.strerror}", "Check the path and its permissions"
    return problem_error(path, *_PROBLEMS.get(error.errno or 0, other))


def problem_error(path: str, problem: str, remedy: str) -> RunFileError:
    """Return the error of a run file with a problem."""
    return RunFileError(f"the run file {path} {problem}", remedy=remedy)
