# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run ansible-test integration with one core, on new clusters that tools.ci.integrate starts.

`python3 -m tools.ci.integration [TARGET...]` runs some targets with the newest core.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tools.ci import process, tree, venvs
from tools.ci.environments import Environment
from tools.ci.result import GateResult, of_exit

_TARGETS = "tests/integration/"


def check(choose: Callable[[], Environment], targets: Sequence[str], log: Path) -> GateResult:
    """Run the named targets, or all targets. A target counts as one test."""
    env = choose()
    venv = venvs.ensure(env)
    place = tree.copy(
        f"integration-{env.name}",
        lambda name: tree.shipped(name) or name == "galaxy.yml" or name.startswith(_TARGETS),
    )
    command: list[str | Path] = [venv / "bin" / "python", "-m", "tools.ci.integrate", place, *targets]
    code = process.run(command, log, tree.environ(venv), venvs.REPOSITORY)
    done = re.findall(
        r"^Running (?!setup_)\w+ integration test (?:role|script)",
        log.read_text(errors="replace"),
        re.MULTILINE,
    )
    passed = len(done)
    return of_exit(code) if code or not passed else GateResult(passed=passed)


def main(targets: Sequence[str]) -> int:
    """Run the targets with the newest core and print their output. Return 0 if all passed, else 1."""
    log = tree.link() / "logs" / "integration.log"
    log.parent.mkdir(exist_ok=True)
    log.write_text("")
    result = check(venvs.newest_core, targets, log)
    print(log.read_text(errors="replace"))
    print(result)
    return int(result.failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
