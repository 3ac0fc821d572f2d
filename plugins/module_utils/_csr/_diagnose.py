# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Why a request is not issued: small rules over one observation.

Approved without a certificate looks the same for a signer that does not exist, one that refuses silently, a stopped
controller-manager, an expired CA and a slow one. So each answer has a certainty and never claims more than its
evidence: the first proven rule wins, else the likely ones are listed together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Callable, Optional

PROVEN, LIKELY, ONE_OF = "proven", "likely", "one of"


@dataclass(frozen=True)
class Peers:
    """Other requests of the same signer that are not a node's own: issued, and approved long ago without result."""

    issued: int
    stuck: int


@dataclass(frozen=True)
class Observation:
    """What is known. csr: the object; provider, peers: None where nobody looked."""

    csr: Mapping[str, Any]
    now: datetime
    provider: Any = None
    peers: Peers | None = None


@dataclass(frozen=True)
class Diagnosis:
    """code: stable, for programs. cause: one sentence. certainty: "proven", "likely" or "one of"."""

    code: str
    cause: str
    certainty: str
    evidence: tuple[str, ...] = ()
    remedy: str = ""


def diagnose(observation: Observation) -> Optional[Diagnosis]:
    """Return why the request is not issued, None where it is."""
    raise NotImplementedError


def peers_of(csr: Mapping[str, Any], all_csrs: Iterable[Mapping[str, Any]], now: datetime) -> Peers:
    """Count the other requests of a CSR's signer in a list of CSR objects."""
    raise NotImplementedError
