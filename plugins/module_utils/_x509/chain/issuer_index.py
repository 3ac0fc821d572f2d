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

from ..certificate_facts import CertificateFacts
from ..errors import UnreadCertificate
from . import signatures

#: Real bundles have some dozens of CAs, with different names.
MOST_CHECKS = 2000


def is_signed_by(certificate: CertificateFacts, issuer: CertificateFacts) -> bool:
    """Return True if the key of the issuer made the signature, and the names fit."""
    with contextlib.suppress(UnreadCertificate):
        return certificate.encoded_issuer == issuer.encoded_subject and signatures.is_signed_by(
            certificate, issuer
        )
    return False


class IssuerIndex:
    """Certificates by the encoded bytes of their subject. It remembers one certificate for each key and subject.

    checks: the number of signatures that were checked. After MOST_CHECKS no issuer is found.
    """

    def __init__(self, certificates: Iterable[CertificateFacts]) -> None:
        self.checks = 0
        self._by_subject: dict[bytes, dict[str, CertificateFacts]] = {}
        for entry in certificates:
            self._by_subject.setdefault(entry.encoded_subject, {})[entry.public_key_sha256] = entry

    def issuers(self, certificate: CertificateFacts) -> Iterator[str]:
        """Yield the SHA-256 of each public key that signed the certificate, lowercase hex."""
        for key, issuer in self._by_subject.get(certificate.encoded_issuer, {}).items():
            if self.checks >= MOST_CHECKS:
                return
            self.checks += 1
            if is_signed_by(certificate, issuer):
                yield key
