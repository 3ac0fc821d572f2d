# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The action that applies parts of a release, and the objects of each part, named as in upstream's manifests. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ..context.upgrade_context import UpgradeContext
from ..kinds import CONTROLLER_NAME, Reference
from ..release import crd_sets
from ..release.pod_templates import ReleaseParts
from ..release.release_table import GROUP, SNAPSHOT, get
from .action import CHANGE, CONFIGURATION, CRD, CREATE, RESTORE, Action, HopProgress, PlanLine, named

# These namespaces exist on every cluster.
_NAMESPACES = ("default", "kube-system")
# The parts of a release whose objects have a line each in a plan.
_IN_SINGLE_LINES = ("controller", "webhook", "webhook_service", "webhook_configurations")


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
            objects = self._objects(part, progress.context)
            yield from _namespaces(progress, objects)
            for group in [[target] for target in objects] if part in _IN_SINGLE_LINES else [objects]:
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
        return [target for part in self.parts for target in self._objects(part, context)]

    def _objects(self, part: str, context: UpgradeContext) -> list[Reference]:
        """Return the objects of a part of the release."""
        place = self.namespace or context.namespace
        if part in ("webhook", "webhook_service"):
            hook = get(self.release).webhook
            kinds = ("Service",) if part == "webhook_service" else ("Deployment", "PodDisruptionBudget")
            if hook is None:
                return []
            name = hook.service if part == "webhook_service" else hook.deployment
            return [Reference(kind, name, place) for kind in kinds]
        return {
            "crds": _crds(SNAPSHOT),
            "group_crds": _crds(GROUP),
            "controller_rbac": controller_rbac(place),
            "controller": [Reference("Deployment", CONTROLLER_NAME, place)],
            "webhook_rbac": webhook_rbac(place),
            "webhook_configurations": [
                Reference(CONFIGURATION, name) for name in self.failure_policies or ()
            ],
        }[part]


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
