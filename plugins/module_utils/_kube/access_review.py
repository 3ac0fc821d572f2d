# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""What the identity may do, asked before anything is written; and the rules that would grant what is missing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .client import Client
from .errors import MissingRights

REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


@dataclass(frozen=True)
class Right:
    """One verb on one resource ("x" or "x/subresource"); cluster-wide without ``namespace``, any object without ``name``.

    or_name: another name that is as good where the API server asks for either.
    """

    verb: str
    group: str
    resource: str
    namespace: str = ""
    name: str = ""
    or_name: str = ""


def missing(client: Client, rights: Iterable[Right]) -> list[Right]:
    """Those of ``rights`` that SelfSubjectAccessReview denies. Writes nothing."""
    return [
        right
        for right in dict.fromkeys(rights)
        if not _allowed(client, right, right.name)
        and not (right.or_name and _allowed(client, right, right.or_name))
    ]


def require(client: Client, rights: Iterable[Right], purpose: str) -> None:
    """Raise MissingRights, with the rule that grants what is missing, ready to apply."""
    lacking = missing(client, rights)
    if lacking:
        raise missing_rights(lacking, purpose)


def missing_rights(lacking: Sequence[Right], purpose: str, message: str = "") -> MissingRights:
    names = "; ".join(_in_words(right) for right in lacking)
    return MissingRights(
        f"the rights to {purpose} are missing: {names}",
        evidence=(message,) if message else (),
        remedy=remedy(lacking),
    )


def remedy(lacking: Sequence[Right]) -> str:
    return f"grant them, bound to the identity that this task uses, by kubectl apply of: {rule_for(lacking)}"


def rule_for(rights: Iterable[Right]) -> str:
    """ClusterRole (cluster-wide rights) and Roles (by namespace), ready for kubectl apply: YAML on one line."""
    by_namespace: dict[str, list[Right]] = {}
    for right in rights:
        by_namespace.setdefault(right.namespace, []).append(right)
    roles = [_role(namespace, group) for namespace, group in by_namespace.items()]
    return roles[0] if len(roles) == 1 else "{apiVersion: v1, kind: List, items: [" + ", ".join(roles) + "]}"


def _allowed(client: Client, right: Right, name: str) -> bool:
    resource, _slash, subresource = right.resource.partition("/")
    attributes = {
        "verb": right.verb,
        "group": right.group,
        "resource": resource,
        "subresource": subresource,
        "namespace": right.namespace,
        "name": name,
    }
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {
            "resourceAttributes": {key: value for key, value in attributes.items() if value or key == "group"}
        },
    }
    return bool(client.review(REVIEWS, review).get("status", {}).get("allowed"))


def _in_words(right: Right) -> str:
    resource = f"{right.resource}.{right.group}" if right.group else right.resource
    name = f" {right.name}" if right.name else ""
    place = f" in namespace {right.namespace}" if right.namespace else ""
    return f"{right.verb} {resource}{name}{place}"


def _role(namespace: str, rights: Sequence[Right]) -> str:
    kind = "Role" if namespace else "ClusterRole"
    place = f", namespace: {_text(namespace)}" if namespace else ""
    verbs: dict[tuple[str, str, str], list[str]] = {}
    for right in rights:
        # RBAC cannot limit create (and list, watch in older servers) to names: the object does not exist yet.
        name = "" if right.verb in ("create", "list", "watch") else right.name
        verbs.setdefault((right.group, right.resource, name), []).append(right.verb)
    rules = (
        _rule(group, resource, name, list(dict.fromkeys(wanted)))
        for (group, resource, name), wanted in verbs.items()
    )
    return (
        f"{{apiVersion: rbac.authorization.k8s.io/v1, kind: {kind}, metadata: {{name: certflow{place}}}, "
        f"rules: [{', '.join(rules)}]}}"
    )


def _rule(group: str, resource: str, name: str, verbs: Sequence[str]) -> str:
    names = f", resourceNames: [{_text(name)}]" if name else ""
    return f"{{apiGroups: [{_text(group)}], resources: [{resource}]{names}, verbs: [{', '.join(verbs)}]}}"


def _text(value: str) -> str:
    """YAML text, whatever it looks like: "1" and "on" are names too. Ansible prints double quotes escaped."""
    return "'" + value.replace("'", "''") + "'"
