# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Rules for requests that are not approved, and for approved requests that are not issued.

The object looks the same for a signer that does not exist, a signer that refuses silently, a stopped controller manager,
an expired CA and a slow signer. So each rule says how certain it is, and no rule claims more than its evidence.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from datetime import timedelta
from typing import Callable

from .._base.errors import CertflowError
from .._csr.issuing import providers
from .._csr.issuing.providers import PROVIDERS, Provider, UnservedSigner
from .._csr.issuing.signers import EPHEMERAL_CA, LEGACY_UNKNOWN
from .._csr.request.csr_content import command_name, content_of
from .._kube.access_review import grant
from . import control_plane
from .observation import (
    BUILT_IN_SIGNERS,
    CERT_MANAGER,
    LIKELY,
    ONE_OF,
    PROVEN,
    CsrObservation,
    Diagnosis,
    approval_evidence,
    approved_at,
    is_from_node,
    show_span,
    show_time,
)
from .remedies import remedy_of

# After this time no client waits for the certificate any more.
LEFT_OVER_AFTER = timedelta(days=1)
# The ratio of difflib for names that differ in one or two letters.
SIMILAR = 0.8


# Requests that are not approved


def no_permission_to_approve(observation: CsrObservation) -> Diagnosis | None:
    if not observation.lacking:
        return None
    missing = ", ".join(
        f"{permission.verb} {permission.resource} {permission.name}".strip()
        for permission in observation.lacking
    )
    return Diagnosis(
        "no-right-to-approve",
        f"Request {observation.name} is not approved, and this identity has no permission to approve it: it lacks "
        f"{missing}.",
        PROVEN,
        tuple(_pending_evidence(observation)),
        _comparison_remedy(observation)
        or f"{remedy_of('no-right-to-approve', observation)} {grant('approve')}",
    )


def never_approved(observation: CsrObservation) -> Diagnosis | None:
    is_permitted = observation.lacking is not None
    review = (
        f"this identity has the permission to approve requests for {observation.signer}"
        if is_permitted
        else ""
    )
    return Diagnosis(
        "never-approved",
        f"Request {observation.name} is not approved yet.",
        PROVEN,
        tuple(filter(None, (*_pending_evidence(observation), review))),
        _approval_remedy(observation),
    )


def _approval_remedy(observation: CsrObservation) -> str:
    """Return the remedy for a request without a decision. A request that cannot be compared must not be approved."""
    remedy = _comparison_remedy(observation)
    if remedy:
        return remedy
    later = foresee(observation)
    return later.remedy if later else remedy_of("never-approved", observation)


def _comparison_remedy(observation: CsrObservation) -> str:
    """Return the remedy for a request that cannot be compared, or ""."""
    try:
        fault = content_of(observation.csr).fault
    except CertflowError as error:
        fault = error.cause
    if not fault:
        return ""
    name = command_name(observation.name)
    return f"Do not approve it: {fault}. Find out who made it, and deny it (kubectl certificate deny {name})."


def _pending_evidence(observation: CsrObservation) -> Iterator[str]:
    created = observation.csr["metadata"].get("creationTimestamp", "an unknown time")
    yield f"no condition since it was created at {created}"
    later = foresee(observation)
    if later:
        yield f"an approval is not enough: {later.cause}"
    yield from observation.unreadable


# Approved requests without a certificate: causes that were seen


def not_served(observation: CsrObservation) -> Diagnosis | None:
    fault = find_unserved(observation)
    provider, stats = observation.provider, observation.stats
    # A certificate that this signer issued outweighs any table.
    if fault is None or provider is None or (stats and stats.issued):
        return None
    stuck = stats.stuck if stats else 0
    others = f"{stuck} other approved requests of this signer were never issued, and none was issued"
    return Diagnosis(
        "signer-not-served",
        f"The signer {fault.signer} does not issue request {observation.name} on this cluster ({provider.name}): {fault.why}.",
        PROVEN if stuck else LIKELY,
        (
            *approval_evidence(observation.csr),
            *(f"{provider.name}: {text}" for text in provider.evidence),
            *((others,) if stuck else ()),
        ),
        f"{fault.remedy} {remedy_of('signer-not-served', observation)}",
    )


def find_unserved(observation: CsrObservation) -> UnservedSigner | None:
    """Return the row that says that the provider does not serve the signer, or that only other providers have it."""
    provider, row = observation.provider, observation.provider_row
    if row is None or provider is None or is_from_node(observation.csr):
        return None
    return _unserved_on(row, provider.signer, observation.signer)


def _unserved_on(row: Provider, serving_signer: str, signer: str) -> UnservedSigner | None:
    """Return why a provider does not serve a signer. serving_signer: its signer for a Service's names, or ""."""
    if signer == serving_signer:
        return None
    for fault in row.not_served:
        if fault.signer == signer:
            return fault
    owners = [row.name for row in PROVIDERS if row.serving_signer == signer]
    if signer.startswith("kubernetes.io/") or not owners:
        return None
    remedy = f"Use signer_name: {serving_signer or EPHEMERAL_CA}."
    return UnservedSigner(signer, f"only {' and '.join(owners)} has it", remedy)


def no_such_signer(observation: CsrObservation) -> Diagnosis | None:
    """Explain a misspelt signer of Kubernetes. The API server accepts any name."""
    if not observation.signer.startswith("kubernetes.io/") or observation.signer in BUILT_IN_SIGNERS:
        return None
    usable = [name for name in BUILT_IN_SIGNERS if name != LEGACY_UNKNOWN]
    similar = difflib.get_close_matches(observation.signer, usable, 1, SIMILAR)
    return Diagnosis(
        "no-such-signer",
        f"Kubernetes has no signer {observation.signer}, so no signer issues request {observation.name}.",
        LIKELY,
        (
            *approval_evidence(observation.csr),
            f"names under kubernetes.io/ are reserved for: {', '.join(BUILT_IN_SIGNERS)}",
        ),
        remedy_of("no-such-signer", observation) + (f" Perhaps it is {similar[0]}." if similar else ""),
    )


def gate_off(observation: CsrObservation) -> Diagnosis | None:
    """Explain the silence of cert-manager. With the feature gate on it answers at once, at least by an Event."""
    stats = observation.stats
    is_unread = any(fault.startswith("cannot read Events:") for fault in observation.unreadable)
    is_asked = observation.signer.startswith(CERT_MANAGER)
    if not is_asked or is_unread or observation.events or (stats and stats.issued):
        return None
    return Diagnosis(
        "cert-manager-gate-off",
        f"cert-manager ignores request {observation.name}, because its controllers for certificate signing requests are "
        "experimental and off by default.",
        LIKELY,
        (*approval_evidence(observation.csr), "no Event of cert-manager on the request"),
        remedy_of("cert-manager-gate-off", observation),
    )


def reported(observation: CsrObservation) -> Diagnosis | None:
    """Explain the request by its last Warning Event. cert-manager writes a Normal Event about every request."""
    warnings = [event for event in observation.events if event.is_warning]
    if not warnings:
        return None
    last = warnings[-1]
    message = f"{last.reason}: {last.message.rstrip('.')}"
    return Diagnosis(
        "signer-reports",
        f"{last.reporter or 'A controller'} reports about request {observation.name}: {message}.",
        LIKELY,
        (*approval_evidence(observation.csr), *_event_evidence(observation)),
        remedy_of("signer-reports", observation),
    )


def forbidden_prefix(observation: CsrObservation) -> Diagnosis | None:
    row = observation.provider_row
    prefixes = row.forbidden_prefixes if row else ()
    prefix = next((prefix for prefix in prefixes if observation.name.startswith(prefix)), None)
    if prefix is None or row is None:
        return None
    return Diagnosis(
        "name-never-issued",
        f"Request {observation.name} has a name that {row.name} never issues: it begins with {prefix!r}.",
        LIKELY,
        (*approval_evidence(observation.csr), f"source: {row.source}"),
        remedy_of("name-never-issued", observation),
    )


# Approved requests without a certificate: causes that remain


def depends_on_provider(observation: CsrObservation) -> Diagnosis | None:
    """Explain a request on a cluster whose few marks fit a provider that does not serve the signer.

    A visible pod of kube-controller-manager, or a certificate of this signer, shows that the signer is served.
    """
    provider, stats = observation.provider, observation.stats
    is_served = bool(observation.flags) or bool(stats and stats.issued)
    if provider is None or provider.row or is_served or is_from_node(observation.csr):
        return None
    judged = [(row, _unserved_on(row, row.serving_signer, observation.signer)) for row in provider.candidates]
    unserved = [(row, fault) for row, fault in judged if fault]
    if not unserved:
        return None
    serving = " or ".join(row.name for row, fault in judged if not fault) or "another provider"
    lead = [
        f"{fault.remedy.rstrip('.')} (on {row.name}), unless this is {serving}." for row, fault in unserved
    ]
    return Diagnosis(
        "signer-depends-on-provider",
        f"{' '.join(lead)} Request {observation.name} is approved, and {observation.signer} has not issued it. This cluster "
        "shows too few marks of its provider.",
        ONE_OF,
        (
            *(f"on {row.name}: {fault.why}" for row, fault in unserved),
            f"on {serving}: {_possible_causes(observation)}",
            *provider.evidence,
            *_evidence(observation),
        ),
        " ".join(
            filter(
                None,
                (
                    f"On {serving}, keep this signer, and read its log.",
                    providers.permissions_remedy(provider),
                    remedy_of("signer-depends-on-provider", observation),
                ),
            )
        ),
    )


def left_over(observation: CsrObservation) -> Diagnosis | None:
    age = observation.now - approved_at(observation.csr)
    if age < LEFT_OVER_AFTER:
        return None
    return Diagnosis(
        "left-over",
        f"Request {observation.name} was approved {show_span(age)} ago, {observation.signer} has not issued it, and no "
        f"client waits for it any more: the cause is {_possible_causes(observation)}.",
        ONE_OF,
        tuple(_evidence(observation)),
        remedy_of("left-over", observation),
    )


def unexplained(observation: CsrObservation) -> Diagnosis:
    return Diagnosis(
        "approved-not-issued",
        f"Request {observation.name} is approved, and {observation.signer} has not issued it: the cause is "
        f"{_possible_causes(observation)}.",
        ONE_OF,
        tuple(_evidence(observation)),
        remedy_of("approved-not-issued", observation),
    )


def _possible_causes(observation: CsrObservation) -> str:
    """Return the causes that the evidence does not exclude."""
    has_ca, is_alive = control_plane.has_ca(observation), control_plane.is_manager_alive(observation)
    has_issued = bool(observation.stats and observation.stats.issued)
    causes = (
        ("a signer that does not exist here", not (has_ca or has_issued)),
        ("a signer that does not run", not is_alive),
        ("a signing CA that is missing", not has_ca),
        ("a signing CA that cannot be read or has expired", True),
        ("a slow signer", True),
    )
    possible = [text for text, is_possible in causes if is_possible]
    return f"one of {', '.join(possible[:-1])}, or {possible[-1]}"


def _evidence(observation: CsrObservation) -> Iterator[str]:
    yield from approval_evidence(observation.csr)
    stats = observation.stats
    if stats and stats.issued and stats.last_issued:
        yield (
            f"{stats.issued} other requests of this signer were issued, the last one approved at "
            f"{show_time(stats.last_issued)}"
        )
    if stats and stats.stuck and stats.oldest_stuck:
        yield (
            f"{stats.stuck} other requests of this signer are stuck too, the oldest one approved at "
            f"{show_time(stats.oldest_stuck)}"
        )
    yield from _event_evidence(observation)
    yield from control_plane.manager_evidence(observation)


def _event_evidence(observation: CsrObservation) -> Iterator[str]:
    return (f"Event {event.reason}: {event.message}" for event in observation.events)


Rule = Callable[[CsrObservation], "Diagnosis | None"]
#: The rules that also apply to a request that is not approved yet.
FORESEEABLE: tuple[Rule, ...] = (
    not_served,
    no_such_signer,
    control_plane.switched_off,
    control_plane.stopped,
    forbidden_prefix,
    control_plane.expired_ca,
)


def foresee(observation: CsrObservation) -> Diagnosis | None:
    """Return the reason why the request will not be issued after its approval, or None if no reason is known."""
    return next((diagnosis for rule in FORESEEABLE if (diagnosis := rule(observation))), None)
