# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Handle Ctrl-C, termination and the task's timeout while an operation has objects to clean up.

On these signals a forked worker of Ansible ends at once and skips ``finally``. Since ansible-core 2.19 its own handler does that,
before that its parent terminates it. SIGTERM ends every other process in the same way. Ansible's handler of SIGALRM raises an
error at any line. The handlers here let the client finish a write in flight, run the cleaning, and pass the signal on after that.

The client shields each write until its answer is read and noted. Signals reach only the main thread, so a shield has an effect only
there.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Callable

from .._base.errors import CertflowError


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
        error = None if _ShieldState.depth else _ShieldState.waiting
        if error is not None:
            _ShieldState.waiting = None
            raise error


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


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class RunInterrupted(BaseException):
    """A signal ended the run. It is not an Exception, so handlers of errors do not catch it.

    signum: the signal. SIGALRM is the end of the task's timeout.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum

    def error(self) -> CertflowError:
        """Return the error of the result. It has the evidence of the errors that the signal interrupted."""
        evidence: list[str] = []
        context = self.__context__
        while context is not None:
            if isinstance(context, CertflowError):
                evidence += context.evidence
            context = context.__context__
        return _error(self.signum, tuple(dict.fromkeys(evidence)))


@dataclass
class _SignalWatch:
    """The signals since the outermost block began."""

    #: The signals in their order.
    received: list[int] = field(default_factory=list)
    #: True while signals do not interrupt.
    is_cleaning: bool = True
    #: True if the first signal has interrupted the block.
    is_raised: bool = False
    #: True if the first signal ends the operation with a failed result. It is not passed on then.
    is_stoppable: bool = False

    def handle(self, signum: int, _frame: FrameType | None) -> None:
        self.received.append(signum)
        # Only the first one interrupts: Ansible sends SIGTERM after SIGINT, and that must not interrupt the cleaning.
        if not self.is_cleaning:
            self.interrupt()

    def interrupt(self) -> None:
        """Interrupt the block if a signal came and has not done so."""
        if self.received and not self.is_raised:
            self.is_raised = True
            interrupt(RunInterrupted(self.received[0]))

    def end(self) -> None:
        """Pass on the signal that has not taken effect, and remember that the process is to stop."""
        is_answered = self.is_stoppable and self.is_raised
        if is_answered and self.received[0] != signal.SIGALRM:
            _InterruptState.stopped_by = self.received[0]
        # The sender of a second signal does not read a result: Ansible ends its worker in this way after Ctrl-C.
        for signum in self.received[is_answered:][:1]:
            signal.raise_signal(signum)


class _InterruptState:
    """The state of the process. watch: the watch of the outermost block. stopped_by: the signal that stopped an operation, or 0."""

    watch: _SignalWatch | None = None
    stopped_by = 0


@contextmanager
def watch_signals() -> Iterator[_SignalWatch]:
    """Let a signal raise RunInterrupted in the block, after a write in flight. It takes its effect after the outermost block."""
    if _InterruptState.watch is not None and is_main_thread():
        yield _InterruptState.watch
        return
    watch = _SignalWatch()
    before = _handle(watch.handle)
    try:
        try:
            if before:
                _InterruptState.watch = watch
            watch.is_cleaning = False
            watch.interrupt()
            yield watch
        finally:
            watch.is_cleaning = True
    finally:
        if before:
            _InterruptState.watch = None
        for signum, handler in before.items():
            signal.signal(signum, handler)
        watch.end()


@contextmanager
def clean_up_with(clean: Callable[[], None]) -> Iterator[None]:
    """Run the block and then ``clean``, also after an error or a signal. A signal takes its effect after ``clean``."""
    with watch_signals() as watch:
        before = watch.is_cleaning
        try:
            try:
                yield
            finally:
                watch.is_cleaning = True
        finally:
            try:
                clean()
            finally:
                watch.is_cleaning = before
                if not before:
                    watch.interrupt()


@contextmanager
def stop_on_signal() -> Iterator[None]:
    """Let a signal end the operation with a failed result instead of the process.

    SIGINT, SIGTERM, SIGHUP and the end of the task's timeout raise RunInterrupted in the block, after a write in flight. Further
    signals wait until the result is made. The next operation of this process fails with code interrupted, because a loop goes
    on to its next item.
    """
    with watch_signals() as watch:
        watch.is_stoppable = True
        yield


def stop_with_parent() -> Callable[[], None]:
    """Return a check that ends the work as SIGTERM does, if the parent of this process has ended.

    Since ansible-core 2.19 a worker has its own session. So a signal that kills ansible-playbook and its process group, such as
    that of ansible-runner for a cancelled job, does not reach the worker.
    """
    parent = os.getppid()

    def check() -> None:
        if os.getppid() != parent:
            signal.raise_signal(signal.SIGTERM)

    return check


def check_not_stopped() -> None:
    """Raise CertflowError with code interrupted if a signal stopped an earlier operation of this process."""
    if _InterruptState.stopped_by:
        raise _error(_InterruptState.stopped_by)


def _error(signum: int, evidence: tuple[str, ...] = ()) -> CertflowError:
    cause = (
        "the task's timeout ended before the work was done"
        if signum == signal.SIGALRM
        else f"the run was stopped by {signal.Signals(signum).name}"
    )
    return CertflowError(
        cause,
        code="interrupted",
        evidence=evidence,
        remedy="Run again. The next run continues from the current state",
    )


def _handle(handler: Callable[[int, FrameType | None], None]) -> dict[int, Any]:
    """Install the handler and return those that were there. Do nothing in a thread, because signals reach the main thread.

    SIGALRM belongs to Ansible. It is watched only during a task with a timeout.
    """
    if not is_main_thread():
        return {}
    timeout = (signal.SIGALRM,) if callable(signal.getsignal(signal.SIGALRM)) else ()
    return {signum: signal.signal(signum, handler) for signum in (*SIGNALS, *timeout)}
