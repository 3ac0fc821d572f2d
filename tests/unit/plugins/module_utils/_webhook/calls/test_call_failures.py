# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Failures by the API server's words. Those of tests/system/webhooks/test_webhook_probe.py come from a real one, too."""

from __future__ import annotations

import re

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.checks import check_table
from ansible_collections.certflow.kubernetes.plugins.module_utils._repair.kinds import KINDS
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.calls import (
    call_failures,
    call_faults,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.calls.call_failures import (
    ADMISSION,
    AGGREGATION,
    CALL,
    CONVERSION,
    ELSEWHERE,
    OTHERS,
    REFUSAL,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.calls.call_faults import (
    BY_ID,
    FAULTS,
    UNREAD,
    FailureRow,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509.chain.verify import REASONS

pytestmark = pytest.mark.quick

HOOK = "probe.example.com"
CALLING = f'Internal error occurred: failed calling webhook "{HOOK}": failed to call webhook: '
POST = CALLING + 'Post "https://hook.probe.svc:443/?timeout=2s": '
X509 = POST + "tls: failed to verify certificate: x509: "
CONVERTING = f"conversion webhook for {HOOK}/v1beta1, Kind=Thing "
REACHING = "not an answer of a Kubernetes API server: error trying to reach service: "

ANSWERS = [
    (POST + 'service "absent" not found', "service-missing", "the Service that it names does not exist"),
    (POST + 'no service port 8443 found for service "hook"', "port-missing", "the Service has no such port: no service port 8443 found for service"),
    (POST + 'no endpoints available for service "hook"', "no-endpoints", "no pod is ready behind its Service"),
    (POST + 'cannot route to service with ClusterIP "None"', "service-headless", "its Service has no cluster IP"),
    (POST + 'unsupported service type "ExternalName"', "service-type", "this kind of Service"),
    (
        (
            f'Internal error occurred: failed calling webhook "{HOOK}": could not get REST client: unable to load root '
            "certificates: unable to parse bytes as PEM block"
        ),
        "bundle-broken",
        "no readable certificate: unable to load root certificates: unable to parse bytes as PEM block",
    ),
    (X509 + "certificate signed by unknown authority", "ca-mismatch", "caBundle: certificate signed by unknown authority"),
    (
        X509
        + 'certificate signed by unknown authority (possibly because of "x509: certificate has expired or is not '
        'yet valid: current time T is after T" while trying to verify candidate authority certificate "CA")',
        "ca-mismatch",
        'possibly because of "x509: certificate has expired',
    ),
    (
        X509 + "certificate is valid for hook.probe, not hook.probe.svc",
        "name-mismatch",
        "is for other names: certificate is valid for hook.probe, not hook.probe.svc",
    ),
    (X509 + "certificate is not valid for any names, but wanted to match hook.probe.svc", "name-mismatch", "not valid for any names"),
    (X509 + "certificate relies on legacy Common Name field, use SANs instead", "name-mismatch", "legacy Common Name field"),
    (X509 + "cannot validate certificate for 127.0.0.1 because it doesn't contain any IP SANs", "name-mismatch", "any IP SANs"),
    (
        X509 + "certificate has expired or is not yet valid: current time A is after B",
        "expired",
        "a certificate has expired: certificate has expired or is not yet valid: current time A is after B",
    ),
    (X509 + "certificate specifies an incompatible key usage", "wrong-usage", "does not allow server authentication"),
    (X509 + "unhandled critical extension", "critical-extension", "unhandled critical extension"),
    (
        X509
        + 'certificate signed by unknown authority (possibly because of "x509: cannot verify signature: insecure algorithm '
        'SHA1-RSA" while trying to verify candidate authority certificate "CA")',
        "weak-signature",
        "insecure algorithm SHA1-RSA",
    ),
    (POST + "tls: server sent certificate containing RSA key larger than 8192 bits", "weak-key", "larger than 8192 bits"),
    (X509 + "certificate has expired or is not yet valid: current time A is before B", "not-yet-valid", "is not valid yet"),
    (CALLING + "failed to parse certificate from server: x509: malformed extension", "certificate-refused", "malformed extension"),
    (POST + "tls: first record does not look like a TLS handshake", "not-tls", "does not speak TLS"),
    (POST + "http: server gave HTTP response to HTTPS client", "not-tls", "does not speak TLS"),
    (POST + "remote error: tls: certificate required", "handshake-fails", "remote error: tls: certificate required"),
    (
        POST + "dial tcp 127.0.0.1:55577: connect: connection refused",
        "refused",
        "at its address: dial tcp 127.0.0.1:55577: connect: connection refused",
    ),
    (POST + "Address is not allowed", "address-not-allowed", "Amazon EKS"),
    (POST + "dial tcp 192.0.2.7:443: connect: no route to host", "no-network-path", "no network path"),
    (POST + "No agent available", "no-network-path", "no network path"),
    (POST + "context deadline exceeded", "timed-out", "it did not answer in time: context deadline exceeded"),
    (POST + "dial tcp 192.0.2.7:443: i/o timeout", "timed-out", "it did not answer in time"),
    (POST + "net/http: TLS handshake timeout", "timed-out", "it did not answer in time"),
    (POST + "dial tcp: lookup nowhere.invalid on 192.0.2.53:53: no such host", "name-not-resolved", "cannot resolve its name"),
    (POST + "EOF", "connection-closed", "without an answer: EOF"),
    (POST + "read tcp 127.0.0.1:1->127.0.0.1:2: read: connection reset by peer", "connection-closed", "reset by peer"),
    (CALLING + "the server could not find the requested resource", "wrong-path", "does not serve the path"),
    (CALLING + "the server does not allow this method on the requested resource", "wrong-path", "does not serve the path"),
    (CALLING + "the server has asked for the client to provide credentials", "client-refused", "(401 or 403)"),
    (CALLING + "unknown", "client-refused", "(401 or 403)"),
    (CALLING + "the server rejected our request for an unknown reason", "invalid-response", "does not understand its answer"),
    (CALLING + "the server responded with the status code 301 but did not return more information", "invalid-response", "301"),
    (CALLING + "couldn't get version/kind; json parse error: json: cannot unmarshal string into Go value", "invalid-response", "json parse error"),
    (CALLING + "converting (v1beta1.AdmissionReview) to (v1.AdmissionReview): unknown conversion", "invalid-response", "unknown conversion"),
    (
        (
            f'Internal error occurred: failed calling webhook "{HOOK}": received invalid webhook response: expected '
            'response.uid="a", got "b"'
        ),
        "invalid-response",
        'expected response.uid="a", got "b"',
    ),
    (
        (
            f'Internal error occurred: admission webhook "{HOOK}" attempted to modify the object, which is not supported '
            "for this operation"
        ),
        "invalid-response",
        "attempted to modify the object",
    ),
    (CALLING + 'an error on the server ("unknown") has prevented the request from succeeding', "server-error", "an error on the server"),
    (CALLING + "the server is currently unable to handle the request", "server-error", "unable to handle"),
    (f"Internal error occurred: ValidatingAdmissionWebhook/{HOOK} has panicked: nil", "server-error", "has panicked: nil"),
    (f'Internal error occurred: failed calling webhook "{HOOK}"; no further details available', "unnamed", "no further"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "code", "cause"), ANSWERS)
def test_a_failed_call_of_an_admission_webhook(words: str, code: str, cause: str) -> None:
    failure = call_failures.of_answer(words, ADMISSION, HOOK)
    assert (failure.code, failure.about) == (code, CALL)
    assert cause in failure.cause
    assert "https://" not in failure.cause
    assert failure.remedy


CONVERSIONS = [
    ('failed: Post "https://h.n.svc:443/c?timeout=30s": context deadline exceeded', "timed-out", "in time"),
    (
        (
            'failed: Post "https://h.n.svc:443/c?timeout=30s": tls: failed to verify certificate: x509: certificate signed '
            "by unknown authority"
        ),
        "ca-mismatch",
        "caBundle: certificate signed by unknown authority",
    ),
    ("failed: the server could not find the requested resource", "wrong-path", "does not serve the path"),
    ("returned 0 objects, expected 1", "invalid-response", "returned 0 objects, expected 1"),
    ("returned invalid object at index 0: invalid groupVersion", "invalid-response", "invalid groupVersion"),
    (
        "failed: expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, got /, Kind=",
        "invalid-response",
        "expected webhook response",
    ),
    ("failed: size is no number", "conversion-refused", "it does not convert the object: size is no number"),
]


@pytest.mark.parametrize(("words", "code", "cause"), CONVERSIONS)
def test_a_failed_conversion(words: str, code: str, cause: str) -> None:
    failure = call_failures.of_answer(CONVERTING + words, CONVERSION)
    assert (failure.code, failure.about) == (code, CALL)
    assert cause in failure.cause


AGGREGATIONS = [
    (REACHING + "tls: failed to verify certificate: x509: certificate signed by unknown authority", "ca-mismatch"),
    (REACHING + "dial tcp 127.0.0.1:1: connect: connection refused", "refused"),
    ('service/absent in "probe" is not present', "service-missing"),
    ('service/hook in "probe" is not listening on port 8443', "port-missing"),
    ("Service probe/hook has no TCP port 8443", "port-missing"),
    ('cannot find endpointslices for service/hook in "probe"', "no-endpoints"),
    ('endpointslices for service/hook in "probe" have no addresses with port name "https"', "no-endpoints"),
    (
        (
            'failing or missing response from https://h:1/apis/a/v1: Get "https://h:1/apis/a/v1": dial tcp 127.0.0.1:1: '
            "connect: connection refused"
        ),
        "refused",
    ),
    ("failing or missing response from https://h:1/apis/a/v1: bad status from https://h:1/apis/a/v1: 404", "wrong-path"),
    ("failing or missing response from https://h:1/apis/a/v1: bad status from https://h:1/apis/a/v1: 403", "client-refused"),
    ("failing or missing response from https://h:1/apis/a/v1: bad status from https://h:1/apis/a/v1: 500", "server-error"),
    ("not an answer of a Kubernetes API server: service unavailable", "unnamed"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "code"), AGGREGATIONS)
def test_a_failed_call_of_an_aggregated_api(words: str, code: str) -> None:
    failure = call_failures.of_answer(words, AGGREGATION)
    assert (failure.code, failure.about) == (code, CALL)
    assert "https://" not in failure.cause


@pytest.mark.parametrize("code", sorted(set(REASONS) - {"ok", UNREAD}))
def test_every_refusal_of_a_certificate_has_a_name(code: str) -> None:
    """The words are those of the Go that Kubernetes is built with, and of _x509, which repeats them."""
    words = (
        REASONS[code].format("now", "before", "then")
        if code != "name-mismatch"
        else "certificate is valid for a, not b"
    )
    assert call_failures.of_call(f"x509: {words}").code == ("not-yet-valid" if code == "expired" else code)


@pytest.mark.parametrize(
    ("rest", "cause"),
    [
        (": x: every ConfigMap\n needs a team", "it denied the object: x: every ConfigMap needs a team"),
        (" without explanation", "it denied the object: without explanation"),
    ],
)
def test_its_own_refusal(rest: str, cause: str) -> None:
    words = f'admission webhook "{HOOK}" denied the request{rest}'
    failure = call_failures.of_answer(words, ADMISSION, HOOK)
    assert (failure.code, failure.about, failure.cause) == ("denied", REFUSAL, cause)


def test_a_refusal_that_quotes_a_failure_is_a_refusal() -> None:
    words = f'admission webhook "{HOOK}" denied the request: {POST}EOF'
    assert call_failures.of_answer(words, ADMISSION, HOOK).about == REFUSAL


ELSEWHERES = [
    (f'admission webhook "{HOOK}" does not support dry run', "no-dry-run"),
    ('admission webhook "other.example.com" denied the request: no', "another-webhook"),
    ('Internal error occurred: failed calling webhook "other.example.com": failed to call webhook: EOF', "another-webhook"),
    (CONVERTING + "failed: EOF", "another-webhook"),
    ("configmaps \"x\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no", "policy"),
    ('pods "x" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1', "policy"),
    ('pods "x" is forbidden: violates PodSecurity "restricted:latest": privileged', "policy"),
    ('configmaps is forbidden: User "ada" cannot create resource "configmaps" in API group "" in the namespace "x"', "no-right"),
    ('namespaces "absent" not found', "namespace"),
    ('configmaps "x" is forbidden: unable to create new content in namespace y because it is being terminated', "namespace"),
    ('ConfigMap "UPPER" is invalid: metadata.name: Invalid value: "UPPER"', "invalid-object"),
    ("something new", "refused-elsewhere"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "code"), ELSEWHERES)
def test_what_ended_the_request_elsewhere(words: str, code: str) -> None:
    failure = call_failures.of_answer(words, ADMISSION, HOOK)
    assert (failure.code, failure.about) == (code, ELSEWHERE)


def test_an_admission_webhook_says_nothing_of_a_conversion() -> None:
    assert call_failures.of_answer(POST + "EOF", CONVERSION).code == "another-webhook"


def test_a_long_answer_is_cut() -> None:
    failure = call_failures.of_answer("x" * 5000, ADMISSION, HOOK)
    assert len(failure.cause) < 500


#: Words of the same sources that no other row of this file has -> the fault.
MORE_WORDS = {
    "there is no Service shop/hook": "service-missing",
    "Service shop/hook has no ready endpoint": "no-endpoints",
    "tls: failed to verify certificate: crypto/rsa: 512-bit keys are insecure (see https://go.dev/pkg/crypto/rsa#hdr-Minimum_key_size)": "weak-key",
    "tls: invalid signature by the server certificate: crypto/rsa: public exponent too large": "weak-key",
    "x509: failed to parse dnsName constraint: name constraint": "name-constraint",
    "TLS handshake failed: it closed the connection": "handshake-fails",
    "dial tcp 192.0.2.7:443: connect: network is unreachable": "no-network-path",
    "net/http: request canceled (Client.Timeout exceeded while awaiting headers)": "timed-out",
    "dial tcp 192.0.2.7:443: connect: connection timed out": "timed-out",
    "lookup hook.example.com on 192.0.2.53:53: server misbehaving": "name-not-resolved",
    "write tcp 127.0.0.1:1->127.0.0.1:2: write: broken pipe": "connection-closed",
    'net/http: HTTP/1.x transport connection broken: malformed HTTP response "x"': "connection-closed",
    "http2: server sent GOAWAY and closed the connection": "connection-closed",
    "404 page not found": "wrong-path",
    "received undecodable patch": "invalid-response",
    "webhook returned response.patch but no response provided": "invalid-response",
    "response.result.status was 'Failed', not 'Success'": "invalid-response",
    'unsupported patch type "Merge"': "invalid-response",
    'pods "x" is forbidden: maximum cpu usage per Container is 1. The LimitRange of namespace shop denies it': "policy",
    'Thing in version "v1" cannot be handled as a Thing: strict decoding error: unknown field "spec.size"': "invalid-object",
    "unable to decode an event from the watch stream": "invalid-object",
    'error validating data: ValidationError(Pod.spec): unknown field "x" in Pod': "invalid-object",
    "the server has received too many requests and has asked us to try again later": "server-error",
}
OF_A_CERTIFICATE = {
    "weak-signature",
    "weak-key",
    "ca-mismatch",
    "name-mismatch",
    "not-yet-valid",
    "expired",
    "ca-expired",
    "wrong-usage",
    "path-too-long",
    "name-constraint",
    "not-a-ca",
    "critical-extension",
    "too-many-cas",
    "policy-refused",
    UNREAD,
    "unsupported-key",
    "certificate-refused",
}


def test_each_row_is_named_once() -> None:
    rows = (*FAULTS, *OTHERS)
    assert len({row.id for row in rows}) == len(rows)
    for row in rows:
        re.compile(row.words)
        assert row.remedy
        assert row.source or not row.words


def test_each_row_is_reached() -> None:
    seen = {code for _, code, *_ in ANSWERS} | {code for _, code in ELSEWHERES} | set(REASONS)
    assert {row.id for row in (*FAULTS, *OTHERS) if row.words} <= seen


def _alternatives(pattern: str) -> list[str]:
    """Return the parts between the bars of a pattern outside of parentheses."""
    parts, depth = [""], 0
    for letter in pattern:
        depth += (letter == "(") - (letter == ")")
        parts = [*parts, ""] if letter == "|" and not depth else [*parts[:-1], parts[-1] + letter]
    return parts


SAYINGS = [
    *(words for words, *_ in (*ANSWERS, *AGGREGATIONS, *ELSEWHERES)),
    *(CONVERTING + words for words, *_ in CONVERSIONS),
    *(f"x509: {text}" for text in REASONS.values()),
    *MORE_WORDS,
]


@pytest.mark.parametrize("row", [row for row in (*FAULTS, *OTHERS) if row.words], ids=lambda row: row.id)
def test_each_alternative_of_a_pattern_is_reached(row: FailureRow) -> None:
    silent = [part for part in _alternatives(row.words) if not any(re.search(part, text) for text in SAYINGS)]
    assert silent == []


@pytest.mark.parametrize(("words", "code"), MORE_WORDS.items())
def test_other_words_of_a_fault(words: str, code: str) -> None:
    failure = (
        call_failures.of_call(words) if code in BY_ID else call_failures.of_answer(words, ADMISSION, HOOK)
    )
    assert failure.code == code


def test_which_faults_are_of_a_certificate_and_which_are_warnings() -> None:
    assert {row.id for row in FAULTS if row.is_of_certificate} == OF_A_CERTIFICATE
    assert OF_A_CERTIFICATE - {UNREAD} == call_faults.OF_CERTIFICATES
    assert {row.id for row in FAULTS if row.severity != "error"} == {"service-headless", "weak-key"}


def test_a_check_of_a_fault_has_its_words() -> None:
    """One fault has one id: a check of the audit, a refusal of a certificate and a failed call share the row of a fault."""
    assert set(REASONS) - {"ok"} <= set(BY_ID)
    for fault in set(BY_ID) & set(check_table.BY_ID):
        check, row = check_table.BY_ID[fault], BY_ID[fault]
        assert (check.title, check.effect, check.remedy) == (row.title, row.effect, f"{row.remedy}.")
    assert {check for row in KINDS.values() for check in row.checks} <= set(check_table.BY_ID)
