# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Requests that nobody has decided about."""

from __future__ import annotations

from collections.abc import Iterator

from .._csr.csr_content import content_of
from .._errors import CertflowError
from .._kube.access_review import rule_for
from .diagnosis import PROVEN, Diagnosis
from .observation import CsrObservation
from .unissued import foreseen


def no_right_to_approve(seen: CsrObservation) -> Diagnosis | None:
    if not seen.lacking:
        return None
    missing = ", ".join(
        f"{permission.verb} {permission.resource} {permission.name}".strip() for permission in seen.lacking
    )
    return Diagnosis(
        "no-right-to-approve",
        f"Nobody has approved request {seen.name} yet, and this identity may not: it lacks the right to {missing}.",
        PROVEN,
        tuple(_evidence(seen)),
        _fault_remedy(seen)
        or f"Ask an identity with the permission to compare and approve it (kubectl certificate approve {seen.name}), or "
        f"grant the permission, bound to this identity, by kubectl apply of: {rule_for(seen.lacking)}",
    )


def never_approved(seen: CsrObservation) -> Diagnosis | None:
    may = f"this identity may approve requests for {seen.signer}" if seen.lacking is not None else ""
    return Diagnosis(
        "never-approved",
        f"Nobody has approved request {seen.name} yet.",
        PROVEN,
        tuple(filter(None, (*_evidence(seen), may))),
        _remedy(seen),
    )


def _remedy(seen: CsrObservation) -> str:
    """Return the remedy for a request without a decision. One that cannot be compared must not be approved."""
    fault = _fault_remedy(seen)
    if fault:
        return fault
    later = foreseen(seen)
    if later:
        return later.remedy
    return (
        f"Compare what it asks for, then approve it (kubectl certificate approve {seen.name}), or set approve: true in the "
        "k8s_csr task that made it. The cluster deletes it 24 hours after its creation."
    )


def _fault_remedy(seen: CsrObservation) -> str:
    """Return the remedy for a request that cannot be compared, or ""."""
    try:
        fault = content_of(seen.csr).fault
    except CertflowError as error:
        fault = error.cause
    if not fault:
        return ""
    return f"Do not approve it: {fault}. Find out who made it, and deny it (kubectl certificate deny {seen.name})."


def _evidence(seen: CsrObservation) -> Iterator[str]:
    yield f"no condition since it was created at {seen.csr['metadata'].get('creationTimestamp', 'an unknown time')}"
    later = foreseen(seen)
    if later:
        yield f"approval alone will not help: {later.cause}"
    yield from seen.unreadable
