# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""About which requests an API server asks webhooks, by its discovery documents."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.checks.control_plane_requests import (
    find_unasked,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.object_parsing import (
    served_resources,
)

pytestmark = pytest.mark.quick

ALL = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
EVERY_OPERATION = {"CONNECT", "CREATE", "DELETE", "UPDATE"}


def resource(
    name: str, *verbs: str, kind: str = "", scope: str = "Namespaced", **parts: tuple[str, ...]
) -> dict[str, Any]:
    return {
        "resource": name,
        "responseKind": {"kind": kind},
        "scope": scope,
        "verbs": list(verbs),
        "subresources": [{"subresource": part, "verbs": list(own)} for part, own in parts.items()],
    }


def group(name: str, *resources: dict[str, Any], **version: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name},
        "versions": [{"version": "v1", "resources": list(resources), **version}],
    }


STATUS = ("get", "patch", "update")
PODS = resource("pods", *ALL, exec=("create", "get"), status=STATUS, log=("get",), eviction=("create",))
DOCUMENT = {
    "items": [
        group("", PODS, resource("namespaces", *ALL, scope="Cluster", finalize=("update",)), resource("componentstatuses", "get", "list")),
        group(
            "admissionregistration.k8s.io",
            resource("validatingwebhookconfigurations", *ALL, kind="ValidatingWebhookConfiguration"),
            resource("validatingadmissionpolicies", *ALL, kind="ValidatingAdmissionPolicy", status=STATUS),
        ),
        group("authentication.k8s.io", resource("tokenreviews", "create", scope="Cluster")),
        group("metrics.example.com", resource("pods", "get", "list")),
        group("stale.example.com", freshness="Stale"),
    ]
}  # fmt: skip
#: Group, resource -> the scope and the operations.
OPERATIONS: list[tuple[str, str, str, set[str]]] = [
    ("", "pods", "Namespaced", {"CREATE", "DELETE", "UPDATE"}),
    ("", "pods/exec", "Namespaced", {"CONNECT"}),
    ("", "pods/status", "Namespaced", {"UPDATE"}),
    ("", "pods/log", "Namespaced", set()),
    ("", "pods/eviction", "Namespaced", {"CREATE"}),
    ("", "namespaces", "namespaces", {"CREATE", "DELETE", "UPDATE"}),
    ("", "namespaces/finalize", "namespaces", {"UPDATE"}),
    ("", "componentstatuses", "Cluster", set()),
    ("authentication.k8s.io", "tokenreviews", "Cluster", {"CREATE"}),
    # The server of an aggregated API may ask webhooks itself.
    ("metrics.example.com", "pods", "Namespaced", EVERY_OPERATION),
]


@pytest.mark.parametrize(("name", "which", "scope", "operations"), OPERATIONS)
def test_the_operations_of_a_resource(name: str, which: str, scope: str, operations: set[str]) -> None:
    resources = served_resources([DOCUMENT], (), {"metrics.example.com"})[name, "v1"]
    assert resources is not None
    assert resources[which].operations == operations
    assert resources[which].scope == scope or which == "componentstatuses"


def test_what_no_webhook_is_asked_about() -> None:
    newer = served_resources([DOCUMENT], find_unasked("v1.37.2"))
    assert newer["admissionregistration.k8s.io", "v1"] == {}
    assert newer["authentication.k8s.io", "v1"] == {}
    assert served_resources([DOCUMENT], find_unasked("v1.36.0"))["authentication.k8s.io", "v1"]
    assert find_unasked("unknown") == frozenset()


def test_a_version_whose_resources_are_not_known() -> None:
    assert served_resources([DOCUMENT])["stale.example.com", "v1"] is None
    legacy = {"groups": [{"name": "apps", "versions": [{"version": "v1"}]}]}
    assert served_resources([legacy])["apps", "v1"] is None
    assert served_resources([{"kind": "APIVersions", "versions": ["v1"]}]) == {("", "v1"): None}
