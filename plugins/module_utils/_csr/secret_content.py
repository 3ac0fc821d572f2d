# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Read a Secret, decide if this task may write it, and build the patches. Pure."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from .._base.accept import OTHER_CONTENT
from .._base.errors import check_shape
from .._base.object_managers import LAST_APPLIED
from .._base.owners import Owner, accept_option, owners
from .._kube import json_patch
from .._kube.object_state import is_ending
from .._x509 import certificate_facts, ephemeral_ca, private_keys
from .._x509.certificate_facts import CertificateFacts
from .._x509.errors import CertificateError
from . import markers, name_policy
from .errors import SecretError
from .intent import MANAGED_BY, Intent, SecretSpec
from .issuing import signers

# The key under which tools store a CA beside the certificate.
CONVENTIONAL_CA_KEY = "ca.crt"


@dataclass(frozen=True)
class ExistingSecret:
    """A Secret in the cluster. Its private key is not kept."""

    uid: str
    resource_version: str
    type: str
    immutable: bool
    data_keys: frozenset[str]
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    #: The other programs that write it.
    owners: tuple[Owner, ...] = ()
    #: The finalizers that hold its deletion, if it is being deleted.
    deletion_waits_for: tuple[str, ...] = ()
    certificate_pem: str = ""
    certificate: CertificateFacts | None = None
    #: The hash of the public key that belongs to its private key.
    key_sha256: str = ""
    key_type: str = ""
    #: True if it has a private key, also if that cannot be read.
    has_key: bool = False
    #: The mark that this collection would give to a Secret of this name with its key and its certificate.
    written: str = ""
    #: The value of the task's ca_key, and of CONVENTIONAL_CA_KEY.
    ca_pem: str = ""
    conventional_ca: str = ""
    #: The reason why the certificate or the key cannot be read, or "".
    problem: str = ""

    @property
    def is_marked(self) -> bool:
        """True if it has the label of this collection."""
        return self.labels.get(MANAGED_BY) == markers.MANAGER

    @property
    def is_written(self) -> bool:
        """True if this collection wrote its certificate, or its key if no certificate can be read."""
        return self._has_mark(markers.CREATED) or self._has_mark(markers.ADOPTED)

    @property
    def is_ours(self) -> bool:
        """True if this collection wrote its content, or if it has neither certificate nor key, and the label of this collection."""
        return self.is_written or (self.is_marked and not self.certificate and not self.has_key)

    @property
    def stays_created(self) -> bool:
        """True if this collection created it, and no other client has stored a certificate of its own."""
        return self.is_marked and self._has_mark(markers.CREATED)

    @property
    def is_created(self) -> bool:
        """True if this collection created it, and wrote the certificate and the key that it holds."""
        return (
            self.stays_created
            and bool(self.certificate)
            and self.annotations[markers.CREATED] == self.written
        )

    @property
    def has_signer_without_requests(self) -> bool:
        """True if this collection recorded a signer that takes no requests, such as ephemeral-ca."""
        row = signers.SIGNERS.get(self.annotations.get(markers.SIGNER, ""))
        return row is not None and not row.is_asked

    def _has_mark(self, name: str) -> bool:
        """Return True if a mark of this name was written for the certificate, or for the key if no certificate can be read."""
        mark, wanted = self.annotations.get(name, "").split("-"), self.written.split("-")
        part = 1 if self.certificate else 0
        return bool(self.certificate or self.key_sha256) and mark[part : part + 1] == [wanted[part]]


@dataclass(frozen=True)
class SecretContent:
    """The content to write: PEM texts, and the annotations markers.ANCHORS, markers.UNPROVEN and markers.TARGETS."""

    certificate_pem: str
    key_pem: str
    ca_pem: str
    anchors: str
    unproven: str = ""
    #: None leaves the record as it is.
    discovered: str | None = None
    key_sha256: str = ""
    fingerprint: str = ""


# The content for a server dry run.
EMPTY_CONTENT = SecretContent("", "", "", "")


def read_secret(obj: Mapping[str, Any], spec: SecretSpec) -> ExistingSecret:
    """Read a Secret object. A certificate that cannot be read is not an error. It is in the field ``problem``.

    Raises MalformedObject if the object is not a Secret.
    """
    with check_shape(spec):
        return _found(obj, spec)


def _found(obj: Mapping[str, Any], spec: SecretSpec) -> ExistingSecret:
    metadata, data = obj["metadata"], obj.get("data") or {}
    return ExistingSecret(
        uid=metadata.get("uid", ""),
        resource_version=metadata.get("resourceVersion", ""),
        type=obj.get("type", "Opaque"),
        immutable=bool(obj.get("immutable")),
        data_keys=frozenset(data),
        labels=metadata.get("labels") or {},
        annotations=metadata.get("annotations") or {},
        owners=owners(obj),
        deletion_waits_for=tuple(metadata.get("finalizers") or ()) if is_ending(obj) else (),
        ca_pem=_text(data, spec.ca_key)[0],
        conventional_ca=_text(data, CONVENTIONAL_CA_KEY)[0],
        **_pair(data, spec),
    )


def _pair(data: Mapping[str, Any], spec: SecretSpec) -> dict[str, Any]:
    """Return the fields of ExistingSecret that describe certificate and key, as far as they can be read."""
    pem, problem = _text(data, spec.certificate_key)
    key_pem, key_problem = _text(data, spec.private_key_key)
    fields: dict[str, Any] = {
        "certificate_pem": pem,
        "problem": problem or key_problem,
        "key_sha256": "",
        # What is not text may be a key in DER.
        "has_key": "PRIVATE KEY" in key_pem or (bool(data.get(spec.private_key_key)) and not key_pem),
    }
    fingerprint = ""
    try:
        if key_pem:
            key = private_keys.load(key_pem)
            fields["key_sha256"] = private_keys.public_key_sha256(key.public_key())
            fields["key_type"] = private_keys.type_of(key) or ""
    except CertificateError as exc:
        fields["problem"] = exc.cause
    try:
        if pem:
            fields["certificate"] = certificate_facts.describe_pem(pem)
            fingerprint = fields["certificate"].fingerprint
    except CertificateError as exc:
        fields["problem"] = exc.cause
    return {**fields, "written": markers.written(spec, fields["key_sha256"], fingerprint)}


def refuse_foreign(secret: ExistingSecret, intent: Intent) -> None:
    """Raise SecretError if the Secret cannot be changed, or if it does not belong to this task."""
    spec = intent.secret
    if secret.deletion_waits_for:
        raise SecretError(
            f"{spec} is being deleted, and waits for its finalizers {', '.join(secret.deletion_waits_for)}",
            remedy="Let the programs of these finalizers end the deletion, and run the task again",
        )
    if secret.type != spec.type:
        raise SecretError(
            f"{spec} has type {secret.type}, which cannot be changed to {spec.type}",
            remedy="Set a new secret.name, let the workload use it, and then delete the old Secret. "
            f"Or keep the type with secret.type: {secret.type}",
        )
    if secret.immutable:
        raise SecretError(f"{spec} is immutable", remedy="Set a new secret.name, and let the workload use it")
    reason, other = foreign_reason(secret, intent), _other_service(secret, intent)
    words = [owner.word for owner in secret.owners]
    if other or not words:
        words.append(OTHER_CONTENT)
    lacking = [word for word in words if not intent.accept.covers(word, spec)]
    if lacking == [OTHER_CONTENT]:  # the user accepts the managers
        reason = other or reason
    if reason and lacking:
        raise SecretError(
            f"{spec} does not belong to this task: {reason}",
            remedy=f"Set another secret.name, or {accept_option(lacking, spec)} to replace its certificate",
        )


def foreign_reason(secret: ExistingSecret, intent: Intent) -> str:
    """Return the reason why the Secret does not belong to this task, or "" if it may be adopted."""
    if secret.owners:
        first = secret.owners[0]
        return f"{first.manager.name} writes it ({'; '.join(first.evidence)}); {first.manager.for_secrets}"
    other = _other_service(secret, intent)
    if other or secret.is_written:
        return other
    others = other_content(secret, intent.secret, secret.ca_pem)
    if others:
        return f"it also has {', '.join(others)}"
    foreign = _foreign_names(secret.certificate, intent) if secret.certificate else []
    return f"its certificate is for {', '.join(foreign)}" if foreign else ""


def _other_service(secret: ExistingSecret, intent: Intent) -> str:
    """Return the reason if this collection marked the Secret for another Service, "" otherwise."""
    owner = secret.annotations.get(markers.SERVICE, "") if secret.is_marked or secret.is_written else ""
    is_own = owner in ("", f"{intent.namespace}/{intent.service}")
    return "" if is_own else f"it was made for Service {owner}"


def other_content(secret: ExistingSecret, spec: SecretSpec, bundle: str) -> list[str]:
    """Return the other keys of the Secret, and the CAs of a bundle in it that did not issue its certificate, such as one for clients."""
    keys = secret.data_keys - spec.data_keys - {CONVENTIONAL_CA_KEY}
    return sorted(keys) + [f"another CA ({ca.subject})" for ca in _other_cas(secret, bundle)]


def _other_cas(secret: ExistingSecret, bundle: str) -> list[CertificateFacts]:
    """Return the certificates of a bundle that did not issue the certificate of the Secret, each once."""
    chain = tuple(certificate_facts.load_readable(secret.certificate_pem))
    cas = {ca.fingerprint: ca for ca in certificate_facts.load_readable(bundle) if ca not in chain}.values()
    issuers = {entry.encoded_issuer for entry in (*chain, *cas) if not entry.is_self_issued}
    return [ca for ca in cas if ca.encoded_subject not in issuers]


def _with_other_cas(ca_pem: str, secret: ExistingSecret) -> str:
    """Return the CA to store, with the CAs that other clients stored beside it. A CA of one certificate is of no use without that."""
    return ca_pem + "".join(
        ca.pem
        for ca in _other_cas(secret, secret.ca_pem)
        if ca.pem not in ca_pem and not ephemeral_ca.is_made_here(ca.subject)
    )


def is_for(secret: ExistingSecret, intent: Intent) -> bool:
    """Return True if the Secret has this Service's certificate, so that its record of anchors belongs to this Service."""
    owner = secret.annotations.get(markers.SERVICE)
    return (
        owner == markers.annotations_for(intent)[markers.SERVICE]
        if owner
        else not foreign_reason(secret, intent)
    )


def find_own_ca(secret: ExistingSecret, intent: Intent) -> str:
    """Return the CA in the Secret as PEM text if this collection made it, else "".

    A CA that another program stored vouches for nothing.
    """
    is_made_here = secret.is_ours and secret.annotations.get(markers.SIGNER) == intent.signer.name
    return secret.ca_pem if is_made_here and not intent.signer.is_asked else ""


def _foreign_names(certificate: CertificateFacts, intent: Intent) -> list[str]:
    """Return the names in the certificate that do not belong to this task. Without names, compare its subject."""
    names = (*certificate.dns_names, *certificate.ip_addresses)
    if intent.is_client or not names:
        own = () if intent.is_client else name_policy.service_names(intent.service, intent.namespace)
        is_own = (
            certificate.common_name == intent.request.common_name or bare_name(certificate.common_name) in own
        )
        return [] if is_own else [certificate.subject]
    wanted = (*intent.request.dns_names, *intent.request.ip_addresses)
    refusals = name_policy.forbidden_names(
        names, service=intent.service, namespace=intent.namespace, allow=wanted
    )
    return [refusal.name for refusal in refusals]


def bare_name(common_name: str) -> str:
    """Return the host name in a common name. create-cert.sh of external-snapshotter makes system:node:hook.demo.svc; with a semicolon."""
    return common_name.removeprefix("system:node:").rstrip("\\;")


def new_secret(intent: Intent, content: SecretContent) -> dict[str, Any]:
    """Return the Secret to create."""
    spec = intent.secret
    annotations = {
        **_annotations(intent),
        **_records(content),
        markers.CREATED: markers.written(spec, content.key_sha256, content.fingerprint),
    }
    metadata = {
        "name": spec.name,
        "namespace": spec.namespace,
        "labels": {**markers.labels_for(spec), **spec.labels},
        "annotations": {key: text for key, text in annotations.items() if text is not None},
    }
    data = {key: _encoded(text) for key, text in _data(spec, content, spec.ca_key).items()}
    return {"apiVersion": "v1", "kind": "Secret", "type": spec.type, "metadata": metadata, "data": data}


def patch_content(
    secret: ExistingSecret, intent: Intent, content: SecretContent | None
) -> list[dict[str, Any]]:
    """Return the JSON patch that writes the content, or only the metadata without content. Other keys stay.

    It is never empty, because its dry run shows before the request if the Secret can be written.
    """
    annotations = {**_annotations(intent), LAST_APPLIED: None}
    # A Secret is adopted, too, if another client has stored a certificate of its own.
    mark, other = (markers.CREATED, markers.ADOPTED)[:: 1 if secret.stays_created else -1]
    if content:
        written = markers.written(intent.secret, content.key_sha256, content.fingerprint)
        annotations |= {**_records(content), mark: written, other: None}
        content = replace(content, ca_pem=_with_other_cas(content.ca_pem, secret))
    labels = {**markers.labels_for(intent.secret, secret.labels), **intent.secret.labels}
    data = _data(intent.secret, content, _find_ca_key(secret, intent.secret)) if content else {}
    return _patch(secret, labels, annotations, data) or [json_patch.at_version(secret.resource_version)]


def patch_metadata(
    secret: ExistingSecret, intent: Intent, *, ca_pem: str, anchors: str, discovered: str | None = None
) -> list[dict[str, Any]]:
    """Return the JSON patch that updates labels, annotations and CA of a certificate that stays. It may be empty.

    The private key is neither read nor sent. An adopted Secret does not get this collection's label, because its key
    stays, and ``state: absent`` must keep it.
    """
    own_labels = markers.labels_for(intent.secret, secret.labels) if secret.is_ours else {}
    annotations = {**(_annotations(intent) if secret.is_ours else intent.secret.annotations)}
    # The signer of the certificate that stays. The task may name another signer and wait for it.
    annotations[markers.SIGNER] = secret.annotations.get(markers.SIGNER, annotations.get(markers.SIGNER))
    annotations |= _records(SecretContent("", "", "", anchors, discovered=discovered), is_proven=False)
    ca_key = intent.secret.ca_key
    missing = {*certificate_facts.load(ca_pem)}.difference(certificate_facts.load_readable(secret.ca_pem))
    data = {ca_key: _with_other_cas(ca_pem, secret)} if ca_key and missing else {}
    return _patch(secret, {**own_labels, **intent.secret.labels}, annotations, data)


def patch_without_marks(secret: ExistingSecret, anchors: str) -> list[dict[str, Any]]:
    """Return the JSON patch that removes this collection's labels and annotations from a Secret that stays.

    anchors: the record that stays, with the name of the Service, "" for none.
    """
    labels = dict.fromkeys((*[MANAGED_BY][: secret.is_marked], markers.SECRET_LABEL))
    annotations: dict[str, str | None] = dict.fromkeys(markers.ANNOTATIONS)
    if anchors:
        annotations |= {markers.ANCHORS: anchors, markers.SERVICE: secret.annotations.get(markers.SERVICE)}
    return _patch(secret, labels, annotations)


def patch_proven(secret: ExistingSecret, anchors: str) -> list[dict[str, Any]]:
    """Return the JSON patch after every endpoint was seen to serve the certificate. It is empty if that is recorded."""
    if markers.UNPROVEN not in secret.annotations:
        return []
    return _patch(secret, {}, {markers.ANCHORS: anchors or None, markers.UNPROVEN: None})


def _records(content: SecretContent, *, is_proven: bool = True) -> dict[str, str | None]:
    """Return the annotations with the records. None removes one. is_proven: remove the open record if the content has none."""
    records: dict[str, str | None] = {markers.ANCHORS: content.anchors or None}
    if content.discovered is not None:
        records[markers.TARGETS] = content.discovered or None
    if content.unproven or is_proven:
        records[markers.UNPROVEN] = content.unproven or None
    return records


def _annotations(intent: Intent) -> dict[str, str | None]:
    return {**markers.annotations_for(intent), **intent.secret.annotations}


def _patch(
    secret: ExistingSecret,
    labels: Mapping[str, str | None],
    annotations: Mapping[str, str | None],
    data: Mapping[str, str] = MappingProxyType({}),
) -> list[dict[str, Any]]:
    """Return the JSON patch on the version that was read, empty if it changes nothing. None removes a label or an annotation."""
    encoded = {key: _encoded(text) for key, text in data.items()}
    operations = [
        *_merge("/metadata/labels", secret.labels, labels),
        *_merge("/metadata/annotations", secret.annotations, annotations),
        *_merge("/data", dict.fromkeys(secret.data_keys, ""), encoded),
    ]
    return [json_patch.at_version(secret.resource_version), *operations] if operations else []


def _find_ca_key(secret: ExistingSecret, spec: SecretSpec) -> str:
    """Return the key of the CA to write, "" for none. Without ``ca_key``, only a CA that this collection made is replaced."""
    if spec.ca_key:
        return spec.ca_key
    if not (secret.is_written and secret.has_signer_without_requests):
        return ""
    if not secret.conventional_ca or other_content(secret, spec, secret.conventional_ca):
        return ""
    return CONVENTIONAL_CA_KEY


def _data(spec: SecretSpec, content: SecretContent, ca_key: str) -> dict[str, str]:
    parts = {spec.certificate_key: content.certificate_pem, spec.private_key_key: content.key_pem}
    return {**parts, ca_key: content.ca_pem} if ca_key else parts


def _merge(
    place: str, present: Mapping[str, str], wanted: Mapping[str, str | None]
) -> Iterator[dict[str, Any]]:
    missing = {key: value for key, value in wanted.items() if value is not None and present.get(key) != value}
    if missing and not present:
        yield json_patch.add(place, missing)
        return
    yield from (json_patch.add(f"{place}/{json_patch.escape(key)}", value) for key, value in missing.items())
    gone = (key for key, value in wanted.items() if value is None and key in present)
    yield from (json_patch.remove(f"{place}/{json_patch.escape(key)}") for key in gone)


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _text(data: Mapping[str, Any], key: str) -> tuple[str, str]:
    """Return the decoded text and "", or "" and the reason why it cannot be read."""
    if not data.get(key):
        return "", f"it lacks {key}"
    try:
        return base64.b64decode(data[key]).decode(), ""
    except ValueError:  # It is not base64, or not text.
        return "", f"its {key} is not text"
