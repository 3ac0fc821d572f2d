# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Put objects that look like the snapshot controller's beside it, and check that an upgrade leaves them alone.

BESIDE has neighbours of every kind that an upgrade writes or deletes. They survive a failed upgrade, its undo, and all
deletions of the plan. INSIDE has upstream's objects with a part of another owner. Each of them is refused by name.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.accept import EVERYTHING
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations import snapshot_controller
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.installed.marks import MARKS
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.kinds import KINDS
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade.steps.object_changes import meaning

from tests.support import clusters
from tests.support.operations import operate
from tests.support.rig import written
from tests.support.upgrade import snapshot_lab as lab
from tests.support.upgrade.other_owners import deployment, named, path, service, tls, webhook_configuration
from tests.support.upgrade.snapshot_plans import install, plan
from tests.support.upgrade.snapshot_rig import SnapshotRig, release_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.clusters import Cluster, Fleet

Object = dict[str, Any]
RELEASE, TARGET = "8.1.0", "8.7.0"
GROUP, HOOK, SECRET = "snapshot.storage.k8s.io", "snapshot-validation-service", "snapshot-validation-secret"
PROGRAM = f"registry.k8s.io/sig-storage/snapshot-validation-webhook:v{RELEASE}"
RBAC, ADMISSION = "rbac.authorization.k8s.io/v1", "admissionregistration.k8s.io/v1"
ACCOUNT = {"kind": "ServiceAccount", "name": "snapshot-webhook", "namespace": "default"}
RULES = [{"apiGroups": [GROUP], "resources": ["volumesnapshotclasses"], "verbs": ["get", "list", "watch"]}]


def wide(kind: str, name: str, version: str, **more: Any) -> Object:
    """Return an object without a namespace."""
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, **more}


def role_reference(kind: str, name: str) -> Object:
    return {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name}


def url_webhook(name: str) -> Object:
    """Return a webhook that calls a URL for snapshots."""
    return {
        "name": name,
        "clientConfig": {"url": "https://hooks.acme.example/"},
        "rules": [
            {"apiGroups": [GROUP], "apiVersions": ["v1"], "operations": ["DELETE"], "resources": ["*"]}
        ],
        "failurePolicy": "Ignore",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }


def budget(namespace: str, name: str, app: str) -> Object:
    spec = {"minAvailable": 1, "selector": {"matchLabels": {"app": app}}}
    return named("PodDisruptionBudget", namespace, name, "policy/v1", spec=spec)


def definition(plural: str, group: str) -> Object:
    """Return a CustomResourceDefinition of another owner in one of upstream's groups."""
    schema = {"openAPIV3Schema": {"type": "object"}}
    spec = {
        "group": group,
        "scope": "Cluster",
        "names": {"plural": plural, "singular": plural[:-1], "kind": plural[:-1].title()},
        "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
    }
    made = wide("CustomResourceDefinition", f"{plural}.{group}", "apiextensions.k8s.io/v1", spec=spec)
    made["metadata"]["annotations"] = {"api-approved.kubernetes.io": "unapproved, of acme"}
    return made


SHOP = deployment("default", "shop", "acme/shop:1", secret="shared-tls")
SHOP["spec"]["template"]["spec"]["serviceAccountName"] = "snapshot-webhook"
POD = named(
    "Pod",
    "kube-system",
    "snapshot-controller-0",
    spec=deployment("x", "x", "acme/pod:1")["spec"]["template"]["spec"],
)
POD["metadata"]["labels"] = {"app": "snapshot-controller"}
EXTERNAL = named("Service", "team", HOOK, spec={"type": "ExternalName", "externalName": "hooks.acme.example"})
REPLICAS = named(
    "ReplicaSet",
    "default",
    "snapshot-validation-deployment-acme",
    "apps/v1",
    spec=deployment("x", "replicas", PROGRAM)["spec"],
)
STATEFUL = named(
    "StatefulSet",
    "default",
    "snapshot-controllers",
    "apps/v1",
    spec=deployment("x", "state", "acme/snapshots:1")["spec"],
)
# Kind -> neighbours that look like the objects of that kind that an upgrade writes or deletes.
BESIDE: dict[str, list[Object]] = {
    "Namespace": [wide("Namespace", name, "v1") for name in ("acme", "policy", "team")],
    "ValidatingWebhookConfiguration": [
        # A company's own webhook for snapshots, whose image has a name like upstream's.
        webhook_configuration("snapshots.acme.com", ("acme", "volume-snapshot-webhook", GROUP, "volumesnapshots")),
        webhook_configuration(f"validation-webhook.{GROUP}.acme", ("policy", "policy-svc", GROUP, "volumesnapshots")),
        webhook_configuration("of-another-installation", ("team", "hook", GROUP, "volumesnapshotclasses")),
        wide("ValidatingWebhookConfiguration", "by-url", ADMISSION, webhooks=[url_webhook("url.acme.com")]),
    ],
    "MutatingWebhookConfiguration": [
        {**webhook_configuration(lab.CONFIGURATION, ("policy", "policy-svc", GROUP, "volumesnapshots")), "kind": "MutatingWebhookConfiguration"},
    ],
    "Service": [
        service("acme", "volume-snapshot-webhook"), service("policy", "policy-svc"), service("team", "hook"),
        service("kube-system", HOOK), service("default", f"{HOOK}-acme"), EXTERNAL,
    ],
    "Deployment": [
        deployment("acme", "volume-snapshot-webhook", "acme/volume-snapshot-validation-webhook:v2.1.0"),
        deployment("default", "volume-snapshot-validation", "acme/volume-snapshot-validation-webhook:v2.1.0"),
        deployment("default", "snapshot-validation", PROGRAM), deployment("team", "hook", PROGRAM),
        deployment("team", "snapshot-validation-deployment", PROGRAM, secret=SECRET), SHOP,
    ],
    "StatefulSet": [STATEFUL],
    "ReplicaSet": [REPLICAS],
    "Pod": [POD],
    "Secret": [
        tls("default", "shared-tls"), tls("default", f"{SECRET}-acme"), tls("kube-system", SECRET), tls("team", SECRET),
    ],
    "ServiceAccount": [
        # SHOP uses the first one, which has upstream's name and namespace.
        named("ServiceAccount", "default", "snapshot-webhook"), named("ServiceAccount", "kube-system", "snapshot-webhook"),
        named("ServiceAccount", "team", "snapshot-controller"),
    ],
    "ClusterRole": [wide("ClusterRole", f"snapshot-{part}-runner-acme", RBAC, rules=RULES) for part in ("webhook", "controller")],
    "ClusterRoleBinding": [
        wide("ClusterRoleBinding", "snapshot-webhook-role-acme", RBAC, roleRef=role_reference("ClusterRole", "view"), subjects=[ACCOUNT]),
    ],
    "Role": [
        named("Role", place, name, RBAC, rules=RULES)
        for place, name in (("team", "snapshot-controller-leaderelection"), ("kube-system", "snapshot-controller-leaderelection-acme"))
    ],
    "RoleBinding": [
        named("RoleBinding", "team", "snapshot-controller-leaderelection", RBAC, subjects=[ACCOUNT],
              roleRef=role_reference("Role", "snapshot-controller-leaderelection")),
    ],
    "PodDisruptionBudget": [
        budget("default", "snapshot-validation-deployment-acme", "snapshot-validation"), budget("team", "snapshot-validation-deployment", "shop"),
    ],
    "CertificateSigningRequest": [],  # made by request()
    "CustomResourceDefinition": [definition("policies", GROUP), definition("grouppolicies", f"group{GROUP}")],
}  # fmt: skip
NEIGHBOURS = [obj for objects in BESIDE.values() for obj in objects]


def test_every_kind_that_an_upgrade_writes_or_deletes_has_neighbours_and_a_mark() -> None:
    assert set(BESIDE) == set(KINDS)
    assert set(MARKS) == set(KINDS) - {"MutatingWebhookConfiguration"}  # no plan names such an object


def states(cluster: Cluster) -> dict[str, tuple[str, Object]]:
    """Return UID and meaning of the neighbours."""
    live = {path(obj): cluster.api("GET", path(obj)) for obj in NEIGHBOURS}
    return {where: (obj["metadata"]["uid"], meaning(obj)) for where, obj in live.items()}


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    """Two clusters with the release and the neighbours: one to refuse upgrades, one to carry them out."""
    with clusters.running({"refused": "onprem", "upgraded": "onprem"}) as fleet:
        for name in ("refused", "upgraded"):
            install(fleet[name], RELEASE)
            first = [tls("default", SECRET), *BESIDE["Namespace"]]
            for objects in (first, NEIGHBOURS):
                lab.kubectl(fleet[name], "apply", "-f-", stdin=yaml.safe_dump_all(objects))
        yield fleet


@pytest.fixture
def cluster(fleet: Fleet) -> Cluster:
    return fleet["refused"]


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    with release_server(RELEASE, TARGET) as source:
        yield {
            "source": source,
            "cache_directory": str(tmp_path_factory.mktemp("releases")),
            "accept": ["kubectl"],
        }


def upgrade(
    cluster: Cluster, where: dict[str, Any], *, check_mode: bool = False, **given: Any
) -> tuple[dict[str, Any], list[str]]:
    """Return the result of an upgrade, and its writes."""
    user = f"upgrade-{time.time_ns()}"
    who = {"kubeconfig": str(cluster.kubeconfig_for(user, groups=["system:masters"]))}
    options = {"version": TARGET, "step_timeout": 20, "wait_timeout": 600, **where, **who, **given}
    result = operate(snapshot_controller.OPERATION, options, check_mode=check_mode)
    return result, written(cluster, user)


SERVICE, CONFIGURATION = (
    f"/api/v1/namespaces/default/services/{HOOK}",
    f"{lab.CONFIGURATIONS}/{lab.CONFIGURATION}",
)
ACME = {"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": "acme-admins"}
OTHER_ACCOUNT = {"kind": "ServiceAccount", "name": "snapshot-controller", "namespace": "team"}
PODS_WEBHOOK = webhook_configuration("pods", ("policy", "policy-svc", "", "pods"))["webhooks"][0] | {
    "name": "pods.acme.com"
}
BEHIND = deployment("default", "behind", "acme/engine:1")
BEHIND["spec"] |= {"selector": {"matchLabels": {"app": "b"}}}
BEHIND["spec"]["template"]["metadata"]["labels"] = {
    "app": "b",
    "app.kubernetes.io/name": "snapshot-validation",
}
IMAGE = "/spec/template/spec/containers/0/image"
# A part of another owner in one of upstream's objects: the object's path, a JSON patch or an object beside it, and a name in the message.
INSIDE: dict[str, tuple[str, list[Object] | Object, str]] = {
    "one more webhook": (CONFIGURATION, [{"op": "add", "path": "/webhooks/-", "value": PODS_WEBHOOK}], "pods.acme.com"),
    "one more webhook by URL": (CONFIGURATION, [{"op": "add", "path": "/webhooks/-", "value": url_webhook("url.acme.com")}], "url.acme.com"),
    "other objects": (CONFIGURATION, [{"op": "add", "path": "/webhooks/0/rules/0/apiGroups/-", "value": "apps"}], CONFIGURATION.rpartition("/")[2]),
    "an ExternalName Service": (SERVICE, [{"op": "replace", "path": "/spec", "value": EXTERNAL["spec"]}], SERVICE.rpartition("/")[2]),
    "a Service with other pods": (SERVICE, BEHIND, "default/behind"),
    "another webhook's image": (
        f"{lab.era(RELEASE).deployment_path}", [{"op": "replace", "path": IMAGE, "value": "acme/volume-snapshot-validation-webhook:v2.1.0"}],
        "default/snapshot-validation-deployment",
    ),
    "another controller's image": (lab.CONTROLLER, [{"op": "replace", "path": IMAGE, "value": f"acme/volume-snapshot-controller:v{RELEASE}"}], "acme/volume-snapshot-controller"),
    "one more rule of the webhook's role": (f"/apis/{RBAC}/clusterroles/snapshot-webhook-runner", [{"op": "add", "path": "/rules/-", "value": {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}}], "snapshot-webhook-runner"),
    "one more subject of the webhook's role": (f"/apis/{RBAC}/clusterrolebindings/snapshot-webhook-role", [{"op": "add", "path": "/subjects/-", "value": ACME}], "acme-admins"),
    "one more subject of the controller's role": (f"/apis/{RBAC}/clusterrolebindings/snapshot-controller-role", [{"op": "add", "path": "/subjects/-", "value": OTHER_ACCOUNT}], "snapshot-controller"),
    "one more subject of the leader's role": (f"/apis/{RBAC}/namespaces/kube-system/rolebindings/snapshot-controller-leaderelection", [{"op": "add", "path": "/subjects/-", "value": ACME}], "acme-admins"),
    "another budget": ("", budget("default", "snapshot-validation-deployment", "shop"), "snapshot-validation-deployment"),
}  # fmt: skip


@pytest.mark.parametrize("row", INSIDE)
def test_an_object_with_a_part_of_another_owner_is_refused_by_name(
    cluster: Cluster, where: dict[str, Any], row: str
) -> None:
    place, change, name = INSIDE[row]
    before = cluster.api("GET", place) if place else {}
    if isinstance(change, list):
        cluster.api("PATCH", place, change, "application/json-patch+json")
    else:
        lab.kubectl(cluster, "apply", "-f-", stdin=json.dumps(change))
    check_modes = (True, False) if row == "one more webhook" else (True,)
    try:
        for check_mode in check_modes:
            result, writes = upgrade(cluster, where, check_mode=check_mode)
            assert (result.get("code"), writes) in [("upgrade-refused", []), ("preflight-failed", [])], result
            target = (place if isinstance(change, list) else place or path(change)).rpartition("/")[2]
            assert name in result["msg"] and (target in result["msg"] or "/" in name), result["msg"]
    finally:
        if isinstance(change, list):
            fresh = cluster.api("GET", place)["metadata"]["resourceVersion"]
            cluster.api(
                "PUT", place, {**before, "metadata": {**before["metadata"], "resourceVersion": fresh}}
            )
        else:
            lab.kubectl(cluster, "delete", "-f-", stdin=json.dumps(change))


@pytest.mark.usefixtures("unanswered")
def test_neighbours_survive_a_failed_upgrade_and_all_deletions(
    fleet: Fleet, where: dict[str, Any], tmp_path: Path
) -> None:
    """Without a node no pod becomes ready, so the upgrade fails and is undone. Then each step that deletes runs by itself."""
    cluster = fleet["upgraded"]
    before = states(cluster)
    assert len(before) == len(NEIGHBOURS)
    result, writes = upgrade(cluster, where)
    assert (result["code"], result["step"]) == ("rollout-failed", "controller-wait"), result
    assert any(line.startswith("delete") for line in writes)
    assert states(cluster) == before
    deleted = [row for step in result["steps"] for row in step["objects"] if row["change"] == "deleted"]
    assert all(row["deleted"]["metadata"]["name"] == row["name"] for row in deleted), deleted
    lab.kubectl(cluster, "delete", "validatingwebhookconfiguration", lab.CONFIGURATION, "--ignore-not-found")
    install(cluster, RELEASE)
    planned = plan(cluster, TARGET, accept=["kubectl"])
    assert planned["refused"] == []
    rig = SnapshotRig(cluster, "none", tmp_path)
    for step in planned["plan"]:
        if step["action"] == "delete":
            done = rig.run("delete", consent=EVERYTHING, **step["parameters"])
            assert not done.get("failed"), done["msg"]
            deleted += [row for row in done["objects"] if row["change"] == "deleted"]
    assert states(cluster) == before
    assert {row["kind"] for row in deleted} >= {
        "ValidatingWebhookConfiguration",
        "Service",
        "Deployment",
        "Secret",
        "ClusterRole",
        "ClusterRoleBinding",
    }
    assert {key for row in deleted if row["kind"] == "Secret" for key in row["deleted"]["data"]} <= {
        "tls.crt"
    }
