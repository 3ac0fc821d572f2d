# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Make a certificate authority for one signature. One function makes its key, uses it once and drops it.

A client that trusts this CA trusts one certificate, because another one cannot be signed. So the CA needs no name constraints,
no revocation and no safe place for its key.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from . import certificate_facts, private_keys
from .errors import convert_errors

try:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
except ImportError:
    pass

if TYPE_CHECKING:
    from cryptography.x509 import Certificate, Name

    from .private_keys import PrivateKey

ORGANIZATION = "certflow.kubernetes"
_NAME = "ephemeral-ca"
# As kube-controller-manager does (k/k pkg/controller/certificates/signer, backdate), because clocks differ.
BACKDATED = timedelta(minutes=5)


@dataclass(frozen=True)
class SignedCertificate:
    """A certificate and the CA that signed it, as PEM."""

    certificate_pem: str
    ca_pem: str


def sign_once(
    key: PrivateKey,
    *,
    common_name: str,
    organizations: Sequence[str] = (),
    dns_names: Sequence[str] = (),
    ip_addresses: Sequence[str] = (),
    usages: Collection[str],
    lifetime: timedelta,
    now: datetime,
    begin: datetime | None = None,
) -> SignedCertificate:
    """Make a CA with a key of the same kind as ``key``, and sign one certificate for ``key``.

    usages: in the words of the Kubernetes CSR API.
    lifetime: the time from ``now`` to the end of both certificates.
    begin: the time at which every client is to accept both certificates, if a clock is behind ``now``. They begin at most one lifetime
      before ``now``, because a certificate that is mostly over would be renewed at once.
    Raises CertificateError for a name that a certificate cannot contain.
    """
    present = now.replace(microsecond=0)
    start = present
    if begin is not None and begin < present:
        start = max(begin.replace(microsecond=0), present - lifetime)
    validity = start - BACKDATED, present + lifetime
    with convert_errors("the certificate cannot be made"):
        ca_key = private_keys.generate(private_keys.type_of(key) or "ecdsa-p256")
        ca = _ca(ca_key, validity)
        builder = (
            _builder(certificate_facts.subject_name(common_name, organizations), ca.subject, key, validity)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_signed_by(ca), critical=False)
            .add_extension(_extended(usages), critical=False)
        )
        bits = _key_usage(usages, key)
        if bits:
            builder = builder.add_extension(bits, critical=True)
        names = certificate_facts.general_names(dns_names, ip_addresses)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        leaf = builder.sign(ca_key, _digest(ca_key))
    return SignedCertificate(_pem(leaf), _pem(ca))


def _pem(certificate: Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")


def is_made_here(subject: str) -> bool:
    """Return True if a subject (RFC 4514 text) is that of an ephemeral CA."""
    return f"O={ORGANIZATION}" in subject and f"CN={_NAME} " in subject


def _ca(key: PrivateKey, validity: tuple[datetime, datetime]) -> Certificate:
    # Each CA has another name, so that clients and users can tell several CAs in a bundle apart.
    name = certificate_facts.subject_name(f"{_NAME} {secrets.token_hex(8)}", [ORGANIZATION])
    return (
        _builder(name, name, key, validity)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_bits("key_cert_sign"), critical=True)
        .add_extension(_key_identifier(key), critical=False)
        .sign(key, _digest(key))
    )


def _builder(
    subject: Name, issuer: Name, key: PrivateKey, validity: tuple[datetime, datetime]
) -> x509.CertificateBuilder:
    return x509.CertificateBuilder(
        issuer_name=issuer,
        subject_name=subject,
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),  # 159 random bits
        not_valid_before=validity[0],
        not_valid_after=validity[1],
    )


def _digest(key: PrivateKey) -> hashes.SHA256 | None:
    """Return the digest for a signature, None for Ed25519, which has its own (RFC 8032)."""
    return None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()


def _key_identifier(key: PrivateKey) -> x509.SubjectKeyIdentifier:
    """Return the SHA-256 sum of the public key (RFC 7093, method 4). A strict crypto policy does not have SHA-1."""
    public = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return x509.SubjectKeyIdentifier(hashlib.sha256(public).digest())


def _signed_by(ca: Certificate) -> x509.AuthorityKeyIdentifier:
    identifier = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def _extended(usages: Collection[str]) -> x509.ExtendedKeyUsage:
    oids = {word: oid for oid, word in certificate_facts.EXTENDED_USAGES.items()}
    return x509.ExtendedKeyUsage([x509.ObjectIdentifier(oids[word]) for word in usages if word in oids])


def _key_usage(usages: Collection[str], key: PrivateKey) -> x509.KeyUsage | None:
    """Return the wanted usages that the key supports. Only RSA enciphers keys (RFC 8813, RFC 8410 section 5)."""
    can = {"digital_signature"} | ({"key_encipherment"} if isinstance(key, rsa.RSAPrivateKey) else set())
    wanted = [bit for bit, word in certificate_facts.KEY_USAGES.items() if word in usages and bit in can]
    return _bits(*wanted) if wanted else None  # RFC 5280 section 4.2.1.3: at least one bit must be set


def _bits(*wanted: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{bit: bit in wanted for bit in certificate_facts.KEY_USAGES})
