# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Sets of CustomResourceDefinitions as releases shipped them, and which one a cluster's are. Pure.

None carries a version label. What tells them apart: the versions that are listed, served and stored, whether the schema has
CEL rules, and the annotation of the generator that made them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .release_table import GROUP, GROUP_CRDS, SNAPSHOT, SNAPSHOT_CRDS

GENERATOR = "controller-gen.kubebuilder.io/version"
STORED, SERVED, LISTED = "stored", "served", "listed"


@dataclass(frozen=True)
class CrdSet:
    """One row. key: the first release that has it. versions: to STORED, SERVED or LISTED (neither).

    rules: whether objects with a source have CEL rules. generator: its version, "" where the table does not know it.
    """

    key: str
    releases: str
    group: str
    versions: Mapping[str, str]
    rules: bool
    generator: str
    source: str

    @property
    def storage(self) -> str:
        return next(name for name, state in self.versions.items() if state == STORED)


_V1 = {"v1": STORED, "v1beta1": LISTED}
# client/config/crd at each tag; oldest first within a group.
SETS: tuple[CrdSet, ...] = (
    CrdSet("3.0", "to 3.0", SNAPSHOT, {"v1beta1": STORED}, False, "", "v3.0.3:client/config/crd"),
    CrdSet("4.0", "4.0", SNAPSHOT, {"v1": SERVED, "v1beta1": STORED}, False, "", "v4.0.1:client/config/crd"),
    CrdSet("4.1", "4.1 to 5.0", SNAPSHOT, {"v1": STORED, "v1beta1": SERVED}, False, "", "client/v4.2.0"),
    CrdSet("6.0.0", "6.0.0", SNAPSHOT, {"v1": STORED}, False, "", "#718"),
    CrdSet("6.0.1", "6.0.1 to 6.2", SNAPSHOT, _V1, False, "v0.8.0", "client/v6.2.0"),
    CrdSet("6.3", "6.3", SNAPSHOT, _V1, False, "v0.11.3", "client/v6.3.0"),
    CrdSet("7.0", "7.0", SNAPSHOT, _V1, False, "v0.12.0", "client/v7.0.0"),
    CrdSet("8.0", "8.0 to 8.7", SNAPSHOT, _V1, True, "v0.15.0", "client/v8.0.0 to client/v8.7.0"),
    CrdSet("6.3", "6.3", GROUP, {"v1alpha1": STORED}, False, "v0.11.3", "client/v6.3.0"),
    CrdSet("7.0", "7.0", GROUP, {"v1alpha1": STORED}, False, "v0.12.0", "client/v7.0.0"),
    CrdSet("8.0", "8.0 and 8.1", GROUP, {"v1alpha1": STORED}, True, "v0.15.0", "client/v8.0.0"),
    CrdSet("8.2", "8.2 and 8.3", GROUP, {"v1beta1": STORED}, True, "v0.15.0", "client/v8.2.0"),
    CrdSet("8.4", "8.4 and 8.5", GROUP, {"v1beta1": SERVED, "v1beta2": STORED}, True, "v0.15.0", "client/v8.4.0"),
    CrdSet(
        "8.6", "8.6 and 8.7", GROUP, {"v1": SERVED, "v1beta1": SERVED, "v1beta2": STORED}, True, "v0.15.0", "client/v8.7.0"
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Conversion:
    """spec.conversion. service: (namespace, name), None where there is none."""

    strategy: str = "None"
    service: tuple[str, str] | None = None
    has_bundle: bool = False


@dataclass(frozen=True)
class Crd:
    """One of the six as the cluster has it. set: the row that it is from, None where it is from none.

    accepted: whether its names and schema are in force. terminating: whether it is being deleted.
    """

    name: str
    versions: Mapping[str, str]
    stored_versions: tuple[str, ...]
    set: CrdSet | None
    conversion: Conversion = Conversion()
    established: bool = True
    terminating: bool = False

    @property
    def storage(self) -> str:
        return next((name for name, state in self.versions.items() if state == STORED), "")


def row(key: str, group: str) -> CrdSet:
    return next(one for one in SETS if one.key == key and one.group == group)


def rank(one: CrdSet) -> int:
    """Newer sets of a group have greater numbers."""
    return SETS.index(one)


def names(group: str) -> tuple[str, ...]:
    return SNAPSHOT_CRDS if group == SNAPSHOT else GROUP_CRDS


def parse(obj: Mapping[str, Any]) -> Crd:
    """Read a CustomResourceDefinition."""
    spec, status, metadata = obj["spec"], obj.get("status") or {}, obj["metadata"]
    versions = {entry["name"]: _state(entry) for entry in spec["versions"]}
    conditions = {entry["type"]: entry["status"] for entry in status.get("conditions") or ()}
    return Crd(
        name=metadata["name"],
        versions=versions,
        stored_versions=tuple(status.get("storedVersions") or ()),
        set=_fingerprint(
            metadata["name"],
            spec["group"],
            versions,
            _has_rules(spec["versions"]),
            (metadata.get("annotations") or {}).get(GENERATOR, ""),
        ),
        conversion=_conversion(spec.get("conversion") or {}),
        established=conditions.get("Established") == "True",
        terminating=bool(metadata.get("deletionTimestamp")),
    )


def _state(entry: Mapping[str, Any]) -> str:
    return STORED if entry["storage"] else SERVED if entry["served"] else LISTED


def _fingerprint(
    name: str, group: str, versions: Mapping[str, str], rules: bool, generator: str
) -> CrdSet | None:
    # Classes have no source, and so no rules of their own before v1beta2; then the generator alone decides.
    ruled = not name.startswith(("volumesnapshotclasses", "volumegroupsnapshotclasses"))
    fitting = [one for one in SETS if one.group == group and one.versions == dict(versions)]
    if ruled:
        fitting = [one for one in fitting if one.rules == rules]
    exact = [one for one in fitting if one.generator == generator]
    return next(iter(exact or fitting), None)


def _has_rules(versions: Iterable[Mapping[str, Any]]) -> bool:
    return any(_within(entry.get("schema") or {}) for entry in versions)


def _within(node: Any) -> bool:
    if isinstance(node, dict):
        return "x-kubernetes-validations" in node or any(_within(value) for value in node.values())
    return isinstance(node, list) and any(_within(value) for value in node)


def _conversion(spec: Mapping[str, Any]) -> Conversion:
    client = (spec.get("webhook") or {}).get("clientConfig") or {}
    service = client.get("service")
    return Conversion(
        strategy=spec.get("strategy") or "None",
        service=(service["namespace"], service["name"]) if service else None,
        has_bundle=bool(client.get("caBundle")),
    )
