# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""PEM text (RFC 7468): find its blocks, in linear time."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass

from ._errors import CertificateError

_MARKER = re.compile(r"-----(BEGIN|END) (.*)-----[ \t\r]*")
# Wider than the grammar on purpose: text pasted with an indent or cut off still holds the secret.
_PRIVATE_KEY = re.compile(r"-----BEGIN [^-\n]*PRIVATE KEY")


@dataclass(frozen=True)
class PemBlock:
    """One complete block. label: "CERTIFICATE", ...; text: the block with its markers, lines ended by LF."""

    label: str
    text: str


def blocks(text: str) -> tuple[PemBlock, ...]:
    """Return every complete block of the text, in order.

    Text outside blocks is ignored, and so is a block whose END never comes or names another label. Go's encoding/pem,
    through which the API server reads a bundle, does the same: of several BEGIN lines the last before an END counts.
    """
    found: list[PemBlock] = []
    label: str | None = None
    lines: list[str] = []
    for line in text.split("\n"):
        marker = _MARKER.fullmatch(line) if line.startswith("-----") else None
        if marker is None:
            if label is not None:
                lines.append(line.rstrip())
        elif marker[1] == "BEGIN":
            label, lines = marker[2], []
        else:
            if label is not None and marker[2] == label:
                body = "".join(f"{entry}\n" for entry in lines)
                found.append(PemBlock(label, f"-----BEGIN {label}-----\n{body}-----END {label}-----\n"))
            label, lines = None, []
    return tuple(found)


def has_private_key(text: str) -> bool:
    """Tell whether the text holds a private key of any kind: PKCS#1, SEC 1, PKCS#8, encrypted, OpenSSH."""
    return _PRIVATE_KEY.search(text) is not None


def der(block: PemBlock) -> bytes:
    """Return the bytes that a block encodes. Raises CertificateError where it is not base64."""
    body = block.text.split("\n")[1:-2]
    try:
        return base64.b64decode("".join("".join(line.split()) for line in body), validate=True)
    except (binascii.Error, ValueError) as error:
        raise CertificateError(f"the {block.label} block is not base64") from error


def encode(label: str, data: bytes) -> str:
    """Return the data as one PEM block."""
    body = base64.b64encode(data).decode("ascii")
    lines = [body[start : start + 64] for start in range(0, len(body), 64)]
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""])
