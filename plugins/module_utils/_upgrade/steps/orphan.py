# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Orphan a Deployment: its pods keep running, and a new Deployment of the same name does not touch them.

In this order every pod gets the label, also a pod that a ReplicaSet makes meanwhile:

1. The Deployment is deleted without its ReplicaSets. Before that, their template must stay as it is, because a Deployment
   begins a rollout if no ReplicaSet has its template.
2. The template of each ReplicaSet gets the label. Pods that it makes from then on have it.
3. The ReplicaSet's controller reports the template that it has read in status.observedGeneration. After it has read the new
   one, it makes no more pods from the old one. Its earlier pods exist by then, so the list of step 4 has them.
4. Every pod without the label gets it.
5. The ReplicaSet loses its labels, by which a new Deployment would adopt it (kubernetes
   pkg/controller/controller_ref_manager.go), and gets the label itself. That is the mark that all of this is done.

So a Service that selects by the label selects as many pods as before. If a run is killed before step 5, the next run finds an
ownerless ReplicaSet without the mark and repeats the steps. Completed steps change nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from ..._kube import json_patch
from ..._kube.errors import NotFound
from ..._snapshot.actions.object_actions import OrphanDeployment
from ..._snapshot.errors import NotYetError
from ..._snapshot.installed.pod_specs import deployment_of, own_program
from ..._snapshot.kinds import KINDS, ORPHAN_LABEL, Reference
from . import waits
from .apply_manifests import ActionContext, ObjectOutcome
from .delete_objects import delete
from .patches import patch_object

if TYPE_CHECKING:
    from ..._kube.client import Client

Object = Mapping[str, Any]


def orphan_deployment(context: ActionContext, action: OrphanDeployment) -> list[ObjectOutcome]:
    """Delete the Deployment and keep its pods, under ownerless ReplicaSets. Label all of them with the Deployment's name.

    After an interruption, continue from the current state. Return one outcome per write.

    Raises:
        OwnedObjectError: another manager owns an object, or the Deployment has other containers.
        StepError: an object is not deleted or observed until the deadline.
        KubeError: the API server refuses.
    """
    client, target = context.client, action.deployment
    deployment = client.find(target.path)
    sets = [
        replica_set
        for replica_set in _list_objects(client, "ReplicaSet", target)
        if _belongs_to(replica_set, deployment, target.name)
    ]
    uids = {replica_set["metadata"]["uid"] for replica_set in sets}
    places = [Reference("ReplicaSet", obj["metadata"]["name"], target.namespace) for obj in sets]
    gone = []
    if deployment is not None:
        uid = deployment["metadata"]["uid"]
        gone = [delete(context, target, uid=uid, propagation="Orphan")]
        if not context.check_mode:
            waits.until_gone(client, target, uid)
    renewed = [patch_object(context, place, partial(_label_template, target.name)) for place in places]
    if not context.check_mode:
        for place in places:
            waits.until_observed(client, place)
    marked = []
    for pod in _list_objects(client, "Pod", target):
        if uids.isdisjoint(owner["uid"] for owner in pod["metadata"].get("ownerReferences") or ()):
            continue
        with suppress(NotYetError, NotFound):  # the pod has ended, and its replacement has the label
            place = Reference("Pod", pod["metadata"]["name"], target.namespace)
            marked.append(
                patch_object(
                    context, place, lambda pod: _add_label(pod["metadata"], "/metadata", target.name)
                )
            )
    freed = [patch_object(context, place, partial(_remove_labels, target.name)) for place in places]
    return [outcome for outcome in (*renewed, *freed, *marked, *gone) if outcome.is_changed]


def _belongs_to(replica_set: Object, deployment: Object | None, name: str) -> bool:
    """Return True if the ReplicaSet belongs to the Deployment, or did: ownerless, with our label or a Deployment's name."""
    metadata = replica_set["metadata"]
    owners = [owner["uid"] for owner in metadata.get("ownerReferences") or () if owner.get("controller")]
    if deployment is not None:
        return deployment["metadata"]["uid"] in owners
    return not owners and deployment_of(replica_set) == name and bool(own_program(replica_set))


def _list_objects(client: Client, kind: str, target: Reference) -> list[dict[str, Any]]:
    return [*client.list_all(KINDS[kind].collection(target.namespace))["items"]]


def _label_template(name: str, replica_set: Object) -> list[dict[str, Any]]:
    return _add_label(replica_set["spec"]["template"]["metadata"], "/spec/template/metadata", name)


def _remove_labels(name: str, replica_set: Object) -> list[dict[str, Any]]:
    """Return the patch that replaces the labels of a ReplicaSet by the label. Its pods keep theirs.

    A new Deployment may select by a label that is not in the selector of the ReplicaSet.
    """
    held = replica_set["metadata"].get("labels") or {}
    return _add_label(replica_set["metadata"], "/metadata", name) + [
        json_patch.remove(f"/metadata/labels/{json_patch.escape(key)}") for key in held if key != ORPHAN_LABEL
    ]


def _add_label(metadata: Object, path: str, name: str) -> list[dict[str, Any]]:
    if (metadata.get("labels") or {}).get(ORPHAN_LABEL) == name:
        return []
    return [json_patch.add(f"{path}/labels/{json_patch.escape(ORPHAN_LABEL)}", name)]
