# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run k8s_csr for many hosts without Ansible: `python -m benchmarks.bare` with a JSON object in its input.

It is the limit of what a run can reach: the same operation in as many forked processes, without plays, tasks and results.
The last line of its output is the number of hosts that changed.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
from typing import Any

from ansible_collections.certflow.kubernetes.plugins.module_utils._operations import k8s_csr

from tests.support.operations import operate


def work(given: dict[str, Any]) -> bool:
    """Run the operation for one host. Return True if it changed."""
    result = operate(k8s_csr.OPERATION, given)
    if result.get("failed"):
        raise RuntimeError(result["msg"])
    return bool(result["changed"])


def main() -> None:
    plan = json.load(sys.stdin)
    with multiprocessing.get_context("fork").Pool(plan["forks"]) as pool:
        print(sum(pool.map(work, plan["hosts"], chunksize=1)))


if __name__ == "__main__":
    main()
