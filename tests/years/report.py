# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The page at the end: what was seen, and how to read it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from tests.years.invariants import Violation

if TYPE_CHECKING:
    from pathlib import Path

_FILE = "tally.json"


@dataclass
class Share:
    """How many of some cases were right."""

    right: int = 0
    all: int = 0

    def add(self, is_right: bool) -> None:
        self.right += is_right
        self.all += 1

    def __str__(self) -> str:
        return f"{self.right} of {self.all}"


@dataclass
class Tally:
    """What was seen until now."""

    rounds: int = 0
    runs: int = 0
    calls: int = 0
    kills: int = 0
    #: Failures that an audit said it could not see.
    unseen: int = 0
    events: Counter[str] = field(default_factory=Counter)
    #: Causes -> the calls that failed at the end of a month.
    failures: Counter[str] = field(default_factory=Counter)
    recall: Share = field(default_factory=Share)
    precision: Share = field(default_factory=Share)
    violations: list[Violation] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    @classmethod
    def read(cls, directory: Path) -> Tally:
        """Return what a directory has of an earlier run."""
        path = directory / _FILE
        if not path.exists():
            return cls()
        fields = json.loads(path.read_text())
        counters = {name: Counter(fields[name]) for name in ("events", "failures")}
        shares = {name: Share(**fields[name]) for name in ("recall", "precision")}
        violations = [Violation(**entry) for entry in fields["violations"]]
        return cls(**{**fields, **counters, **shares, "violations": violations})

    def write(self, directory: Path) -> None:
        (directory / _FILE).write_text(json.dumps(vars(self), default=asdict))

    def line(self) -> str:
        """Return the state after a round in one line."""
        return (
            f"round {self.rounds}: {self.seconds[-1]:.0f} s, {sum(self.events.values())} events, {self.runs} runs, {self.calls} calls, "
            f"recall {self.recall}, precision {self.precision}, {len(self.violations)} violations"
        )

    def page(self) -> str:
        """Return the page."""
        rows = [
            ("Rounds", self.rounds),
            ("Seconds of a round", round(sum(self.seconds) / max(len(self.seconds), 1))),
            ("Runs", self.runs),
            ("Calls beside the runs", self.calls),
            ("Kills survived", self.kills),
            ("Recall", self.recall),
            ("Precision", self.precision),
            ("Violations", len(self.violations)),
        ]
        lines = [f"{name:40}{value}" for name, value in rows]
        for title, counts in (("Events", self.events), ("Failures at the end of a month", self.failures)):
            lines += ["", title, *(f"  {name:38}{count}" for name, count in counts.most_common())]
        lines += ["", *(f"VIOLATION {violation}" for violation in self.violations)]
        return "\n".join(lines)
