# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Processes that start test clusters, and the processes and files that they leave."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.waiting import becomes_true

if TYPE_CHECKING:
    from collections.abc import Iterator


RUN = """
import signal
from tests.support import clusters
with clusters.running({"c": "onprem"}):
    print("ready", flush=True)
    signal.pause()
"""


COMMAND = [sys.executable, "-m", "tests.support.clusters"]


@contextlib.contextmanager
def owner(run: str = RUN) -> Iterator[subprocess.Popen[str]]:
    """Yield a process that runs a cluster until it is stopped."""
    with subprocess.Popen([sys.executable, "-c", run], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def processes_of(temporary: Path) -> list[int]:
    """Return the ids of the processes whose command line names this directory."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if str(temporary).encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found


def nothing_left(temporary: Path) -> bool:
    return not processes_of(temporary) and not list(temporary.iterdir())


def while_starting(process: subprocess.Popen[str], temporary: Path) -> None:
    assert becomes_true(lambda: list(temporary.rglob("kube-apiserver.process")))


def when_ready(process: subprocess.Popen[str], temporary: Path) -> None:
    assert process.stdout
    assert process.stdout.readline() == "ready\n"


def kill_with_its_janitor(process: subprocess.Popen[str]) -> None:
    """Kill the owner and, before it, the janitor that would clean up after it."""
    for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        if b"janitor" in Path(f"/proc/{child}/cmdline").read_bytes():
            os.kill(int(child), signal.SIGKILL)
    process.kill()
    process.wait(60)
