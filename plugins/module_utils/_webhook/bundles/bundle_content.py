# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The certificates of a caBundle: read, check and merge them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from ..._x509 import certificate_facts
from ..._x509.certificate_facts import CertificateFacts
from ..._x509.chain.verify import anchors
from ..._x509.encoding import pem_text
from ..._x509.errors import BundleError, CertificateError

# A guard against a whole system bundle (about 140 roots) several times over: every webhook of every object would
# carry a copy, and an object of the API has to stay below 1.5 MiB.
MAX_CERTIFICATES = 200

# The time after which every API server sees that a certificate has expired, whatever its clock is.
LONGEST_DELAY = timedelta(days=1)

# How a wanted bundle and the one that is there become one.
MODES = ("add", "exactly", "absent")


def certificates(bundle: str) -> tuple[CertificateFacts, ...]:
    """Return the distinct certificates of a bundle in order, without blocks that the API server does not read."""
    return anchors(bundle)


def is_over(certificate: CertificateFacts, earlier: datetime) -> bool:
    """Return True if no API server accepts the certificate any more.

    earlier: the earlier time of the API server's clock and of this machine's. The clock of another API server may be behind both.
    """
    return certificate.not_after + LONGEST_DELAY <= earlier


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
    except CertificateError as error:
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


def merge(bundle: str, wanted: str, *, mode: str, now: datetime, earlier: datetime | None = None) -> str:
    """Return the new PEM text of the bundle. It is the same text if no change is needed.

    mode: "add" (the wanted certificates join the present ones), "append" (the same, and every present one stays), "exactly" (they
    replace them) or "absent" (they are removed). Go ignores the order of certificates, and so does this function. A changed text has no duplicates, no
    text between the blocks, and no blocks without a certificate (a CustomResourceDefinition refuses them since
    Kubernetes 1.31). "add" also removes certificates that no API server accepts any more.
    now: aware. earlier: see is_over. None if it is ``now``. Raises BundleError if every wanted certificate has expired, unless mode is "absent".
    """
    present, added = certificates(bundle), certificates(wanted)
    prints = {anchor.fingerprint for anchor in added}
    if mode == "absent":
        kept = [anchor for anchor in present if anchor.fingerprint not in prints]
        return bundle if len(kept) == len(present) else _text(kept)
    live = [anchor for anchor in added if anchor.not_after > now]
    if not live:
        last = max(anchor.not_after for anchor in added)
        raise BundleError(
            f"every certificate of the CA bundle has expired, the last on {last:%Y-%m-%d %H:%M} UTC",
            code="bundle-broken",
            remedy="Give the CA that signs now",
        )
    held = {anchor.fingerprint for anchor in present}
    if mode == "exactly":
        return bundle if held == prints and len(pem_text.blocks(bundle)) == len(present) else _text(added)
    missing = [anchor for anchor in live if anchor.fingerprint not in held]
    kept = [anchor for anchor in present if mode == "append" or not is_over(anchor, earlier or now)]
    return _text(kept + missing) if missing else bundle


def _text(kept: Iterable[CertificateFacts]) -> str:
    return "".join(anchor.pem for anchor in kept)
