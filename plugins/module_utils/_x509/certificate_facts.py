# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Read and describe certificates as Go's crypto/x509 does, and write the names of requests and certificates."""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from .._base.times import format_time
from .encoding import der, go_parser, pem_text
from .errors import CertificateError

if TYPE_CHECKING:
    from cryptography.x509 import GeneralName, Name

with contextlib.suppress(ImportError):
    from cryptography import x509
    from cryptography.x509.oid import NameOID

LABEL = "CERTIFICATE"
#: The types of subjects with a short name (RFC 4514 section 3).
SUBJECT_TYPES = {
    "2.5.4.3": "CN",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.9": "STREET",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "0.9.2342.19200300.100.1.1": "UID",
    "0.9.2342.19200300.100.1.25": "DC",
}
# Attribute of x509.KeyUsage -> word, by bit (RFC 5280 section 4.2.1.3). Source: kubernetes/api certificates/v1/types.go, KeyUsage. Its
# "signing" and "s/mime" are second words for "digital signature" and "email protection". A certificate is never described with them.
KEY_USAGES: dict[str, str] = {
    "digital_signature": "digital signature",
    "content_commitment": "content commitment",
    "key_encipherment": "key encipherment",
    "data_encipherment": "data encipherment",
    "key_agreement": "key agreement",
    "key_cert_sign": "cert sign",
    "crl_sign": "crl sign",
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
    #: 1, 2 or 3.
    version: int
    der: bytes = field(repr=False)
    #: The part that is signed.
    body: bytes = field(repr=False)
    #: The content of the AlgorithmIdentifier.
    signature_algorithm: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    #: The names as they are encoded. Go compares them.
    encoded_subject: bytes = field(repr=False)
    encoded_issuer: bytes = field(repr=False)
    #: SubjectPublicKeyInfo.
    public_key: bytes = field(repr=False)
    #: Dotted OID.
    key_algorithm: str
    #: RSA: modulus and exponent. ECDSA: the dotted OID of the curve and the point. Ed25519: the bytes. () for another key.
    key: tuple[Any, ...] = field(repr=False)
    has_unknown_critical: bool
    #: Dotted OID -> what Go reads of the extension. {} unless the version is 3.
    extensions: Mapping[str, Any] = field(repr=False, compare=False)

    @property
    def is_self_issued(self) -> bool:
        return self.encoded_issuer == self.encoded_subject

    @property
    def rsa_bits(self) -> int | None:
        """Return the size of an RSA key in bits, None for another key."""
        return int(self.key[0]).bit_length() if self.key_algorithm == go_parser.RSA else None

    @property
    def is_ca(self) -> bool:
        return bool(self.extensions.get(go_parser.BASIC_CONSTRAINTS, (False,))[0])

    @property
    def usages(self) -> tuple[str, ...]:
        """Return the key usages, then the extended usages, in the words of the Kubernetes CSR API."""
        bits = zip(KEY_USAGES.values(), self.extensions.get(go_parser.KEY_USAGE, ""))
        return (*(word for word, bit in bits if bit == "1"), *self.extended_usages)

    @property
    def extended_usages(self) -> tuple[str, ...]:
        """Return the extended usages in the words of the Kubernetes CSR API, or as dotted OIDs if it has no word."""
        oids = self.extensions.get(go_parser.EXTENDED_KEY_USAGE, ())
        return tuple(EXTENDED_USAGES.get(oid, oid) for oid in oids)

    @property
    def path_length(self) -> int | None:
        length: int | None = self.extensions.get(go_parser.BASIC_CONSTRAINTS, (False, None))[1]
        return length

    @property
    def alternative_names(self) -> tuple[go_parser.GeneralName, ...]:
        names: tuple[go_parser.GeneralName, ...] = self.extensions.get(go_parser.ALTERNATIVE_NAMES, ())
        return names

    @property
    def pem(self) -> str:
        """Return the certificate as one PEM block."""
        return pem_text.encode(LABEL, self.der)

    def __str__(self) -> str:
        return f"{self.subject} until {format_time(self.not_after)}, SHA-256 {self.fingerprint}"

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


def name_text(relative_names: Iterable[Sequence[tuple[str, str]]]) -> str:
    """Return a name as RFC 4514 text. relative_names: for each RDN its types, as short names or dotted OIDs, and its values."""
    texts = ["+".join(f"{kind}={_escaped(value)}" for kind, value in parts) for parts in relative_names]
    return ",".join(filter(None, reversed(texts)))


def _escaped(value: str) -> str:
    text = re.sub(r'([\\"+,;<>])', r"\\\1", value).replace("\0", r"\00")
    if text.startswith(("#", " ")):
        text = "\\" + text
    return text[:-1] + "\\ " if text.endswith(" ") else text


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
        raise CertificateError(
            f"the {what} {text!r} has {size} bytes, a certificate takes 1 to 64", remedy=f"Set another {what}"
        )
    return text


def parse_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address, None for another text and for a zone. ::ffff:0:0/96 becomes the IPv4 address."""
    if "%" in text:
        return None
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def general_names(dns_names: Iterable[str], ip_addresses: Iterable[str]) -> list[GeneralName]:
    """Return the subjectAltName entries. Raises ValueError for a DNS name that is not ASCII and for an invalid address."""
    return [
        *(x509.DNSName(name) for name in dns_names),
        *(x509.IPAddress(ipaddress.ip_address(address)) for address in ip_addresses),
    ]


def load(pem: str) -> tuple[CertificateFacts, ...]:
    """Return the certificate of every CERTIFICATE block of a text, in order.

    Raises CertificateError with the number of the block that Go does not parse.
    """
    wanted = [block for block in pem_text.blocks(pem) if block.label == LABEL]
    certificates: list[CertificateFacts] = []
    for number, block in enumerate(wanted, 1):
        try:
            certificates.append(load_block(block))
        except CertificateError as error:
            which = "the certificate" if len(wanted) == 1 else f"certificate {number} of {len(wanted)}"
            raise CertificateError(f"{which} cannot be read: {error.cause}", remedy=error.remedy) from None
    return tuple(certificates)


def load_readable(pem: str) -> Iterator[CertificateFacts]:
    """Yield each certificate of a bundle, without those that Go does not parse, which it skips (CertPool.AppendCertsFromPEM)."""
    for block in pem_text.blocks(pem):
        if block.label == LABEL:
            with contextlib.suppress(CertificateError):
                yield load_block(block)


def load_block(block: pem_text.PemBlock) -> CertificateFacts:
    """Return the certificate of a block. Raises CertificateError."""
    return read(pem_text.der(block))


def load_leaf_and_chain(pem: str) -> tuple[CertificateFacts, tuple[CertificateFacts, ...]]:
    """Return the first certificate of a text and the certificates after it. Raises CertificateError, also without one."""
    certificates = load(pem)
    if not certificates:
        raise CertificateError(
            "no certificate found in the PEM text",
            code="bundle-broken",
            remedy="Write at least one certificate in PEM form",
        )
    return certificates[0], certificates[1:]


def describe_pem(pem: str) -> CertificateFacts:
    """Return the first certificate of a text. Raises CertificateError, also without one."""
    return load_leaf_and_chain(pem)[0]


def decoded_certificate(data: object) -> str:
    """Return the PEM text of a base64 field, "" if it has no certificate that can be read."""
    try:
        pem = base64.b64decode(str(data or "")).decode("ascii", "replace")
        describe_pem(pem)
    except (CertificateError, ValueError):
        return ""
    return pem


# A run reads the same few certificates in its checks, proofs and results.
@functools.lru_cache(maxsize=512)
def read(data: bytes) -> CertificateFacts:
    """Return what Go reads of a certificate (DER). Raises CertificateError with Go's words if Go does not parse it."""
    whole = der.Reader(data, "malformed certificate")
    outer = whole.inner(der.SEQUENCE)
    if not whole.is_empty:
        raise CertificateError("trailing data")
    _tag, content, body = outer.element("malformed tbs certificate", der.SEQUENCE)
    signed = der.Reader(content, "malformed tbs certificate")
    version = go_parser.read_version(signed)
    serial = signed.integer("malformed serial number")
    if serial < 0:
        raise CertificateError("negative serial number")
    algorithm = signed.content(der.SEQUENCE, "malformed signature algorithm identifier")
    if outer.content(der.SEQUENCE, "malformed algorithm identifier") != algorithm:
        raise CertificateError("inner and outer signature algorithm identifiers don't match")
    go_parser.read_algorithm(algorithm)
    encoded_issuer, issuer = go_parser.read_name(signed)
    validity = signed.inner(der.SEQUENCE, "malformed validity")
    not_before, not_after = go_parser.read_time(validity), go_parser.read_time(validity)
    encoded_subject, subject = go_parser.read_name(signed)
    _tag, content, public_key = signed.element("malformed spki", der.SEQUENCE)
    key_algorithm, key = go_parser.read_key(der.Reader(content, "malformed spki"))
    extensions, has_unknown_critical = go_parser.read_extensions(signed, version)
    names: Sequence[go_parser.GeneralName] = extensions.get(go_parser.ALTERNATIVE_NAMES, ())
    return CertificateFacts(
        subject=_with_short_types(subject),
        common_name=(_attributes(subject, "2.5.4.3") or ("",))[-1],
        organizations=_attributes(subject, "2.5.4.10"),
        dns_names=_texts(names, go_parser.DNS_NAME),
        ip_addresses=tuple(
            str(ipaddress.ip_address(value)) for tag, value in names if tag == go_parser.ADDRESS
        ),
        emails=_texts(names, go_parser.EMAIL),
        uris=_texts(names, go_parser.URI),
        issuer=_with_short_types(issuer),
        not_before=not_before,
        not_after=not_after,
        serial=f"{serial:x}".zfill((len(f"{serial:x}") + 1) // 2 * 2),
        fingerprint=hashlib.sha256(data).hexdigest(),
        public_key_sha256=hashlib.sha256(public_key).hexdigest(),
        version=version,
        der=data,
        body=body,
        signature_algorithm=algorithm,
        signature=der.right_aligned(outer.bits("malformed signature")),
        encoded_subject=encoded_subject,
        encoded_issuer=encoded_issuer,
        public_key=public_key,
        key_algorithm=key_algorithm,
        key=key,
        has_unknown_critical=has_unknown_critical,
        extensions=extensions,
    )


def _with_short_types(relative_names: Iterable[Iterable[tuple[str, str]]]) -> str:
    return name_text(
        [(SUBJECT_TYPES.get(kind, kind), value) for kind, value in parts] for parts in relative_names
    )


def _attributes(relative_names: Iterable[Iterable[tuple[str, str]]], oid: str) -> tuple[str, ...]:
    return tuple(value for parts in relative_names for kind, value in parts if kind == oid)


def _texts(names: Iterable[go_parser.GeneralName], wanted: int) -> tuple[str, ...]:
    return tuple(value.decode("ascii") for tag, value in names if tag == wanted)
