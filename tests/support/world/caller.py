# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Requests that call programs without end, each with a handshake of its own. The journal has each answer with its time."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Protocol

from tests.support.waiting import wait_for
from tests.support.world.journal import CALL, Entry, Journal
from tests.support.world.programs import ACCEPTED

if TYPE_CHECKING:
    import datetime


#: What an API server answers to a client certificate of a CA that it does not trust any more.
NOT_LOGGED_IN = "Unauthorized"


class Called(Protocol):
    """A program that an API server calls."""

    name: str

    def call(self) -> str: ...


class Caller:
    """Call programs, one after the other, until the block ends. It waits while the lock is held, and between two rounds."""

    def __init__(
        self, journal: Journal, lock: threading.Lock, *programs: Called, seconds: float = 0.1
    ) -> None:
        self._seconds = seconds
        self._journal = journal
        self._lock = lock
        self._programs = programs
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        #: Names of the programs -> the answers to all calls of this block, with their times.
        self.answers: dict[str, list[Entry]] = {program.name: [] for program in programs}

    def __enter__(self) -> Caller:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def failures(self) -> dict[str, int]:
        """Return the number of failed calls of each program that failed once. Print the figures."""
        counts = {name: sum(entry.is_failure for entry in answers) for name, answers in self.answers.items()}
        for name, count in counts.items():
            print(f"{name}: {len(self.answers[name])} calls, {count} failures")
        return {name: count for name, count in counts.items() if count}

    def wait_for_more(self, count: int = 3) -> None:
        """Wait until each program was called this number of times more."""
        before = {name: len(answers) for name, answers in self.answers.items()}
        wait_for(lambda: all(len(self.answers[name]) >= before[name] + count for name in before))

    def since(self, name: str, moment: datetime.datetime) -> list[Entry]:
        """Return the answers to the calls of a program since a time of the cluster."""
        return [entry for entry in self.answers[name] if entry.time >= moment.timestamp()]

    def _run(self) -> None:
        while not self._stop.wait(self._seconds):
            for program in self._programs:
                # The client of this test does not know the CA of the API server for a moment.
                with contextlib.suppress(OSError), self._lock:
                    answer = program.call()
                    # Its own certificate may be replaced on the way. A request reads the new one, and a lasting refusal counts.
                    if answer == NOT_LOGGED_IN:
                        answer = program.call()
                    entry = self._journal.add(CALL, answer, program.name, is_failure=answer != ACCEPTED)
                    self.answers[program.name].append(entry)
