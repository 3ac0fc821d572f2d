# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Decide if trust may be removed from a caBundle. Only find_holds and check_removal send requests.

A removal looks at every endpoint that may serve. An endpoint that is not ready may become ready with its current certificate, and one
that terminates still gets calls. If an endpoint cannot be seen, the removal waits until the CA has expired or the user confirms the object.
So it does for an address without an endpoint, because pods come back with the certificate that their Secret has, and for a Service that
does not exist, because it may be created again in front of its pods.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from .._base.accept import DOWNTIME, UNSEEN, Consent
from .._base.errors import CertflowError
from .._base.owners import accept_option
from .._base.times import format_time
from .._kube.client import Client
from .._x509.certificate_facts import CertificateFacts
from .bundles import bundle_content
from .bundles.bundle_patch import BundleChange, TargetChange
from .bundles.bundle_targets import ClientConfig, Target
from .endpoints import served_chains
from .endpoints.served_chains import EndpointScan, ServedChain
from .errors import StillNeededError

#: The limit for the reading of the endpoints of all caBundles.
LOOK_SECONDS = 15.0


@dataclass(frozen=True)
class Serving:
    """What the address of a client configuration may serve."""

    #: The endpoints that showed their certificates.
    seen: tuple[ServedChain, ...]
    #: What may serve another certificate, each with the reason why it was not seen.
    unseen: tuple[str, ...]
    #: The states of the unseen endpoints, "" for what is not known as an endpoint. Empty if the address has no endpoint.
    states: frozenset[str] = frozenset()


@dataclass(frozen=True)
class TrustHold:
    """Why trust may not be removed."""

    #: A clause.
    reason: str
    evidence: tuple[str, ...]
    #: The endpoint that the API server would refuse, None if the reason is what was not seen.
    served: ServedChain | None = None
    #: When every API server sees that the last certificate of the removed CA has expired, None if that is not known.
    until: datetime | None = None
    #: The states of the endpoints that need the trust or may need it, like Serving.states.
    states: frozenset[str] = frozenset()

    @property
    def is_empty(self) -> bool:
        """Return True if the address has no endpoint."""
        return not (self.served or self.states)

    @property
    def word(self) -> str:
        """Return the word of the option accept that allows the removal."""
        return DOWNTIME if self.served else UNSEEN


def serving(
    chains: Iterable[ServedChain], problem: str = "", *, unread: int = 0, hidden: Iterable[str] = ()
) -> Serving:
    """Return what may be served.

    chains: of every endpoint, also of those that are not ready or terminating.
    problem: why no endpoint is known, or why none is ready.
    unread: the number of further endpoints that were not read.
    hidden: what else was not read, such as a Secret of the pods, each with the reason.
    """
    chains = tuple(chains)
    seen = tuple(chain for chain in chains if chain.certificate)
    unseen = [
        (chain.endpoint.state, f"{chain.endpoint}: {chain.problem}")
        for chain in chains
        if not chain.certificate and not chain.is_gone
    ]
    unseen += [
        (chain.endpoint.state, f"{chain.endpoint}: it may lead to other machines")
        for chain in seen
        if chain.endpoint.is_outside
    ]
    if unread > 0:
        unseen.append(("", f"{unread} endpoints were not read"))
    unseen += [("", reason) for reason in hidden]
    nothing = () if seen or unseen else (problem or "no endpoint is known",)
    reasons = (*(reason for _state, reason in unseen), *nothing)
    return Serving(seen, reasons, frozenset(state for state, _reason in unseen))


def of_scan(scan: EndpointScan) -> Serving:
    """Return what the endpoints of a scan may serve. The scan includes the endpoints that are not ready."""
    found = serving((*scan.served, *scan.unready), scan.problem)
    if scan.is_known:
        return found
    return Serving(found.seen, tuple(dict.fromkeys((*found.unseen, scan.problem))), found.states | {""})


def find_hold(
    config: ClientConfig,
    left: str,
    removed: Iterable[CertificateFacts],
    serves: Serving,
    now: datetime,
    *,
    is_confirmed: bool = False,
    was_verified: bool = True,
    only_losses: bool = False,
    earlier: datetime | None = None,
) -> TrustHold | None:
    """Return why the certificates may not be removed, None if they may be.

    config: as it was read. left: the caBundle after the removal.
    earlier: the earlier time of the API server's clock and of this machine's, None if it is ``now``. What an API server with this time
      would lose counts too.
    is_confirmed: the user confirms what was not seen. What was seen counts nevertheless.
    was_verified: False if the API server accepted every certificate before.
    only_losses: an endpoint that the API server refuses today does not count.
    """
    live = [entry for entry in removed if not bundle_content.is_over(entry, earlier or now)]
    if was_verified and not live:  # an expired CA verifies nothing
        return None
    after = replace(config, ca_bundle=left)
    refused = _refused(config, after, serves.seen, now, only_losses=only_losses)
    if earlier is not None and not refused:
        refused = _refused(config, after, serves.seen, earlier, only_losses=True)
    if refused:
        chain, refusal = refused[0]
        evidence = tuple(f"{other.endpoint}: {words}" for other, words in refused)
        states = frozenset(other.endpoint.state for other, _words in refused)
        reason = f"the API server would refuse {chain.endpoint}: {refusal}"
        return TrustHold(reason, evidence, chain, states=states)
    if not serves.unseen or is_confirmed:
        return None
    until = None
    if live and was_verified:
        until = max(entry.not_after for entry in live) + bundle_content.LONGEST_DELAY
    count = len(serves.unseen)
    more = f", and {count - 1} more" if count > 1 else ""
    reason = f"it is not known what this serves: {serves.unseen[0]}{more}"
    return TrustHold(reason, serves.unseen, until=until, states=serves.states)


def _refused(
    config: ClientConfig, after: ClientConfig, seen: Iterable[ServedChain], at: datetime, *, only_losses: bool
) -> list[tuple[ServedChain, str]]:
    """Return the endpoints that the API server would refuse at a time after the removal, each with its words."""
    return [
        (chain, refusal)
        for chain in seen
        if not (only_losses and served_chains.judge_served(chain, config, at).refusal)
        and (refusal := served_chains.judge_served(chain, after, at).refusal)
    ]


def find_holds(
    client: Client, changes: Iterable[TargetChange], *, outside: bool = True
) -> Iterator[tuple[Target, BundleChange, TrustHold]]:
    """Yield each caBundle that loses a certificate which an endpoint needs or may need, with the reason.

    An endpoint that the API server refuses today does not count. outside: connect to addresses outside of the cluster. Each address is
    read once, and all of them within LOOK_SECONDS.
    """
    scans: dict[tuple[Any, ...], Serving] = {}
    earlier = client.earlier()
    until = time.monotonic() + LOOK_SECONDS
    for target, bundle in ((change.target, bundle) for change in changes for bundle in change.bundles):
        if bundle.after is None or all(bundle_content.is_over(entry, earlier) for entry in bundle.removed):
            continue  # an expired CA verifies nothing
        config = bundle.config
        # Python 3.9 decides by the bundle if it shows enough of a chain.
        address = config.address, served_chains.SHOWS_CHAINS or config.ca_bundle
        if address not in scans:
            scans[address] = of_scan(_scan(client, config, until, outside=outside))
        hold = find_hold(
            config,
            bundle.after,
            bundle.removed,
            scans[address],
            client.now(),
            only_losses=True,
            earlier=earlier,
        )
        if hold:
            yield target, bundle, hold


def check_removal(client: Client, changes: Sequence[TargetChange], consent: Consent) -> Iterator[str]:
    """Yield a warning for each caBundle that loses a certificate as the user accepts it, and for each URL that gets its first one.

    Raises StillNeededError if an endpoint needs the certificate or may need it, and the user does not accept that. Connects to no address
    outside of the cluster.
    """
    for target, _bundle, hold in find_holds(client, changes, outside=False):
        if not consent.covers(hold.word, target):
            raise StillNeededError(
                f"{target} would lose the trust in what it calls: {hold.reason}"
                if hold.served
                else f"{target} would lose a CA, and {hold.reason}",
                evidence=hold.evidence,
                remedy=remedy(target, hold),
            )
        yield f"{target} loses trust in what it calls, as set with accept: {hold.reason}"
    yield from dict.fromkeys(
        f"{change.target} has no caBundle for https://{bundle.config.server_name}, so the API server trusts the roots of its system "
        "there. With a caBundle, it trusts only that"
        for change in changes
        for bundle in change.bundles
        if bundle.after and not (bundle.config.ca_bundle or bundle.config.service)
    )


def _scan(client: Client, config: ClientConfig, until: float, *, outside: bool) -> EndpointScan:
    client.deadline = max(client.deadline, until)
    try:
        return served_chains.scan(client, config, until=until, unready=True, outside=outside)
    except CertflowError as error:
        return EndpointScan(problem=error.cause, is_known=False)


def remedy(target: Target, hold: TrustHold) -> str:
    """Return how the removal becomes possible."""
    option = accept_option([hold.word], target)
    if hold.served:
        return (
            "Let each endpoint serve a certificate that the rest of the caBundle verifies. To remove the CA nevertheless, set "
            f"{option}"
        )
    until = f", or wait until the CA has expired at {format_time(hold.until)}" if hold.until else ""
    return f"Make every endpoint show its certificate{until}. If you have checked each machine yourself, set {option}"
