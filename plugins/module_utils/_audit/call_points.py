# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Read objects of the API as the data of an audit: what each one tells the API server to call, and its own state. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from .. import _managers
from .._errors import check_shape
from .._managers import OWN_MANAGER
from .._times import find_time
from .._webhook.bundle_targets import KINDS, Target, client_configs
from .._webhook.service_callers import find_bundle_managers
from .exceptions import annotated_checks
from .facts.cluster_data import (
    ADMISSION,
    AGGREGATION,
    CONVERSION,
    INJECTS_FROM,
    ApiServiceState,
    CallPoint,
    DefinitionState,
    IssuedCertificate,
    Object,
)
from .facts.finding import UNMANAGED, AuditedObject

MUTATING = "MutatingWebhookConfiguration"
VALIDATING = "ValidatingWebhookConfiguration"
DEFINITION = "CustomResourceDefinition"
API_SERVICE = "APIService"
CALLERS: Mapping[str, str] = {
    VALIDATING: ADMISSION,
    MUTATING: ADMISSION,
    DEFINITION: CONVERSION,
    API_SERVICE: AGGREGATION,
}
_RELEASE = "app.kubernetes.io/version"
# The annotation holds the whole object, with its schema.
_DROPPED_ANNOTATIONS = (_managers.LAST_APPLIED,)
_KEPT_METADATA = ("name", "uid", "labels", "ownerReferences", "creationTimestamp", "deletionTimestamp")


def without_schema(definition: Object) -> dict[str, Any]:
    """Return the parts of a CustomResourceDefinition that the checks need."""
    with check_shape("a CustomResourceDefinition"):
        metadata, spec = definition["metadata"], definition["spec"]
        annotations = {
            key: value
            for key, value in (metadata.get("annotations") or {}).items()
            if key not in _DROPPED_ANNOTATIONS
        }
        kept = {key: metadata[key] for key in _KEPT_METADATA if key in metadata}
        fields = [_without_fields(entry) for entry in metadata.get("managedFields") or ()]
        versions = [
            {key: entry.get(key) for key in ("name", "served")} for entry in spec.get("versions") or ()
        ]
        return {
            "metadata": {**kept, "annotations": annotations, "managedFields": fields},
            "spec": {
                "group": spec.get("group"),
                "names": {"plural": (spec.get("names") or {}).get("plural")},
                "versions": versions,
                "conversion": spec.get("conversion"),
            },
            "status": {
                key: (definition.get("status") or {}).get(key) for key in ("storedVersions", "conditions")
            },
        }


def _without_fields(entry: Object) -> dict[str, Any]:
    """Return an entry of managedFields with the fields of the conversion only."""
    conversion = ((entry.get("fieldsV1") or {}).get("f:spec") or {}).get("f:conversion")
    fields = {"f:spec": {"f:conversion": conversion}} if conversion else {}
    return {**{key: entry.get(key, "") for key in ("manager", "operation")}, "fieldsV1": fields}


def has_conversion_webhook(definition: Object) -> bool:
    """Return True if the API server calls a webhook to convert objects of this kind."""
    with check_shape("a CustomResourceDefinition"):
        return (definition["spec"].get("conversion") or {}).get("strategy") == "Webhook"


def points_of(kind: str, obj: Object) -> Iterator[CallPoint]:
    """Yield the call points of an object. An object without webhooks has none. Raises MalformedObject."""
    caller = CALLERS[kind]
    with check_shape(f"a {kind}"):
        name = str(obj["metadata"]["name"])
        webhooks = {webhook["name"]: webhook for webhook in obj.get("webhooks") or ()}
        is_verified = not (caller == AGGREGATION and obj["spec"].get("insecureSkipTLSVerify"))
        if caller == ADMISSION and not webhooks:
            return
    if not is_verified:
        obj = {**obj, "spec": {**obj["spec"], "insecureSkipTLSVerify": False}}
    target = Target(kind, name)
    for config in client_configs(target, obj):
        with check_shape(f"a {kind}"):
            subject = replace(subject_of(kind, obj), webhook=config.webhook, path=config.pointer)
            writers = tuple(find_bundle_managers(target, obj, config.webhook))
        yield CallPoint(
            subject,
            config,
            caller,
            webhook=webhooks.get(config.webhook, {}),
            is_mutating=kind == MUTATING,
            is_verified=is_verified,
            bundle_writers=writers,
            certificate=_certificate(obj["metadata"]),
            release=str((obj["metadata"].get("labels") or {}).get(_RELEASE) or ""),
        )


def _certificate(metadata: Object) -> tuple[str, str] | None:
    value = str((metadata.get("annotations") or {}).get(INJECTS_FROM) or "")
    namespace, slash, name = value.partition("/")
    return (namespace, name) if slash else None


def subject_of(kind: str, obj: Object) -> AuditedObject:
    """Return the object of a finding about an object of one of these kinds."""
    metadata, row = obj["metadata"], KINDS[kind]
    return AuditedObject(
        kind,
        str(metadata["name"]),
        f"{row.group}/{row.version}",
        uid=str(metadata.get("uid", "")),
        manager=manager_of(metadata),
        excepted_checks=annotated_checks(metadata),
    )


def manager_of(metadata: Object) -> str:
    """Return the names of the programs that manage an object, this collection among them, or UNMANAGED."""
    names = [found.manager.name for found in _managers.find_managers(metadata)]
    names += [row.name for row in _managers.find_rewriters(metadata)]
    fields = (str(entry.get("manager", "")) for entry in metadata.get("managedFields") or ())
    if any(field.startswith(OWN_MANAGER) for field in fields):
        names.append(OWN_MANAGER)
    return ", ".join(names) or UNMANAGED


def api_service_state(obj: Object) -> ApiServiceState:
    """Return the condition Available of an aggregated API. Raises MalformedObject."""
    with check_shape("an APIService"):
        conditions = (obj.get("status") or {}).get("conditions") or ()
        found: Object = next((entry for entry in conditions if entry.get("type") == "Available"), {})
        return ApiServiceState(
            subject_of(API_SERVICE, obj),
            found.get("status") == "True",
            _words_of(found) or "it has no condition Available",
            find_time(found.get("lastTransitionTime")),
        )


def definition_state(obj: Object) -> DefinitionState:
    """Return the state of a CustomResourceDefinition. Raises MalformedObject."""
    with check_shape("a CustomResourceDefinition"):
        metadata, spec, status = obj["metadata"], obj["spec"], obj.get("status") or {}
        versions = spec.get("versions") or ()
        return DefinitionState(
            subject_of(DEFINITION, obj),
            str(spec.get("group", "")),
            str((spec.get("names") or {}).get("plural", "")),
            tuple(str(entry["name"]) for entry in versions if entry.get("served")),
            tuple(map(str, status.get("storedVersions") or ())),
            has_conversion_webhook(obj),
            tuple(str(entry["name"]) for entry in versions),
            {
                str(entry["type"]): (str(entry.get("status", "")), _words_of(entry))
                for entry in status.get("conditions") or ()
            },
            find_time(metadata.get("creationTimestamp")),
            find_time(metadata.get("deletionTimestamp")),
        )


def issued_certificate(certificate: Object) -> IssuedCertificate | None:
    """Return the newest certificate of a Certificate of cert-manager, None if none was issued. Raises MalformedObject."""
    with check_shape("a Certificate"):
        status = certificate.get("status") or {}
        begin, end, renewal = (find_time(status.get(key)) for key in ("notBefore", "notAfter", "renewalTime"))
        names = tuple(map(str, certificate["spec"].get("dnsNames") or ()))
        states = {entry["type"]: entry.get("status") for entry in status.get("conditions") or ()}
    return IssuedCertificate(begin, names, end, renewal, states.get("Ready") == "True") if begin else None


def _words_of(condition: Object) -> str:
    """Return reason and message of a condition."""
    return ": ".join(filter(None, (str(condition.get(key) or "") for key in ("reason", "message"))))
