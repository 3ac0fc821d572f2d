# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The HTML page of an audit: its sentence, counts and rows, from the report. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from ...module_utils._audit.audit_result import EXPIRED, MATCHED, UNUSED
from ...module_utils._audit.facts.finding import (
    ERROR,
    FAIL,
    INFO,
    PASS,
    PROVEN,
    SEVERITIES,
    SKIP,
    UNKNOWN,
    WARNING,
)
from ...module_utils._base.text import plural
from ...module_utils._base.times import find_time
from . import groups, report_model, timeline
from .groups import Group
from .html_parts import Column, Count, Moment, Row, Table, moment
from .report_model import LATER, LEADING, NOW, UNDATED
from .report_schema import KNOWN, OK

#: The page shows at most so many findings of a fault with their evidence, and the names of all its clusters. The JSON report has all.
MOST_MEMBERS = 200
#: The fields of a finding that a gone one does not have.
_GONE = {"evidence": (), "certainty": "", "breaks_at": None}
_FAR = datetime.max.replace(tzinfo=timezone.utc)
_SEVERITY, _CHECK, _CLUSTER = (
    Column("severity", "Severity"),
    Column("check", "Check"),
    Column("cluster", "Cluster"),
)
_CLUSTERS = Column("cluster", "Clusters")
_OBJECT, _MANAGER, _FOUND = (
    Column("object", "Object"),
    Column("manager", "Manager"),
    Column("found", "Finding"),
)
#: Class of a table -> its columns. Script, style and markup follow this table.
LAYOUTS: Mapping[str, tuple[Column, ...]] = {
    "findings": (Column("breaks", "Breaks"), _SEVERITY, _CHECK, Column("effect", "Effect"), _CLUSTERS, _OBJECT, _FOUND),
    "members": (_CLUSTER, _OBJECT, Column("breaks", "Breaks"), _MANAGER, _FOUND),
    "clusters": (
        _CLUSTER,
        Column("state", "Audit"),
        *(Column(key, key.capitalize(), is_number=True) for key in (ERROR, WARNING, INFO, UNKNOWN, "accepted")),
        Column("breaks", "Next break"),
        Column("version", "Kubernetes"),
        Column("audited", "Audited"),
    ),
    "unknowns": (
        _CLUSTERS, Column("found", "Reason"), Column("checks", "Incomplete checks"), Column("objects", "Objects"),
        Column("permissions", "Missing permissions"),
    ),
    "exceptions": (
        Column("state", "State"), _CHECK, Column("clusters", "Clusters"), _OBJECT, Column("reason", "Reason"), Column("until", "Until"),
        Column("matches", "Findings", is_number=True),
    ),
    "accepted": (_SEVERITY, _CHECK, _OBJECT, _CLUSTER, _MANAGER, Column("reason", "Reason"), Column("until", "Until"), _FOUND),
    "passed": (_CHECK, _OBJECT, _CLUSTER, _FOUND),
    "gone": (_SEVERITY, _CHECK, _OBJECT, _CLUSTER, _FOUND),
}  # fmt: skip


@dataclass(frozen=True)
class FindingRow:
    """A finding of one cluster, or one that is gone."""

    cluster: str
    finding: Row
    breaks_at: Moment | None = None
    #: True if an earlier report has the finding.
    is_known: bool = False
    first_seen: Moment | None = None

    @property
    def place(self) -> str:
        return report_model.name(self.finding["object"])

    @property
    def cause(self) -> str:
        return report_model.cause(self.finding)

    @property
    def lines(self) -> Sequence[str]:
        """Return the evidence, and the field of the object."""
        path = self.finding["object"]["path"]
        return [*self.finding["evidence"], *([f"field {path}"] if path else ())]

    @property
    def is_sure(self) -> bool:
        return self.finding["certainty"] in ("", PROVEN)


@dataclass(frozen=True)
class FaultRow:
    """A fault of some clusters."""

    id: str
    fault: Group
    #: At most MOST_MEMBERS of its findings.
    members: Sequence[FindingRow]


@dataclass(frozen=True)
class ClusterRow:
    """A cluster."""

    cluster: Row
    numbers: Sequence[int]
    breaks_at: Moment | None
    audited_at: Moment | None


@dataclass(frozen=True)
class AuditPage:
    """The content of the page."""

    title: str
    verdict: str
    #: One sentence about the comparison, "" without one.
    compared: str
    counts: Sequence[Count]
    failures: Sequence[Table]
    #: The strip of time.
    timeline: Mapping[str, Any]
    clusters: Sequence[ClusterRow]
    unknown: Sequence[FaultRow]
    exceptions: Sequence[Row]
    accepted: Sequence[FindingRow]
    #: Status -> the answers that passed, and those of checks that do not apply.
    answers: Mapping[str, Sequence[FindingRow]]
    #: The number of answers that passed, also if the report leaves them out.
    passed_count: int
    gone: Sequence[FindingRow]


def build(report: Row) -> AuditPage:
    """Return the content of the page of a normalised report."""
    now = find_time(report["made_at"]) or _FAR
    clusters: Sequence[Row] = report["clusters"]
    faults = groups.group(report_model.failures(dict(report)))
    rows = [_fault_row(f"fault-{number}", fault, now) for number, fault in enumerate(faults, 1)]
    failures = _failures(rows)
    numbers = report_model.count_findings(clusters)
    answers = {
        status: [_row(row, now) for row in report_model.rows(dict(report), status)] for status in (PASS, SKIP)
    }
    return AuditPage(
        title=f"Webhook audit of {plural(len(clusters), 'cluster')}",
        verdict=_verdict(report, rows),
        compared=_compared(report["comparison"]),
        counts=_counts(report, numbers),
        failures=failures,
        timeline=timeline.build([(row.id, row.fault) for row in rows], now),
        clusters=[_cluster_row(cluster, now) for cluster in sorted(clusters, key=_cluster_order)],
        unknown=[
            _fault_row("", fault, now) for fault in groups.group(report_model.rows(dict(report), UNKNOWN))
        ],
        exceptions=list(_exceptions(clusters)),
        accepted=[_row(row, now) for row in report_model.rows(dict(report), FAIL, is_excepted=True)],
        answers=answers,
        passed_count=max(numbers[PASS], len(answers[PASS])),
        gone=[
            FindingRow(entry["cluster"], {**_GONE, **entry})
            for entry in (report["comparison"] or {}).get("gone", ())
        ],
    )


def _row(row: report_model.Row, now: datetime) -> FindingRow:
    finding = row.finding
    # The clock of the API server may be ahead of the controller's.
    audited = find_time(row.cluster["audited_at"]) or now
    return FindingRow(
        row.cluster["name"],
        finding,
        moment(finding["breaks_at"], max(now, audited)),
        finding["state"] == KNOWN,
        moment(finding["first_seen"]),
    )


def _fault_row(id_: str, fault: Group, now: datetime) -> FaultRow:
    return FaultRow(id_, fault, [_row(row, now) for row in fault.rows[:MOST_MEMBERS]])


def _failures(faults: Sequence[FaultRow]) -> list[Table]:
    sections = (
        ("rotation", "Rotation of the cluster CA", "What the rotation needs before the switch", (LEADING,)),
        (
            "broken",
            "Broken now",
            "First the faults that refuse requests, then webhooks that are skipped",
            NOW,
        ),
        ("soon", "Breaks soon", "Faults that take effect at a known time, the first one first", (LATER,)),
        ("hazards", "Hazards", "Faults without a known time, the most severe first", (UNDATED,)),
    )
    tables = (
        Table(id_, title, text, [row for row in faults if row.fault.first.urgency in urgencies])
        for id_, title, text, urgencies in sections
    )
    return [table for table in tables if table.rows or table.id != "rotation"]


def _verdict(report: Row, faults: Sequence[FaultRow]) -> str:
    broken = [row.fault for row in faults if row.fault.first.is_now]
    soon = next((row.members[0] for row in faults if row.fault.first.urgency == LATER), None)
    unread = len(report_model.problem_clusters(report))
    places = len({name for fault in broken for name in fault.clusters})
    parts = [
        f"{plural(len(broken), 'fault')} in {plural(places, 'cluster')} {'breaks' if len(broken) == 1 else 'break'} something now"
        if broken
        else "No known fault breaks something now"
    ]
    if soon and soon.breaks_at:
        parts.append(f"the next one follows on {soon.breaks_at.shown[:10]} in {soon.cluster}")
    if unread:
        parts.append(f"{plural(unread, 'cluster')} could not be audited completely")
    return f"{', '.join(parts[:-1])}{', and ' if len(parts) > 1 else ''}{parts[-1]}."


def _compared(comparison: Row | None) -> str:
    if comparison is None:
        return ""
    earlier = moment(comparison["made_at"])
    date = f" of {earlier.shown[:10]}" if earlier else ""
    numbers = (
        f"{comparison['new'] or 0} new, {comparison['known'] or 0} known, {len(comparison['gone'])} gone"
    )
    return f"Compared with the report{date}: {numbers}."


def _counts(report: Row, numbers: Mapping[str, int]) -> list[Count]:
    unread = len(report_model.problem_clusters(report))
    return [
        Count(numbers[ERROR], "errors", "broken", "status=fail&severity=error", ERROR),
        Count(numbers[WARNING], "warnings", "soon", "status=fail&severity=warning", WARNING),
        Count(numbers[INFO], "info", "hazards", "status=fail&severity=info", INFO),
        Count(numbers[UNKNOWN], "unknown", "unknown", "status=unknown", UNKNOWN),
        Count(numbers["excepted"], "accepted", "accepted", "status=accepted"),
        Count(numbers[PASS], "passed", "passed", "status=pass", PASS),
        Count(unread, f"of {plural(len(report['clusters']), 'cluster')} incomplete", "clusters"),
    ]


def _cluster_order(cluster: Row) -> tuple[Any, ...]:
    numbers = report_model.count_findings([cluster])
    return (
        cluster["status"] == OK,
        find_time(cluster["breaks_at"]) or _FAR,
        -numbers[ERROR],
        -numbers[WARNING],
        cluster["name"],
    )


def _cluster_row(cluster: Row, now: datetime) -> ClusterRow:
    numbers = report_model.count_findings([cluster])
    shown = [numbers[key] for key in (*SEVERITIES, UNKNOWN, "excepted")]
    return ClusterRow(cluster, shown, moment(cluster["breaks_at"], now), moment(cluster["audited_at"]))


def _exceptions(clusters: Iterable[Row]) -> Iterator[Row]:
    """Yield each exception once. It is unused if it matches nothing on any cluster."""
    found: dict[str, list[Row]] = defaultdict(list)
    for cluster in clusters:
        for exception in cluster["exceptions"]:
            found[
                repr([exception[key] for key in ("check", "clusters", "objects", "reason", "until")])
            ].append(exception)
    for entries in found.values():
        states = {entry["state"] for entry in entries}
        state = next((name for name in (MATCHED, EXPIRED) if name in states), UNUSED)
        total = sum(entry["findings"] or 0 for entry in entries)
        yield {**entries[0], "state": state, "findings": total, "until": moment(entries[0]["until"])}
