# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run rows: make all of them, ask the API server about each, audit once, and compare."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.system.audit.matrix.lab import Lab
from tests.system.audit.matrix.row import ACCEPTED, SILENT, Made, Row, Shape

if TYPE_CHECKING:
    from tests.system.audit.matrix.lab import ControlPlane

HOUR = datetime.timedelta(hours=1)


@dataclass(frozen=True)
class Outcome:
    """What the API server did with a row, and what the audit said."""

    row: Row
    answer: str
    #: The findings above info, as the page shows them.
    says: str
    #: True if a finding says that calls fail now.
    is_error_now: bool
    #: The days until the first failure that the audit announces, None without one.
    breaks_in: float | None
    findings: tuple[dict[str, Any], ...] = ()

    @property
    def wrong(self) -> str:
        """Return how the outcome differs from the row, "" if it does not."""
        if self.row.answer not in self.answer:
            return f"the API server: {self.answer}, and not: {self.row.answer}"
        return "" if self.says == self.row.says else f"the audit: {self.says}, and not: {self.row.says}"


def run(plane: ControlPlane, rows: Sequence[Row], days: float = 0) -> list[Outcome]:
    """Return the outcome of each row, as if these days had passed."""
    lab = Lab(plane, days)
    try:
        made = [_make(lab, row) for row in rows]
        lab.settle()
        answers = [objects.ask() for objects in made]
        result = lab.audit()
    finally:
        lab.close()
    now = datetime.datetime.now(datetime.timezone.utc)
    return [
        _outcome(row, answer, result["findings"], objects.names, now)
        for row, answer, objects in zip(rows, answers, made, strict=True)
    ]


def _make(lab: Lab, row: Row) -> Made:
    return lab.admission(row.id, row.what) if isinstance(row.what, Shape) else row.what(lab, row.id)


def _outcome(
    row: Row, answer: str, findings: Iterable[dict[str, Any]], names: Sequence[str], now: datetime.datetime
) -> Outcome:
    own = [entry for entry in findings if _is_about(entry, names) and entry["severity"] != "info"]
    times = [_days(entry, now) for entry in own]
    known = [days for days in times if days is not None]
    lines = sorted({_in_words(entry, days) for entry, days in zip(own, times, strict=True)})
    is_error_now = any(
        entry["severity"] == "error" and days is not None and days <= 0
        for entry, days in zip(own, times, strict=True)
    )
    return Outcome(
        row, answer, "; ".join(lines) or SILENT, is_error_now, min(known, default=None), tuple(own)
    )


def _is_about(finding: dict[str, Any], names: Sequence[str]) -> bool:
    if finding["status"] == "unknown":
        return any(
            name in text for name in names for text in (*finding["objects"], finding["object"]["name"])
        )
    return finding["status"] == "fail" and finding["object"]["name"] in names


def _days(finding: dict[str, Any], now: datetime.datetime) -> float | None:
    if not finding["breaks_at"]:
        return None
    delta = datetime.datetime.fromisoformat(finding["breaks_at"].replace("Z", "+00:00")) - now
    return 0 if abs(delta) < HOUR else round(delta / (24 * HOUR), 1)


def _in_words(finding: dict[str, Any], days: float | None) -> str:
    if finding["status"] == "unknown":
        return f"unknown: {finding['source']}"
    when = (
        ""
        if days is None
        else ", now"
        if days == 0
        else f", in {days:g} days"
        if days > 0
        else f", {-days:g} days ago"
    )
    return f"{finding['check']}: {finding['severity']}, {finding['certainty']}{when}"


def find_contradictions(outcomes: Iterable[Outcome]) -> list[str]:
    """Return the rows whose audit says that calls fail, or do not fail, and whose API server says otherwise.

    Unknown is neither, but only for a row that the table declares as unknown.
    """
    return [
        f"{outcome.row.name}: {outcome.answer} / {outcome.says}"
        for outcome in outcomes
        if outcome.is_error_now is (outcome.answer == ACCEPTED) and "unknown" not in outcome.row.says
    ]


def find_wrong_times(now: Iterable[Outcome], later: Iterable[Outcome], days: float) -> list[str]:
    """Return the rows that work now, and failed before the time that the audit announced, or did not fail after it."""
    announced = {outcome.row.name: outcome.breaks_in for outcome in now if outcome.answer == ACCEPTED}
    return [
        f"after {days} days: {name}: {outcome.answer}, announced: {announced[name]}"
        for outcome in later
        for name in [outcome.row.name]
        if name in announced and is_due(announced[name], days) is (outcome.answer == ACCEPTED)
    ]


def is_due(breaks_in: float | None, days: float) -> bool:
    return breaks_in is not None and breaks_in <= days
