# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The actions on workloads and stored objects: delete, restore, orphan, wait, and migrate the storage. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..._kube.access_review import Permission
from ..context.upgrade_context import UpgradeContext
from ..kinds import KINDS, Reference
from .action import (
    CHANGE,
    CRD,
    DELETE,
    NOTHING,
    VERIFY,
    Action,
    CrdAction,
    HopProgress,
    PlanLine,
    bundles,
    named,
    pod_permissions,
    reconnected,
)

#: The kinds of objects whose names are generated.
GENERATED = ("CertificateSigningRequest", "ReplicaSet")


@dataclass(frozen=True)
class DeletedObject:
    """An object to delete, or the objects with a label."""

    kind: str
    namespace: str = ""
    name: str = ""
    #: Instead of a name.
    label_selector: str = ""
    #: A program. The object is kept if pods of another program use it.
    only_used_by: str = ""
    #: The object is kept if it has another version.
    resource_version: str | None = None

    @property
    def target(self) -> Reference:
        return Reference(self.kind, self.name, self.namespace)

    @property
    def condition(self) -> str:
        """The condition of the deletion in words."""
        if self.only_used_by:
            return ", if nothing else uses it"
        return ", if no object of it exists" if self.kind == CRD else ""


@dataclass(frozen=True)
class DeleteObjects(Action):
    """Delete objects in their order, and skip objects that do not exist. For a ReplicaSet, wait until its pods are gone."""

    action_name = "delete"
    objects: Sequence[DeletedObject]

    def lines(self, progress: HopProgress) -> Iterator[PlanLine]:
        """Yield one line for each kind. Objects without a name have a line of their own."""
        groups: dict[tuple[str, str], list[Reference]] = {}
        for entry in self.objects:
            if entry.name:
                groups.setdefault((entry.kind, entry.condition), []).append(entry.target)
            else:
                place = f"{entry.kind}s of namespace {entry.namespace}"
                yield PlanLine(DELETE, f"{place} with label {entry.label_selector}, and their pods")
        for (_kind, condition), objects in groups.items():
            progress.present.difference_update(objects)
            yield PlanLine(DELETE, f"{named(objects)}{condition}", tuple(objects))

    def permissions(self, _namespace: str, _probe_namespace: str) -> list[Permission]:
        """Return the permissions to delete objects by a label, which no object has yet."""
        return [
            Permission(verb, KINDS[entry.kind].group, KINDS[entry.kind].plural, entry.namespace)
            for entry in self.objects
            if entry.label_selector and entry.kind in KINDS
            for verb in ("list", "delete")
        ]

    def writes(self) -> list[Any]:
        return [
            [
                self.action_name,
                entry.kind,
                entry.namespace,
                "" if entry.kind in GENERATED else entry.name,
                entry.label_selector,
            ]
            for entry in self.objects
        ]


@dataclass(frozen=True)
class RestoreObjects(Action):
    """Put objects back as the run read them before the hop. It is a part of an undo only."""

    action_name = "restore"
    is_short = True
    objects: Sequence[Reference]
    #: Additional labels of the pods of a Deployment.
    labels: Mapping[str, str] | None = None
    #: The names of the webhook configurations whose failurePolicy is Ignore for now.
    ignoring: Sequence[str] = ()


@dataclass(frozen=True)
class MigrateStorage(CrdAction):
    """Write every object back at the storage version, then set status.storedVersions to it."""

    action_name = "migrate_storage"
    in_undo = NOTHING
    version: str

    def lines(self, progress: HopProgress) -> Iterator[PlanLine]:
        installed = progress.context.installed
        stored = installed.groups
        kind, plural, count, listed = {
            "volumegroupsnapshotclasses": ("VolumeGroupSnapshotClass", "es", stored.classes, "group_classes"),
            "volumegroupsnapshotcontents": (
                "VolumeGroupSnapshotContent",
                "s",
                stored.contents,
                "group_contents",
            ),
            "volumegroupsnapshots": ("VolumeGroupSnapshot", "s", stored.snapshots, "group_snapshots"),
        }[self.crd.partition(".")[0]]
        if listed in installed.unreadable:
            yield PlanLine(CHANGE, f"every {kind}: stored again at {self.version}")
        elif count:
            objects = f"{count} {kind}{plural if count > 1 else ''}"
            yield PlanLine(CHANGE, f"{objects}: stored again at {self.version}")
        yield PlanLine(CHANGE, f"{self.target}: status.storedVersions [{self.version}]", (self.target,))

    def permissions(self, _namespace: str, _probe_namespace: str) -> list[Permission]:
        return [Permission("patch", KINDS[CRD].group, f"{KINDS[CRD].plural}/status", name=self.crd)]


@dataclass(frozen=True)
class DeploymentAction(Action):
    """An action on a Deployment."""

    namespace: str
    name: str

    @property
    def deployment(self) -> Reference:
        return Reference("Deployment", self.name, self.namespace)

    def permissions(self, _namespace: str, _probe_namespace: str) -> list[Permission]:
        return pod_permissions(self.namespace)

    def named_objects(self, _context: UpgradeContext) -> list[Reference]:
        return [self.deployment]


@dataclass(frozen=True)
class OrphanDeployment(DeploymentAction):
    """Delete a Deployment and keep its pods. They and their ReplicaSets get ORPHAN_LABEL."""

    action_name = "orphan"

    def lines(self, progress: HopProgress) -> Iterator[PlanLine]:
        if self.deployment in progress.present:
            progress.present.discard(self.deployment)
            yield PlanLine(DELETE, f"{self.deployment}, but keep its pods", (self.deployment,))
        yield PlanLine(CHANGE, f"ReplicaSets and pods of {self.deployment}: labels")

    def permissions(self, _namespace: str, _probe_namespace: str) -> list[Permission]:
        """Return the permission to create the Deployment. A dry run of its apply is an update while the old Deployment exists."""
        return [Permission("create", KINDS["Deployment"].group, "deployments", self.namespace, self.name)]


@dataclass(frozen=True)
class WaitAvailable(DeploymentAction):
    """Wait until every replica of the newest template is available and no older pod is left."""

    action_name = "wait_available"
    writes_objects = False
    #: The targets of a reconnect whenever old pods begin to end.
    reconnect: Sequence[Reference] = ()

    def lines(self, _progress: HopProgress) -> Iterator[PlanLine]:
        yield from reconnected(self.reconnect, " while old pods end")
        yield PlanLine(VERIFY, f"that the pods of {self.deployment} become ready")

    def writes(self) -> list[Any]:
        return bundles(self.reconnect)


@dataclass(frozen=True)
class WatchPods(DeploymentAction):
    """Watch the pods of the newest template. They must stay ready and not restart."""

    action_name = "watch_pods"
    writes_objects = False
    seconds: int

    def lines(self, _progress: HopProgress) -> Iterator[PlanLine]:
        yield PlanLine(VERIFY, f"that the pods of {self.deployment} stay ready for {self.seconds} s")
