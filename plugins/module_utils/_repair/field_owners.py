# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Decide who owns a field that a repair would write. Pure.

The owner of the field counts, not the owner of the object. Helm, Argo CD and Flux mark every object that they install, even if
their manifest leaves the caBundle to another program. An owner is

- a program that writes a caBundle at any time, by its marks on the object,
- the field manager of the field, if it is neither this collection nor a tool that a person runs,
- `kubectl apply`, if the manifest that it keeps in an annotation lists the field.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from .._base import object_managers
from .._base.accept import Consent
from .._base.object_managers import BY_HAND, FIELD_MANAGER, LAST_APPLIED, MANAGERS, OWN_MANAGER
from .._webhook import bundle_targets
from .._webhook.bundle_targets import Target
from .._webhook.service_callers import field_path, find_field_managers, owns
from .repair_model import Refusal

Object = Mapping[str, Any]
#: The field manager whose manifest LAST_APPLIED keeps.
_APPLIES = "kubectl-client-side-apply"
#: Field managers that are no marks of an object, because they stay when the program has left it -> the words of their programs.
_STAYING = {"cert-manager-cainjector": "cert-manager"}


def find_owner(
    target: Target,
    obj: Object,
    webhook: str,
    consent: Consent,
    *,
    also: tuple[str, ...] = (),
    only_ours: bool = False,
) -> Refusal | None:
    """Return the refusal for a caBundle of another owner that the user did not accept, None if it may be written.

    also: the path in managedFields of another field that the same write changes, () for none.
    only_ours: True if a tool that a person runs counts as another owner.
    """
    owners = dict(_owners(target, obj, webhook, also, frozenset() if only_ours else BY_HAND))
    foreign = {word: line for word, line in owners.items() if not consent.covers(word, target)}
    if not foreign:
        return None
    place = str(target).replace(" ", "/", 1)
    items = ", ".join(f"{{'{word}': [{place}]}}" for word in foreign)
    return Refusal(
        "owned-by-another",
        f"the field belongs to {' and '.join(foreign)}",
        f"Repair the field with its owner. To let this collection write it, set accept: [{items}]",
        tuple(foreign.values()),
    )


def _owners(
    target: Target, obj: Object, webhook: str, also: tuple[str, ...], by_hand: frozenset[str]
) -> Iterator[tuple[str, str]]:
    """Yield the word of the option accept for each owner, with the evidence. by_hand: the field managers that do not count as owners."""
    writer = bundle_targets.find_bundle_writer(target, obj)
    if writer:
        yield writer.manager.key, "; ".join(writer.evidence)
    applied = _applied_fields(obj)
    for path in filter(None, (field_path(target, webhook), also)):
        if owns(applied, path):
            yield f"{FIELD_MANAGER}{_APPLIES}", f"the annotation {LAST_APPLIED} lists {path[-1][2:]}"
        for name, operation in find_field_managers(obj, path):
            is_person = name in by_hand and operation != "Apply"
            if name != OWN_MANAGER and not is_person:
                yield _word(name), f"the field manager {name} owns {path[-1][2:]}"


def _word(name: str) -> str:
    """Return the word of the option accept for a field manager: that of its row, or its name."""
    present = [("manager", name, "")]
    rows = (row for row in MANAGERS if row.bundle and row.for_secrets)
    keys = (
        row.key for row in rows if object_managers.matching((*row.markers, *row.controller_markers), present)
    )
    return next(keys, _STAYING.get(name, f"{FIELD_MANAGER}{name}"))


def _applied_fields(obj: Object) -> Mapping[str, Any]:
    """Return the fields of the manifest in an annotation, {} without one that can be read. Every client may have written it."""
    try:
        return _as_fields(json.loads((obj["metadata"].get("annotations") or {}).get(LAST_APPLIED) or "{}"))
    except (ValueError, RecursionError):
        return {}


def _as_fields(value: Any) -> dict[str, Any]:
    """Return a manifest in the form of managedFields, with the names of the items of lists."""
    if isinstance(value, Mapping):
        return {f"f:{key}": _as_fields(part) for key, part in value.items()}
    if isinstance(value, list):
        named = (part for part in value if isinstance(part, Mapping) and isinstance(part.get("name"), str))
        return {
            "k:" + json.dumps({"name": part["name"]}, separators=(",", ":"), ensure_ascii=False): _as_fields(
                part
            )
            for part in named
        }
    return {}
