# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Read values in DER (ITU-T X.690) one after the other, by the rules of golang.org/x/crypto/cryptobyte."""

from __future__ import annotations

from ..errors import CertificateError

BOOLEAN, INTEGER, BIT_STRING, OCTET_STRING, OBJECT_IDENTIFIER = 0x01, 0x02, 0x03, 0x04, 0x06
UTF8_STRING, PRINTABLE_STRING, IA5_STRING = 0x0C, 0x13, 0x16
UTC_TIME, GENERALIZED_TIME, SEQUENCE, SET = 0x17, 0x18, 0x30, 0x31


class Reader:
    """The values that are left of a text. A value that is not accepted raises CertificateError with the given words."""

    def __init__(self, data: bytes, words: str) -> None:
        self.data = data
        self.start = 0
        self.words = words

    @property
    def is_empty(self) -> bool:
        return self.start >= len(self.data)

    def has(self, tag: int) -> bool:
        return self.data[self.start : self.start + 1] == bytes([tag])

    def element(self, words: str = "", tag: int | None = None) -> tuple[int, bytes, bytes]:
        """Return the tag, the content and the whole encoding of the next value. tag: the only one that is accepted."""
        data, begin = self.data, self.start + 2
        refused = CertificateError(words or self.words)
        if begin > len(data) or data[self.start] & 0x1F == 0x1F or tag not in (None, data[self.start]):
            raise refused
        length = data[self.start + 1]
        if length >= 0x80:
            count = length - 0x80
            digits = data[begin : begin + count]
            begin += count
            length = int.from_bytes(digits, "big")
            # The length must use as few octets as possible: 127 fits into the first octet.
            if not 1 <= count == len(digits) <= 4 or length < max(0x80, 1 << 8 * (count - 1)):
                raise refused
        if begin + length > len(data):
            raise refused
        start = self.start
        end = begin + length
        self.start = end
        return data[start], data[begin:end], data[start:end]

    def content(self, tag: int, words: str = "") -> bytes:
        return self.element(words, tag)[1]

    def inner(self, tag: int, words: str = "") -> Reader:
        return Reader(self.content(tag, words), words or self.words)

    def integer(self, words: str = "", tag: int = INTEGER) -> int:
        content = self.content(tag, words)
        is_padded = len(content) > 1 and (content[0], content[1] >> 7) in ((0x00, 0), (0xFF, 1))
        if not content or is_padded:
            raise CertificateError(words or self.words)
        return int.from_bytes(content, "big", signed=True)

    def boolean(self) -> bool:
        content = self.content(BOOLEAN)
        if content not in (b"\x00", b"\xff"):
            raise CertificateError(self.words)
        return content == b"\xff"

    def bits(self, words: str = "") -> str:
        """Return a bit string as a text of 0 and 1."""
        content = self.content(BIT_STRING, words)
        bits = "".join(f"{octet:08b}" for octet in content[1:])
        unused = content[0] if content else 8
        if unused > min(7, len(bits)) or "1" in bits[len(bits) - unused :]:
            raise CertificateError(words or self.words)
        return bits[: len(bits) - unused]

    def oid(self, words: str = "") -> str:
        """Return an object identifier as text, such as "2.5.4.3"."""
        numbers: list[int] = []
        number = 0
        length = 0
        for octet in self.content(OBJECT_IDENTIFIER, words):
            if length == 5 or number >= 1 << 24 or (length == 0 and octet == 0x80):
                raise CertificateError(words or self.words)
            number = number << 7 | octet & 0x7F
            length += 1
            if octet < 0x80:
                numbers.append(number)
                number = 0
                length = 0
        if not numbers or length:
            raise CertificateError(words or self.words)
        first = min(numbers[0] // 40, 2)
        return ".".join(map(str, (first, numbers[0] - 40 * first, *numbers[1:])))


def right_aligned(bits: str) -> bytes:
    """Return a bit string as bytes, with its last bit at the end of the last byte."""
    return int(f"0{bits}", 2).to_bytes((len(bits) + 7) // 8, "big")


def is_utf8(value: bytes) -> bool:
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
