# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An upgrade with a defect of this collection, on a real control plane without a node.

There are no pods, so a run ends at the first wait for pods, and so does a rollback.
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._ansible.operation import execute
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations import snapshot_controller
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.actions.apply_release import (
    ApplyRelease,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade import actions, upgrade_lease

from tests.support import leases
from tests.support.operations import validated
from tests.support.upgrade import snapshot_kept
from tests.support.upgrade import snapshot_lab as lab
from tests.support.upgrade.snapshot_plans import install
from tests.support.upgrade.snapshot_rig import CRDS, release_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade.steps.apply_manifests import (
        ActionContext,
    )

    from tests.support.clusters import Cluster

SECRET = "the text of an exception may be a secret"
pytestmark = pytest.mark.usefixtures("unanswered")

CRD = "volumesnapshots.snapshot.storage.k8s.io"
Upgrade = Any


@pytest.fixture(scope="module")
def cluster(without_snapshots: Cluster) -> Iterator[Cluster]:
    """A cluster with 7.0.2, as kubectl installed it."""
    install(without_snapshots, "7.0.2")
    yield without_snapshots
    snapshot_kept.remove(without_snapshots)


@pytest.fixture(scope="module")
def upgrade(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upgrade]:
    """Upgrade to 8.7.0 with the module."""
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(release_server("7.0.2", "8.7.0"))
        given = {
            "kubeconfig": str(cluster.kubeconfig),
            "version": "8.7.0",
            "accept": ["kubectl"],
            "source": source,
            "cache_directory": str(tmp_path_factory.mktemp("releases")),
            "step_timeout": 15,
            "wait_timeout": 600,
        }

        def run(**more: Any) -> dict[str, Any]:
            """Return the result, also that of a defect."""
            parameters = validated(snapshot_controller.OPERATION, {**given, **more})
            return execute(snapshot_controller.OPERATION, parameters, check_mode=False)

        yield run


def defect_at(monkeypatch: pytest.MonkeyPatch, part: str, meet: Callable[[], object] = lambda: None) -> None:
    """Let the first real write of this part of a release fail with a defect, after the step wrote its objects.

    meet: what happens just before.
    """
    real, left = actions.ACTIONS[ApplyRelease], [1]

    def apply(context: ActionContext, action: ApplyRelease) -> Any:
        outcomes = real(context, action)
        if not context.check_mode and part in action.parts and left:
            left.clear()
            meet()
            raise KeyError(SECRET)
        return outcomes

    monkeypatch.setitem(actions.ACTIONS, ApplyRelease, apply)


def held(cluster: Cluster) -> bool:
    return upgrade_lease.NAME in {
        lease["metadata"]["name"] for lease in leases.leases(cluster, upgrade_lease.NAMESPACE)
    }


def test_a_defect_in_the_middle_of_a_hop_is_undone_and_reported(
    cluster: Cluster, upgrade: Upgrade, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Lease is released. The steps report what was written, and the rollback was tried."""
    defect_at(monkeypatch, "controller_rbac")
    result = upgrade()
    assert (result["failed"], result["changed"], result["code"]) == (True, True, "defect"), result
    assert (result["step"], result["hop"]) == ("controller-rbac", "8.7.0")
    assert not held(cluster)
    forward = [step for step in result["steps"] if not step["undoes"]]
    assert [entry["status"] for entry in forward] == ["done"] * (len(forward) - 1) + ["failed"]
    assert "crds" in {entry["id"] for entry in forward if entry["changed"]}
    assert forward[-1]["changed"] is True  # it wrote an object before the defect
    assert [step["undoes"] for step in result["steps"]][-1] is True
    # Without a node no pod becomes ready, so the rollback ends there and reports that.
    assert (result["undone"]["release"], result["undone"]["is_back"]) == ("7.0.2", False)
    assert result["undone"]["problem"]
    assert (result["installed"]["version"], bool(result["plan"])) == ("7.0.2", True)
    assert SECRET not in json.dumps(result)
    # The CRDs stay newer, and the Deployment is that of 7.0.2.
    assert cluster.api("GET", f"{CRDS}/{CRD}")["spec"]["versions"]
    containers = cluster.api("GET", lab.CONTROLLER)["spec"]["template"]["spec"]["containers"]
    assert containers[0]["image"].endswith(":v7.0.2")


def test_an_undo_does_not_overwrite_what_another_client_changed(
    cluster: Cluster, upgrade: Upgrade, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other client writes between the step and the undo: the image, which the step changed too, and a label.

    Without a node no webhook answers, so it is removed first. Otherwise the undo would end before the controller.
    """
    for name in (
        f"validatingwebhookconfiguration/{lab.CONFIGURATION}",
        f"deployment/{lab.era('7.0.2').deployment}",
    ):
        lab.kubectl(cluster, "delete", name, "--namespace", lab.WEBHOOK_NAMESPACE, "--ignore-not-found")
    theirs = "registry.k8s.io/sig-storage/snapshot-controller:v7.0.2-theirs"
    patch = [
        {"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": theirs},
        {"op": "add", "path": "/metadata/labels", "value": {"team": "storage"}},
    ]
    path = f"{lab.CONTROLLER}?fieldManager=kubectl-edit"
    defect_at(
        monkeypatch, "controller", lambda: cluster.api("PATCH", path, patch, "application/json-patch+json")
    )
    result = upgrade()
    assert (result["code"], result["step"], result["undone"]["is_back"]) == ("defect", "controller", False), (
        result
    )
    assert "Deployment kube-system/snapshot-controller" in result["undone"]["problem"]
    assert not held(cluster)
    deployment = cluster.api("GET", lab.CONTROLLER)
    assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == theirs
    assert deployment["metadata"]["labels"] == {"team": "storage"}


def test_the_next_run_continues(cluster: Cluster, upgrade: Upgrade, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for no Lease and reports no killed run. undo is false, so the new Deployment stays."""
    defect_at(monkeypatch, "controller")
    result = upgrade(undo=False)
    assert (result["code"], result["step"], result["previous_run"]) == ("defect", "controller", None), result
    assert (result["undone"]["is_back"], any(step["undoes"] for step in result["steps"])) == (False, False)
    assert not held(cluster)
    monkeypatch.undo()
    again = upgrade(undo=False)
    assert (again["code"], again["step"], again["previous_run"]) == (
        "rollout-failed",
        "controller-wait",
        None,
    )
    assert not held(cluster)
    containers = cluster.api("GET", lab.CONTROLLER)["spec"]["template"]["spec"]["containers"]
    assert containers[0]["image"].endswith(":v8.7.0")


def test_a_defect_before_the_first_step_writes_nothing(
    cluster: Cluster, upgrade: Upgrade, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_context: ActionContext, _action: ApplyRelease) -> Any:
        raise KeyError(SECRET)

    monkeypatch.setitem(actions.ACTIONS, ApplyRelease, fail)
    before = cluster.api("GET", lab.CONTROLLER)["metadata"]["resourceVersion"]
    result = upgrade()
    assert (result["failed"], result["changed"], result["code"]) == (True, False, "defect"), result
    assert SECRET not in json.dumps(result)
    assert not held(cluster)
    assert cluster.api("GET", lab.CONTROLLER)["metadata"]["resourceVersion"] == before
