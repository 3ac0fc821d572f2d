# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`python -m tests.faults` (`make reliability`) runs every case of all tables and writes docs/reliability.md.

It prints each case that did not end as it has to, and then ends with 1. Names of tasks as arguments run these alone, and
write nothing.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

from tests import clusters
from tests.faults import crash, page, transport
from tests.faults.crash import Killer
from tests.faults.flows import FLOWS
from tests.faults.ground import Ground
from tests.lies import table as lies_table


class Judged(Protocol):
    """A case that says whether it ended as it has to."""

    @property
    def is_good(self) -> bool: ...


T = TypeVar("T", bound=Judged)


class Run:
    """Counts what did not end as it has to."""

    def __init__(self) -> None:
        self.bad = 0

    def told(self, cases: Iterable[T]) -> Iterator[T]:
        """Print the bad ones on the way."""
        for case in cases:
            if not case.is_good:
                self.bad += 1
                print(case, flush=True)
            yield case

    def crashes(self, ground: Ground, names: list[str]) -> dict[str, list[str]]:
        rows = {}
        with contextlib.closing(Killer()) as killer:
            for flow in (flow for flow in FLOWS if flow.name in names):
                count = len(crash.whole(ground, killer, flow))
                points = list(self.told(crash.points(ground, killer, flow, crash.everywhere(count))))
                rows[flow.name] = page.crash_row(count, points)
                print(f"{flow.name}: {' | '.join(rows[flow.name])}", flush=True)
        return rows

    def faults(self, ground: Ground, names: list[str]) -> dict[str, dict[str, str]]:
        columns = {}
        for flow in (flow for flow in transport.FLOWS if flow.name in names):
            cases = list(self.told(transport.everywhere(ground, flow)))
            columns[flow.name] = page.transport_column(cases)
            print(f"{flow.name}: {columns[flow.name]}", flush=True)
        return columns


def main() -> int:
    names = sys.argv[1:] or [flow.name for flow in FLOWS]
    run = Run()
    with (
        clusters.running({"onprem": "onprem"}) as fleet,
        contextlib.closing(Ground(fleet["onprem"])) as ground,
    ):
        crashes, faults = run.crashes(ground, names), run.faults(ground, names)
        lies = [] if sys.argv[1:] else list(run.told(lies_table.outcomes(fleet["onprem"])))
    if lies:
        page.write(page.CRASHES, page.crash_table(crashes))
        page.write(page.TRANSPORT, page.transport_table(faults))
        page.write(page.LIES, lies_table.text(lies))
    print(f"{run.bad} cases did not end as they have to")
    return int(run.bad > 0)


if __name__ == "__main__":
    sys.exit(main())
