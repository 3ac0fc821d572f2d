# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Ctrl-C and termination while there is something to put away.

On these signals a forked worker of Ansible ends at once (since ansible-core 2.19 by a handler of its own, before that
because its parent terminates it), and so does any process on SIGTERM: without ``finally``.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Callable

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """A signal came. No Exception, so that nothing on its way takes it for an error."""


@contextmanager
def put_away_by(clean: Callable[[], None]) -> Iterator[None]:
    """Run the block and then ``clean``, whatever ends the block. A signal ends it too, and takes its effect afterwards."""
    received: list[int] = []
    cleaning = False

    def handle(signum: int, _frame: FrameType | None) -> None:
        received.append(signum)
        # One alone interrupts: Ansible sends SIGTERM right behind SIGINT, and that must not interrupt the cleaning.
        if len(received) == 1 and not cleaning:
            raise Interrupted

    before = _handle(dict.fromkeys(SIGNALS, handle))
    try:
        try:
            try:
                yield
            finally:
                cleaning = True
        finally:
            clean()
    finally:
        _handle(before)
        for signum in received[:1]:
            os.kill(os.getpid(), signum)


def _handle(handlers: dict[signal.Signals, Any]) -> dict[signal.Signals, Any]:
    """Install handlers and return those that were there; nothing where signals belong to another thread."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {signum: signal.signal(signum, handler) for signum, handler in handlers.items()}


@contextmanager
def stoppable() -> Iterator[None]:
    yield
