# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Make Python behave as on a machine whose crypto policy lacks MD5, SHA-1 and Ed25519.

Python imports this file at its start if the directory is on PYTHONPATH. It is a stand-in, not OpenSSL's FIPS provider: a
configuration of OpenSSL (OPENSSL_CONF) can only remove whole providers, and the wheels of cryptography have no FIPS provider.
So it replaces the functions of hashlib and cryptography that would fail there, with the same errors.
"""

from __future__ import annotations

import hashlib
from typing import Any, NoReturn

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519

MISSING = ("md5", "sha1")
_new, _hash = hashlib.new, hashes.Hash


def _no_digest(*_arguments: Any, **_options: Any) -> NoReturn:
    raise ValueError("[digital envelope routines] unsupported")


def _no_key(*_arguments: Any, **_options: Any) -> NoReturn:
    raise UnsupportedAlgorithm("ed25519 is not supported by this version of OpenSSL.")


def _checked_new(name: str, *arguments: Any, **options: Any) -> Any:
    return _no_digest() if name.lower().replace("-", "") in MISSING else _new(name, *arguments, **options)


def _checked_hash(algorithm: hashes.HashAlgorithm, *arguments: Any, **options: Any) -> hashes.Hash:
    if algorithm.name in MISSING:
        raise UnsupportedAlgorithm(f"{algorithm.name} is not a supported hash on this backend.")
    return _hash(algorithm, *arguments, **options)


_OURS: dict[tuple[Any, str], Any] = {
    (hashlib, "md5"): _no_digest,
    (hashlib, "sha1"): _no_digest,
    (hashlib, "new"): _checked_new,
    (hashes, "Hash"): _checked_hash,
    (ed25519.Ed25519PrivateKey, "generate"): _no_key,
    (ed25519.Ed25519PrivateKey, "from_private_bytes"): _no_key,
    (ed25519.Ed25519PublicKey, "from_public_bytes"): _no_key,
}
for (_owner, _name), _function in _OURS.items():
    setattr(_owner, _name, _function)
