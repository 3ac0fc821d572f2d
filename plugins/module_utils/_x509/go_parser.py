# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Decide if Go's crypto/x509 parses a certificate, and read what the decision needs. It uses no library.

Other libraries accept other encodings, and each of their releases differs. A certificate is refused only by a rule of Go. The rules
and their words are those of parser.go of Go 1.26 (parseCertificate, parseName, parsePublicKey, processExtensions), which are stricter
than RFC 5280 at some places and more tolerant at most.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

from .errors import CertificateError

_BOOLEAN, _INTEGER, _BITS, _OCTETS, _OID = 0x01, 0x02, 0x03, 0x04, 0x06
_UTC_TIME, _GENERALIZED_TIME, _SEQUENCE, _SET = 0x17, 0x18, 0x30, 0x31
_NULL = b"\x05\x00"
_RSA, _EC, _ED25519, _X25519, _DSA = (
    "1.2.840.113549.1.1.1", "1.2.840.10045.2.1", "1.3.101.112", "1.3.101.110", "1.2.840.10040.4.1",
)  # fmt: skip
#: The keys that Go knows. It never verifies a signature with another one.
GO_KEYS = frozenset((_RSA, _EC, _ED25519, _X25519, _DSA))
#: Named curve -> its prime and the constant b of y^2 = x^3 - 3x + b (SEC 2).
_CURVES = {
    "1.3.132.0.33": (
        2**224 - 2**96 + 1,
        0xB4050A850C04B3ABF54132565044B0B7D7BFD8BA270B39432355FFB4,
    ),
    "1.2.840.10045.3.1.7": (
        2**256 - 2**224 + 2**192 + 2**96 - 1,
        0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B,
    ),
    "1.3.132.0.34": (
        2**384 - 2**128 - 2**96 + 2**32 - 1,
        0xB3312FA7E23EE7E4988E056BE3F82D19181D9C6EFE8141120314088F5013875AC656398D8A2ED19D2A85C8EDD3EC2AEF,
    ),
    "1.3.132.0.35": (
        2**521 - 1,
        0x51953EB9618E1C9A1F929A21A0B68540EEA2DA725B99B315F3B8B489918EF109E156193951EC7E937B1652C0BD3BB1BF073573DF883D2C34F1EF451FD46B503F00,
    ),
}
_ED25519_BYTES = 32
ANY_POLICY = bytes.fromhex("551d2000")
_PRINTABLE = re.compile(rb"[A-Za-z0-9 '()+,\-./:=?*&]*")
_UTC = re.compile(rb"(\d{2})(\d{2})(\d{2})(\d{2})(\d{2})(\d{2})?(?:Z|([+-])(\d{2})(\d{2}))")
_GENERALIZED = re.compile(rb"(\d{4})(\d{2})(\d{2})(\d{2})(\d{2})(\d{2})(?:Z|([+-])(\d{2})(\d{2}))")
_BMP_REFUSED = (0xFFFE, 0xFFFF, *range(0xFDD0, 0xFDF0), *range(0xD800, 0xE000))
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_HOST = re.compile(r"(?:[A-Za-z0-9\-_.~!$&'()*+,;=:\[\]<>\"]|%25)*")
_PORT = re.compile(r"(?::\d*)?")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*):")


class _Refused(Exception):
    """Go does not parse the certificate."""


@dataclass(frozen=True)
class GoCertificate:
    """What Go reads of a certificate."""

    #: 1, 2 or 3. Go reads extensions of version 3 only.
    version: int
    serial: int
    not_before: datetime
    not_after: datetime
    #: The names as they are encoded.
    issuer: bytes
    subject: bytes
    #: Dotted OID.
    key_algorithm: str
    #: Dotted OID -> value. {} unless the version is 3.
    extensions: Mapping[str, bytes] = field(default_factory=dict)
    #: The encoded OIDs of the certificate policies.
    policies: frozenset[bytes] = frozenset()
    #: Of policyConstraints, None without it.
    explicit_policy: int | None = None


@functools.lru_cache(maxsize=256)
def read(der: bytes) -> GoCertificate:
    """Return what Go reads. Raises CertificateError with Go's words if it does not parse the certificate."""
    try:
        return _certificate(der)
    except _Refused as refused:
        raise CertificateError(str(refused), remedy="Issue another certificate") from None


class _Reader:
    """Reads values one after the other, as golang.org/x/crypto/cryptobyte does: a refused value ends the work with these words."""

    def __init__(self, data: bytes, words: str) -> None:
        self.data, self.start, self.words = data, 0, words

    @property
    def is_empty(self) -> bool:
        return self.start >= len(self.data)

    def has(self, tag: int) -> bool:
        return self.data[self.start : self.start + 1] == bytes([tag])

    def element(self, words: str = "") -> tuple[int, bytes, bytes]:
        """Return the tag, the content and the whole encoding of the next value."""
        data, begin = self.data, self.start + 2
        refused = _Refused(words or self.words)
        if begin > len(data) or data[self.start] & 0x1F == 0x1F:
            raise refused
        tag, length = data[self.start], data[self.start + 1]
        if length >= 0x80:
            digits = data[begin : begin + length - 0x80]
            count, begin, length = length - 0x80, begin + length - 0x80, int.from_bytes(digits, "big")
            if not 1 <= count == len(digits) <= 4 or length < max(0x80, 1 << 8 * (count - 1)):
                raise refused
        if begin + length > len(data):
            raise refused
        whole = data[self.start : begin + length]
        self.start = begin + length
        return tag, data[begin : begin + length], whole

    def content(self, tag: int, words: str = "") -> bytes:
        """Return the content of the next value, which must have this tag."""
        found, content, _whole = self.element(words)
        if found != tag:
            raise _Refused(words or self.words)
        return content

    def inner(self, tag: int, words: str = "") -> _Reader:
        return _Reader(self.content(tag, words), words or self.words)

    def integer(self, words: str = "", tag: int = _INTEGER) -> int:
        content = self.content(tag, words)
        is_padded = len(content) > 1 and (content[0], content[1] >> 7) in ((0x00, 0), (0xFF, 1))
        if not content or is_padded:
            raise _Refused(words or self.words)
        return int.from_bytes(content, "big", signed=True)

    def boolean(self) -> bool:
        content = self.content(_BOOLEAN)
        if content not in (b"\x00", b"\xff"):
            raise _Refused(self.words)
        return content == b"\xff"

    def bits(self, words: str = "") -> bytes:
        """Return the bytes of a bit string, without the number of unused bits."""
        content = self.content(_BITS, words)
        unused, data = content[:1], content[1:]
        if (
            not unused
            or unused[0] > 7
            or (unused[0] and not data)
            or (data and data[-1] & ((1 << unused[0]) - 1))
        ):
            raise _Refused(words or self.words)
        return (int.from_bytes(data, "big") >> unused[0]).to_bytes(len(data), "big") if data else b""

    def oid(self, words: str = "") -> str:
        return _dotted(self.content(_OID, words), words or self.words)


def _dotted(content: bytes, words: str) -> str:
    numbers, number, length = [], 0, 0
    for octet in content:
        if length == 5 or number >= 1 << 24 or (length == 0 and octet == 0x80):
            raise _Refused(words)
        number, length = number << 7 | octet & 0x7F, length + 1
        if octet < 0x80:
            numbers.append(number)
            number = length = 0
    if not numbers or length:
        raise _Refused(words)
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, (first, numbers[0] - 40 * first, *numbers[1:])))


def _certificate(der: bytes) -> GoCertificate:
    whole = _Reader(der, "malformed certificate")
    outer = whole.inner(_SEQUENCE)
    if not whole.is_empty:
        raise _Refused("trailing data")
    tbs = outer.inner(_SEQUENCE, "malformed tbs certificate")
    version = _version(tbs)
    serial = tbs.integer("malformed serial number")
    if serial < 0:
        raise _Refused("negative serial number")
    inside = tbs.content(_SEQUENCE, "malformed signature algorithm identifier")
    if outer.content(_SEQUENCE, "malformed algorithm identifier") != inside:
        raise _Refused("inner and outer signature algorithm identifiers don't match")
    _algorithm(inside)
    issuer = _name(tbs)
    validity = tbs.inner(_SEQUENCE, "malformed validity")
    not_before, not_after = _time(validity), _time(validity)
    subject = _name(tbs)
    key_algorithm = _key(tbs.inner(_SEQUENCE, "malformed spki"))
    extensions = _extensions(tbs, version)
    policies = _policies(extensions["2.5.29.32"]) if "2.5.29.32" in extensions else frozenset()
    for oid, value in extensions.items():
        if oid in _EXTENSIONS:
            _EXTENSIONS[oid](value)
    outer.bits("malformed signature")
    explicit = _explicit_policy(extensions["2.5.29.36"]) if "2.5.29.36" in extensions else None
    return GoCertificate(
        version, serial, not_before, not_after, issuer, subject, key_algorithm, extensions, policies, explicit
    )


def _version(tbs: _Reader) -> int:
    if not tbs.has(0xA0):
        return 1
    field_ = tbs.inner(0xA0, "malformed version")
    number = field_.integer()
    if not field_.is_empty or number < 0:
        raise _Refused("malformed version")
    if number > 2:
        raise _Refused("invalid version")
    return number + 1


def _algorithm(content: bytes) -> tuple[str, bytes]:
    """Return the OID and the encoded parameters of an AlgorithmIdentifier."""
    reader = _Reader(content, "malformed parameters")
    oid = reader.oid("malformed OID")
    return oid, b"" if reader.is_empty else reader.element()[2]


def _name(tbs: _Reader) -> bytes:
    tag, content, whole = tbs.element("malformed issuer")
    if tag != _SEQUENCE:
        raise _Refused("malformed issuer")
    names = _Reader(content, "invalid RDNSequence")
    while not names.is_empty:
        parts = names.inner(_SET)
        while not parts.is_empty:
            part = parts.inner(_SEQUENCE, "invalid RDNSequence: invalid attribute")
            part.oid("invalid RDNSequence: invalid attribute type")
            kind, value, _whole = part.element("invalid RDNSequence: invalid attribute value")
            if kind not in _STRINGS:
                raise _Refused(
                    f"invalid RDNSequence: invalid attribute value: unsupported string type: {kind}"
                )
            if not _STRINGS[kind](value):
                raise _Refused(f"invalid RDNSequence: invalid attribute value: invalid string of type {kind}")
    return whole


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _is_bmp(value: bytes) -> bool:
    points = [int.from_bytes(value[at : at + 2], "big") for at in range(0, len(value), 2)]
    points = points[:-1] if points[-1:] == [0] else points
    return len(value) % 2 == 0 and not any(point in _BMP_REFUSED for point in points)


#: The string types of names: tag -> True for a valid value.
_STRINGS: Mapping[int, Callable[[bytes], bool]] = {
    0x0C: _is_utf8,
    0x12: lambda value: not value.strip(b"0123456789 "),
    0x13: lambda value: _PRINTABLE.fullmatch(value) is not None,
    0x14: lambda _value: True,
    0x16: lambda value: value.isascii(),
    0x1E: _is_bmp,
}


def _time(validity: _Reader) -> datetime:
    tag, content, _whole = validity.element("unsupported time format")
    if tag not in (_UTC_TIME, _GENERALIZED_TIME):
        raise _Refused("unsupported time format")
    words = "malformed UTCTime" if tag == _UTC_TIME else "malformed GeneralizedTime"
    match = (_UTC if tag == _UTC_TIME else _GENERALIZED).fullmatch(content)
    if match is None:
        raise _Refused(words)
    year, month, day, hour, minute, second = (int(part or 0) for part in match.groups()[:6])
    if tag == _UTC_TIME:
        year += 1900 if year >= 50 else 2000
    sign, *zone = match.groups()[6:]
    hours, minutes = (int(part or 0) for part in zone)
    # Go writes the time again and compares: a zone of +0000 is written as Z.
    if sign and (not (hours or minutes) or hours > 24 or minutes >= 60):
        raise _Refused(words)
    try:
        local = datetime(year, month, day, hour, minute, second, tzinfo=timezone.utc)
        return local - timedelta(hours=hours, minutes=minutes) * (-1 if sign == b"-" else 1)
    except (ValueError, OverflowError):
        raise _Refused(words) from None


def _key(info: _Reader) -> str:
    oid, parameters = _algorithm(info.content(_SEQUENCE, "malformed public key algorithm identifier"))
    data = info.bits("malformed subjectPublicKey")
    if oid in _KEYS:
        _KEYS[oid](parameters, data)
    return oid


def _rsa_key(parameters: bytes, data: bytes) -> None:
    if parameters != _NULL:
        raise _Refused("RSA key missing NULL parameters")
    key = _Reader(data, "invalid RSA public key").inner(_SEQUENCE)
    modulus, exponent = key.integer("invalid RSA modulus"), key.integer("invalid RSA public exponent")
    if not -(1 << 63) <= exponent < 1 << 63:
        raise _Refused("invalid RSA public exponent")
    if modulus <= 0 or exponent <= 0:
        raise _Refused(f"RSA {'modulus' if modulus <= 0 else 'public exponent'} is not a positive number")


def _ec_key(parameters: bytes, data: bytes) -> None:
    curve = _Reader(parameters, "invalid ECDSA parameters").oid()
    if curve not in _CURVES:
        raise _Refused("unsupported elliptic curve")
    prime, constant = _CURVES[curve]
    size = (prime.bit_length() + 7) // 8
    x, y = int.from_bytes(data[1 : 1 + size], "big"), int.from_bytes(data[1 + size :], "big")
    is_point = data[:1] == b"\x04" and len(data) == 1 + 2 * size and max(x, y) < prime
    if not is_point or (y * y - (x**3 - 3 * x + constant)) % prime:
        raise _Refused("invalid point of an elliptic curve")


def _short_key(word: str) -> Callable[[bytes, bytes], None]:
    def check(parameters: bytes, data: bytes) -> None:
        if parameters:
            raise _Refused(f"{word} key encoded with illegal parameters")
        if len(data) != _ED25519_BYTES:
            raise _Refused(f"wrong {word} public key size")

    return check


def _dsa_key(parameters: bytes, data: bytes) -> None:
    numbers = [_Reader(data, "invalid DSA public key").integer()]
    reader = _Reader(parameters, "invalid DSA parameters").inner(_SEQUENCE)
    numbers += [reader.integer() for _number in range(3)]
    if min(numbers) <= 0:
        raise _Refused("zero or negative DSA parameter")


_KEYS: Mapping[str, Callable[[bytes, bytes], None]] = {
    _RSA: _rsa_key,
    _EC: _ec_key,
    _ED25519: _short_key("Ed25519"),
    _X25519: _short_key("X25519"),
    _DSA: _dsa_key,
}


def _extensions(tbs: _Reader, version: int) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    if version == 1:
        return found
    for tag, words in ((0x81, "malformed issuerUniqueID"), (0x82, "malformed subjectUniqueID")):
        if tbs.has(tag):
            tbs.content(tag, words)
    if version != 3 or not tbs.has(0xA3):
        return found
    listed = tbs.inner(0xA3, "malformed extensions").inner(_SEQUENCE)
    while not listed.is_empty:
        entry = listed.inner(_SEQUENCE, "malformed extension")
        oid = entry.oid("malformed extension OID field")
        entry.words = "malformed extension critical field"
        is_critical = entry.has(_BOOLEAN) and entry.boolean()
        if oid in found:
            raise _Refused(f'certificate contains duplicate extension with OID "{oid}"')
        found[oid] = entry.content(_OCTETS, "malformed extension value field")
        if is_critical and oid in _NEVER_CRITICAL:
            raise _Refused(f"{_NEVER_CRITICAL[oid]} incorrectly marked critical")
    return found


_NEVER_CRITICAL = {
    "2.5.29.14": "subject key identifier",
    "2.5.29.35": "authority key identifier",
    "1.3.6.1.5.5.7.1.1": "authority info access",
}


def _basic_constraints(value: bytes) -> None:
    reader = _Reader(value, "invalid basic constraints").inner(_SEQUENCE)
    if reader.has(_BOOLEAN):
        reader.boolean()
    if reader.has(_INTEGER) and not 0 <= reader.integer() < 1 << 63:
        raise _Refused(reader.words)


def _alternative_names(value: bytes) -> None:
    reader = _Reader(value, "invalid subject alternative name").inner(
        _SEQUENCE, "invalid subject alternative names"
    )
    reader.words = "invalid subject alternative name"
    while not reader.is_empty:
        tag, data, _whole = reader.element()
        word = {0x81: "rfc822Name", 0x82: "dNSName", 0x86: "uniformResourceIdentifier"}.get(tag, "")
        if word and not data.isascii():
            raise _Refused(f"SAN {word} is malformed")
        if tag == 0x86 and not _is_uri(data.decode("ascii")):
            raise _Refused(f'cannot parse URI "{data.decode("ascii")}": invalid domain')
        if tag == 0x87 and len(data) not in (4, 16):
            raise _Refused(f"cannot parse IP address of length {len(data)}")


def _is_uri(text: str) -> bool:
    """Return True for an address that Go's url.Parse reads, with a host that its domainNameValid accepts."""
    if any(character < " " or character == "\x7f" for character in text):
        return False
    text, _hash, fragment = text.partition("#")
    match = _SCHEME.match(text)
    rest = text[match.end() :] if match else text
    rest = rest.partition("?")[0]
    if _BAD_ESCAPE.search(fragment) or (rest.startswith(":") and not match):
        return False
    if not rest.startswith("/"):
        return bool(match) or (":" not in rest.partition("/")[0] and not _BAD_ESCAPE.search(rest))
    if not rest.startswith("//") or (rest.startswith("///") and not match):
        return not _BAD_ESCAPE.search(rest)
    authority, _slash, path = rest[2:].partition("/")
    user, _at, host = authority.rpartition("@")
    is_http = match is not None and match[1].lower() in ("http", "https")
    is_user = re.fullmatch(r"[A-Za-z0-9\-._:~!$&'()*+,;=%@]*", user) is not None
    return is_user and not _BAD_ESCAPE.search(user + path) and _is_host(host, has_strict_colons=is_http)


def _is_host(host: str, *, has_strict_colons: bool) -> bool:
    if _HOST.fullmatch(host) is None or host.rfind("[") > 0:
        return False
    if host.startswith("["):
        literal, bracket, port = host[1:].rpartition("]")
        address = literal.partition("%25")[0]
        if not bracket or not _PORT.fullmatch(port) or ":" not in address or not _is_address(address):
            return False
    elif ":" in host and not _PORT.fullmatch(
        host[host.index(":") if has_strict_colons else host.rindex(":") :]
    ):
        return False
    return is_domain(host.replace("%25", "%"))


def is_domain(text: str, *, is_constraint: bool = False) -> bool:
    """Return True for a domain that Go accepts (domainNameValid). The empty domain contains every name."""
    labels = (text[1:] if is_constraint and text.startswith(".") else text).split(".")
    return not text or all(label and all("!" <= character <= "~" for character in label) for label in labels)


def _name_constraints(value: bytes) -> None:
    words = "invalid NameConstraints extension"
    whole = _Reader(value, words)
    reader = whole.inner(_SEQUENCE)
    subtrees = [reader.inner(tag) for tag in (0xA0, 0xA1) if reader.has(tag)]
    if not (whole.is_empty and reader.is_empty):
        raise _Refused(words)
    if all(entry.is_empty for entry in subtrees):
        raise _Refused("empty name constraints extension")
    for entry in subtrees:
        while not entry.is_empty:
            _subtree(*entry.inner(_SEQUENCE).element()[:2])


def _subtree(tag: int, value: bytes) -> None:
    """Raise _Refused for the base of a subtree that Go does not parse."""
    if tag == 0x87:
        half = len(value) // 2
        mask = int.from_bytes(value[half:], "big") ^ ((1 << 8 * half) - 1)
        if len(value) not in (8, 32) or mask & (mask + 1):
            raise _Refused(f"IP constraint contained an invalid value of length {len(value)}")
    elif tag in (0x81, 0x82, 0x86):
        text = value.decode("latin-1")
        local, at, domain = text.rpartition("@") if tag == 0x81 else ("", "", text)
        if (
            not is_domain(domain, is_constraint=not at)
            or (at and not (local and domain))
            or (tag == 0x86 and _is_address(domain))
        ):
            raise _Refused(f'failed to parse name constraint "{text}"')


def _is_address(text: str) -> bool:
    try:
        return bool(ipaddress.ip_address(text))
    except ValueError:
        return False


def _authority_key_id(value: bytes) -> None:
    reader = _Reader(value, "invalid authority key identifier").inner(_SEQUENCE)
    if reader.has(0x80):
        reader.content(0x80)


def _subject_key_id(value: bytes) -> None:
    _Reader(value, "invalid subject key identifier").content(_OCTETS)


def _extended_usages(value: bytes) -> None:
    reader = _Reader(value, "invalid extended key usages").inner(_SEQUENCE)
    while not reader.is_empty:
        reader.oid()


def _policies(value: bytes) -> frozenset[bytes]:
    words, found = "invalid certificate policies", list[bytes]()
    reader = _Reader(value, words).inner(_SEQUENCE)
    while not reader.is_empty:
        found.append(reader.inner(_SEQUENCE).content(_OID))
    if len(set(found)) < len(found) or not all(entry and entry[-1] < 0x80 for entry in found):
        raise _Refused(words)
    return frozenset(found)


def _policy_mappings(value: bytes) -> None:
    reader = _Reader(value, "invalid policy mappings extension").inner(_SEQUENCE)
    while not reader.is_empty:
        mapping = reader.inner(_SEQUENCE)
        mapping.content(_OID)
        mapping.content(_OID)


def _explicit_policy(value: bytes) -> int | None:
    reader = _Reader(value, "invalid policy constraints extension").inner(_SEQUENCE)
    numbers = {tag: reader.integer(tag=tag) for tag in (0x80, 0x81) if reader.has(tag)}
    return numbers.get(0x80)


def _any_policy(value: bytes) -> None:
    _Reader(value, "invalid inhibit any policy extension").integer()


def _distribution_points(value: bytes) -> None:
    words = "invalid CRL distribution point"
    reader = _Reader(value, words).inner(_SEQUENCE, f"{words}s")
    while not reader.is_empty:
        point = reader.inner(_SEQUENCE, words)
        if point.has(0xA0):
            names = point.inner(0xA0).inner(0xA0)
            while names.has(0x86):
                names.content(0x86)


def _information_access(value: bytes) -> None:
    reader = _Reader(value, "invalid authority info access").inner(_SEQUENCE)
    while not reader.is_empty:
        entry = reader.inner(_SEQUENCE)
        entry.oid()
        if entry.has(0x86):
            entry.content(0x86)


#: Dotted OID -> what raises _Refused for a value that Go does not parse. Policies are read apart.
_EXTENSIONS: Mapping[str, Callable[[bytes], object]] = {
    "2.5.29.14": _subject_key_id,
    "2.5.29.15": lambda value: _Reader(value, "invalid key usage").bits(),
    "2.5.29.17": _alternative_names,
    "2.5.29.19": _basic_constraints,
    "2.5.29.30": _name_constraints,
    "2.5.29.31": _distribution_points,
    "2.5.29.33": _policy_mappings,
    "2.5.29.35": _authority_key_id,
    "2.5.29.36": _explicit_policy,
    "2.5.29.37": _extended_usages,
    "2.5.29.54": _any_policy,
    "1.3.6.1.5.5.7.1.1": _information_access,
}
