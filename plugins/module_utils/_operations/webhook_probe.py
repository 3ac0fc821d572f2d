# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""webhook_probe: prove through the API server that a webhook answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .._ansible import argument_specs
from .._ansible.operation import READING_OVERTIME_SECONDS, Operation
from .._base import accept
from .._base.result import Result
from .._kube.client import Client
from .._webhook import bundle_targets, probe_verdict, probe_webhook
from .._webhook.admission_call import ProbeObject
from .._webhook.probe_verdict import ProbeVerdict
from .._webhook.probe_webhook import ProbeRequest, ProbeResult

_PENDING = "the certificate is not issued yet"


def run(client: Client, parameters: Mapping[str, Any], check_mode: bool) -> Result:
    """Probe one webhook. Raises ProofError for a verdict that is not good enough, CertflowError."""
    if parameters["pending"]:
        return _pending()
    if not parameters["renew_connections"]:
        client.overtime = READING_OVERTIME_SECONDS
    probed = probe_webhook.probe(client, _request(parameters, check_mode))
    probed.require(proof=parameters["require_proof"])
    return Result(probed.is_changed, {**probed.as_result(), "msg": probed.verdict.cause})


def _request(parameters: Mapping[str, Any], check_mode: bool) -> ProbeRequest:
    option = parameters["target"]
    webhooks = [option["webhook"]] if option["webhook"] else None
    (target,) = bundle_targets.targets_from([{**option, "webhooks": webhooks}])
    return ProbeRequest(
        target,
        ProbeObject(parameters["object"], parameters["expect"], parameters["denial_message"]),
        renew_connections=parameters["renew_connections"],
        consent=accept.parse(parameters["accept"]),
        wait=parameters["wait"],
        check_mode=check_mode,
    )


def _pending() -> Result:
    remedy = "Probe again once it is issued and served"
    values = ProbeResult(ProbeVerdict(probe_verdict.UNPROVEN, "pending", _PENDING, remedy)).as_result()
    return Result(False, {**values, "msg": _PENDING})


OPERATION = Operation(
    name="webhook_probe",
    roles=lambda parameters: ("prove", "bundle") if parameters["renew_connections"] else ("prove",),
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
        "accept": accept.OPTION,
        "require_proof": {"type": "bool", "default": False},
        "pending": {"type": "bool", "default": False},
        "wait": {"type": "bool", "default": False},
    },
    run=run,
)
