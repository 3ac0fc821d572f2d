# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Requests that somebody else approves later: the key waits in an immutable Secret that the request owns.

Kubernetes collects the Secret with the request: 24 hours after it was made while nobody decides, an hour after it was
issued. So a key that can lead to nothing does not stay.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn

from .._kube._client import Client
from .._kube._errors import Conflict, Forbidden, NotFound
from .._kube._rights import Right
from .._x509 import _keys
from .._x509._errors import CertificateError
from . import _marks, _requests
from ._errors import SecretError
from ._intent import PENDING_SUFFIX, SecretSpec

if TYPE_CHECKING:
    from .._x509._keys import PrivateKey

KEY = "tls.key"


@dataclass(frozen=True)
class Pending:
    """A request that was made earlier, with its key. ``csr`` is None where the cluster has collected it."""

    secret_uid: str
    csr_name: str
    csr: Mapping[str, Any] | None
    key: PrivateKey

    @property
    def public_key_sha256(self) -> str:
        return _keys.public_key_sha256(self.key.public_key())


def name(secret: SecretSpec) -> str:
    return f"{secret.name}{PENDING_SUFFIX}"


def path(secret: SecretSpec) -> str:
    return f"{secret.collection}/{name(secret)}"


def rights(secret: SecretSpec) -> list[Right]:
    """To keep a key for later and to find it again."""
    return [
        Right("get", "", "secrets", secret.namespace, name(secret)),
        Right("create", "", "secrets", secret.namespace),
    ]


def find(client: Client, secret: SecretSpec) -> dict[str, Any] | None:
    """The Secret that keeps the waiting key, None where there is none that this identity may see."""
    try:
        obj = client.find(path(secret))
    except Forbidden:
        return None  # where a key is to be kept, the right is demanded beforehand
    return obj if obj is None or _marks.is_ours(obj) else _refuse(secret)


def load(client: Client, secret: SecretSpec) -> Pending | None:
    """The request that waits for this Secret, None where there is none.

    Raises SecretError for a Secret of that name which this collection did not make.
    """
    obj = find(client, secret)
    if obj is None:
        return None
    annotations = obj["metadata"].get("annotations") or {}
    text = base64.b64decode((obj.get("data") or {}).get(KEY, "")).decode("utf-8", "replace")
    try:
        key = _keys.load(text)
    except CertificateError:
        _refuse(secret)
    csr_name = annotations.get(_marks.PENDING_CSR, "")
    pending = Pending(obj["metadata"]["uid"], csr_name, None, key)
    if not csr_name or annotations.get(_marks.PENDING_PUBLIC_KEY) != pending.public_key_sha256:
        _refuse(secret)
    csr = client.find(_requests.path(csr_name))
    if csr is None or csr["metadata"]["uid"] != annotations.get(_marks.PENDING_UID):
        return pending
    return replace(pending, csr=csr)


def store(client: Client, secret: SecretSpec, csr: Mapping[str, Any], key: PrivateKey) -> Pending:
    """Keep the key for a later run. The owner makes it go when the request goes.

    Raises AlreadyExists: by another request's key, or by this one whose answer was lost.
    """
    owner = {"apiVersion": csr["apiVersion"], "kind": csr["kind"]}
    owner.update({field: csr["metadata"][field] for field in ("name", "uid")})
    body = {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "immutable": True,
        "metadata": {
            "name": name(secret),
            "namespace": secret.namespace,
            "labels": _marks.labels_for(secret),
            "annotations": {
                _marks.PENDING_CSR: owner["name"],
                _marks.PENDING_UID: owner["uid"],
                _marks.PENDING_PUBLIC_KEY: _keys.public_key_sha256(key.public_key()),
            },
            "ownerReferences": [owner],
        },
        "data": {KEY: base64.b64encode(_keys.to_pem(key).encode()).decode()},
    }
    stored = client.create(secret.collection, body, idempotent=True)
    return Pending(stored["metadata"]["uid"], owner["name"], csr, key)


def spent(client: Client, secret: SecretSpec, public_key_sha256: str) -> str:
    """UID of the Secret that still keeps this key although its certificate is stored; "" where there is none.

    A run that was killed between the two leaves it.
    """
    try:
        obj = client.find(path(secret))
    except Forbidden:
        return ""
    metadata = obj["metadata"] if obj and _marks.is_ours(obj) else {}
    is_spent = (metadata.get("annotations") or {}).get(_marks.PENDING_PUBLIC_KEY) == public_key_sha256
    return str(metadata["uid"]) if is_spent else ""


def discard(client: Client, secret: SecretSpec, uid: str) -> None:
    """Delete the key's Secret: its certificate is stored, or its request is of no use any more."""
    with contextlib.suppress(NotFound, Conflict, Forbidden):  # it went, or goes, with its request
        client.delete(path(secret), uid=uid)


def _refuse(secret: SecretSpec) -> NoReturn:
    raise SecretError(
        f"Secret {secret.namespace}/{name(secret)} stands where a waiting key is kept, and is something else",
        remedy="delete it if nobody needs it, or give another secret.name",
    )
