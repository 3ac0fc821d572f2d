# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The certificates of a caBundle: read, check and merge them."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from .._base.times import format_time
from .._x509 import certificate_facts, go_parser, pem_text
from .._x509.errors import BundleError, CertificateError, convert_errors

# A guard against a whole system bundle (about 140 roots) several times over: every webhook of every object would
# carry a copy, and an object of the API has to stay below 1.5 MiB.
MAX_CERTIFICATES = 200

# How a wanted bundle and the one that is there become one.
MODES = ("add", "exactly", "absent")


@dataclass(frozen=True)
class BundleCertificate:
    """One certificate of a bundle.

    subject: RFC 4514 text, "" if cryptography cannot read the certificate.
    not_after: aware, UTC. None if cryptography cannot read the certificate.
    fingerprint: SHA-256 of the certificate, lower case hex.
    pem: one block.
    """

    subject: str
    not_after: datetime | None
    fingerprint: str
    pem: str

    def is_live(self, now: datetime) -> bool:
        """Return True unless it has expired. A certificate that cryptography cannot read counts as live."""
        return self.not_after is None or self.not_after > now

    def __str__(self) -> str:
        if self.not_after is None:
            return f"a certificate that this collection cannot read, SHA-256 {self.fingerprint}"
        return f"{self.subject} until {format_time(self.not_after)}, SHA-256 {self.fingerprint}"


def certificates(bundle: str) -> tuple[BundleCertificate, ...]:
    """Return the distinct certificates of a bundle in order.

    The API server reads webhook configurations and APIServices with Go (CertPool.AppendCertsFromPEM). Go reads
    certificates that cryptography refuses, so keep every block that Go may read. Omit all other blocks.
    """
    blocks = pem_text.blocks(bundle)
    entries = (_anchor(block) for block in blocks if block.label == certificate_facts.LABEL)
    return tuple({anchor.fingerprint: anchor for anchor in entries if anchor}.values())


def check(bundle: str) -> None:
    """Raise BundleError for a text that must not be given to an API server. The error never quotes the text."""
    if pem_text.has_private_key(bundle):
        raise BundleError(
            "the CA bundle holds a private key, which would become readable for everyone who may read the object",
            code="contains-private-key",
            remedy="Give only certificates. Replace the key if another person may have seen it",
        )
    try:
        loaded = certificate_facts.load(bundle)
        for certificate in loaded:
            # The parts of a certificate that is read may be damaged all the same.
            certificate_facts.describe(certificate)
    except CertificateError as error:
        if len(certificates(bundle)) == len(
            {block.text for block in pem_text.blocks(bundle)}
        ):  # Go reads each of them
            raise BundleError(
                f"the library cryptography of this run cannot read the CA bundle, which the API server reads: {error.cause}",
                remedy="Run the task with another release of the library cryptography, or issue the CA again",
            ) from error
        raise BundleError(
            f"the CA bundle is damaged: {error.cause}", remedy="Give PEM text as it was issued"
        ) from error
    if not loaded:
        raise BundleError(
            "the CA bundle holds no certificate",
            code="bundle-broken",
            remedy="Give PEM text with at least one BEGIN CERTIFICATE block",
        )
    if len(loaded) > MAX_CERTIFICATES:
        raise BundleError(
            f"the CA bundle holds {len(loaded)} certificates, more than {MAX_CERTIFICATES}",
            remedy="Give only the CA that issued the webhook's certificate",
        )


def merge(bundle: str, wanted: str, *, mode: str, now: datetime) -> str:
    """Return the new PEM text of the bundle. It is the same text if no change is needed.

    mode: "add" (the wanted certificates join the present ones), "append" (the same, and every present one stays), "exactly" (they
    replace them) or "absent" (they are removed). Go ignores the order of certificates, and so does this function. A changed text has no duplicates, no
    text between the blocks, and no blocks without a certificate (a CustomResourceDefinition refuses them since
    Kubernetes 1.31). "add" also removes expired certificates.
    now: aware. Raises BundleError if every wanted certificate has expired, unless mode is "absent".
    """
    present, added = certificates(bundle), certificates(wanted)
    prints = {anchor.fingerprint for anchor in added}
    if mode == "absent":
        kept = [anchor for anchor in present if anchor.fingerprint not in prints]
        return bundle if len(kept) == len(present) else _text(kept)
    live = [anchor for anchor in added if anchor.is_live(now)]
    if not live:
        last = max(anchor.not_after for anchor in added if anchor.not_after)
        raise BundleError(
            f"every certificate of the CA bundle has expired, the last on {last:%Y-%m-%d %H:%M} UTC",
            code="bundle-broken",
            remedy="Give the CA that signs now",
        )
    held = {anchor.fingerprint for anchor in present}
    if mode == "exactly":
        clean = len(pem_text.blocks(bundle)) == len(present)
        return bundle if clean and held == prints else _text(added)
    missing = [anchor for anchor in live if anchor.fingerprint not in held]
    kept = [anchor for anchor in present if mode == "append" or anchor.is_live(now)]
    return _text(kept + missing) if missing else bundle


@functools.lru_cache(maxsize=256)  # each step of a run reads the same bundle
def _anchor(block: pem_text.PemBlock) -> BundleCertificate | None:
    try:
        with convert_errors("the certificate cannot be read"):
            certificate = certificate_facts.load_block(block)
            return BundleCertificate(
                subject=certificate.subject.rfc4514_string(),
                not_after=certificate.not_valid_after_utc,
                fingerprint=certificate_facts.fingerprint(certificate),
                pem=certificate_facts.to_pem(certificate),
            )
    except CertificateError:
        return _unread(block)


def _unread(block: pem_text.PemBlock) -> BundleCertificate | None:
    try:
        der = pem_text.der(block)
        go_parser.read(der)
    except CertificateError:
        return None
    fingerprint = hashlib.sha256(der).hexdigest()
    return BundleCertificate("", None, fingerprint, pem_text.encode(certificate_facts.LABEL, der))


def _text(kept: Iterable[BundleCertificate]) -> str:
    return "".join(anchor.pem for anchor in kept)
