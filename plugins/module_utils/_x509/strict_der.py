# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Read strict DER (ITU-T X.690). Every value has exactly one encoding, and this reader refuses any other.

Two programs can read the same bytes differently only if one tolerates an encoding that the other one refuses. This reader
tolerates none. It is small because it needs only the types that occur in a certificate request.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from .errors import RequestNotCanonical

BOOLEAN, INTEGER, BIT_STRING, OCTET_STRING, OBJECT_IDENTIFIER = 0x01, 0x02, 0x03, 0x04, 0x06
UTF8_STRING, PRINTABLE_STRING, IA5_STRING = 0x0C, 0x13, 0x16
SEQUENCE, SET = 0x30, 0x31

_CONSTRUCTED, _NOT_UNIVERSAL = 0x20, 0xC0
_DEPTH = 12  # a request has 9
_LONGEST_OID = 64
_PRINTABLE = re.compile(rb"[A-Za-z0-9 '()+,\-./:=?]*")


@dataclass(frozen=True)
class DerElement:
    """One value."""

    #: The identifier octet.
    tag: int
    #: The content octets.
    content: bytes
    #: The complete encoding.
    raw: bytes
    #: The values inside a constructed value.
    children: tuple[DerElement, ...]


def parse(data: bytes) -> DerElement:
    """Return the only value that the bytes encode. Raises RequestNotCanonical for anything that is not strict DER."""
    elements = _elements(data, _DEPTH)
    if len(elements) != 1:
        raise RequestNotCanonical(f"it has {len(elements)} values instead of one")
    return elements[0]


def dotted(oid: DerElement) -> str:
    """Return an object identifier as text, such as "2.5.4.3"."""
    numbers, number = [], 0
    for octet in oid.content:
        number = number << 7 | octet & 0x7F
        if octet < 0x80:
            numbers.append(number)
            number = 0
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, (first, numbers[0] - 40 * first, *numbers[1:])))


def is_sorted(elements: tuple[DerElement, ...]) -> bool:
    """Return True if the values are in the order of a SET OF."""
    return all(element.raw <= other.raw for element, other in zip(elements, elements[1:]))


def _elements(data: bytes, depth: int) -> tuple[DerElement, ...]:
    if depth == 0:
        raise RequestNotCanonical(f"its values are nested deeper than {_DEPTH} levels")
    elements, start = [], 0
    while start < len(data):
        begin, end = _content(data, start)
        tag, content = data[start], data[begin:end]
        children = _elements(content, depth - 1) if tag & _CONSTRUCTED else ()
        element = DerElement(tag, content, data[start:end], children)
        if not _is_valid(element):
            raise RequestNotCanonical(f"a value with the tag 0x{tag:02x} is not encoded as DER requires")
        elements.append(element)
        start = end
    return tuple(elements)


def _content(data: bytes, start: int) -> tuple[int, int]:
    """Return the begin and the end of the content of the value at ``start``."""
    begin = start + 2
    if begin > len(data):
        raise RequestNotCanonical("its last value is cut off")
    length = data[start + 1]
    if length >= 0x80:
        digits = data[begin : begin + length - 0x80]
        begin += len(digits)
        count, length = length - 0x80, int.from_bytes(digits, "big")
        # The length must use as few octets as possible: 127 fits into the first octet.
        if not 1 <= count == len(digits) <= 4 or length < max(0x80, 1 << 8 * (count - 1)):
            raise RequestNotCanonical("the length of a value is not encoded as DER requires")
    if begin + length > len(data):
        raise RequestNotCanonical("its last value is cut off")
    return begin, begin + length


def _is_valid(element: DerElement) -> bool:
    if element.tag & 0x1F == 0x1F:
        return False  # a tag of several octets
    if element.tag & _NOT_UNIVERSAL:
        return True
    if element.tag in _VALID:
        return _VALID[element.tag](element.content)
    return element.tag == SEQUENCE or (element.tag == SET and is_sorted(element.children))


def _is_integer(content: bytes) -> bool:
    """Return True if the first nine bits are not all alike."""
    if len(content) < 2:
        return len(content) == 1
    return (content[0], content[1] >> 7) not in ((0x00, 0), (0xFF, 1))


def _is_bit_string(content: bytes) -> bool:
    if not content or content[0] > 7:
        return False
    return content[0] == 0 or (len(content) > 1 and content[-1] & ((1 << content[0]) - 1) == 0)


def _is_oid(content: bytes) -> bool:
    is_minimal = all(octet != 0x80 or before >= 0x80 for before, octet in zip(b"\0" + content, content))
    return 1 <= len(content) <= _LONGEST_OID and content[-1] < 0x80 and is_minimal


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _is_anything(_content: bytes) -> bool:
    return True


# Universal primitive types: tag -> whether the content is valid. A constructed string is not DER, so it has no row.
_VALID: dict[int, Callable[[bytes], bool]] = {
    BOOLEAN: lambda content: content in (b"\x00", b"\xff"),
    INTEGER: _is_integer,
    BIT_STRING: _is_bit_string,
    OCTET_STRING: _is_anything,
    0x05: lambda content: not content,  # NULL
    OBJECT_IDENTIFIER: _is_oid,
    0x0A: _is_integer,  # ENUMERATED
    UTF8_STRING: _is_utf8,
    PRINTABLE_STRING: lambda content: _PRINTABLE.fullmatch(content) is not None,
    IA5_STRING: bytes.isascii,
    # These occur in ignored attributes. The reader of the subject refuses them.
    **dict.fromkeys((0x12, 0x14, 0x17, 0x18, 0x1A, 0x1B, 0x1C, 0x1E), _is_anything),
}
