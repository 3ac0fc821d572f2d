# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The strip of time of the HTML page: the faults that take effect within a year. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import MAXYEAR, datetime
from typing import Any

from ...module_utils._audit.facts.finding import SEVERITIES
from ...module_utils._base.text import plural, some
from ...module_utils._base.times import find_time
from .groups import Group
from .report_model import LATER, Row

DAYS, MONTHS = 365, 12


def build(faults: Sequence[tuple[str, Group]], now: datetime) -> dict[str, Any]:
    """Return the marks of the days on which a fault takes effect, the begins of months, and the number of findings after the strip.

    faults: each with the id of its row. A mark has its place from left to right in percent, and the id of the first of its rows.
    """
    days: dict[int, list[tuple[str, Row]]] = {}
    for id_, fault in faults:
        for row in fault.rows if fault.first.urgency == LATER else ():
            day = ((find_time(row.finding["breaks_at"]) or now).date() - now.date()).days
            days.setdefault(max(day, 0), []).append((id_, row))
    months = ((now.year + (now.month + ahead) // 12, (now.month + ahead) % 12 + 1) for ahead in range(MONTHS))
    # A report that was read may be of the last year that Python knows.
    begins = [datetime(year, month, 1, tzinfo=now.tzinfo) for year, month in months if year <= MAXYEAR]
    return {
        "months": [
            {"at": _place((begin.date() - now.date()).days), "text": begin.strftime("%Y-%m")}
            for begin in begins
        ],
        "marks": [_mark(day, entries) for day, entries in sorted(days.items()) if day <= DAYS],
        "later": sum(len(entries) for day, entries in days.items() if day > DAYS),
    }


def _place(day: int) -> float:
    return round(1 + 98 * day / DAYS, 2)


def _mark(day: int, entries: Sequence[tuple[str, Row]]) -> dict[str, Any]:
    findings = [row.finding for _id, row in entries]
    clusters = {row.cluster["name"] for _id, row in entries}
    checks = list(dict.fromkeys(finding["check"] for finding in findings))
    return {
        "at": _place(day),
        "text": f"{findings[0]['breaks_at'][:10]}: {some(checks)} in {plural(len(clusters), 'cluster')}",
        "target": entries[0][0],
        "severity": min((finding["severity"] for finding in findings), key=SEVERITIES.index),
    }
