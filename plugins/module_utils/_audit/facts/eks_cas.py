# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Parse what Amazon EKS says about the CAs of a cluster: the output of the aws CLI. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from ..._csr.ca_rotation import CaRotation
from ..._times import find_time
from ..._x509 import certificate_facts


@dataclass(frozen=True)
class EksCa:
    """One CA (https://docs.aws.amazon.com/eks/latest/APIReference/API_CertificateAuthority.html)."""

    #: SHA-256 of the certificate, lowercase hex.
    fingerprint: str
    #: When EKS activates it by itself, at the earliest and at the latest. None if that is not known.
    first_activation: datetime | None = None
    final_activation: datetime | None = None
    has_rollback: bool = False


def parse(output: Mapping[str, Any]) -> tuple[EksCa, ...]:
    """Return the CAs with a certificate.

    output: of `aws eks describe-certificate-authority`, or such outputs in a list with the key certificateAuthorities. The entries of
        `aws eks list-certificate-authorities` have no certificate and no dates, so they say nothing.
    """
    return tuple(_parsed(output))


def _parsed(output: Mapping[str, Any]) -> Iterator[EksCa]:
    listed = output.get("certificateAuthorities")
    for entry in (output, *(listed if isinstance(listed, list) else ())):
        ca = entry.get("certificateAuthority", entry) if isinstance(entry, Mapping) else None
        pem = certificate_facts.decoded_certificate(ca.get("data")) if isinstance(ca, Mapping) else ""
        if pem and isinstance(ca, Mapping):
            events = ca.get("scheduledEvents")
            dates = events if isinstance(events, Mapping) else {}
            yield EksCa(
                certificate_facts.describe_pem(pem).fingerprint,
                _time(dates.get("firstAutoActivation")),
                _time(dates.get("finalAutoActivation")),
                ca.get("rollbackAvailable") is True,
            )


def find_successor(known: Iterable[EksCa], rotation: CaRotation, now: datetime) -> EksCa | None:
    """Return the successor as EKS describes it, None if it is not described, or if the cluster shows that the dates are old."""
    for ca in known:
        if ca.fingerprint in rotation.successor.fingerprints:
            is_old = ca.first_activation and ca.first_activation <= now and not rotation.is_switched
            return None if is_old else ca
    return None


def _time(value: object) -> datetime | None:
    """Return a time as RFC 3339, as seconds since 1970, which version 1 of the aws CLI prints, or as YAML reads it (UTC without a zone)."""
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=timezone.utc)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return datetime.fromtimestamp(value, timezone.utc)
        except (OverflowError, ValueError, OSError):
            return None
    return find_time(value)
