# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""docs/reliability.md: its tables come from runs, and can be read again to be compared with another run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from tests.support import written
from tests.system.fault_injection.flows import NAMED
from tests.system.fault_injection.transport import FAULTS
from tests.system.fault_injection.verdict import COMPLETES, SAYS
from tools.ci.venvs import REPOSITORY

if TYPE_CHECKING:
    from tests.system.fault_injection.crash import CrashCase
    from tests.system.fault_injection.transport import TransportCase

PAGE = written.Page(REPOSITORY / "docs" / "reliability.md", "make reliability")
TABLES = CRASHES, TRANSPORT, LIES = ("crashes", "transport", "lies")
WRONG = "**wrong**"
CRASH_HEAD = ("Task", "Requests", "Killed at", "Next run completes", "... says what to do", "Left over")


def crash_row(requests: int, points: Sequence[CrashCase]) -> list[str]:
    """The cells after the task's name."""
    outcomes = [point.verdict.outcome for point in points]
    left = sum(bool(point.verdict.left) for point in points)
    return [
        str(count) for count in (requests, len(points), outcomes.count(COMPLETES), outcomes.count(SAYS), left)
    ]


def transport_column(cases: Iterable[TransportCase]) -> dict[str, str]:
    """A cell for each fault: how many tasks ended well; after a plus, how many said what to do."""
    rows: dict[str, list[TransportCase]] = {}
    for case in cases:
        rows.setdefault(case.fault, []).append(case)
    return {fault: _cell(row) for fault, row in rows.items()}


def _cell(row: Sequence[TransportCase]) -> str:
    ends = [case.first for case in row]
    completed, said = ends.count(COMPLETES), ends.count(SAYS)
    cell = f"{completed} + {said}" if said else str(completed)
    wrong = sum(not case.is_good for case in row)
    return f"{cell}, {wrong} {WRONG}" if wrong else cell


def put_crash_row(task: str, cells: Sequence[str]) -> None:
    """In the place of the task's row; the others stay."""
    PAGE.put(CRASHES, CRASH_HEAD, {task: cells}, NAMED)


def put_transport_cells(task: str, column: Mapping[str, str]) -> None:
    """In the place of the task's cells for these faults; the others stay."""
    with PAGE.alone():
        told = PAGE.read(TRANSPORT)
        columns = {name: {fault: row.get(name, "") for fault, row in told.items()} for name in NAMED}
        columns[task].update(column)
        tasks = [name for name in NAMED if any(columns[name].values())]
        rows = [[fault.name, *(columns[name].get(fault.name, "") for name in tasks)] for fault in FAULTS]
        PAGE.write(TRANSPORT, written.table(("Fault", *tasks), rows))
