# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Durations of the variables of a fleet run, in the form of renew_before. Pure."""

from __future__ import annotations

from datetime import timedelta

from ...module_utils._times import find_duration
from .._variables.values import shown

#: The longest duration of a fleet run. A larger one is a typing error.
LONGEST = timedelta(days=30)


def to_seconds(value: object) -> int:
    """Return a valid duration in seconds, 0 for any other value."""
    length = find_duration(value)
    return int(length.total_seconds()) if length is not None else 0


def find_problem(name: str, value: object, least: int = 0) -> str:
    """Return what is wrong with a duration as one line, "" if it is right.

    name: the variable. least: the shortest duration, in seconds.
    """
    length = find_duration(value)
    if length is None:
        return f"{name} is not a duration: {shown(value)}. Use a number with s, m, h or d, such as 30m."
    if length > LONGEST:
        return f"{name} is longer than {LONGEST.days} days: {shown(value)}."
    if length.total_seconds() < least:
        return f"{name} is shorter than {least} s: {shown(value)}."
    return ""


def show_seconds(seconds: float) -> str:
    """Return a length of time with at most two units: "12 s", "2 min 10 s", "1 h 5 min"."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    larger, unit, smaller, part = (
        (whole // 60, "min", whole % 60, "s")
        if whole < 3600
        else (whole // 3600, "h", whole % 3600 // 60, "min")
    )
    return f"{larger} {unit} {smaller} {part}" if smaller else f"{larger} {unit}"
