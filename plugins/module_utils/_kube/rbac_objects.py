# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Roles and bindings as data: the wanted objects, and the difference to what exists. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from .._errors import CertflowError
from .._managers import OWN_MANAGER, find_managers

GROUP = "rbac.authorization.k8s.io"
VERSION = f"{GROUP}/v1"
LABELS = {"app.kubernetes.io/managed-by": OWN_MANAGER}
ROLE_KINDS = ("ClusterRole", "Role")
SUBJECT_KINDS = ("User", "Group", "ServiceAccount")
CREATED, CHANGED, DELETED, UNCHANGED = "created", "changed", "deleted", "unchanged"

Object = Mapping[str, Any]


@dataclass(frozen=True)
class RbacChange:
    """A role or a binding, as it is and as it is wanted."""

    kind: str
    name: str
    #: "" for an object of the cluster.
    namespace: str
    #: The object that exists, None if it does not.
    before: Object | None
    #: The wanted object, None for none.
    after: Object | None

    @property
    def path(self) -> str:
        """Return the path of the object in the API."""
        return path_of(self.kind, self.name, self.namespace)

    @property
    def action(self) -> str:
        """Return what a run does with it."""
        if self.after is None:
            return DELETED if self.before else UNCHANGED
        if self.before is None:
            return CREATED
        return UNCHANGED if content(self.before) == content(self.after) else CHANGED

    @property
    def is_due(self) -> bool:
        """Return True if the object is to be written or deleted."""
        return self.action != UNCHANGED

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


def path_of(kind: str, name: str, namespace: str) -> str:
    """Return the path of a role or binding. namespace: "" for an object of the cluster."""
    place = f"/namespaces/{quote(namespace, safe='')}" if namespace else ""
    return f"/apis/{VERSION}{place}/{kind.lower()}s/{quote(name, safe=':')}"


def content(obj: Object) -> dict[str, Any]:
    """Return the part of a role or binding that gives permissions."""
    return {key: obj[key] for key in ("rules", "roleRef", "subjects") if obj.get(key)}


def role_from(given: Object, signers: Sequence[str]) -> dict[str, Any]:
    """Return the role of a manifest, with the collection's label. Raises CertflowError.

    signers: the names for rules of the resource signers. If empty, those of the manifest stay.
    """
    kind, rules = given.get("kind"), given.get("rules")
    metadata = given["metadata"] if isinstance(given.get("metadata"), Mapping) else {}
    name, namespace = metadata.get("name"), metadata.get("namespace")
    is_named = isinstance(name, str) and name and isinstance(namespace or "", str)
    has_rules = isinstance(rules, list) and all(isinstance(rule, Mapping) for rule in rules)
    if kind not in ROLE_KINDS or not is_named or not has_rules:
        raise CertflowError(
            f"an entry of roles is not a role: kind {kind!r}, name {name!r}",
            remedy="Set manifests of the kind ClusterRole or Role, each with metadata.name and rules",
        )
    if (kind == "Role") != bool(namespace):
        needs = "needs metadata.namespace" if kind == "Role" else "has metadata.namespace"
        raise CertflowError(f"the {kind} {name} {needs}", remedy="Correct the manifest")
    place = {"namespace": namespace} if namespace else {}
    return {
        "apiVersion": VERSION,
        "kind": kind,
        "metadata": {"name": name, **place, "labels": {**(metadata.get("labels") or {}), **LABELS}},
        "rules": [_with_signers(rule, signers) for rule in given["rules"]],
    }


def _with_signers(rule: Object, signers: Sequence[str]) -> dict[str, Any]:
    is_named = "signers" in (rule.get("resources") or ()) and rule.get("resourceNames")
    return {**rule, "resourceNames": list(signers)} if signers and is_named else dict(rule)


def subject_from(given: Object) -> dict[str, Any]:
    """Return the subject of a binding. Raises CertflowError if the namespace does not fit to the kind."""
    kind, name, namespace = given["kind"], given["name"], given.get("namespace")
    if (kind == "ServiceAccount") != bool(namespace):
        needs = "needs a namespace" if kind == "ServiceAccount" else "has no namespace"
        raise CertflowError(f"the subject {kind} {name} {needs}", remedy="Correct the entry of subjects")
    if kind == "ServiceAccount":
        return {"kind": kind, "name": name, "namespace": namespace}
    return {"apiGroup": GROUP, "kind": kind, "name": name}


def binding_for(role: Object, subject: Object) -> dict[str, Any]:
    """Return the binding of one role to one subject.

    Each subject has its own binding, because the list of subjects is replaced as a whole by each write.
    """
    metadata = role["metadata"]
    place = {"namespace": metadata["namespace"]} if "namespace" in metadata else {}
    return {
        "apiVersion": VERSION,
        "kind": f"{role['kind']}Binding",
        "metadata": {"name": f"{metadata['name']}:{_slug(subject)}", **place, "labels": dict(LABELS)},
        "roleRef": {"apiGroup": GROUP, "kind": role["kind"], "name": metadata["name"]},
        "subjects": [dict(subject)],
    }


def _slug(subject: Object) -> str:
    """Return the subject as a part of an object's name. Its name may hold characters that an object's name must not have."""
    text = ":".join(filter(None, (subject["kind"].lower(), subject.get("namespace"), subject["name"])))
    safe = re.sub(r"[^A-Za-z0-9:._@-]", "-", text)
    return safe if safe == text else f"{safe}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def check_owner(change: RbacChange) -> None:
    """Raise CertflowError if the existing object belongs to another manager."""
    metadata = (change.before or {}).get("metadata") or {}
    labels = metadata.get("labels") or {}
    if all(labels.get(key) == value for key, value in LABELS.items()):
        return
    found = find_managers(metadata)
    owner = found[0].manager.name if found else "another client"
    raise CertflowError(
        f"{change} exists with other content, and {owner} manages it",
        code="owned-by-another",
        evidence=[text for one in found for text in one.evidence]
        or [f"it lacks the label {next(iter(LABELS))}: {OWN_MANAGER}"],
        remedy="Set take_over: true to write it, or give the role of the manifest another name",
    )


def escalation_evidence(message: str) -> list[str]:
    """Return the permissions that the API server names as missing, [] if the message is not about an escalation."""
    _head, is_escalation, missing = message.partition("not currently held:")
    return [line.strip() for line in missing.splitlines() if line.strip()] if is_escalation else []


def diff(changes: Iterable[RbacChange]) -> dict[str, Any]:
    """Return the changes for --diff."""
    due = [change for change in changes if change.is_due]
    return {
        "before": {str(one): content(one.before) if one.before else None for one in due},
        "after": {str(one): content(one.after) if one.after else None for one in due},
    }
