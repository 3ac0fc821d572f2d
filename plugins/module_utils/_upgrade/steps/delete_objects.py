# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Delete objects of a plan: each one as it was read, and no workload with other containers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from ..._kube.errors import ApiError, NotFound
from ..._kube.json_patch import retry_on_conflict
from ..._snapshot.actions.object_actions import DeletedObject, DeleteObjects
from ..._snapshot.errors import StepError
from ..._snapshot.installed.pod_specs import NEEDED_USERS, USERS, users_of
from ..._snapshot.kinds import KINDS, Reference
from . import waits
from .apply_manifests import ATTEMPTS, ActionContext, ObjectOutcome, contended_error
from .ownership import refuse_others

if TYPE_CHECKING:
    from ..._kube.client import Client

Object = Mapping[str, Any]
GROUP_CRD = ".groupsnapshot.storage.k8s.io"
# They are deleted together with the objects that they own. The wait lasts until all of them are gone, so that two controllers
# never run at the same time.
WORKLOADS = ("Deployment", "StatefulSet", "ReplicaSet")


def delete_planned(context: ActionContext, action: DeleteObjects) -> list[ObjectOutcome]:
    """Delete the objects in their order, and wait until they are gone. Skip objects that do not exist.

    Raises:
        StepError: the object may not be deleted, or is not gone at the deadline.
        OwnedObjectError: another manager owns it, or it has other containers.
        KubeError: the API server refuses.
    """
    return [outcome for entry in action.objects for outcome in _delete_entry(context, entry)]


def _delete_entry(context: ActionContext, entry: DeletedObject) -> Iterator[ObjectOutcome]:
    client, kind = context.client, entry.kind
    if kind not in KINDS:
        raise StepError(f"the plan deletes an object of kind {kind}, which is not a kind that can be deleted")
    for target in _select(client, entry):
        if kind == "CustomResourceDefinition":
            _check_crd(client, target)
        live = client.find(target.path)
        uid = (live or {}).get("metadata", {}).get("uid", "")
        outcome = delete(
            context,
            target,
            uid=uid,
            propagation="Foreground" if kind in WORKLOADS else "",
            why_kept=partial(_why_kept, context, target, entry),
        )
        if outcome.is_changed and not context.check_mode:
            waits.until_gone(client, target, uid)
        yield outcome


def _why_kept(
    context: ActionContext, target: Reference, entry: DeletedObject, live: Mapping[str, Any]
) -> str:
    """Return the reason to keep an object of a plan: a later write or another user. Return "" to delete it."""
    planned, own = entry.resource_version, entry.only_used_by
    if planned and live["metadata"].get("resourceVersion") != planned:
        return f"{target} is kept: it changed after the plan was made"
    if not own:
        return ""
    try:
        workloads = {
            what: _users(context.client, what, path.format(target.namespace)) for what, _kind, path in USERS
        }
    except ApiError as error:
        return f"{target} is kept, because its other users cannot be read: {error.message or error.cause}"
    users = users_of(target.namespace, target.name, workloads, context.settings.registry)
    others = [what for what, program in users if program != own]
    return f"{target} is kept: {', '.join(others)} uses it" if others else ""


def _users(client: Client, what: str, path: str) -> list[dict[str, Any]]:
    """Return the objects of a list. A list that is not needed may be denied, as in the plan."""
    try:
        return [*client.list_all(path)["items"]]
    except ApiError as error:
        if what in NEEDED_USERS and not isinstance(error, NotFound):
            raise
        return []


def _select(client: Client, entry: DeletedObject) -> list[Reference]:
    """Return the objects of an entry."""
    if entry.name:
        return [entry.target]
    items = client.list_all(
        KINDS[entry.kind].collection(entry.namespace), {"labelSelector": entry.label_selector}
    )["items"]
    return [Reference(entry.kind, item["metadata"]["name"], entry.namespace) for item in items]


def _check_crd(client: Client, target: Reference) -> None:
    """Refuse to delete a CRD that has objects. They would be deleted with it, and a driver would delete the snapshots."""
    if not target.name.endswith(GROUP_CRD):
        raise StepError(f"{target} is never deleted, because every snapshot would be deleted with it")
    live = client.find(target.path)
    if live is None:
        return
    spec = live["spec"]
    served = next((version["name"] for version in spec["versions"] if version["served"]), "")
    if (
        not served
        or client.get(f"/apis/{spec['group']}/{served}/{spec['names']['plural']}", {"limit": "1"})["items"]
    ):
        raise StepError(
            f"{target} is not deleted, because it {'has' if served else 'serves no version and may have'} objects, which would be "
            "deleted with it",
            remedy="Migrate or delete these objects first, at a version that is served, and run the task again",
        )


def delete(
    context: ActionContext,
    target: Reference,
    *,
    uid: str = "",
    propagation: str = "",
    why_kept: Callable[[Object], str] = lambda _live: "",
) -> ObjectOutcome:
    """Delete one object. An object that does not exist is unchanged.

    The API server deletes it only in the version that was read. After a write of another client, read and judge it again.

    Args:
        uid: delete only the object of this UID, "" for the current one.
        propagation: what happens to the objects that it owns, as in Client.delete.
        why_kept: returns the reason to keep the object, "" if it may be deleted. The reason is the note of the outcome.

    Raises:
        OwnedObjectError: another manager owns it, and the consent does not cover it. Or it holds something of another owner, such as the
            container of a CSI driver.
        KubeError: the API server refuses.
    """

    client, registry = context.client, context.settings.registry
    read = partial(client.find, target.path)
    first = read()
    wanted_uid = uid or (first["metadata"]["uid"] if first else "")

    def write(live: Object | None) -> ObjectOutcome:
        if live is None or live["metadata"]["uid"] != wanted_uid:
            return ObjectOutcome(target, "unchanged")
        refuse_others(client, target, live, consent=context.consent, registry=registry, is_deleted=True)
        reason = why_kept(live)
        if reason:
            return ObjectOutcome(target, "unchanged", note=reason)
        version = live["metadata"].get("resourceVersion", "")
        try:
            client.delete(
                target.path,
                uid=wanted_uid,
                resource_version=version,
                propagation=propagation,
                dry_run=context.check_mode,
            )
        except NotFound:
            return ObjectOutcome(target, "unchanged")
        return ObjectOutcome(target, "deleted", deleted=None if context.check_mode else live)

    return retry_on_conflict(first, write, read, attempts=ATTEMPTS, exhausted=contended_error(target))
