# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Objects as the API server returns them, in the parts that matter here."""

from __future__ import annotations

import base64
from typing import Any

SERVICE = ("kube-system", "hook")


def encoded(pem: str) -> str:
    return base64.b64encode(pem.encode()).decode()


def client_config(
    ca_bundle: str | None = None, *, service: tuple[str, str] | None = SERVICE, url: str = ""
) -> dict[str, Any]:
    """ca_bundle: PEM text, None for no such key."""
    place: dict[str, Any] = {} if ca_bundle is None else {"caBundle": encoded(ca_bundle)}
    if service:
        return {**place, "service": {"namespace": service[0], "name": service[1], "port": 443}}
    return {**place, "url": url}


def configuration(
    *webhooks: tuple[str, dict[str, Any]], kind: str = "ValidatingWebhookConfiguration", **metadata: Any
) -> dict[str, Any]:
    return {
        "kind": kind,
        "metadata": {"name": "hooks", "resourceVersion": "7", **metadata},
        "webhooks": [{"name": name, "clientConfig": place} for name, place in webhooks],
    }


def definition(place: dict[str, Any] | None) -> dict[str, Any]:
    """A CustomResourceDefinition; None for one without a conversion webhook."""
    webhook = {"strategy": "Webhook", "webhook": {"clientConfig": place}}
    return {
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.example.com", "resourceVersion": "7"},
        "spec": {"conversion": webhook if place else {"strategy": "None"}},
    }


def api_service(**spec: Any) -> dict[str, Any]:
    return {
        "kind": "APIService",
        "metadata": {"name": "v1.example.com", "resourceVersion": "7"},
        "spec": {"group": "example.com", "version": "v1", **spec},
    }
