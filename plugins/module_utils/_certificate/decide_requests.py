# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Approve or deny requests of other identities, after a comparison of their content with an expectation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .._base.result import Result
from .._csr import name_policy
from .._csr.errors import RequestError
from .._csr.name_policy import GuardedNames
from .._csr.request import csr_api
from .._csr.request.approval import (
    EXPECTED,
    RULES,
    Expectation,
    Rules,
    approval_permissions,
    compare,
    decision_of,
)
from .._csr.request.csr_api import Decision
from .._csr.request.csr_content import condition_of, condition_text, content_of, requester_of
from .._diagnosis import wait_for_certificate
from .._kube import access_review
from .._kube.client import Client
from .._x509.errors import RequestNotCanonical

APPROVED, DENIED = "Approved", "Denied"


@dataclass(frozen=True)
class RequestDecision:
    """A decision on one request by its name, or on the requests that selectors find."""

    #: The decision and its message, as they are written.
    decision: Decision
    expected: Expectation
    #: "" to use the selectors.
    name: str = ""
    label_selectors: Sequence[str] = ()
    field_selectors: Sequence[str] = ()
    #: Wait for the certificates of approved requests.
    wait: bool = False

    @property
    def kind(self) -> str:
        return self.decision.kind

    @property
    def rules(self) -> Rules:
        """Return the rules that undecided requests must satisfy.

        A denial by name may be for a request that breaks the safety rules. A denial by selector must satisfy them, because
        a wide selector must not deny the renewal of a node.
        """
        return EXPECTED if self.name and self.kind == DENIED else RULES

    def has_decided(self, csr: Mapping[str, Any]) -> bool:
        """Return True for the decision of this task. Another client may have written the same decision first."""
        condition = condition_of(csr, self.kind) or {}
        return (
            condition.get("message") == self.decision.message
            and condition.get("reason") == self.decision.reason
        )


def decide_requests(client: Client, task: RequestDecision, *, check_mode: bool) -> Result:
    """Decide on the requests. All of them are compared before the first write.

    Raises RequestError for a request that does not match, or that has the opposite decision, MissingPermissions, KubeError.
    """
    csrs = _select(client, task)
    undecided = [csr for csr in csrs if not decision_of(csr)]
    compared = undecided if task.kind == DENIED else csrs
    cluster = _read_guarded_names(client, compared)
    permitted = task.expected.allow_names
    task = replace(task, expected=_with_cluster(task.expected, cluster))
    _refuse_mismatches(undecided, task)
    unexpected = _approved_unexpectedly([csr for csr in compared if decision_of(csr)], task)
    csrs = [csr for csr in csrs if csr["metadata"]["uid"] not in unexpected]
    waits = task.wait and task.kind == APPROVED
    _require_permissions(client, undecided, task, waits=waits)
    results = {csr["metadata"]["uid"]: csr for csr in csrs}
    if not check_mode:
        for csr in undecided:
            results[csr["metadata"]["uid"]] = _decide(client, csr, task)
        if waits:
            results = {uid: _wait(client, csr) for uid, csr in results.items()}
    decided = [csr for csr in undecided if check_mode or task.has_decided(results[csr["metadata"]["uid"]])]
    changed = {csr["metadata"]["uid"] for csr in decided}
    return Result(
        changed=bool(decided),
        values={"csrs": [_entry(csr, task.kind, uid in changed) for uid, csr in results.items()]},
        diff={
            "before": {csr["metadata"]["name"]: condition_text(csr) for csr in decided},
            "after": {csr["metadata"]["name"]: task.kind for csr in decided},
        },
        warnings=(*unexpected.values(), *name_policy.warnings(permitted, cluster=cluster)),
    )


def _select(client: Client, task: RequestDecision) -> list[dict[str, Any]]:
    """Return the named request, or the requests that the selectors find and that have no opposite decision."""
    if not task.name:
        # An empty entry, such as that of an empty variable, matches every CSR.
        if not all(text.strip() for text in (*task.label_selectors, *task.field_selectors) or [""]):
            raise RequestError(
                "neither a name nor a selector selects CSRs, or a selector is empty",
                remedy="Set name, label_selectors or field_selectors, without an empty entry",
            )
        selected = csr_api.select(client, task.label_selectors, task.field_selectors)
        return [csr for csr in selected if decision_of(csr) in ("", task.kind)]
    csr = csr_api.find(client, task.name)
    if csr is None:
        raise RequestError(
            f"CSR {task.name} does not exist",
            code="not-found",
            remedy="Check the name. The cluster deletes a CSR an hour after the decision on it",
        )
    if decision_of(csr) not in ("", task.kind):
        raise _opposite(csr)
    return [csr]


def _read_guarded_names(client: Client, csrs: Iterable[Mapping[str, Any]]) -> GuardedNames:
    requests = [content_of(csr).request for csr in csrs]
    names = dict.fromkeys(name for request in requests for name in (*request.dns_names, request.common_name))
    return csr_api.read_guarded_names(
        client, names, (address for request in requests for address in request.ip_addresses)
    )


def _with_cluster(expected: Expectation, cluster: GuardedNames) -> Expectation:
    """Return the expectation for this cluster. Expected names are allowed, except names of the cluster itself."""
    names = (*(expected.dns_names or ()), *(expected.ip_addresses or ()))
    harmless = (name for name in names if not name_policy.is_critical(name, cluster=cluster))
    return replace(expected, allow_names=(*expected.allow_names, *harmless), cluster=cluster)


def _refuse_mismatches(
    csrs: Sequence[Mapping[str, Any]], task: RequestDecision, what: str = "nothing was"
) -> None:
    """Raise RequestError if a request does not match. what: the beginning of the sentence."""
    faults, requesters = [], []
    for csr in csrs:
        differences = _faults(csr, task.expected, task.rules)
        faults += differences
        if differences:
            requesters.append(_requested_by(csr))
    if not faults:
        return
    more = f" (and {len(faults) - 1} more)" if faults[1:] else ""
    unreadable = any(content_of(csr).fault for csr in csrs)
    raise RequestError(
        f"{what} {task.kind.lower()}: {faults[0]}{more}",
        evidence=[*faults, *requesters],
        code=RequestNotCanonical.code if unreadable else "",
        remedy="Correct expect and allow_names, or select fewer CSRs. Find out who created a CSR that cannot be compared. Deny it by "
        "name, without an expectation of its content",
    )


def _faults(csr: Mapping[str, Any], expected: Expectation, rules: Rules) -> list[str]:
    name = csr["metadata"]["name"]
    return [
        f"{name}: {mismatch.message} ({mismatch.reason})"
        for mismatch in compare(content_of(csr), expected, rules)
    ]


def _requested_by(csr: Mapping[str, Any]) -> str:
    return f"{csr['metadata']['name']} was requested by {requester_of(csr)}"


def _approved_unexpectedly(csrs: Iterable[Mapping[str, Any]], task: RequestDecision) -> dict[str, str]:
    """Return a warning by UID for each request that was approved before despite a mismatch.

    Raises RequestError for a request that the task names, because its result must not be "approved".
    """
    warnings = {}
    for csr in csrs:
        faults = _faults(csr, task.expected, RULES)
        if faults and task.name:
            raise RequestError(
                f"a CSR that was approved earlier does not match the expectation: {faults[0]}",
                code=RequestNotCanonical.code if content_of(csr).fault else "approved-unexpectedly",
                evidence=[*faults, _requested_by(csr)],
                remedy="An approval is final. Find out who gave it (the audit log of the API server names the user), or correct "
                "expect and allow_names",
            )
        if faults:
            warnings[csr["metadata"]["uid"]] = (
                f"a CSR that was approved earlier does not match the expectation: {faults[0]}"
            )
    return warnings


def _require_permissions(
    client: Client, undecided: Iterable[Mapping[str, Any]], task: RequestDecision, *, waits: bool
) -> None:
    """Raise MissingPermissions unless this identity may decide on all requests and wait for their certificates."""
    signers = dict.fromkeys(csr["spec"]["signerName"] for csr in undecided)
    wanted = [permission for signer in signers for permission in approval_permissions(signer)]
    purpose = "approve the CSRs" if task.kind == APPROVED else "deny the CSRs"
    access_review.require(client, [*wanted, *(csr_api.wait_permissions() if waits else ())], purpose)


def _decide(client: Client, csr: Mapping[str, Any], task: RequestDecision) -> dict[str, Any]:
    def judge(current: Mapping[str, Any]) -> None:
        name = current["metadata"]["name"]
        if current["metadata"]["uid"] != csr["metadata"]["uid"]:
            raise RequestError(
                f"CSR {name} was replaced by another object of its name while this task ran",
                code="request-replaced",
                remedy="Look at the new object, and run the task again",
            )
        _refuse_mismatches([current], task, f"CSR {name} was changed while this task ran, and was not")

    result = csr_api.decide(client, csr, task.decision, judge)
    if decision_of(result) != task.kind:
        raise _opposite(result)
    return result


def _opposite(csr: Mapping[str, Any]) -> RequestError:
    return RequestError(
        f"CSR {csr['metadata']['name']} is already {decision_of(csr)}, and a decision cannot be changed",
        code="already-decided",
        remedy="Create a new CSR",
    )


def _wait(client: Client, csr: Mapping[str, Any]) -> dict[str, Any]:
    title = f"request {csr['metadata']['name']}"
    latest = wait_for_certificate.wait(client, title, csr, until=client.deadline)
    return wait_for_certificate.require_issued(client, title, latest)


def _entry(csr: Mapping[str, Any], kind: str, changed: bool) -> dict[str, Any]:
    reason = "decided by this task" if changed else "decided before this task"
    return {**csr_api.describe(csr), "decision": kind, "changed": changed, "reason": reason}
