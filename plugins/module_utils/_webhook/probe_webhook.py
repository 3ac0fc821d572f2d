# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Probe a webhook: make the API server call it and judge the answer. explanation_proof.rst explains the verdicts."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Callable

from .._base.accept import NOTHING, Consent
from .._kube import access_review
from .._kube.client import Client
from . import (
    admission_call,
    admission_match,
    bundle_targets,
    call_failures,
    probe_calls,
    probe_verdict,
    served_chains,
)
from .admission_call import ApiResource, ProbeCall, ProbeObject
from .bundle_targets import ClientConfig, Object, Target
from .errors import ProbeError, ProofError
from .probe_verdict import ApiServers, ProbeEvidence, ProbeVerdict, WebhookAnswer
from .served_chains import EndpointScan, ServedChain, ServedReport

PAUSE_SECONDS = 2.0
_FAIL_OPEN = "Ignore"


@dataclass(frozen=True)
class ProbeRequest:
    """One webhook to probe, and how."""

    #: Has at most one webhook name. Without a name, the object must have exactly one webhook.
    target: Target
    #: The object to send. An admission webhook needs a manifest.
    asked: ProbeObject = field(default_factory=ProbeObject)
    #: Change a line break of the caBundle if only old connections are in doubt, so that API servers reconnect.
    renew_connections: bool = False
    #: Also write a caBundle that belongs to another manager.
    consent: Consent = NOTHING
    #: Repeat the probe until it passes, until waiting cannot help, or until the client's deadline.
    wait: bool = False
    #: Write nothing.
    check_mode: bool = False


@dataclass(frozen=True)
class ProbeResult:
    """The outcome of a probe."""

    verdict: ProbeVerdict
    served: tuple[ServedReport, ...] = ()
    #: The caBundle was written, or would have been in check mode.
    is_changed: bool = False

    def as_result(self) -> dict[str, Any]:
        """Return the outcome as the module webhook_probe returns it, without ``msg``."""
        verdict = self.verdict
        failure = {"code": verdict.code, "cause": verdict.cause, "remedy": verdict.remedy}
        return {
            "verdict": verdict.verdict,
            "evidence": list(verdict.evidence),
            "served": [report.as_result() for report in self.served],
            "failure": None if verdict.is_ok else failure,
        }

    def require(self, *, proof: bool = False) -> ProbeResult:
        """Return the result itself. Raise ProofError if the probe failed or, with ``proof``, did not pass."""
        verdict = self.verdict
        if verdict.is_ok or (verdict.verdict == probe_verdict.UNPROVEN and not proof):
            return self
        error = ProofError(verdict.cause, evidence=verdict.evidence, remedy=verdict.remedy)
        error.values = {key: value for key, value in self.as_result().items() if key != "evidence"}
        raise error


@dataclass(frozen=True)
class _PreparedProbe:
    """A request with the data that is read once."""

    client: Client
    request: ProbeRequest
    resource: ApiResource | None
    api_servers: ApiServers

    @property
    def kind_of_call(self) -> str:
        return bundle_targets.KINDS[self.request.target.kind].call


@dataclass(frozen=True)
class _ProbeAttempt:
    verdict: ProbeVerdict
    config: ClientConfig
    call: ProbeCall | None = None
    scan: EndpointScan = field(default_factory=EndpointScan)
    is_changed: bool = False


def probe(
    client: Client, request: ProbeRequest, *, between_attempts: Callable[[], object] = lambda: None
) -> ProbeResult:
    """Probe a webhook. Without ``renew_connections`` this writes nothing.

    Args:
        between_attempts: called before each further attempt. An error that it raises ends the probe.

    Raises:
        ProbeError: the webhook cannot be asked this way.
        TargetError: the webhook does not exist, or its caBundle belongs to another manager.
        KubeError: the API server does not answer, or a permission is missing.
    """
    prepared = _prepare(client, request)
    is_changed = False
    while True:
        attempt = _attempt(prepared)
        is_changed = is_changed or attempt.is_changed
        verdict = attempt.verdict
        ends = verdict.is_ok or verdict.is_lasting or not request.wait
        if ends or time.monotonic() + PAUSE_SECONDS > client.deadline:
            return _conclude(prepared, attempt, is_changed)
        time.sleep(PAUSE_SECONDS)
        between_attempts()


def check_targets(targets: Iterable[Target], asked: ProbeObject) -> None:
    """Raise ProbeError if ``prove`` could not ask one of these targets."""
    for target in targets:
        if _is_admission(target):
            admission_call.check_object(target, asked)


def prove(client: Client, config: ClientConfig, target: Target, asked: ProbeObject) -> ProbeResult:
    """Probe one webhook of a target until the client's deadline, without writing.

    Args:
        asked: the object for an admission webhook. Other kinds of targets are asked without an object.

    Raises:
        ProofError: the webhook failed the probe.
    """
    request = ProbeRequest(
        _only(target, config), asked if _is_admission(target) else ProbeObject(), wait=True
    )
    return probe(client, request).require()


def _is_admission(target: Target) -> bool:
    return bundle_targets.KINDS[target.kind].call == call_failures.ADMISSION


def _only(target: Target, config: ClientConfig) -> Target:
    return replace(target, webhooks=(config.webhook,) if config.webhook else ())


def _prepare(client: Client, request: ProbeRequest) -> _PreparedProbe:
    target, manifest = request.target, request.asked.manifest
    admission_call.check_object(target, request.asked)
    resource = (
        probe_calls.resource(client, manifest) if manifest is not None and _is_admission(target) else None
    )
    return _PreparedProbe(client, request, resource, probe_calls.api_servers(client))


def _attempt(prepared: _PreparedProbe) -> _ProbeAttempt:
    """Read the target and its endpoints, send the requests, and judge the answers.

    If only old connections are in doubt, make the API servers reconnect and send the requests again.
    """
    client, request = prepared.client, prepared.request
    obj = bundle_targets.read(client, request.target, writes=request.renew_connections)
    config = _client_config(request.target, obj)
    call = _call(prepared, obj, config)
    if call is None:
        return _ProbeAttempt(_NOTHING_TO_CONVERT, config)
    scan = served_chains.scan(client, config, until=client.deadline)
    evidence = replace(
        _evidence(prepared, obj, call, config),
        endpoints=probe_calls.describe_endpoints(scan, config, client.now()),
        endpoints_problem=scan.problem,
        are_endpoints_known=scan.is_known,
        is_blind=scan.is_blind,
    )
    if not evidence.has_no_endpoint:  # otherwise the API server would connect to an address without a server
        evidence = replace(evidence, answers=_answers(prepared, call, obj))
    verdict = probe_verdict.judge(evidence)
    may_reconnect = request.renew_connections and config.ca_bundle.strip()  # a line break is no CA bundle
    if verdict.code != "old-connection" or not may_reconnect:
        return _ProbeAttempt(verdict, config, call, scan)
    verdict = _judge_new_connections(prepared, _only(request.target, config), obj, call, evidence)
    return _ProbeAttempt(verdict, config, call, scan, is_changed=True)


def _client_config(target: Target, obj: Object) -> ClientConfig:
    """Return the only client configuration of the target. Raises ProbeError if it has several."""
    configs = bundle_targets.client_configs(target, obj)
    if len(configs) > 1:
        names = ", ".join(config.webhook for config in configs)
        raise ProbeError(
            f"{target} has {len(configs)} webhooks", remedy=f"Name one in target.webhook: {names}"
        )
    return configs[0]


def _call(prepared: _PreparedProbe, obj: Object, config: ClientConfig) -> ProbeCall | None:
    """Return the request that makes the API server call the webhook, None if no such request exists."""
    kind, manifest = prepared.kind_of_call, prepared.request.asked.manifest
    if kind == call_failures.AGGREGATION:
        return admission_call.discovery_of(obj)
    if prepared.resource and manifest is not None:
        return admission_call.creation(prepared.resource, manifest, kind, config.webhook)
    if not admission_call.unstored(obj):
        return None
    manifest = manifest or admission_call.sample(obj)
    admission_call.check_converted(obj, manifest)
    version = admission_call.group_version(manifest)[1]
    return admission_call.creation(admission_call.resource_of_definition(obj, version), manifest, kind)


def _evidence(prepared: _PreparedProbe, obj: Object, call: ProbeCall, config: ClientConfig) -> ProbeEvidence:
    """Return the evidence that exists before the first request."""
    evidence = ProbeEvidence(
        call.words,
        (),
        expect=prepared.request.asked.expect,
        message=prepared.request.asked.denial_message,
        has_bundle=bool(config.ca_bundle.strip()),
        api_servers=prepared.api_servers,
    )
    if call.kind != call_failures.ADMISSION or call.creation is None:
        return evidence
    webhook = next(entry for entry in obj["webhooks"] if entry["name"] == config.webhook)
    creation = call.creation
    if webhook.get("namespaceSelector"):
        labels = probe_calls.namespace_labels(prepared.client, creation)
        creation = replace(creation, namespace_labels=labels)
    return replace(
        evidence,
        match=admission_match.match(webhook, creation),
        fails_open=webhook.get("failurePolicy") == _FAIL_OPEN,
    )


def _answers(prepared: _PreparedProbe, call: ProbeCall, obj: Object) -> tuple[WebhookAnswer, ...]:
    if call.kind == call_failures.AGGREGATION:
        is_available, words = admission_call.availability(obj)
        if not is_available:
            return (WebhookAnswer(call_failures.of_call(words), f"condition Available is not True: {words}"),)
    return probe_calls.send_probe(prepared.client, call, probe_calls.requests_for(prepared.api_servers))


def _judge_new_connections(
    prepared: _PreparedProbe, target: Target, obj: Object, call: ProbeCall, evidence: ProbeEvidence
) -> ProbeVerdict:
    """Make the API servers reconnect, ask again, and return the verdict. Check mode only checks the permission."""
    client, consent = prepared.client, prepared.request.consent
    change = probe_calls.plan_reconnection(client, target, obj, consent=consent)
    if prepared.request.check_mode:
        note = "check mode does not write; a real run changes a line break of the caBundle and asks again"
        return probe_verdict.judge(replace(evidence, notes=(note,)))
    bundle = probe_calls.write_reconnection(client, change, consent=consent)
    answers = _answers(prepared, call, bundle_targets.read(client, target))
    if probe_calls.is_bundle_unchanged(client, target, bundle):
        return probe_verdict.judge(replace(evidence, answers=answers, is_reconnected=True))
    note = "another client has written the caBundle since, so that old connections may be in use again"
    return probe_verdict.judge(replace(evidence, answers=answers, notes=(note,)))


_NOTHING_TO_CONVERT = ProbeVerdict(
    probe_verdict.UNPROVEN,
    "nothing-to-convert",
    "only the stored version is served, so no object is ever converted",
    "Serve another version, or set the conversion strategy to None",
    is_lasting=True,
)


def _conclude(prepared: _PreparedProbe, last: _ProbeAttempt, is_changed: bool) -> ProbeResult:
    webhook = f", webhook {last.config.webhook}" if last.config.webhook else ""
    cause = f"{prepared.request.target}{webhook}: {last.verdict.cause}"
    now = prepared.client.now()
    served = tuple(ServedReport(chain, _refusal(chain, last.config, now)) for chain in last.scan.served)
    return ProbeResult(replace(last.verdict, cause=cause, remedy=_remedy(last)), served, is_changed)


def _remedy(last: _ProbeAttempt) -> str:
    """Return the verdict's remedy, with the missing permission."""
    permission = last.call.permission if last.call else None
    if last.verdict.code == "no-right" and permission:
        return f"{last.verdict.remedy}: {access_review.in_words(permission)}"
    return last.verdict.remedy


def _refusal(served: ServedChain, config: ClientConfig, now: datetime) -> str:
    if served.certificate is None:
        return ""
    if not config.ca_bundle.strip():
        return "it cannot be judged without a caBundle"
    return served_chains.judge_served(served, config, now).refusal
