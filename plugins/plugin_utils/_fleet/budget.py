# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The failure budget of a fleet run: how many clusters may fail until no further cluster starts. Pure.

Failed, refused and unreachable clusters count (outcomes.COUNTED). A cluster whose process ended without an outcome counts too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .._role_variables import is_blank
from . import outcomes, stages
from .durations import shown
from .run_state import ClusterState, RunState

NAME = "certflow_max_failures"


@dataclass(frozen=True)
class Budget:
    """The failures that a run tolerates."""

    #: Number of clusters that may fail in the whole run.
    limit: int = 0
    #: True if a failure in a stage named canary stops the run. A run that writes nothing has no canary.
    has_canary: bool = True


def find_problem(value: Any) -> str:
    """Return what is wrong with certflow_max_failures as one line, "" if it is right."""
    if is_blank(value) or (not isinstance(value, float) and stages.is_amount(value)):
        return ""
    return f"{NAME} is not a number of clusters or a percentage: {shown(value)}."


def make_budget(value: Any, clusters: int, reads_only: bool = False) -> Budget:
    """Return the budget of a valid certflow_max_failures. A percentage is of all clusters of the run, rounded down."""
    text = "0" if is_blank(value) else str(value).strip()
    return Budget(stages.amount(text, clusters), has_canary=not reads_only)


def find_refusal(
    state: RunState, budget: Budget, stage: str = "", is_alive: Callable[[int], bool] = lambda _pid: True
) -> str:
    """Return why a cluster of a stage may not start, "" if it may.

    A canary that waits for its window has shown nothing, so no cluster of another stage starts.

    is_alive: tells whether a process that works on a cluster exists.
    """
    lost = [host for host in state.unfinished if not is_alive(state.clusters[host].pid)]
    failed = [*state.failed, *lost]
    canaries = [host for host in failed if stages.is_canary(state.clusters[host].stage)]
    if budget.has_canary and canaries:
        return f"{stages.some(canaries)} of the stage {stages.CANARY} did not succeed, and that stage tolerates no failure"
    waiting = [host for host, cluster in state.clusters.items() if _is_waiting_canary(cluster)]
    if budget.has_canary and waiting and not stages.is_canary(stage):
        return f"{stages.some(waiting)} of the stage {stages.CANARY} {'waits' if len(waiting) == 1 else 'wait'} for a window"
    if len(failed) > budget.limit:
        return f"{stages.some(failed)} did not succeed, and {NAME} is {budget.limit}"
    return ""


def _is_waiting_canary(cluster: ClusterState) -> bool:
    return cluster.status == outcomes.WAITING and stages.is_canary(cluster.stage)


def progress(state: RunState, budget: Budget) -> outcomes.Progress:
    """Return how far a run is."""
    return outcomes.Progress(state.ended, state.total, len(state.failed), budget.limit)
