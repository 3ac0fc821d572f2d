# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The page about the checks of an audit, made from their table."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

from ansible_collections.certflow.kubernetes.plugins.module_utils._audit import gather
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.checks import (
    check_row,
    check_table,
    control_plane_requests,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.facts import cluster_data
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.facts.cluster_data import PERMISSIONS
from ansible_collections.certflow.kubernetes.plugins.module_utils._diagnosis import observation

from tools.docs import rst

if TYPE_CHECKING:
    from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.checks.check_row import Check
    from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.access_review import Permission

CATEGORIES = {
    check_row.TLS: "Certificates and CA bundles",
    check_row.REACH: "Services and endpoints",
    check_row.SCOPE: "Objects that webhooks match",
    check_row.CONVERSION: "Conversions",
    check_row.API: "Aggregated APIs",
    check_row.REQUEST: "Certificate signing requests",
    check_row.CLUSTER: "The cluster and the login",
    check_row.ROTATION: "A rotation of the cluster's CA",
}


def checks() -> str:
    """Return the page about the checks."""
    pending, approved = (
        limit // timedelta(minutes=1) for limit in (gather.PENDING_AFTER, observation.STUCK_AFTER)
    )
    declarable = (
        f"| `{source}` | {', '.join(f'`{check}`' for check in check_table.checks_of(source)) or 'none'} |\n"
        for source in cluster_data.DECLARABLE
    )
    overview = (f"| [{row.id}](#{row.id}) | {row.severity} | {row.title} |\n" for row in check_table.CHECKS)
    return rst.rendered(
        "audit",
        "Made by `make docs` from the table in plugins/module_utils/_audit/checks/check_table.py.",
        pending=pending,
        pod_pending=gather.POD_PENDING_AFTER // timedelta(minutes=1),
        approved=approved,
        declarable="".join(declarable),
        overview="".join(overview),
        sections=[
            (title, "".join(_section(row) for row in check_table.CHECKS if row.category == category))
            for category, title in CATEGORIES.items()
        ],
        critical="".join(_critical()),
    )


def _section(row: Check) -> str:
    permissions = dict.fromkeys(
        _in_words(permission) for source in row.sources for permission in PERMISSIONS[source]
    )
    return (
        f"\n### {row.id}\n\n{row.title}. Severity: {row.severity}.\n\n"
        f"- **Effect.** {row.effect}\n"
        f"- **Remedy.** {row.remedy}\n"
        f"- **Permissions.** {', '.join(permissions) or 'none'}\n"
        f"- **Sources.** {_linked(row.source)}\n"
    )


def _in_words(permission: Permission) -> str:
    group = f".{permission.group}" if permission.group else ""
    name = f" {permission.name}" if permission.name else ""
    return f"`{permission.verb} {permission.resource}{group}{name}`"


def _critical() -> Iterator[str]:
    for row in control_plane_requests.REQUESTS:
        operations = row.operations.replace(" ", ", ")
        yield f"| {operations} `{row.name}` | {', '.join(row.namespaces) or 'none'} | {row.effect} |\n"


def _linked(source: str) -> str:
    """Return a source with its issues as links."""
    return re.sub(r"(?<!/)\b([\w.-]+/[\w.-]+)#(\d+)", r"[\1#\2](https://github.com/\1/issues/\2)", source)
