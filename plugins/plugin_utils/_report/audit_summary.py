# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The short forms of an audit's report: lines for the end of a run, and the artifact for a later job of AWX. Pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ...module_utils._base.text import harmless, plural
from . import report_model, report_schema
from .report_model import Row
from .report_text import Report

# The summary lists about so many findings, and at most so many clusters without an audit.
MOST_LINES = 10
# AWX loads the artifacts of all jobs of a workflow as extra variables.
ARTIFACT_BYTES = 40_000
#: The outcome of a cluster that was audited and did not pass the gate.
FINDINGS = "findings"


def lines(report: Report, files: Sequence[str], problems: Sequence[str]) -> list[str]:
    """Return the summary: counts, the findings that break first, what to do, clusters without an audit, files and problems."""
    failures = report_model.failures(report)
    return [
        *_counts(report),
        *_findings(failures),
        *(_remedy(report, check) for check in dict.fromkeys(row.finding["check"] for row in failures)),
        *_limited(_clusters(report_model.problem_clusters(report)), "clusters"),
        *_comparison(report),
        *_limited(report["notes"], "lines about the report"),
        *files,
        *problems,
    ]


def _counts(report: Report) -> Iterator[str]:
    numbers = report_model.counts(report)
    total = len(report["clusters"])
    clusters = ", ".join(f"{number} {status}" for status, number in numbers["clusters"].items() if number)
    yield f"{total} cluster{'' if total == 1 else 's'}: {clusters or 'none audited'}"
    findings = ", ".join(
        f"{number} {name}"
        for name, number in numbers["findings"].items()
        if number and name not in ("pass", "skip")
    )
    unread = sum(
        cluster["status"] not in (report_schema.OK, report_schema.INCOMPLETE)
        for cluster in report["clusters"]
    )
    if unread == total:
        yield "findings: not known, because no cluster was audited"
        return
    lost = f". Not known for {plural(unread, 'cluster')}" if unread else ""
    yield f"findings: {findings or 'none'}{lost}"


def _findings(failures: Sequence[Row]) -> Iterator[str]:
    """Yield the first findings of each check, and the number of the others. So one fault of many objects hides no other fault."""
    checks = Counter(row.finding["check"] for row in failures)
    most = max(2, MOST_LINES // (len(checks) or 1))
    for check, number in checks.items():
        yield from (
            _finding(row) for row in [row for row in failures if row.finding["check"] == check][:most]
        )
        if number > most:
            yield f"and {number - most} more of {check}"


def _limited(entries: Sequence[str], noun: str) -> Iterator[str]:
    yield from entries[:MOST_LINES]
    if len(entries) > MOST_LINES:
        yield f"and {len(entries) - MOST_LINES} more {noun}"


def _finding(row: Row) -> str:
    finding, subject = row.finding, row.finding["object"]
    when = "now" if report_model.breaks_now(row) else finding["breaks_at"] or "no date"
    place = "/".join(filter(None, (report_model.place(subject), subject["webhook"])))
    # Some checks say in the first observation what to do.
    seen = f" ({finding['evidence'][0]})" if finding["evidence"] else ""
    return f"{finding['severity']} {finding['check']} ({when}) {row.cluster['name']}: {place}: {finding['cause']}{seen}"


def _remedy(report: Report, name: str) -> str:
    check = report["checks"][name]
    return f"to do for {name}: {check['remedy']} ({check['url']})"


def _clusters(clusters: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return a line for each cluster without an audit, and one for all that fail for a shared reason."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for cluster in clusters:
        is_shared = cluster["code"] in report_schema.SHARED
        groups.setdefault(cluster["code"] if is_shared else f"host {cluster['name']}", []).append(cluster)
    return [_cluster(group[0], [cluster["name"] for cluster in group]) for group in groups.values()]


def _cluster(cluster: Mapping[str, Any], names: Iterable[str]) -> str:
    code = f" ({cluster['code']})" if cluster["code"] else ""
    return f"{', '.join(names)}: {cluster['status']}{code}: {cluster['reason']}"


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
    breaks = [row.finding["breaks_at"] for row in report_model.failures(report) if row.finding["breaks_at"]]
    counts: dict[str, Any] = {
        "format_version": report["format_version"],
        "made_at": report["made_at"],
        "breaks_at": min(breaks, default=None),
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
