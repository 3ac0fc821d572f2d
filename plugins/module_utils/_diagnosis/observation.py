# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The facts about one request and its cluster: plain data for the rules that explain the request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from .._csr.csr_content import condition_text
from .._csr.providers import Provider, ProviderVerdict
from .._csr.signers import SIGNERS
from .._kube.access_review import Permission
from .._kube.cluster_facts import ManagerFlags, ManagerLease
from .signer_stats import SignerStats

# The symptoms: the column CONDITION of `kubectl get csr`, reduced to the parts that matter.
PENDING, APPROVED, FAILED, DENIED, ISSUED, GONE = (
    "Pending", "Approved", "Approved,Failed", "Denied", "Approved,Issued", "NotFound",
)  # fmt: skip
#: The signers inside kube-controller-manager, and the part of its flags that belongs to each.
BUILT_IN_SIGNERS: Mapping[str, str] = {row.name: row.flag for row in SIGNERS.values() if row.flag}
CERT_MANAGER = ("issuers.cert-manager.io/", "clusterissuers.cert-manager.io/")


@dataclass(frozen=True)
class PublishedCa:
    """A CA certificate that the cluster publishes."""

    #: Where it was read.
    source: str
    #: RFC 4514 text.
    subject: str
    not_after: datetime
    #: True if it is published as the CA that signs requests.
    signs_requests: bool = False


@dataclass(frozen=True)
class SignerEvent:
    """An Event on the request."""

    #: The controller that wrote it.
    reporter: str
    reason: str
    #: In one line.
    message: str
    is_warning: bool


@dataclass(frozen=True)
class CertManagerIssuer:
    """The cert-manager issuer that the signer name refers to."""

    #: Kind and name.
    text: str
    #: True if cert-manager's API exists, None if it could not be read.
    is_installed: bool | None
    #: None if it could not be read.
    exists: bool | None


@dataclass(frozen=True)
class CsrObservation:
    """The facts about one request. None or an empty value: not read, or not readable for this identity."""

    #: The object. If it is gone, as it was last read.
    csr: Mapping[str, Any]
    #: The API server's time.
    now: datetime
    provider: ProviderVerdict | None = None
    #: The other requests of its signer.
    stats: SignerStats | None = None
    #: The Lease of kube-controller-manager.
    lease: ManagerLease | None = None
    #: The flags of each kube-controller-manager.
    flags: tuple[ManagerFlags, ...] = ()
    authorities: tuple[PublishedCa, ...] = ()
    issuer: CertManagerIssuer | None = None
    events: tuple[SignerEvent, ...] = ()
    #: The permissions that this identity lacks to approve it.
    lacking: tuple[Permission, ...] | None = None
    #: A sentence for each fact that could not be read.
    unreadable: tuple[str, ...] = ()
    is_gone: bool = False

    @property
    def name(self) -> str:
        return str(self.csr["metadata"]["name"])

    @property
    def signer(self) -> str:
        return str((self.csr.get("spec") or {}).get("signerName", ""))

    @property
    def provider_row(self) -> Provider | None:
        return self.provider.row if self.provider else None

    @property
    def symptom(self) -> str:
        return GONE if self.is_gone else symptom_of(self.csr)


def symptom_of(csr: Mapping[str, Any]) -> str:
    """Return the symptom that the conditions of a request amount to: PENDING, APPROVED, FAILED, DENIED or ISSUED."""
    parts = condition_text(csr).split(",")
    if "Issued" in parts:
        return ISSUED
    if "Denied" in parts:
        return DENIED
    return FAILED if "Failed" in parts else parts[0]
