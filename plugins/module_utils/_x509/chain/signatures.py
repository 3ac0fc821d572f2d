# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Check the signature of one certificate on another by the rules of Go's crypto/x509 (Certificate.CheckSignatureFrom).

Only the mathematics is the library's.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Container
from typing import Any, NamedTuple

from ..certificate_facts import CertificateFacts
from ..encoding import go_parser
from ..encoding.der import SEQUENCE, Reader
from ..errors import CertificateError, UnreadCertificate, convert_errors

with contextlib.suppress(ImportError):  # reported by _ansible, with the interpreter's path
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa


class SignatureAlgorithm(NamedTuple):
    """A signature algorithm."""

    #: The kind of the key that signs.
    key_kind: str
    #: The name of the digest in cryptography, "" without one.
    digest: str = ""
    is_pss: bool = False

    @property
    def name(self) -> str:
        """Return Go's name."""
        if self.is_pss:
            return f"{self.digest}-RSAPSS"
        return {"RSA": f"{self.digest}-RSA", "ECDSA": f"ECDSA-{self.digest}"}.get(
            self.key_kind, self.key_kind
        )

    @property
    def is_secure(self) -> bool:
        """Return True if Go verifies such signatures."""
        return self.digest not in ("MD5", "SHA1")


#: Dotted OID -> algorithm. Source of this table: Go 1.26 crypto/x509, signatureAlgorithmDetails.
_SIGNATURES: dict[str, SignatureAlgorithm] = {
    "1.2.840.113549.1.1.4": SignatureAlgorithm("RSA", "MD5"),
    "1.2.840.113549.1.1.5": SignatureAlgorithm("RSA", "SHA1"),
    "1.3.14.3.2.29": SignatureAlgorithm("RSA", "SHA1"),
    "1.2.840.113549.1.1.11": SignatureAlgorithm("RSA", "SHA256"),
    "1.2.840.113549.1.1.12": SignatureAlgorithm("RSA", "SHA384"),
    "1.2.840.113549.1.1.13": SignatureAlgorithm("RSA", "SHA512"),
    "1.2.840.10045.4.1": SignatureAlgorithm("ECDSA", "SHA1"),
    "1.2.840.10045.4.3.2": SignatureAlgorithm("ECDSA", "SHA256"),
    "1.2.840.10045.4.3.3": SignatureAlgorithm("ECDSA", "SHA384"),
    "1.2.840.10045.4.3.4": SignatureAlgorithm("ECDSA", "SHA512"),
    go_parser.ED25519: SignatureAlgorithm("Ed25519"),
}
_RSA_PSS, _MGF1 = "1.2.840.113549.1.1.10", "1.2.840.113549.1.1.8"
#: Dotted OID -> digest, and its length.
_PSS_DIGESTS = {
    "2.16.840.1.101.3.4.2.1": ("SHA256", 32),
    "2.16.840.1.101.3.4.2.2": ("SHA384", 48),
    "2.16.840.1.101.3.4.2.3": ("SHA512", 64),
}
#: The keys whose signatures Go verifies: dotted OID -> kind and Go's type.
KEY_KINDS = {
    go_parser.RSA: ("RSA", "*rsa.PublicKey"),
    go_parser.EC: ("ECDSA", "*ecdsa.PublicKey"),
    go_parser.ED25519: ("Ed25519", "ed25519.PublicKey"),
}
#: Go refuses smaller keys, crypto/rsa since Go 1.24.
LEAST_RSA_BITS = 1024
_CERT_SIGN = 5  # the bit of keyUsage


def algorithm_of(certificate: CertificateFacts) -> SignatureAlgorithm | None:
    """Return the signature algorithm of a certificate, None for one that Go does not know (getSignatureAlgorithmFromAI)."""
    return _read_algorithm(certificate.signature_algorithm)


@functools.lru_cache(maxsize=64)  # few algorithms sign all certificates
def _read_algorithm(encoded: bytes) -> SignatureAlgorithm | None:
    oid, parameters = go_parser.read_algorithm(encoded)
    if oid == _RSA_PSS:
        try:
            return _pss_algorithm(Reader(parameters, "malformed RSA-PSS parameters"))
        except CertificateError:
            return None
    return None if oid == go_parser.ED25519 and parameters else _SIGNATURES.get(oid)


def _pss_algorithm(parameters: Reader) -> SignatureAlgorithm | None:
    fields = parameters.inner(SEQUENCE)
    digest, own = go_parser.read_algorithm(fields.inner(0xA0).content(SEQUENCE))
    mask, encoded = go_parser.read_algorithm(fields.inner(0xA1).content(SEQUENCE))
    mask_digest, other = go_parser.read_algorithm(Reader(encoded, parameters.words).content(SEQUENCE))
    salt = fields.inner(0xA2).integer()
    trailer = fields.inner(0xA3).integer() if fields.has(0xA3) else 1
    name, size = _PSS_DIGESTS.get(digest, ("", 0))
    is_usual = (mask, mask_digest, salt, trailer) == (_MGF1, digest, size, 1)
    has_parameters = {own, other} - {b"", go_parser.NULL}
    return SignatureAlgorithm("RSA", name, is_pss=True) if is_usual and name and not has_parameters else None


def find_problem(
    child: CertificateFacts, parent: CertificateFacts, anchors: Container[object] = frozenset()
) -> str:
    """Return Go's reason why the parent's signature on the child is not valid, "" if it is. Raises UnreadCertificate.

    anchors: as for is_signed_by.
    """
    basic, usage = (parent.extensions.get(oid) for oid in (go_parser.BASIC_CONSTRAINTS, go_parser.KEY_USAGE))
    is_version_3 = parent.version == 3
    may_sign = not usage or "1" not in usage or usage[_CERT_SIGN : _CERT_SIGN + 1] == "1"
    if (basic is None and is_version_3) or (basic is not None and not parent.is_ca) or not may_sign:
        return "x509: invalid signature: parent certificate cannot sign this kind of certificate"
    algorithm = algorithm_of(child)
    if algorithm is None or parent.key_algorithm not in KEY_KINDS:
        return "x509: cannot verify signature: algorithm unimplemented"
    if not algorithm.is_secure:
        return f"x509: cannot verify signature: insecure algorithm {algorithm.name}"
    kind, go_type = KEY_KINDS[parent.key_algorithm]
    if algorithm.key_kind != kind:
        return f"x509: signature algorithm specifies an {algorithm.key_kind} public key, but have public key of type {go_type}"
    problem = rsa_problem(*parent.key) if kind == "RSA" else ""
    if problem or is_signed_by(child, parent, anchors):
        return problem
    return "crypto/rsa: verification error" if kind == "RSA" else f"x509: {kind} verification failure"


def rsa_problem(modulus: int, exponent: int) -> str:
    """Return Go's reason why it verifies nothing with an RSA key, "" if it does."""
    if modulus.bit_length() < LEAST_RSA_BITS:
        link = "https://go.dev/pkg/crypto/rsa#hdr-Minimum_key_size"
        return f"crypto/rsa: {modulus.bit_length()}-bit keys are insecure (see {link})"
    is_usable = exponent % 2 and 1 < exponent < 1 << 31
    return "" if is_usable else "crypto/rsa: public exponent too small, too large or even"


def is_signed_by(
    child: CertificateFacts, parent: CertificateFacts, anchors: Container[object] = frozenset()
) -> bool:
    """Return True if the key of the parent made the signature of the child. Raises UnreadCertificate if the library cannot use the key.

    A signature is checked once with each key, and no longer when the key of an anchor is known to fit. Another key may fit too, because it
    can be computed from the signature. So a certificate that an endpoint sent hides no anchor.

    anchors: algorithm and key of each trusted certificate.
    """
    # A key that is encoded in two ways is one key.
    answers, key = _answers(child.fingerprint), (parent.key_algorithm, parent.key)
    if key not in answers:
        if any(fits and known in anchors for known, fits in answers.items()):
            return False
        answers[key] = _is_signed_by(child, parent)
    return answers[key]


@functools.lru_cache(maxsize=1024)  # a judge verifies one chain at many times, and each with up to 100 keys
def _answers(_fingerprint: str) -> dict[tuple[object, ...], bool]:
    """Return the keys with which the signature of a certificate was checked, and the answers."""
    return {}


def _is_signed_by(child: CertificateFacts, parent: CertificateFacts) -> bool:
    algorithm = algorithm_of(child)
    if algorithm is None or KEY_KINDS.get(parent.key_algorithm, ("",))[0] != algorithm.key_kind:
        return False
    try:
        with convert_errors("the library cryptography of this run cannot check a signature"):
            _check(algorithm, parent.key, child.signature, child.body)
    except InvalidSignature:
        return False
    except CertificateError as unread:
        raise UnreadCertificate(unread.cause) from None
    return True


def _check(algorithm: SignatureAlgorithm, key: tuple[Any, ...], signature: bytes, body: bytes) -> None:
    """Raise InvalidSignature for a signature that is not valid, and other errors of cryptography for a key that it does not accept."""
    digest = getattr(hashes, algorithm.digest)() if algorithm.digest else None
    if digest is None:
        ed25519.Ed25519PublicKey.from_public_bytes(*key).verify(signature, body)
    elif algorithm.key_kind == "ECDSA":
        curve = ec.get_curve_for_oid(x509.ObjectIdentifier(key[0]))()
        public = ec.EllipticCurvePublicKey.from_encoded_point(curve, key[1])
        public.verify(signature, body, ec.ECDSA(digest))
    else:
        scheme = (
            padding.PSS(padding.MGF1(digest), digest.digest_size) if algorithm.is_pss else padding.PKCS1v15()
        )
        rsa.RSAPublicNumbers(key[1], key[0]).public_key().verify(signature, body, scheme, digest)
