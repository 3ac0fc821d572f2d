# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The end of a killed run, and the comparison of its record with the steps that the run showed."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.playbooks import playbook
from tests.support.playbooks.playbook import TaskStart
from tests.support.waiting import wait_for
from tests.system.upgrade.rows import records

SHOWN = [
    TaskStart(float(number), name, "onprem", number)
    for number, name in enumerate(("crds", "webhook-wait"), 1)
]


def record(step: str, number: int, *, undoes: bool = False) -> dict[str, Any]:
    return {"step": step, "number": number, "undoes": undoes}


@pytest.mark.parametrize(
    "found",
    [record("crds", 1), record("webhook-wait", 2), record("webhook-switch", 3), record("controller", 5)],
    ids=["the one before", "the last", "the one after", "some steps later"],
)
def test_a_record_fits_the_step_shown_last_the_one_before_and_later_ones(found: dict[str, Any]) -> None:
    assert records.wrong(found, SHOWN) == ""


@pytest.mark.parametrize(
    "found",
    [
        record("webhook-wait", 1),
        record("crds", 2),
        record("webhook-wait", 2, undoes=True),
        {},
        None,
    ],
    ids=["another number", "another name", "another direction", "no record", "no Lease"],
)
def test_another_record_does_not_fit(found: dict[str, Any] | None) -> None:
    assert records.wrong(found, SHOWN)


def test_a_run_that_only_reads_has_no_lease() -> None:
    assert records.wrong(None, [SHOWN[1], TaskStart(3.0, "verify-webhook", "onprem", 3)]) == ""


def test_a_run_at_its_last_step_may_have_released_its_lease() -> None:
    assert records.wrong(None, [*SHOWN, TaskStart(3.0, "verify-controller", "onprem", 3)]) == ""


def test_the_next_run_reports_the_killed_one() -> None:
    last = record("crds", 1)
    assert records.wrong_previous({"previous_run": {"record": last}}, last) == ""
    assert records.wrong_previous({"previous_run": None}, None) == ""


@pytest.mark.parametrize("previous", [None, {"record": None}, {"record": record("crds", 2)}])
def test_another_report_is_wrong(previous: dict[str, Any] | None) -> None:
    assert records.wrong_previous({"previous_run": previous}, record("crds", 1))


WORKER = "import os, time; os.setsid(); print(os.getpid(), flush=True); time.sleep(600)"
PLAY = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {WORKER!r}])"


def test_a_worker_with_its_own_session_is_killed_too() -> None:
    command = [sys.executable, "-c", PLAY]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout
        worker = Path("/proc", process.stdout.readline().strip(), "stat")
        assert _runs(worker)
        playbook.kill(process)
    assert process.returncode == -signal.SIGKILL
    wait_for(lambda: not _runs(worker), seconds=10)


def _runs(stat: Path) -> bool:
    """Return True if the process runs and is not a zombie."""
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"
