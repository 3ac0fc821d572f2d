# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What findings of an audit say about programs."""

from __future__ import annotations

import datetime
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.audit.reports import finding
from tests.support.world.forecasts import breaks, is_named

NOW = datetime.datetime(2026, 11, 26, 12, tzinfo=datetime.timezone.utc)
SOON, PAST = "2026-12-01T00:00:00+00:00", "2026-11-25T00:00:00+00:00"
PROGRAM: Any = SimpleNamespace(name="policy", full_name="policy-world")


def about(check: str = "expiring", **values: Any) -> dict[str, Any]:
    return finding(check, name="policy-world", **values)


@pytest.mark.parametrize(
    ("findings", "named"),
    [
        (None, None),
        ([], False),
        ([about(breaks_at=PAST)], True),
        ([about(breaks_at=None)], True),
        ([about(breaks_at=SOON)], False),
        ([about(severity="info")], False),
        ([about(status="unknown"), about(breaks_at=PAST)], None),
        ([about("request-stuck", breaks_at=PAST)], False),
        ([finding(name="another", objects=["policy-world"])], True),
    ],
)
def test_a_program_that_fails_now_is_named(findings: list[dict[str, Any]] | None, named: bool | None) -> None:
    assert is_named(PROGRAM, findings, NOW) is named


def test_a_program_breaks_at_the_first_time() -> None:
    findings = [about(breaks_at=SOON), about(breaks_at=PAST), about(severity="error", breaks_at=None)]
    assert breaks([PROGRAM], findings[:1], NOW) == {"policy": datetime.datetime.fromisoformat(SOON)}
    assert breaks([PROGRAM], findings, NOW) == {"policy": datetime.datetime.fromisoformat(PAST)}
    assert breaks([PROGRAM], findings[2:], NOW) == {"policy": NOW}
    assert breaks([PROGRAM], [about(severity="warning", breaks_at=None)], NOW) == {}
