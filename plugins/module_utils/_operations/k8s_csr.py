# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""k8s_csr: obtain a certificate, store it in a Secret, and make the webhooks trust it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .._ansible import argument_specs
from .._ansible.operation import Operation
from .._base import accept
from .._base.result import Result, make_left
from .._certificate.certificate_flow import ensure_certificate, remove_certificate, verify_certificate
from .._certificate.certificate_run import CertificateRun
from .._certificate.cluster_signer import AUTO, ProviderOptions, describe, find_provider, signer_of
from .._csr.errors import RequestError
from .._csr.intent import Intent, intent_from
from .._csr.issuing import providers
from .._csr.issuing.signers import EPHEMERAL_CA
from .._kube import approved_plan
from .._kube.client import Client
from .._webhook.bundles import bundle_content, bundle_targets
from .._webhook.probe import probe_webhook
from .._webhook.probe.probe_calls import ProbeObject
from .._webhook.workloads import RESOURCES, ServingOptions, WebhookWorkload
from .._x509.private_keys import KEY_TYPES
from . import webhook_probe

PRESENT, ABSENT, VERIFIED = "present", "absent", "verified"
#: The values of the option on_stale that are not a workload.
FAIL, RESTART = "fail", "restart"
SPEC: dict[str, Any] = {
    "state": {"type": "str", "choices": [PRESENT, ABSENT, VERIFIED], "default": PRESENT},
    "service": {"type": "str"},
    "namespace": {"type": "str", "required": True},
    "secret": {
        "type": "dict",
        "required": True,
        "no_log": False,
        "options": {
            "name": {"type": "str", "required": True},
            "type": {"type": "str", "default": "kubernetes.io/tls"},
            "certificate_key": {"type": "str", "default": "tls.crt", "no_log": False},
            "private_key_key": {"type": "str", "default": "tls.key", "no_log": False},
            "ca_key": {"type": "str", "no_log": False},
            "labels": {"type": "dict"},
            "annotations": {"type": "dict"},
        },
    },
    "signer_name": {"type": "str"},
    "provider": {"type": "str", "default": AUTO},
    "providers": {"type": "dict", "default": {}},
    "names": {"type": "list", "elements": "str"},
    "common_name": {"type": "str"},
    "organizations": {"type": "list", "elements": "str"},
    "usages": {"type": "list", "elements": "str"},
    "expiration_seconds": {"type": "int"},
    "key_type": {"type": "str", "choices": list(KEY_TYPES), "default": "ecdsa-p256", "no_log": False},
    "allow_names": {"type": "list", "elements": "str"},
    "allow_client_identity": {"type": "bool", "default": False},
    "approve": {"type": "bool", "default": True},
    "requesters": {"type": "list", "elements": "str"},
    "renew_before": {"type": "str"},
    "trust": {"type": "str", "choices": ["verified", "chain", "leaf"], "default": "verified"},
    "ca_bundle": {"type": "str"},
    "accept": accept.OPTION,
    "on_stale": {"type": "str", "default": FAIL},
    "probe": {
        "type": "dict",
        "options": {
            name: webhook_probe.OPERATION.argument_spec[name]
            for name in ("object", "expect", "denial_message")
        },
    },
    "targets": bundle_targets.OPTION,
    "discover_targets": {"type": "bool", "default": False},
    **argument_specs.WAIT,
    **argument_specs.AUTH,
    **approved_plan.OPTION,
}


def run(client: Client, parameters: Mapping[str, Any], check_mode: bool) -> Result:
    """Bring the certificate to the state of the task. Raises CertflowError."""
    choice = _choose_signer(client, parameters)
    parsed = _parse(client, {**parameters, "signer_name": choice.signer_name}, check_mode)
    guard = approved_plan.begin(client, parameters, SPEC, check_mode=check_mode)
    intent = replace(parsed.intent, keeps_signer=choice.is_from_table)

    def intent_for(signer_name: str) -> Intent:
        return replace(
            intent_from({**parameters, "signer_name": signer_name}, intent.accept),
            keeps_signer=choice.is_from_table,
        )

    certificate = replace(parsed, intent=intent, guard=guard, intent_for=intent_for)
    result = _FLOWS[parameters["state"]](certificate)
    return replace(
        result,
        values={**result.values, **choice.values, **guard.as_result(), "left": _left(result, check_mode)},
        warnings=(*result.warnings, *client.clock_warnings()),
    )


def _left(result: Result, check_mode: bool) -> Mapping[str, Any]:
    """Return what is left: the request that waits for the approval of another identity, or the proof that the webhook serves it."""
    is_waiting = bool(result.values.get("pending")) and not check_mode
    proof: Mapping[str, Any] = result.values.get("left") or make_left(0, {})
    csr = result.values.get("csr") or {}
    name, is_approved = str(csr.get("name") or ""), csr.get("condition") == "Approved"
    request = {
        "object": {"kind": "CertificateSigningRequest", "name": name},
        "code": "approved-not-issued" if is_approved else "never-approved",
        "reason": str(result.values.get("reason")),
        "remedy": "The module k8s_csr_info tells why its signer does not issue it"
        if is_approved
        else f"Let its approver decide (kubectl certificate approve {name}), and run the task again",
    }
    return make_left(1, request) if is_waiting else proof


@dataclass(frozen=True)
class _SignerChoice:
    """The signer of a task."""

    signer_name: str | None
    #: Keys of the result: the provider.
    values: Mapping[str, Any] = field(default_factory=dict)
    #: True if neither the task nor a row of the user names the signer.
    is_from_table: bool = False


def _choose_signer(client: Client, parameters: Mapping[str, Any]) -> _SignerChoice:
    """Return the signer that the task names, or that of the cluster's provider."""
    if parameters["state"] == ABSENT or parameters["signer_name"]:
        return _SignerChoice(parameters["signer_name"])
    options = ProviderOptions(parameters["provider"], parameters["providers"])
    verdict = find_provider(client, options)
    name = signer_of(verdict, options)
    return _SignerChoice(
        name,
        values={"provider": {**describe(verdict), "signer_name": name}},
        is_from_table=options.is_detected and providers.is_built_in(verdict),
    )


_FLOWS = {PRESENT: ensure_certificate, ABSENT: remove_certificate, VERIFIED: verify_certificate}


def _parse(client: Client, parameters: Mapping[str, Any], check_mode: bool) -> CertificateRun:
    """Return the run of these options. Raises CertflowError for a value that is not valid, before any request."""
    intent = intent_from(parameters, accept.parse(parameters.get("accept") or ()))
    targets = bundle_targets.targets_from(parameters.get("targets") or [])
    if targets and intent.is_client:
        raise RequestError(
            "targets are webhooks, which need a serving certificate",
            remedy="Remove targets, or request a serving certificate",
        )
    if intent.ca_bundle:
        bundle_content.check(intent.ca_bundle)
    discovers = bool(parameters.get("discover_targets"))
    if discovers and (intent.is_client or not intent.service):
        raise RequestError(
            "discover_targets finds the objects that call the Service, and the task names no Service",
            remedy="Set service, or remove discover_targets",
        )
    option = parameters.get("probe")
    probe = ProbeObject(option["object"], option["expect"], option["denial_message"]) if option else None
    if probe is not None:  # A probe that would fail during the first renewal fails now.
        if not targets and not discovers:
            raise RequestError("probe needs the webhooks in targets", remedy="Set targets, or remove probe")
        probe_webhook.check_targets(targets, probe)
    serving = _serving_options(parameters, intent, probe)
    return CertificateRun(client, intent, targets, serving, check_mode, discovers, is_hinting=True)


def _serving_options(
    parameters: Mapping[str, Any], intent: Intent, probe: ProbeObject | None
) -> ServingOptions:
    on_stale = parameters["on_stale"]
    kind, _slash, name = on_stale.partition("/")
    if on_stale in (FAIL, RESTART):
        return ServingOptions(None, on_stale, parameters["wait_timeout"], intent.wait, probe)
    if kind not in RESOURCES or not name or "/" in name:
        raise RequestError(
            f"the option on_stale has the value {on_stale!r}, which is neither a reaction nor a workload",
            remedy=f"Set {FAIL}, {RESTART}, or KIND/NAME. The kinds are {', '.join(RESOURCES)}",
        )
    workload = WebhookWorkload(kind, intent.namespace, name)
    return ServingOptions(workload, RESTART, parameters["wait_timeout"], intent.wait, probe)


def _roles(parameters: Mapping[str, Any]) -> tuple[str, ...]:
    is_ephemeral = parameters["signer_name"] == EPHEMERAL_CA
    if parameters["approve"] and not is_ephemeral:
        return ("certificates",)
    bundle: tuple[str, ...] = ("bundle",) if parameters["targets"] or parameters["discover_targets"] else ()
    if bundle and parameters["state"] == ABSENT:
        bundle = ("bundle", "rotate")
    return ("store" if is_ephemeral else "request", *bundle)


OPERATION = Operation(
    name="k8s_csr",
    argument_spec=SPEC,
    run=run,
    roles=_roles,
    waits={"wait_timeout": 3},  # for the certificate, for the endpoints, and for them again after a restart
)
