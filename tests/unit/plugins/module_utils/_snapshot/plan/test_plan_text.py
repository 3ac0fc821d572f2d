# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Test the text of plans: the lines of each situation, a line for every write, and hostile names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.actions.action import (
    CHANGE,
    CREATE,
    DELETE,
    PlanLine,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.actions.apply_release import (
    ApplyRelease,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.installed.installers import (
    Origin,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.installed.state import (
    InstalledState,
    OrphanReplicaSet,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.kinds import CONTROLLER, Reference
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.plan import (
    plan_text,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.plan.planner import Plan
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.release import (
    rendering,
)

from tests.unit.plugins.module_utils._snapshot.plan import plans
from tests.unit.plugins.module_utils._snapshot.world import (
    NOTHING,
    changed,
    ours,
    planned,
    upstream,
    with_groups,
    with_workload,
)
from tests.unit.plugins.module_utils._upgrade.test_interrupted_runs import JUMPS, MOST_HOPS, cluster

BUDGET = ("kube-system", "snapshot-validation-deployment")


def test_the_page_shows_the_plans() -> None:
    assert plans.PAGE.read_text() == plans.page(), (
        "run python3 -m tools.ci.enter dev -m tests.unit.plugins.module_utils._snapshot.plan.plans"
    )


def _of_helm(here: InstalledState) -> Plan:
    return planned(changed(here, CONTROLLER, origin=plans.HELM), "8.7.0")


SUMMARIES: list[tuple[Plan, str]] = [
    (planned(upstream("7.0.2"), "8.7.0"), "7.0.2 to 8.7.0 in 1 hop"),
    (
        planned(with_groups(upstream("8.3.0", groups=True), lists=2), "8.7.0"),
        "8.3.0 to 8.7.0 in 2 hops: 8.4.0, 8.7.0",
    ),
    (planned(ours("8.7.0"), "8.7.0"), "8.7.0 is installed; the plan repairs and verifies it"),
    (
        planned(with_groups(upstream("8.7.0", groups=True), hidden=1), "8.7.0"),
        "8.7.0 is installed; the plan repairs and verifies it in 2 hops: 8.4.0, 8.7.0",
    ),
    (planned(NOTHING, "8.7.0"), "No snapshot controller is installed; the plan installs 8.7.0 in 1 hop"),
    (planned(ours("8.7.0"), "8.3.0"), "8.7.0 to 8.3.0, an older release, in 1 hop"),
    (
        planned(changed(ours("8.3.0"), CONTROLLER, version=None), "8.7.0"),
        "An unknown release to 8.7.0 in 1 hop. The plan is refused, so nothing is changed",
    ),
    (_of_helm(ours("8.3.0")), "8.3.0 to 8.7.0 in 1 hop. The plan is refused, so nothing is changed"),
]


@pytest.mark.parametrize(("plan", "text"), SUMMARIES, ids=[text for _plan, text in SUMMARIES])
def test_the_first_line_names_the_releases(plan: Plan, text: str) -> None:
    assert plan_text.lines(plan)[0] == plan_text.summary(plan) == text


def test_refusals_come_first_and_notes_last() -> None:
    found = [line[0] for line in plan_text.lines(plans.SITUATIONS["Refuse a hazard"])[1:]]
    assert found == sorted(found, key=lambda sign: (sign != "x", sign == "!"))
    assert {"x", "!"} < set(found)


@pytest.mark.parametrize("key", ["helm", "openshift"])
def test_a_refusal_names_the_objects_of_the_manager(key: str) -> None:
    origin = Origin(key, ("annotation meta.helm.sh/release-name: snapshots",))
    here = changed(ours("8.1.1"), CONTROLLER, origin=origin)
    here = replace(here, services=tuple(replace(service, origin=origin) for service in here.services))
    (line,) = [line for line in plan_text.lines(planned(here, "8.7.0")) if line.startswith("x refused")]
    assert line.startswith(f"x refused owner-{key}: ")
    for place in (
        "Deployment kube-system/snapshot-controller",
        "Service kube-system/snapshot-validation-service",
    ):
        assert f"{place}: {origin.evidence[0]}" in line


# Every write.


def test_every_part_has_its_text() -> None:
    context = planned(NOTHING, "8.1.1").hops[0].context
    for part in rendering.FILES:
        assert ApplyRelease("8.1.1", [part], failure_policies={"x": "Ignore"}).named_objects(context)


def _objects(here: InstalledState) -> dict[Reference, Any]:
    """Return the objects of a cluster with their state."""
    found: dict[Reference, Any] = {
        Reference("CustomResourceDefinition", name): crd for name, crd in here.crds.items()
    }
    found.update(
        {Reference(workload.kind, workload.name, workload.namespace): workload for workload in here.workloads}
    )
    found.update(
        {
            Reference(configuration.kind, configuration.name): configuration
            for configuration in here.configurations
        }
    )
    found.update(
        {Reference("Service", service.name, service.namespace): service for service in here.services}
    )
    found.update({Reference("Secret", secret.name, secret.namespace): secret for secret in here.secrets})
    return found


def _verbs(before: Mapping[Reference, Any], after: Mapping[Reference, Any]) -> dict[Reference, str]:
    """Return the verbs of a step's writes by comparing two states."""
    found = {entry: CREATE for entry in after if entry not in before}
    found.update({entry: DELETE for entry in before if entry not in after})
    found.update({entry: CHANGE for entry in after if entry in before and before[entry] != after[entry]})
    return found


def _shown(found: list[PlanLine], step: str) -> dict[Reference, str]:
    return {obj: line.verb for line in found if line.step == step for obj in line.objects}


@pytest.mark.parametrize(
    ("start", "target", "given"), [row[1:] for row in JUMPS], ids=[row[0] for row in JUMPS]
)
def test_every_write_has_a_line_with_its_verb(
    start: InstalledState, target: str, given: dict[str, Any]
) -> None:
    """The steps are carried out on the model of a cluster."""
    here = cluster(start)
    for _hop in range(MOST_HOPS):
        plan = planned(here.installed, target, **given)
        found = plan.hops[0].lines
        for step in plan.hops[0].steps:
            before, old = _objects(here.installed), here.installed.orphan_sets
            here.do(step)
            shown, written = _shown(found, step.id), _verbs(before, _objects(here.installed))
            assert {entry: shown.get(entry) for entry in written} == written, step.id
            assert any(line.step == step.id for line in found)
            gone = set(_sets(old)) - set(_sets(here.installed.orphan_sets))
            assert not gone or any(line.step == step.id and line.verb == DELETE for line in found)
        if len(plan.hops) == 1:
            return


def _sets(orphans: tuple[OrphanReplicaSet, ...]) -> list[tuple[str, str]]:
    return [(orphan.workload.namespace, orphan.workload.name) for orphan in orphans]


@pytest.mark.parametrize("name", [row[0] for row in JUMPS])
def test_later_hops_are_described_from_the_state_before_them(name: str) -> None:
    """A later hop of a plan has the same lines as the first hop of the plan that is made then."""
    start, target, given = next(row[1:] for row in JUMPS if row[0] == name)
    plan = planned(start, target, **given)
    here = cluster(start)
    for hop in plan.hops:
        again = planned(here.installed, target, **given).hops[0]
        assert [line.text for line in hop.lines] == [line.text for line in again.lines]
        for step in again.steps:
            here.do(step)


def _lines_of(plan: Plan, kind: str) -> list[str]:
    return [line.text for line in plan.hops[0].lines if f"{kind} " in line.text]


@pytest.mark.parametrize(
    ("start", "text"),
    [
        (ours("7.0.2"), "to 8.1.1"),
        (upstream("7.0.2"), "at 8.1.1"),
        (replace(upstream("7.0.2"), leftovers=(("PodDisruptionBudget", *BUDGET),)), "to 8.1.1"),
    ],
)
def test_a_budget_exists_if_it_was_read_or_this_collection_made_the_webhook(
    start: InstalledState, text: str
) -> None:
    assert _lines_of(planned(start, "8.1.1"), "PodDisruptionBudget") == [
        f"PodDisruptionBudget {'/'.join(BUDGET)} {text}"
    ]


def test_an_object_is_created_once_in_a_hop() -> None:
    (hop,) = planned(NOTHING, "8.7.0", namespace="snapshots").hops
    step = next(step for step in hop.steps if step.id == "controller")
    verbs = [line.verb for line in replace(hop, steps=(step, step)).lines]
    assert verbs == [CREATE, CREATE, CHANGE]  # the namespace, the Deployment, the Deployment


# Hostile text.

HOSTILE = "x`` ```\n# Owned\r\n| a | b |\\| @admins <img src=x> [a](http://evil.example) \x1b[2J\u202e #1 *b* www.evil.example"


def _hostile() -> Plan:
    """Return the plan of a cluster with hostile marks, names and messages in refusals, notes and lines."""
    origin = Origin("helm", (f"annotation meta.helm.sh/release-name: {HOSTILE}",))
    here = changed(upstream("7.0.2"), CONTROLLER, origin=origin, arguments=(f"--{HOSTILE}=1",))
    here = replace(
        here,
        unreadable={"deployments": HOSTILE},
        default_classes={HOSTILE: (HOSTILE, "b")},
        leftovers=(("ServiceAccount", "kube-system", HOSTILE),),
    )
    here = with_workload(here, replace(here.running(CONTROLLER)[0], name=HOSTILE))
    return planned(here, "8.7.0", namespace=HOSTILE, controller_arguments=(f"--metrics-path={HOSTILE}",))


def test_hostile_text_stays_on_its_line() -> None:
    found = plan_text.lines(_hostile())
    assert sum("Owned" in line for line in found) > 5
    assert all(line.isprintable() for line in found)
    signs = "".join(plan_text.SIGNS.values())
    assert all(line[0] in signs and line[1] == " " for line in found[1:])
