# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Run the checks of checks on a cluster. Test objects are deleted again, also those that a killed run has left."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from .._kube import lease
from .._kube.errors import AlreadyExists, ApiError, KubeError, NotFound
from .._snapshot.installed.pod_specs import program_of
from .._snapshot.installed.state import CONTROLLER, LEASE
from .._snapshot.kinds import KINDS, Reference
from .._snapshot.release import flags
from .._snapshot.release.release_table import GROUP, SNAPSHOT, Version
from . import checks
from .checks import LABEL, UNTIL, Leader, Pod, Running, Verdict, Work
from .steps.rollout_report import is_ready, newest_pods

if TYPE_CHECKING:
    from .._kube.client import Client

PAUSE_SECONDS = 1.0
# How much of a log's beginning is read: the version is in the first line or two.
LOG_BYTES = "8192"
CLEANING_SECONDS = 20.0
_STAMP = "%Y-%m-%dT%H:%M:%SZ"
CLASSES = f"/apis/{SNAPSHOT}/v1/volumesnapshotclasses"
GROUP_CRD = Reference("CustomResourceDefinition", f"volumegroupsnapshots.{GROUP}")


class Traces:
    """The test objects of a run, and their removal.

    They do not count as changes, because the run deletes them before it ends. Each has a label with the id of the run, and an
    annotation with the time after which the run has ended.
    """

    def __init__(self, client: Client, token: str) -> None:
        self._client = client
        self.token = token
        self._made: list[str] = []
        self._collections: set[str] = set()

    @property
    def metadata(self) -> dict[str, Any]:
        """Return the label and the annotation of every test object."""
        left = max(0.0, self._client.deadline - time.monotonic()) + CLEANING_SECONDS
        until = self._client.now() + timedelta(seconds=left)
        return {
            "labels": {LABEL: self.token},
            "annotations": {UNTIL: until.strftime(_STAMP)},
        }

    def create(self, collection: str, manifest: Mapping[str, Any]) -> str:
        """Create the object and return its path. Raises KubeError."""
        path = f"{collection}/{manifest['metadata']['name']}"
        self._collections.add(collection)
        self._made.append(path)  # before it is sent: the answer may get lost
        try:
            self._client.send("POST", collection, manifest)
        except AlreadyExists:  # sent again after a lost answer: only this run uses this name
            pass
        except ApiError as error:
            if error.status is not None and error.status < 500:
                self._made.remove(path)
            raise
        return path

    def remove(self) -> list[str]:
        """Delete the objects of this run and of killed runs. Return a line for each object that is left."""
        client = self._client
        client.deadline = max(client.deadline, time.monotonic() + CLEANING_SECONDS)
        stays = [words for words in map(self._delete, self._made) if words]
        for collection in sorted(self._collections):
            for path in self._leftovers(collection):
                self._delete(path)
        self._made.clear()
        return stays

    def _leftovers(self, collection: str) -> list[str]:
        """Return test objects of earlier runs. Ignore listing errors, because those objects belong to another run."""
        try:
            items = self._client.list_all(collection, {"labelSelector": LABEL})["items"]
        except KubeError:
            return []
        now = self._client.now().strftime(_STAMP)
        return [
            f"{collection}/{item['metadata']['name']}"
            for item in items
            if (item["metadata"].get("annotations") or {}).get(UNTIL, "") < now
        ]

    def _delete(self, path: str) -> str:
        body = {"kind": "DeleteOptions", "apiVersion": "v1"}
        try:
            self._client.send("DELETE", path, body)
        except NotFound:
            return ""
        except KubeError as error:
            return f"the test object {path} could not be deleted: {error.cause}"
        return ""


def default_driver(client: Client) -> str:
    """Return a driver with a default class, "" if there is none or the classes cannot be listed."""
    try:
        return checks.default_driver(client.list_all(CLASSES)["items"])
    except ApiError:
        return ""


def make_default_class(traces: Traces) -> str:
    """Create a default class of a driver that does not exist, and return that driver. Raises KubeError."""
    driver = f"{traces.token}.{checks.DRIVER}"
    manifest = checks.default_class(driver, name=f"{checks.NAME}-{traces.token}", **traces.metadata)
    del manifest["metadata"]["generateName"]
    traces.create(CLASSES, manifest)
    return driver


def schema(client: Client, namespace: str) -> Verdict:
    """Check that the rules of the CustomResourceDefinitions refuse invalid objects."""
    answers = [(rule.message, _said(client, rule.manifest(namespace))) for rule in checks.RULES]
    return checks.judge_rules(answers)


def controller(client: Client, traces: Traces, namespace: str) -> Verdict:
    """Check that a controller processes a VolumeSnapshot. Raises ApiError if it cannot be created."""
    return _worked_on(client, traces, checks.work(namespace, traces.token, traces.metadata), namespace)


def groups(client: Client, traces: Traces, namespace: str) -> Verdict:
    """Check that a controller processes a VolumeGroupSnapshot. Raises ApiError if it cannot be created."""
    crd = client.find(GROUP_CRD.path)
    if crd is None:
        return Verdict(
            checks.FAILED,
            f"{GROUP_CRD} does not exist",
            remedy="Apply the group CustomResourceDefinitions, and restart the controller",
            is_lasting=True,
        )
    version = next(entry["name"] for entry in crd["spec"]["versions"] if entry["storage"])
    work = checks.group_work(namespace, version, traces.token, traces.metadata)
    return _worked_on(client, traces, work, namespace)


def _worked_on(client: Client, traces: Traces, work: Work, namespace: str) -> Verdict:
    path = traces.create(work.collection, work.manifest)
    said = ""
    while not said:
        said = checks.said_of(client.find(path), work.absent)
        if said or time.monotonic() + PAUSE_SECONDS > client.deadline:
            break
        time.sleep(PAUSE_SECONDS)
    return checks.judge_work(work, said, [] if said else _controllers(client, namespace))


def _controllers(client: Client, namespace: str) -> list[str]:
    """Return a line for each controller pod of a namespace."""
    try:
        pods = client.list_all(KINDS["Pod"].collection(namespace))["items"]
    except KubeError as error:
        return [f"the pods of the namespace {namespace} cannot be read: {error.cause}"]
    found = [pod for pod in pods if _container(pod)]
    return [
        f"pod {pod['metadata']['name']} {'ready' if is_ready(pod) else 'not ready'}"
        for pod in found
        if not _is_over(pod)
    ]


def version(client: Client, target: Reference, release: Version) -> Verdict:
    """Check that every pod of a Deployment runs the release and one of them leads. Wait for both until the deadline."""
    logs: dict[str, tuple[Version | None, str]] = {}
    while True:
        seen = _running(client, target, release, logs)
        if seen is None:
            return Verdict(
                checks.FAILED,
                f"{target} does not exist",
                remedy="Find out what deleted it, and run the task again",
                is_lasting=True,
            )
        verdict = checks.judge_version(seen)
        over = time.monotonic() + PAUSE_SECONDS > client.deadline
        if verdict.verdict == checks.OK or verdict.is_lasting or over:
            return verdict
        time.sleep(PAUSE_SECONDS)


def _running(
    client: Client, target: Reference, release: Version, logs: dict[str, tuple[Version | None, str]]
) -> Running | None:
    deployment = client.find(target.path)
    if deployment is None:
        return None
    namespace = target.namespace
    sets = client.list_all(KINDS["ReplicaSet"].collection(namespace))["items"]
    listed = client.list_all(KINDS["Pod"].collection(namespace))["items"]
    pods = [pod for pod in listed if _container(pod) and not _is_over(pod)]
    newest = newest_pods(deployment, sets, pods)
    every = tuple(
        _pod(client, pod, logs, is_newest=pod["metadata"]["uid"] in newest)
        for pod in sorted(pods, key=lambda one: str(one["metadata"]["name"]))
    )
    return Running(
        str(target), release, int(deployment["spec"].get("replicas", 1)), every, _leader(client, deployment)
    )


def _pod(
    client: Client, pod: Mapping[str, Any], logs: dict[str, tuple[Version | None, str]], *, is_newest: bool
) -> Pod:
    metadata, spec, container = pod["metadata"], pod["spec"], _container(pod)
    key = f"{metadata['uid']} {_restarts(pod)}"
    ready = is_ready(pod)
    if is_newest and ready and (key not in logs or logs[key][0] is None):
        logs[key] = _log(client, pod, container["name"])
    said, silence = logs.get(key, (None, "the log was not read"))
    return Pod(
        metadata["name"],
        container["image"],
        is_newest=is_newest,
        is_ready=ready,
        ends=bool(metadata.get("deletionTimestamp")),
        tag=checks.tag_of(container["image"]),
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
    return checks.said_by(text), "the first lines do not contain it, or were rotated"


def _leader(client: Client, deployment: Mapping[str, Any]) -> Leader:
    """Return the holder of the Lease that the pods of this Deployment use."""
    container = _container({"spec": deployment["spec"]["template"]["spec"]})
    arguments = [*(container.get("command") or ())[1:], *(container.get("args") or ())]
    if (flags.value(arguments, "leader-election") or "false").lower() != "true":
        return Leader(wanted=False)
    namespace = flags.value(arguments, "leader-election-namespace") or deployment["metadata"]["namespace"]
    try:
        found = client.find(f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{LEASE}")
    except ApiError as error:
        return Leader(problem=error.message or error.cause)
    terms = lease.terms(found or {})
    return Leader(holder=terms.holder, late=_late(client.now(), terms.until))


def _late(now: datetime, until: datetime | None) -> float:
    return (now - until).total_seconds() if until else float("inf")


def _said(client: Client, manifest: Mapping[str, Any]) -> str:
    """Return the refusal of a dry run, "" if the API server accepts it."""
    plural = f"{manifest['kind'].lower()}s"
    place = manifest["metadata"].get("namespace")
    path = f"/apis/{manifest['apiVersion']}/{f'namespaces/{place}/' if place else ''}{plural}"
    try:
        client.create(path, manifest, dry_run=True)
    except ApiError as error:
        return error.message or error.cause
    return ""


def _container(pod: Mapping[str, Any]) -> dict[str, Any]:
    """Return the controller's container of a pod, {} if it has none."""
    containers = pod["spec"].get("containers") or ()
    return next((one for one in containers if program_of(one.get("image", "")) == CONTROLLER), {})


def _is_over(pod: Mapping[str, Any]) -> bool:
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def _restarts(pod: Mapping[str, Any]) -> int:
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    return sum(int(one.get("restartCount") or 0) for one in statuses)
