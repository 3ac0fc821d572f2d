# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private keys."""

from __future__ import annotations

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509 import private_keys
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, rsa

from tests.support.certificates.authority import issue
from tests.support.failures import fails

EC_PARAMETERS = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"


def write(key: object, form: str = "PKCS8", passphrase: bytes | None = None) -> str:
    protection = (
        serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    )
    private_format = getattr(serialization.PrivateFormat, form)
    return key.private_bytes(serialization.Encoding.PEM, private_format, protection).decode()  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize("key_type", private_keys.KEY_TYPES)
def test_round_trip(key_type: str) -> None:
    key = private_keys.generate(key_type)
    text = private_keys.to_pem(key)
    again = private_keys.load(text)
    assert text.startswith("-----BEGIN PRIVATE KEY-----\n")
    assert private_keys.type_of(key) == private_keys.type_of(again) == key_type
    assert private_keys.public_key_sha256(key.public_key()) == private_keys.public_key_sha256(
        again.public_key()
    )


def test_a_key_that_is_longer_than_any_of_8192_bits_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any identity that may write the Secret chooses its size."""
    read: list[int] = []

    def load(data: bytes, password: object) -> None:
        read.append(len(data))
        raise ValueError

    monkeypatch.setattr(serialization, "load_pem_private_key", load)
    body = "A" * 63 + "\n"
    with fails("invalid-certificate", "large"):
        private_keys.load(f"-----BEGIN RSA PRIVATE KEY-----\n{body * 10_000}-----END RSA PRIVATE KEY-----\n")
    assert read == [private_keys.MOST_LETTERS]


def test_unknown_type() -> None:
    with fails("invalid-certificate", "'rsa-1024'", "ecdsa-p256"):
        private_keys.generate("rsa-1024")


@pytest.mark.parametrize("form", ["PKCS8", "TraditionalOpenSSL"])
def test_other_encodings(form: str) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    assert private_keys.type_of(private_keys.load(EC_PARAMETERS + write(key, form))) == "ecdsa-p256"


def test_types_outside_the_table() -> None:
    assert private_keys.type_of(ec.generate_private_key(ec.SECP521R1())) is None
    assert private_keys.type_of(rsa.generate_private_key(65537, 2048 + 64)) is None


def test_public_key_sha256_is_that_of_the_certificate() -> None:
    issued = issue("one")
    spki = issued.certificate.public_key()
    assert private_keys.public_key_sha256(spki) == private_keys.public_key_sha256(issued.key.public_key())
    assert len(private_keys.public_key_sha256(spki)) == 64


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "invalid-certificate"),
        (EC_PARAMETERS, "invalid-certificate"),
        ("-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n", "invalid-certificate"),
        ("-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n", "invalid-certificate"),
        (write(ec.generate_private_key(ec.SECP256R1()), passphrase=b"secret"), "invalid-certificate"),
        (
            write(rsa.generate_private_key(65537, 2048), "TraditionalOpenSSL", b"secret"),
            "invalid-certificate",
        ),
        (write(ec.generate_private_key(ec.SECP256R1()), "OpenSSH"), "invalid-certificate"),
        (write(ed448.Ed448PrivateKey.generate()), "invalid-certificate"),
        (write(dsa.generate_private_key(1024)), "invalid-certificate"),
    ],
)
def test_refused(text: str, code: str) -> None:
    with fails(code) as caught:
        private_keys.load(text)
    assert "c2VjcmV0" not in str(caught.value)
    assert caught.value.__cause__ is None
