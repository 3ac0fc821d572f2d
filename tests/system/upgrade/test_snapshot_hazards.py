# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Create hazards on a cluster with kubectl, and check what the plan reports.

These are the hazards without running pods. The chains of `make upgrades` meet more, and ELSEWHERE names the test or the command of each
other hazard. Together they are all rows of the table.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.hazards.table import HAZARDS

from tests.support import clusters
from tests.support.clusters import build
from tests.support.upgrade import snapshot_lab as lab
from tests.support.upgrade.snapshot_plans import MET_BY_GROUPS, MET_ON_THE_WAY, clean, hazards, install, plan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.clusters import Cluster

Object = dict[str, Any]
Deed = Callable[[clusters.Cluster], object]
CONTROLLER = ("-n", "kube-system", "deployment/snapshot-controller")
GROUP = "groupsnapshot.storage.k8s.io"
GROUP_KINDS = ("volumegroupsnapshotclasses", "volumegroupsnapshotcontents", "volumegroupsnapshots")


@pytest.fixture(scope="module")
def cluster(without_snapshots: Cluster) -> Cluster:
    return without_snapshots


@pytest.fixture
def empty(cluster: Cluster) -> Iterator[Cluster]:
    """A cluster without any object of the snapshot controller."""
    yield cluster
    for name in lab.kubectl(cluster, "get", "crds", "-oname").split():
        if "snapshot.storage.k8s.io" in name:
            patch((name,), {"op": "add", "path": "/metadata/finalizers", "value": []})(cluster)
    clean(cluster)


# Changes that a user makes with kubectl.


def kubectl(*arguments: str) -> Deed:
    return lambda cluster: lab.kubectl(cluster, *arguments)


def create(*objects: Object) -> Deed:
    return lambda cluster: lab.kubectl(
        cluster, "create", "-f-", stdin="\n---\n".join(map(json.dumps, objects))
    )


def patch(place: tuple[str, ...], *operations: Object) -> Deed:
    return kubectl("patch", *place, "--type=json", f"-p={json.dumps(operations)}")


def argument(place: tuple[str, ...], value: str) -> Deed:
    return patch(place, {"op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": value})


def image(value: str) -> Deed:
    return kubectl("set", "image", *CONTROLLER, f"snapshot-controller={value}")


def groups(release: str, *objects: Object) -> Deed:
    """Create the group CRDs of a release without a conversion webhook, and objects."""

    def deed(cluster: Cluster) -> None:
        _deploy, directory = build.snapshot_manifests(release)
        for kind in GROUP_KINDS:
            lab.kubectl(cluster, "create", "-f", str(directory / f"{GROUP}_{kind}.yaml"))
        lab.kubectl(
            cluster, "wait", "--for=condition=Established", *(f"crd/{kind}.{GROUP}" for kind in GROUP_KINDS)
        )
        if objects:
            lab.kubectl(cluster, "create", "-f-", stdin="\n---\n".join(map(json.dumps, objects)))

    return deed


def workload(kind: str, namespace: str, name: str, image: str, **pod: Any) -> Object:
    """Return a Deployment or StatefulSet with one container. Its pods never run here."""
    labels = {"app": name}
    box = {"name": name, "image": image, **pod.pop("container", {})}
    spec: Object = {
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [box], **pod}},
    }
    metadata = {"name": name, "namespace": namespace}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": metadata,
        "spec": {**spec, **({"serviceName": name} if kind == "StatefulSet" else {})},
    }


def sidecar(release: str, *arguments: str) -> Object:
    image = f"{lab.REGISTRY}/csi-snapshotter:v{release}"
    return workload("Deployment", "default", "driver", image, container={"args": list(arguments)})


def group_content(version: str, source: Object | None = None) -> Object:
    spec = {
        "deletionPolicy": "Retain",
        "driver": "test.certflow.invalid",
        "source": source or {"volumeHandles": ["volume-1"]},
        "volumeGroupSnapshotRef": {"name": "kept", "namespace": "default"},
    }
    return {
        "apiVersion": f"{GROUP}/{version}",
        "kind": "VolumeGroupSnapshotContent",
        "metadata": {"name": "kept"},
        "spec": spec,
    }


def nothing(_cluster: Cluster) -> None:
    """Do nothing. The hazard is in the options."""


OLD_CONTROLLER = f"{lab.REGISTRY}/snapshot-controller:v4.0.0"
WEBHOOK = ("-n", "default", "deployment/snapshot-validation-deployment")
GATE = "--feature-gates=CSIVolumeGroupSnapshot=true"
SNAPSHOT_CRD = ("crd", "volumesnapshots.snapshot.storage.k8s.io")
LISTS = {"status": {"volumeSnapshotHandlePairList": [{"snapshotHandle": "s", "volumeHandle": "v"}]}}
V9 = {"name": "v9", "served": False, "storage": False, "schema": {"openAPIV3Schema": {"type": "object"}}}
NO: Object = {}
# Hazard -> the installed release, the change, the target, and the options.
CASES: dict[str, tuple[str, Deed, str, Object]] = {
    "older-than-4.2": ("4.2.1", image(OLD_CONTROLLER), "6.2.2", NO),
    "newer-than-known": ("8.7.0", image(f"{lab.REGISTRY}/snapshot-controller:v9.1.0"), "8.7.0", NO),
    "version-unknown": ("7.0.2", image("mirror.example/snapshot-controller:ours"), "8.7.0", NO),
    "two-controllers": ("7.0.2", create(workload("Deployment", "default", "another", OLD_CONTROLLER.replace("4.0.0", "7.0.2"))), "8.7.0", NO),
    "another-name": ("7.0.2", lambda cluster: (
        kubectl("delete", *CONTROLLER)(cluster),
        create(workload("Deployment", "kube-system", "rke2-snapshot-controller", OLD_CONTROLLER.replace("4.0.0", "7.0.2")))(cluster),
    ), "8.7.0", NO),
    "webhook-names": ("6.2.2", create(
        {
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration", "metadata": {"name": "theirs.snapshot.storage.k8s.io"},
            "webhooks": [{
                "name": "theirs.snapshot.storage.k8s.io", "admissionReviewVersions": ["v1"], "sideEffects": "None",
                "clientConfig": {"service": {"namespace": "default", "name": "theirs", "path": "/volumesnapshot"}},
                "rules": [{"apiGroups": ["snapshot.storage.k8s.io"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["volumesnapshots"]}],
            }],
        },
        {"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "default", "name": "theirs", "labels": {"snapshot-test": ""}}, "spec": {"selector": {"app": "theirs"}, "ports": [{"port": 443}]}},
        workload("Deployment", "default", "theirs", f"{lab.REGISTRY}/snapshot-validation-webhook:v6.2.2"),
    ), "7.0.2", NO),
    "namespace-moves": ("7.0.2", nothing, "8.7.0", {"namespace": "elsewhere"}),
    "webhook-moves": ("7.0.2", nothing, "8.1.1", {"webhook_namespace": "elsewhere"}),
    "crd-deleted": (
        "7.0.2",
        lambda cluster: (
            patch(SNAPSHOT_CRD, {"op": "add", "path": "/metadata/finalizers", "value": ["test.certflow.invalid/kept"]})(cluster),
            kubectl("delete", *SNAPSHOT_CRD, "--wait=false")(cluster),
        ),
        "8.7.0", NO,
    ),
    "stored-versions": (
        "8.7.0",
        lambda cluster: (
            patch(SNAPSHOT_CRD, {"op": "add", "path": "/spec/versions/-", "value": V9})(cluster),
            kubectl("patch", *SNAPSHOT_CRD, "--subresource=status", "--type=merge",
                    '-p={"status": {"storedVersions": ["v9", "v1"]}}')(cluster),
        ),
        "8.7.0", NO,
    ),
    "default-classes": ("8.7.0", create(lab.default_class("a"), lab.default_class("b")), "8.7.0", NO),
    "foreign-crds": ("7.0.2", patch(SNAPSHOT_CRD, {"op": "add", "path": "/spec/versions/-", "value": V9}), "8.7.0", NO),
    "crds-stay": ("8.7.0", nothing, "7.0.2", NO),
    "alpha-sources": ("6.2.2", lambda cluster: (
        groups("7.0.2")(cluster),
        patch(("crd", f"{GROUP_KINDS[1]}.{GROUP}"), {
            "op": "replace", "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/source",
            "value": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        })(cluster),
        create(group_content("v1alpha1", {"persistentVolumeNames": ["volume-1"]}))(cluster),
    ), "8.1.1", NO),
    "alpha-dropped-empty": ("8.1.0", groups("7.0.2"), "8.7.0", NO),
    "conversion-refused": (
        "8.1.0",
        lambda cluster: (
            groups("8.2.0", group_content("v1beta1"))(cluster),
            kubectl("patch", GROUP_KINDS[1], "kept", "--subresource=status", "--type=merge", f"-p={json.dumps(LISTS)}")(cluster),
        ),
        "8.4.0", {"group_snapshots": True, "conversion_webhook": False},
    ),
    "conversion-unsupported": ("8.1.0", nothing, "8.7.0", {"conversion_webhook": True}),
    "sidecars-at-v1beta1": ("8.4.0", lambda cluster: (groups("8.2.0", group_content("v1beta1"))(cluster), create(sidecar("8.2.0", GATE))(cluster)), "8.7.0", NO),
    "back-without-lists": ("8.7.0", groups("8.7.0", group_content("v1")), "8.2.1", {"group_snapshots": True}),
    "back-to-alpha": ("8.7.0", groups("8.7.0", group_content("v1")), "8.1.1", {"group_snapshots": True}),
    "groups-unattended": (
        "8.7.0", lambda cluster: (argument(CONTROLLER, GATE)(cluster), groups("8.7.0", group_content("v1"))(cluster)),
        "8.7.0", {"group_snapshots": False},
    ),
    "controllers-removed": (
        "7.0.2", create(workload("Deployment", "default", "second", "registry.k8s.io/sig-storage/snapshot-controller:v7.0.2")),
        "8.1.1", {"remove_controllers": ["default/second"]},
    ),
    "arguments-unknown": ("7.0.2", nothing, "8.7.0", {"controller_arguments": ["--alsologtostderr"]}),
    "arguments-dropped": ("7.0.2", argument(CONTROLLER, "--worker-threads=20"), "8.7.0", NO),
    "sidecar-arguments": ("7.0.2", create(sidecar("8.2.0", "--enable-volume-group-snapshots=true")), "8.7.0", NO),
    "nodes": ("7.0.2", argument(CONTROLLER, "--enable-distributed-snapshotting"), "8.7.0", {"controller_arguments": ["--enable-distributed-snapshotting"]}),
}  # fmt: skip


OF_OTHERS = ("foreign-configuration", "other-containers", "secret-kept", "webhook-shared")
# Hazards of other tests, with the name of the test or of the command.
ELSEWHERE = {
    **dict.fromkeys(MET_ON_THE_WAY, "make upgrades: the chain from release to release"),
    **dict.fromkeys(MET_BY_GROUPS, "make upgrades: the chain with group snapshots"),
    **dict.fromkeys(OF_OTHERS, "test_snapshot_owners"),
    "mixed-object": "test_snapshot_neighbours",
    "kubespray-reverts": "on the plan alone: test_snapshot_kubespray leaves the marks",
    "unreadable": "test_snapshot_plan",
    "hosted": "test_snapshot_plan",
    "invalid-objects-kept": "test_snapshot_plan",
    "lists-at-v1beta1": "test_snapshot_plan",
    "kubernetes-too-old": "on the plan alone: it needs Kubernetes before 1.25",
    "invalid-objects": "on the plan alone: it needs Kubernetes before 1.30",
    "arguments-taken-back": "on the plan alone: it needs two runs of this collection",
}


def test_every_hazard_has_a_test() -> None:
    assert not set(CASES) & set(ELSEWHERE)
    assert {row.id for row in HAZARDS} == {*CASES, *ELSEWHERE}


@pytest.mark.full
@pytest.mark.parametrize("name", CASES)
def test_a_hazard_is_reported(empty: Cluster, name: str) -> None:
    release, deed, target, given = CASES[name]
    install(empty, release, webhook=lab.era(release).kind == "validation")
    deed(empty)
    result = plan(empty, target, accept=["kubectl"], **given)
    assert name in hazards(result), result
