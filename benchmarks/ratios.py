# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The ratios that `make bench-quick` compares with those of the last results. A smaller ratio is better."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.rows.audit import ROTATION_PEERS
from benchmarks.samples import AGAIN, FIRST, Results

#: A ratio is worse if it grows by more than this factor.
WORSE = 1.25
ROW = "quick"


@dataclass(frozen=True)
class Ratio:
    """The cost of one peer's run for each host, compared with that of other runs."""

    peer: str
    phase: str
    #: Peers whose costs are added up, each with its phase.
    to: tuple[tuple[str, str], ...]
    measure: str = "wall"

    def __str__(self) -> str:
        other = " + ".join(f"{peer} {phase}" for peer, phase in self.to)
        return f"{self.peer} {self.phase} / {other}, {self.measure}"


_BEFORE, _ROTATING, _PREPARE = (ROTATION_PEERS[key].title for key in ("before", "audit", "prepare"))
_COMPARED: tuple[tuple[str, str, tuple[tuple[str, str], ...]], ...] = (
    ("in_process", FIRST, (("bare", FIRST), ("debug", FIRST))),
    ("in_process", AGAIN, (("debug", FIRST),)),
    ("role", FIRST, (("in_process", FIRST),)),
    ("role", AGAIN, (("in_process", AGAIN),)),
    ("playbook", FIRST, (("role", FIRST),)),
    ("playbook", AGAIN, (("role", AGAIN),)),
    ("in_process", FIRST, (("scripts_2", FIRST),)),
    ("in_process", FIRST, (("module", FIRST),)),
    ("in_process", AGAIN, (("module", AGAIN),)),
    ("bare", AGAIN, (("bare", FIRST),)),
    (_ROTATING, FIRST, ((_BEFORE, FIRST),)),
    (_PREPARE, FIRST, ((_ROTATING, FIRST),)),
)
RATIOS = tuple(Ratio(*entry, measure) for entry in _COMPARED for measure in ("wall", "cpu"))


def values(results: Results) -> dict[str, float]:
    """Return the ratios of the quick row that were measured, by name."""
    return dict(_values(results))


def _values(results: Results) -> Iterator[tuple[str, float]]:
    for ratio in RATIOS:
        own = _cost(results, ratio.peer, ratio.phase, ratio.measure)
        others = [_cost(results, peer, phase, ratio.measure) for peer, phase in ratio.to]
        known = [cost for cost in others if cost]
        if own is not None and len(known) == len(ratio.to):
            yield str(ratio), own / sum(known)


def _cost(results: Results, peer: str, phase: str, measure: str) -> float | None:
    """Return the seconds for each host, of the round in which other programs disturbed least."""
    for case in results.cases(ROW):
        if (case.peer, case.phase) == (peer, phase):
            value = results.least(case, measure)
            return None if value is None else value / case.hosts
    return None


def worse(old: Results, new: Results) -> list[str]:
    """Return a line for each ratio that is worse than before by more than a quarter."""
    before, now = values(old), values(new)
    return [
        f"{name}: {now[name]:.2f}, before {before[name]:.2f}"
        for name in now
        if name in before and now[name] > before[name] * WORSE
    ]


def compare(old: Results, new: Results) -> str:
    """Return the comparison as a text for a terminal."""
    now = values(new)
    if not values(old):
        rows = [f"  {name}: {value:.2f}" for name, value in now.items()]
        return "\n".join(["The results have no row quick to compare with. The ratios of this run:", *rows])
    lines = worse(old, new)
    if not lines:
        return f"None of {len(now)} ratios became worse by more than a quarter."
    return "\n".join(
        [f"{len(lines)} of {len(now)} ratios became worse by more than a quarter:", *map("  ".__add__, lines)]
    )
