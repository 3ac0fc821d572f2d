# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Read the state that a decision rests on, and decide: keep the certificate in the Secret, or act for a reason."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from .._csr import ca_rotation, certificate_rules, markers, secret_content
from .._csr.ca_rotation import ClusterCas
from .._csr.certificate_rules import IssueReason
from .._csr.errors import AnchorError, RequestError, SecretError
from .._csr.intent import Intent
from .._csr.issuing import signers
from .._csr.request import csr_api, csr_content, pending_key
from .._csr.request.pending_key import PendingRequest
from .._csr.secret_content import ExistingSecret
from .._kube.client import Client
from .._kube.errors import KubeError, MissingPermissions
from .._webhook.bundles import bundle_targets
from .._webhook.bundles.bundle_targets import Target
from .._webhook.endpoints import served_chains
from .._x509 import certificate_facts
from .._x509.errors import CertificateError
from . import certificate_run, secret_store, target_anchors
from .certificate_run import CertificateInUse, CertificateRun, CertificateState, TargetState


def read_secret(run: CertificateRun) -> ExistingSecret | None:
    """Return the Secret, None if it does not exist. Raises SecretError for a Secret that must not be written."""
    secret = secret_store.read(run.client, run.intent.secret)
    if secret is not None:
        secret_content.refuse_foreign(secret, run.intent)
    return secret


def keep_signer(run: CertificateRun, secret: ExistingSecret | None) -> CertificateRun:
    """Return the run with the signer of the certificate in the Secret, if only a row of the table asks for another one.

    A changed row or a newly recognised provider does not replace a certificate. The next renewal uses the new signer, except a renewal
    of ephemeral-ca: after it, the caBundles would trust the CA of the whole cluster. So the label is enough for that one, as in a copy.
    """
    held = secret.annotations.get(markers.SIGNER) if secret else None
    if secret is None or not held or not run.intent.keeps_signer or not (secret.is_ours or secret.is_marked):
        return run
    try:
        intent = replace(run.intent, signer=signers.find_signer(held))
        if run.intent_for and not intent.signer.is_asked:
            return replace(run, intent=run.intent_for(held))
    except RequestError:  # the text of an annotation, or options that ephemeral-ca refuses
        return run
    is_good = secret.is_ours and not certificate_rules.reason_to_issue(
        intent, secret, run.client.now(), run.client.later()
    )
    return replace(run, intent=intent) if is_good else run


def gather(
    run: CertificateRun,
    secret: ExistingSecret | None,
    known: Mapping[str, Mapping[str, Any]] | None = None,
) -> CertificateState:
    """Read the targets, the waiting request, and the candidates for the anchor until one verifies.

    known: the objects that were read before, by their paths. Raises TargetError, MissingPermissions, KubeError.
    """
    client, intent = run.client, run.intent
    targets = read_targets(client, run.targets, known)
    waiting, fault = (None, None) if intent.approve else read_waiting(run)
    held, now = secret and secret.certificate, client.now()
    at = certificate_rules.judged_at(held, now) if held else now
    return find_in_use(
        run, CertificateState(secret, targets, at, later=client.later(), waiting=waiting, waiting_fault=fault)
    )


def find_in_use(run: CertificateRun, state: CertificateState) -> CertificateState:
    """Return the state with the certificate in the Secret as the one in use, if it can stay in use and a CA verifies it."""
    secret = state.secret
    if secret is None or not _can_stay_in_use(run.intent, secret, state.now):
        return state
    try:
        anchor = target_anchors.find_anchor(run.client, run.intent, secret, state.targets, state.now)
    except AnchorError as exc:
        return replace(state, anchor_problem=exc.cause)
    in_use = CertificateInUse(secret, anchor)
    cas, is_switched = _read_cluster_cas(run, in_use)
    return replace(state, in_use=in_use, is_ca_switched=is_switched, cluster_cas=cas)


def _read_cluster_cas(run: CertificateRun, in_use: CertificateInUse) -> tuple[frozenset[str], bool]:
    """Return the fingerprints of the CAs that caBundles need, and if an older CA issued the certificate than the one that signs now.

    Only a cluster with more than one CA costs a handshake, and only the reason to renew costs a request. A certificate that the
    outgoing CA issued since the API server has a certificate of the successor proves for a week that the signer is not switched, so no
    run issues one after the other. Certificates of other requests prove the same, because another controller manager may lead.
    """
    trusted = run.client.connection.ca_pem or ""
    cas = ca_rotation.published_cas(trusted) if run.intent.signer.is_asked else ()
    unknown = frozenset[str](), False
    if len(cas) < 2:
        return unknown
    pem = in_use.secret.certificate_pem
    find_cas = functools.partial(ca_rotation.find_cas, cas, now=run.client.now())
    issued = {str(run.intent.secret): pem}
    try:
        api_server = served_chains.api_server_chain(run.client)
        known = find_cas(api_server, issued)
        leaf, chain = certificate_facts.load_leaf_and_chain(pem)
        if known is None or not known.is_outdated(leaf, chain):
            return (_prints_of(known), False) if known else unknown
        # The request for the certificate names the missing permissions.
        with contextlib.suppress(KubeError):
            issued |= csr_content.newest_issued(csr_api.select(run.client, None, None))
        known = find_cas(api_server, issued)
    except (CertificateError, KubeError, OSError):  # a certificate that works is kept
        return unknown
    return (_prints_of(known), known.is_outdated(leaf, chain)) if known else unknown


def _prints_of(cas: ClusterCas) -> frozenset[str]:
    return frozenset[str]().union(*(ca.fingerprints for ca in cas.needed))


def decide(intent: Intent, state: CertificateState) -> IssueReason | CertificateInUse:
    """Return the reason to obtain a certificate, or the certificate to keep."""
    if state.secret is None:
        return certificate_rules.missing_secret(intent)
    reason = certificate_rules.reason_to_issue(intent, state.secret, state.now, state.later)
    if not reason and state.is_ca_switched:
        reason = IssueReason(
            certificate_rules.CA_SWITCHED,
            f"{intent.secret}: its certificate is of the outgoing CA of the cluster, and the successor signs",
            f"{intent.secret}: its certificate was of the outgoing CA of the cluster",
        )
    return reason or state.in_use or IssueReason("Untrusted", f"{intent.secret}: {state.anchor_problem}")


def read_targets(
    client: Client, targets: Iterable[Target], known: Mapping[str, Mapping[str, Any]] | None = None
) -> tuple[TargetState, ...]:
    """Read the object of each target that is not known. Raises TargetError, MissingPermissions."""
    return tuple(
        TargetState(
            target, (known or {}).get(bundle_targets.path(target)) or bundle_targets.read(client, target)
        )
        for target in targets
    )


def read_waiting(
    run: CertificateRun,
) -> tuple[PendingRequest | None, SecretError | MissingPermissions | None]:
    """Return the request of an earlier run with approve: false, and the error if it cannot be used.

    A run that keeps its certificate does not need the request. A run that issues one checks its permissions first, so that
    the failure names all that are missing.
    """
    try:
        return pending_key.load(run.client, run.intent.secret), None
    except (SecretError, MissingPermissions) as exc:
        return None, exc


def acquire_lease(run: CertificateRun, state: CertificateState) -> None:
    """Acquire the Lease before the first write. Raises StateChanged if the objects differ from ``state`` by then."""
    certificate_run.acquire(run.lease, lambda: _versions(state) == _versions(_read_again(run, state)))


def _read_again(run: CertificateRun, state: CertificateState) -> CertificateState:
    secret = secret_store.read(run.client, run.intent.secret)
    targets = read_targets(run.client, (entry.target for entry in state.targets))
    waiting, _fault = (None, None) if run.intent.approve else read_waiting(run)
    return CertificateState(secret, targets, state.now, waiting=waiting)


def _versions(state: CertificateState) -> list[Any]:
    secret, waiting = state.secret, state.waiting
    return [
        secret and (secret.uid, secret.resource_version),
        waiting and (waiting.secret_uid, waiting.csr and _version(waiting.csr)),
        *(_version(entry.obj) for entry in state.targets),
    ]


def _version(obj: Mapping[str, Any]) -> tuple[str, str]:
    return obj["metadata"]["uid"], obj["metadata"]["resourceVersion"]


def _can_stay_in_use(intent: Intent, secret: ExistingSecret, now: datetime) -> bool:
    """Return True if the certificate has its key and every wanted name, and has not expired.

    A target may be called under each of these names.
    """
    held = secret.certificate
    if held is None or held.public_key_sha256 != secret.key_sha256 or held.not_after <= now:
        return False
    return certificate_rules.required_names(intent, secret) <= {*held.dns_names, *held.ip_addresses}
