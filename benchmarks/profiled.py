# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run ansible-playbook, and measure where its forks use the processor: `python -m benchmarks.profiled FILE ARGUMENT...`

The file gets a line of JSON for each host, with CPU milliseconds. Ansible imports the action plugin before it forks, so the
functions that are replaced here are those of every fork.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import resource
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from ansible.cli.playbook import main
from ansible.plugins.loader import init_plugin_loader

COLLECTION = "ansible_collections.certflow.kubernetes.plugins"
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


def prepare(path: str) -> None:
    """Replace the functions that are measured. Ansible's loader of collections must be the first that imports them."""
    init_plugin_loader()
    action = importlib.import_module(f"{COLLECTION}.plugin_utils._action.operation_action").OperationAction
    action.run = written(path, action.run)
    operation: Any = importlib.import_module(f"{COLLECTION}.module_utils._ansible.operation")
    operation.resolve = timed("kubeconfig", operation.resolve)
    operation.Client._request = timed("requests", operation.Client._request)  # noqa: SLF001


if __name__ == "__main__":
    prepare(sys.argv[1])
    main(["ansible-playbook", *sys.argv[2:]])
