# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The key of a request that another identity approves later. It waits in an immutable Secret that the request owns.

Kubernetes deletes the Secret with the request: 24 hours after its creation without a decision, or an hour after it was
issued. So no useless key stays.

Any identity that may create requests and Secrets can create a false pair. So a later run uses them only if the API server stamped
this identity on the request, the request owns the Secret, and the Secret holds the request's key.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn

from ..._base.errors import CertflowError
from ..._kube.access_review import Permission
from ..._kube.client import Client
from ..._kube.errors import Conflict, Forbidden, NotFound
from ..._x509 import private_keys
from ..._x509.errors import CertificateError
from .. import markers
from ..errors import RequestError, SecretError
from ..intent import PENDING_SUFFIX, SecretSpec
from . import csr_api
from .csr_content import Requester, content_of, is_plain_name, is_same, requester_of

if TYPE_CHECKING:
    from ..._x509.private_keys import PrivateKey

KEY = "tls.key"


@dataclass(frozen=True)
class PendingRequest(private_keys.HasKey):
    """An earlier request, with its key.

    secret_uid: the UID of the Secret that holds the key.
    csr_name: the name of the request.
    csr: the request, None if the cluster has collected it.
    key: the key in the Secret.
    is_owned: True if the Secret has an ownerReference to this request, as ``store`` writes it.
    """

    secret_uid: str
    csr_name: str
    csr: Mapping[str, Any] | None
    key: PrivateKey
    is_owned: bool = True


def name(secret: SecretSpec) -> str:
    return f"{secret.name}{PENDING_SUFFIX}"


def path(secret: SecretSpec) -> str:
    return f"{secret.collection}/{name(secret)}"


def permissions(secret: SecretSpec) -> list[Permission]:
    """Return the permissions to store a key for later and to find it again."""
    return [
        Permission("get", "", "secrets", secret.namespace, name(secret)),
        Permission("create", "", "secrets", secret.namespace),
    ]


def load(client: Client, secret: SecretSpec) -> PendingRequest | None:
    """Return the request that waits for this Secret, or None, also if this identity may not read its key.

    Raises SecretError for a Secret of that name that this collection did not make.
    """
    try:
        obj = client.find(path(secret))
    except Forbidden:
        return None  # A run that stores a key has checked the permission before.
    if obj is None:
        return None
    if not markers.is_ours(obj):
        _refuse(secret)
    annotations = obj["metadata"].get("annotations") or {}
    try:
        text = base64.b64decode((obj.get("data") or {}).get(KEY, "")).decode("utf-8", "replace")
        key = private_keys.load(text)
    except (ValueError, CertificateError):
        _refuse(secret)
    csr_name, csr_uid = annotations.get(markers.PENDING_CSR, ""), annotations.get(markers.PENDING_UID)
    owners = [owner.get("uid") for owner in obj["metadata"].get("ownerReferences") or ()]
    pending = PendingRequest(obj["metadata"]["uid"], csr_name, None, key, is_owned=csr_uid in owners)
    is_ours = annotations.get(markers.PENDING_PUBLIC_KEY) == pending.public_key_sha256
    if not (is_ours and is_plain_name(csr_name)):
        _refuse(secret)
    csr = csr_api.find(client, csr_name)
    return replace(pending, csr=csr) if csr and csr["metadata"]["uid"] == csr_uid else pending


def foreign_reason(pending: PendingRequest, own: Requester | None, accepted: Collection[str]) -> str:
    """Return the reason why a waiting request must not be used or removed, "" if it belongs to this identity.

    own: this identity, None if the API server refuses to tell it.
    accepted: user names that count as this identity.
    """
    csr, csr_name = pending.csr, pending.csr_name
    # The requester is checked first, so that no content of another identity is parsed.
    if csr and not is_same(own, requester_of(csr), accepted):
        return f"CSR {csr_name} was requested by {requester_of(csr)}, and {csr_api.describe_identity(own)}"
    if not pending.is_owned:
        return f"the Secret that holds the key has no ownerReference to CSR {csr_name}"
    try:
        content = content_of(csr) if csr else None
    except CertflowError as exc:
        return f"CSR {csr_name} cannot be read: {exc.cause}"
    if content and content.fault:
        return f"CSR {csr_name}: {content.fault}"
    if content and content.request.public_key_sha256 != pending.public_key_sha256:
        return f"CSR {csr_name} has another public key than the key in the Secret"
    return ""


def delete_commands(secret: SecretSpec, pending: PendingRequest | None = None) -> str:
    """Return the command that removes the key, and the request if it has the labels of this Secret."""
    commands = [f"kubectl delete secret -n {secret.namespace} {name(secret)}"]
    labels = (pending.csr["metadata"].get("labels") or {}) if pending and pending.csr else {}
    if pending and markers.labels_for(secret).items() <= labels.items():
        commands.insert(0, csr_api.delete_command(pending.csr_name))
    return " && ".join(commands)


def refuse_foreign(
    secret: SecretSpec, pending: PendingRequest, own: Requester | None, accepted: Collection[str]
) -> None:
    """Raise RequestError if the waiting request or its key belongs to another identity."""
    reason = foreign_reason(pending, own, accepted)
    if reason:
        raise RequestError(
            f"the waiting CSR for {secret} is not used: {reason}",
            code="requested-by-another-identity",
            remedy=f"Remove it: {delete_commands(secret, pending)}. If its requester is this identity under another name, add that "
            "name to requesters instead",
        )


def store(client: Client, secret: SecretSpec, csr: Mapping[str, Any], key: PrivateKey) -> PendingRequest:
    """Store the key for a later run. Kubernetes deletes the Secret with the request, which owns it.

    Raises AlreadyExists if a key is stored: of another request, or of this one if the answer was lost.
    """
    # A request that comes from a list has no apiVersion and no kind.
    owner = {**csr_api.HEAD, **{field: csr["metadata"][field] for field in ("name", "uid")}}
    body = {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "immutable": True,
        "metadata": {
            "name": name(secret),
            "namespace": secret.namespace,
            "labels": markers.labels_for(secret),
            "annotations": {
                markers.PENDING_CSR: owner["name"],
                markers.PENDING_UID: owner["uid"],
                markers.PENDING_PUBLIC_KEY: private_keys.public_key_sha256(key.public_key()),
            },
            "ownerReferences": [owner],
        },
        "data": {KEY: base64.b64encode(private_keys.to_pem(key).encode()).decode()},
    }
    stored = client.create(secret.collection, body, idempotent=True)
    return PendingRequest(stored["metadata"]["uid"], owner["name"], csr, key)


def discard(client: Client, secret: SecretSpec, uid: str) -> None:
    """Delete the Secret of the key, because its certificate is stored or its request is useless."""
    with contextlib.suppress(NotFound, Conflict, Forbidden):  # It is deleted with its request.
        client.delete(path(secret), uid=uid)


def _refuse(secret: SecretSpec) -> NoReturn:
    raise SecretError(
        f"Secret {secret.namespace}/{name(secret)} has the name of the Secret for a waiting key, but holds no such key",
        remedy="Delete it if it is not needed, or set another secret.name",
    )
