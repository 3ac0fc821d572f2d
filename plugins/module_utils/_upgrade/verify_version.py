# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Check that every pod of the controller runs the release.

The log of a pod shows its release. If the log cannot be read, the tag of the image shows it. Whether one of the pods leads is shown
by the check of the controller, which no pod without the Lease can pass.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .._kube import object_state
from .._kube.errors import ApiError
from .._snapshot.installed.pod_specs import program_of, version_of
from .._snapshot.kinds import CONTROLLER, KINDS, Reference
from .._snapshot.release.release_table import Version, parse, text
from .release_checks import FAILED, OK, UNPROVEN, CheckResult
from .steps.rollout_report import DeploymentPods, rollout_progress

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


@dataclass(frozen=True)
class ControllerPod:
    """A pod of the newest template that runs the controller.

    name: the name of the pod.
    image: the image of its container.
    logged: the release in its log, None if unknown.
    log_problem: why its log does not contain the release.
    """

    name: str
    image: str
    logged: Version | None = None
    log_problem: str = ""

    @property
    def release(self) -> Version | None:
        """Return its release. The log counts more than the image's tag, which may be that of any release."""
        return self.logged or version_of(self.image)

    @property
    def words(self) -> str:
        """Return a line for the evidence."""
        shown = text(self.logged) if self.logged else f"no release ({self.log_problem})"
        return f"pod {self.name}: {self.image}, its log shows {shown}"


def judge_rollout(target: Reference, seen: DeploymentPods) -> CheckResult | None:
    """Return the result if other pods run the controller too, or if not every pod is available. None if the rollout is complete."""
    progress, newest = rollout_progress(seen), controller_pods(seen.newest)
    if not (progress.is_complete and newest):
        ready = sum(object_state.is_true(pod, "Ready") for pod in newest)
        wanted = seen.deployment["spec"].get("replicas", 1)
        return CheckResult(
            FAILED,
            f"{ready} of {wanted} pods of {target} are ready and of its newest template",
            (progress.words,),
            "Read the events and the logs of the pods that are not ready, and correct the cause",
        )
    others = [
        str(pod["metadata"]["name"])
        for pod in controller_pods(seen.pods)
        if pod not in newest or object_state.is_ending(pod)
    ]
    if not others:
        return None
    return CheckResult(
        FAILED,
        f"other pods than those of {target} run a snapshot controller: {', '.join(others)}",
        remedy="Find the owner of these pods and delete it. Two controllers process the same snapshots",
    )


def judge_releases(target: Reference, release: Version, pods: Sequence[ControllerPod]) -> CheckResult:
    """Judge the releases of all pods of a complete rollout."""
    evidence = tuple(pod.words for pod in pods)
    wrong = next((pod for pod in pods if pod.release not in (None, release)), None)
    if wrong:
        by = "logs the release" if wrong.logged else "has an image of release"
        return CheckResult(
            FAILED,
            f"pod {wrong.name} of {target} {by} {text(wrong.release or release)}, not {text(release)} ({wrong.image})",
            evidence,
            "Check which image the tag has in this registry, and pin the image by its digest (digests)",
            is_lasting=True,
        )
    silent = next((pod for pod in pods if not pod.release), None)
    if silent:
        return CheckResult(
            UNPROVEN,
            f"the release of pod {silent.name} is unknown: its image {silent.image} and its log do not show it ({silent.log_problem})",
            evidence,
            "Grant the identity of this task the permission to read pods/log in the controller's namespace",
            is_lasting=True,
        )
    is_logged = all(pod.logged for pod in pods)
    how = "according to their logs" if is_logged else "for some of them only according to the image tag"
    return CheckResult(OK, f"all {len(pods)} pods of {target} run {text(release)}, {how}", evidence)


# Read the pods.


def check_version(client: Client, target: Reference, release: Version) -> CheckResult:
    """Check that every pod of a Deployment runs the release. Wait until its rollout is complete, or until the deadline."""
    while True:
        deployment = client.find(target.path)
        if deployment is None:
            remedy = "Find out what deleted it, and run the task again"
            return CheckResult(FAILED, f"{target} does not exist", remedy=remedy, is_lasting=True)
        collections = [KINDS[kind].collection(target.namespace) for kind in ("ReplicaSet", "Pod")]
        sets, pods = (client.list_all(collection)["items"] for collection in collections)
        seen = DeploymentPods(deployment, sets, pods)
        unfinished = judge_rollout(target, seen)
        if unfinished is None:
            newest = sorted(controller_pods(seen.newest), key=lambda pod: str(pod["metadata"]["name"]))
            return judge_releases(target, release, [_read_pod(client, pod) for pod in newest])
        if time.monotonic() + PAUSE_SECONDS > client.deadline:
            return unfinished
        time.sleep(PAUSE_SECONDS)


def _read_pod(client: Client, pod: Mapping[str, Any]) -> ControllerPod:
    """Return the pod with the release that it logs when it starts, or with the reason why that is not known."""
    target = Reference("Pod", pod["metadata"]["name"], pod["metadata"]["namespace"])
    container = _container(pod)
    query = {"container": container["name"], "limitBytes": LOG_BYTES}
    try:
        logged, problem = release_in_log(client.text(f"{target.path}/log", query)), "its first lines lack it"
    except ApiError as error:
        logged, problem = None, error.message or error.cause
    return ControllerPod(target.name, container["image"], logged, problem)


def controller_pods(pods: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the pods that run the controller and have not ended."""
    return [pod for pod in pods if _container(pod) and not object_state.has_ended(pod)]


def _container(pod: Mapping[str, Any]) -> dict[str, Any]:
    """Return the controller's container of a pod, {} if it has none."""
    containers = pod["spec"].get("containers") or ()
    return next(
        (container for container in containers if program_of(container.get("image", "")) == CONTROLLER), {}
    )
