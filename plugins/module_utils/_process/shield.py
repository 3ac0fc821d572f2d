# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Finish a write before a signal ends the work.

The client shields each write until its answer is read and noted. The handler of a signal calls ``interrupt``. Signals reach only
the main thread, so a shield has an effect only there.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _ShieldState:
    """The shields of the main thread. depth: their number. waiting: the error that the end of the last one raises."""

    depth = 0
    waiting: BaseException | None = None


@contextmanager
def shield(is_needed: bool = True) -> Iterator[None]:
    """Defer ``interrupt`` until the block has ended."""
    if not is_needed or not is_main_thread():
        yield
        return
    _ShieldState.depth += 1
    try:
        yield
    finally:
        _ShieldState.depth -= 1
        if not _ShieldState.depth:
            _raise_waiting()


def interrupt(error: BaseException) -> None:
    """Raise the error now, or at the end of the shield that is active."""
    if not _ShieldState.depth:
        raise error
    _ShieldState.waiting = error


def is_waiting() -> bool:
    """Return True if an error waits for the end of a shield. Work within a shield does not try again then."""
    return _ShieldState.waiting is not None and is_main_thread()


def is_main_thread() -> bool:
    """Return True if the main thread of this process calls it."""
    return threading.current_thread() is threading.main_thread()


def _raise_waiting() -> None:
    error, _ShieldState.waiting = _ShieldState.waiting, None
    if error is not None:
        raise error
