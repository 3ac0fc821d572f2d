# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Carry out every plan step by step on a model of a cluster. No step breaks anything, and the next run completes a run that was
interrupted at any step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.installed.state import (
    InstalledState,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.kinds import (
    CONTROLLER,
    CONVERSION,
    VALIDATION,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.release import release_table
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.release.release_table import (
    GROUP_CONTENTS,
)

from tests.unit.plugins.module_utils._snapshot.model import NAMES, PORT, ModelCluster
from tests.unit.plugins.module_utils._snapshot.world import (
    NOTHING,
    changed,
    ours,
    planned,
    upstream,
    with_groups,
    with_stored,
)

MOST_HOPS = 4


def cluster(start: InstalledState) -> ModelCluster:
    """Return the model of a cluster, with the permissions of the controller that runs there."""
    controllers = start.running(CONTROLLER)
    rights = controllers[0].version if controllers and controllers[0].version else (0, 0, 0)
    made = ModelCluster(start, rights)
    for kind, (_deployment, service) in NAMES.items():
        for workload in start.running(kind):
            made.ports[workload.namespace, service] = workload.port
    return made


def steps(here: ModelCluster, target: str, **given: Any) -> Iterator[Any]:
    """Carry out the plan hop by hop. Plan again before each hop. Yield after every step."""
    for _hop in range(MOST_HOPS):
        plan = planned(here.installed, target, **given)
        assert plan.refused == (), plan.refused
        for step in plan.hops[0].steps:
            before = set(here.faults())
            here.do(step)
            broken = set(here.faults()) - before
            assert not broken, (step.id, broken)
            yield step
        if len(plan.hops) == 1:
            return
    raise AssertionError("it never ends")


def finished(here: ModelCluster) -> dict[str, Any]:
    """Return the parts of the final state that must not depend on interruptions."""
    entry = here.installed
    return {
        "crds": {name: (dict(crd.versions), crd.stored_versions, crd.conversion.strategy) for name, crd in entry.crds.items()},
        "workloads": sorted((w.program, w.name, w.version or (), w.arguments, w.secrets) for w in entry.workloads),
        "detached": entry.orphan_sets,
        "configurations": sorted((c.name, c.hooks[0].failure_policy, sorted(c.hooks[0].resources())) for c in entry.configurations),
        "services": sorted((s.name, sorted(s.selector.items())) for s in entry.services),
        "ports": {place: port for place, port in here.ports.items() if place in {(s.namespace, s.name) for s in entry.services}},
        "secrets": sorted(s.name for s in entry.secrets),
        "rights": here.rights,
    }  # fmt: skip


V1ALPHA1 = with_groups(upstream("8.1.0", groups=True))
V1BETA1 = with_groups(upstream("8.3.0", groups=True), lists=1)
V1BETA2 = with_stored(with_groups(upstream("8.4.0", groups=True), lists=1), "v1beta1", "v1beta2")
JUMPS: list[tuple[str, InstalledState, str, dict[str, Any]]] = [
    ("nothing-7.0.2", NOTHING, "7.0.2", {"failure_policy": "Fail"}),
    ("nothing-8.7.0", NOTHING, "8.7.0", {}),
    ("4.2.1-6.2.2", upstream("4.2.1"), "6.2.2", {}),
    ("6.2.2-7.0.2", upstream("6.2.2"), "7.0.2", {}),
    ("7.0.2-8.1.0", upstream("7.0.2"), "8.1.0", {}),
    ("8.1.0-8.4.0", upstream("8.1.0"), "8.4.0", {}),
    ("4.2.1-7.0.2", upstream("4.2.1"), "7.0.2", {}),
    ("4.2.1-8.1.0", upstream("4.2.1"), "8.1.0", {}),
    ("4.2.1-8.7.0", upstream("4.2.1"), "8.7.0", {}),
    ("6.2.2-8.3.0", upstream("6.2.2"), "8.3.0", {}),
    ("7.0.2-8.6.0", upstream("7.0.2"), "8.6.0", {}),
    ("ours-7.0.2-8.1.1", ours("7.0.2", failure_policy="Fail"), "8.1.1", {}),
    ("ours-7.0.2-another-port", ours("7.0.2", webhook_port=9443), "7.0.2", {}),
    ("groups-7.0.2-8.1.1", with_groups(upstream("7.0.2", groups=True)), "8.1.1", {}),
    ("groups-8.1.0-8.4.0", V1ALPHA1, "8.4.0", {}),
    ("groups-8.1.0-8.7.0", V1ALPHA1, "8.7.0", {}),
    ("no-groups-8.1.0-8.7.0", upstream("8.1.0", groups=True), "8.7.0", {}),
    ("groups-8.3.0-8.4.0", V1BETA1, "8.4.0", {}),
    ("groups-8.3.0-8.7.0", V1BETA1, "8.7.0", {}),
    ("groups-8.4.0-8.7.0", V1BETA2, "8.7.0", {}),
    ("groups-wanted-8.3.0-8.7.0", upstream("8.3.0"), "8.7.0", {"group_snapshots": True}),
    ("back-8.1.1-7.0.2", upstream("8.1.1"), "7.0.2", {}),
    ("back-8.7.0-8.1.1", upstream("8.7.0"), "8.1.1", {}),
    ("back-6.2.2-5.0.1", upstream("6.2.2"), "5.0.1", {}),
    ("back-groups-8.7.0-8.5.0", with_groups(upstream("8.7.0", groups=True), lists=1), "8.5.0", {}),
    ("kubernetes-1.29", replace(upstream("6.2.2"), kubernetes=(1, 29)), "8.1.1", {}),
    ("no-webhook", changed(upstream("7.0.2"), VALIDATION, available=0), "7.0.2", {}),
]


@pytest.mark.parametrize(
    ("start", "target", "given"), [row[1:] for row in JUMPS], ids=[row[0] for row in JUMPS]
)
def test_the_next_run_completes_a_run_that_was_interrupted_at_any_step(
    start: InstalledState, target: str, given: dict[str, Any]
) -> None:
    whole = cluster(start)
    count = len(list(steps(whole, target, **given)))
    assert whole.installed.running(CONTROLLER)[0].version == release_table.get(target).version
    assert set(whole.faults()) == set()
    for end in range(1, count):
        interrupted = cluster(start)
        for number, _step in enumerate(steps(interrupted, target, **given), 1):
            if number == end:
                break
        list(steps(interrupted, target, **given))
        assert finished(interrupted) == finished(whole), end


# The installed release, the target of the interrupted run, and the target of the next run.
OTHER_TARGETS: list[tuple[str, str, str]] = [
    ("6.2.2", "7.0.2", "8.1.1"),
    ("6.2.2", "7.0.2", "6.2.2"),
    ("4.2.1", "6.2.2", "8.7.0"),
    ("7.0.2", "8.1.1", "7.0.2"),
]


@pytest.mark.parametrize(("start", "first", "second"), OTHER_TARGETS)
def test_a_run_to_another_release_after_an_interrupted_run(start: str, first: str, second: str) -> None:
    count = len(list(steps(cluster(upstream(start)), first)))
    for end in range(1, count):
        interrupted = cluster(upstream(start))
        for number, _step in enumerate(steps(interrupted, first), 1):
            if number == end:
                break
        list(steps(interrupted, second))
        assert interrupted.installed.running(CONTROLLER)[0].version == release_table.get(second).version
        assert (interrupted.installed.orphan_sets, set(interrupted.faults())) == ((), set()), end


@pytest.mark.parametrize("second", ["6.2.2", "7.0.2", "8.1.1"])
def test_a_webhook_that_never_answered_is_not_called(second: str) -> None:
    """The image does not exist. The next run goes back, goes on, or tries again."""
    interrupted = cluster(upstream("6.2.2"))
    for step in steps(interrupted, "7.0.2"):
        if step.id == "webhook-deployment":
            break
    interrupted.installed = changed(interrupted.installed, VALIDATION, available=0)
    assert set(interrupted.faults()) == set()
    list(steps(interrupted, second))
    assert (interrupted.installed.orphan_sets, set(interrupted.faults())) == ((), set())


# The installed release, the target, the step that is left out, and words of the fault that the model finds.
LEFT_OUT = [
    ("7.0.2", "8.1.0", "narrow-snapshot", "denies"),
    ("7.0.2", "8.1.0", "webhook-hold", "connection refused"),
    ("4.2.1", "6.2.2", "webhook-hold", "connection refused"),
    ("4.2.1", "6.2.2", "controller-rbac", "forbidden"),
    ("8.1.0", "8.4.0", "configurations-delete", "nobody answers"),
]


@pytest.mark.parametrize(("start", "target", "left_out", "words"), LEFT_OUT)
def test_the_model_finds_a_missing_step(start: str, target: str, left_out: str, words: str) -> None:
    here = cluster(upstream(start))
    seen: set[str] = set()
    for step in planned(here.installed, target).hops[0].steps:
        if step.id != left_out:
            here.do(step)
            seen |= set(here.faults())
    assert any(words in fault for fault in seen), seen


def test_the_model_finds_a_service_that_is_applied_too_early() -> None:
    """The Service of 8.1 has another port, and the old pods still run."""
    here = cluster(upstream("7.0.2"))
    here.do(
        next(step for step in planned(here.installed, "8.1.0").hops[0].steps if step.id == "webhook-service")
    )
    assert any("connection refused" in fault for fault in here.faults())


def test_the_model_finds_a_conversion_that_is_disabled_too_early() -> None:
    here = cluster(V1BETA2)
    early = [step for step in planned(here.installed, "8.7.0").hops[0].steps if step.id == "conversion-none"]
    here.do(early[0])
    assert "lists of handles are hidden, and lost at the next write" in set(here.faults())
    assert here.installed.crds[GROUP_CONTENTS].conversion.strategy == "None"


def test_the_model_starts_without_faults() -> None:
    for release in ("4.2.1", "6.2.2", "7.0.2", "8.1.0", "8.4.0", "8.7.0"):
        assert set(cluster(upstream(release)).faults()) == set()
        assert set(cluster(ours(release)).faults()) == set()
    assert (PORT, CONVERSION) == (8443, "conversion")


SETTLE = ["webhook-settle", "webhook-settle-reconnect", "webhook-delete-failed"]
# The target of a run after the pods of 7.0.2 ended under load, how many of them are available when it plans, and its first steps.
DYING = [
    ("6.2.2", 0, SETTLE),
    ("6.2.2", 2, SETTLE),
    ("6.3.4", 0, SETTLE),
    ("8.1.1", 0, ["webhook-hold", "webhook-deployment"]),
]


@pytest.mark.parametrize(("second", "available", "first"), DYING)
def test_the_service_leads_to_the_old_pods_again_if_the_new_ones_end(
    second: str, available: int, first: list[str]
) -> None:
    """The old pods still run. The failed ones are not called again, although some of them may be available at the moment."""
    interrupted = cluster(upstream("6.2.2"))
    for step in steps(interrupted, "7.0.2"):
        if step.id == "webhook-verify-first":
            break
    (service,) = [port for port in interrupted.ports if port[1] == NAMES[VALIDATION][1]]
    assert [workload.version for workload in interrupted._called(VALIDATION, service)] == [(7, 0, 2)]
    interrupted.installed = changed(interrupted.installed, VALIDATION, available=available)
    seen, every = [], []
    for step in steps(interrupted, second):
        every.append(step.id)
        if step.id.startswith("webhook-") and step.id != "webhook-rbac":
            seen.append(step.id)
            called = {workload.version for workload in interrupted._called(VALIDATION, service)}
            assert called and (7, 0, 2) not in called, step.id
    assert seen[: len(first)] == first
    if first == SETTLE:  # the API servers call pods that end, so nothing comes before it
        assert every[: len(first)] == first
    assert (interrupted.installed.orphan_sets, set(interrupted.faults())) == ((), set())
