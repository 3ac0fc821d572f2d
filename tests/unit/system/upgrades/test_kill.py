# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A killed play leaves no worker, although workers have a session of their own."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from tests.support import playbook
from tests.support.waiting import wait_for

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
