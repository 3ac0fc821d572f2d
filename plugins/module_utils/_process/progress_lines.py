# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Print the progress of a long operation.

The action plugin shows the lines if the operation runs in Ansible's process. An ordinary module has no way to print before its
result, so it is silent.

Only the main thread prints. Ansible forks its workers while it holds the lock of its display, so in a worker the main thread owns
that lock for ever. Another thread that prints with ansible-runner before 2.4.2 waits for the lock without end.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Callable

from .._base.text import mask, visible
from . import interrupt

EVERY_SECONDS = 30.0
_COLUMN = "  "

Write = Callable[[str], None]


def _be_silent(_line: str) -> None:
    """Print nothing."""


class _ProgressState:
    """The state of the process. printer: how a line of its operation is printed, and True if the user asked for details (-v)."""

    printer: tuple[Write, bool] = _be_silent, False


@contextmanager
def show_progress(write: Write, *, is_detailed: bool = False) -> Iterator[None]:
    """Print the lines of the operations in the block with ``write``, with details if the user asked for them."""
    before = _ProgressState.printer
    _ProgressState.printer = (write, is_detailed)
    try:
        yield
    finally:
        _ProgressState.printer = before


def start_progress(every: float = EVERY_SECONDS) -> ProgressPrinter:
    """Return the progress of an operation that begins in this process. It prints nothing in an ordinary module."""
    write, is_detailed = _ProgressState.printer
    return ProgressPrinter(write, every, is_detailed=is_detailed)


class ProgressPrinter:
    """Lines for the user.

    write: prints one line.
    every: seconds after the last line until the current activity is printed.
    is_detailed: print the details too.
    """

    def __init__(self, write: Write, every: float = EVERY_SECONDS, *, is_detailed: bool = False) -> None:
        self._write = write
        self._every = every
        self._is_detailed = is_detailed
        self._text = ""
        self._since = self._printed = time.monotonic()

    def print_line(self, line: str) -> None:
        """Print a line now. Raises RuntimeError in a thread other than the main thread."""
        if not interrupt.is_main_thread():
            raise RuntimeError("only the main thread may print")
        with interrupt.shield(), suppress(OSError, ValueError):  # the work continues if the reader has ended
            self._write(_COLUMN.join(map(visible, mask(line).split(_COLUMN))))
        self._printed = time.monotonic()

    def detail(self, line: str) -> None:
        """Print a line now if the user asked for details."""
        if self._is_detailed:
            self.print_line(line)

    def set_activity(self, text: str) -> None:
        """Set the current activity."""
        if text != self._text:
            self._text = text
            self._since = time.monotonic()

    def repeat_if_due(self) -> None:
        """Print the current activity with its seconds if no line was printed for ``every`` seconds.

        The main thread calls it while it works, such as before each request.
        """
        now = time.monotonic()
        if self._text and now >= self._printed + self._every:
            self.print_line(f"{self._text}  {now - self._since:.0f} s")
