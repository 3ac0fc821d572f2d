# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Find the programs of external-snapshotter, other containers and used Secrets in pod templates. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..kinds import CONTROLLER, CONTROLLER_NAME, CONVERSION, ORPHAN_LABEL, REGISTRY, SIDECAR, VALIDATION
from ..release.release_table import RELEASES, Version, parse

Object = Mapping[str, Any]

_NAMES = {
    "snapshot-controller": CONTROLLER,
    "snapshot-validation-webhook": VALIDATION,
    "snapshot-conversion-webhook": CONVERSION,
    "csi-snapshotter": SIDECAR,
}
# RKE2, Rancher and OpenShift put a prefix in front of the name of an image.
_PREFIXES = ("", "hardened-", "mirrored-sig-storage-", "csi-")
# The name of an image -> its program.
PROGRAMS = {f"{prefix}{name}": program for name, program in _NAMES.items() for prefix in _PREFIXES}
# Upstream's registries, with the path in front of the name. Manifests before 6.1 have the last two.
REGISTRIES = (REGISTRY, "k8s.gcr.io/sig-storage", "gcr.io/k8s-staging-sig-storage")
# Upstream's name of a Deployment -> its program.
DEPLOYMENTS = {
    CONTROLLER_NAME: CONTROLLER,
    **{release.webhook.deployment: release.webhook.kind for release in RELEASES if release.webhook},
}
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


def repository_of(image: str) -> tuple[str, str]:
    """Return the registry with its path, and the name of an image."""
    path, _slash, name = image.partition("@")[0].rpartition("/")
    return path, name.partition(":")[0]


def version_of(image: str) -> Version | None:
    """Return the release in an image's tag, None if the tag is not a release or the image has only a digest.

    There is no table of digests: a mirror may build or copy an image under another digest, and an upgrade with the option
    digests keeps the tag.
    """
    return parse(image.rpartition("/")[2].partition("@")[0].partition(":")[2])


def program_of(image: str) -> str:
    """Return the program of an image, "" for any other image.

    The end of the name is enough for a controller and a sidecar. The plan reports such a workload, or stops.
    """
    name = repository_of(image)[1]
    similar = next(
        (known for known in ("snapshot-controller", "csi-snapshotter") if name.endswith(known)), ""
    )
    return PROGRAMS.get(name) or PROGRAMS.get(similar, "")


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


def own_program(obj: Object, registry: str = REGISTRY) -> str:
    """Return the program of a workload that is proven to be the snapshot controller's or its webhook's, "" otherwise.

    The proof is upstream's name of the Deployment with an image of the program's exact name, or an image with upstream's path.

    registry: a mirror of upstream's registry.
    """
    program = only_program(obj)
    images = [repository_of(container.get("image", "")) for container in containers(obj)]
    named = DEPLOYMENTS.get(deployment_of(obj)) == program and all(name in PROGRAMS for _path, name in images)
    known = all(path in (*REGISTRIES, registry.rstrip("/")) and name in PROGRAMS for path, name in images)
    return program if named or known else ""


def deployment_of(obj: Object) -> str:
    """Return the name of a Deployment, also if the object is a ReplicaSet that it made."""
    metadata = obj["metadata"]
    labels = metadata.get("labels") or {}
    name: str = labels.get(ORPHAN_LABEL) or metadata["name"]
    return name.removesuffix(f"-{labels.get('pod-template-hash')}")


def others_beside(obj: Object, container: Object) -> tuple[str, ...]:
    """Return the names of the template's other containers."""
    return tuple(str(other.get("name", "?")) for other in containers(obj) if other is not container)


def references_of(node: Any) -> Iterator[str]:
    """Yield the names of all Secrets in the spec of a pod or an Ingress, and of the pod's ServiceAccount.

    The API calls a reference to a Secret secretName, imagePullSecrets, or an object with a name under a key with "secret", such
    as secretRef, secretKeyRef or nodePublishSecretRef.
    """
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key in ("secretName", "serviceAccountName", "serviceAccount") and isinstance(value, str):
                yield value
            elif "secret" in key.lower() and isinstance(value, Mapping) and value.get("name"):
                yield str(value["name"])
            elif key == "imagePullSecrets":
                yield from (str(secret.get("name")) for secret in value or ())
            yield from references_of(value)
    elif isinstance(node, (list, tuple)):
        for value in node:
            yield from references_of(value)


def users_of(
    namespace: str, name: str, objects: Mapping[str, Iterable[Object]], registry: str = REGISTRY
) -> tuple[tuple[str, str], ...]:
    """Return the users of a Secret or ServiceAccount as ("Kind namespace/name", program), with that of ``own_program``.

    objects: lists by their names in USERS, of any namespaces.
    """
    return tuple(
        (f"{kind} {namespace}/{obj['metadata']['name']}", own_program(obj, registry))
        for what, kind, _path in USERS
        for obj in objects.get(what, ())
        if obj["metadata"].get("namespace") == namespace and _counts(what, obj)
        if name in set(references_of(template_of(obj).get("spec")))
    )


def _counts(what: str, obj: Object) -> bool:
    """Return False for a pod that another object of USERS stands for, and for the history of a Deployment."""
    owners = {
        owner["kind"] for owner in obj["metadata"].get("ownerReferences") or () if owner.get("controller")
    }
    if what == "replicasets":
        return bool(obj["spec"].get("replicas", 1))
    return not (what == "pods" and owners & {"ReplicaSet", "StatefulSet", "DaemonSet", "Job"})
