# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Check that every pod of the controller runs the release, and that one of them leads.

The log of a pod shows its release. If the log cannot be read, the tag of the image shows it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from .._kube.errors import ApiError
from .._kube.lease_state import read_lease
from .._snapshot.installed.pod_specs import program_of
from .._snapshot.installed.state import CONTROLLER, LEASE
from .._snapshot.kinds import KINDS, Reference
from .._snapshot.release import flags
from .._snapshot.release.release_table import Version, parse, text
from .checks import FAILED, OK, UNPROVEN, CheckResult
from .steps.rollout_report import find_newest_pods, is_ready

if TYPE_CHECKING:
    from .._kube.client import Client

PAUSE_SECONDS = 1.0
# How much of a log's beginning is read. The version is in the first line or two.
LOG_BYTES = "8192"
# The first lines of its log: "Version: v8.1.0" to 8.2, "Version" version="v8.4.0" from 8.3 on (cmd/snapshot-controller/main.go).
_VERSION_LINE = re.compile(r"""\bVersion: (\S+)|"Version" version="([^"]+)\"""")


def release_in_log(log: str) -> Version | None:
    """Return the release in the first lines of a log, None if they do not contain it."""
    match = _VERSION_LINE.search(log)
    return parse(match[1] or match[2]) if match else None


def release_in_tag(image: str) -> Version | None:
    """Return the release in an image's tag, None if the tag is not a release or the image has only a digest."""
    return parse(image.rpartition("/")[2].partition("@")[0].partition(":")[2])


@dataclass(frozen=True)
class ControllerPod:
    """A pod that runs the controller.

    is_newest: True if it is of the Deployment's newest template.
    ends: True if it is being deleted.
    tag: the release in its image's tag, None if unknown.
    said: the release in its log, None if unknown.
    host: its name in the Lease.
    silence: why its log does not contain the release.
    """

    name: str
    image: str
    is_newest: bool = True
    is_ready: bool = True
    ends: bool = False
    tag: Version | None = None
    said: Version | None = None
    host: str = ""
    silence: str = ""


@dataclass(frozen=True)
class LeaderState:
    """The holder of the controller's Lease.

    wanted: True if the pods elect a leader.
    late: seconds since the Lease expired, negative if it has not expired.
    problem: why the Lease cannot be read, "" if it can.
    """

    wanted: bool = True
    holder: str = ""
    late: float = 0.0
    problem: str = ""

    @property
    def is_fresh(self) -> bool:
        return bool(self.holder) and self.late <= CLOCK_SECONDS


# The Date header has whole seconds.
CLOCK_SECONDS = 2.0


@dataclass(frozen=True)
class ControllerPods:
    """A Deployment, its pods, and other pods of the same program. replicas: the number that its spec requires."""

    deployment: str
    release: Version
    replicas: int
    pods: tuple[ControllerPod, ...]
    leader: LeaderState = field(default_factory=LeaderState)

    @property
    def newest(self) -> list[ControllerPod]:
        return [pod for pod in self.pods if pod.is_newest and not pod.ends]


def judge_pods(seen: ControllerPods) -> CheckResult:
    """Return the verdict of the first rule that applies, with the evidence of all pods."""
    found = next(verdict for rule in _RULES if (verdict := rule(seen)))
    return replace(found, evidence=tuple(_evidence(seen)))


def _other_release(seen: ControllerPods) -> CheckResult | None:
    """Find a pod of another release. Its log counts more than its image's tag, which may contain any release."""
    for pod in seen.newest:
        version = pod.said or pod.tag
        if version and version != seen.release:
            by = "logs the release" if pod.said else "has an image of release"
            summary = f"pod {pod.name} of {seen.deployment} {by} {text(version)}, not {text(seen.release)} ({pod.image})"
            remedy = (
                "Check which image the tag has in this registry, and pin the image by its digest (digests)"
            )
            return CheckResult(FAILED, summary, remedy=remedy, is_lasting=True)
    return None


def _not_ready(seen: ControllerPods) -> CheckResult | None:
    ready = [pod for pod in seen.newest if pod.is_ready]
    if ready and len(ready) >= seen.replicas:
        return None
    summary = (
        f"{len(ready)} of {seen.replicas} pods of {seen.deployment} are ready and of its newest template"
    )
    return CheckResult(
        FAILED,
        summary,
        remedy="Read the events and the logs of the pods that are not ready, and correct the cause",
    )


def _old_pods(seen: ControllerPods) -> CheckResult | None:
    old = [pod.name for pod in seen.pods if pod not in seen.newest]
    if not old:
        return None
    summary = f"other pods than those of {seen.deployment} run a snapshot controller: {', '.join(old)}"
    return CheckResult(
        FAILED,
        summary,
        remedy="Find the owner of these pods and delete it. Two controllers process the same snapshots",
    )


def _unknown_release(seen: ControllerPods) -> CheckResult | None:
    silent = next((pod for pod in seen.newest if not (pod.said or pod.tag)), None)
    if silent is None:
        return None
    summary = f"the release of pod {silent.name} is unknown: its image {silent.image} and its log do not show it ({silent.silence})"
    return CheckResult(
        UNPROVEN,
        summary,
        remedy="Grant the identity of this task the permission to read pods/log in the controller's namespace",
        is_lasting=True,
    )


def _no_leader(seen: ControllerPods) -> CheckResult | None:
    leader = seen.leader
    if not leader.wanted:
        return None
    if leader.problem:
        return CheckResult(
            UNPROVEN, f"the Lease of the controller cannot be read: {leader.problem}", is_lasting=True
        )
    if not leader.is_fresh:
        last = f" ({leader.holder} held it until {leader.late:.0f} s ago)" if leader.holder else ""
        remedy = "Read the messages about leader election in the logs of the pods"
        return CheckResult(FAILED, f"no pod of {seen.deployment} holds the Lease{last}", remedy=remedy)
    if leader.holder not in {pod.host for pod in seen.newest}:
        summary = f"the Lease is held by {leader.holder}, which is not a pod of {seen.deployment}"
        return CheckResult(FAILED, summary, remedy="Find the other controller and delete it")
    return None


def _every_pod_runs_it(seen: ControllerPods) -> CheckResult:
    how = (
        "according to their logs"
        if all(pod.said for pod in seen.newest)
        else "for some of them only according to the image tag"
    )
    leads = f", and {seen.leader.holder} leads" if seen.leader.wanted else ""
    return CheckResult(
        OK, f"all {len(seen.newest)} pods of {seen.deployment} run {text(seen.release)}, {how}{leads}"
    )


_RULES: tuple[Callable[[ControllerPods], CheckResult | None], ...] = (
    _other_release,
    _not_ready,
    _old_pods,
    _unknown_release,
    _no_leader,
    _every_pod_runs_it,
)


def _evidence(seen: ControllerPods) -> Iterator[str]:
    for pod in seen.pods:
        said = f"its log shows {text(pod.said)}" if pod.said else f"its log shows no release ({pod.silence})"
        state = "ending" if pod.ends else "ready" if pod.is_ready else "not ready"
        yield f"pod {pod.name}: {state}, {pod.image}, {said}{'' if pod.is_newest else ', not of the newest template'}"
    leader = seen.leader
    if not leader.wanted:
        yield "leader election is off"
    elif leader.holder:
        yield f"Lease: held by {leader.holder}" + ("" if leader.is_fresh else ", which does not renew it")


# Read the pods.


def check_version(client: Client, target: Reference, release: Version) -> CheckResult:
    """Check that every pod of a Deployment runs the release and one of them leads. Wait for both until the deadline."""
    logs: dict[str, tuple[Version | None, str]] = {}
    while True:
        seen = _running(client, target, release, logs)
        if seen is None:
            return CheckResult(
                FAILED,
                f"{target} does not exist",
                remedy="Find out what deleted it, and run the task again",
                is_lasting=True,
            )
        verdict = judge_pods(seen)
        over = time.monotonic() + PAUSE_SECONDS > client.deadline
        if verdict.verdict == OK or verdict.is_lasting or over:
            return verdict
        time.sleep(PAUSE_SECONDS)


def _running(
    client: Client, target: Reference, release: Version, logs: dict[str, tuple[Version | None, str]]
) -> ControllerPods | None:
    deployment = client.find(target.path)
    if deployment is None:
        return None
    namespace = target.namespace
    sets = client.list_all(KINDS["ReplicaSet"].collection(namespace))["items"]
    listed = client.list_all(KINDS["Pod"].collection(namespace))["items"]
    pods = controller_pods(listed)
    newest = find_newest_pods(deployment, sets, pods)
    every = tuple(
        _pod(client, pod, logs, is_newest=pod["metadata"]["uid"] in newest)
        for pod in sorted(pods, key=lambda one: str(one["metadata"]["name"]))
    )
    return ControllerPods(
        str(target), release, int(deployment["spec"].get("replicas", 1)), every, _leader(client, deployment)
    )


def _pod(
    client: Client, pod: Mapping[str, Any], logs: dict[str, tuple[Version | None, str]], *, is_newest: bool
) -> ControllerPod:
    metadata, spec, container = pod["metadata"], pod["spec"], _container(pod)
    key = f"{metadata['uid']} {_restarts(pod)}"
    ready = is_ready(pod)
    if is_newest and ready and (key not in logs or logs[key][0] is None):
        logs[key] = _log(client, pod, container["name"])
    said, silence = logs.get(key, (None, "the log was not read"))
    return ControllerPod(
        metadata["name"],
        container["image"],
        is_newest=is_newest,
        is_ready=ready,
        ends=bool(metadata.get("deletionTimestamp")),
        tag=release_in_tag(container["image"]),
        said=said,
        host=str(
            spec.get("nodeName") if spec.get("hostNetwork") else spec.get("hostname") or metadata["name"]
        ),
        silence=silence,
    )


def _log(client: Client, pod: Mapping[str, Any], container: str) -> tuple[Version | None, str]:
    """Return the release that a pod logs when it starts, or the reason why it is not known."""
    target = Reference("Pod", pod["metadata"]["name"], pod["metadata"]["namespace"])
    try:
        text = client.text(f"{target.path}/log", {"container": container, "limitBytes": LOG_BYTES})
    except ApiError as error:
        return None, error.message or error.cause
    return release_in_log(text), "the first lines do not contain it, or were rotated"


def _leader(client: Client, deployment: Mapping[str, Any]) -> LeaderState:
    """Return the holder of the Lease that the pods of this Deployment use."""
    container = _container({"spec": deployment["spec"]["template"]["spec"]})
    arguments = [*(container.get("command") or ())[1:], *(container.get("args") or ())]
    if (flags.value(arguments, "leader-election") or "false").lower() != "true":
        return LeaderState(wanted=False)
    namespace = flags.value(arguments, "leader-election-namespace") or deployment["metadata"]["namespace"]
    try:
        found = client.find(f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{LEASE}")
    except ApiError as error:
        return LeaderState(problem=error.message or error.cause)
    lease = read_lease(found or {})
    return LeaderState(holder=lease.holder, late=_late(client.now(), lease.until))


def _late(now: datetime, until: datetime | None) -> float:
    return (now - until).total_seconds() if until else float("inf")


def controller_pods(pods: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the pods that run the controller and have not ended."""
    return [pod for pod in pods if _container(pod) and not _is_over(pod)]


def _container(pod: Mapping[str, Any]) -> dict[str, Any]:
    """Return the controller's container of a pod, {} if it has none."""
    containers = pod["spec"].get("containers") or ()
    return next((one for one in containers if program_of(one.get("image", "")) == CONTROLLER), {})


def _is_over(pod: Mapping[str, Any]) -> bool:
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def _restarts(pod: Mapping[str, Any]) -> int:
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    return sum(int(one.get("restartCount") or 0) for one in statuses)
