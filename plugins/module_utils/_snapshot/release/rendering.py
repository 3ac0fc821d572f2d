# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Render the objects of a release from its manifests and the user's settings. Pure.

Selectors, names and arguments are upstream's. The images are those of the release, because upstream's manifests often name older
ones (kubernetes-csi/external-snapshotter#630). The objects have no caBundle, no spec.conversion and no status.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import StepError
from . import pod_templates
from .pod_templates import ReleaseParts, ReleaseSettings

with contextlib.suppress(
    ImportError
):  # the kubernetes package brings it; _ansible reports that it is missing
    import yaml

    # libyaml, if it is installed, parses a CustomResourceDefinition in 20 ms instead of 200 ms.
    _LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_CONTROLLER = "deploy/kubernetes/snapshot-controller"
_WEBHOOK = "deploy/kubernetes/webhook-example"
# For each part of a release: the beginning of its files' paths, and the kinds of its objects in these files.
FILES: dict[str, tuple[str, tuple[str, ...]]] = {
    "crds": ("client/config/crd/snapshot.storage.k8s.io_", ("CustomResourceDefinition",)),
    "group_crds": ("client/config/crd/groupsnapshot.storage.k8s.io_", ("CustomResourceDefinition",)),
    "controller_rbac": (
        f"{_CONTROLLER}/rbac-",
        ("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"),
    ),
    "controller": (f"{_CONTROLLER}/setup-", ("Deployment",)),
    "webhook_rbac": (f"{_WEBHOOK}/rbac-", ("ServiceAccount", "ClusterRole", "ClusterRoleBinding")),
    "webhook": (f"{_WEBHOOK}/webhook.yaml", ("Deployment",)),
    "webhook_service": (f"{_WEBHOOK}/webhook.yaml", ("Service",)),
    "webhook_configurations": (
        f"{_WEBHOOK}/admission-configuration-template",
        ("ValidatingWebhookConfiguration",),
    ),
}
_NODES = {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "watch"]}

Object = dict[str, Any]


def render(files: Mapping[str, str], wanted: ReleaseParts, settings: ReleaseSettings) -> list[Object]:
    """Return the objects of the parts in the order in which they are applied. Raises StepError for a part that does not exist.

    files: the release's files by path.
    """
    return [
        _finished(part, obj, wanted, settings)
        for part in wanted.parts
        for obj in _with_budget(part, _objects(files, part, wanted))
    ]


def keeping(obj: Object, live: Mapping[str, Any] | None, wanted: ReleaseParts) -> Object:
    """Return a rendered object with the parts of the live object that it keeps.

    A CustomResourceDefinition keeps the versions of ``keep_unserved``, neither served nor stored. A webhook configuration keeps
    its failure policies if the step sets none. A new configuration starts with Ignore, and a later step sets another policy.
    """
    if obj["kind"] == "CustomResourceDefinition":
        versions = obj["spec"]["versions"]
        listed = {version["name"] for version in versions}
        for version in (live or {}).get("spec", {}).get("versions", ()):
            if version["name"] in wanted.keep_unserved and version["name"] not in listed:
                versions.append({**version, "served": False, "storage": False})
    if obj["kind"] == "ValidatingWebhookConfiguration":
        policy = (wanted.failure_policies or {}).get(obj["metadata"]["name"])
        policies = {
            webhook["name"]: webhook.get("failurePolicy") for webhook in (live or {}).get("webhooks") or ()
        }
        for webhook in obj["webhooks"]:
            webhook["failurePolicy"] = policy or policies.get(webhook["name"]) or "Ignore"
    return obj


def _objects(files: Mapping[str, str], part: str, wanted: ReleaseParts) -> list[Object]:
    start, kinds = FILES[part]
    objects = [
        obj
        for path in sorted(files)
        if path.startswith(start)
        for obj in yaml.load_all(files[path], Loader=_LOADER)  # a safe loader, see above
        if obj and obj["kind"] in kinds
    ]
    names = wanted.failure_policies
    if part == "webhook_configurations" and names is not None:
        objects = [obj for obj in objects if obj["metadata"]["name"] in names]
    if not objects:
        raise StepError(f"release {wanted.release} has no {part.replace('_', ' ')}")
    return objects


def _finished(part: str, obj: Object, wanted: ReleaseParts, settings: ReleaseSettings) -> Object:
    """Return an object of upstream with the choices and the settings."""
    kind, namespace = obj["kind"], wanted.namespace
    obj.pop("status", None)
    obj["metadata"].pop("creationTimestamp", None)
    if "namespace" in obj["metadata"]:
        obj["metadata"]["namespace"] = namespace
    for subject in obj.get("subjects") or ():
        if "namespace" in subject:
            subject["namespace"] = namespace
    for webhook in obj.get("webhooks") or ():
        webhook["clientConfig"].pop("caBundle", None)
        webhook["clientConfig"]["service"]["namespace"] = namespace
    if kind == "CustomResourceDefinition":
        obj["spec"].pop("conversion", None)
    if kind == "ClusterRole" and wanted.nodes:
        obj["rules"].append(dict(_NODES))
    if kind == "Service":
        for port in obj["spec"]["ports"]:
            port["targetPort"] = settings.port
    return pod_templates.deployment(part, obj, wanted, settings) if kind == "Deployment" else obj


def _with_budget(part: str, objects: Iterable[Object]) -> list[Object]:
    """Return the objects, and a PodDisruptionBudget for the webhook's Deployment, which upstream's manifests lack."""
    found = list(objects)
    return [*found, *(pod_templates.budget(obj) for obj in found)] if part == "webhook" else found
