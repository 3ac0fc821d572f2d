# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The failure budget of a fleet run."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet import budget as budgets
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet import outcomes
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet.budget import Budget
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet.run_state import (
    ClusterState,
    RunState,
)

pytestmark = pytest.mark.quick


@pytest.mark.parametrize(
    ("value", "clusters", "limit"),
    [
        *((None, 9, 0), ("", 9, 0), (0, 9, 0), ("0", 9, 0), (3, 9, 3), (" 3 ", 9, 3), (1000, 9, 1000)),
        *(("0%", 9, 0), ("10%", 9, 0), ("10%", 19, 1), ("10%", 20, 2), ("100%", 9, 9), ("33%", 100, 33)),
    ],
)
def test_the_number_of_tolerated_failures(value: Any, clusters: int, limit: int) -> None:
    assert budgets.find_problem(value) == ""
    assert budgets.make_budget(value, clusters) == Budget(limit)


@pytest.mark.parametrize("value", ["-1", "101%", "x", "1.5", 1.5, 1.0, True, [1], {"a": 1}, "1 %", "\x1b"])
def test_a_value_that_is_not_a_budget(value: Any) -> None:
    line = budgets.find_problem(value)
    assert line.startswith("certflow_max_failures is not a number of clusters or a percentage: ")
    assert line.isprintable()


def state(**statuses: str) -> RunState:
    """Return the state of a run. The clusters c1, c2, ... are in the stage canary, all others in the stage fleet."""
    clusters = {
        host: ClusterState("canary" if host.startswith("c") else "fleet", status.replace("_", " "), pid=7)
        for host, status in statuses.items()
    }
    return RunState("r", total=9, clusters=clusters)


# The state, the number of tolerated failures, True if a cluster may start.
DECISIONS: tuple[tuple[RunState, int, bool], ...] = (
    (state(), 0, True),
    (state(c1="ok", f1="changed", f2="planned", f3="skipped"), 0, True),
    (state(f1="started"), 0, True),
    (state(f1="waiting", f2="not_started", f3="drift"), 0, True),
    *((state(f1=status), 0, False) for status in ("failed", "refused", "unreachable")),
    (state(f1="failed"), 1, True),
    (state(f1="failed", f2="unreachable"), 1, False),
    (state(f1="failed", f2="refused", f3="unreachable"), 3, True),
    # A canary tolerates nothing, whatever the budget is.
    (state(c1="failed"), 9, False),
    (state(c1="unreachable", c2="ok"), 9, False),
)


@pytest.mark.parametrize(("run", "limit", "may_start"), DECISIONS)
def test_a_further_cluster(run: RunState, limit: int, may_start: bool) -> None:
    assert (budgets.find_refusal(run, Budget(limit)) == "") is may_start


@pytest.mark.parametrize(
    ("run", "stage", "may_start"),
    [
        (state(c1="waiting"), "canary", True),
        (state(c1="waiting"), "fleet", False),
        (state(c1="ok", c2="waiting"), "fleet", False),
        (state(f1="waiting", c1="ok"), "fleet", True),
    ],
)
def test_a_canary_that_waits_has_shown_nothing(run: RunState, stage: str, may_start: bool) -> None:
    assert (budgets.find_refusal(run, Budget(5), stage) == "") is may_start
    assert budgets.find_refusal(run, Budget(5, has_canary=False), stage) == ""


def test_the_reason_names_the_clusters() -> None:
    assert budgets.find_refusal(state(f1="failed", f2="ok", f3="refused"), Budget(1)) == (
        "f1, f3 did not succeed, and certflow_max_failures is 1"
    )
    assert budgets.find_refusal(state(c1="failed"), Budget(5)).startswith(
        "c1 of the stage canary did not succeed"
    )


def test_a_run_that_writes_nothing_has_no_canary() -> None:
    assert budgets.make_budget(1, 9, reads_only=True) == Budget(1, has_canary=False)
    assert budgets.find_refusal(state(c1="failed"), Budget(1, has_canary=False)) == ""
    assert budgets.find_refusal(state(c1="failed"), Budget(0, has_canary=False)) != ""


def test_a_cluster_whose_process_ended_without_an_outcome_counts() -> None:
    run = state(f1="started")
    assert budgets.find_refusal(run, Budget(0), is_alive=lambda _pid: False) != ""
    assert budgets.find_refusal(run, Budget(1), is_alive=lambda _pid: False) == ""
    assert budgets.find_refusal(run, Budget(0), is_alive=lambda pid: pid == 7) == ""


def test_the_progress() -> None:
    run = state(c1="ok", f1="failed", f2="started", f3="waiting")
    assert budgets.progress(run, Budget(5)) == outcomes.Progress(done=3, total=9, failed=1, limit=5)
