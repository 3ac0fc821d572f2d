# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lines of a long operation: printed at once, repeated after a pause, and only by the main thread."""

from __future__ import annotations

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


class Rig:
    """A printer with a time that passes only if a test lets it pass."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.lines: list[str] = []
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        self.progress = ProgressPrinter(self.lines.append, 30)

    def lines_after(self, seconds: float) -> list[str]:
        """Let the time pass in seconds, with a request in each. Return the lines that were printed."""
        before = len(self.lines)
        for _second in range(round(seconds)):
            self.now += 1
            self.progress.repeat_if_due()
        return self.lines[before:]


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Rig:
    return Rig(monkeypatch)


def test_a_line_is_printed_at_once(rig: Rig) -> None:
    rig.progress.set_activity("wait")
    rig.progress.print_line("1/2  first")
    rig.progress.print_line("2/2  second")
    assert rig.lines == ["1/2  first", "2/2  second"]


def test_the_activity_is_repeated_while_nothing_else_is_printed(rig: Rig) -> None:
    rig.progress.set_activity("7/21  Wait for the pods")
    assert rig.lines_after(29) == []
    assert rig.lines_after(31) == ["7/21  Wait for the pods  30 s", "7/21  Wait for the pods  60 s"]
    rig.progress.print_line("another line")
    assert rig.lines_after(29) == []


def test_the_same_activity_keeps_its_beginning(rig: Rig) -> None:
    rig.progress.set_activity("wait")
    rig.now += 20
    rig.progress.set_activity("wait")
    assert rig.lines_after(10) == ["wait  30 s"]


def test_nothing_is_repeated_without_an_activity(rig: Rig) -> None:
    assert rig.lines_after(100) == []


def test_only_the_main_thread_prints(rig: Rig) -> None:
    """Another thread of a worker of Ansible would wait for ever."""
    refused: list[str] = []

    def work() -> None:
        rig.progress.set_activity("wait")
        rig.now += 100
        for do in (rig.progress.repeat_if_due, lambda: rig.progress.print_line("line")):
            try:
                do()
            except RuntimeError as error:
                refused.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(10)
    assert (len(refused), rig.lines) == (2, [])


def test_a_line_has_no_hidden_characters(rig: Rig) -> None:
    rig.progress.print_line("1/2  holder \x1b[31m\nx")
    assert rig.lines == ["1/2  holder \\x1b[31m x"]


def test_a_reader_that_has_gone_does_not_end_the_work() -> None:
    def broken(_line: str) -> None:
        raise BrokenPipeError

    ProgressPrinter(broken).print_line("line")


def test_a_signal_does_not_cut_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """The queue to Ansible's main process would carry a part of a message."""
    monkeypatch.setattr(_InterruptState, "stopped_by", 0)
    lines: list[str] = []

    def write(line: str) -> None:
        signal.raise_signal(signal.SIGTERM)
        lines.append(line)

    with pytest.raises(RunInterrupted), stop_on_signal():
        ProgressPrinter(write).print_line("line")
        pytest.fail("the signal did not interrupt")
    assert lines == ["line"]


def test_the_operation_finds_the_writer_that_the_plugin_sets(rig: Rig) -> None:
    with progress_lines.show_progress(rig.lines.append):
        progress = progress_lines.start_progress()
    progress.print_line("line")
    assert rig.lines == ["line"]


def test_a_module_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    progress = progress_lines.start_progress()
    progress.print_line("line")
    assert capfd.readouterr() == ("", "")
