# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Judge who owns an object or a field, and if the user accepts that the collection writes it. Pure.

The owner of an object is known by its marks. The owner of a field counts for a write that only touches this field: Helm, Argo CD
and Flux mark every object that they install, even if their manifest leaves the field to another program. Each kind of object
adds its own rule about content, such as the names in a certificate.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .accept import Consent
from .object_managers import (
    BY_HAND,
    FIELD_MANAGER,
    LAST_APPLIED,
    MANAGERS,
    OWN_MANAGER,
    UNKNOWN,
    Manager,
    matching,
    present_markers,
)

Object = Mapping[str, Any]
#: The path of a field, as managedFields has it.
FieldPath = tuple[str, ...]
#: The field manager whose manifest LAST_APPLIED keeps.
_APPLIES = "kubectl-client-side-apply"
_ROWS = {row.key: row for row in MANAGERS}


@dataclass(frozen=True)
class Owner:
    """Another owner of an object or of a field."""

    manager: Manager
    #: Its word in the option accept.
    word: str
    #: Its marks as text: "annotation KEY: VALUE", "field manager NAME".
    evidence: tuple[str, ...]
    #: True for the field manager of a tool that a person runs, without server-side apply.
    is_person: bool = False


@dataclass(frozen=True)
class Refused:
    """The owners of an object whose words the user does not accept."""

    target: object
    owners: tuple[Owner, ...]

    @property
    def cause(self) -> str:
        """Return a clause that names the owners and their marks."""
        names = " and ".join(owner.manager.name for owner in self.owners)
        return f"{self.target} belongs to {names} ({'; '.join(self.evidence)})"

    @property
    def evidence(self) -> tuple[str, ...]:
        return tuple(mark for owner in self.owners for mark in owner.evidence)

    @property
    def words(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(owner.word for owner in self.owners))

    @property
    def option(self) -> str:
        """Return the option that accepts the owners for this object."""
        return accept_option(self.words, self.target)


def accept_option(words: Iterable[str], target: object) -> str:
    """Return the text of the option that accepts the words for one object. target: as for Consent.covers."""
    place = str(target).replace(" ", "/", 1)
    items = (f"{{{word!r}: [{place}]}}" if ":" in word else f"{{{word}: [{place}]}}" for word in words)
    return f"accept: [{', '.join(items)}]"


def owners(obj: Object, field: FieldPath | None = None) -> tuple[Owner, ...]:
    """Return the other owners of an object by its marks, or those of one of its fields."""
    return tuple(_owners_of_object(obj["metadata"]) if field is None else _owners_of_field(obj, field))


def refuse(found: Iterable[Owner], consent: Consent, target: object) -> Refused | None:
    """Return the owners that the consent does not cover, None if the object or the field may be written."""
    foreign = tuple(owner for owner in found if not consent.covers(owner.word, target))
    return Refused(target, foreign) if foreign else None


def field_managers(obj: Object, field: FieldPath) -> Iterator[tuple[str, str]]:
    """Yield name and operation (Apply or Update) of the managers of a field."""
    yield from (
        (str(entry.get("manager", "")), str(entry.get("operation", "")))
        for entry in obj["metadata"].get("managedFields") or ()
        if has_field(entry.get("fieldsV1") or {}, field)
    )


def has_field(fields: Mapping[str, Any], field: FieldPath) -> bool:
    """Return True if an entry of managedFields has the field."""
    part: Any = fields
    for name in field:
        if not isinstance(part, Mapping) or name not in part:
            return False
        part = part[name]
    return True


def _owners_of_object(metadata: Mapping[str, Any]) -> Iterator[Owner]:
    # An annotation or label without a value asks no manager to write the object.
    present = [
        marker
        for marker in present_markers(metadata)
        if marker[2] or marker[0] not in ("annotation", "label")
    ]
    for row in MANAGERS:
        evidence = matching(row.markers, present) if row.for_secrets else ()
        if evidence:
            yield Owner(row, row.key, evidence)


def _owners_of_field(obj: Object, field: FieldPath) -> Iterator[Owner]:
    """Yield the field managers of the field, and kubectl if the manifest that it keeps in an annotation lists the field."""
    name_of_field = field[-1].partition(":")[2]
    if has_field(_applied_fields(obj), field):
        mark = f"the annotation {LAST_APPLIED} lists {name_of_field}"
        yield Owner(_ROWS[UNKNOWN], f"{FIELD_MANAGER}{_APPLIES}", (mark,))
    for name, operation in field_managers(obj, field):
        if name != OWN_MANAGER:
            row = _row_of_field_manager(name)
            word = f"{FIELD_MANAGER}{name}" if row.key == UNKNOWN else row.key
            mark = f"the field manager {name} owns {name_of_field}"
            yield Owner(row, word, (mark,), name in BY_HAND and operation != "Apply")


def _row_of_field_manager(name: str) -> Manager:
    """Return the row of a program that writes caBundles or their objects under this name, or the row for unknown programs."""
    return next((row for row in MANAGERS if row.bundle and name in row.field_managers), _ROWS[UNKNOWN])


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
