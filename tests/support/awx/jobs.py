# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run jobs as AWX does, with `ansible-runner run` in a process of its own.

    with jobs.start(place, Job("play.yml", hosts, {"version": "8.1.0"}, project=folder), runners.newest) as job:
        job.wait(120)
        events, artifacts = job.events(), job.artifacts()

The job uses the ansible-core of the tests. Its events are files, as AWX reads them. The artifacts of a job are extra variables of the
next job of a workflow.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.waiting import becomes_true

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: The variable of AWX's jobs that tells their processes from others.
MARK = "AWX_PRIVATE_DATA_DIR"
# AWX waits for the runner, and then ends its container.
GRACE_SECONDS = 30.0
SETTINGS = {"suppress_ansible_output": True, "pexpect_timeout": 1, "pexpect_use_poll": True}


@dataclass(frozen=True)
class Job:
    """What a job runs.

    inventory: the variables of each host.
    project: the folder with the playbook.
    arguments: options of ansible-playbook, such as "--check --limit prod".
    environment: variables that AWX sets for the job, such as those of its credentials.
    """

    playbook: str
    inventory: Mapping[str, Mapping[str, Any]]
    extra_variables: Mapping[str, Any] = field(default_factory=dict)
    project: Path = Path()
    arguments: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)


class RunningJob:
    """A job that was started.

    place: its private data directory.
    process: ansible-runner. It leads a process group. ansible-playbook and its workers have groups of their own.
    """

    def __init__(self, place: Path, process: subprocess.Popen[bytes], number: int) -> None:
        self.place, self.process, self.number = place, process, number
        self._artifacts = place / "artifacts" / str(number)

    def wait(self, seconds: float) -> str:
        """Wait until the job has ended. Return its status. Fail with its output after the time."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            pytest.fail(f"the job did not end within {seconds:.0f} s:\n{self.output()[-2000:]}")
        return self.status()

    def cancel(self) -> str:
        """Cancel the job as AWX does: SIGTERM to ansible-runner, and SIGKILL to its process group after a while."""
        self.process.terminate()
        if not becomes_true(lambda: self.process.poll() is not None, GRACE_SECONDS):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        return self.status()

    def end_container(self) -> None:
        """Kill every process of the job. AWX does this when the container of the job ends."""
        while pids := self.processes():
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):  # it has ended
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.1)
        self.process.wait()

    def processes(self) -> list[int]:
        """Return the processes of the job that run."""
        mark = f"{MARK}={self.place}".encode()
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):  # it has ended, or belongs to another user
                if mark in path.read_bytes().split(b"\0"):
                    found.append(int(path.parent.name))
        return found

    def status(self) -> str:
        """Return "successful", "failed", "canceled" or "timeout", "" if the runner did not write one."""
        with contextlib.suppress(FileNotFoundError):
            return (self._artifacts / "status").read_text()
        return ""

    def events(self) -> list[dict[str, Any]]:
        """Return the events in the order of their counters. Each has uuid, counter, event, stdout and event_data."""
        # The runner renames a file that ends in -partial.json.
        paths = (self._artifacts / "job_events").glob("*[0-9a-f].json")
        return sorted((json.loads(path.read_text()) for path in paths), key=lambda event: event["counter"])

    def results(self, host: str) -> list[dict[str, Any]]:
        """Return the results of the host's tasks, in their order."""
        data = [event["event_data"] for event in self.events() if event["event"].startswith("runner_on_")]
        return [event["res"] for event in data if event.get("host") == host and "res" in event]

    def output(self) -> str:
        """Return the text that AWX shows: the stdout of all events."""
        return "".join(f"{event['stdout']}\n" for event in self.events() if event["stdout"])

    def artifacts(self) -> dict[str, Any]:
        """Return what the job gave to set_stats, {} for a job that did not reach its end."""
        ends = [event for event in self.events() if event["event"] == "playbook_on_stats"]
        return dict(ends[-1]["event_data"].get("artifact_data") or {}) if ends else {}


@contextlib.contextmanager
def start(place: Path, job: Job, runner: Path, *, number: int = 1) -> Iterator[RunningJob]:
    """Start the job in a new private data directory. End all of its processes with the block.

    place: a folder, which gets the directory.
    runner: the environment of ansible-runner.
    number: the id of the job.
    """
    directory = _prepare(place / f"job-{number}", job, number)
    words = [
        str(runner / "bin" / "ansible-runner"),
        "run",
        str(directory),
        "--ident",
        str(number),
        "-p",
        job.playbook,
        "--quiet",
    ]
    with (place / f"job-{number}.log").open("wb") as log:
        process = subprocess.Popen(
            words,
            cwd=directory,
            env={**os.environ, MARK: str(directory)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    running = RunningJob(directory, process, number)
    try:
        yield running
    finally:
        running.end_container()


def _prepare(directory: Path, job: Job, number: int) -> Path:
    """Write the files of a private data directory."""
    shutil.copytree(job.project, directory / "project")
    variables = {**job.extra_variables, "awx_job_id": number}
    environment = {
        "ANSIBLE_FORCE_COLOR": "false",
        "ANSIBLE_RETRY_FILES_ENABLED": "false",
        "JOB_ID": str(number),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        **job.environment,
    }
    hosts = {"all": {"hosts": {name: dict(values) for name, values in job.inventory.items()}}}
    files = {
        "env/extravars": variables,
        "env/settings": SETTINGS,
        "env/envvars": environment,
        "inventory/hosts.json": hosts,
    }
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))
    if job.arguments:
        (directory / "env" / "cmdline").write_text(job.arguments)
    return directory
