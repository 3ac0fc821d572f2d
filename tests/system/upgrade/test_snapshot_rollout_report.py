# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report of a rollout whose pods are refused, with and without the permission to list events, on a real control plane."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.client import Client
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.login.kubeconfig import resolve
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.errors import RolloutError
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.kinds import Reference
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade.steps import waits

from tests.support.permissions import rbac
from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.clusters import Cluster

NAME = "hook"


@pytest.fixture(scope="module")
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace whose policy refuses the pods of its Deployment."""
    name = f"refused-{uuid.uuid4().hex[:8]}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.api("POST", "/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})
    spec = {
        "replicas": 2,
        "selector": {"matchLabels": {"app": NAME}},
        "template": {
            "metadata": {"labels": {"app": NAME}},
            "spec": {"hostNetwork": True, "containers": [{"name": NAME, "image": "example.invalid/hook:1"}]},
        },
    }
    path = f"/apis/apps/v1/namespaces/{name}/deployments"
    cluster.api("POST", path, {"metadata": {"name": NAME}, "spec": spec})
    events = f"/api/v1/namespaces/{name}/events"
    wait_for(lambda: any(item["reason"] == "FailedCreate" for item in cluster.api("GET", events)["items"]))
    yield name
    cluster.api("DELETE", f"/api/v1/namespaces/{name}")


def test_pods_that_a_policy_refuses_are_reported(cluster: Cluster, namespace: str) -> None:
    error = _failure(cluster.kubeconfig, namespace)
    assert "PodSecurity" in str(error)
    events = [line for line in error.evidence if line.startswith("event of ")]
    assert events and all("FailedCreate: " in line and "PodSecurity" in line for line in events)


def test_the_permission_to_list_events_is_optional(cluster: Cluster, namespace: str) -> None:
    user = f"limited-{uuid.uuid4().hex[:8]}"
    rules: list[dict[str, Any]] = [
        {"apiGroups": ["apps"], "resources": ["deployments", "replicasets"], "verbs": ["get", "list"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
    ]
    role = {"kind": "Role", "metadata": {"name": "limited", "namespace": namespace}, "rules": rules}
    rbac.grant(cluster, user, role)
    error = _failure(cluster.kubeconfig_for(user), namespace)
    assert "PodSecurity" in str(error)
    (note,) = [line for line in error.evidence if line.startswith("event")]
    assert note.startswith(f"events in the namespace {namespace} cannot be read: ")


def _failure(kubeconfig: Path, namespace: str) -> RolloutError:
    connection = resolve({"kubeconfig": str(kubeconfig)}, {})
    client = Client(connection, user_agent="certflow.kubernetes/test", deadline=time.monotonic() + 10)
    try:
        with pytest.raises(RolloutError) as caught:
            waits.until_available(client, Reference("Deployment", NAME, namespace))
    finally:
        client.close()
    return caught.value
