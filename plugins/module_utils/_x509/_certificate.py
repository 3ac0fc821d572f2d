# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Certificates: read, write, describe."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.x509 import Certificate


@dataclass(frozen=True)
class CertificateFacts:
    """What a certificate says.

    subject, issuer: RFC 4514 text. not_before, not_after: aware, UTC. serial: lowercase hex as openssl prints it,
    without colons. fingerprint: SHA-256 of the certificate, public_key_sha256: of its SubjectPublicKeyInfo, both in
    lowercase hex. usages: key usages and extended ones in the words of the Kubernetes CSR API; an extended one that
    has no word there is its dotted OID. is_self_issued: issuer and subject are the same name.
    """

    subject: str
    common_name: str
    organizations: tuple[str, ...]
    dns_names: tuple[str, ...]
    ip_addresses: tuple[str, ...]
    emails: tuple[str, ...]
    uris: tuple[str, ...]
    issuer: str
    not_before: datetime
    not_after: datetime
    serial: str
    fingerprint: str
    public_key_sha256: str
    is_ca: bool
    usages: tuple[str, ...]
    is_self_issued: bool


def load(pem: str) -> tuple[Certificate, ...]:
    """Read every CERTIFICATE block of a text, in order; none gives an empty tuple.

    Raises CertificateError that says which block (counted from 1) does not parse.
    """
    raise NotImplementedError


def load_leaf_and_chain(pem: str) -> tuple[Certificate, tuple[Certificate, ...]]:
    """Read a certificate and the intermediates after it. Raises CertificateError, also where there is none."""
    raise NotImplementedError


def describe(certificate: Certificate) -> CertificateFacts:
    """Raises CertificateError where a part of the certificate is malformed."""
    raise NotImplementedError


def describe_pem(pem: str) -> CertificateFacts:
    """Describe the first certificate of a text. Raises CertificateError, also where there is none."""
    raise NotImplementedError


def to_pem(certificate: Certificate) -> str:
    raise NotImplementedError
