# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Calls of a webhook while a test changes it: their number, those that failed, and those that were late."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Any

from tests.support.clusters import AdminApiError

if TYPE_CHECKING:
    from collections.abc import Callable

PER_SECOND = 20
CONNECTIONS = 4
# Webhooks have 2 to 5 s. With so many programs for each core a call may take longer without a fault.
_BUSY = 6.0
_TIMED_OUT = "context deadline exceeded"


def machine_load() -> float:
    """Return the number of programs that wait for each core."""
    return os.getloadavg()[0] / (os.cpu_count() or 1)


def is_late(failure: str, load: float) -> bool:
    """Return True if a call timed out on an overloaded machine, which proves nothing."""
    return _TIMED_OUT in failure and load > _BUSY


class Load:
    """Send this number of calls a second from CONNECTIONS threads while the block runs."""

    def __init__(self, call: Callable[[], Any], per_second: int = PER_SECOND) -> None:
        self._call = call
        self._pause = 1 / per_second
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _number in range(CONNECTIONS)]
        self._lock = threading.Lock()
        self.made = 0
        self.failed: list[str] = []
        self.late = 0

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
            time.sleep(self._pause)  # spread the calls
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def __str__(self) -> str:
        late = f", {self.late} timed out because this machine is overloaded" if self.late else ""
        return f"{self.made} calls, {len(self.failed)} failed{late}"

    def _work(self) -> None:
        due = time.monotonic()
        while not self._stop.is_set():
            try:
                self._call()
                failure = ""
            except (AdminApiError, OSError) as error:
                failure = f"{time.strftime('%H:%M:%S')} {error}"
            with self._lock:
                self.made += 1
                if is_late(failure, machine_load()):
                    self.late += 1
                elif failure:
                    self.failed.append(failure)
            due = max(due + CONNECTIONS * self._pause, time.monotonic())
            self._stop.wait(max(0.0, due - time.monotonic()))
