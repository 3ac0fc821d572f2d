# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an upgrade must not touch, and what it must leave: users' snapshots, and the objects of a release.

Snapshots that were there before keep UID and spec and can be changed and deleted; everything of the release is as on a
cluster where it was installed afresh.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.plan.object_changes import meaning

from tests.support import snapshot_lab as lab
from tests.support.clusters import AdminApiError
from tests.support.snapshot_rig import difference
from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.clusters import Cluster

Object = dict[str, Any]
GROUPS = "/apis/groupsnapshot.storage.k8s.io"
# A list of handles in the status of a group content, and the name of the list by version. v1alpha1 has no such list.
HANDLES = [{"snapshotHandle": "handle-1", "volumeHandle": "volume-1"}]
LISTS = {
    "v1beta1": "volumeSnapshotHandlePairList",
    "v1beta2": "volumeSnapshotInfoList",
    "v1": "volumeSnapshotInfoList",
}
_ROOT = "/apis/snapshot.storage.k8s.io"


class Kept:
    """Snapshots that were there before: by path, what has to stay of each."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.essences: dict[str, Object] = {}

    def make(self, *, beta: bool) -> None:
        """A class, a content and the snapshot that is bound to it, a snapshot of a claim; one made through v1beta1."""
        bound = lab.snapshot("kept")
        bound["spec"]["source"] = {"volumeSnapshotContentName": "kept"}
        spaced = "namespaces/default/volumesnapshots"
        made = [
            (f"{_ROOT}/v1/volumesnapshotclasses", lab.default_class("kept")),
            (f"{_ROOT}/v1/volumesnapshotcontents", lab.content("kept")),
            (f"{_ROOT}/v1/{spaced}", bound),
            (f"{_ROOT}/v1/{spaced}", lab.snapshot("kept-claim")),
        ]
        if beta:
            made.append((f"{_ROOT}/v1beta1/{spaced}", lab.snapshot("kept-beta", version="v1beta1")))
        for collection, body in made:
            self.cluster.api("POST", collection, body)
        content = f"{_ROOT}/v1/volumesnapshotcontents/kept"
        wait_for(lambda: self.cluster.api("GET", content)["spec"]["volumeSnapshotRef"].get("uid"), seconds=60)
        self._note(f"{path.replace('v1beta1', 'v1')}/{body['metadata']['name']}" for path, body in made)

    def make_groups(self, version: str, *, is_bound: bool = True) -> None:
        """Make a group class, a content with a list of handles in its status, and a group snapshot, at this version.

        is_bound: the snapshot names the content, and the controller binds it. Else it selects claims.
        """
        name = {"apiVersion": f"groupsnapshot.storage.k8s.io/{version}", "metadata": {"name": "kept"}}
        common = {"driver": "test.certflow.invalid", "deletionPolicy": "Retain"}
        reference = {"name": "kept", "namespace": "default"}
        handles = {"volumeGroupSnapshotHandle": "group-1", "volumeSnapshotHandles": ["handle-1"]}
        content = {**common, "source": {"groupSnapshotHandles": handles}, "volumeGroupSnapshotRef": reference}
        snapshot: Object = {"source": {"volumeGroupSnapshotContentName": "kept"}}
        if not is_bound:
            labels = {"selector": {"matchLabels": {"app": "kept"}}}
            snapshot = {"source": labels, "volumeGroupSnapshotClassName": "kept"}
        made: tuple[tuple[str, Object], ...] = (
            ("volumegroupsnapshotclasses", {"kind": "VolumeGroupSnapshotClass", **common}),
            ("volumegroupsnapshotcontents", {"kind": "VolumeGroupSnapshotContent", "spec": content}),
            (
                "namespaces/default/volumegroupsnapshots",
                {"kind": "VolumeGroupSnapshot", "spec": snapshot},
            ),
        )
        for plural, body in made:
            self.cluster.api("POST", f"{GROUPS}/{version}/{plural}", {**name, **body})
        content_path = f"{GROUPS}/{version}/volumegroupsnapshotcontents/kept"
        if is_bound:
            wait_for(
                lambda: self.cluster.api("GET", content_path)["spec"]["volumeGroupSnapshotRef"].get("uid"),
                seconds=60,
            )
        if version in LISTS:
            status = {"status": {LISTS[version]: HANDLES}}
            self.cluster.api("PATCH", f"{content_path}/status", status, "application/merge-patch+json")
        self._note(f"{GROUPS}/{version}/{plural}/kept" for plural, _body in made)

    def check(self, group_version: str = "") -> None:
        """All have UID and spec as they had; each can be changed, and a dry run can delete it."""
        for path, essence in self.essences.items():
            now = path
            if path.startswith(GROUPS) and group_version:
                now = f"{GROUPS}/{group_version}/{path.removeprefix(GROUPS).lstrip('/').partition('/')[2]}"
            live = self.cluster.api("GET", now)
            assert _essence(live) == essence, now
            number = int((live["metadata"].get("labels") or {}).get("changed", "0")) + 1
            patch = {"metadata": {"labels": {"changed": str(number)}}}
            changed = self.cluster.api("PATCH", now, patch, "application/merge-patch+json")
            assert changed["metadata"]["labels"]["changed"] == str(number), now
            self.cluster.api("DELETE", f"{now}?dryRun=All")

    def _note(self, paths: Iterator[str]) -> None:
        self.essences.update({path: _essence(self.cluster.api("GET", path)) for path in paths})


def _essence(obj: Object) -> Object:
    kept = {key: obj.get(key) for key in ("spec", "driver", "deletionPolicy", "parameters")}
    lists = [(obj.get("status") or {}).get(name) for name in LISTS.values()]
    kept["lists"] = next((found for found in lists if found), None)
    return {"uid": obj["metadata"]["uid"], **{key: value for key, value in kept.items() if value is not None}}


# The objects of a release

_DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_CLUSTER_WIDE = (
    _DEFINITIONS,
    lab.CONFIGURATIONS,
    "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations",
    "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
)
_SPACED = (
    "/apis/apps/v1/deployments",
    "/apis/apps/v1/statefulsets",
    "/apis/apps/v1/replicasets",
    "/api/v1/services",
    "/api/v1/serviceaccounts",
    "/api/v1/secrets",
    "/apis/rbac.authorization.k8s.io/v1/roles",
    "/apis/rbac.authorization.k8s.io/v1/rolebindings",
    "/apis/policy/v1/poddisruptionbudgets",
)
# The last words of paths (of _changes) of what no two clusters have in common, or what the user decides.
_OWN = ("caBundle", "clusterIP", "clusterIPs", "nodePort", "failurePolicy")
# Annotations of a certificate's Secret: where its CA was added, and who issued it.
# Of a certificate, and of the name of its Secret.
_OWN_MARKS = (
    "certflow.kubernetes/added-anchors",
    "certflow.kubernetes/signer-name",
    "certflow.kubernetes/secret-hash",
)


def objects(cluster: Cluster) -> dict[str, Object]:
    """Everything of external-snapshotter on a cluster, by collection, namespace and name; but what others own."""
    return {
        f"{collection} {obj['metadata'].get('namespace', '')}/{obj['metadata']['name']}": _comparable(obj)
        for collection in (*_CLUSTER_WIDE, *_SPACED)
        for obj in cluster.api("GET", collection)["items"]
        if "snapshot" in obj["metadata"]["name"] and not obj["metadata"].get("ownerReferences")
    }


def differences(found: dict[str, Object], wanted: dict[str, Object]) -> list[str]:
    """In what a cluster's objects differ from those of a fresh install, one line each."""
    lines = [f"{name}: is left" for name in found if name not in wanted]
    lines += [f"{name}: is missing" for name in wanted if name not in found]
    for name in found.keys() & wanted.keys():
        lines += [
            f"{name}: {change.path}: {change.after!r}, fresh {change.before!r}"
            for change in difference(wanted[name], found[name])
            if change.path.rpartition(".")[2] not in _OWN and not change.path.endswith(_OWN_MARKS)
        ]
    return lines


def _comparable(obj: Object) -> Object:
    """What a fresh install has too: of a Secret which keys it has."""
    own = meaning(obj)
    return {**own, "data": sorted(own["data"])} if "data" in own else own


def remove(cluster: Cluster) -> None:
    """Everything of external-snapshotter goes, users' objects too: the cluster is empty again."""
    for name in sorted(objects(cluster), key=lambda one: one.startswith(_DEFINITIONS)):
        collection, _space, place = name.partition(" ")
        namespace, _slash, own = place.partition("/")
        root, _slash, plural = collection.rpartition("/")
        path = f"{root}/namespaces/{namespace}/{plural}/{own}" if namespace else f"{collection}/{own}"
        cluster.api("DELETE", path)
    wait_for(lambda: not _left(cluster), seconds=90)


def _left(cluster: Cluster) -> dict[str, Object]:
    """What is left; users' objects lose the finalizers that only a driver would remove, and so can go."""
    left = objects(cluster)
    for obj in (obj for name, obj in left.items() if name.startswith(_DEFINITIONS)):
        lab.remind(cluster, f"crd/{obj['metadata']['name']}")
        group, plural = obj["spec"]["group"], obj["spec"]["names"]["plural"]
        version = next(one["name"] for one in obj["spec"]["versions"] if one["storage"])
        with contextlib.suppress(AdminApiError):  # gone meanwhile
            for one in cluster.api("GET", f"/apis/{group}/{version}/{plural}")["items"]:
                place, name = one["metadata"].get("namespace"), one["metadata"]["name"]
                spaced = f"namespaces/{place}/{plural}" if place else plural
                patch = {"metadata": {"finalizers": None}}
                path = f"/apis/{group}/{version}/{spaced}/{name}"
                cluster.api("PATCH", path, patch, "application/merge-patch+json")
    return left
