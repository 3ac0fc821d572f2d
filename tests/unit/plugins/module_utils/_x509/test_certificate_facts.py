# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Certificates are read and described."""

from __future__ import annotations

import datetime

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509 import certificate_facts, private_keys
from cryptography import x509
from cryptography.x509.oid import NameOID

from tests.support.certificates.authority import (
    NOW,
    SERVER_AUTH,
    addresses,
    authority,
    dns,
    issue,
    key_usage,
    name,
)
from tests.support.failures import fails

BROKEN = "-----BEGIN CERTIFICATE-----\nQQ==\n-----END CERTIFICATE-----\n"


def test_describe() -> None:
    ca = authority("kubernetes")
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes"),
            x509.NameAttribute(NameOID.COMMON_NAME, "system:node:hook"),
        ]
    )
    mail, uri = x509.RFC822Name("ops@shop.svc"), x509.UniformResourceIdentifier("spiffe://shop/hook")
    issued = issue(
        subject,
        ca,
        names=[*dns("hook.shop.svc"), *addresses("10.1.2.3"), mail, uri],
        usages=[SERVER_AUTH, "1.2.3.4"],
        serial=0x0A1B,
        extensions=[(key_usage("digital_signature", "key_encipherment"), True)],
    )
    facts = issued.facts
    assert (facts.subject, facts.issuer) == ("CN=system:node:hook,O=system:nodes", "CN=kubernetes")
    assert (facts.common_name, facts.organizations) == ("system:node:hook", ("system:nodes",))
    assert (facts.dns_names, facts.ip_addresses) == (("hook.shop.svc",), ("10.1.2.3",))
    assert (facts.emails, facts.uris) == (("ops@shop.svc",), ("spiffe://shop/hook",))
    assert facts.not_before == NOW - datetime.timedelta(days=1)
    assert facts.not_after == NOW + datetime.timedelta(days=365)
    assert (facts.serial, facts.fingerprint) == ("0a1b", issued.fingerprint)
    assert facts.public_key_sha256 == private_keys.public_key_sha256(issued.key.public_key())
    assert facts.usages == ("digital signature", "key encipherment", "server auth", "1.2.3.4")
    assert (facts.is_ca, facts.is_self_issued, facts.version) == (False, False, 3)


def test_describe_an_authority() -> None:
    facts = certificate_facts.describe_pem(
        authority(name(""), extensions=[(key_usage("key_cert_sign"), True)]).pem
    )
    assert (facts.is_ca, facts.is_self_issued, facts.usages) == (True, True, ("cert sign",))
    assert (facts.subject, facts.common_name, facts.organizations) == ("", "", ())


def test_every_key_usage_has_its_word() -> None:
    facts = issue("all", extensions=[(key_usage(*certificate_facts.KEY_USAGES), True)]).facts
    assert facts.usages == tuple(certificate_facts.KEY_USAGES.values())
    for bit, word in certificate_facts.KEY_USAGES.items():
        is_about_agreement = bit in ("encipher_only", "decipher_only")
        bits = [bit, "key_agreement"] if is_about_agreement else [bit]
        assert word in issue(bit, extensions=[(key_usage(*bits), True)]).facts.usages


def test_every_extended_usage_has_its_word() -> None:
    facts = issue("all", usages=list(certificate_facts.EXTENDED_USAGES)).facts
    assert facts.usages == tuple(certificate_facts.EXTENDED_USAGES.values())


@pytest.mark.parametrize(
    ("number", "text"), [(1, "01"), (0xFF, "ff"), (0x100, "0100"), (1 << 158, "40" + "00" * 19)]
)
def test_serial(number: int, text: str) -> None:
    assert issue("one", serial=number).facts.serial == text


def test_load() -> None:
    issued, two = issue("one"), issue("two")
    assert certificate_facts.load("") == ()
    assert certificate_facts.load(f"text\n{issued.pem}text\n{two.pem}") == (issued.facts, two.facts)
    assert issued.facts.pem == issued.pem
    assert certificate_facts.load_leaf_and_chain(issued.pem) == (issued.facts, ())
    assert certificate_facts.load_leaf_and_chain(issued.pem + two.pem) == (issued.facts, (two.facts,))


@pytest.mark.parametrize("read", [certificate_facts.load_leaf_and_chain, certificate_facts.describe_pem])
def test_none_found(read: object) -> None:
    with fails("bundle-broken"):
        read("text")  # type: ignore[operator]


def test_the_broken_block_is_named() -> None:
    with fails("invalid-certificate", "2", "3"):
        certificate_facts.load(issue("one").pem + BROKEN + issue("three").pem)
    with fails("invalid-certificate"):
        certificate_facts.load(BROKEN)
