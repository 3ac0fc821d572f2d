# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How the repairs of one object end after the proof."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.facts.cluster_data import ClusterData
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.facts.finding import (
    FAIL,
    AuditedObject,
    AuditFinding,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.object_parsing import points_of
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.client import Client
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.errors import Conflict
from ansible_collections.certflow.kubernetes.plugins.module_utils._repair import (
    engine,
    kinds,
    proof_calls,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._repair.bundle_repairs import (
    BundleAction,
    BundleEdit,
    ObjectChanged,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._repair.proof_calls import CallAnswer
from ansible_collections.certflow.kubernetes.plugins.module_utils._repair.repair_model import (
    FAILED,
    Repair,
    RepairOptions,
    Written,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.bundle_targets import (
    ClientConfig,
    Target,
)

from tests.support.authority import NOW

from .test_plans import KIND, NEW, OLD, configuration

TARGET = Target(KIND, "example")
ACTION = BundleAction(TARGET, configuration(OLD.pem), (), NOW)


def config_with(bundle: str, service: tuple[str, str] | None) -> ClientConfig:
    return ClientConfig("a.example.com", "/webhooks/0/clientConfig", "/webhooks/0/name", "", service, bundle)


class Once(Written):
    """A write that is put back once. It notes the webhooks."""

    def __init__(self, by: str = "") -> None:
        self.by = by
        self.restored: list[set[str]] = []

    def find_overwriter(self, _client: Client) -> str:
        return self.by or ("this run" if self.restored else "")

    def put_back(self, _client: Client, _webhooks: Collection[str]) -> bool:
        self.restored.append(set(_webhooks))
        return len(self.restored) == 1


def repair(finding: str, webhook: str) -> Repair:
    subject = AuditedObject(KIND, "example", webhook=webhook).as_result()
    return Repair(finding, "ca-mismatch", subject, kind=kinds.ADD_CA, action=ACTION)


# Who overwrote it, the proven findings, and what is expected: the states of a1, a2 and b1, and the webhooks that are put back.
ENDS: list[tuple[str, str, str, list[set[str]]]] = [
    ("", "a1 a2 b1", "repaired repaired repaired", []),
    ("", "", "put-back put-back put-back", [{"a", "b"}]),
    ("", "a1 a2", "repaired repaired put-back", [{"b"}]),
    ("", "a1 b1", "repaired failed repaired", []),
    ("operator", "a1 b1", "overwritten overwritten overwritten", []),
]


@pytest.mark.parametrize(("by", "proven", "states", "restored"), ENDS)
def test_only_what_is_not_proven_is_put_back(
    by: str, proven: str, states: str, restored: list[set[str]]
) -> None:
    repairs = (repair("a1", "a"), repair("a2", "a"), repair("b1", "b"))
    written = Once(by)
    client: Any = SimpleNamespace(deadline=0.0)
    proof = engine._Proof(client, RepairOptions((kinds.ADD_CA,)), {ACTION.key: written}, frozenset())
    keys = {engine._key(entry.finding, entry.object) for entry in repairs if entry.finding in proven}
    assert " ".join(entry.state for entry in proof.ended(repairs, keys)) == states
    assert written.restored == restored
    assert client.deadline > time.monotonic()  # the proof may have used all of its time


# The answers of the webhooks a and b to the API server, and the state and the proof of their repairs.
CALLS: list[tuple[bool | None, bool | None, list[tuple[str, str]]]] = [
    (True, None, [("repaired", "call"), ("repaired", "audit")]),
    (True, False, [("repaired", "call"), ("put-back", "")]),
]


@pytest.mark.parametrize(("first", "second", "expected"), CALLS)
def test_a_webhook_that_the_api_server_refuses_is_not_repaired(
    first: bool | None,
    second: bool | None,
    expected: list[tuple[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The second audit passes for both webhooks."""
    answers = {"a": CallAnswer(first, ()), "b": CallAnswer(second, ("x509",))}
    monkeypatch.setattr(proof_calls, "probe", lambda _client, _data, point: answers[point.object.webhook])
    repairs = (repair("a1", "a"), repair("b1", "b"))
    client: Any = SimpleNamespace(deadline=0.0)
    proof = engine._Proof(client, RepairOptions((kinds.ADD_CA,)), {ACTION.key: Once()}, frozenset())
    (point,) = points_of(KIND, configuration(OLD.pem))
    points = tuple(replace(point, object=AuditedObject(KIND, "example", webhook=name)) for name in "ab")
    keys = {engine._key(entry.finding, entry.object) for entry in repairs}
    proven = proof._answered(ClusterData(NOW, points=points), repairs, keys)
    assert [(entry.state, entry.proof) for entry in proof.ended(repairs, proven)] == expected


def test_a_restart_stays_without_a_proof() -> None:
    client: Any = SimpleNamespace(deadline=0.0)
    proof = engine._Proof(client, RepairOptions((kinds.RELOAD,)), {ACTION.key: Written()}, frozenset())
    ended = proof.ended((replace(repair("a1", "a"), kind=kinds.RELOAD),), ())
    assert [(entry.state, entry.code) for entry in ended] == [(FAILED, "unproven")]


def test_a_removal_is_for_the_bundle_that_was_judged() -> None:
    both = OLD.pem + NEW.pem
    edit = BundleEdit(config_with(both, ("demo", "hook")), OLD.pem, (OLD.fingerprint,), mode="absent")
    action = BundleAction(TARGET, configuration(both), (edit,), NOW)
    assert action.plan(configuration(both)).changed
    assert not action.plan(configuration(NEW.pem)).changed
    with pytest.raises(ObjectChanged):
        action.plan(configuration(OLD.pem))


def moved(obj: dict[str, Any], client: dict[str, Any]) -> dict[str, Any]:
    return {**obj, "webhooks": [{**obj["webhooks"][0], "clientConfig": client}]}


# The client configuration of the plan, another one after a conflict, and the code of the outcome, "" if it is written.
ADDRESSES: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"url": "https://a.example.com/x"}, {"url": "https://a.example.com/y"}, ""),
    ({"url": "https://a.example.com/x"}, {"url": "https://b.example.com/x"}, "conflict"),
    ({"url": "https://a.example.com/x"}, {"url": "https://a.example.com:8443/x"}, "conflict"),
    ({"url": "https://a.example.com/x"}, {"service": {"namespace": "demo", "name": "hook"}}, "conflict"),
]


@pytest.mark.parametrize(("before", "after", "code"), ADDRESSES)
def test_an_address_that_changes_before_the_write_is_not_judged(
    before: dict[str, Any], after: dict[str, Any], code: str
) -> None:
    """The CA verifies what the address of the plan serves."""
    first = moved(configuration(""), before)
    second = moved(configuration("", resourceVersion="8"), after)

    class Server:
        """Refuse the first write, because the object has changed."""

        patches = 0

        def find(self, _path: str) -> dict[str, Any]:
            return second

        def patch(self, _path: str, _operations: Any, **_options: Any) -> dict[str, Any]:
            self.patches += 1
            if self.patches == 1:
                raise Conflict("changed")
            return second

    edit = BundleEdit(config_with(OLD.pem, None), NEW.pem, (NEW.fingerprint,))
    client: Any = Server()
    action = BundleAction(TARGET, first, (edit,), NOW)
    try:
        action.carry_out(client, RepairOptions((kinds.ADD_CA,)))
        outcome = ""
    except ObjectChanged as error:
        outcome = error.code
    assert (outcome, client.patches) == (code, 1 if code else 2)


# The service of a webhook, the Secrets that its pods mount, and a part of the remedy.
ISSUED: list[tuple[bool, list[str], str]] = [
    (True, ["tls"], "namespace: demo, service: hook, secret: {name: tls}, targets: [{kind: ValidatingWebhookConfiguration, name: example}]"),
    (True, ["one", "two"], "secret: {name: NAME}"),
    (True, [], "secret: {name: NAME}"),
    (False, [], "Follow the remedy of the finding"),
]  # fmt: skip


@pytest.mark.parametrize(("has_service", "secrets", "expected"), ISSUED)
def test_a_certificate_that_ends_is_issued_by_a_task(
    has_service: bool, secrets: list[str], expected: str
) -> None:
    obj = configuration(OLD.pem)
    if not has_service:
        obj = moved(obj, {"url": "https://a.example.com/x"})
    (point,) = points_of(KIND, obj)
    refusal = engine._no_kind(AuditFinding("renewal-unmanaged", FAIL, point.object), point, secrets)
    assert (refusal.code, expected in refusal.remedy) == ("not-repairable", True), refusal.remedy
