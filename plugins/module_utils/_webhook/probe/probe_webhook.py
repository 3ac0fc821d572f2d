# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Probe a webhook: make the API server call it and judge the answer. explanation_proof.rst explains the verdicts."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Callable

from ..._kube import access_review
from ..._kube.client import Client
from ..bundles import bundle_targets
from ..bundles.bundle_targets import ClientConfig, Object, Target
from ..calls import admission_match, call_failures
from ..endpoints import served_chains
from ..endpoints.served_chains import ServedChain, ServedReport
from ..errors import ProbeError, ProofError
from . import probe_calls, probe_verdict
from .probe_calls import ApiResource, ProbeCall, ProbeObject
from .probe_verdict import EndpointEvidence, ProbeEvidence, ProbeVerdict, WebhookAnswer

PAUSE_SECONDS = 2.0
_FAIL_OPEN = "Ignore"


@dataclass(frozen=True)
class ProbeResult:
    """The outcome of a probe."""

    verdict: ProbeVerdict
    served: tuple[ServedReport, ...] = ()

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


def probe(
    client: Client,
    target: Target,
    asked: ProbeObject,
    *,
    wait: bool = False,
    between_attempts: Callable[[], object] = lambda: None,
) -> ProbeResult:
    """Probe a webhook. This writes nothing.

    Args:
        target: has at most one webhook name. Without a name, the object must have exactly one webhook.
        asked: the object to send. An admission webhook needs a manifest.
        wait: repeat the probe until it passes, until waiting cannot help, or until the client's deadline.
        between_attempts: called before each further attempt. An error that it raises ends the probe.

    Raises:
        ProbeError: the webhook cannot be asked this way.
        TargetError: the webhook does not exist.
        KubeError: the API server does not answer, or a permission is missing.
    """
    probe_calls.check_object(target, asked)
    manifest = asked.manifest
    resource = probe_calls.find_resource(client, manifest) if manifest and _is_admission(target) else None
    while True:
        result = _attempt(client, target, asked, resource)
        ends = result.verdict.is_ok or result.verdict.is_lasting or not wait
        if ends or time.monotonic() + PAUSE_SECONDS > client.deadline:
            return result
        time.sleep(PAUSE_SECONDS)
        between_attempts()


def check_targets(targets: Iterable[Target], asked: ProbeObject) -> None:
    """Raise ProbeError if ``prove`` could not ask one of these targets."""
    for target in targets:
        if _is_admission(target):
            probe_calls.check_object(target, asked)


def prove(client: Client, config: ClientConfig, target: Target, asked: ProbeObject) -> ProbeResult:
    """Probe one webhook of a target until the client's deadline.

    Args:
        asked: the object for an admission webhook. Other kinds of targets are asked without an object.

    Raises:
        ProofError: the webhook failed the probe.
    """
    webhook = replace(target, webhooks=(config.webhook,) if config.webhook else ())
    return probe(client, webhook, asked if _is_admission(target) else ProbeObject(), wait=True).require()


def _is_admission(target: Target) -> bool:
    return bundle_targets.KINDS[target.kind].call == call_failures.ADMISSION


def _attempt(client: Client, target: Target, asked: ProbeObject, resource: ApiResource | None) -> ProbeResult:
    """Read the target and its endpoints, send the requests, and judge the answers."""
    obj = bundle_targets.read(client, target, writes=False)
    config = _client_config(target, obj)
    call = _call(target, obj, config, asked, resource)
    if call is None:
        return ProbeResult(_described(_NOTHING_TO_CONVERT, target, config))
    scan = served_chains.scan(client, config, until=client.deadline)
    now = client.now()
    served = tuple(ServedReport(chain, _refusal(chain, config, now)) for chain in scan.served)
    evidence = replace(
        _evidence(client, obj, call, config, asked),
        endpoints=tuple(_endpoint_evidence(report, config, now) for report in served),
        endpoints_problem=scan.problem,
        are_endpoints_known=scan.is_known,
        is_blind=scan.is_blind,
    )
    if not evidence.has_no_endpoint:  # otherwise the API server would connect to an address without a server
        evidence = replace(evidence, answers=_answers(client, call, obj))
    verdict = probe_verdict.judge(evidence)
    if verdict.code == "no-right" and call.permission:
        remedy = f"{verdict.remedy}: {access_review.in_words(call.permission)}"
        verdict = replace(verdict, remedy=remedy)
    return ProbeResult(_described(verdict, target, config), served)


def _described(verdict: ProbeVerdict, target: Target, config: ClientConfig) -> ProbeVerdict:
    webhook = f", webhook {config.webhook}" if config.webhook else ""
    return replace(verdict, cause=f"{target}{webhook}: {verdict.cause}")


def _client_config(target: Target, obj: Object) -> ClientConfig:
    """Return the only client configuration of the target. Raises ProbeError if it has several."""
    configs = bundle_targets.client_configs(target, obj)
    if len(configs) > 1:
        names = ", ".join(config.webhook for config in configs)
        raise ProbeError(
            f"{target} has {len(configs)} webhooks", remedy=f"Name one in target.webhook: {names}"
        )
    return configs[0]


def _call(
    target: Target, obj: Object, config: ClientConfig, asked: ProbeObject, resource: ApiResource | None
) -> ProbeCall | None:
    """Return the request that makes the API server call the webhook, None if no such request exists."""
    kind, manifest = bundle_targets.KINDS[target.kind].call, asked.manifest
    if kind == call_failures.AGGREGATION:
        return probe_calls.discovery_of(obj)
    if resource and manifest is not None:
        return probe_calls.creation(resource, manifest, kind, config.webhook)
    if not probe_calls.unstored(obj):
        return None
    manifest = manifest or probe_calls.sample(obj)
    probe_calls.check_converted(obj, manifest)
    version = probe_calls.group_version(manifest)[1]
    return probe_calls.creation(probe_calls.resource_of_definition(obj, version), manifest, kind)


def _evidence(
    client: Client, obj: Object, call: ProbeCall, config: ClientConfig, asked: ProbeObject
) -> ProbeEvidence:
    """Return the evidence that exists before the first request."""
    evidence = ProbeEvidence(
        call.words,
        (),
        expect=asked.expect,
        message=asked.denial_message,
        has_bundle=bool(config.ca_bundle.strip()),
    )
    if call.kind != call_failures.ADMISSION or call.creation is None:
        return evidence
    webhook = next(entry for entry in obj["webhooks"] if entry["name"] == config.webhook)
    creation = call.creation
    if webhook.get("namespaceSelector"):
        creation = replace(creation, namespace_labels=probe_calls.namespace_labels(client, creation))
    return replace(
        evidence,
        match=admission_match.match(webhook, creation),
        fails_open=webhook.get("failurePolicy") == _FAIL_OPEN,
    )


def _answers(client: Client, call: ProbeCall, obj: Object) -> tuple[WebhookAnswer, ...]:
    if call.kind == call_failures.AGGREGATION:
        is_available, words = probe_calls.availability(obj)
        if not is_available:
            return (WebhookAnswer(call_failures.of_call(words), f"condition Available is not True: {words}"),)
    return probe_calls.send_probe(client, call)


_NOTHING_TO_CONVERT = ProbeVerdict(
    probe_verdict.UNPROVEN,
    "nothing-to-convert",
    "only the stored version is served, so no object is ever converted",
    "Serve another version, or set the conversion strategy to None",
    is_lasting=True,
)


def _refusal(served: ServedChain, config: ClientConfig, now: datetime) -> str:
    if served.certificate is None:
        return ""
    if not config.ca_bundle.strip():
        return "it cannot be judged without a caBundle"
    return served_chains.judge_served(served, config, now).refusal


def _endpoint_evidence(report: ServedReport, config: ClientConfig, now: datetime) -> EndpointEvidence:
    """Return the certificate of an endpoint in words, with the certificate that ends its chain."""
    chain, facts = report.served, report.served.certificate
    if facts is None:
        return EndpointEvidence(str(chain.endpoint), problem=chain.problem)
    words = f"serves serial {facts.serial}, valid until {facts.not_after:%Y-%m-%d %H:%M} UTC"
    if not report.refusal:
        first = served_chains.judge_served(chain, config, now).breaks[0]
        words += "" if first.certificate == facts else f" ({first.in_words(now)})"
    return EndpointEvidence(str(chain.endpoint), certificate=words, refusal=report.refusal)
