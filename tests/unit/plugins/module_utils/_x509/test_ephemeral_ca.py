# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A CA for one signature: the content of both certificates, and the verdicts of Go and of this collection."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509 import (
    certificate_facts,
    ephemeral_ca,
    private_keys,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509.ephemeral_ca import SignedCertificate
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.support.certificates.authority import NOW, Issued
from tests.support.failures import fails
from tests.unit.plugins.module_utils._x509.cases import NAME, CertificateCase
from tests.unit.plugins.module_utils._x509.chain.test_verify import go_code, go_verdicts, judge

if TYPE_CHECKING:
    from pathlib import Path

    from ansible_collections.certflow.kubernetes.plugins.module_utils._x509.private_keys import PrivateKey

USAGES = ("digital signature", "key encipherment", "server auth")
DAY = timedelta(days=1)


def sign(key: PrivateKey, **changed: Any) -> SignedCertificate:
    given: dict[str, Any] = {
        "common_name": NAME,
        "dns_names": ["hook", NAME],
        "ip_addresses": ["10.0.0.1", "fd00::1"],
        "usages": USAGES,
        "lifetime": DAY,
        "now": NOW,
    }
    return ephemeral_ca.sign_once(key, **{**given, **changed})


def both(signed: SignedCertificate) -> tuple[x509.Certificate, x509.Certificate]:
    leaf, ca = (
        x509.load_pem_x509_certificate(pem.encode()) for pem in (signed.certificate_pem, signed.ca_pem)
    )
    return leaf, ca


def described(certificate: x509.Certificate) -> certificate_facts.CertificateFacts:
    return certificate_facts.read(certificate.public_bytes(Encoding.DER))


def value(certificate: x509.Certificate, kind: type[Any]) -> Any:
    return certificate.extensions.get_extension_for_class(kind).value


def test_the_certificates_begin_by_the_clock_that_is_behind() -> None:
    """They end by the clock of the API server, and they are never older than one lifetime, or they would be renewed at once."""
    key = private_keys.generate("ecdsa-p256")
    for behind, begin in [(timedelta(hours=2), timedelta(hours=2)), (5 * DAY, DAY), (-DAY, timedelta())]:
        for certificate in both(sign(key, begin=NOW - behind)):
            assert certificate.not_valid_before_utc == NOW - begin - ephemeral_ca.BACKDATED
            assert certificate.not_valid_after_utc == NOW + DAY


@pytest.mark.parametrize("key_type", private_keys.KEY_TYPES)
def test_both_certificates(key_type: str) -> None:
    key = private_keys.generate(key_type)
    leaf, ca = both(sign(key))
    leaf.verify_directly_issued_by(ca)
    ca.verify_directly_issued_by(ca)
    facts, authority = described(leaf), described(ca)
    assert facts.public_key_sha256 == private_keys.public_key_sha256(key.public_key())
    assert (facts.common_name, facts.dns_names) == (NAME, ("hook", NAME))
    assert facts.ip_addresses == ("10.0.0.1", "fd00::1")
    enciphers = ("key encipherment",) if key_type.startswith("rsa") else ()
    assert facts.usages == ("digital signature", *enciphers, "server auth")
    assert (facts.is_ca, authority.is_ca, authority.usages) == (False, True, ("cert sign",))
    assert value(ca, x509.BasicConstraints).path_length == 0
    critical = {extension.oid for extension in ca.extensions if extension.critical}
    assert critical == {x509.BasicConstraints.oid, x509.KeyUsage.oid}
    assert value(leaf, x509.AuthorityKeyIdentifier).key_identifier == (
        value(ca, x509.SubjectKeyIdentifier).digest
    )
    assert type(ca.public_key()) is type(key.public_key())
    assert authority.public_key_sha256 != facts.public_key_sha256


def test_it_begins_a_little_earlier_and_the_ca_ends_with_the_leaf() -> None:
    for certificate in both(sign(private_keys.generate("ecdsa-p256"), now=NOW.replace(microsecond=7))):
        facts = described(certificate)
        assert (facts.not_before, facts.not_after) == (NOW - timedelta(minutes=5), NOW + DAY)


def test_no_two_are_alike() -> None:
    key = private_keys.generate("ecdsa-p256")
    found = [certificate for _time in range(3) for certificate in both(sign(key))]
    assert len({certificate.serial_number for certificate in found}) == 6
    assert all(certificate.serial_number.bit_length() > 64 for certificate in found)
    cas = found[1::2]
    assert len({ca.subject for ca in cas}) == 3
    assert len({private_keys.public_key_sha256(ca.public_key()) for ca in cas}) == 3


def test_no_key_leaves_the_function() -> None:
    signed = sign(private_keys.generate("ecdsa-p256"))
    assert [field.count("PRIVATE") for field in vars(signed).values()] == [0, 0]


@pytest.mark.parametrize(
    ("usages", "key_type", "words"),
    [
        (("server auth",), "rsa-2048", ("server auth",)),
        (("key encipherment", "server auth"), "ecdsa-p256", ("server auth",)),
        (("digital signature", "server auth"), "rsa-2048", ("digital signature", "server auth")),
    ],
)
def test_usages_are_those_that_were_asked_for_and_that_the_key_can_do(
    usages: tuple[str, ...], key_type: str, words: tuple[str, ...]
) -> None:
    leaf, _ca = both(sign(private_keys.generate(key_type), usages=usages))
    assert described(leaf).usages == words
    assert value(leaf, x509.ExtendedKeyUsage)


def test_a_name_that_no_certificate_can_hold() -> None:
    with fails("invalid-certificate", "65", "64"):
        sign(private_keys.generate("ecdsa-p256"), common_name="a" * 65)


def test_go_and_our_own_verdict(go_program: Path) -> None:
    """Every kind of key; beside CAs of earlier certificates; another one alone; a day later; after its end."""
    judged: list[CertificateCase] = []
    for key_type in private_keys.KEY_TYPES:
        key = private_keys.generate(key_type)
        signed, older = sign(key), sign(key)
        issued = Issued(x509.load_pem_x509_certificate(signed.certificate_pem.encode()), key)
        rows: list[tuple[str, str, str, dict[str, Any]]] = [
            ("alone", "ok", signed.ca_pem, {}),
            ("by address", "ok", signed.ca_pem, {"name": "fd00::1"}),
            ("behind an older one", "ok", older.ca_pem + signed.ca_pem, {}),
            ("an older one alone", "ca-mismatch", older.ca_pem, {}),
            ("at the end", "ok", signed.ca_pem, {"now": NOW + DAY}),
            ("after the end", "expired", signed.ca_pem, {"now": NOW + 2 * DAY}),
            ("another name", "name-mismatch", signed.ca_pem, {"name": "other.shop.svc"}),
            ("as a client", "wrong-usage", signed.ca_pem, {"usage": "client auth"}),
        ]
        judged += [
            CertificateCase(f"{key_type} {title}", code, issued, pem, **more)
            for title, code, pem, more in rows
        ]
    wanted = [case.code for case in judged]
    assert [judge(case).code for case in judged] == wanted
    assert [go_code(answer) for answer in go_verdicts(go_program, judged)] == wanted
