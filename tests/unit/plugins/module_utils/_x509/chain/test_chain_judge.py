# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Since when, or from when on, no chain of a served certificate is left, and which certificate ends it."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.times import format_time
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509.chain import chain_judge, signatures
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509.chain.chain_judge import judge
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509.chain.verify import verify
from cryptography import x509

from tests.support.certificates.authority import (
    CLIENT_AUTH,
    DAY,
    NOW,
    SERVER_AUTH,
    Issued,
    authority,
    dns,
    issue,
)

pytestmark = pytest.mark.quick

NAME = "hook.shop.svc"
YEAR = 365 * DAY


def made(subject: str, issuer: Issued | None, begin: float, end: float, **options: Any) -> Issued:
    """Return a CA with these days before and after now."""
    return authority(subject, issuer, not_before=NOW + begin * DAY, not_after=NOW + end * DAY, **options)


def leaf(issuer: Issued, begin: float = -30, end: float = 300, **options: Any) -> Issued:
    values = {"names": dns(NAME), "usages": (SERVER_AUTH,), **options}
    return issue("leaf", issuer, not_before=NOW + begin * DAY, not_after=NOW + end * DAY, **values)


ROOT = made("root", None, -900, 3000)
OTHER = made("other", None, -900, 3000)
MIDDLE = made("middle", ROOT, -100, 200)
OLD_MIDDLE = made("middle", ROOT, -300, -10, key=MIDDLE.key)
NEXT_MIDDLE = made("middle", ROOT, 20, 900, key=MIDDLE.key)
CROSS = made("root", OTHER, -900, 100, key=ROOT.key)
OLD_CROSS = made("root", OTHER, -900, -3, key=ROOT.key)
ENDED_ROOT = made("ended", None, -900, -40)
RENEWED_ROOT = made("ended", None, -50, 900, key=ENDED_ROOT.key)
LATE = made("late", None, 5, 900)
TWIN = made("twin", None, -900, 300)

#: What is sent, what the bundle holds -> is it accepted now, and days and subject of each break.
CASES: list[tuple[str, list[Issued], list[Issued], bool, list[tuple[float, str]]]] = [
    ("a leaf and its root", [leaf(ROOT)], [ROOT], True, [(300, "leaf"), (3000, "root")]),
    ("an intermediate that ends first", [leaf(MIDDLE), MIDDLE], [ROOT], True, [(200, "middle"), (300, "leaf"), (3000, "root")]),
    ("a successor of the intermediate is sent too", [leaf(MIDDLE), MIDDLE, NEXT_MIDDLE], [ROOT], True,
        [(300, "leaf"), (900, "middle"), (3000, "root")]),
    ("an old intermediate is sent too", [leaf(MIDDLE), OLD_MIDDLE, MIDDLE], [ROOT], True, [(200, "middle"), (300, "leaf"), (3000, "root")]),
    ("only the old intermediate", [leaf(MIDDLE), OLD_MIDDLE], [ROOT], False, [(-10, "middle"), (300, "leaf"), (3000, "root")]),
    ("only the next intermediate", [leaf(MIDDLE), NEXT_MIDDLE], [ROOT], False, [(20, "middle"), (300, "leaf"), (3000, "root")]),
    ("the old and the next intermediate", [leaf(MIDDLE), OLD_MIDDLE, NEXT_MIDDLE], [ROOT], False, [(-10, "middle"), (300, "leaf"), (3000, "root")]),
    ("two ways, of which one ends", [leaf(ROOT), CROSS], [ROOT, OTHER], True, [(300, "leaf"), (3000, "root")]),
    ("one way through a cross-signed CA", [leaf(ROOT), CROSS], [OTHER], True, [(100, "root"), (300, "leaf"), (3000, "other")]),
    ("the way has ended", [leaf(ROOT), OLD_CROSS], [OTHER], False, [(-3, "root"), (300, "leaf"), (3000, "other")]),
    ("the leaf and the way have ended", [leaf(ROOT, end=-1), OLD_CROSS], [OTHER], False, [(-3, "root"), (-1, "leaf"), (3000, "other")]),
    ("a root that was renewed with its key", [leaf(ENDED_ROOT)], [ENDED_ROOT, RENEWED_ROOT], True, [(300, "leaf"), (900, "ended")]),
    ("a root that has ended", [leaf(ENDED_ROOT)], [ENDED_ROOT], False, [(-40, "ended"), (300, "leaf")]),
    ("a root that begins later", [leaf(LATE)], [LATE], False, [(5, "late"), (300, "leaf")]),
    ("a leaf that begins later", [leaf(ROOT, begin=2)], [ROOT], False, [(2, "leaf"), (3000, "root")]),
    ("never valid at one time", [leaf(ENDED_ROOT, begin=1)], [ENDED_ROOT], False, [(1, "leaf"), (-40, "ended")]),
    ("both end at one time", [leaf(TWIN)], [TWIN], True, [(300, "leaf"), (300, "twin")]),
    ("the leaf in the bundle", [leaf(ROOT)], [], True, [(300, "leaf")]),
    ("another root", [leaf(ROOT)], [OTHER], False, []),
    ("another root, and the leaf has ended", [leaf(ROOT, end=-1)], [OTHER], False, [(-1, "leaf")]),
    ("a root that nothing needs", [leaf(ROOT), ENDED_ROOT], [ROOT], True, [(300, "leaf"), (3000, "root")]),
]  # fmt: skip


def counted(monkeypatch: pytest.MonkeyPatch) -> list[datetime.datetime]:
    """Return the list to which each verification adds its time."""
    calls: list[datetime.datetime] = []

    def count(*args: Any, **options: Any) -> Any:
        calls.append(options["now"])
        return verify(*args, **options)

    monkeypatch.setattr(chain_judge, "verify", count)
    return calls


@pytest.mark.parametrize(
    ("sent", "bundle", "ok", "breaks"), [row[1:] for row in CASES], ids=[row[0] for row in CASES]
)
def test_the_time_at_which_no_chain_is_left(
    sent: list[Issued],
    bundle: list[Issued],
    ok: bool,
    breaks: list[tuple[float, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = counted(monkeypatch)
    text = "".join(entry.pem for entry in bundle or sent)
    first, *others = [entry.facts for entry in sent]
    judged = judge(first, text, name=NAME, intermediates=others, now=NOW)
    shown = [((entry.at - NOW) / DAY, entry.certificate.common_name) for entry in judged.breaks]
    assert (judged.verdict.ok, shown) == (ok, breaks)
    assert bool(judged.refusal) is not ok
    assert len(calls) <= 2 * (len(sent) + len(bundle) + 1) + 2 * len(breaks)


def test_the_refusal_is_that_of_go_with_the_certificate_that_ends_the_chain() -> None:
    judged = judge(leaf(MIDDLE).facts, ROOT.pem, name=NAME, intermediates=[OLD_MIDDLE.facts], now=NOW)
    ended = format_time(NOW - 10 * DAY)
    assert judged.refusal == (
        f"certificate has expired or is not yet valid: current time {format_time(NOW)} is after {ended} "
        f"(the intermediate certificate CN=middle has expired at {ended})"
    )


REFUSED: list[tuple[Issued, dict[str, Any], str, str]] = [
    (leaf(ROOT), {"name": "other.shop.svc"}, "name-mismatch", ""),
    (leaf(ROOT, usages=(CLIENT_AUTH,)), {}, "wrong-usage", ""),
    (leaf(OTHER), {}, "ca-mismatch", "the issuer CN=other of the certificate CN=leaf is neither sent nor in"),
]  # fmt: skip


@pytest.mark.parametrize(("served", "options", "code", "fault"), REFUSED)
def test_a_refusal_without_a_date(served: Issued, options: dict[str, Any], code: str, fault: str) -> None:
    judged = judge(served.facts, ROOT.pem, **{"name": NAME, "now": NOW, **options})
    assert (judged.verdict.code, judged.trust, judged.breaks) == (code, judged.verdict, ())
    assert judged.fault.startswith(fault) if fault else not judged.fault
    assert judged.refusal.startswith(judged.verdict.reason)


def test_a_bundle_of_a_whole_system_is_judged_quickly() -> None:
    roots = [made(f"root {number}", None, -900, 100 + number) for number in range(140)]
    text = "".join(entry.pem for entry in [*roots, ROOT])
    judged = judge(leaf(ROOT).facts, text, name=NAME, now=NOW)
    assert [entry.certificate.common_name for entry in judged.breaks] == ["leaf", "root"]


@pytest.mark.parametrize("step", [-0.1, 0.1])
def test_an_endpoint_that_sends_hundreds_of_certificates_is_judged(
    step: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = counted(monkeypatch)
    many = [made("middle", ROOT, -100, step * (number + 1), key=MIDDLE.key).facts for number in range(300)]
    judged = judge(leaf(MIDDLE).facts, ROOT.pem, name=NAME, intermediates=many, now=NOW)
    assert judged.verdict.code in ("ok", "too-many-cas")
    assert len(calls) < 4 * chain_judge.MOST_DATES


def _work(monkeypatch: pytest.MonkeyPatch, count: int) -> tuple[int, int]:
    """Judge chains of as many CAs of one name. Return the number of signatures, and of possible issuers that were compared."""
    ids = [str(number).encode() for number in range(count)]
    cas = [authority("same", extensions=[(x509.SubjectKeyIdentifier(own), False)]) for own in ids]
    leaves = [
        issue("leaf", cas[number], extensions=[(x509.AuthorityKeyIdentifier(own, None, None), False)])
        for number, own in enumerate(ids)
    ]
    bundle = "".join(ca.pem for ca in cas)
    signed: list[object] = []
    compared: list[object] = []
    with monkeypatch.context() as patch:
        for name, calls in (("_check", signed), ("find_problem", compared)):
            patch.setattr(signatures, name, _counting(getattr(signatures, name), calls))
        assert {judge(entry.facts, bundle, name=None, now=NOW).verdict.code for entry in leaves} == {"ok"}
    return len(signed), len(compared)


def _counting(function: Any, calls: list[object]) -> Any:
    def count(*arguments: Any) -> Any:
        calls.append(arguments)
        return function(*arguments)

    return count


def test_the_work_grows_with_the_chains_and_not_with_the_cas_of_their_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Go compares at most a hundred issuers for each chain. One signature of each chain is checked."""
    few, many = (_work(monkeypatch, count) for count in (110, 220))
    assert (few[0], many[0]) == (110, 220)
    assert many[1] <= 2 * few[1] * 1.05
