# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Certificate signing requests are made and read."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509 import private_keys, signing_request
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509.encoding import pem_text
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from tests.support.certificates.authority import name, new_key
from tests.support.failures import fails


@pytest.mark.parametrize("key_type", private_keys.KEY_TYPES)
def test_round_trip(key_type: str) -> None:
    key = private_keys.generate(key_type)
    text = signing_request.build(
        key,
        common_name="system:node:hook",
        organizations=["system:nodes", "second"],
        dns_names=["hook.shop.svc", "hook"],
        ip_addresses=["10.1.2.3", "fd00::1"],
    )
    assert signing_request.parse("\r\n" + text) == signing_request.RequestFacts(
        subject="CN=system:node:hook,O=second,O=system:nodes",
        common_name="system:node:hook",
        organizations=("system:nodes", "second"),
        dns_names=("hook.shop.svc", "hook"),
        ip_addresses=("10.1.2.3", "fd00::1"),
        emails=(),
        uris=(),
        public_key_sha256=private_keys.public_key_sha256(key.public_key()),
        wants_ca=False,
        is_signature_valid=True,
    )


def test_without_names() -> None:
    facts = signing_request.parse(signing_request.build(new_key(), common_name="client"))
    assert (facts.common_name, facts.dns_names, facts.ip_addresses) == ("client", (), ())


def test_digest() -> None:
    digests = {
        key_type: x509.load_pem_x509_csr(
            signing_request.build(private_keys.generate(key_type), common_name="hook").encode()
        ).signature_hash_algorithm
        for key_type in ("ecdsa-p384", "rsa-2048", "ed25519")
    }
    assert {key: digest and digest.name for key, digest in digests.items()} == {
        "ecdsa-p384": "sha256",
        "rsa-2048": "sha256",
        "ed25519": None,
    }


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ({"common_name": "x" * 65}, ("x" * 65, "64")),
        ({"common_name": "é" * 33}, ("66", "64")),
        ({"common_name": ""}, ("''", "64")),
        ({"organizations": ["y" * 65]}, ("y" * 65, "64")),
        ({"dns_names": ["hök.svc"]}, ()),
        ({"ip_addresses": ["10.1.2"]}, ("'10.1.2'",)),
    ],
)
def test_names_that_no_certificate_holds(wanted: dict[str, Any], names: tuple[str, ...]) -> None:
    with fails("invalid-certificate", *names):
        signing_request.build(new_key(), **{"common_name": "hook", **wanted})


def test_longest_common_name() -> None:
    assert (
        signing_request.parse(signing_request.build(new_key(), common_name="x" * 64)).common_name == "x" * 64
    )


def test_every_kind_of_name_and_the_wish_to_be_a_ca() -> None:
    names = [
        x509.RFC822Name("ops@shop.svc"),
        x509.UniformResourceIdentifier("spiffe://shop/hook"),
        x509.DNSName("a"),
    ]
    request = (
        x509.CertificateSigningRequestBuilder(name("hook"))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(new_key(), hashes.SHA256())
    )
    facts = signing_request.parse(request.public_bytes(serialization.Encoding.PEM).decode())
    assert (facts.emails, facts.uris, facts.dns_names) == (("ops@shop.svc",), ("spiffe://shop/hook",), ("a",))
    assert facts.wants_ca


def test_a_signature_of_another_key() -> None:
    data = bytearray(pem_text.der(pem_text.blocks(signing_request.build(new_key(), common_name="hook"))[0]))
    position = data.index(b"hook")
    data[position : position + 4] = b"hack"
    facts = signing_request.parse(pem_text.encode(signing_request.LABEL, bytes(data)))
    assert (facts.common_name, facts.is_signature_valid) == ("hack", False)
