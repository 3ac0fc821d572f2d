# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The sets of CustomResourceDefinitions (CRDs) of the releases, and the set that a cluster's CRDs belong to. Pure.

The CRDs have no version label. A set is recognised by its listed, served and stored versions, by CEL rules in the schema, and
by the annotation of the generator.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .release_table import CRDS, GROUP, GROUP_CRDS, SNAPSHOT, SNAPSHOT_CRDS

GENERATOR = "controller-gen.kubebuilder.io/version"
STORED, SERVED, LISTED = "stored", "served", "listed"


@dataclass(frozen=True)
class CrdSet:
    """One row of SETS."""

    #: The first release with this set.
    key: str
    #: The releases with this set, in words.
    releases: str
    group: str
    #: For each version STORED, SERVED or LISTED (neither stored nor served).
    versions: Mapping[str, str]
    #: True if objects with a source have CEL rules.
    rules: bool
    #: The version of the generator, "" if it is not known.
    generator: str

    @property
    def storage(self) -> str:
        return next(name for name, state in self.versions.items() if state == STORED)


_V1 = {"v1": STORED, "v1beta1": LISTED}
# The comments name the tags. The files are in client/config/crd.
SETS: tuple[CrdSet, ...] = (
    CrdSet("3.0", "to 3.0", SNAPSHOT, {"v1beta1": STORED}, False, ""),  # v3.0.3:client/config/crd
    CrdSet("4.0", "4.0", SNAPSHOT, {"v1": SERVED, "v1beta1": STORED}, False, ""),  # v4.0.1:client/config/crd
    CrdSet("4.1", "4.1 to 5.0", SNAPSHOT, {"v1": STORED, "v1beta1": SERVED}, False, ""),  # client/v4.2.0
    CrdSet("6.0.0", "6.0.0", SNAPSHOT, {"v1": STORED}, False, ""),  # #718
    CrdSet("6.0.1", "6.0.1 to 6.2", SNAPSHOT, _V1, False, "v0.8.0"),  # client/v6.2.0
    CrdSet("6.3", "6.3", SNAPSHOT, _V1, False, "v0.11.3"),  # client/v6.3.0
    CrdSet("7.0", "7.0", SNAPSHOT, _V1, False, "v0.12.0"),  # client/v7.0.0
    CrdSet("8.0", "8.0 to 8.7", SNAPSHOT, _V1, True, "v0.15.0"),  # client/v8.0.0 to client/v8.7.0
    CrdSet("6.3", "6.3", GROUP, {"v1alpha1": STORED}, False, "v0.11.3"),  # client/v6.3.0
    CrdSet("7.0", "7.0", GROUP, {"v1alpha1": STORED}, False, "v0.12.0"),  # client/v7.0.0
    CrdSet("8.0", "8.0 and 8.1", GROUP, {"v1alpha1": STORED}, True, "v0.15.0"),  # client/v8.0.0
    CrdSet("8.2", "8.2 and 8.3", GROUP, {"v1beta1": STORED}, True, "v0.15.0"),  # client/v8.2.0
    CrdSet("8.4", "8.4 and 8.5", GROUP, {"v1beta1": SERVED, "v1beta2": STORED}, True, "v0.15.0"),  # client/v8.4.0
    CrdSet("8.6", "8.6 and 8.7", GROUP, {"v1": SERVED, "v1beta1": SERVED, "v1beta2": STORED}, True, "v0.15.0"),  # client/v8.7.0
)  # fmt: skip


@dataclass(frozen=True)
class Conversion:
    """The field spec.conversion of a CRD."""

    strategy: str = "None"
    #: Namespace and name, None if no Service is called.
    service: tuple[str, str] | None = None
    has_bundle: bool = False


@dataclass(frozen=True)
class Crd:
    """One of these CRDs in the cluster."""

    name: str
    #: For each version STORED, SERVED or LISTED.
    versions: Mapping[str, str]
    stored_versions: tuple[str, ...]
    #: The set that it belongs to, None if it differs from every set.
    set: CrdSet | None
    conversion: Conversion = Conversion()
    #: True if it has a deletionTimestamp.
    terminating: bool = False

    @property
    def storage(self) -> str:
        return next((name for name, state in self.versions.items() if state == STORED), "")


def row(key: str, group: str) -> CrdSet:
    return next(crd_set for crd_set in SETS if crd_set.key == key and crd_set.group == group)


def rank(crd_set: CrdSet) -> tuple[int, ...]:
    """Return the version of its first release. It is greater for a newer set of the same group."""
    return tuple(int(part) for part in crd_set.key.split("."))


def names(group: str) -> tuple[str, ...]:
    return SNAPSHOT_CRDS if group == SNAPSHOT else GROUP_CRDS


def _state_of_version(entry: Mapping[str, Any]) -> str:
    if entry["storage"]:
        return STORED
    return SERVED if entry["served"] else LISTED


def parse(obj: Mapping[str, Any]) -> Crd:
    """Parse a CustomResourceDefinition as the API server returns it."""
    spec, status, metadata = obj["spec"], obj.get("status") or {}, obj["metadata"]
    versions = {entry["name"]: _state_of_version(entry) for entry in spec["versions"]}
    return Crd(
        name=metadata["name"],
        versions=versions,
        stored_versions=tuple(status.get("storedVersions") or ()),
        set=_fingerprint(
            metadata["name"],
            spec["group"],
            versions,
            _contains_rules([entry.get("schema") for entry in spec["versions"]]),
            (metadata.get("annotations") or {}).get(GENERATOR, ""),
        ),
        conversion=_conversion(spec.get("conversion") or {}),
        terminating=bool(metadata.get("deletionTimestamp")),
    )


def _fingerprint(
    name: str, group: str, versions: Mapping[str, str], rules: bool, generator: str
) -> CrdSet | None:
    fitting = [
        crd_set
        for crd_set in SETS
        if crd_set.group == group and crd_set.versions == dict(versions)
        # Objects without a source have no rules before v1beta2. For them only the generator decides.
        if not CRDS[name] or crd_set.rules == rules
    ]
    exact = [crd_set for crd_set in fitting if crd_set.generator == generator]
    return min(exact or fitting, key=rank, default=None)


def _contains_rules(node: Any) -> bool:
    if isinstance(node, dict):
        return "x-kubernetes-validations" in node or any(_contains_rules(value) for value in node.values())
    return isinstance(node, list) and any(_contains_rules(value) for value in node)


def _conversion(spec: Mapping[str, Any]) -> Conversion:
    client = (spec.get("webhook") or {}).get("clientConfig") or {}
    service = client.get("service")
    return Conversion(
        strategy=spec.get("strategy") or "None",
        service=(service["namespace"], service["name"]) if service else None,
        has_bundle=bool(client.get("caBundle")),
    )
