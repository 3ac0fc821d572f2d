# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Write the report of an audit in the text format of Prometheus, for the textfile collector of node_exporter. Pure.

Times are values of metrics. A file with timestamps of samples is skipped by the collector:
https://github.com/prometheus/node_exporter#textfile-collector
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ...module_utils._audit.facts.finding import FAIL, SEVERITIES, UNKNOWN
from ...module_utils._base.times import find_time
from . import groups, report_model, report_schema
from .report_text import Report, short

#: At most so many findings of a cluster, and so many of its webhooks, have a series. Those that break first come first.
MOST_FINDINGS = 100
EXCEPTED = "excepted"
Series = Iterator[tuple[tuple[str, ...], float]]


@dataclass(frozen=True)
class Metric:
    """A metric. All metrics are gauges."""

    name: str
    #: HELP of the metric. It must be equal in all files of one collector, so it contains no data.
    meaning: str
    labels: tuple[str, ...]
    #: Yields the values of the labels and the value of each series. A series with labels that came before is dropped.
    series: Callable[[Report], Series]


def render(report: Report) -> str:
    """Return the report in the text format, each metric with HELP and TYPE."""
    return "".join(_lines(report))


def _lines(report: Report) -> Iterator[str]:
    for metric in METRICS:
        yield f"# HELP {metric.name} {metric.meaning}\n# TYPE {metric.name} gauge\n"
        written = set()
        for values, value in metric.series(report):
            labels = ",".join(f'{label}="{escape(text)}"' for label, text in zip(metric.labels, values))
            if labels not in written:
                written.add(labels)
                yield (
                    f"{metric.name}{{{labels}}} {_number(value)}\n"
                    if labels
                    else f"{metric.name} {_number(value)}\n"
                )


def escape(text: str) -> str:
    """Return the text on one line as the value of a label."""
    return short(text).replace("\\", "\\\\").replace('"', '\\"')


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))


def _seconds(time: str | None) -> float | None:
    moment = find_time(time)
    return moment.timestamp() if moment else None


def _made_at(report: Report) -> Series:
    yield (), _seconds(report["made_at"]) or 0


def _of_clusters(value: Callable[[Mapping[str, Any]], float | None]) -> Callable[[Report], Series]:
    """Return the series with one value for each cluster. None is no series."""

    def series(report: Report) -> Series:
        for cluster in report["clusters"]:
            number = value(cluster)
            if number is not None:
                yield (cluster["name"],), number

    return series


def _info(report: Report) -> Series:
    for cluster in report["clusters"]:
        keys = ("name", "uid", "kubernetes_version", "status", "code")
        yield tuple(cluster[key] for key in keys), 1


def _findings(report: Report) -> Series:
    for cluster in filter(report_model.was_read, report["clusters"]):
        for status in (FAIL, EXCEPTED):
            for severity in SEVERITIES:
                number = sum(
                    finding["status"] == FAIL
                    and finding["severity"] == severity
                    and bool(finding["excepted"]) == (status == EXCEPTED)
                    for finding in cluster["findings"]
                )
                yield (cluster["name"], severity, status), number


def _shown(report: Report) -> Iterator[tuple[Mapping[str, Any], list[Mapping[str, Any]]]]:
    """Yield each cluster with its failed findings, those that break first before the others."""
    by_cluster: dict[str, list[Mapping[str, Any]]] = {}
    # Without this order, findings that lead the others would hide what breaks earlier.
    rows = sorted(
        report_model.failures(report),
        key=lambda row: "" if row.is_now else row.finding["breaks_at"] or "9",
    )
    for row in rows:
        by_cluster.setdefault(row.cluster["name"], []).append(row.finding)
    for cluster in filter(report_model.was_read, report["clusters"]):
        yield cluster, by_cluster.get(cluster["name"], [])


def _subject(finding: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(finding["object"][key] for key in ("kind", "namespace", "name", "webhook"))


def _finding_info(report: Report) -> Series:
    for cluster, findings in _shown(report):
        for finding in findings[:MOST_FINDINGS]:
            yield (cluster["name"], finding["check"], finding["severity"], *_subject(finding)), 1


def _fault_clusters(report: Report) -> Series:
    """Yield the number of clusters by labels. Without a time, a fault that refuses requests and one that skips a webhook have one effect."""
    clusters: dict[tuple[str, ...], set[str]] = {}
    for fault in groups.group(report_model.failures(report))[:MOST_FINDINGS]:
        finding = fault.finding
        labels = (
            str(finding["check"]),
            str(finding["severity"]),
            str(finding["object"]["kind"]),
            fault.effect,
            fault.fault,
        )
        clusters.setdefault(labels, set()).update(fault.clusters)
    yield from ((labels, len(names)) for labels, names in clusters.items())


def _left_out(report: Report) -> Series:
    for cluster, findings in _shown(report):
        yield (cluster["name"],), max(0, len(findings) - MOST_FINDINGS)


def _breaks(report: Report) -> Series:
    for cluster, findings in _shown(report):
        for finding in findings[:MOST_FINDINGS]:
            moment = _seconds(finding["breaks_at"])
            if moment is not None:
                yield (cluster["name"], *_subject(finding)), moment


def _unknown(cluster: Mapping[str, Any]) -> float | None:
    """Return the number of checks without a complete answer, None without an audit."""
    unknown = [finding for finding in cluster["findings"] if finding["status"] == UNKNOWN]
    checks = {check for finding in unknown for check in finding["unanswered"] or (finding["check"],)}
    return len(checks) if report_model.was_read(cluster) else None


_CLUSTER = ("cluster",)
_OBJECT = ("kind", "namespace", "name", "webhook")
METRICS: tuple[Metric, ...] = (
    Metric("certflow_report_timestamp_seconds", "Time of the report.", (), _made_at),
    Metric("certflow_cluster_up", "1 if the audit of the cluster is complete, 0 if it failed or could not read what it audits.",
           _CLUSTER, _of_clusters(lambda cluster: float(cluster["status"] == report_schema.OK))),
    Metric("certflow_cluster_info", "Facts about the cluster and its audit.",
           ("cluster", "uid", "kubernetes_version", "status", "code"), _info),
    Metric("certflow_cluster_last_audit_timestamp_seconds", "Time of the audit of the cluster.",
           _CLUSTER, _of_clusters(lambda cluster: _seconds(cluster["audited_at"]))),
    Metric("certflow_findings", "Number of failed findings (status fail) and of accepted ones (status excepted).",
           ("cluster", "severity", "status"), _findings),
    Metric("certflow_finding_info", "A failed finding that no exception accepts.",
           ("cluster", "check", "severity", *_OBJECT), _finding_info),
    Metric("certflow_fault_clusters", "Number of clusters with a fault. One fault of many objects and clusters has one series.",
           ("check", "severity", "kind", "effect", "fault"), _fault_clusters),
    Metric("certflow_findings_left_out", "Number of failed findings without a series of certflow_finding_info.",
           _CLUSTER, _left_out),
    Metric("certflow_breaks_timestamp_seconds", "Earliest time at which a fault of the object takes effect. It may be in the past.",
           ("cluster", *_OBJECT), _breaks),
    Metric("certflow_checks_unknown", "Number of checks without a complete answer.", _CLUSTER, _of_clusters(_unknown)),
    Metric("certflow_endpoints_left_out", "Number of endpoints that the audit did not look at because of its limit.",
           _CLUSTER, _of_clusters(lambda cluster: (cluster["limits"] or {}).get("endpoints_left_out") if report_model.was_read(cluster) else None)),
)  # fmt: skip


def names() -> list[str]:
    """Return the names of the metrics."""
    return [metric.name for metric in METRICS]
