# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Plan the replacement of a webhook's pods without a failed call. Pure.

Pods of this collection wait before they end. An ordinary rollout replaces them, and the API servers reconnect while they wait.

Other pods end at once, in the middle of calls. The API server keeps its connections to a pod that has left its Service, and
does not repeat a failed call. A hand-over replaces these pods:

1. Old and new pods run side by side under one Service, which selects only the old ones.
2. The Service selects only the new ones.
3. The API servers reconnect.
4. The old pods are deleted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from ..installed.state import VALIDATION, Service, Workload
from ..release.release_table import Version, text
from .step_types import DETACHED_LABEL, PORT_LABEL, RELEASE_LABEL, Step
from .upgrade_context import Situation

# The longest check of a new webhook, in seconds, while its old pods still run and an undo is cheap.
PROVEN_SECONDS = 60
# How long the new pods are watched under the calls of users before the old pods are deleted.
WATCH_SECONDS = 10

# The label that tells the pods of one ReplicaSet from those of another ReplicaSet of the same Deployment.
_HASH = "pod-template-hash"


@dataclass(frozen=True)
class Roll:
    """One replacement.

    kind: the program of the webhook.
    targets: the objects that call the webhook already.
    proof: the step that verifies the answer of the new pods, None if they cannot be asked yet.
    hazards: the ids of the hazards that the new Deployment answers.
    """

    kind: str
    targets: tuple[dict[str, str], ...]
    proof: Step | None = None
    hazards: tuple[str, ...] = ()


def roll(now: Situation, wanted: Roll) -> Iterator[Step]:
    """Return the steps to the release's webhook."""
    if now.hands_over(wanted.kind):
        yield from _hand_over(now, wanted)
        return
    service = _find_service(now, wanted.kind)
    cut_off = service is not None and bool(
        {RELEASE_LABEL, PORT_LABEL, DETACHED_LABEL} & set(service.selector)
    )
    if cut_off:  # an interrupted run left labels of its pods in the selector
        yield _service(now, wanted.kind)
    yield _deployment(now, wanted)
    yield _wait(now, wanted.kind, wanted.targets)
    if not cut_off:
        yield _service(now, wanted.kind)


def delete_detached(prefix: str, namespace: str, deployment: str, why: str) -> Step:
    """Return the step that deletes the pods that a Deployment left. why: a sentence that says why they are not needed."""
    return Step(
        f"{prefix}-delete-old",
        f"Delete the old pods of Deployment {deployment}",
        f"{why} The step waits until the pods are gone, because later steps must not reach them.",
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
        deployed = {**_place(now, kind), "name": now.hook(kind).deployment}
        given = {**wanted.proof.parameters, "timeout": PROVEN_SECONDS, "pods_of": deployed}
        yield replace(wanted.proof, parameters=given)
    yield _watch(now, kind)
    deployment = now.hook(kind).deployment
    yield delete_detached(
        _prefix(kind), now.webhook_namespace(kind), deployment, "The API servers call the new pods now."
    )
    if service:
        yield _service(now, kind)


def _is_switched(now: Situation, kind: str, service: Service) -> bool:
    """Return True if an interrupted run has already switched the Service to the new pods."""
    live = now.installed.webhook(kind)
    done = live is not None and not now.replaces(kind) and live.version == now.release.version
    return (
        done
        and _generation(now.release.version, now.options.webhook_port).items() <= service.selector.items()
    )


def _settle(now: Situation, wanted: Roll, live: Workload, service: Service | None) -> Iterator[Step]:
    """Finish the interrupted run to another release or port: delete one generation of pods before the next one."""
    kind, deployment = wanted.kind, now.hook(wanted.kind).deployment
    if service and live.version:
        generation = {} if live.origin.key else _generation(live.version, live.port)
        yield Step(
            f"{_prefix(kind)}-settle",
            "Switch the Service to the newest ready pods",
            "A run was interrupted between two generations of pods. The newest pods are ready, so the older ones can be deleted "
            "before the next generation starts.",
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
        _prefix(kind), now.webhook_namespace(kind), deployment, "The API servers call the new pods now."
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
        "Delete the webhook pods of the run that did not complete",
        "The Service selects the older pods, so no API server calls these pods.",
        "delete",
        {"objects": [{"kind": "Deployment", **_place(now, kind), "name": live.name}]},
    )


def _generation(release: Version, port: int) -> dict[str, str]:
    """Return the labels that tell this generation of pods from earlier and later ones."""
    return {RELEASE_LABEL: text(release), PORT_LABEL: str(port)}


def _detach(now: Situation, kind: str) -> Step:
    live, hook, port = now.installed.webhook(kind), now.hook(kind), now.options.webhook_port
    hazards = ["no-drain"] if live and not live.drains else []
    why = "They do not wait before they end, so a rolling update would end them in the middle of calls."
    if live and live.port != port:
        hazards.append("webhook-port")
        why = f"The new pods listen on port {port}, and a Service has one target port."
    if live and dict(live.selector) != dict(hook.selector):
        hazards.append("webhook-selector")
        why = "The new Deployment has another selector, which is immutable, so the Deployment must be created again."
    return Step(
        f"{_prefix(kind)}-detach",
        "Delete the webhook's Deployment and keep its pods",
        f"The old pods keep answering. {why}",
        "detach",
        {**_place(now, kind), "name": hook.deployment},
        hazards=tuple(hazards),
    )


def _hold(now: Situation, kind: str, service: Service, old: Workload) -> Step:
    deployment = now.hook(kind).deployment
    own = {key: value for key, value in old.selector.items() if key != _HASH}
    return Step(
        f"{_prefix(kind)}-hold",
        "Restrict the Service to the old pods",
        "The new pods may match its selector and listen on another port. The API servers must not call them before the Service "
        "has their port.",
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
        f"Apply the webhook's Deployment of {now.release}",
        "Its pods become ready when they answer, and from Kubernetes 1.30 on they wait before they end. Upstream's pods do "
        "neither. A pod that is not ready replaces no other pod.",
        "apply",
        {**parameters, "arguments": arguments} if arguments else parameters,
        hazards=wanted.hazards,
    )


def _wait(now: Situation, kind: str, targets: tuple[dict[str, str], ...] = ()) -> Step:
    """Return the step that waits for the new pods. targets: the objects that call the old pods, which end meanwhile."""
    return Step(
        f"{_prefix(kind)}-wait",
        "Check that every webhook pod answers",
        "The step waits until every new pod is ready, which means that it answers. Old pods end meanwhile and still answer for a "
        "few seconds. The API servers reconnect in that time."
        if targets
        else "The step waits until every new pod is ready, which means that it answers. The Service must not select it earlier.",
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
        "Switch the Service to the new pods",
        "The new pods are ready. One write changes selector and port. The old pods still answer on open connections.",
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
        "Make the API servers reconnect to the webhook",
        "An API server keeps its connections, also to a pod that has left the Service. It opens new ones if the caBundle "
        "changes. TLS ignores an additional line break there.",
        "reconnect",
        {"targets": list(wanted.targets)},
    )


def _service(now: Situation, kind: str) -> Step:
    return Step(
        f"{_prefix(kind)}-service",
        f"Apply the webhook's Service of {now.release}",
        "Only one generation of pods is left, so the Service gets the selector of a fresh installation.",
        "apply",
        {"release": str(now.release), "parts": ["webhook_service"], **_place(now, kind)},
    )


def _find_service(now: Situation, kind: str) -> Service | None:
    place = (now.webhook_namespace(kind), now.hook(kind).service)
    return next((one for one in now.installed.services if (one.namespace, one.name) == place), None)
