# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Findings about what admission webhooks match."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.checks.admission_checks import (
    check_control_plane,
    check_deadlocks,
    check_duplicates,
    check_timeouts,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.cluster_data import Backend
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.finding import PASS

from tests.support.authority import NOW
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
    assert [one.status for one in found] == (["fail"] if wanted else [PASS])


def test_conditions_and_unread_namespaces_give_no_answer() -> None:
    with_conditions = point(webhook=webhook("pods", **EVERY, matchConditions=[{"name": "not-kube"}]))
    assert list(check_control_plane(cluster(with_conditions))) == []
    selecting = point(webhook=webhook("pods", namespaceSelector=NOT_SYSTEM))
    assert list(check_control_plane(cluster(selecting, namespaces=None))) == []


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
    assert [one.certainty for one in found if one.status == "fail"] == wanted


@pytest.mark.parametrize("given", [DEADLOCKS[-1], DEADLOCKS[-2]])
def test_an_undecided_match_does_not_pass(given: tuple[dict[str, Any], Any, list[str]]) -> None:
    called = point(webhook=given[0])
    read = {} if given[1] is None else {("shop", "hook"): given[1]}
    assert list(check_deadlocks(cluster(called, pods=read))) == []


def test_two_webhooks_that_guard_the_pods_of_each_other() -> None:
    points = [
        point(
            config(name=own),
            name=own,
            uid=own,
            webhook=webhook("pods", objectSelector={"matchLabels": {"app": other}}),
        )
        for own, other in (("left", "right"), ("right", "left"), ("third", "left"))
    ]
    pods = {("shop", name): ({"app": name},) for name in ("left", "right", "third")}
    backends = {one.backend: Backend(ready=1, selector={"app": one.object.name}) for one in points}
    found = [
        one for one in check_deadlocks(cluster(*points, pods=pods, backends=backends)) if one.status == "fail"
    ]
    assert [(one.object.name, "right" in one.evidence[0]) for one in found] == [
        ("left", True),
        ("right", False),
    ]


def mutating(seconds: int | None, **fields: Any) -> Any:
    timeout: dict[str, Any] = {} if seconds is None else {"timeoutSeconds": seconds}
    return point(webhook=webhook("pods", **timeout, **fields), is_mutating=True)


TIMEOUTS: list[tuple[list[Any], int | None]] = [
    ([mutating(30)], None),
    ([mutating(30), mutating(4)], None),
    ([mutating(30), mutating(5)], 35),
    ([mutating(None), mutating(None), mutating(None), mutating(5)], 35),
    ([mutating(30), mutating(30, namespaceSelector={"matchLabels": {"other": "yes"}})], None),
    ([mutating(30), point(webhook=webhook("pods", timeoutSeconds=30))], None),  # the second one validates
    ([mutating(30, failurePolicy="Ignore"), mutating(30, failurePolicy="Ignore")], 60),
]


@pytest.mark.parametrize(("points", "seconds"), TIMEOUTS)
def test_the_timeouts_of_mutating_webhooks_add_up(points: list[Any], seconds: int | None) -> None:
    (finding,) = check_timeouts(cluster(*points))
    assert finding.status == ("fail" if seconds else "pass")
    if seconds:
        assert finding.evidence[0] == f"namespace shop: {seconds} s"


def test_the_timeouts_have_no_answer_without_namespaces() -> None:
    assert list(check_timeouts(cluster(mutating(30), mutating(30), namespaces=None))) == []


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
    assert [one.status for one in found] == (["fail", "fail"] if is_same else ["pass", "pass"])


def test_two_webhooks_of_one_configuration_and_a_mutating_one_are_not_the_same() -> None:
    one = point(webhook=webhook(**CALL))
    mutates = point(name="b", webhook=webhook(**CALL), is_mutating=True)
    assert {found.status for found in check_duplicates(cluster(one, one, mutates))} == {"pass"}
