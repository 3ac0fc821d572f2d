# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Replacing a webhook's pods without a failed call. Pure.

Pods of this collection wait before they end, so an ordinary roll does, with new connections while they wait. Others end at
once, with whatever they are asked at that moment; the API server keeps connections to a pod that has left its Service, and
does not repeat a call. So those leave the Service, the API servers dial anew, and only then they go.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ._installed import VALIDATION
from ._situation import Situation
from ._steps import DETACHED_LABEL, RELEASE_LABEL, Step


@dataclass(frozen=True)
class Roll:
    """targets: what calls the webhook already. proof: how it is known that the new one answers, where it can be asked.

    hazards: those that the new Deployment is the answer to.
    """

    kind: str
    targets: tuple[dict[str, str], ...]
    proof: Step | None = None
    hazards: tuple[str, ...] = ()


def roll(now: Situation, wanted: Roll) -> Iterator[Step]:
    """The steps to the release's webhook."""
    kind, over = wanted.kind, now.hands_over(wanted.kind)
    if over:
        yield _detach(now, kind)
    yield _deployment(now, wanted)
    yield _wait(now, kind)
    if over:
        yield from _hand_over(now, wanted)
    elif wanted.targets:
        yield _redial(wanted, f"{_prefix(kind)}-deployment")
    yield _service(now, kind)


def delete_detached(prefix: str, namespace: str, deployment: str, why: str) -> Step:
    return Step(
        f"{prefix}-delete-old",
        "The old pods",
        f"{why} Until their pods are gone: what follows must not reach them.",
        "delete",
        {
            "objects": [
                {
                    "kind": "ReplicaSet",
                    "namespace": namespace,
                    "label_selector": f"{DETACHED_LABEL}={deployment}",
                }
            ]
        },
    )


def _prefix(kind: str) -> str:
    return "webhook" if kind == VALIDATION else "conversion"


def _place(now: Situation, kind: str) -> dict[str, str]:
    return {"namespace": now.webhook_namespace(kind)}


def _detach(now: Situation, kind: str) -> Step:
    live = now.installed.webhook(kind)
    moved = live is not None and dict(live.selector) != dict(now.hook(kind).selector)
    return Step(
        f"{_prefix(kind)}-detach",
        "The old webhook's pods without their Deployment",
        "They go on answering. "
        + (
            "The new Deployment has another selector, which is immutable; kubectl apply would switch the Service to nobody."
            if moved
            else "A rolling update would end them in the middle of calls, because they do not wait."
        ),
        "detach",
        {**_place(now, kind), "name": now.hook(kind).deployment},
        hazards=("webhook-selector", "no-drain") if moved and kind == VALIDATION else ("no-drain",),
    )


def _deployment(now: Situation, wanted: Roll) -> Step:
    kind = wanted.kind
    parameters: dict[str, Any] = {
        "release": str(now.release),
        "parts": ["webhook"],
        **_place(now, kind),
        "secret": now.secret(kind),
    }
    arguments = now.webhook_arguments(kind)
    return Step(
        f"{_prefix(kind)}-deployment",
        f"The webhook of {now.release}",
        "Its pods are ready only when they answer, and wait before they end (Kubernetes 1.30 on); upstream's do neither. "
        "A pod that never gets ready replaces nobody.",
        "apply",
        {**parameters, "arguments": arguments} if arguments else parameters,
        hazards=wanted.hazards,
    )


def _wait(now: Situation, kind: str) -> Step:
    return Step(
        f"{_prefix(kind)}-wait",
        "Its pods answer",
        "Before anybody is sent to them.",
        "wait_available",
        {**_place(now, kind), "name": now.hook(kind).deployment},
    )


def _hand_over(now: Situation, wanted: Roll) -> Iterator[Step]:
    kind = wanted.kind
    hook, prefix = now.hook(kind), _prefix(kind)
    if _has_service(now, kind):
        yield Step(
            f"{prefix}-switch",
            "The Service leads to the new pods alone",
            "Both run now, and only the new ones are to be called; the old ones still answer over connections that are open.",
            "switch_service",
            {
                **_place(now, kind),
                "name": hook.service,
                "selector": {**hook.selector, RELEASE_LABEL: str(now.release)},
            },
        )
    if wanted.targets:
        yield _redial(wanted)
    if wanted.proof:
        yield wanted.proof
    yield delete_detached(prefix, now.webhook_namespace(kind), hook.deployment, "Nobody calls them any more.")


def _redial(wanted: Roll, after: str = "") -> Step:
    return Step(
        f"{_prefix(wanted.kind)}-redial",
        "Every API server dials anew",
        "An API server keeps its connections, also to a pod that has left the Service. Another line break in the caBundle means "
        "nothing to TLS and makes it open new ones.",
        "redial",
        {"targets": list(wanted.targets)},
        only_after=after,
        hazards=("no-drain",),
    )


def _service(now: Situation, kind: str) -> Step:
    return Step(
        f"{_prefix(kind)}-service",
        "The webhook's Service",
        "As a fresh install has it: its selector need not tell old pods from new ones any more.",
        "apply",
        {"release": str(now.release), "parts": ["webhook_service"], **_place(now, kind)},
    )


def _has_service(now: Situation, kind: str) -> bool:
    place = (now.webhook_namespace(kind), now.hook(kind).service)
    return any((one.namespace, one.name) == place for one in now.installed.services)
