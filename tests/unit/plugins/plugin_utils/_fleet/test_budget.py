# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The failure budget of a fleet run."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet import budget as budgets
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet import stages
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
    assert [*budgets.find_problems(value)] == []
    assert budgets.make_budget(value, clusters) == Budget(limit)


@pytest.mark.parametrize("value", ["-1", "101%", "x", "1.5", 1.5, 1.0, True, [1], {"a": 1}, "1 %", "\x1b"])
def test_a_value_that_is_not_a_budget(value: Any) -> None:
    (line,) = budgets.find_problems(value)
    assert line.startswith("certflow_max_failures is not a number of clusters or a percentage: ")
    assert line.isprintable()


def state(**statuses: str) -> RunState:
    """Return the state of a run. The clusters c1, c2, ... are in the stage canary, all others in the stage fleet."""
    clusters = {
        host: ClusterState(
            "canary" if host.startswith("c") else "fleet",
            status.replace("_", " "),
            pid=7,
            outcome={"opens_at": "2026-12-05T22:00:00Z"} if status == "waiting" else {},
        )
        for host, status in statuses.items()
    }
    return RunState("r", total=9, clusters=clusters)


# The state, the number of tolerated failures, True if a cluster may start.
DECISIONS: tuple[tuple[RunState, int, bool], ...] = (
    (state(), 0, True),
    (state(c1="ok", f1="changed", f2="planned", f3="skipped"), 0, True),
    (state(c1="ok", f1="started"), 0, True),
    (state(f1="waiting", f2="not_started", f3="drift"), 0, True),
    *((state(c1="ok", f1=status), 0, False) for status in ("failed", "refused", "unreachable")),
    (state(c1="ok", f1="failed"), 1, True),
    (state(c1="ok", f1="failed", f2="unreachable"), 1, False),
    (state(c1="ok", f1="failed", f2="refused", f3="unreachable"), 3, True),
    # A canary tolerates nothing, whatever the budget is.
    *((state(c1=status), 9, False) for status in ("failed", "refused")),
    (state(c1="ok", c2="failed"), 9, False),
    # An unreachable canary has shown nothing, so it counts for the budget only.
    (state(c1="unreachable"), 1, True),
    (state(c1="unreachable"), 0, False),
    (state(c1="unreachable", c2="ok"), 1, True),
    (state(c1="unreachable", c2="failed"), 9, False),
    # The next cluster takes its place, in the same stage or in another one.
    (state(c1="unreachable", f1="ok"), 1, True),
    (state(c1="unreachable", f1="ok", f2="failed"), 2, True),
    (state(c1="unreachable", f1="ok", f2="failed"), 1, False),
    *((state(c1="unreachable", f1=status), 9, False) for status in ("failed", "refused")),
    (state(c1="unreachable", f1="unreachable"), 2, True),
    (state(c1="unreachable", f1="unreachable", f2="failed"), 9, False),
    (state(c1="unreachable", f1="unreachable", f2="changed", f3="failed"), 3, True),
    # A run without a cluster of the stage canary, such as a slice of a job.
    (state(f1="failed"), 9, False),
    (state(f1="unreachable", f2="failed"), 9, False),
    (state(f1="ok", f2="failed"), 9, True),
)


@pytest.mark.parametrize(("run", "limit", "may_start"), DECISIONS)
def test_a_further_cluster(run: RunState, limit: int, may_start: bool) -> None:
    assert (budgets.find_refusal(run, Budget(limit)) == "") is may_start


# The code of a refused canary, True if the next cluster takes its place.
REFUSALS = (
    *((code, True) for code in ("managed-bundle", "owned-by-another", "same-cluster", "wrong-cluster")),
    *((code, False) for code in ("preflight-failed", "upgrade-refused", "")),
)


@pytest.mark.parametrize(("code", "may_start"), REFUSALS)
def test_a_refusal_because_of_owners_shows_nothing(code: str, may_start: bool) -> None:
    for status, expected in (("refused", may_start), ("failed", False)):
        run = RunState("r", total=9, clusters={"c1": ClusterState("canary", status, code)})
        assert (budgets.find_refusal(run, Budget(9), "rest") == "") is expected


# The state, the canary of the run, the stage of the next cluster, True if it may start.
WINDOWS: tuple[tuple[RunState, str, str, bool], ...] = (
    (state(c1="waiting"), stages.NAMED, "canary", True),
    (state(c1="waiting"), stages.NAMED, "fleet", False),
    # A phase that is not due waits for no window.
    (RunState("r", total=9, clusters={"c1": ClusterState("canary", "waiting")}), stages.NAMED, "fleet", True),
    (state(c1="ok", c2="waiting"), stages.NAMED, "fleet", False),
    (state(c1="unreachable", c2="waiting"), stages.NAMED, "fleet", False),
    (state(c1="ok", f1="waiting"), stages.NAMED, "fleet", True),
    (state(c1="unreachable", f1="waiting"), stages.NAMED, "fleet", True),
    # The user did not choose the first cluster of the inventory.
    (state(c1="waiting"), stages.FIRST, "rest", True),
    (state(c1="waiting", f1="failed"), stages.FIRST, "rest", False),
    (state(c1="waiting"), "", "fleet", True),
)


@pytest.mark.parametrize(("run", "canary", "stage", "may_start"), WINDOWS)
def test_a_canary_that_waits_has_shown_nothing(
    run: RunState, canary: str, stage: str, may_start: bool
) -> None:
    assert (budgets.find_refusal(run, Budget(5, canary), stage) == "") is may_start


# The state, the canary of the run, the stage of the next cluster, True if that cluster works alone.
ALONE: tuple[tuple[RunState, str, str, bool], ...] = (
    (state(), stages.FIRST, "canary", False),
    (state(c1="started"), stages.NAMED, "canary", False),
    (state(), stages.NAMED, "fleet", True),
    *(
        (state(c1=status), stages.FIRST, "rest", True)
        for status in ("unreachable", "plan-differs", "waiting", "not_started")
    ),
    (state(c1="unreachable", f1="started"), stages.FIRST, "rest", True),
    (state(c1="unreachable", f1="unreachable", f2="waiting"), stages.FIRST, "rest", True),
    *((state(c1=status), stages.FIRST, "rest", False) for status in ("ok", "changed", "planned", "failed")),
    (state(c1="unreachable", f1="changed"), stages.NAMED, "fleet", False),
    (state(c1="unreachable"), "", "fleet", False),
)


@pytest.mark.parametrize(("run", "canary", "stage", "is_alone"), ALONE)
def test_a_cluster_that_takes_the_place_of_the_canary_works_alone(
    run: RunState, canary: str, stage: str, is_alone: bool
) -> None:
    assert budgets.needs_answer(run, Budget(5, canary), stage) is is_alone
    if is_alone and run.unfinished:
        assert budgets.find_refusal(run, Budget(5, canary), stage) == "f1 is the canary and has not ended"


def test_the_reason_names_the_clusters() -> None:
    assert budgets.find_refusal(state(c1="ok", f1="failed", f2="ok", f3="refused"), Budget(1)) == (
        "f1, f3 did not succeed, and certflow_max_failures is 1"
    )
    for run, host in ((state(c1="failed"), "c1"), (state(c1="unreachable", f1="failed"), "f1")):
        assert budgets.find_refusal(run, Budget(5)).startswith(f"{host} did not succeed as the canary")


def test_a_run_that_writes_nothing_has_no_canary() -> None:
    assert budgets.make_budget(1, 9, canary="") == Budget(1, canary="")
    assert budgets.find_refusal(state(c1="failed"), Budget(1, canary="")) == ""
    assert budgets.find_refusal(state(c1="failed"), Budget(0, canary="")) == (
        "c1 did not succeed, and certflow_max_failures is 0. To check every cluster, set certflow_max_failures to 100%"
    )


def test_a_cluster_whose_process_ended_without_an_outcome_counts() -> None:
    run = state(c1="ok", f1="started")
    assert budgets.find_refusal(run, Budget(0), is_alive=lambda _pid: False) != ""
    assert budgets.find_refusal(run, Budget(1), is_alive=lambda _pid: False) == ""
    assert budgets.find_refusal(run, Budget(0), is_alive=lambda pid: pid == 7) == ""
    canary = state(c1="unreachable", f1="started")
    assert budgets.find_refusal(canary, Budget(9), is_alive=lambda _pid: False).startswith(
        "f1 did not succeed"
    )
