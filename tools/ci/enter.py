# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`python3 -m tools.ci.enter ENVIRONMENT ARGUMENT...` runs Python inside an environment, created if missing.

`dev` is the newest core for which this machine has a Python. `make demo` runs `enter dev -m examples.demo`.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from tools.ci import tree, venvs
from tools.ci.environments import ENVIRONMENTS


def main(arguments: list[str]) -> NoReturn:
    """Replace this process by Python of the environment, or end it with the reason."""
    if not arguments or arguments[0] not in {"dev", *ENVIRONMENTS}:
        sys.exit(f"usage: python3 -m tools.ci.enter {{dev,{','.join(ENVIRONMENTS)}}} ARGUMENT...")
    try:
        env = venvs.newest_core() if arguments[0] == "dev" else ENVIRONMENTS[arguments[0]]
        venv = venvs.ensure(env)
    except (venvs.PythonUnavailable, venvs.BuildFailed) as problem:
        sys.exit(str(problem))
    python = str(venv / "bin" / "python")
    os.execve(python, [python, *arguments[1:]], tree.environ(venv))


if __name__ == "__main__":
    main(sys.argv[1:])
