# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Named findings that the audit no longer has: gone only with a pass for the same kind, namespace and name."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit import audit_result
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.facts.cluster_data import (
    COMPARISONS,
    EVENTS,
    SERVICES,
    ClusterData,
    Gap,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.facts.finding import (
    CLUSTER,
    FAIL,
    PASS,
    SKIP,
    UNKNOWN,
    AuditedObject,
    AuditFinding,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._repair import named_findings
from ansible_collections.certflow.kubernetes.plugins.module_utils._repair.repair_model import (
    Repair,
    RepairOptions,
)

pytestmark = pytest.mark.quick

NOW = datetime(2026, 11, 30, tzinfo=timezone.utc)
KIND = "ValidatingWebhookConfiguration"
CA = "ca-mismatch"
GONE, RECREATED, UNPROVEN = ("gone", ""), ("refused", "recreated"), ("refused", "not-proven")


def hook(name: str = "policy", webhook: str = "a", uid: str = "new") -> AuditedObject:
    return AuditedObject(KIND, name, uid=uid, webhook=webhook)


def found(
    status: str, subject: AuditedObject | None = None, check: str = CA, detail: str = ""
) -> AuditFinding:
    return AuditFinding(check, status, subject or hook(), detail=detail)


OLD = found(FAIL, hook(uid="old"))
SIBLING = found(FAIL, detail="other")
# What the audit has about other objects.
OTHERS = (found(PASS, hook("other")), found(FAIL, hook("third")))
# The findings of the audit, the findings that the user named beside the old one, and the outcome of the old one.
OUTCOMES: dict[str, tuple[list[AuditFinding], list[AuditFinding], tuple[str, str]]] = {
    "passed": ([found(PASS)], [], GONE),
    "passed after it was created again": ([found(PASS, hook(uid="newer"))], [], GONE),
    "does not exist": ([], [], GONE),
    "created again": ([found(FAIL)], [], RECREATED),
    "created again with other webhooks": ([found(FAIL, hook(webhook="b"))], [], RECREATED),
    "another webhook fails": ([found(PASS), found(FAIL, hook(webhook="b"))], [], GONE),
    "another webhook passes": ([found(UNKNOWN), found(PASS, hook(webhook="b"))], [], UNPROVEN),
    "its check has no answer": (
        [found(PASS, check="no-endpoints"), found(PASS, hook(webhook="b"))],
        [],
        UNPROVEN,
    ),
    "its webhook is gone": ([found(PASS, hook(webhook="b"))], [], GONE),
    "not read": ([found(UNKNOWN)], [], UNPROVEN),
    "another check passes": ([found(PASS, check="not-reloaded")], [], UNPROVEN),
    "left out": ([found(SKIP)], [], UNPROVEN),
    "another fault of the check is repaired": ([SIBLING], [SIBLING], GONE),
}


def judge(
    findings: list[AuditFinding],
    *named: AuditFinding,
    known: dict[str, Any] | None = None,
    uid: str = "c",
    **data: Any,
) -> tuple[str, str]:
    repair = refusal(findings, *named, known=known, uid=uid, **data)
    assert repair.is_left is (repair.state != "gone")
    return repair.state, repair.code


def refusal(
    findings: list[AuditFinding],
    *named: AuditFinding,
    known: dict[str, Any] | None = None,
    uid: str = "c",
    **data: Any,
) -> Repair:
    options = RepairOptions(("add-ca",), {entry.fingerprint("c"): {} for entry in (OLD, *named)})
    given = {"check": CA, "object": OLD.object.as_result()} if known is None else known
    return named_findings.judge(OLD.fingerprint("c"), given, findings, ClusterData(NOW, uid, **data), options)


@pytest.mark.parametrize("name", OUTCOMES)
def test_a_finding_is_gone_only_with_a_pass(name: str) -> None:
    findings, named, outcome = OUTCOMES[name]
    assert judge([*OTHERS, *findings], *named) == outcome


def test_a_refusal_has_the_reason_why_the_check_has_no_answer() -> None:
    """Only the gap of this check about this object, because another audit would not change that."""
    name = f"{KIND} policy, webhook a"
    gaps = [
        AuditFinding("unreadable", UNKNOWN, CLUSTER, cause, unanswered=(check,), objects=(place,))
        for cause, check, place in (
            ("other check", "expired", name),
            ("other object", CA, f"{KIND} other, webhook a"),
            ("probe_urls is false", CA, name),
        )
    ]
    repair = refusal([found(PASS, check="expired"), *gaps])
    assert repair.code == "not-proven"
    assert repair.reason.endswith(". probe_urls is false")
    assert repair.remedy == named_findings.CORRECT


def test_an_identity_that_cannot_read_the_uid_of_the_cluster() -> None:
    """Each fingerprint differs then."""
    assert judge([found(FAIL, hook(uid="old"))], uid="") == RECREATED


def lacking(source: str) -> list[AuditFinding]:
    """Return the findings of an audit that could not read a source, or that ended before all comparisons."""
    is_over = source == COMPARISONS
    gaps = () if is_over else (Gap(source, "forbidden"),)
    return audit_result.find(ClusterData(NOW, gaps=gaps, is_over=lambda: is_over))


@pytest.mark.parametrize(
    ("source", "outcome"), [(SERVICES, UNPROVEN), (COMPARISONS, UNPROVEN), (EVENTS, GONE)]
)
def test_an_object_whose_kind_was_not_read_is_not_gone(source: str, outcome: tuple[str, str]) -> None:
    assert judge(lacking(source)) == outcome


@pytest.mark.parametrize("kind", ["CertificateSigningRequest", "Secret", "Kubeconfig"])
def test_an_object_that_the_audit_of_a_repair_does_not_list_is_not_gone(kind: str) -> None:
    assert judge([], known={"check": CA, "object": {"kind": kind, "name": "one"}}) == UNPROVEN


@pytest.mark.parametrize("known", [{}, {"check": CA}, {"check": CA, "object": {}}])
def test_a_fingerprint_without_its_object_is_not_gone(known: dict[str, Any]) -> None:
    assert judge([found(PASS)], known=known) == UNPROVEN


def test_a_finding_of_the_cluster_is_gone_if_its_check_no_longer_applies() -> None:
    known = {"check": "outgoing-ca-left", "object": CLUSTER.as_result()}
    options = RepairOptions(("remove-outgoing",), {"f": known})
    for detail, state in (("", "gone"), ("requests", "refused")):
        findings = [found(SKIP, CLUSTER, "outgoing-ca-left", detail)]
        assert named_findings.judge("f", known, findings, ClusterData(NOW), options).state == state


def test_what_the_audit_did_not_read_is_left() -> None:
    for source in (SERVICES, COMPARISONS):
        left = named_findings.unread(lacking(source), ClusterData(NOW), ("add-ca",))
        assert left is not None
        assert (left.is_left, left.code) == (True, "audit-incomplete")
    assert named_findings.unread(lacking(EVENTS), ClusterData(NOW), ("add-ca",)) is None
