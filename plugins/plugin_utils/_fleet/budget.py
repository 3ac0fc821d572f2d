# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The failure budget of a fleet run: how many clusters may fail until no further cluster starts. Pure.

Failed, refused and unreachable clusters count (report_schema.COUNTED). A cluster whose process ended without an outcome counts too.

A canary shows whether the change works. So a canary that did not succeed ends the run, whatever the budget is. A canary that is
unreachable, or that is refused because of its owners, has shown nothing. It counts for the budget only, and the next cluster takes
its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ...module_utils._base.text import some
from .._report import report_schema
from .._variables.values import is_blank, shown
from . import outcomes, stages
from .run_state import UNTOUCHED, ClusterState, RunState

NAME = "certflow_max_failures"


@dataclass(frozen=True)
class Budget:
    """The failures that a run tolerates."""

    #: Number of clusters that may fail in the whole run.
    limit: int = 0
    #: stages.FIRST, stages.NAMED, or "" for a run without a canary, such as one that writes nothing.
    canary: str = stages.FIRST


def find_problems(value: Any) -> Iterator[str]:
    """Yield what is wrong with certflow_max_failures as one line."""
    if not is_blank(value) and (isinstance(value, float) or not stages.is_amount(value)):
        yield f"{NAME} is not a number of clusters or a percentage: {shown(value)}."


def make_budget(value: Any, clusters: int, canary: str = stages.FIRST) -> Budget:
    """Return the budget of a valid certflow_max_failures. A percentage is of all clusters of the run, rounded down."""
    return Budget(stages.amount("0" if is_blank(value) else str(value).strip(), clusters), canary)


def find_refusal(
    state: RunState, budget: Budget, stage: str = "", is_alive: Callable[[int], bool] = lambda _pid: True
) -> str:
    """Return why a cluster of a stage may not start, "" if it may.

    Canaries are the clusters of the stage canary and the first cluster that answers. If the user's own canary waits for its window,
    no cluster of another stage starts. If the first cluster of the inventory waits, the next one takes its place.

    is_alive: tells whether a process that works on a cluster exists.
    """
    lost = [host for host in state.unfinished if not is_alive(state.clusters[host].pid)]
    failed = [*state.failed, *lost]
    answers = [host for host, cluster in state.clusters.items() if host in lost or _answers(cluster)]
    canaries = [host for host, cluster in state.clusters.items() if stages.is_canary(cluster.stage)]
    wrong = [host for host in failed if host in answers[:1] or (host in answers and host in canaries)]
    if budget.canary and wrong:
        return f"{some(wrong)} did not succeed as the canary, and no failure of a canary is tolerated"
    waiting = [
        host
        for host in canaries
        # A phase that is not due on a canary stops no other cluster.
        if state.clusters[host].status == report_schema.WAITING
        and state.clusters[host].outcome.get("opens_at")
    ]
    if budget.canary == stages.NAMED and waiting and not stages.is_canary(stage):
        return f"{some(waiting)} of the stage {stages.CANARY} {'waits' if len(waiting) == 1 else 'wait'} for a window"
    if len(failed) > budget.limit:
        more = "" if budget.canary else f". To check every cluster, set {NAME} to 100%"
        return f"{some(failed)} did not succeed, and {NAME} is {budget.limit}{more}"
    if needs_answer(state, budget, stage) and state.unfinished:
        return f"{some(state.unfinished)} is the canary and has not ended"
    return ""


def needs_answer(state: RunState, budget: Budget, stage: str) -> bool:
    """Return True if the next cluster of a stage is the canary, so that it works alone until it has ended."""
    is_answered = any(map(_answers, state.clusters.values()))
    return bool(budget.canary) and not is_answered and not stages.is_canary(stage)


def _answers(cluster: ClusterState) -> bool:
    is_refused = cluster.status == report_schema.REFUSED and cluster.code in outcomes.OF_ITS_OWNERS
    is_untouched = bool(cluster.outcome.get(UNTOUCHED))
    return not is_refused and not is_untouched and cluster.status not in outcomes.UNANSWERED
