# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Who owns which field of an object: what server-side apply needs before it replaces another way of writing. Pure.

Server-side apply removes a field that a manifest no longer has only where its own manager applied it before. What
`kubectl apply`, `kubectl create` and the like wrote stays for ever: arguments, hostNetwork, a conversion stanza. So
their fields are moved to this collection's manager first, as client-go's util/csaupgrade does it for kubectl. Unlike
there, what our manifests never hold (HELD) is not moved to what is applied, which would so remove it.
https://kubernetes.io/docs/reference/using-api/server-side-apply/#upgrading-from-client-side-apply-to-server-side-apply
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ..._kube import json_patch
from ..._managers import LAST_APPLIED

MANAGER = "certflow.kubernetes"

# Field managers of tools that people write manifests with, by hand or from scripts: their fields are moved. Names of
# kubectl: FieldManager in staging/src/k8s.io/kubectl/pkg/cmd; before kubectl 1.20 it was "kubectl" for all commands.
# Left out: kubectl-label and kubectl-annotate (wishes of the cluster's owner that no manifest competes with) and
# kubectl-rollout (its annotation in a template restarts pods when it comes and when it goes).
BY_HAND: frozenset[str] = frozenset(
    (
        "kubectl",
        "kubectl-client-side-apply",
        "kubectl-create",
        "kubectl-edit",
        "kubectl-last-applied",
        "kubectl-patch",
        "kubectl-replace",
        "kubectl-set",
        "before-first-apply",  # what the API server calls the fields of an object without recorded managers
        "OpenAPI-Generator",  # the Python client, so kubernetes.core without server-side apply
    )
)

# Field managers of deployers (_writers has their other marks): moved where they are taken over, never else.
DEPLOYERS: frozenset[str] = frozenset(
    (
        "helm",
        "eks",
        "argocd-controller",
        "argocd-application-controller",
        "kustomize-controller",
        "helm-controller",
        "flux",
        "rancher",
        "cluster-csi-snapshot-controller-operator",
    )
)

# What is only written by JSON patch. A caBundle comes with a certificate; a conversion stanza may be replaced as a whole
# only, which an apply does not do (kubernetes: a caBundle in it is "Forbidden" once the rest of it is gone).
HELD = ("f:caBundle", "f:conversion")

Fields = dict[str, Any]


def movable(*, take_over: bool) -> frozenset[str]:
    """Return the managers whose fields are moved; take_over: those of deployers too."""
    return BY_HAND | DEPLOYERS if take_over else BY_HAND


def migration(obj: Mapping[str, Any], managers: Collection[str] = BY_HAND) -> list[dict[str, Any]]:
    """Return the JSON patch that moves the fields of other managers to ours; [] where there is nothing to move.

    It changes who owns what, and no field but the annotation of `kubectl apply`, which would be wrong from then on. It
    carries the resourceVersion, so a stale one is answered with 409.
    """
    metadata = obj["metadata"]
    before = metadata.get("managedFields") or []
    after = moved(before, obj["apiVersion"], managers)
    stale = LAST_APPLIED in (metadata.get("annotations") or {})
    if after == before and not stale:
        return []
    annotation = f"/metadata/annotations/{json_patch.escape(LAST_APPLIED)}"
    removal = [json_patch.remove(annotation)] if stale else []
    move = [json_patch.replace("/metadata/managedFields", after)] if after != before else []
    return [json_patch.at_version(metadata["resourceVersion"]), *removal, *move]


def moved(
    entries: Sequence[Mapping[str, Any]], api_version: str, managers: Collection[str] = BY_HAND
) -> list[Mapping[str, Any]]:
    """Return managedFields after the move, in the order that they have; the same list where there is nothing to move."""
    old = [entry for entry in entries if is_movable(entry, managers)]
    if not old:
        return list(entries)
    # Entries of another version of the kind are of one that is served no longer: the API server drops them itself.
    fields = union(entry.get("fieldsV1") or {} for entry in old if entry.get("apiVersion") == api_version)
    applied, kept = split(union([fields, own_fields(entries)]))
    rest = [entry for entry in entries if entry not in old and not _is_own(entry, "Apply")]
    if kept:
        kept = union([kept, _fields_of(rest, "Update")])
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
    """Return whether the fields of this entry of managedFields are to be ours. Those of a subresource never are."""
    return entry.get("manager") in managers and not entry.get("subresource")


def own_fields(entries: Iterable[Mapping[str, Any]]) -> Fields:
    """Return what our manager has applied, as fieldsV1; {} where it never has."""
    return _fields_of(entries, "Apply")


def left_to_others(entries: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the fields that others own and we do not, as "MANAGER: metadata.labels.team"; status is not our business."""
    entries = [entry for entry in entries if not entry.get("subresource")]
    own = {path for entry in entries if entry.get("manager") == MANAGER for path in _paths(entry["fieldsV1"])}
    found = {
        f"{entry['manager']}: {path}"
        for entry in entries
        for path in _paths(entry.get("fieldsV1") or {})
        if path not in own and not path.startswith("status")
    }
    return tuple(sorted(found))


def union(sets: Iterable[Mapping[str, Any]]) -> Fields:
    """Return the union of sets of fields (fieldsV1: a tree of "f:NAME", "k:{KEYS}", "v:VALUE" and ".")."""
    result: Fields = {}
    for fields in sets:
        for key, below in fields.items():
            result[key] = union([result.get(key, {}), below])
    return result


def split(fields: Mapping[str, Any]) -> tuple[Fields, Fields]:
    """Divide a set into what a manifest of ours may hold, and HELD with the path that leads to each."""
    rest: Fields = {}
    held: Fields = {}
    for key, below in fields.items():
        if key in HELD:
            held[key] = below
            continue
        without, found = split(below)
        if found:
            held[key] = found
        if without or not found:
            rest[key] = without
    return rest, held


def without_moved(
    answer: Mapping[str, Any], before: Mapping[str, Any], managers: Collection[str] = BY_HAND
) -> dict[str, Any]:
    """Return what an apply would leave if the fields of others had been moved before it.

    ``answer``: what a dry run of the apply gave without the move; ``before``: the object as it stands. A dry run writes
    nothing, so the move and the apply after it cannot be tried one after the other.
    """
    entries = answer["metadata"].get("managedFields") or []
    # The answer has what the apply noted itself (before-first-apply), and no more what it took from others.
    both = [*entries, *(before["metadata"].get("managedFields") or [])]
    old = [entry for entry in both if is_movable(entry, managers)]
    # Of what is held, the whole path to it stays: an Update entry of ours will own it.
    gone, kept = split(
        union(entry.get("fieldsV1") or {} for entry in old if entry.get("apiVersion") == answer["apiVersion"])
    )
    # The name and the like are in no set, and metadata is never empty.
    stay = union(
        [
            {"f:metadata": {}},
            kept,
            *(entry.get("fieldsV1") or {} for entry in entries if not is_movable(entry, managers)),
        ]
    )
    result: dict[str, Any] = _pruned(answer, gone, stay)
    annotations = result["metadata"].get("annotations")
    if annotations:
        annotations.pop(LAST_APPLIED, None)
    return result


def _pruned(value: Any, gone: Mapping[str, Any], stay: Mapping[str, Any]) -> Any:
    """The value without what ``gone`` names and ``stay`` does not; a named field goes with all that is below it."""
    if isinstance(value, Mapping):
        return {
            key: _pruned(below, gone.get(f"f:{key}", {}), stay.get(f"f:{key}", {}))
            for key, below in value.items()
            if f"f:{key}" not in gone or f"f:{key}" in stay
        }
    if isinstance(value, list):
        return [
            _pruned(item, gone.get(key, {}), stay.get(key, {}))
            for item in value
            for key in [_key(item, gone)]
            if key not in gone or key in stay
        ]
    return value


def _paths(fields: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """The leaves of a set of fields, for readers."""
    below = {key: rest for key, rest in fields.items() if key != "."}
    if not below:
        yield above
    for key, rest in below.items():
        kind, _colon, name = key.partition(":")
        yield from _paths(rest, f"{above}{'.' if above else ''}{name}" if kind == "f" else f"{above}[{name}]")


def _key(item: Any, fields: Mapping[str, Any]) -> str:
    """The key under which a set of fields knows the item of a list, "" where it does not."""
    return next((key for key in fields if _selects(key, item)), "")


def _selects(key: str, item: Any) -> bool:
    kind, _colon, text = key.partition(":")
    if kind not in ("k", "v"):
        return False
    wanted = json.loads(text)
    if kind == "v" or not isinstance(item, Mapping):
        return bool(kind == "v" and item == wanted)
    return all(item.get(name) == value for name, value in wanted.items())


def _fields_of(entries: Iterable[Mapping[str, Any]], operation: str) -> Fields:
    return union(entry.get("fieldsV1") or {} for entry in entries if _is_own(entry, operation))


def _is_own(entry: Mapping[str, Any], operation: str) -> bool:
    return (
        entry.get("manager") == MANAGER
        and entry.get("operation") == operation
        and not entry.get("subresource")
    )
