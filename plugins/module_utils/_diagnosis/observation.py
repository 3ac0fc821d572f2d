# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""What is known of one request and of its surroundings: plain data for the rules that explain it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from .._csr.csr_content import condition_text
from .._csr.providers import Provider, ProviderVerdict
from .._csr.signers import (
    KUBE_APISERVER_CLIENT,
    KUBE_APISERVER_CLIENT_KUBELET,
    KUBELET_SERVING,
    LEGACY_UNKNOWN,
)
from .._kube.access_review import Permission
from .._kube.cluster_facts import ManagerFlags, ManagerLease
from .signer_stats import SignerStats

# What an operator sees: the column CONDITION of `kubectl get csr`, reduced to what matters.
PENDING, APPROVED, FAILED, DENIED, ISSUED, GONE = (
    "Pending", "Approved", "Approved,Failed", "Denied", "Approved,Issued", "NotFound",
)  # fmt: skip
# Signers inside kube-controller-manager -> the part of its flags that is theirs:
# --cluster-signing-PART-cert-file (k/k cmd/kube-controller-manager/app/certificates.go).
CONTROLLED: Mapping[str, str] = {
    KUBELET_SERVING: "kubelet-serving",
    KUBE_APISERVER_CLIENT: "kube-apiserver-client",
    KUBE_APISERVER_CLIENT_KUBELET: "kubelet-client",
    LEGACY_UNKNOWN: "legacy-unknown",
}
CERT_MANAGER = ("issuers.cert-manager.io/", "clusterissuers.cert-manager.io/")


@dataclass(frozen=True)
class PublishedCa:
    """A CA that the cluster publishes. subject: RFC 4514 text. for_requests: published as the one that signs requests."""

    source: str
    subject: str
    not_after: datetime
    for_requests: bool = False


@dataclass(frozen=True)
class SignerEvent:
    """An Event on the request: what a controller says of it, in one line."""

    reporter: str
    reason: str
    message: str
    warning: bool


@dataclass(frozen=True)
class CertManagerIssuer:
    """The cert-manager issuer that the signer's name stands for. exists: None where it may not be read."""

    text: str
    installed: bool | None
    exists: bool | None


@dataclass(frozen=True)
class CsrObservation:
    """What is known. csr: the object, where it is gone as it was last seen; None, empty: nobody looked, or may.

    lacking: rights that this identity lacks to approve it. unreadable: a sentence for each fact that could not be read.
    """

    csr: Mapping[str, Any]
    now: datetime
    provider: ProviderVerdict | None = None
    peers: SignerStats | None = None
    lease: ManagerLease | None = None
    flags: tuple[ManagerFlags, ...] = ()
    authorities: tuple[PublishedCa, ...] = ()
    issuer: CertManagerIssuer | None = None
    reports: tuple[SignerEvent, ...] = ()
    lacking: tuple[Permission, ...] | None = None
    unreadable: tuple[str, ...] = ()
    gone: bool = False

    @property
    def name(self) -> str:
        return str(self.csr["metadata"]["name"])

    @property
    def signer(self) -> str:
        return str((self.csr.get("spec") or {}).get("signerName", ""))

    @property
    def row(self) -> Provider | None:
        return self.provider.row if self.provider else None

    @property
    def symptom(self) -> str:
        return GONE if self.gone else symptom_of(self.csr)


def symptom_of(csr: Mapping[str, Any]) -> str:
    """One of PENDING, APPROVED, FAILED, DENIED, ISSUED: what the request's conditions come to."""
    parts = condition_text(csr).split(",")
    if "Issued" in parts:
        return ISSUED
    if "Denied" in parts:
        return DENIED
    return FAILED if "Failed" in parts else parts[0]
