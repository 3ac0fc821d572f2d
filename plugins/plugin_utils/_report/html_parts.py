# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The parts of the HTML page that all kinds of reports share: columns of tables, times, counts. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ...module_utils._base.text import plural
from ...module_utils._base.times import find_time

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    #: The name in the fragment of the address, and the key of the filter.
    key: str
    title: str
    is_number: bool = False


@dataclass(frozen=True)
class Count:
    """A number at the top of the page. It leads to a section, and filters the page."""

    number: int
    title: str
    #: The id of the section.
    section: str
    #: The filter, as in the fragment of the address.
    filter: str = ""
    #: The word whose shape the style shows, "" for none.
    word: str = ""


@dataclass(frozen=True)
class Table:
    """A section with one table."""

    id: str
    title: str
    caption: str
    rows: Sequence[Any]


@dataclass(frozen=True)
class Moment:
    """A time of a report."""

    #: The time as the report has it.
    text: str
    #: The time for readers, UTC, and "" if the text is not a time.
    shown: str
    #: The distance from the time of the report, such as "in 5 days".
    distance: str = ""


def moment(text: object, now: datetime | None = None) -> Moment | None:
    """Return a time of the report. now: the time of the report, None for a time without a distance."""
    if not isinstance(text, str) or not text:
        return None
    found = find_time(text)
    if found is None:
        return Moment(text, "")
    return Moment(
        found.strftime("%Y-%m-%dT%H:%MZ"),
        found.strftime("%Y-%m-%d %H:%M"),
        distance(found, now) if now else "",
    )


def distance(found: datetime, now: datetime) -> str:
    """Return the distance of a time from another one, in whole days or hours."""
    seconds = (found - now).total_seconds()
    hours = int(abs(seconds) // 3600)
    if not hours:
        return "now"
    words = plural(hours // 24, "day") if hours >= 48 else plural(hours, "hour")
    return f"in {words}" if seconds > 0 else f"{words} ago"


def labels(layouts: Mapping[str, Iterable[Column]]) -> str:
    """Return the style rules that show the names of columns in the cells of a narrow page."""
    return "\n  ".join(
        f'.{name} > tbody > tr > :nth-child({number})::before {{ content: "{column.title}"; }}'
        for name, columns in layouts.items()
        for number, column in enumerate(columns, 1)
    )
