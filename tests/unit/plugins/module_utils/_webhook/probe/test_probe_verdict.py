# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The verdict on a webhook."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.calls import (
    call_failures,
    call_faults,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.calls.admission_match import (
    AdmissionMatch,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.probe import probe_verdict
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.probe.probe_verdict import (
    EndpointEvidence,
    ProbeEvidence,
    WebhookAnswer,
    judge,
)

from tests.support.failures import absent

pytestmark = pytest.mark.quick

HOOK = "probe.example.com"


def answer(words: str) -> WebhookAnswer:
    return WebhookAnswer(call_failures.of_answer(words, call_failures.ADMISSION, HOOK), words)


ACCEPTED = WebhookAnswer()
DENIED = answer(f'admission webhook "{HOOK}" denied the request: no team')
REFUSED = answer(
    f'Internal error occurred: failed calling webhook "{HOOK}": dial tcp: connect: connection refused'
)
OTHER = answer('admission webhook "other.example.com" denied the request: no')
UNSUPPORTED = answer(f'admission webhook "{HOOK}" does not support dry run')

GOOD = EndpointEvidence("pod a/1", certificate="serial 01")
STRANGE = EndpointEvidence(
    "pod a/2", certificate="serial 02", refusal="certificate signed by unknown authority"
)
HIDDEN = EndpointEvidence("pod a/3", problem="the pod cannot be reached")
NOT_ASKED = AdmissionMatch(False, "its rules do not name it")
PERHAPS = AdmissionMatch(None, "its matchConditions are not evaluated here")
BLIND: dict[str, Any] = {
    "endpoints_problem": "this identity may not read the endpoints",
    "are_endpoints_known": False,
    "is_blind": True,
}
NOBODY: dict[str, Any] = {"endpoints_problem": "Service a/b has no ready endpoint"}
EXPECT_DENIED: dict[str, Any] = {"expect": "denied", "answers": (DENIED,)}


def evidence(**changed: Any) -> ProbeEvidence:
    return ProbeEvidence(
        **{"request": "dry run of ConfigMap x", "answers": (ACCEPTED,), "endpoints": (GOOD,), **changed}
    )


ROWS: dict[str, tuple[ProbeEvidence, str, str]] = {
    "accepted, all seen": (evidence(), "ok", "ok"),
    "accepted, two seen": (evidence(endpoints=(GOOD, GOOD)), "ok", "ok"),
    "denied as expected": (evidence(**EXPECT_DENIED), "ok", "ok"),
    "denied in these words": (evidence(**EXPECT_DENIED, message="team"), "ok", "ok"),
    "denied, Ignore": (evidence(**EXPECT_DENIED, fails_open=True), "ok", "ok"),
    "denied, rules not understood": (evidence(**EXPECT_DENIED, match=PERHAPS), "ok", "ok"),
    # Old connections
    "not looked": (evidence(endpoints=(), **BLIND), "unproven", "old-connection"),
    "denied, not looked": (evidence(endpoints=(), **BLIND, **EXPECT_DENIED), "unproven", "old-connection"),
    "one not seen": (evidence(endpoints=(GOOD, HIDDEN)), "unproven", "old-connection"),
    "no bundle to judge by": (evidence(has_bundle=False), "unproven", "old-connection"),
    "no bundle, and what is served is not judged": (evidence(has_bundle=False, endpoints=(STRANGE,)), "unproven", "old-connection"),
    # What is served weighs more than what passed
    "one strange": (evidence(endpoints=(GOOD, STRANGE)), "failed", "ca-mismatch"),
    "strange, denied as expected": (evidence(endpoints=(STRANGE,), **EXPECT_DENIED), "failed", "ca-mismatch"),
    "strange, behind Ignore": (evidence(endpoints=(STRANGE,), fails_open=True), "failed", "ca-mismatch"),
    "nobody there": (evidence(endpoints=(), **NOBODY), "failed", "no-endpoints"),
    "nobody there, behind Ignore": (evidence(endpoints=(), **NOBODY, fails_open=True), "failed", "no-endpoints"),
    # Calls that fail
    "refused": (evidence(answers=(REFUSED,)), "failed", "refused"),
    "refused once": (evidence(answers=(ACCEPTED, REFUSED, ACCEPTED)), "failed", "refused"),
    "refused, denial expected": (evidence(expect="denied", answers=(DENIED, REFUSED)), "failed", "refused"),
    # Others
    "another webhook": (evidence(answers=(OTHER,)), "unproven", "another-webhook"),
    "another webhook, denial expected": (evidence(expect="denied", answers=(OTHER,)), "unproven", "another-webhook"),
    "no dry run": (evidence(answers=(UNSUPPORTED,)), "unproven", "no-dry-run"),
    # Expectations
    "denied unexpectedly": (evidence(answers=(DENIED,)), "failed", "denied"),
    "denied otherwise": (evidence(**EXPECT_DENIED, message="owner"), "failed", "other-message"),
    "accepted unexpectedly": (evidence(expect="denied"), "failed", "accepted"),
    "accepted unexpectedly once": (evidence(expect="denied", answers=(DENIED, ACCEPTED)), "failed", "accepted"),
    "accepted unexpectedly, Ignore": (evidence(expect="denied", fails_open=True), "failed", "accepted"),
    "accepted, not asked, denial expected": (evidence(expect="denied", match=NOT_ASKED), "failed", "not-asked"),
    "accepted, perhaps asked, denial expected": (evidence(expect="denied", match=PERHAPS), "failed", "accepted"),
    # What an accepted object does not show
    "Ignore": (evidence(fails_open=True), "unproven", "hidden-by-ignore"),
    "not asked": (evidence(match=NOT_ASKED), "unproven", "not-asked"),
    # A webhook of another configuration has the same name.
    "denied, not asked": (evidence(**EXPECT_DENIED, match=NOT_ASKED), "unproven", "not-asked"),
    "perhaps asked": (evidence(match=PERHAPS), "unproven", "perhaps-not-asked"),
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS)
def test_verdict(row: str) -> None:
    observation, verdict, code = ROWS[row]
    found = judge(observation)
    assert (found.verdict, found.code) == (verdict, code)
    assert found.cause
    assert bool(found.remedy) is (verdict != "ok")


def test_every_rule_is_reached() -> None:
    """Taking any of them away changes a row."""
    for rule in probe_verdict.RULES[:-1]:
        assert any(rule(observation) for observation, _, _ in ROWS.values()), rule


def test_ok_needs_a_new_connection_whatever_else() -> None:
    """Over every row: where an endpoint is not seen, it is never ok."""
    for observation, _, _ in ROWS.values():
        unseen = replace(observation, endpoints=(), **BLIND)
        assert judge(unseen).verdict != "ok"


def test_an_answer_over_an_old_connection_is_named() -> None:
    found = judge(evidence(endpoints=(STRANGE,)))
    failing = judge(evidence(endpoints=(STRANGE,), answers=(REFUSED,)))
    assert not absent(["a/2:"], found.cause)
    assert not absent(["a/2:"], failing.cause)
    assert found.cause.startswith(failing.cause)
    assert judge(evidence(endpoints=(STRANGE,), answers=(REFUSED, ACCEPTED))).cause == found.cause
    assert found.cause != failing.cause, "only the webhook that still answers is said to do so"


def test_what_ignore_hides_is_said_with_what_was_seen() -> None:
    found = judge(evidence(expect="denied", fails_open=True, endpoints=(HIDDEN,)))
    assert not absent(["Ignore", "a/3:"], found.cause)


def test_evidence_tells_what_was_seen_and_how_far_it_goes() -> None:
    found = judge(
        evidence(
            answers=(DENIED, ACCEPTED, DENIED),
            endpoints=(GOOD, STRANGE, HIDDEN),
        )
    )
    assert found.evidence == (
        f'dry run of ConfigMap x, 2 times: admission webhook "{HOOK}" denied the request: no team',
        "dry run of ConfigMap x, 1 time: accepted",
        "pod a/1: serial 01, which its caBundle accepts",
        "pod a/2: serial 02, which is refused: certificate signed by unknown authority",
        "pod a/3: not seen, the pod cannot be reached",
        "3 requests, each over a new connection. No answer shows which API server gave it",
    )


@pytest.mark.parametrize("row", ROWS)
def test_nothing_claims_all_api_servers(row: str) -> None:
    found = judge(ROWS[row][0])
    assert "all API servers" not in " ".join((found.cause, found.remedy, *found.evidence))


@pytest.mark.parametrize(
    ("observation", "is_lasting"),
    [
        (evidence(fails_open=True), True),
        (evidence(match=NOT_ASKED), True),
        (evidence(endpoints=(), **BLIND), True),
        (evidence(endpoints=(GOOD, HIDDEN)), False),
        (evidence(answers=(REFUSED,)), False),
        (evidence(endpoints=(STRANGE,)), False),
        (evidence(endpoints=(), **NOBODY), False),
        (evidence(expect="denied"), False),
    ],
)
def test_what_waiting_may_change(observation: ProbeEvidence, is_lasting: bool) -> None:
    assert judge(observation).is_lasting is is_lasting


def test_a_lasting_code_is_that_of_a_verdict_or_of_a_failed_call() -> None:
    known = {code for _, _, code in ROWS.values()}
    known |= {row.id for row in (*call_faults.FAULTS, *call_failures.OTHERS)}
    assert known >= probe_verdict.LASTING
