# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Build a report from the results of hosts, and answer questions about it: order, counts, gate. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from ...module_utils._audit.facts.finding import (
    ERROR,
    FAIL,
    PASS,
    REFUSES,
    SEVERITIES,
    SKIP,
    SKIPS,
    STATUSES,
    UNKNOWN,
    WARNING,
)
from ...module_utils._base.errors import CertflowError
from ...module_utils._base.text import plural
from ...module_utils._base.times import format_time
from . import report_schema, report_text
from .report_text import InvalidReport, Report

#: Failure code -> status of the cluster. Every other failure is FAILED.
STATUS_OF_CODE = dict.fromkeys(
    ("cluster-ca-unknown", "server-untrusted", "unreachable"), report_schema.UNREACHABLE
)
AUDIT_STATUS_OF_CODE = {**STATUS_OF_CODE, "deadline-exceeded": report_schema.INCOMPLETE}
#: Key of a cluster -> its key in the result traffic of audit_info.
TRAFFIC = {"requests": "requests", "bytes": "bytes_received"}
#: At most so many hosts are named in a line about the report.
MOST_NAMES = 5
#: The values of the gate.
NEVER = "never"
#: Value of the gate -> the severities that do not pass it.
LIMITS: Mapping[str, tuple[str, ...]] = {ERROR: (ERROR,), WARNING: (ERROR, WARNING), NEVER: ()}
GATES = tuple(LIMITS)
#: The urgency of a finding: one that explains others, requests are refused now, a webhook is skipped now, another fault takes effect
#: now, it will at a known time, or it may at any time.
LEADING, REFUSING, SKIPPING, BROKEN, LATER, UNDATED = range(6)
NOW = (REFUSING, SKIPPING, BROKEN)


class Row(NamedTuple):
    """A finding with its cluster."""

    cluster: Mapping[str, Any]
    finding: Mapping[str, Any]
    #: One of the numbers above.
    urgency: int

    @property
    def is_now(self) -> bool:
        """Return True if the fault takes effect already."""
        return self.urgency in NOW


def place(subject: Mapping[str, Any]) -> str:
    """Return kind, namespace and name of the object of a finding, as far as they are known."""
    return "/".join(filter(None, map(subject.get, ("kind", "namespace", "name"))))


def cause(finding: Mapping[str, Any]) -> str:
    """Return the cause without the object in brackets at its end, for a place that shows the object."""
    subject = finding["object"]
    webhook = f", webhook {subject['webhook']}" if subject["webhook"] else ""
    return str(finding["cause"]).removesuffix(f" ({subject['kind']} {name(subject)}{webhook})")


def name(subject: Mapping[str, Any]) -> str:
    """Return the namespace and the name of an object, "" for the cluster itself."""
    return "/".join(filter(None, (subject["namespace"], subject["name"])))


def build_audit(results: Mapping[str, Any], made_at: datetime, collection: str) -> Report:
    """Return the report of an audit.

    results: inventory host -> its result of the module audit_info, also a failed or unreachable one, or None without a result.
    made_at: the time of the report.
    collection: the version of this collection.
    """
    checks: dict[str, Any] = {}
    for result in results.values():
        if isinstance(result, Mapping):
            checks |= result.get("checks") or {}
    clusters = [_audited_cluster(name, result) for name, result in results.items()]
    try:
        return envelope(report_schema.AUDIT, clusters, made_at, collection, checks=checks)
    except InvalidReport:
        shaped = [_shaped(cluster, made_at) for cluster in clusters]
        return envelope(report_schema.AUDIT, shaped, made_at, collection, checks=checks)


def note_duplicates(report: Report) -> Report:
    """Return the report with a line for each UID that several hosts report."""
    hosts: dict[str, list[str]] = {}
    for cluster in report["clusters"]:
        hosts.setdefault(cluster["uid"], []).append(cluster["name"])
    hosts.pop("", None)
    notes = [
        f"{', '.join(names[:MOST_NAMES])}{' and others' if len(names) > MOST_NAMES else ''} report one UID ({uid}). They are one "
        "cluster, whose findings are counted for each of them, or one repeats the UID of another"
        for uid, names in hosts.items()
        if len(names) > 1
    ]
    return {**report, "notes": [*dict.fromkeys([*report["notes"], *notes])]}


def _shaped(cluster: Mapping[str, Any], made_at: datetime) -> Mapping[str, Any]:
    """Return the cluster. If it does not fit a report, return its failure, so that the other clusters keep their report."""
    try:
        envelope(report_schema.AUDIT, [cluster], made_at, "")
    except InvalidReport as error:
        return {
            "name": cluster["name"],
            "status": report_schema.FAILED,
            "code": error.code,
            "reason": error.cause,
            "remedy": "Report this as a defect of the collection",
        }
    return cluster


def envelope(
    kind: str, clusters: Iterable[Mapping[str, Any]], made_at: datetime, collection: str, **values: Any
) -> Report:
    """Return a report with these clusters, sorted by name. values: further keys of the report.

    Raises InvalidReport if a value does not have the type of its field.
    """
    report = {
        "format_version": report_schema.FORMAT_VERSION,
        "kind": kind,
        "made_at": format_time(made_at),
        "collection": collection,
        "clusters": sorted(clusters, key=lambda cluster: str(cluster["name"])),
        **values,
    }
    return report_text.normalise(report, "the new report")


def _audited_cluster(name: str, result: Any) -> dict[str, Any]:
    base = {"name": name}
    if not isinstance(result, Mapping) or not result:
        reason = "the run ended before the audit of this cluster"
        return {**base, "status": report_schema.NOT_STARTED, "reason": reason}
    if result.get("failed") or result.get("unreachable") or "findings" not in result:
        return {**base, **_failure(result)}
    traffic = result.get("traffic") or {}
    return {
        **base,
        **{field.name: result[field.name] for field in report_schema.CLUSTER if field.name in result},
        **_readability(result),
        **base,
        "uid": result.get("cluster_uid") or "",
        **{key: traffic[name] for key, name in TRAFFIC.items() if name in traffic},
    }


def _failure(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of a host whose audit failed. Messages of Ansible itself have no code."""
    code = str(result.get("code") or "")
    status = AUDIT_STATUS_OF_CODE.get(code, report_schema.FAILED)
    if result.get("unreachable"):
        status = report_schema.UNREACHABLE
        code = code or "unreachable"
    return {
        "status": status,
        "code": code,
        "reason": report_text.cause_of(result, "the task has no result"),
        "evidence": [str(line) for line in result.get("evidence") or ()],
        "remedy": str(result.get("remedy") or ""),
        "seconds": result.get("seconds"),
    }


def _readability(result: Mapping[str, Any]) -> dict[str, Any]:
    unread = result.get("incomplete")
    if not unread:
        return {"status": report_schema.OK, "code": "", "reason": "", "remedy": ""}
    error = CertflowError(
        f"the audit could not read {', '.join(unread)}",
        code="audit-incomplete",
        remedy=result.get("remedy") or "Do what the findings with the status unknown say",
    )
    return {
        "status": report_schema.INCOMPLETE,
        "code": error.code,
        "reason": error.cause,
        "remedy": error.remedy,
    }


def rows(report: Report, *statuses: str, is_excepted: bool | None = False) -> list[Row]:
    """Return the findings of all clusters with one of these statuses, the most urgent ones first.

    is_excepted: True for accepted findings, False for the others, None for both.
    """
    leading = {check for check, row in report["checks"].items() if row.get("leads")}
    found = [
        Row(cluster, finding, _urgency(cluster, finding, leading))
        for cluster in report["clusters"]
        for finding in cluster["findings"]
        if finding["status"] in statuses
        and (is_excepted is None or (finding["excepted"] is not None) == is_excepted)
    ]
    return sorted(found, key=_order)


def failures(report: Report) -> list[Row]:
    """Return the failed findings of all clusters that no exception accepts, the most urgent ones first."""
    return rows(report, FAIL)


def _urgency(cluster: Mapping[str, Any], finding: Mapping[str, Any], leading: Container[str]) -> int:
    at, audited = finding["breaks_at"], cluster["audited_at"]
    if at and audited and at <= audited:
        return {REFUSES: REFUSING, SKIPS: SKIPPING}.get(finding["impact"], BROKEN)
    if finding["check"] in leading:
        return LEADING
    return LATER if at else UNDATED


def _order(row: Row) -> tuple[Any, ...]:
    finding, subject = row.finding, row.finding["object"]
    severity = SEVERITIES.index(finding["severity"])
    return (
        STATUSES.index(finding["status"]),
        finding["excepted"] is not None,
        row.urgency,
        # What fails now, by severity. Then what will fail, by its time.
        row.is_now and severity,
        finding["breaks_at"] or "",
        severity,
        row.cluster["name"],
        subject["kind"],
        subject["namespace"],
        subject["name"],
        subject["webhook"],
        finding["check"],
    )


def was_read(cluster: Mapping[str, Any]) -> bool:
    """Return True if the audit read the cluster, at least in part. One that reached its deadline is incomplete, and read nothing."""
    return cluster["audited_at"] is not None


def problem_clusters(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the clusters without a complete audit, by name."""
    return [cluster for cluster in report["clusters"] if cluster["status"] != report_schema.OK]


def counts(report: Report) -> dict[str, dict[str, int]]:
    """Return the numbers of clusters by status, and of findings as the module audit_info counts them."""
    clusters = Counter(cluster["status"] for cluster in report["clusters"])
    return {
        "clusters": {status: clusters[status] for status in report_schema.AUDIT_STATUSES},
        "findings": count_findings(report["clusters"]),
    }


def count_findings(clusters: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Return the numbers of findings. Those that passed or do not apply are counted by the audits, because they may be left out."""
    findings = [finding for cluster in clusters for finding in cluster["findings"]]
    failed = Counter(
        finding["severity"] for finding in findings if finding["status"] == FAIL and not finding["excepted"]
    )
    return {
        **{severity: failed[severity] for severity in SEVERITIES},
        "excepted": sum(finding["excepted"] is not None for finding in findings),
        "unknown": sum(finding["status"] == UNKNOWN for finding in findings),
        **{key: int(sum(cluster["counts"].get(key, 0) for cluster in clusters)) for key in (PASS, SKIP)},
    }


def is_refused(finding: Mapping[str, Any], limits: Container[str]) -> bool:
    """Return True if a finding does not pass the gate. limits: the severities that do not pass."""
    return finding["status"] in (FAIL, UNKNOWN) and not finding["excepted"] and finding["severity"] in limits


def gate(report: Report, fail_on: str) -> dict[str, str]:
    """Return the clusters that do not pass the gate, each with the reason.

    fail_on: ERROR, WARNING or NEVER. Accepted findings pass. What could not be read counts as a warning. A cluster without a
        complete audit never passes.
    """
    limits = LIMITS[fail_on]
    reasons: dict[str, str] = {}
    for cluster in report["clusters"]:
        if cluster["status"] != report_schema.OK:
            reasons[cluster["name"]] = f"{cluster['status']}: {cluster['reason']}"
            continue
        number = Counter(
            finding["severity"] for finding in cluster["findings"] if is_refused(finding, limits)
        )
        if number:
            words = [plural(number[severity], severity) for severity in limits if number[severity]]
            reasons[cluster["name"]] = f"{' and '.join(words)} (certflow_fail_on: {fail_on})"
    return reasons
