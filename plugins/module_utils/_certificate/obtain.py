# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Obtain a certificate for a reason: check all preconditions, request or make it, and put it to use.

A run sends a request, or resumes the waiting request of an earlier run, and removes obsolete requests. The private key stays in this
process. After a crash the request has no key, so it leads to no certificate, and the next run removes it. With ``approve: false`` a crash
may leave a request with its stored key. The next run of the same identity completes that request.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from .._base.errors import CertflowError
from .._base.result import Result
from .._csr import name_policy, secret_content
from .._csr.certificate_rules import IssueReason
from .._csr.errors import RequestError, SecretError
from .._csr.intent import Intent, refuse_forbidden_names
from .._csr.request import csr_api, pending_key
from .._csr.request.approval import compare, decision_of
from .._csr.request.csr_content import Requester, certificate_of, content_of, is_same, requester_of
from .._csr.request.pending_key import PendingRequest
from .._csr.secret_content import ExistingSecret
from .._diagnosis import ended, wait_for_certificate
from .._kube import access_review
from .._kube.errors import AlreadyExists, KubeError, MissingPermissions
from .._webhook.bundles.bundle_patch import TargetChange
from .._x509 import ephemeral_ca, private_keys
from .._x509.encoding import pem_text
from . import (
    certificate_report,
    discover_targets,
    gather,
    secret_store,
    target_anchors,
    use_certificate,
    wait_until_served,
)
from .certificate_run import CertificateRun, CertificateState
from .secret_store import Change
from .use_certificate import AnotherRequest, IssuedCertificate

if TYPE_CHECKING:
    from .._x509.private_keys import PrivateKey


def obtain(run: CertificateRun, state: CertificateState, reason: IssueReason) -> Result:
    """Obtain a certificate for ``reason`` and put it to use. In check mode return what a run would do.

    Raises CertflowError before the first write for everything that can be known by then.
    """
    intent = run.intent
    changes = target_anchors.plan(
        intent, state.targets, None, leaf_pem=None, now=state.now, earlier=run.client.earlier()
    )
    earlier, warnings = _check_preconditions(run, state, changes)
    waiting = find_waiting(run, state)
    is_resumed = waiting is not None and matches_intent(intent, state.secret, waiting)
    if is_resumed and waiting and waiting.csr and is_left_waiting(intent, waiting.csr):
        request = AnotherRequest(csr_api.summarize(waiting.csr), pending=_awaited(waiting.csr))
        return _report_waiting(run, state, request, warnings)
    warnings += discover_targets.check_others(run, state, changes)
    run.allow_to_issue(reason, changes)
    if run.check_mode:
        return _foresee(run, state, changes, waiting, reason=reason, warnings=warnings)
    # Each write of a target names the version that this run read, so only what no such write guards is read again.
    gather.acquire_lease(run, replace(state, targets=()))
    if not intent.signer.is_asked:
        issued = issue_from_ephemeral_ca(intent, run.client.now(), run.client.earlier())
        return use_certificate.use(run, state, reason, issued, warnings)
    return _obtain_by_request(run, state, waiting, earlier, reason=reason, warnings=warnings)


def issue_from_ephemeral_ca(intent: Intent, now: datetime, begin: datetime) -> IssuedCertificate:
    """Return a certificate that a new CA signed. The key of that CA no longer exists when this function returns.

    begin: the time of the clock that is behind, this machine's or the API server's.
    """
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
        begin=begin,
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
    request = send(run, state, waiting, earlier)
    warnings += request.warnings
    csr, stored = request.csr, request.stored
    if intent.approve:
        own = requester_of(csr)
        expected = csr_api.expectation_for(intent, request.public_key_sha256, requester=own.username)
        csr = csr_api.approve_own(client, csr, expected)
    elif is_left_waiting(intent, csr):
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


def _awaited(csr: Mapping[str, Any], reason: IssueReason | None = None) -> str:
    name = csr["metadata"]["name"]
    text = f"CSR {name} waits for its approval: kubectl certificate approve {name}"
    if decision_of(csr):
        text = f"CSR {name} is approved, and its signer has not issued it"
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
        reason = collected(waiting)
    is_resumed = waiting is not None and matches_intent(intent, state.secret, waiting)
    if state.in_use and not (intent.approve or intent.wait or is_resumed):
        request = AnotherRequest(is_new=True, pending=reason.due)
        return use_certificate.keep(run, state, state.in_use, request=request, warnings=warnings)
    values = certificate_report.values(run.client, intent, reason=reason.due, targets=changes, pending=True)
    return Result(True, values, certificate_report.diff(state.secret, None, changes, issues=intent), warnings)


def _check_preconditions(
    run: CertificateRun, state: CertificateState, changes: Sequence[TargetChange]
) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """Check permissions, names, and by a dry run what only the API server knows (namespace, quota, policies).

    Return the requests of earlier runs, and warnings. A permission that a read or a dry run shows is not asked for.
    Raises CertflowError.
    """
    client, intent, secret = run.client, run.intent, state.secret
    if secret and not intent.signer.is_asked:
        for error in target_anchors.judge_unread(run, secret.annotations, None).values():
            raise error
    dry_run: Change = (
        secret_content.patch_content(secret, intent, None)
        if secret
        else secret_content.new_secret(intent, secret_content.EMPTY_CONTENT)
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
    if secret and (secret.certificate or target_anchors.added_entries(secret.annotations)):
        wait_until_served.allow_wait(run)
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
        for config in (bundle.config for bundle in change.bundles):
            if config.certificate_names.isdisjoint(names):
                called = config.server_name
                raise RequestError(
                    f"{change.target} is called under the name {called}, which the certificate would not hold",
                    remedy=f"Add {called!r} to names and to allow_names",
                )


@dataclass(frozen=True)
class SentRequest(private_keys.HasKey):
    """A request on the API server, with its private key."""

    csr: Mapping[str, Any]
    key: PrivateKey
    #: True if this run sent it.
    is_new: bool
    #: The stored key, None if the request is approved by this run.
    stored: PendingRequest | None = None
    #: Why it was sent although an earlier run had sent a request, None if there was none.
    reason: IssueReason | None = None
    warnings: tuple[str, ...] = ()


def find_waiting(run: CertificateRun, state: CertificateState) -> PendingRequest | None:
    """Return this identity's request that waits for the approval of another, also if the cluster has collected it.

    A run that approves resumes no request. Raises SecretError if the Secret for the key holds something else, RequestError
    for a request or a key of another identity.
    """
    if state.waiting_fault is not None:
        raise state.waiting_fault
    waiting = state.waiting
    if waiting is not None:
        own = csr_api.read_own_identity(run.client, waiting.csr) if waiting.csr else None
        pending_key.refuse_foreign(run.intent.secret, waiting, own, run.intent.requesters)
    return waiting


def matches_intent(intent: Intent, secret: ExistingSecret | None, waiting: PendingRequest) -> bool:
    """Return True if the waiting request asks for what the task wants, and its certificate is not in use already."""
    if waiting.csr is None:
        return False
    content = content_of(waiting.csr)
    is_used = secret is not None and secret.key_sha256 == waiting.public_key_sha256
    same_kind = private_keys.type_of(waiting.key) == intent.request.key_type
    same_lifetime = content.expiration_seconds == intent.request.expiration_seconds
    expected = csr_api.expectation_for(intent, waiting.public_key_sha256)
    return not is_used and same_kind and same_lifetime and not compare(content, expected)


def is_left_waiting(intent: Intent, csr: Mapping[str, Any]) -> bool:
    """Return True if this run ends before another identity decides on the request."""
    return not (intent.approve or intent.wait or certificate_of(csr) or csr_api.is_over(csr))


def collected(waiting: PendingRequest) -> IssueReason:
    """Return the reason for a new request after the cluster has collected one. No run fetched its certificate."""
    return IssueReason("RequestCollected", f"{ended.describe_gone(waiting.csr_name)}; it is requested again")


def send(
    run: CertificateRun,
    state: CertificateState,
    waiting: PendingRequest | None,
    earlier: Sequence[dict[str, Any]],
) -> SentRequest:
    """Send a request, or with ``approve: false`` resume the waiting request if it matches the intent.

    waiting: the result of ``find_waiting``.
    earlier: the requests for this Secret, as this run listed them.
    """
    client, intent = run.client, run.intent
    reason = None
    if waiting is not None:
        if waiting.csr is not None and matches_intent(intent, state.secret, waiting):
            return SentRequest(waiting.csr, waiting.key, is_new=False, stored=waiting)
        reason = None if waiting.csr else collected(waiting)
        earlier = _discard(run, waiting, earlier)
    key = private_keys.generate(intent.request.key_type)
    csr = csr_api.create(
        client,
        intent,
        csr_api.build_pkcs10(intent, key),
        private_keys.public_key_sha256(key.public_key()),
    )
    warnings = _remove_leftovers(run, earlier, requester_of(csr))
    request = SentRequest(csr, key, is_new=True, reason=reason, warnings=warnings)
    return request if intent.approve else _store_key(run, state, request)


def _discard(
    run: CertificateRun, waiting: PendingRequest, earlier: Sequence[dict[str, Any]]
) -> Sequence[dict[str, Any]]:
    """Remove the waiting request, unless a certificate was issued for it, and its key. Return the other requests."""
    if waiting.csr and not certificate_of(waiting.csr):
        csr_api.remove(run.client, waiting.csr)
    pending_key.discard(run.client, run.intent.secret, waiting.secret_uid)
    return [csr for csr in earlier if csr["metadata"]["name"] != waiting.csr_name]


def _store_key(run: CertificateRun, state: CertificateState, request: SentRequest) -> SentRequest:
    """Store the key for a later run. If that fails, delete the request too, because it is useless without its key."""
    client, secret = run.client, run.intent.secret
    try:
        return replace(request, stored=pending_key.store(client, secret, request.csr, request.key))
    except AlreadyExists as exc:
        try:
            return _join(run, state, request)
        except CertflowError as error:
            csr_api.remove(client, request.csr)
            raise error from exc
    except KubeError:
        csr_api.remove(client, request.csr)
        raise


def _join(run: CertificateRun, state: CertificateState, request: SentRequest) -> SentRequest:
    """Return the request of the stored key: this run's own if the answer was lost, or that of a faster run."""
    client, intent, secret = run.client, run.intent, run.intent.secret
    stored, fault = gather.read_waiting(run)
    if fault is not None:
        raise fault
    if stored and stored.csr and stored.public_key_sha256 == request.public_key_sha256:
        return replace(request, stored=stored)
    if stored:
        pending_key.refuse_foreign(secret, stored, requester_of(request.csr), intent.requesters)
    if stored and stored.csr and matches_intent(intent, state.secret, stored):
        csr_api.remove(client, request.csr)
        return SentRequest(stored.csr, stored.key, is_new=False, stored=stored)
    path = f"{secret.namespace}/{pending_key.name(secret)}"
    raise SecretError(
        f"Secret {path} holds the key of an obsolete request, so the new key cannot be stored",
        remedy=f"Delete it ({pending_key.delete_commands(secret)}), or grant this "
        "identity the permission to delete secrets",
    )


def _remove_leftovers(
    run: CertificateRun, earlier: Sequence[dict[str, Any]], own: Requester
) -> tuple[str, ...]:
    """Remove the leftovers of earlier runs of this identity, and return warnings about those of other identities.

    Before Kubernetes 1.35 an approved request that is not issued stays for ever. While this run holds the Lease, all
    other requests of this identity belong to runs that were killed. They were listed before the Lease, so a request that
    changed since then stays until the next run.
    """
    client, intent = run.client, run.intent
    warnings: tuple[str, ...] = ()
    # This run replaces the request and the key of a run with ``approve: false``. A stored key exists as long as its request.
    if intent.approve and earlier:
        waiting, warnings = keep_foreign_key(intent, *gather.read_waiting(run), own)
        if waiting:
            earlier = _discard(run, waiting, earlier)
    holds_lease = run.lease is not None and run.lease.is_held
    left, foreign = keep_foreign_requests(intent, csr_api.unissued(earlier), own)
    for csr in left:
        if holds_lease or csr_api.is_left_over(csr, intent.signer.name, intent.wait_timeout, client.now()):
            version = csr["metadata"]["resourceVersion"]
            warnings += tuple(filter(None, [csr_api.remove(client, csr, resource_version=version)]))
    return warnings + foreign


def keep_foreign_key(
    intent: Intent, waiting: PendingRequest | None, fault: CertflowError | None, own: Requester | None
) -> tuple[PendingRequest | None, tuple[str, ...]]:
    """Return the waiting request if it is this identity's, and a warning if it is not. Take the result of read_waiting."""
    removal = pending_key.delete_commands(intent.secret)
    if fault is not None:
        return None, (f"{fault.cause}. It is kept. To remove it: {removal}",)
    reason = pending_key.foreign_reason(waiting, own, intent.requesters) if waiting else ""
    if reason:
        return None, (f"the waiting key for {intent.secret} is kept: {reason}. To remove it: {removal}",)
    return waiting, ()


def keep_foreign_requests(
    intent: Intent, requests: Iterable[Mapping[str, Any]], own: Requester | None
) -> tuple[list[Mapping[str, Any]], tuple[str, ...]]:
    """Return the requests of this identity, and a warning about those of other identities."""
    mine: list[Mapping[str, Any]] = []
    foreign: list[Mapping[str, Any]] = []
    for csr in requests:
        if is_same(own, requester_of(csr), intent.requesters):
            mine.append(csr)
        elif not csr_api.is_over(csr):
            foreign.append(csr)
    if not foreign:
        return mine, ()
    name, requester = foreign[0]["metadata"]["name"], requester_of(foreign[0])
    more = f" (and {len(foreign) - 1} more requests)" if foreign[1:] else ""
    warning = f"CSR {name!r} for {intent.secret} was requested by {requester}, not by this identity, and is kept{more}"
    return mine, (f"{warning}. To delete it: {csr_api.delete_command(name)}",)
