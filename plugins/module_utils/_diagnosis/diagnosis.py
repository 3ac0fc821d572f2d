# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""What an explanation is made of, and the words that several rules share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from .._csr.csr_content import condition_of

PROVEN, LIKELY, ONE_OF = "proven", "likely", "one of"


@dataclass(frozen=True)
class Diagnosis:
    """code: stable, for programs. cause: one sentence. certainty: "proven", "likely" or "one of"."""

    code: str
    cause: str
    certainty: str
    evidence: tuple[str, ...] = ()
    remedy: str = ""

    @property
    def is_settled(self) -> bool:
        """Whether it is worth acting on: more than a list of what it may be."""
        return self.certainty in (PROVEN, LIKELY)

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "evidence": list(self.evidence)}


def words(entry: Mapping[str, Any]) -> str:
    """Reason and message of a condition, as one clause without a full stop."""
    parts = (" ".join(str(entry.get(key, "")).split()) for key in ("reason", "message"))
    return ": ".join(filter(None, parts)).rstrip(".") or "no reason given"


def decision(csr: Mapping[str, Any], entry: Mapping[str, Any]) -> tuple[str, ...]:
    """When a decision was written and by which client: the object names no user.

    A CSR that was created without labels and annotations has no managedFields (seen on 1.36.3), thus no client.
    """
    clients = [
        str(field.get("manager"))
        for field in csr["metadata"].get("managedFields") or ()
        if field.get("subresource") == "approval"
    ]
    by = f" by the client {', '.join(clients)}" if clients else ""
    return (f"{entry['type']} at {entry.get('lastUpdateTime', 'an unknown time')}{by} ({words(entry)})",)


def approval(csr: Mapping[str, Any]) -> tuple[str, ...]:
    approved = condition_of(csr, "Approved")
    return decision(csr, approved) if approved else ()


def moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def span(length: timedelta) -> str:
    """Roughly, in the largest unit that gives at least two: "90 seconds", "3 hours", "12 days"; but "1 hour"."""
    seconds = round(length.total_seconds())
    if seconds == 3600:
        return "1 hour"
    for unit, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * unit:
            return f"{seconds // unit} {name}"
    return f"{seconds} seconds"
