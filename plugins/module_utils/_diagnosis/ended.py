# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Rules for requests that have ended: denied, failed, issued for a shorter time, or gone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from .._base.times import find_time
from .._csr.issuing import signers
from .._csr.issuing.signers import CertificateRequest, Signer
from .._csr.request.csr_content import condition_of
from .observation import (
    APPROVED,
    DENIED,
    FAILED,
    ISSUED,
    LIKELY,
    ONE_OF,
    PENDING,
    PROVEN,
    CsrObservation,
    Diagnosis,
    approved_at,
    decision_evidence,
    describe_condition,
    show_span,
    show_time,
    symptom_of,
)
from .remedies import remedy_of


@dataclass(frozen=True)
class KnownMessage:
    """A message that a controller writes into a condition."""

    #: A part of the reason or the message.
    text: str
    #: Its meaning, as a clause.
    meaning: str
    remedy: str


# Controllers that deny requests which are not meant for them.
DENIALS = (
    # postfinance/kubelet-csr-approver#61, #70; kubespray installs it with kubelet_rotate_server_certificates
    KnownMessage(
        "kubelet-csr-approver",
        "kubelet-csr-approver decides about the requests of kubelets, and denies every request that does not come from a node",
        "Set its flag --ignore-non-system-node, so that it ignores other requests, or use a signer other than "
        "kubernetes.io/kubelet-serving.",
    ),
    # gardener/gardener pkg/resourcemanager/controller/csrapprover/reconciler.go
    KnownMessage(
        "Denying kubelet server certificate CSR",
        "Gardener's csrapprover decides about each request for kubernetes.io/kubelet-serving, and denies it unless a node made it",
        "Use signer_name: ephemeral-ca, or a signer of your own.",
    ),
    # certflow.kubernetes.k8s_csr
    KnownMessage(
        "CertflowSubstituted",
        "certflow.kubernetes denied it, because another request had replaced its own request under this name",
        "Find the user who replaced it in the audit log of the API server, then run the task again.",
    ),
)
# Refusals by signers that are not part of Kubernetes. The refusals by the signers of Kubernetes are in _csr/signers.
# cert-manager website content/docs/usage/kube-csr.md
REFUSALS = (
    KnownMessage(
        "DeniedReference",
        "cert-manager: the requester has no permission to refer to this issuer",
        "Grant the requester the verb reference on signers.cert-manager.io, by the issuer's name, in its namespace.",
    ),
    KnownMessage(
        "InvalidDuration",
        "cert-manager: the requested lifetime is too short",
        "Ask for 600 seconds or more (expiration_seconds). The annotation experimental.cert-manager.io/request-duration "
        "takes precedence.",
    ),
)


@dataclass(frozen=True)
class CollectionRule:
    """The age at which kube-controller-manager deletes a request with a symptom."""

    symptom: str
    after: timedelta
    #: The event from which the age is counted.
    since: str
    note: str = ""


# k/k pkg/controller/certificates/cleaner/cleaner.go. It checks once an hour.
COLLECTED = (
    CollectionRule(PENDING, timedelta(hours=24), "its creation"),
    CollectionRule(DENIED, timedelta(hours=1), "the denial"),
    CollectionRule(FAILED, timedelta(hours=1), "the refusal"),
    CollectionRule(ISSUED, timedelta(hours=1), "the approval", "at once if the certificate has expired"),
    CollectionRule(
        APPROVED,
        timedelta(hours=24),
        "the approval",
        "never before kubernetes/kubernetes#133116 (about Kubernetes 1.35)",
    ),
)

# kube-controller-manager backdates by five minutes. If eight hours or more are requested, the certificate then ends five
# minutes earlier (k/k pkg/controller/certificates/authority/policies.go). One more minute is for the clocks, and a
# hundredth for rounding.
ALLOWANCE = timedelta(minutes=6)


# Denied and failed requests


def denied(observation: CsrObservation) -> Diagnosis | None:
    entry = condition_of(observation.csr, "Denied") or {}
    known = _find_known(DENIALS, describe_condition(entry))
    return Diagnosis(
        "denied",
        f"Request {observation.name} was denied: {describe_condition(entry)}.",
        PROVEN,
        (
            *decision_evidence(observation.csr, entry),
            *((known.meaning,) if known else ()),
            "only the audit log of the API server names the user who denied it",
        ),
        f"{known.remedy} Then make a new request." if known else remedy_of("denied", observation),
    )


def failed(observation: CsrObservation) -> Diagnosis | None:
    entry = condition_of(observation.csr, "Failed") or {}
    known = _find_known(REFUSALS, describe_condition(entry))
    specific = signers.remedy_for(observation.signer, entry.get("message", "")) or (
        known.remedy if known else ""
    )
    return Diagnosis(
        "failed",
        f"The signer {observation.signer} refused request {observation.name}: {describe_condition(entry)}.",
        PROVEN,
        (
            f"condition Failed since {entry.get('lastUpdateTime', 'an unknown time')}",
            *((known.meaning,) if known else ()),
        ),
        f"{specific} Then make a new request. A failed request is final."
        if specific
        else remedy_of("failed", observation),
    )


def _find_known(table: tuple[KnownMessage, ...], text: str) -> KnownMessage | None:
    return next((row for row in table if row.text in text), None)


# Requests that are gone


def deleted(observation: CsrObservation) -> Diagnosis | None:
    """Explain a request that is gone before kube-controller-manager would have deleted it."""
    due = _collection_time(observation)
    if due is None or observation.now >= due:
        return None
    return Diagnosis(
        "deleted",
        f"Request {observation.name} was deleted before its certificate was fetched.",
        LIKELY,
        (
            f"it was {symptom_of(observation.csr)} when it was last read; the cluster deletes such a request not before {show_time(due)}",
        ),
        remedy_of("deleted", observation),
    )


def collected(observation: CsrObservation) -> Diagnosis | None:
    due = _collection_time(observation)
    if due and observation.now < due:
        return None
    gone = describe_gone(observation.name)
    remedy = remedy_of("collected", observation)
    if due is None:
        evidence = tuple(map(_collection_rule, COLLECTED))
        cause = f"{gone}. Or a user deleted it, or it never existed."
        return Diagnosis("collected", cause, ONE_OF, evidence, remedy)
    symptom = symptom_of(observation.csr)
    evidence = tuple(_collection_rule(row) for row in COLLECTED if row.symptom == symptom)
    return Diagnosis("collected", f"{gone}.", LIKELY, evidence, remedy)


def _collection_rule(row: CollectionRule) -> str:
    """Return a clause about when kube-controller-manager deletes a request."""
    rule = f"the cluster deletes a request that is {row.symptom} {show_span(row.after)} after {row.since}"
    return f"{rule}, {row.note}" if row.note else rule


def describe_gone(name: str) -> str:
    """Return the sentence for a request that does not exist any more, without its full stop."""
    return (
        f"Request {name} was deleted before its certificate was fetched: the cluster deletes an issued request after an "
        "hour, and a request without a decision after 24 hours"
    )


def _collection_time(observation: CsrObservation) -> datetime | None:
    """Return the time at which the cluster would have deleted it. Return None if its last state is not known."""
    if "creationTimestamp" not in observation.csr["metadata"]:
        return None
    symptom = symptom_of(observation.csr)
    after = next(row.after for row in COLLECTED if row.symptom == symptom)
    kind = {DENIED: "Denied", FAILED: "Failed"}.get(symptom)
    entry = condition_of(observation.csr, kind) if kind else None
    ended = find_time(entry.get("lastUpdateTime")) if entry else None
    # A client writes the time of a condition, also one that has not come.
    return min(ended or approved_at(observation.csr), observation.now) + after


def lifetime_warnings(signer: Signer, request: CertificateRequest, granted: timedelta) -> tuple[str, ...]:
    """Return a warning for a certificate with less time than requested."""
    requested = timedelta(seconds=request.expiration_seconds or 0)
    if not is_shorter(granted, requested):
        return ()
    return (
        f"the signer {signer.name} issued for {show_span(granted)}, and {show_span(requested)} were requested",
    )


def is_shorter(granted: timedelta, requested: timedelta) -> bool:
    """Return True if less time was granted than requested. Signers backdate certificates."""
    return bool(requested) and granted < requested - ALLOWANCE - requested / 100
