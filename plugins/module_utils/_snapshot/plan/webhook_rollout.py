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

from ..actions.action import Step
from ..actions.apply_release import ApplyRelease
from ..actions.object_actions import (
    DeletedObject,
    DeleteObjects,
    OrphanDeployment,
    WaitAvailable,
    WatchPods,
)
from ..actions.webhook_actions import ReconnectWebhooks, SwitchService
from ..context.upgrade_context import UpgradeContext
from ..installed.state import InstalledWorkload, Service
from ..kinds import ORPHAN_LABEL, PORT_LABEL, RELEASE_LABEL, VALIDATION, Reference
from ..release.release_table import Version, text

# The longest check of a new webhook, in seconds, while its old pods still run and an undo is cheap.
PROVEN_SECONDS = 60
# How long the new pods are watched under the calls of users before the old pods are deleted.
WATCH_SECONDS = 10

# The label that tells the pods of one ReplicaSet from those of another ReplicaSet of the same Deployment.
_HASH = "pod-template-hash"


@dataclass(frozen=True)
class WebhookRollout:
    """The replacement of the pods of one webhook."""

    #: The program of the webhook.
    kind: str
    #: The objects that already call the webhook.
    targets: tuple[Reference, ...]
    #: The step that verifies the new pods, None if they cannot be verified yet.
    proof: Step | None = None


def plan_settlement(context: UpgradeContext, kind: str, targets: tuple[Reference, ...]) -> Iterator[Step]:
    """Return the steps that leave one generation of pods, if a run was interrupted between two generations.

    targets: the objects that call the webhook.
    """
    live, orphans = context.installed.webhook(kind), context.installed.orphans(kind)
    if not (live and orphans and context.webhooks.hands_over(kind) and context.webhooks.replaces(kind)):
        return
    service = _find_service(context, kind)
    if _keeps_old(context, live, orphans):
        yield from _back_to_old(context, kind, targets, live, service)
    else:
        yield from _settle(context, kind, targets, live, service)


def plan_rollout(context: UpgradeContext, rollout: WebhookRollout) -> Iterator[Step]:
    """Return the steps to the release's webhook, after those of plan_settlement. A hop that did not touch it has none to undo."""
    place = context.webhooks.namespace(rollout.kind)
    if context.is_untouched("Deployment", context.webhooks.hook(rollout.kind).deployment, place):
        return
    if context.webhooks.hands_over(rollout.kind):
        yield from _hand_over(context, rollout)
        return
    service = _find_service(context, rollout.kind)
    cut_off = service is not None and bool({RELEASE_LABEL, PORT_LABEL, ORPHAN_LABEL} & set(service.selector))
    if cut_off:  # an interrupted run left labels of its pods in the selector
        yield _service(context, rollout.kind)
    yield _deployment(context, rollout)
    yield _wait(context, rollout.kind, rollout.targets)
    if not cut_off:
        yield _service(context, rollout.kind)


def delete_orphans(prefix: str, namespace: str, deployment: str, why: str) -> Step:
    """Return the step that deletes the pods that a Deployment left. why: a sentence that says why they are not needed."""
    return Step(
        f"{prefix}-delete-old",
        f"Delete the old pods of Deployment {deployment}",
        f"{why} The step waits until the pods are gone, because later steps must not reach them.",
        DeleteObjects(
            [DeletedObject("ReplicaSet", namespace, label_selector=f"{ORPHAN_LABEL}={deployment}")]
        ),
    )


def _prefix(kind: str) -> str:
    return "webhook" if kind == VALIDATION else "conversion"


def _hand_over(context: UpgradeContext, rollout: WebhookRollout) -> Iterator[Step]:
    kind, service = rollout.kind, _find_service(context, rollout.kind)
    live, orphans = context.installed.webhook(kind), context.installed.orphans(kind)
    replaces = context.webhooks.replaces(kind)
    if live and replaces and orphans:
        if _keeps_old(context, live, orphans):
            replaces = False
        else:
            orphans = ()
    if replaces or not all(
        orphan.labelled for orphan in context.installed.orphan_sets if orphan.program == kind
    ):
        yield _orphan(context, kind)
    old = live if live and replaces else orphans[0]
    if service and not _is_switched(context, kind, service):
        yield _freeze_service(context, kind, service, old)
    yield _deployment(context, rollout)
    yield _wait(context, kind)
    yield _switch(context, kind) if service else _service(context, kind)
    if rollout.targets:
        yield _reconnect(kind, rollout.targets)
    if rollout.proof:
        yield rollout.proof
    yield _watch(context, kind)
    deployment = context.webhooks.hook(kind).deployment
    yield delete_orphans(
        _prefix(kind), context.webhooks.namespace(kind), deployment, "The API servers call the new pods now."
    )
    if service:
        yield _service(context, kind)


def _is_switched(context: UpgradeContext, kind: str, service: Service) -> bool:
    """Return True if an interrupted run has already switched the Service to the new pods."""
    live = context.installed.webhook(kind)
    done = (
        live is not None and not context.webhooks.replaces(kind) and live.version == context.release.version
    )
    return (
        done
        and _generation(context.release.version, context.options.webhook_port).items()
        <= service.selector.items()
    )


def _settle(
    context: UpgradeContext,
    kind: str,
    targets: tuple[Reference, ...],
    live: InstalledWorkload,
    service: Service | None,
) -> Iterator[Step]:
    """Finish the interrupted run to another release or port: delete one generation of pods before the next one."""
    deployment = context.webhooks.hook(kind).deployment
    if service and live.version:
        generation = {} if live.origin.key else _generation(live.version, live.port)
        yield Step(
            f"{_prefix(kind)}-settle",
            "Switch the Service to the newest ready pods",
            "A run was interrupted between two generations of pods. The newest pods are ready, so the older ones can be deleted "
            "before the next generation starts.",
            SwitchService(service.namespace, service.name, {**live.selector, **generation}, live.port),
        )
    if targets:
        yield replace(_reconnect(kind, targets), id=f"{_prefix(kind)}-settle-reconnect")
    older = delete_orphans(
        _prefix(kind), context.webhooks.namespace(kind), deployment, "The API servers call the new pods now."
    )
    yield replace(older, id=f"{_prefix(kind)}-delete-older")


def _keeps_old(
    context: UpgradeContext, live: InstalledWorkload, orphans: tuple[InstalledWorkload, ...]
) -> bool:
    """Return True if the old pods serve until the release's come: the new ones do not answer, or the old ones are of the
    release. In the second case the new pods ended under load, and may be available at the moment."""
    return not live.available or any(
        orphan.available and orphan.version == context.release.version for orphan in orphans
    )


def _back_to_old(
    context: UpgradeContext,
    kind: str,
    targets: tuple[Reference, ...],
    live: InstalledWorkload,
    service: Service | None,
) -> Iterator[Step]:
    """A run ended or failed between two generations of pods: the older one serves, and the newer one goes."""
    if service and ORPHAN_LABEL not in service.selector:
        old = context.installed.orphans(kind)[0]
        yield replace(_freeze_service(context, kind, service, old), id=f"{_prefix(kind)}-settle")
        if targets:
            yield replace(_reconnect(kind, targets), id=f"{_prefix(kind)}-settle-reconnect")
    yield Step(
        f"{_prefix(kind)}-delete-failed",
        "Delete the webhook pods of the run that did not complete",
        "The Service selects the older pods, so no API server calls these pods.",
        DeleteObjects([DeletedObject("Deployment", context.webhooks.namespace(kind), live.name)]),
    )


def _generation(release: Version, port: int) -> dict[str, str]:
    """Return the labels that tell this generation of pods from earlier and later ones."""
    return {RELEASE_LABEL: text(release), PORT_LABEL: str(port)}


def _orphan(context: UpgradeContext, kind: str) -> Step:
    live, hook, port = (
        context.installed.webhook(kind),
        context.webhooks.hook(kind),
        context.options.webhook_port,
    )
    why = "They do not wait before they end, so a rolling update would end them in the middle of calls."
    if live and live.port != port:
        why = f"The new pods listen on port {port}, and a Service has one target port."
    if live and dict(live.selector) != dict(hook.selector):
        why = "The new Deployment has another selector, which is immutable, so the Deployment must be created again."
    return Step(
        f"{_prefix(kind)}-detach",
        "Delete the webhook's Deployment and keep its pods",
        f"The old pods keep answering. {why}",
        OrphanDeployment(context.webhooks.namespace(kind), hook.deployment),
    )


def _freeze_service(context: UpgradeContext, kind: str, service: Service, old: InstalledWorkload) -> Step:
    deployment = context.webhooks.hook(kind).deployment
    own = {key: value for key, value in old.selector.items() if key != _HASH}
    return Step(
        f"{_prefix(kind)}-hold",
        "Restrict the Service to the old pods",
        "The new pods may match its selector and listen on another port. The API servers must not call them before the Service "
        "has their port.",
        SwitchService(service.namespace, service.name, {**own, ORPHAN_LABEL: deployment}, old.port),
    )


def _deployment(context: UpgradeContext, rollout: WebhookRollout) -> Step:
    kind = rollout.kind
    return Step(
        f"{_prefix(kind)}-deployment",
        f"Apply the webhook's Deployment of {context.release}",
        "Its pods become ready when they answer, and from Kubernetes 1.30 on they wait before they end. Upstream's pods do "
        "neither. A pod that is not ready replaces no other pod.",
        ApplyRelease(
            str(context.release),
            ["webhook"],
            context.webhooks.namespace(kind),
            context.webhooks.secret(kind),
            context.webhooks.arguments(kind) or None,
        ),
    )


def _wait(context: UpgradeContext, kind: str, targets: tuple[Reference, ...] = ()) -> Step:
    """Return the step that waits for the new pods. targets: the objects that call the old pods, which end meanwhile."""
    return Step(
        f"{_prefix(kind)}-wait",
        "Check that every webhook pod answers",
        "The step waits until every new pod is ready, which means that it answers. Old pods end meanwhile and still answer for a "
        "few seconds. The API servers reconnect in that time."
        if targets
        else "The step waits until every new pod is ready, which means that it answers. The Service must not select it earlier.",
        WaitAvailable(context.webhooks.namespace(kind), context.webhooks.hook(kind).deployment, targets),
    )


def _switch(context: UpgradeContext, kind: str) -> Step:
    hook, port = context.webhooks.hook(kind), context.options.webhook_port
    selector = {**hook.selector, **_generation(context.release.version, port)}
    return Step(
        f"{_prefix(kind)}-switch",
        "Switch the Service to the new pods",
        "The new pods are ready. One write changes selector and port. The old pods still answer on open connections.",
        SwitchService(context.webhooks.namespace(kind), hook.service, selector, port),
    )


def _watch(context: UpgradeContext, kind: str) -> Step:
    return Step(
        f"{_prefix(kind)}-watch",
        "Watch the new webhook pods under load",
        "A pod that becomes ready may still end under the calls of users, for example because of its memory limit. The old "
        "pods still run, so the Service can lead to them again.",
        WatchPods(context.webhooks.namespace(kind), context.webhooks.hook(kind).deployment, WATCH_SECONDS),
    )


def _reconnect(kind: str, targets: tuple[Reference, ...]) -> Step:
    return Step(
        f"{_prefix(kind)}-reconnect",
        "Make the API servers reconnect to the webhook",
        "An API server keeps its connections, also to a pod that has left the Service. It opens new ones if the caBundle "
        "changes. TLS ignores an additional line break there.",
        ReconnectWebhooks(targets),
    )


def _service(context: UpgradeContext, kind: str) -> Step:
    return Step(
        f"{_prefix(kind)}-service",
        f"Apply the webhook's Service of {context.release}",
        "Only one generation of pods is left, so the Service gets the selector of a fresh installation.",
        ApplyRelease(str(context.release), ["webhook_service"], context.webhooks.namespace(kind)),
    )


def _find_service(context: UpgradeContext, kind: str) -> Service | None:
    return next(iter(context.webhooks.services(kind)), None)
