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
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.actions.action import Step
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.actions.webhook_actions import (
    IssueCertificate,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.installed.state import (
    InstalledState,
)
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
from tests.unit.plugins.module_utils._snapshot.world import planned

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
    """Return True if the step would change the model, or cannot be tried yet."""
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
