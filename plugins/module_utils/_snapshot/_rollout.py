# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""How far a Deployment is, and why it gets no further, in the words of its pods. Pure.

Sources: kubernetes pkg/controller/deployment/util (conditions, revision), pkg/kubelet/images and pkg/kubelet/container
(reasons of waiting containers).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Object = Mapping[str, Any]
# Reasons of a container that waits, and whether time may cure them: a registry comes back, a Secret is created.
WAITING: dict[str, bool] = {
    "ErrImagePull": True,
    "ImagePullBackOff": True,
    "RegistryUnavailable": True,
    "InvalidImageName": False,
    "ErrImageNeverPull": False,
    "CrashLoopBackOff": True,
    "CreateContainerConfigError": True,
    "CreateContainerError": True,
    "RunContainerError": True,
}
# A container that ended so often does not do so by chance.
MANY_RESTARTS = 3


@dataclass(frozen=True)
class Trouble:
    """What keeps one pod, or the Deployment itself. lasting: no time cures it. log: the container to ask for its log."""

    words: str
    lasting: bool = False
    log: tuple[str, str] | None = None


@dataclass(frozen=True)
class Progress:
    """done: every replica is of the newest template and available, and no other pod is left but those on their way out.

    words: how far it is, for a reader. ending: UIDs of pods that are on their way out.
    """

    done: bool
    words: str
    troubles: tuple[Trouble, ...] = ()
    ending: frozenset[str] = frozenset()


def progress(deployment: Object, replica_sets: Iterable[Object], pods: Iterable[Object]) -> Progress:
    """Judge a Deployment by its ReplicaSets and pods; those of others are told apart by their owner."""
    spec, status = deployment["spec"], deployment.get("status") or {}
    sets = {one["metadata"]["uid"]: one for one in replica_sets if _owned_by(one, deployment)}
    every = [pod for pod in pods if any(_owned_by(pod, one) for one in sets.values())]
    own = [pod for pod in every if not pod["metadata"].get("deletionTimestamp")]
    newest = [pod for pod in own if _revision(sets, pod) == _annotated(deployment)]
    wanted = spec.get("replicas", 1)
    counts = [int(status.get(key) or 0) for key in ("updatedReplicas", "availableReplicas", "replicas")]
    seen = int(status.get("observedGeneration") or 0) >= deployment["metadata"]["generation"]
    troubles = (
        [*_conditions(status), *(trouble for pod in newest for trouble in _troubles(pod))] if seen else []
    )
    return Progress(
        done=seen and counts == [wanted] * 3 and len(own) == wanted,
        words=f"{counts[0]} of {wanted} pods are of the new template, {counts[1]} available, {len(own) - counts[0]} old ones left",
        troubles=tuple(troubles),
        ending=frozenset(pod["metadata"]["uid"] for pod in every if pod not in own),
    )


def newest_pods(deployment: Object, replica_sets: Iterable[Object], pods: Iterable[Object]) -> frozenset[str]:
    """UIDs of the pods that are of a Deployment's newest template."""
    sets = {one["metadata"]["uid"]: one for one in replica_sets if _owned_by(one, deployment)}
    wanted = _annotated(deployment)
    return frozenset(pod["metadata"]["uid"] for pod in pods if sets and _revision(sets, pod) == wanted)


def _conditions(status: Object) -> Iterator[Trouble]:
    for condition in status.get("conditions") or ():
        kind, reason, message = (condition.get(key) or "" for key in ("type", "reason", "message"))
        if kind == "ReplicaFailure" and condition["status"] == "True":
            yield Trouble(f"its pods are refused: {message}")  # quotas, PodSecurity, policies
        if kind == "Progressing" and condition["status"] == "False" and reason == "ProgressDeadlineExceeded":
            yield Trouble(f"ProgressDeadlineExceeded: {message}", lasting=True)


def _troubles(pod: Object) -> Iterator[Trouble]:
    name, status = pod["metadata"]["name"], pod.get("status") or {}
    for condition in status.get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition.get("reason") == "Unschedulable":
            yield Trouble(f"pod {name} finds no node: {condition.get('message')}")
    containers = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    for container in containers:
        yield from _of_container(name, container)


def _of_container(pod: str, container: Object) -> Iterator[Trouble]:
    where = f"pod {pod}: container {container['name']}"
    state, restarts = container.get("state") or {}, container.get("restartCount") or 0
    waiting = state.get("waiting") or {}
    ended = state.get("terminated") or (container.get("lastState") or {}).get("terminated") or {}
    reason = waiting.get("reason") or ""
    if reason == "CrashLoopBackOff" or (state.get("terminated") and ended.get("exitCode")):
        words = f"ended {restarts + 1} times, the last time with exit code {ended.get('exitCode')}"
        yield Trouble(f"{where} {words}", restarts >= MANY_RESTARTS, (pod, container["name"]))
    elif reason in WAITING:
        yield Trouble(f"{where}: {reason}: {_line(waiting.get('message'))}", not WAITING[reason])
    elif state.get("running") and not container.get("ready"):
        yield Trouble(f"{where} runs and is not ready", log=(pod, container["name"]))


def _annotated(obj: Object) -> str:
    annotations = obj["metadata"].get("annotations") or {}
    return str(annotations.get("deployment.kubernetes.io/revision") or "")


def _revision(sets: Mapping[str, Object], pod: Object) -> str:
    return next((_annotated(one) for one in sets.values() if _owned_by(pod, one)), "")


def _owned_by(obj: Object, owner: Object) -> bool:
    owners = obj["metadata"].get("ownerReferences") or ()
    return any(one.get("uid") == owner["metadata"]["uid"] for one in owners)


def _line(text: Any) -> str:
    return " ".join(str(text or "").split())[:300]
