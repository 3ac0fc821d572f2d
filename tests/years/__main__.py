# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`python -m tests.years SEED [ROUNDS [KIND,KIND ... [DIRECTORY]]]` lets a fleet live through months, and continues an earlier run."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

from tests.support import clusters
from tests.years import report
from tests.years.months import Years
from tests.years.places import MONTH, PROFILES
from tools.ci.venvs import REPOSITORY


def simulate(seed: str, rounds: int, directory: Path, choice: tuple[str, ...] = ()) -> list[report.Month]:
    """Run the months up to this number that the directory does not have. Return what was seen in all of them."""
    directory.mkdir(parents=True, exist_ok=True)
    months = report.read(directory)
    with clusters.running(PROFILES) as fleet:
        for cluster in fleet.values():
            cluster.jump(len(months) * MONTH)
        with contextlib.closing(Years(seed, fleet, directory, choice)) as years:
            for number in range(len(months), rounds):
                months.append(month := years.month(number))
                report.write(directory, months)
                print(f"round {number + 1}: {month.seconds:.0f} s, {month}", flush=True)
            end = years.end()
            print(f"end: {end}", flush=True)
    months[-1].violations += end.violations
    report.write(directory, months)
    return months


def main(seed: str = "1", rounds: str = "72", kinds: str = "", directory: str = "") -> None:
    choice = tuple(filter(None, kinds.split(",")))
    default = REPOSITORY / ".work" / "-".join(("years", seed, *choice))
    months = simulate(seed, int(rounds), Path(directory) if directory else default, choice)
    print(report.text(months))
    sys.exit(any(month.violations for month in months))


if __name__ == "__main__":
    main(*sys.argv[1:])
