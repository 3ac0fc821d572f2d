# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Tell the user of a long operation that it goes on.

The action plugin shows the lines if the operation runs in Ansible's process. An ordinary module has no way to print before its
result, so it is silent.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Callable

from .._text import visible
from . import shield

EVERY_SECONDS = 30.0
JOIN_SECONDS = 5.0
_COLUMN = "  "

Write = Callable[[str], None]


def _be_silent(_line: str) -> None:
    """Print nothing."""


class _ProgressState:
    """The state of the process.

    write: prints a line of the operation that it runs. is_detailed: True if the user asked for details (-v).
    """

    def __init__(self) -> None:
        self.write: Write = _be_silent
        self.is_detailed = False


_PROCESS = _ProgressState()


@contextmanager
def show_progress(write: Write, *, is_detailed: bool = False) -> Iterator[None]:
    """Print the lines of the operations in the block with ``write``, with details if the user asked for them."""
    before = _PROCESS.write, _PROCESS.is_detailed
    _PROCESS.write, _PROCESS.is_detailed = write, is_detailed
    try:
        yield
    finally:
        _PROCESS.write, _PROCESS.is_detailed = before


def start_progress(every: float = EVERY_SECONDS) -> ProgressPrinter:
    """Return the progress of an operation that begins in this process. It prints nothing in an ordinary module."""
    return ProgressPrinter(_PROCESS.write, every, is_detailed=_PROCESS.is_detailed)


class ProgressPrinter:
    """Lines for the user. In the block a daemon thread prints the current activity if nothing else is printed.

    write: prints one line.
    every: seconds after the last line until the current activity is printed.
    is_detailed: print the details too.
    """

    def __init__(self, write: Write, every: float = EVERY_SECONDS, *, is_detailed: bool = False) -> None:
        self._write, self._every, self._is_detailed = write, every, is_detailed
        self._changed = threading.Condition()
        self._text = ""
        self._since = self._printed = time.monotonic()
        self._is_ended = False
        self._thread = threading.Thread(target=self._repeat, name="certflow progress", daemon=True)

    def __enter__(self) -> ProgressPrinter:
        if self._write is not _be_silent:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._changed:
            self._is_ended = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(JOIN_SECONDS)

    def say(self, line: str) -> None:
        """Print a line now."""
        with shield.shield(), self._changed:
            self._print(line)

    def detail(self, line: str) -> None:
        """Print a line now if the user asked for details."""
        if self._is_detailed:
            self.say(line)

    def set_activity(self, text: str) -> None:
        """Set the current activity. It is printed with its seconds, ``every`` seconds after the last line."""
        with shield.shield(), self._changed:
            if text != self._text:
                self._text, self._since = text, time.monotonic()

    def _repeat(self) -> None:
        with self._changed:
            while not self._is_ended:
                now = time.monotonic()
                if now < self._printed + self._every:
                    self._changed.wait(self._printed + self._every - now)
                elif self._text:
                    self._print(f"{self._text}  {now - self._since:.0f} s")
                else:
                    self._printed = now

    def _print(self, line: str) -> None:
        with suppress(OSError, ValueError):  # the work continues if the reader has ended
            self._write(_COLUMN.join(visible(part) for part in line.split(_COLUMN)))
        self._printed = time.monotonic()
