# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The checks of a cluster itself: failed calls, CSRs, the login, the API server's certificate. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from ..._times import format_time
from ..._webhook import bundle_content
from ..._x509 import certificate_facts
from ..cluster_data import API_SERVER as API_SERVER_SOURCE
from ..cluster_data import CLUSTER_CA, CONVERSION, ROOT_CA, CallPoint, ClusterData, FailedCall
from ..finding import FAIL, INFO, LIKELY, PASS, PROVEN, SKIP, WARNING, AuditedObject, AuditFinding
from .admission_checks import admission_points
from .certificate_faults import WARN_SHARE, expiry_severity

MOST_LINES = 5
API_SERVER = AuditedObject("APIServer", "kube-apiserver")
LOGIN = AuditedObject("Login", "this run")
SNAPSHOT_CONTROLLER = AuditedObject("SnapshotController", "external-snapshotter")
CLUSTER_CA_OBJECT = AuditedObject("ConfigMap", ROOT_CA[1], "v1", namespace=ROOT_CA[0])
#: To replace the CA of a cluster takes weeks (gardener, the condition CACertificateValiditiesAcceptable).
CA_WITHIN = timedelta(days=365)
CLOCK_SECONDS = 60
#: The counter of failed conversions has no name of a CustomResourceDefinition.
CONVERSIONS = "conversions"
_ONE_SERVER = "the counters are those of one API server, which this connection reached"


def check_calls(data: ClusterData) -> Iterator[AuditFinding]:
    """Yield the findings about calls that failed, by the API server's counters and by Events."""
    if data.counters_after is None and not data.failed_calls:
        return
    for point in admission_points(data):
        yield from _calls_of(data, point)
    conversions = [point for point in data.points if point.caller == CONVERSION]
    if conversions and data.counters_after is not None:
        yield _conversion_calls(data, conversions)


def _calls_of(data: ClusterData, point: CallPoint) -> Iterator[AuditFinding]:
    name = point.config.webhook
    events = [call for call in data.failed_calls if call.webhook == name]
    total = (data.counters_after or {}).get(name, 0)
    grown = _grown(data, name)
    namesakes = sum(other.config.webhook == name for other in admission_points(data)) > 1
    lines = [*_counter_lines(total, grown), *_event_lines(events)]
    certainty = LIKELY if namesakes else PROVEN
    if grown or events:
        words = f"Calls of {point.object} fail"
        breaks_at = min((call.seen for call in events), default=data.now)
        yield AuditFinding(
            "calls-fail", FAIL, point.object, words, tuple(lines), certainty=certainty, breaks_at=breaks_at
        )
    elif total:
        words = f"Calls of {point.object} have failed since the API server started"
        yield AuditFinding(
            "calls-fail", FAIL, point.object, words, tuple(lines), severity=INFO, certainty=LIKELY
        )
    elif data.counters_after is not None:
        yield AuditFinding("calls-fail", PASS, point.object, evidence=(_ONE_SERVER,))


def _grown(data: ClusterData, name: str) -> float:
    """Return the growth of a counter during the audit. After a restart of the API server it begins at 0."""
    before = (data.counters_before or {}).get(name, 0)
    after = (data.counters_after or {}).get(name, 0)
    return after - before if after >= before else after


def _counter_lines(total: float, grown: float) -> Iterator[str]:
    if total:
        yield f"{total:.0f} failed calls since the API server started, {grown:.0f} of them since the last reading"
        yield _ONE_SERVER


def _event_lines(events: list[FailedCall]) -> Iterator[str]:
    for call in events[-MOST_LINES:]:
        yield f"Event on {call.regarding} at {format_time(call.seen)}: {call.message}"


def _conversion_calls(data: ClusterData, points: list[CallPoint]) -> AuditFinding:
    total, grown = (data.counters_after or {}).get(CONVERSIONS, 0), _grown(data, CONVERSIONS)
    subject = AuditedObject("CustomResourceDefinition", "", "apiextensions.k8s.io/v1")
    lines = (
        *_counter_lines(total, grown),
        f"{len(points)} CustomResourceDefinitions have a conversion webhook",
    )
    if grown:
        words = "Conversions of custom resources fail"
        return AuditFinding("calls-fail", FAIL, subject, words, lines, breaks_at=data.now)
    if total:
        words = "Conversions of custom resources have failed since the API server started"
        return AuditFinding("calls-fail", FAIL, subject, words, lines, severity=INFO, certainty=LIKELY)
    return AuditFinding("calls-fail", PASS, subject, evidence=(_ONE_SERVER,))


def check_requests(data: ClusterData) -> Iterator[AuditFinding]:
    """Yield a finding for each CSR that is stuck, with its diagnosis."""
    for request in data.requests:
        diagnosis = request.diagnosis
        yield AuditFinding(
            "request-stuck",
            FAIL,
            request.object,
            diagnosis.cause,
            (f"{diagnosis.code}, {diagnosis.remedy}", *diagnosis.evidence)[:MOST_LINES],
            certainty=diagnosis.certainty,
            breaks_at=request.since,
        )
    if data.request_count is not None and not data.requests:
        subject = AuditedObject("CertificateSigningRequest", "", "certificates.k8s.io/v1")
        yield AuditFinding(
            "request-stuck", PASS, subject, evidence=(f"{data.request_count} requests were read",)
        )


def check_login(data: ClusterData) -> Iterator[AuditFinding]:
    """Yield the finding about the end of the credentials that this run uses."""
    login = data.login
    if login.not_after is None:
        yield AuditFinding("login-expiring", SKIP, LOGIN, evidence=(login.reason,) if login.reason else ())
        return
    severity = expiry_severity(login.not_before or data.now, login.not_after, data.now)
    if not severity:
        yield AuditFinding("login-expiring", PASS, LOGIN)
        return
    words = f"The {login.kind} of this run expires at {format_time(login.not_after)}"
    yield AuditFinding("login-expiring", FAIL, LOGIN, words, severity=severity, breaks_at=login.not_after)


def check_api_server(data: ClusterData) -> Iterator[AuditFinding]:
    """Yield the finding about the end of the certificate that the API server serves on this connection."""
    facts = data.api_server
    if facts is None and API_SERVER_SOURCE in data.unread:
        return
    if facts is None:
        yield AuditFinding("apiserver-expiring", SKIP, API_SERVER, evidence=("The connection has no TLS.",))
        return
    severity = expiry_severity(facts.not_before, facts.not_after, data.now)
    line = f"subject {facts.subject}, issuer {facts.issuer}, SHA-256 {facts.fingerprint}"
    if not severity:
        yield AuditFinding("apiserver-expiring", PASS, API_SERVER, evidence=(line,))
        return
    words = f"The certificate of the API server expires at {format_time(facts.not_after)}"
    yield AuditFinding(
        "apiserver-expiring", FAIL, API_SERVER, words, (line,), severity=severity, breaks_at=facts.not_after
    )


def check_snapshot_controller(data: ClusterData) -> Iterator[AuditFinding]:
    """Yield a finding for each hazard on the way to the wanted release of the snapshot controller."""
    if data.snapshot_hazards is None:
        yield AuditFinding("snapshot-hazard", SKIP, SNAPSHOT_CONTROLLER)
        return
    for hazard in data.snapshot_hazards:
        lines = (hazard.id, *hazard.evidence[:MOST_LINES], hazard.remedy)
        yield AuditFinding(
            "snapshot-hazard",
            FAIL,
            SNAPSHOT_CONTROLLER,
            hazard.title,
            tuple(filter(None, lines)),
            severity="" if hazard.stops else INFO,
            detail=hazard.id,
        )
    if not data.snapshot_hazards:
        yield AuditFinding("snapshot-hazard", PASS, SNAPSHOT_CONTROLLER)


def check_cluster_ca(data: ClusterData) -> Iterator[AuditFinding]:
    """Yield the finding about the end of the CA that signs the certificate of the API server."""
    found = [one for one in bundle_content.certificates(data.cluster_ca) if one.not_after is not None]
    issuer = data.api_server.issuer if data.api_server else ""
    # Behind a load balancer with another certificate none of them is the issuer. Then the one that lasts longest counts.
    signers = [one for one in found if one.subject == issuer] or found
    if not signers:
        if CLUSTER_CA not in data.unread:
            yield AuditFinding("cluster-ca-expiring", SKIP, CLUSTER_CA_OBJECT)
        return
    facts = max(
        map(certificate_facts.describe_pem, (one.pem for one in signers)), key=lambda one: one.not_after
    )
    left, lifetime = facts.not_after - data.now, facts.not_after - facts.not_before
    if left >= min(CA_WITHIN, lifetime / WARN_SHARE):
        yield AuditFinding("cluster-ca-expiring", PASS, CLUSTER_CA_OBJECT)
        return
    words = f"The CA {facts.subject} of the cluster expires at {format_time(facts.not_after)}"
    severity = expiry_severity(facts.not_before, facts.not_after, data.now) or WARNING
    yield AuditFinding(
        "cluster-ca-expiring",
        FAIL,
        CLUSTER_CA_OBJECT,
        words,
        (f"SHA-256 {facts.fingerprint}",),
        severity=severity,
        breaks_at=facts.not_after,
    )


def check_clock(data: ClusterData) -> Iterator[AuditFinding]:
    """Yield the finding about the difference of the clocks of the API server and of this machine."""
    if data.clock_offset is None:
        return
    seconds = data.clock_offset.total_seconds()
    if abs(seconds) <= CLOCK_SECONDS:
        yield AuditFinding("clock", PASS, API_SERVER)
        return
    direction = "ahead of" if seconds > 0 else "behind"
    words = f"The clock of the API server is {abs(seconds):.0f} s {direction} the clock of the machine that runs this task"
    yield AuditFinding("clock", FAIL, API_SERVER, words)
