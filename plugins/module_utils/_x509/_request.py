# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Certificate signing requests (PKCS#10, RFC 2986)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Sequence

if TYPE_CHECKING:
    from ._keys import PrivateKey


@dataclass(frozen=True)
class RequestFacts:
    """What a request asks for. subject is RFC 4514 text; public_key_sha256 as in _keys."""

    subject: str
    common_name: str
    organizations: tuple[str, ...]
    dns_names: tuple[str, ...]
    ip_addresses: tuple[str, ...]
    emails: tuple[str, ...]
    uris: tuple[str, ...]
    public_key_sha256: str
    wants_ca: bool
    is_signature_valid: bool


def build(
    key: PrivateKey,
    *,
    common_name: str,
    organizations: Sequence[str] = (),
    dns_names: Sequence[str] = (),
    ip_addresses: Sequence[str] = (),
) -> str:
    """Return a signed request as PEM. Raises CertificateError for a name that a certificate cannot hold."""
    raise NotImplementedError


def parse(pem: str) -> RequestFacts:
    """Describe the first request of a PEM text. Raises CertificateError where there is none or it does not parse."""
    raise NotImplementedError
