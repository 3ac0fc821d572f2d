# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write the tables of reference_audit_matrix.rst."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.system.audit.matrix.row import ACCEPTED
from tests.system.audit.matrix.table import AGING, DAYS, TABLES
from tools.docs import rst, written

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tests.system.audit.matrix.run import Outcome

PAGE = written.Page(rst.GUIDES / "reference_audit_matrix.rst", "make audit-matrix")
HEAD = ("Fault or shape", "API server", "Audit")
AGED = "days"
NEVER = "no time"


def aged_head() -> tuple[str, ...]:
    columns = (
        text for days in DAYS for text in (f"API server after {days} days", f"Audit after {days} days")
    )
    return ("Fault or shape", "Breaks in", *columns)


def put(outcomes: Iterable[Outcome]) -> None:
    """Write what the API server and the audit said about rows."""
    cells = {outcome.row.name: [outcome.answer, outcome.says] for outcome in outcomes}
    for name, rows in TABLES.items():
        PAGE.put(name, HEAD, cells, [row.name for row in rows])


def put_aged(now: Iterable[Outcome], later: Mapping[int, Iterable[Outcome]]) -> None:
    """Write what they said as if days had passed. later: days -> the outcomes."""
    cells = {outcome.row.name: [_days(outcome.breaks_in)] for outcome in now}
    for days in DAYS:
        for outcome in later[days]:
            answer = ACCEPTED if outcome.answer == ACCEPTED else "refused"
            cells[outcome.row.name] += [answer, outcome.says]
    complete = {name: row for name, row in cells.items() if len(row) == len(aged_head()) - 1}
    PAGE.put(AGED, aged_head(), complete, [row.name for row in AGING])


def _days(breaks_in: float | None) -> str:
    return NEVER if breaks_in is None else f"{breaks_in:g} days"
