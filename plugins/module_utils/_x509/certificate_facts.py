# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Read, write and describe certificates, and the names of requests and certificates."""

from __future__ import annotations

import base64
import contextlib
import functools
import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from .._base.times import format_time
from . import pem_text, private_keys
from .errors import CertificateError, convert_errors

if TYPE_CHECKING:
    from cryptography.x509 import Certificate, Extensions, GeneralName, Name, ObjectIdentifier

try:
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.x509.oid import NameOID
except ImportError:
    pass


@dataclass(frozen=True)
class SubjectFacts:
    """The names of a request or certificate as text."""

    #: RFC 4514 text.
    subject: str
    #: The last common name, as in Go, or "".
    common_name: str
    organizations: tuple[str, ...]
    dns_names: tuple[str, ...]
    ip_addresses: tuple[str, ...]
    emails: tuple[str, ...]
    uris: tuple[str, ...]


def describe_names(subject: Name, extensions: Extensions) -> SubjectFacts:
    """Return the names. Raises the errors of cryptography for malformed names, which the caller converts."""
    names = alternative_names(extensions)
    return SubjectFacts(
        subject=subject.rfc4514_string(),
        common_name=common_name(subject),
        organizations=attributes(subject, NameOID.ORGANIZATION_NAME),
        dns_names=tuple(name.value for name in names if isinstance(name, x509.DNSName)),
        ip_addresses=tuple(str(name.value) for name in names if isinstance(name, x509.IPAddress)),
        emails=tuple(name.value for name in names if isinstance(name, x509.RFC822Name)),
        uris=tuple(name.value for name in names if isinstance(name, x509.UniformResourceIdentifier)),
    )


def alternative_names(extensions: Extensions) -> tuple[GeneralName, ...]:
    return tuple(
        name
        for extension in extensions
        if isinstance(extension.value, x509.SubjectAlternativeName)
        for name in extension.value
    )


def common_name(subject: Name) -> str:
    return (attributes(subject, NameOID.COMMON_NAME) or ("",))[-1]


def attributes(subject: Name, oid: ObjectIdentifier) -> tuple[str, ...]:
    return tuple(str(attribute.value) for attribute in subject.get_attributes_for_oid(oid))


def subject_name(common_name: str, organizations: Iterable[str]) -> Name:
    """Return a subject with the organizations before the common name, as the clients of Kubernetes send it.

    Raises CertificateError for a part that is empty or longer than 64 bytes.
    """
    parts = [
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, _part("organization", text)) for text in organizations
    ]
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, _part("common name", common_name))])


def _part(what: str, text: str) -> str:
    """Return the part if its length is valid (RFC 5280 appendix A.1). cryptography 42 does not check that."""
    size = len(text.encode())
    if not 1 <= size <= 64:
        raise CertificateError(f"the {what} {text!r} has {size} bytes, a certificate takes 1 to 64")
    return text


def general_names(dns_names: Iterable[str], ip_addresses: Iterable[str]) -> list[GeneralName]:
    """Return the subjectAltName entries. Raises ValueError for a DNS name that is not ASCII and for an invalid address."""
    return [
        *(x509.DNSName(name) for name in dns_names),
        *(x509.IPAddress(ipaddress.ip_address(address)) for address in ip_addresses),
    ]


LABEL = "CERTIFICATE"

# Attribute of x509.KeyUsage -> word. Source: kubernetes/api certificates/v1/types.go, KeyUsage. Its "signing" and
# "s/mime" are second words for "digital signature" and "email protection". A certificate is never described with them.
KEY_USAGES: dict[str, str] = {
    "digital_signature": "digital signature",
    "content_commitment": "content commitment",
    "key_encipherment": "key encipherment",
    "data_encipherment": "data encipherment",
    "key_agreement": "key agreement",
    "key_cert_sign": "cert sign",
    "crl_sign": "crl sign",
}

# cryptography can read them only if key_agreement is set (RFC 5280 section 4.2.1.3). Same source.
KEY_AGREEMENT_USAGES: dict[str, str] = {
    "encipher_only": "encipher only",
    "decipher_only": "decipher only",
}

# Dotted OID -> word. Source of the words: as above. Source of the OIDs: Go's crypto/x509, extKeyUsageOIDs.
EXTENDED_USAGES: dict[str, str] = {
    "2.5.29.37.0": "any",
    "1.3.6.1.5.5.7.3.1": "server auth",
    "1.3.6.1.5.5.7.3.2": "client auth",
    "1.3.6.1.5.5.7.3.3": "code signing",
    "1.3.6.1.5.5.7.3.4": "email protection",
    "1.3.6.1.5.5.7.3.5": "ipsec end system",
    "1.3.6.1.5.5.7.3.6": "ipsec tunnel",
    "1.3.6.1.5.5.7.3.7": "ipsec user",
    "1.3.6.1.5.5.7.3.8": "timestamping",
    "1.3.6.1.5.5.7.3.9": "ocsp signing",
    "1.3.6.1.4.1.311.10.3.3": "microsoft sgc",
    "2.16.840.1.113730.4.1": "netscape sgc",
}


@dataclass(frozen=True)
class CertificateFacts(SubjectFacts):
    """The content of a certificate."""

    #: RFC 4514 text.
    issuer: str
    #: UTC.
    not_before: datetime
    #: UTC.
    not_after: datetime
    #: Lowercase hex as openssl prints it, without colons.
    serial: str
    #: SHA-256 of the certificate, lowercase hex.
    fingerprint: str
    #: SHA-256 of the SubjectPublicKeyInfo, lowercase hex.
    public_key_sha256: str
    is_ca: bool
    #: Key usages, then extended usages, in the words of the Kubernetes CSR API. An extended usage without a word is a dotted OID.
    usages: tuple[str, ...]
    #: True if issuer and subject are the same name.
    is_self_issued: bool

    def as_result(self) -> dict[str, Any]:
        """Return the facts as modules return a certificate: plain values, times in RFC 3339."""
        return {
            "subject": self.subject,
            "names": [*self.dns_names, *self.ip_addresses],
            "issuer": self.issuer,
            "not_before": format_time(self.not_before),
            "not_after": format_time(self.not_after),
            "serial": self.serial,
            "fingerprint": self.fingerprint,
            "usages": list(self.usages),
        }


def rsa_bits(certificate: Certificate) -> int | None:
    """Return the size of an RSA key in bits, None for another key and for one that cryptography cannot read."""
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return None
    return key.key_size if isinstance(key, rsa.RSAPublicKey) else None


def load(pem: str) -> tuple[Certificate, ...]:
    """Return the certificate of every CERTIFICATE block of a text, in order.

    Raises CertificateError with the number of the block that does not parse.
    """
    wanted = [block for block in pem_text.blocks(pem) if block.label == LABEL]
    certificates: list[Certificate] = []
    for number, block in enumerate(wanted, 1):
        which = "the certificate" if len(wanted) == 1 else f"certificate {number} of {len(wanted)}"
        certificates.append(load_block(block, which))
    return tuple(certificates)


def load_readable(pem: str) -> Iterator[Certificate]:
    """Yield each certificate of a bundle, without those that cannot be parsed, as Go skips them."""
    for block in pem_text.blocks(pem):
        with contextlib.suppress(CertificateError):
            certificate = load_block(block)
            describe(certificate)
            yield certificate


def load_block(block: pem_text.PemBlock, which: str = "the certificate") -> Certificate:
    """Return the certificate of a block. Raises CertificateError. which: the certificate in words, for the error."""
    with convert_errors(f"{which} cannot be read"):
        return _parse(pem_text.der(block))


# A run reads the same few certificates in its checks, proofs and results.
@functools.lru_cache(maxsize=64)
def _parse(der: bytes) -> Certificate:
    return x509.load_der_x509_certificate(der)


def load_leaf_and_chain(pem: str) -> tuple[Certificate, tuple[Certificate, ...]]:
    """Return the first certificate of a text and the certificates after it. Raises CertificateError, also without one."""
    certificates = load(pem)
    if not certificates:
        raise CertificateError(
            "no certificate found in the PEM text",
            code="bundle-broken",
            remedy="Write at least one certificate in PEM form",
        )
    return certificates[0], certificates[1:]


@functools.lru_cache(maxsize=64)
def describe(certificate: Certificate) -> CertificateFacts:
    """Return the content of a certificate. Raises CertificateError if a part of it is malformed."""
    with convert_errors("the certificate cannot be read"):
        extensions = certificate.extensions
        return CertificateFacts(
            **vars(describe_names(certificate.subject, extensions)),
            issuer=certificate.issuer.rfc4514_string(),
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
            serial=_hex(certificate.serial_number),
            fingerprint=fingerprint(certificate),
            public_key_sha256=private_keys.public_key_sha256(certificate.public_key()),
            is_ca=any(
                isinstance(entry.value, x509.BasicConstraints) and entry.value.ca for entry in extensions
            ),
            usages=_usages(extensions),
            is_self_issued=certificate.issuer == certificate.subject,
        )


def describe_pem(pem: str) -> CertificateFacts:
    """Return the content of the first certificate of a text. Raises CertificateError, also without one."""
    return describe(load_leaf_and_chain(pem)[0])


def decoded_certificate(data: object) -> str:
    """Return the PEM text of a base64 field, "" if it has no certificate that can be read."""
    try:
        pem = base64.b64decode(str(data or "")).decode("ascii", "replace")
        describe_pem(pem)
    except (CertificateError, ValueError):
        return ""
    return pem


def fingerprint(certificate: Certificate) -> str:
    """Return the SHA-256 of the certificate (DER) in lowercase hex."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def to_pem(certificate: Certificate) -> str:
    """Return the certificate as one PEM block."""
    return certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")


def extended_usages(oids: Iterable[ObjectIdentifier]) -> list[str]:
    """Return the word of each extended usage, or its dotted OID if Kubernetes has no word for it."""
    return [EXTENDED_USAGES.get(oid.dotted_string, oid.dotted_string) for oid in oids]


def _hex(number: int) -> str:
    digits = f"{abs(number):x}"
    return "-" * (number < 0) + "0" * (len(digits) % 2) + digits


def _usages(extensions: Extensions) -> tuple[str, ...]:
    words: list[str] = []
    for extension in extensions:
        value = extension.value
        if isinstance(value, x509.KeyUsage):
            table = {**KEY_USAGES, **KEY_AGREEMENT_USAGES} if value.key_agreement else KEY_USAGES
            words[:0] = [word for attribute, word in table.items() if getattr(value, attribute)]
        elif isinstance(value, x509.ExtendedKeyUsage):
            words += extended_usages(value)
    return tuple(words)
