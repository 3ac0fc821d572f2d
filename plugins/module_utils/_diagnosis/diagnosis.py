# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The form of a diagnosis, and the phrases that several rules share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from .._csr.csr_content import condition_of

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
