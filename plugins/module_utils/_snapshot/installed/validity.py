# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Find stored objects that violate the rules that the CustomResourceDefinitions have since 8.0. Pure.

The API server does not validate stored objects when rules are added. Before Kubernetes 1.30 it then refuses every update of an
invalid object, even the removal of its finalizers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .state import InvalidObject


@dataclass(frozen=True)
class ExactlyOneField:
    """The object at ``path`` must have exactly one of two fields."""

    kind: str
    path: tuple[str, ...]
    fields: tuple[str, str]
    message: str


@dataclass(frozen=True)
class BothFields:
    """The object at ``path`` must have both fields. They may be empty."""

    kind: str
    path: tuple[str, ...]
    fields: tuple[str, str]
    message: str


@dataclass(frozen=True)
class NonEmptyText:
    """The text at ``path`` must not be empty if it exists."""

    kind: str
    path: tuple[str, ...]
    message: str


# The x-kubernetes-validations of client/v8.0.0:config/crd that depend on one object only.
RULES: tuple[ExactlyOneField | BothFields | NonEmptyText, ...] = (
    ExactlyOneField(
        "VolumeSnapshot",
        ("spec", "source"),
        ("volumeSnapshotContentName", "persistentVolumeClaimName"),
        "exactly one of volumeSnapshotContentName and persistentVolumeClaimName must be set",
    ),
    NonEmptyText(
        "VolumeSnapshot",
        ("spec", "volumeSnapshotClassName"),
        "volumeSnapshotClassName must not be the empty string when set",
    ),
    ExactlyOneField(
        "VolumeSnapshotContent",
        ("spec", "source"),
        ("volumeHandle", "snapshotHandle"),
        "exactly one of volumeHandle and snapshotHandle must be set",
    ),
    BothFields(
        "VolumeSnapshotContent",
        ("spec", "volumeSnapshotRef"),
        ("name", "namespace"),
        "both spec.volumeSnapshotRef.name and spec.volumeSnapshotRef.namespace must be set",
    ),
    ExactlyOneField(
        "VolumeGroupSnapshot",
        ("spec", "source"),
        ("selector", "volumeGroupSnapshotContentName"),
        "exactly one of selector and volumeGroupSnapshotContentName must be set",
    ),
    NonEmptyText(
        "VolumeGroupSnapshot",
        ("spec", "volumeGroupSnapshotClassName"),
        "volumeGroupSnapshotClassName must not be the empty string when set",
    ),
    ExactlyOneField(
        "VolumeGroupSnapshotContent",
        ("spec", "source"),
        ("volumeHandles", "groupSnapshotHandles"),
        "exactly one of volumeHandles and groupSnapshotHandles must be set",
    ),
    BothFields(
        "VolumeGroupSnapshotContent",
        ("spec", "volumeGroupSnapshotRef"),
        ("name", "namespace"),
        "both volumeGroupSnapshotRef.name and volumeGroupSnapshotRef.namespace must be set",
    ),
)


def faults(kind: str, objects: Iterable[Mapping[str, Any]]) -> list[InvalidObject]:
    """Return an entry for each object of the kind and each rule that it violates."""
    rules = [rule for rule in RULES if rule.kind == kind]
    return [
        InvalidObject(kind, place(obj), rule.message)
        for obj in objects
        for rule in rules
        if _broken(rule, obj)
    ]


def place(obj: Mapping[str, Any]) -> str:
    metadata = obj["metadata"]
    return "/".join(filter(None, (metadata.get("namespace"), metadata["name"])))


def _broken(rule: ExactlyOneField | BothFields | NonEmptyText, obj: Mapping[str, Any]) -> bool:
    value: Any = obj
    for key in rule.path:
        value = value.get(key) if isinstance(value, Mapping) else None
    if isinstance(rule, NonEmptyText):
        return bool(value == "")
    present = [field in value for field in rule.fields] if isinstance(value, Mapping) else [False, False]
    return not all(present) if isinstance(rule, BothFields) else present.count(True) != 1
