# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check the marks of kubespray's Deployment, as a real kubectl and a real API server leave them."""

from __future__ import annotations

import json
import time
import uuid
from typing import TYPE_CHECKING, Any

from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.client import Client
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.login.kubeconfig import resolve
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.installed import installers

from tests.support import clusters
from tests.support.upgrade.snapshot_lab import kubectl

if TYPE_CHECKING:
    pass

Object = dict[str, Any]
LABELS = {"app.kubernetes.io/name": "snapshot-controller"}


def deployment(namespace: str, version: str, *, replicas: int, elects: str) -> Object:
    """Return the Deployment of kubespray 2.31.0 (roles/kubernetes-apps/snapshots/snapshot-controller/templates)."""
    container = {
        "name": "snapshot-controller",
        "image": f"registry.k8s.io/sig-storage/snapshot-controller:v{version}",
        "imagePullPolicy": "IfNotPresent",
        "args": ["--v=5", f"--leader-election={elects}"],
    }
    return {
        "kind": "Deployment",
        "apiVersion": "apps/v1",
        "metadata": {"name": "snapshot-controller", "namespace": namespace},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": LABELS},
            "minReadySeconds": 35,
            "template": {"metadata": {"labels": LABELS}, "spec": {"containers": [container]}},
        },
    }


def test_a_deployment_of_kubespray_before_and_after_its_adoption(fleet: clusters.Fleet) -> None:
    cluster, namespace = fleet["onprem"], f"kubespray-{uuid.uuid4().hex[:8]}"
    given = {"kubeconfig": str(cluster.kubeconfig)}
    client = Client(resolve(given, {}), user_agent="certflow.kubernetes/test", deadline=time.monotonic() + 60)
    cluster.api("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/snapshot-controller"
    theirs = deployment(namespace, "7.0.2", replicas=1, elects="false")
    ours = deployment(namespace, "8.7.0", replicas=2, elects="true")

    def whose() -> tuple[str, str]:
        found = installers.find_origin(client.get(path))
        return found.key, found.earlier

    try:
        kubectl(cluster, "apply", "--force", "--filename=-", stdin=json.dumps(theirs))
        assert whose() == ("kubespray", "")
        client.apply(path, ours, manager=installers.MANAGER)
        assert whose() == ("", "kubespray")
        time.sleep(1.1)  # the times of managedFields are whole seconds
        kubectl(cluster, "apply", "--force", "--filename=-", stdin=json.dumps(theirs))
        assert whose() == ("kubespray", "")
        live = client.get(path)["spec"]["template"]["spec"]["containers"][0]
        assert live["image"].endswith(":v7.0.2")
    finally:
        client.close()
        cluster.api("DELETE", f"/api/v1/namespaces/{namespace}")
