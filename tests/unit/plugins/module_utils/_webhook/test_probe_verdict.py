# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The verdict on a webhook."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook import call_failures, probe_verdict
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.admission_match import Match
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.probe_verdict import (
    Answer,
    ApiServers,
    ProbeEvidence,
    Seen,
    judge,
)

from tests.support.failures import absent

pytestmark = pytest.mark.quick

HOOK = "probe.example.com"


def answer(words: str) -> Answer:
    return Answer(call_failures.of_answer(words, call_failures.ADMISSION, HOOK), words)


ACCEPTED = Answer()
DENIED = answer(f'admission webhook "{HOOK}" denied the request: no team')
REFUSED = answer(
    f'Internal error occurred: failed calling webhook "{HOOK}": dial tcp: connect: connection refused'
)
OTHER = answer('admission webhook "other.example.com" denied the request: no')
UNSUPPORTED = answer(f'admission webhook "{HOOK}" does not support dry run')

GOOD = Seen("pod a/1", certificate="serial 01")
STRANGE = Seen("pod a/2", certificate="serial 02", refusal="certificate signed by unknown authority")
HIDDEN = Seen("pod a/3", problem="the pod cannot be reached")
NOT_ASKED = Match(False, "its rules do not name it")
PERHAPS = Match(None, "its matchConditions are not evaluated here")
BLIND: dict[str, Any] = {
    "endpoints_problem": "this identity may not read who is called",
    "are_endpoints_known": False,
    "is_blind": True,
}
NOBODY: dict[str, Any] = {"endpoints_problem": "Service a/b has no ready endpoint"}
EXPECT_DENIED: dict[str, Any] = {"expect": "denied", "answers": (DENIED,)}


def seen(**changed: Any) -> ProbeEvidence:
    return ProbeEvidence(
        **{"request": "dry run of ConfigMap x", "answers": (ACCEPTED,), "seen": (GOOD,), **changed}
    )


ROWS: dict[str, tuple[ProbeEvidence, str, str]] = {
    "accepted, all seen": (seen(), "ok", "ok"),
    "accepted, two seen": (seen(seen=(GOOD, GOOD)), "ok", "ok"),
    "denied as expected": (seen(**EXPECT_DENIED), "ok", "ok"),
    "denied in these words": (seen(**EXPECT_DENIED, message="team"), "ok", "ok"),
    "denied, Ignore": (seen(**EXPECT_DENIED, fails_open=True), "ok", "ok"),
    "denied, rules not understood": (seen(**EXPECT_DENIED, match=PERHAPS), "ok", "ok"),
    "renewed, not seen": (seen(seen=(), is_renewed=True, **BLIND), "ok", "ok"),
    "renewed, one not seen": (seen(seen=(GOOD, HIDDEN), is_renewed=True), "ok", "ok"),
    "renewed, no bundle known": (seen(has_bundle=False, is_renewed=True), "ok", "ok"),
    # Old connections
    "not looked": (seen(seen=(), **BLIND), "unproven", "old-connection"),
    "denied, not looked": (seen(seen=(), **BLIND, **EXPECT_DENIED), "unproven", "old-connection"),
    "one not seen": (seen(seen=(GOOD, HIDDEN)), "unproven", "old-connection"),
    "no bundle to judge by": (seen(has_bundle=False), "unproven", "old-connection"),
    "no bundle, and what is served is not judged": (
        seen(has_bundle=False, seen=(STRANGE,)),
        "unproven",
        "old-connection",
    ),
    # What is served weighs more than what passed
    "one strange": (seen(seen=(GOOD, STRANGE)), "failed", "unknown-authority"),
    "strange, denied as expected": (seen(seen=(STRANGE,), **EXPECT_DENIED), "failed", "unknown-authority"),
    "strange, renewed": (seen(seen=(STRANGE,), is_renewed=True), "failed", "unknown-authority"),
    "strange, behind Ignore": (seen(seen=(STRANGE,), fails_open=True), "failed", "unknown-authority"),
    "nobody there": (seen(seen=(), **NOBODY), "failed", "no-endpoints"),
    "nobody there, behind Ignore": (seen(seen=(), **NOBODY, fails_open=True), "failed", "no-endpoints"),
    # Calls that fail
    "refused": (seen(answers=(REFUSED,)), "failed", "refused"),
    "refused once": (seen(answers=(ACCEPTED, REFUSED, ACCEPTED)), "failed", "refused"),
    "refused, denial expected": (seen(expect="denied", answers=(DENIED, REFUSED)), "failed", "refused"),
    "refused, renewed": (seen(answers=(REFUSED,), is_renewed=True), "failed", "refused"),
    # Others
    "another webhook": (seen(answers=(OTHER,)), "unproven", "another-webhook"),
    "another webhook, denial expected": (
        seen(expect="denied", answers=(OTHER,)),
        "unproven",
        "another-webhook",
    ),
    "no dry run": (seen(answers=(UNSUPPORTED,)), "unproven", "no-dry-run"),
    # Expectations
    "denied unexpectedly": (seen(answers=(DENIED,)), "failed", "denied"),
    "denied otherwise": (seen(**EXPECT_DENIED, message="owner"), "failed", "other-message"),
    "accepted unexpectedly": (seen(expect="denied"), "failed", "accepted"),
    "accepted unexpectedly once": (seen(expect="denied", answers=(DENIED, ACCEPTED)), "failed", "accepted"),
    "accepted unexpectedly, Ignore": (seen(expect="denied", fails_open=True), "failed", "accepted"),
    "accepted, not asked, denial expected": (seen(expect="denied", match=NOT_ASKED), "failed", "not-asked"),
    "accepted, perhaps asked, denial expected": (seen(expect="denied", match=PERHAPS), "failed", "accepted"),
    # What an accepted object does not show
    "Ignore": (seen(fails_open=True), "unproven", "hidden-by-ignore"),
    "Ignore, renewed": (seen(fails_open=True, is_renewed=True), "unproven", "hidden-by-ignore"),
    "not asked": (seen(match=NOT_ASKED), "unproven", "not-asked"),
    "not asked, renewed": (seen(match=NOT_ASKED, is_renewed=True), "unproven", "not-asked"),
    "perhaps asked": (seen(match=PERHAPS), "unproven", "perhaps-not-asked"),
}


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
    """Over every row: where neither all endpoints are seen nor connections renewed, it is never ok."""
    for observation, _, _ in ROWS.values():
        unseen = replace(observation, seen=(), is_renewed=False, **BLIND)
        assert judge(unseen).verdict != "ok"


def test_an_answer_over_an_old_connection_is_named() -> None:
    found = judge(seen(seen=(STRANGE,)))
    failing = judge(seen(seen=(STRANGE,), answers=(REFUSED,)))
    assert not absent(["a/2:"], found.cause)
    assert not absent(["a/2:"], failing.cause)
    assert found.cause.startswith(failing.cause)
    assert found.cause != failing.cause, "only the webhook that still answers is said to do so"


def test_what_ignore_hides_is_said_with_what_was_seen() -> None:
    found = judge(seen(expect="denied", fails_open=True, seen=(HIDDEN,)))
    assert not absent(["Ignore", "a/3:"], found.cause)


def test_evidence_tells_what_was_seen_and_how_far_it_goes() -> None:
    found = judge(
        seen(
            answers=(DENIED, ACCEPTED, DENIED),
            seen=(GOOD, STRANGE, HIDDEN),
            api_servers=ApiServers(2),
            is_renewed=True,
            notes=("one more",),
        )
    )
    assert found.evidence == (
        f'dry run of ConfigMap x, 2 times: admission webhook "{HOOK}" denied the request: no team',
        "dry run of ConfigMap x, 1 time: accepted",
        "pod a/1: serial 01, which its caBundle accepts",
        "pod a/2: serial 02, which is refused: certificate signed by unknown authority",
        "pod a/3: not seen, the pod cannot be reached",
        "the caBundle's bytes were changed before the last requests, so that the API servers dialled anew",
        "2 API servers by Lease; 3 requests, each over a connection of its own; which API server answered cannot be seen",
        "one more",
    )


def test_an_unknown_number_of_api_servers_is_said() -> None:
    assert "the number of API servers is not known; 1 request," in judge(seen()).evidence[-1]


@pytest.mark.parametrize("row", ROWS)
def test_nothing_claims_all_api_servers(row: str) -> None:
    found = judge(ROWS[row][0])
    assert "all API servers" not in " ".join((found.cause, found.remedy, *found.evidence))


@pytest.mark.parametrize(
    ("observation", "is_lasting"),
    [
        (seen(fails_open=True), True),
        (seen(match=NOT_ASKED), True),
        (seen(seen=(), **BLIND), True),
        (seen(seen=(GOOD, HIDDEN)), False),
        (seen(answers=(REFUSED,)), False),
        (seen(seen=(STRANGE,)), False),
        (seen(seen=(), **NOBODY), False),
        (seen(expect="denied"), False),
    ],
)
def test_what_waiting_may_change(observation: ProbeEvidence, is_lasting: bool) -> None:
    assert judge(observation).is_lasting is is_lasting
