# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a real API server says about a chain, beside what the audit and the probe say: one population, audited once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509

from tests.support.audit_rig import NOW, AuditRig, checks, failed
from tests.support.authority import DAY, SERVER_AUTH, Issued, authority, dns, issue
from tests.support.clusters import pki
from tests.support.probe_rig import config_map
from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.clusters import Fleet

ACCEPTED = "accepted"
EXPIRED = "certificate has expired or is not yet valid"
UNKNOWN = "certificate signed by unknown authority"


def made(subject: str | x509.Name, issuer: Issued | None, begin: float, end: float, **options: Any) -> Issued:
    return authority(subject, issuer, not_before=NOW + begin * DAY, not_after=NOW + end * DAY, **options)


ROOT = made("root", None, -900, 3000)
OTHER = made("other", None, -900, 3000)
MIDDLE = made("middle", ROOT, -100, 200)
OLD_MIDDLE = made("middle", ROOT, -300, -10, key=MIDDLE.key)
NEXT_MIDDLE = made("middle", ROOT, 20, 900, key=MIDDLE.key)
ENDING_MIDDLE = made("ending", ROOT, -360, 5)
CROSS = made("root", OTHER, -900, 2, key=ROOT.key)
OLD_CROSS = made("root", OTHER, -900, -3, key=ROOT.key)
OLD_ROOT = made("old root", None, -900, -40)
RENEWED_ROOT = made("old root", None, -50, 900, key=OLD_ROOT.key)
LATE = made("late", None, 5, 900)
SHORT = made("short", None, -10, 3000, path_length=0)
BELOW_SHORT = made("below short", SHORT, -10, 900)
CONSTRAINED = made(
    "constrained", None, -10, 3000,
    extensions=[(x509.NameConstraints([x509.DNSName("elsewhere.test")], None), True)],
)  # fmt: skip
STRANGE = made(
    "strange", ROOT, -10, 900,
    extensions=[(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True)],
)  # fmt: skip


@dataclass(frozen=True)
class Chain:
    """A server that sends a leaf of the first certificate and the others after it."""

    sent: tuple[Issued, ...]
    bundle: tuple[Issued, ...]
    #: A part of the API server's answer.
    answer: str
    #: The findings above info, and a part of the cause of the first one.
    checks: tuple[str, ...] = ()
    words: str = ""
    #: The first certificate signs the leaf, and is not sent.
    hides_issuer: bool = False
    #: Days before and after now.
    life: tuple[float, float] = (-1, 300)


CHAINS: dict[str, Chain] = {
    "root": Chain((ROOT,), (ROOT,), ACCEPTED, hides_issuer=True),
    "middle": Chain((MIDDLE,), (ROOT,), ACCEPTED),
    "old-root-sent": Chain((ROOT, OLD_ROOT), (ROOT,), ACCEPTED),
    "old-cross-sent": Chain((ROOT, OLD_CROSS), (ROOT,), ACCEPTED),
    "cross-ends": Chain((ROOT, CROSS), (OTHER, ROOT), ACCEPTED),
    "cross-ends-alone": Chain((ROOT, CROSS), (OTHER,), ACCEPTED, ("expiring",), "CN=root expires", hides_issuer=True),
    "cross-ended-alone": Chain((ROOT, OLD_CROSS), (OTHER,), EXPIRED, ("expired",), "CN=root has expired", hides_issuer=True),
    "next-middle-sent": Chain((MIDDLE, NEXT_MIDDLE), (ROOT,), ACCEPTED),
    "only-next-middle": Chain((MIDDLE, NEXT_MIDDLE), (ROOT,), EXPIRED, ("not-yet-valid",), "CN=middle is valid only",
        hides_issuer=True),
    "old-middle-sent": Chain((MIDDLE, OLD_MIDDLE), (ROOT,), ACCEPTED),
    "only-old-middle": Chain((MIDDLE, OLD_MIDDLE), (ROOT,), EXPIRED, ("expired",), "The intermediate certificate CN=middle",
        hides_issuer=True),
    "middle-ends": Chain((ENDING_MIDDLE,), (ROOT,), ACCEPTED, ("expiring",), "The intermediate certificate CN=ending expires"),
    "next-root-in-bundle": Chain((ROOT,), (ROOT, LATE), ACCEPTED, hides_issuer=True),
    "old-root-in-bundle": Chain((ROOT,), (OLD_ROOT, ROOT), ACCEPTED, hides_issuer=True),
    "renewed-root": Chain((OLD_ROOT,), (OLD_ROOT, RENEWED_ROOT), ACCEPTED, hides_issuer=True),
    "old-root": Chain((OLD_ROOT,), (OLD_ROOT,), EXPIRED, ("ca-expired",), "The CA CN=old root of the caBundle", hides_issuer=True),
    "late-root": Chain((LATE,), (LATE,), EXPIRED, ("not-yet-valid",), "The CA CN=late of the caBundle is valid", hides_issuer=True),
    "short-life": Chain((ROOT,), (ROOT,), ACCEPTED, hides_issuer=True, life=(-0.2, 0.8)),
    "missing-middle": Chain((MIDDLE,), (ROOT,), UNKNOWN, ("ca-mismatch",), hides_issuer=True),
    "other-root": Chain((ROOT,), (OTHER,), UNKNOWN, ("ca-mismatch",), hides_issuer=True),
    "path-length": Chain((BELOW_SHORT,), (SHORT,), "too many intermediates", ("ca-mismatch",), "too many intermediates"),
    "constrained": Chain((CONSTRAINED,), (CONSTRAINED,), "not authorized to sign for this name", ("ca-mismatch",),
        "not authorized to sign", hides_issuer=True),
    "critical": Chain((STRANGE,), (ROOT,), "unhandled critical extension", ("ca-mismatch",), "unhandled critical"),
}  # fmt: skip
#: A caBundle as bytes -> the API server's answer, and the check.
BUNDLES = {
    "line-break": (b"\n", "unable to parse bytes as PEM block", "bundle-broken"),
    "text": (b"none", "unable to parse bytes as PEM block", "bundle-broken"),
    "no-bundle": (b"", UNKNOWN, "bundle-empty"),
}


@dataclass(frozen=True)
class _Sent:
    """The certificates and the key of a server."""

    certificate_pem: bytes
    key_pem: bytes


def _served(chain: Chain, name: str) -> _Sent:
    begin, end = chain.life
    leaf = issue(
        "leaf",
        chain.sent[0],
        names=dns(name),
        usages=(SERVER_AUTH,),
        not_before=NOW + begin * DAY,
        not_after=NOW + end * DAY,
    )
    sent = chain.sent[1:] if chain.hides_issuer else chain.sent
    return _Sent("".join(entry.pem for entry in (leaf, *sent)).encode(), pki.private_pem(leaf.key))


@pytest.fixture(scope="module")
def rig(fleet: Fleet) -> Iterator[AuditRig]:
    rig = AuditRig(fleet["onprem"])
    try:
        yield rig
    finally:
        rig.close()


@pytest.fixture(scope="module")
def answers(rig: AuditRig) -> dict[str, str]:
    """Return the answer of the API server about each webhook, after it has called the webhook."""
    calls: dict[str, Callable[[], int]] = {}
    for name, chain in CHAINS.items():
        port = rig.serve(_served(chain, rig.server_name))  # type: ignore[arg-type]
        server = rig.servers[-1]
        calls[name] = lambda server=server: len(server.calls)  # type: ignore[misc]
        rig.called_hook(name, port=port, bundle="".join(entry.pem for entry in chain.bundle).encode())
    for name, (bundle, _answer, _check) in BUNDLES.items():
        rig.called_hook(name, bundle=bundle)
        calls[name] = lambda: 0
    for name, count in calls.items():
        wait_for(lambda name=name, count=count: rig.ask(name) != ACCEPTED or count() > 0)  # type: ignore[misc]
    return {name: rig.ask(name) for name in calls}


@pytest.fixture(scope="module")
def audit(rig: AuditRig, answers: dict[str, str]) -> dict[str, Any]:
    assert answers
    return rig.audit()


@pytest.mark.parametrize("name", CHAINS)
def test_the_audit_says_of_a_chain_what_the_api_server_does(
    rig: AuditRig, answers: dict[str, str], audit: dict[str, Any], name: str
) -> None:
    chain = CHAINS[name]
    findings = failed(audit, f"{name}-{rig.name}")
    assert chain.answer in answers[name]
    assert tuple(entry["check"] for entry in findings) == chain.checks, (answers[name], findings)
    assert not chain.words or chain.words in findings[0]["cause"]
    is_refused_now = [
        entry for entry in findings if entry["severity"] == "error" and "expiring" not in entry["check"]
    ]
    assert bool(is_refused_now) is (answers[name] != ACCEPTED)


@pytest.mark.parametrize("name", BUNDLES)
def test_the_audit_says_of_a_bundle_what_the_api_server_does(
    rig: AuditRig, answers: dict[str, str], audit: dict[str, Any], name: str
) -> None:
    _bundle, answer, check = BUNDLES[name]
    assert answer in answers[name]
    assert checks(audit, f"{name}-{rig.name}") == [check], answers[name]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("only-old-middle", "(the intermediate certificate CN=middle has expired at"),
        ("old-root", "(the CA CN=old root of the caBundle has expired at"),
        ("path-length", "(the path length of the CA CN=short of the caBundle"),
    ],
)
def test_the_probe_names_the_certificate_that_ends_the_chain(
    rig: AuditRig, answers: dict[str, str], name: str, words: str
) -> None:
    target = {"kind": "ValidatingWebhookConfiguration", "name": f"{name}-{rig.name}"}
    asked = config_map(rig.name, probe=name)
    result = rig.probe(target, object=asked)
    assert result["verdict"] == "failed", answers[name]
    assert words in result["served"][0]["problem"]
