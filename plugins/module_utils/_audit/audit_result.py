# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Run the checks over the data of a cluster, apply the exceptions of the users, and build the result. Pure.

An accepted finding stays in the result and is counted apart. An exception always has a reason and an end, so that it is looked
at again. The owner of an object can except it from checks by an annotation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from fnmatch import fnmatchcase
from typing import Any

from .._base.errors import CertflowError
from .._base.text import suggestion
from .._base.times import find_time, format_time
from .._kube.access_review import in_words
from .checks import call_checks, check_table, rotation_checks
from .checks.check_table import BY_ID
from .checks.cluster_rows import UNREADABLE
from .checks.control_plane_requests import LABELS_LIMIT
from .facts.cluster_data import (
    COMPARISONS,
    CONDITIONS,
    ESSENTIAL,
    NODES,
    PERMISSIONS,
    PODS,
    VERSIONS,
    ClusterData,
    Gap,
)
from .facts.finding import (
    ANNOTATION,
    CLUSTER,
    FAIL,
    SEVERITIES,
    SKIP,
    STATUSES,
    UNKNOWN,
    AppliedException,
    AuditedObject,
    AuditFinding,
    every,
)

MATCHED, UNUSED, EXPIRED, ELSEWHERE = "matched", "unused", "expired", "other-cluster"
STATES = (MATCHED, UNUSED, EXPIRED, ELSEWHERE)
_DATE_LENGTH = len("2027-01-31")


@dataclass(frozen=True)
class AuditException:
    """One entry of the option exceptions."""

    check: str
    reason: str
    until: datetime
    #: Patterns of the names of clusters, and of the UIDs that tasks expect.
    clusters: tuple[str, ...] = ("*",)
    #: Patterns of KIND/NAME or KIND/NAMESPACE/NAME, or of the name of a webhook.
    objects: tuple[str, ...] = ("*",)

    def is_for(self, cluster_names: Iterable[str]) -> bool:
        """Return True for one of the clusters, or for every cluster."""
        return "*" in self.clusters or any(
            fnmatchcase(name, pattern) for name in cluster_names if name for pattern in self.clusters
        )

    def matches(self, finding: AuditFinding) -> bool:
        """Return True for a failed finding of the check about one of the objects."""
        return finding.status == FAIL and self.apply(finding.check, vars(finding.object)) is not None

    def apply(self, check: str, subject: Mapping[str, str]) -> AppliedException | None:
        """Return what accepts a finding of the check, None if it is not about one of the objects. subject: the keys of AuditedObject."""
        place = "/".join(filter(None, (subject.get(key) for key in ("kind", "namespace", "name"))))
        names = (place, subject.get("webhook") or "")
        is_meant = any(fnmatchcase(name, pattern) for name in names for pattern in self.objects)
        return AppliedException(self.reason, self.until) if check == self.check and is_meant else None


def parse_exceptions(entries: Sequence[Mapping[str, Any]]) -> tuple[AuditException, ...]:
    """Return the exceptions of the option. Raises CertflowError for a value that is not valid."""
    return tuple(_parse_exception(entry, number) for number, entry in enumerate(entries, 1))


def _parse_exception(entry: Mapping[str, Any], number: int) -> AuditException:
    check, reason, until = (str(entry[key]).strip() for key in ("check", "reason", "until"))
    where = f"entry {number} of the option exceptions"
    if check not in BY_ID:
        raise CertflowError(
            f"{where} names the check {check!r}, which does not exist",
            remedy=suggestion(check, BY_ID) or "Use an id of the page of checks",
        )
    if not reason:
        raise CertflowError(f"{where} has an empty reason", remedy="Say why the finding is accepted")
    end = find_time(until) or find_time(f"{until}T00:00:00Z")
    if end is None:
        raise CertflowError(
            f"{where} has the value {until!r} for until, which is not a date",
            remedy="Set a date, such as '2027-01-31'",
        )
    if len(until) == _DATE_LENGTH:
        end += min(timedelta(days=1), datetime.max.replace(tzinfo=end.tzinfo) - end)  # the whole day
    patterns = {
        key: tuple(str(text).strip() for text in entry[key])
        for key in ("clusters", "objects")
        if entry.get(key) is not None
    }
    for key, texts in patterns.items():
        if not texts or "" in texts:  # such as the names of an empty group
            raise CertflowError(
                f"{where} has an empty pattern, or none, for {key}",
                remedy=f"Set {key} to patterns, or remove it to accept all",
            )
    return AuditException(check, reason, end, **patterns)


def apply_exceptions(
    findings: Iterable[AuditFinding],
    exceptions: Sequence[AuditException],
    cluster_names: Sequence[str],
    now: datetime,
) -> list[AuditFinding]:
    """Return the findings. Those that are accepted have the exception."""
    usable = [entry for entry in exceptions if entry.until > now and entry.is_for(cluster_names)]
    return [_applied(finding, usable) for finding in findings]


def _applied(finding: AuditFinding, exceptions: Sequence[AuditException]) -> AuditFinding:
    if finding.status == FAIL and finding.check in finding.object.excepted_checks:
        return replace(finding, exception=AppliedException(f"the object has the annotation {ANNOTATION}"))
    applied = (
        entry.apply(finding.check, vars(finding.object)) for entry in exceptions if finding.status == FAIL
    )
    return replace(finding, exception=next(filter(None, applied), None))


def report_exceptions(
    findings: Sequence[AuditFinding],
    exceptions: Sequence[AuditException],
    cluster_names: Sequence[str],
    now: datetime,
) -> list[dict[str, Any]]:
    """Return each exception with its state and the number of its findings."""
    return [
        {
            "check": entry.check,
            "clusters": list(entry.clusters),
            "objects": list(entry.objects),
            "reason": entry.reason,
            "until": format_time(entry.until),
            **_exception_state(findings, entry, cluster_names, now),
        }
        for entry in exceptions
    ]


def _exception_state(
    findings: Sequence[AuditFinding], entry: AuditException, cluster_names: Sequence[str], now: datetime
) -> dict[str, Any]:
    if not entry.is_for(cluster_names):
        return {"state": ELSEWHERE, "findings": 0}
    number = sum(entry.matches(finding) for finding in findings)
    if entry.until <= now:
        state = EXPIRED
    elif number:
        state = MATCHED
    else:
        state = UNUSED
    return {"state": state, "findings": number}


_FAR = datetime.max.replace(tzinfo=timezone.utc)
_ANY = ""
#: Why a check is undecided. The data have a gap for each other source.
_UNDECIDED: Mapping[str, str] = {
    CONDITIONS: "the audit does not evaluate matchConditions of webhooks",
    VERSIONS: "the rules name only other versions of a resource than the control plane uses, and the API server may convert",
    **dict.fromkeys(
        (PODS, NODES), f"there are too many, so only the labels of the first {LABELS_LIMIT} were compared"
    ),
}


def find(data: ClusterData) -> list[AuditFinding]:
    """Return the findings of all checks. A check passes or is skipped only if everything that it compares was read."""
    findings, unfinished = check_table.find(data)
    if unfinished:
        gap = Gap(COMPARISONS, "wait_timeout ended before each object was compared", checks=unfinished)
        data = replace(data, gaps=(*data.gaps, gap))
        findings = [
            finding for finding in findings if finding.status == FAIL or finding.check not in unfinished
        ]
    unread = {(gap.source, name) for gap in data.gaps for name in (_ANY, *data.names_of(gap))}
    data = replace(data, gaps=(*data.gaps, *_undecided(findings)))
    findings = [finding for finding in findings if finding.status == FAIL or _is_complete(finding, unread)]
    findings += _unknowns(data)
    impacts = {point.object: call_checks.find_impact(point) for point in data.points}
    return [_completed(finding, impacts) for finding in findings]


def find_incomplete(findings: Iterable[AuditFinding]) -> list[str]:
    """Return the sources without which an audit has not seen everything that calls webhooks, if something of them was not read."""
    unread = {finding.source for finding in findings}
    return [source for source in ESSENTIAL if source in unread]


def _completed(finding: AuditFinding, impacts: Mapping[AuditedObject, Mapping[str, Any]]) -> AuditFinding:
    """Return the finding with its severity, and with what a failed call of its object means."""
    impact = impacts.get(finding.object, {}) if finding.status == FAIL else {}
    severity = finding.severity or check_table.BY_ID[finding.check].severity
    return replace(finding, severity=severity, **impact)


def _is_complete(finding: AuditFinding, unread: Set[tuple[str, str]]) -> bool:
    """Return True if the check of a finding read everything. unread: sources, each with the names of objects without an answer."""
    check = check_table.BY_ID[finding.check]
    names = (_ANY,) if check.compares_objects else finding.object.names
    is_read = not any((source, name) in unread for source in check.sources for name in names)
    return is_read and finding.status != UNKNOWN


def _undecided(findings: Iterable[AuditFinding]) -> Iterator[Gap]:
    """Yield a gap for each check that could not decide about an object."""
    for finding in findings:
        reason = finding.cause or _UNDECIDED.get(finding.source, "")
        if finding.status == UNKNOWN and reason:
            names = (str(finding.object) if finding.object.name else every(finding.object.kind),)
            yield Gap(finding.source, reason, objects=names, checks=(finding.check,))


def build(
    data: ClusterData,
    *,
    include_passed: bool = False,
    accepted: Sequence[AuditException] = (),
    cluster_names: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the result of the audit, with the findings that break first before the others.

    include_passed: also return the findings that passed or do not apply.
    cluster_names: the names of the cluster for the exceptions: that of the inventory, and the UID that the task expects. The UID that
        the cluster reports is no name, because a cluster may report that of another one.
    """
    findings = sorted(apply_exceptions(find(data), accepted, cluster_names, data.now), key=_order)
    shown = [finding for finding in findings if include_passed or finding.status in (FAIL, UNKNOWN)]
    failed = [finding for finding in findings if finding.status == FAIL and not finding.exception]
    times = [finding.breaks_at for finding in failed if finding.breaks_at]
    counts = {severity: sum(finding.severity == severity for finding in failed) for severity in SEVERITIES}
    counts["excepted"] = sum(finding.exception is not None for finding in findings)
    for status in STATUSES:
        if status != FAIL:
            counts[status] = sum(finding.status == status for finding in findings)
    return {
        "audited_at": format_time(data.now),
        "cluster_uid": data.cluster_uid,
        "kubernetes_version": data.version,
        "findings": [finding.as_result(data.cluster_uid) for finding in shown],
        "checks": _checks(findings),
        "counts": counts,
        "breaks_at": format_time(min(times)) if times else None,
        "exceptions": report_exceptions(findings, accepted, cluster_names, data.now),
        "incomplete": find_incomplete(findings),
        "certificate_authority_data": rotation_checks.certificate_authority_data(data),
        "counters": None if data.counters_after is None else dict(data.counters_after),
    }


def _unknowns(data: ClusterData) -> Iterator[AuditFinding]:
    """Yield a finding for each reason of a failed read, and skipped findings for each source that the site does not permit."""
    groups: dict[tuple[str, str], list[Gap]] = {}
    for gap in data.gaps:  # the messages about a missing permission differ only in the names
        groups.setdefault((gap.source, "" if gap.lacks_permission else gap.reason), []).append(gap)
    for gaps in groups.values():
        objects = tuple(dict.fromkeys(name for gap in gaps for name in data.names_of(gap)))
        # One gap without checks is a gap of every check of the source.
        checks = (
            tuple(check for gap in gaps for check in gap.checks) if all(gap.checks for gap in gaps) else ()
        )
        unknown = _unknown(data, replace(gaps[0], checks=checks), objects)
        if gaps[0].source not in data.without:
            yield unknown
            continue
        for check in unknown.unanswered:
            yield AuditFinding(check, SKIP, CLUSTER, evidence=(unknown.cause,), detail=unknown.source)


def _unknown(data: ClusterData, gap: Gap, objects: tuple[str, ...]) -> AuditFinding:
    needed = PERMISSIONS[gap.source] if gap.lacks_permission else ()
    missing = [entry for entry in needed if entry in data.lacking] or needed
    permissions = tuple(map(in_words, missing))
    ids = gap.checks or tuple(check_table.checks_of(gap.source))
    rows = [row for row in check_table.CHECKS if row.id in ids]
    compared = [row.id for row in rows if row.compares_objects and not gap.checks]
    lines = [f"checks without a complete answer: {', '.join(row.id for row in rows)}"] if rows else []
    lines += [f"objects: {', '.join(objects)}"]
    if compared:
        lines.append(f"no answer for any object: {', '.join(compared)}")
    lines += [f"missing permission: {permission}" for permission in permissions]
    return AuditFinding(
        UNREADABLE,
        UNKNOWN,
        CLUSTER,
        f"The audit could not read {gap.source}: {gap.reason}",
        tuple(lines),
        unanswered=tuple(row.id for row in rows),
        objects=objects,
        permissions=permissions,
        detail=f"{gap.source} {gap.reason}",
        source=gap.source,
    )


def _order(finding: AuditFinding) -> tuple[Any, ...]:
    subject = finding.object
    return (
        STATUSES.index(finding.status),
        finding.exception is not None,
        finding.breaks_at or _FAR,
        SEVERITIES.index(finding.severity),
        subject.kind,
        subject.namespace,
        subject.name,
        subject.webhook,
        finding.check,
    )


def _checks(findings: Sequence[AuditFinding]) -> dict[str, Any]:
    """Return each check once, with the numbers of its findings."""
    rows = check_table.as_results(row.id for row in check_table.CHECKS)
    for check, row in rows.items():
        own = [finding.status for finding in findings if finding.check == check]
        row["counts"] = {status: own.count(status) for status in STATUSES}
    return rows
