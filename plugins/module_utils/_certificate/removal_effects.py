# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Find the webhooks that the API server would refuse after a removal of CA certificates, before the first write.

Every endpoint counts that may serve: ready, not ready and terminating.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from .._base.accept import DOWNTIME, UNSEEN
from .._base.owners import accept_option
from .._webhook import bundle_targets, served_chains, webhook_endpoints
from .._webhook.bundle_patch import BundleChange, TargetChange
from .._webhook.bundle_targets import Target
from .._webhook.errors import TargetError
from .._webhook.served_chains import EndpointScan, ServedChain
from .certificate_run import CertificateRun

_LOOK_SECONDS = 10.0
_PAUSE_SECONDS = 2.0


@dataclass(frozen=True)
class RemovalEffect:
    """A caBundle that would no longer verify what an endpoint serves, or may serve."""

    target: Target
    #: A clause about the endpoint.
    reason: str
    #: The requests for which the API server calls the webhook.
    requests: str
    #: True if the API server refuses these requests, False if it skips the webhook.
    is_strict: bool
    #: The word of the option accept that allows the removal.
    word: str
    #: True if only endpoints that terminate need the CA.
    may_pass: bool

    def __str__(self) -> str:
        act = "refuse" if self.is_strict else "call no webhook for"
        return f"{self.target}: {self.reason}. The API server would {act} {self.requests}"


def check_removal(run: CertificateRun, changes: Iterable[TargetChange]) -> tuple[str, ...]:
    """Return a warning for each effect of the removal that the user accepts, or that refuses no request.

    Raises TargetError for an effect that the user does not accept, KubeError.
    """
    changes, until = tuple(changes), time.monotonic() + run.intent.wait_timeout
    while True:
        effects = tuple(effect for change in changes for effect in _effects(run, change))
        refused = [
            effect
            for effect in effects
            if effect.is_strict and not run.intent.accept.covers(effect.word, effect.target)
        ]
        if not refused or time.monotonic() > until or not all(effect.may_pass for effect in refused):
            break
        time.sleep(_PAUSE_SECONDS)
    if not refused:
        return tuple(map(str, effects))
    option = " and ".join(dict.fromkeys(accept_option([effect.word], effect.target) for effect in refused))
    raise TargetError(
        f"the CA is not removed from {refused[0]}",
        code="certificate-untrusted",
        evidence=list(map(str, refused)),
        remedy="Delete the webhook first, or let its pods serve a certificate that another CA of the caBundle verifies. "
        f"To remove the CA nevertheless, set {option}",
    )


def _effects(run: CertificateRun, change: TargetChange) -> Iterator[RemovalEffect]:
    bundles = [bundle for bundle in change.bundles if bundle.removed]
    if not bundles:
        return
    try:
        obj = bundle_targets.read(run.client, change.target)
    except TargetError:  # another client deleted it
        return
    scans: dict[Any, EndpointScan] = {}
    for bundle in bundles:
        config = bundle.config
        address = config.service, config.server_name, config.port
        if address not in scans:
            until = time.monotonic() + _LOOK_SECONDS
            scans[address] = served_chains.scan(run.client, config, until=until, unready=True)
        word, reasons = _judge(run, bundle, scans[address])
        if reasons:
            requests, is_strict = _called_for(change.target, obj, config.webhook)
            may_pass = all(state == webhook_endpoints.TERMINATING for state, _reason in reasons)
            reason = "; ".join(reason for _state, reason in reasons[:3])
            yield RemovalEffect(change.target, reason, requests, is_strict, word, may_pass)


def _judge(
    run: CertificateRun, bundle: BundleChange, scan: EndpointScan
) -> tuple[str, list[tuple[str, str]]]:
    """Return the word that accepts the removal, and state and clause of each endpoint that needs the CA, or that may need it."""
    if not any(entry.is_live(run.client.now()) for entry in bundle.removed):  # an expired CA verifies nothing
        return UNSEEN, []
    unseen = [] if scan.is_known else [("", f"its endpoints are not known ({scan.problem})")]
    broken: list[tuple[str, str]] = []
    for served in (*scan.served, *scan.unready):
        endpoint = served.endpoint
        if served.certificate is None:
            unseen.append((endpoint.state, f"{endpoint} was not seen ({served.problem})"))
        elif refusal := _new_refusal(run, bundle, served):
            broken.append((endpoint.state, f"{endpoint} serves a certificate that needs this CA ({refusal})"))
        elif endpoint.is_outside:
            unseen.append((endpoint.state, f"{endpoint} may lead to other machines"))
    return (DOWNTIME, broken) if broken else (UNSEEN, unseen)


def _new_refusal(run: CertificateRun, bundle: BundleChange, served: ServedChain) -> str:
    """Return why the API server would refuse the endpoint after the removal, "" if it would not, or if it does so already."""
    now, after = run.client.now(), replace(bundle.config, ca_bundle=bundle.after or "")
    if served_chains.judge_served(served, bundle.config, now).refusal:
        return ""
    return served_chains.judge_served(served, after, now).refusal


def _called_for(target: Target, obj: Mapping[str, Any], name: str) -> tuple[str, bool]:
    """Return the requests for which the API server calls a client configuration, and if it refuses them without an answer."""
    if target.kind == "APIService":
        return f"every request of the API {target.name}", True
    if target.kind == "CustomResourceDefinition":
        return f"requests of {target.name} that convert an object to another version", True
    webhook: Mapping[str, Any] = next(
        (entry for entry in obj.get("webhooks") or () if entry.get("name") == name), {}
    )
    rules = "; ".join(
        f"{', '.join(rule.get('operations') or ())} of {_resources(rule)}"
        for rule in webhook.get("rules") or ()
    )
    return rules or "no request, because it has no rules", webhook.get("failurePolicy", "Fail") == "Fail"


def _resources(rule: Mapping[str, Any]) -> str:
    groups = [group or "core" for group in rule.get("apiGroups") or ()]
    return f"{', '.join(rule.get('resources') or ())} in {', '.join(groups)}"
