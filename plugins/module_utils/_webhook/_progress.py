# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Whether a new certificate is in use: what a look at all endpoints says, and what to do about it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from ._endpoints import TERMINATING
from ._served import Look, Served, refusal
from ._targets import ClientConfig

# An endpoint that answers nothing serves no old certificate either: it may be starting, or stopping.
UNSEEN_SECONDS = 10.0

IN_USE, STALE, UNSEEN, HIDDEN = "in use", "stale", "unseen", "hidden"


@dataclass(frozen=True)
class View:
    """One client configuration with the look at its endpoints."""

    config: ClientConfig
    look: Look


@dataclass(frozen=True)
class Progress:
    """state: in use (on every endpoint), stale (some serve another one), unseen (some serve nothing now, or there is
    none), hidden (this identity cannot see). stale: endpoints that serve another certificate, or a chain that does not
    verify. evidence: for people.

    An endpoint that is not ready counts: it would come back with what it serves, perhaps from a node that is cut off
    now. One that is terminating counts while it serves: some kube-proxy may still send calls there.
    """

    state: str
    stale: tuple[Served, ...] = ()
    evidence: tuple[str, ...] = ()


def progress(views: Iterable[View], fingerprint: str, now: datetime) -> Progress:
    """How far the certificate with this SHA-256 fingerprint is."""
    stale: list[Served] = []
    views = list(views)
    unseen, evidence, hidden = not views, [], False
    for view in views:
        hidden = hidden or view.look.is_blind
        unseen = unseen or not view.look.is_complete
        if view.look.problem:
            evidence.append(view.look.problem)
        for one in (*view.look.served, *view.look.aside):
            fault = _fault(one, view.config, fingerprint, now)
            is_leaving = one.endpoint.state == TERMINATING
            if not fault or (is_leaving and not one.certificate):
                continue
            evidence.append(f"{one.endpoint} {fault}")
            if one.certificate and not is_leaving:
                stale.append(one)
            else:
                unseen = True
    state = HIDDEN if hidden else STALE if stale else UNSEEN if unseen else IN_USE
    return Progress(state, tuple(stale), tuple(dict.fromkeys(evidence)))


def _fault(served: Served, config: ClientConfig, fingerprint: str, now: datetime) -> str:
    certificate = served.certificate
    if certificate is None:
        return f"shows nothing: {served.problem}"
    if certificate.fingerprint != fingerprint:
        return (
            f"serves serial {certificate.serial}, valid until {certificate.not_after:%Y-%m-%d %H:%M} UTC"
            f" ({certificate.subject})"
        )
    reason = refusal(served, config.ca_bundle, config.server_name, now)
    return f"serves it, and the API server would refuse it: {reason}" if reason else ""
