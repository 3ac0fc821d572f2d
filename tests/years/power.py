# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`python -m tests.years.power [ROUNDS [NAME ...]]` shows what the simulation finds: it reverts mends of the collection, one at a time.

Each one is reverted in a copy of the collection, with which the simulation runs until its first violation.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.faults import mends
from tests.years.report import PAGE
from tools.ci.venvs import REPOSITORY


def find(mend: mends.Mend, rounds: int, directory: Path) -> tuple[int, str]:
    """Return the round of the first violation without a mend, and its rule, or 0."""
    mends.revert(mend, directory)
    paths = {"ANSIBLE_COLLECTIONS_PATH": str(directory), "PYTHONPATH": f"{directory}{os.pathsep}{REPOSITORY}"}
    arguments = (f"power/{mend.name}", str(rounds), "", str(directory / "journals"))
    command = [sys.executable, "-m", "tests.years", *arguments]
    finished = 0
    with subprocess.Popen(command, env={**os.environ, **paths}, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            print(f"  {line}", end="", flush=True)
            if line.startswith("VIOLATION"):
                process.terminate()  # the janitor of the clusters removes them
                process.communicate()
                return finished + 1, line.removeprefix("VIOLATION ").partition(":")[0]
            finished += line.startswith("round ")
    assert finished == rounds, f"the simulation ended in round {finished + 1}, without a violation"
    return 0, ""


def main(rounds: str = "12", *names: str) -> None:
    for mend in mends.MENDS:
        if not names or any(name in mend.name for name in names):
            print(mend.name, flush=True)
            with tempfile.TemporaryDirectory() as directory:
                number, rule = find(mend, int(rounds), Path(directory))
            found = "at the end" if number > int(rounds) else str(number or f"not in {rounds}")
            head = ("Mend", "Found in round", "By")
            PAGE.put("power", head, {mend.name: [found, rule or "-"]}, [mend.name for mend in mends.MENDS])
            print(mend.name, found, rule, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
