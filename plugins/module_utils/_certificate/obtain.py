# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Obtain a certificate for a reason: check all preconditions, request or make it, and put it to use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from .._base.result import Result
from .._csr import csr_api, name_policy, pending_key, secret_content
from .._csr.certificate_rules import IssueReason
from .._csr.csr_content import certificate_of, requester_of
from .._csr.errors import RequestError
from .._csr.intent import Intent, refuse_forbidden_names
from .._csr.pending_key import PendingRequest
from .._diagnosis import wait_for_certificate
from .._kube import access_review
from .._kube.errors import MissingPermissions
from .._webhook.bundle_patch import TargetChange
from .._x509 import ephemeral_ca, pem_text, private_keys
from . import (
    certificate_report,
    gather,
    request_certificate,
    secret_store,
    target_anchors,
    use_certificate,
    wait_until_served,
)
from .certificate_run import CertificateRun, CertificateState
from .secret_store import Change
from .use_certificate import AnotherRequest, IssuedCertificate


def obtain(run: CertificateRun, state: CertificateState, reason: IssueReason) -> Result:
    """Obtain a certificate for ``reason`` and put it to use. In check mode return what a run would do.

    Raises CertflowError before the first write for everything that can be known by then.
    """
    intent = run.intent
    changes = target_anchors.plan(intent, state.targets, None, leaf_pem=None, now=state.now)
    earlier, warnings = _check_preconditions(run, state, changes)
    waiting = request_certificate.find_waiting(run, state)
    if waiting and waiting.csr and _stays_waiting(intent, state, waiting, waiting.csr):
        request = AnotherRequest(csr_api.summarize(waiting.csr), pending=_awaited(waiting.csr))
        return _report_waiting(run, state, request, warnings)
    run.allow_to_issue(reason, changes)
    if run.check_mode:
        return _foresee(run, state, changes, waiting, reason=reason, warnings=warnings)
    # Each write of a target names the version that this run read, so only what no such write guards is read again.
    gather.acquire_lease(run, replace(state, targets=()))
    if not intent.signer.is_asked:
        issued = issue_from_ephemeral_ca(intent, run.client.now())
        return use_certificate.use(run, state, reason, issued, warnings)
    return _obtain_by_request(run, state, waiting, earlier, reason=reason, warnings=warnings)


def issue_from_ephemeral_ca(intent: Intent, now: datetime) -> IssuedCertificate:
    """Return a certificate that a new CA signed. The key of that CA no longer exists when this function returns."""
    request, row = intent.request, intent.signer
    key = private_keys.generate(request.key_type)
    signed = ephemeral_ca.sign_once(
        key,
        common_name=request.common_name,
        organizations=request.organizations,
        dns_names=request.dns_names,
        ip_addresses=request.ip_addresses,
        usages=request.usages,
        lifetime=timedelta(seconds=request.expiration_seconds or row.own_lifetime_seconds or 0),
        now=now,
    )
    return IssuedCertificate(signed.certificate_pem, key, own_ca=signed.ca_pem)


def _obtain_by_request(
    run: CertificateRun,
    state: CertificateState,
    waiting: PendingRequest | None,
    earlier: Sequence[dict[str, Any]],
    *,
    reason: IssueReason,
    warnings: tuple[str, ...],
) -> Result:
    """Send or resume a request, approve it if the task does, wait for its certificate, and put that to use."""
    client, intent = run.client, run.intent
    request = request_certificate.send(run, state, waiting, earlier)
    warnings += request.warnings
    csr, stored = request.csr, request.stored
    if intent.approve:
        own = requester_of(csr)
        expected = csr_api.expectation_for(intent, request.public_key_sha256, requester=own.username)
        csr = csr_api.approve_own(client, csr, expected)
    elif request_certificate.is_left_waiting(intent, csr):
        pending = _awaited(csr, request.reason)
        another = AnotherRequest(csr_api.summarize(csr), is_new=request.is_new, pending=pending)
        return _report_waiting(run, state, another, warnings)
    csr = wait_for_certificate.wait(client, intent, csr, until=client.deadline)
    if stored and csr_api.is_over(csr):
        # This run reports the refusal. The next run sends a new request.
        pending_key.discard(client, intent.secret, stored.secret_uid)
    csr = wait_for_certificate.require_issued(client, intent, csr)
    pem = "".join(block.text for block in pem_text.blocks(certificate_of(csr)))
    issued = IssuedCertificate(pem, request.key, csr_api.summarize(csr))
    result = use_certificate.use(run, state, request.reason or reason, issued, warnings)
    if stored:
        pending_key.discard(client, intent.secret, stored.secret_uid)
    return result


def _stays_waiting(
    intent: Intent, state: CertificateState, waiting: PendingRequest, csr: Mapping[str, Any]
) -> bool:
    """Return True if the request of an earlier run still waits for its approver, so this run sends none."""
    is_resumed = request_certificate.matches_intent(intent, state.secret, waiting)
    return is_resumed and request_certificate.is_left_waiting(intent, csr)


def _awaited(csr: Mapping[str, Any], reason: IssueReason | None = None) -> str:
    name = csr["metadata"]["name"]
    text = f"CSR {name} waits for its approval: kubectl certificate approve {name}"
    return f"{reason.message}: {text}" if reason else text


def _report_waiting(
    run: CertificateRun, state: CertificateState, request: AnotherRequest, warnings: tuple[str, ...]
) -> Result:
    """Return the result while another identity decides. Until then the certificate in use is kept up to date."""
    if state.in_use:
        return use_certificate.keep(run, state, state.in_use, request=request, warnings=warnings)
    values = certificate_report.values(
        run.client, run.intent, reason=request.pending, csr=request.csr, pending=True
    )
    return Result(request.is_new, values, None, warnings)


def _foresee(
    run: CertificateRun,
    state: CertificateState,
    changes: Sequence[TargetChange],
    waiting: PendingRequest | None,
    *,
    reason: IssueReason,
    warnings: tuple[str, ...],
) -> Result:
    """Return what check mode can tell about a run that obtains a certificate."""
    intent = run.intent
    if waiting and waiting.csr is None:
        reason = request_certificate.collected(waiting)
    is_resumed = waiting is not None and request_certificate.matches_intent(intent, state.secret, waiting)
    if state.in_use and not (intent.approve or intent.wait or is_resumed):
        request = AnotherRequest(is_new=True, pending=reason.due)
        return use_certificate.keep(run, state, state.in_use, request=request, warnings=warnings)
    values = certificate_report.values(run.client, intent, reason=reason.due, targets=changes, pending=True)
    diff = certificate_report.diff(state.secret, None, changes, issues=intent)
    return Result(True, values, diff, warnings)


def _check_preconditions(
    run: CertificateRun, state: CertificateState, changes: Sequence[TargetChange]
) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """Check permissions, names, and by a dry run what only the API server knows (namespace, quota, policies).

    Return the requests of earlier runs, and warnings. A permission that a read or a dry run shows is not asked for.
    Raises CertflowError.
    """
    client, intent, secret = run.client, run.intent, state.secret
    content = secret_content.EMPTY_CONTENT
    dry_run: Change = (
        secret_content.patch_content(secret, intent, None)
        if secret
        else secret_content.new_secret(intent, content)
    )
    lacking = secret_store.try_out(client, intent.secret, dry_run)
    earlier: list[dict[str, Any]] = []
    try:
        earlier = csr_api.list_requests(client, intent.secret) if intent.signer.is_asked else []
    except MissingPermissions:
        lacking.append(csr_api.wait_permissions()[0])
    wanted = [*csr_api.permissions(intent), *target_anchors.permissions(changes), *run.serving.permissions]
    if not intent.approve:
        wanted += pending_key.permissions(intent.secret)
    access_review.require(client, wanted, f"request the {intent}", lacking)
    if secret and secret.certificate:
        wait_until_served.check_workload(run)
    request = intent.request
    cluster = csr_api.read_guarded_names(client, request.dns_names, request.ip_addresses)
    # With a certificate for the name of a node, a pod could act as the kubelet of that node.
    refuse_forbidden_names(request, intent.service, intent.namespace, intent.allow_names, cluster)
    _check_called_names(intent, changes)
    return earlier, name_policy.warnings(intent.allow_names, cluster=cluster)


def _check_called_names(intent: Intent, changes: Sequence[TargetChange]) -> None:
    """Raise RequestError if a webhook is called under a name (by URL) that the certificate would not hold."""
    names = {*intent.request.dns_names, *intent.request.ip_addresses}
    for change in changes:
        for called in (bundle.config.server_name for bundle in change.bundles):
            if not {called, f"*.{called.partition('.')[2]}"} & names:
                raise RequestError(
                    f"{change.target} is called under the name {called}, which the certificate would not hold",
                    remedy=f"Add it to dns_names (an address to ip_addresses) and to allow_names: [{called!r}]",
                )
