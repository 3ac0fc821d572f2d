# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Labels and annotations by which this collection knows its own objects again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from ._intent import Intent, SecretSpec

MANAGER = "certflow.kubernetes"
MANAGED_BY = "app.kubernetes.io/managed-by"
SECRET_LABEL = "certflow.kubernetes/secret-hash"  # label values hold 63 characters: too few for names
SERVICE = "certflow.kubernetes/service"
SIGNER = "certflow.kubernetes/signer-name"
SECRET = "certflow.kubernetes/secret"
# Which anchors this collection added, as "kind/name=fingerprint ...": state absent removes those and no other.
ANCHORS = "certflow.kubernetes/added-anchors"
PENDING_CSR = "certflow.kubernetes/csr"
PENDING_UID = "certflow.kubernetes/csr-uid"
PENDING_PUBLIC_KEY = "certflow.kubernetes/public-key-sha256"


def labels_for(secret: SecretSpec) -> dict[str, str]:
    digest = hashlib.sha256(f"{secret.namespace}/{secret.name}".encode()).hexdigest()[:16]
    return {MANAGED_BY: MANAGER, SECRET_LABEL: digest}


def annotations_for(intent: Intent) -> dict[str, str]:
    return {
        SECRET: f"{intent.secret.namespace}/{intent.secret.name}",
        SERVICE: f"{intent.namespace}/{intent.service}",
        SIGNER: intent.signer.name,
    }


def is_ours(obj: Mapping[str, Any]) -> bool:
    return (obj.get("metadata", {}).get("labels") or {}).get(MANAGED_BY) == MANAGER
