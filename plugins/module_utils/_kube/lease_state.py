# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The content of a Lease object (coordination.k8s.io/v1): read it, write it, and decide if another run may take it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from .._base.times import find_time, format_micro_time

GROUP = "coordination.k8s.io"
# Long enough for a renewal, and then for one request with its time-out.
SECONDS = 60
_LARGEST_NUMBER = 2**31 - 1  # of an int32
# A Lease of another run counts at most for this many durations of our own. Every user with the role edit may write any number.
MOST_DURATIONS = 10


@dataclass(frozen=True)
class LeaseState:
    """The content of a Lease object."""

    #: The name of the holder, "" if there is no holder.
    holder: str = ""
    #: The time of the acquisition, UTC, None if the field is missing.
    since: datetime | None = None
    #: The time of the last renewal, UTC, None if the field is missing.
    renewed: datetime | None = None
    #: The duration after a renewal, 0 if the field is missing.
    seconds: int = 0
    #: The number of changes of the holder.
    transitions: int = 0

    @property
    def until(self) -> datetime | None:
        """Return the time at which it expires according to its fields, None if they are missing."""
        try:
            return self.renewed + timedelta(seconds=self.seconds) if self.renewed and self.seconds else None
        except OverflowError:
            return None

    def is_free(self, now: datetime, unchanged: float, default: int) -> bool:
        """Return True if another run may take it over.

        now: the time by the API server's clock. The holder's clock may differ, so this decides only if the last renewal is
          older than twice the duration. A renewal in the far future makes the duration unbelievable.
        unchanged: seconds by our own clock for which the resourceVersion has stayed the same.
        default: the duration of a Lease without one.
        """
        if not self.holder:
            return True
        longest = MOST_DURATIONS * default
        age = (now - self.renewed).total_seconds() if self.renewed else 0.0
        seconds = min(self.seconds or default, longest if -age < 2 * longest else default)
        return unchanged >= seconds or age >= 2 * seconds


def read_lease(obj: Mapping[str, Any]) -> LeaseState:
    """Return the content of a Lease object. A field of the wrong type counts as missing."""
    spec = obj.get("spec")
    if not isinstance(spec, Mapping):
        return LeaseState()
    return LeaseState(
        _text(spec.get("holderIdentity")),
        find_time(spec.get("acquireTime")),
        find_time(spec.get("renewTime")),
        _number(spec.get("leaseDurationSeconds")),
        _number(spec.get("leaseTransitions")),
    )


def read_token(obj: Mapping[str, Any]) -> tuple[str, str, int]:
    """Return the identity of one holder's time with a Lease: the holder, the UID of the object, and its number of transitions."""
    state = read_lease(obj)
    return state.holder, read_metadata(obj, "uid"), state.transitions


def lease_spec(
    holder: str, since: datetime, now: datetime, transitions: int, seconds: int = SECONDS
) -> dict[str, Any]:
    """Return the spec of a Lease held since ``since`` and for ``seconds`` from ``now`` on. Both are UTC."""
    return {
        "holderIdentity": holder,
        "leaseDurationSeconds": seconds,
        "acquireTime": format_micro_time(since),
        "renewTime": format_micro_time(now),
        "leaseTransitions": min(transitions, _LARGEST_NUMBER),
    }


def read_metadata(obj: Mapping[str, Any], key: str) -> str:
    """Return a text of the object's metadata, "" for any other value."""
    metadata = obj.get("metadata")
    return _text(metadata.get(key)) if isinstance(metadata, Mapping) else ""


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _number(value: Any) -> int:
    """Return a positive int32, 0 for any other value. A larger number counts as the largest int32."""
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return min(value, _LARGEST_NUMBER) if is_number and value > 0 else 0
