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

from .._kube import object_state
from .._kube.errors import ApiError
from .._kube.lease_state import read_lease
from .._snapshot.installed.pod_specs import program_of, version_of
from .._snapshot.installed.state import LEASE
from .._snapshot.kinds import CONTROLLER, KINDS, Reference
from .._snapshot.release import flags
from .._snapshot.release.release_table import Version, parse, text
from .release_checks import FAILED, OK, UNPROVEN, CheckResult
from .steps.rollout_report import DeploymentPods

if TYPE_CHECKING:
    from .._kube.client import Client

PAUSE_SECONDS = 1.0
# The Date header has whole seconds.
CLOCK_SECONDS = 2.0
# How much of a log's beginning is read. The version is in the first line or two.
LOG_BYTES = "8192"
# The first lines of its log: "Version: v8.1.0" to 8.2, "Version" version="v8.4.0" from 8.3 on (cmd/snapshot-controller/main.go).
_VERSION_LINE = re.compile(r"""\bVersion: (\S+)|"Version" version="([^"]+)\"""")


def release_in_log(log: str) -> Version | None:
    """Return the release in the first lines of a log, None if they do not contain it."""
    match = _VERSION_LINE.search(log)
    return parse(match[1] or match[2]) if match else None


@dataclass(frozen=True)
class ControllerPod:
    """A pod that runs the controller.

    name: the name of the pod.
    image: the image of its container.
    is_newest: True if it is of the Deployment's newest template.
    is_ready: True if its condition Ready is true.
    is_ending: True if it is being deleted.
    tag: the release in its image's tag, None if unknown.
    logged: the release in its log, None if unknown.
    host: its name in the Lease.
    log_problem: why its log does not contain the release.
    """

    name: str
    image: str
    is_newest: bool = True
    is_ready: bool = True
    is_ending: bool = False
    tag: Version | None = None
    logged: Version | None = None
    host: str = ""
    log_problem: str = ""


@dataclass(frozen=True)
class LeaderState:
    """The holder of the controller's Lease.

    is_elected: True if the pods elect a leader.
    holder: the name of the pod that holds it, "" if no pod does.
    seconds_expired: seconds since the Lease expired, negative if it has not expired.
    problem: why the Lease cannot be read, "" if it can.
    """

    is_elected: bool = True
    holder: str = ""
    seconds_expired: float = 0.0
    problem: str = ""

    @property
    def is_fresh(self) -> bool:
        return bool(self.holder) and self.seconds_expired <= CLOCK_SECONDS


@dataclass(frozen=True)
class ControllerPods:
    """A Deployment, its pods, and other pods of the same program.

    deployment: the Deployment in words.
    release: the release that its pods must run.
    replicas: the number of pods that its spec requires.
    pods: all pods of the program in the namespace.
    leader: the holder of the Lease.
    """

    deployment: str
    release: Version
    replicas: int
    pods: tuple[ControllerPod, ...]
    leader: LeaderState = field(default_factory=LeaderState)

    @property
    def newest(self) -> list[ControllerPod]:
        return [pod for pod in self.pods if pod.is_newest and not pod.is_ending]


def judge_pods(running: ControllerPods) -> CheckResult:
    """Return the result of the first rule that applies, with the evidence of all pods."""
    verdict = next(result for rule in _RULES if (result := rule(running)))
    return replace(verdict, evidence=tuple(_evidence(running)))


def _other_release(running: ControllerPods) -> CheckResult | None:
    """Find a pod of another release. Its log counts more than its image's tag, which may contain any release."""
    for pod in running.newest:
        version = pod.logged or pod.tag
        if version and version != running.release:
            by = "logs the release" if pod.logged else "has an image of release"
            summary = f"pod {pod.name} of {running.deployment} {by} {text(version)}, not {text(running.release)} ({pod.image})"
            remedy = (
                "Check which image the tag has in this registry, and pin the image by its digest (digests)"
            )
            return CheckResult(FAILED, summary, remedy=remedy, is_lasting=True)
    return None


def _not_ready(running: ControllerPods) -> CheckResult | None:
    ready = [pod for pod in running.newest if pod.is_ready]
    if ready and len(ready) >= running.replicas:
        return None
    summary = f"{len(ready)} of {running.replicas} pods of {running.deployment} are ready and of its newest template"
    return CheckResult(
        FAILED,
        summary,
        remedy="Read the events and the logs of the pods that are not ready, and correct the cause",
    )


def _old_pods(running: ControllerPods) -> CheckResult | None:
    old = [pod.name for pod in running.pods if pod not in running.newest]
    if not old:
        return None
    summary = f"other pods than those of {running.deployment} run a snapshot controller: {', '.join(old)}"
    return CheckResult(
        FAILED,
        summary,
        remedy="Find the owner of these pods and delete it. Two controllers process the same snapshots",
    )


def _unknown_release(running: ControllerPods) -> CheckResult | None:
    silent = next((pod for pod in running.newest if not (pod.logged or pod.tag)), None)
    if silent is None:
        return None
    summary = f"the release of pod {silent.name} is unknown: its image {silent.image} and its log do not show it ({silent.log_problem})"
    return CheckResult(
        UNPROVEN,
        summary,
        remedy="Grant the identity of this task the permission to read pods/log in the controller's namespace",
        is_lasting=True,
    )


def _no_leader(running: ControllerPods) -> CheckResult | None:
    leader = running.leader
    if not leader.is_elected:
        return None
    if leader.problem:
        return CheckResult(
            UNPROVEN, f"the Lease of the controller cannot be read: {leader.problem}", is_lasting=True
        )
    if not leader.is_fresh:
        last = f" ({leader.holder} held it until {leader.seconds_expired:.0f} s ago)" if leader.holder else ""
        remedy = "Read the messages about leader election in the logs of the pods"
        return CheckResult(FAILED, f"no pod of {running.deployment} holds the Lease{last}", remedy=remedy)
    if leader.holder not in {pod.host for pod in running.newest}:
        summary = f"the Lease is held by {leader.holder}, which is not a pod of {running.deployment}"
        return CheckResult(FAILED, summary, remedy="Find the other controller and delete it")
    return None


def _every_pod_runs_it(running: ControllerPods) -> CheckResult:
    how = (
        "according to their logs"
        if all(pod.logged for pod in running.newest)
        else "for some of them only according to the image tag"
    )
    leads = f", and {running.leader.holder} leads" if running.leader.is_elected else ""
    return CheckResult(
        OK,
        f"all {len(running.newest)} pods of {running.deployment} run {text(running.release)}, {how}{leads}",
    )


_RULES: tuple[Callable[[ControllerPods], CheckResult | None], ...] = (
    _other_release,
    _not_ready,
    _old_pods,
    _unknown_release,
    _no_leader,
    _every_pod_runs_it,
)


def _evidence(running: ControllerPods) -> Iterator[str]:
    for pod in running.pods:
        logged = (
            f"its log shows {text(pod.logged)}"
            if pod.logged
            else f"its log shows no release ({pod.log_problem})"
        )
        condition = "ending" if pod.is_ending else "ready" if pod.is_ready else "not ready"
        yield f"pod {pod.name}: {condition}, {pod.image}, {logged}{'' if pod.is_newest else ', not of the newest template'}"
    leader = running.leader
    if not leader.is_elected:
        yield "leader election is off"
    elif leader.holder:
        yield f"Lease: held by {leader.holder}" + ("" if leader.is_fresh else ", which does not renew it")


# Read the pods.


def check_version(client: Client, target: Reference, release: Version) -> CheckResult:
    """Check that every pod of a Deployment runs the release and one of them leads. Wait for both until the deadline."""
    logs: dict[str, tuple[Version | None, str]] = {}
    while True:
        running = _read_pods(client, target, release, logs)
        if running is None:
            return CheckResult(
                FAILED,
                f"{target} does not exist",
                remedy="Find out what deleted it, and run the task again",
                is_lasting=True,
            )
        result = judge_pods(running)
        over = time.monotonic() + PAUSE_SECONDS > client.deadline
        if result.verdict == OK or result.is_lasting or over:
            return result
        time.sleep(PAUSE_SECONDS)


def _read_pods(
    client: Client, target: Reference, release: Version, logs: dict[str, tuple[Version | None, str]]
) -> ControllerPods | None:
    deployment = client.find(target.path)
    if deployment is None:
        return None
    namespace = target.namespace
    sets = client.list_all(KINDS["ReplicaSet"].collection(namespace))["items"]
    listed = client.list_all(KINDS["Pod"].collection(namespace))["items"]
    pods = controller_pods(listed)
    newest = DeploymentPods(deployment, sets, pods).newest
    every = tuple(
        _read_pod(client, pod, logs, is_newest=pod in newest)
        for pod in sorted(pods, key=lambda pod: str(pod["metadata"]["name"]))
    )
    return ControllerPods(
        str(target),
        release,
        int(deployment["spec"].get("replicas", 1)),
        every,
        _read_leader(client, deployment),
    )


def _read_pod(
    client: Client, pod: Mapping[str, Any], logs: dict[str, tuple[Version | None, str]], *, is_newest: bool
) -> ControllerPod:
    metadata, spec, container = pod["metadata"], pod["spec"], _container(pod)
    key = f"{metadata['uid']} {object_state.restarts(pod)}"
    ready = object_state.is_true(pod, "Ready")
    if is_newest and ready and (key not in logs or logs[key][0] is None):
        logs[key] = _read_release(client, pod, container["name"])
    logged, log_problem = logs.get(key, (None, "the log was not read"))
    return ControllerPod(
        metadata["name"],
        container["image"],
        is_newest=is_newest,
        is_ready=ready,
        is_ending=object_state.is_ending(pod),
        tag=version_of(container["image"]),
        logged=logged,
        host=str(
            spec.get("nodeName") if spec.get("hostNetwork") else spec.get("hostname") or metadata["name"]
        ),
        log_problem=log_problem,
    )


def _read_release(client: Client, pod: Mapping[str, Any], container: str) -> tuple[Version | None, str]:
    """Return the release that a pod logs when it starts, or the reason why it is not known."""
    target = Reference("Pod", pod["metadata"]["name"], pod["metadata"]["namespace"])
    try:
        text = client.text(f"{target.path}/log", {"container": container, "limitBytes": LOG_BYTES})
    except ApiError as error:
        return None, error.message or error.cause
    return release_in_log(text), "the first lines do not contain it, or were rotated"


def _read_leader(client: Client, deployment: Mapping[str, Any]) -> LeaderState:
    """Return the holder of the Lease that the pods of this Deployment use."""
    container = _container({"spec": deployment["spec"]["template"]["spec"]})
    arguments = [*(container.get("command") or ())[1:], *(container.get("args") or ())]
    if (flags.value(arguments, "leader-election") or "false").lower() != "true":
        return LeaderState(is_elected=False)
    namespace = flags.value(arguments, "leader-election-namespace") or deployment["metadata"]["namespace"]
    try:
        live = client.find(f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{LEASE}")
    except ApiError as error:
        return LeaderState(problem=error.message or error.cause)
    lease = read_lease(live or {})
    return LeaderState(holder=lease.holder, seconds_expired=_seconds_expired(client.now(), lease.until))


def _seconds_expired(now: datetime, until: datetime | None) -> float:
    return (now - until).total_seconds() if until else float("inf")


def controller_pods(pods: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the pods that run the controller and have not ended."""
    return [pod for pod in pods if _container(pod) and not object_state.has_ended(pod)]


def _container(pod: Mapping[str, Any]) -> dict[str, Any]:
    """Return the controller's container of a pod, {} if it has none."""
    containers = pod["spec"].get("containers") or ()
    return next(
        (container for container in containers if program_of(container.get("image", "")) == CONTROLLER), {}
    )
