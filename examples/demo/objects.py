# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The objects of the webhook on a cluster, without its certificate."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

NAMESPACE = "demo"
SERVICE = "team-labels"
SECRET = "team-labels-tls"
WEBHOOK = "team-labels.example.com"
CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
NAMESPACED = f"/api/v1/namespaces/{NAMESPACE}"
CONFIG_MAPS = f"{NAMESPACED}/configmaps"


def service() -> dict[str, Any]:
    """Return a Service of type ExternalName that leads to this machine, because the cluster has no pods."""
    return {"metadata": {"name": SERVICE}, "spec": {"type": "ExternalName", "externalName": "localhost"}}


def configuration(port: int) -> dict[str, Any]:
    """Return a configuration that calls the webhook for each new ConfigMap of the namespace."""
    return {
        "metadata": {"name": WEBHOOK},
        "webhooks": [
            {
                "name": WEBHOOK,
                "clientConfig": {"service": {"namespace": NAMESPACE, "name": SERVICE, "port": port}},
                "rules": [
                    {
                        "apiGroups": [""],
                        "apiVersions": ["v1"],
                        "operations": ["CREATE"],
                        "resources": ["configmaps"],
                    }
                ],
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": NAMESPACE}},
                "failurePolicy": "Fail",
                "sideEffects": "None",
                "timeoutSeconds": 5,
                "admissionReviewVersions": ["v1"],
            }
        ],
    }


def config_map(name: str, **labels: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": labels}, "data": {"colour": "blue"}}


def pair(secret: Mapping[str, Any]) -> tuple[str, str]:
    """Return the certificate and the key of the webhook's Secret as PEM text."""
    return base64.b64decode(secret["data"]["tls.crt"]).decode(), base64.b64decode(
        secret["data"]["tls.key"]
    ).decode()
