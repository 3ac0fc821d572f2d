# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The workload of a webhook: how its pods read the Secret, how they get a change sooner, and how it is restarted.

A restart is that of `kubectl rollout restart`. It needs a complete rollout, and a strategy that keeps one of the `spec.replicas` pods.
So repeated runs never stop one pod after the other. The user may accept the downtime of a workload.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Callable

from .._base.accept import DOWNTIME, Consent
from .._base.errors import CertflowError
from .._base.owners import accept_option
from .._base.times import format_time
from .._kube import json_patch, object_state
from .._kube.access_review import Permission
from .._kube.client import Client
from .._kube.errors import ApiError
from .._kube.json_patch import retry_on_conflict
from .bundles.bundle_targets import Object
from .probe.probe_calls import ProbeObject

RESOURCES = {"Deployment": "deployments", "DaemonSet": "daemonsets", "StatefulSet": "statefulsets"}
# The annotation of `kubectl rollout restart`. Tools that ignore it in a template ignore ours too.
RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"
TOUCHED = "certflow.kubernetes/certificate"
RESTART_ATTEMPTS = 3


@dataclass(frozen=True)
class WebhookWorkload:
    """A workload whose pods serve a webhook. kind: a key of RESOURCES."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"

    @property
    def path(self) -> str:
        return f"/apis/apps/v1/namespaces/{self.namespace}/{RESOURCES[self.kind]}/{self.name}"

    def as_result(self) -> dict[str, str]:
        """Return the workload as results show it."""
        return {"kind": self.kind, "namespace": self.namespace, "name": self.name}

    @property
    def permissions(self) -> list[Permission]:
        """Return the permissions for a restart."""
        return [
            Permission(verb, "apps", RESOURCES[self.kind], self.namespace, self.name)
            for verb in ("get", "patch")
        ]


@dataclass(frozen=True)
class ServingOptions:
    """How a run makes sure that the endpoints serve a new certificate."""

    #: The workload that serves it, None if the task names none.
    workload: WebhookWorkload | None = None
    #: "fail" or "restart".
    on_stale: str = "fail"
    #: Seconds for the endpoints to serve the certificate, and again after a restart.
    timeout: int = 120
    wait: bool = True
    #: The object with which the webhook is probed afterwards, None for no probe.
    probe: ProbeObject | None = None

    @property
    def permissions(self) -> list[Permission]:
        """The permissions that a restart of the named workload needs. Without one, the run finds the workload first."""
        return self.workload.permissions if self.workload and self.on_stale == "restart" else []

    @property
    def finds_workload(self) -> bool:
        """True if the run has to find the workload that it restarts."""
        return self.on_stale == "restart" and self.workload is None


def list_permissions(namespace: str) -> list[Permission]:
    """Return the permissions that finding a workload needs."""
    return [Permission("list", "apps", resource, namespace) for resource in RESOURCES.values()]


def find_candidates(
    client: Client, namespace: str, secret: str, selector: Mapping[str, str] | None
) -> tuple[WebhookWorkload, ...]:
    """Return the workloads of the namespace whose pods use the Secret.

    selector: of the Service. Only workloads whose pods it selects count. None or empty for every workload.

    Raises KubeError.
    """
    candidates = []
    for kind, resource in RESOURCES.items():
        listed = client.list_all(f"/apis/apps/v1/namespaces/{namespace}/{resource}")["items"]
        candidates += [
            WebhookWorkload(kind, namespace, obj["metadata"]["name"])
            for obj in listed
            if _serves(obj["spec"]["template"], secret, selector or {})
        ]
    return tuple(candidates)


def _serves(template: Mapping[str, Any], secret: str, selector: Mapping[str, str]) -> bool:
    labels = (template.get("metadata") or {}).get("labels") or {}
    return selector.items() <= labels.items() and uses(template, secret)


def uses(pod: Mapping[str, Any], secret: str) -> bool:
    """Return True if a pod or a template mounts a Secret, or has a part of it in its environment."""
    volumes, containers = _mounts(pod, secret)
    return bool(volumes) or any(any(_frozen(container, volumes, secret)) for container in containers)


def touch(client: Client, pod: Mapping[str, Any], serial: str) -> bool:
    """Write an annotation to the pod, so that the kubelet updates its volumes at once instead of within minutes.

    Return False if the API server refuses the write. The kubelet then updates the volumes at its own time.
    """
    metadata = pod["metadata"]
    path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
    try:
        client.patch(path, annotate(pod, "", TOUCHED, serial))
    except ApiError:
        return False
    return True


def is_frozen(pod: Mapping[str, Any], secret: str) -> bool:
    """Return True if no change of the Secret can reach the running pod, so that a run need not wait.

    Return False if one container has a mount that is updated, or if no container uses the Secret: the program may read it from
    the API server.
    """
    volumes, containers = _mounts(pod, secret)
    mounts = [mount for container in containers for mount in container.get("volumeMounts") or ()]
    changes = any(mount["name"] in volumes and not _is_part(mount) for mount in mounts)
    return not changes and any(any(_frozen(container, volumes, secret)) for container in containers)


def dead_ends(pod: Mapping[str, Any], secret: str) -> tuple[str, ...]:
    """Return the reasons why a change of the Secret may never reach the running pod, as sentences."""
    volumes, containers = _mounts(pod, secret)
    texts = tuple(text for container in containers for text in _frozen(container, volumes, secret))
    return texts if volumes or texts else (f"no volume of the pod holds Secret {secret}",)


def _mounts(pod: Mapping[str, Any], secret: str) -> tuple[set[str], list[Mapping[str, Any]]]:
    """Return the names of the volumes that hold the Secret, and all containers."""
    spec = pod["spec"]
    volumes = {volume["name"] for volume in spec.get("volumes") or () if secret in secrets_of(volume)}
    return volumes, [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]


def _is_part(mount: Mapping[str, Any]) -> bool:
    return bool(mount.get("subPath") or mount.get("subPathExpr"))


def secrets_of(volume: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the Secrets that a volume holds."""
    sources = (volume.get("projected") or {}).get("sources") or ()
    names = [(source.get("secret") or {}).get("name") for source in sources]
    return tuple(filter(None, ((volume.get("secret") or {}).get("secretName"), *names)))


def _frozen(container: Mapping[str, Any], volumes: set[str], secret: str) -> Iterator[str]:
    """Yield the uses of the Secret that are set once, when the container starts.

    Source: https://kubernetes.io/docs/concepts/configuration/secret/.
    """
    where = f"container {container['name']}"
    yield from (
        f"{where} mounts Secret {secret} by subPath, which is never updated"
        for mount in container.get("volumeMounts") or ()
        if mount["name"] in volumes and _is_part(mount)
    )
    references = [
        *(((entry.get("valueFrom") or {}).get("secretKeyRef") or {}) for entry in container.get("env") or ()),
        *((entry.get("secretRef") or {}) for entry in container.get("envFrom") or ()),
    ]
    if any(reference.get("name") == secret for reference in references):
        yield f"{where} reads Secret {secret} into its environment, which is never updated"


def annotate(obj: Mapping[str, Any], place: str, key: str, value: str) -> list[dict[str, Any]]:
    """Return the JSON patch for an annotation at ``place`` ("" or a path to a template).

    If the object has no annotations yet, the patch writes all of them, so it also names the resourceVersion that was read.
    """
    part: Mapping[str, Any] = obj
    for name in filter(None, place.split("/")):
        part = part[name]
    metadata, where = part.get("metadata"), f"{place}/metadata/annotations"
    if (metadata or {}).get("annotations") is not None:
        return [json_patch.add(f"{where}/{json_patch.escape(key)}", value)]
    missing = [] if metadata is not None else [json_patch.add(f"{place}/metadata", {})]
    lock = json_patch.at_version(obj["metadata"]["resourceVersion"])
    return [lock, *missing, json_patch.add(where, {key: value})]


class RestartError(CertflowError):
    """A restart of the workload may leave no pod that answers."""

    code = "no-pod-left"


@dataclass(frozen=True)
class _Rollouts:
    """How one kind of workload replaces its pods. Sources: pkg/controller/deployment/util, daemon/util, statefulset of Kubernetes."""

    #: The field of the spec with the strategy.
    strategy: str
    #: The fields of the status with the numbers of pods: wanted, of the newest template, available, all.
    wanted: str
    updated: str
    available: str
    total: str
    #: The defaults of maxUnavailable and maxSurge.
    unavailable: Any
    surge: Any
    #: Rounds a percentage of maxUnavailable.
    rounded: Callable[[float], int] = math.floor


_COUNTS = ("updatedReplicas", "availableReplicas", "replicas")
_NUMBERS = ("desiredNumberScheduled", "updatedNumberScheduled", "numberAvailable", "currentNumberScheduled")
_KINDS = {
    "Deployment": _Rollouts("strategy", "", *_COUNTS, unavailable="25%", surge="25%"),
    "StatefulSet": _Rollouts("updateStrategy", "", *_COUNTS, unavailable=1, surge=0),
    "DaemonSet": _Rollouts("updateStrategy", *_NUMBERS, unavailable=1, surge=0, rounded=math.ceil),
}


def find_obstacle(
    workload: WebhookWorkload, obj: Object, consent: Consent, ends: datetime | None = None
) -> RestartError | None:
    """Return why the workload must not be restarted now, None if it may be. Pure.

    ends: when the certificate ends that the pods serve, None if that is not known.
    """
    rollouts, spec, status = _KINDS[workload.kind], obj["spec"], obj.get("status") or {}
    until = f". The certificate that its pods serve ends at {format_time(ends)}" if ends else ""
    held = _held(spec, spec.get(rollouts.strategy) or {})
    if held:
        return RestartError(
            f"{workload} does not replace its pods by itself, because {held}{until}",
            remedy="Replace the pods by hand, one by one, or let the workload replace them",
            code="rollout-held",
        )
    wanted = int((status.get(rollouts.wanted) or 0) if rollouts.wanted else spec.get("replicas", 1))
    counts = [int(status.get(key) or 0) for key in (rollouts.updated, rollouts.available, rollouts.total)]
    if not object_state.is_observed(obj) or counts != [wanted] * 3:
        return RestartError(
            f"the last rollout of {workload} is not complete: {counts[0]} of {wanted} pods are of the newest template, "
            f"{counts[1]} are available, and {counts[2]} exist{until}",
            remedy="Find out why its pods do not become available, and run the task again after the rollout",
            code="rollout-incomplete",
        )
    if consent.covers(DOWNTIME, workload) or _keeps_pod(rollouts, spec.get(rollouts.strategy) or {}, wanted):
        return None
    kind = (spec.get(rollouts.strategy) or {}).get("type") or "RollingUpdate"
    return RestartError(
        f"a restart of {workload} may leave no pod that answers (replicas: {wanted}, strategy: {kind}){until}",
        remedy="Run two or more replicas with a rolling update that keeps one of them, or restart it in a maintenance window with "
        + accept_option([DOWNTIME], workload),
    )


def _held(spec: Object, strategy: Object) -> str:
    """Return why a change of the template replaces no pod, or not every pod, "" if it replaces them."""
    partition = int((strategy.get("rollingUpdate") or {}).get("partition") or 0)
    reasons = {
        "it is paused": spec.get("paused"),
        "its updateStrategy is OnDelete": strategy.get("type") == "OnDelete",
        f"its updateStrategy has the partition {partition}": partition,
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def _keeps_pod(rollouts: _Rollouts, strategy: Object, wanted: int) -> bool:
    """Return True if a rollout stops fewer pods than there are before their successors are available.

    A single pod does not count: its successor may count as available before it answers.
    """
    rolling = strategy.get("rollingUpdate") or {}
    left = _part(rolling.get("maxUnavailable", rollouts.unavailable), wanted, rollouts.rounded)
    more = _part(rolling.get("maxSurge", rollouts.surge), wanted, math.ceil)
    stopped = left if left or more else 1
    return strategy.get("type") != "Recreate" and wanted > 1 and stopped < wanted


def _part(value: Any, whole: int, rounded: Callable[[float], int]) -> int:
    text = str(value)
    return int(rounded(int(text[:-1]) * whole / 100)) if text.endswith("%") else int(text)


def restart(
    client: Client,
    workload: WebhookWorkload,
    consent: Consent,
    *,
    ends: datetime | None = None,
    dry_run: bool = False,
) -> None:
    """Change the annotation of the pod template, if the workload may be restarted as it is at the write.

    Raises RestartError, KubeError.
    """
    stamp = format_time(client.now())

    def read() -> Object:
        return client.get(workload.path)

    def write(obj: Object) -> None:
        obstacle = find_obstacle(workload, obj, consent, ends)
        if obstacle:
            raise obstacle
        lock = json_patch.at_version(obj["metadata"]["resourceVersion"])
        operations = [lock, *annotate(obj, "/spec/template", RESTARTED_AT, stamp)]
        client.patch(workload.path, operations, dry_run=dry_run)

    retry_on_conflict(read(), write, read, attempts=RESTART_ATTEMPTS)
