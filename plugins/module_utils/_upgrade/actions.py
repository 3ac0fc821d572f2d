# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Carry out the actions of a plan's steps, and report their outcomes as results carry them.

An action can be repeated. Work that is already done is not a change. ACTIONS has the function of each class. certificate_step and
verify_release carry out certificates and verifications.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .._snapshot.actions import object_actions, webhook_actions
from .._snapshot.actions.action import Action
from .._snapshot.actions.apply_release import ApplyRelease
from .._snapshot.context.upgrade_context import UpgradeContext
from .._snapshot.errors import StepError
from .._snapshot.kinds import Reference, reference
from .._snapshot.release import release_source, rendering
from . import backups
from .steps import apply_manifests, delete_objects, orphan, patches, restore, storage_migration, waits
from .steps.apply_manifests import ActionContext, ObjectOutcome
from .upgrade_request import UpgradeRequest

if TYPE_CHECKING:
    from .._kube.client import Client


def make_context(
    client: Client, request: UpgradeRequest, state: UpgradeContext, *, check_mode: bool = False
) -> ActionContext:
    """Return the settings of the actions. state: what is installed."""
    return ActionContext(
        client,
        request.source,
        replace(request.settings, kubernetes=state.installed.kubernetes),
        namespace=state.namespace,
        consent=request.options.accept,
        check_mode=check_mode,
    )


# The functions of the actions.


def apply(context: ActionContext, action: ApplyRelease) -> list[ObjectOutcome]:
    """Apply parts of a release. Try all of them by dry runs before the first is written."""
    wanted = manifests(context, action)
    wanted = [*_missing_namespaces(context.client, wanted), *wanted]
    client, registry = context.client, context.settings.registry
    lenient = context.check_mode and context.pending
    previews = apply_manifests.preview(
        client, wanted, consent=context.consent, registry=registry, lenient=lenient
    )
    if context.check_mode:
        return [preview.outcome for preview in previews]
    outcomes = [apply_manifests.write(client, preview, registry=registry) for preview in previews]
    crds = [row.reference.name for row in outcomes if row.reference.kind == "CustomResourceDefinition"]
    waits.until_established(context.client, crds)
    return outcomes


def manifests(context: ActionContext, action: ApplyRelease) -> list[dict[str, Any]]:
    """Return the objects of the release that the action applies."""
    return [
        rendering.keeping(obj, _find_kept(context.client, obj, action), action)
        for obj in rendered(context, action)
    ]


def rendered(context: ActionContext, action: ApplyRelease) -> list[dict[str, Any]]:
    """Return the objects of ``manifests`` without the parts of the live objects that they keep."""
    placed = replace(action, namespace=action.namespace or context.namespace)
    return rendering.render(release_source.files(context.source, action.release), placed, context.settings)


def restore_objects(context: ActionContext, action: object_actions.RestoreObjects) -> list[ObjectOutcome]:
    """Put objects back as they were before the hop."""
    originals = [restore.adjusted(context.originals[target], action) for target in action.objects]
    return [restore.restore(context, target, original) for target, original in zip(action.objects, originals)]


def conversion_none(context: ActionContext, action: webhook_actions.DisableConversion) -> list[ObjectOutcome]:
    """Set spec.conversion to {strategy: None}, and read it back."""
    target = action.target
    outcome = patches.patch_object(context, target, patches.disable_conversion)
    if not context.check_mode and patches.disable_conversion(context.client.get(target.path)):
        raise StepError(
            f"{target} has a conversion webhook again after it was disabled",
            remedy="Find the field manager that writes spec.conversion, and run the task again",
        )
    return [outcome]


def narrow_rules(context: ActionContext, action: webhook_actions.NarrowRules) -> list[ObjectOutcome]:
    """Replace only the rules of a ValidatingWebhookConfiguration."""
    return [
        patches.patch_object(context, action.target, lambda obj: patches.replace_rules(obj, action.rules))
    ]


def failure_policy(context: ActionContext, action: webhook_actions.SetFailurePolicy) -> list[ObjectOutcome]:
    """Set the failurePolicy of every webhook of the configurations."""
    return [
        patches.patch_object(context, target, lambda obj: patches.set_failure_policy(obj, action.policy))
        for target in action.targets
    ]


def switch_service(context: ActionContext, action: webhook_actions.SwitchService) -> list[ObjectOutcome]:
    """Set the Service's selector, and its target port if given. Wait until its endpoints match."""
    selector, port = dict(action.selector), action.target_port
    outcome = patches.patch_object(
        context, action.service, lambda obj: patches.set_selector(obj, selector, port)
    )
    if not context.check_mode:
        waits.until_switched(context.client, action.service, selector, port)
    return [outcome]


def watch_pods(context: ActionContext, action: object_actions.WatchPods) -> list[ObjectOutcome]:
    """Watch the pods of a Deployment. Raise RolloutError as soon as one of them restarts or is no longer ready."""
    if not context.check_mode:
        waits.watch_pods(context.client, action.deployment, action.seconds)
    return []


def reconnect(context: ActionContext, action: webhook_actions.ReconnectWebhooks) -> list[ObjectOutcome]:
    """Make every API server open new connections to the webhooks of the objects."""
    return patches.reconnect(context, action.targets)


def wait_available(context: ActionContext, action: object_actions.WaitAvailable) -> list[ObjectOutcome]:
    """Wait until every replica of the newest template is available. Make API servers reconnect when old pods begin to end."""
    if context.check_mode:
        return []
    outcomes: list[ObjectOutcome] = []
    waits.until_available(
        context.client,
        action.deployment,
        on_ending=lambda: outcomes.extend(patches.reconnect(context, action.reconnect)),
    )
    return outcomes


def _find_kept(client: Client, manifest: Mapping[str, Any], action: ApplyRelease) -> Mapping[str, Any] | None:
    """Return the existing object if some of its fields are kept, else None."""
    kind = manifest["kind"]
    kept = (kind == "CustomResourceDefinition" and action.keep_unserved) or (
        kind == "ValidatingWebhookConfiguration"
    )
    return client.find(reference(manifest).path) if kept else None


def _missing_namespaces(client: Client, manifests: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the namespaces of the manifests that do not exist. Existing ones are not changed."""
    names = dict.fromkeys(manifest["metadata"].get("namespace") for manifest in manifests)
    missing = [name for name in names if name and client.find(Reference("Namespace", name).path) is None]
    return [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in missing]


# The function of each class of actions. Each takes an action of its class.
ACTIONS: dict[type[Action], Callable[[ActionContext, Any], list[ObjectOutcome]]] = {
    ApplyRelease: apply,
    webhook_actions.DisableConversion: conversion_none,
    webhook_actions.EnableConversion: patches.enable_conversion,
    object_actions.MigrateStorage: storage_migration.migrate,
    webhook_actions.NarrowRules: narrow_rules,
    webhook_actions.SetFailurePolicy: failure_policy,
    object_actions.DeleteObjects: delete_objects.delete_planned,
    object_actions.OrphanDeployment: orphan.orphan_deployment,
    webhook_actions.SwitchService: switch_service,
    webhook_actions.ReconnectWebhooks: reconnect,
    object_actions.RestoreObjects: restore_objects,
    object_actions.WaitAvailable: wait_available,
    object_actions.WatchPods: watch_pods,
}


def carry_out(context: ActionContext, action: Action) -> list[ObjectOutcome]:
    """Carry out an action of ACTIONS, or try it in check mode. Return the outcome for each object."""
    return ACTIONS[type(action)](context, action)


# Reports.


def report(outcome: ObjectOutcome) -> dict[str, Any]:
    """Return an outcome as results carry it. A deleted object is in it, without private keys."""
    target = outcome.reference
    deleted = {"deleted": backups.strip(target, outcome.deleted)} if outcome.deleted else {}
    return {
        "kind": target.kind,
        "namespace": target.namespace,
        "name": target.name,
        "change": outcome.change,
        "changes": [
            {"path": change.path, "before": change.before, "after": change.after}
            for change in outcome.changes
        ],
        "note": outcome.note,
        **deleted,
    }


def diff(outcomes: Iterable[ObjectOutcome]) -> dict[str, Any]:
    """Return each changed object's fields by path, before and after. An object that is deleted says so.

    A field that changed several times is shown with its first and its last value.
    """
    before: dict[str, Any] = {}
    after: dict[str, Any] = {}
    for outcome in (row for row in outcomes if row.is_changed):
        name = str(outcome.reference)
        if outcome.change == "deleted":
            before[name] = "exists"
            after[name] = "deleted"
            continue
        if not isinstance(after.get(name), dict):
            before[name] = {}
            after[name] = {}
        for change in outcome.changes:
            if change.path not in after[name] and change.before is not None:
                before[name][change.path] = change.before
            after[name][change.path] = change.after
    return {
        "before": before,
        "after": {
            name: fields
            if isinstance(fields, str)
            else {path: last for path, last in fields.items() if last is not None}
            for name, fields in after.items()
        },
    }
