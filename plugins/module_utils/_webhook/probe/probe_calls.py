# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Make the request with which an API server calls a webhook, and send it.

- Admission: the creation of an object, as a server dry run.
- Conversion: the same at a version that is not stored, so that the API server converts the object. A read proves less, because
  lists come from the API server's cache.
- Aggregation: a read of the API's discovery document, which the API server fetches from the webhook.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..._kube import object_state
from ..._kube.access_review import Permission
from ..._kube.client import Client
from ..._kube.errors import AlreadyExists, ApiError, AuthenticationError, Forbidden, KubeError
from ..bundles.bundle_targets import KINDS, Object, Target
from ..calls import call_failures
from ..calls.admission_match import AdmissionRequest
from ..errors import ProbeError
from .probe_verdict import WebhookAnswer

GENERATED_NAME = "certflow-probe-"
# A load balancer hides which API server a connection reaches, so make several connections.
CONNECTIONS = 6


@dataclass(frozen=True)
class ProbeObject:
    """The object that a probe sends, and the answer that it expects."""

    #: An admission webhook needs a manifest. A conversion webhook has a default. An aggregated API takes none.
    manifest: Object | None = None
    #: "allowed" or "denied".
    expect: str = "allowed"
    #: A text that the denial must contain.
    denial_message: str = ""


@dataclass(frozen=True)
class ApiResource:
    """A kind of objects as paths name it. The core group is ""."""

    group: str
    version: str
    name: str
    kind: str
    is_namespaced: bool


@dataclass(frozen=True)
class ProbeCall:
    """One request to the API server."""

    #: ADMISSION, CONVERSION or AGGREGATION of call_failures.
    kind: str
    path: str
    #: The request in words.
    words: str
    #: The object to create as a dry run, None for a read of the path.
    body: Object | None = None
    #: The name of an admission webhook.
    webhook: str = ""
    #: The creation as the API server compares it with rules, None for a read.
    creation: AdmissionRequest | None = None

    @property
    def permission(self) -> Permission | None:
        """Return the permissions for the request. Every identity may read discovery documents."""
        made = self.creation
        return Permission("create", made.group, made.resource, made.namespace) if made else None


def check_object(target: Target, asked: ProbeObject) -> None:
    """Raise ProbeError if the target cannot be asked with this object."""
    kind, manifest, expect = KINDS[target.kind].call, asked.manifest, asked.expect
    # The API server checks the whole schema later.
    metadata = (manifest or {}).get("metadata") or {}
    is_readable = isinstance(metadata, Mapping) and isinstance(metadata.get("labels") or {}, Mapping)
    faults = (
        (
            kind == call_failures.ADMISSION and manifest is None,
            f"{target} can be probed only with an object",
            "Set object to a manifest. It is sent as a server dry run and never stored",
        ),
        (
            kind == call_failures.AGGREGATION and manifest is not None,
            f"{target} is probed by its discovery document, without an object",
            "Remove object",
        ),
        (
            kind != call_failures.ADMISSION and expect != "allowed",
            f"{target} cannot deny an object, so expect does not apply",
            "Remove expect",
        ),
        (
            bool(asked.denial_message) and expect != "denied",
            "denial_message needs expect: denied",
            "Set expect: denied, or remove denial_message",
        ),
        (
            manifest is not None and not (manifest.get("apiVersion") and manifest.get("kind")),
            "the object has no apiVersion or no kind",
            "Set object to a complete manifest",
        ),
        (
            not is_readable,
            "the object's metadata, or metadata.labels, is not a dictionary",
            "Set object to a complete manifest",
        ),
    )
    for holds, cause, remedy in faults:
        if holds:
            raise ProbeError(cause, remedy=remedy)


def group_version(manifest: Object) -> tuple[str, str]:
    """Return group and version of a manifest. The core group is ""."""
    group, _slash, version = str(manifest["apiVersion"]).rpartition("/")
    return group, version


def discovery_path(group: str, version: str) -> str:
    return f"/apis/{group}/{version}" if group else f"/api/{version}"


def find_resource(client: Client, manifest: Object) -> ApiResource:
    """Find where objects of this kind are created. Raises ProbeError if the kind is not served, KubeError."""
    group, version = group_version(manifest)
    discovery = client.find(discovery_path(group, version)) or {}
    for entry in discovery.get("resources") or ():
        if entry["kind"] == manifest["kind"] and "/" not in entry["name"]:
            return ApiResource(group, version, entry["name"], entry["kind"], bool(entry.get("namespaced")))
    raise ProbeError(
        f"the cluster serves no {manifest['kind']} of {manifest['apiVersion']}",
        remedy="Correct apiVersion and kind of the object, or install what defines it",
    )


def resource_of_definition(definition: Object, version: str) -> ApiResource:
    spec = definition["spec"]
    return ApiResource(
        spec["group"], version, spec["names"]["plural"], spec["names"]["kind"], spec["scope"] == "Namespaced"
    )


def unstored(definition: Object) -> list[str]:
    """Return the versions that are served but not stored. The API server converts their objects."""
    return [
        entry["name"] for entry in definition["spec"]["versions"] if entry["served"] and not entry["storage"]
    ]


def sample(definition: Object) -> dict[str, Any]:
    """Return the smallest object at a version that is converted. It is valid if the schema has no required fields."""
    spec = definition["spec"]
    namespace = {"namespace": "default"} if spec["scope"] == "Namespaced" else {}
    version = unstored(definition)[0]
    return {"apiVersion": f"{spec['group']}/{version}", "kind": spec["names"]["kind"], "metadata": namespace}


def check_converted(definition: Object, manifest: Object) -> None:
    """Raise ProbeError for an object that the API server would not convert by this definition."""
    spec = definition["spec"]
    group, version = group_version(manifest)
    name, versions = definition["metadata"]["name"], unstored(definition)
    served = [entry["name"] for entry in spec["versions"] if entry["served"]]
    if (group, manifest["kind"]) != (spec["group"], spec["names"]["kind"]):
        raise ProbeError(
            f"the object is a {manifest['kind']} of {manifest['apiVersion']}, which {name} does not define",
            remedy=f"Give a {spec['names']['kind']} of {spec['group']}",
        )
    if version not in versions:
        raise ProbeError(
            f"the object is of version {version}, which {name} "
            f"{'stores, so no object is converted' if version in served else 'does not serve'}",
            remedy=f"Give it at version {' or '.join(versions)}",
        )


def creation(resource: ApiResource, manifest: Object, kind: str, webhook: str = "") -> ProbeCall:
    """Return the dry run of a manifest. Raises ProbeError if it lacks a namespace, or has one that it must not have."""
    body = {**manifest, "metadata": dict(manifest.get("metadata") or {})}
    metadata = body["metadata"]
    if not metadata.get("name") and not metadata.get("generateName"):
        metadata["generateName"] = GENERATED_NAME
    namespace = str(metadata.get("namespace") or "")
    if bool(namespace) is not resource.is_namespaced:
        raise ProbeError(
            f"a {resource.kind} {'belongs to a namespace' if resource.is_namespaced else 'belongs to no namespace'}",
            remedy=f"{'Set' if resource.is_namespaced else 'Remove'} metadata.namespace of the object",
        )
    base = discovery_path(resource.group, resource.version)
    place = f"/namespaces/{namespace}" if namespace else ""
    name = metadata.get("name") or f"{metadata['generateName']}*"
    return ProbeCall(
        kind,
        f"{base}{place}/{resource.name}",
        f"dry run of {resource.kind} {f'{namespace}/' if namespace else ''}{name}",
        body,
        webhook,
        AdmissionRequest(
            resource.group,
            resource.version,
            resource.name,
            resource.kind,
            namespace,
            metadata.get("labels") or {},
        ),
    )


def discovery_of(api_service: Object) -> ProbeCall:
    """Return the read of the discovery document, which the aggregated API itself answers."""
    spec = api_service["spec"]
    path = f"/apis/{spec['group']}/{spec['version']}"
    return ProbeCall(call_failures.AGGREGATION, path, f"GET {path}")


def availability(api_service: Object) -> tuple[bool, str]:
    """Return whether the condition Available is True, and its message."""
    found = object_state.condition(api_service, "Available")
    words = found.get("message") or found.get("reason") if found else "it has no condition Available yet"
    return object_state.is_true(api_service, "Available"), str(words or "")


def namespace_labels(client: Client, creation: AdmissionRequest) -> dict[str, str] | None:
    """Return the labels of the object's namespace, None if this identity may not read them."""
    if not creation.namespace:
        return {}
    try:
        namespace = client.find(f"/api/v1/namespaces/{creation.namespace}")
    except Forbidden:
        return None
    return (namespace or {}).get("metadata", {}).get("labels") or {}


def send_probe(client: Client, call: ProbeCall) -> tuple[WebhookAnswer, ...]:
    """Send the request CONNECTIONS times, each over a new connection, until a call fails.

    Raises ConnectionFailed and AuthenticationError if the API server itself does not answer.
    """
    answers: list[WebhookAnswer] = []
    for _connection in range(CONNECTIONS):
        client.close()
        answers.append(_ask(client, call))
        failure = answers[-1].failure
        if failure and failure.about != call_failures.REFUSAL:
            break
    return tuple(answers)


def _ask(client: Client, call: ProbeCall) -> WebhookAnswer:
    try:
        if call.body is None:
            client.try_get(call.path)
        else:
            client.try_create(call.path, call.body)
    except (ApiError, AuthenticationError) as error:
        if isinstance(error, AuthenticationError) and call.body is not None:
            raise
        return _answer(error, call)
    return WebhookAnswer()


def _answer(error: KubeError, call: ProbeCall) -> WebhookAnswer:
    words = error.message or error.cause
    if isinstance(error, AlreadyExists) and re.match(r'[^"]*"[^"]*" already exists$', words):
        # The API server checks this last, after admission and conversion (k8s.io/apiserver store.go Create).
        return WebhookAnswer(words=f"accepted ({words})")
    return WebhookAnswer(call_failures.of_answer(words, call.kind, call.webhook), words)
