# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The canonical form of a certificate request (PKCS#10, RFC 2986), as allow-lists.

The API server and the built-in signers read a request with Go's crypto/x509. Other signers may use any reader. A request
can be approved only if all of them must read the same content in it. So it has to be strict DER, without parts that one
reader copies into the certificate and another one skips. The reader refuses everything that is not in a table here.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from .certificate_facts import EXTENDED_USAGES, KEY_USAGES, SUBJECT_TYPES, name_text, parse_address
from .encoding import der, strict_der
from .encoding.go_parser import ADDRESS, DNS_NAME, EMAIL, URI
from .encoding.strict_der import DerElement
from .errors import RequestNotCanonical

EXTENSION_REQUEST = "1.2.840.113549.1.9.14"
# Go, and with it every signer of Kubernetes, reads the extensions of a request only from extensionRequest. These other
# attributes do not affect the certificate.
IGNORED_ATTRIBUTES = {
    "1.2.840.113549.1.9.2": "unstructuredName",
    "1.2.840.113549.1.9.7": "challengePassword",
    "1.3.6.1.4.1.311.13.2.2": "Microsoft's cryptographic service provider",
    "1.3.6.1.4.1.311.13.2.3": "Microsoft's version of the operating system",
    "1.3.6.1.4.1.311.21.20": "Microsoft's client information",
}
#: Each name of a request may cost a request to the API server.
MOST_NAMES = 1000
ACCEPTED_TYPES = ("CN", "C", "L", "ST", "O", "OU")
# Go's encoding/asn1 returns no text for other types, and skips such a part of the subject.
STRING_TYPES = {
    der.UTF8_STRING: "utf-8",
    der.PRINTABLE_STRING: "ascii",
    der.IA5_STRING: "ascii",
}
# GeneralName, RFC 5280 section 4.2.1.6. Go skips all of these.
OTHER_NAMES = {
    0xA0: "otherName",
    0xA3: "x400Address",
    0xA4: "directoryName",
    0xA5: "ediPartyName",
    0x88: "registeredID",
}
# The complete AlgorithmIdentifier. Go knows all of them.
SIGNATURE_ALGORITHMS = frozenset(
    map(
        bytes.fromhex,
        (
            "300d06092a864886f70d0101050500",  # RSA, PKCS #1 v1.5, SHA-1
            "300d06092a864886f70d01010b0500",  # SHA-256
            "300d06092a864886f70d01010c0500",  # SHA-384
            "300d06092a864886f70d01010d0500",  # SHA-512
            "300906072a8648ce3d0401",  # ECDSA, SHA-1
            "300a06082a8648ce3d040302",  # SHA-256
            "300a06082a8648ce3d040303",  # SHA-384
            "300a06082a8648ce3d040304",  # SHA-512
            "300506032b6570",  # Ed25519
        ),
    )
)
# The complete AlgorithmIdentifier -> octets of the key itself, 0 if they depend on the key. A point is not compressed.
KEY_ALGORITHMS = {
    bytes.fromhex(text): octets
    for text, octets in (
        ("300d06092a864886f70d0101010500", 0),  # RSA
        ("301006072a8648ce3d020106052b81040021", 57),  # ECDSA, P-224
        ("301306072a8648ce3d020106082a8648ce3d030107", 65),  # P-256
        ("301006072a8648ce3d020106052b81040022", 97),  # P-384
        ("301006072a8648ce3d020106052b81040023", 133),  # P-521
        ("300506032b6570", 32),  # Ed25519
    )
}

# A host name, perhaps with a wildcard. Go takes any ASCII text for a DNS name, but some signers hand the names on in one text,
# between commas or as the lines of a configuration.
_HOST_NAME = re.compile(rb"[A-Za-z0-9._*-]+")
_VISIBLE = re.compile(rb"[!-~]+")
# Go parses a URI and writes it again, which changes all but one spelling.
_PLAIN_URI = re.compile(
    rb"[a-z][a-z0-9]*://[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*"
)
_NAME_PATTERNS = {DNS_NAME: _HOST_NAME, EMAIL: _VISIBLE, URI: _PLAIN_URI}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


@dataclass
class RequestContents:
    """The content of a canonical request."""

    #: The subject: for each RDN a list of types and values, with the types of SUBJECT_TYPES.
    relative_names: list[list[tuple[str, str]]]
    #: SubjectPublicKeyInfo, DER.
    public_key: bytes
    dns_names: list[str] = field(default_factory=list)
    ip_addresses: list[str] = field(default_factory=list)
    emails: list[str] = field(default_factory=list)
    uris: list[str] = field(default_factory=list)
    #: Key usages and extended usages in the words of the Kubernetes CSR API, or a dotted OID.
    usages: list[str] = field(default_factory=list)
    #: True if basicConstraints has cA.
    wants_ca: bool = False

    def values(self, name: str) -> tuple[str, ...]:
        """Return the values of one type of the subject, such as "CN"."""
        return tuple(value for parts in self.relative_names for kind, value in parts if kind == name)

    def subject(self) -> str:
        """Return the subject as RFC 4514 text."""
        return name_text(self.relative_names)


def read(data: bytes) -> RequestContents:
    """Read a DER request. Raises RequestNotCanonical, whose cause names the part that is not canonical."""
    info, algorithm, signature = _parts(strict_der.parse(data), 3, "the request")
    version, subject, key, attributes = _parts(info, 4, "its certificationRequestInfo")
    if (version.tag, version.content) != (der.INTEGER, b"\0"):
        raise RequestNotCanonical("its version is not 0")
    _check_algorithm(algorithm, "signature algorithm", SIGNATURE_ALGORITHMS)
    if signature.tag != der.BIT_STRING or signature.content[:1] != b"\0":
        raise RequestNotCanonical("its signature is not a string of octets")
    kind, bits = _parts(key, 2, "its public key")
    _check_algorithm(kind, "kind of key", KEY_ALGORITHMS)
    octets = KEY_ALGORITHMS[kind.raw] or len(bits.content) - 1
    if (bits.tag, bits.content[:1], len(bits.content)) != (der.BIT_STRING, b"\0", octets + 1):
        raise RequestNotCanonical("its public key is not in its usual encoding")
    contents = RequestContents(_relative_names(subject), key.raw)
    if len(contents.values("CN")) > 1:
        raise RequestNotCanonical("its subject has more than one common name")
    _read_attributes(attributes, contents)
    return contents


def _parts(element: DerElement, count: int, what: str) -> tuple[DerElement, ...]:
    """Return the members of a SEQUENCE that has exactly this number of them."""
    if element.tag != der.SEQUENCE or len(element.children) != count:
        raise RequestNotCanonical(f"{what} is not a SEQUENCE of {count} values")
    return element.children


def _members(element: DerElement, tag: int, what: str) -> tuple[DerElement, ...]:
    """Return the members of a SEQUENCE OF or SET OF, which must not be empty."""
    if element.tag != tag or not element.children:
        raise RequestNotCanonical(f"{what} is not a list with at least one entry")
    return element.children


def _oid(element: DerElement, what: str) -> str:
    return element.reader.oid(f"{what} does not begin with an object identifier")


def _check_algorithm(element: DerElement, what: str, known: Iterable[bytes]) -> None:
    if element.raw in known:
        return
    first = element.children[0] if element.children else element
    raise RequestNotCanonical(
        f"its {what} {_oid(first, f'its {what}')} is not accepted, or has other parameters than usual"
    )


def _relative_names(subject: DerElement) -> list[list[tuple[str, str]]]:
    if subject.tag != der.SEQUENCE:
        raise RequestNotCanonical("its subject is not a SEQUENCE")
    return [
        [_subject_part(part) for part in _members(parts, der.SET, "a part of its subject")]
        for parts in subject.children
    ]


def _subject_part(part: DerElement) -> tuple[str, str]:
    kind, value = _parts(part, 2, "a part of its subject")
    oid = _oid(kind, "a part of its subject")
    name = SUBJECT_TYPES.get(oid, "")
    if name not in ACCEPTED_TYPES:
        raise RequestNotCanonical(
            f"its subject has a part of the type {oid}; only {', '.join(ACCEPTED_TYPES)} are accepted"
        )
    if value.tag not in STRING_TYPES:
        raise RequestNotCanonical(
            f"{name} in its subject is not a UTF8String, PrintableString or IA5String (tag 0x{value.tag:02x})"
        )
    text = value.content.decode(STRING_TYPES[value.tag])
    if not text or _CONTROL.search(text):
        raise RequestNotCanonical(f"{name} in its subject is empty or has control characters")
    return name, text


def _read_attributes(attributes: DerElement, contents: RequestContents) -> None:
    if attributes.tag != 0xA0 or not strict_der.is_sorted(attributes.children):
        raise RequestNotCanonical("its attributes are not a SET OF with the tag 0xa0")
    seen = set()
    for attribute in attributes.children:
        kind, values = _parts(attribute, 2, "an attribute")
        oid = _oid(kind, "an attribute")
        if oid in seen:
            raise RequestNotCanonical(f"it has the attribute {oid} more than once")
        seen.add(oid)
        members = _members(values, der.SET, f"the attribute {oid}")
        if oid == EXTENSION_REQUEST and len(members) == 1:
            _read_extensions(members[0], contents)
        elif oid == EXTENSION_REQUEST:
            raise RequestNotCanonical(f"its extensionRequest has {len(members)} values instead of one")
        elif oid not in IGNORED_ATTRIBUTES:
            raise RequestNotCanonical(f"it has the attribute {oid}, which is not accepted")


def _read_extensions(extensions: DerElement, contents: RequestContents) -> None:
    seen = set()
    for extension in _members(extensions, der.SEQUENCE, "its extensionRequest"):
        critical = extension.children[1:-1]
        if [entry.raw for entry in critical] not in ([], [b"\x01\x01\xff"]):
            raise RequestNotCanonical("the flag critical of an extension is not encoded as DER requires")
        kind, *_critical, value = _parts(extension, 2 + len(critical), "an extension")
        oid = _oid(kind, "an extension")
        if oid in seen:
            raise RequestNotCanonical(f"it has the extension {oid} more than once")
        seen.add(oid)
        if oid not in _EXTENSIONS:
            raise RequestNotCanonical(f"it has the extension {oid}, which is not accepted")
        if value.tag != der.OCTET_STRING:
            raise RequestNotCanonical(f"the extension {oid} is not an OCTET STRING")
        _EXTENSIONS[oid](strict_der.parse(value.content), contents)


def _alternative_names(value: DerElement, contents: RequestContents) -> None:
    for number, name in enumerate(_members(value, der.SEQUENCE, "its subjectAltName")):
        if number == MOST_NAMES:
            raise RequestNotCanonical(f"its subjectAltName has more than {MOST_NAMES} names")
        if name.tag == ADDRESS:
            contents.ip_addresses.append(_address(name.content))
        elif name.tag in _NAME_PATTERNS:
            if not _NAME_PATTERNS[name.tag].fullmatch(name.content):
                raise RequestNotCanonical("a name in its subjectAltName has characters that are not accepted")
            names = {DNS_NAME: contents.dns_names, EMAIL: contents.emails, URI: contents.uris}[name.tag]
            names.append(name.content.decode("ascii"))
        else:
            kind = OTHER_NAMES.get(name.tag, f"tag 0x{name.tag:02x}")
            raise RequestNotCanonical(
                f"its subjectAltName has a name of the type {kind}, which is not accepted"
            )


def _address(packed: bytes) -> str:
    if len(packed) not in (4, 16):
        raise RequestNotCanonical(f"an IP address in its subjectAltName has {len(packed)} octets")
    # Go reads ::ffff:a.b.c.d as a.b.c.d, and writes that into the certificate.
    return str(parse_address(str(ipaddress.ip_address(packed))))


def _basic_constraints(value: DerElement, contents: RequestContents) -> None:
    tags = [entry.tag for entry in value.children]
    if value.tag != der.SEQUENCE or tags not in (
        [],
        [der.BOOLEAN],
        [der.BOOLEAN, der.INTEGER],
    ):
        raise RequestNotCanonical("its basicConstraints are not encoded as DER requires")
    if tags and value.children[0].content != b"\xff":
        raise RequestNotCanonical("its basicConstraints spell out their default")
    contents.wants_ca = bool(tags)


def _key_usage(value: DerElement, contents: RequestContents) -> None:
    used = value.reader.bits("its keyUsage is not encoded as DER requires")
    # A list of named bits ends with the last one that is set (X.690 section 11.2.2).
    if not used.endswith("1") or len(used) > len(KEY_USAGES):
        raise RequestNotCanonical("its keyUsage is not encoded as DER requires")
    contents.usages += [word for word, bit in zip(KEY_USAGES.values(), used) if bit == "1"]


def _extended_usages(value: DerElement, contents: RequestContents) -> None:
    for entry in _members(value, der.SEQUENCE, "its extendedKeyUsage"):
        oid = _oid(entry, "its extendedKeyUsage")
        contents.usages.append(EXTENDED_USAGES.get(oid, oid))


def _subject_key_identifier(value: DerElement, _contents: RequestContents) -> None:
    if value.tag != der.OCTET_STRING:
        raise RequestNotCanonical("its subjectKeyIdentifier is not an OCTET STRING")


# The extensions that a signer may copy into the certificate. keytool adds a subjectKeyIdentifier.
_EXTENSIONS: dict[str, Callable[[DerElement, RequestContents], None]] = {
    "2.5.29.14": _subject_key_identifier,
    "2.5.29.15": _key_usage,
    "2.5.29.17": _alternative_names,
    "2.5.29.19": _basic_constraints,
    "2.5.29.37": _extended_usages,
}
