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
from .admission_match import ASKED, Match
from .call_failures import ELSEWHERE, REFUSAL, Failure

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
class Answer:
    """What one request, over a connection of its own to the API server, was told. failure: None where it passed."""

    failure: Failure | None = None
    words: str = ""


@dataclass(frozen=True)
class Seen:
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
    has_bundle: without one the API server trusts its machine's roots. is_renewed: the bundle's bytes were changed
    just before the requests, and were still the same after them.
    """

    request: str
    answers: tuple[Answer, ...]
    expect: str = ALLOWED
    message: str = ""
    match: Match = ASKED
    fails_open: bool = False
    seen: tuple[Seen, ...] = ()
    endpoints_problem: str = ""
    are_endpoints_known: bool = True
    is_blind: bool = False
    has_bundle: bool = True
    is_renewed: bool = False
    api_servers: ApiServers = ApiServers()
    notes: tuple[str, ...] = ()

    @property
    def has_no_endpoint(self) -> bool:
        """Return True if the webhook is known to have no endpoint."""
        return not self.seen and bool(self.endpoints_problem) and self.are_endpoints_known

    @property
    def is_seen(self) -> bool:
        """Whether every endpoint serves what a new connection accepts."""
        return self.has_bundle and bool(self.seen) and all(one.verifies for one in self.seen)


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


def judge(seen: ProbeEvidence) -> ProbeVerdict:
    """Return the verdict of the first rule that applies, with everything that was seen as evidence."""
    found = next(verdict for rule in RULES if (verdict := rule(seen)))
    lasting = found.is_lasting or found.code in LASTING
    return ProbeVerdict(found.verdict, found.code, found.cause, found.remedy, tuple(_evidence(seen)), lasting)


def _served_is_refused(seen: ProbeEvidence) -> ProbeVerdict | None:
    """An endpoint serves what a new connection would refuse: that outweighs whatever passed over an old one."""
    bad = next((one for one in seen.seen if one.refusal and seen.has_bundle), None)
    if bad is None:
        return None
    failure = call_failures.of_call(f"x509: {bad.refusal}")
    passed = any(answer.failure is None or answer.failure.about == REFUSAL for answer in seen.answers)
    hidden = "; it still answers over a connection that was opened before" if passed else ""
    return ProbeVerdict(FAILED, failure.code, f"{bad.endpoint}: {failure.cause}{hidden}", failure.remedy)


def _nobody_there(seen: ProbeEvidence) -> ProbeVerdict | None:
    """No endpoint, known for certain. A request may still pass: over an old connection, or by failurePolicy Ignore."""
    if not seen.has_no_endpoint:
        return None
    failure = call_failures.of_call(seen.endpoints_problem)
    return ProbeVerdict(FAILED, failure.code, f"{failure.cause} ({seen.endpoints_problem})", failure.remedy)


def _call_failed(seen: ProbeEvidence) -> ProbeVerdict | None:
    failure = _failure(seen, call_failures.CALL)
    return ProbeVerdict(FAILED, failure.code, failure.cause, failure.remedy) if failure else None


def _ended_elsewhere(seen: ProbeEvidence) -> ProbeVerdict | None:
    failure = _failure(seen, ELSEWHERE)
    if failure is None:
        return None
    return ProbeVerdict(UNPROVEN, failure.code, f"nothing is said of it: {failure.cause}", failure.remedy)


def _denied_unexpectedly(seen: ProbeEvidence) -> ProbeVerdict | None:
    failure = _failure(seen, REFUSAL)
    if failure is None or seen.expect == DENIED:
        return None
    return ProbeVerdict(FAILED, failure.code, failure.cause, failure.remedy)


def _denied_otherwise(seen: ProbeEvidence) -> ProbeVerdict | None:
    said = [call_failures.said_by_webhook(answer.words) for answer in seen.answers if answer.failure]
    other = next((text for text in said if seen.message not in text), None)
    if seen.expect != DENIED or other is None:
        return None
    cause = f"it denied the object with other words than {seen.message!r}: {call_failures.quote(other)}"
    return ProbeVerdict(
        FAILED, "other-message", cause, "Correct denial_message, or give an object that meets this rule"
    )


def _accepted_unexpectedly(seen: ProbeEvidence) -> ProbeVerdict | None:
    """The one thing that shows a webhook which is dead behind failurePolicy Ignore."""
    if seen.expect != DENIED or not _passed(seen):
        return None
    if seen.match.is_asked is False:
        cause = (
            f"the object was accepted: the API server does not ask it about this object, {seen.match.reason}"
        )
        return ProbeVerdict(FAILED, "not-asked", cause, "Correct its rules and selectors, or the object")
    reasons = ["the webhook does not deny it"]
    reasons += ["or cannot be called, which failurePolicy Ignore hides"] if seen.fails_open else []
    reasons += [f"or is not asked: {seen.match.reason}"] if seen.match.is_asked is None else []
    problem = next(
        (f"{one.endpoint}: {one.problem}" for one in seen.seen if one.problem), seen.endpoints_problem
    )
    cause = f"the object was accepted: {', '.join(reasons)}" + (f" ({problem})" if problem else "")
    remedy = "See whether its pods run, and what they log"
    return ProbeVerdict(
        FAILED,
        "accepted",
        cause,
        f"{remedy}; the API server logs 'failing open'" if seen.fails_open else remedy,
    )


def _not_asked(seen: ProbeEvidence) -> ProbeVerdict | None:
    """A denial names the webhook that it comes from; an object that passed does not tell who was asked."""
    if seen.match.is_asked or not _passed(seen):
        return None
    code, start = (
        ("not-asked", "the API server does not ask it about this object")
        if seen.match.is_asked is False
        else ("perhaps-not-asked", "it cannot be told whether the API server asks it about this object")
    )
    remedy = "Give an object that its rules and selectors name; one that it denies, with expect: denied, leaves no doubt"
    return ProbeVerdict(UNPROVEN, code, f"{start}: {seen.match.reason}", remedy)


def _hidden_by_ignore(seen: ProbeEvidence) -> ProbeVerdict | None:
    if not seen.fails_open or not _passed(seen):
        return None
    cause = "failurePolicy Ignore lets the object pass as well when it cannot be called"
    remedy = "Give an object that it denies, with expect: denied: only a refusal shows that it was asked"
    return ProbeVerdict(UNPROVEN, "hidden-by-ignore", cause, remedy)


def _old_connection(seen: ProbeEvidence) -> ProbeVerdict | None:
    if seen.is_renewed or seen.is_seen:
        return None
    cause = "it answers, but perhaps over a connection that the API server opened before its certificate was changed"
    if not seen.has_bundle:
        why, remedy = (
            "it has no caBundle, and the roots that the API server trusts are not known here",
            _NO_BUNDLE,
        )
    else:
        hidden = next((f"{one.endpoint}: {one.problem}" for one in seen.seen if one.problem), "")
        why, remedy = hidden or seen.endpoints_problem or "its endpoints were not looked at", _BLIND
    return ProbeVerdict(UNPROVEN, "old-connection", f"{cause} ({why})", remedy, is_lasting=seen.is_blind)


_NO_BUNDLE = "Write a caBundle, with certflow.kubernetes.webhook_cabundle for example"
_BLIND = (
    "Set renew_connections: true, which makes the API servers dial anew, or grant the rights to look at its endpoints "
    "(docs/rbac/prove.yaml)"
)


def _proven(seen: ProbeEvidence) -> ProbeVerdict:
    did = "denies the object" if seen.expect == DENIED else "answers"
    how = (
        "over a connection that was opened just now"
        if seen.is_renewed
        else f"and what it serves on {_many(len(seen.seen), 'endpoint')} is accepted on a new connection"
    )
    return ProbeVerdict(OK, "ok", f"it {did}, {how}")


RULES: tuple[Callable[[ProbeEvidence], ProbeVerdict | None], ...] = (
    _served_is_refused,
    _nobody_there,
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


def _failure(seen: ProbeEvidence, about: str) -> Failure | None:
    return next(
        (answer.failure for answer in seen.answers if answer.failure and answer.failure.about == about), None
    )


def _passed(seen: ProbeEvidence) -> bool:
    return any(answer.failure is None for answer in seen.answers)


def _evidence(seen: ProbeEvidence) -> Iterator[str]:
    for words in dict.fromkeys(answer.words or "accepted" for answer in seen.answers):
        count = sum((answer.words or "accepted") == words for answer in seen.answers)
        yield f"{seen.request}, {_many(count, 'time')}: {call_failures.quote(words)}"
    for one in seen.seen:
        judged = "which its caBundle accepts" if one.verifies else f"which is refused: {one.refusal}"
        if not seen.has_bundle:
            judged = "which cannot be judged without a caBundle"
        yield f"{one.endpoint}: {f'{one.certificate}, {judged}' if one.certificate else f'not seen, {one.problem}'}"
    if seen.endpoints_problem:
        yield f"endpoints: {seen.endpoints_problem}"
    if seen.is_renewed:
        yield "the caBundle's bytes were changed before the last requests, so that the API servers dialled anew"
    yield _reach(seen)
    yield from seen.notes


def _reach(seen: ProbeEvidence) -> str:
    """How far it goes; nothing is ever claimed of all API servers."""
    made = _many(len(seen.answers), "request")
    servers = seen.api_servers
    known = f"{_many(servers.count, 'API server')} by Lease" if servers.count else servers.problem
    if not seen.answers:
        return f"{known}; none was asked"
    return f"{known}; {made}, each over a connection of its own; which API server answered cannot be seen"


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
