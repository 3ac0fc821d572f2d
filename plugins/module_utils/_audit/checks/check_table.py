# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The table of the checks of an audit. An id is never renamed and never used again. Pure.

The reference page of the checks is made from this table.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..facts.cluster_data import ClusterData
from ..facts.finding import AuditFinding
from .check_row import Check
from .cluster_rows import CLUSTER_ROWS
from .endpoint_rows import ENDPOINT_ROWS
from .rotation_checks import ROTATION_ROWS

CHECKS: tuple[Check, ...] = (*ENDPOINT_ROWS, *CLUSTER_ROWS, *ROTATION_ROWS)
BY_ID: Mapping[str, Check] = {row.id: row for row in CHECKS}


def find(data: ClusterData) -> tuple[list[AuditFinding], tuple[str, ...]]:
    """Return the findings of each rule of the table, and the ids of the checks that were not complete when the time was over."""
    findings: list[AuditFinding] = []
    rules = list(dict.fromkeys(row.rule for row in CHECKS if row.rule))
    for number, rule in enumerate(rules):
        for finding in () if data.is_over() else rule(data):
            findings.append(finding)
            if data.is_over():
                break
        if data.is_over():
            return findings, tuple(row.id for row in CHECKS if row.rule in rules[number:])
    return findings, ()


def checks_of(source: str) -> Iterator[str]:
    """Yield the ids of the checks that need a source."""
    return (row.id for row in CHECKS if source in row.sources)


def as_results(ids: Iterable[str]) -> dict[str, Any]:
    """Return the rows of these checks, in the order of the table."""
    wanted = set(ids)
    return {row.id: row.as_result() for row in CHECKS if row.id in wanted}
