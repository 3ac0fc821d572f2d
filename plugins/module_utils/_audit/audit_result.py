# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Run the checks over the data of a cluster, and build the result. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

from .._kube.access_review import Permission
from .._times import format_time
from . import exceptions
from .checks import (
    admission_checks,
    call_checks,
    check_table,
    cluster_checks,
    definition_checks,
    renewal_checks,
    webhook_settings,
)
from .checks.cluster_rows import UNREADABLE
from .cluster_data import (
    CONDITIONS,
    ENDPOINTS,
    PERMISSIONS,
    PORT_FORWARD,
    SERVICES,
    BackendKey,
    ClusterData,
    Gap,
)
from .exceptions import AuditException
from .finding import FAIL, PASS, SEVERITIES, STATUSES, UNKNOWN, AuditedObject, AuditFinding

_FAR = datetime.max.replace(tzinfo=timezone.utc)
#: A gap of these sources is about single objects. The checks themselves give no answer for such an object.
_OF_OBJECTS = frozenset((CONDITIONS, ENDPOINTS, PORT_FORWARD, SERVICES))
RULES = (
    admission_checks.check_control_plane,
    admission_checks.check_deadlocks,
    admission_checks.check_timeouts,
    admission_checks.check_duplicates,
    cluster_checks.check_calls,
    cluster_checks.check_requests,
    cluster_checks.check_login,
    cluster_checks.check_api_server,
    cluster_checks.check_snapshot_controller,
    cluster_checks.check_cluster_ca,
    cluster_checks.check_clock,
    webhook_settings.check_settings,
    renewal_checks.check_renewal,
    renewal_checks.check_endpoint_count,
    definition_checks.check_definitions,
)


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
    """Return the findings of all checks. A check passes only if all of its sources could be read."""
    findings = [finding for point in data.points for finding in call_checks.check_point(data, point)]
    compared = [finding for rule in RULES for finding in rule(data)]
    findings += [finding for finding in compared if finding.status != PASS or _is_complete(finding, data)]
    findings += _unknowns(data)
    return [finding if finding.severity else _with_severity(finding) for finding in findings]


def _is_complete(finding: AuditFinding, data: ClusterData) -> bool:
    return not set(check_table.BY_ID[finding.check].sources) & (data.unread - _OF_OBJECTS)


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
        "missing_role": missing_role(gap.source for gap in data.gaps if gap.lacks_permission),
        "counters": None if data.counters_after is None else dict(data.counters_after),
    }


def missing_role(sources: Iterable[str]) -> dict[str, Any]:
    """Return the ClusterRole with the permissions to read these sources, {} if none is lacking."""
    wanted = set(sources)
    lacking = [permission for source in PERMISSIONS if source in wanted for permission in PERMISSIONS[source]]
    if not lacking:
        return {}
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "certflow-audit-missing"},
        "rules": list(_rules(lacking)),
    }


def _rules(permissions: Sequence[Permission]) -> Iterator[dict[str, Any]]:
    verbs: dict[tuple[str, str, str], list[str]] = {}
    for permission in permissions:
        verbs.setdefault((permission.group, permission.resource, permission.name), []).append(permission.verb)
    for (group, resource, name), wanted in verbs.items():
        if resource.startswith("/"):
            yield {"nonResourceURLs": [resource], "verbs": wanted}
        else:
            names = {"resourceNames": [name]} if name else {}
            yield {"apiGroups": [group], "resources": [resource], **names, "verbs": wanted}


def _unknowns(data: ClusterData) -> Iterator[AuditFinding]:
    """Yield a finding for each reason of a failed read, with the objects that call what was not read."""
    backends: dict[Gap, list[BackendKey | None]] = {}
    for gap in data.gaps:
        backends.setdefault(replace(gap, backend=None), []).append(gap.backend)
    for gap, places in backends.items():
        called = [str(point.object) for point in data.points if point.backend in places]
        yield _unknown(gap, () if None in places else tuple(called))


def _unknown(gap: Gap, objects: tuple[str, ...]) -> AuditFinding:
    permissions = tuple(map(_in_words, PERMISSIONS[gap.source] if gap.lacks_permission else ()))
    checks = tuple(check_table.checks_of(gap.source))
    words = f"The audit could not read {gap.source}: {gap.reason}"
    lines = [f"checks without a complete answer: {', '.join(checks)}"] if checks else []
    lines += [f"objects: {', '.join(objects)}"] if objects else []
    lines += [f"missing permission: {permission}" for permission in permissions]
    return AuditFinding(
        UNREADABLE,
        UNKNOWN,
        AuditedObject("Cluster", ""),
        words,
        tuple(lines),
        unanswered=checks,
        objects=objects,
        permissions=permissions,
        detail=f"{gap.source} {gap.reason}",
        source=gap.source,
    )


def _in_words(permission: Permission) -> str:
    group = f".{permission.group}" if permission.group else ""
    return f"{permission.verb} {permission.resource}{group} {permission.name}".rstrip()


def _with_severity(finding: AuditFinding) -> AuditFinding:
    severity = check_table.BY_ID[finding.check].severity
    return AuditFinding(**{**vars(finding), "severity": severity})


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
