# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The facts about one request, its signer and its cluster: plain data for the rules that explain the request.

The answers of a signer to other requests are the best evidence.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from .._base.times import find_time, parse_time
from .._csr.errors import RequestError
from .._csr.issuing.providers import Provider, ProviderVerdict
from .._csr.issuing.signers import SIGNERS
from .._csr.request.csr_content import certificate_of, condition_of, condition_text
from .._kube.access_review import Permission
from .._kube.cluster_facts import ManagerFlags, ManagerLease
from .._x509 import certificate_facts
from .._x509.errors import CertificateError

PROVEN, LIKELY, ONE_OF = "proven", "likely", "one of"
#: The code of a list of likely causes.
SEVERAL = "several"


@dataclass(frozen=True)
class Diagnosis:
    """The explanation of a request that is not issued, or not as it was requested."""

    #: Stable, for programs.
    code: str
    #: One sentence.
    cause: str
    #: PROVEN, LIKELY or ONE_OF.
    certainty: str
    #: Clauses.
    evidence: tuple[str, ...] = ()
    #: One or more sentences.
    remedy: str = ""

    @property
    def is_settled(self) -> bool:
        """Return True if the diagnosis names one cause, so that a longer wait is useless."""
        return self.certainty in (PROVEN, LIKELY)

    @property
    def excludes_issuing(self) -> bool:
        """Return True if each cause that it names is proven or likely, so that an approved request is stuck."""
        return self.is_settled or self.code == SEVERAL

    def as_result(self) -> dict[str, Any]:
        return {**asdict(self), "evidence": list(self.evidence)}


def describe_condition(entry: Mapping[str, Any]) -> str:
    """Return reason and message of a condition, as one clause without a full stop."""
    parts = (" ".join(str(entry.get(key, "")).split()) for key in ("reason", "message"))
    return ": ".join(filter(None, parts)).rstrip(".") or "no reason given"


def decision_evidence(csr: Mapping[str, Any], entry: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the time of a decision, and the client program that wrote it. The object does not name the user.

    A CSR that was created without labels and annotations has no managedFields (seen on 1.36.3), so no client is known.
    """
    clients = [
        str(field.get("manager"))
        for field in csr["metadata"].get("managedFields") or ()
        if field.get("subresource") == "approval"
    ]
    by = f" by the client {', '.join(clients)}" if clients else ""
    time = entry.get("lastUpdateTime", "an unknown time")
    return (f"{entry['type']} at {time}{by} ({describe_condition(entry)})",)


def approval_evidence(csr: Mapping[str, Any]) -> tuple[str, ...]:
    approved = condition_of(csr, "Approved")
    return decision_evidence(csr, approved) if approved else ()


def show_time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def show_span(length: timedelta) -> str:
    """Return a length of time in the largest unit of which it has at least two: "90 seconds", "3 hours". But "1 hour"."""
    seconds = round(length.total_seconds())
    if seconds == 3600:
        return "1 hour"
    for unit, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * unit:
            return f"{seconds // unit} {name}"
    return f"{seconds} seconds"


# Signers answer within seconds. An approved request without a certificate after this time is stuck, see state_of().
STUCK_AFTER = timedelta(minutes=10)
STUCK = "stuck"
#: The states of a request, see state_of().
STATES = ("issued", "pending", "waiting", STUCK, "refused")
# The issuers are read from this number of the newest certificates.
READ_ISSUERS_OF = 20


@dataclass(frozen=True)
class SignerStats:
    """The number of requests of one signer in each state."""

    issued: int = 0
    pending: int = 0
    #: Approved and not issued, see state_of().
    stuck: int = 0
    #: The approval of the newest issued request.
    last_issued: datetime | None = None
    #: The approval of the oldest stuck request.
    oldest_stuck: datetime | None = None
    #: The subjects of the CAs that issued the newest certificates, as RFC 4514 text.
    issuers: tuple[str, ...] = ()

    def without(self, csr: Mapping[str, Any], now: datetime) -> SignerStats:
        """Return the numbers without this request, which was counted. The times stay those of all requests."""
        own = "" if is_from_node(csr) else state_of(csr, now)
        counts = {state: getattr(self, state) - (own == state) for state in ("issued", "pending", "stuck")}
        return replace(self, **{state: max(0, count) for state, count in counts.items()})


def count_requests(csrs: Iterable[Mapping[str, Any]], now: datetime) -> SignerStats:
    """Count the requests of one signer that do not come from nodes. Signers treat the requests of kubelets differently."""
    by_state: defaultdict[str, list[tuple[datetime, Mapping[str, Any]]]] = defaultdict(list)
    for csr in itertools.filterfalse(is_from_node, csrs):
        by_state[state_of(csr, now)].append((approved_at(csr), csr))
    newest = sorted(by_state["issued"], key=lambda entry: entry[0], reverse=True)
    issuers = (_issuer_of(csr) for _at, csr in newest[:READ_ISSUERS_OF])
    return SignerStats(
        issued=len(newest),
        pending=len(by_state["pending"]),
        stuck=len(by_state["stuck"]),
        last_issued=newest[0][0] if newest else None,
        oldest_stuck=min((at for at, _csr in by_state["stuck"]), default=None),
        issuers=tuple(dict.fromkeys(filter(None, issuers))),
    )


def group_by_signer(csrs: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Return the requests of each signer name."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for csr in csrs:
        groups.setdefault(str(csr["spec"]["signerName"]), []).append(csr)
    return groups


def state_of(csr: Mapping[str, Any], now: datetime, diagnosis: Diagnosis | None = None) -> str:
    """Return the state of a request, one of STATES.

    A request is stuck if it is approved and not issued, and one of these is true: it was approved more than ten minutes ago,
    or all causes of its diagnosis are proven or likely. Otherwise it is waiting, because its signer may still answer.
    """
    condition = condition_text(csr)
    if condition == "Approved":
        is_explained = diagnosis is not None and diagnosis.excludes_issuing
        return STUCK if is_explained or now - approved_at(csr) > STUCK_AFTER else "waiting"
    if condition == "Pending":
        return "pending"
    return "issued" if condition.endswith("Issued") else "refused"


def approved_at(csr: Mapping[str, Any]) -> datetime:
    """Return the time of the approval. If that is not known, return the time of the creation."""
    approved = condition_of(csr, "Approved") or {}
    return find_time(approved.get("lastUpdateTime")) or parse_time(csr["metadata"]["creationTimestamp"])


def is_from_node(csr: Mapping[str, Any]) -> bool:
    return str(csr["spec"].get("username", "")).startswith("system:node:")


def _issuer_of(csr: Mapping[str, Any]) -> str:
    try:
        return certificate_facts.describe_pem(certificate_of(csr)).issuer
    except (CertificateError, RequestError):
        return ""


# The symptoms: the column CONDITION of `kubectl get csr`, reduced to the parts that matter.
PENDING, APPROVED, FAILED, DENIED, ISSUED, GONE = (
    "Pending", "Approved", "Approved,Failed", "Denied", "Approved,Issued", "NotFound",
)  # fmt: skip
#: The signers inside kube-controller-manager, and the part of its flags that belongs to each.
BUILT_IN_SIGNERS: Mapping[str, str] = {row.name: row.flag for row in SIGNERS.values() if row.flag}
CERT_MANAGER = ("issuers.cert-manager.io/", "clusterissuers.cert-manager.io/")


@dataclass(frozen=True)
class PublishedAuthority:
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
    authorities: tuple[PublishedAuthority, ...] = ()
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
