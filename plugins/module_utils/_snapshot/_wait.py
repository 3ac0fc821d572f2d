# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Wait: for a Deployment, for a CustomResourceDefinition, for a Service's endpoints. Nothing here writes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from .._kube._errors import KubeError
from ._errors import RolloutError, StepError
from ._kinds import KINDS, Reference
from ._rollout import Progress, Trouble, progress

if TYPE_CHECKING:
    from .._kube._client import Client

PAUSE_SECONDS = 1.0
# What may pass by itself - a registry, a Secret that comes later - is given this long. The kubelet tries images and
# crashed containers again after 10 s and 20 s (pkg/kubelet/images, MaxContainerBackOff).
PATIENCE_SECONDS = 45.0
LOG_LINES = 3
SLICES = "/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"


def available(client: Client, target: Reference, *, on_ending: Callable[[], None] = lambda: None) -> None:
    """Wait until every replica of the newest template is available and every older pod has begun to end.

    on_ending: called when pods have begun to end that had not before. Raises RolloutError with the pods' own words as
    soon as it is clear that it gets no further, or at the deadline; StepError where there is no such Deployment.
    """
    ending: frozenset[str] = frozenset()
    since: dict[str, float] = {}
    while True:
        now = _progress(client, target)
        if now.ending - ending:
            ending |= now.ending
            on_ending()
        if now.done:
            return
        since = {trouble.words: since.get(trouble.words, time.monotonic()) for trouble in now.troubles}
        over = time.monotonic() + PAUSE_SECONDS > client.deadline
        stuck = [
            trouble
            for trouble in now.troubles
            if over or trouble.lasting or time.monotonic() - since[trouble.words] > PATIENCE_SECONDS
        ]
        if stuck or over:
            raise _no_further(client, target, now, stuck)
        time.sleep(PAUSE_SECONDS)


def established(client: Client, names: Iterable[str]) -> None:
    """Wait until CustomResourceDefinitions are served. Raises StepError with the API server's words."""
    for name in names:
        target = Reference("CustomResourceDefinition", name)
        until(client, partial(_is_established, client, target), f"{target} is not served")


def gone(client: Client, target: Reference, uid: str) -> None:
    """Wait until the object of this UID is no more: finalizers take their time."""

    def is_gone() -> bool:
        live = client.find(target.path)
        return live is None or live["metadata"]["uid"] != uid

    until(client, is_gone, f"{target} is still being deleted")


def observed(client: Client, target: Reference) -> None:
    """Wait until the controller of a ReplicaSet has read its present spec, or until the ReplicaSet is deleted."""

    def is_observed() -> bool:
        live = client.find(target.path)
        if live is None:
            return True
        seen = (live.get("status") or {}).get("observedGeneration") or 0
        return bool(seen >= (live["metadata"].get("generation") or 0))

    until(client, is_observed, f"the controller of {target} does not see its new template")


def switched(client: Client, target: Reference, selector: dict[str, str], port: int | None) -> None:
    """Wait until the Service's EndpointSlices name only pods that the selector selects, at this port."""
    pods_path = KINDS["Pod"].collection(target.namespace)
    labels = ",".join(f"{key}={value}" for key, value in selector.items())

    def is_switched() -> bool:
        listed = client.list_all(pods_path, {"labelSelector": labels})["items"]
        pods = {pod["metadata"]["name"] for pod in listed if _has_address(pod)}
        path = SLICES.format(namespace=target.namespace)
        slices = client.list_all(path, {"labelSelector": f"kubernetes.io/service-name={target.name}"})[
            "items"
        ]
        named = {endpoint["targetRef"]["name"] for one in slices for endpoint in one.get("endpoints") or ()}
        ports = {
            entry.get("port") for one in slices if one.get("endpoints") for entry in one.get("ports") or ()
        }
        return named <= pods and bool(named) == bool(pods) and (port is None or ports <= {port})

    until(client, is_switched, f"the endpoints of {target} are not those of the new selector")


def _has_address(pod: dict[str, Any]) -> bool:
    """Whether it can be an endpoint: not yet without an address, no more once it has ended."""
    status = pod.get("status") or {}
    return bool(status.get("podIP")) and status.get("phase") in ("Pending", "Running")


def until(client: Client, condition: Callable[[], bool], otherwise: str) -> None:
    """Ask until it is true. Raises StepError at the deadline."""
    while not condition():
        if time.monotonic() + PAUSE_SECONDS > client.deadline:
            raise StepError(otherwise, remedy="See what its controller logs; run the task again")
        time.sleep(PAUSE_SECONDS / 4)


def _progress(client: Client, target: Reference) -> Progress:
    deployment = client.find(target.path)
    if deployment is None:
        raise StepError(f"there is no {target}", remedy="Plan again: somebody has deleted it")
    labels = deployment["spec"]["selector"].get("matchLabels") or {}
    query = {"labelSelector": ",".join(f"{key}={value}" for key, value in labels.items())}
    sets = client.list_all(KINDS["ReplicaSet"].collection(target.namespace), query)["items"]
    pods = client.list_all(KINDS["Pod"].collection(target.namespace), query)["items"]
    return progress(deployment, sets, pods)


def _no_further(client: Client, target: Reference, now: Progress, stuck: list[Trouble]) -> RolloutError:
    words = list(dict.fromkeys(trouble.words for trouble in stuck)) or [now.words]
    logs = [line for trouble in stuck[:2] if trouble.log for line in _log(client, target, *trouble.log)]
    error = RolloutError(
        f"{target} does not become available: {'; '.join([*words[:1], *logs[-LOG_LINES:]])}",
        evidence=[now.words, *words, *logs],
        remedy="Correct what the pods say, and run the task again",
    )
    error.values = {"log": logs}
    return error


def _log(client: Client, target: Reference, pod: str, container: str) -> list[str]:
    """The last lines of a container; of the one before it where it has just been started again."""
    path = f"{KINDS['Pod'].collection(target.namespace)}/{pod}/log"
    query = {"container": container, "tailLines": str(LOG_LINES)}
    for previous in ({"previous": "true"}, {}):
        try:
            text = client.text(path, {**query, **previous})
        except KubeError:
            continue
        return [f"it logs: {line[:300]}" for line in text.splitlines() if line.strip()]
    return []


def _is_established(client: Client, target: Reference) -> bool:
    crd = client.get(target.path)
    conditions = {entry["type"]: entry for entry in (crd.get("status") or {}).get("conditions") or ()}
    names = conditions.get("NamesAccepted") or {}
    if names.get("status") == "False":
        raise StepError(f"{target} is not served: {names.get('message')}")
    return (conditions.get("Established") or {}).get("status") == "True"
