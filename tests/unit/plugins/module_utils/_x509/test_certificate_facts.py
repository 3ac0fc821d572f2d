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

from tests.support.authority import (
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
    assert certificate_facts.describe(issued.certificate) == certificate_facts.CertificateFacts(
        subject="CN=system:node:hook,O=system:nodes",
        common_name="system:node:hook",
        organizations=("system:nodes",),
        dns_names=("hook.shop.svc",),
        ip_addresses=("10.1.2.3",),
        emails=("ops@shop.svc",),
        uris=("spiffe://shop/hook",),
        issuer="CN=kubernetes",
        not_before=NOW - datetime.timedelta(days=1),
        not_after=NOW + datetime.timedelta(days=365),
        serial="0a1b",
        fingerprint=issued.fingerprint,
        public_key_sha256=private_keys.public_key_sha256(issued.key.public_key()),
        is_ca=False,
        usages=("digital signature", "key encipherment", "server auth", "1.2.3.4"),
        is_self_issued=False,
    )


def test_describe_an_authority() -> None:
    facts = certificate_facts.describe_pem(
        authority(name(""), extensions=[(key_usage("key_cert_sign"), True)]).pem
    )
    assert (facts.is_ca, facts.is_self_issued, facts.usages) == (True, True, ("cert sign",))
    assert (facts.subject, facts.common_name, facts.organizations) == ("", "", ())


def test_every_key_usage_has_its_word() -> None:
    bits = [*certificate_facts.KEY_USAGES, *certificate_facts.KEY_AGREEMENT_USAGES]
    facts = certificate_facts.describe(issue("all", extensions=[(key_usage(*bits), True)]).certificate)
    words = [*certificate_facts.KEY_USAGES.values(), *certificate_facts.KEY_AGREEMENT_USAGES.values()]
    assert list(facts.usages) == words
    for bit, word in certificate_facts.KEY_USAGES.items():
        assert (
            word
            in certificate_facts.describe(issue(bit, extensions=[(key_usage(bit), True)]).certificate).usages
        )


def test_every_extended_usage_has_its_word() -> None:
    facts = certificate_facts.describe(
        issue("all", usages=list(certificate_facts.EXTENDED_USAGES)).certificate
    )
    assert facts.usages == tuple(certificate_facts.EXTENDED_USAGES.values())


@pytest.mark.parametrize(
    ("number", "text"), [(1, "01"), (0xFF, "ff"), (0x100, "0100"), (1 << 158, "40" + "00" * 19)]
)
def test_serial(number: int, text: str) -> None:
    assert certificate_facts.describe(issue("one", serial=number).certificate).serial == text


def test_load() -> None:
    one, two = issue("one"), issue("two")
    assert certificate_facts.load("") == ()
    assert certificate_facts.load(f"text\n{one.pem}text\n{two.pem}") == (one.certificate, two.certificate)
    assert certificate_facts.to_pem(one.certificate) == one.pem
    assert certificate_facts.load_leaf_and_chain(one.pem) == (one.certificate, ())
    assert certificate_facts.load_leaf_and_chain(one.pem + two.pem) == (one.certificate, (two.certificate,))


@pytest.mark.parametrize("read", [certificate_facts.load_leaf_and_chain, certificate_facts.describe_pem])
def test_none_found(read: object) -> None:
    with fails("bundle-broken"):
        read("text")  # type: ignore[operator]


def test_the_broken_block_is_named() -> None:
    with fails("invalid-certificate", "2", "3"):
        certificate_facts.load(issue("one").pem + BROKEN + issue("three").pem)
    with fails("invalid-certificate"):
        certificate_facts.load(BROKEN)
