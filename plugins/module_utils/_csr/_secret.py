# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The Secret as found and as it becomes; whose it is. Pure."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .._x509 import _certificate, _keys
from .._x509._certificate import CertificateFacts
from .._x509._errors import CertificateError
from . import _marks, _names
from ._errors import SecretError
from ._intent import Intent, SecretSpec

# Marks of other writers: (where, prefix of the key, writer, remedy).
WRITERS: tuple[tuple[str, str, str, str], ...] = (
    # https://cert-manager.io/docs/reference/annotations/
    ("annotations", "cert-manager.io/", "cert-manager", "let its Certificate make the certificate"),
    # https://external-secrets.io/latest/api/externalsecret/
    ("annotations", "reconcile.external-secrets.io/", "external-secrets", "change its ExternalSecret"),
    ("labels", "reconcile.external-secrets.io/", "external-secrets", "change its ExternalSecret"),
    # https://docs.openshift.com: service serving certificates
    (
        "annotations",
        "service.beta.openshift.io/originating-service",
        "OpenShift's service CA",
        "leave it to the Service",
    ),
)


@dataclass(frozen=True)
class Found:
    """A Secret that is there. ``key_sha256`` is the hash of the public half: the key itself is not kept.

    problem: why the certificate or the key cannot be used, "" where both are readable.
    """

    uid: str
    resource_version: str
    type: str
    immutable: bool
    data_keys: frozenset[str]
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    certificate_pem: str = ""
    certificate: CertificateFacts | None = None
    key_sha256: str = ""
    key_type: str = ""
    ca_pem: str = ""
    problem: str = ""


def found(obj: Mapping[str, Any], spec: SecretSpec) -> Found:
    """Read a Secret object. Never raises for what it holds: a broken certificate is a finding."""
    metadata, data = obj["metadata"], obj.get("data") or {}
    certificate_pem, problem = _text(data, spec.certificate_key)
    facts, key_sha256, key_type = None, "", ""
    try:
        facts = _certificate.describe_pem(certificate_pem) if certificate_pem else None
        key_pem, key_problem = _text(data, spec.private_key_key)
        problem = problem or key_problem
        if key_pem:
            key = _keys.load(key_pem)
            key_sha256, key_type = _keys.public_key_sha256(key.public_key()), _keys.type_of(key) or ""
    except CertificateError as exc:
        problem = exc.cause
    return Found(
        uid=metadata.get("uid", ""),
        resource_version=metadata.get("resourceVersion", ""),
        type=obj.get("type", "Opaque"),
        immutable=bool(obj.get("immutable")),
        data_keys=frozenset(data),
        labels=metadata.get("labels") or {},
        annotations=metadata.get("annotations") or {},
        certificate_pem=certificate_pem,
        certificate=facts,
        key_sha256=key_sha256,
        key_type=key_type,
        ca_pem=_text(data, spec.ca_key)[0] if spec.ca_key else "",
        problem=problem,
    )


def refuse_foreign(secret: Found, intent: Intent) -> None:
    """Raise SecretError where the Secret must not be written: what cannot be changed, and what is somebody else's."""
    spec = intent.secret
    if secret.type != spec.type:
        raise SecretError(
            f"{spec} has type {secret.type}, which cannot be changed to {spec.type}",
            remedy="give a new secret.name, point the workload at it, and delete the old Secret afterwards"
            f" - or keep the type with secret.type: {secret.type}",
        )
    if secret.immutable:
        raise SecretError(
            f"{spec} is immutable", remedy="give a new secret.name and point the workload at it"
        )
    reason = "" if intent.take_over else foreign(secret, intent)
    if reason:
        raise SecretError(
            f"{spec} is somebody else's: {reason}",
            remedy="give another secret.name, or take_over: true to replace what it holds",
        )


def foreign(secret: Found, intent: Intent) -> str:
    """Why the Secret is not this Service's, "" where it may be adopted."""
    for place, prefix, writer, remedy in WRITERS:
        mark = next((key for key in getattr(secret, place) if key.startswith(prefix)), None)
        if mark:
            return f"{writer} writes it ({place[:-1]} {mark}); {remedy}"
    if secret.labels.get(_marks.MANAGED_BY) == _marks.MANAGER:
        owner = secret.annotations.get(_marks.SERVICE, "")
        return "" if owner in ("", _service(intent)) else f"it was made for Service {owner}"
    others = secret.data_keys - intent.secret.data_keys - {"ca.crt"}
    if others:
        return f"it also holds {', '.join(sorted(others))}"
    if secret.certificate and not _is_for(secret.certificate, intent):
        names = (
            ", ".join((*secret.certificate.dns_names, *secret.certificate.ip_addresses))
            or secret.certificate.subject
        )
        return f"its certificate is for {names}"
    return ""


def body(
    intent: Intent, previous: Found | None, *, key_pem: str, certificate_pem: str, ca_pem: str, anchors: str
) -> dict[str, Any]:
    """The Secret to write; with ``previous`` a replacement that holds on to its identity, labels and annotations."""
    spec = intent.secret
    parts = {spec.certificate_key: certificate_pem, spec.private_key_key: key_pem}
    if spec.ca_key:
        parts[spec.ca_key] = ca_pem
    metadata: dict[str, Any] = {
        "name": spec.name,
        "namespace": spec.namespace,
        "labels": {**(previous.labels if previous else {}), **wanted_labels(intent)},
        "annotations": {**(_kept(previous.annotations) if previous else {}), **wanted_annotations(intent)},
    }
    if anchors:
        metadata["annotations"][_marks.ANCHORS] = anchors
    if previous:
        metadata.update(uid=previous.uid, resourceVersion=previous.resource_version)
    data = {key: base64.b64encode(text.encode()).decode() for key, text in parts.items()}
    return {"apiVersion": "v1", "kind": "Secret", "type": spec.type, "metadata": metadata, "data": data}


def _kept(annotations: Mapping[str, str]) -> dict[str, str]:
    """kubectl apply leaves the whole Secret, the old private key too, in an annotation (create-cert.sh does that)."""
    return {key: value for key, value in annotations.items() if key != "kubectl.kubernetes.io/last-applied-configuration"}


def wanted_labels(intent: Intent) -> dict[str, str]:
    return {**_marks.labels_for(intent.secret), **intent.secret.labels}


def wanted_annotations(intent: Intent) -> dict[str, str]:
    own = _marks.annotations_for(intent)
    del own[_marks.SECRET]
    return {**own, **intent.secret.annotations}


def metadata_patch(secret: Found, intent: Intent, *, ca_pem: str, anchors: str) -> list[dict[str, Any]]:
    """JSON patch for labels, annotations and the CA beside a certificate that stays; empty where nothing is missing.

    The key is neither read nor sent again.
    """
    annotations = {**wanted_annotations(intent), **({_marks.ANCHORS: anchors} if anchors else {})}
    operations = [
        *_merge("labels", secret.labels, wanted_labels(intent)),
        *_merge("annotations", secret.annotations, annotations),
    ]
    if intent.secret.ca_key and secret.ca_pem != ca_pem:
        value = base64.b64encode(ca_pem.encode()).decode()
        operations.append({"op": "add", "path": f"/data/{_pointer(intent.secret.ca_key)}", "value": value})
    lock = {"op": "replace", "path": "/metadata/resourceVersion", "value": secret.resource_version}
    return [lock, *operations] if operations else []


def _merge(place: str, present: Mapping[str, str], wanted: Mapping[str, str]) -> list[dict[str, Any]]:
    missing = {key: value for key, value in wanted.items() if present.get(key) != value}
    if missing and not present:
        return [{"op": "add", "path": f"/metadata/{place}", "value": missing}]
    return [
        {"op": "add", "path": f"/metadata/{place}/{_pointer(key)}", "value": value}
        for key, value in missing.items()
    ]


def _pointer(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def _service(intent: Intent) -> str:
    return f"{intent.namespace}/{intent.service}"


def _is_for(certificate: CertificateFacts, intent: Intent) -> bool:
    """create-cert.sh and this collection put the Service's names in; a client certificate is known by its user."""
    if intent.is_client or not intent.service:
        return certificate.common_name == intent.request.common_name
    own = set(_names.service_names(intent.service, intent.namespace)[1:])
    return bool(own & set(certificate.dns_names)) or not (certificate.dns_names or certificate.ip_addresses)


def _text(data: Mapping[str, Any], key: str) -> tuple[str, str]:
    """The decoded text and "", or "" and why it cannot be had."""
    if not data.get(key):
        return "", f"it lacks {key}"
    try:
        return base64.b64decode(data[key]).decode(), ""
    except (binascii.Error, UnicodeDecodeError):
        return "", f"its {key} is not text"
