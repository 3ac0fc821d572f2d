# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Apply objects server-side over those that kubectl wrote, on a real API server."""

from __future__ import annotations

import base64
import copy
import json
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.client import Client
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade.steps import (
    apply_manifests,
    object_changes,
)

from tests.support.accepted import accepting
from tests.support.failures import fails
from tests.support.upgrade.snapshot_lab import kubectl

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.clusters import Cluster

Object = dict[str, Any]


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    name = f"apply-{uuid.uuid4().hex[:8]}"
    cluster.api("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    yield name
    cluster.api("DELETE", f"/api/v1/namespaces/{name}")


def old_deployment(namespace: str) -> Object:
    """Return a Deployment with fields that the new one lacks."""
    container = {
        "name": "hook",
        "image": "example.invalid/snapshot-controller:v1",
        "args": ["--old"],
        "env": [{"name": "OLD", "value": "1"}],
        "volumeMounts": [{"name": "certs", "mountPath": "/certs"}, {"name": "tmp", "mountPath": "/tmp"}],
    }
    spec = {
        "hostNetwork": True,
        "containers": [container],
        "initContainers": [{"name": "extra", "image": "example.invalid/extra:1"}],
        "volumes": [{"name": "certs", "secret": {"secretName": "old"}}, {"name": "tmp", "emptyDir": {}}],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "snapshot-controller", "namespace": namespace, "labels": {"old": "label"}},
        "spec": {
            "replicas": 3,
            "minReadySeconds": 15,
            "selector": {"matchLabels": {"app": "hook"}},
            "template": {"metadata": {"labels": {"app": "hook", "old": "label"}}, "spec": spec},
        },
    }


def new_deployment(namespace: str) -> Object:
    container = {
        "name": "hook",
        "image": "example.invalid/snapshot-controller:v2",
        "args": ["--new"],
        "volumeMounts": [{"name": "certs", "mountPath": "/certs"}],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "snapshot-controller", "namespace": namespace},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "hook"}},
            "template": {
                "metadata": {"labels": {"app": "hook"}},
                "spec": {
                    "containers": [container],
                    "volumes": [{"name": "certs", "secret": {"secretName": "new"}}],
                },
            },
        },
    }


def elsewhere(manifest: Object, namespace: str) -> Object:
    """Return the same manifest for another namespace, in which no object exists."""
    fresh = copy.deepcopy(manifest)
    fresh["metadata"]["namespace"] = namespace
    return fresh


# The ways in which kubectl may have written the old Deployment, as (verb, options).
WRITTEN: dict[str, tuple[str, ...]] = {
    "client-side apply": ("apply", "-f-"),
    "create": ("create", "-f-"),
    "create that is to be applied": ("create", "--save-config", "-f-"),
    "server-side apply": ("apply", "--server-side", "-f-"),
    "server-side apply by a script": ("apply", "--server-side", "--field-manager=kubectl-create", "-f-"),
}


@pytest.mark.parametrize("way", WRITTEN)
def test_an_object_of_kubectl_becomes_equal_to_a_fresh_installation(
    cluster: Cluster, client: Client, namespace: str, way: str
) -> None:
    kubectl(cluster, *WRITTEN[way], stdin=json.dumps(old_deployment(namespace)))
    manifest = new_deployment(namespace)
    (seen,) = apply_manifests.preview(client, [manifest])
    apply_manifests.write(client, seen)
    live = cluster.api("GET", f"/apis/apps/v1/namespaces/{namespace}/deployments/snapshot-controller")
    fresh_place = f"{namespace}-fresh"
    cluster.api("POST", "/api/v1/namespaces", {"metadata": {"name": fresh_place}})
    (fresh,) = apply_manifests.preview(client, [elsewhere(manifest, fresh_place)])
    apply_manifests.write(client, fresh)
    wanted = cluster.api("GET", f"/apis/apps/v1/namespaces/{fresh_place}/deployments/snapshot-controller")
    cluster.api("DELETE", f"/api/v1/namespaces/{fresh_place}")
    wanted["metadata"]["namespace"] = namespace
    assert object_changes.changes(wanted, live) == ()
    assert object_changes.changes(seen.foreseen, live) == ()  # the dry run had the same result


def test_a_second_run_writes_nothing(cluster: Cluster, client: Client, namespace: str) -> None:
    kubectl(cluster, "apply", "-f-", stdin=json.dumps(old_deployment(namespace)))
    for changed in (True, False):
        (seen,) = apply_manifests.preview(client, [new_deployment(namespace)])
        assert apply_manifests.write(client, seen).is_changed is changed
    assert len(client.written) == 2  # the move and the apply


def test_fields_of_other_managers_are_kept(cluster: Cluster, client: Client, namespace: str) -> None:
    kubectl(cluster, "apply", "-f-", stdin=json.dumps(old_deployment(namespace)))
    kubectl(cluster, "label", "-n", namespace, "deployment/snapshot-controller", "team=storage")
    (seen,) = apply_manifests.preview(client, [new_deployment(namespace)])
    outcome = apply_manifests.write(client, seen)
    assert cluster.api("GET", outcome.reference.path)["metadata"]["labels"] == {"team": "storage"}


def test_a_field_without_a_manager_is_removed_too(cluster: Cluster, client: Client, namespace: str) -> None:
    """Such objects are older than managedFields, or another client has removed their managedFields."""
    kubectl(cluster, "apply", "-f-", stdin=json.dumps(old_deployment(namespace)))
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/snapshot-controller"
    cluster.api("PATCH", path, {"metadata": {"managedFields": [{}]}}, "application/merge-patch+json")
    (seen,) = apply_manifests.preview(client, [new_deployment(namespace)])
    apply_manifests.write(client, seen)
    live = cluster.api("GET", path)
    assert object_changes.changes(seen.foreseen, live) == ()
    template = live["spec"]["template"]
    assert "hostNetwork" not in template["spec"]
    assert not template["spec"].get("initContainers")


def webhook_configuration(namespace: str, bundle: str) -> Object:
    service = {"namespace": namespace, "name": "snapshot-validation-service", "path": "/"}
    client_config: Object = {"service": service}
    webhook = {
        "name": "hook.certflow.invalid",
        "clientConfig": client_config | ({"caBundle": bundle} if bundle else {}),
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
    }
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "validation-webhook.groupsnapshot.storage.k8s.io"},
        "webhooks": [webhook],
    }


@pytest.mark.parametrize("verb", ["apply", "create"])
def test_a_ca_bundle_survives_a_manifest_without_it(
    cluster: Cluster, client: Client, namespace: str, verb: str
) -> None:
    bundle = base64.b64encode(cluster.ca_pem.encode()).decode()
    kubectl(cluster, verb, "-f-", stdin=json.dumps(webhook_configuration(namespace, bundle)))
    manifest = webhook_configuration(namespace, "")
    manifest["webhooks"][0]["failurePolicy"] = "Ignore"
    for _run in range(2):  # a second apply by the same manager would empty it
        (seen,) = apply_manifests.preview(client, [manifest])
        outcome = apply_manifests.write(client, seen)
    (webhook,) = cluster.api("GET", outcome.reference.path)["webhooks"]
    cluster.api("DELETE", outcome.reference.path)
    assert webhook["clientConfig"]["caBundle"] == bundle
    assert webhook["failurePolicy"] == "Ignore"
    assert not outcome.is_changed


@pytest.mark.parametrize("is_late", [False, True], ids=["before the write", "during the write"])
def test_a_webhook_of_another_owner_that_is_added_after_the_dry_run_is_kept(
    cluster: Cluster, client: Client, namespace: str, monkeypatch: pytest.MonkeyPatch, is_late: bool
) -> None:
    """The object is judged again just before the write. The API server refuses a write over a version that was not judged."""
    kubectl(cluster, "apply", "-f-", stdin=json.dumps(webhook_configuration(namespace, "")))
    manifest = webhook_configuration(namespace, "")
    manifest["webhooks"][0]["failurePolicy"] = "Ignore"
    (seen,) = apply_manifests.preview(client, [manifest])
    path = seen.outcome.reference.path
    foreign = {
        **manifest["webhooks"][0],
        "name": "pods.acme.com",
        "clientConfig": {"url": "https://acme.example/"},
    }

    def add() -> None:
        change = [{"op": "add", "path": "/webhooks/-", "value": foreign}]
        if len(cluster.api("GET", path)["webhooks"]) == 1:
            cluster.api("PATCH", path, change, "application/json-patch+json")

    def patch_late(*given: Any, **more: Any) -> Object:
        add()
        return Client.patch(client, *given, **more)

    if is_late:
        monkeypatch.setattr(client, "patch", patch_late)
    else:
        add()
    with fails("owned-by-another", "pods.acme.com"):
        apply_manifests.write(client, seen)
    names = [webhook["name"] for webhook in cluster.api("GET", path)["webhooks"]]
    cluster.api("DELETE", path)
    assert names == ["hook.certflow.invalid", "pods.acme.com"]
    assert [line for line in client.written if "delete" in line.lower()] == []


@pytest.mark.parametrize("moment", ["before the write", "between read and write"])
def test_an_object_of_another_manager_that_appears_after_the_dry_run_is_kept(
    cluster: Cluster, client: Client, namespace: str, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    helm = old_deployment(namespace)
    helm["metadata"]["labels"]["app.kubernetes.io/managed-by"] = "Helm"
    manifest = new_deployment(namespace)
    (seen,) = apply_manifests.preview(client, [manifest])
    path = seen.outcome.reference.path

    def create() -> None:
        kubectl(cluster, "create", "--field-manager=helm", "-f-", stdin=json.dumps(helm))

    late = [create]

    def find_late(*given: Any, **more: Any) -> Object | None:
        found = Client.find(client, *given, **more)
        while late:
            late.pop()()
        return found

    if moment == "before the write":
        create()
    else:
        monkeypatch.setattr(client, "find", find_late)
    before = helm["spec"]["template"]["spec"]["containers"][0]["image"]
    with fails("owned-by-another", "Helm"):
        apply_manifests.write(client, seen)
    live = cluster.api("GET", path)["spec"]["template"]["spec"]["containers"][0]["image"]
    assert live == before


def test_an_object_of_another_manager_is_refused(cluster: Cluster, client: Client, namespace: str) -> None:
    old = old_deployment(namespace)
    old["metadata"]["labels"]["app.kubernetes.io/managed-by"] = "Helm"
    kubectl(cluster, "create", "--field-manager=helm", "-f-", stdin=json.dumps(old))
    with fails("owned-by-another", "Helm"):
        apply_manifests.preview(client, [new_deployment(namespace)])
    (seen,) = apply_manifests.preview(client, [new_deployment(namespace)], consent=accepting("helm"))
    apply_manifests.write(client, seen)
    live = cluster.api("GET", f"/apis/apps/v1/namespaces/{namespace}/deployments/snapshot-controller")
    assert "hostNetwork" not in live["spec"]["template"]["spec"]
    assert client.written


def test_a_refused_object_is_named_before_the_first_write(client: Client, namespace: str) -> None:
    wrong = new_deployment(namespace)
    wrong["metadata"]["name"] = "wrong"
    wrong["spec"]["selector"] = {"matchLabels": {"app": "other"}}
    with fails("object-refused", f"{namespace}/wrong", "selector"):
        apply_manifests.preview(client, [new_deployment(namespace), wrong])
    assert client.written == []
