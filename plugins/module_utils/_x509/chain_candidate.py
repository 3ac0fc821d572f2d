# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Read a certificate as Go's crypto/x509 reads it when it builds a chain. Only go_parser decides if Go parses it.

Go compares the names of issuers as encoded bytes. "kubernetes" as UTF8String and as PrintableString are two names, although
cryptography calls them equal.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from . import certificate_facts, go_parser, name_constraints
from .certificate_facts import CertificateFacts
from .errors import CertificateError, UnreadCertificate, convert_errors
from .go_parser import GoCertificate

try:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
except ImportError:
    pass

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
    from cryptography.x509 import Certificate, Extension

#: The version of certificates with extensions.
_WITH_EXTENSIONS = 3
SUBJECT_KEY_ID = "2.5.29.14"
KEY_USAGE = "2.5.29.15"
ALTERNATIVE_NAMES = "2.5.29.17"
BASIC_CONSTRAINTS = "2.5.29.19"
NAME_CONSTRAINTS = "2.5.29.30"
AUTHORITY_KEY_ID = "2.5.29.35"
EXTENDED_KEY_USAGE = "2.5.29.37"

# Extensions that Go handles, so they may be critical. Source of this and the next two tables: Go 1.26 crypto/x509,
# processExtensions, parsePublicKey, signatureAlgorithmDetails.
UNDERSTOOD = frozenset(
    [
        KEY_USAGE,
        ALTERNATIVE_NAMES,
        BASIC_CONSTRAINTS,
        NAME_CONSTRAINTS,
        EXTENDED_KEY_USAGE,
        "2.5.29.31",  # cRLDistributionPoints
        "2.5.29.32",  # certificatePolicies
        "2.5.29.33",  # policyMappings
        "2.5.29.36",  # policyConstraints
        "2.5.29.54",  # inhibitAnyPolicy
    ]
)


class SignatureAlgorithm(NamedTuple):
    """A signature algorithm."""

    name: str
    #: The kind of the key that signs.
    key_kind: str
    #: True if Go verifies such signatures.
    is_secure: bool


# Dotted OID -> algorithm. RSA-PSS has one OID and names its digest in its parameters: see _signature.
SIGNATURES: dict[str, SignatureAlgorithm] = {
    "1.2.840.113549.1.1.4": SignatureAlgorithm("MD5-RSA", "RSA", False),
    "1.2.840.113549.1.1.5": SignatureAlgorithm("SHA1-RSA", "RSA", False),
    "1.3.14.3.2.29": SignatureAlgorithm("SHA1-RSA", "RSA", False),
    "1.2.840.113549.1.1.11": SignatureAlgorithm("SHA256-RSA", "RSA", True),
    "1.2.840.113549.1.1.12": SignatureAlgorithm("SHA384-RSA", "RSA", True),
    "1.2.840.113549.1.1.13": SignatureAlgorithm("SHA512-RSA", "RSA", True),
    "1.2.840.10045.4.1": SignatureAlgorithm("ECDSA-SHA1", "ECDSA", False),
    "1.2.840.10045.4.3.2": SignatureAlgorithm("ECDSA-SHA256", "ECDSA", True),
    "1.2.840.10045.4.3.3": SignatureAlgorithm("ECDSA-SHA384", "ECDSA", True),
    "1.2.840.10045.4.3.4": SignatureAlgorithm("ECDSA-SHA512", "ECDSA", True),
    "1.3.101.112": SignatureAlgorithm("Ed25519", "Ed25519", True),
}
RSA_PSS = "1.2.840.113549.1.1.10"
RSA_PSS_DIGESTS = frozenset(["sha256", "sha384", "sha512"])

GO_KEY_TYPES = {"RSA": "*rsa.PublicKey", "ECDSA": "*ecdsa.PublicKey", "Ed25519": "ed25519.PublicKey"}


@dataclass(frozen=True)
class ChainCandidate:
    """A certificate that may be a member of a chain."""

    certificate: Certificate
    facts: CertificateFacts
    #: The encoded name.
    subject: bytes
    #: The encoded name.
    issuer: bytes
    #: "RSA", "ECDSA", "Ed25519", "DSA" or None.
    key_kind: str | None
    #: Dotted OID -> extension. Go reads those of version 3 only.
    extensions: dict[str, Extension[Any]]
    #: What Go reads.
    parsed: GoCertificate

    def value(self, oid: str) -> Any:
        """Return the value of an extension, or None."""
        extension = self.extensions.get(oid)
        return None if extension is None else extension.value

    @property
    def label(self) -> str:
        """Return the name of an authority in Go's messages."""
        organization = self.facts.organizations[0] if self.facts.organizations else ""
        return self.facts.common_name or organization or f"serial:{self.certificate.serial_number}"

    @property
    def extended_usages(self) -> frozenset[str]:
        return frozenset(certificate_facts.extended_usages(self.value(EXTENDED_KEY_USAGE) or ()))

    @property
    def has_unknown_critical(self) -> bool:
        return any(
            extension.critical and not self._is_understood(oid) for oid, extension in self.extensions.items()
        )

    def _is_understood(self, oid: str) -> bool:
        facts = self.facts
        if oid == ALTERNATIVE_NAMES:
            return bool(facts.dns_names or facts.ip_addresses or facts.emails or facts.uris)
        if oid == NAME_CONSTRAINTS:
            return name_constraints.are_understood(self.value(oid))
        return oid in UNDERSTOOD


@functools.lru_cache(maxsize=256)
def read(certificate: Certificate) -> ChainCandidate:
    """Return the certificate. Raises CertificateError if Go does not parse it, UnreadCertificate if only the library does not."""
    parsed = go_parser.read(certificate.public_bytes(serialization.Encoding.DER))
    try:
        facts = certificate_facts.describe(certificate)
        with convert_errors("the certificate cannot be read"):
            extensions = {extension.oid.dotted_string: extension for extension in certificate.extensions}
            key_kind = _key_kind(certificate.public_key())
    except CertificateError as error:
        raise UnreadCertificate(error.cause, remedy=error.remedy) from None
    if parsed.version != _WITH_EXTENSIONS:
        facts = replace(facts, dns_names=(), ip_addresses=(), emails=(), uris=(), usages=(), is_ca=False)
        extensions = {}
    if parsed.key_algorithm not in go_parser.GO_KEYS:
        key_kind = None
    return ChainCandidate(certificate, facts, parsed.subject, parsed.issuer, key_kind, extensions, parsed)


def _key_kind(public_key: CertificatePublicKeyTypes) -> str | None:
    if isinstance(public_key, rsa.RSAPublicKey):
        return "RSA"
    if isinstance(public_key, ed25519.Ed25519PublicKey):
        return "Ed25519"
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        return "ECDSA"
    return "DSA" if isinstance(public_key, dsa.DSAPublicKey) else None


def is_same_entity(first: ChainCandidate, other: ChainCandidate) -> bool:
    """Return True if subject, key and alternative names are the same. A chain must not contain two such certificates."""
    return (
        first.subject == other.subject
        and first.facts.public_key_sha256 == other.facts.public_key_sha256
        and first.value(ALTERNATIVE_NAMES) == other.value(ALTERNATIVE_NAMES)
    )


def signature_error(child: ChainCandidate, parent: ChainCandidate) -> str:
    """Return Go's reason why the parent's signature on the child is not valid, "" if it is valid."""
    basic, usage = parent.value(BASIC_CONSTRAINTS), parent.value(KEY_USAGE)
    is_version_3 = parent.parsed.version == _WITH_EXTENSIONS
    if (basic is None and is_version_3) or (basic is not None and not basic.ca) or not _may_sign(usage):
        return "x509: invalid signature: parent certificate cannot sign this kind of certificate"
    signature = _signature(child.certificate)
    if signature is None or parent.key_kind not in GO_KEY_TYPES:
        return "x509: cannot verify signature: algorithm unimplemented"
    if not signature.is_secure:
        return f"x509: cannot verify signature: insecure algorithm {signature.name}"
    if signature.key_kind != parent.key_kind:
        go_type = GO_KEY_TYPES[parent.key_kind]
        expected = signature.key_kind
        return f"x509: signature algorithm specifies an {expected} public key, but have public key of type {go_type}"
    return _mathematics_error(child.certificate, parent.certificate)


def _may_sign(usage: Any) -> bool:
    """Return True if the key may sign certificates. A keyUsage without a bit counts as a missing keyUsage."""
    if usage is None or usage.key_cert_sign:
        return True
    return not (
        usage.digital_signature
        or usage.content_commitment
        or usage.key_encipherment
        or usage.data_encipherment
        or usage.key_agreement
        or usage.crl_sign
    )


def _signature(certificate: Certificate) -> SignatureAlgorithm | None:
    oid = certificate.signature_algorithm_oid.dotted_string
    if oid != RSA_PSS:
        return SIGNATURES.get(oid)
    try:
        digest = certificate.signature_hash_algorithm
    except (UnsupportedAlgorithm, ValueError):
        return None
    if digest is None or digest.name not in RSA_PSS_DIGESTS:
        return None
    return SignatureAlgorithm(f"{digest.name.upper()}-RSAPSS", "RSA", True)


@functools.lru_cache(maxsize=256)  # a judge verifies one chain at many times
def _mathematics_error(certificate: Certificate, parent: Certificate) -> str:
    key = parent.public_key()
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < 1024:
        link = "https://go.dev/pkg/crypto/rsa#hdr-Minimum_key_size"
        return f"crypto/rsa: {key.key_size}-bit keys are insecure (see {link})"
    try:
        certificate.verify_directly_issued_by(parent)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        kind = _key_kind(key)
        return "crypto/rsa: verification error" if kind == "RSA" else f"x509: {kind} verification failure"
    return ""


def quoted(text: str) -> str:
    """Quote as Go's %q does."""
    return json.dumps(text, ensure_ascii=False)
