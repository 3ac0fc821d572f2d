# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run ansible-test integration with one core, on two clusters that tools.ci.integrate starts."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from tools.ci import process, tree, venvs
from tools.ci.environments import Environment
from tools.ci.result import Result, of_exit

_TARGETS = "tests/integration/"


def check(choose: Callable[[], Environment], targets: Sequence[str], log: Path) -> Result:
    """Run the named targets, or all targets. A target counts as one test."""
    env = choose()
    venv = venvs.ensure(env)
    place = tree.copy(
        f"integration-{env.name}",
        lambda name: tree.shipped(name) or name == "galaxy.yml" or name.startswith(_TARGETS),
    )
    command: list[str | Path] = [venv / "bin" / "python", "-m", "tools.ci.integrate", place, *targets]
    code = process.run(command, log, tree.environ(venv), venvs.REPOSITORY, timeout=1800)
    done = re.findall(
        r"^Running (?!setup_)\w+ integration test (?:role|script)",
        log.read_text(errors="replace"),
        re.MULTILINE,
    )
    passed = len(done)
    return of_exit(code) if code or not passed else Result(passed=passed)
