# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""What the result of k8s_csr says: facts for people and for the next task, never PEM of a key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .._csr.intent import Intent
from .._csr.secret_content import Found
from .._csr.trust_anchors import Anchor
from .._webhook import bundle_patch
from .._webhook.bundle_patch import TargetChange
from .._webhook.served_chains import Served
from .._x509.certificate_facts import CertificateFacts

STAMP = "%Y-%m-%dT%H:%M:%SZ"


def certificate(facts: CertificateFacts | None) -> dict[str, Any] | None:
    if facts is None:
        return None
    return {
        "subject": facts.subject,
        "names": [*facts.dns_names, *facts.ip_addresses],
        "issuer": facts.issuer,
        "not_before": facts.not_before.strftime(STAMP),
        "not_after": facts.not_after.strftime(STAMP),
        "serial": facts.serial,
        "fingerprint": facts.fingerprint,
        "usages": list(facts.usages),
    }


def served(one: Served, refusal: str) -> dict[str, Any]:
    """What one endpoint serves; ``refusal``: why the API server would not accept it, "" where it would."""
    return {
        "endpoint": str(one.endpoint),
        "certificate": certificate(one.certificate),
        "verifies": bool(one.certificate) and not refusal,
        "problem": one.problem or refusal,
    }


def values(
    intent: Intent,
    *,
    reason: str,
    facts: CertificateFacts | None,
    anchor: Anchor | None,
    csr: Mapping[str, Any] | None,
    targets: Sequence[TargetChange],
    pending: bool = False,
) -> dict[str, Any]:
    """The keys of a result; ``facts``, ``anchor`` and ``csr`` are None while there is none."""
    return {
        "reason": reason,
        "pending": pending,
        "csr": dict(csr) if csr else None,
        "certificate": certificate(facts),
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
    before: Found | None,
    after: CertificateFacts | None,
    targets: Sequence[TargetChange],
    *,
    unknown: bool = False,
) -> dict[str, Any]:
    """Names, dates and fingerprints of both sides. ``unknown``: a certificate that check mode cannot foresee."""
    old = certificate(before.certificate) if before else None
    new: Any = "a new certificate" if unknown else certificate(after)
    changed = [change for change in targets if change.changed]
    bundles = bundle_patch.diff(changed) if changed else {"before": {}, "after": {}}
    return {
        "before": {"certificate": old, "targets": bundles["before"]},
        "after": {"certificate": new, "targets": bundles["after"]},
    }
