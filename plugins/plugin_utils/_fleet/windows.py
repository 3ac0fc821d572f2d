# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Maintenance windows of a cluster. Pure, except that time zones come from the zone database of the machine.

A window opens on each of its days at ``start`` and closes at ``end``. If ``end`` is not later than ``start``, it closes on the next
day. So the day belongs to the start: Fri 22:00 to 04:00 lasts until Saturday.

A change of daylight saving time skips an hour or repeats one. A time that exists twice means the first one. A time that is
skipped means the moment that the clock before the change would show, so 02:30 becomes 03:30 (PEP 495, fold=0).
"""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from functools import cache
from typing import Any

from ...module_utils._base.errors import CertflowError
from ...module_utils._base.text import quoted
from ...module_utils._base.times import format_time
from .._report import report_schema
from .._variables.check_variables import check_value
from .._variables.values import closest, is_blank, is_unset, parsed, shown

NAME = "certflow_window"
#: A window, in the form of Ansible's argument specs.
ENTRY = {
    "type": "dict",
    "options": {
        "days": {"type": "raw"},
        "start": {"type": "raw", "required": True},
        "end": {"type": "raw", "required": True},
        "timezone": {"type": "raw"},
    },
}
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
LONG_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
EXAMPLE = 'Write certflow_window: {days: [Fri], start: "22:00", end: "04:00", timezone: Europe/Berlin}'
WHOLE_DAY = 24 * 60

_CLOCK = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])|24:00", re.ASCII)


@dataclass(frozen=True)
class Window:
    """A window that opens on some days of the week."""

    #: 0 is Monday.
    days: frozenset[int]
    #: Minutes after midnight.
    start: int
    #: Minutes after the midnight of the first day. It is later than the start, and may be on the next day.
    end: int
    zone: tzinfo

    def span(self, day: date) -> tuple[datetime, datetime]:
        """Return when the window opens and closes that begins on this day, in UTC."""
        opens, closes = self._moment(day, self.start), self._moment(day, self.end)
        if closes <= opens:  # a change of the clock took the time between them
            closes = opens + timedelta(minutes=self.end - self.start)
        return opens, closes

    def _moment(self, day: date, minutes: int) -> datetime:
        local = datetime.combine(day, time()) + timedelta(minutes=minutes)
        return local.replace(tzinfo=self.zone).astimezone(timezone.utc)


def find_problems(value: Any) -> list[str]:
    """Return what is wrong with certflow_window, one line each. An empty list is no window that is always open."""
    return [] if is_unset(value) else [*_problems(parsed(value))]


def parse(value: Any) -> tuple[Window, ...]:
    """Return the windows of a valid certflow_window: a dictionary or a list of them."""
    entries = parsed(value)
    if is_blank(entries):
        return ()
    return tuple(map(_window, [entries] if isinstance(entries, Mapping) else entries))


def judge(windows: Sequence[Window], now: datetime) -> datetime | None:
    """Return the next opening in UTC, None if a window is open or there is no window.

    now: a time with a zone.
    """
    spans = [span for window in windows for span in _spans(window, now)]
    if not spans or any(opens <= now < closes for opens, closes in spans):
        return None
    return min(opens for opens, _closes in spans if opens > now)


def waiting_outcome(
    opening: datetime, breaks_at: datetime | None = None, problem: str = ""
) -> dict[str, Any]:
    """Return the outcome of a cluster whose window is closed. It is an error if a certificate breaks before the opening.

    breaks_at: when the first certificate breaks, None if that is not known.
    problem: why the cluster could not be read, "" if it was read.
    """
    reason = f"the maintenance window opens at {format_time(opening)}"
    breaks = breaks_at is not None and breaks_at < opening
    if breaks and breaks_at is not None:
        reason += f", and a certificate breaks before that, at {format_time(breaks_at)}"
    if problem:
        reason += f". The certificate could not be read now: {' '.join(problem.split())}"
    error = CertflowError(
        reason,
        code="window-closed",
        remedy="Run the playbook again inside the window, or with certflow_window_override=true",
    )
    return {
        "status": report_schema.WAITING,
        "code": error.code,
        "severity": "error" if breaks else "info",
        "reason": error.cause,
        "remedy": error.remedy,
        "opens_at": format_time(opening),
    }


def _spans(window: Window, now: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Yield the times of a window from yesterday until it opened once more after a week."""
    today = now.astimezone(window.zone).date()
    for number in range(-2, 9):
        day = today + timedelta(days=number)
        if day.weekday() in window.days:
            yield window.span(day)


def _problems(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        yield from _entry_problems(NAME, value)
    elif isinstance(value, (list, tuple)) and value:
        for number, entry in enumerate(value):
            yield from _entry_problems(f"{NAME}[{number}]", entry)
    else:
        yield f"{NAME} is not a window or a list of windows: {shown(value)}. {EXAMPLE}. To remove a window, set {NAME} to an empty text."


def _entry_problems(path: str, entry: Any) -> Iterator[str]:
    if not isinstance(entry, Mapping):
        yield f"{path} is not a dictionary: {shown(entry)}. {EXAMPLE}."
        return
    yield from check_value(path, ENTRY, entry)
    yield from (
        f"{path}.{key} is empty. {EXAMPLE}."
        for key in ("days", "timezone")
        if key in entry and is_blank(entry[key])
    )
    for key, find in (("days", _day_problem), ("start", _start_problem), ("end", _end_problem)):
        problem = "" if is_blank(entry.get(key)) else find(entry[key])
        if problem:
            yield f"{path}.{key} {problem}"
    start, end = _minutes(entry.get("start")), _minutes(entry.get("end"))
    if start is not None and start == end:
        yield f'{path} has the same start and end. For a whole day write start: "00:00" and end: "24:00".'
    problem = _zone_problem(entry.get("timezone"))
    if problem:
        yield f"{path}.timezone {problem}"


def _day_problem(value: Any) -> str:
    wrong = [part for part in _day_parts(value) if not _days_of(part)]
    if not wrong:
        return ""
    near = closest(str(wrong[0]).strip().lower(), LONG_DAYS)
    remedy = (
        f"Did you mean {near.title()}?"
        if near
        else "Use Mon, Tue, Wed, Thu, Fri, Sat, Sun, or a range such as Mon-Fri."
    )
    return f"has a day that does not exist: {shown(wrong[0])}. {remedy}"


def _start_problem(value: Any) -> str:
    if _minutes(value) == WHOLE_DAY:
        return 'is the end of a day. Write "00:00" and the next day.'
    return _end_problem(value)


def _end_problem(value: Any) -> str:
    if _minutes(value) is not None:
        return ""
    # YAML 1.1 reads a time without quotes, such as 22:00, as the number of its minutes.
    is_number = isinstance(value, int) and 60 <= value <= WHOLE_DAY
    example = f"{value // 60:02}:{value % 60:02}" if is_number else "22:00"
    return f'is not a time: {shown(value)}. Write it in quotes, such as "{example}".'


def _zone_problem(value: Any) -> str:
    if is_blank(value) or _zone(value) is not None:
        return ""
    names = _zone_names()
    if not names:
        return (
            f"needs the zone database: {quoted(value)}. Install the Python package tzdata where Ansible runs."
        )
    near = _closest_zone(str(value))
    remedy = f"Did you mean {near}?" if near else "Use a name such as Europe/Berlin."
    return f"is not a time zone: {quoted(value)}. {remedy}"


@cache
def _zone_names() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones())


@cache
def _closest_zone(name: str) -> str:
    """Return the most similar name. Hundreds of hosts may have the same wrong one."""
    return closest(name, _zone_names())


def _window(entry: Mapping[str, Any]) -> Window:
    start, end = _minutes(entry["start"]), _minutes(entry["end"])
    zone = timezone.utc if is_blank(entry.get("timezone")) else _zone(entry["timezone"])
    if start is None or end is None or zone is None:
        raise ValueError("the window was not checked")
    parts = [] if is_blank(entry.get("days")) else _day_parts(entry["days"])
    days = frozenset(day for part in parts for day in _days_of(part))
    return Window(
        days=days or frozenset(range(7)),
        start=start,
        end=end if end > start else end + WHOLE_DAY,
        zone=zone,
    )


def _day_parts(value: Any) -> list[Any]:
    """Return the names and ranges of days, from a list or a text with commas."""
    parts = (
        value.split(",") if isinstance(value, str) else value if isinstance(value, (list, tuple)) else [value]
    )
    return [part.strip() if isinstance(part, str) else part for part in parts]


def _days_of(part: Any) -> list[int]:
    """Return the days of a name such as "Fri" or a range such as "Fri-Mon". Empty for another text."""
    if not isinstance(part, str):
        return []
    numbers = [_day_number(name) for name in part.split("-")]
    if len(numbers) > 2 or -1 in numbers:
        return []
    first, last = numbers[0], numbers[-1]
    return [day % 7 for day in range(first, (last if last >= first else last + 7) + 1)]


def _day_number(name: str) -> int:
    """Return the number of a day, -1 for another text."""
    short = name.strip().lower()
    for names in (DAYS, LONG_DAYS):
        if short in names:
            return names.index(short)
    return -1


def _minutes(value: Any) -> int | None:
    """Return a time of the day in minutes, None for another value."""
    match = _CLOCK.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        return None
    return WHOLE_DAY if match[1] is None else int(match[1]) * 60 + int(match[2])


def _zone(name: Any) -> tzinfo | None:
    """Return a time zone, None if the machine does not know it. UTC needs no zone database."""
    if not isinstance(name, str):
        return None
    if name.strip().upper() == "UTC":
        return timezone.utc
    try:
        return zoneinfo.ZoneInfo(name.strip())
    # For a name that is a folder or leaves the database, ZoneInfo raises other errors than for an unknown one.
    except (zoneinfo.ZoneInfoNotFoundError, OSError, ValueError):
        return None
