# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Judge the rollout of a Deployment by its ReplicaSets and pods, and report pods in trouble as data. Pure.

Sources: kubernetes pkg/controller/deployment/util (conditions, revision), pkg/kubelet/images and pkg/kubelet/container
(reasons of waiting containers).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..._base.text import shortened
from ..._kube import object_state

Object = Mapping[str, Any]
# Reasons of a waiting container, and whether waiting may help: a registry comes back, a Secret is created.
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
# After so many restarts the cause is lasting.
MANY_RESTARTS = 3
# The same for a container that exceeds its memory limit, which waiting does not change.
MANY_KILLS = 2
# The reason of the condition Progressing from the moment on that all pods of the newest template were available
# (pkg/controller/deployment/progress.go).
_COMPLETE = "NewReplicaSetAvailable"
# The kernel ends a container that exceeds its memory limit. Its log does not tell that.
_OUT_OF_MEMORY = "OOMKilled"
MORE_MEMORY = "Raise the memory limit of the container, or remove it, and run the task again"
# How much of a failed rollout its evidence has.
MOST_PODS = 5
MOST_EVENTS = 5


@dataclass(frozen=True)
class DeploymentPods:
    """A Deployment, with ReplicaSets and pods of one moment. Those of other owners are ignored."""

    deployment: Object
    replica_sets: Sequence[Object]
    pods: Sequence[Object]

    @property
    def own_sets(self) -> dict[str, Object]:
        """Return the ReplicaSets of the Deployment by their UIDs."""
        return {
            replica_set["metadata"]["uid"]: replica_set
            for replica_set in self.replica_sets
            if object_state.is_owned_by(replica_set, self.deployment)
        }

    @property
    def newest(self) -> list[Object]:
        """Return the pods of the newest template."""
        sets, wanted = self.own_sets, _annotated(self.deployment)
        return [pod for pod in self.pods if sets and _revision(sets, pod) == wanted]


@dataclass(frozen=True)
class RolloutTrouble:
    """A cause that keeps a pod or the Deployment from becoming available.

    words: a clause for a reader.
    is_lasting: waiting does not help.
    log: the pod and the container whose log may say more.
    remedy: a sentence, "" if the words do not tell what to do.
    """

    words: str
    is_lasting: bool = False
    log: tuple[str, str] | None = None
    remedy: str = ""


@dataclass(frozen=True)
class RolloutProgress:
    """The state of a rollout.

    is_complete: every replica is of the newest template and available, and all other pods are being deleted or have ended.
    words: a clause for a reader.
    troubles: of the Deployment and of pods of the newest template.
    ending: UIDs of pods that are being deleted.
    """

    is_complete: bool
    words: str
    troubles: tuple[RolloutTrouble, ...] = ()
    ending: frozenset[str] = frozenset()


def rollout_progress(seen: DeploymentPods) -> RolloutProgress:
    """Return the state of a Deployment's rollout."""
    deployment, sets = seen.deployment, seen.own_sets
    spec, status = deployment["spec"], deployment.get("status") or {}
    every = [pod for pod in seen.pods if any(object_state.is_owned_by(pod, owner) for owner in sets.values())]
    # An evicted pod stays as Failed, often for days.
    own = [pod for pod in every if not (object_state.is_ending(pod) or object_state.has_ended(pod))]
    newest = [pod for pod in own if _revision(sets, pod) == _annotated(deployment)]
    wanted = spec.get("replicas", 1)
    counts = [int(status.get(key) or 0) for key in ("updatedReplicas", "availableReplicas", "replicas")]
    observed = object_state.is_observed(deployment)
    troubles = [*_conditions(status), *(trouble for pod in newest for trouble in _troubles(pod))]
    return RolloutProgress(
        is_complete=observed and counts == [wanted] * 3 and len(own) == wanted,
        words=f"{counts[0]} of {wanted} pods are of the new template, {counts[1]} available, {max(len(own) - counts[0], 0)} old ones left",
        troubles=tuple(troubles) if observed else (),
        ending=frozenset(pod["metadata"]["uid"] for pod in every if object_state.is_ending(pod)),
    )


# The container of a pod, by the pod's UID and the container's name.
ContainerKey = tuple[str, str]


def count_restarts(pods: Iterable[Object]) -> dict[ContainerKey, int]:
    """Return how often each container was restarted."""
    return {
        (pod["metadata"]["uid"], container["name"]): int(container.get("restartCount") or 0)
        for pod in pods
        for container in object_state.container_statuses(pod)
    }


def find_crash_loops(seen: DeploymentPods, first: Mapping[ContainerKey, int]) -> list[RolloutTrouble]:
    """Return the containers of the newest template that end repeatedly, although they are ready in between.

    first: restarts at the first look at each container. Earlier restarts do not count.
    """
    return [
        _ended(pod, container, "ends repeatedly")
        for pod in seen.newest
        for container in object_state.container_statuses(pod)
        if _has_looped(container, first.get((pod["metadata"]["uid"], container["name"]), 0))
    ]


def find_setbacks(seen: DeploymentPods, before: Mapping[ContainerKey, int]) -> list[RolloutTrouble]:
    """Return the pods of the newest template that were available and did not stay so, at most one cause per pod.

    A container counts if it ended after the rollout was complete, or if it has more restarts than at an earlier look. The
    first depends on the clock of the node, the second does not. A pod that is being deleted does not count, and a pod that
    replaces it may become ready later.

    before: restarts at an earlier look, by container.
    """
    complete = _completed_at(seen.deployment)
    causes = (_setback(pod, complete, before) for pod in _staying(seen))
    return [cause for cause in causes if cause]


def _setback(pod: Object, complete: str, before: Mapping[ContainerKey, int]) -> RolloutTrouble | None:
    metadata, status = pod["metadata"], pod.get("status") or {}
    if object_state.has_ended(pod):
        said = f"{status.get('reason') or status['phase']}: {_line(status.get('message'))}"
        return (
            RolloutTrouble(f"pod {metadata['name']} ended: {said}", is_lasting=True)
            if str(
                object_state.condition(pod, "Ready").get("lastTransitionTime")
                or metadata.get("creationTimestamp")
                or complete
            )
            >= complete  # not before the rollout was complete
            else None
        )
    for container in object_state.container_statuses(pod):
        if ((container.get("state") or {}).get("terminated") or {}).get("exitCode") == 0:
            continue  # an init container that is done
        restarts = int(container.get("restartCount") or 0)
        has_ended = bool(complete) and str(_last_end(container).get("finishedAt") or "") >= complete
        if has_ended or restarts > before.get((metadata["uid"], container["name"]), restarts):
            return _ended(pod, container, "ended after it was available")
    is_replacement = bool(complete) and str(metadata.get("creationTimestamp") or "") > complete
    return (
        None
        if object_state.is_true(pod, "Ready") or is_replacement
        else RolloutTrouble(f"pod {metadata['name']} is no longer ready", is_lasting=True)
    )


def _completed_at(deployment: Object) -> str:
    """Return the time at which the newest ReplicaSet became available, in RFC 3339, "" if it is not known."""
    condition = object_state.condition(deployment, "Progressing")
    return str(condition.get("lastUpdateTime") or "") if condition.get("reason") == _COMPLETE else ""


def _has_looped(container: Object, first: int) -> bool:
    restarts = int(container.get("restartCount") or 0) - first
    return restarts >= (MANY_KILLS if _is_out_of_memory(container) else MANY_RESTARTS)


def _is_out_of_memory(container: Object) -> bool:
    return bool(_last_end(container).get("reason") == _OUT_OF_MEMORY)


def _ended(pod: Object, container: Object, how: str) -> RolloutTrouble:
    name, end = pod["metadata"]["name"], _last_end(container)
    reason = f"{end.get('reason') or 'ended'}, exit code {end.get('exitCode')}"
    return _crash(
        f"pod {name}: container {container['name']} {how}: {reason}", name, container, is_lasting=True
    )


def _crash(words: str, pod: str, container: Object, *, is_lasting: bool) -> RolloutTrouble:
    if _is_out_of_memory(container):
        return RolloutTrouble(words, is_lasting, remedy=MORE_MEMORY)
    return RolloutTrouble(words, is_lasting, (pod, container["name"]))


def _staying(seen: DeploymentPods) -> list[Object]:
    """Return the pods of the newest template that are not being deleted."""
    return [pod for pod in seen.newest if not object_state.is_ending(pod)]


def select_worst_pods(seen: DeploymentPods) -> list[Object]:
    """Return at most MOST_PODS pods of the newest template: those that are not ready first, by restarts, ended ones last."""
    if not object_state.is_observed(seen.deployment):
        return []
    ranked = sorted(
        _staying(seen),
        key=lambda pod: (
            object_state.has_ended(pod),
            object_state.is_true(pod, "Ready"),
            -object_state.restarts(pod),
            str(pod["metadata"]["name"]),
        ),
    )
    return ranked[:MOST_PODS]


def find_refused_sets(seen: DeploymentPods) -> list[Object]:
    """Return the newest ReplicaSet if the API server refuses its pods: quotas, PodSecurity, policies."""
    if not object_state.is_observed(seen.deployment):
        return []
    own = [owned for owned in seen.own_sets.values() if _annotated(owned) == _annotated(seen.deployment)]
    return [owned for owned in own if object_state.condition(owned, "ReplicaFailure").get("status") == "True"]


def event_lines(obj: Object, events: Iterable[Object]) -> list[str]:
    """Return a line for each of the newest MOST_EVENTS events of an object, the newest first."""
    newest = sorted(events, key=_last_seen, reverse=True)[:MOST_EVENTS]
    return [
        f"event of {obj['metadata']['name']}: {event.get('reason') or ''}: {_line(event.get('message'))}"
        for event in newest
    ]


def _last_seen(event: Object) -> str:
    """Return the time of an event in RFC 3339. New events have eventTime and a series, old ones have lastTimestamp."""
    series = event.get("series") or {}
    created = (event.get("metadata") or {}).get("creationTimestamp")
    times = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"), created)
    return str(next((time for time in times if time), ""))


def _last_end(container: Object) -> Object:
    """Return the last termination of a container, now or before its restart, {} if it never ended."""
    now, before = container.get("state") or {}, container.get("lastState") or {}
    return now.get("terminated") or before.get("terminated") or {}


def _conditions(status: Object) -> Iterator[RolloutTrouble]:
    for condition in status.get("conditions") or ():
        kind, reason, message = (condition.get(key) or "" for key in ("type", "reason", "message"))
        if kind == "ReplicaFailure" and condition["status"] == "True":
            yield RolloutTrouble(
                f"the API server refuses its pods: {message}"
            )  # quotas, PodSecurity, policies
        if kind == "Progressing" and condition["status"] == "False" and reason == "ProgressDeadlineExceeded":
            yield RolloutTrouble(f"ProgressDeadlineExceeded: {message}", is_lasting=True)


def _troubles(pod: Object) -> Iterator[RolloutTrouble]:
    name, status = pod["metadata"]["name"], pod.get("status") or {}
    yield from (
        RolloutTrouble(f"pod {name} cannot be scheduled: {condition.get('message')}")
        for condition in status.get("conditions") or ()
        if condition["type"] == "PodScheduled" and condition.get("reason") == "Unschedulable"
    )
    for container in object_state.container_statuses(pod):
        yield from _of_container(name, container)


def _of_container(pod: str, container: Object) -> Iterator[RolloutTrouble]:
    where = f"pod {pod}: container {container['name']}"
    state, restarts = container.get("state") or {}, container.get("restartCount") or 0
    waiting = state.get("waiting") or {}
    ended = _last_end(container)
    reason = waiting.get("reason") or ""
    if reason == "CrashLoopBackOff" or (state.get("terminated") and ended.get("exitCode")):
        reason = f" ({_OUT_OF_MEMORY})" if _is_out_of_memory(container) else ""
        words = f"ended {restarts + 1} times, the last time with exit code {ended.get('exitCode')}{reason}"
        yield _crash(f"{where} {words}", pod, container, is_lasting=restarts >= MANY_RESTARTS)
    elif reason in WAITING:
        yield RolloutTrouble(f"{where}: {reason}: {_line(waiting.get('message'))}", not WAITING[reason])
    elif state.get("running") and not container.get("ready"):
        yield RolloutTrouble(f"{where} runs but is not ready", log=(pod, container["name"]))


def _annotated(obj: Object) -> str:
    return str((obj["metadata"].get("annotations") or {}).get("deployment.kubernetes.io/revision") or "")


def _revision(sets: Mapping[str, Object], pod: Object) -> str:
    return next((_annotated(owner) for owner in sets.values() if object_state.is_owned_by(pod, owner)), "")


def _line(text: Any) -> str:
    return shortened(str(text or ""), 300)
