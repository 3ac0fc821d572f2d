# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Merge the user's part of a Deployment into the Deployment of a release. Pure.

The result is that of the API server's strategic merge patch, except for the order of lists
(https://kubernetes.io/docs/tasks/manage-kubernetes-objects/update-api-object-kubectl-patch/). What the release owns is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..._errors import CertflowError
from ..labels import PORT_LABEL, RELEASE_LABEL

# List -> the fields that identify its items. Other lists are replaced.
# A strategic merge patch has no protocol in the key of ports, but server-side apply has, and the Deployment is applied by it.
KEYS: Mapping[str, tuple[str, ...]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "env": ("name",),
    "volumes": ("name",),
    "imagePullSecrets": ("name",),
    "volumeMounts": ("mountPath",),
    "ports": ("containerPort", "protocol"),
}
_DEFAULTS = {"protocol": "TCP"}
_POD = "spec.template.spec"
_LABELS = ("metadata.labels", "spec.template.metadata.labels")
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
    f"spec.template.metadata.labels.{RELEASE_LABEL}": "Remove it",
    f"spec.template.metadata.labels.{PORT_LABEL}": "Remove it",
    f"{_POD}.containers.image": "Set image_registry or digests",
    f"{_POD}.containers.args": "Set controller_arguments or webhook_arguments",
    f"{_POD}.containers.command": "Set controller_arguments or webhook_arguments",
    # A container that runs as long as the pod makes later plans refuse the Deployment as one of another owner.
    f"{_POD}.initContainers.restartPolicy": "Remove it",
}
_OWNED_BY_OPTION: Mapping[str, Mapping[str, str]] = {
    "controller": _OWNED,
    "webhook": {**_OWNED, f"{_POD}.hostNetwork": "Set webhook_host_network"},
}

Object = Mapping[str, Any]


def check(option: str, partial: Object) -> None:
    """Raise CertflowError if a partial Deployment touches what every release owns, or has a wrong form. option: its name."""
    owned = _OWNED_BY_OPTION[option]
    for path, value in _walk(partial):
        above, _dot, name = path.rpartition(".")
        if path in owned:
            raise _refusal(option, f"has the field {path}, which the release owns", owned[path])
        if above in _FIELDS and name not in _FIELDS[above]:
            fields = f"The fields of {above or 'the Deployment'} are {' and '.join(_FIELDS[above])}"
            raise _refusal(option, f"has the field {path}, which cannot be set", fields)
        if name.startswith("$"):
            raise _refusal(option, f"has the directive {path}", "Set a field to null to remove it")
        if path in _MAPPINGS and not isinstance(value, Mapping):
            raise _refusal(option, f"has a value for {path} that is not a dictionary", _AS_MANIFEST)
        if above.startswith(_POD) and name in KEYS and not _is_list_of_mappings(value):
            raise _refusal(option, f"has a value for {path} that is not a list of dictionaries", _AS_MANIFEST)


def merged(option: str, base: Object, partial: Object) -> dict[str, Any]:
    """Return the Deployment of a release with the user's part. Raises CertflowError.

    An entry of ``containers`` without a name is the container of the release, because its name differs between webhooks.
    """
    template = _at(partial, "spec.template") or {}
    pods, labels = template.get("spec") or {}, (template.get("metadata") or {}).get("labels") or {}
    selected = sorted(labels.keys() & base["spec"]["selector"]["matchLabels"].keys())
    if selected:
        raise _refusal(
            option, f"has the label {selected[0]} of the pods, which the selector needs", "Remove it"
        )
    (own,) = (container["name"] for container in base["spec"]["template"]["spec"]["containers"])
    containers = [{"name": own, **container} for container in pods.get("containers") or ()]
    others = [container["name"] for container in containers if container["name"] != own]
    if others:
        raise _refusal(
            option, f"names the container {others[0]}", f"The only container is {own}. Remove the others"
        )
    if containers:
        template = {**template, "spec": {**pods, "containers": containers}}
        partial = {**partial, "spec": {**partial["spec"], "template": template}}
    result: dict[str, Any] = _merge(base, partial)
    return result


def _merge(base: Any, partial: Any, name: str = "") -> Any:
    """Return the value with the changes. None removes a field. name: the field that holds the value."""
    if isinstance(partial, Mapping):
        result = dict(base) if isinstance(base, Mapping) else {}
        for key, value in partial.items():
            if value is None:
                result.pop(key, None)
            else:
                result[key] = _merge(result.get(key), value, key)
        return result
    if name in KEYS and isinstance(partial, list):
        items = {_identity(item, KEYS[name]): item for item in base or ()}
        for item in partial:
            identity = _identity(item, KEYS[name])
            items[identity] = _merge(items.get(identity), item)
        return list(items.values())
    return partial


def _identity(item: Object, keys: Sequence[str]) -> tuple[Any, ...]:
    return tuple(item.get(key, _DEFAULTS.get(key)) for key in keys)


def _walk(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the path and the value of every field. The path has no indexes."""
    if isinstance(value, Mapping):
        for key, below in value.items():
            place = f"{path}.{key}" if path else str(key)
            yield place, below
            yield from () if key == "nodeSelector" else _walk(below, place)
    elif isinstance(value, list):
        for item in value:
            yield from _walk(item, path)


def _is_list_of_mappings(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(isinstance(item, Mapping) for item in value))


def _at(obj: Object, path: str) -> Any:
    value: Any = obj
    for word in path.split("."):
        value = (value or {}).get(word)
    return value


def _refusal(option: str, problem: str, remedy: str) -> CertflowError:
    return CertflowError(f"the option {option} {problem}", remedy=remedy)
