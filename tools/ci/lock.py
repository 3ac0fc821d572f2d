# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write tools/ci/locks: the resolved requirements of each environment, for every Python on this machine.

Run `make locks` by hand, on a machine with all the Pythons of environments.py. No gate runs it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict

from tools.ci.environments import ENVIRONMENTS, Environment
from tools.ci.interpreters import Interpreter, find
from tools.ci.venvs import lock_file, say

_HEADER = "# Written by `make locks`, on Python {}.\n"


def _resolve(found: Interpreter, requirements: tuple[str, ...]) -> dict[str, str]:
    command = [str(found.path), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--dry-run"]
    command += ["--ignore-installed", "--no-input", "--report", "-", *requirements]
    report = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    packages = [item["metadata"] for item in report["install"]]
    return {package["name"].lower().replace("_", "-"): package["version"] for package in packages}


def _marker(minors: list[str], wanted: list[str]) -> str:
    """Return the marker for the Pythons `wanted` of `minors`, oldest first.

    The newest block has no upper limit.
    """
    if minors == wanted:
        return ""
    low, high = wanted[0], wanted[-1]
    parts = [f"python_version >= '{low}'"] if low != minors[0] else []
    parts += [f"python_version <= '{high}'"] if high != minors[-1] else []
    return " ; " + " and ".join(parts)


def merge(resolved: dict[str, dict[str, str]]) -> list[str]:
    """Return lock lines from {minor: {package: version}}, the oldest Python first."""
    minors = list(resolved)
    where: dict[str, list[str]] = defaultdict(list)
    for minor, packages in resolved.items():
        for name, version in packages.items():
            where[f"{name}=={version}"].append(minor)
    return [f"{pin}{_marker(minors, wanted)}" for pin, wanted in sorted(where.items())]


def write(env: Environment) -> None:
    """Resolve the requirements of one environment."""
    found = [item for item in map(find, sorted(env.pythons, key=lambda text: int(text[2:]))) if item]
    resolved = {item.minor: _resolve(item, env.requirements) for item in found}
    text = _HEADER.format(", ".join(item.version for item in found)) + "\n".join(merge(resolved)) + "\n"
    lock_file(env).write_text(text)
    say(f"{lock_file(env).name}: {text.count('==')} pins")


if __name__ == "__main__":
    for name in sys.argv[1:] or ENVIRONMENTS:
        write(ENVIRONMENTS[name])
