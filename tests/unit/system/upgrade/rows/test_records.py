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


LAST = [SHOWN[1], TaskStart(3.0, "verify-webhook", "onprem", 3)]
# Name -> the record, None without a Lease, the steps that the run showed, and whether they fit.
RECORDS: dict[str, tuple[dict[str, Any] | None, list[TaskStart], bool]] = {
    "the one before": (record("crds", 1), SHOWN, True),
    "the last": (record("webhook-wait", 2), SHOWN, True),
    "the one after": (record("webhook-switch", 3), SHOWN, True),
    "some steps later": (record("controller", 5), SHOWN, True),
    "another number": (record("webhook-wait", 1), SHOWN, False),
    "another name": (record("crds", 2), SHOWN, False),
    "another direction": (record("webhook-wait", 2, undoes=True), SHOWN, False),
    "no record": ({}, SHOWN, False),
    "no Lease": (None, SHOWN, False),
    "no Lease of a run that only reads": (None, LAST, True),
    "no Lease at the last step": (None, [*SHOWN, TaskStart(3.0, "verify-controller", "onprem", 3)], True),
}


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_fits_the_step_shown_last_the_one_before_and_later_ones(name: str) -> None:
    found, shown, fits = RECORDS[name]
    assert (records.wrong(found, shown) == "") is fits


@pytest.mark.parametrize(
    ("previous", "last", "fits"),
    [
        ({"record": record("crds", 1)}, record("crds", 1), True),
        (None, None, True),
        (None, record("crds", 1), False),
        ({"record": None}, record("crds", 1), False),
        ({"record": record("crds", 2)}, record("crds", 1), False),
    ],
)
def test_the_next_run_reports_the_killed_one(
    previous: dict[str, Any] | None, last: dict[str, Any] | None, fits: bool
) -> None:
    assert (records.wrong_previous({"previous_run": previous}, last) == "") is fits


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
