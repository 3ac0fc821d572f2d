# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Test the tables of releases, sets of CRDs, flags, rules of stored objects and managers."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.installed import (
    installers,
    validity,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.installed.installers import (
    INSTALLERS,
    OURS,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.kinds import (
    CONTROLLER,
    SIDECAR,
    VALIDATION,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.release import (
    crd_sets,
    flags,
    release_table,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.release.release_table import (
    GROUP,
    RELEASES,
    SNAPSHOT,
)

from tests.support.failures import fails
from tests.unit.plugins.module_utils._snapshot import objects


def test_releases_are_in_order_and_complete() -> None:
    versions = [release.version for release in RELEASES]
    assert versions == sorted(set(versions))
    assert (str(release_table.OLDEST), str(release_table.NEWEST), len(versions)) == ("4.2.0", "8.7.0", 31)


def test_every_release_has_its_crds_in_the_table() -> None:
    for release in RELEASES:
        assert crd_sets.row(release.crds, SNAPSHOT).group == SNAPSHOT
        assert not release.group_crds or crd_sets.row(release.group_crds, GROUP).group == GROUP
        if release.groups:
            assert crd_sets.row(release.group_crds, GROUP).versions[release.groups.version] in (
                crd_sets.STORED,
                crd_sets.SERVED,
            )


@pytest.mark.parametrize(
    ("words", "version"),
    [
        ("8.2.0", (8, 2, 0)),
        ("v8.2.0", (8, 2, 0)),
        ("v8.2.0-eks-1-33-1", (8, 2, 0)),
        ("v7.0.2-build20240101", (7, 0, 2)),
        ("v1.36.3+k3s1", (1, 36, 3)),
        ("latest", None),
        ("8.2", None),
        ("", None),
    ],
)
def test_version_of_a_tag(words: str, version: tuple[int, int, int] | None) -> None:
    assert release_table.parse(words) == version


def test_targets() -> None:
    assert str(release_table.target("v8.7.0")) == "8.7.0"
    for never in ("6.0.0", "6.3.0", "7.0.0"):
        with fails("release-unavailable", never):
            release_table.target(never)
    for unknown in ("8.8.0", "8.7", "8.7.0-rc1", "newest"):
        with fails("release-unavailable", unknown):
            release_table.target(unknown)


def test_the_webhook_of_each_era() -> None:
    def era(version: str) -> tuple[Any, ...]:
        hook = release_table.get(version).webhook
        return (
            ()
            if hook is None
            else (hook.kind, *hook.selector, hook.service_account, len(hook.configurations))
        )

    assert era("5.0.1") == (VALIDATION, "app", "", 1)
    assert era("6.2.3") == (VALIDATION, "app", "snapshot-webhook", 1)
    assert era("6.3.4") == (VALIDATION, "app", "snapshot-webhook", 2)
    assert era("8.1.1") == (VALIDATION, "app.kubernetes.io/name", "snapshot-webhook", 2)
    assert era("8.3.0") == ()
    assert era("8.5.0") == ("conversion", "app.kubernetes.io/name", "", 0)
    assert era("8.7.0") == ()


@pytest.mark.parametrize("row", crd_sets.SETS, ids=[f"{row.group} {row.key}" for row in crd_sets.SETS])
def test_fingerprint_of_every_set(row: crd_sets.CrdSet) -> None:
    for name in crd_sets.names(row.group):
        crd = crd_sets.parse(objects.crd(name, row))
        assert crd.set == row, name
        assert dict(crd.versions) == dict(row.versions)


#: Key of a set -> the version of its generator. Older sets name none, and newer ones all have the same.
GENERATORS = {"6.0.1": "v0.8.0", "6.3": "v0.11.3", "7.0": "v0.12.0"}
#: The versions that are stored and served, by set.
VERSIONS = {
    SNAPSHOT: {"3.0": "v1beta1", "4.0": "v1beta1 v1", "4.1": "v1 v1beta1"},
    GROUP: {
        "6.3": "v1alpha1",
        "7.0": "v1alpha1",
        "8.0": "v1alpha1",
        "8.2": "v1beta1",
        "8.4": "v1beta2 v1beta1",
        "8.6": "v1beta2 v1 v1beta1",
    },
}


@pytest.mark.parametrize("row", crd_sets.SETS, ids=[f"{row.group} {row.key}" for row in crd_sets.SETS])
def test_the_facts_of_every_set(row: crd_sets.CrdSet) -> None:
    newest = crd_sets.rank(row) >= (8, 0)
    assert row.rules is newest
    assert row.generator == GENERATORS.get(row.key, "v0.15.0" if newest else "")
    served = [name for name, state in row.versions.items() if state == crd_sets.SERVED]
    assert " ".join([row.storage, *served]) == VERSIONS[row.group].get(row.key, "v1")
    listed = {name for name, state in row.versions.items() if state == crd_sets.LISTED}
    assert listed == ({"v1beta1"} if row.group == SNAPSHOT and crd_sets.rank(row) >= (6, 0, 1) else set())


def test_every_release_has_a_set_that_names_it() -> None:
    for release in (row for row in release_table.RELEASES if not row.never):
        for key, group in ((release.crds, SNAPSHOT), (release.group_crds, GROUP)):
            words = crd_sets.row(key, group).releases.replace(" and ", " to ").split(" to ") if key else []
            first, last = (
                tuple(map(int, word.split("."))) for word in (words[:1] + words[-1:] or ["0", "99"])
            )
            assert first <= release.version[: len(first)] and release.version[: len(last)] <= last


def test_fingerprint_without_the_generator_is_the_oldest_that_fits() -> None:
    for key, wanted in (("7.0", "6.0.1"), ("8.0", "8.0"), ("4.1", "4.1")):
        obj = objects.crd("volumesnapshots.snapshot.storage.k8s.io", crd_sets.row(key, SNAPSHOT))
        del obj["metadata"]["annotations"]
        found = crd_sets.parse(obj).set
        assert found and found.key == wanted


def test_crds_of_no_release_have_no_fingerprint() -> None:
    obj = objects.crd("volumesnapshots.snapshot.storage.k8s.io", crd_sets.row("8.0", SNAPSHOT))
    obj["spec"]["versions"][1]["served"] = True  # as RKE2 kept it for a while
    crd = crd_sets.parse(obj)
    assert crd.set is None
    assert crd.versions == {"v1": "stored", "v1beta1": "served"}


def test_conversion_of_a_crd() -> None:
    obj = objects.crd(
        release_table.GROUP_CONTENTS, crd_sets.row("8.4", GROUP), conversion=("default", "hook")
    )
    conversion = crd_sets.parse(obj).conversion
    assert (conversion.strategy, conversion.service, conversion.has_bundle) == (
        "Webhook",
        ("default", "hook"),
        False,
    )


FLAGS = [
    (CONTROLLER, "4.2.1", ["--v=5", "--leader-election=true", "-logtostderr"], []),
    (CONTROLLER, "4.2.1", ["--kube-api-qps=20"], ["--kube-api-qps=20"]),
    (CONTROLLER, "6.3.4", ["--enable-volume-group-snapshots"], ["--enable-volume-group-snapshots"]),
    (CONTROLLER, "8.1.1", ["--enable-volume-group-snapshots", "--feature-gates=X=true"], ["--feature-gates=X=true"]),
    (CONTROLLER, "8.2.1", ["--enable-volume-group-snapshots"], ["--enable-volume-group-snapshots"]),
    (CONTROLLER, "8.3.0", ["-stderrthreshold=2", "--v", "5", "--logging-format=json"], ["-stderrthreshold=2"]),
    (VALIDATION, "5.0.1", ["--port=8443", "--kubeconfig=x"], ["--kubeconfig=x"]),
    (VALIDATION, "8.1.1", ["--enable-volume-group-snapshot-webhook"], []),
]  # fmt: skip


@pytest.mark.parametrize(("program", "release", "arguments", "wrong"), FLAGS)
def test_flags_that_a_release_does_not_know(
    program: str, release: str, arguments: list[str], wrong: list[str]
) -> None:
    assert flags.unknown(program, arguments, release_table.get(release)) == wrong


def test_arguments_that_newer_sidecars_lack() -> None:
    lost = flags.lost(SIDECAR, ["--enable-volume-group-snapshots=true", "--v=5", "-alsologtostderr"])
    assert [(argument, flag.instead) for argument, flag in lost] == [
        ("--enable-volume-group-snapshots=true", "--feature-gates=CSIVolumeGroupSnapshot=true"),
        ("-alsologtostderr", "--logging-format"),
    ]


GATES = [
    ("7.0.2", [], False),
    ("7.0.2", ["--enable-volume-group-snapshots"], True),
    ("7.0.2", ["--enable-volume-group-snapshots=false"], False),
    ("8.6.0", [], False),
    ("8.6.0", ["--feature-gates=ReleaseLeaderElectionOnExit=true,CSIVolumeGroupSnapshot=true"], True),
    ("8.7.0", [], True),
    ("8.7.0", ["--feature-gates=CSIVolumeGroupSnapshot=false"], False),
]


@pytest.mark.parametrize(("release", "arguments", "on"), GATES)
def test_groups_are_on_or_off(release: str, arguments: list[str], on: bool) -> None:
    assert flags.groups_on(arguments, release_table.get(release)) is on


def test_arguments_for_groups() -> None:
    def given(release: str, wanted: bool) -> list[str]:
        return flags.for_groups(wanted, release_table.get(release))

    assert given("6.2.2", True) == []
    assert given("7.0.2", True) == ["--enable-volume-group-snapshots=true"]
    assert given("7.0.2", False) == []
    assert given("8.2.1", True) == ["--feature-gates=CSIVolumeGroupSnapshot=true"]
    assert given("8.7.0", False) == ["--feature-gates=CSIVolumeGroupSnapshot=false"]


def test_gates_of_the_plan_and_of_the_user_become_one_argument() -> None:
    own, user = (
        ["--feature-gates=CSIVolumeGroupSnapshot=false"],
        ["--feature-gates=ReleaseLeaderElectionOnExit=true", "--x"],
    )
    assert flags.merged(own, user) == [
        "--x",
        "--feature-gates=ReleaseLeaderElectionOnExit=true,CSIVolumeGroupSnapshot=false",
    ]
    assert flags.merged([], ["--x"]) == ["--x"]


def test_the_last_value_of_a_flag_counts() -> None:
    assert flags.value(["--v=2", "--v", "5", "--leader-election"], "v") == "5"
    assert flags.value(["--v=2", "--leader-election"], "leader-election") == "true"
    assert flags.value([], "v") is None


SNAPSHOT_KIND, CONTENT = "VolumeSnapshot", "VolumeSnapshotContent"
VALID = [
    (SNAPSHOT_KIND, {"source": {"persistentVolumeClaimName": "a"}}, 0),
    (SNAPSHOT_KIND, {"source": {"volumeSnapshotContentName": "a"}, "volumeSnapshotClassName": "b"}, 0),
    (SNAPSHOT_KIND, {"source": {}}, 1),
    (SNAPSHOT_KIND, {"source": {"persistentVolumeClaimName": "a", "volumeSnapshotContentName": "b"}}, 1),
    (SNAPSHOT_KIND, {"source": {"persistentVolumeClaimName": "a"}, "volumeSnapshotClassName": ""}, 1),
    (SNAPSHOT_KIND, {}, 1),
    (CONTENT, {"source": {"volumeHandle": "a"}, "volumeSnapshotRef": {"name": "a", "namespace": "b"}}, 0),
    (CONTENT, {"source": {"snapshotHandle": "a"}, "volumeSnapshotRef": {"name": "", "namespace": ""}}, 0),
    (CONTENT, {"source": {"volumeHandle": "a"}, "volumeSnapshotRef": {"name": "a"}}, 1),
    (CONTENT, {"source": {"volumeHandle": "a", "snapshotHandle": "b"}, "volumeSnapshotRef": {}}, 2),
    ("VolumeGroupSnapshot", {"source": {"selector": {}}}, 0),
    ("VolumeGroupSnapshotContent", {"source": {"persistentVolumeNames": ["a"]}, "volumeGroupSnapshotRef": {}}, 2),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "spec", "count"), VALID)
def test_rules_of_stored_objects(kind: str, spec: dict[str, Any], count: int) -> None:
    found = validity.faults(kind, [{"metadata": {"namespace": "n", "name": "x"}, "spec": spec}])
    assert [fault.place for fault in found] == ["n/x"] * count


# Metadata of an object, images, existing objects of a manager, and the key of the object's manager.
KUBECTL_MARK = {"kubectl.kubernetes.io/last-applied-configuration": "{" + "x" * 200}
# As kubectl keeps the Deployment that kubespray 2.31.0 applies (roles/kubernetes-apps/snapshots/snapshot-controller).
KUBESPRAY_MANIFEST = (
    '{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"annotations":{},"name":"snapshot-controller","namespace":'
    '"kube-system"},"spec":{"minReadySeconds":35,"replicas":1,"selector":{"matchLabels":{"app.kubernetes.io/name":'
    '"snapshot-controller"}},"template":{"spec":{"containers":[{"args":["--v=5","--leader-election=false"],"image":'
    '"registry.k8s.io/sig-storage/snapshot-controller:v7.0.2","name":"snapshot-controller"}]}}}}\n'
)
BY_KUBESPRAY = {"name": "snapshot-controller", "annotations": {next(iter(KUBECTL_MARK)): KUBESPRAY_MANIFEST}}
UPSTREAM_MANIFEST = KUBESPRAY_MANIFEST.replace("leader-election=false", "leader-election=true")
BY_SCRIPT = {"name": "snapshot-controller", "annotations": {next(iter(KUBECTL_MARK)): UPSTREAM_MANIFEST}}
# Upstream's StatefulSet of 4.0 has no leader election either.
BEFORE_4_1 = {"name": "snapshot-controller", "annotations": {next(iter(KUBECTL_MARK)): KUBESPRAY_MANIFEST.replace("Deployment", "StatefulSet")}}  # fmt: skip
KUBESPRAY_CLUSTER = ("rbac.authorization.k8s.io/clusterrolebindings/kubespray:system:node",)
BY_OURS, BY_CSA = (
    objects.field("certflow.kubernetes", "Apply", time="2026-03-01T03:00:00Z"),
    objects.field("kubectl-client-side-apply", "Update", time="2026-03-01T02:00:00Z"),
)
OWNED: list[tuple[dict[str, Any], tuple[str, ...], tuple[str, ...], str]] = [
    ({"managedFields": [objects.field("certflow.kubernetes", "Apply")]}, (), (), ""),
    ({"managedFields": [objects.field("certflow.kubernetes", "Update")]}, (), (), "unmarked"),
    ({"annotations": KUBECTL_MARK}, (), (), "kubectl"),
    ({"managedFields": [objects.field("kubectl-create", "Update")]}, (), (), "kubectl"),
    ({"annotations": KUBECTL_MARK, "managedFields": [objects.field("certflow.kubernetes", "Apply")]}, (), (), ""),
    ({}, (), (), "unmarked"),
    ({"managedFields": [objects.field("OpenAPI-Generator", "Update")]}, (), (), "unmarked"),
    ({"managedFields": [objects.field("kube-controller-manager", "Update")]}, (), (), "unmarked"),
    ({"managedFields": [{**objects.field("terraform", "Update"), "subresource": "status"}]}, (), (), "unmarked"),
    ({"managedFields": [objects.field("terraform", "Update")]}, (), (), "manager"),
    ({"managedFields": [objects.field("terraform", "Update"), objects.field("kubectl-edit", "Update")]}, (), (), "manager"),
    ({"managedFields": [objects.field("eks", "Apply")]}, (), (), "eks"),
    ({}, ("602401143452.dkr.ecr.us-west-2.amazonaws.com/eks/snapshot-controller:v8.2.0",), (), "eks"),
    ({"annotations": {"meta.helm.sh/release-name": "snapshot-controller"}}, (), (), "helm"),
    ({"labels": {"app.kubernetes.io/managed-by": "Helm"}}, (), (), "helm"),
    ({"managedFields": [objects.field("helm", "Update")]}, (), (), "helm"),
    ({"labels": {"helm.sh/chart": "snapshot-controller-0.3.0", "app": "snapshot-controller"}}, (), (), "helm"),
    ({"annotations": {"meta.helm.sh/release-name": "rke2-snapshot-controller"}}, (), (), "rke2"),
    ({}, ("rancher/hardened-snapshot-controller:v8.2.0-build20250101",), (), "rke2"),
    ({}, (), ("helm.cattle.io/helmcharts/rke2-snapshot-controller-crd",), "rke2"),
    ({}, (), ("helm.cattle.io/helmcharts/traefik",), "unmarked"),
    ({}, (), ("operator.openshift.io/csisnapshotcontrollers/cluster",), "openshift"),
    ({"annotations": {"include.release.openshift.io/self-managed-high-availability": "true"}}, (), (), "openshift"),
    ({"annotations": {"argocd.argoproj.io/tracking-id": "a:b"}}, (), (), "argocd"),
    ({"managedFields": [objects.field("argocd-controller", "Apply")]}, (), (), "argocd"),
    ({"labels": {"kustomize.toolkit.fluxcd.io/name": "infra"}}, (), (), "flux"),
    ({"labels": {"helm.toolkit.fluxcd.io/name": "x", "app.kubernetes.io/managed-by": "Helm"}}, (), (), "flux"),
    ({"labels": {"olm.owner": "x"}}, (), (), "olm"),
    ({"labels": {"k8s-addon": "snapshot-controller.addons.k8s.io"}}, (), (), "kops"),
    ({"labels": {"kubeone.io/addon": ""}}, (), (), "kubeone"),
    ({"labels": {"addonmanager.kubernetes.io/mode": "Reconcile"}}, (), (), "addon-manager"),
    ({"ownerReferences": [{"kind": "SnapshotStack", "name": "x"}]}, (), (), "operator"),
    (BY_KUBESPRAY, (), (), "kubespray"),
    (BY_SCRIPT, (), (), "kubectl"),
    (BEFORE_4_1, (), (), "kubectl"),
    (BY_SCRIPT, (), KUBESPRAY_CLUSTER, "kubespray"),
    ({"name": "volumesnapshots.snapshot.storage.k8s.io", "annotations": KUBECTL_MARK}, (), KUBESPRAY_CLUSTER, "kubespray"),
    ({"name": "snapshot-validation-deployment", "annotations": KUBECTL_MARK}, (), KUBESPRAY_CLUSTER, "kubectl"),
    ({"name": "validation-webhook.snapshot.storage.k8s.io", "annotations": KUBECTL_MARK}, (), KUBESPRAY_CLUSTER, "kubectl"),
    ({"name": "snapshot-controller"}, (), KUBESPRAY_CLUSTER, "unmarked"),
    ({"name": "snapshot-controller", "managedFields": [objects.field("helm", "Update"), BY_CSA]}, (), KUBESPRAY_CLUSTER, "helm"),
    ({"name": "snapshot-controller", "managedFields": [BY_OURS]}, (), KUBESPRAY_CLUSTER, ""),
    ({"annotations": {"meta.helm.sh/release-name": "x"}, "managedFields": [objects.field("certflow.kubernetes", "Apply")]}, (), (), "helm"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("metadata", "images", "apis", "key"), OWNED, ids=[f"{row[3]}-{i}" for i, row in enumerate(OWNED)]
)
def test_the_manager_of_an_object(
    metadata: dict[str, Any], images: tuple[str, ...], apis: tuple[str, ...], key: str
) -> None:
    found = installers.find_origin({"metadata": metadata}, images=images, apis=apis)
    assert found.key == key
    assert (found == OURS) == (key == "")
    assert all(len(text) < 200 for text in found.evidence)


@pytest.mark.parametrize("key", ["helm", "argocd", "flux", "olm"])
def test_a_marker_without_a_value_names_the_manager_of_an_object(key: str) -> None:
    """Such an object must not be taken for one without a manager."""
    place, pattern = next(
        marker
        for marker in INSTALLERS[key].markers
        if marker[0] in ("annotation", "label") and "=" not in marker[1]
    )
    metadata = {f"{place}s": {pattern.replace("*", "x"): ""}}
    assert installers.find_origin({"metadata": metadata}).key == key


ADOPTED = {**BY_KUBESPRAY, "managedFields": [BY_OURS, BY_CSA]}
AGAIN = {**BY_KUBESPRAY, "managedFields": [BY_OURS, {**BY_CSA, "time": "2026-03-02T02:00:00Z"}]}


@pytest.mark.parametrize("apis", [(), KUBESPRAY_CLUSTER])
def test_an_object_that_kubespray_wrote_after_the_upgrade_is_kubesprays_again(apis: tuple[str, ...]) -> None:
    upgraded = installers.find_origin({"metadata": ADOPTED}, apis=apis)
    assert (upgraded.key, upgraded.earlier, upgraded.evidence != ()) == ("", "kubespray", True)
    again = installers.find_origin({"metadata": AGAIN}, apis=apis)
    assert (again.key, again.earlier) == ("kubespray", "")


def test_every_manager_is_recognised_in_some_row() -> None:
    assert set(INSTALLERS) == {row[3] for row in OWNED} - {""}


def test_the_other_managers_of_an_object_are_named_except_helm() -> None:
    annotations = {"argocd.argoproj.io/tracking-id": "a:b", "meta.helm.sh/release-name": "snap"}
    labels = {"kustomize.toolkit.fluxcd.io/name": "flux-system"}
    origin = installers.find_origin({"metadata": {"annotations": annotations, "labels": labels}})
    assert (origin.key, [other.key for other in origin.others]) == ("argocd", ["flux"])


def test_evidence_names_the_marker() -> None:
    found = installers.find_origin({"metadata": {"annotations": {"meta.helm.sh/release-name": "snap"}}})
    assert found.evidence == ("annotation meta.helm.sh/release-name: snap",)
    assert installers.find_origin(
        {"metadata": {"managedFields": [objects.field("eks", "Apply")]}}
    ).evidence == ("field manager eks",)
    assert installers.find_origin({"metadata": BY_KUBESPRAY}, apis=KUBESPRAY_CLUSTER).evidence == (
        'annotation kubectl.kubernetes.io/last-applied-configuration: "kind":"Deployment" ... "--leader-election=false"',
        "object rbac.authorization.k8s.io/clusterrolebindings/kubespray:system:node",
    )


@pytest.mark.parametrize(
    ("program", "argument", "first", "last"),
    [
        (CONTROLLER, "--kube-api-qps=5", "5.0.0", str(release_table.NEWEST)),
        (CONTROLLER, "--feature-gates=a=true", "8.2.0", str(release_table.NEWEST)),
        (CONTROLLER, "--logging-format=json", "8.3.0", str(release_table.NEWEST)),
        (CONTROLLER, "--logtostderr", "4.2.0", "8.2.1"),
        (VALIDATION, "--enable-volume-group-snapshot-webhook", "6.3.1", str(release_table.NEWEST)),
        (SIDECAR, "--skip_headers", "4.2.0", "8.2.1"),
    ],
)
def test_the_releases_that_know_a_flag(program: str, argument: str, first: str, last: str) -> None:
    known = [
        str(release)
        for release in release_table.RELEASES
        if not flags.unknown(program, [argument], release) and not release.never
    ]
    assert (known[0], known[-1]) == (first, last)


def test_the_key_of_each_set_is_in_its_releases() -> None:
    assert [row.key for row in crd_sets.SETS if row.key not in row.releases] == []
