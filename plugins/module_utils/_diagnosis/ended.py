# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Requests that will never be issued: denied, refused by their signer, gone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from .._csr.csr_content import condition_of
from .._csr.signers import remedy_for
from .._times import parse_time
from .diagnosis import LIKELY, ONE_OF, PROVEN, Diagnosis, decision, moment, span, words
from .observation import APPROVED, DENIED, FAILED, ISSUED, PENDING, CsrObservation, symptom_of
from .signer_stats import approved_at


@dataclass(frozen=True)
class KnownMessage:
    """What a controller writes into a condition, and what to do about it. text: part of its reason or message."""

    text: str
    says: str
    remedy: str
    source: str


# Who denies what nobody would expect it to.
DENIALS = (
    KnownMessage(
        "kubelet-csr-approver",
        "kubelet-csr-approver decides about kubelets' requests and denies what is no node's",
        "Let it leave the requests of others alone (its flag --ignore-non-system-node), or use a signer other than "
        "kubernetes.io/kubelet-serving.",
        "postfinance/kubelet-csr-approver#61, #70; kubespray installs it with kubelet_rotate_server_certificates",
    ),
    KnownMessage(
        "CertflowSubstituted",
        "certflow.kubernetes denied it: under the name of its own request stood another one",
        "Find out who replaced it (the API server's audit log names the user), then run the task again.",
        "certflow.kubernetes.k8s_csr",
    ),
)
# Refusals of signers that are not part of Kubernetes; what Kubernetes' own say is in _signers.
REFUSALS = (
    KnownMessage(
        "DeniedReference",
        "cert-manager: the requester may not refer to this issuer",
        "Grant the requester the verb reference on signers.cert-manager.io, by the issuer's name, in its namespace.",
        "cert-manager website content/docs/usage/kube-csr.md",
    ),
    KnownMessage(
        "InvalidDuration",
        "cert-manager: the lifetime that is asked for is too short",
        "Ask for 600 seconds or more (expiration_seconds; the annotation experimental.cert-manager.io/request-duration "
        "goes before it).",
        "cert-manager website content/docs/usage/kube-csr.md",
    ),
)


@dataclass(frozen=True)
class CollectionRule:
    """When kube-controller-manager deletes a request in this state. since: what its age is measured from."""

    symptom: str
    after: timedelta
    since: str
    note: str = ""


# k/k pkg/controller/certificates/cleaner/cleaner.go; it looks once an hour.
COLLECTED = (
    CollectionRule(PENDING, timedelta(hours=24), "its creation"),
    CollectionRule(DENIED, timedelta(hours=1), "the denial"),
    CollectionRule(FAILED, timedelta(hours=1), "the refusal"),
    CollectionRule(ISSUED, timedelta(hours=1), "the approval", "at once where the certificate has expired"),
    CollectionRule(
        APPROVED,
        timedelta(hours=24),
        "the approval",
        "never before kubernetes/kubernetes#133116 (about Kubernetes 1.35)",
    ),
)


def denied(seen: CsrObservation) -> Diagnosis | None:
    entry = condition_of(seen.csr, "Denied") or {}
    known = _known(DENIALS, words(entry))
    return Diagnosis(
        "denied",
        f"Request {seen.name} was denied: {words(entry)}.",
        PROVEN,
        (
            *decision(seen.csr, entry),
            *((known.says,) if known else ()),
            "who denied it stands in the API server's audit log alone",
        ),
        f"{known.remedy} Then make a new request."
        if known
        else "A denial is final: settle what it objects to, then make a new request.",
    )


def failed(seen: CsrObservation) -> Diagnosis | None:
    entry = condition_of(seen.csr, "Failed") or {}
    known = _known(REFUSALS, words(entry))
    specific = remedy_for(seen.signer, entry.get("message", "")) or (known.remedy if known else "")
    return Diagnosis(
        "failed",
        f"The signer {seen.signer} refused request {seen.name}: {words(entry)}.",
        PROVEN,
        (
            f"condition Failed since {entry.get('lastUpdateTime', 'an unknown time')}",
            *((known.says,) if known else ()),
        ),
        f"{specific or 'Change what the signer objects to.'} A failed request is spent: make a new one.",
    )


def deleted(seen: CsrObservation) -> Diagnosis | None:
    """Gone before kube-controller-manager would have collected it, as it was last seen."""
    due = _due(seen)
    if due is None or seen.now >= due:
        return None
    return Diagnosis(
        "deleted",
        f"Request {seen.name} was deleted before its certificate was fetched.",
        LIKELY,
        (
            (
                f"it was {symptom_of(seen.csr)} when it was last seen; the cluster itself deletes such a request at "
                f"{moment(due)} at the earliest"
            ),
        ),
        "Make the request again; who deleted it stands in the API server's audit log alone.",
    )


def collected(seen: CsrObservation) -> Diagnosis | None:
    due = _due(seen)
    if due and seen.now < due:
        return None
    return Diagnosis(
        "collected",
        gone(seen.name) + ("." if due else ", or somebody deleted it, or there never was one of that name."),
        LIKELY if due else ONE_OF,
        tuple(
            f"a request that is {row.symptom} is collected {span(row.after)} after {row.since}"
            + (f", {row.note}" if row.note else "")
            for row in COLLECTED
            if not due or row.symptom == symptom_of(seen.csr)
        ),
        "Make the request again, and fetch the certificate within the hour after it was issued.",
    )


def gone(name: str) -> str:
    """The words for a request that is not there any more."""
    return (
        f"Request {name} is gone before its certificate was fetched: the cluster collects an issued one after an hour, "
        "an undecided one after 24"
    )


def _due(seen: CsrObservation) -> datetime | None:
    """When the cluster would have collected it; None where its last state is not known."""
    if "creationTimestamp" not in seen.csr["metadata"]:
        return None
    symptom = symptom_of(seen.csr)
    after = next(row.after for row in COLLECTED if row.symptom == symptom)
    kind = {DENIED: "Denied", FAILED: "Failed"}.get(symptom)
    entry = condition_of(seen.csr, kind) if kind else None
    since = (
        parse_time(entry["lastUpdateTime"])
        if entry and entry.get("lastUpdateTime")
        else approved_at(seen.csr)
    )
    return since + after


def _known(table: tuple[KnownMessage, ...], text: str) -> KnownMessage | None:
    return next((row for row in table if row.text in text), None)
