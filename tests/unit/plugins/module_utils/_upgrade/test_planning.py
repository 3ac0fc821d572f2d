# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A plan that is refused becomes an error with all of its evidence, and a message that stays short."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.context.hop_context import (
    UpgradeOptions,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.context.upgrade_context import (
    UpgradeContext,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.installed.state import (
    InstalledState,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.plan import planner
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.plan.planner import PlanRefusal
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.release import release_table
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade.planning import (
    MOST_EVIDENCE,
    NOTHING_WRITTEN,
    ClusterPlan,
)

from tests.unit.plugins.module_utils._snapshot.world import NOTHING, options, upstream

if TYPE_CHECKING:
    pass


def reading(
    installed: InstalledState, target: str = "8.7.0", given: UpgradeOptions | None = None
) -> ClusterPlan:
    release = release_table.get(target)
    wanted = given or options()
    return ClusterPlan(UpgradeContext(installed, release, wanted), planner.plan(installed, release, wanted))


def refused(*rows: PlanRefusal) -> ClusterPlan:
    state = reading(NOTHING)
    return replace(state, plan=replace(state.plan, refused=rows))


def row(name: str, evidence: int, remedy: str = "Do it.") -> PlanRefusal:
    return PlanRefusal(
        name, f"Because of {name}.", tuple(f"{name}-{number}" for number in range(evidence)), remedy
    )


def test_a_plan_that_may_be_carried_out() -> None:
    assert reading(upstream("7.0.2")).refusal() is None


def test_a_manager_refuses_the_plan_that_is_shown() -> None:
    """The error carries the whole reading, with the hops and steps of the refused plan."""
    state = reading(upstream("7.0.2"), given=UpgradeOptions())
    error = state.refusal()
    assert error is not None
    assert error.code == "upgrade-refused"
    assert error.remedy
    assert error.values == state.as_result()
    assert [found["id"] for found in error.values["refused"]] == ["owner-kubectl"]
    assert error.values["hops"] and error.values["plan"]
    assert error.values["installed"]["version"] == "7.0.2"
    assert {found["manager"] for found in error.values["managers"]} == {"kubectl"}


@pytest.mark.parametrize("count", [1, MOST_EVIDENCE, MOST_EVIDENCE + 1, 500])
def test_the_message_has_the_first_evidence_and_the_error_has_all(count: int) -> None:
    error = refused(row("a", count)).refusal()
    assert error is not None
    assert list(error.evidence) == [f"a-{number}" for number in range(count)]
    more = count - MOST_EVIDENCE
    shown = [f"a-{number}" for number in range(min(count, MOST_EVIDENCE))]
    shown += [f"and {more} more"] if more > 0 else []
    assert f"({'; '.join(shown)})" in error.cause
    assert len(str(error)) < 200


def test_every_reason_is_in_the_message() -> None:
    error = refused(row("a", 1, "First."), row("b", 1, "Second.")).refusal()
    assert error is not None
    assert error.cause.index("a-0") < error.cause.index("b-0")
    assert error.remedy == "First. Second."
    assert "\n" not in str(error)


def test_the_lead_tells_how_far_the_run_came() -> None:
    entry = refused(row("a", 1))
    first, later = entry.refusal(), entry.refusal("later")
    assert first and later
    assert first.cause.startswith(f"{NOTHING_WRITTEN}: ")
    assert later.cause.startswith("later: ")
