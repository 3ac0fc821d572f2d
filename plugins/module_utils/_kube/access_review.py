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
#: A file with a Role beside its ClusterRole -> the namespace of the Role.
NAMESPACES = {"snapshot-controller": "kube-system"}
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


def grant(*files: str) -> str:
    """Return the commands that apply files of docs/rbac and bind their roles. The installed collection has the files."""
    commands = [
        f"kubectl apply {' '.join(f'-f {FOLDER}/{name}.yaml' for name in files)}",
        *(
            f"kubectl create clusterrolebinding certflow-{name} --clusterrole=certflow-{name} SUBJECT"
            for name in files
        ),
        *(
            f"kubectl create rolebinding certflow-{name} -n {NAMESPACES[name]} --role=certflow-{name} SUBJECT"
            for name in files
            if name in NAMESPACES
        ),
    ]
    return (
        f"As an administrator of this cluster, in the directory of the collection, run {' && '.join(commands)}. SUBJECT is the identity of this task: "
        f"--serviceaccount=NAMESPACE:NAME, --user=NAME, or --group=NAME, on Amazon EKS a group of the access entry ({PERMISSIONS_PAGE})"
    )


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
    spec: dict[str, dict[str, str]]
    if path.startswith("/"):
        spec = {"nonResourceAttributes": {"path": path, "verb": permission.verb}}
    else:
        given = {key: value for key, value in attributes.items() if value or key == "group"}
        spec = {"resourceAttributes": given}
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": spec}
    return bool(client.review(REVIEWS, review).get("status", {}).get("allowed"))


def in_words(permission: Permission) -> str:
    """Return a permission such as "list pods in namespace shop"."""
    resource = f"{permission.resource}.{permission.group}" if permission.group else permission.resource
    name = f" {permission.name}" if permission.name else ""
    place = f" in namespace {permission.namespace}" if permission.namespace else ""
    return f"{permission.verb} {resource}{name}{place}"
