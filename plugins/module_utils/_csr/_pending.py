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
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Mapping

from .._kube._client import Client
from .._kube._errors import Conflict, NotFound
from .._x509 import _keys
from .._x509._errors import CertificateError
from . import _marks
from ._errors import SecretError
from ._intent import Intent, SecretSpec
from ._requests import GROUP, path

if TYPE_CHECKING:
    from .._x509._keys import PrivateKey

KEY = "tls.key"


@dataclass(frozen=True)
class Pending:
    """A request that was made earlier, with its key. ``csr`` is None where the cluster has collected it."""

    secret_uid: str
    csr: Mapping[str, Any] | None
    key: PrivateKey

    @property
    def public_key_sha256(self) -> str:
        return _keys.public_key_sha256(self.key.public_key())


def name(secret: SecretSpec) -> str:
    return f"{secret.name}-pending"


def load(client: Client, intent: Intent) -> Pending | None:
    """The request that waits for this Secret, None where there is none.

    Raises SecretError for a Secret of that name which this collection did not make.
    """
    secret = client.find(f"{intent.secret.collection}/{name(intent.secret)}")
    if secret is None:
        return None
    annotations = secret["metadata"].get("annotations") or {}
    text = base64.b64decode((secret.get("data") or {}).get(KEY, "")).decode("utf-8", "replace")
    try:
        key = _keys.load(text)
    except CertificateError as exc:
        raise _foreign(intent) from exc
    pending = Pending(secret["metadata"]["uid"], None, key)
    if not _marks.is_ours(secret) or annotations.get(_marks.PENDING_PUBLIC_KEY) != pending.public_key_sha256:
        raise _foreign(intent)
    csr = client.find(path(annotations.get(_marks.PENDING_CSR, "")))
    if csr is None or csr["metadata"]["uid"] != annotations.get(_marks.PENDING_UID):
        return pending
    return Pending(pending.secret_uid, csr, key)


def store(client: Client, intent: Intent, csr: Mapping[str, Any], key: PrivateKey) -> None:
    """Keep the key for a later run. The owner makes it go when the request goes."""
    metadata = csr["metadata"]
    body = {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "immutable": True,
        "metadata": {
            "name": name(intent.secret),
            "namespace": intent.secret.namespace,
            "labels": _marks.labels_for(intent.secret),
            "annotations": {
                _marks.PENDING_CSR: metadata["name"],
                _marks.PENDING_UID: metadata["uid"],
                _marks.PENDING_PUBLIC_KEY: _keys.public_key_sha256(key.public_key()),
            },
            "ownerReferences": [
                {
                    "apiVersion": f"{GROUP}/v1",
                    "kind": "CertificateSigningRequest",
                    "name": metadata["name"],
                    "uid": metadata["uid"],
                }
            ],
        },
        "data": {KEY: base64.b64encode(_keys.to_pem(key).encode()).decode()},
    }
    client.create(intent.secret.collection, body)


def discard(client: Client, intent: Intent, pending: Pending) -> None:
    """Delete the key's Secret: its certificate is stored, or its request is of no use any more."""
    try:
        client.delete(f"{intent.secret.collection}/{name(intent.secret)}", uid=pending.secret_uid)
    except (NotFound, Conflict):
        pass  # collected with its request, and perhaps made anew by another run


def _foreign(intent: Intent) -> SecretError:
    return SecretError(
        f"Secret {intent.namespace}/{name(intent.secret)} stands where a waiting key is kept, and is something else",
        remedy="delete it if nobody needs it, or give another secret.name",
    )
