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

from ..errors import CertificateError, RequestNotCanonical
from .der import (
    BIT_STRING,
    BOOLEAN,
    IA5_STRING,
    INTEGER,
    OBJECT_IDENTIFIER,
    OCTET_STRING,
    PRINTABLE_STRING,
    SEQUENCE,
    SET,
    UTF8_STRING,
    Reader,
    is_utf8,
)

_CONSTRUCTED, _NOT_UNIVERSAL = 0x20, 0xC0
_DEPTH = 12  # a request has 9
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

    @property
    def reader(self) -> Reader:
        return Reader(self.raw, _words(self.tag))


def parse(data: bytes) -> DerElement:
    """Return the only value that the bytes encode. Raises RequestNotCanonical for anything that is not strict DER."""
    try:
        elements = _elements(data, _DEPTH)
    except CertificateError as error:
        raise RequestNotCanonical(error.cause) from None
    if len(elements) != 1:
        raise RequestNotCanonical(f"it has {len(elements)} values instead of one")
    return elements[0]


def is_sorted(elements: tuple[DerElement, ...]) -> bool:
    """Return True if the values are in the order of a SET OF."""
    return all(element.raw <= other.raw for element, other in zip(elements, elements[1:]))


def _words(tag: int) -> str:
    return f"a value with the tag 0x{tag:02x} or its length is not encoded as DER requires, or it is cut off"


def _elements(data: bytes, depth: int) -> tuple[DerElement, ...]:
    if depth == 0:
        raise RequestNotCanonical(f"its values are nested deeper than {_DEPTH} levels")
    reader = Reader(data, "")
    elements: list[DerElement] = []
    while not reader.is_empty:
        reader.words = _words(data[reader.start])
        tag, content, raw = reader.element()
        children = _elements(content, depth - 1) if tag & _CONSTRUCTED else ()
        elements.append(DerElement(tag, content, raw, children))
        if not _is_valid(elements[-1]):
            raise RequestNotCanonical(_words(tag))
    return tuple(elements)


def _is_valid(element: DerElement) -> bool:
    if element.tag in _READ:
        _READ[element.tag](element.reader)
        return True
    is_text = _TEXTS.get(element.tag)
    if is_text:
        return is_text(element.content)
    return bool(
        element.tag & _NOT_UNIVERSAL
        or element.tag in _ANYTHING
        or (element.tag == SET and is_sorted(element.children))
    )


# Universal primitive types: tag -> what raises CertificateError for another encoding. A constructed string is not DER, so it has no row.
_READ: dict[int, Callable[[Reader], object]] = {
    BOOLEAN: Reader.boolean,
    INTEGER: Reader.integer,
    BIT_STRING: Reader.bits,
    OBJECT_IDENTIFIER: Reader.oid,
    0x0A: lambda reader: reader.integer(tag=0x0A),  # ENUMERATED
}
#: Tag -> whether the content is valid.
_TEXTS: dict[int, Callable[[bytes], bool]] = {
    0x05: lambda content: not content,  # NULL
    UTF8_STRING: is_utf8,
    PRINTABLE_STRING: lambda content: _PRINTABLE.fullmatch(content) is not None,
    IA5_STRING: bytes.isascii,
}
#: The strings and times among these occur in ignored attributes. The reader of the subject refuses them.
_ANYTHING = frozenset((SEQUENCE, OCTET_STRING, 0x12, 0x14, 0x17, 0x18, 0x1A, 0x1B, 0x1C, 0x1E))
