# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Make and read certificate signing requests (PKCS#10, RFC 2986)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import canonical_request, certificate_facts
from .encoding import pem_text
from .errors import CertificateError, RequestNotCanonical, convert_errors

try:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
except ImportError:
    pass

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

    from .private_keys import PrivateKey

LABEL = "CERTIFICATE REQUEST"
NOT_CANONICAL = (
    "the request is not in canonical form, so a signer may read other content in it than this collection"
)
# The limits of Go's crypto/rsa.
SHORTEST_RSA = 1024
LARGEST_EXPONENT = 2**31 - 1


@dataclass(frozen=True)
class RequestFacts(certificate_facts.SubjectFacts):
    """The content of a request."""

    #: SHA-256 of its SubjectPublicKeyInfo, lowercase hex.
    public_key_sha256: str
    #: True if it asks to become a certificate authority.
    wants_ca: bool
    #: True if the signature proves that its sender has the private key.
    is_signature_valid: bool
    #: Key usages and extended usages in the words of the Kubernetes CSR API. An extended usage without a word is a dotted OID.
    usages: tuple[str, ...] = ()


# The content of a request that cannot be read.
NOTHING = RequestFacts("", "", (), (), (), (), (), "", wants_ca=False, is_signature_valid=False)


def build(
    key: PrivateKey,
    *,
    common_name: str,
    organizations: Sequence[str] = (),
    dns_names: Sequence[str] = (),
    ip_addresses: Sequence[str] = (),
) -> str:
    """Return a signed request as PEM. Raises CertificateError for a name that a certificate cannot contain."""
    # RFC 8032: Ed25519 hashes by itself.
    digest: hashes.SHA256 | None = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    with convert_errors("the certificate request cannot be built"):
        subject = certificate_facts.subject_name(common_name, organizations)
        names = certificate_facts.general_names(dns_names, ip_addresses)
        builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        request = builder.sign(key, digest)
    return request.public_bytes(serialization.Encoding.PEM).decode("ascii")


def parse(pem: str) -> RequestFacts:
    """Return the content of the only request of a PEM text.

    Raises RequestNotCanonical if it is not in canonical form, because another program could then read other content.
    """
    data = pem_text.only_block(pem, LABEL)
    if data is None:
        raise RequestNotCanonical(f"{NOT_CANONICAL}: it is not one PEM block {LABEL} and nothing else")
    try:
        contents = canonical_request.read(data)
        with convert_errors("its key or signature cannot be read"):
            request = x509.load_der_x509_csr(data)
            _check_key(request.public_key(), contents.public_key)
            is_signature_valid = request.is_signature_valid
    except CertificateError as error:
        raise RequestNotCanonical(f"{NOT_CANONICAL}: {error.cause}") from None
    return RequestFacts(
        subject=contents.subject(),
        common_name="".join(contents.values("CN")),
        organizations=contents.values("O"),
        dns_names=tuple(contents.dns_names),
        ip_addresses=tuple(contents.ip_addresses),
        emails=tuple(contents.emails),
        uris=tuple(contents.uris),
        public_key_sha256=hashlib.sha256(contents.public_key).hexdigest(),
        wants_ca=contents.wants_ca,
        is_signature_valid=is_signature_valid,
        usages=tuple(contents.usages),
    )


def _check_key(key: PublicKeyTypes, encoded: bytes) -> None:
    """Raise RequestNotCanonical for a key in an unusual encoding, and for a key that Go does not accept."""
    usual = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if usual != encoded:
        raise RequestNotCanonical("its public key is not in its usual encoding")
    if isinstance(key, rsa.RSAPublicKey):
        exponent = key.public_numbers().e
        if key.key_size < SHORTEST_RSA or exponent > LARGEST_EXPONENT or exponent % 2 == 0:
            raise RequestNotCanonical(
                f"its RSA key ({key.key_size} bits, exponent {exponent}) is not accepted"
            )
