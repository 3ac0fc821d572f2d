# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One run of ansible-playbook in a process of its own, with the clock of the control planes, until its end or its kill.

The processes are forks of one that has the modules already. This saves most of the time of a short run.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import warnings
from typing import TYPE_CHECKING, Any

from urllib3.connectionpool import HTTPConnectionPool

from tests.support.clusters import clock
from tests.support.playbooks.playbook import kill_tree

if TYPE_CHECKING:
    import datetime
    from multiprocessing.context import ForkServerContext
    from pathlib import Path


def context() -> ForkServerContext:
    """Return what starts the processes."""
    forks = multiprocessing.get_context("forkserver")
    forks.set_forkserver_preload(["tests.support.playbooks.playbook_preloaded"])
    return forks


class ReportedRun:
    """A run of a playbook of the collection, which begins at once, and writes a report to this path.

    ahead: the time by which its clock is ahead. kill_after: the number of the request after which it is killed, 0 for never.
    """

    def __init__(
        self,
        playbook: str,
        report: Path,
        *arguments: str,
        ahead: datetime.timedelta,
        kill_after: int = 0,
        **variables: Any,
    ) -> None:
        self.playbook, self.report, self.is_check = playbook, report, "--check" in arguments
        #: Its exit status, below 0 if it was killed.
        self.status = 0
        #: What it printed.
        self.output = ""
        #: Inventory host -> its row of the report. A killed run may have none.
        self.rows: dict[str, dict[str, Any]] = {}
        extra = json.dumps({"certflow_report": str(report), **variables})
        words = ("-e", extra, *arguments, f"certflow.kubernetes.{playbook}")
        self._printed = report.with_suffix(".txt")
        self._process = context().Process(target=_play, args=(words, self._printed, ahead, kill_after))
        self._process.start()

    @property
    def is_killed(self) -> bool:
        return self.status < 0

    def status_of(self, host: str) -> str | None:
        """Return the status of a host in the report, None for a host without a row."""
        return self.rows.get(host, {}).get("status")

    def finish(self, seconds: float = 600) -> None:
        """Wait for its end, and read what it left. After this time, kill it, and add a line to the output."""
        self._process.join(seconds)
        end = ""
        if self._process.exitcode is None:
            end = f"no end within {seconds} s"
            kill_tree(self._process.pid or 0)
            self._process.join()
        self.status, self.output = self._process.exitcode or 0, self._printed.read_text() + end
        if self.report.exists():
            self.rows = {row["name"]: row for row in json.loads(self.report.read_text())["clusters"]}


def _play(arguments: tuple[str, ...], output: Path, ahead: datetime.timedelta, kill_after: int) -> None:
    """Run ansible-playbook. Its home is the directory of the output."""
    from ansible.cli import playbook

    with output.open("w") as file:
        for number in (sys.stdout.fileno(), sys.stderr.fileno()):
            os.dup2(file.fileno(), number)
    os.environ["HOME"] = str(output.parent)
    warnings.filterwarnings("ignore", "AnsibleCollectionFinder has already been configured")
    clock.set_ahead(os.getpid(), ahead)
    if kill_after:
        _die_after(kill_after)
    playbook.main(["ansible-playbook", *arguments])


def _die_after(number: int) -> None:
    """Kill this process and the fork that gets the answer to this request. Forks share the count."""
    count, parent, send = multiprocessing.Value("i", 0), os.getpid(), HTTPConnectionPool.urlopen

    def urlopen(pool: HTTPConnectionPool, *arguments: Any, **options: Any) -> Any:
        answer = send(pool, *arguments, **options)
        with count.get_lock():
            count.value += 1
            if count.value == number:
                os.kill(parent, signal.SIGKILL)
                os.kill(os.getpid(), signal.SIGKILL)
        return answer

    setattr(HTTPConnectionPool, "urlopen", urlopen)  # noqa: B010
