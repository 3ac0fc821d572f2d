# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The short forms of an audit's report: lines for the end of a run, and the artifact for a later job of AWX. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ...module_utils._audit.facts.finding import UNKNOWN
from ...module_utils._base.text import harmless, plural, spare
from ...module_utils._repair import kinds
from . import groups, report_model, report_schema
from .groups import Group
from .report_text import Report

# The summary lists at most so many faults, and so many clusters without an audit.
MOST_LINES = 10
# AWX loads the artifacts of all jobs of a workflow as extra variables.
ARTIFACT_BYTES = 40_000
#: The checks whose first observation is the remedy.
_ITS_OWN = frozenset(("request-stuck",))
#: What the playbook repair can do.
_REPAIR = " Or run the playbook certflow.kubernetes.repair with --check, and with the JSON report as certflow_findings"
#: The outcome of a cluster that was audited and did not pass the gate.
FINDINGS = "findings"


def lines(report: Report, files: Sequence[str], problems: Sequence[str]) -> list[str]:
    """Return the summary: counts, the most urgent faults, what to do, clusters without an audit, files, problems, and what is next."""
    faults = groups.group(report_model.failures(report))
    unknown = groups.group(report_model.rows(report, UNKNOWN))
    unread = report_model.problem_clusters(report)
    # The last line has the remedy of the first one. A rotation leads the faults, and what is broken now is more urgent.
    first = sorted(faults, key=lambda fault: not fault.first.is_now)[:1]
    shown = (*first, *faults[:MOST_LINES], *unknown[:1])
    first_of = {fault.finding["check"]: fault for fault in reversed(shown)}
    urgent = [first_of[check] for check in dict.fromkeys(fault.finding["check"] for fault in shown)]
    return [
        *_counts(report),
        *_limited([_fault(fault) for fault in faults], "faults"),
        *_limited([_unread(fault) for fault in unknown], "reasons"),
        *(f"to do for {fault.finding['check']}: {_remedy(report, fault)}" for fault in urgent[1:]),
        *_limited(_clusters(unread), "clusters"),
        *_comparison(report),
        *_limited(report["notes"], "lines about the report"),
        *files,
        *problems,
        _next(report, urgent[:1], (faults, unknown), unread, problems),
    ]


def _counts(report: Report) -> Iterator[str]:
    numbers = report_model.counts(report)
    total = len(report["clusters"])
    # "2 ok" before "1 error" reads as if no webhook was broken.
    clusters = ", ".join(
        f"{number} {'audited' if status == report_schema.OK else status}"
        for status, number in numbers["clusters"].items()
        if number
    )
    yield f"{total} cluster{'' if total == 1 else 's'}: {clusters or 'none audited'}"
    findings = ", ".join(
        f"{number} {name}"
        for name, number in numbers["findings"].items()
        if number and name not in ("pass", "skip")
    )
    unread = sum(not report_model.was_read(cluster) for cluster in report["clusters"])
    if unread == total:
        yield "findings: not known, because no cluster was audited"
        return
    lost = f". Not known for {plural(unread, 'cluster')}" if unread else ""
    yield f"findings: {findings or 'none'}{lost}"


def _limited(entries: Sequence[str], noun: str) -> Iterator[str]:
    yield from entries[:MOST_LINES]
    if len(entries) > MOST_LINES:
        yield f"and {len(entries) - MOST_LINES} more {noun}"


def _fault(fault: Group) -> str:
    """Return the severity, the check, the effect, the clusters, the first object and its cause in one line."""
    finding, subject = fault.finding, fault.finding["object"]
    when = ""
    if fault.first.is_now:
        when = "now"
    elif fault.breaks_at:
        when = f"from {fault.breaks_at}"
    effect = " ".join(filter(None, (fault.effect, when)))
    place = "/".join(filter(None, (report_model.place(subject), subject["webhook"])))
    more = len(fault.rows) - 1
    others = f" and {plural(more, 'more object')}" if more else ""
    # Some checks say in the first observation what to do.
    seen = f" ({finding['evidence'][0]})" if finding["evidence"] else ""
    head = f"{finding['severity']} {finding['check']}{f' ({effect})' if effect else ''}"
    return f"{head} {fault.where}: {place}{others}: {report_model.cause(finding)}{seen}"


def _unread(gap: Group) -> str:
    needed, objects = gap.all("permissions"), gap.all("objects")
    details = ""
    if needed:  # the cause of a missing permission names what was not read
        details = f" (missing permissions: {needed})"
    elif objects:
        details = f" (objects: {objects})"
    return f"unknown {gap.where}: {gap.finding['cause']}{details}"


def _remedy(report: Report, fault: Group) -> str:
    """Return what to do about a fault, with the page of its check."""
    name, evidence = fault.finding["check"], fault.finding["evidence"]
    check = report["checks"][name]
    words = evidence[0] if name in _ITS_OWN and evidence else check["remedy"]
    return f"{words}{_REPAIR if name in kinds.CHECKS else ''} ({check['url']})"


def _next(
    report: Report,
    urgent: Sequence[Group],
    groups_left: Sequence[Sequence[Group]],
    unread: Sequence[Mapping[str, Any]],
    problems: Sequence[str],
) -> str:
    """Return the last line: what is left, and what to do first.

    urgent: the most urgent fault. groups_left: the faults, and what could not be read.
    """
    left = [
        f"{plural(len(entries), noun)} in {plural(len({name for entry in entries for name in entry.clusters}), 'cluster')}"
        for noun, entries in zip(("fault", "gap"), groups_left)
        if entries
    ]
    if unread:
        left.append(f"{plural(len(unread), 'cluster')} without a complete audit")
    if problems:
        left.append(f"{plural(len(problems), 'problem')} of the report")
    steps = [f"for {fault.finding['check']}, {_remedy(report, fault)}" for fault in urgent]
    steps += [f"for {cluster['name']}, {cluster['remedy'] or cluster['reason']}" for cluster in unread[:1]]
    return f"left: {', '.join(left)}. Next: {(steps or problems)[0]}" if left else "nothing is left to do"


def _clusters(clusters: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return a line for the clusters without an audit that have the same reason, or the same code if its reason is always shared."""
    groups: dict[str, tuple[str, list[str]]] = {}
    for cluster in clusters:
        text = _cluster(cluster)
        key = cluster["code"] if cluster["code"] in report_schema.SHARED else text
        groups.setdefault(key, (text, []))[1].append(cluster["name"])
    return [f"{', '.join(names)}: {text}" for text, names in groups.values()]


def _cluster(cluster: Mapping[str, Any]) -> str:
    code = f" ({cluster['code']})" if cluster["code"] not in ("", cluster["status"]) else ""
    remedy = f". {cluster['remedy']}" if cluster.get("remedy") else ""
    return f"{cluster['status']}{code}: {cluster['reason']}{remedy}"


def _comparison(report: Report) -> Iterator[str]:
    comparison = report.get("comparison")
    if comparison:
        yield f"since {comparison['made_at']}: {comparison['new']} new, {comparison['known']} known, {len(comparison['gone'])} gone"


def outcomes(report: Report, failed: Iterable[str]) -> dict[str, str]:
    """Return the outcome of each cluster: its status, or FINDINGS if it was audited and did not pass the gate."""
    refused = set(failed)
    return {
        cluster["name"]: FINDINGS
        if cluster["status"] == report_schema.OK and cluster["name"] in refused
        else cluster["status"]
        for cluster in report["clusters"]
    }


def artifact(report: Report, failed: Iterable[str]) -> dict[str, Any]:
    """Return counts and outcomes with at most about ARTIFACT_BYTES as JSON. Clusters with a success are left out first."""
    spare(cluster["name"] for cluster in report["clusters"])
    faults = groups.group(report_model.failures(report))
    counts: dict[str, Any] = {
        "format_version": report["format_version"],
        "made_at": report["made_at"],
        "breaks_at": min(filter(None, (fault.breaks_at for fault in faults)), default=None),
        "faults": [fault.as_result() for fault in faults[:MOST_LINES]],
        "more_faults": len(faults[MOST_LINES:]),
        **report_model.counts(report),
    }
    shown: dict[str, str] = {}
    every = sorted(
        harmless(outcomes(report, failed)).items(), key=lambda item: (item[1] == report_schema.OK, item[0])
    )
    size = len(json.dumps(counts))
    for name, outcome in every:
        size += len(json.dumps({name: outcome}))
        if size > ARTIFACT_BYTES:
            break
        shown[name] = outcome
    return {**harmless(counts), "outcomes": shown, "left_out": len(every) - len(shown)}
