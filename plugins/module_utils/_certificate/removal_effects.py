# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Find the requests that the API server would refuse after a removal of CA certificates, before the first write."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .._kube.client import Client
from .._webhook import trust_removal, webhook_endpoints
from .._webhook.bundle_patch import TargetChange
from .._webhook.bundle_targets import Target
from .._webhook.errors import StillNeededError
from .._webhook.trust_removal import TrustHold
from .certificate_run import CertificateRun

_PAUSE_SECONDS = 2.0


@dataclass(frozen=True)
class RemovalEffect:
    """A caBundle that would no longer verify what an endpoint serves, or may serve."""

    target: Target
    hold: TrustHold
    #: The requests for which the API server calls the webhook.
    requests: str
    #: True if the API server refuses these requests, False if it skips the webhook.
    is_strict: bool

    def __str__(self) -> str:
        act = "refuse" if self.is_strict else "call no webhook for"
        return f"{self.target}: {self.hold.reason}. The API server would {act} {self.requests}"


def check_removal(
    run: CertificateRun, changes: Iterable[TargetChange], *, keeps_secret: bool
) -> tuple[str, ...]:
    """Return a warning for each effect of the removal that the user accepts, or that refuses no request.

    keeps_secret: the Secret with the certificate stays, so pods may come back with it.

    Raises StillNeededError for an effect that the user does not accept, KubeError.
    """
    changes, until = tuple(changes), time.monotonic() + run.intent.wait_timeout
    while True:
        effects = tuple(effect for change in changes for effect in _effects(run.client, change, keeps_secret))
        refused = [
            effect
            for effect in effects
            if effect.is_strict and not run.intent.accept.covers(effect.hold.word, effect.target)
        ]
        may_pass = all(effect.hold.states == {webhook_endpoints.TERMINATING} for effect in refused)
        if not refused or time.monotonic() > until or not may_pass:
            break
        time.sleep(_PAUSE_SECONDS)
    if not refused:
        return tuple(map(str, effects))
    remedies = dict.fromkeys(trust_removal.remedy(effect.target, effect.hold) for effect in refused)
    raise StillNeededError(
        f"the CA is not removed from {refused[0]}",
        evidence=list(map(str, refused)),
        remedy=f"Delete the webhook first if it is not needed. {'. '.join(remedies)}",
    )


def _effects(client: Client, change: TargetChange, keeps_secret: bool) -> Iterator[RemovalEffect]:
    held = list(trust_removal.find_holds(client, change, comes_back=keeps_secret))
    obj = client.find(change.path) if held else None
    if obj:  # unless another client deleted it
        for bundle, hold in held:
            yield RemovalEffect(change.target, hold, *_called_for(change.target, obj, bundle.config.webhook))


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
