# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""What was seen of a webhook, and what that proves. Pure: small rules over one observation, the first that applies wins.

The API server keeps connections to webhooks open and does not verify them again, so that a request which passes says
nothing of the certificate that is served now. It counts only where every endpoint was seen to serve a certificate that
a new connection accepts, or where the API server was made to dial anew. docs/proof.md has this for operators.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Callable

from . import call_failures
from .admission_match import ASKED, AdmissionMatch
from .call_failures import ELSEWHERE, REFUSAL, CallFailure

OK, FAILED, UNPROVEN = "ok", "failed", "unproven"
ALLOWED, DENIED = "allowed", "denied"
# Codes of verdicts that stay what they are while nobody changes the task, a right or the webhook's configuration.
LASTING = frozenset(
    (
        "another-webhook",
        "hidden-by-ignore",
        "invalid-object",
        "namespace",
        "no-dry-run",
        "no-right",
        "not-asked",
        "perhaps-not-asked",
        "policy",
    )
)


@dataclass(frozen=True)
class WebhookAnswer:
    """What one request, over a connection of its own to the API server, was told. failure: None where it passed."""

    failure: CallFailure | None = None
    words: str = ""


@dataclass(frozen=True)
class EndpointEvidence:
    """One endpoint of the webhook.

    certificate: in words what it serves, "" where nothing was seen. problem: why not. refusal: why the API server
    would not accept it on a new connection, in the words of Go; "" where it would.
    """

    endpoint: str
    certificate: str = ""
    problem: str = ""
    refusal: str = ""

    @property
    def verifies(self) -> bool:
        return bool(self.certificate) and not self.refusal


@dataclass(frozen=True)
class ApiServers:
    """How many hold a Lease; None where that is not known, with the reason in problem."""

    count: int | None = None
    problem: str = "the number of API servers is not known"


@dataclass(frozen=True)
class ProbeEvidence:
    """What is known when a verdict is due.

    request: what was sent, in words ("dry run of ConfigMap x"). expect: ALLOWED or DENIED. message: a text that the
    denial must hold. fails_open: failurePolicy Ignore. endpoints_problem: why none were seen at all, "" where some
    were; are_endpoints_known: whether that means that there are none. is_blind: looking again would show no more.
    has_bundle: without one the API server trusts its machine's roots. is_reconnected: the bundle's bytes were changed
    just before the requests, and were still the same after them.
    """

    request: str
    answers: tuple[WebhookAnswer, ...]
    expect: str = ALLOWED
    message: str = ""
    match: AdmissionMatch = ASKED
    fails_open: bool = False
    endpoints: tuple[EndpointEvidence, ...] = ()
    endpoints_problem: str = ""
    are_endpoints_known: bool = True
    is_blind: bool = False
    has_bundle: bool = True
    is_reconnected: bool = False
    api_servers: ApiServers = ApiServers()
    notes: tuple[str, ...] = ()

    @property
    def has_no_endpoint(self) -> bool:
        """Return True if the webhook is known to have no endpoint."""
        return not self.endpoints and bool(self.endpoints_problem) and self.are_endpoints_known

    @property
    def all_endpoints_verify(self) -> bool:
        """Whether every endpoint serves what a new connection accepts."""
        return self.has_bundle and bool(self.endpoints) and all(one.verifies for one in self.endpoints)


@dataclass(frozen=True)
class ProbeVerdict:
    """verdict: OK, FAILED or UNPROVEN. code: stable, for programs. cause: one clause; for OK, what is proven.

    is_lasting: waiting alone changes nothing.
    """

    verdict: str
    code: str
    cause: str
    remedy: str = ""
    evidence: tuple[str, ...] = ()
    is_lasting: bool = False

    @property
    def is_ok(self) -> bool:
        return self.verdict == OK


def judge(evidence: ProbeEvidence) -> ProbeVerdict:
    """Return the verdict of the first rule that applies, with everything that was seen as evidence."""
    found = next(verdict for rule in RULES if (verdict := rule(evidence)))
    lasting = found.is_lasting or found.code in LASTING
    return ProbeVerdict(
        found.verdict, found.code, found.cause, found.remedy, tuple(_evidence_lines(evidence)), lasting
    )


def _served_is_refused(evidence: ProbeEvidence) -> ProbeVerdict | None:
    """An endpoint serves what a new connection would refuse: that outweighs whatever passed over an old one."""
    bad = next((one for one in evidence.endpoints if one.refusal and evidence.has_bundle), None)
    if bad is None:
        return None
    failure = call_failures.of_call(f"x509: {bad.refusal}")
    passed = any(answer.failure is None or answer.failure.about == REFUSAL for answer in evidence.answers)
    hidden = "; it still answers over a connection that was opened before" if passed else ""
    return ProbeVerdict(FAILED, failure.code, f"{bad.endpoint}: {failure.cause}{hidden}", failure.remedy)


def _no_endpoint(evidence: ProbeEvidence) -> ProbeVerdict | None:
    """No endpoint, known for certain. A request may still pass: over an old connection, or by failurePolicy Ignore."""
    if not evidence.has_no_endpoint:
        return None
    failure = call_failures.of_call(evidence.endpoints_problem)
    return ProbeVerdict(
        FAILED, failure.code, f"{failure.cause} ({evidence.endpoints_problem})", failure.remedy
    )


def _call_failed(evidence: ProbeEvidence) -> ProbeVerdict | None:
    failure = _failure(evidence, call_failures.CALL)
    return ProbeVerdict(FAILED, failure.code, failure.cause, failure.remedy) if failure else None


def _ended_elsewhere(evidence: ProbeEvidence) -> ProbeVerdict | None:
    failure = _failure(evidence, ELSEWHERE)
    if failure is None:
        return None
    return ProbeVerdict(UNPROVEN, failure.code, f"nothing is said of it: {failure.cause}", failure.remedy)


def _denied_unexpectedly(evidence: ProbeEvidence) -> ProbeVerdict | None:
    failure = _failure(evidence, REFUSAL)
    if failure is None or evidence.expect == DENIED:
        return None
    return ProbeVerdict(FAILED, failure.code, failure.cause, failure.remedy)


def _denied_otherwise(evidence: ProbeEvidence) -> ProbeVerdict | None:
    said = [call_failures.said_by_webhook(answer.words) for answer in evidence.answers if answer.failure]
    other = next((text for text in said if evidence.message not in text), None)
    if evidence.expect != DENIED or other is None:
        return None
    cause = f"it denied the object with other words than {evidence.message!r}: {call_failures.quote(other)}"
    return ProbeVerdict(
        FAILED, "other-message", cause, "Correct denial_message, or give an object that meets this rule"
    )


def _accepted_unexpectedly(evidence: ProbeEvidence) -> ProbeVerdict | None:
    """The one thing that shows a webhook which is dead behind failurePolicy Ignore."""
    if evidence.expect != DENIED or not _passed(evidence):
        return None
    if evidence.match.is_asked is False:
        cause = f"the object was accepted: the API server does not ask it about this object, {evidence.match.reason}"
        return ProbeVerdict(FAILED, "not-asked", cause, "Correct its rules and selectors, or the object")
    reasons = ["the webhook does not deny it"]
    reasons += ["or cannot be called, which failurePolicy Ignore hides"] if evidence.fails_open else []
    reasons += [f"or is not asked: {evidence.match.reason}"] if evidence.match.is_asked is None else []
    problem = next(
        (f"{one.endpoint}: {one.problem}" for one in evidence.endpoints if one.problem),
        evidence.endpoints_problem,
    )
    cause = f"the object was accepted: {', '.join(reasons)}" + (f" ({problem})" if problem else "")
    remedy = "See whether its pods run, and what they log"
    return ProbeVerdict(
        FAILED,
        "accepted",
        cause,
        f"{remedy}; the API server logs 'failing open'" if evidence.fails_open else remedy,
    )


def _not_asked(evidence: ProbeEvidence) -> ProbeVerdict | None:
    """A denial names the webhook that it comes from; an object that passed does not tell who was asked."""
    if evidence.match.is_asked or not _passed(evidence):
        return None
    code, start = (
        ("not-asked", "the API server does not ask it about this object")
        if evidence.match.is_asked is False
        else ("perhaps-not-asked", "it cannot be told whether the API server asks it about this object")
    )
    remedy = "Give an object that its rules and selectors name; one that it denies, with expect: denied, leaves no doubt"
    return ProbeVerdict(UNPROVEN, code, f"{start}: {evidence.match.reason}", remedy)


def _hidden_by_ignore(evidence: ProbeEvidence) -> ProbeVerdict | None:
    if not evidence.fails_open or not _passed(evidence):
        return None
    cause = "failurePolicy Ignore lets the object pass as well when it cannot be called"
    remedy = "Give an object that it denies, with expect: denied: only a refusal shows that it was asked"
    return ProbeVerdict(UNPROVEN, "hidden-by-ignore", cause, remedy)


def _old_connection(evidence: ProbeEvidence) -> ProbeVerdict | None:
    if evidence.is_reconnected or evidence.all_endpoints_verify:
        return None
    cause = "it answers, but perhaps over a connection that the API server opened before its certificate was changed"
    if not evidence.has_bundle:
        why, remedy = (
            "it has no caBundle, and the roots that the API server trusts are not known here",
            _NO_BUNDLE,
        )
    else:
        hidden = next((f"{one.endpoint}: {one.problem}" for one in evidence.endpoints if one.problem), "")
        why, remedy = hidden or evidence.endpoints_problem or "its endpoints were not looked at", _BLIND
    return ProbeVerdict(UNPROVEN, "old-connection", f"{cause} ({why})", remedy, is_lasting=evidence.is_blind)


_NO_BUNDLE = "Write a caBundle, with certflow.kubernetes.webhook_cabundle for example"
_BLIND = (
    "Set renew_connections: true, which makes the API servers dial anew, or grant the rights to look at its endpoints "
    "(docs/rbac/prove.yaml)"
)


def _proven(evidence: ProbeEvidence) -> ProbeVerdict:
    did = "denies the object" if evidence.expect == DENIED else "answers"
    how = (
        "over a connection that was opened just now"
        if evidence.is_reconnected
        else f"and what it serves on {_many(len(evidence.endpoints), 'endpoint')} is accepted on a new connection"
    )
    return ProbeVerdict(OK, "ok", f"it {did}, {how}")


RULES: tuple[Callable[[ProbeEvidence], ProbeVerdict | None], ...] = (
    _served_is_refused,
    _no_endpoint,
    _call_failed,
    _ended_elsewhere,
    _denied_unexpectedly,
    _denied_otherwise,
    _accepted_unexpectedly,
    _not_asked,
    _hidden_by_ignore,
    _old_connection,
    _proven,
)


def _failure(evidence: ProbeEvidence, about: str) -> CallFailure | None:
    return next(
        (answer.failure for answer in evidence.answers if answer.failure and answer.failure.about == about),
        None,
    )


def _passed(evidence: ProbeEvidence) -> bool:
    return any(answer.failure is None for answer in evidence.answers)


def _evidence_lines(evidence: ProbeEvidence) -> Iterator[str]:
    for words in dict.fromkeys(answer.words or "accepted" for answer in evidence.answers):
        count = sum((answer.words or "accepted") == words for answer in evidence.answers)
        yield f"{evidence.request}, {_many(count, 'time')}: {call_failures.quote(words)}"
    for one in evidence.endpoints:
        judged = "which its caBundle accepts" if one.verifies else f"which is refused: {one.refusal}"
        if not evidence.has_bundle:
            judged = "which cannot be judged without a caBundle"
        yield f"{one.endpoint}: {f'{one.certificate}, {judged}' if one.certificate else f'not seen, {one.problem}'}"
    if evidence.endpoints_problem:
        yield f"endpoints: {evidence.endpoints_problem}"
    if evidence.is_reconnected:
        yield "the caBundle's bytes were changed before the last requests, so that the API servers dialled anew"
    yield _reach(evidence)
    yield from evidence.notes


def _reach(evidence: ProbeEvidence) -> str:
    """How far it goes; nothing is ever claimed of all API servers."""
    made = _many(len(evidence.answers), "request")
    servers = evidence.api_servers
    known = f"{_many(servers.count, 'API server')} by Lease" if servers.count else servers.problem
    if not evidence.answers:
        return f"{known}; none was asked"
    return f"{known}; {made}, each over a connection of its own; which API server answered cannot be seen"


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
