# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Wait for Deployments, CustomResourceDefinitions and the endpoints of Services. Nothing here writes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

from ..._base.text import mask, shortened
from ..._kube import object_state
from ..._kube.errors import ApiError, KubeError
from ..._snapshot.errors import RolloutError, StepError
from ..._snapshot.kinds import KINDS, Reference
from .rollout_report import (
    ContainerKey,
    DeploymentPods,
    RolloutTrouble,
    count_restarts,
    event_lines,
    find_crash_loops,
    find_refused_sets,
    find_setbacks,
    rollout_progress,
    select_worst_pods,
)

if TYPE_CHECKING:
    from ..._kube.client import Client

PAUSE_SECONDS = 1.0
# How long a trouble may last that can pass: a registry that comes back, a Secret that is created later. The kubelet tries
# images and crashed containers again after 10 s and 20 s (pkg/kubelet/images, MaxContainerBackOff).
PATIENCE_SECONDS = 45.0
LOG_LINES = 3
#: Enough for a whole key before them, so that its last line is masked too.
_READ_LINES = 100
REMEDY = "Correct the cause that the pods report, and run the task again"
EVENTS = "/api/v1/namespaces/{namespace}/events"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"


def until_available(
    client: Client, target: Reference, *, on_ending: Callable[[], None] = lambda: None
) -> None:
    """Wait until every replica of the newest template is available and every older pod has begun to end or has ended.

    Args:
        on_ending: called each time that more pods have begun to end.

    Raises:
        RolloutError: the rollout cannot succeed, or the deadline passed. The evidence has the events of its pods.
        StepError: the Deployment does not exist.
    """
    ending: frozenset[str] = frozenset()
    since: dict[str, float] = {}
    first: dict[ContainerKey, int] = {}
    while True:
        seen = _look(client, target)
        now = rollout_progress(seen)
        first = {**count_restarts(seen.pods), **first}
        loops = find_crash_loops(seen, first)
        if loops:
            raise _failure(client, target, seen, loops)
        if now.ending - ending:
            ending |= now.ending
            on_ending()
        if now.is_complete:
            return
        since = {trouble.words: since.get(trouble.words, time.monotonic()) for trouble in now.troubles}
        over = time.monotonic() + PAUSE_SECONDS > client.deadline
        stuck = [
            trouble
            for trouble in now.troubles
            if over or trouble.is_lasting or time.monotonic() - since[trouble.words] > PATIENCE_SECONDS
        ]
        if stuck or over:
            raise _failure(client, target, seen, stuck)
        time.sleep(PAUSE_SECONDS)


def watch_pods(client: Client, target: Reference, seconds: float) -> None:
    """Watch the pods of an available Deployment, and return if all of them stay ready and none of them restarts.

    If a pod is deleted meanwhile, as in the drain of a node, wait until it is replaced.

    Args:
        seconds: how long to watch them.

    Raises:
        RolloutError: a container ended or a pod was no longer ready since the rollout was complete. The evidence has
            the events of its pods.
        StepError: the deadline came first, or the Deployment does not exist.
    """
    end = time.monotonic() + seconds
    watch = PodWatch(client, target)
    while True:
        now = rollout_progress(watch.look())
        if time.monotonic() >= end and now.is_complete:
            return
        if time.monotonic() + PAUSE_SECONDS > client.deadline:
            raise StepError(
                f"{target} was not watched for {seconds:.0f} s, because the time of the step is over. {now.words}",
                remedy="Run the task again with a longer step_timeout",
            )
        time.sleep(PAUSE_SECONDS)


class PodWatch:
    """Looks at the pods of an available Deployment."""

    def __init__(self, client: Client, target: Reference) -> None:
        self._client = client
        self._target = target
        self._before: dict[ContainerKey, int] = {}

    def look(self) -> DeploymentPods:
        """Return the state of the Deployment. Raises RolloutError as watch_pods, StepError if it does not exist."""
        seen = _look(self._client, self._target)
        self._before = {**count_restarts(seen.pods), **self._before}
        found = find_setbacks(seen, self._before)
        if found:
            raise _failure(self._client, self._target, seen, found, "does not stay available")
        return seen


def until_established(client: Client, names: Iterable[str]) -> None:
    """Wait until CustomResourceDefinitions are served. Raises StepError with the API server's message."""
    for name in names:
        target = Reference("CustomResourceDefinition", name)
        _until(client, partial(_is_established, client, target), f"{target} is not served")


def until_gone(client: Client, target: Reference, uid: str) -> None:
    """Wait until the object of this UID no longer exists. Finalizers may delay that."""

    def is_gone() -> bool:
        live = client.find(target.path)
        return live is None or live["metadata"]["uid"] != uid

    _until(client, is_gone, f"{target} is still being deleted")


def until_observed(client: Client, target: Reference) -> None:
    """Wait until the controller of a ReplicaSet has read its present spec, or until the ReplicaSet is deleted."""

    def is_observed() -> bool:
        live = client.find(target.path)
        return live is None or object_state.is_observed(live)

    _until(client, is_observed, f"the controller of {target} has not read its new template")


def until_switched(client: Client, target: Reference, selector: dict[str, str], port: int | None) -> None:
    """Wait until the Service's EndpointSlices name only pods that the selector selects, at this port."""
    pods_path = KINDS["Pod"].collection(target.namespace)
    labels = ",".join(f"{key}={value}" for key, value in selector.items())

    def is_switched() -> bool:
        listed = client.list_all(pods_path, {"labelSelector": labels})["items"]
        pods = {pod["metadata"]["name"] for pod in listed if object_state.has_address(pod)}
        path = SLICES.format(namespace=target.namespace)
        slices = client.list_all(path, {"labelSelector": f"kubernetes.io/service-name={target.name}"})[
            "items"
        ]
        named = {
            (endpoint.get("targetRef") or {}).get("name", "")  # an endpoint that was made by hand has none
            for endpoint_slice in slices
            for endpoint in endpoint_slice.get("endpoints") or ()
        }
        ports = {
            entry.get("port")
            for endpoint_slice in slices
            if endpoint_slice.get("endpoints")
            for entry in endpoint_slice.get("ports") or ()
        }
        return named <= pods and bool(named) == bool(pods) and (port is None or ports <= {port})

    _until(client, is_switched, f"the endpoints of {target} do not match its new selector")


def _until(client: Client, condition: Callable[[], bool], otherwise: str) -> None:
    """Wait until the condition is true. Raises StepError with the clause ``otherwise`` at the deadline."""
    while not condition():
        if time.monotonic() + PAUSE_SECONDS > client.deadline:
            raise StepError(
                otherwise,
                remedy="Check the object and the controller that processes it, and run the task again",
            )
        time.sleep(PAUSE_SECONDS / 4)


def _look(client: Client, target: Reference) -> DeploymentPods:
    deployment = client.find(target.path)
    if deployment is None:
        raise StepError(f"{target} does not exist", remedy="Find out what deleted it, and run the task again")
    labels = deployment["spec"]["selector"].get("matchLabels") or {}
    query = {"labelSelector": ",".join(f"{key}={value}" for key, value in labels.items())}
    sets = client.list_all(KINDS["ReplicaSet"].collection(target.namespace), query)["items"]
    pods = client.list_all(KINDS["Pod"].collection(target.namespace), query)["items"]
    return DeploymentPods(deployment, sets, pods)


def _failure(
    client: Client,
    target: Reference,
    seen: DeploymentPods,
    stuck: list[RolloutTrouble],
    cause: str = "does not become available",
) -> RolloutError:
    state = rollout_progress(seen).words
    words = list(dict.fromkeys(trouble.words for trouble in stuck)) or [state]
    logs = [line for trouble in stuck[:2] if trouble.log for line in _log(client, target, *trouble.log)]
    return RolloutError(
        f"{target} {cause}: {'; '.join([*words[:1], *logs[-LOG_LINES:]])}",
        evidence=[state, *words, *logs, *_event_lines(client, target, seen)],
        remedy=next((trouble.remedy for trouble in stuck if trouble.remedy), REMEDY),
    )


def _event_lines(client: Client, target: Reference, seen: DeploymentPods) -> list[str]:
    """Return the events of the worst pods, and of a ReplicaSet whose pods are refused. The first refusal ends it."""
    lines: list[str] = []
    for obj in (*select_worst_pods(seen), *find_refused_sets(seen)):
        query = {"fieldSelector": f"involvedObject.uid={obj['metadata']['uid']}"}
        try:
            events = client.list_all(EVENTS.format(namespace=target.namespace), query)["items"]
        except KubeError as error:
            said = error.message if isinstance(error, ApiError) and error.message else error.cause
            return [*lines, f"events in the namespace {target.namespace} cannot be read: {said}"]
        lines += event_lines(obj, events)
    return lines


def _log(client: Client, target: Reference, pod: str, container: str) -> list[str]:
    """Return the last lines of a container's log, from before its restart if it was restarted."""
    path = f"{KINDS['Pod'].collection(target.namespace)}/{pod}/log"
    query = {"container": container, "tailLines": str(_READ_LINES)}
    for previous in ({"previous": "true"}, {}):
        try:
            text = mask(client.text(path, {**query, **previous}))
        except KubeError:
            continue
        return [f"its log: {shortened(line, 300)}" for line in text.splitlines()[-LOG_LINES:] if line.strip()]
    return []


def _is_established(client: Client, target: Reference) -> bool:
    crd = client.get(target.path)
    names = object_state.condition(crd, "NamesAccepted")
    if names.get("status") == "False":
        raise StepError(f"{target} is not served: {names.get('message')}")
    return object_state.is_true(crd, "Established")
