# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`python -m tests.system.fault_injection.killed` runs operations in forked children that may kill
themselves.

It reads one JSON object a line from standard input: operation, options, kill (the number of a request, from 1
on, or 0) and moment ("before" the request is sent, or "after" its answer). It writes one JSON object a line:
requests (those that were sent or about to be sent) and result (null if the child was killed). Modules are
imported once for all cases.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import IO, Any

from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.client import Client

from tests.support.operations import operate
from tests.system.fault_injection.served_webhook import OPERATIONS

OPEN = Client._open


def _child(case: dict[str, Any], report: IO[str]) -> None:
    count = 0

    def die(moment: str) -> None:
        if (count, moment) == (case["kill"], case["moment"]):
            os.kill(os.getpid(), signal.SIGKILL)

    def send(client: Client, method: str, url: str, *arguments: Any, **options: Any) -> Any:
        nonlocal count
        count += 1
        print(json.dumps([method, url]), file=report, flush=True)
        die("before")
        answer = OPEN(client, method, url, *arguments, **options)
        die("after")
        return answer

    setattr(Client, "_open", send)  # noqa: B010
    print(json.dumps(operate(OPERATIONS[case["operation"]], case["options"])), file=report, flush=True)


def _fork(case: dict[str, Any]) -> dict[str, Any]:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        with os.fdopen(writing, "w") as report:
            _child(case, report)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as report:
        lines = [json.loads(line) for line in report]
    _pid, status = os.waitpid(pid, 0)
    requests = [line for line in lines if isinstance(line, list)]
    result = lines[-1] if os.WIFEXITED(status) and isinstance(lines[-1], dict) else None
    return {"requests": requests, "killed": os.WIFSIGNALED(status), "result": result}


def main() -> None:
    for line in sys.stdin:
        print(json.dumps(_fork(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
