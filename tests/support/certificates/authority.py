# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Make certificates for tests in memory, valid ones and ones with the fault that a test names."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ansible_collections.certflow.kubernetes.plugins.module_utils._x509 import certificate_facts
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509.certificate_facts import (
    CertificateFacts,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.x509.oid import NameOID, ObjectIdentifier

from tests.support.certificates import der

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

NOW = datetime.datetime(2026, 6, 15, 12, 0, 0, tzinfo=datetime.timezone.utc)
DAY = datetime.timedelta(days=1)

SERVER_AUTH = "1.3.6.1.5.5.7.3.1"
CLIENT_AUTH = "1.3.6.1.5.5.7.3.2"
ANY_USAGE = "2.5.29.37.0"

_SHA1_WITH_RSA = "1.2.840.113549.1.1.5"


@dataclass(frozen=True)
class Issued:
    """A certificate and its key. The CA sets the issuer and the serial number."""

    certificate: x509.Certificate
    key: Any

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def facts(self) -> CertificateFacts:
        return certificate_facts.describe_pem(self.pem)

    @property
    def fingerprint(self) -> str:
        return self.certificate.fingerprint(hashes.SHA256()).hex()


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def name(text: str | x509.Name) -> x509.Name:
    """Return a name whose common name is the text; an empty text gives the empty name."""
    if isinstance(text, x509.Name):
        return text
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)] if text else [])


def dns(*names: str) -> list[x509.GeneralName]:
    return [x509.DNSName(entry) for entry in names]


def addresses(*texts: str) -> list[x509.GeneralName]:
    return [x509.IPAddress(ipaddress.ip_address(text)) for text in texts]


def networks(*texts: str) -> list[x509.GeneralName]:
    return [x509.IPAddress(ipaddress.ip_network(text)) for text in texts]


def issue(
    subject: str | x509.Name,
    issuer: Issued | None = None,
    *,
    key: Any = None,
    names: Iterable[x509.GeneralName] = (),
    usages: Sequence[str] = (),
    not_before: datetime.datetime = NOW - DAY,
    not_after: datetime.datetime = NOW + 365 * DAY,
    extensions: Iterable[tuple[x509.ExtensionType, bool]] = (),
    issuer_name: x509.Name | None = None,
    digest: hashes.SHA224 | hashes.SHA256 = hashes.SHA256(),  # noqa: B008
    pss: bool = False,
    serial: int | None = None,
) -> Issued:
    """Make a certificate, self-signed without an issuer. usages: dotted OIDs; extensions: (value, critical)."""
    key = key or new_key()
    signer = issuer.key if issuer else key
    builder = x509.CertificateBuilder(
        issuer_name=issuer_name or (issuer.certificate.subject if issuer else name(subject)),
        subject_name=name(subject),
        public_key=key.public_key(),
        serial_number=serial or x509.random_serial_number(),
        not_valid_before=not_before,
        not_valid_after=not_after,
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if usages:
        builder = builder.add_extension(x509.ExtendedKeyUsage(map(ObjectIdentifier, usages)), critical=False)
    for value, critical in extensions:
        builder = builder.add_extension(value, critical)
    algorithm = None if isinstance(signer, (ed25519.Ed25519PrivateKey, ed448.Ed448PrivateKey)) else digest
    scheme = padding.PSS(padding.MGF1(algorithm), padding.PSS.DIGEST_LENGTH) if pss and algorithm else None
    return Issued(builder.sign(signer, algorithm, rsa_padding=scheme), key)


def authority(
    subject: str | x509.Name,
    issuer: Issued | None = None,
    *,
    path_length: int | None = None,
    extensions: Iterable[tuple[x509.ExtensionType, bool]] = (),
    **options: Any,
) -> Issued:
    """Make a CA certificate of the plain kind that clusters have: basicConstraints and nothing else."""
    basic = (x509.BasicConstraints(ca=True, path_length=path_length), True)
    return issue(subject, issuer, extensions=[basic, *extensions], **options)


def key_usage(*bits: str) -> x509.KeyUsage:
    every = [
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
    ]
    every += ["key_cert_sign", "crl_sign", "encipher_only", "decipher_only"]
    return x509.KeyUsage(**{bit: bit in bits for bit in every})


def with_octets(made: Issued, issuer_key: Any, **fields: bytes) -> str:
    """Replace fields of a certificate, and sign it with SHA-256 again. Return PEM text, which no library may read."""

    def sign(body: bytes) -> bytes:
        if isinstance(issuer_key, rsa.RSAPrivateKey):
            return issuer_key.sign(body, padding.PKCS1v15(), hashes.SHA256())
        return bytes(issuer_key.sign(body, ec.ECDSA(hashes.SHA256())))

    data = der.signed_again(made.certificate.public_bytes(serialization.Encoding.DER), sign, **fields)
    return der.pem(data, "CERTIFICATE")


def with_sha1(issued: Issued, issuer_key: rsa.RSAPrivateKey) -> Issued:
    """Sign a certificate of an RSA issuer again, with SHA-1, which cryptography's builder refuses to do."""

    def sign(body: bytes) -> bytes:
        return issuer_key.sign(body, padding.PKCS1v15(), hashes.SHA1())

    return _signed_again(issued, sign, algorithm=der.sequence(der.oid(_SHA1_WITH_RSA), der.NULL))


def as_version_1(issued: Issued, issuer_key: ec.EllipticCurvePrivateKey) -> Issued:
    """Make a certificate without extensions one of version 1, the default of old openssl."""
    return _signed_again(issued, _ecdsa(issuer_key), version=b"")


def with_serial(issued: Issued, first_byte: int, issuer_key: ec.EllipticCurvePrivateKey) -> Issued:
    """Change the first byte of a serial number: above 127 it is negative, which the builder refuses."""
    number = issued.certificate.serial_number
    old = number.to_bytes((number.bit_length() + 8) // 8, "big")
    return _signed_again(issued, _ecdsa(issuer_key), serial=der.tlv(0x02, bytes([first_byte]) + old[1:]))


def rewritten(issued: Issued, issuer_key: ec.EllipticCurvePrivateKey, *changes: tuple[bytes, bytes]) -> bytes:
    """Return the certificate (DER) with other octets in what is signed, in values whose lengths stay the same. It is signed again."""
    to_sign, algorithm, _signature = der.members(issued.certificate.public_bytes(serialization.Encoding.DER))
    for old, new in changes:
        assert old in to_sign
        assert len(old) == len(new)
        to_sign = to_sign.replace(old, new, 1)
    return der.sequence(to_sign, algorithm, der.tlv(0x03, b"\0", _ecdsa(issuer_key)(to_sign)))


def _ecdsa(key: ec.EllipticCurvePrivateKey) -> Callable[[bytes], bytes]:
    return lambda body: key.sign(body, ec.ECDSA(hashes.SHA256()))


def _signed_again(issued: Issued, sign: Callable[[bytes], bytes], **fields: bytes) -> Issued:
    old = issued.certificate.public_bytes(serialization.Encoding.DER)
    return Issued(x509.load_der_x509_certificate(der.signed_again(old, sign, **fields)), issued.key)
