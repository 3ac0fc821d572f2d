# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Find the manager that installed an object of a snapshot controller. Pure.

An object of another manager is never written, because the manager would revert the change, or break. The user can accept the
objects of a manager by its key. kubectl's markers do not show the manager: minikube and many scripts leave no other marker. So
the user must accept these objects too. kubespray leaves kubectl's markers and is recognised by further ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..._base import object_managers, owners
from ..._base.accept import Consent
from ..._base.object_managers import (
    BY_HAND,
    FIELD_MANAGER,
    HELM,
    KUBECTL,
    KUBECTL_MARKERS,
    KUBESPRAY,
    MANAGERS,
    NO_OWNERS,
    OPERATOR,
    SYSTEM,
    UNKNOWN,
    UNMARKED,
    Manager,
)

#: The field manager of this collection's apply operations. Certificates and bundles are written with another operation.
MANAGER = object_managers.OWN_MANAGER
#: Key -> manager that installs snapshot controllers.
INSTALLERS = {row.key: row for row in MANAGERS if row.upgrade}


@dataclass(frozen=True)
class Origin:
    """The manager of an object."""

    #: Of INSTALLERS, "" if this collection applied the object last.
    key: str = ""
    #: The manager's markers on the object.
    evidence: tuple[str, ...] = ()
    #: The key of the manager that applied it before this collection and applies it again at its next run, or "".
    earlier: str = ""
    #: The field managers without a row, for UNKNOWN.
    field_managers: tuple[str, ...] = ()
    #: The other managers whose markers the object has. The user accepts each by its own word.
    others: tuple[Origin, ...] = ()

    @property
    def words(self) -> tuple[str, ...]:
        """The words of the option accept that this manager needs."""
        return tuple(f"{FIELD_MANAGER}{name}" for name in self.field_managers) or (self.key,)

    def is_accepted(self, consent: Consent, target: object) -> bool:
        """Return True if the user accepts the objects of this manager, and they can be taken over."""
        is_adoptable = not self.key or bool(INSTALLERS[self.key].adopting)
        return consent.is_complete or (
            is_adoptable and all(consent.covers(word, target) for word in self.words)
        )


OURS = Origin()
_NO_MARKER = Origin(UNMARKED, ("no marker of any manager",))


def find_origin(obj: Mapping[str, Any], *, images: Iterable[str] = (), apis: Iterable[str] = ()) -> Origin:
    """Return the manager of the object, with the others whose markers it has, except Helm. Flux and others install charts.

    Another manager's marker counts even if this collection applied the object, because that manager may apply it again.
    kubectl's marker stays on an accepted object, so it does not count there. kubespray's marker counts again if kubectl wrote
    the object after this collection.

    Args:
        images: of its containers.
        apis: "group/resource/name" of existing objects that belong to a manager.
    """
    metadata = obj.get("metadata") or {}
    first = _find_first(metadata, images, apis)
    others = tuple(
        Origin(owner.word, owner.evidence)
        for owner in owners.owners({"metadata": metadata})
        if owner.word in INSTALLERS.keys() - {first.key, HELM, OPERATOR}
    )
    return replace(first, others=others) if others else first


def _find_first(metadata: Mapping[str, Any], images: Iterable[str], apis: Iterable[str]) -> Origin:
    """Return the first manager of the table whose markers the object has."""
    present = tuple(object_managers.present_markers(metadata, images=images, apis=apis))
    applied = ("manager", MANAGER, "Apply") in present
    for row in INSTALLERS.values():
        evidence = _evidence(row, present)
        if not evidence or (applied and row.key == KUBECTL):
            continue
        if applied and row.key == KUBESPRAY and not _is_overwritten(metadata):
            return Origin("", evidence, KUBESPRAY)
        return Origin(row.key, evidence)
    return OURS if applied else _find_unknown(metadata)


def _find_unknown(metadata: Mapping[str, Any]) -> Origin:
    """Return the field managers without a row that wrote the object, else the origin of an object without a marker."""
    names = {
        str(entry.get("manager") or "")
        for entry in metadata.get("managedFields") or ()
        if not entry.get("subresource")
    }
    unknown = tuple(sorted(names - BY_HAND - SYSTEM - NO_OWNERS - {"", MANAGER}))
    evidence = tuple(f"field manager {name}" for name in unknown)
    return Origin(UNKNOWN, evidence, field_managers=unknown) if unknown else _NO_MARKER


def _is_overwritten(metadata: Mapping[str, Any]) -> bool:
    """Return True if kubectl wrote the object after this collection. The times are RFC 3339 in UTC, so they sort as text."""
    kubectl = {pattern for place, pattern in KUBECTL_MARKERS if place == "manager"}
    entries = metadata.get("managedFields") or ()
    own = [entry.get("time") or "" for entry in entries if entry.get("manager") == MANAGER]
    theirs = [entry.get("time") or "" for entry in entries if entry.get("manager") in kubectl]
    return max(theirs, default="") > max(own, default="")


def _evidence(row: Manager, present: tuple[tuple[str, str, str], ...]) -> tuple[str, ...]:
    """Return the manager's markers on the object, nothing if a required group has none."""
    if not all(object_managers.matching(group, present) for group in row.required):
        return ()
    return object_managers.matching((*row.markers, *row.controller_markers), present)
