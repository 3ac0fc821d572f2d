# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Why a request is not issued: small rules over one observation.

Approved without a certificate looks the same for a signer that does not exist, one that refuses silently, a stopped
controller-manager, an expired CA and a slow one. So each answer has a certainty and never claims more than its
evidence: the first proven rule wins, else the likely ones are listed together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Callable, Optional

from ._content import condition, condition_of, time_of
from ._providers import PROVIDERS, NotServed, Provider, ProviderVerdict
from ._signers import remedy_for

PROVEN, LIKELY, ONE_OF = "proven", "likely", "one of"
# Signers answer within seconds; an approved request without a certificate after this time is stuck.
STUCK_AFTER = timedelta(minutes=10)


@dataclass(frozen=True)
class Peers:
    """Requests of one signer that are not a node's own: issued, and approved long ago without result."""

    issued: int
    stuck: int

    def beside(self, csr: Mapping[str, Any], now: datetime) -> Peers:
        """Those other than this one, which was counted."""
        own = count((csr,), now)
        return Peers(max(0, self.issued - own.issued), max(0, self.stuck - own.stuck))


@dataclass(frozen=True)
class Observation:
    """What is known. csr: the object; provider, peers: None where nobody looked."""

    csr: Mapping[str, Any]
    now: datetime
    provider: ProviderVerdict | None = None
    peers: Peers | None = None

    @property
    def name(self) -> str:
        return str(self.csr["metadata"]["name"])

    @property
    def signer(self) -> str:
        return str(self.csr["spec"]["signerName"])

    @property
    def row(self) -> Provider | None:
        return self.provider.row if self.provider else None


@dataclass(frozen=True)
class Diagnosis:
    """code: stable, for programs. cause: one sentence. certainty: "proven", "likely" or "one of"."""

    code: str
    cause: str
    certainty: str
    evidence: tuple[str, ...] = ()
    remedy: str = ""


def diagnose(observation: Observation) -> Diagnosis | None:
    """Return why the request is not issued, None where it is."""
    if condition(observation.csr).endswith("Issued"):
        return None
    found = [diagnosis for rule in RULES if (diagnosis := rule(observation))]
    proven = next((diagnosis for diagnosis in found if diagnosis.certainty == PROVEN), None)
    if proven:
        return proven
    return _merged(found) if found else _unexplained(observation)


def count(csrs: Iterable[Mapping[str, Any]], now: datetime) -> Peers:
    """Count a signer's requests."""
    states = [_peer_state(csr, now) for csr in csrs if not _is_node(csr)]
    return Peers(issued=states.count("issued"), stuck=states.count("stuck"))


def _peer_state(csr: Mapping[str, Any], now: datetime) -> str:
    state, approved = condition(csr), condition_of(csr, "Approved")
    if state.endswith("Issued"):
        return "issued"
    if state != "Approved" or approved is None:
        return ""
    since = approved.get("lastUpdateTime") or csr["metadata"]["creationTimestamp"]
    return "stuck" if now - time_of(since) > STUCK_AFTER else ""


def _denied(seen: Observation) -> Diagnosis | None:
    denied = condition_of(seen.csr, "Denied")
    if denied is None:
        return None
    return Diagnosis(
        "denied",
        f"Request {seen.name} was denied: {_words(denied)}.",
        PROVEN,
        (*_decision(seen.csr, denied), "who denied it stands in the API server's audit log alone"),
        "A denial is final: settle what it objects to, then make a new request.",
    )


def _failed(seen: Observation) -> Diagnosis | None:
    failed = condition_of(seen.csr, "Failed")
    if failed is None:
        return None
    specific = remedy_for(seen.signer, failed.get("message", "")) or "Change what the signer objects to."
    return Diagnosis(
        "failed",
        f"The signer {seen.signer} refused request {seen.name}: {_words(failed)}.",
        PROVEN,
        (f"condition Failed since {failed.get('lastUpdateTime', 'an unknown time')}",),
        f"{specific} A failed request is spent: make a new one.",
    )


def _never_approved(seen: Observation) -> Diagnosis | None:
    if condition(seen.csr) != "Pending":
        return None
    created = seen.csr["metadata"].get("creationTimestamp", "an unknown time")
    later = [diagnosis for rule in (_not_served, _forbidden_prefix) if (diagnosis := rule(seen))]
    return Diagnosis(
        "never-approved",
        f"Nobody has approved request {seen.name} yet.",
        PROVEN,
        (
            f"no condition since it was created at {created}",
            *(f"approval alone will not help: {diagnosis.cause}" for diagnosis in later),
        ),
        later[0].remedy
        if later
        else f"Approve it (kubectl certificate approve {seen.name}), or set approve: true; "
        "it is collected 24 hours after its creation.",
    )


def _not_served(seen: Observation) -> Diagnosis | None:
    fault = _unserved(seen)
    # What others got from this signer outweighs any table.
    if fault is None or seen.provider is None or (seen.peers and seen.peers.issued):
        return None
    stuck = seen.peers.stuck if seen.peers else 0
    others = (
        (f"{stuck} other approved requests of this signer were never issued, and none was",) if stuck else ()
    )
    return Diagnosis(
        "signer-not-served",
        f"The signer {fault.signer} will not issue request {seen.name} on this cluster ({seen.provider.name}): "
        f"{fault.why}.",
        PROVEN if stuck else LIKELY,
        (
            *_approval(seen.csr),
            *(f"{seen.provider.name}: {text}" for text in seen.provider.evidence),
            *others,
        ),
        fault.remedy,
    )


def _unserved(seen: Observation) -> NotServed | None:
    """The row that says so: of this provider, or of another one that keeps the signer to itself."""
    if seen.row is None or seen.provider is None or seen.signer == seen.provider.signer or _is_node(seen.csr):
        return None
    for fault in seen.row.not_served:
        if fault.signer == seen.signer:
            return fault
    owners = [row.name for row in PROVIDERS if row.serving_signer == seen.signer]
    if seen.signer.startswith("kubernetes.io/") or not owners:
        return None
    remedy = f"Use signer_name: {seen.provider.signer}." if seen.provider.signer else ""
    return NotServed(seen.signer, f"only {' and '.join(owners)} has it", remedy)


def _forbidden_prefix(seen: Observation) -> Diagnosis | None:
    prefixes = seen.row.forbidden_prefixes if seen.row else ()
    prefix = next((prefix for prefix in prefixes if seen.name.startswith(prefix)), None)
    if prefix is None or seen.row is None:
        return None
    return Diagnosis(
        "name-never-issued",
        f"Request {seen.name} has a name that {seen.row.name} never issues: it begins with {prefix!r}.",
        LIKELY,
        (*_approval(seen.csr), f"source: {seen.row.source}"),
        f"Make a new request under a name that does not begin with {prefix!r}.",
    )


Rule = Callable[[Observation], Optional[Diagnosis]]
# Adding a cause is adding a rule. The first proven one wins, so what ends a request for good comes first.
RULES: tuple[Rule, ...] = (_denied, _failed, _never_approved, _not_served, _forbidden_prefix)


def _merged(likely: list[Diagnosis]) -> Diagnosis:
    if len(likely) == 1:
        return likely[0]
    return Diagnosis(
        "several",
        f"One of: {' '.join(f'({number}) {one.cause}' for number, one in enumerate(likely, 1))}",
        ONE_OF,
        tuple(dict.fromkeys(text for one in likely for text in one.evidence)),
        " ".join(dict.fromkeys(one.remedy for one in likely)),
    )


def _unexplained(seen: Observation) -> Diagnosis:
    return Diagnosis(
        "approved-not-issued",
        f"Request {seen.name} is approved and {seen.signer} has not issued it: one of no such signer here, "
        "a signer that does not run, a signing CA that is missing or expired, or a slow signer.",
        ONE_OF,
        _approval(seen.csr),
        "Look into the signer's log; for kubernetes.io signers that is kube-controller-manager's.",
    )


def _words(entry: Mapping[str, Any]) -> str:
    """Reason and message of a condition, as one clause without a full stop."""
    parts = (" ".join(str(entry.get(key, "")).split()) for key in ("reason", "message"))
    return ": ".join(filter(None, parts)).rstrip(".") or "no reason given"


def _decision(csr: Mapping[str, Any], entry: Mapping[str, Any]) -> tuple[str, ...]:
    """When a decision was written and by which client: the object names no user.

    A CSR that was created without labels and annotations has no managedFields (seen on 1.36.3), thus no client.
    """
    clients = [
        str(field.get("manager"))
        for field in csr["metadata"].get("managedFields") or ()
        if field.get("subresource") == "approval"
    ]
    by = f" by the client {', '.join(clients)}" if clients else ""
    return (f"{entry['type']} at {entry.get('lastUpdateTime', 'an unknown time')}{by} ({_words(entry)})",)


def _approval(csr: Mapping[str, Any]) -> tuple[str, ...]:
    approved = condition_of(csr, "Approved")
    return _decision(csr, approved) if approved else ()


def _is_node(csr: Mapping[str, Any]) -> bool:
    return str(csr["spec"].get("username", "")).startswith("system:node:")
