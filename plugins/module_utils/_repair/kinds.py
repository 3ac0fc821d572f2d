# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The table of the kinds of repairs. Pure.

A new kind is a row: the checks that it answers, and a function that plans an action for a finding.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Callable

from .._audit.facts import cluster_data
from .._audit.facts.cluster_data import ClusterData
from . import bundle_repairs, restarts, rotation_repairs
from .repair_model import FAILED, PUT_BACK, WRITTEN, Action, Case, Refusal, RotationOptions

#: The checks that fold the faults of a caller into one finding.
_FOLDED = ("conversion-dead", "apiservice-down")
ADD_CA, SECURE, RELOAD = "add-ca", "secure-apiservice", "reload"
ADD_SUCCESSOR, REMOVE_OUTGOING = "add-successor", "remove-outgoing"
#: Without one of them, an audit does not know that a rotation has begun, or that a caBundle exists.
_ROTATION = frozenset(
    (*cluster_data.ESSENTIAL, cluster_data.CLUSTER_CA, cluster_data.API_SERVER, cluster_data.REQUESTS)
)


@dataclass(frozen=True)
class RepairKind:
    """One kind of repair."""

    name: str
    #: The ids of the checks that it answers.
    checks: frozenset[str]
    #: Returns None if the kind does not fit the fault.
    plan: Callable[[Case], Action | Refusal | None]
    #: The state of a write without a proof: WRITTEN for an addition, which stays, PUT_BACK for a removal, and FAILED for a write that
    #: cannot be undone.
    unproven: str
    #: True if the written field is the proof, whatever the endpoints show.
    is_proven_by_field: bool = False
    #: True if it removes trust, so that endpoints that are not ready count.
    removes_trust: bool = False
    #: The sources of an audit that must be read completely.
    needs: frozenset[str] = frozenset()
    #: Returns what the kind waits for in the whole cluster.
    wait: Callable[[ClusterData, RotationOptions], Refusal | None] = lambda _data, _options: None


ROWS = (
    RepairKind(
        ADD_CA,
        frozenset(("ca-mismatch", "bundle-empty", "bundle-broken", "ca-expired", "ca-expiring", *_FOLDED)),
        bundle_repairs.plan_add_ca,
        WRITTEN,
    ),
    RepairKind(
        SECURE,
        frozenset(("apiservice-insecure",)),
        bundle_repairs.plan_secure_apiservice,
        PUT_BACK,
        removes_trust=True,
    ),
    RepairKind(
        RELOAD,
        frozenset(("expired", "expiring", "ca-mismatch", "not-reloaded", "endpoints-differ", *_FOLDED)),
        restarts.plan_reload,
        FAILED,
    ),
    RepairKind(
        ADD_SUCCESSOR,
        frozenset(("bundle-without-successor",)),
        rotation_repairs.plan_add_successor,
        WRITTEN,
        is_proven_by_field=True,
        needs=_ROTATION,
    ),
    RepairKind(
        REMOVE_OUTGOING,
        # Before the switch, the first check carries the reason to wait. After the switch, the second one names the objects.
        frozenset(("cluster-ca-rotation", "outgoing-ca-left", "ca-left")),
        rotation_repairs.plan_remove_outgoing,
        PUT_BACK,
        removes_trust=True,
        needs=_ROTATION,
        wait=rotation_repairs.find_wait,
    ),
)
KINDS: Mapping[str, RepairKind] = {row.name: row for row in ROWS}
CHECKS = frozenset(check for row in ROWS for check in row.checks)


def sources_of(names: Iterable[str]) -> frozenset[str]:
    """Return the sources of an audit that kinds need."""
    return frozenset(source for name in names for source in KINDS[name].needs)


def removes_trust(names: Iterable[str]) -> bool:
    """Return True if one of the kinds removes trust."""
    return any(KINDS[name].removes_trust for name in names)


def kinds_for(check: str) -> tuple[RepairKind, ...]:
    """Return the kinds that answer a check, in the order of the table."""
    return tuple(row for row in ROWS if check in row.checks)
