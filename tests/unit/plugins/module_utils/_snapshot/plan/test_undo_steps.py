# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Undo a hop from every release that may be installed, after each of its steps, on the model of a cluster.

The plan of the undo has no manifests of the older release. No step breaks anything, and the state before the hop is back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.actions.action import DELETE, Step
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.installed.state import (
    InstalledState,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.kinds import (
    CONTROLLER,
    VALIDATION,
    Reference,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.plan import (
    planner,
    undo_steps,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.plan.planner import Hop, Plan
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.release.release_table import (
    RELEASES,
    Release,
    get,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade import undo

from tests.unit.plugins.module_utils._snapshot.hazards.test_hazards import ELSEWHERE as SECOND
from tests.unit.plugins.module_utils._snapshot.hazards.test_hazards import RENAMED
from tests.unit.plugins.module_utils._snapshot.model import ModelCluster
from tests.unit.plugins.module_utils._snapshot.world import (
    changed,
    found,
    ours,
    planned,
    upstream,
    with_workload,
)
from tests.unit.plugins.module_utils._upgrade.test_interrupted_runs import cluster, finished

MAY_BE_INSTALLED = [release for release in RELEASES if not release.never]
NEWEST = str(RELEASES[-1])
# What an undo restores. The CRDs and the permissions stay, and a new Secret may stay.
PARTS = ("workloads", "detached", "configurations", "services", "ports")
DATA_WOULD_BE_LOST = {"back-to-alpha", "back-without-lists"}


@dataclass
class FailedHop:
    """A hop that failed, and the model of the cluster as the hop left it."""

    here: ModelCluster
    hop: Hop
    left: dict[str, Any]
    originals: dict[Reference, Any]

    def plan(self) -> Plan:
        """Return the plan of the undo, before it is adapted."""
        given = undo.options_before(self.hop.context, self.hop.context.options, self.originals, self.left)
        release = get(self.hop.start)
        return planner.plan(self.here.installed, release, given)

    def steps(self) -> list[Step]:
        plan = self.plan()
        assert plan.refused == (), plan.refused
        (hop,) = plan.hops
        return undo_steps.adapt(hop.context, hop.steps)

    def carry_out(self) -> None:
        """Carry out the undo. No step may break anything."""
        for step in self.steps():
            assert step.action.action_name not in ("apply", "certificate", "migrate_storage"), step.id
            before = set(self.here.faults())
            self.here.do(step)
            assert not set(self.here.faults()) - before, (step.id, self.here.faults())


def failed_hop(start: InstalledState, target: str, number: int, **given: Any) -> FailedHop | None:
    """Return the first hop to the target that fails after this number of steps, None if it has fewer steps."""
    here = cluster(start)
    plan = planned(here.installed, target, **given)
    assert plan.refused == (), plan.refused
    hop = plan.hops[0]
    if number > len(hop.steps):
        return None
    here.before = (here.installed, dict(here.ports))
    present = set(planner.present(hop.context))
    lines = hop.lines
    originals: dict[Reference, Any] = {
        target: {} for line in lines for target in line.objects if target in present
    }
    left: dict[str, Any] = {target.path: obj for target, obj in originals.items()}
    done = [step.id for step in hop.steps[:number]]
    for step in hop.steps[:number]:
        here.do(step)
    for line in (line for line in lines if line.step in done):
        for target_ in line.objects:
            if target_.path in left:
                left[target_.path] = None if line.verb == DELETE else {"written": True}
    return FailedHop(here, hop, left, originals)


def failures(start: InstalledState, target: str, **given: Any) -> Iterator[FailedHop]:
    """Yield the hop as it fails after each of its steps."""
    number = 1
    while (failed := failed_hop(start, target, number, **given)) is not None:
        yield failed
        number += 1


def check_undone(failed: FailedHop) -> None:
    before = finished(replace(failed.here, installed=failed.here.before[0], ports=failed.here.before[1]))
    failed.carry_out()
    ended = finished(failed.here)
    assert {part: ended[part] for part in PARTS} == {part: before[part] for part in PARTS}
    assert set(before["secrets"]) <= set(ended["secrets"])
    strategies = [
        {name: crd.conversion.strategy for name, crd in state.crds.items()}
        for state in (failed.here.before[0], failed.here.installed)
    ]
    assert strategies[0].items() <= strategies[1].items()


STARTS: dict[str, Callable[[str], InstalledState]] = {
    "by kubectl": upstream,
    "by this collection": lambda release: ours(release, failure_policy="Fail"),
    "by kubectl, with group snapshots": lambda release: upstream(release, groups=True),
}


@pytest.mark.parametrize("kind", STARTS)
@pytest.mark.parametrize("release", MAY_BE_INSTALLED[:-1], ids=str)
def test_a_hop_is_undone_after_each_of_its_steps(release: Release, kind: str) -> None:
    for failed in failures(STARTS[kind](str(release)), NEWEST):
        refused = {refusal.id for refusal in failed.plan().refused}
        if refused and "group" in kind:
            assert refused <= DATA_WOULD_BE_LOST
            continue
        check_undone(failed)


CHANGED = changed(upstream("8.1.1"), CONTROLLER, arguments=("--v=9",), selector={"own": "label"}, replicas=7)
# A state before the hop, the target, and the user's options.
SPECIAL: dict[str, tuple[InstalledState, str, dict[str, Any]]] = {
    "a controller of another name": (
        RENAMED, NEWEST, {"remove_controllers": ("kube-system/rke2-snapshot-controller",)},
    ),
    "a controller with the user's own arguments and selector": (
        CHANGED, NEWEST, {"accept": ("kubectl", "arguments-dropped"), "controller_arguments": ("--worker-threads=3",)},
    ),
    "a webhook with the user's own selector": (
        replace(
            changed(upstream("6.2.2"), VALIDATION, selector={"own": "label"}),
            services=(replace(upstream("6.2.2").services[0], selector={"own": "label"}),),
        ), "8.1.1", {},
    ),
    "a release whose image is not published": (upstream("6.2.0"), "6.2.2", {}),
    "a release that must not be installed": (upstream("7.0.0"), "7.0.2", {}),
    "group snapshots are switched on": (upstream("8.3.0"), "8.4.0", {"group_snapshots": True}),
}  # fmt: skip


@pytest.mark.parametrize("case", SPECIAL)
def test_a_changed_cluster_comes_back_as_it_was(case: str) -> None:
    start, target, given = SPECIAL[case]
    for failed in failures(start, target, **given):
        check_undone(failed)


def test_objects_that_the_hop_did_not_touch_are_left() -> None:
    """The first step changes only CRDs, so nothing is written."""
    failed = failed_hop(upstream("7.0.2"), NEWEST, 1)
    assert failed
    assert {step.action.action_name for step in failed.steps()} <= {"verify", "wait_available"}


def test_a_release_that_must_not_be_installed_comes_back() -> None:
    """It was there before."""
    failed = failed_hop(upstream("6.2.0"), "7.0.2", 5)
    assert failed
    assert get("6.2.0").never
    assert failed.plan().refused == ()


def test_a_controller_that_the_hop_removed_beside_the_leader_does_not_come_back() -> None:
    """Two controllers led. The hazard controllers-removed says that the second one does not come back."""
    start = with_workload(upstream("8.1.1"), SECOND)
    given = {"remove_controllers": ("snapshots/snapshot-controller",)}
    assert "controllers-removed" in found(planned(start, NEWEST, **given))
    for failed in failures(start, NEWEST, **given):
        was_removed = SECOND not in failed.here.installed.workloads
        failed.carry_out()
        assert (SECOND in failed.here.installed.workloads) is not was_removed
        assert [
            workload.version for workload in failed.here.installed.running(CONTROLLER) if workload != SECOND
        ] == [(8, 1, 1)]
