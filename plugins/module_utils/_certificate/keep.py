# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""A certificate that stays: targets that lack its anchor, and what stands around it, are brought up to date."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from .._csr import secret_content
from .._csr.errors import SecretError
from .._csr.secret_content import ExistingSecret
from .._csr.trust_anchors import TrustAnchor
from .._kube import access_review
from .._result import Result
from . import certificate_report, secret_store, target_anchors
from .secret_store import Change
from .target_anchors import Task


def run(
    task: Task,
    secret: ExistingSecret,
    anchor: TrustAnchor,
    now: datetime,
    *,
    csr: Mapping[str, Any] | None = None,
    asked: bool = False,
    pending: str = "",
    warnings: tuple[str, ...] = (),
) -> Result:
    """``csr``: the request for another certificate as it stands in the result; ``asked``: this run made it, or would.

    ``pending``: why that certificate is still to come, "" where it is not.
    """
    client, intent, pem = task.client, task.intent, secret.certificate_pem
    changes = target_anchors.plan(task, anchor, leaf_pem=pem, now=now)

    def refresh(found: ExistingSecret | None) -> Change:
        if found is None or found.certificate_pem != pem:
            raise SecretError(
                f"{intent.secret} was replaced while this task ran", remedy="run the task again"
            )
        anchors = target_anchors.added(found.annotations, changes)
        return secret_content.patch_metadata(found, intent, ca_pem=anchor.pem, anchors=anchors)

    patch = refresh(secret)
    rights = [
        *target_anchors.rights(changes),
        *([secret_store.right(intent.secret, "patch")] if patch else []),
    ]
    if rights:
        access_review.require(client, rights, f"bring the {intent} up to date")
    if patch:
        secret_store.try_out(client, intent.secret, patch)
    if rights and not task.check_mode:
        target_anchors.take_turn(task)
        changes = target_anchors.write(task, changes, anchor, leaf_pem=pem, now=now)
        secret_store.write(client, intent.secret, secret, refresh)
    changed = bool(patch) or any(change.changed for change in changes)
    reason = (pending or "the certificate is kept") + (
        "; targets or the Secret's metadata are brought up to date" if changed else ""
    )
    values = certificate_report.values(
        intent,
        reason=reason,
        facts=secret.certificate,
        anchor=anchor,
        csr=csr,
        targets=changes,
        pending=bool(pending),
    )
    diff = certificate_report.diff(secret, secret.certificate, changes)
    return Result(changed or asked, values, diff, warnings)
