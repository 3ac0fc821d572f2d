# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One run of ansible-playbook in a process of its own, with the clock of the control planes, until its end or its kill.

The processes are forks of one that has the modules already. This saves most of the time of a short run.
"""

from __future__ import annotations

import datetime
import multiprocessing
import os
import signal
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from urllib3.connectionpool import HTTPConnectionPool

from tests.support.clusters import clock

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext


def context() -> ForkServerContext:
    """Return what starts the processes."""
    forks = multiprocessing.get_context("forkserver")
    forks.set_forkserver_preload(["tests.years.preloaded"])
    return forks


def play(
    arguments: tuple[str, ...], home: Path, ahead: datetime.timedelta, kill_after: int, output: Path
) -> None:
    """Run ansible-playbook. kill_after: the number of the request after which it is killed, 0 for never."""
    from ansible.cli import playbook

    with output.open("w") as file:
        for number in (sys.stdout.fileno(), sys.stderr.fileno()):
            os.dup2(file.fileno(), number)
    os.environ["HOME"] = str(home)
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
