# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The page about the report of an audit, made from the tables of its fields and metrics."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from ansible_collections.certflow.kubernetes.plugins.plugin_utils._report import (
    markdown,
    prometheus,
    report_schema,
)
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._report.report_schema import Field

from tools.docs import rst

BEGIN = """\
# Report of an audit

The playbook `certflow.kubernetes.audit` writes its report in several formats. The JSON file has all data. Every other format is made from
it, also later and on another machine. A report of a fleet run has the same form, with `kind: run`.

| Suffix | Format | For |
|---|---|---|
| `.json` | JSON, described by the [JSON Schema](https://certflow.github.io/certflow.kubernetes/report.schema.json) | programs, comparisons, merging |
| `.html` | one HTML file | people |
| `.prom` | text format of Prometheus | the textfile collector of node_exporter |
| `.md` | Markdown | a merge request, a chat |
| `.xml` | JUnit | Jenkins, GitLab, Azure DevOps |

Names and messages of clusters are untrusted text. In a report they have one line, at most 600 characters, and no hidden characters. Each
format escapes them in its own way.

## Versions

`format_version` has two numbers. A new minor version adds keys, and readers ignore the keys that they do not know. A new major version
changes or removes keys. This collection refuses a report of another major version.

## Keys

Times are texts of RFC 3339 in UTC.
"""
TITLES = {
    "report": "Report",
    "cluster": "Cluster",
    "finding": "Finding",
    "object": "Object",
    "accepted": "Accepted finding",
    "exception": "Exception",
    "role": "Missing ClusterRole",
    "rule": "Rule of the ClusterRole",
    "limits": "Limits",
    "check": "Check",
    "comparison": "Comparison",
    "gone": "Finding that is gone",
    "run": "Run",
    "step": "Step of a run",
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
ORDER = """
## Order and gate

Failed findings come first, sorted over the whole fleet by `breaks_at`, then by severity. A time that is not later than the time of the
audit means now. Findings without a time come after those with a time. Accepted findings are not counted as failures.

`certflow_fail_on` says which clusters fail the playbook:

| Value | A cluster fails with |
|---|---|
| `error` | a failed finding of severity `error` |
| `warning` | a failed finding of severity `error` or `warning`, or a finding with the status `unknown` |
| `never` | no finding |

A cluster whose status is not `ok` always fails.

## Merging

Reports of several runs become one report. The name in the inventory identifies a cluster, because a cluster can report a wrong UID or date.
If several audits have a cluster with the same name, the merged report has the cluster of the newest report. If the UIDs differ, it has all
of these clusters, with a part of the UID after the name. Clusters with the same UID and different names stay separate. `notes` has a line
about each cluster that was left out or renamed.

## Comparison with an earlier report

A comparison with an earlier report sets `state` and `first_seen` of each failed finding. It uses the fingerprints.

- A finding is new if the earlier audit answered its check for this object and did not find it.
- A finding is known if the earlier audit found it. `first_seen` stays the time of the first audit in a chain of comparisons.
- A finding is gone if its cluster was read again, its check has an answer, and the finding is not there.

If the new audit covers less, for example with `without`, no finding about served certificates is gone. A cluster that one of the
audits did not read is not compared.

## Metrics

Every metric is a gauge, and times are values in seconds since 1970. A file with timestamps of samples is not read by the textfile collector.
The file has the mode 0644 and is renamed into place. node_exporter shows its age as `node_textfile_mtime_seconds`.

| Metric | Labels | Meaning |
|---|---|---|
"""
BOUNDS = f"""
`certflow_finding_info` and `certflow_breaks_timestamp_seconds` have at most {prometheus.MOST_FINDINGS} series for each cluster. Those that
break first are kept. Accepted findings have no series. A cluster whose audit failed has only `certflow_cluster_up` and
`certflow_cluster_info`.

Many scrape configurations set a label `cluster`. Set `honor_labels: true` for node_exporter. Otherwise Prometheus renames the label
of the report to `exported_cluster`.

## Alert rules

[certflow-alerts.yml](/examples/monitoring/certflow-alerts.yml) has these rules for a daily audit:

| Alert | Severity | Meaning |
|---|---|---|
| `CertflowBreaksSoon` | warning | A webhook breaks in less than 28 days. |
| `CertflowBreaksVerySoon` | critical | A webhook breaks in less than 14 days. The alert does not end at the expiry. |
| `CertflowBroken` | critical | A finding of severity `error`, and the object does not only break later. |
| `CertflowClusterNotAudited` | warning | The audit of a cluster failed or could not read it. |
| `CertflowAuditTooOld` | warning | The audit of a cluster is older than three days. |
| `CertflowReportTooOld` | warning | The report is older than three days. |
| `CertflowReportMissing` | warning | Prometheus has no metrics of an audit. |
| `CertflowBlindSpots` | info | A check has no complete answer, or a limit left something out. |

## Markdown

The summary has at most {markdown.MOST_ROWS} rows of each table. Texts of clusters are in code spans, so mentions and links in them have no
effect. These characters are replaced by similar ones: {" ".join(f"`{one}`" for one in markdown.REPLACEMENTS if one not in "`|")}, the
vertical bar and the grave accent.

## JUnit

| In the report | In JUnit |
|---|---|
| cluster | test suite. Its first test case is the audit |
| cluster whose status is not `ok` | error of the first test case |
| finding | test case. Its class is the id of the check, and its name begins with the cluster |
| failed finding that does not pass `certflow_fail_on` | failure |
| other failed finding | output of the test case |
| accepted finding, `unknown`, `skip` | skipped test case |
"""


def audit_report() -> str:
    """Return the page about the report of an audit."""
    parts = [BEGIN]
    for name, shape in report_schema.SHAPES.items():
        parts += [f"\n### {TITLES[name]}\n\n", *_shape(shape)]
    parts += ["\n## Status of a cluster in an audit\n\n", *_statuses(report_schema.AUDIT_STATUSES)]
    parts += ["\n## Status of a cluster in a run\n\n", *_statuses(report_schema.RUN_STATUSES)]
    parts += [ORDER, *_metrics(), BOUNDS]
    return rst.page(
        "".join(parts),
        "audit_report",
        "Made by `make docs` from the tables in plugins/plugin_utils/_report/report_schema.py and prometheus.py.",
    )


def _shape(rows: Iterable[Field]) -> Iterator[str]:
    yield "| Key | Type | Meaning |\n|---|---|---|\n"
    for row in rows:
        notes = [f"Only in a report of the kind {row.kind}."] if row.kind else []
        notes += [f"One of {', '.join(f'`{one}`' for one in row.choices if one)}."] if row.choices else []
        null = " or null" if row.is_nullable else ""
        yield f"| `{row.name}` | {TYPES[row.type]}{null} | {' '.join([row.meaning, *notes])} |\n"


def _statuses(statuses: Mapping[str, str]) -> Iterator[str]:
    yield "| Status | Meaning |\n|---|---|\n"
    yield from (f"| `{status}` | {meaning} |\n" for status, meaning in statuses.items())


def _metrics() -> Iterator[str]:
    for metric in prometheus.METRICS:
        labels = ", ".join(f"`{label}`" for label in metric.labels) or "none"
        kind = " In a report of a run." if metric.kind == report_schema.RUN else ""
        yield f"| `{metric.name}` | {labels} | {metric.meaning}{kind} |\n"
