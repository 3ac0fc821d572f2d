# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The measured values of a run, and the file that keeps them."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

#: The file that the documentation's page and `make bench-quick` read.
RESULTS = Path(__file__).with_name("results.json")
VERSION = 1
FIRST, AGAIN = "first", "again"
FORKS = 10


@dataclass(frozen=True, order=True)
class Case:
    """What was measured: one peer in one row, with one number of hosts."""

    row: str
    peer: str
    hosts: int = 1
    #: FIRST for the run that does the work, AGAIN for the run without change.
    phase: str = FIRST
    forks: int = FORKS


@dataclass(frozen=True)
class Missing:
    """A peer that was not measured."""

    row: str
    peer: str
    #: One line.
    reason: str


@dataclass
class Results:
    """The values of all cases, and the machine and versions of the run."""

    #: Row -> machine, versions and date of the run that measured it.
    about: dict[str, dict[str, str]] = field(default_factory=dict)
    #: Case -> measure -> the values of all rounds.
    samples: dict[Case, dict[str, list[float]]] = field(default_factory=dict)
    missing: list[Missing] = field(default_factory=list)

    def add(self, case: Case, measures: Mapping[str, float]) -> None:
        """Add the values of one round."""
        values = self.samples.setdefault(case, {})
        for name, value in measures.items():
            values.setdefault(name, []).append(round(value, 4))

    def miss(self, row: str, peer: str, reason: str) -> None:
        """Record that a peer was not measured."""
        line = " ".join(reason.split())[:300]
        self.missing.append(Missing(row, peer, line or "no reason was given"))

    def value(self, case: Case, measure: str) -> float | None:
        """Return the median of all rounds, None if the case was not measured."""
        values = self.samples.get(case, {}).get(measure)
        return statistics.median(values) if values else None

    def least(self, case: Case, measure: str) -> float | None:
        """Return the smallest value of all rounds, None if the case was not measured. Other programs only add to it."""
        return min(self.samples.get(case, {}).get(measure, ()), default=None)

    def cases(self, row: str) -> list[Case]:
        """Return the cases of a row, in the order in which they were added."""
        return [case for case in self.samples if case.row == row]

    def merged(self, newer: Results, rows: Iterable[str]) -> Results:
        """Return these results with the rows of a newer run in place of their old values."""
        replaced = set(rows)
        return Results(
            {**{row: about for row, about in self.about.items() if row not in replaced}, **newer.about},
            {**{case: v for case, v in self.samples.items() if case.row not in replaced}, **newer.samples},
            [entry for entry in self.missing if entry.row not in replaced] + newer.missing,
        )


def dump(results: Results) -> str:
    """Return the results as JSON, with one line for each row of `about`, sample and missing peer."""
    about = [f"{json.dumps(row)}: {_line(values)}" for row, values in results.about.items()]
    samples = [_line({**asdict(case), "measures": values}) for case, values in results.samples.items()]
    missing = [_line(asdict(entry)) for entry in results.missing]
    parts = (f'"version": {VERSION}', _block("about", "{}", about), _block("samples", "[]", samples))
    return "{\n" + ",\n".join((*parts, _block("missing", "[]", missing))) + "\n}\n"


def _line(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _block(name: str, ends: str, lines: Iterable[str]) -> str:
    return f'"{name}": {ends[0]}\n' + ",\n".join(lines) + f"\n{ends[1]}"


def parse(text: str) -> Results:
    """Return the results in a JSON text. Raises ValueError for another version of the format."""
    data: dict[str, Any] = json.loads(text)
    if data.get("version") != VERSION:
        raise ValueError(f"the results have version {data.get('version')}, but this program reads {VERSION}")
    samples = {
        Case(**{key: value for key, value in entry.items() if key != "measures"}): entry["measures"]
        for entry in data["samples"]
    }
    return Results(data["about"], samples, [Missing(**entry) for entry in data["missing"]])


def read(path: Path = RESULTS) -> Results:
    """Return the results of a file, or empty results if it does not exist."""
    return parse(path.read_text()) if path.exists() else Results()
