# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Run the checks over the data of a cluster, and build the result. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

from .._kube.access_review import Permission, in_words
from .._times import format_time
from . import exceptions
from .checks import check_table, rotation_checks
from .checks.cluster_rows import UNREADABLE
from .checks.control_plane_requests import LABELS_LIMIT
from .exceptions import AuditException
from .facts.cluster_data import CONDITIONS, ESSENTIAL, NODES, PERMISSIONS, PODS, VERSIONS, ClusterData, Gap
from .facts.finding import CLUSTER, FAIL, SEVERITIES, SKIP, STATUSES, UNKNOWN, AuditFinding, every

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


@dataclass(frozen=True)
class ResultOptions:
    """Options for the content of the result."""

    #: Also return the findings that passed or do not apply.
    include_passed: bool = False
    exceptions: tuple[AuditException, ...] = ()
    #: The names of the cluster for the exceptions: that of the inventory, and the UID that the task expects. The UID that the cluster
    #: reports is no name, because a cluster may report that of another one.
    cluster_names: tuple[str, ...] = ()


def find(data: ClusterData) -> list[AuditFinding]:
    """Return the findings of all checks. A check passes or is skipped only if everything that it compares was read."""
    findings = list(check_table.find(data))
    unread = {(gap.source, name) for gap in data.gaps for name in (_ANY, *data.names_of(gap))}
    data = replace(data, gaps=(*data.gaps, *_undecided(findings)))
    findings = [finding for finding in findings if finding.status == FAIL or _is_complete(finding, unread)]
    findings += _unknowns(data)
    return [
        finding if finding.severity else replace(finding, severity=check_table.BY_ID[finding.check].severity)
        for finding in findings
    ]


def _is_complete(finding: AuditFinding, unread: Set[tuple[str, str]]) -> bool:
    """Return True if the check of a finding read everything. unread: sources, each with the names of objects without an answer."""
    check = check_table.BY_ID[finding.check]
    names = (_ANY,) if check.compares_objects else finding.object.names
    is_read = not any((source, name) in unread for source in check.sources for name in names)
    return is_read and finding.status != UNKNOWN


def _undecided(findings: Iterable[AuditFinding]) -> Iterator[Gap]:
    """Yield a gap for each check that could not decide about an object."""
    for one in findings:
        if one.status == UNKNOWN and one.source in _UNDECIDED:
            names = (str(one.object) if one.object.name else every(one.object.kind),)
            yield Gap(one.source, _UNDECIDED[one.source], objects=names, checks=(one.check,))


def build(data: ClusterData, options: ResultOptions = ResultOptions()) -> dict[str, Any]:
    """Return the result of the audit, with the findings that break first before the others."""
    names = options.cluster_names
    findings = sorted(exceptions.apply(find(data), options.exceptions, names, data.now), key=_order)
    shown = [one for one in findings if options.include_passed or one.status in (FAIL, UNKNOWN)]
    failed = [one for one in findings if one.status == FAIL and not one.exception]
    times = [one.breaks_at for one in failed if one.breaks_at]
    return {
        "audited_at": format_time(data.now),
        "cluster_uid": data.cluster_uid,
        "kubernetes_version": data.version,
        "findings": [one.as_result(data.cluster_uid) for one in shown],
        "checks": _checks(findings),
        "counts": {
            **{severity: sum(one.severity == severity for one in failed) for severity in SEVERITIES},
            "excepted": sum(one.exception is not None for one in findings),
            **{
                status: sum(one.status == status for one in findings) for status in STATUSES if status != FAIL
            },
        },
        "breaks_at": format_time(min(times)) if times else None,
        "exceptions": exceptions.report(findings, options.exceptions, names, data.now),
        "incomplete": [source for source in ESSENTIAL if source in data.unread],
        "missing_role": missing_role(data.lacking),
        "certificate_authority_data": rotation_checks.certificate_authority_data(data),
        "counters": None if data.counters_after is None else dict(data.counters_after),
    }


def missing_role(lacking: Iterable[Permission]) -> dict[str, Any]:
    """Return the ClusterRole with these permissions, {} without a permission."""
    rules = [_rule(permission) for permission in lacking]
    head = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole"}
    return {**head, "metadata": {"name": "certflow-audit-missing"}, "rules": rules} if rules else {}


def known_permissions(role: Mapping[str, Any]) -> list[Permission]:
    """Return the permissions of a ClusterRole of missing_role. Other rules are left out."""
    known = dict.fromkeys(permission for needed in PERMISSIONS.values() for permission in needed)
    return [permission for permission in known if _rule(permission) in role["rules"]]


def _rule(permission: Permission) -> dict[str, Any]:
    if permission.resource.startswith("/"):
        return {"nonResourceURLs": [permission.resource], "verbs": [permission.verb]}
    names = {"resourceNames": [permission.name]} if permission.name else {}
    place = {"apiGroups": [permission.group], "resources": [permission.resource]}
    return {**place, **names, "verbs": [permission.verb]}


def _unknowns(data: ClusterData) -> Iterator[AuditFinding]:
    """Yield a finding for each reason of a failed read, and skipped findings for each source that the site does not permit."""
    groups: dict[tuple[str, str], list[Gap]] = {}
    for gap in data.gaps:  # the messages about a missing permission differ only in the names
        groups.setdefault((gap.source, "" if gap.lacks_permission else gap.reason), []).append(gap)
    for gaps in groups.values():
        objects = tuple(dict.fromkeys(name for gap in gaps for name in data.names_of(gap)))
        checks = tuple(check for gap in gaps for check in gap.checks)
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
    rows = [
        row for row in check_table.CHECKS if gap.source in row.sources and row.id in (gap.checks or (row.id,))
    ]
    compared = [row.id for row in rows if row.compares_objects and not gap.checks]
    lines = [f"checks without a complete answer: {', '.join(row.id for row in rows)}"] if rows else []
    lines += [f"objects: {', '.join(objects)}"]
    lines += [f"no answer for any object: {', '.join(compared)}"] if compared else []
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
        own = [one.status for one in findings if one.check == check]
        row["counts"] = {status: own.count(status) for status in STATUSES}
    return rows
