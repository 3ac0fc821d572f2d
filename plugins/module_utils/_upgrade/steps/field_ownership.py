# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Move the ownership of fields to this collection's field manager before a server-side apply. Pure.

Server-side apply removes a field that a manifest no longer has only if the same manager applied it before. Fields that
`kubectl apply` or `kubectl create` wrote would stay: arguments, hostNetwork, a conversion stanza. So their fields are moved to
this collection's manager first, as client-go's util/csaupgrade does for kubectl. Fields that the manifests of this collection
never have (HELD) are not moved to the applied fields, because the apply would remove them.
https://kubernetes.io/docs/reference/using-api/server-side-apply/#upgrading-from-client-side-apply-to-server-side-apply
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from ..._base.accept import Consent
from ..._base.object_managers import BY_HAND, DEPLOYERS, LAST_APPLIED, OWN_MANAGER
from ..._kube import json_patch

MANAGER = OWN_MANAGER

# Fields that are written only by JSON patch. A caBundle comes with a certificate. A conversion stanza can only be replaced as
# a whole, which an apply does not do: Kubernetes answers "Forbidden" for a caBundle without the rest of the stanza.
HELD = ("f:caBundle", "f:conversion")

Fields = dict[str, Any]


def managers_to_move(consent: Consent, target: object) -> frozenset[str]:
    """Return the managers whose fields of the object are moved.

    If the user accepts a manager for this object, they include those of deployment tools. target: as for Consent.covers.
    """
    return (
        BY_HAND if not consent.has_managers(target) else BY_HAND | DEPLOYERS | consent.field_managers(target)
    )


def patch_to_move(obj: Mapping[str, Any], managers: Collection[str] = BY_HAND) -> list[dict[str, Any]]:
    """Return the JSON patch that moves the fields of other managers to ours, [] if there is nothing to move.

    It changes the owners of fields. The only field that it changes is the annotation of `kubectl apply`, which would be wrong
    afterwards. It carries the resourceVersion, so the API server answers 409 if the object has changed.
    """
    metadata = obj["metadata"]
    before = metadata.get("managedFields") or []
    after = move_fields(before, obj["apiVersion"], managers)
    stale = LAST_APPLIED in (metadata.get("annotations") or {})
    if after == before and not stale:
        return []
    annotation = f"/metadata/annotations/{json_patch.escape(LAST_APPLIED)}"
    removal = [json_patch.remove(annotation)] if stale else []
    move = [json_patch.replace("/metadata/managedFields", after)] if after != before else []
    return [json_patch.at_version(metadata["resourceVersion"]), *removal, *move]


def move_fields(
    entries: Sequence[Mapping[str, Any]], api_version: str, managers: Collection[str] = BY_HAND
) -> list[Mapping[str, Any]]:
    """Return managedFields after the move, in their order. Return them unchanged if there is nothing to move."""
    old = [entry for entry in entries if is_movable(entry, managers)]
    if not old:
        return list(entries)
    # The API server drops entries of another version of the kind, which it no longer serves.
    fields = unite(entry.get("fieldsV1") or {} for entry in old if entry.get("apiVersion") == api_version)
    applied, kept = split_held(unite([fields, own_fields(entries)]))
    rest = [entry for entry in entries if entry not in old and not _is_own(entry, "Apply")]
    if kept:
        kept = unite([kept, _fields_of(rest, "Update")])
        rest = [entry for entry in rest if not _is_own(entry, "Update")]
    template = {
        "manager": MANAGER,
        "apiVersion": api_version,
        "fieldsType": "FieldsV1",
        "time": max(str(entry.get("time") or "") for entry in old) or None,
    }
    added = [
        {**template, "operation": operation, "fieldsV1": owned}
        for operation, owned in (("Apply", applied), ("Update", kept))
        if owned
    ]
    return [*added, *rest]


def is_movable(entry: Mapping[str, Any], managers: Collection[str]) -> bool:
    """Return True if the fields of this entry of managedFields are moved. Those of a subresource never are."""
    return entry.get("manager") in managers and not entry.get("subresource")


def own_fields(entries: Iterable[Mapping[str, Any]]) -> Fields:
    """Return the fields that our manager has applied, as fieldsV1, {} if it has applied no field."""
    return _fields_of(entries, "Apply")


def unite(sets: Iterable[Mapping[str, Any]]) -> Fields:
    """Return the union of sets of fields (fieldsV1: a tree of "f:NAME", "k:{KEYS}", "v:VALUE" and ".")."""
    result: Fields = {}
    for fields in sets:
        for key, below in fields.items():
            result[key] = unite([result.get(key, {}), below])
    return result


def split_held(fields: Mapping[str, Any]) -> tuple[Fields, Fields]:
    """Split a set into the fields that our manifests may have, and those of HELD with their paths."""
    rest: Fields = {}
    held: Fields = {}
    for key, below in fields.items():
        if key in HELD:
            held[key] = below
            continue
        without, found = split_held(below)
        if found:
            held[key] = found
        if without or not found:
            rest[key] = without
    return rest, held


def without_moved_fields(
    answer: Mapping[str, Any], before: Mapping[str, Any], managers: Collection[str] = BY_HAND
) -> dict[str, Any]:
    """Return the object as an apply would leave it after the move.

    A dry run writes nothing, so the move and the apply after it cannot be tried one after the other.

    Args:
        answer: the result of a dry run of the apply without the move.
        before: the current object.
    """
    entries = answer["metadata"].get("managedFields") or []
    # The answer has the entries that the apply added (before-first-apply), but not the fields that it took from others.
    both = [*entries, *(before["metadata"].get("managedFields") or [])]
    old = [entry for entry in both if is_movable(entry, managers)]
    # The whole path to a held field stays, because an Update entry of ours will own it.
    gone, kept = split_held(
        unite(entry.get("fieldsV1") or {} for entry in old if entry.get("apiVersion") == answer["apiVersion"])
    )
    # Fields such as the name are in no set, and metadata is never empty.
    stay = unite(
        [
            {"f:metadata": {}},
            kept,
            *(entry.get("fieldsV1") or {} for entry in entries if not is_movable(entry, managers)),
        ]
    )
    result: dict[str, Any] = _prune(answer, gone, stay)
    annotations = result["metadata"].get("annotations")
    if annotations:
        annotations.pop(LAST_APPLIED, None)
    return result


def _prune(value: Any, gone: Mapping[str, Any], stay: Mapping[str, Any]) -> Any:
    """Return the value without the fields that are in ``gone`` and not in ``stay``. A field is removed with all its children."""
    if isinstance(value, Mapping):
        return {
            key: _prune(below, gone.get(f"f:{key}", {}), stay.get(f"f:{key}", {}))
            for key, below in value.items()
            if f"f:{key}" not in gone or f"f:{key}" in stay
        }
    if isinstance(value, list):
        return [
            _prune(item, gone.get(key, {}), stay.get(key, {}))
            for item in value
            for key in [next((key for key in gone if _selects(key, item)), "")]
            if key not in gone or key in stay
        ]
    return value


def _selects(key: str, item: Any) -> bool:
    kind, _colon, text = key.partition(":")
    if kind not in ("k", "v"):
        return False
    wanted = json.loads(text)
    if kind == "v" or not isinstance(item, Mapping):
        return bool(kind == "v" and item == wanted)
    return all(item.get(name) == value for name, value in wanted.items())


def _fields_of(entries: Iterable[Mapping[str, Any]], operation: str) -> Fields:
    return unite(entry.get("fieldsV1") or {} for entry in entries if _is_own(entry, operation))


def _is_own(entry: Mapping[str, Any], operation: str) -> bool:
    return (
        entry.get("manager") == MANAGER
        and entry.get("operation") == operation
        and not entry.get("subresource")
    )
