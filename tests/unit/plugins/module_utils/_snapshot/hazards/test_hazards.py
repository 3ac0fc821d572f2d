# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Test every hazard with a cluster that has it and a cluster that does not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.object_managers import (
    KUBESPRAY,
    UNMARKED,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.hazards import table
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.installed.installers import Origin
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.installed.state import (
    Hook,
    InstalledState,
    InstalledWorkload,
    InvalidObject,
    StoredGroupSnapshots,
    StoredSnapshots,
    WebhookConfiguration,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.kinds import (
    CONTROLLER,
    CONVERSION,
    VALIDATION,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.release.crd_sets import Crd
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.release.release_table import (
    GROUP_CONTENTS,
    SNAPSHOT_CRDS,
)

from tests.unit.plugins.module_utils._snapshot.world import (
    BY_KUBECTL,
    NOTHING,
    changed,
    found,
    ours,
    planned,
    sidecar,
    upstream,
    with_groups,
    with_stored,
    with_workload,
)

V1ALPHA1 = upstream("8.1.0", groups=True)
V1BETA1 = with_groups(upstream("8.3.0", groups=True), lists=1)
V1BETA2 = with_stored(with_groups(upstream("8.4.0", groups=True), lists=1), "v1beta1", "v1beta2")
V1 = with_groups(upstream("8.7.0", groups=True), lists=1)
NO_GROUPS = upstream("8.3.0")
OLD_SIDECAR = sidecar("8.2.0", "--feature-gates=CSIVolumeGroupSnapshot=true")
PLAIN_SIDECAR = sidecar("8.4.0")


def crd(start: InstalledState, name: str, **fields: Any) -> InstalledState:
    return replace(start, crds={**start.crds, name: replace(start.crds[name], **fields)})


def controller(**fields: Any) -> InstalledWorkload:
    return replace(upstream("4.2.1").running(CONTROLLER)[0], **fields)


def kubernetes(start: InstalledState, minor: int) -> InstalledState:
    return replace(start, kubernetes=(1, minor), kubernetes_version=f"v1.{minor}.0")


def configured(start: InstalledState, **fields: Any) -> InstalledState:
    """Return the state with a changed first webhook in every configuration."""
    return replace(
        start,
        configurations=tuple(
            replace(
                configuration, hooks=(replace(configuration.hooks[0], **fields), *configuration.hooks[1:])
            )
            for configuration in start.configurations
        ),
    )


def asked(start: InstalledState, *resources: str) -> InstalledState:
    rules = ({"apiGroups": ["snapshot.storage.k8s.io"], "apiVersions": ["v1"], "resources": list(resources)},)
    return configured(start, rules=rules)


ALL = ("volumesnapshots", "volumesnapshotcontents", "volumesnapshotclasses")
LEFTOVER = controller(kind="StatefulSet", namespace="default", version=(4, 0, 0))
ELSEWHERE = controller(namespace="snapshots")
RENAMED = changed(upstream("6.2.2"), CONTROLLER, name="rke2-snapshot-controller")
V421, V622, V702, V811, V820, V870 = map(upstream, ("4.2.1", "6.2.2", "7.0.2", "8.1.1", "8.2.1", "8.7.0"))
BROKEN = (InvalidObject("VolumeSnapshot", "a/b", "exactly one of"),)
FAULTY = replace(V702, objects=StoredSnapshots(faults=BROKEN))
OLD_API = Crd(SNAPSHOT_CRDS[0], {"v1": "served", "v1beta1": "stored"}, ("v1alpha1", "v1beta1"), None)
FOREIGN = Origin(UNMARKED, ("no marker of any manager",))
EXTRA = changed(V702, CONTROLLER, arguments=("--v=5", "--leader-election=true", "--http-endpoint=:8080"))
OURS_EXTRA = changed(ours("7.0.2"), CONTROLLER, arguments=("--v=2", "--http-endpoint=:8080"))
NAMES = {"apiGroups": ["snapshot.storage.k8s.io"], "apiVersions": ["v1"], "resources": ["volumesnapshots"]}
POLICY = WebhookConfiguration(
    "policy", ("snapshot.storage.k8s.io",), (Hook("policy", ("policy", "policy-svc"), "/", "Fail", (NAMES,)),)
)
MIXED = WebhookConfiguration(f"validation-webhook.{SNAPSHOT_CRDS[0].partition('.')[2]}", (), ())
CALLER = WebhookConfiguration(
    "caller", (), (Hook("caller", ("kube-system", "snapshot-validation-service"), "/", "Fail", ()),)
)
BEHIND = WebhookConfiguration(
    "behind", (), (Hook("behind", ("kube-system", "other-svc"), "/", "Fail", (), VALIDATION),)
)


def foreign(start: InstalledState, *configurations: WebhookConfiguration) -> InstalledState:
    return replace(start, foreign=configurations)


def secret(start: InstalledState, **fields: Any) -> InstalledState:
    return replace(start, secrets=tuple(replace(tls_secret, **fields) for tls_secret in start.secrets))


MARK = ("object rbac.authorization.k8s.io/clusterrolebindings/kubespray:system:node",)
BY_KUBESPRAY = changed(V702, CONTROLLER, origin=Origin(KUBESPRAY, MARK))
FROM_KUBESPRAY = changed(ours("8.7.0"), CONTROLLER, origin=Origin("", MARK, KUBESPRAY))
#: Lists without which no plan is made.
LISTS = (
    "crds deployments statefulsets replicasets configurations services cluster_roles cluster_role_bindings service_accounts "
    "classes snapshots contents group_classes group_snapshots group_contents group_contents_v1beta1"
).split()
UNREAD = {"pods": "pods is forbidden"}
# The hazard: where it is there (installed, target, what the user wants), and where it is not.
Case = tuple[InstalledState, str, dict[str, Any]]
NO: dict[str, Any] = {}
CASES: dict[str, tuple[list[Case], list[Case]]] = {
    "unreadable": (
        [
            *((replace(V702, unreadable={what: "forbidden"}), "8.1.1", NO) for what in LISTS),
            (replace(V1BETA2, unreadable={"group_contents": "no conversion", "crds": "forbidden"}), "8.3.0", NO),
            (replace(V702, unreadable={"secrets": "forbidden"}), "8.1.1", NO),
            (replace(V702, unreadable={"mutating_configurations": "forbidden"}), "8.2.1", NO),
        ],
        [
            (replace(V820, unreadable={"mutating_configurations": "forbidden"}), "8.7.0", NO),
            (replace(V702, unreadable={"leases": "forbidden"}), "8.1.1", NO),
            (replace(V702, unreadable={"secrets": "forbidden"}), "8.2.1", NO),
        ],
    ),
    "hosted": ([(replace(V702, workloads=()), "8.1.1", NO)], [(replace(ours("7.0.2"), workloads=()), "8.1.1", NO), (NOTHING, "8.1.1", NO)]),
    "kubespray-reverts": (
        [
            (BY_KUBESPRAY, "8.7.0", NO),
            (BY_KUBESPRAY, "8.7.0", {"accept": ("kubectl", "kubespray")}),
            (FROM_KUBESPRAY, "8.7.0", NO),
        ],
        [(V702, "8.7.0", NO), (ours("8.7.0"), "8.7.0", NO)],
    ),
    "older-than-4.2": (
        [
            (changed(V421, CONTROLLER, version=(4, 1, 1)), "6.2.2", NO),
            (replace(V421, crds={OLD_API.name: OLD_API}), "6.2.2", NO),
        ],
        [(V421, "6.2.2", NO)],
    ),
    "newer-than-known": (
        [
            (changed(V870, CONTROLLER, version=(8, 8, 0)), "8.7.0", NO),
            (changed(V820, CONTROLLER, version=(8, 2, 7)), "8.7.0", NO),
        ],
        [(V870, "8.7.0", NO)],
    ),
    "version-unknown": (
        [(changed(V702, CONTROLLER, version=None), "8.1.1", NO)],
        [(changed(V702, CONTROLLER, version=None), "8.1.1", {"installed_version": (7, 0, 2)})],
    ),
    "two-controllers": (
        [(with_workload(V622, ELSEWHERE), "7.0.2", NO)],
        [
            (with_workload(V622, ELSEWHERE), "7.0.2", {"remove_controllers": ("snapshots/snapshot-controller",)}),
            (with_workload(V622, LEFTOVER), "7.0.2", NO),
            (with_workload(V622, PLAIN_SIDECAR), "7.0.2", NO),
        ],
    ),
    "other-containers": (
        [
            (changed(V702, CONTROLLER, companions=("driver",)), "8.1.1", NO),
            (changed(V702, VALIDATION, companions=("proxy",)), "8.1.1", NO),
            (changed(V702, VALIDATION, companions=("proxy",)), "8.2.1", NO),
            (
                with_workload(V622, replace(ELSEWHERE, companions=("driver",))),
                "7.0.2",
                {"remove_controllers": ("snapshots/snapshot-controller",)},
            ),
        ],
        [(V702, "8.1.1", NO), (with_workload(V811, replace(PLAIN_SIDECAR, companions=("driver",))), "8.2.1", NO)],
    ),
    "controllers-removed": (
        [
            (with_workload(V622, ELSEWHERE), "7.0.2", {"remove_controllers": ("snapshots/snapshot-controller",)}),
            (with_workload(V622, LEFTOVER), "7.0.2", NO),
        ],
        [
            (V622, "7.0.2", NO),
            (RENAMED, "7.0.2", {"remove_controllers": ("kube-system/rke2-snapshot-controller",)}),
        ],
    ),
    "another-name": (
        [(RENAMED, "7.0.2", NO)],
        [(RENAMED, "7.0.2", {"remove_controllers": ("kube-system/rke2-snapshot-controller",)}), (V622, "7.0.2", NO)],
    ),
    "namespace-moves": (
        [(V622, "7.0.2", {"namespace": "snapshots"})],
        [(V622, "7.0.2", {"namespace": "kube-system"}), (NOTHING, "7.0.2", {"namespace": "snapshots"})],
    ),
    "webhook-moves": (
        [(V622, "7.0.2", {"webhook_namespace": "webhooks"})],
        [(V622, "8.2.1", {"webhook_namespace": "webhooks"}), (NOTHING, "7.0.2", {"webhook_namespace": "webhooks"})],
    ),
    "webhook-names": (
        [
            (changed(V622, VALIDATION, name="snapshot-validation-webhook"), "7.0.2", NO),
            (configured(V622, service=("kube-system", "other")), "7.0.2", NO),
        ],
        [(V622, "7.0.2", NO), (changed(V622, VALIDATION, name="x"), "8.2.1", NO)],
    ),
    "mixed-object": (
        [
            (replace(foreign(V811, MIXED), mixed={str(MIXED): "also has"}), "8.2.1", NO),
            (replace(foreign(V811, MIXED), mixed={str(MIXED): "also has"}), "8.1.1", NO),
            (replace(V811, mixed={str(V811.services[0]): "selects no pods"}), "8.2.1", NO),
            (replace(V811, leftovers=(("ClusterRole", "", "x"),), mixed={"ClusterRole x": "also has"}), "8.2.1", NO),
        ],
        [
            (replace(foreign(V811, POLICY), mixed={str(POLICY): "its name is not upstream's"}), "8.2.1", NO),
            (replace(V811, mixed={"Service team/snapshot-validation-service": "selects no pods"}), "8.2.1", NO),
        ],
    ),
    "foreign-configuration": ([(foreign(V811, POLICY), "8.2.1", NO), (foreign(V702, POLICY), "8.1.1", NO)], [(V811, "8.2.1", NO)]),
    "webhook-shared": (
        [(foreign(V811, entry), target, NO) for entry in (CALLER, BEHIND) for target in ("8.2.1", "8.1.0")],
        [(foreign(V811, POLICY), "8.2.1", NO)],
    ),
    "secret-kept": (
        [
            (secret(V811, users=(("Deployment kube-system/shop", ""),)), "8.2.1", NO),
            (changed(secret(V811, name="shared-tls"), VALIDATION, secrets=("shared-tls",)), "8.2.1", NO),
            (secret(V811, managers=("cert-manager",)), "8.2.1", NO),
            (secret(V811, keys=("tls.crt", "tls.key", "password")), "8.2.1", NO),
            (replace(V811, unreadable=UNREAD), "8.2.1", NO),
            (secret(V421, users=(("Pod kube-system/debug", ""),)), "6.2.2", NO),
        ],
        [
            (secret(V811, users=(("Deployment kube-system/snapshot-validation-deployment", VALIDATION),)), "8.2.1", NO),
            (replace(V702, unreadable=UNREAD), "8.1.1", NO),
        ],
    ),
    "crd-deleted": ([(crd(V622, SNAPSHOT_CRDS[0], terminating=True), "7.0.2", NO)], [(V622, "7.0.2", NO)]),
    "kubernetes-too-old": (
        [(kubernetes(V702, 24), "8.1.1", NO), (kubernetes(V702, 24), "8.7.0", NO)],
        [(kubernetes(V622, 24), "7.0.2", NO), (kubernetes(V702, 25), "8.1.1", NO)],
    ),
    "stored-versions": (
        [
            (crd(V622, SNAPSHOT_CRDS[0], stored_versions=("v2", "v1")), "7.0.2", NO),
            (with_stored(V1BETA2, "v1alpha1", "v1beta2"), "8.7.0", NO),
        ],
        [(V421, "8.7.0", NO), (with_groups(V1ALPHA1), "8.4.0", NO)],
    ),
    "v1beta1-unserved": ([(V421, "6.2.2", NO), (V421, "8.7.0", NO)], [(V421, "5.0.1", NO), (V622, "7.0.2", NO)]),
    "invalid-objects": ([(kubernetes(FAULTY, 29), "8.1.1", NO)], [(FAULTY, "8.1.1", NO), (kubernetes(V702, 29), "8.1.1", NO)]),
    "invalid-objects-kept": ([(FAULTY, "8.1.1", NO)], [(kubernetes(FAULTY, 29), "8.1.1", NO), (V702, "8.1.1", NO)]),
    "default-classes": (
        [(replace(V820, default_classes={"csi.example.com": ("a", "b")}), "8.7.0", NO)],
        [(replace(V820, default_classes={"csi.example.com": ("a",), "d": ("b",)}), "8.7.0", NO)],
    ),
    "foreign-crds": (
        [
            (
                replace(crd(V622, SNAPSHOT_CRDS[0], set=None), crd_origins=dict.fromkeys(V622.crds, BY_KUBECTL)),
                "7.0.2",
                NO,
            )
        ],
        [(V622, "7.0.2", NO)],
    ),
    "crds-stay": ([(V811, "7.0.2", NO)], [(V702, "8.1.1", NO)]),
    "alpha-sources": (
        [
            (
                replace(V1ALPHA1, groups=StoredGroupSnapshots(contents=1, alpha_sources=("old",))),
                "8.4.0",
                NO,
            )
        ],
        [(with_groups(V1ALPHA1), "8.4.0", NO)],
    ),
    "alpha-lists": ([(with_groups(V1ALPHA1), "8.4.0", NO)], [(V1ALPHA1, "8.4.0", NO), (V1BETA1, "8.4.0", NO)]),
    "alpha-dropped-empty": ([(V1ALPHA1, "8.2.1", NO), (V1ALPHA1, "8.7.0", NO)], [(with_groups(V1ALPHA1), "8.2.1", NO), (V1ALPHA1, "8.1.1", NO)]),
    "alpha-dropped": (
        [(with_groups(V1ALPHA1), "8.2.1", NO), (with_groups(V1ALPHA1), "8.7.0", NO)],
        [(V1ALPHA1, "8.2.1", NO), (V1BETA1, "8.4.0", NO)],
    ),
    "conversion-refused": (
        [
            (V1BETA1, "8.4.0", {"conversion_webhook": False}),
            (V1BETA2, "8.5.0", {"conversion_webhook": False}),
            (changed(V1BETA2, CONVERSION, available=0), "8.5.0", {"conversion_webhook": False}),
            (
                with_workload(with_groups(upstream("8.3.0", groups=True)), OLD_SIDECAR),
                "8.4.0",
                {"conversion_webhook": False},
            ),
        ],
        [(with_groups(upstream("8.3.0", groups=True)), "8.4.0", {"conversion_webhook": False}), (V1BETA1, "8.4.0", NO),
         (replace(V1, workloads=V1BETA1.workloads), "8.4.0", {"conversion_webhook": False})],
    ),
    "conversion-unsupported": (
        [(V702, "8.1.1", {"conversion_webhook": True}), (V1BETA2, "8.7.0", {"conversion_webhook": True})],
        [(V702, "8.4.0", {"conversion_webhook": True})],
    ),
    "conversion-left": (
        [(V1BETA2, "8.6.0", NO), (crd(V1, GROUP_CONTENTS, conversion=V1BETA2.crds[GROUP_CONTENTS].conversion), "8.7.0", NO)],
        [(V1BETA2, "8.5.0", NO), (V1, "8.7.0", NO)],
    ),
    "lists-at-v1beta1": (
        [(V1BETA1, "8.6.0", NO), (replace(V1, groups=replace(V1.groups, hidden=1)), "8.7.0", NO)],
        [(V1BETA1, "8.5.0", NO), (V1BETA2, "8.7.0", NO), (with_groups(V1ALPHA1), "8.7.0", NO)],
    ),
    "stored-at-v1beta1": ([(V1BETA2, "8.7.0", NO)], [(V1BETA2, "8.5.0", NO), (V1, "8.7.0", NO)]),
    "sidecars-at-v1beta1": (
        [(with_workload(V1BETA2, OLD_SIDECAR), "8.7.0", NO)],
        [
            (with_workload(V1BETA2, OLD_SIDECAR), "8.5.0", NO),
            (with_workload(V1BETA2, sidecar("8.2.0")), "8.7.0", NO),
            (with_workload(V1BETA2, PLAIN_SIDECAR), "8.7.0", NO),
        ],
    ),
    "back-to-alpha": (
        [(V1, "8.1.1", NO), (V1ALPHA1, "7.0.2", NO)],
        [
            (V1, "8.1.1", {"group_snapshots": False}),
            (V1, "8.4.0", NO),
            (V1ALPHA1, "8.0.2", NO),
            (V1ALPHA1, "7.0.2", {"group_snapshots": False}),
        ],
    ),
    "back-without-lists": (
        [
            (V1, "8.3.0", NO),
            (V1BETA2, "8.3.0", NO),
            (V1BETA2, "8.3.0", {"group_snapshots": False}),
            (V1BETA2, "7.0.2", {"group_snapshots": False}),
            (
                replace(V1BETA2, groups=StoredGroupSnapshots(), unreadable={"group_contents": "conversion webhook failed"}),
                "8.3.0",
                {"group_snapshots": False},
            ),
        ],
        [
            (replace(V1, groups=StoredGroupSnapshots()), "8.3.0", NO),
            (V1, "8.3.0", {"group_snapshots": False}),
            (V1, "8.4.0", NO),
            (upstream("8.4.0", groups=True), "8.3.0", NO),
            (V1BETA1, "8.2.1", NO),
        ],
    ),
    "no-way-back": (
        [
            (upstream("8.1.1", groups=True), "8.7.0", NO),  # without v1alpha1 the older controller would exit
            (upstream("7.0.2", groups=True), "8.1.1", NO),  # v1alpha1 has another schema
            (with_groups(upstream("8.3.0", groups=True), lists=1), "8.4.0", NO),
        ],
        [
            (V702, "8.7.0", NO),
            (NOTHING, "8.7.0", NO),
            (upstream("8.2.0", groups=True), "8.3.0", NO),
            (upstream("8.4.0", groups=True), "8.7.0", NO),
            (upstream("8.7.0", groups=True), "8.6.0", NO),
        ],
    ),
    "groups-unattended": (
        [(with_groups(upstream("7.0.2", groups=True)), "6.3.4", NO), (V1, "8.3.0", {"group_snapshots": False})],
        [(V1, "8.6.0", NO), (upstream("7.0.2", groups=True), "6.3.4", NO), (with_groups(V702), "6.3.4", NO)],
    ),
    "rules-first": ([(V702, "8.1.1", NO), (V622, "5.0.1", NO)], [(V622, "7.0.2", NO), (V702, "8.2.1", NO)]),
    "volume-mode": (
        [(V622, "7.0.2", NO), (V421, "8.7.0", NO)],
        [
            (V622, "7.0.2", {"controller_arguments": ("--prevent-volume-mode-conversion=false",)}),
            (V702, "8.1.1", NO),
            (NOTHING, "7.0.2", NO),
        ],
    ),
    "arguments-unknown": (
        [
            (V811, "8.2.1", {"controller_arguments": ("--enable-volume-group-snapshots",)}),
            (V811, "8.3.0", {"controller_arguments": ("-logtostderr",)}),
            (V622, "7.0.2", {"webhook_arguments": ("--http-endpoint=:8080",)}),
        ],
        [
            (V811, "8.2.1", {"controller_arguments": ("-logtostderr",)}),
            (V811, "8.3.0", {"controller_arguments": ("--kube-api-qps=20", "--v", "6")}),
            (V811, "8.2.1", {"webhook_arguments": ("--http-endpoint=:8080",)}),
        ],
    ),
    "arguments-dropped": (
        [(EXTRA, "8.1.1", NO)],
        [(EXTRA, "8.1.1", {"controller_arguments": ("--http-endpoint=:9090",)}), (OURS_EXTRA, "8.1.1", NO)],
    ),
    "arguments-taken-back": ([(OURS_EXTRA, "8.1.1", NO)], [(EXTRA, "8.1.1", NO), (ours("7.0.2"), "8.1.1", NO)]),
    "sidecar-arguments": (
        [(with_workload(V811, sidecar("8.1.0", "--enable-volume-group-snapshots=true")), "8.2.1", NO)],
        [(with_workload(V811, sidecar("8.1.0", "--v=5")), "8.2.1", NO)],
    ),
    "nodes": (
        [(V820, "8.7.0", {"controller_arguments": ("--enable-distributed-snapshotting",)})],
        [(V820, "8.7.0", {"controller_arguments": ("--enable-distributed-snapshotting=false",)}), (V820, "8.7.0", NO)],
    ),
}  # fmt: skip


def test_every_row_has_its_cases() -> None:
    assert list(CASES) == [row.id for row in table.HAZARDS]
    assert [name for name, (there, absent) in CASES.items() if not there or not absent] == []


def _rows(side: int) -> list[tuple[str, Case]]:
    return [(name, case) for name, cases in CASES.items() for case in cases[side]]


def _names(side: int) -> list[str]:
    return [f"{name}-to-{case[1]}" for name, case in _rows(side)]


@pytest.mark.parametrize(("name", "case"), _rows(0), ids=_names(0))
def test_the_hazard_is_found(name: str, case: Case) -> None:
    start, target, given = case
    plan = planned(start, target, **given)
    row = next(row for row in table.HAZARDS if row.id == name)
    refused = {refusal.id: refusal for refusal in plan.refused}
    assert name in found(plan)
    finding = next(hazard.finding for hazard in plan.hazards if hazard.hazard.id == name)
    assert finding.evidence
    assert all(finding.evidence)
    assert (name in refused) == (row.handling in (table.REFUSE, table.ASK))
    if name in refused:
        assert refused[name].remedy
        assert plan.hops
    if row.handling == table.REPORT:
        assert finding.remedy


@pytest.mark.parametrize(("name", "case"), _rows(1), ids=_names(1))
def test_the_hazard_is_not_found(name: str, case: Case) -> None:
    start, target, given = case
    assert name not in found(planned(start, target, **given))


@pytest.mark.parametrize("name", [row.id for row in table.HAZARDS if row.handling == table.ASK])
def test_a_hazard_that_asks_can_be_accepted(name: str) -> None:
    start, target, given = CASES[name][0][0]
    plan = planned(start, target, accept=("kubectl", name), **given)
    assert name in found(plan)
    assert plan.refused == ()


def test_kubesprays_objects_are_accepted_by_its_name_only() -> None:
    assert [refusal.id for refusal in planned(BY_KUBESPRAY, "8.7.0").refused] == ["owner-kubespray"]
    assert planned(BY_KUBESPRAY, "8.7.0", accept=("kubectl", "kubespray")).refused == ()
    assert planned(FROM_KUBESPRAY, "8.7.0").refused == ()


def test_a_row_has_sentences_and_a_source() -> None:
    for row in table.HAZARDS:
        assert row.answer.endswith("."), row.id
        assert not row.title.endswith("."), row.id
        assert row.source
