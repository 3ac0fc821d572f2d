# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""webhook_probe: does the API server get an answer from a webhook, over a connection that it would make now?"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Callable

from .._ansible import argument_specs
from .._ansible.operation import Operation
from .._certificate import certificate_report
from .._kube import access_review
from .._result import Result
from .._webhook import (
    admission_call,
    admission_match,
    bundle_targets,
    call_failures,
    probe_calls,
    probe_verdict,
    reconnection,
    served_chains,
)
from .._webhook.admission_call import Call
from .._webhook.bundle_targets import ClientConfig, Target
from .._webhook.errors import ProbeError, ProofError
from .._webhook.probe_verdict import Answer, ApiServers, Observation, Verdict
from .._webhook.served_chains import Look, Served

if TYPE_CHECKING:
    from .._kube.client import Client

PAUSE_SECONDS = 2.0
_FAIL_OPEN = "Ignore"


@dataclass(frozen=True)
class Probe:
    """What is asked of whom, and what was read once."""

    client: Client
    target: Target
    parameters: Mapping[str, Any]
    check_mode: bool
    resource: admission_call.Resource | None
    api_servers: ApiServers


@dataclass(frozen=True)
class Round:
    """One attempt. is_changed: the caBundle was written, or would have been in check mode."""

    verdict: Verdict
    config: ClientConfig
    call: Call | None = None
    look: Look = field(default_factory=Look)
    is_changed: bool = False


def run(
    client: Client,
    parameters: Mapping[str, Any],
    check_mode: bool,
    *,
    between: Callable[[], object] = lambda: None,
) -> Result:
    """Probe as the module's documentation says.

    Args:
        between: called between two attempts. An error that it raises ends the probe.

    Raises:
        ProofError: the verdict is not good enough.
        CertflowError: the probe could not be made.
    """
    if parameters["pending"]:
        return _skipped()
    probe = _prepared(client, parameters, check_mode)
    changed = False
    while True:
        last = _round(probe)
        changed = changed or last.is_changed
        ends = last.verdict.verdict == probe_verdict.OK or last.verdict.is_lasting or not parameters["wait"]
        if ends or time.monotonic() + PAUSE_SECONDS > client.deadline:
            break
        time.sleep(PAUSE_SECONDS)
        between()
    return _concluded(probe, last, changed)


def check(targets: Iterable[Target], asked: Mapping[str, Any]) -> None:
    """Raise ProbeError for what ``prove`` could not ask one of these targets."""
    for target in targets:
        if admission_call.KINDS_OF_CALL[target.kind] == call_failures.ADMISSION:
            admission_call.check_options(
                target, manifest=asked["object"], expect=asked["expect"], message=asked["denial_message"]
            )


def prove(client: Client, config: ClientConfig, target: Target, asked: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a probe of one webhook, repeated until waiting changes nothing; nothing is written.

    asked: ``object``, ``expect``, ``denial_message`` for an admission webhook. Raises ProofError where it failed.
    """
    is_admission = admission_call.KINDS_OF_CALL[target.kind] == call_failures.ADMISSION
    given = {
        **(asked if is_admission else {}),
        "target": {"kind": target.kind, "name": target.name, "webhook": config.webhook},
        "wait": True,
    }
    return dict(run(client, OPERATION.parameters(given), check_mode=False).values)


def _prepared(client: Client, parameters: Mapping[str, Any], check_mode: bool) -> Probe:
    option, manifest = parameters["target"], parameters["object"]
    webhooks = [option["webhook"]] if option["webhook"] else None
    (target,) = bundle_targets.targets_from([{**option, "webhooks": webhooks}])
    admission_call.check_options(
        target, manifest=manifest, expect=parameters["expect"], message=parameters["denial_message"]
    )
    is_admission = admission_call.KINDS_OF_CALL[target.kind] == call_failures.ADMISSION
    resource = probe_calls.resource(client, manifest) if is_admission else None
    servers = probe_calls.api_servers(client)
    return Probe(client, target, parameters, check_mode, resource, servers)


def _round(probe: Probe) -> Round:
    """Read, look, ask, judge; where only old connections are in doubt, make new ones and ask again."""
    client = probe.client
    obj = bundle_targets.read(client, probe.target, writes=probe.parameters["renew_connections"])
    config, target = _config(probe.target, obj)
    call = _called(probe, obj, config)
    if call is None:
        return Round(_nothing_to_convert(), config)
    look = served_chains.look(client, config, until=client.deadline)
    observation = replace(
        _observation(probe, obj, call, config),
        seen=probe_calls.seen(look, config, client.now()),
        endpoints_problem=look.problem,
        are_endpoints_known=look.is_known,
        is_blind=look.is_blind,
    )
    if not observation.is_deserted:  # or the API server would dial an address that nobody answers at
        observation = replace(observation, answers=_answers(probe, call, obj))
    verdict = probe_verdict.judge(observation)
    if verdict.code != "old-connection" or not probe.parameters["renew_connections"]:
        return Round(verdict, config, call, look)
    if not config.ca_bundle.strip():
        return Round(verdict, config, call, look)  # other bytes would be a bundle, and trust nobody
    verdict = _renewed(replace(probe, target=target), obj, call, observation)
    return Round(verdict, config, call, look, is_changed=True)


def _config(target: Target, obj: Mapping[str, Any]) -> tuple[ClientConfig, Target]:
    """The one client configuration that is meant, and the target with its webhook named."""
    configs = bundle_targets.client_configs(target, obj)
    if len(configs) > 1:
        names = ", ".join(config.webhook for config in configs)
        raise ProbeError(
            f"{target} has {len(configs)} webhooks", remedy=f"Name one in target.webhook: {names}"
        )
    config = configs[0]
    return config, replace(target, webhooks=(config.webhook,) if config.webhook else ())


def _called(probe: Probe, obj: Mapping[str, Any], config: ClientConfig) -> Call | None:
    """The request that the API server needs the webhook for; None where there can be none."""
    kind, manifest = admission_call.KINDS_OF_CALL[probe.target.kind], probe.parameters["object"]
    if kind == call_failures.AGGREGATION:
        return admission_call.discovery_of(obj)
    if probe.resource:
        return admission_call.creation(probe.resource, manifest, kind, config.webhook)
    if not admission_call.unstored(obj):
        return None
    manifest = manifest or admission_call.sample(obj)
    admission_call.check_converted(obj, manifest)
    version = admission_call.group_version(manifest)[1]
    return admission_call.creation(admission_call.resource_of_definition(obj, version), manifest, kind)


def _observation(probe: Probe, obj: Mapping[str, Any], call: Call, config: ClientConfig) -> Observation:
    """What is known before anybody is asked."""
    known = Observation(
        call.words,
        (),
        expect=probe.parameters["expect"],
        message=probe.parameters["denial_message"],
        has_bundle=bool(config.ca_bundle.strip()),
        api_servers=probe.api_servers,
    )
    if call.kind != call_failures.ADMISSION or call.creation is None:
        return known
    webhook = next(entry for entry in obj["webhooks"] if entry["name"] == config.webhook)
    creation = call.creation
    if webhook.get("namespaceSelector"):
        labels = probe_calls.namespace_labels(probe.client, creation)
        creation = replace(creation, namespace_labels=labels)
    return replace(
        known,
        match=admission_match.match(webhook, creation),
        fails_open=webhook.get("failurePolicy") == _FAIL_OPEN,
    )


def _answers(probe: Probe, call: Call, obj: Mapping[str, Any]) -> tuple[Answer, ...]:
    if call.kind == call_failures.AGGREGATION:
        is_available, words = admission_call.availability(obj)
        if not is_available:
            return (Answer(call_failures.of_call(words), f"condition Available is not True: {words}"),)
    return probe_calls.ask(probe.client, call, probe_calls.requests_for(probe.api_servers))


def _renewed(probe: Probe, obj: dict[str, Any], call: Call, seen: Observation) -> Verdict:
    """The verdict over connections that the API servers open now."""
    client, take_over = probe.client, probe.parameters["take_over"]
    change = reconnection.plan(client, probe.target, obj, take_over=take_over)
    if probe.check_mode:
        note = "check mode does not write; a real run changes a line break of the caBundle and asks again"
        return probe_verdict.judge(replace(seen, notes=(note,)))
    bundle = reconnection.write(client, change, take_over=take_over)
    answers = _answers(probe, call, bundle_targets.read(client, probe.target))
    if reconnection.stands(client, probe.target, bundle):
        return probe_verdict.judge(replace(seen, answers=answers, is_renewed=True))
    note = "somebody else has written the caBundle since, so that old connections may be in use again"
    return probe_verdict.judge(replace(seen, answers=answers, notes=(note,)))


def _nothing_to_convert() -> Verdict:
    return Verdict(
        probe_verdict.UNPROVEN,
        "nothing-to-convert",
        "one version is served, the one that is stored, so that no object is ever converted",
        "Serve another version, or set the conversion strategy to None",
        is_lasting=True,
    )


def _concluded(probe: Probe, last: Round, changed: bool) -> Result:
    verdict = last.verdict
    webhook = f", webhook {last.config.webhook}" if last.config.webhook else ""
    cause = f"{probe.target}{webhook}: {verdict.cause}"
    now = probe.client.now()
    served = [certificate_report.served(one, _refusal(one, last.config, now)) for one in last.look.served]
    values = _values(replace(verdict, cause=cause, remedy=_remedy(last)), served)
    accepted = (
        (probe_verdict.OK,)
        if probe.parameters["require_proof"]
        else (probe_verdict.OK, probe_verdict.UNPROVEN)
    )
    if verdict.verdict in accepted:
        return Result(changed, {**values, "msg": cause})
    error = ProofError(cause, evidence=verdict.evidence, remedy=_remedy(last))
    error.values = {key: value for key, value in values.items() if key != "evidence"}
    raise error


def _remedy(last: Round) -> str:
    """The verdict's, and for a missing right the rule that grants it."""
    right = last.call.right if last.call else None
    if last.verdict.code == "no-right" and right:
        return f"{last.verdict.remedy}, by kubectl apply of: {access_review.rule_for([right])}"
    return last.verdict.remedy


def _refusal(one: Served, config: ClientConfig, now: datetime) -> str:
    """Why the API server would not accept what was seen; without a caBundle that is not known here."""
    if one.certificate is None:
        return ""
    if not config.ca_bundle.strip():
        return "it cannot be judged without a caBundle"
    return served_chains.refusal(one, config.ca_bundle, config.server_name, now)


def _values(verdict: Verdict, served: list[dict[str, Any]]) -> dict[str, Any]:
    failure = {"code": verdict.code, "cause": verdict.cause, "remedy": verdict.remedy}
    return {
        "verdict": verdict.verdict,
        "evidence": list(verdict.evidence),
        "served": served,
        "failure": None if verdict.verdict == probe_verdict.OK else failure,
    }


def _skipped() -> Result:
    """Nothing to prove yet: the certificate is still to come."""
    cause = "the certificate is not issued yet"
    verdict = Verdict(probe_verdict.UNPROVEN, "pending", cause, "Probe again once it is issued and served")
    return Result(False, {**_values(verdict, []), "skipped": True, "skip_reason": cause, "msg": cause})


OPERATION = Operation(
    name="webhook_probe",
    argument_spec={
        **argument_specs.AUTH,
        "target": {
            "type": "dict",
            "required": True,
            "options": {
                "kind": {"type": "str", "required": True, "choices": list(bundle_targets.KINDS)},
                "name": {"type": "str", "required": True},
                "webhook": {"type": "str"},
            },
        },
        "object": {"type": "dict"},
        "expect": {
            "type": "str",
            "choices": [probe_verdict.ALLOWED, probe_verdict.DENIED],
            "default": probe_verdict.ALLOWED,
        },
        "denial_message": {"type": "str", "default": ""},
        "renew_connections": {"type": "bool", "default": False},
        "take_over": {"type": "bool", "default": False},
        "require_proof": {"type": "bool", "default": False},
        "pending": {"type": "bool", "default": False},
        "wait": {"type": "bool", "default": False},
    },
    run=run,
)
