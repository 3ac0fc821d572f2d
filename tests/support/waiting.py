# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Wait for a condition on a machine that is busy."""

from __future__ import annotations

import contextlib
import datetime
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

#: A `wait_timeout` (seconds) whose end no test waits for: the run ends before, for another reason.
NOT_REACHED = 1200


def wait_for(
    condition: Callable[[], Any],
    seconds: float = 300,
    *,
    evidence: Callable[[], object] = lambda: "no evidence",
) -> Any:
    """Return the value of the condition as soon as it is true. Fail with the evidence after the time."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not true within {seconds} s: {evidence()}"
        time.sleep(0.1)
    return value


def becomes_true(condition: Callable[[], object], seconds: float = 60) -> bool:
    """Return True as soon as the condition is true, and False if it is not within the time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@contextlib.contextmanager
def acting_after(seconds: float, act: Callable[[], object]) -> Iterator[None]:
    """Act after this time, beside what the block does. Return when both have ended."""
    timer = threading.Timer(seconds, act)
    timer.start()
    try:
        yield
    finally:
        timer.join()


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)
