# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether the API server asks a webhook about an object."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.calls.admission_match import (
    AdmissionRequest,
    ServedResource,
    match,
    match_any,
)

pytestmark = pytest.mark.quick

DEPLOYMENT = AdmissionRequest(
    "apps", "v1", "deployments", "Deployment", "shop", {"app": "web"}, {"team": "red"}
)
NODE = AdmissionRequest("", "v1", "nodes", "Node")
RULE = {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["deployments"]}


def rule(**changed: Any) -> dict[str, Any]:
    return {"rules": [{**RULE, **changed}]}


def expression(operator: str, *values: str, key: str = "team") -> dict[str, Any]:
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


ROWS: list[tuple[dict[str, Any], bool | None, str]] = [
    (rule(), True, ""),
    (rule(apiGroups=["*"], apiVersions=["*"], operations=["*"], resources=["*"]), True, ""),
    (rule(resources=["*/*"]), True, ""),
    (rule(resources=["deployments/*"]), True, ""),
    (rule(resources=["deployments/status", "pods"]), False, "its rules do not name CREATE of deployments.apps in shop"),
    (rule(operations=["UPDATE", "DELETE"]), False, "its rules do not name"),
    (rule(apiGroups=["extensions"]), False, "its rules do not name"),
    (rule(scope="Namespaced"), True, ""),
    (rule(scope="*"), True, ""),
    (rule(scope="Cluster"), False, "of deployments.apps in shop"),
    (rule(apiVersions=["v1beta1"]), None, "at other versions only (v1beta1)"),
    ({**rule(apiVersions=["v1beta1"]), "matchPolicy": "Exact"}, False, "its rules do not name"),
    ({}, False, "its rules do not name"),
    ({"rules": [{**RULE, "resources": ["pods"]}, RULE]}, True, ""),
    ({**rule(), "namespaceSelector": {}}, True, ""),
    ({**rule(), "namespaceSelector": {"matchLabels": {"team": "red"}}}, True, ""),
    ({**rule(), "namespaceSelector": {"matchLabels": {"team": "blue"}}}, False, "leaves out namespace shop"),
    ({**rule(), "namespaceSelector": expression("In", "red", "green")}, True, ""),
    ({**rule(), "namespaceSelector": expression("NotIn", "red")}, False, "leaves out namespace shop"),
    ({**rule(), "namespaceSelector": expression("NotIn", "red", key="other")}, True, ""),
    ({**rule(), "namespaceSelector": expression("Exists")}, True, ""),
    ({**rule(), "namespaceSelector": expression("DoesNotExist")}, False, "leaves out namespace shop"),
    ({**rule(), "objectSelector": {"matchLabels": {"app": "web"}}}, True, ""),
    ({**rule(), "objectSelector": expression("Exists", key="sidecar")}, False, "its objectSelector leaves out"),
    ({**rule(), "matchConditions": [{"name": "people", "expression": "true"}]}, None, "matchConditions (people)"),
    ({**rule(operations=["DELETE"]), "matchConditions": [{"name": "people"}]}, False, "its rules do not name"),
]  # fmt: skip


@pytest.mark.parametrize(("webhook", "is_asked", "reason"), ROWS)
def test_match(webhook: dict[str, Any], is_asked: bool | None, reason: str) -> None:
    found = match(webhook, DEPLOYMENT)
    assert found.is_asked is is_asked
    assert reason in found.reason
    assert bool(found.reason) is not bool(found.is_asked)


#: Entries of a rule -> the resources and subresources of pods that they name.
ENTRIES = {
    "pods": {"pods"}, "*": {"pods"}, "pods/status": {"pods/status"}, "*/status": {"pods/status"},
    "pods/*": {"pods", "pods/status", "pods/binding"}, "*/*": {"pods", "pods/status", "pods/binding"}, "nodes/status": set(),
    "*/binding": {"pods/binding"}, "pods/": {"pods"},
}  # fmt: skip


@pytest.mark.parametrize("entry", ENTRIES)
def test_resources_and_subresources(entry: str) -> None:
    webhook = {
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": [entry]}]
    }
    named = {
        f"pods/{sub}".strip("/")
        for sub in ("", "status", "binding")
        if match(webhook, AdmissionRequest("", "v1", "pods", namespace="shop", subresource=sub)).is_asked
    }
    assert named == ENTRIES[entry]


#: The labels of the object, those of the old object -> asked with the objectSelector app=web, and with app!=web.
OBJECTS: list[tuple[Any, Any, bool, bool]] = [
    ({"app": "web"}, None, True, False),
    ({}, None, False, True),
    ({"app": "web"}, {}, True, True),
    ({}, {"app": "web"}, True, True),
    ({"app": "web"}, {"app": "web"}, True, False),
    (None, {"app": "web"}, True, False),
    (None, None, False, False),
]


@pytest.mark.parametrize(("labels", "old_labels", "is_web", "is_other"), OBJECTS)
def test_an_object_selector_compares_the_object_and_the_old_one(
    labels: Any, old_labels: Any, is_web: bool, is_other: bool
) -> None:
    request = replace(DEPLOYMENT, labels=labels, old_labels=old_labels)
    selectors: list[dict[str, Any]] = [
        {"matchLabels": {"app": "web"}},
        expression("NotIn", "web", key="app"),
        {},
    ]
    asked = [match({**rule(), "objectSelector": selector}, request).is_asked for selector in selectors]
    assert asked == [is_web, is_other, True]


def test_the_groups_of_events_are_the_same_objects() -> None:
    event = AdmissionRequest("", "v1", "events", namespace="shop")
    webhook = rule(apiGroups=["events.k8s.io"], resources=["events"])
    assert match(webhook, event).is_asked is None
    assert match({**webhook, "matchPolicy": "Exact"}, event).is_asked is False


def test_labels_of_a_namespace_that_may_not_be_read() -> None:
    unread = replace(DEPLOYMENT, namespace_labels=None)
    assert match(rule(), unread).is_asked
    assert match({**rule(), "namespaceSelector": {"matchLabels": {"team": "red"}}}, unread).is_asked is None


def test_a_namespace_selector_leaves_no_cluster_object_out() -> None:
    selector = {"namespaceSelector": {"matchLabels": {"team": "red"}}}
    webhook = {**rule(apiGroups=[""], resources=["nodes", "namespaces"], scope="Cluster"), **selector}
    assert match(webhook, NODE).is_asked
    red = AdmissionRequest("", "v1", "namespaces", "Namespace", labels={"team": "red"})
    assert match(webhook, red).is_asked
    assert match(webhook, replace(red, labels={})).is_asked is False
    deleted = replace(red, labels=None, old_labels={"team": "red"}, operation="DELETE")
    webhook["rules"] = [{**webhook["rules"][0], "operations": ["DELETE"]}]
    assert match(webhook, deleted).is_asked


def test_no_webhook_is_asked_about_webhooks() -> None:
    everything = rule(apiGroups=["*"], apiVersions=["*"], operations=["*"], resources=["*"])
    group = "admissionregistration.k8s.io"
    configuration = AdmissionRequest(
        group, "v1", "mutatingwebhookconfigurations", "MutatingWebhookConfiguration"
    )
    assert match(everything, configuration).is_asked is False


KEY = "k8s-app"
NAMESPACES = {"shop": {"team": "shop"}, "kube-system": {}}


def term(operator: str, *values: str, key: str = KEY) -> dict[str, Any]:
    return {"key": key, "operator": operator, **({"values": list(values)} if values else {})}


def named(*resources: str, group: str = "", **fields: Any) -> dict[str, Any]:
    return {
        "apiGroups": [group],
        "apiVersions": ["*"],
        "operations": ["CREATE"],
        "resources": list(resources),
        **fields,
    }


EXACT = {"matchPolicy": "Exact"}


#: Fields of a webhook -> True if the API server may ask it, None if a later namespace may match.
REACHES: list[tuple[dict[str, Any], bool | None]] = [
    ({}, True),
    ({"rules": []}, False),
    ({"objectSelector": {"matchLabels": {KEY: "a"}, "matchExpressions": [term("In", "b")]}}, False),
    ({"objectSelector": {"matchLabels": {KEY: "a"}, "matchExpressions": [term("In", "a", "b")]}}, True),
    ({"objectSelector": {"matchExpressions": [term("Exists"), term("DoesNotExist")]}}, False),
    ({"objectSelector": {"matchExpressions": [term("Exists"), term("DoesNotExist", key="other")]}}, True),
    ({"objectSelector": {"matchExpressions": [term("In", "a"), term("NotIn", "a")]}}, False),
    ({"objectSelector": {"matchExpressions": [term("NotIn", "a"), term("Exists")]}}, True),
    ({"namespaceSelector": {"matchLabels": {"team": "shop"}}}, True),
    ({"namespaceSelector": {"matchLabels": {"team": "none"}}}, None),
    ({"namespaceSelector": {"matchLabels": {"team": "none"}}, "rules": [named("nodes")]}, True),
    ({"namespaceSelector": {"matchLabels": {"team": "none"}}, "rules": [named("*", group="apps")]}, True),
    ({"namespaceSelector": {"matchLabels": {"team": "none"}}, "rules": [named("*", scope="Namespaced")]}, None),
    ({"namespaceSelector": {"matchLabels": {"team": "none"}}, "rules": [named("things", group="example.com")]}, True),
    ({"namespaceSelector": {"matchLabels": {"team": "none"}}, "rules": [named("pods/status"), named("deployments", group="apps")]},
        None),
    ({"namespaceSelector": {"matchExpressions": [term("Exists"), term("DoesNotExist")]}}, False),
    ({"namespaceSelector": {"matchExpressions": [term("Exists"), term("DoesNotExist")]}, "rules": [named("nodes")]}, True),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "may_ask"), REACHES)
def test_a_webhook_that_matches_no_object(fields: dict[str, Any], may_ask: bool | None) -> None:
    answer = match_any({"rules": [named("pods")], **fields}, NAMESPACES)
    assert answer.is_asked is may_ask
    assert bool(answer.reason) is not bool(may_ask)


def test_namespaces_that_are_not_known_may_match() -> None:
    selective = {"rules": [named("pods")], "namespaceSelector": {"matchLabels": {"team": "none"}}}
    assert match_any(selective, None).is_asked


def served(scope: str, *operations: str) -> ServedResource:
    return ServedResource(scope, frozenset(operations or ("CREATE", "UPDATE", "DELETE")))


SERVED = {
    ("", "v1"): {
        "configmaps": served("Namespaced"), "nodes": served("Cluster"), "pods": served("Namespaced"), "namespaces": served("namespaces"),
        "pods/exec": served("Namespaced", "CONNECT"), "pods/status": served("Namespaced", "UPDATE"),
    },
    ("apps", "v1"): {"deployments": served("Namespaced"), "deployments/scale": served("Namespaced", "UPDATE")},
    ("rbac.authorization.k8s.io", "v1"): {"roles": served("Namespaced")},
    ("example.com", "v1"): {"things": served("Namespaced")},
    ("stale.example.com", "v1"): None,
}  # fmt: skip
#: The CustomResourceDefinitions.
VERSIONS = {("example.com", "things"): ("v1", "v1beta1")}
LABELLED = {"objectSelector": {"matchLabels": {KEY: "a"}}}
#: Fields of a rule, fields of the webhook -> True if a request may match.
MATCHES: list[tuple[dict[str, Any], dict[str, Any], bool]] = [
    (named("configmaps", apiVersions=["v1"]), EXACT, True),
    (named("configmaps", apiVersions=["*"], scope="Namespaced"), EXACT, True),
    (named("configmaps", scope="Cluster"), {}, False),
    (named("nodes", scope="Cluster"), {}, True),
    (named("nodes", scope="Namespaced"), {}, False),
    (named("namespaces", scope="Cluster"), {}, True),
    (named("namespaces", scope="Namespaced"), {}, False),
    (named("deployments", group="apps", apiVersions=["v1beta1"]), EXACT, False),
    (named("deployments", group="apps", apiVersions=["v1beta1"]), {}, False),
    (named("roles", group="rbac.authorization.k8s.io", apiVersions=["v1alpha1"]), {}, False),
    (named("roles", group="rbac.authorization.k8s.io", apiVersions=["v1alpha1", "v1"]), {}, True),
    (named("things", group="example.com", apiVersions=["v1beta1"]), EXACT, False),
    (named("things", group="example.com", apiVersions=["v1beta1"]), {}, True),
    (named("things", group="example.com", apiVersions=["v1alpha1"]), {}, False),
    (named("things", group="example.com", operations=["CONNECT"]), {}, False),
    (named("*", group="gone.example.com"), {}, False),
    (named("*", group="stale.example.com"), {}, True),
    (named("*/*", group="*"), {}, True),
    (named("configmaps/status"), {}, False),
    (named("pods/*"), {}, True),
    (named("*/scale", group="apps", operations=["UPDATE"]), {}, True),
    (named("*/scale"), {}, False),
    (named("pods/exec", operations=["CONNECT"]), {}, True),
    (named("pods/exec", operations=["CREATE"]), {}, False),
    (named("pods/exec", operations=["*"]), {}, True),
    (named("pods/exec", operations=["*"]), LABELLED, False),
    (named("pods/status", operations=["CREATE", "DELETE"]), {}, False),
    (named("configmaps", operations=["CONNECT"]), {}, False),
    (named("configmaps", operations=["CONNECT", "CREATE"]), {}, True),
    (named("*", operations=["CONNECT"]), {}, False),
    (named("Pods", "pod"), {}, False),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "fields", "may_ask"), MATCHES)
def test_a_rule_against_what_is_served(rule: dict[str, Any], fields: dict[str, Any], may_ask: bool) -> None:
    webhook = {"rules": [rule], **fields}
    assert match_any(webhook, None, SERVED, VERSIONS).is_asked is may_ask
    assert match_any(webhook, None).is_asked


def test_versions_that_are_not_known() -> None:
    rule = named("things", group="example.com", apiVersions=["v1alpha1"])
    assert match_any({"rules": [rule]}, None, SERVED, None).is_asked
    assert match_any({"rules": [rule], **EXACT}, None, SERVED, None).is_asked is False
    assert match_any({"rules": [named("pods", apiVersions=["v2"])]}, None, SERVED, None).is_asked is False


def test_the_scope_that_is_served_decides_about_a_namespace_selector() -> None:
    webhook: dict[str, Any] = {"namespaceSelector": {"matchLabels": {"team": "none"}}}
    things = {**webhook, "rules": [named("things", group="example.com")]}
    assert match_any(things, NAMESPACES, SERVED, VERSIONS).source == "namespaces"
    every = {**webhook, "rules": [named("*", group="*")]}
    assert match_any(every, NAMESPACES, SERVED, VERSIONS).is_asked


def condition(*expressions: str) -> dict[str, Any]:
    return {"matchConditions": [{"name": f"c{n}", "expression": text} for n, text in enumerate(expressions)]}


#: Expressions, namespaceSelector -> the answer, and why it is not known.
CONDITIONS: list[tuple[tuple[str, ...], dict[str, Any], bool | None, str]] = [
    ((), {}, True, ""),
    (("true", " true\n"), {}, True, ""),
    (("true", " false\n"), {}, False, ""),
    (("object.spec.paused", "false"), {}, False, ""),
    (("1 == 2",), {}, None, "match-conditions"),
    (("true", "request.namespace == 'gone'"), {}, None, "match-conditions"),
    (("request.namespace == 'gone'",), {"matchLabels": {"team": "none"}}, None, "namespaces"),
]  # fmt: skip


@pytest.mark.parametrize(("expressions", "selector", "may_ask", "source"), CONDITIONS)
def test_conditions_of_a_webhook(
    expressions: tuple[str, ...], selector: dict[str, Any], may_ask: bool | None, source: str
) -> None:
    webhook = {"rules": [named("pods")], "namespaceSelector": selector, **condition(*expressions)}
    answer = match_any(webhook, NAMESPACES, SERVED, VERSIONS)
    assert (answer.is_asked, answer.source) == (may_ask, source)


# k8s.io/apiserver pkg/admission/plugin/webhook/predicates/rules/rules.go, IsExemptAdmissionConfigurationResource
EXEMPT = [
    "ValidatingWebhookConfiguration",
    "MutatingWebhookConfiguration",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "MutatingAdmissionPolicy",
    "MutatingAdmissionPolicyBinding",
]


@pytest.mark.parametrize("kind", EXEMPT)
def test_no_webhook_is_asked_about_what_configures_admission(kind: str) -> None:
    everything = {"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]}
    webhook = {"rules": [everything]}
    asked = AdmissionRequest("admissionregistration.k8s.io", "v1", f"{kind.lower()}s", kind)
    assert match(webhook, asked).is_asked is False
    assert match(webhook, replace(asked, group="example.com")).is_asked
    assert match(webhook, replace(asked, kind=f"{kind}Status")).is_asked
