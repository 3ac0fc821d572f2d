# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keep what was seen in each month, and write the tables of the page."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools.docs import rst, written

if TYPE_CHECKING:
    from collections.abc import Iterable

PAGE = written.Page(rst.GUIDES / "reference_reliability.rst", "make evidence")
_FILE = "months.json"
_HEAD = ("Seed", "Months", "Events", "Runs", "Calls", "Kills survived", "Recall", "Precision", "Violations")


@dataclass
class Month:
    """What was seen in a month."""

    date: str
    #: "KIND OBJECT" of each event.
    events: list[str] = field(default_factory=list)
    #: "OBJECT: KINDS" of each failure at the end of the month before: the events that caused it.
    failures: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    runs: int = 0
    #: The calls beside the runs.
    calls: int = 0
    kills: int = 0
    #: True for each failure that the last audit had named, and for each time at which it was right.
    recall: list[bool] = field(default_factory=list)
    precision: list[bool] = field(default_factory=list)
    seconds: float = 0

    def __str__(self) -> str:
        texts = [*self.events, *(f"fails {name}" for name in self.failures)]
        texts += [f"VIOLATION {text}" for text in self.violations]
        return f"{self.date}  {', '.join(texts) or '-'}"


def read(directory: Path) -> list[Month]:
    """Return what a directory has of an earlier run."""
    path = directory / _FILE
    return [Month(**fields) for fields in json.loads(path.read_text())] if path.exists() else []


def write(directory: Path, months: Iterable[Month]) -> None:
    (directory / _FILE).write_text(json.dumps([asdict(month) for month in months], indent=1))


def cells(months: list[Month]) -> list[str]:
    """Return the row of a run in the table of all runs."""
    counts = [len(months), len(_all(months, "events"))]
    counts += [sum(getattr(month, name) for month in months) for name in ("runs", "calls", "kills")]
    lists = [_all(months, name) for name in ("recall", "precision")]
    shares = [f"{sum(rights)} of {len(rights)}" for rights in lists]
    return [*map(str, counts), *shares, str(len(_all(months, "violations")))]


def _all(months: list[Month], name: str) -> list[Any]:
    return [entry for month in months for entry in getattr(month, name)]


def _causes(months: list[Month]) -> Counter[str]:
    return Counter(text.partition(": ")[2] for text in _all(months, "failures"))


def _kinds(months: list[Month]) -> Counter[str]:
    return Counter(text.partition(" ")[0] for text in _all(months, "events"))


def text(months: list[Month]) -> str:
    """Return the page of one run: figures, events, failures by their causes, and a time line."""
    parts = {"Events": _kinds(months), "Failures by cause": _causes(months)}
    lines = [f"{name:26}{cell}" for name, cell in zip(_HEAD[1:], cells(months), strict=True)]
    for title, counts in parts.items():
        lines += ["", title, *(f"  {name:40}{count}" for name, count in counts.most_common())]
    return "\n".join([*lines, "", "Time line", *map(str, months)])


def write_page(directory: Path) -> None:
    """Write the tables of the page from the runs in a directory, which has a folder for each seed."""
    runs = {path.parent.name: read(path.parent) for path in directory.glob(f"*/{_FILE}")}
    seeds = [[seed, *cells(months)] for seed, months in sorted(runs.items())]
    months = [month for run in runs.values() for month in run]
    kinds, causes = _kinds(months), _causes(months)
    fails = {kind: sum(causes[cause] for cause in causes if kind in cause.split(" + ")) for kind in kinds}
    rows = [[kind, str(count), str(fails[kind])] for kind, count in sorted(kinds.items())]
    with PAGE.alone():
        PAGE.write("years", rst.table(_HEAD, seeds))
        PAGE.write("years-events", rst.table(("Event", "Times", "Failures at the end of a month"), rows))
