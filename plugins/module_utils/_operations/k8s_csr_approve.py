# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""k8s_csr_approve: approve or deny requests of other identities, after a comparison with the expectation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .._ansible import argument_specs
from .._ansible.operation import Operation
from .._base.result import Result
from .._certificate.decide_requests import APPROVED, DENIED, RequestDecision, decide_requests
from .._csr.name_policy import split_names
from .._csr.request.approval import Expectation
from .._csr.request.csr_api import Decision
from .._kube.client import Client

DECISIONS = {"approve": APPROVED, "deny": DENIED}
MESSAGE = "Compared with the expectation of a task of certflow.kubernetes.k8s_csr_approve."

SPEC: dict[str, Any] = {
    "name": {"type": "str"},
    **argument_specs.SELECTORS,
    "decision": {"type": "str", "choices": list(DECISIONS), "default": "approve"},
    "decision_message": {"type": "str"},
    "expect": {
        "type": "dict",
        "options": {
            "signer_name": {"type": "str"},
            "usages": {"type": "list", "elements": "str"},
            "requester": {"type": "str"},
            "common_name": {"type": "str"},
            "organizations": {"type": "list", "elements": "str"},
            "names": {"type": "list", "elements": "str"},
            "public_key_sha256": {"type": "str", "no_log": False},
            "longest_seconds": {"type": "int"},
            "service": {"type": "str"},
            "namespace": {"type": "str"},
        },
    },
    "allow_names": {"type": "list", "elements": "str"},
    "allow_client_identity": {"type": "bool", "default": False},
    **argument_specs.WAIT,
    "wait": {"type": "bool", "default": False},
    **argument_specs.AUTH,
}


def run(client: Client, parameters: Mapping[str, Any], check_mode: bool) -> Result:
    """Decide on the requests of the task. Raises CertflowError."""
    return decide_requests(client, _parse(parameters), check_mode=check_mode)


def _parse(parameters: Mapping[str, Any]) -> RequestDecision:
    kind = DECISIONS[parameters["decision"]]
    return RequestDecision(
        decision=Decision(kind, f"Certflow{kind}", parameters.get("decision_message") or MESSAGE),
        expected=_expectation(parameters),
        name=parameters.get("name") or "",
        label_selectors=parameters.get("label_selectors") or (),
        field_selectors=parameters.get("field_selectors") or (),
        wait=parameters["wait"],
    )


def _expectation(parameters: Mapping[str, Any]) -> Expectation:
    expect = {key: value for key, value in (parameters.get("expect") or {}).items() if value is not None}
    lists = {key: tuple(value) for key, value in expect.items() if isinstance(value, list)}
    if "names" in expect:
        lists["dns_names"], lists["ip_addresses"] = split_names(expect.pop("names"))
        del lists["names"]
    return Expectation(
        **{**expect, **lists},
        allow_names=tuple(parameters.get("allow_names") or ()),
        allow_client_identity=parameters["allow_client_identity"],
    )


OPERATION = Operation(
    name="k8s_csr_approve",
    argument_spec=SPEC,
    run=run,
    roles=lambda _parameters: ("approve",),
    constraints={
        "required_one_of": [("name", "label_selectors", "field_selectors")],
        "mutually_exclusive": [("name", "label_selectors"), ("name", "field_selectors")],
    },
)
