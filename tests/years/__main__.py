# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`python -m tests.years SEED ROUNDS [DIRECTORY]` runs the simulation, and prints a line for each month and the page at the end.

DIRECTORY keeps the journals. A run with the journals of an earlier one continues in the month after its last one, on new
control planes whose clock is that of the month.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

from tests.support import clusters
from tests.years.months import Years
from tests.years.places import MONTH, PROFILES
from tests.years.report import Tally

_DIRECTORY = Path(__file__).resolve().parents[2] / ".work"


def simulate(seed: str, rounds: int, directory: Path) -> Tally:
    """Run the months up to this number that the directory does not have. Return what was seen in all of them."""
    tally = Tally.read(directory)
    with clusters.running(PROFILES) as fleet:
        for cluster in fleet.values():
            cluster.jump(tally.rounds * MONTH)
        with contextlib.closing(Years(seed, fleet, directory, tally)) as years:
            for number in range(tally.rounds, rounds):
                years.month(number)
                tally.write(directory)
                print(tally.line(), flush=True)
            years.end()
            tally.write(directory)
    return tally


def main(seed: str = "1", rounds: str = "72", directory: str = "") -> None:
    path = Path(directory or _DIRECTORY / f"years-{seed}")
    path.mkdir(parents=True, exist_ok=True)
    tally = simulate(seed, int(rounds), path)
    print(tally.page())
    sys.exit(bool(tally.violations))


if __name__ == "__main__":
    main(*sys.argv[1:])
