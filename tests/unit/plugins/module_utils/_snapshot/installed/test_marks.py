# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Test the tables about installed objects: their marks, their users, and the rules of stored objects."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.installed import (
    marks,
    pod_specs,
    validity,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.kinds import KINDS

from tests.unit.plugins.module_utils._snapshot import objects

pytestmark = pytest.mark.quick

UPSTREAM = "registry.k8s.io/sig-storage"
SNAPSHOTS = "snapshot.storage.k8s.io"
WEBHOOK = f"{UPSTREAM}/snapshot-validation-webhook:v7.0.2"


def service(namespace: str = "hooks", name: str = "hook", **selector: str) -> dict[str, Any]:
    return {"metadata": {"namespace": namespace, "name": name}, "spec": {"selector": selector}}


def configuration(service_name: str) -> dict[str, Any]:
    call = {"service": {"namespace": "hooks", "name": service_name}}
    rules = [{"apiGroups": [SNAPSHOTS]}]
    name = "validation-webhook.snapshot.storage.k8s.io"
    return {
        "metadata": {"name": name},
        "webhooks": [{"name": "h", "clientConfig": call, "rules": rules}],
    }


def budget(app: str) -> dict[str, Any]:
    return {"metadata": {"name": "hook"}, "spec": {"selector": {"matchLabels": {"app": app}}}}


def around(image: str, namespace: str = "hooks") -> marks.ClusterObjects:
    deployment = objects.workload(namespace, "hook", image, selector={"app": "hook"})
    return marks.ClusterObjects({"deployments": (deployment,), "services": (service(app="hook"),)})


# Kind, object, the objects around it -> whether it is the snapshot controller's.
MARKED: dict[str, tuple[str, dict[str, Any], marks.ClusterObjects, bool]] = {
    "a Service with the webhook behind it": ("ValidatingWebhookConfiguration", configuration("hook"), around(WEBHOOK), True),
    "a Service with another program behind it": ("ValidatingWebhookConfiguration", configuration("hook"), around("acme/hook:v1"), False),
    "a Service that does not exist": ("ValidatingWebhookConfiguration", configuration("other"), around(WEBHOOK), False),
    "upstream's controller": ("Deployment", objects.workload("kube-system", "snapshot-controller", f"{UPSTREAM}/snapshot-controller:v8.1.0"), marks.ClusterObjects({}), True),
    "another program": ("Deployment", objects.workload("kube-system", "snapshot-controller", "acme/engine:v1"), marks.ClusterObjects({}), False),
    "a request for a server": ("CertificateSigningRequest", {"spec": {"usages": ["server auth"]}}, marks.ClusterObjects({}), True),
    "a budget of the webhook": ("PodDisruptionBudget", budget("snapshot-validation"), marks.ClusterObjects({}), True),
    "a budget of other pods": ("PodDisruptionBudget", budget("shop"), marks.ClusterObjects({}), False),
    "a request for a client": ("CertificateSigningRequest", {"spec": {"usages": ["client auth"]}}, marks.ClusterObjects({}), False),
}  # fmt: skip


@pytest.mark.parametrize("case", MARKED)
def test_the_owner_of_an_object(case: str) -> None:
    kind, obj, others, is_own = MARKED[case]
    assert (marks.why_foreign(kind, obj, others) == "") is is_own


def test_the_services_that_a_configuration_calls() -> None:
    assert marks.called(configuration("hook")) == {("hooks", "hook")}
    assert marks.called({"webhooks": [{"clientConfig": {"url": "https://a"}}]}) == set()


@pytest.mark.parametrize(
    ("selected", "found"),
    [
        (service(app="hook"), True),
        (service(app="other"), False),
        (service("elsewhere", app="hook"), False),
        (service(), False),
    ],
)
def test_the_workloads_behind_a_service(selected: dict[str, Any], found: bool) -> None:
    assert bool(list(marks.workloads_behind(selected, around(WEBHOOK)))) is found


@pytest.mark.parametrize(
    ("owner", "is_user"), [(None, True), ("ReplicaSet", False), ("Job", False), ("Elastic", True)]
)
def test_a_pod_of_another_user_of_a_secret_is_not_counted_again(owner: str | None, is_user: bool) -> None:
    owners = [{"kind": owner, "controller": True}] if owner else []
    pod = {
        "kind": "Pod",
        "metadata": {"namespace": "hooks", "name": "p", "ownerReferences": owners},
        "spec": {"containers": [], "volumes": [{"secret": {"secretName": "tls"}}]},
    }
    assert bool(pod_specs.users_of("hooks", "tls", {"pods": [pod]})) is is_user


# An object's spec without fault, and the changes that are faults.
VALID: dict[str, dict[str, Any]] = {
    "VolumeSnapshot": {"source": {"persistentVolumeClaimName": "a"}, "volumeSnapshotClassName": "c"},
    "VolumeSnapshotContent": {"source": {"volumeHandle": "a"}, "volumeSnapshotRef": {"name": "a", "namespace": "b"}},
    "VolumeGroupSnapshot": {"source": {"selector": {}}, "volumeGroupSnapshotClassName": "c"},
    "VolumeGroupSnapshotContent": {"source": {"volumeHandles": []}, "volumeGroupSnapshotRef": {"name": "a", "namespace": "b"}},
}  # fmt: skip
INVALID: list[tuple[str, dict[str, Any]]] = [
    ("VolumeSnapshot", {"source": {}}),
    ("VolumeSnapshot", {"volumeSnapshotClassName": ""}),
    ("VolumeSnapshotContent", {"source": {"volumeHandle": "a", "snapshotHandle": "b"}}),
    ("VolumeSnapshotContent", {"volumeSnapshotRef": {"name": "a"}}),
    ("VolumeGroupSnapshot", {"source": {}}),
    ("VolumeGroupSnapshot", {"volumeGroupSnapshotClassName": ""}),
    ("VolumeGroupSnapshotContent", {"source": {}}),
    ("VolumeGroupSnapshotContent", {"volumeGroupSnapshotRef": {"namespace": "b"}}),
]


@pytest.mark.parametrize(("kind", "change"), INVALID)
def test_each_rule_of_stored_objects(kind: str, change: dict[str, Any]) -> None:
    good = {"metadata": {"name": "a"}, "spec": VALID[kind]}
    bad = {**good, "spec": {**VALID[kind], **change}}
    (fault,) = validity.faults(kind, [good, bad])
    assert (fault.kind, fault.place) == (kind, "a")


def test_the_paths_of_objects_follow_their_scope() -> None:
    without = {name for name, kind in KINDS.items() if kind.collection("a") == kind.collection()}
    assert without == {
        "CertificateSigningRequest",
        "ClusterRole",
        "ClusterRoleBinding",
        "CustomResourceDefinition",
        "MutatingWebhookConfiguration",
        "Namespace",
        "ValidatingWebhookConfiguration",
    }


@pytest.mark.parametrize(
    "kind", ["CustomResourceDefinition", "Namespace", "Pod", "Role", "Secret", "ServiceAccount"]
)
def test_some_kinds_have_no_mark_but_their_name(kind: str) -> None:
    assert marks.why_foreign(kind, {"metadata": {"name": "a"}}, marks.ClusterObjects({})) == ""
