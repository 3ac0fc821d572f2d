# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""k8s_csr_approve: decide on requests of others, after comparing what they ask for with what is expected."""

from __future__ import annotations

from typing import Any, Mapping

from .._csr import _names, _requests
from .._csr._approve import Expectation, compare, decided
from .._csr._content import condition, content_of
from .._csr._errors import RequestError
from .._kube import _rights
from .._kube._client import Client
from . import _spec
from ._operation import Operation, Result

DECISIONS = {"approve": "Approved", "deny": "Denied"}

SPEC: dict[str, Any] = {
    "name": {"type": "str"},
    **_spec.SELECTORS,
    "decision": {"type": "str", "choices": list(DECISIONS), "default": "approve"},
    "message": {"type": "str"},
    "expect": {
        "type": "dict",
        "options": {
            "signer_name": {"type": "str"},
            "usages": {"type": "list", "elements": "str"},
            "requester": {"type": "str"},
            "common_name": {"type": "str"},
            "organizations": {"type": "list", "elements": "str"},
            "dns_names": {"type": "list", "elements": "str"},
            "ip_addresses": {"type": "list", "elements": "str"},
            "public_key_sha256": {"type": "str", "no_log": False},
            "longest_seconds": {"type": "int"},
            "service": {"type": "str"},
            "namespace": {"type": "str"},
        },
    },
    "allow_names": {"type": "list", "elements": "str"},
    "allow_client_identity": {"type": "bool", "default": False},
    **{**_spec.WAIT, "wait": {"type": "bool", "default": False}},
    **_spec.AUTH,
}


def run(client: Client, parameters: Mapping[str, Any], check_mode: bool) -> Result:
    decision = DECISIONS[parameters["decision"]]
    csrs = _selected(client, parameters, decision)
    _names.check_names(parameters.get("allow_names") or (), ())
    open_ones = [csr for csr in csrs if not decided(csr)]
    expected = {csr["metadata"]["uid"]: _expectation(client, csr, parameters) for csr in open_ones}
    _refuse_mismatches(open_ones, expected, decision)
    for signer in dict.fromkeys(csr["spec"]["signerName"] for csr in open_ones):
        _rights.require(client, _requests.approval_rights(signer), f"{parameters['decision']} requests for {signer}")
    results = []
    for csr in csrs:
        if csr in open_ones and not check_mode:
            csr = _decide(client, csr, decision, expected[csr["metadata"]["uid"]], parameters)
        results.append(csr)
    if parameters["wait"] and decision == "Approved" and not check_mode:
        results = [
            _requests.wait(client, f"request {csr['metadata']['name']}", csr, until=client.deadline) for csr in results
        ]
    touched = {csr["metadata"]["uid"] for csr in open_ones}
    return Result(
        changed=bool(open_ones),
        values={"csrs": [_entry(csr, decision, csr["metadata"]["uid"] in touched) for csr in results]},
        diff={
            "before": {csr["metadata"]["name"]: condition(csr) for csr in open_ones},
            "after": {csr["metadata"]["name"]: decision for csr in open_ones},
        },
        warnings=_names.warnings(
            parameters.get("allow_names") or (), cluster=_names.guarded({"api_host": client.host_name})
        ),
    )


def _selected(client: Client, parameters: Mapping[str, Any], decision: str) -> list[Mapping[str, Any]]:
    """The named request, or those that the selectors find and nobody has decided otherwise."""
    name = parameters.get("name")
    if not name:
        found = _requests.select(client, parameters.get("label_selectors"), parameters.get("field_selectors"))
        return [csr for csr in found if decided(csr) in ("", decision)]
    csr = client.find(_requests.path(name))
    if csr is None:
        raise RequestError(f"CSR {name} does not exist", remedy="check the name; old requests are collected")
    if decided(csr) not in ("", decision):
        raise RequestError(
            f"CSR {name} is {decided(csr)} already, which cannot be changed", remedy="make a new request"
        )
    return [csr]


def _expectation(client: Client, csr: Mapping[str, Any], parameters: Mapping[str, Any]) -> Expectation:
    expect = {key: value for key, value in (parameters.get("expect") or {}).items() if value is not None}
    lists = {key: tuple(value) for key, value in expect.items() if isinstance(value, list)}
    request = content_of(csr).request
    # Names that the task spells out are as good as allowed: it knows them.
    allowed = (
        *(parameters.get("allow_names") or ()),
        *lists.get("dns_names", ()),
        *lists.get("ip_addresses", ()),
    )
    return Expectation(
        **{**expect, **lists},
        allow_names=allowed,
        allow_client_identity=parameters["allow_client_identity"],
        cluster=_requests.guarded(client, request.dns_names),
    )


def _refuse_mismatches(
    csrs: list[Mapping[str, Any]], expected: Mapping[str, Expectation], decision: str
) -> None:
    """One mismatch and nothing is written: a wide selector must not deny, or approve, a node's renewal."""
    faults = [
        f"{csr['metadata']['name']}: {fault.message} ({fault.reason})"
        for csr in csrs
        for fault in compare(content_of(csr), expected[csr["metadata"]["uid"]])
    ]
    if faults:
        raise RequestError(
            f"nothing was {decision.lower()}: {faults[0]}" + (f" (and {len(faults) - 1} more)" if faults[1:] else ""),
            evidence=faults,
            remedy="say in expect and allow_names what is right, or select fewer requests",
        )


def _decide(
    client: Client, csr: Mapping[str, Any], decision: str, expected: Expectation, parameters: Mapping[str, Any]
) -> dict[str, Any]:
    uid = csr["metadata"]["uid"]

    def judge(current: Mapping[str, Any]) -> None:
        if current["metadata"]["uid"] != uid:
            raise RequestError(f"CSR {current['metadata']['name']} was replaced by another object of its name")
        _refuse_mismatches([current], {uid: expected}, decision)

    message = parameters.get("message") or "Compared with what the task certflow.kubernetes.k8s_csr_approve expects."
    return _requests.decide(client, csr, decision, f"Certflow{decision}", message, judge)


def _entry(csr: Mapping[str, Any], decision: str, changed: bool) -> dict[str, Any]:
    content = content_of(csr)
    return {
        **_requests.summary(csr),
        "requester": content.requester,
        "subject": content.request.subject,
        "names": [*content.request.dns_names, *content.request.ip_addresses],
        "decision": decision,
        "changed": changed,
        "reason": "decided by this task" if changed else "was decided so before",
    }


OPERATION = Operation(
    name="k8s_csr_approve",
    argument_spec=SPEC,
    run=run,
    constraints={
        "required_one_of": [("name", "label_selectors", "field_selectors")],
        "mutually_exclusive": [("name", "label_selectors"), ("name", "field_selectors")],
    },
)
