# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`python -m tests.system.fault_injection` (`make reliability`) runs every case of all tables and writes docs/reliability.md.

It prints each case that did not end as it has to, and then ends with 1. Arguments choose: names of tables (crashes,
transport, lies), of tasks, and of the transport table's faults. What was not chosen stays on the page as it is, so parts
may run beside each other, each on a control plane of its own.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from tests.support import clusters
from tests.system.fault_injection import crash, page, transport
from tests.system.fault_injection.crash import Killer
from tests.system.fault_injection.fault_rig import FaultRig
from tests.system.fault_injection.flows import FLOWS, NAMED
from tests.system.fault_injection.lies import table as lies_table

if TYPE_CHECKING:
    from tests.support.clusters import Cluster
    from tests.system.fault_injection.transport import TransportFault


class Judged(Protocol):
    """A case that says whether it ended as it has to."""

    @property
    def is_good(self) -> bool: ...


T = TypeVar("T", bound=Judged)


class TableRun:
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

    def crashes(self, ground: FaultRig, names: Names) -> None:
        with contextlib.closing(Killer()) as killer:
            for flow in (flow for flow in FLOWS if names.hold(flow.name)):
                count = len(crash.whole(ground, killer, flow))
                points = list(self.told(crash.points(ground, killer, flow, crash.everywhere(count))))
                row = page.crash_row(count, points)
                print(f"{flow.name}: {' | '.join(row)}", flush=True)
                page.put_crash_row(flow.name, row)

    def faults(self, ground: FaultRig, names: Names) -> None:
        for flow in (flow for flow in transport.FLOWS if names.hold(flow.name)):
            asked = transport.whole(ground, flow)
            for fault in names.faults:
                cases = list(self.told(transport.cases(ground, flow, fault, transport.numbers(fault, asked))))
                column = page.transport_column(cases)
                print(f"{flow.name}: {column}", flush=True)
                page.put_transport_cells(flow.name, column)

    def lies(self, cluster: Cluster) -> None:
        page.PAGE.write(page.LIES, lies_table.text(list(self.told(lies_table.outcomes(cluster)))))


@dataclass(frozen=True)
class Names:
    """What was chosen; what no name chooses among, is all of it."""

    tables: Sequence[str]
    tasks: Sequence[str]
    faults: Sequence[TransportFault]

    def hold(self, task: str) -> bool:
        return not self.tasks or task in self.tasks


def chosen(arguments: Sequence[str]) -> Names:
    """What the arguments mean. Tasks alone: both tables that have tasks; faults alone: the one that has faults."""
    tables = [name for name in arguments if name in page.TABLES]
    tasks = [name for name in arguments if name in NAMED]
    faults = [fault for fault in transport.FAULTS if fault.name in arguments]
    unknown = set(arguments) - {*tables, *tasks, *(fault.name for fault in faults)}
    if unknown:
        known = (*page.TABLES, *NAMED, *(fault.name for fault in transport.FAULTS))
        sys.exit(f"nothing is called {', '.join(sorted(unknown))}; there are: {'; '.join(known)}")
    if not tables:
        tables = [page.TRANSPORT] if faults else [*page.TABLES[:2], *([] if tasks else [page.LIES])]
    return Names(tables, tasks, faults or transport.FAULTS)


def main() -> int:
    names, run = chosen(sys.argv[1:]), TableRun()
    with (
        clusters.running({"onprem": "onprem"}) as fleet,
        contextlib.closing(FaultRig(fleet["onprem"])) as ground,
    ):
        if page.CRASHES in names.tables:
            run.crashes(ground, names)
        if page.TRANSPORT in names.tables:
            run.faults(ground, names)
        if page.LIES in names.tables:
            run.lies(fleet["onprem"])
    print(f"{run.bad} cases did not end as they have to")
    return int(run.bad > 0)


if __name__ == "__main__":
    sys.exit(main())
