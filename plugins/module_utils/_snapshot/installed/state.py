# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The installed state of external-snapshotter on a cluster, as plain data. parse_objects makes it from objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..kinds import CONTROLLER
from ..release.crd_sets import Crd
from ..release.release_table import Version
from .installers import OURS, Origin


@dataclass(frozen=True)
class InstalledWorkload:
    """A workload that runs one of the programs."""

    #: CONTROLLER, VALIDATION, CONVERSION or SIDECAR.
    program: str
    kind: str
    namespace: str
    name: str
    image: str
    #: The version by the tag of the image or by the label of the pods, None if both have none.
    version: Version | None
    arguments: tuple[str, ...] = ()
    #: The field matchLabels of its selector.
    selector: Mapping[str, str] = field(default_factory=dict)
    #: The names of the Secrets that its pods mount.
    secrets: tuple[str, ...] = ()
    service_account: str = ""
    #: True if its pods wait before they end. In this time the API servers stop calling them.
    drains: bool = False
    #: The port on which its pods listen.
    port: int = 443
    host_network: bool = False
    replicas: int = 1
    #: The number of available pods.
    available: int = 0
    origin: Origin = OURS
    #: The names of the other containers in its pods. A workload with companions is never deleted.
    companions: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True)
class OrphanReplicaSet:
    """A ReplicaSet without an owner that still runs one of the programs."""

    workload: InstalledWorkload
    #: The name of its former Deployment.
    of: str
    #: True if it has ORPHAN_LABEL, so that a new Deployment does not adopt it.
    labelled: bool = False

    @property
    def program(self) -> str:
        return self.workload.program


@dataclass(frozen=True)
class Hook:
    """One webhook of a configuration."""

    name: str
    #: Namespace and name of the Service, None for a URL.
    service: tuple[str, str] | None
    path: str
    failure_policy: str
    rules: tuple[Mapping[str, Any], ...]
    #: The program that every pod behind the Service runs, "" if the pods run other programs.
    answered_by: str = ""

    def resources(self) -> set[str]:
        return {resource for rule in self.rules for resource in rule.get("resources") or ()}


@dataclass(frozen=True)
class WebhookConfiguration:
    """A webhook configuration."""

    name: str
    #: The API groups of external-snapshotter in its rules.
    groups: tuple[str, ...]
    hooks: tuple[Hook, ...]
    origin: Origin = OURS
    kind: str = "ValidatingWebhookConfiguration"

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True)
class Service:
    """A webhook's Service."""

    namespace: str
    name: str
    selector: Mapping[str, str]
    origin: Origin = OURS

    def __str__(self) -> str:
        return f"Service {self.namespace}/{self.name}"


@dataclass(frozen=True)
class Secret:
    """A webhook's Secret, without its key."""

    namespace: str
    name: str
    type: str
    keys: tuple[str, ...]
    #: The other programs that write it, such as cert-manager.
    managers: tuple[str, ...] = ()
    #: The objects that mount or name it, each with its program, "" for an unknown program.
    users: tuple[tuple[str, str], ...] = ()
    #: The version that was read.
    resource_version: str = ""

    def __str__(self) -> str:
        return f"Secret {self.namespace}/{self.name}"


@dataclass(frozen=True)
class InvalidObject:
    """A stored object that the rules of the target release refuse."""

    kind: str
    #: "namespace/name" or "name".
    place: str
    #: The message of the rule.
    why: str


@dataclass(frozen=True)
class StoredSnapshots:
    """The stored snapshots and contents, as far as a hazard needs them."""

    #: The objects that the rules of the target release refuse.
    faults: tuple[InvalidObject, ...] = ()
    #: The field managers that wrote at v1beta1.
    old_clients: tuple[str, ...] = ()


@dataclass(frozen=True)
class StoredGroupSnapshots:
    """The stored group snapshots."""

    classes: int = 0
    snapshots: int = 0
    contents: int = 0
    #: The number of contents whose status lists the handles of their snapshots.
    lists: int = 0
    #: The number of contents with such a list at v1beta1. Without a conversion webhook the storage version does not show it.
    hidden: int = 0
    #: The objects that the rules of the target release refuse.
    faults: tuple[InvalidObject, ...] = ()
    #: The contents whose source has the schema of 6.3.
    alpha_sources: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        return self.classes + self.snapshots + self.contents


@dataclass(frozen=True)
class InstalledState:
    """The whole installed state."""

    #: Major and minor version.
    kubernetes: tuple[int, int] = (0, 0)
    kubernetes_version: str = ""
    #: By name.
    crds: Mapping[str, Crd] = field(default_factory=dict)
    #: By name.
    crd_origins: Mapping[str, Origin] = field(default_factory=dict)
    workloads: tuple[InstalledWorkload, ...] = ()
    orphan_sets: tuple[OrphanReplicaSet, ...] = ()
    #: The configurations of the webhook, recognised by a positive mark.
    configurations: tuple[WebhookConfiguration, ...] = ()
    #: Other configurations that name snapshots or call the webhook. An upgrade does not change them.
    foreign: tuple[WebhookConfiguration, ...] = ()
    #: "Kind namespace/name" of objects that hold something of another owner, with the reasons, whatever their names are.
    mixed: Mapping[str, str] = field(default_factory=dict)
    services: tuple[Service, ...] = ()
    secrets: tuple[Secret, ...] = ()
    controller_role: Origin | None = None
    #: True if the validation webhook's ServiceAccount, ClusterRole and binding exist.
    webhook_account: bool = False
    #: The names of the default classes by driver.
    default_classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    objects: StoredSnapshots = StoredSnapshots()
    groups: StoredGroupSnapshots = StoredGroupSnapshots()
    #: Kind, namespace and name of the webhooks' other objects.
    leftovers: tuple[tuple[str, str, str], ...] = ()
    #: The reasons of the API server by the name of the list that could not be read.
    unreadable: Mapping[str, str] = field(default_factory=dict)

    def running(self, program: str) -> tuple[InstalledWorkload, ...]:
        return tuple(workload for workload in self.workloads if workload.program == program)

    def orphans(self, program: str) -> tuple[InstalledWorkload, ...]:
        """Return the ReplicaSets whose Deployment was deleted without its pods."""
        return tuple(orphan.workload for orphan in self.orphan_sets if orphan.program == program)

    def all_of(self, program: str) -> tuple[InstalledWorkload, ...]:
        """Return the workloads that run a program, with those whose Deployment was deleted last."""
        return (*self.running(program), *self.orphans(program))

    def webhook(self, program: str) -> InstalledWorkload | None:
        found = self.running(program)
        return found[0] if found else None

    def secret(self, namespace: str, name: str) -> Secret | None:
        return next(
            (secret for secret in self.secrets if (secret.namespace, secret.name) == (namespace, name)), None
        )

    @property
    def is_empty(self) -> bool:
        """True if no object of external-snapshotter exists."""
        return not (self.crds or self.running(CONTROLLER) or self.orphan_sets or self.configurations)
