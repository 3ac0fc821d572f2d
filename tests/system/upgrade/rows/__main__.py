# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`python -m tests.system.upgrade.rows` (`make upgrades`) runs the rows of reference_upgrades.rst and writes its
tables.

It prints the rows that did not end as expected, and then ends with 1. Arguments select rows: names of tables
(jumps, kills, faults, repairs, chains), or words of rows. Other rows stay on the page.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from tests.support import clusters
from tests.support.clusters import AdminApiError
from tests.system.upgrade.rows import faults, jumps, lab, page, repairs

if TYPE_CHECKING:
    from tests.system.upgrade.rows.lab import Lab

Row = tuple[
    str, str, Callable[["Lab"], object]
]  # its table, its name, and the function that runs it and writes it


def rows() -> Iterator[Row]:
    for jump in (*jumps.STEPS, *jumps.JUMPS):
        yield page.JUMPED, str(jump), partial(_jump, jumps.go, jump)
    for jump in jumps.DOWNGRADES:
        yield page.JUMPED, str(jump), partial(_jump, jumps.go_back, jump)
    for jump in faults.KILLED_ALL_ALONG:
        yield page.KILLED, str(jump), partial(_kills, jump)
    for fault in faults.FAULTS:
        yield page.MET, fault.name, partial(_fault, fault)
    for damage in repairs.DAMAGES:  # each row leaves the release that the next row damages
        yield page.REPAIRED, damage.name, partial(_repair, damage)
    for chain in jumps.CHAINS:
        yield page.CHAINED, str(chain), partial(_chain, jumps.go_chain, chain)


def _jump(go: Callable[..., list[jumps.Gone]], jump: jumps.Jump, rig: Lab) -> None:
    page.put_jump(jump, go(rig, jump, print))


def _chain(go: Callable[..., list[jumps.Gone]], way: jumps.Chain, rig: Lab) -> None:
    page.put_chain(way, go(rig, way, print))


def _repair(damage: repairs.Damage, rig: Lab) -> None:
    wrong = repairs.repaired(rig, damage)
    page.put_repair(damage.name, wrong)
    assert wrong == []


def _fault(fault: faults.UpgradeFault, rig: Lab) -> None:
    met = faults.meet(rig, fault, print)
    page.put_fault(met)
    assert met.wrong == (), "\n".join(met.wrong)


def _kills(jump: jumps.Jump, rig: Lab) -> None:
    page.put_kills(jump, faults.killed_at_every_step(rig, jump, print))


def _is_good(run: Callable[[], object]) -> bool:
    try:
        run()
    except (AssertionError, AdminApiError, OSError):
        traceback.print_exc()
        return False
    return True


def main() -> int:
    reason, words, wrong = clusters.why_no_node(), sys.argv[1:], 0
    if reason:
        sys.exit(reason)
    chosen = [row for row in rows() if not words or any(word in row[:2] or word in row[1] for word in words)]
    with lab.running() as rig:
        previous = ""
        for table, name, run in chosen:
            if previous == page.REPAIRED and table != previous:
                rig.empty()
            print(f"{table}: {name}", flush=True)
            is_good = _is_good(partial(run, rig))
            wrong += not is_good
            previous = table
            if table != page.REPAIRED or not is_good:
                rig.empty()
    print(f"{wrong} of {len(chosen)} rows did not end as expected")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
