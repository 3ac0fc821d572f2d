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
from .._base.result import Result
from .._kube.client import Client
from .._webhook.bundles import bundle_targets
from .._webhook.probe import probe_verdict, probe_webhook
from .._webhook.probe.probe_calls import ProbeObject


def run(client: Client, parameters: Mapping[str, Any], _check_mode: bool) -> Result:
    """Probe one webhook. Raises ProofError for a verdict that is not good enough, CertflowError."""
    option = parameters["target"]
    webhooks = [option["webhook"]] if option["webhook"] else None
    (target,) = bundle_targets.targets_from([{**option, "webhooks": webhooks}])
    asked = ProbeObject(parameters["object"], parameters["expect"], parameters["denial_message"])
    probed = probe_webhook.probe(client, target, asked, wait=parameters["wait"])
    probed.require(proof=parameters["require_proof"])
    return Result(False, {**probed.as_result(), "msg": probed.verdict.cause})


OPERATION = Operation(
    name="webhook_probe",
    roles=lambda _parameters: ("prove",),
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
        "require_proof": {"type": "bool", "default": False},
        "wait": {"type": "bool", "default": False},
    },
    run=run,
    overtime=READING_OVERTIME_SECONDS,
)
