# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run create-cert.sh and patch-ca-bundle.sh for many hosts: `python -m benchmarks.scripts` with JSON in its input.

The scripts are those of external-snapshotter 7.0.2. The last line of the output is the number of hosts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any


def work(plan: dict[str, Any], temporary: str, host: dict[str, Any]) -> None:
    """Run both scripts for one host, and apply the webhook configuration that the second one fills in."""
    environment = {
        **os.environ,
        "KUBECONFIG": host["kubeconfig"],
        "TMPDIR": temporary,
        "KUBECACHEDIR": f"{temporary}/kubectl",
        "PATH": f"{plan['programs']}:{os.environ['PATH']}",
    }
    scripts = Path(plan["scripts"])
    options = ("--service", plan["service"], "--namespace", host["name"], "--secret", plan["secret"])
    _run(["bash", str(scripts / "create-cert.sh"), *options], environment)
    filled = _run(["bash", str(scripts / "patch-ca-bundle.sh")], environment, json.dumps(host["template"]))
    _run(["kubectl", "apply", "-f", "-"], environment, filled)


def _run(command: list[str], environment: dict[str, str], text: str = "") -> str:
    done = subprocess.run(command, env=environment, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[1]} ended with {done.returncode}: {(done.stdout + done.stderr)[-500:]}")
    return done.stdout


def main() -> None:
    plan = json.load(sys.stdin)
    # create-cert.sh leaves its private keys in the temporary directory.
    with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor(plan["at_once"]) as pool:
        act = partial(work, plan, temporary)
        print(len(list(pool.map(act, plan["hosts"]))))


if __name__ == "__main__":
    main()
