# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Test plans: the order of hops and steps, repairs, resumed runs, refusals, and every pair of releases."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.actions.action import Step
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.context.state_after import (
    state_after,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.context.upgrade_context import (
    UpgradeContext,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.hazards import table
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.installed.installers import Origin
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.installed.state import (
    InstalledState,
    OrphanReplicaSet,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.kinds import (
    CONTROLLER,
    VALIDATION,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.plan import (
    plan_report,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.plan.hop import _stored_at_v1beta1
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.plan.planner import Plan
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.release import release_table
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.release.release_table import (
    GROUP,
    GROUP_CONTENTS,
    GROUP_CRDS,
    SNAPSHOT,
)

from tests.unit.plugins.module_utils._snapshot.world import (
    NOTHING,
    changed,
    found,
    ids,
    options,
    ours,
    planned,
    upstream,
    with_groups,
    with_stored,
)

HAND_OVER = [
    "webhook-detach", "webhook-hold", "webhook-deployment", "webhook-wait", "webhook-switch", "webhook-reconnect", "webhook-verify-first",
    "webhook-watch", "webhook-delete-old", "webhook-service",
]  # fmt: skip
ROLL = ["webhook-deployment", "webhook-wait", "webhook-service"]
CONFIGURE = ["webhook-configurations", "verify-webhook"]
CONFIGURE_NEW = ["webhook-configurations", "validation-trust", "verify-webhook"]
PLAIN = ["controller", "controller-wait"]
REPLACE = ["controller-detach", "controller", "controller-wait", "controller-delete-old"]
PROVE = ["verify-version", "verify-controller"]
PROVE_RULES = ["verify-rules", *PROVE]
WEBHOOK = ["webhook-rbac", "validation-certificate"]

# The chain of facts, from upstream's own manifests, each hop from what the last one left.
CHAIN: list[tuple[str, list[str]]] = [
    ("6.2.2", ["crds", "controller-rbac", *WEBHOOK, *HAND_OVER, *CONFIGURE, *PLAIN, *PROVE, "validation-clean"]),
    ("7.0.2", ["crds", "controller-rbac", *WEBHOOK, *HAND_OVER, *CONFIGURE, *REPLACE, *PROVE]),
    ("8.1.0", ["crds", "controller-rbac", "narrow-snapshot", *WEBHOOK, *ROLL, *CONFIGURE, *PLAIN, *PROVE_RULES]),
    ("8.4.0", ["crds", "configurations-delete", "controller-rbac", *PLAIN, *PROVE_RULES, "validation-clean"]),
    ("8.7.0", ["crds", "controller-rbac", *PLAIN, *PROVE_RULES]),
]  # fmt: skip


def test_the_chain() -> None:
    here = upstream("4.2.1")
    for target, wanted in CHAIN:
        plan = planned(here, target)
        assert plan.refused == ()
        assert [ids(plan)] == [wanted], target
        here = state_after(UpgradeContext(here, release_table.get(target), options()))


def test_the_first_verification_of_a_new_webhook_watches_its_pods() -> None:
    (step,) = (
        step
        for step in planned(upstream("6.2.2"), "7.0.2").hops[0].steps
        if step.id == "webhook-verify-first"
    )
    assert step.action.parameters()["pods_of"] == {
        "namespace": "kube-system",
        "name": "snapshot-validation-deployment",
    }


def _rewrites(version: str) -> list[str]:
    return [f"rewrite-volumegroupsnapshot{part}-{version}" for part in ("classes", "contents", "s")]


CONVERSION = ["conversion-certificate", "conversion-deployment", "conversion-wait"]


def test_the_chain_with_group_snapshots() -> None:
    """From v1alpha1 over the bridge to v1beta1, to v1beta2 while a webhook converts, to no conversion."""
    start = with_groups(upstream("8.1.0", groups=True))
    assert start.crds[GROUP_CONTENTS].stored_versions == ("v1alpha1",)
    plan = planned(start, "8.4.0")
    assert ids(plan) == [
        "crds", "configurations-delete", "groups-bridge", *_rewrites("v1beta1"), *CONVERSION, "conversion-service",
        "conversion-webhook", "group-crds", "conversion-trust", "verify-conversion", "controller-rbac", *PLAIN, *PROVE_RULES,
        "verify-groups", "validation-clean",
    ]  # fmt: skip
    here = state_after(UpgradeContext(start, release_table.get("8.4.0"), options()))
    assert here.crds[GROUP_CONTENTS].stored_versions == ("v1beta1", "v1beta2")
    plan = planned(with_groups(here, lists=1), "8.7.0")
    assert ids(plan) == [
        "crds", *_rewrites("v1beta2"), "conversion-none", "group-crds", "controller-rbac", *PLAIN, *PROVE_RULES, "verify-groups",
        "conversion-clean",
    ]  # fmt: skip
    controller = next(step for step in plan.hops[0].steps if step.id == "controller")
    assert controller.action.parameters()["arguments"] == ["--feature-gates=CSIVolumeGroupSnapshot=true"]


# (installed state, target, hops)
JUMPS: list[tuple[str, InstalledState, str, list[str]]] = [
    ("4.2.1 to 8.7.0", upstream("4.2.1"), "8.7.0", ["8.7.0"]),
    ("7.0.2 to 8.6.0", upstream("7.0.2"), "8.6.0", ["8.6.0"]),
    ("6.2.2 to 8.3.0", upstream("6.2.2"), "8.3.0", ["8.3.0"]),
    ("4.2.1 to 7.0.2", upstream("4.2.1"), "7.0.2", ["7.0.2"]),
    ("v1alpha1 without objects", upstream("7.0.2", groups=True), "8.6.0", ["8.6.0"]),
    ("v1alpha1 with objects", with_groups(upstream("8.1.0", groups=True)), "8.7.0", ["8.7.0"]),
    ("v1beta1 without objects", upstream("8.3.0", groups=True), "8.7.0", ["8.7.0"]),
    ("v1beta1 without lists", with_groups(upstream("8.3.0", groups=True)), "8.7.0", ["8.7.0"]),
    ("v1beta1 with lists", with_groups(upstream("8.3.0", groups=True), lists=2), "8.7.0", ["8.4.0", "8.7.0"]),
    ("v1beta1 with lists, to 8.5", with_groups(upstream("8.3.0", groups=True), lists=2), "8.5.0", ["8.5.0"]),
    (
        "v1beta1 with lists, and its webhook",
        with_stored(with_groups(upstream("8.4.0", groups=True), lists=2), "v1beta1", "v1beta2"),
        "8.7.0",
        ["8.7.0"],
    ),
]


@pytest.mark.parametrize(
    ("start", "target", "hops"), [row[1:] for row in JUMPS], ids=[row[0] for row in JUMPS]
)
def test_a_jump_has_only_the_hops_that_hazards_require(
    start: InstalledState, target: str, hops: list[str]
) -> None:
    plan = planned(start, target)
    assert plan.refused == ()
    assert [str(hop.release) for hop in plan.hops] == hops
    assert all(hop.reason for hop in plan.hops[:-1])


def test_lists_behind_a_broken_webhook_are_rescued_first() -> None:
    """8.4's CRDs, a webhook that does not answer, objects that only it can read."""
    start = with_stored(with_groups(upstream("8.4.0", groups=True)), "v1beta1", "v1beta2")
    start = replace(
        start,
        workloads=start.running(CONTROLLER),
        groups=replace(start.groups, contents=0),
        unreadable={"group_contents": "conversion webhook for groupsnapshot.storage.k8s.io/v1beta1 failed"},
    )
    plan = planned(start, "8.7.0")
    assert plan.refused == ()
    assert [str(hop.release) for hop in plan.hops] == ["8.4.0", "8.7.0"]
    assert "conversion-deployment" in ids(plan, 0)
    assert ids(plan, 1).index("conversion-none") > ids(plan, 1).index(
        "rewrite-volumegroupsnapshotcontents-v1beta2"
    )
    assert "lists-at-v1beta1" in found(plan)


def test_hidden_lists_are_rescued_first() -> None:
    """The CRDs of 8.6 convert nothing, and objects are still stored at v1beta1."""
    start = with_groups(with_stored(upstream("8.7.0", groups=True), "v1beta1", "v1beta2"), hidden=1)
    plan = planned(start, "8.7.0")
    assert [str(hop.release) for hop in plan.hops] == ["8.4.0", "8.7.0"]
    assert "conversion-webhook" in ids(plan, 0)
    assert "group-crds" not in ids(plan, 0)  # they do not go back


def test_a_hop_that_does_not_answer_its_hazard_is_planned_once() -> None:
    start = with_groups(
        with_stored(ours("8.4.0", group_snapshots=True, conversion_webhook=False), "v1beta1", "v1beta2"),
        hidden=1,
        lists=1,
    )
    plan = planned(start, "8.7.0", conversion_webhook=False)
    assert [str(hop.release) for hop in plan.hops] == ["8.4.0", "8.7.0"]
    assert "conversion-refused" in {refusal.id for refusal in plan.refused}


def test_the_controller_of_the_release_is_not_deleted_although_the_user_names_it() -> None:
    plan = planned(ours("8.7.0"), "8.7.0", remove_controllers=("kube-system/snapshot-controller",))
    assert plan.hops[0].context.removed == []


@pytest.mark.parametrize("order", [1, -1])
def test_the_undo_restores_the_controller_that_the_user_named(order: int) -> None:
    here = ours("8.3.0").running(CONTROLLER)[0]
    start = replace(ours("8.3.0"), workloads=(here, replace(here, namespace="snapshots"))[::order])
    context = planned(start, "8.4.0", remove_controllers=("kube-system/snapshot-controller",)).hops[0].context
    assert [str(workload) for workload in context.removed] == ["Deployment kube-system/snapshot-controller"]
    undone = UpgradeContext(start, context.release, options(namespace=context.namespace))
    assert undone.controller == context.controller


def test_a_version_that_is_only_listed_is_not_migrated() -> None:
    start = with_groups(ours("8.4.0", group_snapshots=True))
    crds = {
        name: replace(
            start.crds[name], versions={**start.crds[name].versions, "v1alpha1": "listed"}, set=None
        )
        for name in GROUP_CRDS
    }
    plan = planned(replace(start, crds={**start.crds, **crds}), "8.7.0")
    assert "alpha-dropped" not in found(plan)


def test_the_way_to_8_7_at_once() -> None:
    """From 4.2.1 without group snapshots."""
    plan = planned(upstream("4.2.1"), "8.7.0")
    assert ids(plan) == [
        "crds", "configurations-delete", "controller-rbac", *REPLACE, *PROVE_RULES, "validation-clean",
    ]  # fmt: skip
    steps = {step.id: step for step in plan.hops[0].steps}
    assert [place["name"] for place in steps["configurations-delete"].action.parameters()["objects"]] == [
        "validation-webhook.snapshot.storage.k8s.io"
    ]
    gone = [
        (place["kind"], place["name"]) for place in steps["validation-clean"].action.parameters()["objects"]
    ]
    assert gone[0] == ("Service", "snapshot-validation-service")
    assert gone[-1] == (
        "Deployment",
        "snapshot-validation-deployment",
    )  # it shows until then where the webhook is
    assert ("Secret", "snapshot-validation-secret") in gone


def test_narrowed_rules_have_the_resources_that_both_webhooks_know() -> None:
    def rules(start: str, target: str) -> list[dict[str, object]]:
        plan = planned(upstream(start), target)
        narrow = next(step for step in plan.hops[0].steps if step.action.action_name == "narrow_rules")
        assert ids(plan).index(narrow.id) < ids(plan).index("webhook-deployment")
        (only,) = narrow.action.parameters()["rules"].values()
        return [{key: rule[key] for key in ("apiVersions", "resources")} for rule in only]

    assert rules("7.0.2", "8.1.1") == [{"apiVersions": ["v1"], "resources": ["volumesnapshotclasses"]}]
    assert rules("4.2.1", "8.1.1") == []  # the one knows no classes, the other nothing else
    assert rules("6.2.2", "5.0.1") == [
        {"apiVersions": ["v1", "v1beta1"], "resources": ["volumesnapshots", "volumesnapshotcontents"]}
    ]


def test_an_empty_cluster_gets_an_installation() -> None:
    assert ids(planned(NOTHING, "8.7.0")) == ["crds", "controller-rbac", *PLAIN, *PROVE_RULES]
    plan = planned(NOTHING, "7.0.2", failure_policy="Fail")
    assert ids(plan) == [
        "crds", "controller-rbac", *WEBHOOK, "webhook-deployment", "webhook-wait", "webhook-service", *CONFIGURE_NEW,
        "failure-policy", *PLAIN, *PROVE,
    ]  # fmt: skip
    steps = {step.id: step for step in plan.hops[0].steps}
    assert set(steps["webhook-configurations"].action.parameters()["failure_policies"].values()) == {"Ignore"}
    assert steps["failure-policy"].action.parameters()["policy"] == "Fail"


def test_the_present_failure_policy_is_kept() -> None:
    for policy in ("Ignore", "Fail"):
        plan = planned(upstream("6.2.2", policy=policy), "7.0.2")
        step = next(step for step in plan.hops[0].steps if step.id == "webhook-configurations")
        assert set(step.action.parameters()["failure_policies"].values()) == {policy}
        assert "failure-policy" not in ids(plan)


def test_a_detached_deployment_has_its_reason() -> None:
    """The reasons are pods that do not drain, another port, and another selector, which counts first."""
    webhook = ours("7.0.2")
    selector = {"app": "snapshot-validation"}
    starts = {
        "pods": changed(webhook, VALIDATION, drains=False),
        "port": changed(webhook, VALIDATION, drains=False, port=1234),
        "selector": changed(webhook, VALIDATION, selector=selector),
        "selector and port": changed(webhook, VALIDATION, port=1234, selector=selector),
    }
    reasons = {}
    for name, start in starts.items():
        (hop,) = planned(start, "8.1.1").hops
        (reasons[name],) = (step.reason for step in hop.steps if step.id == "webhook-detach")
    assert len(set(reasons.values())) == 3
    assert "1234" not in reasons["port"] and "port" in reasons["port"]
    assert "selector" in reasons["selector"] and reasons["selector"] == reasons["selector and port"]


SNAPSHOT_NAME, GROUP_NAME = (f"validation-webhook.{group}" for group in (SNAPSHOT, GROUP))
# failurePolicy of both configurations, the options, the result, and the policies that change after the verification.
POLICIES: list[tuple[tuple[str, str], dict[str, object], tuple[str, str], list[str]]] = [
    (("Fail", "Ignore"), {}, ("Fail", "Ignore"), []),
    (("Ignore", "Fail"), {}, ("Ignore", "Fail"), []),
    (("Fail", "Ignore"), {"failure_policy": "Fail"}, ("Fail", "Fail"), [GROUP_NAME]),
    (("Fail", "Ignore"), {"failure_policy": "Ignore"}, ("Ignore", "Ignore"), []),
    (("Ignore", "Ignore"), {"failure_policies": {SNAPSHOT_NAME: "Fail"}}, ("Fail", "Ignore"), [SNAPSHOT_NAME]),
    (("Fail", ""), {}, ("Fail", "Ignore"), []),  # a new one, as upstream has it
    (("", ""), {"failure_policies": {SNAPSHOT_NAME: "Ignore", GROUP_NAME: "Fail"}, "failure_policy": "Ignore"}, ("Ignore", "Fail"), [GROUP_NAME]),
]  # fmt: skip


@pytest.mark.parametrize(("live", "given", "wanted", "later"), POLICIES)
def test_each_configuration_keeps_its_own_policy(
    live: tuple[str, str], given: dict[str, object], wanted: tuple[str, str], later: list[str]
) -> None:
    start, policies = (
        upstream("7.0.2", groups=True),
        dict(zip((SNAPSHOT_NAME, GROUP_NAME), live)),
    )
    configurations = tuple(
        replace(
            configuration,
            hooks=(replace(configuration.hooks[0], failure_policy=policies[configuration.name]),),
        )
        for configuration in start.configurations
        if policies[configuration.name]
    )
    here = replace(start, configurations=configurations)
    plan = planned(here, "8.1.1", **given)
    steps = {step.id: step.action.parameters() for step in plan.hops[0].steps}
    assert steps.get("failure-policy", {}).get("names", []) == later
    first = steps["webhook-configurations"]["failure_policies"]
    ends = {name: "Fail" if name in later else policy for name, policy in first.items()}
    assert (ends[SNAPSHOT_NAME], ends[GROUP_NAME]) == wanted
    end = state_after(UpgradeContext(here, release_table.get("8.1.1"), options(**given)))
    assert {
        configuration.name: configuration.hooks[0].failure_policy for configuration in end.configurations
    } == ends


def test_namespaces_of_new_objects() -> None:
    plan = planned(NOTHING, "7.0.2", namespace="snapshots", webhook_namespace="webhooks")
    places = {step.id: step.action.parameters().get("namespace") for step in plan.hops[0].steps}
    assert (places["controller"], places["webhook-deployment"]) == ("snapshots", "webhooks")


# Damage, and a step that heals it.
DAMAGES: list[tuple[str, InstalledState, str, str]] = [
    ("image of another release", changed(ours("8.1.1"), CONTROLLER, version=(8, 0, 1)), "8.1.1", "controller"),
    ("no webhook", replace(ours("7.0.2"), workloads=ours("7.0.2").running(CONTROLLER)), "7.0.2", "webhook-deployment"),
    ("no rights", ours("8.7.0"), "8.7.0", "controller-rbac"),
    ("old arguments", changed(ours("8.7.0"), CONTROLLER, arguments=("-logtostderr",)), "8.7.0", "controller"),
    ("no controller", replace(ours("8.7.0"), workloads=()), "8.7.0", "controller"),
    ("no service", replace(ours("7.0.2"), services=()), "7.0.2", "webhook-service"),
    ("a certificate that expired", ours("7.0.2"), "7.0.2", "validation-certificate"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("start", "target", "step"), [row[1:] for row in DAMAGES], ids=[row[0] for row in DAMAGES]
)
def test_the_same_release_is_a_repair(start: InstalledState, target: str, step: str) -> None:
    plan = planned(start, target)
    assert (plan.refused, [str(hop.release) for hop in plan.hops]) == ((), [target])
    assert step in ids(plan)


def _orphan_sets(start: InstalledState, program: str, *, labelled: bool) -> InstalledState:
    """The run was interrupted after the Deployment was deleted without its pods."""
    old = replace(start.running(program)[0], kind="ReplicaSet", selector={"pod-template-hash": "5d8"})
    rest = tuple(workload for workload in start.workloads if workload.program != program)
    return replace(
        start, workloads=rest, orphan_sets=(OrphanReplicaSet(old, start.running(program)[0].name, labelled),)
    )


@pytest.mark.parametrize("labelled", [False, True])
def test_the_next_run_continues_an_interrupted_hand_over(labelled: bool) -> None:
    plan = planned(_orphan_sets(upstream("6.2.2"), VALIDATION, labelled=labelled), "7.0.2")
    assert plan.refused == ()
    assert [step for step in ids(plan) if step in HAND_OVER] == HAND_OVER[labelled:]
    step = next(step for step in plan.hops[0].steps if step.id == "webhook-deployment")
    assert (
        step.action.parameters()["secret"] == "snapshot-validation-secret"
    )  # the one that the old pods mount


def test_a_controller_without_its_deployment_is_still_the_controller() -> None:
    """Its release, arguments and feature gate are kept, and it is not a hosted controller."""
    start = _orphan_sets(with_groups(upstream("7.0.2", groups=True)), CONTROLLER, labelled=True)
    plan = planned(start, "8.1.1")
    assert plan.refused == ()
    assert [step for step in ids(plan) if step in REPLACE] == REPLACE[1:]
    controller = next(step for step in plan.hops[0].steps if step.id == "controller")
    assert controller.action.parameters()["arguments"] == ["--enable-volume-group-snapshots=true"]


def test_the_downgrade() -> None:
    """CRDs stay, permissions come last, and the webhook is restored."""
    plan = planned(upstream("8.7.0"), "7.0.2")
    assert plan.refused == ()
    assert ids(plan) == [
        *WEBHOOK, "webhook-deployment", "webhook-wait", "webhook-service", *CONFIGURE_NEW, *PLAIN, "controller-rbac", *PROVE,
    ]  # fmt: skip
    proof = next(step for step in plan.hops[0].steps if step.id == "verify-webhook")
    assert (
        proof.action.parameters()["check"] == "second-default-class"
    )  # 8.7's CRDs answer before the webhook is asked


def test_a_refused_plan_keeps_its_hops() -> None:
    """They show what it would change. Only ``refused`` says that nothing may be written."""
    allowed, refused = (planned(upstream("8.7.0"), "8.7.0", accept=accept) for accept in (("kubectl",), ()))
    assert (allowed.refused, [refusal.id for refusal in refused.refused]) == ((), ["owner-kubectl"])
    assert ids(refused) == ids(allowed)
    assert "kubespray" in refused.refused[0].remedy
    assert any("Deployment kube-system/snapshot-controller" in text for text in refused.refused[0].evidence)
    values = plan_report.plan(refused)
    fields = {"id", "title", "handling", "answer", "evidence", "remedy", "source"}
    groups = planned(with_groups(upstream("8.3.0", groups=True), lists=2), "8.7.0")
    assert groups.hazards
    assert all(set(hazard) == fields for hazard in plan_report.plan(groups)["hazards"])
    assert (len(values["hops"]), [entry["id"] for entry in values["plan"]]) == (1, ids(refused))


def test_a_hop_has_the_state_before_it() -> None:
    first, second = planned(with_groups(upstream("8.3.0", groups=True), lists=2), "8.7.0").hops
    assert (first.context.installed, str(first.context.release)) == (
        with_groups(upstream("8.3.0", groups=True), lists=2),
        "8.4.0",
    )
    assert second.context.installed == state_after(first.context)
    assert (second.context.version, second.context.release) == ((8, 4, 0), second.release)


HELM = ("annotation meta.helm.sh/release-name: snapshots", "label app.kubernetes.io/managed-by: Helm")
# The objects of another manager, and the reason that names one of them.
OWNED_BY: dict[str, tuple[dict[str, Origin], str]] = {
    "one of Helm": (
        {CONTROLLER: Origin("helm", HELM)},
        "Deployment kube-system/snapshot-controller belongs to Helm",
    ),
    "two of Helm": (
        {CONTROLLER: Origin("helm", HELM), VALIDATION: Origin("helm", HELM[1:])},
        "Deployment kube-system/snapshot-controller and 1 other object belong to Helm",
    ),
    "no mark": (
        {VALIDATION: Origin("unmarked", ("no marker of any manager",))},
        "Deployment kube-system/snapshot-validation-deployment has no marker of a manager",
    ),
    "OLM": (
        {CONTROLLER: Origin("olm", ("label olm.managed: true",))},
        "Deployment kube-system/snapshot-controller belongs to Operator Lifecycle Manager",
    ),
}


@pytest.mark.parametrize(("origins", "reason"), OWNED_BY.values(), ids=list(OWNED_BY))
def test_a_refusal_names_the_object_and_its_manager(origins: dict[str, Origin], reason: str) -> None:
    here = ours("7.0.2")
    for program, origin in origins.items():
        here = changed(here, program, origin=origin)
    (refusal,) = planned(here, "8.1.1", accept=()).refused
    assert refusal.reason == reason
    managers = plan_report.managers(UpgradeContext(here, release_table.get("8.1.1"), options()))
    assert {manager["manager"] for manager in managers} == {origin.key for origin in origins.values()}


@pytest.mark.parametrize(
    ("accept", "refused"),
    [
        ((), ["owner-argocd", "owner-flux"]),
        (("argocd",), ["owner-flux"]),
        (("flux",), ["owner-argocd"]),
        (("argocd", "flux"), []),
    ],
)
def test_each_manager_of_an_object_is_judged(accept: tuple[str, ...], refused: list[str]) -> None:
    origin = Origin("argocd", ("label x: y",), others=(Origin("flux", ("label f: g",)),))
    plan = planned(changed(ours("7.0.2"), CONTROLLER, origin=origin), "8.1.1", accept=accept)
    assert [refusal.id for refusal in plan.refused] == refused


IMPERATIVES = frozenset(
    "Add Apply Check Delete Disable Enable Issue Make Narrow Restrict Set Store Switch Verify Wait Watch".split()
)


def _is_plain(step: Step) -> bool:
    """Return True for an imperative title, and reasons in sentences of at most 30 words."""
    sentences = step.reason.split(". ")
    title = step.title.split()[0] in IMPERATIVES and not step.title.endswith(".")
    return (
        title
        and step.reason.endswith(".")
        and not set(";\n") & set(step.title + step.reason)
        and max(len(sentence.split()) for sentence in sentences) <= 30
        and all(sentence[0].isupper() for sentence in sentences)
    )


def test_a_step_has_an_imperative_title_and_a_reason() -> None:
    starts = [upstream("4.2.1"), upstream("7.0.2"), NOTHING, upstream("8.7.0")]
    starts += [with_groups(upstream("8.3.0", groups=True), lists=1)]
    starts += [with_groups(upstream(start, groups=True)) for start in ("7.0.2", "8.1.0")]
    plans = [
        planned(start, target) for start in starts for target in ("6.2.2", "7.0.2", "8.1.1", "8.4.0", "8.7.0")
    ]
    every = [step for plan in plans for hop in plan.hops for step in hop.steps if not _is_plain(step)]
    assert [(step.id, step.title, step.reason) for step in every] == []


SAMPLE = ("4.2.1", "6.1.0", "6.2.3", "6.3.4", "7.0.2", "8.1.1", "8.3.0", "8.5.0", "8.7.0")
# The action that answers each hazard of the handling step.
ANSWERS = {
    "alpha-dropped-empty": "delete",
    "alpha-dropped": "migrate_storage",
    "conversion-left": "conversion_none",
    "lists-at-v1beta1": "conversion_webhook",
    "stored-at-v1beta1": "migrate_storage",
    "rules-first": "narrow_rules",
    "nodes": "apply",
}
SPECIAL = {
    "orphan",
    "narrow_rules",
    "delete",
    "migrate_storage",
    "conversion_none",
    "conversion_webhook",
    "switch_service",
}
PAIRS = [(start, target, False) for start in SAMPLE for target in SAMPLE] + [
    (start, target, True) for start in SAMPLE[4:] for target in SAMPLE[4:]
]


@pytest.mark.parametrize("start", SAMPLE)
def test_every_pair_of_releases(start: str) -> None:
    for target, groups in [(target, groups) for pair, target, groups in PAIRS if pair == start]:
        here = upstream(start, groups=groups)
        if groups:
            here = with_groups(here, lists=int(release_table.get(start).version >= (8, 2, 0)))
        plan = planned(here, target)
        if plan.refused:
            assert {refusal.id for refusal in plan.refused} <= {"back-to-alpha", "back-without-lists"}
            continue
        _check(plan)
        for hop in plan.hops:
            here = state_after(UpgradeContext(here, hop.release, options()))
        again = planned(here, target)  # a finished cluster needs no special step
        assert ([*again.refused], len(again.hops)) == ([], 1)
        assert [step.id for step in again.hops[0].steps if step.action.action_name in SPECIAL] == []


def _check(plan: Plan) -> None:
    steps = [step for hop in plan.hops for step in hop.steps]
    handled = {hazard.hazard.id for hazard in plan.hazards if hazard.hazard.handling == table.STEP}
    actions = {step.action.action_name for step in steps}
    assert handled <= ANSWERS.keys()
    for hazard in handled:  # a hazard that a separate hop handles is the reason of that hop
        assert ANSWERS[hazard] in actions or len(plan.hops) > 1
    for hop in plan.hops:
        order = [step.id for step in hop.steps]
        assert len(set(order)) == len(order)
        _in_order(order, "crds", "group-crds", "controller", "verify-version")
        _in_order(
            order,
            "narrow-snapshot",
            "webhook-deployment",
            "webhook-configurations",
            "verify-webhook",
            "failure-policy",
        )
        _in_order(order, "crds", "configurations-delete", "validation-clean")
        _in_order(order, "conversion-webhook", "group-crds", "verify-conversion")
        _in_order(order, "rewrite-volumegroupsnapshotcontents-v1beta1", "group-crds", "conversion-clean")
        _in_order(order, "conversion-none", "group-crds")


def _in_order(order: list[str], *wanted: str) -> None:
    places = [order.index(entry) for entry in wanted if entry in order]
    assert places == sorted(places), (order, wanted)


def test_permissions_come_before_the_controller_and_last_on_the_downgrade() -> None:
    assert ids(planned(upstream("4.2.1"), "8.7.0")).index("controller-rbac") < 3
    downgrade = ids(planned(upstream("8.1.1"), "4.2.1"))
    assert downgrade.index("controller-rbac") > downgrade.index("controller-wait")


def test_the_predicted_state_equals_the_state_that_is_read() -> None:
    """The first release that was installed is what the second run finds."""
    here = ours("7.0.2")
    assert here.running(CONTROLLER)[0].version == (7, 0, 2)
    assert [configuration.name for configuration in here.configurations] == [
        "validation-webhook.snapshot.storage.k8s.io"
    ]
    assert all(crd.set and crd.set.key == "7.0" for crd in here.crds.values())


def test_the_installed_objects_in_the_result() -> None:
    installed = plan_report.installed(UpgradeContext(ours("7.0.2"), release_table.get("8.1.1"), options()))
    assert set(installed) == set(
        "version kubernetes crds controllers webhooks configurations secrets sidecars default_classes group_objects unreadable".split()
    )
    assert installed["version"] == "7.0.2"
    assert {row["namespace"] for row in installed["controllers"]} == {"kube-system"}
    assert all(row["namespace"] and row["name"] for row in installed["secrets"])


# Stored versions of a CRD, whether it is bridged from v1alpha1, the number of objects -> whether its objects are migrated.
MIGRATED: list[tuple[tuple[str, ...], bool, int, bool]] = [
    (("v1beta2",), False, 1, False),
    (("v1beta1", "v1beta2"), False, 1, True),
    (("v1alpha1",), True, 1, True),
    (("v1alpha1",), True, 0, False),
]


@pytest.mark.parametrize(("stored", "is_bridged", "total", "is_migrated"), MIGRATED)
def test_only_objects_stored_at_v1beta1_are_migrated(
    stored: tuple[str, ...], is_bridged: bool, total: int, is_migrated: bool
) -> None:
    crd = SimpleNamespace(name=GROUP_CONTENTS, stored_versions=stored)
    installed = SimpleNamespace(crds={crd.name: crd}, groups=SimpleNamespace(total=total))
    context: Any = SimpleNamespace(
        installed=installed, groups=SimpleNamespace(alpha=[crd] if is_bridged else [])
    )
    assert _stored_at_v1beta1(context) == ([GROUP_CONTENTS] if is_migrated else [])
