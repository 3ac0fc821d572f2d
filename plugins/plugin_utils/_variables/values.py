# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Tell what the value of a variable is, show it in a message, find the name that a misspelt one means, and read durations. Pure."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from datetime import timedelta
from difflib import SequenceMatcher, get_close_matches
from typing import Any

from ...module_utils._base.text import quoted, visible
from ...module_utils._base.times import find_duration

#: The value of a variable that refers to a variable that is not defined.
UNDEFINED = object()
#: The value of a variable whose template fails. It is a value that is set, so no reader takes a default instead.
UNREADABLE = object()
#: A misspelt name differs from the one that it means by at most so many letters.
LETTERS = 2
#: The longest duration of a fleet run. A larger one is a typing error.
LONGEST_DURATION = timedelta(days=30)
_KINDS: dict[type, str] = {
    bool: "a boolean",
    Mapping: "a dictionary",
    list: "a list",
    tuple: "a list",
    type(None): "nothing",
}


def is_unset(value: Any) -> bool:
    """Return True for no value, or an empty text, with which AWX answers an optional question."""
    return value is None or value is UNDEFINED or (isinstance(value, str) and not value.strip())


def is_blank(value: Any) -> bool:
    """Return True for an empty value. A dictionary with an empty name is empty."""
    if isinstance(value, Mapping) and "name" in value:
        return is_blank(value["name"])
    return is_unset(value) or value in ({}, [])


def parsed(value: Any) -> Any:
    """Return a text in JSON as data, and any other value as it is. Lists of the command line and of a survey are such texts."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def items_of_text(value: Any) -> Any:
    """Return a text as a list: JSON, or words between commas. Return any other value, and an empty text, as it is."""
    if not isinstance(value, str) or is_unset(value):
        return value
    data = parsed(value)
    if isinstance(data, Mapping):
        return [data]
    return data if isinstance(data, list) else [word.strip() for word in value.split(",")]


def shown(value: object) -> str:
    """Return a value for a message: a number, a shortened text in quotes, or the kind of any other value.

    The classes of values that Ansible has tagged have names that mean nothing to a user.
    """
    for kind, name in _KINDS.items():
        if isinstance(value, kind):
            return name
    return str(value) if isinstance(value, (int, float)) else quoted(value)


def listed(words: Iterable[Any]) -> str:
    """Return the words as "a, b and c"."""
    *most, last = map(str, words)
    return f"{', '.join(most)} and {last}" if most else last


def plain_name(name: str) -> str:
    """Return a name without what a reader overlooks: the case and the width of letters, and which sign separates the words."""
    return re.sub(r"\W+", "_", unicodedata.normalize("NFKC", name).casefold().strip())


def closest(word: str, names: Iterable[str]) -> str:
    """Return the most similar name, "" if each differs by more than two letters."""
    near = [name for name in names if abs(len(word) - len(name)) <= LETTERS]
    for name in get_close_matches(word, near):
        same = sum(block.size for block in SequenceMatcher(None, word, name).get_matching_blocks())
        if max(len(word), len(name)) - same <= LETTERS:
            return name
    return ""


def did_you_mean(word: str, names: Collection[str], noun: str) -> str:
    """Return the remedy for a name that is not known: the name that is meant, or all of them. noun: such as "Its keys"."""
    close = closest(word, names)
    return f"Did you mean {close}?" if close else f"{noun} are {listed(map(visible, names))}."


# Durations of the variables of a fleet run, in the form of renew_before.


def duration_seconds(value: object) -> int:
    """Return a valid duration in seconds, 0 for any other value."""
    length = find_duration(value)
    return int(length.total_seconds()) if length is not None else 0


def find_duration_problem(name: str, value: object, least: int = 0) -> str:
    """Return what is wrong with a duration as one line, "" if it is right.

    name: the variable. least: the shortest duration, in seconds.
    """
    length = find_duration(value)
    if length is None:
        return f"{name} is not a duration: {shown(value)}. Use a number with s, m, h or d, such as 30m."
    if length > LONGEST_DURATION:
        return f"{name} is longer than {LONGEST_DURATION.days} days: {shown(value)}."
    return f"{name} is shorter than {least} s: {shown(value)}." if length.total_seconds() < least else ""


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
