# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""What runs a webhook: how its pods see the Secret, how a change reaches them sooner, and its restart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from .._kube import json_patch
from .._kube.access_review import Permission
from .._kube.errors import ApiError
from .._kube.update_object import retry_on_conflict
from .._times import format_time

if TYPE_CHECKING:
    from .._kube.client import Client
    from .admission_call import ProbeObject

RESOURCES = {"Deployment": "deployments", "DaemonSet": "daemonsets", "StatefulSet": "statefulsets"}
# What `kubectl rollout restart` writes, so that those who ignore its writes in a template ignore ours as well.
RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"
TOUCHED = "certflow.kubernetes/certificate"
RESTART_ATTEMPTS = 2


@dataclass(frozen=True)
class WebhookWorkload:
    """kind: a key of RESOURCES."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"

    @property
    def path(self) -> str:
        return f"/apis/apps/v1/namespaces/{self.namespace}/{RESOURCES[self.kind]}/{self.name}"

    @property
    def permissions(self) -> list[Permission]:
        """What a restart needs."""
        return [
            Permission(verb, "apps", RESOURCES[self.kind], self.namespace, self.name)
            for verb in ("get", "patch")
        ]


@dataclass(frozen=True)
class ServingOptions:
    """How a certificate comes into use. workload: what serves it, None where nobody said. on_stale: "fail" or "restart".

    timeout: seconds for the endpoints to serve it, and as many again after a restart. wait: whether to wait at all.
    probe: the object to ask the webhook with afterwards, None for no probe.
    """

    workload: WebhookWorkload | None = None
    on_stale: str = "fail"
    timeout: int = 120
    wait: bool = True
    probe: ProbeObject | None = None

    @property
    def permissions(self) -> list[Permission]:
        """What a restart would need; nothing where none is asked for."""
        return self.workload.permissions if self.workload and self.on_stale == "restart" else []


def restart(client: Client, workload: WebhookWorkload, now: datetime) -> None:
    """Let its pods be replaced by its own strategy, as `kubectl rollout restart` does. Raises KubeError."""
    stamp = format_time(now)

    def read() -> Mapping[str, Any]:
        return client.get(workload.path)

    def write(obj: Mapping[str, Any]) -> None:
        client.patch(workload.path, _annotate(obj, "/spec/template", RESTARTED_AT, stamp))

    retry_on_conflict(read(), write, read, attempts=RESTART_ATTEMPTS)


def touch(client: Client, pod: Mapping[str, Any], serial: str) -> bool:
    """Write an annotation, upon which the kubelet brings the pod's volumes up to date at once, not within minutes.

    Returns False where this identity may not, a policy refuses, or the pod is gone: then it takes the time it takes.
    """
    metadata = pod["metadata"]
    path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
    try:
        client.patch(path, _annotate(pod, "", TOUCHED, serial))
    except ApiError:
        return False
    return True


def is_frozen(pod: Mapping[str, Any], secret: str) -> bool:
    """Whether no change of the Secret reaches the pod while it lives, so that waiting is in vain.

    It is not where one container has a mount that changes, or where no volume holds the Secret: a program may read it
    from the API server.
    """
    volumes, containers = _mounts(pod, secret)
    mounts = [mount for container in containers for mount in container.get("volumeMounts") or ()]
    changes = any(mount["name"] in volumes and not _is_part(mount) for mount in mounts)
    return not changes and any(any(_frozen(container, volumes, secret)) for container in containers)


def dead_ends(pod: Mapping[str, Any], secret: str) -> tuple[str, ...]:
    """Why a change of the Secret may never reach the pod while it lives, for people; empty where nothing speaks for it."""
    volumes, containers = _mounts(pod, secret)
    found = tuple(text for container in containers for text in _frozen(container, volumes, secret))
    return found if volumes or found else (f"no volume of the pod holds Secret {secret}",)


def _mounts(pod: Mapping[str, Any], secret: str) -> tuple[set[str], list[Mapping[str, Any]]]:
    """The names of the volumes that hold the Secret, and all containers."""
    spec = pod["spec"]
    volumes = {volume["name"] for volume in spec.get("volumes") or () if _holds(volume, secret)}
    return volumes, [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]


def _is_part(mount: Mapping[str, Any]) -> bool:
    return bool(mount.get("subPath") or mount.get("subPathExpr"))


def _holds(volume: Mapping[str, Any], secret: str) -> bool:
    sources = (volume.get("projected") or {}).get("sources") or ()
    names = [(source.get("secret") or {}).get("name") for source in sources]
    return secret in ((volume.get("secret") or {}).get("secretName"), *names)


def _frozen(container: Mapping[str, Any], volumes: set[str], secret: str) -> Iterator[str]:
    """https://kubernetes.io/docs/concepts/configuration/secret/: both are set once, when the container starts."""
    where = f"container {container['name']}"
    for mount in container.get("volumeMounts") or ():
        if mount["name"] in volumes and _is_part(mount):
            yield f"{where} mounts Secret {secret} by subPath, which is never updated"
    references = [
        *(((entry.get("valueFrom") or {}).get("secretKeyRef") or {}) for entry in container.get("env") or ()),
        *((entry.get("secretRef") or {}) for entry in container.get("envFrom") or ()),
    ]
    if any(reference.get("name") == secret for reference in references):
        yield f"{where} reads Secret {secret} into its environment, which is never updated"


def _annotate(obj: Mapping[str, Any], place: str, key: str, value: str) -> list[dict[str, Any]]:
    """JSON patch for an annotation at ``place`` ("" or a path to a template).

    Where there are none yet, all of them are written, so only over the object as it was read.
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
