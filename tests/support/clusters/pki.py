# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The certificates of a test cluster, laid out as kubeadm does."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
YEAR = datetime.timedelta(days=365)
#: The lifetime of the certificates of a control plane and of its users, because its clock may jump by years.
LONG = 9 * YEAR
#: The files with the CAs of servers and of clients that the cluster trusts. Only `ca.crt` signs.
BUNDLE, CLIENT_BUNDLE = "ca-bundle.crt", "client-ca-bundle.crt"
_BACKDATE = datetime.timedelta(minutes=5)


@dataclass(frozen=True)
class KeyPair:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: PrivateKey

    @property
    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return private_pem(self.key)

    def write(self, directory: Path, name: str) -> None:
        """Write NAME.crt and NAME.key."""
        (directory / f"{name}.crt").write_bytes(self.certificate_pem)
        write_private(directory / f"{name}.key", self.key_pem)

    @classmethod
    def read(cls, directory: Path, name: str) -> KeyPair:
        key = serialization.load_pem_private_key((directory / f"{name}.key").read_bytes(), None)
        assert isinstance(key, (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey))
        return cls(x509.load_pem_x509_certificate((directory / f"{name}.crt").read_bytes()), key)


def make_ca(
    name: str,
    *,
    lifetime: datetime.timedelta = 10 * YEAR,
    issuer: KeyPair | None = None,
    key: PrivateKey | None = None,
    key_identifiers: bool = True,
    now: datetime.datetime | None = None,
) -> KeyPair:
    """Return a CA with an RSA 2048 key, as kubeadm and EKS use.

    It is self-signed, or an intermediate of `issuer`. With `key`, it is another certificate of this key. now: when it is made.
    """
    key = key or rsa.generate_private_key(65537, 2048)
    subject = _name(name)
    builder = _builder(subject, issuer.certificate.subject if issuer else subject, key, lifetime, now)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    builder = builder.add_extension(
        key_usage("digital_signature", "key_encipherment", "key_cert_sign"), critical=True
    )
    if key_identifiers:
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        builder = builder.add_extension(identifier, critical=False)
    if issuer:
        builder = with_authority(builder, issuer)
    return KeyPair(builder.sign(issuer.key if issuer else key, hashes.SHA256()), key)


def issue(
    ca: KeyPair,
    user: str,
    groups: Sequence[str] = (),
    *,
    names: Sequence[str] = (),
    lifetime: datetime.timedelta = YEAR,
    now: datetime.datetime | None = None,
    is_client: bool = True,
) -> KeyPair:
    """Return a client certificate. With DNS names and addresses in `names` it is also a serving certificate.

    A negative `lifetime` makes a certificate that expired that long ago. now: when it is made.
    is_client: False for a serving certificate only.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(_name(user, groups), ca.certificate.subject, key, lifetime, now)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(key_usage("digital_signature"), critical=True)
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH] * is_client + [ExtendedKeyUsageOID.SERVER_AUTH] * bool(names)
    builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    builder = with_authority(builder, ca)
    if names:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([_san(name) for name in names]), critical=False
        )
    return KeyPair(builder.sign(ca.key, hashes.SHA256()), key)


def make_service_account_key(directory: Path) -> None:
    """Write sa.key, which signs tokens of ServiceAccounts, and sa.pub, which verifies them."""
    key = rsa.generate_private_key(65537, 2048)
    write_private(directory / "sa.key", private_pem(key))
    (directory / "sa.pub").write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )


def key_usage(*usages: str) -> x509.KeyUsage:
    """Return the KeyUsage extension with these bits, named as in cryptography."""
    bits = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{bit: bit in usages for bit in bits})


def with_authority(builder: x509.CertificateBuilder, ca: KeyPair) -> x509.CertificateBuilder:
    """Add the link to the CA's key, if the CA has a key identifier. Python 3.13 and newer refuse a chain without it."""
    try:
        ski = ca.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return builder
    link = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ski)
    return builder.add_extension(link, critical=False)


def private_pem(key: PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner may read."""
    path.touch(mode=0o600)
    path.write_bytes(content)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: PrivateKey,
    lifetime: datetime.timedelta,
    now: datetime.datetime | None,
) -> x509.CertificateBuilder:
    now = now or datetime.datetime.now(datetime.timezone.utc)
    not_after = now + lifetime
    not_before = min(now, not_after) - _BACKDATE
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
    )


def _name(user: str, groups: Sequence[str] = ()) -> x509.Name:
    """Return a subject for Kubernetes, which reads the user from CN and the groups from O."""
    return x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
        + [x509.NameAttribute(NameOID.COMMON_NAME, user)]
    )


def _san(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
