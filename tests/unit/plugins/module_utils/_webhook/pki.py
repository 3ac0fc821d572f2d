# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Authorities and leaves for tests, made in memory, each once."""

from __future__ import annotations

import base64
import functools
import hashlib
import textwrap
from datetime import datetime, timedelta, timezone
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.certificates import der

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=timezone.utc)
YEAR = timedelta(days=365)
# The extension basicConstraints up to its value.
_CRITICAL_TRUE = bytes.fromhex("0603551d13 0101ff")
_CRITICAL_FALSE = bytes.fromhex("0603551d13 010100")


class Authority(NamedTuple):
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    pem: str
    fingerprint: str


@functools.cache
def authority(name: str, *, expires: datetime = NOW + YEAR) -> Authority:
    """A self-signed CA; the same arguments give the same one."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = _builder(subject, subject, key, expires).add_extension(x509.BasicConstraints(True, None), True)
    certificate = builder.sign(key, hashes.SHA256())
    return Authority(certificate, key, pem_of(certificate), certificate.fingerprint(hashes.SHA256()).hex())


@functools.cache
def unreadable_authority(name: str) -> Authority:
    """Return a CA that Go reads and cryptography refuses. DER omits a default, and this CA writes `critical` FALSE."""
    normal = authority(name)
    old = normal.certificate.public_bytes(serialization.Encoding.DER)
    extensions = der.members(der.members(old)[0])[der.FIELDS.index("extensions")]
    changed = extensions.replace(_CRITICAL_TRUE, _CRITICAL_FALSE)
    assert changed != extensions
    data = der.signed_again(
        old, lambda body: normal.key.sign(body, ec.ECDSA(hashes.SHA256())), extensions=changed
    )
    lines = "\n".join(textwrap.wrap(base64.b64encode(data).decode(), 64))
    text = f"-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n"
    return Authority(normal.certificate, normal.key, text, hashlib.sha256(data).hexdigest())


@functools.cache
def leaf(issuer: Authority, *names: str, expires: datetime = NOW + YEAR) -> str:
    """PEM of a certificate for these DNS names."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "leaf")])
    key = ec.generate_private_key(ec.SECP256R1())
    alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
    usage = x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH])
    builder = _builder(subject, issuer.certificate.subject, key, expires)
    builder = builder.add_extension(alternatives, False).add_extension(usage, False)
    return pem_of(builder.sign(issuer.key, hashes.SHA256()))


@functools.cache
def private_key() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    pkcs8 = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, pkcs8, serialization.NoEncryption()).decode()


def pem_of(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, expires: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(expires - 2 * YEAR)
        .not_valid_after(expires)
    )
