# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Decide from the scans of all endpoints if a new certificate is in use. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from ..bundles.bundle_targets import ClientConfig
from .served_chains import EndpointScan, ServedChain, judge_served
from .webhook_endpoints import TERMINATING

# An endpoint without an answer serves no old certificate either. It may be starting or stopping.
UNSEEN_SECONDS = 10.0

IN_USE, PARTLY_SEEN, STALE, UNSEEN = "in use", "partly seen", "stale", "unseen"
UNREACHED, HIDDEN = "unreached", "hidden"


@dataclass(frozen=True)
class ConfigScan:
    """One client configuration with the scan of its endpoints."""

    config: ClientConfig
    scan: EndpointScan


@dataclass(frozen=True)
class ServingProgress:
    """The progress of a certificate into use.

    state: one of the following.
      IN_USE: every endpoint serves it.
      PARTLY_SEEN: every endpoint that was seen serves it. At least one is an address that may lead to more machines.
      STALE: some endpoints serve another certificate.
      UNSEEN: some endpoints serve no certificate now, or no endpoint exists.
      UNREACHED: the way to some endpoints fails, so it is not known what they serve. It may work again.
      HIDDEN: this identity cannot see what some endpoints serve, and the others serve it.
    stale: endpoints that serve another certificate, or a chain that does not verify.
    evidence: sentences for people.

    An endpoint that is not ready counts, because it may become ready again with its current certificate. A terminating endpoint
    counts while it serves, because some kube-proxy may still send calls to it.
    """

    state: str
    stale: tuple[ServedChain, ...] = ()
    evidence: tuple[str, ...] = ()


def assess(views: Iterable[ConfigScan], fingerprint: str, now: datetime) -> ServingProgress:
    """Return the progress of the certificate with this SHA-256 fingerprint."""
    stale: list[ServedChain] = []
    views = list(views)
    unseen, unreached, evidence = not views, False, []
    for view in views:
        unseen = unseen or not view.scan.served
        if view.scan.problem:
            evidence.append(view.scan.problem)
        for chain in (*view.scan.served, *view.scan.unready):
            fault = _fault(chain, view.config, fingerprint, now)
            if not fault or chain.is_gone:
                continue
            evidence.append(f"{chain.endpoint} {fault}")
            if chain.certificate and chain.endpoint.state != TERMINATING:
                stale.append(chain)
            elif chain.is_blind:
                unreached = True
            else:
                unseen = True
    state = _state(views, is_stale=bool(stale), is_unseen=unseen, is_unreached=unreached)
    if state == PARTLY_SEEN:
        evidence += _doubts(views)
    return ServingProgress(state, tuple(stale), tuple(dict.fromkeys(evidence)))


def is_partly_seen(scan: EndpointScan) -> bool:
    """Return True if an endpoint is one address for an unknown number of machines.

    A URL, or a Service of type ExternalName, may lead each connection to another machine.
    """
    return any(chain.endpoint.is_outside for chain in scan.served)


def _state(views: Iterable[ConfigScan], *, is_stale: bool, is_unseen: bool, is_unreached: bool) -> str:
    scans = [view.scan for view in views]
    rules = (
        (STALE, is_stale),
        (HIDDEN, any(scan.is_blind for scan in scans)),
        (UNSEEN, is_unseen),
        (UNREACHED, is_unreached),
        (PARTLY_SEEN, any(map(is_partly_seen, scans))),
    )
    return next((state for state, holds in rules if holds), IN_USE)


def _doubts(views: Iterable[ConfigScan]) -> Iterator[str]:
    for view in views:
        for chain in view.scan.served if is_partly_seen(view.scan) else ():
            yield f"{chain.endpoint} serves it on one connection, but other machines may answer at that address"


def _fault(served: ServedChain, config: ClientConfig, fingerprint: str, now: datetime) -> str:
    certificate = served.certificate
    if certificate is None:
        return f"shows nothing: {served.problem}"
    if certificate.fingerprint != fingerprint:
        return (
            f"serves serial {certificate.serial}, valid until {certificate.not_after:%Y-%m-%d %H:%M} UTC"
            f" ({certificate.subject})"
        )
    reason = judge_served(served, config, now).refusal
    return f"serves it, and the API server would refuse it: {reason}" if reason else ""
