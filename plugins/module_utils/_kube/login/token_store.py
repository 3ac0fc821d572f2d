# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Keep the tokens of exec plugins for a run, in memory that the forks of one process share.

Ansible runs each task in a fork, so a token in the memory of a fork is lost with the task. The store is an anonymous file in
memory (memfd). The parent process makes it before it forks. It has no name in a file system, other programs do not inherit
it, and it ends with the processes of the run.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from typing import Any

# Locks of bytes: the first one for the table, and one for each key.
_TABLE_BYTE = 0
_KEY_BYTES = 2**30
# The pause between two attempts to lock, in seconds.
_PAUSE_SECONDS = 0.05


class TokenStore:
    """Tokens by key. Processes that fork from the one that made the store share it.

    A lock belongs to a process, and the kernel releases it when the process ends, also by a kill.
    """

    def __init__(self) -> None:
        self._file = os.memfd_create("certflow-tokens", os.MFD_CLOEXEC)

    def find(self, key: str) -> tuple[str, float]:
        """Return the token of a key and the time of its renewal. The token is "" if it is missing or must be renewed."""
        with self._locked(_TABLE_BYTE):
            token, expires = self._read().get(key, ("", 0.0))
        return token if time.time() < expires else "", expires

    def put(self, key: str, token: str, expires: float) -> None:
        """Store a token. expires: the time of its renewal, in seconds since the epoch."""
        with self._locked(_TABLE_BYTE):
            table = self._read()
            table[key] = (token, expires)
            self._write(table)

    def drop(self, key: str, token: str) -> None:
        """Remove a token that an API server refused. A newer token of the key stays."""
        with self._locked(_TABLE_BYTE):
            table = self._read()
            if table.get(key, ("",))[0] == token:
                del table[key]
                self._write(table)

    @contextlib.contextmanager
    def one_at_a_time(self, key: str, seconds: float) -> Iterator[None]:
        """Hold the lock of a key while the block runs. Wait at most ``seconds`` for the process that holds it.

        A process that had to wait continues without the lock. It usually finds the token of the other process. If the plugin
        failed there, the waiting processes do not fail one after the other.
        """
        byte = 1 + int(key, 16) % _KEY_BYTES
        until, is_first = time.monotonic() + seconds, self._try_lock(byte)
        while not is_first and time.monotonic() < until and not self._try_lock(byte):
            time.sleep(_PAUSE_SECONDS)
        if not is_first:
            self._unlock(byte)
        try:
            yield
        finally:
            self._unlock(byte)

    @contextlib.contextmanager
    def _locked(self, byte: int) -> Iterator[None]:
        fcntl.lockf(self._file, fcntl.LOCK_EX, 1, byte)
        try:
            yield
        finally:
            self._unlock(byte)

    def _try_lock(self, byte: int) -> bool:
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
        except OSError:
            return False
        return True

    def _unlock(self, byte: int) -> None:
        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, byte)

    def _read(self) -> dict[str, Any]:
        """Return the table. If a process was killed while it wrote, the table is empty."""
        try:
            table: dict[str, Any] = json.loads(os.pread(self._file, os.fstat(self._file).st_size, 0))
        except ValueError:
            return {}
        return table

    def _write(self, table: dict[str, Any]) -> None:
        content = json.dumps(table).encode()
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, content, 0)


_shared: list[TokenStore] = []


def share_with_forks() -> None:
    """Make the store of this process and of its later forks. Do nothing on a system without files in memory."""
    if not _shared and hasattr(os, "memfd_create"):
        with contextlib.suppress(OSError):
            _shared.append(TokenStore())


def find_shared() -> TokenStore | None:
    """Return the store that share_with_forks() made, or None."""
    return _shared[0] if _shared else None
