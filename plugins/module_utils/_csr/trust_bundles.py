# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Read ClusterTrustBundles, in which signers publish their CAs (KEP-3257)."""

from __future__ import annotations

import contextlib

from .._kube.client import Client
from .._kube.errors import NotFound
from .errors import AnchorError

_GROUP = "/apis/certificates.k8s.io"
# v1 is served from Kubernetes 1.37 on. The older versions are off by default.
_VERSIONS = ("v1", "v1beta1", "v1alpha1")


def read_bundles(client: Client, field: str, value: str) -> dict[str, str]:
    """Return the bundles whose field has the value, by name, as PEM text. Empty if the API server serves no bundles.

    field: spec.signerName or metadata.name. Raises ApiError, for example Forbidden.
    """
    for version in _VERSIONS:
        with contextlib.suppress(NotFound):
            answer = client.list_all(
                f"{_GROUP}/{version}/clustertrustbundles", {"fieldSelector": f"{field}={value}"}
            )
            return {str(obj["metadata"]["name"]): str(obj["spec"]["trustBundle"]) for obj in answer["items"]}
    return {}


def read_source(client: Client, *, name: str | None, signer_name: str | None) -> str:
    """Return the PEM text of the bundle of that name, or of all bundles of that signer.

    Raises AnchorError if there is no such bundle, and ApiError.
    """
    field, value = ("metadata.name", name) if name else ("spec.signerName", str(signer_name))
    pem = "\n".join(read_bundles(client, field, str(value)).values())
    if not pem:
        raise AnchorError(
            f"the cluster has no ClusterTrustBundle whose {field} is {value}",
            remedy="List them with kubectl get clustertrustbundles. Kubernetes serves them by default from 1.37 on",
        )
    return pem
