# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Times of the API, and the API server's clock."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._base import times
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.times import ServerClock

NOON = datetime(2026, 9, 1, 12, 0, 0, tzinfo=timezone.utc)
DATE = "Tue, 01 Sep 2026 12:00:00 GMT"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-09-01T12:00:00Z", NOON),
        ("2026-09-01t12:00:00z", NOON),
        ("2026-09-01T12:00:00", NOON),
        ("2026-09-01T14:00:00+02:00", NOON),
        ("2026-09-01T12:00:00.5Z", NOON.replace(microsecond=500_000)),
        ("2026-09-01T12:00:00.000000Z", NOON),
        ("2026-09-01T12:00:00.123456789Z", NOON.replace(microsecond=123_456)),
    ],
)
def test_a_time_is_read(text: str, expected: datetime) -> None:
    assert times.parse_time(text) == expected
    assert times.find_time(text) == expected


@pytest.mark.parametrize(
    "value",
    [
        None,
        7,
        "",
        "yesterday",
        "2026-09-01",
        "2026-13-01T00:00:00Z",
        "0001-01-01T00:00:00+02:00",
        "\uff12" * 4,
    ],
)
def test_other_values_are_not_times(value: object) -> None:
    assert times.find_time(value) is None


def test_a_time_is_written() -> None:
    moment = NOON.replace(microsecond=5).astimezone(timezone(timedelta(hours=2)))
    assert times.format_time(moment) == "2026-09-01T12:00:00Z"
    assert times.format_micro_time(moment) == "2026-09-01T12:00:00.000005Z"
    # A report refuses a time that cannot be read again.
    first = datetime.min.replace(tzinfo=timezone.utc)
    assert times.find_time(times.format_time(first)) == first


def test_the_clock_follows_a_monotonic_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ServerClock()
    monkeypatch.setattr(times, "elapsed", lambda: 100.0)
    clock.set_once(DATE)
    monkeypatch.setattr(times, "elapsed", lambda: 107.5)
    assert clock.now() == NOON + timedelta(seconds=7.5)


def test_the_clock_counts_the_sleep_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """``time.monotonic`` stops while a machine is suspended."""
    clock, awake = ServerClock(), time.clock_gettime
    clock.set_once(DATE)
    monkeypatch.setattr(time, "clock_gettime", lambda number: awake(number) + 600)
    assert timedelta(minutes=10) <= clock.now() - NOON < timedelta(minutes=11)


def test_only_the_first_date_sets_the_clock() -> None:
    clock = ServerClock()
    clock.set_once(DATE)
    clock.set_once("Tue, 01 Sep 2020 12:00:00 GMT")
    assert clock.now() - NOON < timedelta(minutes=1)


@pytest.mark.parametrize("date", [None, "", "yesterday", "Tue, 01 Sep 2026 12:00:00 -0000"])
def test_a_header_without_a_time_does_not_set_the_clock(date: str | None) -> None:
    clock = ServerClock()
    clock.set_once(date)
    assert abs(clock.now() - datetime.now(timezone.utc)) < timedelta(minutes=1)


@pytest.mark.parametrize(
    ("ahead", "words"),
    [
        (timedelta(minutes=5), ""),
        (timedelta(minutes=-5), ""),
        (timedelta(minutes=12), "12 minutes ahead of"),
        (timedelta(hours=-2), "2 hours behind"),
    ],
)
def test_the_difference_of_two_clocks_in_words(ahead: timedelta, words: str) -> None:
    text = times.describe_difference(ahead)
    assert words in text
    assert bool(words) == bool(text)


def test_the_earlier_and_the_later_time() -> None:
    clock = ServerClock()
    clock.set_once("Tue, 01 Sep 2020 12:00:00 GMT")
    assert clock.earlier() - clock.now() < timedelta(minutes=1)
    assert abs(clock.later() - datetime.now(timezone.utc)) < timedelta(minutes=1)
    assert clock.ahead < timedelta(days=-365)
