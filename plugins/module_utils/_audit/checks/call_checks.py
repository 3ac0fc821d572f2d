# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The checks of what the API server calls: references, endpoints, CA bundles, served certificates. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

from ..._base.text import some
from ..._base.times import format_time
from ..._csr.ca_rotation import signer_of
from ..._webhook.calls.admission_match import ASKED, CONDITIONS, AdmissionMatch, match_any
from ..._webhook.calls.call_failures import ADMISSION, AGGREGATION, CONVERSION
from ..._webhook.calls.call_faults import (
    BUNDLE_BROKEN,
    BUNDLE_EMPTY,
    BY_ID,
    CA_MISMATCH,
    CERTIFICATE_REFUSED,
    HANDSHAKE_FAILS,
    NOT_TLS,
    REFUSED,
    TIMED_OUT,
    UNREAD,
)
from ..._webhook.endpoints.served_chains import ServedChain
from ..facts.cluster_data import (
    CERTIFICATES,
    DEFINITIONS,
    HANDSHAKES,
    INJECTS_FROM,
    Backend,
    CallPoint,
    ClusterData,
    DefinitionState,
    Object,
)
from ..facts.finding import (
    FAIL,
    INFO,
    LIKELY,
    PASS,
    PROVEN,
    REFUSES,
    SEVERITIES,
    SKIP,
    SKIPS,
    UNKNOWN,
    WARNING,
    AuditFinding,
    judged,
)
from .admission_checks import admission_points, seconds_of
from .certificate_faults import (
    CertificateFault,
    bundle_state,
    find_bundle_faults,
    find_chain_faults,
)

MOST_LINES = 5
#: The checks of the roots and chains have no answer without a caBundle.
UNKNOWN_ROOTS = "Without a caBundle the API server trusts the roots of its own machine, which are not known."
#: A pass of these checks says what a port-forward cannot show.
BLIND_SPOT = "A port-forward shows the pod, and not the network path of the API server to it."
REFERENCES = ("service-missing", "port-missing", "no-endpoints")
BUNDLES = (BUNDLE_EMPTY, BUNDLE_BROKEN)
CONVERSION_DEAD = "conversion-dead"
ANCHORS = ("ca-expired", "ca-expiring")
WEAK = ("weak-signature", "weak-key")
#: Why a bundle does not verify a chain, apart from dates, names and usages.
TRUST = (
    CA_MISMATCH, "path-too-long", "name-constraint", "not-a-ca", "critical-extension", "too-many-cas", "policy-refused",
    "unsupported-key",
)  # fmt: skip
#: Why an endpoint shows no chain.
SILENT = (HANDSHAKE_FAILS, CERTIFICATE_REFUSED, NOT_TLS, REFUSED, TIMED_OUT)
SERVED = (*TRUST, "expired", "expiring", "not-yet-valid", "name-mismatch", "wrong-usage", *WEAK)
#: The checks without an answer while a certificate of the bundle is not read, or if the API server trusts the roots of its machine.
_NEEDS_CHAIN = frozenset((*TRUST, *ANCHORS, "wrong-usage"))
#: cert-manager renews a certificate at its renewalTime. A signer may need some time.
RENEWED_WITHIN = timedelta(hours=1)
CERT_MANAGER = "certificates.cert-manager.io"
#: The checks that find a call which fails now. They are folded into one finding of these kinds of callers.
BROKEN_NOW = frozenset((*REFERENCES, *BUNDLES, "ca-expired", *SILENT, *SERVED)) - {
    "expiring",
    "weak-key",
}


def check_points(data: ClusterData) -> Iterator[AuditFinding]:
    """Yield the findings about each place that tells the API server what to call."""
    for point in data.points:
        yield from check_point(data, point)


def has_broken_webhook(data: ClusterData) -> bool:
    """Return True if a call of an admission webhook fails now, provided that the API server calls it."""
    return any(
        _is_broken(finding)
        for point in itertools.takewhile(lambda _point: not data.is_over(), admission_points(data))
        for finding in check_point(data, point)
    )


def _is_broken(finding: AuditFinding) -> bool:
    """Return True if each call fails now."""
    return finding.status == FAIL and finding.check in BROKEN_NOW and finding.severity != WARNING


def check_fields(data: ClusterData) -> Iterator[AuditFinding]:
    """Yield the finding about fields beside each caBundle, which a newer version of Kubernetes may have."""
    for point in data.points:
        unknown = point.config.unknown
        words = f"{point.object} has {', '.join(unknown)} beside caBundle, which the audit does not know"
        yield judged("trust-field-unknown", point.object, words if unknown else "")


def check_point(data: ClusterData, point: CallPoint) -> Iterator[AuditFinding]:
    """Yield the findings about one place that tells the API server what to call."""
    backend = data.backends.get(point.backend, Backend(is_known=False))
    findings = [*_references(data, point, backend)]
    if point.is_verified:
        findings += [*_bundles(data, point, backend), *_served(data, point, backend)]
    else:
        checks = (*BUNDLES, *SERVED, *ANCHORS)
        findings += _all(SKIP, checks, point, "The object sets insecureSkipTLSVerify.")
    findings = [_with_reasons(finding, data, point) for finding in findings]
    if point.caller == ADMISSION:
        answer = _match_any(data, point) if any(entry.status == FAIL for entry in findings) else ASKED
        calls = data.answered.get(point.config.webhook, 0)
        is_proven = calls > 0 and point.config.webhook not in data.shared_webhooks
        proof = f"{calls:.0f} calls of the webhook succeeded during the audit" if is_proven else ""
        for finding in findings:
            yield _without_harm(_with_proof(finding, proof, point, backend), answer)
    elif point.caller == CONVERSION:
        answer = _converts(data.definition_named.get(point.object.name))
        yield from (_without_harm(finding, answer) for finding in _fold(findings, CONVERSION_DEAD, point))
    else:
        yield from _explain(data, findings, point, backend)


def _converts(state: DefinitionState | None) -> AdmissionMatch:
    """Return whether the API server may call a conversion. No read shows the version in which an object is stored."""
    if state and len(state.used) == 1:
        return AdmissionMatch(False, "only one version is served or stored")
    if state and state.stored and len(state.served) == 1:
        return AdmissionMatch(
            None, "it is not known if an object is stored in the version that is not served", CONDITIONS
        )
    return ASKED


def _match_any(data: ClusterData, point: CallPoint) -> AdmissionMatch:
    """Return whether the API server may call the webhook. Calls that were seen decide about conditions that are not evaluated."""
    answer, name = match_any(point.webhook, data.namespaces, data.served, data.versions), point.config.webhook
    is_seen = (
        data.counters_after is None
        or bool(data.counters_after.get(name))
        or name in data.answered
        or any(call.webhook == name for call in data.failed_calls)
    )
    return ASKED if is_seen and answer.source == CONDITIONS else answer


def _without_harm(finding: AuditFinding, answer: AdmissionMatch) -> AuditFinding:
    """Return a failed finding as information if the API server makes no call now, and as a warning if that is not known."""
    if finding.status != FAIL or finding.severity == INFO or answer.is_asked:
        return finding
    is_open = answer.source == CONDITIONS
    fact = "no such call was seen" if is_open else "the API server makes no such call now"
    lines = (f"{fact}: {answer.reason}", *finding.evidence)
    if answer.is_asked is None and (_is_broken(finding) or finding.check == CONVERSION_DEAD):
        return replace(finding, severity=WARNING, certainty=LIKELY, breaks_at=None, evidence=lines)
    if is_open:
        return finding
    return replace(finding, severity=INFO, breaks_at=None, evidence=lines)


def _with_proof(finding: AuditFinding, proof: str, point: CallPoint, backend: Backend) -> AuditFinding:
    """Return the finding of a fault although calls succeed. It is information, unless Go would refuse a new connection.

    The API server keeps connections, and does not verify them again. So a call proves nothing about the next connection, and nothing
    about an endpoint that is silent while others answer.
    """
    if not (proof and _is_broken(finding)):
        return finding
    has_answer = any(chain.certificate and not _silence(chain, point) for chain in backend.chains)
    if finding.certainty == PROVEN or (finding.check in SILENT and has_answer):
        why = (
            "over connections that were opened before"
            if finding.certainty == PROVEN
            else "of other endpoints"
        )
        return replace(finding, evidence=(f"{proof}, perhaps {why}", *finding.evidence))
    return replace(
        finding,
        severity=INFO,
        breaks_at=None,
        evidence=(f"this is no error now: {proof}", *finding.evidence),
    )


def _with_reasons(finding: AuditFinding, data: ClusterData, point: CallPoint) -> AuditFinding:
    """Return a fault of the bundle with the reason why cert-manager does not write it."""
    is_fault = finding.status == FAIL and finding.check in (*BUNDLES, CA_MISMATCH)
    is_issued = point.certificate is None or point.certificate in data.certificates
    if is_issued or not is_fault or any(gap.source in (CERTIFICATES, DEFINITIONS) for gap in data.gaps):
        return finding
    issued_none = "has issued no certificate, or does not exist"
    is_installed = CERT_MANAGER in data.definition_named
    why = issued_none if is_installed else "needs cert-manager, which is not installed"
    line = f"the annotation {INJECTS_FROM} names the Certificate {'/'.join(point.certificate or ())}, which {why}"
    return replace(finding, evidence=(*finding.evidence, line))


def find_impact(point: CallPoint) -> dict[str, Any]:
    """Return the fields of a failed finding with the requests that depend on the call, and with what a failed call means for them."""
    name = point.object.name
    if point.caller == CONVERSION:
        return {"impact": REFUSES, "requests": (f"requests for {name} that need a conversion",)}
    if point.caller == AGGREGATION:
        return {"impact": REFUSES, "requests": (f"requests of {name}",)}
    # Dictionaries as sets that keep the order.
    resources: dict[str, dict[str, None]] = {}
    for rule in point.webhook.get("rules") or ():
        operations = ", ".join(map(str, rule.get("operations") or ()))
        listed = resources.setdefault(operations, {})
        for name in _resources(rule):
            listed[name] = None
    requests = tuple(f"{operations} of {some(list(names))}" for operations, names in resources.items())
    return {"impact": REFUSES if point.is_strict else SKIPS, "requests": requests}


def _resources(rule: Object) -> Iterator[str]:
    for group in rule.get("apiGroups") or ():
        for resource in rule.get("resources") or ():
            yield f"{resource}.{group}" if group else str(resource)


def _references(data: ClusterData, point: CallPoint, backend: Backend) -> Iterator[AuditFinding]:
    if point.config.service is None:
        yield from _all(SKIP, REFERENCES, point, "It calls a URL.")
    if point.config.service is None or not backend.is_known:
        return
    name = "/".join(point.config.service)
    if point.caller != AGGREGATION:  # the condition of an aggregated API shows it
        words = f"{point.object} calls the Service {name}, which has no cluster IP"
        yield judged("service-headless", point.object, words if backend.is_headless else "", certainty=LIKELY)
    first, fault = "", ""
    if not backend.exists:
        first, fault = "service-missing", f"the Service {name} does not exist"
    elif not (backend.has_port or backend.is_external):
        first, fault = "port-missing", f"the Service {name} has no TCP port {point.config.port}"
    elif not (backend.ready or backend.is_external):
        first, fault = "no-endpoints", f"no endpoint of the Service {name} is ready"
    place = REFERENCES.index(first) if first else len(REFERENCES)
    yield from _all(PASS, REFERENCES[:place], point, BLIND_SPOT)
    if first == "no-endpoints" and backend.is_ending:
        words = f"{point.object} cannot be called after its last endpoints have ended: {fault}"
        yield AuditFinding(first, FAIL, point.object, words, severity=WARNING, certainty=LIKELY)
    elif first:
        words = f"{point.object} cannot be called, because {fault}"
        yield AuditFinding(first, FAIL, point.object, words, breaks_at=data.now)
    yield from _all(SKIP, REFERENCES[place + 1 :], point)


def _bundles(data: ClusterData, point: CallPoint, backend: Backend) -> Iterator[AuditFinding]:
    state = bundle_state(point.config.ca_bundle)
    if state == BUNDLE_EMPTY and point.config.service is None and not _serves_private_ca(data, backend):
        yield from _all(SKIP, BUNDLES, point, UNKNOWN_ROOTS)
        return
    faults = {
        # The API server then uses its system roots, and a private CA among them is unusual.
        BUNDLE_EMPTY: (LIKELY, "is empty, so the API server does not trust a private CA"),
        BUNDLE_BROKEN: (PROVEN, "contains no certificate"),
    }
    if state:
        certainty, fault = faults[state]
        words = f"The caBundle of {point.object} {fault}"
        yield AuditFinding(state, FAIL, point.object, words, certainty=certainty, breaks_at=data.now)
    yield from _all(PASS, [check for check in BUNDLES if check != state], point)


def _serves_private_ca(data: ClusterData, backend: Backend) -> bool:
    """Return True if an endpoint serves what its own key or a CA of the cluster signed. The roots of a machine have no such CA."""
    return any(
        chain.certificate.is_self_issued or signer_of(data.published, *chain.parsed) is not None
        for chain in backend.chains
        if chain.certificate
    )


def _served(data: ClusterData, point: CallPoint, backend: Backend) -> Iterator[AuditFinding]:
    """Yield the findings about the certificates. If no endpoint shows one, the bundle still shows its own end."""
    seen = [chain for chain in backend.chains if chain.certificate is not None or chain.is_unread]
    yield from _silent(data, point, backend)
    if not seen:
        faults = [("", fault) for fault in find_bundle_faults(point.config.ca_bundle, data.now)]
        yield from _merged(point, ANCHORS, faults, ())
        return
    every = [
        (str(chain.endpoint), fault)
        for chain in seen
        for fault in find_chain_faults(chain, point.config, data.now)
    ]
    yield from _merged(point, (*SERVED, *ANCHORS), _by_renewal(data, point, every), (BLIND_SPOT,))
    yield _difference(point, backend, any(fault.check in BROKEN_NOW for _endpoint, fault in every))


def _by_renewal(
    data: ClusterData, point: CallPoint, faults: list[tuple[str, CertificateFault]]
) -> list[tuple[str, CertificateFault]]:
    """Return the faults without the end of a certificate that cert-manager is to renew, and with one that it did not renew."""
    issued = data.certificates.get(point.certificate) if point.certificate else None
    if issued is None or issued.renewal is None or issued.not_after is None:
        return faults
    end, name = issued.not_after, "/".join(point.certificate or ())
    if data.now > issued.renewal + min(RENEWED_WITHIN, (end - issued.renewal) / 2):
        words = f"cert-manager has not renewed the Certificate {name}, which was due at {format_time(issued.renewal)}"
        return [*faults, ("", CertificateFault("expiring", words, end, WARNING))]
    return [
        (endpoint, fault)
        for endpoint, fault in faults
        if not issued.is_ready or fault.breaks_at != end or fault.check not in ("expiring", "ca-expiring")
    ]


def _silent(data: ClusterData, point: CallPoint, backend: Backend) -> Iterator[AuditFinding]:
    """Yield a finding for each reason why endpoints show the API server no certificate that it can read."""
    faults = [(chain.endpoint, *silence) for chain in backend.chains if (silence := _silence(chain, point))]
    refused = next((chain for chain in backend.chains if chain.refusal and point.caller != AGGREGATION), None)
    for check in SILENT:
        own = [(endpoint, why) for endpoint, fault, why in faults if fault == check]
        if own:
            lines = tuple(f"{endpoint}: {why}" for endpoint, why in own[:MOST_LINES])
            count = f"{len(own)} of {len(backend.chains)} endpoints"
            words = (
                f"{count} that {point.object} calls: {BY_ID[check].title[:1].lower()}{BY_ID[check].title[1:]}"
            )
            certainty = PROVEN if check == CERTIFICATE_REFUSED else LIKELY
            yield AuditFinding(
                check, FAIL, point.object, words, lines, certainty=certainty, breaks_at=data.now
            )
        elif any(chain.certificate for chain in backend.chains) and not (
            refused and check == HANDSHAKE_FAILS
        ):
            yield AuditFinding(check, PASS, point.object, evidence=(BLIND_SPOT,))
    if refused:
        # The API server presents a client certificate to every aggregated API, and to a webhook by its AdmissionConfiguration.
        words = f"{refused.endpoint} refuses this run, and may accept the API server: {refused.refusal}"
        yield AuditFinding(HANDSHAKE_FAILS, UNKNOWN, point.object, words, source=HANDSHAKES)


def _silence(served: ServedChain, point: CallPoint) -> tuple[str, str] | None:
    """Return the fault for which handshakes of the API server with this endpoint fail, with its reason. None if nothing is known."""
    if served.certificate is None:
        return None if served.is_blind else (served.fault, served.problem)
    if point.caller == ADMISSION and served.seconds > seconds_of(point):
        return (
            TIMED_OUT,
            f"its TLS handshake took {served.seconds:.1f} s, and timeoutSeconds is {seconds_of(point)}",
        )
    return None


def _merged(
    point: CallPoint,
    checks: Iterable[str],
    faults: Iterable[tuple[str, CertificateFault]],
    passed: tuple[str, ...],
) -> Iterator[AuditFinding]:
    """Yield one finding for each check: the faults of all endpoints together, or a pass."""
    every = list(faults)
    unanswered = () if point.config.ca_bundle else _NEEDS_CHAIN
    unread = next((fault.words for _endpoint, fault in every if fault.check == UNREAD), "")
    for check in checks:
        own = [(endpoint, fault) for endpoint, fault in every if fault.check == check]
        if not own and unread and check in _NEEDS_CHAIN:
            yield AuditFinding(check, UNKNOWN, point.object, unread, source=UNREAD)
            continue
        if not own and check in unanswered:
            yield AuditFinding(check, SKIP, point.object, evidence=(UNKNOWN_ROOTS,))
            continue
        if not own:
            yield AuditFinding(check, PASS, point.object, evidence=passed)
            continue
        worst = min(own, key=lambda entry: SEVERITIES.index(entry[1].severity))[1]
        times = [fault.breaks_at for _endpoint, fault in own if fault.breaks_at]
        lines = [f"{endpoint}: {fault.words}" if endpoint else fault.words for endpoint, fault in own]
        details = [line for _endpoint, fault in own for line in fault.lines]
        words = f"{worst.words[:1].upper()}{worst.words[1:]} ({point.object})"
        yield AuditFinding(
            check,
            FAIL,
            point.object,
            words,
            (*list(dict.fromkeys(lines))[:MOST_LINES], *list(dict.fromkeys(details))[:MOST_LINES]),
            severity=worst.severity,
            certainty=min((fault.certainty for _endpoint, fault in own), key=(PROVEN, LIKELY).index),
            breaks_at=min(times, default=None),
        )


def _difference(point: CallPoint, backend: Backend, has_refused: bool) -> AuditFinding:
    """Return the finding of endpoints that serve different certificates. Each may have a valid one of its own."""
    by_print: dict[str, list[str]] = {}
    for chain in backend.chains:
        if chain.certificate:
            by_print.setdefault(chain.certificate.fingerprint, []).append(str(chain.endpoint))
    has_shared = any(len(names) > 1 for names in by_print.values())
    if len(by_print) < 2 or not (has_shared or has_refused):
        return AuditFinding("endpoints-differ", PASS, point.object, evidence=(BLIND_SPOT,))
    lines = tuple(f"SHA-256 {print_}: {', '.join(names)}" for print_, names in by_print.items())
    words = f"The endpoints that {point.object} calls serve {len(by_print)} different certificates"
    return AuditFinding("endpoints-differ", FAIL, point.object, words, lines[:MOST_LINES])


def _split(
    findings: Iterable[AuditFinding],
) -> tuple[list[AuditFinding], list[AuditFinding], tuple[str, ...]]:
    """Return the faults that make each call fail now, the other findings, and lines about the faults."""
    broken: list[AuditFinding] = []
    others: list[AuditFinding] = []
    for finding in findings:
        (broken if _is_broken(finding) else others).append(finding)
    lines = (f"{fault.check}: {line}" for fault in broken for line in (fault.cause, *fault.evidence))
    return broken, others, tuple(itertools.islice(lines, 2 * MOST_LINES))


def _fold(findings: Iterable[AuditFinding], check: str, point: CallPoint) -> Iterator[AuditFinding]:
    """Yield one finding for all faults that make each call fail now, and the other findings as they are."""
    broken, others, lines = _split(findings)
    yield from others
    if broken:
        words = f"{point.object} cannot convert objects. {broken[0].cause}"
        yield replace(broken[0], check=check, cause=words, evidence=lines, severity="")
    elif any(finding.status == PASS and finding.check == CA_MISMATCH for finding in others):
        yield AuditFinding(check, PASS, point.object, evidence=(BLIND_SPOT,))


def _explain(
    data: ClusterData, findings: Iterable[AuditFinding], point: CallPoint, backend: Backend
) -> Iterator[AuditFinding]:
    """Yield the state of an aggregated API. If it is down, the faults of its endpoints are the evidence."""
    words = f"{point.object} sets insecureSkipTLSVerify, so the API server accepts every certificate"
    yield judged("apiservice-insecure", point.object, "" if point.is_verified else words)
    state = data.api_service_named.get(point.object.name)
    is_down = state is not None and not state.is_available
    _broken, others, lines = _split(findings)
    proof = "the condition Available of the API is True" if state else ""
    yield from others if is_down else (_with_proof(finding, proof, point, backend) for finding in findings)
    if state:
        words = f"{point.object} is not available: {state.words}" if is_down else ""
        yield judged("apiservice-down", point.object, words, lines, breaks_at=state.since or data.now)


def _all(status: str, checks: Iterable[str], point: CallPoint, reason: str = "") -> Iterator[AuditFinding]:
    for check in checks:
        yield AuditFinding(check, status, point.object, evidence=(reason,) if reason else ())
