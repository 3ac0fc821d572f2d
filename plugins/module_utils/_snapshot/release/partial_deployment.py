# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Merge the user's part of a Deployment into the Deployment of a release. Pure.

The result is that of the API server's strategic merge patch, except for the order of lists
(https://kubernetes.io/docs/tasks/manage-kubernetes-objects/update-api-object-kubectl-patch/). What the release owns is refused.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..._base.errors import CertflowError
from ..kinds import PORT_LABEL, RELEASE_LABEL

_POD = "spec.template.spec"
_CONTAINERS = (f"{_POD}.containers", f"{_POD}.initContainers")


def _paths(parts: Sequence[str], fields: str) -> list[str]:
    """Return the path of each field below each part. fields: paths with spaces between them."""
    return [f"{part}.{field}" for part in parts for field in fields.split()]


# Path of a list -> the fields that identify its items. Other lists are replaced.
# A strategic merge patch has no protocol in the key of ports, but server-side apply has, and the Deployment is applied by it.
KEYS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys((f"{_POD}.volumes", f"{_POD}.imagePullSecrets", *_CONTAINERS), ("name",)),
    **dict.fromkeys(_paths(_CONTAINERS, "env"), ("name",)),
    **dict.fromkeys(_paths(_CONTAINERS, "volumeMounts"), ("mountPath",)),
    **dict.fromkeys(_paths(_CONTAINERS, "ports"), ("containerPort", "protocol")),
}
_DEFAULTS = {"protocol": "TCP"}
_LABELS = ("metadata.labels", "spec.template.metadata.labels")
# A template of ansible-core before 2.19 returns a text. These are the paths of numbers and booleans.
_PROBES = _paths(_CONTAINERS, "livenessProbe readinessProbe startupProbe")
_INTEGERS = {
    *_paths(["spec"], "replicas minReadySeconds revisionHistoryLimit progressDeadlineSeconds"),
    *_paths(["spec.strategy.rollingUpdate"], "maxSurge maxUnavailable"),
    *_paths([_POD], "terminationGracePeriodSeconds securityContext.fsGroup tolerations.tolerationSeconds"),
    *_paths([_POD], "topologySpreadConstraints.maxSkew"),
    *_paths((_POD, *_CONTAINERS), "securityContext.runAsUser securityContext.runAsGroup"),
    *_paths(_CONTAINERS, "ports.containerPort ports.hostPort"),
    *_paths(_PROBES, "initialDelaySeconds periodSeconds timeoutSeconds failureThreshold successThreshold"),
    *_paths(_PROBES, "httpGet.port tcpSocket.port"),
}
_BOOLEANS = {
    f"{_POD}.hostNetwork",
    *_paths((_POD, *_CONTAINERS), "securityContext.runAsNonRoot"),
    *_paths(_CONTAINERS, "volumeMounts.readOnly securityContext.allowPrivilegeEscalation"),
    *_paths(_CONTAINERS, "securityContext.privileged securityContext.readOnlyRootFilesystem"),
}
# A leading zero may be an octal number, and ids of 64 bits have at most 19 digits.
_INTEGER = re.compile("0|[1-9][0-9]{0,18}")
_TRUTH = {"true": True, "True": True, "false": False, "False": False}
_TEXTS = (*_LABELS, "metadata.annotations", "spec.template.metadata.annotations")
_MAPPINGS = ("metadata", "spec", "spec.template", "spec.template.metadata", _POD, *_LABELS)
_AS_MANIFEST = "Write it as a manifest does"
# Part of the Deployment -> the fields that the user may set.
_FIELDS: Mapping[str, tuple[str, ...]] = {
    "": ("metadata", "spec"),
    "metadata": ("labels", "annotations"),
    "spec.template": ("metadata", "spec"),
    "spec.template.metadata": ("labels", "annotations"),
}
# Field that the release owns -> what to do instead. The containers are those of the release.
_OWNED: Mapping[str, str] = {
    "spec.selector": "Remove it",
    # The Deployment controller rolls out no new pods of a paused Deployment.
    "spec.paused": "Remove it",
    # The RBAC objects of the release bind its own account.
    f"{_POD}.serviceAccountName": "Remove it",
    f"{_POD}.serviceAccount": "Remove it",
    f"{_POD}.hostPID": "Remove it",
    f"{_POD}.hostIPC": "Remove it",
    f"spec.template.metadata.labels.{RELEASE_LABEL}": "Remove it",
    f"spec.template.metadata.labels.{PORT_LABEL}": "Remove it",
    f"{_POD}.containers.image": "Set image_registry or digests",
    f"{_POD}.containers.args": "Set controller_arguments or webhook_arguments",
    f"{_POD}.containers.command": "Set controller_arguments or webhook_arguments",
    # A container that runs as long as the pod makes later plans refuse the Deployment as one of another owner.
    f"{_POD}.initContainers.restartPolicy": "Remove it",
}
# Lists of the release that null would remove.
_KEPT = (f"{_POD}.containers", f"{_POD}.containers.volumeMounts", f"{_POD}.volumes")
_OWNED_BY_OPTION: Mapping[str, Mapping[str, str]] = {
    "controller": _OWNED,
    "webhook": {**_OWNED, f"{_POD}.hostNetwork": "Set webhook_host_network"},
}

Object = Mapping[str, Any]


def check(option: str, partial: Object) -> None:
    """Raise CertflowError if a partial Deployment touches what every release owns, or has a wrong form. option: its name."""
    for above, name, value in _walk(partial):
        _refuse_owned(option, above, name, value)
        problem = _form_problem(above, name, value)
        if problem:
            raise _refusal(option, f"has a value for {_below(above, name)} that is {problem}", _AS_MANIFEST)


def _refuse_owned(option: str, above: str, name: str, value: Any) -> None:
    path, owned = _below(above, name), _OWNED_BY_OPTION[option]
    if path in owned:
        raise _refusal(option, f"has the field {path}, which the release owns", owned[path])
    if path in _KEPT and value is None:
        raise _refusal(option, f"removes {path}, which the release owns", "Leave it out")
    if above in _FIELDS and name not in _FIELDS[above]:
        fields = f"The fields of {above or 'the Deployment'} are {' and '.join(_FIELDS[above])}"
        raise _refusal(option, f"has the field {path}, which cannot be set", fields)
    if name.startswith("$"):
        raise _refusal(option, f"has the directive {path}", "Set a field to null to remove it")


def _form_problem(above: str, name: str, value: Any) -> str:
    """Return the form that the value of a field lacks, "" if it has it."""
    path = _below(above, name)
    rows = (
        (path in _MAPPINGS, isinstance(value, Mapping), "not a dictionary"),
        (path in _TEXTS, value is None or isinstance(value, Mapping), "not a dictionary"),
        (path in KEYS, _is_list_of_mappings(value), "not a list of dictionaries"),
        (above in _TEXTS, value is None or isinstance(value, str), "not a text"),
        (
            name in KEYS.get(above, ()),
            value is None or isinstance(value, (str, int)),
            "neither a text nor a number",
        ),
    )
    return next((problem for applies, is_valid, problem in rows if applies and not is_valid), "")


def merged(option: str, base: Object, partial: Object) -> dict[str, Any]:
    """Return the Deployment of a release with the user's part. Raises CertflowError.

    An entry of ``containers`` without a name is the container of the release, because its name differs between webhooks.
    """
    partial = _typed(partial)
    template = (partial.get("spec") or {}).get("template") or {}
    pods, labels = template.get("spec") or {}, (template.get("metadata") or {}).get("labels") or {}
    selected = sorted(labels.keys() & base["spec"]["selector"]["matchLabels"].keys())
    if selected:
        raise _refusal(
            option, f"has the label {selected[0]} of the pods, which the selector needs", "Remove it"
        )
    base_pods = base["spec"]["template"]["spec"]
    (container,) = base_pods["containers"]
    own = container["name"]
    containers = [{"name": own, **container} for container in pods.get("containers") or ()]
    others = [container["name"] for container in containers if container["name"] != own]
    if others:
        raise _refusal(
            option, f"names the container {others[0]}", f"The only container is {own}. Remove the others"
        )
    _refuse_volumes(option, base_pods, {**pods, "containers": containers})
    if containers:
        template = {**template, "spec": {**pods, "containers": containers}}
        partial = {**partial, "spec": {**partial["spec"], "template": template}}
    return {**_merge(base, partial)}


def _refuse_volumes(option: str, base: Object, pods: Object) -> None:
    """Raise CertflowError if the user's part changes a volume or a mount of the release, such as that of the certificate."""
    names = {volume["name"] for volume in base.get("volumes") or ()}
    for volume in pods.get("volumes") or ():
        if volume.get("name") in names:
            problem = f"has the volume {volume['name']} of the pods, which the release owns"
            raise _refusal(option, problem, "Give your volume another name")
    (container,) = base["containers"]
    owned = [_absolute(mount["mountPath"]) for mount in container.get("volumeMounts") or ()]
    for entry in pods["containers"]:
        for mount in entry.get("volumeMounts") or ():
            path = _absolute(str(mount.get("mountPath")))
            if any(path == own or path.startswith(f"{own}/") for own in owned):
                problem = f"has a volumeMount at {mount['mountPath']}, which the release owns"
                raise _refusal(option, problem, "Mount your volume at another path")


def _absolute(path: str) -> str:
    """Return the path that kubelet mounts. It takes a relative path as one below the root."""
    return posixpath.normpath("/" + path.lstrip("/"))


def _typed(value: Any, path: str = "") -> Any:
    """Return the value with numbers and booleans for the texts of them, at the paths that have such a type."""
    if isinstance(value, Mapping):
        return {key: _typed(below, _below(path, key)) for key, below in value.items()}
    if isinstance(value, list):
        return [_typed(item, path) for item in value]
    if path in _INTEGERS and isinstance(value, str) and _INTEGER.fullmatch(value):
        return int(value)
    return _TRUTH.get(value, value) if path in _BOOLEANS and isinstance(value, str) else value


def _merge(base: Any, partial: Any, path: str = "") -> Any:
    """Return the value with the changes. None removes a field. path: of the value, without indexes."""
    if isinstance(partial, Mapping):
        result = dict(base) if isinstance(base, Mapping) else {}
        for key, value in partial.items():
            if value is None:
                result.pop(key, None)
            else:
                result[key] = _merge(result.get(key), value, _below(path, key))
        return result
    if path in KEYS and isinstance(partial, list):
        items = {_identity(item, KEYS[path]): item for item in base or ()}
        for item in partial:
            identity = _identity(item, KEYS[path])
            items[identity] = _merge(items.get(identity), item, path)
        return list(items.values())
    return partial


def _identity(item: Object, keys: Sequence[str]) -> tuple[Any, ...]:
    return tuple(item.get(key, _DEFAULTS.get(key)) for key in keys)


def _walk(value: Any, path: str = "") -> Iterator[tuple[str, str, Any]]:
    """Yield the path of the parent, the name and the value of every field. The path has no indexes."""
    if isinstance(value, Mapping):
        for key, below in value.items():
            yield path, str(key), below
            yield from () if key == "nodeSelector" else _walk(below, _below(path, key))
    elif isinstance(value, list):
        for item in value:
            yield from _walk(item, path)


def _below(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)


def _is_list_of_mappings(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(isinstance(item, Mapping) for item in value))


def _refusal(option: str, problem: str, remedy: str) -> CertflowError:
    return CertflowError(f"the option {option} {problem}", remedy=remedy)
