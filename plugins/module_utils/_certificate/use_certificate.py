# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Put a certificate to use, or keep the one in the Secret: the anchor on the targets first, then the Secret.

The targets trust the certificate before the Secret holds it, so no call of a webhook fails.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from .._base.errors import CertflowError
from .._base.result import Result, make_left
from .._csr import certificate_rules, markers, secret_content, trust_anchors
from .._csr.certificate_rules import IssueReason, judge_replacement
from .._csr.errors import IssueError, SecretError
from .._csr.intent import Intent
from .._csr.secret_content import ExistingSecret, SecretContent
from .._csr.trust_anchors import TrustAnchor
from .._diagnosis import ended
from .._kube import access_review
from .._webhook.bundles.bundle_patch import TargetChange
from .._x509 import private_keys
from .._x509.certificate_facts import CertificateFacts
from . import certificate_report, gather, secret_store, target_anchors, wait_until_served
from .certificate_run import CertificateInUse, CertificateRun, CertificateState
from .secret_store import Change

if TYPE_CHECKING:
    from .._x509.private_keys import PrivateKey


@dataclass(frozen=True)
class IssuedCertificate(private_keys.HasKey):
    """A certificate with its private key."""

    #: PEM text, the chain of the signer included.
    pem: str
    key: PrivateKey
    #: The request as results show it, None if none was sent.
    csr: Mapping[str, Any] | None = None
    #: The CA that this run made for the certificate (PEM), "" if a signer of the cluster issued it.
    own_ca: str = ""


@dataclass(frozen=True)
class AnotherRequest:
    """The request for another certificate, as the result of a kept certificate shows it."""

    #: The request as results show it, None if none was sent.
    csr: Mapping[str, Any] | None = None
    #: True if this run sent it, or in check mode would send it.
    is_new: bool = False
    #: Why its certificate has not come yet, "" if no certificate is awaited.
    pending: str = ""


NO_REQUEST = AnotherRequest()


def keep(
    run: CertificateRun,
    state: CertificateState,
    in_use: CertificateInUse,
    *,
    request: AnotherRequest = NO_REQUEST,
    warnings: tuple[str, ...] = (),
) -> Result:
    """Keep the certificate. Add its anchor to targets that lack it, and update the metadata of the Secret."""
    client, intent = run.client, run.intent
    secret, anchor, pem = in_use.secret, in_use.anchor, in_use.secret.certificate_pem
    changes = target_anchors.plan(
        intent, state.targets, anchor, leaf_pem=pem, now=state.now, earlier=client.earlier()
    )

    def refresh(stored: ExistingSecret | None) -> list[dict[str, Any]]:
        if stored is None or stored.certificate_pem != pem:
            raise SecretError(
                f"{intent.secret} was replaced while this task ran", remedy="Run the task again"
            )
        secret_content.refuse_foreign(stored, intent)  # its deletion may have begun
        anchors = target_anchors.record_added(stored.annotations, changes)
        return secret_content.patch_metadata(
            stored, intent, ca_pem=anchor.pem, anchors=anchors, discovered=run.discovered
        )

    patch = refresh(secret)
    run.allow_bundles(changes)
    lacking = []
    if patch:
        run.allow_to_store()
        lacking = secret_store.try_out(client, intent.secret, patch)
    wanted = target_anchors.permissions(changes)
    access_review.require(client, wanted, f"bring the {intent} up to date", lacking)
    if (wanted or patch) and not run.check_mode:
        gather.acquire_lease(run, state)
        changes = target_anchors.write(run, changes, anchor, leaf_pem=pem, now=state.now)
        secret_store.write(client, intent.secret, secret, refresh)
    is_changed = bool(patch) or any(change.changed for change in changes)
    values = certificate_report.values(
        client,
        intent,
        reason=_reason_to_keep(run, request, changes, patch),
        signer=secret.annotations.get(markers.SIGNER),
        facts=secret.certificate,
        anchor=anchor,
        csr=request.csr,
        targets=changes,
        pending=bool(request.pending),
    )
    values["left"] = certificate_report.left_unread(
        target_anchors.judge_unread(run, secret.annotations, anchor)
    )
    return Result(
        is_changed or request.is_new,
        values,
        certificate_report.diff(secret, secret.certificate, changes),
        warnings + anchor.warnings(state.now),
    )


def _reason_to_keep(
    run: CertificateRun,
    request: AnotherRequest,
    changes: Sequence[TargetChange],
    patch: Sequence[Mapping[str, Any]],
) -> str:
    kept = request.pending or "the certificate is kept"
    updates = [str(change.target) for change in changes if change.changed]
    updates += dict.fromkeys(
        f"{run.intent.secret.ca_key if entry['path'].startswith('/data') else 'the metadata'} of {run.intent.secret}"
        for entry in patch[1:]
    )
    if not updates:
        return kept
    words = "To be brought up to date" if run.check_mode else "Brought up to date"
    return f"{kept}. {words}: {', '.join(updates)}"


def use(
    run: CertificateRun,
    state: CertificateState,
    reason: IssueReason,
    issued: IssuedCertificate,
    warnings: tuple[str, ...],
) -> Result:
    """Verify the issued certificate, make the targets trust it, and store it in the Secret.

    Raises IssueError for a certificate that differs from the request, AnchorError.
    """
    client, intent, secret = run.client, run.intent, state.secret
    facts = certificate_rules.check_issued(intent, issued.public_key_sha256, issued.pem, client.now())
    now = certificate_rules.judged_at(facts, client.now())
    state = replace(state, now=now)
    request = AnotherRequest(issued.csr, is_new=True)
    held = secret.certificate if secret and reason.code == certificate_rules.RENEWAL_DUE else None
    if secret and held and not state.anchor_problem and facts.not_after <= held.not_after:
        state, why = (
            _read_again(run, state),
            (
                f"the signer {intent.signer.name} issued a certificate that is valid until {facts.not_after:%Y-%m-%d %H:%M} UTC, no "
                f"longer than the certificate in {intent.secret} ({held.not_after:%Y-%m-%d %H:%M} UTC), which is kept"
            ),
        )
        remedy = "Check whether the CA of the signer is about to expire"
        in_use = _in_use(run, state, secret)
        kept = keep(run, state, in_use, request=request, warnings=(*warnings, f"{why}. {remedy}"))
        left = certificate_report.left_over(intent, IssueError.code, why, remedy)
        return replace(kept, values={**kept.values, "left": make_left(1, left)})
    offered = trust_anchors.candidates(client, intent, issued.pem, own=issued.own_ca)
    anchor = trust_anchors.choose(intent, issued.pem, offered, now)
    for error in target_anchors.judge_unread(run, secret.annotations if secret else {}, anchor).values():
        raise error
    warnings += _renews_every_run(intent, facts, now)
    warnings += ended.lifetime_warnings(intent.signer, intent.request, facts.not_after - now)
    warnings += anchor.warnings(now)
    changes = target_anchors.plan(
        intent, state.targets, anchor, leaf_pem=issued.pem, now=now, earlier=client.earlier()
    )
    if not all(change.changed for change in changes):
        # The wait for the certificate may have taken hours, and no write guards a target that does not change.
        state = _read_again(run, state)
        changes = target_anchors.plan(
            intent, state.targets, anchor, leaf_pem=issued.pem, now=now, earlier=client.earlier()
        )
    try:
        written = target_anchors.write(run, changes, anchor, leaf_pem=issued.pem, now=now)
    except CertflowError:
        with contextlib.suppress(CertflowError):  # the first error matters more
            _remove_unused(run, issued, changes)
        raise
    if written != changes:  # another client wrote a target during the wait
        state, changes = _read_again(run, state), written
    unproven = _unproven(run, state, facts, changes, anchor)
    content = SecretContent(
        issued.pem,
        private_keys.to_pem(issued.key),
        anchor.pem,
        "",
        unproven,
        run.discovered,
        issued.public_key_sha256,
        facts.fingerprint,
    )
    stored_by_another = _store(run, secret, content, changes)
    if stored_by_another:
        _remove_unused(run, issued, changes)
        state = _read_again(run, state)
        in_use = _in_use(run, state, stored_by_another)
        return keep(run, state, in_use, request=request, warnings=warnings)
    values = certificate_report.values(
        client, intent, reason=reason.done, facts=facts, anchor=anchor, csr=issued.csr, targets=changes
    )
    return Result(True, values, certificate_report.diff(secret, facts, changes, issues=intent), warnings)


def _read_again(run: CertificateRun, state: CertificateState) -> CertificateState:
    return replace(state, targets=gather.read_targets(run.client, run.targets))


def _in_use(run: CertificateRun, state: CertificateState, secret: ExistingSecret) -> CertificateInUse:
    anchor = target_anchors.find_anchor(run.client, run.intent, secret, state.targets, state.now)
    return CertificateInUse(secret, anchor)


def _unproven(
    run: CertificateRun,
    state: CertificateState,
    facts: CertificateFacts,
    changes: Sequence[TargetChange],
    anchor: TrustAnchor,
) -> str:
    """Return the record for the rotation, "" if no anchor is superseded and no certificate in use is replaced."""
    record = target_anchors.record_unproven(
        state.secret,
        state.targets,
        changes,
        serial=facts.serial,
        anchor=anchor,
        cluster_cas=state.cluster_cas,
    )
    replaces = state.secret is not None and state.secret.certificate is not None
    return record if record != facts.serial or (replaces and wait_until_served.is_served(run, state)) else ""


def _remove_unused(run: CertificateRun, issued: IssuedCertificate, changes: Sequence[TargetChange]) -> None:
    """Remove a CA that this run made from the targets, because its certificate is not stored."""
    if issued.own_ca:
        record = {markers.ANCHORS: target_anchors.record_added({}, changes)}
        unused = target_anchors.plan_removal(run.client, run.intent, [c.target for c in changes], record)
        target_anchors.remove(run.client, run.intent, unused, record)


def _store(
    run: CertificateRun,
    secret: ExistingSecret | None,
    content: SecretContent,
    changes: Sequence[TargetChange],
) -> ExistingSecret | None:
    """Write the Secret. Return it without a write if another run has stored a good certificate meanwhile.

    secret: the Secret before this run, None if it did not exist. Raises SecretError if another owner has stored a certificate that
    the new one would replace with a loss.
    """
    intent = run.intent
    known = (secret.certificate_pem, secret.key_sha256) if secret else None

    def change(found: ExistingSecret | None) -> Change:
        if found is not None and found is not secret:
            secret_content.refuse_foreign(found, intent)
            if found.key_sha256 == content.key_sha256:
                return None
            if (found.certificate_pem, found.key_sha256) != known:
                reason = certificate_rules.reason_to_issue(
                    intent, found, run.client.now(), run.client.later()
                )
                if reason is None:
                    return None
                judge_replacement(intent, found, reason, has_targets=bool(changes))
        wanted = replace(
            content, anchors=target_anchors.record_added(found.annotations if found else {}, changes)
        )
        return (
            secret_content.new_secret(intent, wanted)
            if found is None
            else secret_content.patch_content(found, intent, wanted)
        )

    stored = secret_store.write(run.client, intent.secret, secret, change)
    return None if stored is None or stored.key_sha256 == content.key_sha256 else stored


def _renews_every_run(intent: Intent, facts: CertificateFacts, now: datetime) -> tuple[str, ...]:
    lifetime = facts.not_after - now
    if intent.renew_before is None or intent.renew_before < lifetime:
        return ()
    days = lifetime.total_seconds() / 86400
    return (
        (
            f"the signer {intent.signer.name} issued the certificate for {days:.2f} days, and renew_before is longer, so every run "
            "renews it. Set a shorter renew_before"
        ),
    )
