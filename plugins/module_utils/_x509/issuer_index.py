# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Find the issuers of certificates among many, by name, with a limit for the signature checks.

A bundle of a foreign cluster may have a thousand CAs, and all of them may have one name. A comparison in pairs would not end.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from . import certificate_facts

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

with contextlib.suppress(ImportError):  # reported by _ansible, with the interpreter's path
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

#: Real bundles have some dozens of CAs, with different names.
MOST_CHECKS = 2000


def is_signed_by(certificate: Certificate, issuer: Certificate) -> bool:
    """Return True if the key of the issuer made the signature, and the names fit."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


class IssuerIndex:
    """Certificates by the encoded bytes of their subject. It remembers one certificate for each key and subject.

    checks: the number of signatures that were checked. After MOST_CHECKS no issuer is found.
    """

    def __init__(self, certificates: Iterable[Certificate]) -> None:
        self.checks = 0
        self._by_subject: dict[bytes, dict[str, Certificate]] = {}
        for certificate in certificates:
            key = certificate_facts.describe(certificate).public_key_sha256
            self._by_subject.setdefault(certificate.subject.public_bytes(), {})[key] = certificate

    def issuers(self, certificate: Certificate) -> Iterator[str]:
        """Yield the SHA-256 of each public key that signed the certificate, lowercase hex."""
        for key, issuer in self._by_subject.get(certificate.issuer.public_bytes(), {}).items():
            if self.checks >= MOST_CHECKS:
                return
            self.checks += 1
            if is_signed_by(certificate, issuer):
                yield key
