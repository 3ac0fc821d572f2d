# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""A signer's requests, counted: what others got from it is the best evidence there is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from .._csr.csr_content import certificate_of, condition_of, condition_text
from .._csr.errors import RequestError
from .._times import parse_time
from .._x509 import certificate_facts
from .._x509.errors import CertificateError

# Signers answer within seconds; an approved request without a certificate after this time is stuck.
STUCK_AFTER = timedelta(minutes=10)
# So many of the newest certificates are read for the names of their issuers.
READ_ISSUERS_OF = 20


@dataclass(frozen=True)
class SignerStats:
    """Requests of one signer. stuck: approved long ago, without result. issued_at, oldest_stuck: times of approvals.

    issuers: subjects of the CAs that issued the newest ones, as RFC 4514 text.
    """

    issued: int = 0
    pending: int = 0
    stuck: int = 0
    last_issued: datetime | None = None
    oldest_stuck: datetime | None = None
    issuers: tuple[str, ...] = ()

    def beside(self, csr: Mapping[str, Any], now: datetime) -> SignerStats:
        """Those other than this one, which was counted; the times stay those of all."""
        own = "" if is_node(csr) else state_of(csr, now)
        return SignerStats(
            max(0, self.issued - (own == "issued")),
            max(0, self.pending - (own == "pending")),
            max(0, self.stuck - (own == "stuck")),
            self.last_issued,
            self.oldest_stuck,
            self.issuers,
        )


def count_requests(csrs: Iterable[Mapping[str, Any]], now: datetime) -> SignerStats:
    """Count the requests of one signer."""
    found: dict[str, list[tuple[datetime, Mapping[str, Any]]]] = {
        "issued": [],
        "pending": [],
        "stuck": [],
        "": [],
    }
    for csr in csrs:
        found[state_of(csr, now)].append((approved_at(csr), csr))
    newest = sorted(found["issued"], key=lambda entry: entry[0], reverse=True)
    return SignerStats(
        issued=len(found["issued"]),
        pending=len(found["pending"]),
        stuck=len(found["stuck"]),
        last_issued=newest[0][0] if newest else None,
        oldest_stuck=min((at for at, _csr in found["stuck"]), default=None),
        issuers=tuple(dict.fromkeys(filter(None, (_issuer(csr) for _at, csr in newest[:READ_ISSUERS_OF])))),
    )


def without_nodes(csrs: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Those that are not a node's own: signers treat kubelets otherwise than anybody else."""
    return [csr for csr in csrs if not is_node(csr)]


def group_by_signer(csrs: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """The requests by the name of their signer."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for csr in csrs:
        found.setdefault(str(csr["spec"]["signerName"]), []).append(csr)
    return found


def state_of(csr: Mapping[str, Any], now: datetime) -> str:
    """ "issued", "pending", "stuck", or "" for what was refused and for what its signer may still answer."""
    what = condition_text(csr)
    if what.endswith("Issued"):
        return "issued"
    if what == "Approved":
        return "stuck" if now - approved_at(csr) > STUCK_AFTER else ""
    return "pending" if what == "Pending" else ""


def approved_at(csr: Mapping[str, Any]) -> datetime:
    """When it was approved; when it was made, where that is not known."""
    approved = condition_of(csr, "Approved") or {}
    return parse_time(approved.get("lastUpdateTime") or csr["metadata"]["creationTimestamp"])


def is_node(csr: Mapping[str, Any]) -> bool:
    return str(csr["spec"].get("username", "")).startswith("system:node:")


def _issuer(csr: Mapping[str, Any]) -> str:
    try:
        return certificate_facts.describe_pem(certificate_of(csr)).issuer
    except (CertificateError, RequestError):
        return ""
