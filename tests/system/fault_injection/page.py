# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write and read the tables of reference_reliability.rst."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from tests.system.fault_injection.flows import NAMED
from tests.system.fault_injection.transport import FAULTS
from tests.system.fault_injection.verdict import COMPLETES, SAYS
from tools.docs import rst, written

if TYPE_CHECKING:
    from tests.system.fault_injection.crash import CrashCase
    from tests.system.fault_injection.transport import TransportCase

PAGE = written.Page(rst.GUIDES / "reference_reliability.rst", "make reliability")
TABLES = CRASHES, TRANSPORT, FALSE_ANSWERS = ("crashes", "transport", "false-answers")
WRONG = "**wrong**"
CRASH_HEAD = ("Task", "Requests", "Killed at", "Next run completes", "... says what to do", "Left over")


def crash_row(requests: int, cases: Sequence[CrashCase]) -> list[str]:
    """Return the cells after the task's name."""
    outcomes = [case.verdict.outcome for case in cases]
    left = sum(bool(case.verdict.left) for case in cases)
    return [
        str(count) for count in (requests, len(cases), outcomes.count(COMPLETES), outcomes.count(SAYS), left)
    ]


def transport_column(cases: Iterable[TransportCase]) -> dict[str, str]:
    """Return a cell for each fault: the number of successful tasks, and after a plus the number of tasks that
    said what to do.
    """
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
    """Replace the row of a task."""
    PAGE.put(CRASHES, CRASH_HEAD, {task: cells}, NAMED)


def put_transport_cells(task: str, column: Mapping[str, str]) -> None:
    """Replace the cells of a task for these faults."""
    with PAGE.alone():
        told = PAGE.read(TRANSPORT)
        columns = {name: {fault: row.get(name, "") for fault, row in told.items()} for name in NAMED}
        columns[task].update(column)
        tasks = [name for name in NAMED if any(columns[name].values())]
        rows = [[fault.name, *(columns[name].get(fault.name, "") for name in tasks)] for fault in FAULTS]
        PAGE.write(TRANSPORT, rst.table(("Fault", *tasks), rows))
