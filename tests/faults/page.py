# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""docs/reliability.md: its tables come from runs, and can be read again to be compared with another run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from tests.faults.transport import FAULTS
from tests.faults.verdict import COMPLETES, SAYS
from tests.gates.venvs import REPOSITORY

if TYPE_CHECKING:
    from tests.faults.crash import Point
    from tests.faults.transport import Case

PATH = REPOSITORY / "docs" / "reliability.md"
CRASHES, TRANSPORT, LIES = "crashes", "transport", "lies"
CRASH_HEAD = ("Task", "Requests", "Killed at", "Next run completes", "... says what to do", "Left over")

Table = Mapping[str, Sequence[str]]


def crash_row(requests: int, points: Sequence[Point]) -> list[str]:
    """The cells after the task's name."""
    outcomes = [point.verdict.outcome for point in points]
    left = sum(bool(point.verdict.left) for point in points)
    return [
        str(count) for count in (requests, len(points), outcomes.count(COMPLETES), outcomes.count(SAYS), left)
    ]


def transport_column(cases: Iterable[Case]) -> dict[str, str]:
    """A cell for each fault: how many tasks ended well; after a plus, how many said what to do."""
    firsts: dict[str, list[str]] = {}
    for case in cases:
        firsts.setdefault(case.fault, []).append(case.first)
    return {fault: _cell(ends.count(COMPLETES), ends.count(SAYS)) for fault, ends in firsts.items()}


def _cell(completed: int, said: int) -> str:
    return f"{completed} + {said}" if said else str(completed)


def crash_table(rows: Table) -> str:
    return _table(CRASH_HEAD, [[task, *cells] for task, cells in rows.items()])


def transport_table(columns: Mapping[str, Mapping[str, str]]) -> str:
    lines = [[fault.name, *(column.get(fault.name, "") for column in columns.values())] for fault in FAULTS]
    return _table(("Fault", *columns), lines)


def write(name: str, text: str) -> None:
    """Put a table, and what stands around it, in the place of the one of that name."""
    before, begin, rest = PATH.read_text().partition(_begin(name))
    _old, end, after = rest.partition(_END)
    PATH.write_text(f"{before}{begin}\n{text}{end}{after}")


def part(name: str) -> str:
    """What stands in that place."""
    return PATH.read_text().partition(_begin(name))[2].partition(_END)[0]


def read(name: str) -> dict[str, dict[str, str]]:
    """The table of that name: a dictionary by head for each row, by the row's first cell."""
    text = part(name)
    head, _rule, *rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.strip().splitlines()
    ]
    return {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in rows}


_END = "<!-- end -->"


def _begin(name: str) -> str:
    return f"<!-- {name}: written by make reliability -->"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = (head, ["---"] * len(head), *rows)
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
