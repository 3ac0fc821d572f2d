# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""k8s_csr_approve: decide on requests of others, after comparing what they ask for with what is expected."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .._ansible import argument_specs
from .._ansible.operation import Operation
from .._csr import csr_api, name_policy
from .._csr.approval import EXPECTED, RULES, Expectation, Rules, approval_permissions, compare, decision_of
from .._csr.csr_api import Decision
from .._csr.csr_content import condition_text, content_of
from .._csr.errors import RequestError
from .._csr.name_policy import GuardedNames
from .._csr.requester import requester_of
from .._diagnosis import wait_for_certificate
from .._kube import access_review
from .._kube.client import Client
from .._result import Result
from .._x509.errors import RequestNotCanonical

DECISIONS = {"approve": "Approved", "deny": "Denied"}
MESSAGE = "Compared with what the task certflow.kubernetes.k8s_csr_approve expects."

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
    **argument_specs.WAIT,
    "wait": {"type": "bool", "default": False},
    **argument_specs.AUTH,
}


def run(client: Client, parameters: Mapping[str, Any], check_mode: bool) -> Result:
    decision = DECISIONS[parameters["decision"]]
    allow = tuple(parameters.get("allow_names") or ())
    csrs = _selected(client, parameters, decision)
    undecided = [csr for csr in csrs if not decision_of(csr)]
    compared = undecided if decision == "Denied" else csrs
    cluster = _guarded(client, compared)
    expected = _expectation(parameters, cluster)
    rules = _rules(parameters, decision)
    _refuse_mismatches(undecided, expected, rules, decision)
    strange = _approved_before(
        [csr for csr in compared if decision_of(csr)], expected, is_named=bool(parameters.get("name"))
    )
    csrs = [csr for csr in csrs if csr["metadata"]["uid"] not in strange]
    waits = parameters["wait"] and decision == "Approved"
    _require(client, undecided, waits=waits, purpose=f"{parameters['decision']} the requests")
    results = {csr["metadata"]["uid"]: csr for csr in csrs}
    if not check_mode:
        written = Decision(decision, f"Certflow{decision}", parameters.get("decision_message") or MESSAGE)
        for csr in undecided:
            results[csr["metadata"]["uid"]] = _decide(client, csr, written, expected, rules)
        if waits:
            results = {uid: _issued(client, csr) for uid, csr in results.items()}
    touched = {csr["metadata"]["uid"] for csr in undecided}
    return Result(
        changed=bool(undecided),
        values={"csrs": [_entry(csr, decision, uid in touched) for uid, csr in results.items()]},
        diff={
            "before": {csr["metadata"]["name"]: condition_text(csr) for csr in undecided},
            "after": {csr["metadata"]["name"]: decision for csr in undecided},
        },
        warnings=(*strange.values(), *name_policy.warnings(allow, cluster=cluster)),
    )


def _selected(client: Client, parameters: Mapping[str, Any], decision: str) -> list[dict[str, Any]]:
    """The named request, or those that the selectors find and nobody has decided otherwise."""
    name = parameters.get("name")
    if not name:
        labels, fields = parameters.get("label_selectors"), parameters.get("field_selectors")
        if not (labels or fields):
            raise RequestError(
                "neither a name nor a selector says which requests are meant",
                remedy="give name, label_selectors or field_selectors",
            )
        return [csr for csr in csr_api.select(client, labels, fields) if decision_of(csr) in ("", decision)]
    csr = csr_api.find(client, name)
    if csr is None:
        raise RequestError(
            f"CSR {name} does not exist",
            code="not-found",
            remedy="check the name; the cluster collects requests an hour after they were decided",
        )
    if decision_of(csr) not in ("", decision):
        raise _opposite(csr)
    return [csr]


def _guarded(client: Client, csrs: list[dict[str, Any]]) -> GuardedNames:
    requests = [content_of(csr).request for csr in csrs]
    names = dict.fromkeys(name for request in requests for name in (*request.dns_names, request.common_name))
    return csr_api.read_guarded_names(
        client, names, (ip for request in requests for ip in request.ip_addresses)
    )


def _expectation(parameters: Mapping[str, Any], cluster: GuardedNames) -> Expectation:
    expect = {key: value for key, value in (parameters.get("expect") or {}).items() if value is not None}
    lists = {key: tuple(value) for key, value in expect.items() if isinstance(value, list)}
    # Names that the task spells out are as good as allowed: it knows them. Not so the cluster's own.
    spelled_out = (*lists.get("dns_names", ()), *lists.get("ip_addresses", ()))
    harmless = (name for name in spelled_out if not name_policy.is_critical(name, cluster=cluster))
    return Expectation(
        **{**expect, **lists},
        allow_names=(*(parameters.get("allow_names") or ()), *harmless),
        allow_client_identity=parameters["allow_client_identity"],
        cluster=cluster,
    )


def _rules(parameters: Mapping[str, Any], decision: str) -> Rules:
    """What must hold. Whoever denies a request by its name may well do so because it breaks the rules of safety.

    By selector they count for denials too: a wide one must not deny a node's renewal.
    """
    return EXPECTED if parameters.get("name") and decision == "Denied" else RULES


def _refuse_mismatches(
    csrs: Iterable[Mapping[str, Any]], expected: Expectation, rules: Rules, decision: str
) -> None:
    """Raise RequestError if there is a mismatch, before the first write."""
    csrs = list(csrs)
    faults, requesters = [], []
    for csr in csrs:
        found = _faults(csr, expected, rules)
        faults += found
        requesters += [_requested_by(csr)] if found else []
    if faults:
        raise RequestError(
            f"nothing was {decision.lower()}: {faults[0]}"
            + (f" (and {len(faults) - 1} more)" if faults[1:] else ""),
            evidence=[*faults, *requesters],
            **_code_and_remedy(csrs, "correct expect and allow_names, or select fewer requests"),
        )


def _code_and_remedy(csrs: Iterable[Mapping[str, Any]], remedy: str) -> dict[str, str]:
    """Return the keywords of an error about these requests. For a request without canonical form they differ."""
    name = next((csr["metadata"]["name"] for csr in csrs if content_of(csr).fault), "")
    if not name:
        return {"remedy": remedy}
    return {
        "code": RequestNotCanonical.code,
        "remedy": f"find out who created {name}. Deny it by name, without an expectation of its content, and create it again "
        "with an ordinary tool (openssl, keytool, Go)",
    }


def _faults(csr: Mapping[str, Any], expected: Expectation, rules: Rules) -> list[str]:
    name = csr["metadata"]["name"]
    return [
        f"{name}: {fault.message} ({fault.reason})" for fault in compare(content_of(csr), expected, rules)
    ]


def _requested_by(csr: Mapping[str, Any]) -> str:
    return f"{csr['metadata']['name']} was requested by {requester_of(csr)}"


def _approved_before(
    csrs: Iterable[Mapping[str, Any]], expected: Expectation, *, is_named: bool
) -> dict[str, str]:
    """Return a warning by UID for each request that was approved before despite a mismatch.

    Raises RequestError for one that the task names: "approved" must not be the answer to it.
    """
    found = {}
    for csr in csrs:
        faults = _faults(csr, expected, RULES)
        if faults and is_named:
            raise RequestError(
                f"a request that was approved before does not match the expectation: {faults[0]}",
                code=RequestNotCanonical.code if content_of(csr).fault else "approved-unexpectedly",
                evidence=[*faults, _requested_by(csr)],
                remedy="an approval is final: find out who gave it (the audit log of the API server names the user), and "
                "say in expect and allow_names what is right",
            )
        if faults:
            found[csr["metadata"]["uid"]] = (
                f"approved before, and does not match the expectation: {faults[0]}"
            )
    return found


def _require(client: Client, undecided: Iterable[Mapping[str, Any]], *, waits: bool, purpose: str) -> None:
    """All that deciding and waiting need, before the first decision."""
    signers = dict.fromkeys(csr["spec"]["signerName"] for csr in undecided)
    wanted = [permission for signer in signers for permission in approval_permissions(signer)]
    access_review.require(client, [*wanted, *(csr_api.wait_permissions() if waits else ())], purpose)


def _decide(
    client: Client, csr: Mapping[str, Any], decision: Decision, expected: Expectation, rules: Rules
) -> dict[str, Any]:
    def judge(current: Mapping[str, Any]) -> None:
        if current["metadata"]["uid"] != csr["metadata"]["uid"]:
            raise RequestError(
                f"CSR {current['metadata']['name']} was replaced by another object of its name while this task ran",
                code="request-replaced",
                remedy="run the task again, and look at the new one first",
            )
        _refuse_mismatches([current], expected, rules, decision.kind)

    result = csr_api.decide(client, csr, decision, judge)
    if decision_of(result) != decision.kind:
        raise _opposite(result)
    return result


def _opposite(csr: Mapping[str, Any]) -> RequestError:
    return RequestError(
        f"CSR {csr['metadata']['name']} is {decision_of(csr)} already, which cannot be changed",
        code="already-decided",
        remedy="make a new request",
    )


def _issued(client: Client, csr: Mapping[str, Any]) -> dict[str, Any]:
    what = f"request {csr['metadata']['name']}"
    current = wait_for_certificate.wait(client, what, csr, until=client.deadline)
    return wait_for_certificate.require_issued(client, what, current)


def _entry(csr: Mapping[str, Any], decision: str, changed: bool) -> dict[str, Any]:
    content = content_of(csr)
    return {
        **csr_api.summarize(csr),
        "requester": requester_of(csr).as_dict(),
        "subject": content.request.subject,
        "names": [*content.request.dns_names, *content.request.ip_addresses],
        **({"unreadable": content.fault} if content.fault else {}),
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
