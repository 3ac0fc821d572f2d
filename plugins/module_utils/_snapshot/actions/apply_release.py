# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The action that applies parts of a release, and the objects of each part, named as in upstream's manifests. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from ..context.upgrade_context import UpgradeContext
from ..kinds import Reference
from ..labels import CONTROLLER_NAME
from ..release import crd_sets
from ..release.release_table import GROUP, SNAPSHOT, ReleaseWebhook, get
from ..release.settings import ReleaseParts
from .action import CHANGE, CONFIGURATION, CRD, CREATE, RESTORE, Action, HopProgress, PlanLine, named

# These namespaces exist on every cluster.
_NAMESPACES = ("default", "kube-system")


@dataclass(frozen=True)
class ApplyRelease(ReleaseParts, Action):
    """Apply parts of a release by server-side apply.

    CustomResourceDefinitions are applied without spec.conversion, and the step waits until they are Established.
    """

    action_name = "apply"
    is_short = True
    in_undo = RESTORE

    def lines(self, progress: HopProgress) -> Iterator[PlanLine]:
        for part in self.parts:
            objects_of, together = _PARTS[part]
            objects = objects_of(self, self.namespace or progress.context.namespace)
            yield from _namespaces(progress, objects)
            for group in [objects] if together else [[target] for target in objects]:
                yield from self._put(progress, group)

    def _put(self, progress: HopProgress, objects: Sequence[Reference]) -> Iterator[PlanLine]:
        """Yield a line for the objects that exist, and one for the others."""
        new = tuple(target for target in objects if target not in progress.present)
        old = tuple(target for target in objects if target in progress.present)
        progress.present.update(objects)
        details = self._details(objects[0])
        if new:
            yield PlanLine(CREATE, named(new, f" at {self.release}{details}"), new)
        if old:
            condition = ", if different" if progress.is_repair else ""
            yield PlanLine(CHANGE, named(old, f" to {self.release}{details}{condition}"), old)

    def _details(self, target: Reference) -> str:
        if target.kind == CONFIGURATION:
            return f", failurePolicy {(self.failure_policies or {})[target.name]}"
        if target.kind == "Deployment" and self.arguments:
            return f", arguments {' '.join(self.arguments)}"
        if target.kind == CRD and self.keep_unserved:
            return f", which keep {', '.join(self.keep_unserved)} as a version that is not served"
        return ", with the permission to read nodes" if target.kind == "ServiceAccount" and self.nodes else ""

    def named_objects(self, context: UpgradeContext) -> list[Reference]:
        namespace = self.namespace or context.namespace
        return [target for part in self.parts for target in _PARTS[part][0](self, namespace)]


def _namespaces(progress: HopProgress, objects: Iterable[Reference]) -> Iterator[PlanLine]:
    placed = (target for target in progress.present if target.namespace or target.kind == "Namespace")
    known = {*_NAMESPACES, *(target.namespace or target.name for target in placed)}
    for place in dict.fromkeys(target.namespace for target in objects):
        if place and place not in known:
            created = Reference("Namespace", place)
            progress.present.add(created)
            yield PlanLine(CREATE, f"{created}, if it does not exist", (created,))


def controller_rbac(namespace: str) -> list[Reference]:
    """Return the RBAC objects of a controller in the namespace."""
    return [
        Reference("ServiceAccount", CONTROLLER_NAME, namespace),
        Reference("ClusterRole", f"{CONTROLLER_NAME}-runner"),
        Reference("ClusterRoleBinding", f"{CONTROLLER_NAME}-role"),
        Reference("Role", f"{CONTROLLER_NAME}-leaderelection", namespace),
        Reference("RoleBinding", f"{CONTROLLER_NAME}-leaderelection", namespace),
    ]


def webhook_rbac(namespace: str) -> list[Reference]:
    """Return the RBAC objects of a validation webhook in the namespace."""
    return [
        Reference("ServiceAccount", "snapshot-webhook", namespace),
        Reference("ClusterRole", "snapshot-webhook-runner"),
        Reference("ClusterRoleBinding", "snapshot-webhook-role"),
    ]


def _crds(group: str) -> list[Reference]:
    return [Reference(CRD, name) for name in crd_sets.names(group)]


def _of_webhook(
    action: ApplyRelease, name_of: Callable[[ReleaseWebhook], str], namespace: str, *kinds: str
) -> list[Reference]:
    hook = get(action.release).webhook
    return [Reference(kind, name_of(hook), namespace) for kind in kinds] if hook else []


# For each part of a release: the function that returns its objects, and True if one line names all of them.
_PARTS: dict[str, tuple[Callable[[ApplyRelease, str], list[Reference]], bool]] = {
    "crds": (lambda _action, _place: _crds(SNAPSHOT), True),
    "group_crds": (lambda _action, _place: _crds(GROUP), True),
    "controller_rbac": (lambda _action, place: controller_rbac(place), True),
    "controller": (lambda _action, place: [Reference("Deployment", CONTROLLER_NAME, place)], False),
    "webhook_rbac": (lambda _action, place: webhook_rbac(place), True),
    "webhook": (
        lambda action, place: _of_webhook(
            action, lambda hook: hook.deployment, place, "Deployment", "PodDisruptionBudget"
        ),
        False,
    ),
    "webhook_service": (
        lambda action, place: _of_webhook(action, lambda hook: hook.service, place, "Service"),
        False,
    ),
    "webhook_configurations": (
        lambda action, _place: [Reference(CONFIGURATION, name) for name in action.failure_policies or ()],
        False,
    ),
}
