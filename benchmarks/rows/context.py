# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What all rows share: the results, the sizes of a run, and a way to go on after a peer that fails."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.lab import Lab
from benchmarks.samples import Case, Results
from tests.support import clusters
from tests.support.clusters import Cluster

Say = Callable[[str], None]
ONPREM = {"onprem-1": "onprem", "onprem-2": "onprem"}


@dataclass
class Bench:
    """One run of the benchmark."""

    results: Results = field(default_factory=Results)
    #: True to measure 1000 hosts too.
    large: bool = False
    #: The largest number of hosts, for a trial of the benchmark itself.
    most_hosts: int = 1000
    #: Number of rounds at most. Each row has its own number.
    most_rounds: int = 3
    say: Say = print
    #: Rows and peers that failed. They are not tried again.
    failed: set[tuple[str, str]] = field(default_factory=set)

    def hosts(self, count: int) -> int:
        """Return a number of hosts, at most that of this run."""
        return min(count, self.most_hosts)

    def sizes(self, *counts: int) -> list[int]:
        """Return numbers of hosts, each at most that of this run."""
        return sorted({self.hosts(count) for count in counts})

    def rounds(self, count: int) -> range:
        return range(min(count, self.most_rounds))

    def add(self, case: Case, measures: Mapping[str, float]) -> None:
        """Record the values of one round, and print them."""
        self.results.add(case, measures)
        shown = ", ".join(f"{name} {value:.2f}" for name, value in measures.items() if name in _SHOWN)
        self.say(f"{case.row}: {case.peer}, {case.hosts} hosts, {case.forks} forks, {case.phase}: {shown}")

    @contextlib.contextmanager
    def attempt(self, row: str, peer: str) -> Iterator[None]:
        """Run a block. If it fails, record the reason, and go on after the block."""
        try:
            yield
        except Exception as error:  # a peer may fail in any way, and the others are measured
            self.failed.add((row, peer))
            self.results.miss(row, peer, str(error) or type(error).__name__)
            self.say(f"{row}: {peer} was not measured: {self.results.missing[-1].reason}")

    def has_failed(self, row: str, peer: str) -> bool:
        return (row, peer) in self.failed


_SHOWN = ("wall", "cpu", "requests", "pss_fork", "bytes", "lines", "events", "failed_calls", "calls", "ms")


def in_turn(keys: Sequence[str], number: int) -> Sequence[str]:
    """Return the order of peers in a round. Every second round is reversed, so that a trend of the machine meets all."""
    return keys if number % 2 == 0 else keys[::-1]


@contextlib.contextmanager
def lab(wanted: Mapping[str, str] = ONPREM) -> Iterator[Lab]:
    """Yield new clusters for one row. They are removed at its end."""
    with clusters.running(wanted) as fleet, on(fleet) as made:
        yield made


@contextlib.contextmanager
def on(fleet: Mapping[str, Cluster]) -> Iterator[Lab]:
    """Yield a lab on clusters that run already."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        yield Lab(fleet, Path(directory))
