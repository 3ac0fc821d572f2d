# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Carry out a step's action. An action can be repeated: work that is already done is not a change.

Actions that need certificates or webhooks are in _upgrade.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from ..._kube.errors import ApiError, NotFound
from ..._snapshot.errors import StepError
from ..._snapshot.installed.pod_specs import NEEDED_USERS, USERS, users_of
from ..._snapshot.kinds import KINDS, Reference, reference
from ..._snapshot.release import release_source, rendering
from ..._snapshot.release.release_source import ReleaseSource
from ..._snapshot.release.settings import ReleaseSettings
from . import apply_manifests, orphan, patches, storage_migration, waits
from .apply_manifests import Outcome, refuse_mixed

if TYPE_CHECKING:
    from ..._kube.client import Client

Parameters = Mapping[str, Any]
GROUP_CRD = ".groupsnapshot.storage.k8s.io"
# Deleted together with what they own, and gone only when that is gone: no two controllers at a time.
OWNING = ("Deployment", "StatefulSet", "ReplicaSet")


@dataclass(frozen=True)
class Context:
    """The settings of every action.

    namespace: of a step that does not name one.
    take_over: write objects of adopted managers too.
    pending: in check mode, True if earlier steps would have changed the cluster, so that not every step can be tried.
    """

    client: Client
    source: ReleaseSource
    settings: ReleaseSettings
    namespace: str
    take_over: bool
    check_mode: bool
    pending: bool = False


def apply(context: Context, parameters: Parameters) -> list[Outcome]:
    """Apply parts of a release. Try all of them by dry runs before the first is written."""
    wanted = manifests(context, parameters)
    wanted = [*_namespace(context.client, wanted), *wanted]
    lenient = context.check_mode and context.pending
    previews = apply_manifests.preview(context.client, wanted, take_over=context.take_over, lenient=lenient)
    if context.check_mode:
        return [one.outcome for one in previews]
    outcomes = [apply_manifests.write(context.client, one) for one in previews]
    crds = [one.reference.name for one in outcomes if one.reference.kind == "CustomResourceDefinition"]
    waits.established(context.client, crds)
    return outcomes


def manifests(context: Context, parameters: Parameters) -> list[dict[str, Any]]:
    """Return the objects of the release that a step of action "apply" applies."""
    given = {**parameters, "namespace": parameters.get("namespace") or context.namespace}
    files = release_source.files(context.source, given["release"])
    rendered = rendering.render(files, given, context.settings)
    return [rendering.keeping(obj, _live(context.client, obj, given), given) for obj in rendered]


def conversion_none(context: Context, parameters: Parameters) -> list[Outcome]:
    """Set spec.conversion to {strategy: None}, and read it back."""
    target = Reference("CustomResourceDefinition", parameters["crd"])
    outcome = _patched(context, target, patches.no_conversion)
    if not context.check_mode and patches.no_conversion(context.client.get(target.path)):
        raise StepError(
            f"{target} has a conversion webhook again after it was disabled",
            remedy="Find the field manager that writes spec.conversion, and run the task again",
        )
    return [outcome]


def migrate_storage(context: Context, parameters: Parameters) -> list[Outcome]:
    """Write every object back at the version. Then set storedVersions to this version only."""
    settle = float(parameters.get("settle_seconds", storage_migration.SETTLE_SECONDS))
    migration = storage_migration.migrate(
        context.client, parameters["crd"], parameters["version"], settle=settle, check_mode=context.check_mode
    )
    return list(migration.outcomes)


def narrow_rules(context: Context, parameters: Parameters) -> list[Outcome]:
    """Replace only the rules of a ValidatingWebhookConfiguration."""
    target = Reference("ValidatingWebhookConfiguration", parameters["name"])
    return [_patched(context, target, lambda obj: patches.rules(obj, parameters["rules"]))]


def failure_policy(context: Context, parameters: Parameters) -> list[Outcome]:
    """Set the failurePolicy of every webhook of the configurations."""
    policy = parameters["policy"]
    return [
        _patched(
            context,
            Reference("ValidatingWebhookConfiguration", name),
            lambda obj: patches.failure_policy(obj, policy),
        )
        for name in parameters["names"]
    ]


def switch_service(context: Context, parameters: Parameters) -> list[Outcome]:
    """Set the Service's selector, and its target port if given. Wait until its endpoints match."""
    target = Reference("Service", parameters["name"], parameters["namespace"])
    selector, port = dict(parameters["selector"]), parameters.get("target_port")
    outcome = _patched(context, target, lambda obj: patches.selector(obj, selector, port))
    if not context.check_mode:
        waits.switched(context.client, target, selector, port)
    return [outcome]


def watch_pods(context: Context, parameters: Parameters) -> list[Outcome]:
    """Watch the pods of a Deployment. Raise RolloutError as soon as one of them restarts or is no longer ready."""
    if not context.check_mode:
        target = Reference("Deployment", parameters["name"], parameters["namespace"])
        waits.stay_up(context.client, target, float(parameters["seconds"]))
    return []


def orphan_deployment(context: Context, parameters: Parameters) -> list[Outcome]:
    """Delete the Deployment and keep its pods."""
    target = Reference("Deployment", parameters["name"], parameters["namespace"])
    return orphan.orphan_deployment(
        context.client, target, check_mode=context.check_mode, take_over=context.take_over
    )


def delete(context: Context, parameters: Parameters) -> list[Outcome]:
    """Delete the objects in their order. Skip objects that do not exist."""
    return [outcome for entry in parameters["objects"] for outcome in _delete(context, entry)]


def _delete(context: Context, entry: Mapping[str, Any]) -> list[Outcome]:
    client, kind = context.client, entry["kind"]
    if kind not in KINDS:
        raise StepError(f"the plan deletes an object of kind {kind}, which is not a kind that can be deleted")
    outcomes = []
    for target in _named(client, entry):
        if kind == "CustomResourceDefinition":
            _check_crd(client, target)
        propagation = "Orphan" if entry.get("orphan") else "Foreground" if kind in OWNING else ""
        live = client.find(target.path)
        uid = entry.get("uid") or (live or {}).get("metadata", {}).get("uid", "")
        outcome = apply_manifests.delete(
            client,
            target,
            uid=uid,
            propagation=propagation,
            take_over=context.take_over,
            check_mode=context.check_mode,
            why_kept=partial(_why_kept, client, target, entry),
        )
        if outcome.changed and not context.check_mode:
            waits.gone(client, target, uid)
        outcomes.append(outcome)
    return outcomes


def _why_kept(client: Client, target: Reference, entry: Mapping[str, Any], live: Mapping[str, Any]) -> str:
    """Return the reason to keep an object of a plan: a later write or another user. Return "" to delete it.

    Raises OwnedObjectError for a workload whose other containers, such as a CSI driver's, would end with it.
    """
    if target.kind in OWNING:
        refuse_mixed(target, live)
    planned, own = entry.get("resource_version"), entry.get("only_used_by")
    if planned and live["metadata"].get("resourceVersion") != planned:
        return f"{target} is kept: it changed after the plan was made"
    if not own:
        return ""
    try:
        found = {what: _users(client, what, path.format(target.namespace)) for what, _kind, path in USERS}
    except ApiError as error:
        return f"{target} is kept, because its other users cannot be read: {error.message or error.cause}"
    users = [what for what, program in users_of(target.namespace, target.name, found) if program != own]
    return f"{target} is kept: {', '.join(users)} uses it" if users else ""


def _users(client: Client, what: str, path: str) -> list[dict[str, Any]]:
    """Return the objects of a list. A list that is not needed may be denied, as in the plan."""
    try:
        items: list[dict[str, Any]] = client.list_all(path)["items"]
    except NotFound:
        return []
    except ApiError:
        if what in NEEDED_USERS:
            raise
        return []
    return items


def _named(client: Client, entry: Mapping[str, Any]) -> list[Reference]:
    kind, namespace = entry["kind"], entry.get("namespace") or ""
    if entry.get("name"):
        return [Reference(kind, entry["name"], namespace)]
    items = client.list_all(KINDS[kind].collection(namespace), {"labelSelector": entry["label_selector"]})[
        "items"
    ]
    return [Reference(kind, item["metadata"]["name"], namespace) for item in items]


def _check_crd(client: Client, target: Reference) -> None:
    """Refuse to delete a CRD that has objects. They would be deleted with it, and a driver would delete the snapshots."""
    if not target.name.endswith(GROUP_CRD):
        raise StepError(f"{target} is never deleted, because every snapshot would be deleted with it")
    live = client.find(target.path)
    if live is None:
        return
    spec = live["spec"]
    served = next(version["name"] for version in spec["versions"] if version["served"])
    found = client.get(f"/apis/{spec['group']}/{served}/{spec['names']['plural']}", {"limit": "1"})["items"]
    if found:
        raise StepError(
            f"{target} is not deleted, because it has objects, which would be deleted with it",
            remedy="Migrate or delete these objects first, and run the task again",
        )


def _patched(context: Context, target: Reference, decide: Callable[[Mapping[str, Any]], Any]) -> Outcome:
    return patches.patched(
        context.client, target, decide, check_mode=context.check_mode, take_over=context.take_over
    )


def _live(client: Client, manifest: Mapping[str, Any], parameters: Parameters) -> Mapping[str, Any] | None:
    """Return the existing object if some of its fields are kept, else None."""
    kind = manifest["kind"]
    kept = (kind == "CustomResourceDefinition" and parameters.get("keep_unserved")) or (
        kind == "ValidatingWebhookConfiguration"
    )
    return client.find(reference(manifest).path) if kept else None


def _namespace(client: Client, manifests: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the namespaces of the manifests that do not exist. Existing ones are not changed."""
    names = dict.fromkeys(manifest["metadata"].get("namespace") for manifest in manifests)
    missing = [name for name in names if name and client.find(Reference("Namespace", name).path) is None]
    return [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in missing]


ACTIONS: dict[str, Callable[[Context, Parameters], list[Outcome]]] = {
    "apply": apply,
    "conversion_none": conversion_none,
    "migrate_storage": migrate_storage,
    "narrow_rules": narrow_rules,
    "failure_policy": failure_policy,
    "switch_service": switch_service,
    "watch_pods": watch_pods,
    "orphan": orphan_deployment,
    "delete": delete,
}
