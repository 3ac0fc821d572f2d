# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Durations of the variables of a fleet run."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._variables import values

pytestmark = pytest.mark.quick

# Value, seconds.
RIGHT = (
    ("90s", 90),
    (" 15m ", 900),
    ("2h", 7200),
    ("1d", 86400),
    ("600", 600),
    (600, 600),
    ("30d", 2592000),
    (0, 0),
)
WRONG = (
    "",
    "soon",
    "-1",
    "1.5h",
    "1h30m",
    "31d",
    1.5,
    True,
    None,
    ["1h"],
    {"a": 1},
    "9" * 12,
    "1h\n\x1b[2J",
    "\u0661h",
)


@pytest.mark.parametrize(("value", "seconds"), RIGHT)
def test_a_duration(value: Any, seconds: int) -> None:
    assert values.find_duration_problem("certflow_deadline", value) == ""
    assert values.duration_seconds(value) == seconds


@pytest.mark.parametrize("value", WRONG)
def test_a_value_that_is_not_a_duration(value: Any) -> None:
    line = values.find_duration_problem("certflow_deadline", value)
    assert line.startswith("certflow_deadline is ")
    assert line.isprintable()


def test_a_duration_that_is_too_short() -> None:
    assert (
        values.find_duration_problem("certflow_deadline", "0", least=1)
        == "certflow_deadline is shorter than 1 s: '0'."
    )
    assert values.find_duration_problem("certflow_deadline", "1", least=1) == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((0, "0 s"), (-1, "0 s"), (0.4, "0 s"), (12.4, "12 s"), (59.6, "1 min"), (130, "2 min 10 s")),
        *((3600, "1 h"), (3900, "1 h 5 min"), (90000, "25 h")),
    ],
)
def test_a_duration_for_people(seconds: float, text: str) -> None:
    assert values.show_seconds(seconds) == text


class TaggedInt(int):
    """A number with tags, as ansible-core 2.19 and newer have it."""


class TaggedDict(dict[str, int]):
    """A dictionary with tags."""


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *(
            (7, "7"),
            (1.5, "1.5"),
            (TaggedInt(7), "7"),
            (True, "a boolean"),
            ("x\x1b", "'x\\x1b'"),
            (None, "nothing"),
        ),
        *(({}, "a dictionary"), (TaggedDict(), "a dictionary"), ([], "a list"), ((), "a list")),
    ],
)
def test_a_value_in_a_message(value: Any, text: str) -> None:
    assert values.shown(value) == text


def test_a_number_with_tags_is_a_duration() -> None:
    assert values.find_duration_problem("x", TaggedInt(90)) == ""
    assert values.duration_seconds(TaggedInt(90)) == 90
