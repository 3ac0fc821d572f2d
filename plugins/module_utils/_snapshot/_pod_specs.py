# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Pod templates: which programs of external-snapshotter they run, which other containers, and which Secrets they use. Pure.

These are the positive marks by which an upgrade tells the snapshot controller's objects from those of other programs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ._installed import CONTROLLER, CONVERSION, SIDECAR, VALIDATION

Object = Mapping[str, Any]

# How an image's name ends, and which program it is. Rebuilt ones put something before it (hardened-snapshot-controller).
PROGRAMS = (
    ("snapshot-controller", CONTROLLER),
    ("snapshot-validation-webhook", VALIDATION),
    ("snapshot-conversion-webhook", CONVERSION),
    ("csi-snapshotter", SIDECAR),
)
# Workloads that run a program all the time, by the name of their list.
WORKLOADS: Mapping[str, str] = {
    "deployments": "Deployment",
    "statefulsets": "StatefulSet",
    "daemonsets": "DaemonSet",
}
# What may use a Secret of a namespace: the name of the list, the kind, and the path of the list. A pod is listed too, because
# a controller that is not in this table makes pods as well.
USERS: tuple[tuple[str, str, str], ...] = (
    *((what, kind, f"/apis/apps/v1/namespaces/{{}}/{what}") for what, kind in WORKLOADS.items()),
    ("replicasets", "ReplicaSet", "/apis/apps/v1/namespaces/{}/replicasets"),
    ("jobs", "Job", "/apis/batch/v1/namespaces/{}/jobs"),
    ("cronjobs", "CronJob", "/apis/batch/v1/namespaces/{}/cronjobs"),
    ("pods", "Pod", "/api/v1/namespaces/{}/pods"),
    ("ingresses", "Ingress", "/apis/networking.k8s.io/v1/namespaces/{}/ingresses"),
)
# Lists without which it is not known who uses a Secret. An Ingress of a webhook's Secret is improbable, so its list may be denied.
NEEDED_USERS = tuple(what for what, _kind, _path in USERS if what != "ingresses")


def program_of(image: str) -> str:
    """Return the program that an image holds, "" for any other image."""
    name = image.rpartition("/")[2].partition("@")[0].partition(":")[0]
    return next((program for ending, program in PROGRAMS if name.endswith(ending)), "")


def template_of(obj: Object) -> Object:
    """Return the pod template of a workload; a pod is its own template, and a CronJob's is its Job's."""
    spec: Object = obj.get("spec") or {}
    spec = (spec.get("jobTemplate") or {}).get("spec") or spec
    return spec.get("template") or obj


def containers(obj: Object) -> list[Object]:
    """Return the containers of a workload's template that run as long as the pod, native sidecars among them."""
    pod: Object = template_of(obj).get("spec") or {}
    sidecars = [one for one in pod.get("initContainers") or () if one.get("restartPolicy") == "Always"]
    return [*(pod.get("containers") or ()), *sidecars]


def only_program(obj: Object) -> str:
    """Return the program that every container of the template runs, "" if there is another container."""
    found = {program_of(one.get("image", "")) for one in containers(obj)}
    return found.pop() if len(found) == 1 else ""


def others_beside(obj: Object, container: Object) -> tuple[str, ...]:
    """Return the names of the template's other containers."""
    return tuple(str(one.get("name", "?")) for one in containers(obj) if one is not container)


def secrets_of(node: Any) -> Iterator[str]:
    """Return the names of all Secrets that a pod's or an Ingress' spec names.

    Every reference of the API is called secretName, imagePullSecrets, or something with "secret" that has a name
    (secret, secretRef, secretKeyRef, nodePublishSecretRef).
    """
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key == "secretName" and isinstance(value, str):
                yield value
            elif "secret" in key.lower() and isinstance(value, Mapping) and value.get("name"):
                yield str(value["name"])
            elif key == "imagePullSecrets":
                yield from (str(one.get("name")) for one in value or ())
            yield from secrets_of(value)
    elif isinstance(node, (list, tuple)):
        for value in node:
            yield from secrets_of(value)


def users_of(
    namespace: str, secret: str, objects: Mapping[str, Iterable[Object]]
) -> tuple[tuple[str, str], ...]:
    """Return what uses the Secret: ("Kind namespace/name", program), the program as of ``only_program``.

    objects: lists by their names in USERS, of any namespaces.
    """
    return tuple(
        (f"{kind} {namespace}/{obj['metadata']['name']}", only_program(obj))
        for what, kind, _path in USERS
        for obj in objects.get(what, ())
        if obj["metadata"].get("namespace") == namespace and _counts(what, obj)
        if secret in set(secrets_of(template_of(obj).get("spec")))
    )


def _counts(what: str, obj: Object) -> bool:
    """Return False for what another object of USERS stands for, and for the history of a Deployment."""
    owners = {one["kind"] for one in obj["metadata"].get("ownerReferences") or () if one.get("controller")}
    if what == "replicasets":
        return bool(obj["spec"].get("replicas", 1))
    return not (what == "pods" and owners & {"ReplicaSet", "StatefulSet", "DaemonSet", "Job"})
