# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The result of an audit, the table of checks, and foreign text."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit import audit_result
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.checks import (
    call_checks,
    check_table,
    cluster_checks,
    rotation_checks,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.facts.cluster_data import (
    PERMISSIONS,
    Backend,
    CaData,
    Gap,
    StuckRequest,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.facts.finding import (
    AuditedObject,
    AuditFinding,
    every,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.text import LONGEST_TEXT
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.ca_rotation import (
    find_cas,
    published_cas,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._diagnosis.observation import Diagnosis
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.bundles.bundle_targets import (
    ADMISSION_KINDS,
    KINDS,
)

from tests.support.certificates.authority import DAY, NOW
from tests.unit.plugins.module_utils._audit.world import (
    CA,
    RULE,
    cluster,
    config,
    leaf,
    point,
    served,
    webhook,
)

pytestmark = pytest.mark.quick

HOSTILE = "x\x1b[31m\u202e<script>alert(1)</script>{{ 7 * 7 }}\n| # heading\x00" + "y" * 5000
EXPIRING = leaf(not_after=NOW + 5 * DAY, not_before=NOW - 360 * DAY)
OBJECT = AuditedObject("ValidatingWebhookConfiguration", "hooks", uid="1", webhook="a")


def build(*points: Any, include_passed: bool = False, **options: Any) -> dict[str, Any]:
    return audit_result.build(cluster(*points, **options), include_passed=include_passed)


def test_findings_that_break_first_come_first() -> None:
    soon = Backend(ready=1, chains=(served(EXPIRING),))
    points = [
        point(uid="1", webhook=webhook("secrets")),
        point(config(name="gone"), uid="2", name="gone"),
        point(config(name="soon"), uid="3", name="soon"),
    ]
    backends = {points[1].backend: Backend(exists=False), points[2].backend: soon}
    request = StuckRequest(
        AuditedObject("CertificateSigningRequest", "r"), Diagnosis("c", "It waits.", "likely"), NOW - DAY
    )
    result = build(*points, backends=backends, requests=(request,), gaps=(Gap("pods", "no"),))
    duplicates = ["webhook-duplicated"] * 2
    wanted = ["request-stuck", "service-missing", "name-mismatch", "expiring", *duplicates, "unreadable"]
    assert [finding["check"] for finding in result["findings"]] == wanted
    assert result["breaks_at"] == "2026-06-14T12:00:00Z"


def test_a_rule_reports_the_checks_of_the_rows_that_name_it() -> None:
    data = cluster(point(), point(config(name="b"), uid="b", name="b"))
    for rule in filter(None, {row.rule for row in check_table.CHECKS}):
        named = {row.id for row in check_table.CHECKS if row.rule is rule}
        assert {finding.check for finding in rule(data)} <= named


@pytest.mark.parametrize("moments", [0, 1, 3, 110])
def test_findings_before_the_end_of_the_time_are_kept(moments: int) -> None:
    """The checks after it are unknown, and the audit is incomplete."""
    gone = [
        point(config(name=f"gone-{number}"), uid=str(number), name=f"gone-{number}") for number in range(5)
    ]
    data = cluster(*gone, point(), backends={entry.backend: Backend(exists=False) for entry in gone})
    clock = itertools.count()
    data = replace(data, is_over=lambda: next(clock) >= moments)
    result = audit_result.build(data, include_passed=True)
    assert result["incomplete"] == ["comparisons"]
    (unknown,) = (finding for finding in result["findings"] if finding["status"] == "unknown")
    assert "wait_timeout" in unknown["cause"]
    unfinished = {*unknown["unanswered"]}
    others = [finding for finding in result["findings"] if finding["status"] in ("pass", "skip")]
    assert not unfinished & {other["check"] for other in others}
    assert sum(finding["status"] == "fail" for finding in result["findings"]) <= moments
    assert "request-stuck" in unfinished
    assert ("service-missing" in unfinished) is (moments < 110)


def test_passed_findings_are_counted_and_shown_on_request() -> None:
    short, long = build(point()), build(point(), include_passed=True)
    assert short["findings"] == []
    assert {finding["status"] for finding in long["findings"]} == {"pass", "skip"}
    assert short["counts"] == long["counts"]
    assert short["counts"]["pass"] == sum(finding["status"] == "pass" for finding in long["findings"])
    assert short["checks"]["expired"]["counts"] == {"fail": 0, "unknown": 0, "pass": 1, "skip": 0}
    assert short["breaks_at"] is None


def test_a_gap_of_a_backend_names_the_objects_that_call_it() -> None:
    """One reason is one finding, also for many backends. A gap without a backend is about every webhook."""
    points = [point(config(name=name), uid=name, name=name) for name in ("a", "b", "c")]
    gaps = [Gap("endpoints", "no", backend=entry.backend) for entry in points[:2]]
    findings = [
        build(*points, gaps=tuple(group))["findings"] for group in (gaps, [*gaps, Gap("endpoints", "no")])
    ]
    objects = [
        [finding["objects"] for finding in group if finding["status"] == "unknown"] for group in findings
    ]
    webhook_name = ", webhook hook.example.com"
    named = [f"ValidatingWebhookConfiguration {name}{webhook_name}" for name in ("a", "b")]
    hooks = list(map(every, ADMISSION_KINDS))
    assert objects == [[named], [[*named, *hooks]]]


def test_messages_about_one_missing_permission_are_one_finding() -> None:
    """They differ in the name of the namespace."""
    points = [point(config(name=name), uid=name, name=name) for name in ("a", "b")]
    gaps = tuple(
        Gap("services", f"no services in {entry.backend[1]}", True, backend=entry.backend[:2])
        for entry in points
    )
    result = build(*points, gaps=gaps, lacking=PERMISSIONS["services"][:1])
    (unknown,) = (finding for finding in result["findings"] if finding["status"] == "unknown")
    assert unknown["objects"] == [str(entry.object) for entry in points]
    assert unknown["permissions"] == ["get services"]
    assert result["incomplete"] == ["services"]


@pytest.mark.parametrize("source", list(PERMISSIONS))
def test_every_unknown_finding_names_objects(source: str) -> None:
    (unknown,) = (
        finding for finding in build(gaps=(Gap(source, "no"),))["findings"] if finding["status"] == "unknown"
    )
    assert unknown["objects"]
    assert any(line.startswith("objects: ") for line in unknown["evidence"])


def test_what_an_unread_source_hides() -> None:
    """The objects of a whole source are those whose findings pass if it is read."""
    subjects = [
        *(AuditedObject(kind, "x") for kind in (*KINDS, "CertificateSigningRequest")),
        rotation_checks.KUBECONFIG,
        cluster_checks.API_SERVER,
        cluster_checks.CLUSTER_CA_OBJECT,
        cluster_checks.SNAPSHOT_CONTROLLER,
    ]  # fmt: skip
    for source in ("definitions", "api-services", "requests", "api-server", "cluster-ca", "snapshot-controller"):  # fmt: skip
        names = set(cluster().names_of(Gap(source, "no")))
        assert names & {name for subject in subjects for name in subject.names} == names, source


CONDITIONAL: dict[str, Any] = {"namespaceSelector": {}, "matchConditions": [{"name": "a"}]}
OLD_LEASES: dict[str, Any] = {
    "rules": [{**RULE, "apiGroups": ["coordination.k8s.io"], "apiVersions": ["v1beta1"], "resources": ["leases"]}],
    "namespaceSelector": {},
}  # fmt: skip
#: A webhook -> the source and the checks of the unknown finding.
UNDECIDED: list[tuple[dict[str, Any], Any]] = [
    (webhook("pods", **CONDITIONAL), ("match-conditions", {"control-plane-blocked", "deadlock"})),
    (webhook("nodes", **CONDITIONAL), ("match-conditions", {"control-plane-blocked"})),
    (webhook("ingresses", **CONDITIONAL), None),
    (webhook("pods", matchConditions=[{"name": "a"}], namespaceSelector={"matchLabels": {"x": "y"}}), None),
    (webhook("pods", **CONDITIONAL, failurePolicy="Ignore", timeoutSeconds=3), None),
    ({**webhook(), **OLD_LEASES}, ("rule-versions", {"control-plane-blocked"})),
]


@pytest.mark.parametrize(("given", "wanted"), UNDECIDED)
def test_an_undecided_webhook_is_unknown_with_the_reason(given: dict[str, Any], wanted: Any) -> None:
    called = point(webhook=given)
    pods = {("shop", "hook"): ({"app": "hook"},)}
    found = build(called, pods=pods)["findings"]
    assert [(finding["source"], {*finding["unanswered"]}) for finding in found] == (
        [wanted] if wanted else []
    )
    for audit_finding in found:
        assert audit_finding["objects"] == [str(called.object)]
        assert not [line for line in audit_finding["evidence"] if line.startswith("no answer for any object")]


def test_undecided_webhooks_are_one_finding_beside_a_gap_of_the_source() -> None:
    names = ("a", "b")
    points = [
        point(config(name=name), uid=name, name=name, webhook=webhook("nodes", **CONDITIONAL))
        for name in names
    ]
    found = build(*points, truncated=frozenset(["pods"]))["findings"]
    assert [finding["objects"] for finding in found if finding["source"]] == [
        [str(entry.object) for entry in points]
    ]


def test_a_service_that_could_not_be_read_hides_faults_of_other_webhooks() -> None:
    """A webhook may guard the pods of the other Service. Its own certificate was read."""
    points = [point(config(name=name), uid=name, name=name) for name in ("read", "unread")]
    backends = {points[0].backend: Backend(ready=2, chains=(served(leaf()),), selector={"app": "hook"})}
    gaps = (Gap("services", "no", backend=points[1].backend[:2]),)
    result = build(*points, backends=backends, gaps=gaps, include_passed=True)
    passed = [
        (finding["object"]["name"], finding["check"])
        for finding in result["findings"]
        if finding["status"] == "pass"
    ]
    assert ("read", "expired") in passed
    assert ("unread", "expired") not in passed
    assert "deadlock" not in [check for _name, check in passed]


@pytest.mark.parametrize(
    ("check", "gap"),
    [
        ("cluster-ca-expiring", Gap("cluster-ca", "no")),
        ("apiserver-expiring", Gap("api-server", "no")),
        ("not-reloaded", Gap("certificates", "no", backend=("shop", "hook"))),
        ("deadlock", Gap("services", "no", backend=("shop", "hook"))),
    ],
)
def test_a_check_whose_data_could_not_be_read_is_not_skipped(check: str, gap: Gap) -> None:
    called, blind = point(certificate=("shop", "hook")), Backend(is_known=gap.source != "services")
    answers = [
        [finding["status"] for finding in build(called, backend=blind, gaps=gaps, include_passed=True)["findings"]
         if finding["check"] == check]
        for gaps in ((), (gap,))
    ]  # fmt: skip
    assert answers == [["skip"], []]


def test_what_the_site_does_not_permit_is_skipped() -> None:
    gaps = (Gap("metrics", "the option without names it"), Gap("pods", "no"))
    result = build(point(), gaps=gaps, without=("metrics",), include_passed=True)
    assert [finding["source"] for finding in result["findings"] if finding["status"] == "unknown"] == ["pods"]
    calls = [finding["status"] for finding in result["findings"] if finding["check"] == "calls-fail"]
    assert calls == ["skip"]


def test_every_gap_is_one_finding_with_its_permissions() -> None:
    gaps = tuple(Gap(source, "a reason") for source in PERMISSIONS)
    result = build(gaps=(*gaps, *gaps))
    unknown = [finding for finding in result["findings"] if finding["status"] == "unknown"]
    assert len(unknown) == len(PERMISSIONS)
    assert len({finding["fingerprint"] for finding in unknown}) == len(unknown)
    assert all(finding["check"] == "unreadable" and finding["severity"] == "warning" for finding in unknown)
    assert result["counts"]["unknown"] == len(PERMISSIONS)


def test_a_gap_of_one_check_hides_no_other_check_of_its_source() -> None:
    """The pods of a webhook, and those of the whole cluster during a rotation, need one permission."""
    whole, part = Gap("pods", "no", True), Gap("pods", "no", True, checks=("pods-before-successor",))
    (alone,) = (
        finding["unanswered"] for finding in build(gaps=(whole,))["findings"] if finding["source"] == "pods"
    )
    (both,) = (
        finding["unanswered"]
        for finding in build(gaps=(whole, part))["findings"]
        if finding["source"] == "pods"
    )
    assert both == alone
    assert len(alone) > 1


@pytest.mark.parametrize("source", list(PERMISSIONS))
@pytest.mark.parametrize("lacks_permission", [True, False])
def test_nothing_passes_because_of_a_gap(source: str, lacks_permission: bool) -> None:
    """A check of several objects does not pass if one of its sources could not be read, also not after a rotation of the CA."""
    cas = find_cas(published_cas(CA.pem), leaf().pem, now=NOW)
    assert cas
    known: Any = {"cluster_ca": CA.pem, "kubeconfig_ca": CA.pem, "api_server": leaf().pem, "ca": CaData(cas)}
    passed = build(point(), include_passed=True, **known)["findings"]
    gap = Gap(source, "a reason", lacks_permission)
    result = build(point(), include_passed=True, gaps=(gap,), **known)["findings"]
    before, after = (
        {finding["fingerprint"] for finding in found if finding["status"] == "pass"}
        for found in (passed, result)
    )
    assert after <= before
    if source in ("match-conditions", "definitions", "api-services"):  # they are about other objects
        return
    # A bundle has its order whatever else was read.
    named = {finding["check"] for finding in result if finding["status"] == "pass"} - {"ca-order"}
    assert not [check for check in named if source in check_table.BY_ID[check].sources]


def test_an_endpoint_that_was_not_read_does_not_pass() -> None:
    half = Backend(ready=2, chains=(served(leaf()),), selector={"app": "hook"})
    gaps = (Gap("endpoints", "it did not answer", backend=point().backend),)
    result = build(point(), backend=half, gaps=gaps, include_passed=True)
    passed = {finding["check"] for finding in result["findings"] if finding["status"] == "pass"}
    assert not passed & {*call_checks.SERVED, "handshake-fails", "endpoints-differ", "renewal-unmanaged"}
    assert {"service-missing", "bundle-empty", "ca-expired"} <= passed


def test_every_source_of_a_check_has_its_permissions() -> None:
    sources = {source for row in check_table.CHECKS for source in row.sources}
    assert sources | {"identity", "comparisons"} == set(PERMISSIONS)


def test_ids_are_unique_words() -> None:
    ids = [row.id for row in check_table.CHECKS]
    assert len(set(ids)) == len(ids)
    assert all(check == check.lower() and " " not in check for check in ids)
    for row in check_table.CHECKS:
        assert row.severity in ("error", "warning", "info")
        assert row.effect.endswith(".")
        assert row.remedy.endswith(".")
        assert row.source


def test_a_fingerprint_depends_on_the_object_and_not_on_the_words() -> None:
    finding = AuditFinding("expired", "fail", OBJECT, "one")
    same = replace(finding, cause="two", breaks_at=NOW, severity="info")
    others = [
        replace(finding, check="expiring"),
        replace(finding, object=replace(OBJECT, uid="2")),
        replace(finding, object=replace(OBJECT, webhook="b")),
        replace(finding, detail="x"),
    ]
    assert same.fingerprint("c") == finding.fingerprint("c")
    prints = {other.fingerprint("c") for other in others} | {finding.fingerprint("d")}
    assert finding.fingerprint("c") not in prints
    assert len(prints) == len(others) + 1


def test_foreign_text_is_short_and_has_no_hidden_characters() -> None:
    subject = replace(OBJECT, name=HOSTILE, webhook=HOSTILE, manager=HOSTILE)
    text = json.dumps(
        AuditFinding("expired", "fail", subject, HOSTILE, (HOSTILE,)).as_result("c"), ensure_ascii=False
    )
    assert text.isprintable()
    assert "\u202e" not in text
    assert "<script>" in text  # a renderer escapes for its own format
    assert len(text) < 6 * (LONGEST_TEXT + 100)
