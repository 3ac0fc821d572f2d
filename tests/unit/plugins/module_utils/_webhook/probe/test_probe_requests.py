# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is sent so that an API server calls a webhook, and how its connections are renewed."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.access_review import Permission
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.bundles import (
    bundle_content,
    bundle_patch,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.bundles.bundle_targets import (
    Target,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.probe import probe_calls
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.probe.probe_calls import (
    ApiResource,
    ProbeObject,
)

from tests.support.failures import fails
from tests.unit.plugins.module_utils._webhook.pki import authority

pytestmark = pytest.mark.quick

DISCOVERY = {
    "resources": [
        {"name": "pods", "kind": "Pod", "namespaced": True},
        {"name": "pods/eviction", "kind": "Eviction", "namespaced": True},
        {"name": "nodes", "kind": "Node", "namespaced": False},
    ]
}
PODS = ApiResource("", "v1", "pods", "Pod", True)
NODES = ApiResource("", "v1", "nodes", "Node", False)
POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "x", "namespace": "shop", "labels": {"app": "web"}},
}
DEFINITION: dict[str, Any] = {
    "metadata": {"name": "things.example.com"},
    "spec": {
        "group": "example.com",
        "scope": "Namespaced",
        "names": {"plural": "things", "kind": "Thing"},
        "versions": [
            {"name": "v2", "served": True, "storage": False},
            {"name": "v1", "served": True, "storage": True},
            {"name": "v0", "served": False, "storage": False},
        ],
    },
}


def serving(discovery: dict[str, Any] | None) -> Any:
    return SimpleNamespace(find=lambda path: discovery if path == "/api/v1" else None)


def thing(version: str, group: str = "example.com") -> dict[str, Any]:
    return {"apiVersion": f"{group}/{version}", "kind": "Thing", "metadata": {"namespace": "shop"}}


@pytest.mark.parametrize(
    ("manifest", "expected"), [(POD, PODS), ({"apiVersion": "v1", "kind": "Node"}, NODES)]
)
def test_the_resource_of_a_manifest(manifest: dict[str, Any], expected: ApiResource) -> None:
    assert probe_calls.find_resource(serving(DISCOVERY), manifest) == expected


@pytest.mark.parametrize(
    ("kind", "discovery"), [("Eviction", DISCOVERY), ("Other", DISCOVERY), ("Pod", None)]
)
def test_a_kind_that_is_not_served(kind: str, discovery: dict[str, Any] | None) -> None:
    with fails("probe-impossible", kind, "v1"):
        probe_calls.find_resource(serving(discovery), {"apiVersion": "v1", "kind": kind})


def test_a_creation() -> None:
    before = copy.deepcopy(POD)
    call = probe_calls.creation(PODS, POD, "admission", "hook")
    assert (call.path, call.words) == ("/api/v1/namespaces/shop/pods", "dry run of Pod shop/x")
    assert call.body == POD == before
    assert call.permission == Permission("create", "", "pods", "shop")
    assert call.creation is not None
    assert (call.creation.namespace, call.creation.labels) == ("shop", {"app": "web"})


def test_a_name_is_generated() -> None:
    call = probe_calls.creation(NODES, {"apiVersion": "v1", "kind": "Node"}, "admission")
    assert call.body == {"apiVersion": "v1", "kind": "Node", "metadata": {"generateName": "certflow-probe-"}}
    assert (call.path, call.words) == ("/api/v1/nodes", "dry run of Node certflow-probe-*")
    assert call.permission == Permission("create", "", "nodes", "")


@pytest.mark.parametrize(
    ("resource", "metadata"),
    [(PODS, {"name": "x"}), (NODES, {"name": "x", "namespace": "shop"})],
)
def test_a_namespace_where_one_belongs(resource: ApiResource, metadata: dict[str, str]) -> None:
    with fails("probe-impossible", resource.kind, "metadata.namespace"):
        probe_calls.creation(
            resource, {"apiVersion": "v1", "kind": resource.kind, "metadata": metadata}, "admission"
        )


@pytest.mark.parametrize(
    ("metadata", "field"),
    [
        ("probe", "metadata"),
        ([{}], "metadata"),
        ({"labels": ["team"]}, "metadata.labels"),
        ({"labels": "team"}, "metadata.labels"),
    ],
)
def test_an_object_whose_metadata_cannot_be_read(metadata: Any, field: str) -> None:
    target = Target("ValidatingWebhookConfiguration", "hook")
    manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
    with fails("probe-impossible", field):
        probe_calls.check_object(target, ProbeObject(manifest))


def test_a_sample_is_of_a_version_that_is_converted() -> None:
    sample = probe_calls.sample(DEFINITION)
    assert sample == {"apiVersion": "example.com/v2", "kind": "Thing", "metadata": {"namespace": "default"}}
    probe_calls.check_converted(DEFINITION, sample)
    call = probe_calls.creation(probe_calls.resource_of_definition(DEFINITION, "v2"), sample, "conversion")
    assert call.path == "/apis/example.com/v2/namespaces/default/things"


@pytest.mark.parametrize(
    ("manifest", "names"),
    [
        (thing("v1"), ("v1", "v2")),
        (thing("v0"), ("v0", "v2")),
        (thing("v2", "other.com"), ("other.com/v2", "Thing")),
        ({**thing("v2"), "kind": "Other"}, ("Other", "Thing")),
    ],
)
def test_what_would_not_be_converted(manifest: dict[str, Any], names: tuple[str, ...]) -> None:
    with fails("probe-impossible", "things.example.com", *names):
        probe_calls.check_converted(DEFINITION, manifest)


def test_an_api_that_is_aggregated() -> None:
    call = probe_calls.discovery_of({"spec": {"group": "example.com", "version": "v1"}})
    assert (call.path, call.body, call.permission) == ("/apis/example.com/v1", None, None)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ({}, (False, "it has no condition Available yet")),
        ({"conditions": [{"type": "Available", "status": "True", "message": "m"}]}, (True, "m")),
        ({"conditions": [{"type": "Available", "status": "False", "reason": "r"}]}, (False, "r")),
        ({"conditions": [{"type": "Available", "status": "Unknown", "message": "u"}]}, (False, "u")),
    ],
)
def test_availability(status: dict[str, Any], expected: tuple[bool, str]) -> None:
    assert probe_calls.availability({"status": status}) == expected


def test_bad_options_of_a_conversion() -> None:
    target = Target("CustomResourceDefinition", "things.example.com")
    probe_calls.check_object(target, ProbeObject())
    with fails("probe-impossible", "things.example.com", "expect"):
        probe_calls.check_object(target, ProbeObject(expect="denied"))


def test_a_renewal_changes_bytes_and_no_certificate() -> None:
    bundle = authority("a").pem
    texts = [bundle]
    for _again in range(bundle_patch.MOST_BREAKS - 1):
        texts.append(bundle_patch.with_other_line_breaks(texts[-1]))
    assert len(set(texts)) == len(texts)
    assert {bundle_content.certificates(text) for text in texts} == {bundle_content.certificates(bundle)}
    assert len(texts[-1]) <= len(bundle) + bundle_patch.MOST_BREAKS


def test_a_renewal_goes_round() -> None:
    full = "x" + bundle_patch.MOST_BREAKS * "\n"
    assert bundle_patch.with_other_line_breaks(full) == "x\n"
    assert bundle_patch.with_other_line_breaks("x") == "x\n"
