# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Objects by which an API server calls programs: webhooks, their configurations, conversions and aggregated APIs."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]
_PRIORITIES = {"groupPriorityMinimum": 10, "versionPriority": 10}


def rule(resource: str, *operations: str, group: str = "") -> Object:
    """Return a rule for a resource, v1 of the core group or any version of another one. operations: CREATE by default."""
    return {
        "apiGroups": [group],
        "apiVersions": ["*" if group else "v1"],
        "operations": list(operations) or ["CREATE"],
        "resources": [resource],
    }


#: A rule that matches no request.
NO_REQUEST = rule("nothing", group="certflow.test")
CONFIG_MAPS = rule("configmaps")


def webhook(name: str, config: Object, /, *rules: Object, **fields: Any) -> Object:
    """Return a webhook with this client configuration. Without rules it matches no request."""
    return {
        "name": name,
        "clientConfig": config,
        "rules": list(rules) or [NO_REQUEST],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        **fields,
    }


def of_namespace(namespace: str) -> Object:
    """Return the field of a webhook that is called for the objects of one namespace only."""
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}


def configuration(name: str, *webhooks: Object, **metadata: Any) -> Object:
    return {"metadata": {"name": name, **metadata}, "webhooks": list(webhooks)}


def service(namespace: str, name: str, **fields: Any) -> Object:
    """Return a client configuration that leads to a Service. fields: port and path."""
    return {"service": {"namespace": namespace, "name": name, **fields}}


def definition(group: str, config: Object, **versions: Object) -> Object:
    """Return a CustomResourceDefinition of Things, stored as v1, with a conversion webhook.

    versions: version -> schema, by default v1 and v1beta1 of any content.
    """
    spec = {
        "group": group,
        "scope": "Namespaced",
        "names": {"plural": "things", "kind": "Thing"},
        "versions": [
            {"name": version, "served": True, "storage": version == "v1", "schema": schema}
            for version, schema in (versions or {"v1": schema(), "v1beta1": schema()}).items()
        ],
        "conversion": {
            "strategy": "Webhook",
            "webhook": {"clientConfig": config, "conversionReviewVersions": ["v1"]},
        },
    }
    return {"metadata": {"name": f"things.{group}"}, "spec": spec}


def schema(**fields: Any) -> Object:
    """Return the schema of an object that may contain anything, or has these fields."""
    return {"openAPIV3Schema": {"type": "object", **fields}}


def api_service(group: str, config: Object, **spec: Any) -> Object:
    """Return the APIService of v1 of a group."""
    spec = {"group": group, "version": "v1", **_PRIORITIES, **config, **spec}
    return {"metadata": {"name": f"v1.{group}"}, "spec": spec}
