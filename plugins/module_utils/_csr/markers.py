# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The labels and annotations by which this collection recognises its own objects."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from .._base.object_managers import OWN_MANAGER
from .intent import MANAGED_BY, PREFIX, Intent, SecretSpec

MANAGER = OWN_MANAGER
SECRET_LABEL = (
    f"{PREFIX}secret-hash"  # A label value has at most 63 characters, which is too short for names.
)
SERVICE = f"{PREFIX}service"
SIGNER = f"{PREFIX}signer-name"
SECRET = f"{PREFIX}secret"
# A Secret that this collection created, and one that it adopted: what it wrote last, see ``written``.
CREATED = f"{PREFIX}created"
ADOPTED = f"{PREFIX}adopted"
# The anchors that this collection added, as "kind/name/webhook=fingerprint ...". state: absent removes only these.
ANCHORS = f"{PREFIX}added-anchors"
# The targets that a run found itself (discover_targets), as "kind/name ...".
TARGETS = f"{PREFIX}discovered-targets"
# A certificate that not every endpoint was seen to serve: its serial, then the anchors to remove after that, as above.
UNPROVEN = f"{PREFIX}unproven"
# A throw-away request: the run that made it, and its purpose in words.
PROBE = f"{PREFIX}signer-probe"
PURPOSE = f"{PREFIX}purpose"
PENDING_CSR = f"{PREFIX}csr"
PENDING_UID = f"{PREFIX}csr-uid"
PENDING_PUBLIC_KEY = f"{PREFIX}public-key-sha256"


def labels_for(secret: SecretSpec, held: Mapping[str, str] = MappingProxyType({})) -> dict[str, str]:
    """Return the labels of an object for a Secret. held: the labels that it has. The label of another manager stays."""
    digest = hashlib.sha256(f"{secret.namespace}/{secret.name}".encode()).hexdigest()[:16]
    return {MANAGED_BY: held.get(MANAGED_BY, MANAGER), SECRET_LABEL: digest}


def annotations_for(intent: Intent) -> dict[str, str]:
    return {SERVICE: f"{intent.namespace}/{intent.service}", SIGNER: intent.signer.name}


#: The annotations that this collection gives to a Secret.
ANNOTATIONS = (CREATED, ADOPTED, SERVICE, SIGNER, ANCHORS, TARGETS, UNPROVEN)


def written(secret: object, key_sha256: str, fingerprint: str) -> str:
    """Return the mark of a Secret with this key and this certificate. It is worth nothing in a copy with another name."""
    return "-".join(
        hashlib.sha256(f"{secret} {part}".encode()).hexdigest()[:16] for part in (key_sha256, fingerprint)
    )


def is_ours(obj: Mapping[str, Any]) -> bool:
    return (obj["metadata"].get("labels") or {}).get(MANAGED_BY) == MANAGER
