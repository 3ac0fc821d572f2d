# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Test the selection of an audit log's lines."""

from __future__ import annotations

import datetime
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.clusters import audit

if TYPE_CHECKING:
    from pathlib import Path


def event(second: int, user: str, stage: str = "ResponseComplete") -> dict[str, Any]:
    return {
        "stage": stage,
        "user": {"username": user},
        "requestReceivedTimestamp": f"2026-05-04T10:00:{second:02d}.500000Z",
    }


EVENTS = [event(1, "ada"), event(2, "bob", "ResponseStarted"), event(3, "bob"), event(4, "ada")]


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ({}, [0, 2, 3]),
        ({"user": "ada"}, [0, 3]),
        ({"since": 3}, [2, 3]),
        ({"since": 4, "user": "bob"}, []),
    ],
)
def test_requests(tmp_path: Path, question: dict[str, Any], expected: list[int]) -> None:
    log = tmp_path / "audit.log"
    log.write_text("".join(f"{json.dumps(line)}\n" for line in EVENTS) + '{"stage": "Respon')
    if "since" in question:
        second = question["since"]
        question = {
            **question,
            "since": datetime.datetime(2026, 5, 4, 10, 0, second, tzinfo=datetime.timezone.utc),
        }
    assert audit.requests(log, **question) == [EVENTS[index] for index in expected]
