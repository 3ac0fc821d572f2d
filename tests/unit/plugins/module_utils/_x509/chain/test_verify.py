# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The verdict on a chain: each rule alone, and compared with Go."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509 import certificate_facts
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509.chain import (
    name_constraints,
    signatures,
    verify,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509.encoding import go_parser

from tests.support.certificates.authority import CLIENT_AUTH, SERVER_AUTH, authority, with_serial
from tests.support.failures import fails
from tests.unit.plugins.module_utils._x509 import cases
from tests.unit.plugins.module_utils._x509.cases import CertificateCase

if TYPE_CHECKING:
    from pathlib import Path

    from ansible_collections.certflow.kubernetes.plugins.module_utils._x509.chain.verify import Verdict

RANDOM_CASES = 500

# Beginnings of Go's messages -> our code.
GO_CODES = {
    "unable to load root certificates": "bundle-broken",
    "failed to parse certificate": "certificate-refused",
    "server's certificate contains an unsupported type": "unsupported-key",
    "x509: unhandled critical extension": "critical-extension",
    "x509: certificate has expired": "expired",
    "x509: certificate relies on legacy": "name-mismatch",
    "x509: certificate is valid for": "name-mismatch",
    "x509: certificate is not valid for any names": "name-mismatch",
    "x509: cannot validate certificate for": "name-mismatch",
    "x509: certificate signed by unknown authority": "ca-mismatch",
    "x509: certificate is not authorized to sign": "not-a-ca",
    "x509: no valid chains built": "policy-refused",
    "x509: too many intermediates": "path-too-long",
    "x509: signature check attempts limit": "too-many-cas",
    "x509: certificate specifies an incompatible key usage": "wrong-usage",
    "x509: a root or intermediate certificate is not authorized": "name-constraint",
}


def judge(case: CertificateCase) -> Verdict:
    return verify.verify(
        case.leaf.facts,
        case.bundle,
        name=case.name,
        intermediates=[issued.facts for issued in case.intermediates],
        now=case.now,
        usage=case.usage,
    )


@pytest.mark.parametrize("case", cases.all_rows(), ids=lambda case: case.title)
def test_verdict(case: CertificateCase) -> None:
    verdict = judge(case)
    assert (verdict.code, verdict.ok) == (case.code, case.code == "ok"), verdict.reason
    assert bool(verdict.anchors) == verdict.ok
    assert bool(verdict.reason) != verdict.ok


def test_every_code_has_a_row() -> None:
    assert set(verify.REASONS) == {case.code for case in cases.all_rows()} | {"certificate-unread"}


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
def test_certificate_that_go_does_not_parse(go_program: Path) -> None:
    ca = authority("kubernetes")
    leaf, root = with_serial(cases.server(ca), 0x80, ca.key), with_serial(ca, 0x80, ca.key)
    anchor = CertificateCase("negative serial number, as anchor", "bundle-broken", cases.server(ca), root.pem)
    assert judge(anchor).code == anchor.code
    with fails("invalid-certificate"):
        certificate_facts.load(leaf.pem)
    served = CertificateCase("the same, served", "certificate-refused", leaf, ca.pem)
    assert [go_code(answer) for answer in go_verdicts(go_program, [anchor, served])] == [
        anchor.code,
        served.code,
    ]


@pytest.mark.parametrize(
    ("usage", "code"), [(SERVER_AUTH, "certificate-unread"), (CLIENT_AUTH, "ca-mismatch")]
)
def test_a_key_that_only_go_uses(usage: str, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another chain may be valid, unless the leaf itself is not for servers."""
    ca = authority("kubernetes")
    case = CertificateCase("", code, cases.server(authority("kubernetes"), usages=[usage]), ca.pem)

    def refuse(*_arguments: object) -> None:
        raise ValueError

    signatures._answers.cache_clear()
    monkeypatch.setattr(signatures, "_check", refuse)
    assert judge(case).code == code
    signatures._answers.cache_clear()


def test_a_serial_number_of_2000_octets() -> None:
    """Go reads it, and Python writes no number with so many digits."""
    nameless: Any = SimpleNamespace(common_name="", organizations=(), serial="7f" * 2000)
    assert "serial:" in verify._hint("x509: x", nameless)
    nameless.serial = "7f" * 1000
    assert f'"serial:{int(nameless.serial, 16)}"' in verify._hint("x509: x", nameless)


def test_the_names_of_a_chain_are_compared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A judgement for many moments asks again for the same chains."""
    compared: list[object] = []
    monkeypatch.setattr(name_constraints, "_refused", lambda *about: compared.append(about))

    class Member:  # a SimpleNamespace has no hash
        def __init__(self, **parts: Any) -> None:
            vars(self).update(parts)

    below = Member(alternative_names=((0x82, b"a.svc"),), extensions={})
    above = Member(alternative_names=(), extensions={go_parser.NAME_CONSTRAINTS: (((0x82, b"svc"),), ())})
    chain: Any = (below, above)
    for _moment in range(50):
        assert name_constraints.refusal(chain) == ""
    assert len(compared) == 1


def test_another_key_that_fits_the_signature_hides_no_ca(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another key that fits can be computed from a signature of ECDSA. So its certificate proves nothing about the real CA."""
    ca, computed = authority("kubernetes"), authority("kubernetes")
    leaf = cases.server(ca)
    with monkeypatch.context() as fitting:
        fitting.setattr(signatures, "_check", lambda *_arguments: None)
        assert signatures.is_signed_by(leaf.facts, computed.facts)
    assert signatures.is_signed_by(leaf.facts, ca.facts, frozenset(((ca.facts.key_algorithm, ca.facts.key),)))


def test_a_key_that_is_encoded_in_two_ways_is_one_key() -> None:
    """A bundle may have the key of the issuer under another subject, too. So its known answer must be that of the issuer."""
    ca = authority("kubernetes")
    leaf, again = cases.server(ca), replace(ca.facts, public_key=ca.facts.public_key + b"\0")
    assert signatures.is_signed_by(leaf.facts, ca.facts)
    assert signatures.is_signed_by(leaf.facts, again, frozenset(((ca.facts.key_algorithm, ca.facts.key),)))


def go_verdicts(program: Path, sample: list[CertificateCase]) -> list[dict[str, Any]]:
    asked = [
        {
            "leaf": case.leaf.pem,
            "intermediates": [issued.pem for issued in case.intermediates],
            "bundle": case.bundle,
            "name": case.name or "",
            "time": int(case.now.timestamp()),
            "usage": case.usage,
        }
        for case in sample
    ]
    done = subprocess.run([program], input=json.dumps(asked), capture_output=True, text=True, check=True)
    answers: list[dict[str, Any]] = json.loads(done.stdout)
    return answers


def go_code(answer: dict[str, Any]) -> str:
    return (
        "ok"
        if answer["ok"]
        else next(code for start, code in GO_CODES.items() if answer["error"].startswith(start))
    )


def difference(case: CertificateCase, answer: dict[str, Any]) -> str:
    """Say where our verdict is not Go's, in code, anchors or words; empty where they agree."""
    verdict = judge(case)
    code = (
        "ok"
        if answer["ok"]
        else next(ours for start, ours in GO_CODES.items() if answer["error"].startswith(start))
    )
    anchors = tuple(answer["anchors"] or ())
    reason = answer["error"].removeprefix("x509: ")
    if (verdict.code, verdict.anchors, verdict.reason) == (code, anchors, reason):
        return ""
    return f"{case.title}: Go: {code} {reason} {anchors}; here: {verdict}"


def test_rows_as_go_judges_them(go_program: Path) -> None:
    rows = list(cases.all_rows())
    answers = go_verdicts(go_program, rows)
    assert len(answers) == len(rows)
    assert [found for found in map(difference, rows, answers) if found] == []


def test_random_chains_as_go_judges_them(go_program: Path) -> None:
    sample = cases.random_cases(RANDOM_CASES, seed=20260615)
    answers = go_verdicts(go_program, sample)
    assert [found for found in map(difference, sample, answers) if found] == []
    accepted = sum(answer["ok"] for answer in answers)
    assert RANDOM_CASES // 5 < accepted < RANDOM_CASES * 4 // 5, "the cases no longer try both outcomes"


def test_random_policies_as_go_judges_them(go_program: Path) -> None:
    sample = cases.random_policy_cases(RANDOM_CASES, seed=20261130)
    answers = go_verdicts(go_program, sample)
    assert [found for found in map(difference, sample, answers) if found] == []
    refused = sum("policies" in answer["error"] for answer in answers)
    assert RANDOM_CASES // 5 < refused < RANDOM_CASES * 4 // 5, "the cases no longer try both outcomes"
