# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Throw-away certificates for a server on loopback and its clients."""

from __future__ import annotations

import datetime
import functools
import ipaddress
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.certificates.authority import key_usage


class Pair(NamedTuple):
    """A certificate and its key, PEM text."""

    certificate: str
    key: str


@functools.cache
def ca(name: str = "test CA", number: int = 1, *, has_ids: bool = True) -> Pair:
    """Return a CA, or the CA with this number of that name. has_ids: True for key identifiers."""
    return _issue(name, None, (), has_ids=has_ids)


@functools.cache
def leaf(name: str, issuer: Pair, *dns_names: str, has_ids: bool = True) -> Pair:
    """Return a certificate for 127.0.0.1 and ``dns_names``."""
    return _issue(name, issuer, dns_names, has_ids=has_ids)


def encrypted(key: str) -> str:
    loaded = serialization.load_pem_private_key(key.encode(), None)
    return loaded.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    ).decode()


def _issue(common_name: str, issuer: Pair | None, dns_names: tuple[str, ...], *, has_ids: bool) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    if has_ids:
        own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        builder = builder.add_extension(own, critical=False)
    if issuer is None:
        builder = builder.issuer_name(name).add_extension(key_usage("key_cert_sign"), critical=True)
        certificate = builder.sign(key, hashes.SHA256())
    else:
        names: list[x509.GeneralName] = [x509.DNSName(dns) for dns in dns_names]
        names.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
        parent = x509.load_pem_x509_certificate(issuer.certificate.encode())
        parent_key = serialization.load_pem_private_key(issuer.key.encode(), None)
        assert isinstance(parent_key, ec.EllipticCurvePrivateKey)
        builder = builder.issuer_name(parent.subject).add_extension(
            x509.SubjectAlternativeName(names), critical=False
        )
        if has_ids:
            identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(parent_key.public_key())
            builder = builder.add_extension(identifier, critical=False)
        certificate = builder.sign(parent_key, hashes.SHA256())
    return Pair(
        certificate.public_bytes(serialization.Encoding.PEM).decode(),
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode(),
    )
