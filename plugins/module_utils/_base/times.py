# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Parse and format Kubernetes times, and keep the clock of the API server. All times are UTC."""

from __future__ import annotations

import re
import time
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime

# RFC 3339, as metav1.Time and metav1.MicroTime have it. Go writes a fraction of any length.
_RFC_3339 = re.compile(
    r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)?", re.ASCII | re.IGNORECASE
)

_DURATION = re.compile(r"([0-9]{1,9})([smhd]?)", re.ASCII)
#: Two clocks that differ by more than this need a warning.
LARGEST_DIFFERENCE = timedelta(minutes=5)
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_time(text: str) -> datetime:
    """Return the time of an RFC 3339 text. Without a zone it is UTC. Raises OverflowError, TypeError, ValueError.

    ``strptime`` imports a module at its first use in each fork. ``fromisoformat`` of Python 3.9 knows neither Z nor fractions
    of any length.
    """
    match = _RFC_3339.fullmatch(text)
    if match is None:
        raise ValueError("the text is not a time of RFC 3339")
    seconds, fraction, zone = match.groups()
    microseconds = (fraction or "")[:6].ljust(6, "0")
    offset = "+00:00" if zone in (None, "Z", "z") else zone
    return datetime.fromisoformat(f"{seconds.upper()}.{microseconds}{offset}").astimezone(timezone.utc)


def find_time(value: object) -> datetime | None:
    """Return the time of an RFC 3339 text, None for any other value."""
    try:
        return parse_time(value) if isinstance(value, str) else None
    except (OverflowError, ValueError):
        return None


def format_time(moment: datetime) -> str:
    """Return a time as metav1.Time has it, in whole seconds."""
    # strftime does not pad years before 1000.
    return moment.astimezone(timezone.utc).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"


def format_micro_time(moment: datetime) -> str:
    """Return a time as metav1.MicroTime has it."""
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def find_duration(value: object) -> timedelta | None:
    """Return the length of a text such as "30d", "12h", "90m" or "45s", None for any other value. A number is in seconds."""
    match = _DURATION.fullmatch(str(value).strip())
    if match is None or isinstance(value, bool):
        return None
    return timedelta(seconds=int(match[1]) * _UNITS[match[2] or "s"])


def elapsed() -> float:
    """Return the seconds of a monotonic clock, which also counts the time for which the machine sleeps.

    ``time.monotonic`` does not. On macOS, CLOCK_MONOTONIC is such a clock, and Linux has another one for it.
    """
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def describe_difference(ahead: timedelta) -> str:
    """Return a sentence about two clocks that differ by more than LARGEST_DIFFERENCE, "" if they do not.

    ahead: how far the clock of the API server is ahead of this machine's.
    """
    if abs(ahead) <= LARGEST_DIFFERENCE:
        return ""
    minutes = round(abs(ahead).total_seconds() / 60)
    words = f"{minutes} minutes" if minutes < 120 else f"{round(minutes / 60)} hours"
    direction = "ahead of" if ahead > timedelta() else "behind"
    return (
        f"the clock of the API server is {words} {direction} the clock of the machine that runs this task. A certificate is made valid "
        "from the earlier time, and renewed by the later one. Synchronize the clocks of the machines"
    )


class ServerClock:
    """The API server's clock. The Date header of the first object that it returns sets it, and ``elapsed`` continues it.

    It tells the time of this machine until it is set. A header has whole seconds.
    """

    def __init__(self) -> None:
        self._set: tuple[datetime, float] | None = None

    def set_once(self, date: str | None) -> None:
        """Set the clock by a Date header (RFC 9110), unless it is set or the header is not a date."""
        if self._set is not None:
            return
        try:
            moment = parsedate_to_datetime(date or "")
            # The zone "-0000" means that the zone is not known.
            if moment.tzinfo is not None:
                self._set = moment.astimezone(timezone.utc), elapsed()
        except (IndexError, OverflowError, TypeError, ValueError):
            pass

    def now(self) -> datetime:
        """Return the time, UTC."""
        moment, at = self._set or (datetime.now(timezone.utc), elapsed())
        return moment + timedelta(seconds=elapsed() - at)

    def earlier(self) -> datetime:
        """Return the earlier time of this clock and of this machine's, UTC."""
        return min(self.now(), datetime.now(timezone.utc))

    def later(self) -> datetime:
        """Return the later time of this clock and of this machine's, UTC."""
        return max(self.now(), datetime.now(timezone.utc))

    @property
    def ahead(self) -> timedelta:
        """Return how far this clock is ahead of this machine's. It is negative if this clock is behind."""
        return self.now() - datetime.now(timezone.utc)
