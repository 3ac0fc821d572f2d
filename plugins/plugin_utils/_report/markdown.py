# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Write a summary of a report in Markdown, for a merge request or a chat. Pure.

Foreign text is in code spans, in which neither mentions nor links nor references to issues work. Characters that end a code span or
a table cell, or that chats read inside code spans as well, are replaced by similar ones. A backslash before a character is no
escape that all programs know.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ...module_utils._audit.audit_result import EXPIRED, UNUSED
from ...module_utils._audit.facts.finding import INFO, SEVERITIES
from ...module_utils._base.text import plural
from . import report_model, report_schema, report_text
from .report_model import Row
from .report_text import Report, short

#: At most so many rows of each table.
MOST_ROWS = 20
LONGEST_CELL = 200
REPLACEMENTS = {
    "`": "\u02cb",
    "|": "\u00a6",
    "<": "\u2039",
    ">": "\u203a",
    "@": "\uff20",
}


def render(report: Report) -> str:
    """Return the summary."""
    sections = _audit(report) if report["kind"] == report_schema.AUDIT else _run(report)
    notes = [escape(line) for line in report["notes"][:MOST_ROWS]]
    parts = [*sections, _bullets(notes)]
    return "\n\n".join(part for part in parts if part) + "\n"


def escape(text: str) -> str:
    """Return foreign text as a code span, "" for an empty text."""
    line = short(text)
    line = line if len(line) <= LONGEST_CELL else f"{line[:LONGEST_CELL]}..."
    for character, similar in REPLACEMENTS.items():
        line = line.replace(character, similar)
    return f"`{line}`" if line else ""


def _audit(report: Report) -> Iterator[str]:
    counts = report_model.counts(report)
    found = counts["findings"]
    yield f"# Webhook audit of {report['made_at'][:10]}"
    yield (
        f"{_count(len(report['clusters']), 'cluster')}: "
        + ", ".join(_count(found[severity], severity) for severity in SEVERITIES)
        + f", {found['excepted']} accepted, {found['unknown']} unknown."
    )
    yield _table("Clusters without a complete audit", ("Cluster", "Status", "Reason"), _problems(report))
    failures = [row for row in report_model.failures(report) if row.finding["severity"] != INFO]
    head = ("Breaks at", "Severity", "Cluster", "Check", "Object", "Cause")
    yield _table("Findings", head, [_finding(report, row) for row in failures])
    yield from _compared(report)
    yield _table(
        "Not read",
        ("Cluster", "Cause", "Permissions that may be missing"),
        map(_unknown, report_model.unknown(report)),
    )
    yield _table("Exceptions to look at", ("Cluster", "Check", "State", "Reason"), _exceptions(report))


def _run(report: Report) -> Iterator[str]:
    counts = report_model.counts(report)["clusters"]
    yield f"# Run of {escape(report['run']['role'])} on {report['made_at'][:10]}"
    numbers = [f"{number} {status}" for status, number in counts.items() if number]
    yield f"{_count(len(report['clusters']), 'cluster')}: {', '.join(numbers) or 'no outcome'}."
    yield _table("Clusters that failed", ("Cluster", "Status", "Reason"), _problems(report))


def _problems(report: Report) -> list[Sequence[str]]:
    return [
        (
            escape(one["name"]),
            one["status"],
            " ".join(filter(None, (escape(one["code"]), escape(one["reason"])))),
        )
        for one in report_model.problem_clusters(report)
    ]


def _finding(report: Report, row: Row) -> Sequence[str]:
    finding = row.finding
    when = "now" if report_model.breaks_now(row) else finding["breaks_at"] or ""
    state = f" ({finding['state']})" if finding["state"] else ""
    return (
        when,
        finding["severity"] + state,
        escape(row.cluster["name"]),
        _check(report, finding["check"]),
        _object(finding["object"]),
        escape(finding["cause"]),
    )


def _check(report: Report, check: str) -> str:
    url = report["checks"][check]["url"] if check in report["checks"] else ""
    return f"[{escape(check)}]({url})" if url and report_text.is_own_link(url) else escape(check)


def _object(subject: Mapping[str, Any]) -> str:
    return " ".join(filter(None, (escape(report_model.place(subject)), escape(subject["webhook"]))))


def _compared(report: Report) -> Iterator[str]:
    comparison = report["comparison"]
    if not comparison:
        return
    gone = comparison["gone"]
    yield (
        f"Since the audit of {comparison['made_at']}: {comparison['new']} new, {comparison['known']} known, {len(gone)} gone. "
        f"{_count(len(comparison['not_compared']), 'cluster')} not compared."
    )
    rows = [(escape(one["cluster"]), _check(report, one["check"]), _object(one["object"])) for one in gone]
    yield _table("Gone", ("Cluster", "Check", "Object"), rows)


def _unknown(row: Row) -> Sequence[str]:
    permissions = escape(", ".join(row.finding["permissions"]))
    return escape(row.cluster["name"]), escape(row.finding["cause"]), permissions


def _exceptions(report: Report) -> list[Sequence[str]]:
    return [
        (escape(cluster["name"]), escape(one["check"]), one["state"], escape(one["reason"]))
        for cluster in report["clusters"]
        for one in cluster["exceptions"]
        if one["state"] in (EXPIRED, UNUSED)
    ]


def _table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a heading and a table, "" without a row."""
    found = list(rows)
    if not found:
        return ""
    lines = [head, ["---"] * len(head), *found[:MOST_ROWS]]
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    more = len(found) - MOST_ROWS
    return f"## {title}\n\n{text}" + (f"\n\n{more} more in the report." if more > 0 else "")


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines if line)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if noun == INFO else plural(number, noun)
