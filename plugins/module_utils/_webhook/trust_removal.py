# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Decide if trust may be removed from a caBundle. Only find_doubts sends requests.

A removal looks at every endpoint that may serve. An endpoint that is not ready may become ready with its current certificate, and one
that terminates still gets calls. If an endpoint cannot be seen, the removal waits until the CA has expired or the user confirms the object.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from .._base.accept import DOWNTIME, UNSEEN, Consent
from .._base.errors import CertflowError
from .._base.times import format_time
from .._kube.client import Client
from .._x509.chain_judge import judge
from . import served_chains
from .bundle_content import BundleCertificate
from .bundle_patch import BundleChange, TargetChange
from .bundle_targets import ClientConfig, Target
from .errors import StillServedError
from .served_chains import EndpointScan, ServedChain
from .webhook_endpoints import TERMINATING

#: The limit for the reading of the endpoints of one caBundle.
LOOK_SECONDS = 15.0


@dataclass(frozen=True)
class Serving:
    """What the address of a client configuration may serve."""

    #: The endpoints that showed their certificates.
    seen: tuple[ServedChain, ...]
    #: What may serve another certificate, each with the reason why it was not seen.
    unseen: tuple[str, ...]


@dataclass(frozen=True)
class TrustHold:
    """Why trust may not be removed."""

    #: A clause.
    reason: str
    evidence: tuple[str, ...]
    #: The endpoint that the API server would refuse, None if the reason is what was not seen.
    served: ServedChain | None = None
    #: When the last certificate of the removed CA has expired, None if that is not known.
    until: datetime | None = None


def serving(chains: Iterable[ServedChain], problem: str = "", *, unread: int = 0) -> Serving:
    """Return what may be served.

    chains: of every endpoint, also of those that are not ready or terminating.
    problem: why no endpoint is known, or why none is ready.
    unread: the number of further endpoints that were not read.
    """
    chains = tuple(chains)
    seen = tuple(chain for chain in chains if chain.certificate)
    # A terminating endpoint that refuses connections never serves again.
    unseen = [
        f"{chain.endpoint}: {chain.problem}"
        for chain in chains
        if not chain.certificate and (chain.is_blind or chain.endpoint.state != TERMINATING)
    ]
    unseen += [
        f"{chain.endpoint}: it may lead to other machines" for chain in seen if chain.endpoint.is_outside
    ]
    unseen += [f"{unread} endpoints were not read"] if unread > 0 else []
    if not (seen or unseen):
        unseen = [problem or "no endpoint is known"]
    return Serving(seen, tuple(unseen))


def of_scan(scan: EndpointScan) -> Serving:
    """Return what the endpoints of a scan may serve. The scan includes the endpoints that are not ready."""
    found = serving((*scan.served, *scan.unready), scan.problem)
    blind = () if scan.is_known else (scan.problem,)
    return Serving(found.seen, tuple(dict.fromkeys((*found.unseen, *blind))))


def find_hold(
    config: ClientConfig,
    left: str,
    removed: Iterable[BundleCertificate],
    serves: Serving,
    now: datetime,
    *,
    is_confirmed: bool = False,
    was_verified: bool = True,
    only_losses: bool = False,
) -> TrustHold | None:
    """Return why the certificates may not be removed, None if they may be.

    config: as it was read. left: the caBundle after the removal.
    is_confirmed: the user confirms what was not seen. What was seen counts nevertheless.
    was_verified: False if the API server accepted every certificate before.
    only_losses: an endpoint that the API server refuses today does not count.
    """
    live = [entry for entry in removed if entry.is_live(now)]
    if was_verified and not live:  # an expired CA verifies nothing
        return None
    for chain in serves.seen:
        if only_losses and _refusal(config, config.ca_bundle, chain, now):
            continue
        refusal = _refusal(config, left, chain, now)
        if refusal:
            return TrustHold(f"the API server would refuse {chain.endpoint}: {refusal}", (), chain)
    if not serves.unseen or is_confirmed:
        return None
    ends = [entry.not_after for entry in live if entry.not_after]
    until = max(ends) if ends and len(ends) == len(live) and was_verified else None
    count = len(serves.unseen)
    more = f", and {count - 1} more" if count > 1 else ""
    reason = f"it is not known what this serves: {serves.unseen[0]}{more}"
    return TrustHold(reason, serves.unseen, until=until)


def find_doubts(client: Client, change: TargetChange, consent: Consent) -> Iterator[str]:
    """Yield a warning for each caBundle that loses a certificate that an unseen endpoint may need.

    Raises StillServedError if an endpoint that was seen needs it. Connects to no address outside of the cluster.
    """
    target = change.target
    for bundle in change.bundles:
        if bundle.after is None or not bundle.removed:
            continue
        scan = _scan(client, bundle)
        hold = find_hold(
            bundle.config,
            bundle.after,
            bundle.removed,
            of_scan(scan),
            client.now(),
            is_confirmed=is_confirmed(consent, target),
            only_losses=True,
        )
        if hold and hold.served:
            if not is_confirmed(consent, target, DOWNTIME):
                raise _still_served(target, hold)
            yield f"{target} loses trust in what it calls, as accept allows: {hold.reason}"
        elif hold:
            yield f"{target} loses trust in a CA, and {hold.reason}. {remedy(target, hold)}"


def _scan(client: Client, bundle: BundleChange) -> EndpointScan:
    until = time.monotonic() + LOOK_SECONDS
    client.deadline = max(client.deadline, until)
    try:
        return served_chains.scan(client, bundle.config, until=until, unready=True, outside=False)
    except CertflowError as error:
        return EndpointScan(problem=error.cause, is_known=False)


def _still_served(target: Target, hold: TrustHold) -> StillServedError:
    """Return the error for a certificate that an endpoint serves."""
    return StillServedError(
        f"{target} would lose the trust in what it calls: {hold.reason}",
        evidence=hold.evidence,
        remedy="Let each endpoint serve a certificate that the rest of the caBundle verifies. To remove the CA nevertheless, set accept to "
        f"[{{{DOWNTIME}: [{target.kind}/{target.name}]}}]",
    )


def remedy(target: Target, hold: TrustHold) -> str:
    """Return the remedy for a removal that waits for unseen endpoints."""
    until = f", or wait until the CA has expired at {format_time(hold.until)}" if hold.until else ""
    return (
        f"Make every endpoint show its certificate{until}. If you have checked each machine yourself, set accept to "
        f"[{{{UNSEEN}: [{target.kind}/{target.name}]}}]"
    )


def is_confirmed(consent: Consent, target: Target, word: str = UNSEEN) -> bool:
    """Return True if the user accepts the word for the object. UNSEEN confirms what was not seen, DOWNTIME accepts what was seen."""
    return consent.covers(word, Target(target.kind, target.name))


def _refusal(config: ClientConfig, bundle: str, chain: ServedChain, now: datetime) -> str:
    leaf, sent = chain.parsed
    return judge(leaf, bundle, name=config.server_name, intermediates=sent, now=now).refusal
