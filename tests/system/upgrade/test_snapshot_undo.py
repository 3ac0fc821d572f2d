# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Undo a failed hop from releases without sums, whose objects a user has changed. The source has only the target.

The Go module proxy does not have these releases, so their programs are those of another release with another version.
"""

from __future__ import annotations

import base64
import contextlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._ansible.operation import execute
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations import snapshot_controller
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.actions.object_actions import (
    DeleteObjects,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.release.checksums import SUMS
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade import actions
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade.steps import waits

from tests.support import clusters, leases
from tests.support.clusters import build
from tests.support.operations import validated
from tests.support.upgrade import snapshot_kept
from tests.support.upgrade import snapshot_lab as lab
from tests.support.upgrade.snapshot_rig import release_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade.steps.apply_manifests import (
        ActionContext,
    )

    from tests.support.clusters import Cluster

NEW = "8.7.0"
# A release without sums, and the release whose programs and manifests stand for it.
RELEASES = {"8.1.1": "8.1.0", "7.0.1": "7.0.2", "6.2.3": "6.2.2", "4.2.0": "4.2.1"}
ROLE = "/apis/rbac.authorization.k8s.io/v1/clusterroles/snapshot-controller-runner"
RULE = {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]}
JSON_PATCH = "application/json-patch+json"
ARGUMENT = "--worker-threads=3"
# Fields that a controller or every write changes.
NOISE = ("resourceVersion", "uid", "generation", "creationTimestamp", "managedFields")


@dataclass(frozen=True)
class OldCluster:
    """A cluster with an old release, as kubectl installed it and a user changed it."""

    cluster: Cluster
    release: str


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(old, marks=[pytest.mark.full] if number else []) for number, old in enumerate(RELEASES)
    ],
)
def old(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OldCluster]:
    reason = clusters.why_no_node()
    if reason:
        pytest.skip(reason)
    assert request.param not in SUMS
    with clusters.running({"undo": "onprem-node"}) as fleet:
        install(fleet["undo"], request.param, tmp_path_factory.mktemp("programs"))
        yield OldCluster(fleet["undo"], request.param)


def install(cluster: Cluster, release: str, directory: Path) -> None:
    other = RELEASES[release]
    lab.install(cluster, other)
    for program in build.snapshot_programs(other).iterdir():
        renamed = directory / program.name
        renamed.write_bytes(program.read_bytes().replace(f"v{other}".encode(), f"v{release}".encode()))
        renamed.chmod(0o755)
        cluster.load_image(f"{lab.REGISTRY}/{program.name}:v{release}", renamed)
    webhook = lab.era(release)
    images = {lab.CONTROLLER: "snapshot-controller", webhook.deployment_path: webhook.program}
    for path, name in images.items():
        image = f"{lab.REGISTRY}/{name}:v{release}"
        tag = {"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": image}
        cluster.api("PATCH", f"{path}?fieldManager=kubectl-set", [tag], JSON_PATCH)
    arguments = "/spec/template/spec/containers/0/args/-"
    change(cluster, lab.CONTROLLER, {"op": "add", "path": arguments, "value": ARGUMENT})
    change(cluster, lab.CONTROLLER, {"op": "replace", "path": "/spec/replicas", "value": 3})
    change(cluster, lab.CONTROLLER, {"op": "add", "path": "/metadata/labels", "value": {"team": "storage"}})
    change(cluster, ROLE, {"op": "add", "path": "/rules/-", "value": RULE})
    lab.wait_until_available(cluster, release)


def change(cluster: Cluster, path: str, *operations: dict[str, Any]) -> None:
    cluster.api("PATCH", f"{path}?fieldManager=kubectl-edit", list(operations), JSON_PATCH)


@pytest.fixture(scope="module")
def upgrade(old: OldCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Upgrade to the newest release with the module. Its source has no other release."""
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(release_server(NEW))
        given = {
            "kubeconfig": str(old.cluster.kubeconfig),
            "version": NEW,
            "accept": ["kubectl", "arguments-dropped"],
            "webhook_namespace": lab.WEBHOOK_NAMESPACE,
            "controller": {"spec": {"minReadySeconds": 3}},
            "source": source,
            "cache_directory": str(tmp_path_factory.mktemp("releases")),
            "backup": str(tmp_path_factory.mktemp("backups")),
            "step_timeout": 120,
            "wait_timeout": 900,
        }

        def run(**more: Any) -> dict[str, Any]:
            parameters = validated(snapshot_controller.OPERATION, {**given, **more})
            result = execute(snapshot_controller.OPERATION, parameters, check_mode=False)
            json.dumps(result)
            return result

        yield run


def before_and_after(old: OldCluster, run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Run a failing upgrade and return its result. Everything but the CRDs must be as before, the owners of fields included."""
    cluster = old.cluster
    before = state(cluster)
    result = run()
    assert result["failed"] and (result.get("undone") or {}).get("is_back"), result
    lab.wait_until_available(cluster, old.release)
    after = state(cluster)
    assert after.keys() == before.keys()
    for name, obj in before.items():
        assert after[name] == obj, name
    assert RULE in cluster.api("GET", ROLE)["rules"]
    assert lab.webhook_refuses(cluster, old.release)
    assert not [
        lease for lease in leases.leases(cluster, "kube-system") if "certflow" in lease["metadata"]["name"]
    ]
    return result


def state(cluster: Cluster) -> dict[str, Any]:
    """Return the objects of the snapshot controller by name, Secrets with their keys.

    The CRDs and the permissions of the controller stay newer.
    """
    stay = ("customresourcedefinitions ", "snapshot-controller-", "serviceaccounts kube-system/")
    found = snapshot_kept.whole_objects(cluster)
    return {name: comparable(obj) for name, obj in found.items() if not any(word in name for word in stay)}


def comparable(obj: dict[str, Any]) -> dict[str, Any]:
    metadata = {key: value for key, value in obj["metadata"].items() if key not in NOISE}
    annotations = dict(metadata.get("annotations") or {})
    annotations.pop("deployment.kubernetes.io/revision", None)
    owners = [
        {key: entry[key] for key in ("manager", "operation", "fieldsV1")}
        for entry in obj["metadata"].get("managedFields") or ()
        if not entry.get("subresource")
    ]
    content = {key: value for key, value in obj.items() if key not in ("metadata", "status")}
    if "clusterIP" in content.get("spec", {}):  # a new Service has a new address
        content["spec"] = {key: value for key, value in content["spec"].items() if "clusterIP" not in key}
    return {**content, "metadata": {**metadata, "annotations": annotations}, "owners": owners}


@pytest.mark.full
def test_a_release_whose_new_pods_do_not_start_comes_back(
    old: OldCluster, upgrade: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hop has deleted the webhook configurations, and has changed the controller and its permissions."""
    monkeypatch.setattr(waits, "PATIENCE_SECONDS", 10.0)  # the registry does not come back
    given = {"image_registry": "nowhere.invalid/certflow", "step_timeout": 60}
    result = before_and_after(old, lambda: upgrade(**given))
    assert (result["code"], result["step"]) == ("rollout-failed", "controller-wait"), result
    assert result["undone"]["release"] == old.release


def test_what_the_hop_deleted_comes_back_with_its_key(
    old: OldCluster, upgrade: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last step fails after it has deleted the webhook, its Service, Secret and permissions."""
    lab.load_images(old.cluster, NEW)
    real = actions.ACTIONS[DeleteObjects]
    deleted: list[str] = []

    def delete(context: ActionContext, action: DeleteObjects) -> Any:
        outcomes = real(context, action)
        kinds = [entry.kind for entry in action.objects]
        if not context.check_mode and "Secret" in kinds and not deleted:
            deleted.extend(kinds)
            raise KeyError("a defect")
        return outcomes

    monkeypatch.setitem(actions.ACTIONS, DeleteObjects, delete)
    (secret,) = [
        obj for name, obj in snapshot_kept.whole_objects(old.cluster).items() if "/api/v1/secrets" in name
    ]
    result = before_and_after(old, upgrade)
    assert (result["code"], result["step"]) == ("defect", "validation-clean"), result
    # The webhook of 4.2 has no account of its own.
    rbac = {"ServiceAccount", "ClusterRole", "ClusterRoleBinding"} if old.release != "4.2.0" else set()
    assert {"Service", "Secret", "Deployment", *rbac} <= set(deleted)
    key = next(value for name, value in secret["data"].items() if "key" in name)  # key.pem with 4.2
    assert key not in json.dumps(result) and base64.b64decode(key).decode() not in json.dumps(result)
