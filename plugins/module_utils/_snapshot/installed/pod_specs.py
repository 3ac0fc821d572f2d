# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Find the programs of external-snapshotter, other containers and used Secrets in pod templates. Pure.

These are the positive marks by which an upgrade recognises the objects of the snapshot controller.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .state import CONTROLLER, CONVERSION, SIDECAR, VALIDATION

Object = Mapping[str, Any]

# The end of an image's name -> its program. Rebuilt images have a prefix (hardened-snapshot-controller).
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
# The possible users of a Secret: the name of the list, the kind, and the path of the list. Pods are in the table because
# controllers outside this table make pods too.
USERS: tuple[tuple[str, str, str], ...] = (
    *((what, kind, f"/apis/apps/v1/namespaces/{{}}/{what}") for what, kind in WORKLOADS.items()),
    ("replicasets", "ReplicaSet", "/apis/apps/v1/namespaces/{}/replicasets"),
    ("jobs", "Job", "/apis/batch/v1/namespaces/{}/jobs"),
    ("cronjobs", "CronJob", "/apis/batch/v1/namespaces/{}/cronjobs"),
    ("pods", "Pod", "/api/v1/namespaces/{}/pods"),
    ("ingresses", "Ingress", "/apis/networking.k8s.io/v1/namespaces/{}/ingresses"),
)
# The lists that are required to know the users of a Secret. An Ingress hardly uses a webhook's Secret, so its list is optional.
NEEDED_USERS = tuple(what for what, _kind, _path in USERS if what != "ingresses")


def program_of(image: str) -> str:
    """Return the program that an image holds, "" for any other image."""
    name = image.rpartition("/")[2].partition("@")[0].partition(":")[0]
    return next((program for ending, program in PROGRAMS if name.endswith(ending)), "")


def template_of(obj: Object) -> Object:
    """Return the pod template of a workload. A pod is its own template, and a CronJob has the template of its Job."""
    spec: Object = obj.get("spec") or {}
    spec = (spec.get("jobTemplate") or {}).get("spec") or spec
    return spec.get("template") or obj


def containers(obj: Object) -> list[Object]:
    """Return the containers of a workload's template that run as long as the pod, including native sidecars."""
    pod: Object = template_of(obj).get("spec") or {}
    sidecars = [
        container
        for container in pod.get("initContainers") or ()
        if container.get("restartPolicy") == "Always"
    ]
    return [*(pod.get("containers") or ()), *sidecars]


def only_program(obj: Object) -> str:
    """Return the program that every container of the template runs, "" if they differ."""
    found = {program_of(container.get("image", "")) for container in containers(obj)}
    return found.pop() if len(found) == 1 else ""


def others_beside(obj: Object, container: Object) -> tuple[str, ...]:
    """Return the names of the template's other containers."""
    return tuple(str(other.get("name", "?")) for other in containers(obj) if other is not container)


def secrets_of(node: Any) -> Iterator[str]:
    """Yield the names of all Secrets in the spec of a pod or an Ingress.

    The API calls such a reference secretName, imagePullSecrets, or an object with a name under a key with "secret", such
    as secretRef, secretKeyRef or nodePublishSecretRef.
    """
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key == "secretName" and isinstance(value, str):
                yield value
            elif "secret" in key.lower() and isinstance(value, Mapping) and value.get("name"):
                yield str(value["name"])
            elif key == "imagePullSecrets":
                yield from (str(secret.get("name")) for secret in value or ())
            yield from secrets_of(value)
    elif isinstance(node, (list, tuple)):
        for value in node:
            yield from secrets_of(value)


def users_of(
    namespace: str, secret: str, objects: Mapping[str, Iterable[Object]]
) -> tuple[tuple[str, str], ...]:
    """Return the users of the Secret as ("Kind namespace/name", program), with the program of ``only_program``.

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
    """Return False for a pod that another object of USERS stands for, and for the history of a Deployment."""
    owners = {
        owner["kind"] for owner in obj["metadata"].get("ownerReferences") or () if owner.get("controller")
    }
    if what == "replicasets":
        return bool(obj["spec"].get("replicas", 1))
    return not (what == "pods" and owners & {"ReplicaSet", "StatefulSet", "DaemonSet", "Job"})
