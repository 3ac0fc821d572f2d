# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Objects that an upgrade must keep: users' snapshots, and the objects of a release.

Snapshots from before keep UID and spec, and can be changed and deleted. All objects of the release are as on
a cluster with a fresh installation.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from ansible_collections.certflow.kubernetes.plugins.module_utils._csr import markers
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.intent import MANAGED_BY
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade.steps.object_changes import meaning

from tests.support.clusters import AdminApiError
from tests.support.upgrade import snapshot_lab as lab
from tests.support.upgrade.snapshot_rig import difference
from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.clusters import Cluster

Object = dict[str, Any]
GROUPS = "/apis/groupsnapshot.storage.k8s.io"
# A list of handles in the status of a group content, and the name of the list in each version. v1alpha1 has
# no list.
HANDLES = [{"snapshotHandle": "handle-1", "volumeHandle": "volume-1"}]
LISTS = {
    "v1beta1": "volumeSnapshotHandlePairList",
    "v1beta2": "volumeSnapshotInfoList",
    "v1": "volumeSnapshotInfoList",
}
_ROOT = "/apis/snapshot.storage.k8s.io"


class Kept:
    """Snapshots from before the upgrade: the fields that must stay, by path."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.essences: dict[str, Object] = {}

    def make(self, *, beta: bool) -> None:
        """Create a class, a content with the snapshot that is bound to it, and a snapshot of a claim.

        One uses v1beta1.
        """
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
        """Check that all objects have their UID and spec, and that each can be changed, and deleted by a dry
        run.
        """
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
# Last words of paths (of _changes) that differ between clusters, or that the user decides.
_OWN = ("caBundle", "clusterIP", "clusterIPs", "nodePort", "failurePolicy")
# Marks of a certificate's Secret with values of its own, and those that tell a created Secret from an adopted one.
_OWN_MARKS = (markers.ANCHORS, markers.CREATED, markers.SIGNER)
_MARKS_OF_ORIGIN = (markers.ADOPTED, markers.SERVICE, markers.SECRET_LABEL, MANAGED_BY)


def objects(cluster: Cluster) -> dict[str, Object]:
    """Return all objects of external-snapshotter, by collection, namespace and name, without those that have
    an owner.
    """
    return {name: _comparable(obj) for name, obj in whole_objects(cluster).items()}


def whole_objects(cluster: Cluster) -> dict[str, Object]:
    """Return the same objects with all their fields."""
    return {
        f"{collection} {obj['metadata'].get('namespace', '')}/{obj['metadata']['name']}": obj
        for collection in (*_CLUSTER_WIDE, *_SPACED)
        for obj in cluster.api("GET", collection)["items"]
        if "snapshot" in obj["metadata"]["name"] and not obj["metadata"].get("ownerReferences")
    }


def differences(found: dict[str, Object], wanted: dict[str, Object]) -> list[str]:
    """Return one line for each difference between a cluster's objects and those of a fresh installation."""
    lines = [f"{name}: is left" for name in found if name not in wanted]
    lines += [f"{name}: is missing" for name in wanted if name not in found]
    for name in found.keys() & wanted.keys():
        ignored = (*_OWN_MARKS, *(_MARKS_OF_ORIGIN if _is_adopted(name, found[name]) else ()))
        lines += [
            f"{name}: {change.path}: {change.after!r}, fresh {change.before!r}"
            for change in difference(wanted[name], found[name])
            if change.path.rpartition(".")[2] not in _OWN and not change.path.endswith(ignored)
        ]
    return lines


def _is_adopted(name: str, obj: Object) -> bool:
    """Return True for a Secret that the collection uses and did not create."""
    return name.startswith("/api/v1/secrets") and markers.CREATED not in obj["metadata"].get(
        "annotations", {}
    )


def _comparable(obj: Object) -> Object:
    """Return the fields that a fresh installation has too. For a Secret these are its keys."""
    own = meaning(obj)
    return {**own, "data": sorted(own["data"])} if "data" in own else own


def remove(cluster: Cluster) -> None:
    """Delete everything of external-snapshotter, including users' objects."""
    for name in sorted(objects(cluster), key=lambda entry: entry.startswith(_DEFINITIONS)):
        collection, _space, place = name.partition(" ")
        namespace, _slash, own = place.partition("/")
        root, _slash, plural = collection.rpartition("/")
        path = f"{root}/namespaces/{namespace}/{plural}/{own}" if namespace else f"{collection}/{own}"
        cluster.api("DELETE", path)
    wait_for(lambda: not _left(cluster), seconds=90)


def _left(cluster: Cluster) -> dict[str, Object]:
    """Return the objects that are left. Remove finalizers of users' objects, as a driver would."""
    left = objects(cluster)
    for obj in (obj for name, obj in left.items() if name.startswith(_DEFINITIONS)):
        lab.remind(cluster, f"crd/{obj['metadata']['name']}")
        group, plural = obj["spec"]["group"], obj["spec"]["names"]["plural"]
        version = next(version["name"] for version in obj["spec"]["versions"] if version["storage"])
        with contextlib.suppress(AdminApiError):  # deleted meanwhile
            for item in cluster.api("GET", f"/apis/{group}/{version}/{plural}")["items"]:
                place, name = item["metadata"].get("namespace"), item["metadata"]["name"]
                spaced = f"namespaces/{place}/{plural}" if place else plural
                patch = {"metadata": {"finalizers": None}}
                path = f"/apis/{group}/{version}/{spaced}/{name}"
                cluster.api("PATCH", path, patch, "application/merge-patch+json")
    return left
