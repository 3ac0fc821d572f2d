# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Objects of other owners beside the snapshot controller's."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from tests.support import clusters

if TYPE_CHECKING:
    from tests.support.clusters import Cluster

Object = dict[str, Any]


def webhook_configuration(name: str, *calls: tuple[str, str, str, str], **metadata: Any) -> Object:
    """Return a configuration. calls: namespace and name of the Service, API group and resource of the rule."""
    webhooks = [
        {
            "name": f"h{number}.{name}.example.com",
            "clientConfig": {"service": {"namespace": place, "name": service, "path": "/validate"}},
            "rules": [
                {"apiGroups": [group], "apiVersions": ["v1"], "operations": ["DELETE"], "resources": [plural]}
            ],
            "failurePolicy": "Ignore",
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        }
        for number, (place, service, group, plural) in enumerate(calls)
    ]
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": name, **metadata},
        "webhooks": webhooks,
    }  # fmt: skip


def named(kind: str, namespace: str, name: str, version: str = "v1", **more: Any) -> Object:
    return {"apiVersion": version, "kind": kind, "metadata": {"namespace": namespace, "name": name}, **more}


def service(namespace: str, name: str) -> Object:
    return named("Service", namespace, name, spec={"selector": {"app": name}, "ports": [{"port": 443}]})


def tls(namespace: str, name: str) -> Object:
    return named(
        "Secret", namespace, name, type="kubernetes.io/tls", data={"tls.crt": "eA==", "tls.key": "eA=="}
    )


def deployment(namespace: str, name: str, *images: str, secret: str = "") -> Object:
    labels = {"app": name}
    pod: Object = {
        "containers": [{"name": f"c{number}", "image": image} for number, image in enumerate(images)]
    }
    if secret:
        pod["volumes"] = [{"name": "tls", "secret": {"secretName": secret}}]
    spec = {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}}
    return named("Deployment", namespace, name, "apps/v1", spec=spec)


def path(obj: Object) -> str:
    place = obj["metadata"].get("namespace")
    root = f"/apis/{obj['apiVersion']}" if "/" in obj["apiVersion"] else f"/api/{obj['apiVersion']}"
    return f"{root}{f'/namespaces/{place}' if place else ''}/{obj['kind'].lower()}s/{obj['metadata']['name']}"


def uids(cluster: Cluster, objects: list[Object]) -> dict[str, str]:
    """Return the UIDs of the objects that exist."""
    found = {}
    for obj in objects:
        with contextlib.suppress(clusters.AdminApiError):
            found[path(obj)] = cluster.api("GET", path(obj))["metadata"]["uid"]
    return found
