# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Make, read, write and name private keys."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Union

from .._base.text import remember_key
from .encoding import pem_text
from .errors import CertificateError, convert_errors

try:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
except ImportError:
    pass

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

    PrivateKey = Union[ec.EllipticCurvePrivateKey, rsa.RSAPrivateKey, ed25519.Ed25519PrivateKey]


@dataclass(frozen=True)
class KeyType:
    """A type of key."""

    #: "ecdsa", "rsa" or "ed25519".
    algorithm: str
    #: The bits of the field or of the modulus.
    size: int
    source: str


KEY_TYPES: dict[str, KeyType] = {
    "ecdsa-p256": KeyType("ecdsa", 256, "FIPS 186-5, SP 800-186 section 3.2.1.3"),
    "ecdsa-p384": KeyType("ecdsa", 384, "FIPS 186-5, SP 800-186 section 3.2.1.4"),
    "rsa-2048": KeyType("rsa", 2048, "FIPS 186-5 section 5; EKS takes RSA of at least 2048 bits"),
    "rsa-3072": KeyType("rsa", 3072, "FIPS 186-5 section 5"),
    "rsa-4096": KeyType("rsa", 4096, "FIPS 186-5 section 5"),
    "ed25519": KeyType("ed25519", 256, "RFC 8410"),
}


#: The longest key that is read, which is longer than RSA of 8192 bits. OpenSSL tests the primes of a key, and nothing interrupts it. A shorter
#: key with a prime that is too large for it still costs minutes.
MOST_LETTERS = 7000


def generate(key_type: str) -> PrivateKey:
    """Make a key of a type in KEY_TYPES. Raises CertificateError for any other name."""
    row = KEY_TYPES.get(key_type)
    if row is None:
        raise CertificateError(f"unknown key type {key_type!r}", remedy=f"Use one of {', '.join(KEY_TYPES)}.")
    if row.algorithm == "rsa":
        return rsa.generate_private_key(public_exponent=65537, key_size=row.size)
    if row.algorithm == "ecdsa":
        return ec.generate_private_key({256: ec.SECP256R1, 384: ec.SECP384R1}[row.size]())
    # A crypto policy, such as FIPS, may lack it.
    with convert_errors(f"this machine cannot make a key of the type {key_type}", remedy="Use ecdsa-p256."):
        return ed25519.Ed25519PrivateKey.generate()


def load(pem: str) -> PrivateKey:
    """Read the first private key of a PEM text. Raises CertificateError, which never quotes the text."""
    block = next((block for block in pem_text.blocks(pem) if block.label.endswith("PRIVATE KEY")), None)
    if block is None:
        raise CertificateError("no private key found in the PEM text")
    if block.label == "ENCRYPTED PRIVATE KEY" or "ENCRYPTED" in block.text.split("\n", 2)[1]:
        raise CertificateError(
            "the private key is encrypted",
            code="invalid-certificate",
            remedy="Store it without a passphrase.",
        )
    try:
        key = serialization.load_pem_private_key(block.text[:MOST_LETTERS].encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # The library's message may quote a part of the key, so it is omitted.
        raise CertificateError(
            "the private key cannot be read: damaged, too large, or of an unknown kind"
        ) from None
    remember_key(pem)
    if not isinstance(key, (ec.EllipticCurvePrivateKey, rsa.RSAPrivateKey, ed25519.Ed25519PrivateKey)):
        raise CertificateError(
            "the private key is neither ECDSA, RSA nor Ed25519", code="invalid-certificate"
        )
    return key


def to_pem(key: PrivateKey) -> str:
    """Return the key as unencrypted PKCS#8 PEM. From then on no sentence shows a part of it."""
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode("ascii")
    remember_key(pem)
    return pem


def type_of(key: PrivateKey) -> str | None:
    """Return the key's name in KEY_TYPES, None if the table does not have it."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "ed25519"
    curves = {"secp256r1": "ecdsa-p256", "secp384r1": "ecdsa-p384"}
    name = f"rsa-{key.key_size}" if isinstance(key, rsa.RSAPrivateKey) else curves.get(key.curve.name, "")
    return name if name in KEY_TYPES else None


class HasKey:
    """What has a private key."""

    key: PrivateKey

    @property
    def public_key_sha256(self) -> str:
        return public_key_sha256(self.key.public_key())


def public_key_sha256(public_key: PublicKeyTypes) -> str:
    """Return the SHA-256 of the SubjectPublicKeyInfo (RFC 5280, DER) in lowercase hex."""
    spki = public_key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(spki).hexdigest()
