# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Orphan a Deployment's pods while one of them is evicted. The replacement pod has the label too.

The tests use a model of kube-controller-manager. The ReplicaSet's controller reads a write some requests later, makes pods
from the template that it has read, and reports its generation. A Deployment without a matching ReplicaSet rolls out.
"""

from __future__ import annotations

import copy
from typing import Any, cast

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.errors import NotFound
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.actions.object_actions import (
    OrphanDeployment,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.kinds import (
    ORPHAN_LABEL,
    Reference,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade.steps import orphan, waits
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade.steps.apply_manifests import (
    ActionContext,
)

Object = dict[str, Any]
PODS, LABELS = 2, {"app": "hook", "pod-template-hash": "5d8"}
IMAGE = "registry.k8s.io/sig-storage/snapshot-validation-webhook:v6.2.2"
TARGET = Reference("Deployment", "hook", "default")
DETACH = OrphanDeployment(TARGET.namespace, TARGET.name)


class OrphanCluster:
    """A client of the model.

    evict: number of the request before which a pod is evicted.
    lag: number of requests by which a controller is late.
    """

    deadline = float("inf")

    def __init__(self, *, evict: int = -1, lag: int = 0) -> None:
        self.evict, self.lag, self.count, self.made = evict, lag, -1, 0
        template = {"metadata": {"labels": LABELS}, "spec": {"containers": [{"name": "a", "image": IMAGE}]}}
        self.objects: dict[str, Object] = {}
        self.put("deployments", "hook", "deployment", spec={"template": copy.deepcopy(template)})
        self.put("replicasets", "hook-5d8", "set", spec={
            "replicas": PODS, "selector": {"matchLabels": LABELS}, "template": template,
        })  # fmt: skip
        metadata = self.set["metadata"]
        metadata.update(
            labels={**LABELS, "team": "red"}, ownerReferences=[{"uid": "deployment", "controller": True}]
        )
        self.seen: list[tuple[int, Object]] = [(-lag - 1, copy.deepcopy(self.set))]
        self.rollouts = 0
        self.act()

    def put(self, plural: str, name: str, uid: str, **more: Any) -> None:
        metadata = {"name": name, "uid": uid, "resourceVersion": "1", "generation": 1}
        self.objects[f"{plural}/{name}"] = {"metadata": metadata, "status": {}, **more}

    @property
    def set(self) -> Object:
        return self.objects["replicasets/hook-5d8"]

    @property
    def pods(self) -> list[Object]:
        return [obj for path, obj in self.objects.items() if path.startswith("pods/")]

    def act(self) -> None:
        """Advance the model by one request."""
        self.count += 1
        if self.count == self.evict:
            del self.objects[next(path for path in self.objects if path.startswith("pods/"))]
        deployment = self.objects.get("deployments/hook")
        if deployment and deployment["spec"]["template"] != self.set["spec"]["template"]:
            self.rollouts += 1
        read = [obj for since, obj in self.seen if since + self.lag <= self.count][-1:]
        for entry in read:
            while len(self.pods) < entry["spec"]["replicas"]:
                self.made += 1
                self.put("pods", f"pod-{self.made}", f"pod-{self.made}")
                self.objects[f"pods/pod-{self.made}"]["metadata"].update(
                    labels=dict(entry["spec"]["template"]["metadata"]["labels"]),
                    ownerReferences=[{"uid": "set", "controller": True}],
                )
            self.set["status"]["observedGeneration"] = entry["metadata"]["generation"]

    def find(self, path: str) -> Object | None:
        self.act()
        return copy.deepcopy(self.objects.get("/".join(path.split("/")[-2:])))

    def list_all(self, path: str, _query: Any = None) -> Object:
        self.act()
        plural = path.rpartition("/")[2]
        return {
            "items": [
                copy.deepcopy(obj) for name, obj in self.objects.items() if name.startswith(f"{plural}/")
            ]
        }

    def patch(self, path: str, operations: list[Object], *, dry_run: bool = False) -> Object:
        self.act()
        key = "/".join(path.split("/")[-2:])
        if key not in self.objects:
            raise NotFound("gone", status=404)
        obj = copy.deepcopy(self.objects[key])
        before = copy.deepcopy(obj["spec"]) if "spec" in obj else None
        for operation in operations[1:]:  # the first is the lock
            *parents, last = (part.replace("~1", "/") for part in operation["path"].split("/")[1:])
            place = obj
            for part in parents:
                place = place[part]
            if operation["op"] == "remove":
                del place[last]
            else:
                place[last] = operation["value"]
        if obj.get("spec") != before:
            obj["metadata"]["generation"] += 1
        if not dry_run:
            self.objects[key] = obj
            if key.startswith("replicasets"):
                self.seen.append((self.count, copy.deepcopy(obj)))
        return copy.deepcopy(obj)

    def delete(self, path: str, *, dry_run: bool = False, **_given: Any) -> None:
        self.act()
        if not dry_run:
            del self.objects["/".join(path.split("/")[-2:])]
            self.set["metadata"].pop("ownerReferences")


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waits, "PAUSE_SECONDS", 0)


def detach(cluster: OrphanCluster, **given: Any) -> list[Any]:
    return orphan.orphan_deployment(ActionContext(cast("Any", cluster), **given), DETACH)


def unlabelled(cluster: OrphanCluster) -> list[str]:
    """Return the pods that the step "hold" would remove from the Service."""
    return [
        pod["metadata"]["name"]
        for pod in cluster.pods
        if pod["metadata"]["labels"].get(ORPHAN_LABEL) != TARGET.name
    ]


REQUESTS = 40  # more than there are


@pytest.mark.parametrize("lag", [0, 1, 3, 7])
def test_a_pod_that_is_created_meanwhile_has_the_label_too(lag: int) -> None:
    for evict in range(1, REQUESTS):
        cluster = OrphanCluster(evict=evict, lag=lag)
        detach(cluster)
        for _request in range(REQUESTS):
            cluster.act()
        assert (unlabelled(cluster), len(cluster.pods), cluster.rollouts) == ([], PODS, 0), evict


def test_the_next_run_completes_an_interrupted_run() -> None:
    class Cut(OrphanCluster):
        end = REQUESTS

        def patch(self, path: str, operations: list[Object], *, dry_run: bool = False) -> Object:
            if self.count >= self.end:
                raise ConnectionError
            return super().patch(path, operations, dry_run=dry_run)

    for end in range(1, REQUESTS):
        cluster = Cut(evict=end + 1)
        cluster.end = end
        try:
            detach(cluster)
        except ConnectionError:
            marked = ORPHAN_LABEL in cluster.set["metadata"]["labels"]
            assert not (marked and unlabelled(cluster)), "the next plan would not detach again"
            cluster.end = 10 * REQUESTS
            detach(cluster)
        assert (unlabelled(cluster), ORPHAN_LABEL in cluster.set["metadata"]["labels"]) == ([], True)
        assert set(cluster.set["metadata"]["labels"]) == {ORPHAN_LABEL}


def test_check_mode_returns_the_same_outcomes() -> None:
    foreseen = detach(OrphanCluster(), check_mode=True)
    assert foreseen == detach(OrphanCluster())
    assert {entry.reference.kind for entry in foreseen} == {"ReplicaSet", "Pod", "Deployment"}
