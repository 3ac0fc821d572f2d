# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""What of external-snapshotter is on a cluster, as plain data. Pure; _reading makes it of objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..release.crd_sets import Crd
from ..release.release_table import Version
from .installers import OURS, Origin

CONTROLLER, VALIDATION, CONVERSION, SIDECAR = "controller", "validation", "conversion", "csi-snapshotter"
LEASE = "snapshot-controller-leader"


@dataclass(frozen=True)
class InstalledWorkload:
    """What runs one of the programs.

    version: what its image's tag or its label says, None where neither does. selector: matchLabels. secrets: that it mounts.
    drains: True if its pods wait before they end, so that no API server calls them any more.
    available: number of available pods. port: the port on which they listen.
    companions: names of the other containers in its pods. A workload with companions is never deleted.
    """

    program: str
    kind: str
    namespace: str
    name: str
    image: str
    version: Version | None
    arguments: tuple[str, ...] = ()
    selector: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    service_account: str = ""
    drains: bool = False
    port: int = 443
    host_network: bool = False
    replicas: int = 1
    available: int = 0
    origin: Origin = OURS
    companions: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True)
class OrphanReplicaSet:
    """A ReplicaSet without an owner that still runs one of the programs. of: the Deployment that it was from.

    labelled: whether no new Deployment adopts it.
    """

    workload: InstalledWorkload
    of: str
    labelled: bool = False

    @property
    def program(self) -> str:
        return self.workload.program


@dataclass(frozen=True)
class Hook:
    """One webhook of a configuration.

    service: (namespace, name), None for a URL.
    answered_by: the program that every pod behind the Service runs, "" if there is no such program.
    """

    name: str
    service: tuple[str, str] | None
    path: str
    failure_policy: str
    rules: tuple[Mapping[str, Any], ...]
    answered_by: str = ""

    def resources(self) -> set[str]:
        return {resource for rule in self.rules for resource in rule.get("resources") or ()}

    def versions(self) -> set[str]:
        return {version for rule in self.rules for version in rule.get("apiVersions") or ()}


@dataclass(frozen=True)
class WebhookConfiguration:
    """A webhook configuration. groups: the API groups of external-snapshotter that its rules name."""

    name: str
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
    """A webhook's Secret, without its key. not_after: of the certificate, ISO 8601, "" where none can be read.

    managers: other programs that write it, such as cert-manager.
    users: the objects that mount or name it, each with its program, "" for an unknown program.
    resource_version: the version that was read.
    is_marked: True if it has this collection's label.
    """

    namespace: str
    name: str
    type: str
    keys: tuple[str, ...]
    subject: str = ""
    names: tuple[str, ...] = ()
    not_after: str = ""
    managers: tuple[str, ...] = ()
    users: tuple[tuple[str, str], ...] = ()
    resource_version: str = ""
    is_marked: bool = False

    def __str__(self) -> str:
        return f"Secret {self.namespace}/{self.name}"


@dataclass(frozen=True)
class InvalidObject:
    """A stored object that the target's rules refuse. place: "namespace/name" or "name"."""

    kind: str
    place: str
    why: str


@dataclass(frozen=True)
class StoredSnapshots:
    """What is stored. faults: by the target's rules. labelled: marked invalid by a controller of before 8.0.

    old_clients: field managers that wrote at v1beta1. read: whether snapshots and contents were listed.
    """

    snapshots: int = 0
    contents: int = 0
    faults: tuple[InvalidObject, ...] = ()
    labelled: tuple[str, ...] = ()
    old_clients: tuple[str, ...] = ()
    read: bool = False


@dataclass(frozen=True)
class StoredGroupSnapshots:
    """Stored group snapshots. lists: contents whose status lists their snapshots' handles.

    hidden: contents with such a list at v1beta1 that the storage version does not show, because no webhook converts it.
    alpha_sources: contents whose source is written as 6.3 had it. faults: by the target's rules.
    """

    classes: int = 0
    snapshots: int = 0
    contents: int = 0
    lists: int = 0
    hidden: int = 0
    faults: tuple[InvalidObject, ...] = ()
    alpha_sources: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        return self.classes + self.snapshots + self.contents


@dataclass(frozen=True)
class LeaderLease:
    """Who leads, and since when it was last said (ISO 8601)."""

    namespace: str
    holder: str
    renewed: str


@dataclass(frozen=True)
class InstalledState:
    """All of it.

    kubernetes: (major, minor). crds: by name. missing_rights: "verb resource" that the target's controller needs and the
    ClusterRole lacks. webhook_account: whether the validation webhook's ServiceAccount, ClusterRole and binding are there.
    default_classes: driver to the names of its default classes. leftovers: (kind, namespace, name) of the webhooks' other
    objects. crd_origins: by name. other_origins: of leftovers and Secrets by "Kind namespace/name". The plan's text counts them.
    unreadable: what could not be read, and why.
    configurations: those of the webhook, recognised by a positive mark.
    foreign: other configurations that name snapshots or call the webhook. An upgrade does not change them.
    strangers: workloads with a webhook's program in a namespace that no configuration calls. An upgrade does not change them.
    """

    kubernetes: tuple[int, int] = (0, 0)
    kubernetes_version: str = ""
    crds: Mapping[str, Crd] = field(default_factory=dict)
    crd_origins: Mapping[str, Origin] = field(default_factory=dict)
    workloads: tuple[InstalledWorkload, ...] = ()
    orphan_sets: tuple[OrphanReplicaSet, ...] = ()
    configurations: tuple[WebhookConfiguration, ...] = ()
    foreign: tuple[WebhookConfiguration, ...] = ()
    strangers: tuple[InstalledWorkload, ...] = ()
    services: tuple[Service, ...] = ()
    secrets: tuple[Secret, ...] = ()
    controller_role: Origin | None = None
    other_origins: Mapping[str, Origin] = field(default_factory=dict)
    missing_permissions: tuple[str, ...] = ()
    webhook_account: bool = False
    default_classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    objects: StoredSnapshots = StoredSnapshots()
    groups: StoredGroupSnapshots = StoredGroupSnapshots()
    leases: tuple[LeaderLease, ...] = ()
    leftovers: tuple[tuple[str, str, str], ...] = ()
    unreadable: Mapping[str, str] = field(default_factory=dict)

    def running(self, program: str) -> tuple[InstalledWorkload, ...]:
        return tuple(one for one in self.workloads if one.program == program)

    def orphans(self, program: str) -> tuple[InstalledWorkload, ...]:
        """What runs on after its Deployment was deleted without its pods."""
        return tuple(one.workload for one in self.orphan_sets if one.program == program)

    def webhook(self, program: str) -> InstalledWorkload | None:
        found = self.running(program)
        return found[0] if found else None

    def secret(self, namespace: str, name: str) -> Secret | None:
        return next((one for one in self.secrets if (one.namespace, one.name) == (namespace, name)), None)

    @property
    def is_empty(self) -> bool:
        """Nothing at all is there."""
        return not (self.crds or self.running(CONTROLLER) or self.orphan_sets or self.configurations)
