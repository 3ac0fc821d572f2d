# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Findings about what admission webhooks match."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.checks import (
    check_table,
    control_plane_requests,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.checks.admission_checks import (
    check_control_plane,
    check_deadlocks,
    check_duplicates,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.facts.cluster_data import (
    Backend,
    ClusterData,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.facts.finding import PASS, UNKNOWN
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.calls import admission_match

from tests.support.certificates.authority import NOW
from tests.unit.plugins.module_utils._audit.world import RULE, cluster, config, failures, point, webhook

pytestmark = pytest.mark.quick

EVERY: dict[str, Any] = {"namespaceSelector": {}}
NOT_SYSTEM = {
    "matchExpressions": [
        {
            "key": "kubernetes.io/metadata.name",
            "operator": "NotIn",
            "values": ["kube-system", "kube-node-lease", "default"],
        }
    ]
}
E, W = "error", "warning"
ANY_RULE = {"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": ["*/*"]}
UPDATES = {**RULE, "apiGroups": ["coordination.k8s.io"], "operations": ["UPDATE"], "resources": ["leases"]}

CONTROL_PLANE: list[tuple[dict[str, Any], list[str]]] = [
    (webhook("pods"), []),  # only the namespace shop
    (webhook("pods", **EVERY), [E]),
    (webhook("pods", **EVERY, failurePolicy="Ignore"), []),
    (webhook("pods", **EVERY, failurePolicy="Ignore", timeoutSeconds=15), []),
    (webhook("pods", **EVERY, failurePolicy="Ignore", timeoutSeconds=16), [W]),
    (webhook("pods", namespaceSelector=NOT_SYSTEM), []),
    (webhook("nodes", namespaceSelector=NOT_SYSTEM), [E]),
    (webhook("namespaces", namespaceSelector=NOT_SYSTEM), []),
    (webhook("namespaces", **EVERY), [E]),
    (webhook("leases", group="coordination.k8s.io", **EVERY), [E]),
    ({**webhook(**EVERY), "rules": [UPDATES]}, [E]),
    (webhook("certificates", group="cert-manager.io", **EVERY), []),
    (webhook("pods", **EVERY, objectSelector={"matchLabels": {"inject": "yes"}}), []),
    ({**webhook(**EVERY), "rules": [ANY_RULE]}, [E]),
    ({**webhook(namespaceSelector=NOT_SYSTEM), "rules": [{**ANY_RULE, "scope": "Namespaced"}]}, []),
]


@pytest.mark.parametrize(("given", "wanted"), CONTROL_PLANE)
def test_webhooks_on_objects_of_the_control_plane(given: dict[str, Any], wanted: list[str]) -> None:
    called = point(webhook=given)
    found = list(check_control_plane(cluster(called)))
    assert failures(found) == [("control-plane-blocked", severity) for severity in wanted]
    assert [finding.status for finding in found] == (["fail"] if wanted else [PASS])


def on(resource: str, *operations: str, group: str = "", **fields: Any) -> dict[str, Any]:
    """Return a webhook with one rule for all namespaces."""
    rule = {**RULE, "apiGroups": [group], "operations": list(operations), "resources": [resource]}
    return {**webhook(**EVERY), "rules": [rule], **fields}


def has(key: str, *values: str) -> dict[str, Any]:
    """Return an objectSelector."""
    operator = {"operator": "In", "values": list(values)} if values else {"operator": "Exists"}
    return {"objectSelector": {"matchExpressions": [{"key": key, **operator}]}}


#: A webhook -> the first request that it blocks, and the severity. () for a webhook that blocks none.
REQUESTS: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    (on("nodes/status", "UPDATE"), ("nodes/status", E)),
    (on("pods/status", "UPDATE"), ("pods/status in kube-system", E)),
    (on("pods/binding", "CREATE"), ("pods/binding in kube-system", E)),
    (on("pods/eviction", "CREATE"), ("pods/eviction in kube-system", W)),
    (on("serviceaccounts/token", "CREATE"), ("serviceaccounts/token in kube-system", E)),
    (on("endpointslices", "UPDATE", group="discovery.k8s.io"), ("endpointslices.discovery.k8s.io in kube-system", E)),
    (on("pods", "DELETE"), ("pods in kube-system", E)),
    (on("namespaces/finalize", "UPDATE"), ("namespaces/finalize", E)),
    (on("events", "CREATE", group="events.k8s.io"), ("events.events.k8s.io in kube-system", W)),
    (on("*/status", "UPDATE"), ("nodes/status", E)),
    (on("*/*", "DELETE"), ("nodes", E)),
    ({**on("*"), "rules": [{**ANY_RULE, "operations": ["DELETE"], "resources": ["*"], "scope": "Namespaced"}]}, ("pods in kube-system", E)),
    (on("pods/*", "UPDATE"), ("pods in kube-system", E)),
    (on("nodes", "UPDATE", namespaceSelector=NOT_SYSTEM), ("nodes", E)),
    (on("pods", "CREATE", **has("k8s-app")), ("pods in kube-system", E)),
    (on("nodes/status", "UPDATE", **has("kubernetes.io/os", "linux")), ("nodes/status", E)),
    (on("pods/status", "DELETE"), ()),
    (on("pods/binding", "UPDATE"), ()),
    (on("pods/exec", "CONNECT"), ()),
    (on("*/*", "CONNECT"), ()),
    (on("nodes/status", "UPDATE", **has("beta.kubernetes.io/arch", "amd64")), ("nodes/status", E)),
    (on("pods", "DELETE", **has("tier", "control-plane")), ("pods in kube-system", E)),
    (on("services", "UPDATE", **has("provider", "kubernetes")), ("services in kube-system", E)),
    (on("services", "UPDATE", **has("component", "apiserver")), ("services in kube-system", E)),
    (on("services", "UPDATE", **has("k8s-app", "kube-dns")), ("services in kube-system", E)),
    (on("pods", "CREATE", **has("kubernetes.io/os", "linux")), ()),
    (on("pods/binding", "CREATE", **has("k8s-app")), ()),
    (on("pods/status", "UPDATE", namespaceSelector=NOT_SYSTEM), ()),
    (on("tokenreviews", "CREATE", group="authentication.k8s.io"), ()),  # virtual-resources covers it
]  # fmt: skip


@pytest.mark.parametrize(("given", "wanted"), REQUESTS)
def test_webhooks_on_requests_of_the_control_plane(given: dict[str, Any], wanted: tuple[str, ...]) -> None:
    (finding,) = check_control_plane(cluster(point(webhook=given)))
    blocked = finding.evidence[0].removeprefix("it matches ").split(", ")[:1] if finding.evidence else []
    assert (*blocked, *filter(None, [finding.severity])) == wanted


#: The labels that pods of kube-system and nodes have, None if they were not read -> the certainty, "" for a pass.
LABELS: list[tuple[dict[str, Any], Any, str]] = [
    (on("pods/status", "UPDATE", **has("k8s-app")), None, "likely"),
    (on("pods/status", "UPDATE", **has("k8s-app")), {"pods": ({"k8s-app": "kube-dns"},)}, "proven"),
    (on("pods/status", "UPDATE", **has("k8s-app")), {"pods": ({"app": "cilium"},)}, ""),
    (on("pods/status", "UPDATE", **has("team")), {"pods": ({"k8s-app": "x"}, {"team": "net"})}, "proven"),
    (on("pods", "DELETE", **has("team")), {"pods": ({"k8s-app": "x"}, {"team": "net"})}, "proven"),
    (on("nodes/status", "UPDATE", **has("pool")), None, ""),
    (on("nodes/status", "UPDATE", **has("pool")), {"nodes": ({}, {"pool": "a"})}, "proven"),
    (on("pods/status", "UPDATE"), None, "proven"),
]


@pytest.mark.parametrize(("given", "labels", "wanted"), LABELS)
def test_selectors_are_compared_with_the_labels_of_the_cluster(
    given: dict[str, Any], labels: Any, wanted: str
) -> None:
    (finding,) = check_control_plane(cluster(point(webhook=given), object_labels=labels or {}))
    assert (finding.certainty if finding.status == "fail" else "") == wanted


def test_every_request_of_the_table_is_one_row() -> None:
    rows = [
        (row.group, row.resource, row.operations, row.namespaces) for row in control_plane_requests.REQUESTS
    ]
    assert len(set(rows)) == len(rows) >= 40
    assert all(
        row.labelled in control_plane_requests.WELL_KNOWN_LABELS for row in control_plane_requests.REQUESTS
    )


#: The resources of the requests by their API group, as kubectl api-resources prints them.
RESOURCES = {
    "": "configmaps endpoints events namespaces nodes persistentvolumes pods secrets serviceaccounts services",
    "apiextensions.k8s.io": "customresourcedefinitions",
    "apiregistration.k8s.io": "apiservices",
    "apps": "controllerrevisions daemonsets deployments replicasets",
    "authentication.k8s.io": "selfsubjectreviews tokenreviews",
    "authorization.k8s.io": "localsubjectaccessreviews selfsubjectaccessreviews selfsubjectrulesreviews subjectaccessreviews",
    "certificates.k8s.io": "certificatesigningrequests",
    "coordination.k8s.io": "leases",
    "discovery.k8s.io": "endpointslices",
    "events.k8s.io": "events",
    "flowcontrol.apiserver.k8s.io": "flowschemas prioritylevelconfigurations",
    "rbac.authorization.k8s.io": "clusterrolebindings clusterroles rolebindings roles",
    "scheduling.k8s.io": "priorityclasses",
    "storage.k8s.io": "csinodes volumeattachments",
}
SUBRESOURCES = set("approval binding eviction finalize scale status token".split())


def test_every_request_of_the_table_is_of_a_resource_of_kubernetes() -> None:
    rows = control_plane_requests.REQUESTS
    resources: dict[str, set[str]] = {row.group: set() for row in rows}
    for row in rows:
        resources[row.group].add(row.resource.partition("/")[0])
    assert {group: " ".join(sorted(names)) for group, names in resources.items()} == RESOURCES
    assert {row.resource.partition("/")[2] for row in rows} == {"", *SUBRESOURCES}
    assert {word for row in rows for word in row.operations.split()} == {"CREATE", "UPDATE", "DELETE"}


CONDITIONAL: dict[str, Any] = {"matchConditions": [{"name": "not-kube"}]}
FLOWS = on("flowschemas", "CREATE", group="flowcontrol.apiserver.k8s.io")
#: A webhook, and further data -> the source because of which it is undecided, "" for a pass or a fail.
UNDECIDED: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    (on("pods", "CREATE", **CONDITIONAL), {}, "match-conditions"),
    (on("pods", "CREATE", **CONDITIONAL, namespaceSelector=NOT_SYSTEM), {}, ""),
    (on("pods", "CREATE", **CONDITIONAL, failurePolicy="Ignore", timeoutSeconds=3), {}, ""),
    (on("pods", "CREATE", namespaceSelector=NOT_SYSTEM), {"namespaces": None}, "namespaces"),
    ({**on("leases", "UPDATE"), "rules": [{**UPDATES, "apiVersions": ["v1beta1"]}]}, {}, "rule-versions"),
    ({**FLOWS, "rules": [{**FLOWS["rules"][0], "apiVersions": ["v1beta3"]}]}, {}, "rule-versions"),
    (on("pods", "CREATE", **has("team")), {"truncated": frozenset(["pods"])}, "pods"),
    (on("pods", "CREATE", **has("team"), namespaceSelector=NOT_SYSTEM), {"truncated": frozenset(["pods"])}, ""),
    (on("pods", "CREATE", **has("k8s-app")), {"truncated": frozenset(["pods"])}, ""),
    (on("pods/binding", "CREATE", **has("team")), {"truncated": frozenset(["pods"])}, ""),
    (on("nodes", "UPDATE", **has("team")), {"truncated": frozenset(["nodes"])}, "nodes"),
    (on("nodes", "UPDATE", **has("team")), {"truncated": frozenset(["pods"])}, ""),
]  # fmt: skip


@pytest.mark.parametrize(("given", "options", "source"), UNDECIDED)
def test_a_webhook_is_undecided_for_a_reason(
    given: dict[str, Any], options: dict[str, Any], source: str
) -> None:
    labels = {"pods": ({"k8s-app": "x"},), "nodes": ({"pool": "a"},)}
    (finding,) = check_control_plane(cluster(point(webhook=given), object_labels=labels, **options))
    assert (finding.status == UNKNOWN, finding.source) == (bool(source), source)


def test_it_hurts_now_if_nothing_answers() -> None:
    called = point(webhook=webhook("pods", **EVERY))
    times = [
        next(iter(check_control_plane(cluster(called, backend=backend)))).breaks_at
        for backend in (None, Backend(selector={"app": "hook"}), Backend(is_known=False))
    ]
    assert times == [None, NOW, None]


POD = {"app": "hook", "pod-template-hash": "1"}
WITHOUT_POD = {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["hook"]}]}
DEADLOCKS: list[tuple[dict[str, Any], Any, list[str]]] = [
    (webhook("pods"), (POD,), ["proven"]),
    (webhook("pods"), (), ["likely"]),
    (webhook("pods", objectSelector=WITHOUT_POD), (POD,), []),
    (webhook("pods", objectSelector={"matchLabels": {"pod-template-hash": "1"}}), (POD,), ["proven"]),
    (webhook("pods", failurePolicy="Ignore"), (POD,), []),
    (webhook("pods", namespaceSelector={"matchLabels": {"other": "yes"}}), (POD,), []),
    (webhook("configmaps"), (POD,), []),
    ({**webhook(), "rules": [{**RULE, "resources": ["pods"], "operations": ["UPDATE"]}]}, (POD,), []),
    (webhook("pods", matchConditions=[{"name": "some"}]), (POD,), []),
    (webhook("pods", objectSelector={"matchLabels": {"x": "y"}}), None, []),  # pods were not read
]


@pytest.mark.parametrize(("given", "pods", "wanted"), DEADLOCKS)
def test_webhooks_that_guard_their_own_pods(given: dict[str, Any], pods: Any, wanted: list[str]) -> None:
    called = point(webhook=given)
    read = {} if pods is None else {("shop", "hook"): pods}
    found = list(check_deadlocks(cluster(called, pods=read)))
    assert [finding.certainty for finding in found if finding.status == "fail"] == wanted


@pytest.mark.parametrize("given", [DEADLOCKS[-1], DEADLOCKS[-2]])
def test_an_undecided_match_does_not_pass(given: tuple[dict[str, Any], Any, list[str]]) -> None:
    called = point(webhook=given[0])
    read = {} if given[1] is None else {("shop", "hook"): given[1]}
    found = [(deadlock.status, deadlock.source) for deadlock in check_deadlocks(cluster(called, pods=read))]
    assert found == ([] if given[1] is None else [(UNKNOWN, "match-conditions")])


def test_pods_of_a_service_that_were_not_read_may_be_guarded() -> None:
    selecting = point(webhook=webhook("pods", objectSelector={"matchLabels": {"x": "y"}}))
    options: dict[str, Any] = {"pods": {("shop", "hook"): (POD,)}, "truncated": frozenset([("shop", "hook")])}
    elsewhere = {"namespaceSelector": {"matchLabels": {"other": "yes"}}}
    others = point(webhook={**selecting.webhook, **elsewhere})
    found = [
        deadlock for called in (selecting, others) for deadlock in check_deadlocks(cluster(called, **options))
    ]
    assert [(finding.status, finding.source) for finding in found] == [(UNKNOWN, "pods"), (PASS, "")]


#: What the webhook of the Service hook is asked about -> True if its own pods need it.
RESTORING: list[tuple[dict[str, Any], bool]] = [
    (on("pods/status", "UPDATE"), True),
    (on("pods/status", "UPDATE", **has("app", "hook")), True),
    (on("pods/status", "UPDATE", **has("app", "web")), False),
    (on("pods/binding", "CREATE"), True),
    (on("pods/binding", "CREATE", **has("app", "hook")), False),  # a Binding has labels of its own
    (on("serviceaccounts/token", "CREATE"), True),
    (on("endpointslices", "UPDATE", group="discovery.k8s.io"), True),
    (on("endpointslices", "UPDATE", group="discovery.k8s.io", **has("kubernetes.io/service-name", "hook")), True),
    (on("endpointslices", "UPDATE", group="discovery.k8s.io", **has("kubernetes.io/service-name", "web")), False),
    (on("pods", "DELETE"), True),
    (on("pods", "UPDATE"), False),
    (on("nodes/status", "UPDATE"), False),
    (on("pods/exec", "CONNECT"), False),
]  # fmt: skip


@pytest.mark.parametrize(("given", "is_deadlock"), RESTORING)
def test_webhooks_on_requests_that_their_own_pods_need(given: dict[str, Any], is_deadlock: bool) -> None:
    (finding,) = check_deadlocks(cluster(point(webhook=given), pods={("shop", "hook"): (POD,)}))
    assert finding.status == ("fail" if is_deadlock else PASS)


#: Service -> the Services whose pods its webhook guards, "?" for one whose conditions decide. And those in a ring.
RINGS: list[tuple[dict[str, str], str]] = [
    ({"a": "b", "b": "a", "c": "a"}, "ab"),
    ({"a": "b", "b": "c", "c": "a"}, "abc"),
    ({"a": "b", "b": "c", "c": "d", "d": "b"}, "bcd"),
    ({"a": "b", "b": "c", "c": "d", "d": "e", "e": "a", "f": "a"}, "abcde"),
    ({"a": "bc", "b": "", "c": "a"}, "ac"),
    ({"a": "b", "b": "c", "c": ""}, ""),
    ({"a": "a", "b": "a"}, "a"),
    ({"a": "b", "b": "a", "c": "d", "d": "c"}, "abcd"),
    ({"a": "b", "b": "c?", "c": "a"}, ""),
]


def guarding(own: str, others: str) -> Any:
    conditions = {"matchConditions": [{"name": "some"}]} if "?" in others else {}
    guards = {**on("pods", "CREATE", **has("app", *others.strip("?") or "-")), **conditions}
    return point(config(name=own), name=own, uid=own, webhook=guards)


@pytest.mark.parametrize(("edges", "stuck"), RINGS)
def test_webhooks_that_guard_the_pods_of_each_other(edges: dict[str, str], stuck: str) -> None:
    points = [guarding(own, others) for own, others in edges.items()]
    pods = {("shop", name): ({"app": name},) for name in edges}
    backends = {
        call_point.backend: Backend(ready=1, selector={"app": call_point.object.name})
        for call_point in points
    }
    found = list(check_deadlocks(cluster(*points, pods=pods, backends=backends)))
    assert [finding.object.name for finding in found if finding.status == "fail"] == list(stuck)
    undecided = {"a", "b", "c"} if any("?" in others for others in edges.values()) else set()
    assert {finding.object.name for finding in found if finding.status == PASS} == {*edges} - {
        *stuck
    } - undecided
    for audit_finding in found:
        if (
            audit_finding.status == "fail"
            and audit_finding.object.name not in edges[audit_finding.object.name]
        ):
            assert any(
                f"pods of ValidatingWebhookConfiguration {other}," in audit_finding.evidence[0]
                for other in edges[audit_finding.object.name]
            )


CALL: dict[str, Any] = {
    "clientConfig": {"service": {"namespace": "shop", "name": "hook", "path": "/a", "port": 443}}
}
OTHER_PATH: dict[str, Any] = {
    "clientConfig": {"service": {"namespace": "shop", "name": "hook", "path": "/b", "port": 443}}
}
URL_CALL: dict[str, Any] = {"clientConfig": {"url": "https://hooks.example.com"}}
DUPLICATES: list[tuple[dict[str, Any], dict[str, Any], bool]] = [
    (webhook(**CALL), webhook(**CALL), True),
    (webhook(**CALL, timeoutSeconds=5), webhook(**CALL), True),
    (webhook(**CALL), webhook(**OTHER_PATH), False),
    (webhook(**CALL), webhook("pods", **CALL), False),
    (webhook(**CALL), webhook(**CALL, objectSelector={"matchLabels": {"a": "b"}}), False),
    (webhook(**URL_CALL), webhook(**URL_CALL), True),
]


@pytest.mark.parametrize(("first", "second", "is_same"), DUPLICATES)
def test_a_webhook_of_two_configurations(
    first: dict[str, Any], second: dict[str, Any], is_same: bool
) -> None:
    points = [point(name="a", webhook=first), point(name="b", webhook=second)]
    found = list(check_duplicates(cluster(*points)))
    assert [finding.status for finding in found] == (["fail", "fail"] if is_same else ["pass", "pass"])


def test_two_webhooks_of_one_configuration_and_a_mutating_one_are_not_the_same() -> None:
    call_point = point(webhook=webhook(**CALL))
    mutates = point(name="b", webhook=webhook(**CALL), is_mutating=True)
    assert {found.status for found in check_duplicates(cluster(call_point, call_point, mutates))} == {"pass"}


def many(number: int) -> ClusterData:
    """Return webhooks that each may guard the pods of each other one, and namespaces that none of them matches."""
    selector = {"matchExpressions": [{"key": "none", "operator": "Exists"}]}
    hooks = [
        point(
            config(name=f"s{place}"),
            uid=str(place),
            name=f"h{place}",
            webhook={**on("pods", "CREATE"), "namespaceSelector": selector},
        )
        for place in range(number)
    ]
    namespaces: dict[str, dict[str, str]] = {f"n{place}": {} for place in range(number)}
    return cluster(*hooks, namespaces=namespaces)


def compared(rule: Any, number: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """Return the comparisons of a rule whose time is over after some looks at the clock."""
    looks, requests = itertools.count(), []

    def noting(hook: Any, request: Any) -> Any:
        requests.append(request)
        return admission_match.match(hook, request)

    monkeypatch.setattr(control_plane_requests, "match", noting)
    data = replace(many(number), is_over=lambda: next(looks) > 2)
    for _finding in rule(data):
        if data.is_over():
            break
    return len(requests)


@pytest.mark.parametrize("rule", list(dict.fromkeys(row.rule for row in check_table.CHECKS if row.rule)))
def test_each_rule_ends_with_its_time(rule: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two looks at the clock, the comparisons grow linearly with the number of webhooks."""
    few, more = (compared(rule, number, monkeypatch) for number in (20, 80))
    assert more <= 5 * max(few, 40)
