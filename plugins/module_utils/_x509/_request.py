# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Certificate signing requests (PKCS#10, RFC 2986)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import _keys, _names, _pem
from ._errors import CertificateError, converted

try:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519
except ImportError:
    pass

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._keys import PrivateKey

LABEL = "CERTIFICATE REQUEST"


@dataclass(frozen=True)
class RequestFacts(_names.SubjectFacts):
    """What a request asks for.

    wants_ca: it asks to become a certificate authority. is_signature_valid: its sender holds the private key.
    """

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
    # RFC 8032: Ed25519 hashes by itself.
    digest: hashes.SHA256 | None = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    with converted("the certificate request cannot be built"):
        subject = _names.subject_name(common_name, organizations)
        names = _names.general_names(dns_names, ip_addresses)
        builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        request = builder.sign(key, digest)
    return request.public_bytes(serialization.Encoding.PEM).decode("ascii")


def parse(pem: str) -> RequestFacts:
    """Describe the first request of a PEM text. Raises CertificateError where there is none or it does not parse."""
    block = next((block for block in _pem.blocks(pem) if block.label == LABEL), None)
    if block is None:
        raise CertificateError("no certificate request found in the PEM text")
    with converted("the certificate request cannot be read"):
        request = x509.load_der_x509_csr(_pem.der(block))
        names = _names.describe(request.subject, request.extensions)
        return RequestFacts(
            **vars(names),
            public_key_sha256=_keys.public_key_sha256(request.public_key()),
            wants_ca=any(
                isinstance(extension.value, x509.BasicConstraints) and extension.value.ca
                for extension in request.extensions
            ),
            is_signature_valid=request.is_signature_valid,
        )
