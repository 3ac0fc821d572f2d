# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Ask the API server for missing permissions before the first write, and write the RBAC rules that grant them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .client import Client
from .errors import MissingPermissions

REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


@dataclass(frozen=True)
class Permission:
    """One verb on one resource."""

    verb: str
    group: str
    #: "RESOURCE", "RESOURCE/SUBRESOURCE", or a path of the API server, which begins with "/".
    resource: str
    #: "" for all namespaces and for cluster-wide resources.
    namespace: str = ""
    #: "" for all objects.
    name: str = ""
    #: Another name that suffices, or "". The API server asks for either one.
    or_name: str = ""


def find_missing(client: Client, permissions: Iterable[Permission]) -> list[Permission]:
    """Return the permissions that SelfSubjectAccessReview denies. It writes nothing."""
    return [
        permission
        for permission in dict.fromkeys(permissions)
        if not _allowed(client, permission, permission.name)
        and not (permission.or_name and _allowed(client, permission, permission.or_name))
    ]


def require(
    client: Client, permissions: Iterable[Permission], purpose: str, lacking: Iterable[Permission] = ()
) -> None:
    """Raise MissingPermissions if a permission is missing. The error has the RBAC rule that grants it.

    purpose: what the permissions are for, as an infinitive such as "list Secrets".
    lacking: permissions that are missing, as another request has shown.
    """
    lacking = [*find_missing(client, permissions), *lacking]
    if lacking:
        raise missing_permissions(lacking, purpose)


def missing_permissions(lacking: Sequence[Permission], purpose: str, message: str = "") -> MissingPermissions:
    """Return the error. message: the API server's own message, or ""."""
    names = "; ".join(in_words(permission) for permission in lacking)
    return MissingPermissions(
        f"the permissions to {purpose} are missing: {names}",
        evidence=(message,) if message else (),
        remedy=remedy(lacking),
    )


def remedy(lacking: Sequence[Permission]) -> str:
    """Return the sentence that says how to grant the permissions."""
    return f"grant them, bound to the identity that this task uses, by kubectl apply of: {rule_for(lacking)}"


def rule_for(permissions: Iterable[Permission]) -> str:
    """Return a ClusterRole for cluster-wide permissions and a Role for each namespace, as YAML on one line."""
    by_namespace: dict[str, list[Permission]] = {}
    for permission in permissions:
        by_namespace.setdefault(permission.namespace, []).append(permission)
    roles = [_role(namespace, group) for namespace, group in by_namespace.items()]
    return roles[0] if len(roles) == 1 else "{apiVersion: v1, kind: List, items: [" + ", ".join(roles) + "]}"


def _allowed(client: Client, permission: Permission, name: str) -> bool:
    path = permission.resource
    resource, _slash, subresource = path.partition("/")
    attributes = {
        "verb": permission.verb,
        "group": permission.group,
        "resource": resource,
        "subresource": subresource,
        "namespace": permission.namespace,
        "name": name,
    }
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"nonResourceAttributes": {"path": path, "verb": permission.verb}}
        if path.startswith("/")
        else {
            "resourceAttributes": {key: value for key, value in attributes.items() if value or key == "group"}
        },
    }
    return bool(client.review(REVIEWS, review).get("status", {}).get("allowed"))


def in_words(permission: Permission) -> str:
    """Return a permission such as "list pods in namespace shop"."""
    resource = f"{permission.resource}.{permission.group}" if permission.group else permission.resource
    name = f" {permission.name}" if permission.name else ""
    place = f" in namespace {permission.namespace}" if permission.namespace else ""
    return f"{permission.verb} {resource}{name}{place}"


def _role(namespace: str, permissions: Sequence[Permission]) -> str:
    kind = "Role" if namespace else "ClusterRole"
    place = f", namespace: {_text(namespace)}" if namespace else ""
    verbs: dict[tuple[str, str, str], list[str]] = {}
    for permission in permissions:
        # RBAC cannot limit create to names, because the object does not exist yet. Older servers do not limit list and watch.
        name = "" if permission.verb in ("create", "list", "watch") else permission.name
        verbs.setdefault((permission.group, permission.resource, name), []).append(permission.verb)
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
    """Return a quoted YAML string, because "1" and "on" are names too. Ansible escapes double quotes, so use single ones."""
    return "'" + value.replace("'", "''") + "'"
