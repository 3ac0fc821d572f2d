# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run ansible-playbook, and measure where its forks use the processor: `python -m benchmarks.profiled FILE ARGUMENT...`

The file gets a line of JSON for each host, with CPU milliseconds. Ansible imports the action plugin before it forks, so the
functions that are replaced here are those of every fork.
"""

from __future__ import annotations

import functools
import json
import os
import resource
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from ansible.cli.playbook import main
from ansible_collections.certflow.kubernetes.plugins.module_utils._ansible import operation
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.client import Client
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._action import OperationAction

#: CPU milliseconds by part, of the current process.
_used: dict[str, float] = defaultdict(float)


def timed(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function, which adds its CPU time to a part."""

    @functools.wraps(function)
    def measured(*arguments: Any, **options: Any) -> Any:
        began = time.process_time()
        try:
            return function(*arguments, **options)
        finally:
            _used[part] += (time.process_time() - began) * 1000

    return measured


def written(path: str, run: Callable[..., Any]) -> Callable[..., Any]:
    """Return the action's function, which writes the times of its fork to a file."""

    @functools.wraps(run)
    def measured(*arguments: Any, **options: Any) -> Any:
        before = time.process_time() * 1000
        try:
            return timed("task", run)(*arguments, **options)
        finally:
            faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            line = json.dumps({**_used, "before": before, "faults": faults})
            file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            os.write(file, f"{line}\n".encode())
            os.close(file)

    return measured


if __name__ == "__main__":
    _file, *_rest = sys.argv[1:]
    OperationAction.run = written(_file, OperationAction.run)  # type: ignore[method-assign]
    operation.resolve = timed("kubeconfig", operation.resolve)
    Client._request = timed("requests", Client._request)  # type: ignore[method-assign]  # noqa: SLF001
    main(["ansible-playbook", *_rest])
