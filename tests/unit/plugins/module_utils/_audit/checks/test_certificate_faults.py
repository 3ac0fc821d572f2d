# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Faults of certificates and CA bundles, by the API server's rules."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.checks import certificate_faults
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.checks.certificate_faults import (
    bundle_state,
    expiry_severity,
    find_bundle_faults,
    find_chain_faults,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.endpoints.served_chains import (
    ServedChain,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.endpoints.webhook_endpoints import (
    Endpoint,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509 import certificate_facts
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.support.certificates.authority import (
    CLIENT_AUTH,
    DAY,
    NOW,
    Issued,
    authority,
    dns,
    issue,
    with_sha1,
)
from tests.unit.plugins.module_utils._audit.world import CA, GOOD, OTHER_CA, config, leaf, served

pytestmark = pytest.mark.quick

OLD_CA = authority("an old CA", not_before=NOW - 1000 * DAY, not_after=NOW - DAY)
ENDING_CA = authority("an ending CA", not_before=NOW - 1000 * DAY, not_after=NOW + 20 * DAY)
ALMOST_ENDED_CA = authority("an almost ended CA", not_before=NOW - 1000 * DAY, not_after=NOW + 2 * DAY)
NEW_CA = authority("a new CA", not_before=NOW + DAY)
MIDDLE = authority("an intermediate", CA, not_before=NOW - 100 * DAY, not_after=NOW + 1000 * DAY)
OLD_MIDDLE = authority("an old intermediate", CA, not_before=NOW - 100 * DAY, not_after=NOW - DAY)
ENDING_MIDDLE = authority("an ending intermediate", CA, not_before=NOW - 360 * DAY, not_after=NOW + 5 * DAY)
NEXT_MIDDLE = authority(MIDDLE.certificate.subject, CA, key=MIDDLE.key, not_before=NOW + 10 * DAY)
OLD_CROSS = authority(
    CA.certificate.subject, OLD_CA, key=CA.key, not_before=NOW - 900 * DAY, not_after=NOW - DAY
)
ENDING_CROSS = authority(
    CA.certificate.subject, OTHER_CA, key=CA.key, not_before=NOW - 900 * DAY, not_after=NOW + 2 * DAY
)
SHORT_CA = authority("a CA without intermediates", path_length=0, not_after=NOW + 3650 * DAY)
SHORT_MIDDLE = authority("an intermediate too many", SHORT_CA)
SELF_SIGNED = issue("self", names=dns("hook.shop.svc"), usages=(), not_before=NOW - DAY)
DAMAGED = "-----BEGIN CERTIFICATE-----\nTm90IGEgY2VydGlmaWNhdGU=\n-----END CERTIFICATE-----\n"
E, W = "error", "warning"


CHAINS: list[tuple[str, tuple[Issued, ...], str, list[tuple[str, str]]]] = [
    ("healthy", (GOOD,), CA.pem, []),
    ("healthy, with an intermediate", (leaf(MIDDLE), MIDDLE), CA.pem, []),
    ("healthy, with a second CA that has expired", (GOOD,), OLD_CA.pem + CA.pem, []),
    ("the leaf itself in the bundle", (SELF_SIGNED,), SELF_SIGNED.pem, []),
    ("a young leaf of an intermediate that ends in 5 days", (leaf(ENDING_MIDDLE, not_before=NOW), ENDING_MIDDLE), CA.pem, [("expiring", E)]),
    ("an expired root that nothing needs", (GOOD, OLD_CA), CA.pem, []),
    ("an expired cross-signed CA", (GOOD, OLD_CROSS), CA.pem, []),
    ("an expired cross-signed CA, the only way", (GOOD, OLD_CROSS), OLD_CA.pem, [("expired", E), ("ca-expired", E)]),
    ("a cross-signed CA that ends, and the new CA in the bundle", (GOOD, ENDING_CROSS), OTHER_CA.pem + CA.pem, []),
    ("a cross-signed CA that ends, the only way", (GOOD, ENDING_CROSS), OTHER_CA.pem, [("expiring", E)]),
    ("the next intermediate is sent ahead", (leaf(MIDDLE), NEXT_MIDDLE, MIDDLE), CA.pem, []),
    ("only the next intermediate", (leaf(MIDDLE), NEXT_MIDDLE), CA.pem, [("not-yet-valid", E)]),
    ("the next CA is in the bundle ahead", (GOOD,), NEW_CA.pem + CA.pem, []),
    ("a CA that ends, and its successor with the same key",
        (leaf(ENDING_CA),), ENDING_CA.pem + authority(ENDING_CA.certificate.subject, key=ENDING_CA.key).pem, []),
    ("a CA that ends, and its successor with another key",
        (leaf(ENDING_CA),), ENDING_CA.pem + authority(ENDING_CA.certificate.subject).pem, [("ca-expiring", W)]),
    ("a leaf that ends before its CA, which ends too",
        (leaf(ENDING_CA, not_before=NOW - 360 * DAY, not_after=NOW + 5 * DAY),), ENDING_CA.pem,
        [("expiring", E), ("ca-expiring", W)]),
    ("a young leaf of a day, of a CA that ends",
        (leaf(ENDING_CA, not_before=NOW - DAY / 2, not_after=NOW + DAY / 2),), ENDING_CA.pem, [("ca-expiring", W)]),
    ("an intermediate too many", (leaf(SHORT_MIDDLE), SHORT_MIDDLE), SHORT_CA.pem, [("path-too-long", E)]),
    ("another CA", (GOOD,), OTHER_CA.pem, [("ca-mismatch", E)]),
    ("without its intermediate", (leaf(MIDDLE),), CA.pem, [("ca-mismatch", E)]),
    ("expired", (leaf(not_after=NOW - DAY),), CA.pem, [("expired", E)]),
    ("an intermediate that has expired", (leaf(OLD_MIDDLE), OLD_MIDDLE), CA.pem, [("expired", E)]),
    ("20 days left", (leaf(not_after=NOW + 20 * DAY, not_before=NOW - 345 * DAY),), CA.pem, [("expiring", W)]),
    ("5 days left", (leaf(not_after=NOW + 5 * DAY, not_before=NOW - 360 * DAY),), CA.pem, [("expiring", E)]),
    ("5 of 7 days left", (leaf(not_after=NOW + 5 * DAY, not_before=NOW - 2 * DAY),), CA.pem, []),
    ("not valid yet", (leaf(not_before=NOW + DAY),), CA.pem, [("not-yet-valid", E)]),
    ("another name", (leaf(names=dns("other.shop.svc")),), CA.pem, [("name-mismatch", E)]),
    ("only a common name", (leaf(names=()),), CA.pem, [("name-mismatch", E)]),
    ("for clients", (leaf(usages=(CLIENT_AUTH,)),), CA.pem, [("wrong-usage", E)]),
    ("without usages", (leaf(usages=()),), CA.pem, []),
    ("a CA that has expired", (leaf(OLD_CA),), OLD_CA.pem, [("ca-expired", E)]),
    ("a CA that expires in 20 days", (leaf(ENDING_CA),), ENDING_CA.pem, [("ca-expiring", W)]),
    ("a CA that expires in 2 days", (leaf(ALMOST_ENDED_CA),), ALMOST_ENDED_CA.pem, [("ca-expiring", E)]),
    ("a CA that is not valid yet", (leaf(NEW_CA),), NEW_CA.pem, [("not-yet-valid", E)]),
    ("an empty bundle", (leaf(names=dns("other")),), "", [("name-mismatch", E)]),
    (
        "several faults",
        (leaf(OTHER_CA, names=dns("other"), usages=(CLIENT_AUTH,), not_after=NOW - DAY),),
        CA.pem,
        [("expired", E), ("name-mismatch", E), ("wrong-usage", E), ("ca-mismatch", E)],
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("chain", "bundle", "wanted"), [row[1:] for row in CHAINS], ids=[row[0] for row in CHAINS]
)
def test_faults_of_a_chain(chain: tuple[Issued, ...], bundle: str, wanted: list[tuple[str, str]]) -> None:
    faults = find_chain_faults(served(*chain), config(bundle), NOW)
    assert [(fault.check, fault.severity) for fault in faults] == wanted
    assert all(fault.words and fault.breaks_at for fault in faults)


def test_a_fault_breaks_at_the_end_of_the_certificate() -> None:
    end = NOW + 5 * DAY
    (fault,) = find_chain_faults(served(leaf(not_after=end, not_before=NOW - 360 * DAY)), config(), NOW)
    assert fault.breaks_at == end


NAMED: list[tuple[tuple[Issued, ...], str, str]] = [
    ((leaf(OLD_MIDDLE), OLD_MIDDLE), CA.pem, "the intermediate certificate CN=an old intermediate has expired at "),
    ((leaf(ENDING_MIDDLE), ENDING_MIDDLE), CA.pem, "the intermediate certificate CN=an ending intermediate expires at "),
    ((leaf(MIDDLE), NEXT_MIDDLE), CA.pem, "the intermediate certificate CN=an intermediate is valid only from "),
    ((leaf(OLD_CA),), OLD_CA.pem, "the CA CN=an old CA of the caBundle has expired at "),
]  # fmt: skip


@pytest.mark.parametrize(("chain", "bundle", "words"), NAMED)
def test_the_certificate_that_ends_the_chain_is_named(
    chain: tuple[Issued, ...], bundle: str, words: str
) -> None:
    (fault,) = find_chain_faults(served(*chain), config(bundle), NOW)
    assert fault.words.startswith(words)


CONSTRAINED = authority(
    "a constrained CA",
    extensions=[(x509.NameConstraints([x509.DNSName("elsewhere.test")], None), True)],
    not_after=NOW + 3650 * DAY,
)
STRANGE = authority(
    "a strange CA",
    CA,
    extensions=[(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True)],
)
SAME_NAME = authority(CA.certificate.subject, not_after=NOW + 3650 * DAY)
#: What is served, the bundle -> the fault, what the evidence names, and the begin of the remedy of a mismatch.
UNTRUSTED: list[tuple[str, tuple[Issued, ...], str, str, str, str]] = [
    ("a missing intermediate", (leaf(MIDDLE),), CA.pem, "ca-mismatch", "the issuer CN=an intermediate of the certificate CN=leaf",
        "If CN=an intermediate is an intermediate CA, let the endpoint send"),
    ("another key", (GOOD,), SAME_NAME.pem, "ca-mismatch", "the issuer CN=a CA of the certificate CN=leaf",
        "The caBundle has a CA named CN=a CA with another key"),
    ("self-signed", (SELF_SIGNED,), CA.pem, "ca-mismatch", "the issuer CN=self", "Write the current CA"),
    ("the path length", (leaf(SHORT_MIDDLE), SHORT_MIDDLE), SHORT_CA.pem, "path-too-long",
        "the path length of the CA CN=a CA without intermediates of the caBundle", ""),
    ("a name constraint", (leaf(CONSTRAINED),), CONSTRAINED.pem, "name-constraint", "the name constraints of the CA CN=a constrained CA", ""),
    ("a critical extension", (leaf(STRANGE), STRANGE), CA.pem, "critical-extension",
        "the intermediate certificate CN=a strange CA has a critical", ""),
]  # fmt: skip


@pytest.mark.parametrize(
    ("chain", "bundle", "check", "culprit", "remedy"),
    [row[1:] for row in UNTRUSTED],
    ids=[row[0] for row in UNTRUSTED],
)
def test_the_evidence_of_a_refused_chain_names_its_reason(
    chain: tuple[Issued, ...], bundle: str, check: str, culprit: str, remedy: str
) -> None:
    (fault,) = find_chain_faults(served(*chain), config(bundle), NOW)
    assert fault.check == check
    assert fault.lines[0].startswith(culprit)
    assert fault.lines[1] == f"issuer of the certificate: {chain[0].certificate.issuer.rfc4514_string()}"
    assert fault.lines[2].startswith("subjects of the caBundle: CN=")
    assert "".join(fault.lines[3:]).startswith(remedy)
    assert bool(fault.lines[3:]) == bool(remedy)


@pytest.mark.parametrize(
    ("begin", "end", "wanted"),
    [
        (-30, 300, []),
        (-300, 3, [("expiring", E)]),
        (-300, 20, [("expiring", W)]),
        (-30, -1, [("expired", E)]),
        (1, 30, [("not-yet-valid", E)]),
    ],
)
def test_the_end_of_a_certificate_that_only_go_verifies(
    begin: int, end: int, wanted: list[tuple[str, str]]
) -> None:
    issued = leaf(OTHER_CA, not_before=NOW + begin * DAY, not_after=NOW + end * DAY)
    chain = ServedChain(Endpoint("", 8443), issued.pem, is_blind=True, is_unread=True)
    assert [(fault.check, fault.severity) for fault in find_chain_faults(chain, config(), NOW)] == wanted


#: A leaf that only Go verifies -> its faults with any API server.
UNREAD_LEAVES: list[tuple[Issued, list[str]]] = [
    (leaf(OTHER_CA), []),
    (leaf(OTHER_CA, usages=(CLIENT_AUTH,)), ["wrong-usage"]),
    (leaf(OTHER_CA, names=dns("other")), ["name-mismatch"]),
]


@pytest.mark.parametrize(("issued", "wanted"), UNREAD_LEAVES)
def test_what_every_api_server_refuses_of_a_certificate_that_only_go_verifies(
    issued: Issued, wanted: list[str]
) -> None:
    chain = ServedChain(Endpoint("", 8443), issued.pem, is_blind=True, is_unread=True)
    assert [fault.check for fault in find_chain_faults(chain, config(), NOW)] == wanted


BUNDLES: list[tuple[str, list[tuple[str, str, str]]]] = [
    (CA.pem, []),
    (OLD_CA.pem, [("ca-expired", E, "proven")]),
    (OLD_CA.pem + CA.pem, []),
    (OLD_CA.pem + ENDING_CA.pem, [("ca-expiring", W, "likely")]),
    ("", []),
    (DAMAGED, []),
]


@pytest.mark.parametrize(("bundle", "wanted"), BUNDLES)
def test_faults_of_a_bundle_without_a_served_certificate(
    bundle: str, wanted: list[tuple[str, str, str]]
) -> None:
    faults = find_bundle_faults(bundle, NOW)
    assert [(fault.check, fault.severity, fault.certainty) for fault in faults] == wanted


@pytest.mark.parametrize(
    ("bundle", "state"),
    [
        ("", "bundle-empty"),
        ("\n", "bundle-broken"),
        ("x", "bundle-broken"),
        (DAMAGED, "bundle-broken"),
        (CA.pem, ""),
    ],
)
def test_states_of_a_bundle(bundle: str, state: str) -> None:
    assert bundle_state(bundle) == state


# Lifetime and the time that is left, in days.
LIVES = [
    (365, 100, ""), (365, 28, ""), (365, 27, W), (365, 14, W), (365, 13, E), (90, 22, W), (90, 8, E),
    (30, 8, ""), (30, 7, W), (30, 2, E), (1, 0.5, ""), (1, 0.2, W), (1, 0.05, E), (36500, 27, W), (1, -1, E),
]  # fmt: skip


@pytest.mark.parametrize(("life", "left", "severity"), LIVES)
def test_the_severity_of_an_end_depends_on_the_lifetime(life: float, left: float, severity: str) -> None:
    end = NOW + timedelta(days=left)
    assert expiry_severity(end - timedelta(days=life), end, NOW) == severity


def rsa_key(bits: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


RSA = rsa_key(2048)
RSA_CA = authority("an RSA CA", key=RSA, not_before=NOW - DAY, not_after=NOW + 3650 * DAY)
SIGNED_LEAF = leaf(RSA_CA)
RSA_LEAF = leaf(RSA_CA, key=rsa_key(2048))
SHA1_LEAF = with_sha1(SIGNED_LEAF, RSA)
#: The chain that is served, the bundle -> the faults.
WEAK: list[tuple[list[Issued], str, list[tuple[str, str]]]] = [
    ([SIGNED_LEAF], RSA_CA.pem, []),
    ([SHA1_LEAF], RSA_CA.pem, [("weak-signature", E)]),
    ([SHA1_LEAF], CA.pem, [("weak-signature", E)]),
    ([SHA1_LEAF], SHA1_LEAF.pem, []),  # its own anchor, whose signature is not verified
    ([SIGNED_LEAF, with_sha1(RSA_CA, RSA)], RSA_CA.pem, []),  # a root that nothing needs
    ([SIGNED_LEAF], CA.pem, [("ca-mismatch", E)]),
    ([leaf(key=rsa_key(1024))], CA.pem, [("weak-key", W)]),
    ([leaf(key=rsa_key(2048))], CA.pem, []),
    ([leaf(key=rsa_key(1024))], "", [("weak-key", W)]),
]
#: RSA keys -> "" if Go verifies with them.
KEYS = {
    "512 bits": (1 << 511 | 1, 65537),
    "1023 bits": (1 << 1022 | 1, 65537),
    "an even exponent": (1 << 2047 | 1, 65538),
    "an exponent of 32 bits": (1 << 2047 | 1, 2**31 + 11),
}


@pytest.mark.parametrize(("chain", "bundle", "wanted"), WEAK)
def test_weak_signatures_and_keys(chain: list[Issued], bundle: str, wanted: list[tuple[str, str]]) -> None:
    faults = find_chain_faults(served(*chain), config(bundle), NOW)
    assert [(fault.check, fault.severity) for fault in faults] == wanted


@pytest.mark.parametrize(("bits", "severity"), [(1024, W), (2047, W), (2048, ""), (8192, ""), (8193, E)])
def test_the_size_of_a_key(bits: int, severity: str, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate_faults._chain_faults.cache_clear()
    monkeypatch.setattr(certificate_facts.CertificateFacts, "rsa_bits", bits)
    faults = find_chain_faults(served(RSA_LEAF), config(RSA_CA.pem), NOW)
    certificate_faults._chain_faults.cache_clear()
    assert [fault.severity for fault in faults] == [severity] * bool(severity)


@pytest.mark.parametrize("key", KEYS)
def test_a_key_with_which_go_verifies_nothing(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an error in the served certificate, and in a CA that a chain needs. The other CAs that are sent do not count."""

    def strange(this: certificate_facts.CertificateFacts) -> Any:
        is_strange = this.fingerprint in (RSA_LEAF.fingerprint, RSA_CA.fingerprint)
        return KEYS[key] if is_strange else this.__dict__["key"]

    certificate_faults._chain_faults.cache_clear()

    def keep(this: certificate_facts.CertificateFacts, value: Any) -> None:
        this.__dict__["key"] = value

    monkeypatch.setattr(certificate_facts.CertificateFacts, "key", property(strange, keep), raising=False)
    found = [
        {(fault.check, fault.severity) for fault in find_chain_faults(served(*chain), config(bundle), NOW)}
        for chain, bundle in (
            ([RSA_LEAF], RSA_LEAF.pem),
            ([leaf(RSA_CA), RSA_CA], CA.pem),
            ([leaf(CA), RSA_CA], CA.pem),
        )
    ]
    certificate_faults._chain_faults.cache_clear()
    assert found[:2] == [{("weak-key", E)}, {("ca-mismatch", E), ("weak-key", E)}]
    assert ("weak-key", E) not in found[2]
