# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Keep the private keys that a run knows out of every text that leaves it.

A policy or a webhook that refuses a Secret may quote any part of it, in any encoding. So this file masks each run of SHORTEST characters
of a key. It knows the base64 of a key, as in PEM, the base64 of that text, as in a Secret, and the hexadecimal digits of both. It ignores
line ends, escapes and other characters between the letters. The keys are in the memory of this process until the operation ends.
"""

from __future__ import annotations

import base64
import contextlib
import re
from collections.abc import Iterator

from .text import MASK

try:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
except ImportError:  # reported by _ansible, with the interpreter's path
    pass

SHORTEST = 16
# Each run of SHORTEST characters has a piece of this length that begins at a multiple of the step.
_PIECE = 12
_STEP = SHORTEST - _PIECE + 1

_BLOCK = re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----(.*?)-----END", re.DOTALL)
_ENCODED = re.compile(r"[A-Za-z0-9+/]{64,}")
# Escapes of URLs and of JSON.
_ESCAPE = re.compile(r"%(?:25)*[0-9A-Fa-f]{2}|\\+u[0-9A-Fa-f]{4}|\\+[abfnrtv]")
_ESCAPED = {"2B": "+", "2F": "/"}
_URL_SAFE = str.maketrans("-_", "+/")
_LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_OTHERS = bytes(set(range(256)) - set(_LETTERS))
_WORD = re.compile(r"[A-Za-z0-9+/=_%\\-]+")
_MASKS = re.compile(r"\*\*\*(?:[^A-Za-z0-9*]{1,4}\*\*\*)+")

_keys: set[bytes] = set()


@contextlib.contextmanager
def forget_at_end() -> Iterator[None]:
    """Forget all keys when the block ends."""
    try:
        yield
    finally:
        _keys.clear()


def learn(text: str) -> None:
    """Remember each private key in the text: in PEM, or in base64 of that, as the API shows the data of a Secret."""
    encoded = (base64.b64decode(word[: len(word) // 4 * 4]) for word in _ENCODED.findall(text))
    for pem in (text, *(data.decode("latin-1") for data in encoded)):
        for body in _BLOCK.findall(pem):
            with contextlib.suppress(ValueError):
                _keys.add(base64.b64decode(re.sub(r"\\[nr]|\s", "", body)))


def hide(text: str) -> str:
    """Return the text with *** for each part of a known key."""
    return mask(text, find_pieces(text))


def find_pieces(text: str) -> frozenset[bytes]:
    """Return the pieces of known keys that the text has. It leaves out the public part of a key, which a certificate has too."""
    windows = {piece for form in _both(text) for piece in _pieces(_letters(form), 1)} if _keys else ()
    known: set[bytes] = set()
    for key in _keys if windows else ():
        pieces = {piece for form in _forms(key) for piece in _pieces(form, _STEP) if piece in windows}
        public = b" ".join(_forms(_public_part(key))) if pieces else b""
        known |= {piece for piece in pieces if piece not in public}
    return frozenset(known)


def mask(text: str, pieces: frozenset[bytes]) -> str:
    """Return the text with *** for each word that has a part of one of these pieces."""
    if not pieces:
        return text
    hits: set[int] = set()
    for form in _both(text):
        tokens = re.finditer(rf"{_ESCAPE.pattern}|[A-Za-z0-9+/]", form)
        letters = [(token.start(), letter) for token in tokens for letter in _letters(token[0]).decode()]
        for start, piece in enumerate(_pieces("".join(letter for _place, letter in letters).encode(), 1)):
            hits.update(place for place, _letter in letters[start : start + _PIECE] if piece in pieces)
    masked = _WORD.sub(lambda word: word[0] if hits.isdisjoint(range(*word.span())) else MASK, text)
    return _MASKS.sub(MASK, masked)


def _both(text: str) -> tuple[str, str]:
    """Return the text, and the text with the letters of the alphabet for URLs as those of the usual one."""
    return text, text.translate(_URL_SAFE)


def _letters(text: str) -> bytes:
    """Return the letters of base64 in the text."""
    plain = _ESCAPE.sub(lambda escape: _ESCAPED.get(escape[0][-2:].upper(), ""), text)
    return plain.encode("ascii", "ignore").translate(None, _OTHERS)


def _pieces(letters: bytes, step: int) -> Iterator[bytes]:
    last = len(letters) - _PIECE
    return (letters[start : start + _PIECE] for start in (*range(0, last, step), last) if last >= 0)


def _forms(data: bytes) -> Iterator[bytes]:
    """Yield the texts that a part of the data may occur in. Base64 has three alignments."""
    plain = [base64.b64encode(data[skip:]).rstrip(b"=") for skip in range(3)]
    yield from plain
    yield from (base64.b64encode(text[skip:]).rstrip(b"=") for text in plain for skip in range(3))
    for text in (data.hex().encode(), plain[0].hex().encode()):
        yield from (text, text.upper())


def _public_part(key: bytes) -> bytes:
    try:
        public = serialization.load_der_private_key(key, None).public_key()
        return public.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return b""
