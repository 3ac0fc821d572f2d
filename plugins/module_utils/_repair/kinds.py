# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The table of the kinds of repairs. Pure.

A new kind is a row: the checks that it answers, and a function that plans an action for a finding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Callable

from . import bundle_repairs
from .repair_model import Action, Case, Refusal

#: The checks that fold the faults of a caller into one finding.
_FOLDED = ("conversion-dead", "apiservice-down")
ADD_CA, SECURE = "add-ca", "secure-apiservice"


@dataclass(frozen=True)
class RepairKind:
    """One kind of repair."""

    name: str
    #: The ids of the checks that it answers.
    checks: frozenset[str]
    #: Returns None if the kind does not fit the fault.
    plan: Callable[[Case], Action | Refusal | None]
    #: Why it cannot be put back, "" if it can.
    final: str = ""


ROWS = (
    RepairKind(
        ADD_CA,
        frozenset(("ca-mismatch", "bundle-empty", "bundle-broken", "ca-expired", "ca-expiring", *_FOLDED)),
        bundle_repairs.plan_add_ca,
    ),
    RepairKind(SECURE, frozenset(("apiservice-insecure",)), bundle_repairs.plan_secure_apiservice),
)
KINDS: Mapping[str, RepairKind] = {row.name: row for row in ROWS}
CHECKS = frozenset(check for row in ROWS for check in row.checks)


def kinds_for(check: str) -> tuple[RepairKind, ...]:
    """Return the kinds that answer a check, in the order of the table."""
    return tuple(row for row in ROWS if check in row.checks)
