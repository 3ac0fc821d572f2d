# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Kill a task at each of its requests, check what it leaves, and run the same task again."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.system.fault_injection import requests, verdict
from tests.system.fault_injection.verdict import CaseVerdict
from tools.ci.venvs import REPOSITORY

if TYPE_CHECKING:
    from tests.system.fault_injection.fault_rig import FaultRig
    from tests.system.fault_injection.flows import Flow, OperationCall

MOMENTS = ("before", "after")


@dataclass(frozen=True)
class CrashCase:
    """A task that was killed at one request."""

    #: Name of the flow.
    flow: str
    #: The request, as `requests.in_words` writes it.
    request: str
    #: "before" the request was sent, or "after" its answer.
    moment: str
    #: What the next run did.
    verdict: CaseVerdict

    @property
    def is_good(self) -> bool:
        return self.verdict.is_good

    def __str__(self) -> str:
        return f"{self.flow}, killed {self.moment} {self.request}: {self.verdict}"


class Killer:
    """The program that runs tasks in children. A child kills itself at the given request."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.system.fault_injection.killed"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
        )

    def run(self, task: OperationCall, kill: int = 0, moment: str = "before") -> dict[str, Any]:
        assert self._process.stdin
        assert self._process.stdout
        case = {"operation": task.operation, "options": task.options, "kill": kill, "moment": moment}
        print(json.dumps(case), file=self._process.stdin, flush=True)
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        self._process.communicate()


def whole(rig: FaultRig, killer: Killer, flow: Flow) -> list[str]:
    """Return the requests of a task that is not killed."""
    with rig.new_webhook() as webhook:
        done = killer.run(flow.prepare(webhook))
        assert not done["killed"]
        assert not done["result"].get("failed"), done["result"]
        return [requests.in_words(*request) for request in done["requests"]]


def cases(rig: FaultRig, killer: Killer, flow: Flow, kills: Iterable[tuple[int, str]]) -> Iterator[CrashCase]:
    """Yield one case for each number of a request and moment that the task reaches."""
    for number, moment in kills:
        with rig.new_webhook() as webhook:
            task = flow.prepare(webhook)
            before = webhook.data()
            died = killer.run(task, number, moment)
            if died["killed"]:
                webhook.let_time_pass()
                judged = verdict.of_next_run(webhook, flow, flow.again(webhook, task), before)
                yield CrashCase(flow.name, requests.in_words(*died["requests"][-1]), moment, judged)


def everywhere(count: int) -> list[tuple[int, str]]:
    return [(number, moment) for number in range(1, count + 1) for moment in MOMENTS]
