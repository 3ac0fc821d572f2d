# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write certificates and requests of any shape, octet by octet, also those that no library makes."""

from __future__ import annotations

import functools
import ipaddress
from typing import TYPE_CHECKING, Callable

from ansible_collections.certflow.kubernetes.plugins.module_utils._x509.encoding import pem_text
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

if TYPE_CHECKING:
    from collections.abc import Iterable

LABEL = "CERTIFICATE REQUEST"
EXTENSION_REQUEST, MICROSOFT_REQUEST = "1.2.840.113549.1.9.14", "1.3.6.1.4.1.311.2.1.14"
CHALLENGE_PASSWORD, UNSTRUCTURED_NAME = "1.2.840.113549.1.9.7", "1.2.840.113549.1.9.2"
SAN, BASIC, KEY_USAGE, EXTENDED_USAGE, KEY_ID = (
    "2.5.29.17",
    "2.5.29.19",
    "2.5.29.15",
    "2.5.29.37",
    "2.5.29.14",
)
CN, C, L, ST, O, OU = "2.5.4.3", "2.5.4.6", "2.5.4.7", "2.5.4.8", "2.5.4.10", "2.5.4.11"  # noqa: E741
UTF8, NUMERIC, PRINTABLE, T61, IA5, VISIBLE, GENERAL, UNIVERSAL, BMP = (
    0x0C,
    0x12,
    0x13,
    0x14,
    0x16,
    0x1A,
    0x1B,
    0x1C,
    0x1E,
)
ENCODINGS = {UNIVERSAL: "utf-32-be", BMP: "utf-16-be", T61: "latin-1"}


NULL = b"\x05\x00"


def tlv(tag: int, *content: bytes) -> bytes:
    body = b"".join(content)
    if len(body) < 0x80:
        return bytes([tag, len(body)]) + body
    digits = len(body).to_bytes((len(body).bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(digits)]) + digits + body


def members(data: bytes) -> list[bytes]:
    """Return the members of a SEQUENCE or SET, each with its tag and length."""
    found: list[bytes] = []
    rest = data[_header(data) :]
    while rest:
        end = _header(rest) + _length(rest)
        found.append(rest[:end])
        rest = rest[end:]
    return found


def _header(data: bytes) -> int:
    """Return the number of octets of tag and length."""
    return 2 + (data[1] & 0x7F if data[1] & 0x80 else 0)


def _length(data: bytes) -> int:
    return int.from_bytes(data[2 : _header(data)], "big") if data[1] & 0x80 else data[1]


def sequence(*members: bytes) -> bytes:
    return tlv(0x30, *members)


def set_of(*members: bytes) -> bytes:
    return tlv(0x31, *sorted(members))


def octets(content: bytes) -> bytes:
    return tlv(0x04, content)


def integer(number: int) -> bytes:
    return tlv(0x02, number.to_bytes(number.bit_length() // 8 + 1, "big", signed=True))


def oid(dotted: str) -> bytes:
    first, second, *others = map(int, dotted.split("."))
    return tlv(0x06, *map(_base128, (40 * first + second, *others)))


def _base128(number: int) -> bytes:
    digits = [number & 0x7F]
    while number := number >> 7:
        digits.append(0x80 | number & 0x7F)
    return bytes(reversed(digits))


def text(value: str, tag: int = UTF8) -> bytes:
    """Return a string value. A lone surrogate is one octet outside UTF-8, or "?" in the other encodings."""
    encoding = ENCODINGS.get(tag)
    return tlv(
        tag, value.encode(encoding, "replace") if encoding else value.encode("utf-8", "surrogateescape")
    )


def part(kind: str, value: str, tag: int = UTF8) -> bytes:
    """Return one AttributeTypeAndValue of a subject."""
    return sequence(oid(kind), text(value, tag))


def subject(*parts: bytes) -> bytes:
    """Return a name with one RDN for each part."""
    return sequence(*map(set_of, parts))


def dns(name: str) -> bytes:
    return text(name, 0x82)


def email(name: str) -> bytes:
    return text(name, 0x81)


def uri(name: str) -> bytes:
    return text(name, 0x86)


def address(name: str) -> bytes:
    return tlv(0x87, ipaddress.ip_address(name).packed)


def other_name(value: str, kind: str = "1.3.6.1.4.1.311.20.2.3") -> bytes:
    return tlv(0xA0, oid(kind), tlv(0xA0, text(value)))


def directory_name(*parts: bytes) -> bytes:
    return tlv(0xA4, subject(*parts))


def extension(kind: str, value: bytes, critical: bytes = b"") -> bytes:
    return sequence(oid(kind), critical, octets(value))


def names(*entries: bytes) -> bytes:
    return extension(SAN, sequence(*entries))


def key_usage(*bits: int) -> bytes:
    """Return a KeyUsage with these bits, 0 for digitalSignature."""
    number = sum(1 << (15 - bit) for bit in bits).to_bytes(2, "big").rstrip(b"\0")
    unused = (number[-1] & -number[-1]).bit_length() - 1 if number else 0
    return extension(KEY_USAGE, tlv(0x03, bytes([unused]), number))


def extended_usage(*kinds: str) -> bytes:
    return extension(EXTENDED_USAGE, sequence(*map(oid, kinds)))


def attribute(kind: str, *values: bytes) -> bytes:
    return sequence(oid(kind), set_of(*values))


def requested(*extensions: bytes, kind: str = EXTENSION_REQUEST) -> bytes:
    return attribute(kind, sequence(*extensions))


def attributes(*entries: bytes) -> bytes:
    return tlv(0xA0, *sorted(entries))


ALGORITHMS = {
    "ed25519": "1.3.101.112",
    "rsa": "1.2.840.113549.1.1.11",
    "ec": "1.2.840.10045.4.3.2",
}


class Key:
    """A key pair that signs. kind: "ed25519", "p224", "p256", "p384", "k256", "rsa", "rsa-1024"."""

    def __init__(self, kind: str) -> None:
        made: dict[
            str, Callable[[], ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey]
        ]
        made = {
            "ed25519": ed25519.Ed25519PrivateKey.generate,
            "p224": lambda: ec.generate_private_key(ec.SECP224R1()),
            "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
            "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
            "k256": lambda: ec.generate_private_key(ec.SECP256K1()),
            "rsa": lambda: rsa.generate_private_key(65537, 2048),
            "rsa-1024": lambda: rsa.generate_private_key(65537, 1024),
        }
        self.private = made[kind]()
        family = "rsa" if kind.startswith("rsa") else kind if kind == "ed25519" else "ec"
        parameters = NULL if family == "rsa" else b""
        self.algorithm = sequence(oid(ALGORITHMS[family]), parameters)
        self.public = self.private.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def sign(self, data: bytes) -> bytes:
        if isinstance(self.private, ed25519.Ed25519PrivateKey):
            return self.private.sign(data)
        if isinstance(self.private, rsa.RSAPrivateKey):
            return self.private.sign(data, padding.PKCS1v15(), hashes.SHA256())
        return self.private.sign(data, ec.ECDSA(hashes.SHA256()))

    def compressed(self) -> bytes:
        """Return the public key of an elliptic curve with a compressed point."""
        assert isinstance(self.private, ec.EllipticCurvePrivateKey)
        point = self.private.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint
        )
        return sequence(
            sequence(oid("1.2.840.10045.2.1"), oid("1.2.840.10045.3.1.7")), tlv(0x03, b"\0", point)
        )


@functools.cache
def key(kind: str = "p256") -> Key:
    return Key(kind)


def info(
    name: bytes,
    requested_attributes: bytes,
    signer: Key,
    *,
    version: bytes = b"\x02\x01\x00",
    public: bytes = b"",
) -> bytes:
    """Return a CertificationRequestInfo."""
    return sequence(version, name, public or signer.public, requested_attributes)


def signed(to_sign: bytes, signer: Key, *, algorithm: bytes = b"") -> bytes:
    """Return a CertificationRequest."""
    return sequence(to_sign, algorithm or signer.algorithm, tlv(0x03, b"\0", signer.sign(to_sign)))


def request(
    *extensions: bytes,
    name: bytes = subject(part(CN, "hook")),
    more: Iterable[bytes] = (),
    signer: Key | None = None,
    version: bytes = b"\x02\x01\x00",
    public: bytes = b"",
) -> bytes:
    """Return a DER request with these extensions and further attributes."""
    signer = signer or key()
    all_attributes = attributes(*([requested(*extensions)] if extensions else []), *more)
    return signed(info(name, all_attributes, signer, version=version, public=public), signer)


def pem(data: bytes, label: str = LABEL) -> str:
    return pem_text.encode(label, data)


#: The fields of a certificate that is signed, in their order.
FIELDS = ("version", "serial", "algorithm", "issuer", "validity", "subject", "public", "extensions")


def signed_again(
    certificate: bytes, sign: Callable[[bytes], bytes], *, algorithm: bytes = b"", **fields: bytes
) -> bytes:
    """Return a certificate of version 3 with other octets in some of its FIELDS, b"" to leave one out, and a new signature.

    algorithm: that of the signature, by default that of the certificate. The field of this name inside may differ.
    """
    to_sign, outer, _signature = members(certificate)
    unchanged = dict(zip(FIELDS, members(to_sign)))
    if algorithm:
        unchanged["algorithm"] = outer = algorithm
    body = sequence(*{**unchanged, **fields}.values())
    return sequence(body, outer, tlv(0x03, b"\0", sign(body)))


def attacks(harmless: str, evil: str) -> dict[str, str]:
    """Return texts in which a tolerant reader reads the harmless DNS name, and Go the evil name.

    In the last text these are common names. All of them passed every comparison before the canonical form existed.
    """
    first, second = (pem(request(names(dns(name)), signer=key())) for name in (harmless, evil))
    begin = f"-----BEGIN {LABEL}-----\n"
    # A SET OF is sorted: the longer extensionRequest comes after Microsoft's.
    padded = names(dns(evil), *(dns(f"{evil}.{'x' * 40}{number}") for number in range(8)))
    two_requests = (requested(names(dns(harmless)), kind=MICROSOFT_REQUEST), requested(padded))
    return {
        "blank after the CR of the END line": first.rstrip("\n") + "\r \n" + second,
        "blank after the CR of the BEGIN line": first.replace(begin, begin.rstrip("\n") + "\r \n") + second,
        "vertical tab in the body": first.replace(begin, begin + "\x0b") + second,
        "extensions in Microsoft's attribute": pem(request(more=two_requests)),
        "common name that Go passes over": pem(
            request(name=subject(part(CN, evil), part(CN, harmless, UNIVERSAL)))
        ),
    }
