# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Find the parts of a private key that a text shows, whatever form they have."""

from __future__ import annotations

import base64
import random
import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

if TYPE_CHECKING:
    from ansible_collections.certflow.kubernetes.plugins.module_utils._x509.private_keys import PrivateKey

#: Seeds whose number of 1024 bits is a prime.
SEEDS_OF_PRIMES = (114, 1261)


def same_key(kind: str) -> PrivateKey:
    """Return always the same key of a kind. Of random ones, some have a line that looks like a name."""
    source = random.Random(1)
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.from_private_bytes(source.randbytes(32))
    if kind == "rsa-2048":
        return _rsa_key(*(random.Random(seed).getrandbits(1024) | 3 << 1022 | 1 for seed in SEEDS_OF_PRIMES))
    curve = {"ecdsa-p256": ec.SECP256R1(), "ecdsa-p384": ec.SECP384R1()}[kind]
    return ec.derive_private_key(source.getrandbits(curve.key_size - 1), curve)


def _rsa_key(p: int, q: int) -> rsa.RSAPrivateKey:
    public = rsa.RSAPublicNumbers(65537, p * q)
    exponent = pow(public.e, -1, (p - 1) * (q - 1))
    parts = rsa.rsa_crt_dmp1(exponent, p), rsa.rsa_crt_dmq1(exponent, q), rsa.rsa_crt_iqmp(p, q)
    return rsa.RSAPrivateNumbers(p, q, exponent, *parts, public).private_key()


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
    forms = (plain, plain.replace("-", "+").replace("_", "/"), plain.replace("\\x", ""))
    letters = [re.sub("[^A-Za-z0-9+/]", "", form) for form in forms]
    seen = {form[start : start + 16] for form in letters for start in range(len(form) - 15)}
    runs: list[str] = []
    for number in secret_numbers(pem):
        once = [base64.b64encode(number[skip:]).rstrip(b"=")[:-1] for skip in range(3)]
        twice = [base64.b64encode(entry[skip:]).rstrip(b"=")[:-1] for entry in once for skip in range(3)]
        hexadecimal = (number.hex(), number.hex().upper(), *(entry.hex() for entry in once))
        decimal = ("".join(map(str, entry)) for entry in (number, *once))
        for form in (*(entry.decode() for entry in (*once, *twice)), *hexadecimal, *decimal):
            runs += [form[start : start + 16] for start in range(len(form) - 15)]
    return [run for run in runs if run in seen]
