# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pods of the snapshot controller on a control plane without a node.

They are real objects without a program. A thread reports them ready, and does the controller's work that an upgrade verifies. A
test decides whose pods become ready, so an upgrade waits for them as long as the test needs.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from typing import TYPE_CHECKING, Any

from tests.support.clusters import AdminApiError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.clusters import Cluster

PODS = "/api/v1/namespaces/kube-system/pods"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"
LEADER = "snapshot-controller-leader"
SNAPSHOTS = "/apis/snapshot.storage.k8s.io/v1/namespaces/kube-system/volumesnapshots"
MERGE = "application/merge-patch+json"
PAUSE_SECONDS = 0.3
# A pod is available minReadySeconds after it became ready.
READY = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}


# A kubelet reports this for an image name that no registry can have, so waiting does not help.
BROKEN = {"name": "snapshot-controller", "ready": False, "restartCount": 0, "image": "", "imageID": ""}
BROKEN_STATE = {"waiting": {"reason": "InvalidImageName", "message": "the name of the image is not valid"}}


class Pods:
    """The pods of a cluster.

    ready: the releases whose pods become ready.
    broken: the releases whose pods report an error that lasts.
    """

    def __init__(self, cluster: Cluster, *ready: str) -> None:
        self.ready, self.broken = set(ready), set[str]()
        self._cluster = cluster
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True)

    def close(self) -> None:
        self._ended.set()
        self._thread.join()

    def start(self) -> None:
        self._thread.start()

    def _keep(self) -> None:
        while not self._ended.wait(PAUSE_SECONDS):
            with contextlib.suppress(AdminApiError, OSError):  # an object was changed or deleted meanwhile
                self._look()

    def _look(self) -> None:
        pods = self._cluster.api("GET", PODS)["items"]
        for pod in pods:
            if _release(pod) in self.ready and not _is_ready(pod):
                self._report(pod, {"phase": "Running", "conditions": [READY], "containerStatuses": []})
            elif _release(pod) in self.broken and not pod["status"].get("containerStatuses"):
                self._report(pod, {"containerStatuses": [{**BROKEN, "state": BROKEN_STATE}]})
        ready = [pod for pod in pods if _release(pod) in self.ready]
        if ready:
            newest = max(
                ready, key=lambda pod: (pod["metadata"]["creationTimestamp"], pod["metadata"]["name"])
            )
            self._lead(newest["metadata"]["name"])
            self._answer()

    def _report(self, pod: dict[str, Any], status: dict[str, Any]) -> None:
        path = f"{PODS}/{pod['metadata']['name']}/status"
        self._cluster.api("PATCH", path, {"status": status}, MERGE)

    def _lead(self, holder: str) -> None:
        """Hold the controllers' Lease for an hour."""
        with contextlib.suppress(AdminApiError):
            if self._cluster.api("GET", f"{LEASES}/{LEADER}")["spec"]["holderIdentity"] == holder:
                return
        now = self._cluster.now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = {"holderIdentity": holder, "leaseDurationSeconds": 3600, "acquireTime": now, "renewTime": now}
        with contextlib.suppress(AdminApiError):
            self._cluster.api("POST", LEASES, {"metadata": {"name": LEADER}})
        self._cluster.api("PATCH", f"{LEASES}/{LEADER}", {"spec": spec}, MERGE)

    def _answer(self) -> None:
        """Report the missing class of each VolumeSnapshot."""
        for item in self._cluster.api("GET", SNAPSHOTS)["items"]:
            if not item.get("status", {}).get("error"):
                name = item["spec"]["volumeSnapshotClassName"]
                error = {"message": f'class "{name}" not found', "time": READY["lastTransitionTime"]}
                path = f"{SNAPSHOTS}/{item['metadata']['name']}/status"
                self._cluster.api("PATCH", path, {"status": {"error": error, "readyToUse": False}}, MERGE)


@contextlib.contextmanager
def running(cluster: Cluster, *ready: str) -> Iterator[Pods]:
    """Report the pods of these releases ready, until the block ends."""
    pods = Pods(cluster, *ready)
    pods.start()
    try:
        yield pods
    finally:
        pods.close()
        with contextlib.suppress(AdminApiError):
            cluster.api("DELETE", f"{LEASES}/{LEADER}")


def wait_until_ready(cluster: Cluster, release: str, seconds: float = 120) -> None:
    """Wait until the Deployment is available and all of its pods are of the release."""
    end = time.monotonic() + seconds
    while not _is_complete(cluster, release):
        assert time.monotonic() < end, f"the pods of {release} do not become ready"
        time.sleep(PAUSE_SECONDS)


def _is_complete(cluster: Cluster, release: str) -> bool:
    pods = [pod for pod in cluster.api("GET", PODS)["items"] if _release(pod)]
    return bool(pods) and all(_release(pod) == release and _is_ready(pod) for pod in pods)


def _release(pod: dict[str, Any]) -> str:
    found = re.search(r"/snapshot-controller:v([\d.]+)", pod["spec"]["containers"][0]["image"])
    return found[1] if found else ""


def _is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions", ())
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)
