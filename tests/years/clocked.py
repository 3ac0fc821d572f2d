# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`python -m tests.years.clocked SECONDS AFTER ARGUMENT...` runs ansible-playbook with a clock that is ahead.

After the answer to request number AFTER it is killed, with the worker that sent the request, as after a power failure. 0 is never.
"""

from __future__ import annotations

import datetime
import multiprocessing
import os
import signal
import sys
from typing import Any

from ansible.cli import playbook
from urllib3.connectionpool import HTTPConnectionPool

from tests.support.clusters import clock


def die_after(number: int) -> None:
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


def main(seconds: str, after: str, *arguments: str) -> None:
    clock.set_ahead(os.getpid(), datetime.timedelta(seconds=float(seconds)))
    if after != "0":
        die_after(int(after))
    playbook.main(["ansible-playbook", *arguments])


if __name__ == "__main__":
    main(*sys.argv[1:])
