# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Findings about what the API server calls."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit import audit_result
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.checks import call_checks
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.checks.call_checks import check_point
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.facts.cluster_data import (
    ApiServiceState,
    Backend,
    CallPoint,
    DefinitionState,
    FailedCall,
    Gap,
    IssuedCertificate,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.facts.finding import (
    FAIL,
    LIKELY,
    PASS,
    SKIP,
    AuditedObject,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.calls.call_failures import (
    AGGREGATION,
    CONVERSION,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509.chain import signatures
from cryptography import x509

from tests.support.certificates.authority import (
    CLIENT_AUTH,
    DAY,
    NOW,
    SERVER_AUTH,
    Issued,
    authority,
    dns,
    issue,
)
from tests.unit.plugins.module_utils._audit.world import (
    CA,
    GOOD,
    OTHER_CA,
    RULE,
    cluster,
    config,
    failures,
    leaf,
    point,
    served,
    silent,
    webhook,
)

pytestmark = pytest.mark.quick

HEALTHY = Backend(ready=1, chains=(served(GOOD),))
EXPIRING = leaf(not_after=NOW + 5 * DAY, not_before=NOW - 360 * DAY)
URL = config("", url="hooks.example.com")
TWO = Backend(ready=2, chains=(served(GOOD), served(leaf(), pod="hook-2")))
SAME = Backend(ready=2, chains=(served(GOOD), served(GOOD, pod="hook-2")))
THREE = Backend(ready=3, chains=(*SAME.chains, served(leaf(), pod="hook-3")))
HALF = Backend(ready=2, chains=(served(GOOD), served(leaf(OTHER_CA), pod="hook-2")))
DEMANDING = Backend(ready=1, chains=(replace(served(GOOD), refusal="it demands a client certificate"),))
SLOW = Backend(ready=1, chains=(replace(served(GOOD), seconds=10.5),))
ENDING = Backend(unready=1, is_ending=True)
CRD = point(kind="CustomResourceDefinition", caller=CONVERSION)
API = point(kind="APIService", caller=AGGREGATION)

ROWS: list[tuple[str, CallPoint, Backend, list[str]]] = [
    ("healthy", point(), HEALTHY, []),
    ("no Service", point(), Backend(exists=False), ["service-missing"]),
    ("no port", point(), Backend(has_port=False), ["port-missing"]),
    ("no endpoint", point(), Backend(), ["no-endpoints"]),
    ("an endpoint that ends", point(), ENDING, ["no-endpoints"]),
    ("an endpoint of a conversion that ends", CRD, ENDING, ["no-endpoints"]),
    ("not readable", point(), Backend(is_known=False), []),
    ("no bundle", point(config("")), HEALTHY, ["bundle-empty"]),
    ("a placeholder", point(config("\n")), HEALTHY, ["bundle-broken"]),
    ("no certificate in the bundle", point(config("none")), HEALTHY, ["bundle-broken"]),
    ("another CA", point(config(OTHER_CA.pem)), HEALTHY, ["ca-mismatch"]),
    ("one of two endpoints", point(), HALF, ["ca-mismatch", "endpoints-differ"]),
    ("a certificate for each endpoint", point(), TWO, []),
    ("an older certificate on two of three endpoints", point(), THREE, ["endpoints-differ"]),
    ("two endpoints with one certificate", point(), SAME, []),
    ("no TLS", point(), Backend(ready=1, chains=(silent(),)), ["handshake-fails"]),
    ("a blind run", point(), Backend(ready=1, chains=(silent(is_blind=True),)), []),
    ("a server that demands a client certificate, which the API server may have", point(), DEMANDING, []),
    ("an API that demands one, and gets it", API, DEMANDING, []),
    ("a handshake longer than timeoutSeconds", point(), SLOW, ["timed-out"]),
    ("no program listens", point(), Backend(ready=1, chains=(silent(fault="refused"),)), ["refused"]),
    ("a certificate that Go refuses", point(), Backend(ready=1, chains=(silent(fault="certificate-refused"),)), ["certificate-refused"]),
    ("a long handshake of a conversion", CRD, SLOW, []),
    ("a headless Service", point(), replace(HEALTHY, is_headless=True), ["service-headless"]),
    ("a headless Service of an API", API, replace(HEALTHY, is_headless=True), []),
    ("a URL", point(URL), Backend(is_external=True, ready=1), []),
    ("an ExternalName", point(), Backend(is_external=True, ready=1), []),
    ("a conversion", CRD, HEALTHY, []),
    ("a dead conversion", CRD, Backend(exists=False), ["conversion-dead"]),
    ("a conversion with another CA", CRD, Backend(ready=1, chains=(served(leaf(OTHER_CA)),)), ["conversion-dead"]),
    ("a conversion that ends soon", CRD, Backend(ready=1, chains=(served(EXPIRING),)), ["expiring"]),
    ("an API", API, HEALTHY, []),
    ("an API without verification", replace(API, is_verified=False, config=config("")), HEALTHY, ["apiservice-insecure"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("called", "backend", "wanted"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS]
)
def test_each_fault_is_one_finding(called: CallPoint, backend: Backend, wanted: list[str]) -> None:
    data = cluster(called, backend=backend)
    assert [check for check, _severity in failures(check_point(data, called))] == wanted


@pytest.mark.parametrize("called", [point(), CRD, API])
def test_an_endpoint_that_ends_may_get_calls_until_then(called: CallPoint) -> None:
    """kube-proxy leads to it if no endpoint is ready (KEP-1669)."""
    (finding,) = (
        entry
        for entry in check_point(cluster(called, backend=ENDING), called)
        if (entry.check, entry.status) == ("no-endpoints", FAIL)
    )
    assert (finding.severity, finding.certainty, finding.breaks_at) == ("warning", "likely", None)


@pytest.mark.parametrize(("published", "wanted"), [(CA, [("bundle-empty", "")]), (OTHER_CA, []), (None, [])])
def test_a_url_without_a_bundle_that_serves_a_certificate_of_the_cluster(
    published: Issued | None, wanted: list[tuple[str, str]]
) -> None:
    """The roots of a machine have no CA of a cluster. Of another certificate it is not known."""
    called = point(URL)
    backend = Backend(ready=1, chains=(served(leaf(names=dns("hooks.example.com"))),), is_external=True)
    data = cluster(called, backend=backend, cluster_ca=published.pem if published else "")
    found = [entry for entry in failures(check_point(data, called)) if entry[0].startswith(("bundle", "ca-"))]
    assert found == wanted


#: What a URL without a caBundle serves -> the failed checks.
WITHOUT_BUNDLE: list[tuple[str, Issued, list[str]]] = [
    ("of a CA that may be public", leaf(names=dns("hooks.example.com")), []),
    ("signed by itself", issue("self", names=dns("hooks.example.com"), usages=[SERVER_AUTH]), ["bundle-empty"]),
    ("only for clients", leaf(names=dns("hooks.example.com"), usages=(CLIENT_AUTH,)), ["wrong-usage"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "wanted"), [row[1:] for row in WITHOUT_BUNDLE], ids=[row[0] for row in WITHOUT_BUNDLE]
)
def test_the_roots_of_the_api_servers_machine_are_not_known(given: Issued, wanted: list[str]) -> None:
    """So no check of the chain passes. The certificate itself has its faults with any roots."""
    called = point(URL)
    data = cluster(called, backend=Backend(ready=1, chains=(served(given),), is_external=True))
    found = [*check_point(data, called)]
    statuses = {finding.check: finding.status for finding in found}
    assert [finding.check for finding in found if finding.status == FAIL] == wanted
    assert {statuses[check] for check in ("ca-mismatch", "not-a-ca", "ca-expired")} == {SKIP}
    assert (statuses["name-mismatch"], statuses["expired"]) == (PASS, PASS)


NAMESAKE = authority("a CA of one name")
NAMESAKE_TOO = authority("a CA of one name")
CLIENT = leaf(NAMESAKE, usages=(CLIENT_AUTH,))
#: The served leaf, the bundle -> the failed checks, and True if it is not known what the API server does.
UNREADS: list[tuple[str, Issued, str, list[str], bool]] = [
    ("a CA of the name of the issuer", leaf(NAMESAKE), NAMESAKE_TOO.pem, [], True),
    ("a CA of another name", leaf(OTHER_CA), CA.pem, ["ca-mismatch"], False),
    ("not for servers", CLIENT, NAMESAKE_TOO.pem, ["wrong-usage"], True),
    ("for another name", leaf(NAMESAKE, names=dns("other")), NAMESAKE_TOO.pem, ["name-mismatch"], True),
]


@pytest.mark.parametrize(
    ("given", "bundle", "wanted", "is_unknown"), [row[1:] for row in UNREADS], ids=[row[0] for row in UNREADS]
)
def test_a_ca_whose_key_only_go_uses(
    given: Issued, bundle: str, wanted: list[str], is_unknown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object) -> None:
        raise ValueError

    signatures._answers.cache_clear()
    monkeypatch.setattr(signatures, "_check", refuse)
    called = point(config(bundle))
    data = cluster(called, backend=Backend(ready=1, chains=(served(given),)))
    found = audit_result.find(data)
    assert [finding.check for finding in found if finding.status == "fail"] == wanted
    unknown = [finding for finding in found if finding.status == "unknown"]
    assert bool(unknown) is is_unknown
    for audit_finding in unknown:
        assert (audit_finding.source, audit_finding.objects) == ("certificate-unread", (str(called.object),))
        assert "ca-mismatch" in audit_finding.unanswered
    signatures._answers.cache_clear()


#: A subject key identifier with bytes after it, which Go skips.
LONG_ID = (x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.14"), b"\x04\x03one\x05\x00"), False)
LONG_CA = authority("a CA of one name", extensions=[LONG_ID])


@pytest.mark.parametrize(("issuer", "status"), [(LONG_CA, "pass"), (NAMESAKE, "fail")])
def test_a_ca_with_bytes_that_go_skips(issuer: Issued, status: str) -> None:
    called = point(config(LONG_CA.pem))
    data = cluster(called, backend=Backend(ready=1, chains=(served(leaf(issuer)),)))
    assert [finding.status for finding in audit_result.find(data) if finding.check == "ca-mismatch"] == [
        status
    ]


#: The backend, the answered calls -> the severities and the first line of the evidence.
PROOFS: list[tuple[Backend, float, list[tuple[str, str]]]] = [
    (
        Backend(ready=1, chains=(silent(fault="refused"),)),
        3,
        [("info", "this is no error now: 3 calls of the webhook succeeded")],
    ),
    (
        Backend(ready=1, chains=(silent(fault="refused"),)),
        0,
        [("", "pod shop/hook-1, port 8443: it cannot be reached")],
    ),
    (
        Backend(ready=3, chains=(served(GOOD), silent(fault="refused"), served(GOOD))),
        3,
        [("", "3 calls of the webhook succeeded during the audit, perhaps of other endpoints")],
    ),
    (
        Backend(ready=1, chains=(served(leaf(OTHER_CA)),)),
        3,
        [("error", "3 calls of the webhook succeeded during the audit, perhaps")],
    ),
]


@pytest.mark.parametrize(("backend", "calls", "wanted"), PROOFS)
def test_calls_that_succeed_refute_a_likely_fault(
    backend: Backend, calls: float, wanted: list[tuple[str, str]]
) -> None:
    called = point()
    data = cluster(called, backend=backend, answered={"hook.example.com": calls})
    found = [call_point for call_point in check_point(data, called) if call_point.status == "fail"]
    assert [severity for _check, severity in failures(found)] == [severity for severity, _line in wanted]
    for finding, (_severity, line) in zip(found, wanted):
        assert finding.evidence[0].startswith(line)
        assert (finding.breaks_at is None) is (finding.severity == "info")


def test_a_name_of_two_webhooks_refutes_nothing() -> None:
    called = point()
    backend = Backend(ready=1, chains=(silent(fault="refused"),))
    data = cluster(called, point(uid="2"), backend=backend, answered={"hook.example.com": 3})
    assert ("refused", "") in failures(check_point(data, called))


def test_an_available_api_refutes_a_likely_fault() -> None:
    state = ApiServiceState(API.object, True)
    backend = Backend(ready=1, chains=(silent(fault="refused"),))
    data = cluster(API, backend=backend, api_services=(state,))
    assert failures(check_point(data, API)) == [("refused", "info")]


@pytest.mark.parametrize(
    ("served_versions", "stored", "severity"),
    [(("v1",), ("v1",), "info"), (("v1",), ("v1beta1", "v1"), "warning"), (("v1", "v1beta1"), ("v1",), "")],
)
def test_a_version_that_is_neither_served_nor_stored_is_not_converted(
    served_versions: tuple[str, ...], stored: tuple[str, ...], severity: str
) -> None:
    state = DefinitionState(CRD.object, "g", "things", served_versions, stored, True, ("v1", "v1beta1"))
    data = cluster(CRD, backend=Backend(exists=False), definitions=(state,))
    assert failures(check_point(data, CRD)) == [("conversion-dead", severity)]


STATES = [
    (True, HEALTHY, []),
    (True, Backend(exists=False), ["service-missing"]),
    (False, Backend(exists=False), ["apiservice-down"]),
]


@pytest.mark.parametrize(("is_available", "backend", "wanted"), STATES)
def test_an_api_that_is_down_explains_itself(is_available: bool, backend: Backend, wanted: list[str]) -> None:
    state = ApiServiceState(API.object, is_available, "ServiceNotFound: no Service")
    findings = list(check_point(cluster(API, backend=backend, api_services=(state,)), API))
    assert [check for check, _severity in failures(findings)] == wanted
    down = [finding for finding in findings if finding.check == "apiservice-down"]
    assert [line.partition(":")[0] for finding in down for line in finding.evidence] == (
        [] if is_available else ["service-missing"]
    )


@pytest.mark.parametrize(("since", "breaks_at"), [(NOW - DAY, NOW - DAY), (None, NOW)])
def test_an_api_is_down_since_its_condition_changed(since: Any, breaks_at: Any) -> None:
    state = ApiServiceState(API.object, False, "ServiceNotFound: no Service", since=since)
    data = cluster(API, backend=Backend(exists=False), api_services=(state,))
    (down,) = [finding for finding in check_point(data, API) if finding.check == "apiservice-down"]
    assert down.breaks_at == breaks_at


def test_a_pass_says_what_a_port_forward_does_not_show() -> None:
    passed = {
        finding.check: finding for finding in check_point(cluster(point()), point()) if finding.status == PASS
    }
    for check in ("no-endpoints", "ca-mismatch", "endpoints-differ", "handshake-fails"):
        assert "network path" in passed[check].evidence[0]


def test_what_does_not_apply_is_skipped() -> None:
    found = check_point(cluster(point(), backend=Backend(exists=False)), point())
    assert [finding.check for finding in found if finding.status == SKIP] == ["port-missing", "no-endpoints"]


def test_nothing_passes_that_was_not_read() -> None:
    found = check_point(cluster(point(), backend=Backend(is_known=False)), point())
    seen: set[Any] = {finding.check for finding in found}
    assert seen == {"bundle-empty", "bundle-broken", "ca-expired", "ca-expiring"}  # the bundle was read


def test_the_evidence_has_a_line_for_each_endpoint() -> None:
    found = list(check_point(cluster(point(), backend=HALF), point()))
    (finding,) = [finding for finding in found if finding.check == "ca-mismatch" and finding.evidence]
    assert finding.evidence[0].startswith("pod shop/hook-2, port 8443: ")


RULES = [
    (webhook("pods", "pods/status"), ("refuses", ("CREATE of pods, pods/status",))),
    (webhook("deployments", group="apps", failurePolicy="Ignore"), ("skips", ("CREATE of deployments.apps",))),
    (webhook(*"abcdefg"), ("refuses", ("CREATE of a, b, c, d, e and 2 more",))),
    ({**webhook(), "rules": [{**RULE, "operations": ["*"], "apiGroups": ["*"], "resources": ["*"]}]}, ("refuses", ("* of *.*",))),
    ({**webhook(), "rules": [RULE, {**RULE, "resources": ["a"]}, {**RULE, "operations": ["DELETE"]}]},
     ("refuses", ("CREATE of configmaps, a", "DELETE of configmaps"))),
    ({"rules": []}, ("refuses", ())),
]  # fmt: skip


@pytest.mark.parametrize(("given", "impact"), RULES)
def test_a_failed_finding_says_for_which_requests_the_webhook_is_called(
    given: dict[str, Any], impact: Any
) -> None:
    called = point(webhook=given)
    findings = audit_result.find(cluster(called, backend=Backend(exists=False)))
    own = [finding for finding in findings if finding.object == called.object]
    assert {(finding.impact, finding.requests) for finding in own if finding.status == FAIL} == {impact}
    assert {(finding.impact, finding.requests) for finding in own if finding.status != FAIL} <= {("", ())}


@pytest.mark.parametrize(
    ("caller", "words"), [(CONVERSION, "requests for x.example.com that need a conversion"), (AGGREGATION, "requests of x.example.com")]
)  # fmt: skip
def test_conversions_and_aggregated_apis_refuse_requests(caller: str, words: str) -> None:
    called = point(kind="APIService", caller=caller, name="x.example.com", webhook={})
    failed = [
        finding
        for finding in audit_result.find(cluster(called, backend=Backend(exists=False)))
        if finding.status == FAIL
    ]
    assert {(finding.impact, finding.requests) for finding in failed if finding.object == called.object} == {
        ("refuses", (words,))
    }


# Calls that the API server does not make


def definition(*versions: str, name: str = "hooks") -> DefinitionState:
    subject = AuditedObject("CustomResourceDefinition", name)
    return DefinitionState(subject, "example.com", "things", versions[:1], versions=versions)


NO_NAMESPACE = {"matchLabels": {"team": "unknown"}}
PODS = webhook("pods", namespaceSelector=NO_NAMESPACE)
DEAD = Backend(exists=False)
#: The point, the definitions -> check and severity.
CALLED: list[tuple[str, CallPoint, tuple[DefinitionState, ...], tuple[str, str]]] = [
    ("two versions", CRD, (definition("v1", "v2"),), ("conversion-dead", "")),
    ("an unserved version", CRD, (definition("v1", "v1beta1"),), ("conversion-dead", "")),
    ("one version", CRD, (definition("v1"),), ("conversion-dead", "info")),
    ("unknown versions", CRD, (definition("v1", name="others"),), ("conversion-dead", "")),
    ("no rules", point(webhook={**PODS, "rules": []}), (), ("service-missing", "info")),
    ("no namespace", point(webhook=PODS), (), ("service-missing", "warning")),
    ("a namespace", point(webhook=webhook("pods")), (), ("service-missing", "")),
    ("no namespace, but nodes", point(webhook=webhook("nodes", namespaceSelector=NO_NAMESPACE)), (), ("service-missing", "")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("called", "definitions", "wanted"), [row[1:] for row in CALLED], ids=[row[0] for row in CALLED]
)
def test_a_fault_of_a_webhook_that_is_never_called_is_information(
    called: CallPoint, definitions: tuple[DefinitionState, ...], wanted: tuple[str, str]
) -> None:
    findings = list(check_point(cluster(called, backend=DEAD, definitions=definitions), called))
    assert failures(findings) == [wanted]
    (failed,) = [finding for finding in findings if finding.status == FAIL]
    assert (failed.breaks_at is None) is (wanted[1] != "")
    is_idle = any(line.startswith("the API server makes no such call now: ") for line in failed.evidence)
    assert is_idle is (wanted[1] != "")


CONDITION = {**webhook("pods"), "matchConditions": [{"name": "a", "expression": "object.spec.paused"}]}
CALLED_NAME = point().config.webhook
CALL = FailedCall(CALLED_NAME, "ReplicaSet shop/a", "failed", NOW)
#: What the audit saw of calls -> the severity of a fault.
SEEN: list[tuple[str, dict[str, Any], str]] = [
    ("no counters", {}, ""),
    ("no call", {"counters_after": {}}, "warning"),
    ("calls of others", {"counters_after": {"other.example.com": 3.0}, "answered": {"other.example.com": 1.0}}, "warning"),
    ("failed calls", {"counters_after": {CALLED_NAME: 3.0}}, ""),
    ("calls before the audit", {"counters_after": {}, "answered": {CALLED_NAME: 0.0}}, ""),
    ("an Event", {"counters_after": {}, "failed_calls": (CALL,)}, ""),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "severity"), [row[1:] for row in SEEN], ids=[row[0] for row in SEEN])
def test_calls_that_were_seen_decide_about_conditions(fields: dict[str, Any], severity: str) -> None:
    called = point(webhook=CONDITION)
    data = replace(cluster(called, backend=DEAD), **fields)
    (failed,) = [entry for entry in check_point(data, called) if entry.status == FAIL]
    assert (failed.severity, failed.breaks_at is None) == (severity, severity != "")
    assert any("no such call was seen: " in line for line in failed.evidence) is (severity != "")
    assert (failed.certainty == LIKELY) is (severity != "")


def test_a_condition_does_not_hide_a_certificate_that_ends_soon() -> None:
    called = point(webhook=CONDITION)
    data = replace(cluster(called, backend=Backend(ready=1, chains=(served(EXPIRING),))), counters_after={})
    (failed,) = [entry for entry in check_point(data, called) if entry.status == FAIL]
    assert failed.check == "expiring"
    assert failed.breaks_at is not None


# Certificates of cert-manager

HOUR, OURS = DAY / 24, ("shop", "hook")
SHORT = leaf(not_before=NOW - 20 * HOUR, not_after=NOW + 4 * HOUR)
LONG = leaf(not_before=NOW - 60 * DAY, not_after=NOW + 30 * DAY)


def issued(by: Any, renewal: Any, **options: Any) -> IssuedCertificate:
    certificate = by.certificate
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return IssuedCertificate(begin, ("hook.shop.svc",), end, renewal, **options)


#: What is served, what cert-manager says -> check and severity.
RENEWALS: list[tuple[str, Any, IssuedCertificate | None, list[tuple[str, str]]]] = [
    ("no Certificate", SHORT, None, [("expiring", "warning")]),
    ("before its renewal", SHORT, issued(SHORT, NOW + 2 * HOUR), []),
    ("just after it", SHORT, issued(SHORT, NOW - HOUR / 2), []),
    ("not ready", SHORT, issued(SHORT, NOW + 2 * HOUR, is_ready=False), [("expiring", "warning")]),
    ("another is served", SHORT, issued(LONG, NOW + 2 * HOUR), [("expiring", "warning")]),
    ("without a renewalTime", SHORT, issued(SHORT, None), [("expiring", "warning")]),
    ("stuck", LONG, issued(LONG, NOW - 2 * HOUR), [("expiring", "warning")]),
    ("stuck, at its end", leaf(not_before=NOW - 89 * DAY, not_after=NOW + DAY), issued(LONG, NOW - 9 * DAY),
        [("expiring", "error")]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("chain", "state", "wanted"), [row[1:] for row in RENEWALS], ids=[row[0] for row in RENEWALS]
)
def test_a_certificate_ends_soon_if_cert_manager_does_not_renew_it(
    chain: Any, state: IssuedCertificate | None, wanted: list[tuple[str, str]]
) -> None:
    called, backend = point(certificate=OURS), Backend(ready=1, chains=(served(chain),))
    data = cluster(called, backend=backend, certificates={OURS: state} if state else {})
    assert failures(check_point(data, called)) == wanted


INSTALLED = definition("v1", name="certificates.cert-manager.io")
#: What else the cluster has -> a part of the last line of evidence, "" for none.
INJECTORS: list[tuple[dict[str, Any], str]] = [
    ({}, "needs cert-manager, which is not installed"),
    ({"definitions": (INSTALLED,)}, "has issued no certificate, or does not exist"),
    ({"definitions": (INSTALLED,), "certificates": {OURS: issued(LONG, None)}}, ""),
    ({"gaps": (Gap("definitions", "no"),)}, ""),
]


@pytest.mark.parametrize(("options", "words"), INJECTORS)
@pytest.mark.parametrize("bundle", ["", "none", OTHER_CA.pem])
def test_the_reason_why_cert_manager_writes_no_bundle_is_named(
    bundle: str, options: dict[str, Any], words: str
) -> None:
    called = point(config(bundle), certificate=OURS)
    data = cluster(called, backend=HEALTHY, **options)
    (failed,) = [call_point for call_point in check_point(data, called) if call_point.status == FAIL]
    lines = [line for line in failed.evidence if "inject-ca-from names the Certificate shop/hook" in line]
    assert [words in line for line in lines] == [True] * bool(words)


def test_a_field_that_is_not_known_is_reported() -> None:
    newer = point(replace(config(), unknown=("trustBundleRef",)))
    assert failures(call_checks.check_fields(cluster(newer))) == [("trust-field-unknown", "")]
    assert failures(call_checks.check_fields(cluster(point()))) == []
