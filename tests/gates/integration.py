# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""ansible-test integration with one core, on two clusters that tests.integrate starts for it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.gates import process, tree, venvs
from tests.gates.environments import Environment
from tests.gates.result import Result, of_exit

_TARGETS = "tests/integration/"


def check(choose: Callable[[], Environment], targets: Sequence[str], log: Path) -> Result:
    """Run the targets, all of them if none is named. A target counts as one test."""
    env = choose()
    venv = venvs.ensure(env)
    place = tree.copy(
        f"integration-{env.name}",
        lambda name: tree.shipped(name) or name == "galaxy.yml" or name.startswith(_TARGETS),
    )
    command: list[str | Path] = [venv / "bin" / "python", "-m", "tests.integrate", place, *targets]
    code = process.run(command, log, tree.environ(venv), venvs.REPOSITORY, timeout=1800)
    passed = len(
        re.findall(r"^testhost +: ok=\d+ .*failed=0 ", log.read_text(errors="replace"), re.MULTILINE)
    )
    return of_exit(code) if code or not passed else Result(passed=passed)
