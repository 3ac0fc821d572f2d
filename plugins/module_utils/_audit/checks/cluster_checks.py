# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The checks of a cluster itself: failed calls, CSRs, the login, the API server's certificate. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from ..._base.text import plural
from ..._base.times import format_time
from ..._webhook.calls.call_failures import CONVERSION
from ..._x509 import certificate_facts
from ..._x509.chain.chain_judge import ANCHOR, ChainBreak, judge
from ..._x509.chain.verify import anchors
from ..facts.cluster_data import ROOT_CA, CallPoint, ClusterData
from ..facts.finding import (
    ERROR,
    FAIL,
    INFO,
    LIKELY,
    PASS,
    PROVEN,
    SKIP,
    WARNING,
    AuditedObject,
    AuditFinding,
    judged,
)
from .admission_checks import admission_points
from .certificate_faults import WARN_SHARE, expiry_severity

MOST_LINES = 5
API_SERVER = AuditedObject("APIServer", "kube-apiserver")
LOGIN = AuditedObject("Login", "this run")
SNAPSHOT_CONTROLLER = AuditedObject("SnapshotController", "external-snapshotter")
CLUSTER_CA_OBJECT = AuditedObject("ConfigMap", ROOT_CA[1], "v1", namespace=ROOT_CA[0])
#: To replace the CA of a cluster takes weeks (gardener, the condition CACertificateValiditiesAcceptable).
CA_WITHIN = timedelta(days=365)
#: The counter of failed conversions has no name of a CustomResourceDefinition.
CONVERSIONS = "conversions"
#: The counter of the matchConditions of a webhook that could not be evaluated.
CONDITIONS_OF = "matchConditions of {}"
_ONE_SERVER = "the counters are those of one API server, which this connection reached"


def check_calls(data: ClusterData) -> Iterator[AuditFinding]:
    """Yield the findings about calls that failed, by the API server's counters and by Events."""
    if data.counters_after is None and not data.failed_calls:
        return
    for point in admission_points(data):
        name = point.config.webhook
        events = [call for call in data.failed_calls if call.webhook == name]
        lines = [
            f"Event on {call.regarding} at {format_time(call.seen)}: {call.message}"
            for call in events[-MOST_LINES:]
        ]
        what, certainty = f"Calls of {point.object}", LIKELY if name in data.shared_webhooks else PROVEN
        yield from _failed_calls(data, point.object, name, what, lines=lines, certainty=certainty)
        conditions = CONDITIONS_OF.format(name)
        if (data.counters_after or {}).get(conditions):
            what, since = f"The matchConditions of {point.object}", _unchanged_since(data, point)
            found = _failed_calls(
                data, point.object, conditions, what, lines=(), certainty=certainty, since=since
            )
            yield from (replace(finding, detail="conditions") for finding in found)
    conversions = sum(point.caller == CONVERSION for point in data.points)
    if conversions and data.counters_after is not None:
        subject = AuditedObject("CustomResourceDefinition", "", "apiextensions.k8s.io/v1")
        has_failed = data.counters_after.get(CONVERSIONS)
        lines = [f"{conversions} CustomResourceDefinitions have a conversion webhook"] if has_failed else []
        yield from _failed_calls(data, subject, CONVERSIONS, "Conversions of custom resources", lines=lines)


def _unchanged_since(data: ClusterData, point: CallPoint) -> datetime | None:
    """Return the start of the API server if the object is older, None otherwise.

    matchConditions that failed since then are those of today, so they fail for the same objects again.
    """
    start, written = data.api_server_start, point.written_at
    is_older = start and written and written < start and point.config.webhook not in data.shared_webhooks
    return start if is_older else None


def _failed_calls(
    data: ClusterData,
    subject: AuditedObject,
    counter: str,
    what: str,
    *,
    lines: Sequence[str],
    certainty: str = PROVEN,
    since: datetime | None = None,
) -> Iterator[AuditFinding]:
    """Yield the finding about one counter. since: it fails since then, also if it did not grow during the audit."""
    evidence = (*_counter_lines(data, counter), *lines)
    fields: dict[str, Any] = {"certainty": certainty, "breaks_at": data.now}
    words = f"{what} fail"
    if not _grown(data, counter):
        fields = {"severity": WARNING if since else INFO, "certainty": LIKELY}
        end = (
            f"They were not changed since {format_time(since)}"
            if since
            else "It is not known if they still fail"
        )
        words = f"{what} have failed. {end}"
    if lines or (data.counters_after or {}).get(counter):
        yield AuditFinding("calls-fail", FAIL, subject, words, evidence, **fields)
    elif data.counters_after is not None:
        yield AuditFinding("calls-fail", PASS, subject, evidence=(_ONE_SERVER,))


def _grown(data: ClusterData, name: str, *, previous: bool = False) -> float:
    """Return the growth of a counter during this audit, or since the previous one. An API server begins at 0."""
    before = ((data.counters_previous if previous else data.counters_before) or {}).get(name, 0)
    after = (data.counters_after or {}).get(name, 0)
    return after - before if after >= before else after


def _counter_lines(data: ClusterData, name: str) -> Iterator[str]:
    total = (data.counters_after or {}).get(name, 0)
    if total:
        at = f" at {format_time(data.api_server_start)}" if data.api_server_start else ""
        yield f"{plural(round(total), 'failure')} since the API server started{at}, {_grown(data, name):.0f} of them during this audit"
        if data.counters_previous is not None:
            yield f"{plural(round(_grown(data, name, previous=True)), 'failure')} since the previous audit"
        yield _ONE_SERVER


def check_file_webhooks(data: ClusterData) -> Iterator[AuditFinding]:
    """Yield the finding about webhooks that are not in the API."""
    if data.file_webhooks is not None:
        words = "The API server reads webhooks from files, and the audit cannot check their CA bundles"
        lines = data.file_webhooks[:MOST_LINES]
        yield judged("webhook-in-file", API_SERVER, words if lines else "", lines)


def check_requests(data: ClusterData) -> Iterator[AuditFinding]:
    """Yield a finding for each CSR and PodCertificateRequest that is stuck, with its diagnosis."""
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
    # A token without a begin is judged as one of a day.
    severity = expiry_severity(
        login.not_before or login.not_after - timedelta(days=1), login.not_after, data.now
    )
    words = f"The {login.kind} of this run expires at {format_time(login.not_after)}"
    yield judged(
        "login-expiring", LOGIN, words if severity else "", severity=severity, breaks_at=login.not_after
    )


def check_api_server(data: ClusterData) -> Iterator[AuditFinding]:
    """Yield the finding about the dates of the certificate that the API server serves on this connection."""
    breaks = [entry for entry in _api_server_breaks(data) if entry.place != ANCHOR]
    if not breaks:
        lines = ("The connection has no TLS, or its certificate cannot be judged.",)
        yield AuditFinding("apiserver-expiring", SKIP, API_SERVER, evidence=lines)
        return
    alarm = breaks[0]
    facts = alarm.certificate
    severity = ERROR if alarm.is_start else expiry_severity(facts.not_before, alarm.at, data.now)
    subject = alarm.name[:1].upper() + alarm.name[1:]
    fault = f"{subject} of the API server {alarm.when(data.now)}" if severity else ""
    lines = (f"subject {facts.subject}, issuer {facts.issuer}, SHA-256 {facts.fingerprint}",)
    yield judged("apiserver-expiring", API_SERVER, fault, lines, severity=severity, breaks_at=alarm.at)


def _api_server_breaks(data: ClusterData) -> tuple[ChainBreak, ...]:
    """Return what breaks the chain of the API server to the published CAs.

    Behind a load balancer with another certificate, the leaf is judged alone.
    """
    if not data.api_server:
        return ()
    leaf, sent = certificate_facts.load_leaf_and_chain(data.api_server)
    judged = judge(leaf, data.cluster_ca, name=None, intermediates=sent, now=data.now, usage="any")
    if not judged.trust.ok:
        judged = judge(leaf, leaf.pem, name=None, now=data.now, usage="any")
    return judged.breaks


def check_snapshot_controller(data: ClusterData) -> Iterator[AuditFinding]:
    """Yield a finding for each hazard on the way to the wanted release of the snapshot controller."""
    if data.snapshot_hazards is None:
        yield AuditFinding("snapshot-hazard", SKIP, SNAPSHOT_CONTROLLER)
        return
    for found in data.snapshot_hazards:
        hazard, finding = found.hazard, found.finding
        yield AuditFinding(
            "snapshot-hazard",
            FAIL,
            SNAPSHOT_CONTROLLER,
            hazard.title,
            tuple(filter(None, (hazard.id, *finding.evidence[:MOST_LINES], finding.remedy))),
            severity="" if hazard.stops else INFO,
            detail=hazard.id,
        )
    if not data.snapshot_hazards:
        yield AuditFinding("snapshot-hazard", PASS, SNAPSHOT_CONTROLLER)


def check_cluster_ca(data: ClusterData) -> Iterator[AuditFinding]:
    """Yield the finding about the end of the CA that signs the certificate of the API server."""
    in_use = [entry.certificate for entry in _api_server_breaks(data) if entry.place == ANCHOR]
    # Without a chain to a published CA, the one that lasts longest counts.
    signers = in_use or sorted(anchors(data.cluster_ca), key=lambda entry: entry.not_after)
    if not signers:
        yield AuditFinding("cluster-ca-expiring", SKIP, CLUSTER_CA_OBJECT)
        return
    facts = signers[-1]
    left, lifetime = facts.not_after - data.now, facts.not_after - facts.not_before
    words = f"The CA {facts.subject} of the cluster expires at {format_time(facts.not_after)}"
    yield judged(
        "cluster-ca-expiring",
        CLUSTER_CA_OBJECT,
        words if left < min(CA_WITHIN, lifetime / WARN_SHARE) else "",
        (f"SHA-256 {facts.fingerprint}",),
        severity=expiry_severity(facts.not_before, facts.not_after, data.now) or WARNING,
        breaks_at=facts.not_after,
    )
