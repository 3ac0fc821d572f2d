# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Compare two states of an object by meaning: without times, counters and certificate bytes. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..._base.object_managers import LAST_APPLIED

# Fields of metadata that the API server sets, and annotations of the tools that wrote the object.
NOISE = ("uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "selfLink")
NOISY_ANNOTATIONS = (LAST_APPLIED, "deployment.kubernetes.io/revision")
# Fields that are shown by a fingerprint, because their values are long.
FINGERPRINTED = ("caBundle", "openAPIV3Schema")
# The keys that identify an item of a list, in the order in which they are tried. They are those of the API's list types.
ITEM_KEYS = (("name",), ("mountPath",), ("containerPort", "protocol"), ("port", "protocol"))


@dataclass(frozen=True)
class FieldChange:
    """A changed field."""

    #: Such as spec.template.spec.containers[webhook].args.
    path: str
    #: None if the field does not exist. The same holds for ``after``.
    before: Any
    after: Any


def meaning(obj: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the object without the fields that every write changes, {} for None."""
    if obj is None:
        return {}
    metadata = {key: value for key, value in obj["metadata"].items() if key not in NOISE}
    annotations = {
        key: value
        for key, value in (metadata.pop("annotations", None) or {}).items()
        if key not in NOISY_ANNOTATIONS
    }
    if annotations:
        metadata["annotations"] = annotations
    return {**{key: value for key, value in obj.items() if key != "status"}, "metadata": metadata}


def changes(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> tuple[FieldChange, ...]:
    """Return the fields that differ in meaning. None stands for an object that does not exist."""
    return tuple(_differences("", meaning(before), meaning(after)))


def _differences(path: str, before: Any, after: Any) -> Iterator[FieldChange]:
    if before == after:
        return
    if path.rpartition(".")[2] in FINGERPRINTED:
        yield FieldChange(path, _fingerprint(before), _fingerprint(after))
        return
    left, right = _members(before), _members(after)
    if left is None or right is None:
        yield FieldChange(path, before, after)
        return
    for key in dict.fromkeys((*left, *right)):
        below = f"{path}{key}" if key.startswith("[") or not path else f"{path}.{key}"
        yield from _differences(below, left.get(key), right.get(key))


def _members(value: Any) -> dict[str, Any] | None:
    """Return the parts of a value by name, {} for None, and None for a value without named parts."""
    if value is None:
        return {}
    if isinstance(value, Mapping):
        return {str(key): item for key, item in value.items()}
    return _items(value) if isinstance(value, Sequence) and not isinstance(value, str) else None


def _items(values: Sequence[Any]) -> dict[str, Any] | None:
    if not values or not all(isinstance(item, Mapping) for item in values):
        return None
    for keys in ITEM_KEYS:
        names = [",".join(str(item.get(key, "")) for key in keys) for item in values]
        if all(item.get(keys[0]) for item in values) and len(set(names)) == len(names):
            return {f"[{name.rstrip(',')}]": item for name, item in zip(names, values)}
    return None


def _fingerprint(value: Any) -> str | None:
    digest = hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
    return None if value is None else f"sha256:{digest[:16]}"
