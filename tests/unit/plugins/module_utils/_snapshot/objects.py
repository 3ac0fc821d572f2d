# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Objects of external-snapshotter as an API server returns them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.errors import Forbidden, NotFound
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.release import crd_sets
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.release.crd_sets import CrdSet
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.release.release_table import CRDS

RULE = {"x-kubernetes-validations": [{"rule": "has(self.a)", "message": "a"}]}


def field(manager: str, operation: str, version: str = "apps/v1", *, time: str = "") -> dict[str, Any]:
    """Return an entry of metadata.managedFields."""
    return {
        "manager": manager,
        "operation": operation,
        **({"time": time} if time else {}),
        "apiVersion": version,
        "fieldsType": "FieldsV1",
        "fieldsV1": {},
    }


def crd(
    name: str, row: CrdSet, *, stored: tuple[str, ...] = (), conversion: tuple[str, str] | None = None
) -> dict[str, Any]:
    """Return a CustomResourceDefinition of a set."""
    group = name.partition(".")[2]
    ruled = row.rules and CRDS[name]
    spec: dict[str, Any] = {
        "group": group,
        "versions": [
            {
                "name": version,
                "served": state != crd_sets.LISTED,
                "storage": state == crd_sets.STORED,
                "schema": {"openAPIV3Schema": {"properties": {"spec": RULE if ruled else {}}}},
            }
            for version, state in row.versions.items()
        ],
        "conversion": {"strategy": "None"},
    }
    if conversion:
        service = {"namespace": conversion[0], "name": conversion[1], "path": "/convert"}
        client = {"clientConfig": {"service": service}, "conversionReviewVersions": ["v1"]}
        spec["conversion"] = {"strategy": "Webhook", "webhook": client}
    return {
        "metadata": {"name": name, "annotations": {crd_sets.GENERATOR: row.generator}},
        "spec": spec,
        "status": {
            "storedVersions": list(stored or (row.storage,)),
            "conditions": [{"type": "Established", "status": "True"}],
        },
    }


def workload(
    namespace: str,
    name: str,
    image: str,
    *arguments: str,
    selector: Mapping[str, str] | None = None,
    secret: str = "",
    **metadata: Any,
) -> dict[str, Any]:
    """Return a Deployment, StatefulSet or ReplicaSet with one container."""
    volumes = [{"name": "certs", "secret": {"secretName": secret}}] if secret else []
    labels = dict(selector or {"app": name})
    return {
        "metadata": {"namespace": namespace, "name": name, "uid": f"{namespace}-{name}", **metadata},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "containers": [{"name": "a", "image": image, "args": list(arguments)}],
                    "volumes": volumes,
                },
            },
        },
        "status": {"availableReplicas": 2},
    }


def configuration(name: str, group: str, *resources: str, policy: str = "Ignore") -> dict[str, Any]:
    """Return a ValidatingWebhookConfiguration with one webhook."""
    return {
        "metadata": {"name": name},
        "webhooks": [
            {
                "name": name,
                "failurePolicy": policy,
                "clientConfig": {
                    "service": {"namespace": "hooks", "name": "snapshot-validation-service", "path": "/v"}
                },
                "rules": [
                    {
                        "apiGroups": [group],
                        "apiVersions": ["v1"],
                        "operations": ["CREATE"],
                        "resources": list(resources),
                    }
                ],
            }
        ],
    }


class ObjectApi:
    """A client that reads objects, lists and errors from a dictionary of paths, and cannot write."""

    def __init__(self, answers: Mapping[str, Any]) -> None:
        self.answers = {"/version": {"gitVersion": "v1.36.3"}, "/apis": {"groups": []}, **answers}
        self.asked: list[str] = []

    def get(self, path: str, query: Mapping[str, str] | None = None) -> dict[str, Any]:
        self.asked.append(path)
        answer = self.answers.get(path)
        if isinstance(answer, Exception):
            raise answer
        if answer is None:
            raise NotFound(f"GET {path}", status=404, message="not found")
        return {"items": copy.deepcopy(answer)} if isinstance(answer, list) else copy.deepcopy(answer)

    def find(self, path: str) -> dict[str, Any] | None:
        try:
            return self.get(path)
        except NotFound:
            return None

    def list_all(self, path: str, query: Mapping[str, str] | None = None) -> dict[str, Any]:
        return self.get(path)

    try_get = get


def forbidden(what: str) -> Forbidden:
    return Forbidden(f"GET {what}", status=403, message=f"{what} is forbidden")
