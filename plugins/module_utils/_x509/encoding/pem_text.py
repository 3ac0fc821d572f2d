# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Find the blocks of PEM text (RFC 7468) in linear time."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import CertificateError

_MARKER = re.compile(r"-----(BEGIN|END) (.*)-----")
_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")
_ONLY_BLOCK = r"(?:[ \t\r\n]*\n)?-----BEGIN {0}-----\r?\n((?:[A-Za-z0-9+/=]+\r?\n)+)-----END {0}-----[ \t]*(?:\r?\n[ \t\r\n]*)?"
# Wider than the grammar, because text that was indented or cut off still contains the secret.
_PRIVATE_KEY = re.compile(r"-----BEGIN [^-\n]*PRIVATE KEY")


@dataclass(frozen=True)
class PemBlock:
    """One complete block."""

    #: "CERTIFICATE", for example.
    label: str
    #: The block with its BEGIN and END lines. Lines end with LF.
    text: str


def blocks(text: str) -> tuple[PemBlock, ...]:
    """Return every complete block of the text, in order.

    Ignore text outside blocks, and blocks without an END of the same label. The API server reads a bundle through Go, so
    der() decodes no block that Go's encoding/pem does not read.
    """
    result: list[PemBlock] = []
    label: str | None = None
    lines: list[str] = []
    has_only_headers = True
    for line in _lines(text):
        # Go reads such an END line as a header of the block. Newer versions read no block after it.
        is_header = line.startswith("-----END ") and ":" in line and has_only_headers
        if label is not None and is_header:
            break
        marker = _MARKER.fullmatch(line) if line.startswith("-----") else None
        if marker is None:
            if label is not None:
                lines.append(line)
                has_only_headers &= ":" in line
        elif marker[1] == "BEGIN":
            label, lines, has_only_headers = marker[2], [], True
        else:
            if label is not None and marker[2] == label:
                body = "".join(f"{entry}\n" for entry in lines)
                result.append(PemBlock(label, f"-----BEGIN {label}-----\n{body}-----END {label}-----\n"))
            label, lines = None, []
    return tuple(result)


def only_block(text: str, label: str) -> bytes | None:
    """Return the bytes of a text that is exactly one block with this label and without headers, None otherwise.

    Accept only blanks and line ends outside the block. Lines end with LF or CRLF and have any length. Every PEM reader
    reads the same bytes in such a text.
    """
    match = re.fullmatch(_ONLY_BLOCK.format(re.escape(label)), text)
    if match is None:
        return None
    body = match[1].replace("\r", "").replace("\n", "")
    try:
        data = base64.b64decode(body, validate=True)
    except ValueError:
        return None
    return data if base64.b64encode(data).decode("ascii") == body else None


def has_private_key(text: str) -> bool:
    """Return True if the text contains a private key of any kind: PKCS#1, SEC 1, PKCS#8, encrypted, OpenSSH."""
    return _PRIVATE_KEY.search(text) is not None


def der(block: PemBlock) -> bytes:
    """Return the bytes that a block encodes. Raises CertificateError if it is not base64 as Go reads it."""
    body = re.sub(r"[ \t\r]", "", "".join(block.text.split("\n")[1:-2]))
    if len(body) % 4 or not _BASE64.fullmatch(body):
        raise CertificateError(f"the {block.label} block is not base64")
    return base64.b64decode(body)


def encode(label: str, data: bytes) -> str:
    """Return the data as one PEM block."""
    body = base64.b64encode(data).decode("ascii")
    lines = [body[start : start + 64] for start in range(0, len(body), 64)]
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""])


def _lines(text: str) -> Iterator[str]:
    """Yield the lines without their ends and final blanks. A CR belongs to the end only if an LF follows."""
    *ended, last = text.split("\n")
    for line in ended:
        yield (line.removesuffix("\r")).rstrip(" \t")
    yield last.rstrip(" \t")
