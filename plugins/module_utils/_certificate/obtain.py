# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Ask for a certificate and put it to use: key, request, approval, anchor on the targets, Secret - in this order.

Bundle first, Secret second: at every moment the targets trust what is served. The key stays in this process. A crash
leaves a request without a key, which leads to nothing and is removed by the next attempt. With ``approve: false`` it
may leave a request and its stored key. The next run of the same identity completes that request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from .._csr import (
    certificate_rules,
    csr_api,
    markers,
    name_policy,
    pending_key,
    secret_content,
    signers,
    trust_anchors,
)
from .._csr.approval import compare
from .._csr.certificate_rules import IssueReason
from .._csr.csr_content import certificate_of, content_of
from .._csr.errors import AnchorError, RequestError, SecretError
from .._csr.intent import Intent, forbidden_name_error
from .._csr.name_policy import GuardedNames
from .._csr.pending_key import PendingRequest
from .._csr.requester import Requester, is_same, requester_of
from .._csr.secret_content import ExistingSecret, SecretContent
from .._csr.trust_anchors import TrustAnchor
from .._diagnosis import ended, shortened, wait_for_certificate
from .._errors import CertflowError
from .._kube import access_review
from .._kube.errors import AlreadyExists, KubeError
from .._result import Result
from .._webhook.bundle_patch import TargetChange
from .._x509 import ephemeral_ca, pem_text, private_keys
from .._x509.certificate_facts import CertificateFacts
from . import certificate_report, keep, rotation, secret_store, target_anchors
from .secret_store import Change
from .target_anchors import Task

if TYPE_CHECKING:
    from .._x509.private_keys import PrivateKey


@dataclass(frozen=True)
class Asked:
    """A request on the API server with the key that belongs to it. ``pending``: where that key is kept.

    ``reason``: why it was made although another one had been, None where there was none.
    """

    csr: Mapping[str, Any]
    key: PrivateKey
    made_now: bool
    pending: PendingRequest | None = None
    reason: IssueReason | None = None
    warnings: tuple[str, ...] = ()

    @property
    def public_key_sha256(self) -> str:
        return private_keys.public_key_sha256(self.key.public_key())


@dataclass(frozen=True)
class Obtained:
    """A certificate (PEM text, perhaps with its chain) and its key.

    csr: the request as the result shows it, None where none was sent. own_ca: the CA that was made here, "" elsewhere.
    """

    certificate_pem: str
    key: PrivateKey
    csr: Mapping[str, Any] | None = None
    own_ca: str = ""

    @property
    def public_key_sha256(self) -> str:
        return private_keys.public_key_sha256(self.key.public_key())


def run(task: Task, reason: IssueReason) -> Result:
    """Obtain a certificate for ``reason``. Raises before the first write whatever can be known by then."""
    planned = target_anchors.plan(task, None, leaf_pem=None, now=task.client.now())
    warnings = _preflight(task, planned)
    if task.check_mode:
        return _foreseen(task, planned, reason, warnings)
    if task.intent.signer.is_asked:
        waits = _left_waiting(task)
        if waits:
            return _waiting(task, _awaited(waits), waits, False, warnings)
        target_anchors.take_turn(task)
        return _by_request(task, reason, warnings)
    target_anchors.take_turn(task)
    return _put_to_use(task, reason, _by_own_hand(task.intent, task.client.now()), warnings)


def _by_own_hand(intent: Intent, now: datetime) -> Obtained:
    """No request, no approval: a CA that lives as long as this call signs the certificate."""
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
    return Obtained(signed.certificate_pem, key, own_ca=signed.ca_pem)


def _by_request(task: Task, reason: IssueReason, warnings: tuple[str, ...]) -> Result:
    client, intent = task.client, task.intent
    asked = _ask(task)
    warnings += asked.warnings
    reason = asked.reason or reason
    csr = asked.csr
    if intent.approve:
        own = requester_of(csr)
        expected = csr_api.expectation_for(intent, asked.public_key_sha256, requester=own.username)
        csr = csr_api.approve_own(client, csr, expected)
    elif _is_left_waiting(intent, csr):
        return _waiting(task, _awaited(csr, asked.reason), csr, asked.made_now, warnings)
    csr = wait_for_certificate.wait(client, intent, csr, until=client.deadline)
    if asked.pending and csr_api.is_over(csr):
        # The refusal is told once; the next run asks anew.
        pending_key.discard(client, intent.secret, asked.pending.secret_uid)
    csr = wait_for_certificate.require_issued(client, intent, csr)
    pem = "".join(block.text for block in pem_text.blocks(certificate_of(csr)))
    obtained = Obtained(pem, asked.key, csr_api.summarize(csr))
    result = _put_to_use(task, reason, obtained, warnings)
    if asked.pending:
        pending_key.discard(client, intent.secret, asked.pending.secret_uid)
    return result


def _left_waiting(task: Task) -> Mapping[str, Any] | None:
    """Return the request of an earlier run that still waits for its approver. This run then has nothing to write.

    Raises RequestError before the first write for a request or a key of another identity.
    """
    pending = _resumable(task)
    csr = pending.csr if pending else None
    is_it = pending and csr and _fits(task, pending, csr) and _is_left_waiting(task.intent, csr)
    return csr if is_it else None


def _resumable(task: Task) -> PendingRequest | None:
    """Return this identity's request that waits for the approval of another, also if the cluster has collected it.

    A task that approves resumes no request. Raises RequestError for a request or a key of another identity.
    """
    client, intent = task.client, task.intent
    pending = None if intent.approve else pending_key.load(client, intent.secret)
    if pending is not None:
        own = csr_api.read_own_identity(client, pending.csr) if pending.csr else None
        pending_key.refuse_foreign(intent.secret, pending, own, intent.requesters)
    return pending


def _is_left_waiting(intent: Intent, csr: Mapping[str, Any]) -> bool:
    return not (intent.approve or intent.wait or certificate_of(csr) or csr_api.is_over(csr))


def _preflight(task: Task, planned: Sequence[TargetChange]) -> tuple[str, ...]:
    """Rights, names, and what only the API server can say (namespace, quota, policies). Returns warnings."""
    client, intent, secret = task.client, task.intent, task.secret
    wanted = [*csr_api.rights(intent), *target_anchors.rights(planned)]
    wanted += task.rollout.rights
    wanted.append(secret_store.right(intent.secret, "patch" if secret else "create"))
    if not intent.approve:
        wanted += pending_key.rights(intent.secret)
    access_review.require(client, wanted, f"request the {intent}")
    request = intent.request
    cluster = csr_api.read_guarded_names(client, request.dns_names, request.ip_addresses)
    _refuse_own_names(intent, cluster)
    _refuse_other_names(intent, planned)
    trial: Change = (
        secret_content.patch_content(secret, intent, None)
        if secret
        else secret_content.new_secret(intent, secret_content.EMPTY_CONTENT)
    )
    secret_store.try_out(client, intent.secret, trial)
    return (
        *name_policy.warnings(intent.allow_names, cluster=cluster),
        *signers.warnings(intent.signer, intent.request),
    )


def _refuse_own_names(intent: Intent, cluster: GuardedNames) -> None:
    """A Service may be called like a node; a certificate for that name could stand in for the node's kubelet."""
    for refusal in name_policy.forbidden_names(
        intent.request.dns_names,
        intent.request.ip_addresses,
        service=intent.service,
        namespace=intent.namespace,
        allow=intent.allow_names,
        cluster=cluster,
    ):
        raise forbidden_name_error(refusal)


def _refuse_other_names(intent: Intent, planned: Sequence[TargetChange]) -> None:
    """A webhook that is called by URL may be called under a name that the certificate would not hold."""
    names = {*intent.request.dns_names, *intent.request.ip_addresses}
    for change in planned:
        for called in (bundle.config.server_name for bundle in change.bundles):
            if not {called, f"*.{called.partition('.')[2]}"} & names:
                raise RequestError(
                    f"{change.target} is called under the name {called}, which the certificate would not hold",
                    remedy=f"add it to dns_names (an address to ip_addresses) and to allow_names: [{called!r}]",
                )


def _foreseen(
    task: Task, planned: Sequence[TargetChange], reason: IssueReason, warnings: tuple[str, ...]
) -> Result:
    """What check mode can say: only a request that still waits for its approval changes nothing."""
    intent = task.intent
    pending = _resumable(task) if intent.signer.is_asked else None
    csr = pending.csr if pending else None
    goes_on = pending is not None and csr is not None and _fits(task, pending, csr)
    if csr and goes_on and _is_left_waiting(intent, csr):
        return _waiting(task, _awaited(csr), csr, False, warnings)
    if pending and csr is None:
        reason = _collected(pending)
    anchor = None if intent.approve or intent.wait or goes_on else _anchor_in_use(task)
    if task.secret and anchor:
        return keep.run(
            task,
            task.secret,
            anchor,
            task.client.now(),
            asked=True,
            pending=reason.message,
            warnings=warnings,
        )
    values = certificate_report.values(
        intent, reason=reason.message, facts=None, anchor=None, csr=None, targets=planned, pending=True
    )
    return Result(True, values, certificate_report.diff(task.secret, None, planned, unknown=True), warnings)


def _ask(task: Task) -> Asked:
    """Make a request, or with ``approve: false`` resume this identity's waiting request if there is one."""
    client, intent = task.client, task.intent
    pending, reason = _resumable(task), None
    if pending is not None:
        csr = pending.csr
        if csr is not None and _fits(task, pending, csr):
            return Asked(csr, pending.key, made_now=False, pending=pending)
        if csr is None:
            reason = _collected(pending)
        elif not certificate_of(csr):
            csr_api.remove(client, csr)
        pending_key.discard(client, intent.secret, pending.secret_uid)
    key = private_keys.generate(intent.request.key_type)
    csr = csr_api.create(
        client, intent, csr_api.build_pkcs10(intent, key), private_keys.public_key_sha256(key.public_key())
    )
    left = _remove_leftovers(task, csr)
    asked = Asked(csr, key, made_now=True, reason=reason, warnings=left)
    return asked if intent.approve else _keep_key(task, asked)


def _collected(pending: PendingRequest) -> IssueReason:
    """A certificate may have been issued, and nobody fetched it: that is not success, and not a first run either."""
    return IssueReason("RequestCollected", f"{ended.gone(pending.csr_name)}; it is requested again")


def _keep_key(task: Task, asked: Asked) -> Asked:
    """Store the key for a later run. If that fails, delete the request too, because it is useless without its key."""
    client, secret = task.client, task.intent.secret
    try:
        return replace(asked, pending=pending_key.store(client, secret, asked.csr, asked.key))
    except AlreadyExists as exc:
        try:
            return _kept_already(task, asked)
        except CertflowError as error:
            csr_api.remove(client, asked.csr)
            raise error from exc
    except KubeError:
        csr_api.remove(client, asked.csr)
        raise


def _kept_already(task: Task, asked: Asked) -> Asked:
    """Return the request of the stored key: this run's own if the answer was lost, or that of a faster run."""
    client, secret = task.client, task.intent.secret
    there = pending_key.load(client, secret)
    if there and there.csr and there.public_key_sha256 == asked.public_key_sha256:
        return replace(asked, pending=there)
    if there:
        pending_key.refuse_foreign(secret, there, requester_of(asked.csr), task.intent.requesters)
    if there and there.csr and _fits(task, there, there.csr):
        csr_api.remove(client, asked.csr)
        return Asked(there.csr, there.key, made_now=False, pending=there)
    raise SecretError(
        f"Secret {secret.namespace}/{pending_key.name(secret)} holds the key of an obsolete request, so the new "
        "key cannot be stored",
        remedy=f"delete it (kubectl delete secret -n {secret.namespace} {pending_key.name(secret)}), or grant this "
        "identity the permission to delete secrets",
    )


def _fits(task: Task, pending: PendingRequest, csr: Mapping[str, Any]) -> bool:
    """Whether the waiting request is what the task asks for today, and its certificate is not in use already."""
    intent, secret, content = task.intent, task.secret, content_of(csr)
    is_used = secret is not None and secret.key_sha256 == pending.public_key_sha256
    same_kind = private_keys.type_of(pending.key) == intent.request.key_type
    same_lifetime = content.expiration_seconds == intent.request.expiration_seconds
    expected = csr_api.expectation_for(intent, pending.public_key_sha256)
    return not is_used and same_kind and same_lifetime and not compare(content, expected)


def _remove_leftovers(task: Task, csr: Mapping[str, Any]) -> tuple[str, ...]:
    """Remove the leftovers of earlier runs of this identity, and return warnings about those of other identities.

    Before Kubernetes 1.35 an approved request that is not issued stays for ever. While this run holds the Lease, all
    other requests of this identity belong to runs that were killed.
    """
    client, intent, own = task.client, task.intent, requester_of(csr)
    warnings = _remove_kept_key(task, own) if intent.approve else ()
    is_alone = task.lease is not None and task.lease.is_held
    foreign = []
    for other in csr_api.list_unissued(client, intent.secret):
        if other["metadata"]["uid"] == csr["metadata"]["uid"]:
            continue
        if not is_same(own, requester_of(other), intent.requesters):
            foreign.append(other)
        elif is_alone or csr_api.is_left_over(other, intent.signer.name, intent.wait_timeout, client.now()):
            warnings += tuple(filter(None, [csr_api.remove(client, other)]))
    return warnings + _left_alone(intent, [other for other in foreign if not csr_api.is_over(other)])


def _remove_kept_key(task: Task, own: Requester) -> tuple[str, ...]:
    """Remove the request and the key of a run with ``approve: false``, because this run replaces them."""
    client, intent = task.client, task.intent
    try:
        pending = pending_key.load(client, intent.secret)
    except SecretError as exc:
        removal = pending_key.delete_commands(intent.secret, None)
        return (f"{exc.cause}. It is kept. To remove it: {removal}",)
    if pending is None:
        return ()
    reason = pending_key.foreign_reason(pending, own, intent.requesters)
    if reason:
        removal = pending_key.delete_commands(intent.secret, None)
        return (f"the waiting key for {intent.secret} is kept: {reason}. To remove it: {removal}",)
    if pending.csr and not certificate_of(pending.csr):
        csr_api.remove(client, pending.csr)
    pending_key.discard(client, intent.secret, pending.secret_uid)
    return ()


def _left_alone(intent: Intent, foreign: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    if not foreign:
        return ()
    name = foreign[0]["metadata"]["name"]
    more = f" (and {len(foreign) - 1} more requests)" if foreign[1:] else ""
    requester = requester_of(foreign[0])
    warning = f"CSR {name!r} for {intent.secret} was requested by {requester}, not by this identity, and is kept{more}"
    return (f"{warning}. To delete it: {csr_api.delete_command(name)}",)


def _awaited(csr: Mapping[str, Any], reason: IssueReason | None = None) -> str:
    name = csr["metadata"]["name"]
    text = f"CSR {name} waits for its approval: kubectl certificate approve {name}"
    return f"{reason.message}: {text}" if reason else text


def _waiting(
    task: Task, pending: str, csr: Mapping[str, Any], asked: bool, warnings: tuple[str, ...]
) -> Result:
    """The result while somebody else decides: what is in use meanwhile, brought up to date as in any other run."""
    summary, anchor = csr_api.summarize(csr), _anchor_in_use(task)
    if task.secret and anchor:
        return keep.run(
            task,
            task.secret,
            anchor,
            task.client.now(),
            csr=summary,
            asked=asked,
            pending=pending,
            warnings=warnings,
        )
    values = certificate_report.values(
        task.intent, reason=pending, facts=None, anchor=None, csr=summary, targets=(), pending=True
    )
    return Result(asked, values, None, warnings)


def _anchor_in_use(task: Task) -> TrustAnchor | None:
    """What vouches for the certificate that stays in use until the new one comes; None where there is no valid one.

    One that lacks a wanted name is none: a target may be called under that name.
    """
    secret, request = task.secret, task.intent.request
    held = secret.certificate if secret else None
    if secret is None or held is None or held.public_key_sha256 != secret.key_sha256:
        return None
    if not {*request.dns_names, *request.ip_addresses} <= {*held.dns_names, *held.ip_addresses}:
        return None
    try:
        return target_anchors.anchor_of_kept(task, secret, task.client.now())
    except AnchorError:
        return None


def _put_to_use(task: Task, reason: IssueReason, obtained: Obtained, warnings: tuple[str, ...]) -> Result:
    """Verify what was issued, make the targets trust it, store it."""
    # The wait may have taken hours: what was read before it decides nothing any more.
    task = replace(task, targets=target_anchors.read(task.client, (seen.target for seen in task.targets)))
    intent, secret = task.intent, task.secret
    pem, summary = obtained.certificate_pem, obtained.csr
    facts = certificate_rules.check_issued(intent, obtained.public_key_sha256, pem, task.client.now())
    now = certificate_rules.judged_at(facts, task.client.now())
    held = secret.certificate if secret and reason.code == certificate_rules.RENEWAL_DUE else None
    if secret and held and facts.not_after <= held.not_after:
        warnings += (_no_gain(intent, facts, held),)
        return keep.run(
            task,
            secret,
            target_anchors.anchor_of_kept(task, secret, now),
            now,
            csr=summary,
            asked=True,
            warnings=warnings,
        )
    offered = trust_anchors.candidates(task.client, intent, pem, own=obtained.own_ca)
    anchor = trust_anchors.choose(intent, pem, offered, now)
    warnings += _too_eager(intent, facts, now)
    warnings += shortened.warnings(intent.signer, intent.request, facts.not_after - now)
    changes = target_anchors.plan(task, anchor, leaf_pem=pem, now=now)
    changes = target_anchors.write(task, changes, anchor, leaf_pem=pem, now=now)
    unproven = _unproven(task, facts, changes, anchor)
    theirs = _store(
        task, SecretContent(pem, private_keys.to_pem(obtained.key), anchor.pem, "", unproven), changes
    )
    if theirs:
        if obtained.own_ca:
            _take_back(task, changes)
        task = replace(task, targets=target_anchors.read(task.client, (seen.target for seen in task.targets)))
        anchor = target_anchors.anchor_of_kept(task, theirs, now)
        return keep.run(task, theirs, anchor, now, csr=summary, asked=True, warnings=warnings)
    values = certificate_report.values(
        intent, reason=reason.message, facts=facts, anchor=anchor, csr=summary, targets=changes
    )
    return Result(True, values, certificate_report.diff(secret, facts, changes), warnings)


def _unproven(
    task: Task, facts: CertificateFacts, changes: Sequence[TargetChange], anchor: TrustAnchor
) -> str:
    """What has to be seen, and what goes then, where something is to go or a certificate in use is replaced; else ""."""
    record = target_anchors.open_record(task, facts.serial, changes, anchor)
    replaces = task.secret is not None and task.secret.certificate is not None
    return record if record != facts.serial or (replaces and rotation.is_served(task)) else ""


def _take_back(task: Task, changes: Sequence[TargetChange]) -> None:
    """Another run stored its certificate first, and the CA of this one vouches for nothing that will ever be served."""
    targets = [change.target for change in changes]
    record = {markers.ANCHORS: target_anchors.added({}, changes)}
    needless = target_anchors.plan_removal(task.client, task.intent, targets, record)
    target_anchors.remove(task.client, task.intent, needless, record)


def _store(task: Task, content: SecretContent, changes: Sequence[TargetChange]) -> ExistingSecret | None:
    """Write the Secret. Returns it as it is where another run has just stored a good certificate, which stays."""
    intent, secret = task.intent, task.secret
    own = private_keys.public_key_sha256(private_keys.load(content.key_pem).public_key())

    def change(found: ExistingSecret | None) -> Change:
        if found is not None and found is not secret:
            secret_content.refuse_foreign(found, intent)
            changed_hands = secret is None or found.key_sha256 != secret.key_sha256
            if found.key_sha256 == own or (
                changed_hands and certificate_rules.reason_to_issue(intent, found, task.client.now()) is None
            ):
                return None
        wanted = replace(content, anchors=target_anchors.added(found.annotations if found else {}, changes))
        return (
            secret_content.patch_content(found, intent, wanted)
            if found
            else secret_content.new_secret(intent, wanted)
        )

    there = secret_store.write(task.client, intent.secret, secret, change)
    return None if there is None or there.key_sha256 == own else there


def _no_gain(intent: Intent, offered: CertificateFacts, held: CertificateFacts) -> str:
    return (
        f"the signer {intent.signer.name} issued a certificate until {offered.not_after:%Y-%m-%d %H:%M} UTC, no longer than the one "
        f"in {intent.secret} ({held.not_after:%Y-%m-%d %H:%M} UTC), which is kept: is the signer's CA about to expire?"
    )


def _too_eager(intent: Intent, facts: CertificateFacts, now: datetime) -> tuple[str, ...]:
    days = (facts.not_after - now).total_seconds() / 86400
    if intent.renew_before is None or intent.renew_before < facts.not_after - now:
        return ()
    warning = f"the signer {intent.signer.name} issued for {days:.2f} days and renew_before is longer: every run will renew"
    return (warning,)
