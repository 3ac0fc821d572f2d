# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes that can be found again and stopped. A later process with the same id is never stopped."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

# The shell records its own identity before it becomes the program, so every running program is on record. If
# the directory is gone because another process cleans up, nothing is started. A record that is not complete
# yet would hide the program from that process.
_LAUNCHER = 'cat "/proc/$$/stat" > "$0.new" && mv "$0.new" "$0" && exec "$@"'
_IMPORT_ROOT = str(Path(__file__).resolve().parents[len(__name__.split(".")) - 1])


@dataclass(frozen=True)
class Process:
    """A process id with the start time (clock ticks since boot), which distinguishes it from later processes
    with this id.
    """

    pid: int
    started: int

    @classmethod
    def current(cls) -> Process:
        return cls.from_stat(Path("/proc/self/stat").read_text())

    @classmethod
    def from_stat(cls, stat: str) -> Process:
        """Parse /proc/PID/stat. The program's name, in parentheses, may contain spaces and parentheses."""
        pid, rest = stat.split(" (", 1)
        return cls(int(pid), int(rest.rsplit(")", 1)[1].split()[19]))  # field 22 of proc(5)

    @property
    def alive(self) -> bool:
        """True if this process runs. A zombie does not run."""
        stat = _stat(self.pid)
        return stat is not None and Process.from_stat(stat) == self and _state(stat) not in "ZX"

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to this process. Never send it to a later process with its id."""
        with self._handle() as handle, contextlib.suppress(ProcessLookupError):
            if handle is not None:
                signal.pidfd_send_signal(handle, number)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end of the process. Return False if it still runs after `timeout` seconds."""
        with self._handle() as handle:
            return handle is None or bool(select.select([handle], [], [], timeout)[0])

    @contextlib.contextmanager
    def _handle(self) -> Iterator[int | None]:
        """Yield a pidfd, which always means this process, or None if it has ended."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            yield None
            return
        try:
            yield handle if self.alive else None
        finally:
            os.close(handle)


def start(
    command: Sequence[str], record: Path, log: Path, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a program in the directory of `record`, and return once that has its identity, or once it has ended.

    It has its own session, so that Ctrl-C does not reach it.
    """
    with log.open("ab") as out:
        child = subprocess.Popen(
            ["/bin/sh", "-c", _LAUNCHER, str(record), *command],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            cwd=record.parent,
            env=environment,
        )
    # A program without a record, or with that of an earlier one, seems to have ended.
    while child.poll() is None and ((process := recorded(record)) is None or process.pid != child.pid):
        time.sleep(0.001)
    return child


def recorded(record: Path) -> Process | None:
    """Return the process that `start` recorded, None if it ended before."""
    try:
        return Process.from_stat(record.read_text())
    except (FileNotFoundError, ValueError, IndexError):  # ended before or while it wrote the record
        return None


def python(module: str, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """Return command and environment that run a module of this package in another process."""
    command = [sys.executable, "-m", f"{__package__}.{module}", *arguments]
    return command, os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [_IMPORT_ROOT, *sys.path]))}


def _stat(pid: int) -> str | None:
    try:
        return Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None


def _state(stat: str) -> str:
    return stat.rsplit(")", 1)[1].split(maxsplit=1)[0]
