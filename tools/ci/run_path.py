# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`python3 -m tools.ci.run_path PATH [ENVIRONMENT]` runs the tests of a file or folder, one test, or an integration target.

`make t PATH=...` calls it. The environment is `dev` unless it is given. A test that is named runs even if it has the marker full.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tools.ci import enter, integration
from tools.ci.venvs import REPOSITORY

_TARGETS = "tests/integration/targets"


def target_of(path: str) -> str:
    """Return the name of the integration target that the path is or is in, "" for another path."""
    parts = Path(path).parts
    count = len(Path(_TARGETS).parts)
    return parts[count] if len(parts) > count and Path(*parts[:count]) == Path(_TARGETS) else ""


def pytest_arguments(path: str) -> list[str]:
    """Return the arguments of pytest for a file, a folder or a test (FILE::NAME)."""
    markers = ["-m", ""] if "::" in path else []
    return ["-m", "pytest", "-v", "--durations=5", *markers, path]


def main(arguments: list[str]) -> int:
    """Return the exit code of the target, or replace this process by pytest."""
    path = arguments[0] if arguments else ""
    file = path.partition("::")[0]
    if not file or not (REPOSITORY / file).exists():
        sys.exit(
            f"no such file: {file!r}. Name one of tests/, for example: make t PATH=tests/unit/test_imports.py"
        )
    relative = str((REPOSITORY / file).resolve().relative_to(REPOSITORY))
    target = target_of(relative)
    command = [*(arguments[1:] or ["dev"]), *pytest_arguments(path)]
    return integration.main([target]) if target else enter.main(command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
