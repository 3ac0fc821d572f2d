# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check that each manager is recognised by its markers, refused with evidence and advice, and accepted by
option.

Helm's markers are left by Helm itself. For the other managers the test applies a release's manifests as they
do: by server-side apply under their field manager, with their labels and annotations, as far as published.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.accept import EVERYTHING
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.client import Client
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.errors import Conflict
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.login.kubeconfig import resolve
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.installed.installers import (
    INSTALLERS,
)

from tests.support.clusters import build
from tests.support.upgrade import snapshot_kept
from tests.support.upgrade import snapshot_lab as lab
from tests.support.upgrade.other_owners import (
    deployment,
    named,
    path,
    service,
    tls,
    uids,
    webhook_configuration,
)
from tests.support.upgrade.snapshot_plans import install, plan
from tests.support.upgrade.snapshot_rig import SnapshotRig

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.clusters import Cluster

Object = dict[str, Any]
RELEASE, TARGET = "7.0.2", "8.7.0"
DEPLOYMENT = "Deployment kube-system/snapshot-controller"


@pytest.fixture(scope="module")
def cluster(without_snapshots: Cluster) -> Iterator[Cluster]:
    yield without_snapshots
    snapshot_kept.remove(without_snapshots)


@pytest.fixture
def empty(cluster: Cluster) -> Iterator[Cluster]:
    yield cluster
    snapshot_kept.remove(cluster)


def manifests(*, crds: bool = True) -> list[Object]:
    """Return the controller of a release with its own image, its permissions and its
    CustomResourceDefinitions.
    """
    deploy, definitions = build.snapshot_manifests(RELEASE)
    files = sorted((deploy / "snapshot-controller").glob("*-snapshot-controller.yaml"))
    files = [*(sorted(definitions.glob("snapshot.storage.k8s.io_*")) if crds else []), *files]
    text = "\n---\n".join(path.read_text() for path in files)
    text = re.sub(r"(sig-storage/snapshot-controller):v[\d.]+", rf"\1:v{RELEASE}", text)
    found = [document for document in yaml.safe_load_all(text) if document]
    for entry in found:
        entry.pop("status", None)
    return found


@dataclass(frozen=True)
class ManagerRow:
    """The markers that a manager leaves."""

    #: Evidence that the plan must report.
    evidence: str
    #: Its field manager.
    manager: str = "some-installer"
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    image: str = ""

    def install(self, cluster: Cluster) -> None:
        objects = manifests()
        for obj in objects:
            metadata = obj["metadata"]
            metadata["labels"] = {**metadata.get("labels", {}), **self.labels}
            metadata["annotations"] = {**metadata.get("annotations", {}), **self.annotations}
            if self.image and obj["kind"] == "Deployment":
                obj["spec"]["template"]["spec"]["containers"][0]["image"] = self.image
        lab.kubectl(
            cluster, "apply", "--server-side", f"--field-manager={self.manager}", "-f-",
            stdin=yaml.safe_dump_all(objects),
        )  # fmt: skip


CASES = {
    "openshift": ManagerRow(
        "annotation include.release.openshift.io/self-managed-high-availability",
        manager="cluster-csi-snapshot-controller-operator",
        annotations={"include.release.openshift.io/self-managed-high-availability": "true"},
    ),
    "rke2": ManagerRow(
        "annotation meta.helm.sh/release-name: rke2-snapshot-controller",
        manager="helm",
        labels={"app.kubernetes.io/name": "rke2-snapshot-controller", "app.kubernetes.io/managed-by": "Helm"},
        annotations={
            "meta.helm.sh/release-name": "rke2-snapshot-controller",
            "meta.helm.sh/release-namespace": "kube-system",
        },
        image=f"docker.io/rancher/hardened-snapshot-controller:v{RELEASE}-build20240101",
    ),
    "eks": ManagerRow("field manager eks", manager="eks"),
    "kops": ManagerRow(
        "label k8s-addon: snapshot-controller.addons.k8s.io",
        labels={
            "k8s-addon": "snapshot-controller.addons.k8s.io",
            "addon.kops.k8s.io/name": "snapshot-controller.addons.k8s.io",
            "app.kubernetes.io/managed-by": "kops",
        },
    ),
    "kubeone": ManagerRow("label kubeone.io/addon", labels={"kubeone.io/addon": "csi-external-snapshotter"}),
    "addon-manager": ManagerRow(
        "label addonmanager.kubernetes.io/mode: Reconcile",
        labels={"addonmanager.kubernetes.io/mode": "Reconcile"},
    ),
    "olm": ManagerRow("label olm.managed: true", labels={"olm.managed": "true", "olm.owner": "snapshots.v1"}),
    "argocd": ManagerRow(
        "annotation argocd.argoproj.io/tracking-id",
        manager="argocd-controller",
        annotations={
            "argocd.argoproj.io/tracking-id": "snapshots:apps/Deployment:kube-system/snapshot-controller"
        },
    ),
    "flux": ManagerRow(
        "label kustomize.toolkit.fluxcd.io/name: infrastructure",
        manager="kustomize-controller",
        labels={
            "kustomize.toolkit.fluxcd.io/name": "infrastructure",
            "kustomize.toolkit.fluxcd.io/namespace": "flux-system",
        },
    ),
    "unmarked": ManagerRow("no marker of any manager", manager="OpenAPI-Generator"),
    "manager": ManagerRow("field manager some-installer"),
}
# Managers with a test of their own.
ELSEWHERE = {
    "helm": "test_a_release_of_helm",
    "kubespray": "test_snapshot_kubespray",
    "operator": "test_an_operator_is_recognised_by_its_owner_reference",
    "kubectl": "test_snapshot_plan",
}


def test_every_manager_has_a_test() -> None:
    assert not set(CASES) & set(ELSEWHERE)
    assert set(INSTALLERS) == {*CASES, *ELSEWHERE}


@pytest.mark.parametrize("key", CASES)
def test_a_manager_is_recognised_refused_and_accepted(empty: Cluster, key: str) -> None:
    CASES[key].install(empty)
    assert_refused(empty, key, CASES[key].evidence)
    assert_accepted(empty, key)


def test_an_operator_is_recognised_by_its_owner_reference(empty: Cluster) -> None:
    """The owner is a ConfigMap, so that the garbage collector keeps the objects."""
    lab.kubectl(empty, "create", "configmap", "operator", "-n", "kube-system")
    uid = empty.api("GET", "/api/v1/namespaces/kube-system/configmaps/operator")["metadata"]["uid"]
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "operator", "uid": uid}
    objects = manifests()
    for obj in objects:
        if obj["metadata"].get("namespace"):
            obj["metadata"]["ownerReferences"] = [reference]
    lab.kubectl(
        empty, "apply", "--server-side", "--field-manager=operator", "-f-", stdin=yaml.safe_dump_all(objects)
    )
    assert_refused(empty, "operator", "ownerReference ConfigMap: operator")
    assert_accepted(empty, "operator")
    lab.kubectl(empty, "delete", "configmap", "operator", "-n", "kube-system")


@pytest.mark.full
def test_each_manager_of_an_object_is_accepted_by_itself(empty: Cluster) -> None:
    argocd, flux = CASES["argocd"], CASES["flux"]
    ManagerRow("", argocd.manager, labels=flux.labels, annotations=argocd.annotations).install(empty)
    for accept, owners in (([], ["argocd", "flux"]), (["argocd"], ["flux"]), (["argocd", "flux"], [])):
        refused = [row["id"] for row in plan(empty, TARGET, accept=accept)["refused"]]
        assert refused == [f"owner-{key}" for key in owners]


@pytest.mark.full
def test_a_release_of_helm(empty: Cluster, tmp_path: Path) -> None:
    """The plan is refused while Helm owns the release.

    The advice makes Helm forget it and keep all objects. Then it is accepted.
    """
    chart = tmp_path / "chart"
    (chart / "templates").mkdir(parents=True)
    head = {"apiVersion": "v2", "name": "snapshot-controller", "version": "3.0.0", "appVersion": RELEASE}
    (chart / "Chart.yaml").write_text(yaml.safe_dump(head))

    def template(**annotations: str) -> None:
        objects = manifests()
        for obj in objects:
            obj["metadata"]["annotations"] = {**obj["metadata"].get("annotations", {}), **annotations}
        (chart / "templates" / "all.yaml").write_text(yaml.safe_dump_all(objects))

    def helm(*arguments: str) -> str:
        command = [str(build.helm()), *arguments, "-n", "kube-system", f"--kubeconfig={empty.kubeconfig}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    template()
    helm("install", "snapshots", str(chart))
    assert_refused(empty, "helm", "annotation meta.helm.sh/release-name: snapshots")
    assert_accepted(empty, "helm")
    template(**{"helm.sh/resource-policy": "keep"})
    helm("upgrade", "snapshots", str(chart))
    helm("uninstall", "snapshots")
    assert json.loads(helm("list", "-o", "json")) == []
    assert empty.api("GET", lab.CONTROLLER)["metadata"]["name"] == "snapshot-controller"
    assert_accepted(empty, "helm")


# Objects of other owners beside an installation of 8.1.0, and the finding that names them.


SNAPSHOTS_GROUP, HOOK, SECRET = (
    "snapshot.storage.k8s.io",
    "snapshot-validation-service",
    "snapshot-validation-secret",
)
ENGINE = ("policy", "policy-svc", "", "pods"), ("policy", "policy-svc", SNAPSHOTS_GROUP, "volumesnapshots")
OWNED = {
    "ownerReferences": [
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "name": "policy-engine"}
    ]
}
NAMESPACES = ("policy", "team")
PROGRAM = "registry.k8s.io/sig-storage/snapshot-validation-webhook:v8.1.0"
CRON = {
    "schedule": "0 0 1 1 *",
    "jobTemplate": {"spec": {"template": {"spec": {
        "restartPolicy": "Never",
        "containers": [{"name": "a", "image": "a", "envFrom": [{"secretRef": {"name": SECRET}}]}],
    }}}},
}  # fmt: skip
# The finding that reports the objects, "" for none, and the objects. The upgrade keeps all of them.
OTHERS: dict[str, tuple[str, list[Object]]] = {
    "a policy engine that names snapshots among others": (
        "foreign-configuration",
        [webhook_configuration("company-policy", *ENGINE), service("policy", "policy-svc")],
    ),
    "a policy engine with an owner": ("foreign-configuration", [webhook_configuration("engine", *ENGINE, **OWNED)]),
    "a TLS Secret that the webhook shares with a shop": (
        "secret-kept", [tls("default", "shared-tls"), deployment("default", "shop", "a", secret="shared-tls")],
    ),
    "upstream's Secret that a CronJob uses": ("secret-kept", [tls("default", SECRET), named("CronJob", "default", "report", "batch/v1", spec=CRON)]),
    "upstream's names in another namespace": (
        "",
        [
            service("kube-system", HOOK), tls("kube-system", SECRET), named("ServiceAccount", "kube-system", "snapshot-webhook"),
            service("team", HOOK), tls("team", SECRET),
            deployment("team", "snapshot-validation-deployment", PROGRAM, secret=SECRET),
        ],
    ),
}  # fmt: skip
SHARED = webhook_configuration("second", ("default", HOOK, "", "configmaps"))


def carry_out_deletions(cluster: Cluster, cache: Path) -> dict[str, Any]:
    """Plan, run each step that deletes as the engine does, and return the plan."""
    result = plan(cluster, TARGET, accept=["kubectl"])
    assert result["refused"] == []
    rig = SnapshotRig(cluster, "none", cache)
    for step in result["plan"]:
        if step["action"] == "delete":
            done = rig.run("delete", consent=EVERYTHING, **step["parameters"])
            assert not done.get("failed"), done["msg"]
    return result


@dataclass
class Upgraded:
    """Plans and UIDs of an upgrade."""

    #: UIDs of all objects of OTHERS.
    before: dict[str, str]
    #: The plan while a second configuration calls the webhook.
    shared: dict[str, Any]
    #: UIDs of the objects that were left after that plan, by path.
    kept: dict[str, str]
    #: The plan after the second configuration was deleted.
    last: dict[str, Any]


WEBHOOK = [
    service("default", HOOK),
    tls("default", "snapshot-validation-tls"),
    deployment("default", "snapshot-validation-deployment"),
]
OWN_CONFIGURATION = webhook_configuration(
    lab.CONFIGURATION, ("default", HOOK, SNAPSHOTS_GROUP, "volumesnapshotclasses")
)


@pytest.fixture(scope="module")
def upgraded(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upgraded]:
    for name in NAMESPACES:
        lab.kubectl(cluster, "create", "namespace", name)
    lab.kubectl(cluster, "create", "clusterrole", "policy-engine", "--verb=get", "--resource=pods")
    owner = cluster.api("GET", "/apis/rbac.authorization.k8s.io/v1/clusterroles/policy-engine")
    OWNED["ownerReferences"][0]["uid"] = owner["metadata"]["uid"]
    install(cluster, "8.1.0")
    volume = [
        {"op": "replace", "path": "/spec/template/spec/volumes/0/secret/secretName", "value": "shared-tls"}
    ]
    place = ("-n", "default", "deployment", "snapshot-validation-deployment")
    lab.kubectl(cluster, "patch", *place, "--type=json", f"-p={json.dumps(volume)}")
    others = [obj for _finding, objects in OTHERS.values() for obj in objects]
    lab.kubectl(
        cluster,
        "apply",
        "-f-",
        stdin=yaml.safe_dump_all([*others, tls("default", "snapshot-validation-tls"), SHARED]),
    )
    before, cache = uids(cluster, others), tmp_path_factory.mktemp("cache")
    assert len(before) == len(others)
    shared = carry_out_deletions(cluster, cache)
    kept = uids(cluster, [*WEBHOOK, SHARED, OWN_CONFIGURATION])
    lab.kubectl(cluster, "delete", "validatingwebhookconfiguration", "second")
    lab.kubectl(
        cluster, "apply", "-f-", stdin=yaml.safe_dump(OWN_CONFIGURATION)
    )  # without it the webhook cannot be recognised
    yield Upgraded(before, shared, kept, carry_out_deletions(cluster, cache))
    configurations = [other["metadata"]["name"] for other in others if "webhooks" in other]
    removed = [f"ValidatingWebhookConfiguration/{name}" for name in configurations]
    lab.kubectl(
        cluster,
        "delete",
        *removed,
        "ClusterRole/policy-engine",
        *(f"namespace/{name}" for name in NAMESPACES),
        "--wait=false",
        "--ignore-not-found",
    )
    for entry in others:
        if entry["metadata"].get("namespace") in ("default", "kube-system"):
            where = ("-n", entry["metadata"]["namespace"], f"{entry['kind']}/{entry['metadata']['name']}")
            lab.kubectl(cluster, "delete", *where, "--wait=false", "--ignore-not-found")
    snapshot_kept.remove(cluster)


@pytest.mark.parametrize("row", OTHERS)
def test_objects_of_other_owners_are_kept_and_reported(
    cluster: Cluster, upgraded: Upgraded, row: str
) -> None:
    finding, objects = OTHERS[row]
    before = {path(obj): upgraded.before[path(obj)] for obj in objects}
    assert uids(cluster, objects) == before
    reports = [hazard for hazard in upgraded.last["hazards"] if hazard["id"] == finding]
    assert {report["handling"] for report in reports} == ({"report"} if finding else set())
    for report in reports:
        assert any(objects[0]["metadata"]["name"] in line for line in report["evidence"]), report
    assert "controller" in {step["id"] for step in upgraded.last["plan"]}  # the upgrade continues


def test_a_webhook_is_kept_while_another_configuration_calls_it(cluster: Cluster, upgraded: Upgraded) -> None:
    evidence = {hazard["id"]: hazard["evidence"] for hazard in upgraded.shared["hazards"]}["webhook-shared"]
    assert any("second" in line for line in evidence)
    assert set(upgraded.kept) == {
        path(entry) for entry in (*WEBHOOK, SHARED)
    }  # only its own configuration was deleted
    assert "webhook-shared" not in {hazard["id"] for hazard in upgraded.last["hazards"]}
    assert uids(cluster, WEBHOOK) == {}


def test_a_driver_whose_pod_contains_the_controller_is_never_deleted(empty: Cluster, tmp_path: Path) -> None:
    driver = deployment(
        "kube-system", "lvm-csi-controller", "x/csi-provisioner:v1", "x/snapshot-controller:v8.1.0"
    )
    lab.kubectl(empty, "apply", "-f-", stdin=yaml.safe_dump(driver))
    name = "kube-system/lvm-csi-controller"
    for given in ([], [name]):
        result = plan(empty, TARGET, accept=["kubectl"], remove_controllers=given)
        assert [entry["id"] for entry in result["refused"]] == ["other-containers"]
        assert "Remove the container of snapshot-controller from" in result["refused"][0]["remedy"]
    entry = {"kind": "Deployment", "namespace": "kube-system", "name": "lvm-csi-controller"}
    rig = SnapshotRig(empty, "none", tmp_path)
    assert rig.run("delete", consent=EVERYTHING, objects=[entry])["code"] == "owned-by-another"
    assert rig.writes() == []
    lab.kubectl(empty, "delete", "-n", "kube-system", "deployment", "lvm-csi-controller")


def test_a_secret_that_changed_after_the_plan_is_kept(empty: Cluster, tmp_path: Path) -> None:
    """The step detects a change after the plan. The API server detects a change after the read."""
    secret = tls("kube-public", SECRET)
    place = {"kind": "Secret", "namespace": "kube-public", "name": SECRET, "only_used_by": "validation"}
    lab.kubectl(empty, "apply", "-f-", stdin=yaml.safe_dump(secret))
    planned = empty.api("GET", path(secret))["metadata"]["resourceVersion"]
    lab.kubectl(empty, "label", "secret", "-n", "kube-public", SECRET, "written=since")
    connection = resolve({"kubeconfig": str(empty.kubeconfig)}, {})
    client = Client(connection, user_agent="certflow-test", deadline=time.monotonic() + 60)
    with pytest.raises(Conflict):
        client.delete(path(secret), resource_version=planned)
    rig = SnapshotRig(empty, "none", tmp_path)
    left = rig.run("delete", objects=[{**place, "resource_version": planned}])
    assert (left["changed"], len(left["warnings"])) == (False, 1)
    assert SECRET in left["warnings"][0]
    assert rig.run("delete", objects=[place])["changed"]
    assert uids(empty, [secret]) == {}


def assert_refused(cluster: Cluster, key: str, evidence: str) -> None:
    """Check that the plan is refused with manager, evidence and advice."""
    result = plan(cluster, TARGET)
    refused = {row["id"]: row for row in result["refused"]}
    row = refused[f"owner-{key}"]
    assert row["reason"]
    assert {manager["name"] for manager in result["managers"] if manager["manager"] == key} == {
        INSTALLERS[key].name
    }
    assert any(evidence in line for line in row["evidence"]), row["evidence"]
    assert INSTALLERS[key].upgrade in row["remedy"]
    assert (DEPLOYMENT, key) in {(manager["object"], manager["manager"]) for manager in result["managers"]}


def assert_accepted(cluster: Cluster, key: str) -> None:
    """Check that `accept` has a word for the manager, unless its objects cannot be accepted."""
    if not INSTALLERS[key].adopting:
        assert plan(cluster, TARGET, accept=[key])["refused"]
        return
    result = plan(cluster, TARGET, accept=["manager:some-installer" if key == "manager" else key])
    assert result["refused"] == []
    assert result["plan"]
