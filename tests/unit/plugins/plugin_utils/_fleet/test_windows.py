# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Maintenance windows: over midnight, over a change of daylight saving time, and wrong values."""

from __future__ import annotations

import json
import zoneinfo
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet import windows

pytestmark = pytest.mark.quick


def window(start: str, end: str, days: Any = "", zone: str = "") -> dict[str, Any]:
    named = {"days": days, "timezone": zone}
    return {"start": start, "end": end, **{key: value for key, value in named.items() if value}}


def at(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


NIGHT = window("22:00", "04:00", ["Fri"])
EARLY = window("01:00", "02:00", "Mon-Wed")
BERLIN = "Europe/Berlin"
# 4 December 2026 is a Friday. In Berlin the clock goes from 02:00 to 03:00 on 29 March 2026 at 01:00 UTC, and from 03:00 to
# 02:00 on 25 October 2026 at 01:00 UTC. Both days are Sundays.
# certflow_window, the time, the next opening or "open".
JUDGED: tuple[tuple[Any, str, str], ...] = (
    (None, "2026-12-04T12:00Z", "open"),
    ("", "2026-12-04T12:00Z", "open"),
    (None, "2026-12-04T12:00Z", "open"),
    (window("00:00", "24:00"), "2026-12-04T00:00Z", "open"),
    (window("00:00", "24:00", "Fri"), "2026-12-04T23:59Z", "open"),
    (window("00:00", "24:00", "Fri"), "2026-12-05T00:00Z", "2026-12-11T00:00Z"),
    (window("00:00", "24:00", "Fri"), "2026-12-03T23:59Z", "2026-12-04T00:00Z"),
    # The end does not belong to the window.
    (EARLY, "2026-12-01T01:00Z", "open"),
    (EARLY, "2026-12-01T01:59:59Z", "open"),
    (EARLY, "2026-12-01T02:00Z", "2026-12-02T01:00Z"),
    (EARLY, "2026-12-02T02:00Z", "2026-12-07T01:00Z"),
    # Over midnight. The day belongs to the start.
    (NIGHT, "2026-12-04T21:59:59Z", "2026-12-04T22:00Z"),
    (NIGHT, "2026-12-04T22:00Z", "open"),
    (NIGHT, "2026-12-05T03:59Z", "open"),
    (NIGHT, "2026-12-05T04:00Z", "2026-12-11T22:00Z"),
    (NIGHT, "2026-12-04T03:00Z", "2026-12-04T22:00Z"),
    (NIGHT, "2026-12-05T22:00Z", "2026-12-11T22:00Z"),
    (window("22:00", "00:00", "Sun"), "2026-12-06T23:59Z", "open"),
    (window("22:00", "00:00", "Sun"), "2026-12-07T00:00Z", "2026-12-13T22:00Z"),
    # From Sunday to Monday, and from one year to the next.
    (window("23:00", "01:00", "sunday"), "2026-12-07T00:30Z", "open"),
    (window("23:00", "01:00"), "2027-01-01T00:30Z", "open"),
    # Almost a whole day: it ends on the next day, shortly before it begins again.
    (window("12:00", "11:59", "Fri"), "2026-12-05T11:58Z", "open"),
    (window("12:00", "11:59", "Fri"), "2026-12-05T11:59Z", "2026-12-11T12:00Z"),
    # Several windows: one of them is enough.
    ([EARLY, NIGHT], "2026-12-04T23:00Z", "open"),
    ([EARLY, NIGHT], "2026-12-05T05:00Z", "2026-12-07T01:00Z"),
    # Other zones. It is Friday, 23:00 in Berlin at 22:00 UTC, and Saturday, 01:00 in Auckland at 12:00 UTC of Friday.
    (window("23:00", "23:30", "Fri", BERLIN), "2026-12-04T22:00Z", "open"),
    (window("23:00", "23:30", "Fri", BERLIN), "2026-12-04T23:00Z", "2026-12-11T22:00Z"),
    (window("01:00", "02:00", "Sat", "Pacific/Auckland"), "2026-12-04T12:00Z", "open"),
    (window("01:00", "02:00", "Sat", "Pacific/Auckland"), "2026-12-05T01:30Z", "2026-12-11T12:00Z"),
    (window("22:00", "23:00", "Thu", "America/Los_Angeles"), "2026-12-04T06:30Z", "open"),
    (window("00:15", "00:45", "", "Asia/Kathmandu"), "2026-12-04T18:30Z", "open"),  # 5 hours and 45 minutes ahead
    # The same hour of the day before and after a change of the clock.
    (window("22:00", "23:00", "", BERLIN), "2026-03-28T21:30Z", "open"),
    (window("22:00", "23:00", "", BERLIN), "2026-03-29T20:30Z", "open"),
    (window("22:00", "23:00", "", BERLIN), "2026-03-29T21:30Z", "2026-03-30T20:00Z"),
    # Over the hour that is skipped: 22:00 to 04:00 lasts five hours.
    (window("22:00", "04:00", "Sat", BERLIN), "2026-03-29T01:59Z", "open"),
    (window("22:00", "04:00", "Sat", BERLIN), "2026-03-29T02:00Z", "2026-04-04T20:00Z"),
    # In the hour that is skipped: 02:15 to 02:45 becomes 03:15 to 03:45.
    (window("02:15", "02:45", "Sun", BERLIN), "2026-03-29T01:14Z", "2026-03-29T01:15Z"),
    (window("02:15", "02:45", "Sun", BERLIN), "2026-03-29T01:15Z", "open"),
    (window("02:15", "02:45", "Sun", BERLIN), "2026-03-29T01:45Z", "2026-04-05T00:15Z"),
    # The start is skipped and the end is not: the window keeps its length.
    (window("02:30", "03:00", "Sun", BERLIN), "2026-03-29T01:30Z", "open"),
    (window("02:30", "03:00", "Sun", BERLIN), "2026-03-29T01:59Z", "open"),
    (window("02:30", "03:00", "Sun", BERLIN), "2026-03-29T02:00Z", "2026-04-05T00:30Z"),
    (window("01:00", "02:30", "Sun", BERLIN), "2026-03-29T01:29Z", "open"),
    (window("01:00", "02:30", "Sun", BERLIN), "2026-03-29T01:30Z", "2026-04-04T23:00Z"),
    # Over the hour that exists twice: 22:00 to 04:00 lasts seven hours.
    (window("22:00", "04:00", "Sat", BERLIN), "2026-10-24T20:00Z", "open"),
    (window("22:00", "04:00", "Sat", BERLIN), "2026-10-25T02:59Z", "open"),
    (window("22:00", "04:00", "Sat", BERLIN), "2026-10-25T03:00Z", "2026-10-31T21:00Z"),
    # In the hour that exists twice: the first one counts.
    (window("02:15", "02:45", "Sun", BERLIN), "2026-10-25T00:15Z", "open"),
    (window("02:15", "02:45", "Sun", BERLIN), "2026-10-25T00:45Z", "2026-11-01T01:15Z"),
    (window("02:15", "02:45", "Sun", BERLIN), "2026-10-25T01:30Z", "2026-11-01T01:15Z"),
    (window("01:00", "02:30", "Sun", BERLIN), "2026-10-25T00:29Z", "open"),
    (window("01:00", "02:30", "Sun", BERLIN), "2026-10-25T00:30Z", "2026-11-01T00:00Z"),
)  # fmt: skip


@pytest.mark.parametrize(("value", "now", "expected"), JUDGED)
def test_a_window_at_a_time(value: Any, now: str, expected: str) -> None:
    assert windows.find_problems(value) == []
    opening = windows.judge(windows.parse(value), at(now))
    assert opening == (None if expected == "open" else at(expected))
    # The judgement does not depend on the zone of the clock.
    elsewhere = at(now).astimezone(timezone(timedelta(hours=-9, minutes=-30)))
    assert windows.judge(windows.parse(value), elsewhere) == opening


@pytest.mark.parametrize("zone", ["UTC", BERLIN, "Pacific/Apia", "Australia/Lord_Howe", "America/Sao_Paulo"])
def test_a_window_opens_at_its_next_opening(zone: str) -> None:
    """For each hour of a year: the next opening is later, at most a week and a day away, and the window is open then."""
    parsed = windows.parse([window("23:30", "00:30", "Sat", zone), window("02:10", "02:20", "Sun", zone)])
    now, end = at("2026-01-01T00:05Z"), at("2027-01-01T00:00Z")
    while now < end:
        opening = windows.judge(parsed, now)
        if opening is not None:
            assert now < opening <= now + timedelta(days=8)
            assert windows.judge(parsed, opening) is None
        now += timedelta(hours=5)


# These would mean that the cluster has no window, or a window on each day.
NO_WINDOWS: tuple[Any, ...] = ([], (), "[]", " [ ] ")
EMPTY_WINDOWS: tuple[Any, ...] = ({}, "{}")
NO_DAYS: tuple[Any, ...] = ([], "", " ", None, {})
EMPTY_DAYS: tuple[Any, ...] = ([""], "Mon,", [[]])
# certflow_window, the parts of each problem.
REFUSED: tuple[tuple[Any, Sequence[Sequence[str]]], ...] = (
    ("Fri", [("certflow_window is not a window or a list of windows", "'Fri'")]),
    (22, [("certflow_window is not a window or a list of windows", "22")]),
    (["Fri"], [("certflow_window[0] is not a dictionary", "'Fri'")]),
    *((empty, [("certflow_window is not a window or a list of windows",)]) for empty in NO_WINDOWS),
    *((empty, [("certflow_window lacks start and end.",)]) for empty in EMPTY_WINDOWS),
    *(({**NIGHT, "days": days}, [("certflow_window.days is empty.",)]) for days in NO_DAYS),
    *(({**NIGHT, "timezone": zone}, [("certflow_window.timezone is empty.",)]) for zone in ("", None)),
    *(({**NIGHT, "days": days}, [("certflow_window.days",)]) for days in EMPTY_DAYS),
    ([{}], [("certflow_window[0] lacks start and end.",)]),
    ({"start": "22:00"}, [("certflow_window lacks end.",)]),
    ({**NIGHT, "day": "Sat"}, [("the key day", "Did you mean days?")]),
    ({**NIGHT, "schedule": "x"}, [("the key schedule", "days, end, start and timezone")]),
    ([NIGHT, {**NIGHT, "end": "4"}], [("certflow_window[1].end is not a time", "'4'")]),
    # A time without quotes is a number in YAML 1.1.
    ({**NIGHT, "start": 1320}, [("certflow_window.start is not a time: 1320.", '"22:00"')]),
    *(
        ({**NIGHT, "end": time}, [("certflow_window.end is not a time",)])
        for time in (4, "25:00", "04:60", "4.00", True, ["x"])
    ),
    (window("24:00", "02:00"), [("certflow_window.start is the end of a day",)]),
    (window("04:00", "04:00"), [("the same start and end",)]),
    ({**NIGHT, "days": ["Fr"]}, [("certflow_window.days", "'Fr'", "Mon-Fri")]),
    ({**NIGHT, "days": "Mon,Fryday"}, [("certflow_window.days", "'Fryday'", "Mon-Fri")]),
    ({**NIGHT, "days": "Mon-Tue-Wed"}, [("certflow_window.days",)]),
    ({**NIGHT, "days": [5]}, [("certflow_window.days", "5")]),
    ({**NIGHT, "days": True}, [("certflow_window.days", "a boolean")]),
    ({**NIGHT, "timezone": "Europe/Berln"}, [("certflow_window.timezone", "Europe/Berlin")]),
    *(
        ({**NIGHT, "timezone": zone}, [("certflow_window.timezone is not a time zone",)])
        for zone in (
            "Europe",
            "../../etc/passwd",
            "/etc/localtime",
            "Middle/Earth",
            7,
            "Europe/\x00",
            "\ud800",
        )
    ),
    ({"start": 1, "end": 2, "days": 3, "timezone": "x"}, [("days",), ("start",), ("end",), ("timezone",)]),
)


@pytest.mark.parametrize(("value", "expected"), REFUSED)
def test_windows_with_problems(value: Any, expected: Sequence[Sequence[str]]) -> None:
    found = windows.find_problems(value)
    assert len(found) == len(expected), found
    for line, parts in zip(found, expected):
        assert all(part in line for part in parts), line
        assert line.isprintable()


@pytest.mark.parametrize(
    ("days", "numbers"),
    [
        *(("", range(7)), ("Mon", [0]), ("SUNDAY", [6]), (["tue", " Thursday "], [1, 3])),
        *(
            ("Mon-Fri", range(5)),
            ("Fri-Mon", [4, 5, 6, 0]),
            ("Sat - Sun,Wed", [2, 5, 6]),
            (["Mon-Tue", "Tue"], [0, 1]),
        ),
    ],
)
def test_the_days_of_a_window(days: Any, numbers: Any) -> None:
    [parsed] = windows.parse(window("01:00", "02:00", days))
    assert parsed.days == frozenset(numbers)


def test_a_window_in_json() -> None:
    """A variable of the command line or of a survey is a text."""
    assert windows.parse(json.dumps([NIGHT])) == windows.parse(NIGHT)
    assert windows.find_problems(json.dumps(NIGHT)) == []


def test_a_missing_zone_database_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """UTC needs no zone database."""

    def missing(name: str) -> Any:
        raise zoneinfo.ZoneInfoNotFoundError(name)

    monkeypatch.setattr(zoneinfo, "ZoneInfo", missing)
    [line] = windows.find_problems({**NIGHT, "timezone": BERLIN})
    assert "tzdata" in line
    assert BERLIN in line
    assert windows.find_problems({**NIGHT, "timezone": "utc"}) == []
    assert windows.find_problems(NIGHT) == []


@pytest.mark.parametrize(
    ("breaks_at", "severity"),
    [
        (None, "info"),
        ("2026-12-04T21:59:59Z", "error"),
        ("2026-12-04T22:00:00Z", "info"),
        ("2020-01-01T00:00:00Z", "error"),
    ],
)
def test_a_certificate_that_breaks_before_the_opening_is_an_error(
    breaks_at: str | None, severity: str
) -> None:
    outcome = windows.waiting_outcome(at("2026-12-04T22:00:00Z"), at(breaks_at) if breaks_at else None)
    assert (outcome["status"], outcome["code"], outcome["severity"]) == ("waiting", "window-closed", severity)
    assert outcome["opens_at"] == "2026-12-04T22:00:00Z"
    assert "2026-12-04T22:00:00Z" in outcome["reason"]
    assert ("a certificate breaks before" in outcome["reason"]) is (severity == "error")


def test_a_cluster_that_cannot_be_read_waits_too() -> None:
    outcome = windows.waiting_outcome(at("2026-12-04T22:00:00Z"), problem="the API server\n did not answer")
    assert (outcome["status"], outcome["severity"]) == ("waiting", "info")
    assert "the API server did not answer" in outcome["reason"]
