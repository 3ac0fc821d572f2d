# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Judge the evidence about a webhook. Pure: an ordered list of rules, of which the first that applies wins.

The API server keeps connections to webhooks open and does not verify them again. So a request that passes does not show which
certificate is served now. It counts only if every endpoint serves a certificate that a new connection accepts.
explanation_proof.rst explains this to operators.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Callable

from ..._base.text import plural
from ..calls import call_failures
from ..calls.admission_match import ASKED, AdmissionMatch
from ..calls.call_failures import ELSEWHERE, REFUSAL, CallFailure

OK, FAILED, UNPROVEN = "ok", "failed", "unproven"
ALLOWED, DENIED = "allowed", "denied"
# Codes of verdicts that stay the same until the task, a permission or the webhook's configuration changes.
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
    """The answer to one request over a new connection to the API server. failure: None if it passed."""

    failure: CallFailure | None = None
    words: str = ""


@dataclass(frozen=True)
class EndpointEvidence:
    """One endpoint of the webhook."""

    endpoint: str
    #: The served certificate in words, "" if none was seen.
    certificate: str = ""
    #: The reason why no certificate was seen.
    problem: str = ""
    #: The reason why the API server would refuse it on a new connection, in the words of Go. "" if it would accept it.
    refusal: str = ""

    @property
    def verifies(self) -> bool:
        return bool(self.certificate) and not self.refusal


@dataclass(frozen=True)
class ProbeEvidence:
    """The evidence about one webhook."""

    #: The request in words, such as "dry run of ConfigMap x".
    request: str
    answers: tuple[WebhookAnswer, ...]
    #: ALLOWED or DENIED.
    expect: str = ALLOWED
    #: A text that the denial must contain.
    message: str = ""
    match: AdmissionMatch = ASKED
    #: The failurePolicy is Ignore.
    fails_open: bool = False
    endpoints: tuple[EndpointEvidence, ...] = ()
    #: The reason why no endpoint was seen, "" if one was.
    endpoints_problem: str = ""
    #: No endpoint was seen because the webhook has none.
    are_endpoints_known: bool = True
    #: Another scan would show no more.
    is_blind: bool = False
    #: Without a bundle the API server trusts the root certificates of its machine.
    has_bundle: bool = True

    @property
    def has_no_endpoint(self) -> bool:
        """Return True if the webhook is known to have no endpoint."""
        return not self.endpoints and bool(self.endpoints_problem) and self.are_endpoints_known

    @property
    def all_endpoints_verify(self) -> bool:
        """Return True if every endpoint serves a certificate that a new connection accepts."""
        return (
            self.has_bundle and bool(self.endpoints) and all(endpoint.verifies for endpoint in self.endpoints)
        )


@dataclass(frozen=True)
class ProbeVerdict:
    """The result of a probe."""

    #: OK, FAILED or UNPROVEN.
    verdict: str
    #: Stable, for programs.
    code: str
    #: A clause. With OK, the proven fact.
    cause: str
    remedy: str = ""
    evidence: tuple[str, ...] = ()
    #: Waiting does not change the verdict.
    is_lasting: bool = False

    @property
    def is_ok(self) -> bool:
        return self.verdict == OK


def judge(evidence: ProbeEvidence) -> ProbeVerdict:
    """Return the verdict of the first rule that applies, with all observations as evidence."""
    verdict = next(verdict for rule in RULES if (verdict := rule(evidence)))
    is_lasting = verdict.is_lasting or verdict.code in LASTING
    return replace(verdict, evidence=tuple(_evidence_lines(evidence)), is_lasting=is_lasting)


def _served_is_refused(evidence: ProbeEvidence) -> ProbeVerdict | None:
    """A new connection would refuse the certificate of an endpoint. Requests over old connections do not matter then."""
    bad = next(
        (endpoint for endpoint in evidence.endpoints if endpoint.refusal and evidence.has_bundle), None
    )
    if bad is None:
        return None
    failure = call_failures.of_call(f"x509: {bad.refusal}")
    passed = any(answer.failure is None or answer.failure.about == REFUSAL for answer in evidence.answers)
    hidden = ". It still answers over a connection that was opened before" if passed else ""
    return ProbeVerdict(FAILED, failure.code, f"{bad.endpoint}: {failure.cause}{hidden}", failure.remedy)


def _no_endpoint(evidence: ProbeEvidence) -> ProbeVerdict | None:
    """The webhook has no endpoint. A request may still pass, over an old connection or by failurePolicy Ignore."""
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
    return ProbeVerdict(
        UNPROVEN, failure.code, f"the request does not show if it answers: {failure.cause}", failure.remedy
    )


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
    cause = (
        f"it denied the object with a message other than {evidence.message!r}: {call_failures.quote(other)}"
    )
    return ProbeVerdict(
        FAILED, "other-message", cause, "Correct denial_message, or give an object that meets this rule"
    )


def _accepted_unexpectedly(evidence: ProbeEvidence) -> ProbeVerdict | None:
    """Only this rule reveals a webhook that cannot be called and has failurePolicy Ignore."""
    if evidence.expect != DENIED or not _passed(evidence):
        return None
    if evidence.match.is_asked is False:
        cause = f"the object was accepted: the API server does not ask it about this object, {evidence.match.reason}"
        return ProbeVerdict(FAILED, "not-asked", cause, "Correct its rules and selectors, or the object")
    reasons = ["the webhook does not deny it"]
    if evidence.fails_open:
        reasons.append("or cannot be called, which failurePolicy Ignore hides")
    if evidence.match.is_asked is None:
        reasons.append(f"or is not asked: {evidence.match.reason}")
    problem = next(
        (f"{endpoint.endpoint}: {endpoint.problem}" for endpoint in evidence.endpoints if endpoint.problem),
        evidence.endpoints_problem,
    )
    cause = f"the object was accepted: {', '.join(reasons)}" + (f" ({problem})" if problem else "")
    remedy = "Check that its pods run, and read their logs"
    return ProbeVerdict(
        FAILED,
        "accepted",
        cause,
        f"{remedy}. The API server logs 'failing open'" if evidence.fails_open else remedy,
    )


def _not_asked(evidence: ProbeEvidence) -> ProbeVerdict | None:
    """An object that passed does not show which webhooks were asked. A denial names the one that it comes from.

    A webhook of another configuration may have the same name, so the denial of an object that is certainly not its own shows nothing.
    """
    if evidence.match.is_asked or (evidence.match.is_asked is None and not _passed(evidence)):
        return None
    code, start = (
        ("not-asked", "the API server does not ask it about this object")
        if evidence.match.is_asked is False
        else ("perhaps-not-asked", "it is not known if the API server asks it about this object")
    )
    remedy = "Give an object that its rules and selectors match. The best proof is an object that it denies, with expect: denied"
    return ProbeVerdict(UNPROVEN, code, f"{start}: {evidence.match.reason}", remedy)


def _hidden_by_ignore(evidence: ProbeEvidence) -> ProbeVerdict | None:
    if not evidence.fails_open or not _passed(evidence):
        return None
    cause = "failurePolicy Ignore also lets the object pass if the webhook cannot be called"
    remedy = "Give an object that it denies, with expect: denied. Only a denial shows that it was asked"
    return ProbeVerdict(UNPROVEN, "hidden-by-ignore", cause, remedy)


def _old_connection(evidence: ProbeEvidence) -> ProbeVerdict | None:
    if evidence.all_endpoints_verify:
        return None
    cause = "it answers, but perhaps over a connection that the API server opened before its certificate was changed"
    if not evidence.has_bundle:
        why, remedy = (
            "it has no caBundle, and the roots that the API server trusts are not known here",
            _NO_BUNDLE,
        )
    else:
        hidden = next(
            (
                f"{endpoint.endpoint}: {endpoint.problem}"
                for endpoint in evidence.endpoints
                if endpoint.problem
            ),
            "",
        )
        why, remedy = hidden or evidence.endpoints_problem or "its endpoints were not checked", _BLIND
    return ProbeVerdict(UNPROVEN, "old-connection", f"{cause} ({why})", remedy, is_lasting=evidence.is_blind)


_NO_BUNDLE = "Write a caBundle, with certflow.kubernetes.webhook_cabundle for example"
_BLIND = "Grant the permissions to read its endpoints (docs/rbac/prove.yaml)"


def _proven(evidence: ProbeEvidence) -> ProbeVerdict:
    did = "denies the object" if evidence.expect == DENIED else "answers"
    where = plural(len(evidence.endpoints), "endpoint")
    cause = f"it {did}, and the API server accepts its certificate on {where} on a new connection"
    return ProbeVerdict(OK, "ok", cause)


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
        yield f"{evidence.request}, {plural(count, 'time')}: {call_failures.quote(words)}"
    for endpoint in evidence.endpoints:
        judged = (
            "which its caBundle accepts" if endpoint.verifies else f"which is refused: {endpoint.refusal}"
        )
        if not evidence.has_bundle:
            judged = "which cannot be judged without a caBundle"
        yield f"{endpoint.endpoint}: {f'{endpoint.certificate}, {judged}' if endpoint.certificate else f'not seen, {endpoint.problem}'}"
    if evidence.endpoints_problem:
        yield f"endpoints: {evidence.endpoints_problem}"
    made = plural(len(evidence.answers), "request")
    if evidence.answers:
        yield f"{made}, each over a new connection. No answer shows which API server gave it"
