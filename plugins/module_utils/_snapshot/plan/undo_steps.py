# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Adapt the plan to the release before a failed hop, so that it restores objects instead of applying manifests. Pure.

The order, the waits and the checks are those of the plan. The undo leaves an object that the hop did not touch. It restores only
spec.conversion of a CustomResourceDefinition. It restores RBAC objects and Secrets only if the hop deleted them. A role that the hop
changed gets the rules that only the original has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from ..actions.action import CONFIGURATION, CRD, RESTORE, SAME, Step
from ..actions.apply_release import ApplyRelease
from ..actions.object_actions import (
    DeletedObject,
    DeleteObjects,
    DeploymentAction,
    OrphanDeployment,
    RestoreObjects,
)
from ..actions.verifications import VerifyWebhook
from ..actions.webhook_actions import NarrowRules, SwitchService
from ..context.hop_context import Undo
from ..context.upgrade_context import UpgradeContext
from ..kinds import CONTROLLER, CONTROLLER_NAME, PORT_LABEL, RELEASE_LABEL, Reference
from ..release.release_table import GROUP_CONTENTS

# The kinds that come back, in the order in which they need each other. Deleted objects of the first kinds come back before all.
_FIRST = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding", "Secret")
_ORDER = (*_FIRST, "Service", "PodDisruptionBudget", "Deployment", "StatefulSet", CONFIGURATION, CRD)
# The older release works with the present objects of the other kinds.
_IF_CHANGED = set(_ORDER) - {"ServiceAccount", "ClusterRoleBinding", "RoleBinding", "Secret"}
# The first steps of the final verification.
_PROOFS = ("verify-rules", "verify-version", "verify-controller")
_PASSING = (SwitchService, NarrowRules)
_WHY = "The hop changed or deleted it. It comes back as the run read it before the hop."


def adapt(context: UpgradeContext, steps: Sequence[Step]) -> list[Step]:
    """Return the steps of the undo. context: that of the plan. Its options have ``undo``."""
    undo = context.options.undo
    if undo is None:
        return []
    # Steps of the undo itself change a Service and rules for a while.
    written = {
        target
        for step in steps
        if isinstance(step.action, _PASSING)
        for target in step.action.named_objects(context)
    }
    restored = {target for target in undo.changed | (undo.originals & written) if _comes_back(undo, target)}
    restored.difference_update(_removed(context, undo))
    first = {target for target in restored & undo.deleted if target.kind in _FIRST}
    adapted = [row for step in steps for row in _adapt(context, undo, step, restored - first)]
    if any(isinstance(step.action, SwitchService) for step in steps):
        adapted = [_with_labels(context, step) for step in adapted]
    rest = restored.difference(first, *map(_restored, adapted))
    proof = next(number for number, step in enumerate(adapted) if step.id in _PROOFS)
    begin, end = _restore("undo-first", first), _restore("undo-others", rest)
    ordered = [*begin, *adapted[:proof], *end, *adapted[proof:]]
    return [
        row for number, step in enumerate(ordered) for row in _without_kept(undo, step, ordered[number + 1 :])
    ]


def _removed(context: UpgradeContext, undo: Undo) -> Iterator[Reference]:
    """Yield the controllers that the hop removed beside the controller that comes back. Two controllers must not lead."""
    yield from (
        Reference(workload.kind, workload.name, workload.namespace)
        for workload in undo.before.running(CONTROLLER)
        if context.before and workload != context.before.controller
    )


def is_restored(target: Reference) -> bool:
    """Return True if the object comes back after its deletion."""
    return target.kind in _ORDER and target.kind != CRD


def _comes_back(undo: Undo, target: Reference) -> bool:
    if target in undo.deleted:
        return is_restored(target)
    return target.name == GROUP_CONTENTS if target.kind == CRD else target.kind in _IF_CHANGED


def _restore(name: str, targets: Iterable[Reference], ignoring: Sequence[str] = ()) -> Iterator[Step]:
    """Yield the step that puts the objects back, nothing without objects."""
    objects = sorted(targets, key=lambda target: (_ORDER.index(target.kind), str(target)))
    if objects:
        title = f"Put back {', '.join(map(str, objects))}"
        yield Step(name, title, _WHY, RestoreObjects(objects, ignoring=ignoring))


def _restored(step: Step) -> Sequence[Reference]:
    return step.action.objects if isinstance(step.action, RestoreObjects) else ()


def _adapt(context: UpgradeContext, undo: Undo, step: Step, restored: set[Reference]) -> Iterator[Step]:
    """Yield the steps that the undo needs instead of this step. restored: the objects that the steps of the plan restore."""
    action, named = step.action, step.action.named_objects(context)
    controller = Reference("Deployment", CONTROLLER_NAME, context.namespace)
    old = context.before.controller if context.before else None
    if controller in named and controller not in undo.originals:
        # The hop replaced a controller of another name. Two controllers must not lead.
        if isinstance(action, ApplyRelease):
            deletion = DeleteObjects([DeletedObject(controller.kind, controller.namespace, controller.name)])
            yield Step("undo-controller", f"Delete {controller}", _WHY, deletion)
            yield from _restore(
                step.id,
                (
                    target
                    for target in restored
                    if old and target.name == old.name and target.kind == old.kind
                ),
            )
        elif (
            isinstance(action, DeploymentAction)
            and not isinstance(action, OrphanDeployment)
            and old
            and old.kind == controller.kind
        ):
            yield replace(step, action=replace(action, namespace=old.namespace, name=old.name))
    elif action.in_undo == RESTORE:
        # A failurePolicy is Ignore until the webhook is verified.
        policies = (action.failure_policies if isinstance(action, ApplyRelease) else None) or {}
        kept = context.options.failure_policies
        ignoring = [name for name, policy in policies.items() if policy != kept.get(name)]
        yield from _restore(step.id, restored.intersection(named), ignoring)
    elif action.in_undo == SAME and (
        not isinstance(action, VerifyWebhook) or undo.originals.issuperset(named)
    ):
        yield step


def _with_labels(context: UpgradeContext, step: Step) -> Step:
    """Return the step with the labels by which a Service tells the pods that come back from those of the failed release."""
    if not (isinstance(step.action, RestoreObjects) and step.id.endswith("-deployment")):
        return step
    labels = {RELEASE_LABEL: str(context.release), PORT_LABEL: str(context.options.webhook_port)}
    return replace(step, action=replace(step.action, labels=labels))


def _without_kept(undo: Undo, step: Step, later: Iterable[Step]) -> Iterator[Step]:
    """Yield the step without the deletion of objects that existed before the hop, unless a later step restores them."""
    if not isinstance(step.action, DeleteObjects):
        yield step
        return
    kept = undo.originals.difference(*map(_restored, later))
    objects = [entry for entry in step.action.objects if entry.target not in kept]
    if objects:
        yield replace(step, action=DeleteObjects(objects))
