# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`python -m tests.system.fault_injection` (`make reliability`) runs all tables and writes
reference_reliability.rst.

It prints each case that did not end as expected, and then ends with 1. Arguments select names of tables
(crashes, transport, false-answers), of tasks, and of faults of the transport table. Rows that were not
selected stay on the page. Several runs may work on the page at the same time, each with a control plane of
its own.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from tests.support import clusters
from tests.system.fault_injection import crash, false_answers, page, transport
from tests.system.fault_injection.crash import Killer
from tests.system.fault_injection.fault_rig import FaultRig
from tests.system.fault_injection.flows import FLOWS, NAMED

if TYPE_CHECKING:
    from tests.support.clusters import Cluster
    from tests.system.fault_injection.transport import TransportFault


class Judged(Protocol):
    """A case that knows if it ended as expected."""

    @property
    def is_good(self) -> bool: ...


T = TypeVar("T", bound=Judged)


class TableRun:
    """Run tables, and count the cases that did not end as expected."""

    def __init__(self) -> None:
        self.bad = 0

    def told(self, cases: Iterable[T]) -> Iterator[T]:
        """Yield the cases, and print those that did not end as expected."""
        for case in cases:
            if not case.is_good:
                self.bad += 1
                print(case, flush=True)
            yield case

    def crashes(self, rig: FaultRig, names: Names) -> None:
        with contextlib.closing(Killer()) as killer:
            for flow in (flow for flow in FLOWS if names.hold(flow.name)):
                count = len(crash.whole(rig, killer, flow))
                cases = list(self.told(crash.cases(rig, killer, flow, crash.everywhere(count))))
                row = page.crash_row(count, cases)
                print(f"{flow.name}: {' | '.join(row)}", flush=True)
                page.put_crash_row(flow.name, row)

    def faults(self, rig: FaultRig, names: Names) -> None:
        for flow in (flow for flow in transport.FLOWS if names.hold(flow.name)):
            sent = transport.whole(rig, flow)
            for fault in names.faults:
                cases = list(self.told(transport.cases(rig, flow, fault, transport.numbers(fault, sent))))
                column = {fault.name: "", **page.transport_column(cases)}
                print(f"{flow.name}: {column}", flush=True)
                page.put_transport_cells(flow.name, column)

    def false_answers(self, cluster: Cluster) -> None:
        text = false_answers.text(list(self.told(false_answers.outcomes(cluster))))
        with page.PAGE.alone():
            page.PAGE.write(page.FALSE_ANSWERS, text)


@dataclass(frozen=True)
class Names:
    """The selected tables, tasks and faults. No task means every task."""

    tables: Sequence[str]
    tasks: Sequence[str]
    faults: Sequence[TransportFault]

    def hold(self, task: str) -> bool:
        return not self.tasks or task in self.tasks


def chosen(arguments: Sequence[str]) -> Names:
    """Parse the arguments.

    Tasks without a table select both tables that have tasks, faults select the transport table.
    """
    tables = [name for name in arguments if name in page.TABLES]
    tasks = [name for name in arguments if name in NAMED]
    faults = [fault for fault in transport.FAULTS if fault.name in arguments]
    unknown = set(arguments) - {*tables, *tasks, *(fault.name for fault in faults)}
    if unknown:
        known = (*page.TABLES, *NAMED, *(fault.name for fault in transport.FAULTS))
        sys.exit(f"unknown: {', '.join(sorted(unknown))}. Known names: {'; '.join(known)}")
    if not tables:
        tables = [page.TRANSPORT] if faults else [*page.TABLES[:2], *([] if tasks else [page.FALSE_ANSWERS])]
    return Names(tables, tasks, faults or transport.FAULTS)


def main() -> int:
    names, run = chosen(sys.argv[1:]), TableRun()
    with (
        clusters.running({"onprem": "onprem"}) as fleet,
        contextlib.closing(FaultRig(fleet["onprem"])) as rig,
    ):
        if page.CRASHES in names.tables:
            run.crashes(rig, names)
        if page.TRANSPORT in names.tables:
            run.faults(rig, names)
        if page.FALSE_ANSWERS in names.tables:
            run.false_answers(fleet["onprem"])
    print(f"{run.bad} cases did not end as expected")
    return int(run.bad > 0)


if __name__ == "__main__":
    sys.exit(main())
