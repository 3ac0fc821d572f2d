# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Ask the API server for missing permissions before the first write, and name the roles that grant them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .._base.text import PERMISSIONS_PAGE
from .client import Client
from .errors import MissingPermissions

FOLDER = "docs/rbac"
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
    """Raise MissingPermissions if a permission is missing. The error names it.

    purpose: what the permissions are for, as an infinitive such as "list Secrets".
    lacking: permissions that are missing, as another request has shown.
    """
    lacking = [*find_missing(client, permissions), *lacking]
    if lacking:
        raise missing_permissions(lacking, purpose)


def missing_permissions(lacking: Sequence[Permission], purpose: str, message: str = "") -> MissingPermissions:
    """Return the error. The operation adds the roles of the task to its remedy. message: the API server's own message, or ""."""
    names = "; ".join(in_words(permission) for permission in lacking)
    return MissingPermissions(
        f"the permissions to {purpose} are missing: {names}",
        evidence=(message,) if message else (),
        remedy="Grant them to the identity of this task",
    )


def grant(roles: Sequence[str]) -> str:
    """Return the sentence that says how to grant roles of docs/rbac. The files have tests, and the installed collection has them."""
    if not roles:
        return f"Grant the permissions of {PERMISSIONS_PAGE}"
    files = " ".join(f"-f {FOLDER}/{role}.yaml" for role in roles)
    return (
        f"In the directory of the collection, run kubectl apply {files}. Then bind {_listed(roles)} to the identity of this task, "
        f"such as kubectl create clusterrolebinding certflow-{roles[0]} --clusterrole=certflow-{roles[0]} --user=NAME"
    )


def _listed(roles: Sequence[str]) -> str:
    return " and ".join(f"the ClusterRole certflow-{role}" for role in roles)


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
