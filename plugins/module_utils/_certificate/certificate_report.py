# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""What the result of k8s_csr says: facts for people and for the next task, never PEM of a key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .._csr.intent import Intent
from .._csr.secret_content import ExistingSecret
from .._csr.trust_anchors import TrustAnchor
from .._webhook import bundle_patch
from .._webhook.bundle_patch import TargetChange
from .._x509.certificate_facts import CertificateFacts


def values(
    intent: Intent,
    *,
    reason: str,
    facts: CertificateFacts | None,
    anchor: TrustAnchor | None,
    csr: Mapping[str, Any] | None,
    targets: Sequence[TargetChange],
    pending: bool = False,
) -> dict[str, Any]:
    """The keys of a result; ``facts``, ``anchor`` and ``csr`` are None while there is none."""
    return {
        "reason": reason,
        "pending": pending,
        "csr": dict(csr) if csr else None,
        "certificate": facts.as_result() if facts else None,
        "public_key_sha256": facts.public_key_sha256 if facts else None,
        "ca_bundle": anchor.pem if anchor else None,
        "ca_source": anchor.source if anchor else None,
        "secret": {
            "namespace": intent.secret.namespace,
            "name": intent.secret.name,
            "type": intent.secret.type,
        },
        "targets": [bundle_patch.report(change) for change in targets],
    }


def diff(
    before: ExistingSecret | None,
    after: CertificateFacts | None,
    targets: Sequence[TargetChange],
    *,
    unknown: bool = False,
) -> dict[str, Any]:
    """Names, dates and fingerprints of both sides. ``unknown``: a certificate that check mode cannot foresee."""
    old = before.certificate.as_result() if before and before.certificate else None
    known = after.as_result() if after else None
    new: Any = "a new certificate" if unknown else known
    changed = [change for change in targets if change.changed]
    bundles = bundle_patch.diff(changed) if changed else {"before": {}, "after": {}}
    return {
        "before": {"certificate": old, "targets": bundles["before"]},
        "after": {"certificate": new, "targets": bundles["after"]},
    }
