# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The writes of a plan. A run that is interrupted at any step is completed with the plan that was made before the run."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any, cast

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.approved_plan import (
    PlanGuard,
    digest,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.actions.action import Step
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.actions.object_actions import (
    WaitAvailable,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.actions.webhook_actions import (
    IssueCertificate,
    ReconnectWebhooks,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.installed.state import (
    InstalledState,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.kinds import VALIDATION
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.plan.planner import Hop
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade import actions, plan_writes
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade.preflight import (
    Preflight,
    TriedStep,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade.steps.apply_manifests import (
    ActionContext,
)

from tests.unit.plugins.module_utils._snapshot.model import ModelCluster
from tests.unit.plugins.module_utils._snapshot.world import changed, ours, planned

from .test_interrupted_runs import JUMPS, cluster, steps

SIGNER = "kubernetes.io/kubelet-serving"
Jump = pytest.mark.parametrize(
    ("start", "target", "given"), [row[1:] for row in JUMPS], ids=[row[0] for row in JUMPS]
)


@pytest.fixture(autouse=True)
def _no_manifests(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parameters decide about the manifests of a release."""
    monkeypatch.setattr(actions, "rendered", lambda _context, _parameters: [])


def is_due(here: ModelCluster, step: Step) -> bool:
    """Return True if the step would change the model, or cannot be tried yet. The model has no line breaks of caBundles."""
    if isinstance(step.action, ReconnectWebhooks):
        return True
    trial = deepcopy(here)
    try:
        trial.do(step)
    except (AssertionError, LookupError, AttributeError, TypeError, ValueError):
        return True
    return trial != here


def hops(here: ModelCluster, target: str, **given: Any) -> Sequence[Hop]:
    return planned(here.installed, target, **given).hops


def allow(guard: PlanGuard, here: ModelCluster, way: Sequence[Hop]) -> None:
    """Do what a run does after its dry runs."""
    due = [step for hop in way for step in hop.steps if is_due(here, step)]
    tried = tuple(
        TriedStep(step, note="due") for step in due if not isinstance(step.action, IssueCertificate)
    )
    certificates = tuple(step.id for step in due if isinstance(step.action, IssueCertificate))
    found = Preflight(tried, certificates, signer=SIGNER)
    guard.allow(plan_writes.of_hops(cast("ActionContext", None), way, found))


def approve(here: ModelCluster, target: str, **given: Any) -> PlanGuard:
    """Return the guard of a run with the plan of the cluster as it is now."""
    plan = PlanGuard(fixed=["c:"])
    allow(plan, here, hops(here, target, **given))
    return PlanGuard(plan.as_result()["plan_digests"], ["c:"])


@Jump
def test_a_run_is_within_its_own_plan(start: InstalledState, target: str, given: dict[str, Any]) -> None:
    """Each hop is planned from the state that the hop before it left."""
    here = cluster(start)
    guard = approve(here, target, **given)
    assert guard.approved and len(guard.approved) > 1
    way = hops(here, target, **given)
    while way:
        allow(guard, here, way[:1])
        for step in way[0].steps:
            here.do(step)
        way = hops(here, target, **given) if len(way) > 1 else []


def test_line_breaks_while_old_pods_end_are_writes() -> None:
    """Another Deployment of the webhook needs no new certificate, and its pods wait before they end."""
    here = cluster(changed(ours("7.0.2", failure_policy="Fail"), VALIDATION, version=(7, 0, 1)))
    given = {"failure_policy": "Fail"}
    actions_of_hops = [step.action for hop in hops(here, "7.0.2", **given) for step in hop.steps]
    waits = [action for action in actions_of_hops if isinstance(action, WaitAvailable) and action.reconnect]
    assert waits
    listed = {entry.rpartition(":")[2] for entry in approve(here, "7.0.2", **given).approved or ()}
    assert listed >= {digest(content) for action in waits for content in action.writes()}


@Jump
def test_a_run_that_was_interrupted_is_completed_with_its_plan(
    start: InstalledState, target: str, given: dict[str, Any]
) -> None:
    count = len(list(steps(cluster(start), target, **given)))
    guard = approve(cluster(start), target, **given)
    for end in range(1, count):
        here = cluster(start)
        for number, _step in enumerate(steps(here, target, **given), 1):
            if number == end:
                break
        allow(guard, here, hops(here, target, **given))
