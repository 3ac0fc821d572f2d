# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The strip of time of the HTML page: the faults that take effect within a year. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from ...module_utils._audit.facts.finding import SEVERITIES
from ...module_utils._base.text import plural, some
from ...module_utils._base.times import find_time
from .groups import Group
from .report_model import LATER

SPAN = timedelta(days=365)
MONTHS = 12


@dataclass(frozen=True)
class Mark:
    """The faults that take effect on one day, or the begin of a month."""

    #: The position from left to right in percent.
    at: float
    #: The words for readers.
    text: str
    #: The id of the row of the first fault, "" for a month.
    target: str = ""
    severity: str = ""


@dataclass(frozen=True)
class Timeline:
    """The strip, from the day of the report on."""

    months: Sequence[Mark]
    marks: Sequence[Mark]
    #: The number of findings that take effect after the end of the strip.
    later: int


def build(faults: Sequence[tuple[str, Group]], now: datetime) -> Timeline | None:
    """Return the strip with a mark for each day, None if no fault takes effect at a later time. faults: each with the id of its row."""
    days: dict[int, list[tuple[str, Group, str]]] = {}
    later = 0
    for id_, fault in faults:
        for row in fault.rows if fault.first.urgency == LATER else ():
            moment = find_time(row.finding["breaks_at"])
            day = (moment.date() - now.date()).days if moment else -1
            if day > SPAN.days:
                later += 1
            elif moment:
                days.setdefault(max(day, 0), []).append((id_, fault, row.cluster["name"]))
    if not days and not later:
        return None
    marks = [_mark(day, entries, now) for day, entries in sorted(days.items())]
    months = ((now.year + (now.month + one) // 12, (now.month + one) % 12 + 1) for one in range(MONTHS))
    begins = (datetime(year, month, 1, tzinfo=now.tzinfo) for year, month in months)
    return Timeline(
        [Mark(_percent((begin.date() - now.date()).days), begin.strftime("%Y-%m")) for begin in begins],
        marks,
        later,
    )


def _percent(day: int) -> float:
    return round(1 + 98 * day / SPAN.days, 2)


def _mark(day: int, entries: Sequence[tuple[str, Group, str]], now: datetime) -> Mark:
    checks = list(dict.fromkeys(fault.finding["check"] for _id, fault, _name in entries))
    clusters = len({name for _id, _fault, name in entries})
    date = (now + timedelta(days=day)).strftime("%Y-%m-%d")
    text = f"{date}: {some(checks)} in {plural(clusters, 'cluster')}"
    severity = min((fault.finding["severity"] for _id, fault, _name in entries), key=SEVERITIES.index)
    return Mark(_percent(day), text, entries[0][0], severity)
