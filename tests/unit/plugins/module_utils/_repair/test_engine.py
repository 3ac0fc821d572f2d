# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How the repairs of one object end after the proof."""

from __future__ import annotations

import base64
import signal
import time
from collections.abc import Collection
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit import audit_result
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.facts.cluster_data import ClusterData
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.facts.finding import (
    FAIL,
    AuditedObject,
    AuditFinding,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.object_parsing import points_of
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.errors import CertflowError
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.access_review import Permission
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.approved_plan import (
    PlanGuard,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.client import Client
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.errors import (
    ApiError,
    Conflict,
    KubeError,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._repair import (
    engine,
    kinds,
    proof_calls,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._repair.bundle_repairs import (
    BundleAction,
    BundleEdit,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._repair.proof_calls import CallAnswer
from ansible_collections.certflow.kubernetes.plugins.module_utils._repair.repair_model import (
    BAD_STATES,
    FAILED,
    REFUSED,
    Repair,
    RepairOptions,
    RepairWrite,
    Written,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.bundles.bundle_targets import (
    ClientConfig,
    Target,
)

from tests.support.certificates.authority import NOW
from tests.support.failures import fails

from .test_plans import KIND, NEW, OLD, STRANGER, configuration

TARGET = Target(KIND, "example")
ACTION = BundleAction(TARGET, configuration(OLD.pem), (), NOW)


def config_with(bundle: str, service: tuple[str, str] | None) -> ClientConfig:
    return ClientConfig("a.example.com", "/webhooks/0/clientConfig", "/webhooks/0/name", "", service, bundle)


class Once(Written):
    """A write that is put back once. It notes the webhooks. by: who replaced it, perhaps only for the webhook after "@"."""

    def __init__(self, by: str = "") -> None:
        self.by, _at, self.webhook = by.partition("@")
        self.restored: list[set[str]] = []

    def find_overwriter(self, _client: Client, webhook: str) -> str:
        by = self.by if self.webhook in ("", webhook) else ""
        return by or ("this run" if self.restored else "")

    def put_back(self, _client: Client, _webhooks: Collection[str]) -> bool:
        self.restored.append(set(_webhooks))
        return len(self.restored) == 1


def repair(finding: str, webhook: str, kind: str = kinds.SECURE) -> Repair:
    subject = AuditedObject(KIND, "example", webhook=webhook).as_result()
    return Repair(finding, "ca-mismatch", subject, kind=kind, action=ACTION)


def prove(proof: engine._Proof, *repairs: Repair) -> tuple[Repair, ...]:
    proof.prove(repairs)
    return proof.ended(repairs, proof.proven)


# The kind, who overwrote it, the proven findings, and what is expected: the states of a1, a2 and b1, and the webhooks that are put back.
ENDS: list[tuple[str, str, str, str, list[set[str]]]] = [
    (kinds.SECURE, "", "a1 a2 b1", "repaired repaired repaired", []),
    (kinds.SECURE, "", "", "put-back put-back put-back", [{"a", "b"}]),
    (kinds.SECURE, "", "a1 a2", "repaired repaired put-back", [{"b"}]),
    (kinds.SECURE, "", "a1 b1", "repaired failed repaired", []),
    (kinds.SECURE, "operator", "a1 b1", "overwritten overwritten overwritten", []),
    # Another client replaced the value of one webhook.
    (kinds.SECURE, "operator@b", "a1 a2", "repaired repaired overwritten", []),
    (kinds.REMOVE_OUTGOING, "operator@b", "", "put-back put-back overwritten", [{"a"}]),
    # An addition is never put back.
    (kinds.ADD_CA, "", "a1", "repaired written written", []),
    (kinds.ADD_CA, "operator", "a1", "overwritten overwritten overwritten", []),
    (kinds.REMOVE_OUTGOING, "", "a1 a2", "repaired repaired put-back", [{"b"}]),
    (kinds.RELOAD, "", "a1", "repaired failed failed", []),
]


@pytest.mark.parametrize(("kind", "by", "proven", "states", "restored"), ENDS)
def test_only_a_removal_that_is_not_proven_is_put_back(
    kind: str, by: str, proven: str, states: str, restored: list[set[str]]
) -> None:
    repairs = (repair("a1", "a", kind), repair("a2", "a", kind), repair("b1", "b", kind))
    written = Once(by)
    client: Any = SimpleNamespace(deadline=0.0)
    proof = engine._Proof(client, RepairOptions((kind,)), {ACTION.key: written}, frozenset())
    keys = {engine._key(entry) for entry in repairs if entry.finding in proven}
    assert " ".join(entry.state for entry in proof.ended(repairs, keys)) == states
    assert written.restored == restored
    assert client.deadline > time.monotonic()  # the proof may have used all of its time


@pytest.mark.parametrize("kind", kinds.KINDS)
def test_a_cluster_is_done_only_with_a_proof(kind: str) -> None:
    """Without one, each kind is left or has failed."""
    entry = repair("a1", "a", kind)
    client: Any = SimpleNamespace(deadline=0.0)
    written: dict[tuple[str, ...], Written] = {ACTION.key: Once()}
    proof = engine._Proof(client, RepairOptions((kind,)), written, frozenset())
    (ended,) = proof.ended((entry,), set())
    assert ended.is_left is (ended.state not in BAD_STATES)


def _judged_objects(monkeypatch: pytest.MonkeyPatch, count: int) -> int:
    """Judge a fault of each of many webhooks. Return the number of objects that were compared."""
    compared: list[object] = []
    obj = configuration(OLD.pem)
    obj["webhooks"] = [{**obj["webhooks"][0], "name": f"w{number}.example.com"} for number in range(count)]
    points = tuple(points_of(KIND, obj))
    findings = [AuditFinding("ca-mismatch", FAIL, entry.object) for entry in points]
    monkeypatch.setattr(audit_result, "find", lambda _data: findings)
    real = AuditedObject.as_result

    def count_result(subject: AuditedObject) -> dict[str, Any]:
        compared.append(subject)
        return real(subject)

    monkeypatch.setattr(AuditedObject, "as_result", count_result)
    client: Any = SimpleNamespace(deadline=0.0)
    proof = engine._Proof(client, RepairOptions((kinds.ADD_CA,)), {}, frozenset())
    due = [
        Repair(entry.fingerprint(""), entry.check, real(entry.object), kind=kinds.ADD_CA, action=ACTION)
        for entry in findings
    ]
    assert proof._judged(ClusterData(NOW, points=points), due) == (
        {engine._key(entry) for entry in due},
        set(),
    )
    monkeypatch.undo()
    return len(compared)


def test_a_proof_compares_each_object_with_its_own_findings(monkeypatch: pytest.MonkeyPatch) -> None:
    few, many = (_judged_objects(monkeypatch, count) for count in (40, 80))
    assert many <= 2 * few


def test_a_finding_is_settled_for_an_object_that_it_no_longer_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    obj = configuration(OLD.pem)
    obj["webhooks"] = [{**obj["webhooks"][0], "name": f"{name}.example.com"} for name in ("a", "b", "c")]
    first, second, third = points_of(KIND, obj)
    finding = AuditFinding("ca-mismatch", FAIL, first.object, objects=(str(first.object), str(second.object)))
    fresh = AuditFinding("ca-expired", FAIL, third.object)
    due = [
        Repair(
            finding.fingerprint(""), "ca-mismatch", point.object.as_result(), kind=kinds.ADD_CA, action=ACTION
        )
        for point in (first, second, third)
    ]
    client: Any = SimpleNamespace(deadline=0.0)
    proof = engine._Proof(
        client, RepairOptions((kinds.ADD_CA,)), {}, frozenset({("ca-mismatch", str(first.object))})
    )
    data = ClusterData(NOW, points=(first, second, third))
    for findings, settled in (([finding], {engine._key(due[2])}), ([finding, fresh], set())):
        monkeypatch.setattr(audit_result, "find", lambda _data, answer=findings: answer)
        assert proof._judged(data, due)[1] == settled


@pytest.mark.parametrize(
    ("bundle", "is_proven"), [(NEW.pem + STRANGER.pem, True), (OLD.pem + NEW.pem, False)]
)
def test_the_removal_of_a_named_ca_is_proven_by_its_absence(
    monkeypatch: pytest.MonkeyPatch, bundle: str, is_proven: bool
) -> None:
    """The check still fails for another CA that the cluster does not publish. A restored CA may be a stolen one."""
    (point,) = points_of(KIND, configuration(bundle))
    finding = AuditFinding("ca-left", FAIL, point.object)
    due = [
        Repair(
            finding.fingerprint(""),
            "ca-left",
            point.object.as_result(),
            kind=kinds.REMOVE_OUTGOING,
            action=ACTION,
        )
    ]
    client: Any = SimpleNamespace(deadline=0.0)
    faults = frozenset({("ca-left", str(point.object))})
    proof = engine._Proof(client, RepairOptions((kinds.REMOVE_OUTGOING,)), {}, faults)
    monkeypatch.setattr(audit_result, "find", lambda _data: [finding])
    data = ClusterData(NOW, points=(point,), ca_outgoing=frozenset({OLD.fingerprint}))
    assert proof._judged(data, due)[1] == ({engine._key(due[0])} if is_proven else set())


class Unreached(Once):
    """A write of an object that cannot be read any more."""

    def find_overwriter(self, _client: Client, _webhook: str) -> str:
        raise KubeError("the connection ended")


def test_an_object_that_cannot_be_read_keeps_the_outcomes_of_the_others() -> None:
    """The first object was put back before the connection ended."""
    others = [replace(ACTION, target=Target(KIND, name)) for name in ("one", "two")]
    repairs = tuple(replace(repair(name, "a"), action=action) for name, action in zip("cd", others))
    written: dict[tuple[str, ...], Written] = {others[0].key: Once(), others[1].key: Unreached()}
    client: Any = SimpleNamespace(deadline=0.0)
    ended = engine._Proof(client, RepairOptions((kinds.SECURE,)), written, frozenset()).ended(repairs, set())
    assert [entry.state for entry in ended] == ["put-back", "failed"]
    assert "the connection ended" in ended[1].reason


def test_a_removal_whose_proof_cannot_be_read_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def lose(_client: Client, _options: RepairOptions) -> ClusterData:
        raise KubeError("no answer")

    monkeypatch.setattr(engine, "_audit", lose)
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    client: Any = SimpleNamespace(deadline=0.0)
    for kind, state in ((kinds.SECURE, "put-back"), (kinds.ADD_CA, "written"), (kinds.RELOAD, "failed")):
        options = RepairOptions((kind,), wait_timeout=0)
        proof = engine._Proof(client, options, {ACTION.key: Once()}, frozenset())
        (ended,) = prove(proof, repair("a1", "a", kind))
        assert (ended.state, "no answer" in ended.reason) == (state, True)


def test_a_repair_that_was_proven_stays_if_the_next_audit_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    audits = iter([SimpleNamespace()])

    def audit(_client: Client, _options: RepairOptions) -> Any:
        found = next(audits, None)
        if found is None:
            raise KubeError("no answer")
        return found

    proven, other = repair("a1", "a"), repair("b1", "b")
    seconds = iter(range(100))
    monkeypatch.setattr(engine, "_audit", audit)
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    monkeypatch.setattr(time, "monotonic", lambda: float(next(seconds)))
    monkeypatch.setattr(engine._Proof, "_judged", lambda *_about: (set(), set()))
    monkeypatch.setattr(engine._Proof, "_answered", lambda *_about: {engine._key(proven)})
    monkeypatch.setattr(engine._Proof, "_may_pass", lambda *_about: True)
    written = Once()
    client: Any = SimpleNamespace(deadline=0.0)
    proof = engine._Proof(
        client, RepairOptions((kinds.SECURE,), wait_timeout=5), {ACTION.key: written}, frozenset()
    )
    assert [entry.state for entry in prove(proof, proven, other)] == ["repaired", "put-back"]
    assert written.restored == [{"b"}]


@pytest.mark.parametrize(("by", "state"), [("", "repaired"), ("operator", "overwritten")])
def test_the_field_proves_a_successor(by: str, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is read but the object, and nothing waits."""
    monkeypatch.setattr(engine, "_audit", None)
    monkeypatch.setattr(time, "sleep", None)
    client: Any = SimpleNamespace(deadline=0.0)
    proof = engine._Proof(client, RepairOptions((kinds.ADD_SUCCESSOR,)), {ACTION.key: Once(by)}, frozenset())
    (ended,) = prove(proof, repair("a1", "a", kinds.ADD_SUCCESSOR))
    assert (ended.state, ended.proof) == (state, "" if by else "field")


# What the audits after the write show of the object, the number of audits, and the state.
SHOWN: list[tuple[list[str], int, str]] = [
    (["pass"], 1, "repaired"),
    (["fail", "pass"], 2, "repaired"),
    (["unknown"], 1, "written"),
    ([], 1, "written"),
    (["fail"], 8, "written"),
]


@pytest.mark.parametrize(("shown", "audits", "state"), SHOWN)
def test_an_addition_waits_only_for_what_can_be_seen(
    shown: list[str], audits: int, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (point,) = points_of(KIND, configuration(OLD.pem))
    clock = [0.0]
    seen: list[str] = []

    def find(_data: ClusterData) -> list[AuditFinding]:
        seen.append(shown[min(len(seen), len(shown) - 1)] if shown else "")
        return [AuditFinding("ca-mismatch", seen[-1], point.object)] if seen[-1] else []

    monkeypatch.setattr(engine, "_audit", lambda *_: ClusterData(NOW))
    monkeypatch.setattr(audit_result, "find", find)
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))
    finding = AuditFinding("ca-mismatch", FAIL, point.object)
    entry = Repair(
        finding.fingerprint(""), "ca-mismatch", point.object.as_result(), kind=kinds.ADD_CA, action=ACTION
    )
    client: Any = SimpleNamespace(deadline=0.0)
    options = RepairOptions((kinds.ADD_CA,), wait_timeout=20)
    (ended,) = prove(engine._Proof(client, options, {ACTION.key: Once()}, frozenset()), entry)
    assert (ended.state, len(seen)) == (state, audits)


# The answers of the webhooks a and b to the API server, and the state and the proof of their repairs.
CALLS: list[tuple[bool | None, bool | None, list[tuple[str, str]]]] = [
    (True, None, [("repaired", "call"), ("repaired", "audit")]),
    (True, False, [("repaired", "call"), ("written", "")]),
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
    repairs = (repair("a1", "a", kinds.ADD_CA), repair("b1", "b", kinds.ADD_CA))
    client: Any = SimpleNamespace(deadline=0.0)
    proof = engine._Proof(client, RepairOptions((kinds.ADD_CA,)), {ACTION.key: Once()}, frozenset())
    (point,) = points_of(KIND, configuration(OLD.pem))
    points = tuple(replace(point, object=AuditedObject(KIND, "example", webhook=name)) for name in "ab")
    keys = set(map(engine._key, repairs))
    proven = proof._answered(ClusterData(NOW, points=points), repairs, keys)
    assert [(entry.state, entry.proof) for entry in proof.ended(repairs, proven)] == expected


def test_a_restart_stays_without_a_proof() -> None:
    client: Any = SimpleNamespace(deadline=0.0)
    proof = engine._Proof(client, RepairOptions((kinds.RELOAD,)), {ACTION.key: Written()}, frozenset())
    ended = proof.ended((repair("a1", "a", kinds.RELOAD),), ())
    assert [(entry.state, entry.code) for entry in ended] == [(FAILED, "unproven")]


def test_a_removal_is_for_the_bundle_that_was_judged() -> None:
    both = OLD.pem + NEW.pem
    edit = BundleEdit(config_with(both, ("demo", "hook")), OLD.pem, (OLD.fingerprint,), mode="absent")
    action = BundleAction(TARGET, configuration(both), (edit,), NOW)
    assert action.plan(configuration(both)).changed
    assert not action.plan(configuration(NEW.pem)).changed
    with fails("conflict"):
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
            return moved(second, {**after, "caBundle": base64.b64encode(NEW.pem.encode()).decode()})

    edit = BundleEdit(config_with(OLD.pem, None), NEW.pem, (NEW.fingerprint,))
    client: Any = Server()
    action = BundleAction(TARGET, first, (edit,), NOW)
    try:
        action.carry_out(client, RepairOptions((kinds.ADD_CA,)))
        outcome = ""
    except CertflowError as error:
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


@dataclass(frozen=True)
class Change:
    """A write that the API server refuses in a dry run, if its name says so."""

    name: str
    log: list[str]
    permissions: tuple[Permission, ...] = ()

    @property
    def key(self) -> tuple[str, ...]:
        return (self.name,)

    @property
    def writes(self) -> tuple[RepairWrite, ...]:
        kind = "ValidatingWebhookConfiguration" if "webhook" in self.name else "Secret"
        return (RepairWrite("patch", "v1", kind, self.name),)

    def carry_out(self, _client: Client, options: RepairOptions) -> Written:
        self.log.append(f"{'try' if options.check_mode else 'write'} {self.name}")
        if "refused" in self.name:
            raise CertflowError("refused")
        if "late" in self.name and self.log.count(self.log[-1]) < 3:
            raise ApiError("failed calling webhook", status=500)
        return Once()


def run_engine(
    names: list[str], approved: list[str] | None, monkeypatch: pytest.MonkeyPatch, *, check_mode: bool = False
) -> tuple[list[str], list[str], PlanGuard]:
    """Return the states, the requests in their order, and the guard."""
    log: list[str] = []
    repairs = [
        replace(repair(name, name, kinds.ADD_SUCCESSOR), action=cast("Any", Change(name, log)))
        for name in names
    ]
    monkeypatch.setattr(engine, "_audit", lambda *_: ClusterData(NOW))
    monkeypatch.setattr(engine, "_check_sources", lambda *_: None)
    monkeypatch.setattr(engine, "_planned", lambda *_: iter(repairs))
    guard = PlanGuard(approved, ["cluster:x"])
    client: Any = SimpleNamespace(written=[], deadline=0.0)
    ended, _data = engine.repair(client, RepairOptions(tuple(kinds.KINDS), check_mode=check_mode), guard)
    return [entry.state for entry in ended], log, guard


def test_a_signal_keeps_what_an_audit_proved(monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes while the proof of another repair is tried again."""
    proven, other = repair("a1", "a"), repair("b1", "b")
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            signal.raise_signal(signal.SIGINT)

    written = Once()
    monkeypatch.setattr(engine, "_audit", lambda *_: ClusterData(NOW))
    monkeypatch.setattr(engine, "_check_sources", lambda *_: None)
    monkeypatch.setattr(engine, "_planned", lambda *_: iter((proven, other)))
    monkeypatch.setattr(engine, "require", lambda *_: None)
    monkeypatch.setattr(engine._Proof, "_judged", lambda *_about: (set(), set()))
    monkeypatch.setattr(engine._Proof, "_answered", lambda *_about: {engine._key(proven)})
    monkeypatch.setattr(engine._Proof, "_may_pass", lambda *_about: True)
    monkeypatch.setattr(BundleAction, "carry_out", lambda *_about: written)
    monkeypatch.setattr(time, "sleep", pause)
    client: Any = SimpleNamespace(written=[], deadline=0.0)
    with pytest.raises(KeyboardInterrupt):
        engine.repair(client, RepairOptions((kinds.SECURE,)), PlanGuard(None, []))
    assert written.restored == [{"b"}]


def test_a_signal_between_two_tries_sends_no_further_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first write has failed, and the second one is tried again after an internal error."""
    monkeypatch.setattr(time, "sleep", lambda _seconds: signal.raise_signal(signal.SIGINT))
    log: list[str] = []

    def refuse(_change: Change, _client: Client, _options: RepairOptions) -> Written:
        log.append("write")
        raise ApiError("failed calling webhook", status=500)

    monkeypatch.setattr(Change, "carry_out", refuse)
    change: Any = Change("webhook", [])
    until, client = time.monotonic() + 60, cast("Any", SimpleNamespace())
    with pytest.raises(KeyboardInterrupt):
        engine._carry_out(client, change, RepairOptions((kinds.SECURE,)), until, {})
    assert log == ["write"]


#: When a signal comes, the kind, and the number of objects whose fields are restored.
SIGNALS = [
    ("sleep", kinds.SECURE, 2),
    ("sleep", kinds.ADD_CA, 0),
    # The answer to the first write is read, and the second one is not sent.
    ("write", kinds.SECURE, 1),
]


@pytest.mark.parametrize(("moment", "kind", "restored"), SIGNALS)
def test_a_signal_restores_a_removal_without_a_proof(
    moment: str, kind: str, restored: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as the end of certflow_deadline. No later audit has the finding, so no later run would restore it."""
    written: list[Once] = []

    class Removal(Change):
        def carry_out(self, _client: Client, options: RepairOptions) -> Written:
            written.append(Once())
            if moment == "write":
                signal.raise_signal(signal.SIGINT)
            return written[-1]

    repairs = [
        replace(repair(name, name, kind), action=cast("Any", Removal(name, []))) for name in ("a", "b")
    ]
    monkeypatch.setattr(engine, "_audit", lambda *_: ClusterData(NOW))
    monkeypatch.setattr(engine, "_check_sources", lambda *_: None)
    monkeypatch.setattr(engine, "_planned", lambda *_: iter(repairs))
    monkeypatch.setattr(time, "sleep", lambda _seconds: signal.raise_signal(signal.SIGINT))
    client: Any = SimpleNamespace(written=[], deadline=0.0)
    with pytest.raises(KeyboardInterrupt):
        engine.repair(client, RepairOptions((kind,)), PlanGuard(None, []))
    assert [len(write.restored) for write in written] == [int(restored > 0)] * (restored or 2)


def test_an_audit_without_time_for_its_comparisons_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_audit", lambda *_: ClusterData(NOW, is_over=lambda: True))
    client: Any = SimpleNamespace(written=[], deadline=0.0)
    ended, _data = engine.repair(client, RepairOptions((kinds.ADD_CA,)), PlanGuard(None, []))
    assert [(entry.is_left, entry.code) for entry in ended] == [(True, "audit-incomplete")]
    with fails("audit-incomplete"):
        engine.repair(client, RepairOptions((kinds.REMOVE_OUTGOING,)), PlanGuard(None, []))


def test_a_plan_has_only_what_a_dry_run_accepts(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["a", "refused-b", "c"]
    states, log, guard = run_engine(names, None, monkeypatch, check_mode=True)
    assert states == ["planned", "refused", "planned"]
    assert len(guard.writes) == 2
    digests = guard.as_result()["plan_digests"]
    states, log, _guard = run_engine(names, digests, monkeypatch)
    assert states == ["repaired", "refused", "repaired"]
    assert log == ["try a", "try refused-b", "try c", "write a", "write c"]
    states, _log, _guard = run_engine(["a"], digests, monkeypatch)
    assert states == ["repaired"]


def test_a_write_waits_until_the_api_server_notices_the_repair_of_a_webhook(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine, "_AGAIN_AFTER", 0.01)
    states, log, _guard = run_engine(["webhook-a", "late-b"], None, monkeypatch)
    assert (states, log) == (
        ["repaired", "repaired"],
        ["write webhook-a", "write late-b", "write late-b", "write late-b"],
    )
    states, log, _guard = run_engine(["late-b"], None, monkeypatch)
    assert (states, log) == (["refused"], ["write late-b"])


def test_forty_refused_writes_wait_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The repair of the webhook did not help. The first refused write uses up the time."""
    monkeypatch.setattr(engine, "_AGAIN_AFTER", 0.01)
    monkeypatch.setattr(engine, "_NOTICED_WITHIN", 0.05)
    monkeypatch.setattr(Change, "carry_out", _never)
    names = [f"never-{number}" for number in range(40)]
    states, log, _guard = run_engine(["webhook-a", *names], None, monkeypatch)
    assert states == ["repaired", *["refused"] * 40]
    assert [log.count(f"write {name}") for name in names[1:]] == [1] * 39
    assert log.count("write never-0") > 1


def _never(change: Change, _client: Client, _options: RepairOptions) -> Written:
    change.log.append(f"write {change.name}")
    if "never" in change.name:
        raise ApiError("failed calling webhook", status=500)
    return Once()


@pytest.mark.parametrize(
    ("status", "state"),
    [(200, "failed"), (503, "failed"), (504, "failed"), (422, "refused"), (500, "refused")],
)
def test_a_write_of_an_unknown_effect_has_failed(
    status: int, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(_change: Change, _client: Client, _options: RepairOptions) -> Written:
        raise ApiError("the answer of a proxy", status=status)

    monkeypatch.setattr(engine, "_AGAIN_AFTER", 0.01)
    monkeypatch.setattr(Change, "carry_out", answer)
    assert run_engine(["a"], None, monkeypatch)[0] == [state]


@pytest.mark.parametrize("approved", [[], ["cluster:x"]])
def test_an_empty_plan_is_a_plan(approved: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What the plan does not have is not written, also if its refusal of the plan is gone."""
    with fails("plan-differs"):
        run_engine(["b"], approved, monkeypatch)
    states, log, _guard = run_engine(["refused-b"], approved, monkeypatch)
    assert (states, log) == (["refused"], ["try refused-b"])


def test_all_writes_have_one_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    carry_out = engine._carry_out

    def noting(client: Any, *others: Any) -> Any:
        seen.append(client.deadline)
        time.sleep(0.01)
        return carry_out(client, *others)

    monkeypatch.setattr(engine, "_carry_out", noting)
    run_engine(["a", "b", "c"], None, monkeypatch)
    assert len(seen) == 3
    assert len(set(seen)) == 1


def test_the_result_of_a_repair_has_every_field() -> None:
    entry = replace(
        repair("f", "a", kinds.ADD_CA), state=REFUSED, code="unseen", reason="r", remedy="m", evidence=("e",)
    )
    result = entry.as_result()
    assert {name: result[name] for name in ("finding", "check", "kind", "state", "code", "proof")} == {
        "finding": entry.finding, "check": "ca-mismatch", "kind": kinds.ADD_CA, "state": REFUSED, "code": "unseen", "proof": "",
    }  # fmt: skip
    assert (result["reason"], result["remedy"], result["evidence"]) == ("r", "m", ["e"])
