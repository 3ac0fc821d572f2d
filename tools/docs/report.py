# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The page about the report of an audit, made from the tables of its fields and metrics."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from ansible_collections.certflow.kubernetes.plugins.plugin_utils._report import (
    prometheus,
    report_schema,
)
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._report.report_schema import Field

from tools.docs import rst

TITLES = {
    "report": "Report",
    "cluster": "Cluster",
    "finding": "Finding",
    "object": "Object",
    "accepted": "Accepted finding",
    "exception": "Exception",
    "limits": "Limits",
    "check": "Check",
    "comparison": "Comparison",
    "gone": "Finding that is gone",
    "run": "Run",
    "left": "What is left",
    "left object": "First object that is left",
    "step": "Step of a run",
    "repair": "Repair",
    "write": "Write of a repair",
}
TYPES = {
    report_schema.TEXT: "text",
    report_schema.TEXTS: "list of texts",
    report_schema.TIME: "time",
    report_schema.INTEGER: "whole number",
    report_schema.NUMBER: "number",
    report_schema.FLAG: "boolean",
    report_schema.NUMBERS: "numbers by name",
    report_schema.OBJECT: "object",
    report_schema.OBJECTS: "list of objects",
    report_schema.MAP: "objects by id",
}


def audit_report() -> str:
    """Return the page about the report of an audit."""
    return rst.rendered(
        "audit_report",
        "Made by `make docs` from the tables in plugins/plugin_utils/_report/report_schema.py and prometheus.py.",
        shapes=[(TITLES[name], "".join(_shape(shape))) for name, shape in report_schema.SHAPES.items()],
        audit_statuses="".join(_statuses(report_schema.AUDIT_STATUSES)),
        run_statuses="".join(
            _statuses({name: row.meaning for name, row in report_schema.RUN_STATUSES.items()})
        ),
        metrics="".join(_metrics()),
        most_findings=prometheus.MOST_FINDINGS,
    )


def _shape(rows: Iterable[Field]) -> Iterator[str]:
    yield "| Key | Type | Meaning |\n|---|---|---|\n"
    for row in rows:
        notes = [f"Only in a report of the kind {row.kind}."] if row.kind else []
        notes += (
            [f"One of {', '.join(f'`{choice}`' for choice in row.choices if choice)}."] if row.choices else []
        )
        null = " or null" if row.is_nullable else ""
        yield f"| `{row.name}` | {TYPES[row.type]}{null} | {' '.join([row.meaning, *notes])} |\n"


def _statuses(statuses: Mapping[str, str]) -> Iterator[str]:
    yield "| Status | Meaning |\n|---|---|\n"
    yield from (f"| `{status}` | {meaning} |\n" for status, meaning in statuses.items())


def _metrics() -> Iterator[str]:
    for metric in prometheus.METRICS:
        labels = ", ".join(f"`{label}`" for label in metric.labels) or "none"
        yield f"| `{metric.name}` | {labels} | {metric.meaning} |\n"
