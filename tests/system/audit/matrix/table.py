# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The tables of the matrix, by the name of their part of the page."""

from __future__ import annotations

from collections.abc import Mapping

from tests.system.audit.matrix import (
    caller_rows,
    certificate_rows,
    field_rows,
    go_rows,
    match_rows,
    program_rows,
    reach_rows,
    scope_rows,
)
from tests.system.audit.matrix.row import Row, Shape

TABLES: Mapping[str, tuple[Row, ...]] = {
    "chains": certificate_rows.CHAINS,
    "certificates": certificate_rows.LEAVES,
    "bundles": certificate_rows.BUNDLES,
    "services": reach_rows.SERVICES,
    "connections": reach_rows.CONNECTIONS,
    "unused": reach_rows.UNUSED,
    "matches": match_rows.MATCHES,
    "conversions": caller_rows.CONVERSIONS,
    "apis": caller_rows.APIS,
    "cert-manager": caller_rows.CERT_MANAGER,
    "cluster-ca": caller_rows.CLUSTER_CA,
    "programs": program_rows.PROGRAMS,
    "control-plane": scope_rows.CONTROL_PLANE,
    "own-pods": scope_rows.OWN_PODS,
    "tools": field_rows.TOOLS,
    "texts": field_rows.BUNDLES,
    "names": field_rows.NAMES,
    "usages": field_rows.USAGES,
    "shapes": field_rows.SERVICES,
    "callers": field_rows.CALLERS,
    "rules": go_rows.RULES,
}
ROWS: tuple[Row, ...] = tuple(row for rows in TABLES.values() for row in rows)
#: The rows about which the audit does not decide, with the part that it did not read.
UNDECIDED: Mapping[str, str] = {row.name: row.says for row in ROWS if "unknown" in row.says}
#: The numbers of days.
DAYS = (10, 40)


def _ages(row: Row) -> bool:
    """Return True if the certificate of a row lives longer than these days."""
    leaf = row.what.pods[0].leaf if isinstance(row.what, Shape) else None
    return leaf is not None and leaf.life[1] - leaf.life[0] > max(DAYS)


#: The rows that also run as if these days had passed.
AGING: tuple[Row, ...] = tuple(filter(_ages, (*certificate_rows.CHAINS, *certificate_rows.LEAVES)))
