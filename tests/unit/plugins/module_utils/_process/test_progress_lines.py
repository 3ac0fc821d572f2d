# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lines of a long operation: printed at once, repeated after a pause, and not after its end."""

from __future__ import annotations

import re
import signal
import threading
import time

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._process import progress_lines
from ansible_collections.certflow.kubernetes.plugins.module_utils._process.interrupt import (
    RunInterrupted,
    _InterruptState,
    stop_on_signal,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._process.progress_lines import (
    ProgressPrinter,
)

pytestmark = pytest.mark.quick

LONG = 3600.0
SOON = 0.01


class Screen:
    """The lines that were printed. ``enough`` is set after ``number`` lines."""

    def __init__(self, number: int = 1) -> None:
        self.lines: list[str] = []
        self.enough = threading.Event()
        self._number = number

    def __call__(self, line: str) -> None:
        self.lines.append(line)
        if len(self.lines) >= self._number:
            self.enough.set()


def test_a_line_is_printed_at_once() -> None:
    screen = Screen()
    with ProgressPrinter(screen, LONG) as progress:
        progress.set_activity("wait")
        progress.say("1/2  first")
        progress.say("2/2  second")
    assert screen.lines == ["1/2  first", "2/2  second"]


def test_the_activity_is_repeated_while_nothing_else_is_printed() -> None:
    screen = Screen(3)
    with ProgressPrinter(screen, SOON) as progress:
        progress.set_activity("7/21  Wait for the pods")
        assert screen.enough.wait(30)
    assert all(re.fullmatch(r"7/21  Wait for the pods  \d+ s", line) for line in screen.lines)


def test_the_same_activity_keeps_its_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, passed = time.monotonic, [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock() + passed[0])
    screen = Screen()
    with ProgressPrinter(screen, SOON + 100) as progress:
        progress.set_activity("wait")
        passed[0] = 90
        progress.set_activity("wait")
        passed[0] = 190
        progress.say("wake up")  # the thread measures from this line
        passed[0] = 300
        with progress._changed:
            progress._changed.notify()
        while len(screen.lines) < 2:
            time.sleep(SOON)
    assert 300 <= int(screen.lines[1].split()[1]) < 400


def test_nothing_is_repeated_without_an_activity() -> None:
    screen = Screen()
    with ProgressPrinter(screen, SOON):
        assert not screen.enough.wait(20 * SOON)
    assert screen.lines == []


def test_no_line_follows_the_end() -> None:
    screen = Screen()
    with ProgressPrinter(screen, SOON) as progress:
        progress.set_activity("wait")
        assert screen.enough.wait(30)
    number = len(screen.lines)
    assert not progress._thread.is_alive()
    time.sleep(10 * SOON)
    assert len(screen.lines) == number


def test_a_line_has_no_hidden_characters() -> None:
    screen = Screen()
    with ProgressPrinter(screen, LONG) as progress:
        progress.say("1/2  holder \x1b[31m\nx")
    assert screen.lines == ["1/2  holder \\x1b[31m x"]


def test_a_reader_that_has_gone_does_not_end_the_work() -> None:
    def broken(_line: str) -> None:
        raise BrokenPipeError

    with ProgressPrinter(broken, SOON) as progress:
        progress.set_activity("wait")
        progress.say("line")


def test_a_signal_does_not_cut_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """The queue to Ansible's main process would carry a part of a message."""
    monkeypatch.setattr(_InterruptState, "stopped_by", 0)
    lines: list[str] = []

    def write(line: str) -> None:
        signal.raise_signal(signal.SIGTERM)
        lines.append(line)

    with pytest.raises(RunInterrupted), stop_on_signal(), ProgressPrinter(write, LONG) as progress:
        progress.say("line")
        pytest.fail("the signal did not interrupt")
    assert lines == ["line"]


def test_the_operation_finds_the_writer_that_the_plugin_sets() -> None:
    screen = Screen()
    with progress_lines.show_progress(screen), progress_lines.start_progress(LONG) as progress:
        progress.say("line")
    assert screen.lines == ["line"]


def test_a_module_prints_nothing_and_starts_no_thread() -> None:
    with progress_lines.start_progress(SOON) as progress:
        progress.set_activity("wait")
        progress.say("line")
        assert not progress._thread.is_alive()
