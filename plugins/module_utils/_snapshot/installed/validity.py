# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Find stored objects that violate the rules that the CustomResourceDefinitions have since 8.0. Pure.

The API server does not validate stored objects when rules are added. Before Kubernetes 1.30 it then refuses every update of an
invalid object, even the removal of its finalizers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .state import InvalidObject


@dataclass(frozen=True)
class ValidityRule:
    """One rule."""

    kind: str
    #: The path of the value that the rule is about.
    path: tuple[str, ...]
    #: The message of the API server.
    message: str
    #: Return True if the value breaks the rule. It is None if the object has no such field.
    is_broken: Callable[[Any], bool]


def _count(value: Any, fields: Iterable[str]) -> int:
    """Return how many of the fields the value has. They may be empty."""
    return sum(field in value for field in fields) if isinstance(value, Mapping) else 0


def _source(kind: str, *fields: str) -> ValidityRule:
    message = f"exactly one of {' and '.join(fields)} must be set"
    return ValidityRule(kind, ("spec", "source"), message, lambda value: _count(value, fields) != 1)


def _reference(kind: str, shown: str) -> ValidityRule:
    """Return the rule about the reference of a content to its snapshot. shown: its path in the message."""
    message = f"both {shown}.name and {shown}.namespace must be set"
    path = ("spec", shown.rpartition(".")[2])
    return ValidityRule(kind, path, message, lambda value: _count(value, ("name", "namespace")) != 2)


def _class(kind: str, field: str) -> ValidityRule:
    message = f"{field} must not be the empty string when set"
    return ValidityRule(kind, ("spec", field), message, lambda value: bool(value == ""))


# The x-kubernetes-validations of client/v8.0.0:config/crd that depend on one object only.
RULES = (
    _source("VolumeSnapshot", "volumeSnapshotContentName", "persistentVolumeClaimName"),
    _class("VolumeSnapshot", "volumeSnapshotClassName"),
    _source("VolumeSnapshotContent", "volumeHandle", "snapshotHandle"),
    _reference("VolumeSnapshotContent", "spec.volumeSnapshotRef"),
    _source("VolumeGroupSnapshot", "selector", "volumeGroupSnapshotContentName"),
    _class("VolumeGroupSnapshot", "volumeGroupSnapshotClassName"),
    _source("VolumeGroupSnapshotContent", "volumeHandles", "groupSnapshotHandles"),
    _reference("VolumeGroupSnapshotContent", "volumeGroupSnapshotRef"),
)


def faults(kind: str, objects: Iterable[Mapping[str, Any]]) -> list[InvalidObject]:
    """Return an entry for each object of the kind and each rule that it violates."""
    return [
        InvalidObject(kind, place(obj), rule.message)
        for obj in objects
        for rule in RULES
        if rule.kind == kind and rule.is_broken(_value(obj, rule.path))
    ]


def place(obj: Mapping[str, Any]) -> str:
    metadata = obj["metadata"]
    return "/".join(filter(None, (metadata.get("namespace"), metadata["name"])))


def _value(obj: Mapping[str, Any], path: Iterable[str]) -> Any:
    value: Any = obj
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
