# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Read the parts of a certificate as Go's crypto/x509 does. It uses no library.

Other libraries accept other encodings, and each of their releases differs. A certificate is refused only by a rule of Go. The rules
and their words are those of parser.go of Go 1.26 (parseCertificate, parseName, parsePublicKey, processExtensions), which are stricter
than RFC 5280 at some places and more tolerant at most. What Go skips is skipped: values after the last one that it reads.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

from ..errors import CertificateError
from .der import (
    BOOLEAN,
    GENERALIZED_TIME,
    INTEGER,
    OBJECT_IDENTIFIER,
    OCTET_STRING,
    SEQUENCE,
    SET,
    UTC_TIME,
    Reader,
    right_aligned,
)

NULL = b"\x05\x00"
RSA, EC, ED25519, _X25519, _DSA = (
    "1.2.840.113549.1.1.1", "1.2.840.10045.2.1", "1.3.101.112", "1.3.101.110", "1.2.840.10040.4.1",
)  # fmt: skip
SUBJECT_KEY_ID = "2.5.29.14"
KEY_USAGE = "2.5.29.15"
ALTERNATIVE_NAMES = "2.5.29.17"
BASIC_CONSTRAINTS = "2.5.29.19"
NAME_CONSTRAINTS = "2.5.29.30"
POLICIES = "2.5.29.32"
POLICY_MAPPINGS = "2.5.29.33"
AUTHORITY_KEY_ID = "2.5.29.35"
POLICY_CONSTRAINTS = "2.5.29.36"
EXTENDED_KEY_USAGE = "2.5.29.37"
INHIBIT_ANY_POLICY = "2.5.29.54"
ANY_POLICY = bytes.fromhex("551d2000")
EMAIL, DNS_NAME, URI, ADDRESS = 0x81, 0x82, 0x86, 0x87
#: The tags of the general names that Go reads.
NAME_KINDS = frozenset((EMAIL, DNS_NAME, URI, ADDRESS))
#: The tag and the content of a general name.
GeneralName = tuple[int, bytes]
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
_CURVE25519_BYTES = 32
_UTC = re.compile(rb"(\d{2})(\d{2})(\d{2})(\d{2})(\d{2})(\d{2})?(?:Z|([+-])(\d{2})(\d{2}))")
_GENERALIZED = re.compile(rb"(\d{4})(\d{2})(\d{2})(\d{2})(\d{2})(\d{2})(?:Z|([+-])(\d{2})(\d{2}))")
#: Go reads times before and after all times of Python. A certificate is valid from the first one, or until the last one.
_FIRST = datetime.min.replace(tzinfo=timezone.utc)
_LAST = datetime.max.replace(microsecond=0, tzinfo=timezone.utc)
_BMP_STRING = 0x1E
#: The string types of names: tag -> the encoding, and the pattern of a valid text.
_STRINGS = {
    0x0C: ("utf-8", r".*"),
    0x12: ("ascii", r"[0-9 ]*"),
    0x13: ("ascii", r"[A-Za-z0-9 '()+,\-./:=?*&]*"),
    0x14: ("latin-1", r".*"),
    0x16: ("ascii", r".*"),
    _BMP_STRING: ("utf-16-be", "[^\ufdd0-\ufdef\ufffe\uffff\U00010000-\U0010ffff]*"),
}
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_HOST = re.compile(r"(?:[A-Za-z0-9\-_.~!$&'()*+,;=:\[\]<>\"]|%25)*")
_PORT = re.compile(r"(?::\d*)?")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*):")
_USER = re.compile(r"[A-Za-z0-9\-._:~!$&'()*+,;=%@]*")


def read_version(tbs: Reader) -> int:
    """Return 1, 2 or 3."""
    if not tbs.has(0xA0):
        return 1
    explicit = tbs.inner(0xA0, "malformed version")
    number = explicit.integer()
    if not explicit.is_empty or number < 0:
        raise CertificateError("malformed version")
    if number > 2:
        raise CertificateError("invalid version")
    return number + 1


def read_algorithm(content: bytes) -> tuple[str, bytes]:
    """Return the OID and the encoded parameters of an AlgorithmIdentifier."""
    reader = Reader(content, "malformed parameters")
    oid = reader.oid("malformed OID")
    return oid, b"" if reader.is_empty else reader.element()[2]


def read_name(tbs: Reader) -> tuple[bytes, list[list[tuple[str, str]]]]:
    """Return the encoded name, and for each RDN its types as dotted OIDs and its values."""
    _tag, content, whole = tbs.element("malformed issuer", SEQUENCE)
    names = Reader(content, "invalid RDNSequence")
    relative_names: list[list[tuple[str, str]]] = []
    while not names.is_empty:
        parts = names.inner(SET)
        relative_names.append([])
        while not parts.is_empty:
            part = parts.inner(SEQUENCE, "invalid RDNSequence: invalid attribute")
            oid = part.oid("invalid RDNSequence: invalid attribute type")
            kind, value, _whole = part.element("invalid RDNSequence: invalid attribute value")
            relative_names[-1].append((oid, _text(kind, value)))
    return whole, relative_names


def _text(kind: int, value: bytes) -> str:
    words = "invalid RDNSequence: invalid attribute value"
    if kind not in _STRINGS:
        raise CertificateError(f"{words}: unsupported string type: {kind}")
    encoding, pattern = _STRINGS[kind]
    try:
        text = (value.removesuffix(b"\0\0") if kind == _BMP_STRING else value).decode(encoding)
    except UnicodeDecodeError:
        raise CertificateError(f"{words}: invalid string of type {kind}") from None
    if not re.fullmatch(pattern, text, re.DOTALL):
        raise CertificateError(f"{words}: invalid string of type {kind}")
    return text


def read_time(validity: Reader) -> datetime:
    tag, content, _whole = validity.element("unsupported time format")
    if tag not in (UTC_TIME, GENERALIZED_TIME):
        raise CertificateError("unsupported time format")
    words = "malformed UTCTime" if tag == UTC_TIME else "malformed GeneralizedTime"
    match = (_UTC if tag == UTC_TIME else _GENERALIZED).fullmatch(content)
    if match is None:
        raise CertificateError(words)
    year, month, day, hour, minute, second = (int(part or 0) for part in match.groups()[:6])
    if tag == UTC_TIME:
        year += 1900 if year >= 50 else 2000
    sign, *zone = match.groups()[6:]
    hours, minutes = (int(part or 0) for part in zone)
    # Go writes the time again and compares: a zone of +0000 is written as Z.
    if sign and (not (hours or minutes) or hours > 24 or minutes >= 60):
        raise CertificateError(words)
    try:
        # Python has no year 0. It is a leap year, as the year 4 is.
        local = datetime(year or 4, month, day, hour, minute, second, tzinfo=timezone.utc)
    except ValueError:
        raise CertificateError(words) from None
    if not year:
        return _FIRST
    try:
        return local - timedelta(hours=hours, minutes=minutes) * (-1 if sign == b"-" else 1)
    except OverflowError:
        return _FIRST if year == 1 else _LAST


def read_key(info: Reader) -> tuple[str, tuple[Any, ...]]:
    """Return the dotted OID of a public key, and what Go reads of it: () unless Go verifies signatures with it."""
    oid, parameters = read_algorithm(info.content(SEQUENCE, "malformed public key algorithm identifier"))
    data = right_aligned(info.bits("malformed subjectPublicKey"))
    return oid, KEYS[oid](parameters, data) if oid in KEYS else ()


def _rsa_key(parameters: bytes, data: bytes) -> tuple[int, int]:
    if parameters != NULL:
        raise CertificateError("RSA key missing NULL parameters")
    key = Reader(data, "invalid RSA public key").inner(SEQUENCE)
    modulus, exponent = key.integer("invalid RSA modulus"), key.integer("invalid RSA public exponent")
    if not -(1 << 63) <= exponent < 1 << 63:
        raise CertificateError("invalid RSA public exponent")
    if modulus <= 0 or exponent <= 0:
        raise CertificateError(
            f"RSA {'modulus' if modulus <= 0 else 'public exponent'} is not a positive number"
        )
    return modulus, exponent


def _ec_key(parameters: bytes, data: bytes) -> tuple[str, bytes]:
    curve = Reader(parameters, "invalid ECDSA parameters").oid()
    if curve not in _CURVES:
        raise CertificateError("unsupported elliptic curve")
    prime, constant = _CURVES[curve]
    size = (prime.bit_length() + 7) // 8
    x, y = int.from_bytes(data[1 : 1 + size], "big"), int.from_bytes(data[1 + size :], "big")
    is_point = data[:1] == b"\x04" and len(data) == 1 + 2 * size and max(x, y) < prime
    if not is_point or (y * y - (x**3 - 3 * x + constant)) % prime:
        raise CertificateError("invalid point of an elliptic curve")
    return curve, data


def _curve25519_key(parameters: bytes, data: bytes) -> tuple[bytes]:
    if parameters or len(data) != _CURVE25519_BYTES:
        raise CertificateError("invalid Ed25519 or X25519 public key")
    return (data,)


def _dsa_key(parameters: bytes, data: bytes) -> tuple[()]:
    numbers = [Reader(data, "invalid DSA public key").integer()]
    reader = Reader(parameters, "invalid DSA parameters").inner(SEQUENCE)
    numbers += [reader.integer() for _number in range(3)]
    if min(numbers) <= 0:
        raise CertificateError("zero or negative DSA parameter")
    return ()


#: The keys that Go knows. It never verifies a signature with another one.
KEYS: Mapping[str, Callable[[bytes, bytes], tuple[Any, ...]]] = {
    RSA: _rsa_key,
    EC: _ec_key,
    ED25519: _curve25519_key,
    _X25519: _curve25519_key,
    _DSA: _dsa_key,
}


def read_extensions(tbs: Reader, version: int) -> tuple[dict[str, Any], bool]:
    """Return OID -> what Go reads of the extension, and True if it does not handle a critical one. Go reads those of version 3 only."""
    values: dict[str, Any] = {}
    has_unhandled = False
    for tag, words in ((0x81, "malformed issuerUniqueID"), (0x82, "malformed subjectUniqueID")):
        if version > 1 and tbs.has(tag):
            tbs.content(tag, words)
    if version != 3 or not tbs.has(0xA3):
        return values, has_unhandled
    listed = tbs.inner(0xA3, "malformed extensions").inner(SEQUENCE)
    while not listed.is_empty:
        entry = listed.inner(SEQUENCE, "malformed extension")
        oid = entry.oid("malformed extension OID field")
        entry.words = "malformed extension critical field"
        is_critical = entry.has(BOOLEAN) and entry.boolean()
        value = entry.content(OCTET_STRING, "malformed extension value field")
        if oid in values:
            raise CertificateError(f'certificate contains duplicate extension with OID "{oid}"')
        if is_critical and oid in _NEVER_CRITICAL:
            raise CertificateError(f"{_NEVER_CRITICAL[oid]} incorrectly marked critical")
        values[oid] = _EXTENSIONS[oid](value) if oid in _EXTENSIONS else None
        has_unhandled |= is_critical and not _is_handled(oid, values[oid])
    return values, has_unhandled


def _is_handled(oid: str, value: Any) -> bool:
    if oid == ALTERNATIVE_NAMES:
        return any(tag in NAME_KINDS for tag, _value in value)
    if oid == NAME_CONSTRAINTS:
        return all(tag in NAME_KINDS for subtrees in value for tag, _value in subtrees)
    return oid in _EXTENSIONS


_NEVER_CRITICAL = {
    SUBJECT_KEY_ID: "subject key identifier",
    AUTHORITY_KEY_ID: "authority key identifier",
    "1.3.6.1.5.5.7.1.1": "authority info access",
}


def _basic_constraints(value: bytes) -> tuple[bool, int | None]:
    """Return the flag cA and the path length, None without one."""
    reader = Reader(value, "invalid basic constraints").inner(SEQUENCE)
    is_ca = reader.has(BOOLEAN) and reader.boolean()
    path_length = reader.integer() if reader.has(INTEGER) else None
    if path_length is not None and not 0 <= path_length < 1 << 63:
        raise CertificateError(reader.words)
    return is_ca, path_length


def _alternative_names(value: bytes) -> tuple[GeneralName, ...]:
    reader = Reader(value, "invalid subject alternative name").inner(
        SEQUENCE, "invalid subject alternative names"
    )
    names: list[GeneralName] = []
    while not reader.is_empty:
        tag, data, _whole = reader.element("invalid subject alternative name")
        word = {0x81: "rfc822Name", 0x82: "dNSName", 0x86: "uniformResourceIdentifier"}.get(tag, "")
        if word and not data.isascii():
            raise CertificateError(f"SAN {word} is malformed")
        if tag == 0x86 and not _is_uri(data.decode("ascii")):
            raise CertificateError(f'cannot parse URI "{data.decode("ascii")}": invalid domain')
        if tag == 0x87 and len(data) not in (4, 16):
            raise CertificateError(f"cannot parse IP address of length {len(data)}")
        names.append((tag, data))
    return tuple(names)


def _is_uri(text: str) -> bool:
    """Return True for an address that Go's url.Parse reads, with a host that its domainNameValid accepts."""
    address, _hash, fragment = text.partition("#")
    if _CONTROL.search(address) or _BAD_ESCAPE.search(fragment):
        return False
    match = _SCHEME.match(address)
    scheme = match[1].lower() if match else ""
    path = (address[match.end() :] if match else address).partition("?")[0]
    if not path.startswith("/"):
        if scheme:
            return True  # Such as urn:a. Go does not decode it.
        if ":" in path.partition("/")[0]:
            return False
    has_authority = path.startswith("//") and (scheme != "" or not path.startswith("///"))
    if has_authority:
        authority, _slash, path = path[2:].partition("/")
        if not _is_authority(scheme, authority):
            return False
    return not _BAD_ESCAPE.search(path)


def _is_authority(scheme: str, authority: str) -> bool:
    """Return True for a host with or without a user before it."""
    user, _at, host = authority.rpartition("@")
    if not _USER.fullmatch(user) or _BAD_ESCAPE.search(user):
        return False
    return _is_host(host, has_strict_colons=scheme in ("http", "https"))


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
    if not text:
        return True
    if is_constraint:
        text = text.removeprefix(".")
    return all(map(_is_label, text.split(".")))


def _is_label(text: str) -> bool:
    """Return True for one or more visible ASCII characters."""
    return text != "" and all("!" <= character <= "~" for character in text)


def _name_constraints(value: bytes) -> tuple[tuple[GeneralName, ...], tuple[GeneralName, ...]]:
    """Return the permitted and the excluded subtrees."""
    words = "invalid NameConstraints extension"
    whole = Reader(value, words)
    reader = whole.inner(SEQUENCE)
    permitted, excluded = (reader.content(tag) if reader.has(tag) else b"" for tag in (0xA0, 0xA1))
    if not (whole.is_empty and reader.is_empty):
        raise CertificateError(words)
    if not (permitted or excluded):
        raise CertificateError("empty name constraints extension")
    return _subtrees(Reader(permitted, words)), _subtrees(Reader(excluded, words))


def _subtrees(reader: Reader) -> tuple[GeneralName, ...]:
    bases: list[GeneralName] = []
    while not reader.is_empty:
        tag, value, _whole = reader.inner(SEQUENCE).element()
        _check_subtree(tag, value)
        bases.append((tag, value))
    return tuple(bases)


def _check_subtree(tag: int, value: bytes) -> None:
    """Raise CertificateError for the base of a subtree that Go does not parse."""
    if tag == 0x87:
        half = len(value) // 2
        mask = int.from_bytes(value[half:], "big") ^ ((1 << 8 * half) - 1)
        if len(value) not in (8, 32) or mask & (mask + 1):
            raise CertificateError(f"IP constraint contained an invalid value of length {len(value)}")
    elif tag in (0x81, 0x82, 0x86):
        text = value.decode("latin-1")
        local, at, domain = text.rpartition("@") if tag == 0x81 else ("", "", text)
        refused = CertificateError(f'failed to parse name constraint "{text}"')
        if not value.isascii() or not is_domain(domain, is_constraint=not at):
            raise refused
        is_mailbox = at != ""
        if is_mailbox and not (local and domain):
            raise refused
        if tag == 0x86 and _is_address(domain):
            raise refused


def _is_address(text: str) -> bool:
    try:
        return bool(ipaddress.ip_address(text))
    except ValueError:
        return False


def _authority_key_id(value: bytes) -> bytes | None:
    reader = Reader(value, "invalid authority key identifier").inner(SEQUENCE)
    return reader.content(0x80) if reader.has(0x80) else None


def _extended_usages(value: bytes) -> tuple[str, ...]:
    reader = Reader(value, "invalid extended key usages").inner(SEQUENCE)
    usages: list[str] = []
    while not reader.is_empty:
        usages.append(reader.oid())
    return tuple(usages)


def _policies(value: bytes) -> frozenset[bytes]:
    words = "invalid certificate policies"
    found: list[bytes] = []
    reader = Reader(value, words).inner(SEQUENCE)
    while not reader.is_empty:
        found.append(reader.inner(SEQUENCE).content(OBJECT_IDENTIFIER))
    if len(set(found)) < len(found) or not all(entry and entry[-1] < 0x80 for entry in found):
        raise CertificateError(words)
    return frozenset(found)


def _policy_mappings(value: bytes) -> None:
    reader = Reader(value, "invalid policy mappings extension").inner(SEQUENCE)
    while not reader.is_empty:
        mapping = reader.inner(SEQUENCE)
        mapping.content(OBJECT_IDENTIFIER)
        mapping.content(OBJECT_IDENTIFIER)


def _explicit_policy(value: bytes) -> int | None:
    reader = Reader(value, "invalid policy constraints extension").inner(SEQUENCE)
    return {tag: reader.integer(tag=tag) for tag in (0x80, 0x81) if reader.has(tag)}.get(0x80)


def _distribution_points(value: bytes) -> None:
    words = "invalid CRL distribution point"
    reader = Reader(value, words).inner(SEQUENCE, f"{words}s")
    while not reader.is_empty:
        point = reader.inner(SEQUENCE, words)
        if point.has(0xA0):
            names = point.inner(0xA0).inner(0xA0)
            while names.has(0x86):
                names.content(0x86)


def _information_access(value: bytes) -> None:
    reader = Reader(value, "invalid authority info access").inner(SEQUENCE)
    while not reader.is_empty:
        entry = reader.inner(SEQUENCE)
        entry.oid()
        if entry.has(0x86):
            entry.content(0x86)


#: Dotted OID -> what reads the value, and raises CertificateError for one that Go does not parse.
_EXTENSIONS: Mapping[str, Callable[[bytes], object]] = {
    SUBJECT_KEY_ID: lambda value: Reader(value, "invalid subject key identifier").content(OCTET_STRING),
    KEY_USAGE: lambda value: Reader(value, "invalid key usage").bits(),
    ALTERNATIVE_NAMES: _alternative_names,
    BASIC_CONSTRAINTS: _basic_constraints,
    NAME_CONSTRAINTS: _name_constraints,
    "2.5.29.31": _distribution_points,
    POLICIES: _policies,
    POLICY_MAPPINGS: _policy_mappings,
    AUTHORITY_KEY_ID: _authority_key_id,
    POLICY_CONSTRAINTS: _explicit_policy,
    EXTENDED_KEY_USAGE: _extended_usages,
    INHIBIT_ANY_POLICY: lambda value: Reader(value, "invalid inhibit any policy extension").integer(),
    "1.3.6.1.5.5.7.1.1": _information_access,
}
