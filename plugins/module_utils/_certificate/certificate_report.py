# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The values and the diff of a result of k8s_csr. They never hold a private key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from .._base.result import make_left
from .._base.times import format_time
from .._csr.intent import Intent
from .._csr.issuing import providers
from .._csr.issuing.signers import EPHEMERAL_CA
from .._csr.secret_content import ExistingSecret
from .._csr.trust_anchors import TrustAnchor
from .._kube.client import Client
from .._kube.errors import MissingPermissions
from .._webhook.bundles import bundle_patch
from .._webhook.bundles.bundle_patch import TargetChange
from .._webhook.bundles.bundle_targets import Target
from .._webhook.errors import ProofError
from .._x509.certificate_facts import CertificateFacts


def values(
    client: Client,
    intent: Intent,
    *,
    reason: str,
    signer: str | None = None,
    targets: Sequence[TargetChange] = (),
    facts: CertificateFacts | None = None,
    anchor: TrustAnchor | None = None,
    csr: Mapping[str, Any] | None = None,
    pending: bool = False,
) -> dict[str, Any]:
    """Return the values of a result.

    Args:
        signer: the signer of the certificate, None for the signer of the task.
        facts: the certificate in the Secret.
        anchor: the anchor that verifies it.
        csr: the summary of the request.
        pending: True if a certificate is still to come.
    """
    signer = intent.signer.name if signer is None else signer
    ends = [facts.not_after] if facts else []
    if facts and anchor and anchor.breaks:
        ends.append(anchor.breaks.at)
    return {
        "reason": reason,
        "not_after": format_time(min(ends)) if ends else None,
        "days_left": (min(ends) - client.now()) // timedelta(days=1) if ends else None,
        "signer": signer,
        "provider": _provider(client.host_name, signer),
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


def left_over(intent: Intent, code: str, reason: str, remedy: str) -> dict[str, Any]:
    """Return what is left of a certificate. reason: a clause."""
    secret = intent.secret
    place = {"kind": "Secret", "namespace": secret.namespace, "name": secret.name}
    return {"object": place, "code": code, "reason": reason, "remedy": remedy}


def left_unread(errors: Mapping[Target, MissingPermissions]) -> dict[str, Any]:
    """Return the key ``left`` for the objects that the run may not read, and that may refuse the certificate."""
    listed = [
        {
            "object": {"kind": target.kind, "name": target.name},
            "code": error.code,
            "reason": error.cause,
            "remedy": error.remedy,
        }
        for target, error in errors.items()
    ]
    return make_left(len(listed), listed[0] if listed else {})


def left_unproven(intent: Intent, why: str, remedy: str) -> dict[str, Any]:
    """Return what is left of a certificate without a proof that it is in use. why: a clause."""
    reason = f"there is no proof that the certificate of {intent.secret} is in use ({why})"
    return left_over(intent, ProofError.code, reason, remedy)


def _provider(host_name: str, signer: str) -> dict[str, str]:
    """Return the provider as far as it is known without a request: by the API server's address, or by its own signer."""
    name = providers.detect_by_kubeconfig({"host": [host_name], "cluster": [], "command": []})
    if name != providers.UNKNOWN:
        return {"name": name}
    # Every cluster can use ephemeral-ca.
    owners = [
        row.name for row in providers.PROVIDERS if row.serving_signer == signer and signer != EPHEMERAL_CA
    ]
    return {"name": owners[0]} if len(owners) == 1 else {}


def diff(
    before: ExistingSecret | None,
    after: CertificateFacts | None,
    targets: Sequence[TargetChange],
    *,
    issues: Intent | None = None,
) -> dict[str, Any]:
    """Return the names, dates and fingerprints before and after.

    Args:
        before: the Secret before the run, None if it did not exist.
        after: the certificate after the run, None if it was removed.
        issues: the intent of a run that issues a certificate. Without ``after`` it is not issued yet.
    """
    old = before.certificate.as_result() if before and before.certificate else None
    new = after.as_result() if after else None
    if issues is not None:
        request, old_key = issues.request, before.key_type if before else ""
        asked = {
            "names": [*request.dns_names, *request.ip_addresses],
            "usages": list(request.usages),
            "lifetime": f"{request.expiration_seconds or 'as the signer grants'}",
        }
        old = {**old, "key_type": old_key} if old else None
        new = {**(new or asked), "signer": issues.signer.name, "key_type": request.key_type}
    changed = [change for change in targets if change.changed]
    bundles = bundle_patch.diff(changed) if changed else {"before": {}, "after": {}}
    return {
        "before": {"certificate": old, "targets": bundles["before"]},
        "after": {"certificate": new, "targets": bundles["after"]},
    }
