# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Find the parts of a private key that a text shows, whatever form they have."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

from cryptography.hazmat.primitives import serialization

if TYPE_CHECKING:
    from ansible_collections.certflow.kubernetes.plugins.module_utils._x509.private_keys import PrivateKey


def unknown_pem(key: PrivateKey) -> str:
    """Return the PEM of a key that this process does not know. ``private_keys.to_pem`` would remember the key."""
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, *form).decode()


def secret_numbers(pem: str) -> list[bytes]:
    key = serialization.load_pem_private_key(pem.encode(), None)
    numbers = getattr(key, "private_numbers", None)
    if numbers is None:
        return [key.private_bytes_raw()]  # type: ignore[union-attr]
    held = numbers()
    named = [getattr(held, name, 0) for name in ("private_value", "d", "p", "q", "dmp1", "dmq1", "iqmp")]
    return [number.to_bytes((number.bit_length() + 7) // 8, "big") for number in named if number]


def leaks(text: str, pem: str) -> list[str]:
    """Return each run of 16 letters of the secret numbers that the text has, whatever is between them."""
    plain = unquote(
        unquote(re.sub(r"\\+(u000a|n|r)", "", text).replace("\\u002b", "+").replace("\\u002F", "/"))
    )
    letters = [
        re.sub("[^A-Za-z0-9+/]", "", form) for form in (plain, plain.replace("-", "+").replace("_", "/"))
    ]
    seen = {form[start : start + 16] for form in letters for start in range(len(form) - 15)}
    runs: list[str] = []
    for number in secret_numbers(pem):
        once = [base64.b64encode(number[skip:]).rstrip(b"=")[:-1] for skip in range(3)]
        twice = [base64.b64encode(entry[skip:]).rstrip(b"=")[:-1] for entry in once for skip in range(3)]
        hexadecimal = (number.hex(), number.hex().upper(), *(entry.hex() for entry in once))
        for form in (*(entry.decode() for entry in (*once, *twice)), *hexadecimal):
            runs += [form[start : start + 16] for start in range(len(form) - 15)]
    return [run for run in runs if run in seen]
