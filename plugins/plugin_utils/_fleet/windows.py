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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from typing import Any

from ...module_utils._base.errors import CertflowError
from ...module_utils._base.times import format_time
from .._report import report_schema
from .._variables.check_variables import check_value
from .._variables.values import is_blank, is_unset, parsed, shown

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
WEEK = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
#: Name of a day, also its first three letters -> its number.
DAYS = {name: number for number, day in enumerate(WEEK) for name in (day, day[:3])}
EXAMPLE = 'Write certflow_window: {days: [Fri], start: "22:00", end: "04:00", timezone: Europe/Berlin}'
WHOLE_DAY = 24 * 60

_OPTIONAL = ("days", "timezone")
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
    if is_unset(value):
        return []
    entries = parsed(value)
    if isinstance(entries, Mapping):
        return [*_entry_problems(NAME, entries)]
    if isinstance(entries, (list, tuple)) and entries:
        return [
            line
            for number, entry in enumerate(entries)
            for line in _entry_problems(f"{NAME}[{number}]", entry)
        ]
    return [
        f"{NAME} is not a window or a list of windows: {shown(entries)}. {EXAMPLE}. To remove a window, set {NAME} to an empty text."
    ]


def parse(value: Any) -> tuple[Window, ...]:
    """Return the windows of a valid certflow_window: a dictionary or a list of them."""
    entries = parsed(value)
    return (
        ()
        if is_blank(entries)
        else tuple(map(_window, [entries] if isinstance(entries, Mapping) else entries))
    )


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


def _entry_problems(path: str, entry: Any) -> Iterator[str]:
    if not isinstance(entry, Mapping):
        yield f"{path} is not a dictionary: {shown(entry)}. {EXAMPLE}."
        return
    yield from check_value(path, ENTRY, entry)
    read: dict[str, Any] = {}
    for key, reader in _READERS.items():
        value = entry.get(key)
        try:
            if not is_blank(value):
                read[key] = reader(value)
            elif key in entry and key in _OPTIONAL:
                yield f"{path}.{key} is empty. {EXAMPLE}."
        except ValueError as error:
            yield f"{path}.{key} {error}"
    if read.get("start", -1) == read.get("end"):
        yield f'{path} has the same start and end. For a whole day write start: "00:00" and end: "24:00".'


def _window(entry: Mapping[str, Any]) -> Window:
    read = {key: reader(entry[key]) for key, reader in _READERS.items() if not is_blank(entry.get(key))}
    start, end = read["start"], read["end"]
    return Window(
        days=read.get("days", frozenset(range(7))),
        start=start,
        end=end if end > start else end + WHOLE_DAY,
        zone=read.get("timezone", timezone.utc),
    )


def _days(value: Any) -> frozenset[int]:
    """Return the days of names such as "Fri" and ranges such as "Fri-Mon", from a list or a text with commas. Raises ValueError."""
    parts = value.split(",") if isinstance(value, str) else value
    return frozenset(
        day for part in (parts if isinstance(parts, (list, tuple)) else [parts]) for day in _range(part)
    )


def _range(part: Any) -> Iterator[int]:
    numbers = (
        [DAYS.get(name.strip().lower()) for name in part.split("-")] if isinstance(part, str) else [None]
    )
    first, last = numbers[0], numbers[-1]
    if first is None or last is None or len(numbers) > 2:
        text = f"has a day that does not exist: {shown(part)}. Use Mon, Tue, Wed, Thu, Fri, Sat, Sun, or a range such as Mon-Fri."
        raise ValueError(text)
    yield from (day % 7 for day in range(first, (last if last >= first else last + 7) + 1))


def _start(value: Any) -> int:
    minutes = _minutes(value)
    if minutes == WHOLE_DAY:
        raise ValueError('is the end of a day. Write "00:00" and the next day.')
    return minutes


def _minutes(value: Any) -> int:
    """Return a time of the day in minutes. Raises ValueError."""
    match = _CLOCK.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        # YAML 1.1 reads a time without quotes, such as 22:00, as the number of its minutes.
        is_number = isinstance(value, int) and 60 <= value <= WHOLE_DAY
        example = f"{value // 60:02}:{value % 60:02}" if is_number else "22:00"
        raise ValueError(f'is not a time: {shown(value)}. Write it in quotes, such as "{example}".')
    return WHOLE_DAY if match[1] is None else int(match[1]) * 60 + int(match[2])


def _zone(name: Any) -> tzinfo:
    """Return a time zone. UTC needs no zone database. Raises ValueError."""
    text = name.strip() if isinstance(name, str) else ""
    if text.upper() == "UTC":
        return timezone.utc
    try:
        return zoneinfo.ZoneInfo(text)
    # For a name that is a folder or leaves the database, ZoneInfo raises other errors than for an unknown one.
    except (zoneinfo.ZoneInfoNotFoundError, OSError, ValueError):
        remedy = "Use a name such as Europe/Berlin. If this machine has no zone database, install the Python package tzdata."
        raise ValueError(f"is not a time zone: {shown(name)}. {remedy}") from None


#: Key of a window -> its reader. It raises ValueError with the words after the key.
_READERS: Mapping[str, Callable[[Any], Any]] = {
    "days": _days,
    "start": _start,
    "end": _minutes,
    "timezone": _zone,
}
