# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Take a Deployment away from its pods: they go on as they are, and a new Deployment of the name does not touch them.

Each write leaves a state from which the same steps lead on: labels first, then the Deployment, then what the new one
would adopt its ReplicaSets by (kubernetes pkg/controller/controller_ref_manager.go).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from . import _wait
from ._apply import Outcome, delete
from ._kinds import KINDS, Reference
from ._patches import patched
from ._steps import DETACHED_LABEL

if TYPE_CHECKING:
    from .._kube._client import Client

Object = Mapping[str, Any]
_POINTER = DETACHED_LABEL.replace("/", "~1")
_HASH = "pod-template-hash"


def detach(
    client: Client, target: Reference, *, check_mode: bool = False, take_over: bool = False
) -> list[Outcome]:
    """Delete the Deployment, leave its pods to run under ownerless ReplicaSets, all labelled with its name.

    Once more after an interruption, it goes on where it was. Raises KubeError, OwnedObjectError.
    """
    deployment = client.find(target.path)
    sets = [one for one in _listed(client, "ReplicaSet", target) if _is_of(one, deployment, target.name)]
    uids = {one["metadata"]["uid"] for one in sets}
    pods = [
        pod
        for pod in _listed(client, "Pod", target)
        if uids & {owner["uid"] for owner in pod["metadata"].get("ownerReferences") or ()}
    ]
    marked = [
        patched(client, _place(kind, obj, target), _label(target.name), check_mode=check_mode)
        for kind, objects in (("ReplicaSet", sets), ("Pod", pods))
        for obj in objects
    ]
    gone = []
    if deployment is not None:
        uid = deployment["metadata"]["uid"]
        gone = [
            delete(client, target, uid=uid, propagation="Orphan", take_over=take_over, check_mode=check_mode)
        ]
        if not check_mode:
            _wait.gone(client, target, uid)
    freed = [patched(client, _place("ReplicaSet", one, target), _free, check_mode=check_mode) for one in sets]
    return _merged((*marked, *gone, *freed))


def _place(kind: str, obj: Object, target: Reference) -> Reference:
    return Reference(kind, obj["metadata"]["name"], target.namespace)


def _merged(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """One outcome an object; those without a change left out."""
    found: dict[Reference, Outcome] = {}
    for one in (one for one in outcomes if one.changed):
        before = found.get(one.reference)
        found[one.reference] = replace(one, changes=(*before.changes, *one.changes)) if before else one
    return list(found.values())


def _is_of(replica_set: Object, deployment: Object | None, name: str) -> bool:
    """Whether it is the Deployment's, or was: ownerless, and labelled by us or named as only a Deployment names them."""
    metadata = replica_set["metadata"]
    owners = [owner["uid"] for owner in metadata.get("ownerReferences") or () if owner.get("controller")]
    if deployment is not None:
        return deployment["metadata"]["uid"] in owners
    labels = metadata.get("labels") or {}
    template = replica_set["spec"]["template"]["metadata"].get("labels") or {}
    named = metadata["name"] == f"{name}-{template.get(_HASH)}"
    return not owners and (labels.get(DETACHED_LABEL) == name or named)


def _listed(client: Client, kind: str, target: Reference) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = client.list_all(KINDS[kind].collection(target.namespace))["items"]
    return items


def _label(name: str) -> Any:
    def decide(obj: Object) -> list[dict[str, Any]]:
        labels = obj["metadata"].get("labels") or {}
        if labels.get(DETACHED_LABEL) == name:
            return []
        return [{"op": "add", "path": f"/metadata/labels/{_POINTER}", "value": name}]

    return decide


def _free(replica_set: Object) -> list[dict[str, Any]]:
    """Its metadata loses the labels that its pods are selected by; the pods keep them."""
    selected = replica_set["spec"]["selector"].get("matchLabels") or {}
    held = replica_set["metadata"].get("labels") or {}
    return [
        {"op": "remove", "path": f"/metadata/labels/{key.replace('~', '~0').replace('/', '~1')}"}
        for key in selected
        if key in held
    ]
