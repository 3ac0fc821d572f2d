# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Replacing a webhook's pods without a failed call. Pure.

Pods of this collection wait before they end, so an ordinary roll does, with new connections while they wait. Others end at
once, with whatever they are asked at that moment; the API server keeps connections to a pod that has left its Service, and
does not repeat a call. So those leave the Service, the API servers dial anew, and only then they go. Old and new pods run
side by side for that, under one Service that leads to the one or the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from ._installed import VALIDATION, Service, Workload
from ._releases import Version, text
from ._situation import Situation
from ._steps import DETACHED_LABEL, PORT_LABEL, RELEASE_LABEL, Step

# While the old pods are still there to go back to, nobody waits longer for a new webhook that does not answer.
PROVEN_SECONDS = 60
# How long the new pods are watched under the calls of users before the old pods are deleted.
WATCH_SECONDS = 10

# What tells a ReplicaSet's pods from those of its siblings.
_HASH = "pod-template-hash"


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
    if now.hands_over(wanted.kind):
        yield from _hand_over(now, wanted)
        return
    service = _find_service(now, wanted.kind)
    cut_off = service is not None and bool(
        {RELEASE_LABEL, PORT_LABEL, DETACHED_LABEL} & set(service.selector)
    )
    if cut_off:  # by a run that ended in the middle: the new pods have other labels
        yield _service(now, wanted.kind)
    yield _deployment(now, wanted)
    yield _wait(now, wanted.kind, wanted.targets)
    if not cut_off:
        yield _service(now, wanted.kind)


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


def _hand_over(now: Situation, wanted: Roll) -> Iterator[Step]:
    kind, service = wanted.kind, _find_service(now, wanted.kind)
    live, orphans, replaces = (
        now.installed.webhook(kind),
        now.installed.orphans(kind),
        now.replaces(wanted.kind),
    )
    if live and replaces and orphans:
        if _keeps_old(now, live, orphans):
            yield from _back_to_old(now, wanted, live, service)
            replaces = False
        else:
            yield from _settle(now, wanted, live, service)
            orphans = ()
    if replaces or not all(one.labelled for one in now.installed.detached if one.program == kind):
        yield _detach(now, kind)
    old = live if live and replaces else orphans[0]
    if service and not _is_switched(now, kind, service):
        yield _hold(now, kind, service, old)
    yield _deployment(now, wanted)
    yield _wait(now, kind)
    yield _switch(now, kind) if service else _service(now, kind)
    if wanted.targets:
        yield _reconnect(wanted)
    if wanted.proof:
        yield replace(wanted.proof, parameters={**wanted.proof.parameters, "timeout": PROVEN_SECONDS})
    yield _watch(now, kind)
    deployment = now.hook(kind).deployment
    yield delete_detached(
        _prefix(kind), now.webhook_namespace(kind), deployment, "Nobody calls them any more."
    )
    if service:
        yield _service(now, kind)


def _is_switched(now: Situation, kind: str, service: Service) -> bool:
    """Whether a run that was cut off had come so far."""
    live = now.installed.webhook(kind)
    done = live is not None and not now.replaces(kind) and live.version == now.release.version
    return (
        done
        and _generation(now.release.version, now.options.webhook_port).items() <= service.selector.items()
    )


def _settle(now: Situation, wanted: Roll, live: Workload, service: Service | None) -> Iterator[Step]:
    """A run was cut off on the way to another release, or to another port: one generation of pods goes before the next
    comes."""
    kind, deployment = wanted.kind, now.hook(wanted.kind).deployment
    if service and live.version:
        generation = {} if live.origin.key else _generation(live.version, live.port)
        yield Step(
            f"{_prefix(kind)}-settle",
            "The Service leads to the pods that came last",
            "A run ended between two generations of pods. These answer; the older ones go, before still newer ones come.",
            "switch_service",
            {
                **_place(now, kind),
                "name": service.name,
                "selector": {**live.selector, **generation},
                "target_port": live.port,
            },
        )
    if wanted.targets:
        yield replace(_reconnect(wanted), id=f"{_prefix(kind)}-settle-reconnect")
    older = delete_detached(
        _prefix(kind), now.webhook_namespace(kind), deployment, "Nobody calls them any more."
    )
    yield replace(older, id=f"{_prefix(kind)}-delete-older")


def _keeps_old(now: Situation, live: Workload, orphans: tuple[Workload, ...]) -> bool:
    """Return True if the old pods serve until the release's come: the new ones do not answer, or the old ones are of the
    release. The second is the way back from pods that ended under load, and may be available at the moment."""
    return not live.available or any(one.available and one.version == now.release.version for one in orphans)


def _back_to_old(now: Situation, wanted: Roll, live: Workload, service: Service | None) -> Iterator[Step]:
    """A run ended or failed between two generations of pods: the older one serves, and the newer one goes."""
    kind = wanted.kind
    if service and DETACHED_LABEL not in service.selector:
        old = now.installed.orphans(kind)[0]
        yield replace(_hold(now, kind, service, old), id=f"{_prefix(kind)}-settle")
        if wanted.targets:
            yield replace(_reconnect(wanted), id=f"{_prefix(kind)}-settle-reconnect")
    yield Step(
        f"{_prefix(kind)}-delete-failed",
        "Pods that never answered",
        "A run ended before they did. Nobody calls them: the Service leads to those that were there before.",
        "delete",
        {"objects": [{"kind": "Deployment", **_place(now, kind), "name": live.name}]},
    )


def _generation(release: Version, port: int) -> dict[str, str]:
    """The labels by which pods of this collection are told from those that it replaces, or that replace them."""
    return {RELEASE_LABEL: text(release), PORT_LABEL: str(port)}


def _detach(now: Situation, kind: str) -> Step:
    live, hook, port = now.installed.webhook(kind), now.hook(kind), now.options.webhook_port
    hazards = ["no-drain"] if live and not live.drains else []
    why = "A rolling update would end them in the middle of calls, because they do not wait."
    if live and live.port != port:
        hazards.append("webhook-port")
        why = f"The new ones listen on {port}, and a Service leads to one port."
    if live and dict(live.selector) != dict(hook.selector):
        hazards.append("webhook-selector")
        why = "The new Deployment has another selector, which is immutable; kubectl apply would switch the Service to nobody."
    return Step(
        f"{_prefix(kind)}-detach",
        "The old webhook's pods without their Deployment",
        f"They go on answering. {why}",
        "detach",
        {**_place(now, kind), "name": hook.deployment},
        hazards=tuple(hazards),
    )


def _hold(now: Situation, kind: str, service: Service, old: Workload) -> Step:
    deployment = now.hook(kind).deployment
    own = {key: value for key, value in old.selector.items() if key != _HASH}
    return Step(
        f"{_prefix(kind)}-hold",
        "The Service leads to the old pods alone",
        "The new ones may have its labels too, and listen on another port: they must not be called before the Service's port is "
        "theirs.",
        "switch_service",
        {
            **_place(now, kind),
            "name": service.name,
            "selector": {**own, DETACHED_LABEL: deployment},
            "target_port": old.port,
        },
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


def _wait(now: Situation, kind: str, targets: tuple[dict[str, str], ...] = ()) -> Step:
    """targets: what calls the pods that go meanwhile."""
    return Step(
        f"{_prefix(kind)}-wait",
        "Its pods answer",
        "Old ones end meanwhile, a few seconds after they were told to: until then every API server is made to dial anew."
        if targets
        else "Before anybody is sent to them.",
        "wait_available",
        {
            **_place(now, kind),
            "name": now.hook(kind).deployment,
            **({"reconnect": list(targets)} if targets else {}),
        },
    )


def _switch(now: Situation, kind: str) -> Step:
    hook = now.hook(kind)
    return Step(
        f"{_prefix(kind)}-switch",
        "The Service leads to the new pods alone",
        "They answer by now; labels and port in one write. The old ones still answer over connections that are open.",
        "switch_service",
        {
            **_place(now, kind),
            "name": hook.service,
            "selector": {**hook.selector, **_generation(now.release.version, now.options.webhook_port)},
            "target_port": now.options.webhook_port,
        },
    )


def _watch(now: Situation, kind: str) -> Step:
    return Step(
        f"{_prefix(kind)}-watch",
        "Watch the new webhook pods under load",
        "A pod that becomes ready may still end under the calls of users, for example because of its memory limit. The old "
        "pods still run, so the Service can lead to them again.",
        "watch_pods",
        {**_place(now, kind), "name": now.hook(kind).deployment, "seconds": WATCH_SECONDS},
    )


def _reconnect(wanted: Roll) -> Step:
    return Step(
        f"{_prefix(wanted.kind)}-reconnect",
        "Every API server dials anew",
        "An API server keeps its connections, also to a pod that has left the Service. Another line break in the caBundle means "
        "nothing to TLS and makes it open new ones.",
        "reconnect",
        {"targets": list(wanted.targets)},
    )


def _service(now: Situation, kind: str) -> Step:
    return Step(
        f"{_prefix(kind)}-service",
        "The webhook's Service",
        "As a fresh install has it: there are no other pods that its selector would have to tell from these.",
        "apply",
        {"release": str(now.release), "parts": ["webhook_service"], **_place(now, kind)},
    )


def _find_service(now: Situation, kind: str) -> Service | None:
    place = (now.webhook_namespace(kind), now.hook(kind).service)
    return next((one for one in now.installed.services if (one.namespace, one.name) == place), None)
