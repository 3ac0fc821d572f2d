# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The outcome of each cluster of a fleet run, and the lines that tell it. Pure.

Every cluster of a run has exactly one outcome.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...module_utils._base.text import plural, visible
from .._report import report_model
from .._report.report_schema import (
    CHANGED,
    FAILED,
    FAILURES,
    LEFT,
    NOT_STARTED,
    OK,
    PLAN_DIFFERS,
    PLANNED,
    REFUSED,
    RUN_STATUSES,
    SHARED,
    SKIPPED,
    STARTED,
    UNREACHABLE,
    WAITING,
)
from .._variables.values import show_seconds
from . import outcome_of_result

#: The severity of a cluster that waits although a certificate breaks before its window opens.
ERROR = "error"
#: The role ran on the cluster, and wrote what it could.
DONE = frozenset((OK, CHANGED, LEFT))
#: A canary with one of these outcomes has not shown whether the change works.
UNANSWERED = frozenset((UNREACHABLE, PLAN_DIFFERS, STARTED, NOT_STARTED, WAITING, SKIPPED))
#: A refusal of a canary with one of these codes is about the cluster and its owners, and does not show whether the change works.
OF_ITS_OWNERS = frozenset(
    "managed-bundle owned-by-another requested-by-another-identity same-cluster secret-unusable wrong-cluster".split()
)
#: A cluster with one of these outcomes is only counted in the output, without a line of its own.
QUIET = frozenset((OK, PLANNED, SKIPPED))
#: What to do about a cluster whose outcome has no remedy.
AGAIN = "Then run the playbook again"
# The lines of the summary for a cluster that is planned. The report has every step.
MOST_PLAN_LINES = 20

#: Code of a failure -> outcome. Every other code is a failure.
STATUS_OF_CODE = {
    **report_model.STATUS_OF_CODE,
    **dict.fromkeys((*OF_ITS_OWNERS, "preflight-failed", "upgrade-refused"), REFUSED),
    "plan-differs": PLAN_DIFFERS,
}


@dataclass(frozen=True)
class Progress:
    """How far a run is."""

    #: Number of clusters that have an outcome.
    done: int
    #: Number of clusters of the run.
    total: int
    #: Number of clusters that count for certflow_max_failures.
    failed: int
    #: Number of clusters that may fail.
    limit: int


def is_failure(outcome: Mapping[str, Any]) -> bool:
    """Return True if the host of a cluster has failed. A cluster that waits has failed if a certificate breaks before."""
    return outcome.get("status") in FAILURES or outcome.get("severity") == ERROR


def status_of_failure(code: str, wrote: bool) -> str:
    """Return the outcome of a failed role. Every other outcome than failed means that nothing was written."""
    return FAILED if wrote else STATUS_OF_CODE.get(code, FAILED)


def progress_line(progress: Progress, host: str, status: str, seconds: float) -> str:
    """Return a line such as "[37/100] prod-eu-3 changed in 12 s (2 failed, 5 allowed)"."""
    took = f" in {show_seconds(seconds)}" if status not in (WAITING, NOT_STARTED) else ""
    budget = f" ({progress.failed} failed, {progress.limit} allowed)" if progress.failed else ""
    return f"[{progress.done}/{progress.total}] {visible(host)} {status}{took}{budget}"


def count_line(statuses: Iterable[str]) -> str:
    """Return the number of clusters with each outcome, such as "100 clusters: 1 failed, 3 changed, 96 ok"."""
    counts = Counter(statuses)
    parts = [f"{counts[name]} {name}" for name in RUN_STATUSES if counts[name]]
    head = plural(sum(counts.values()), "cluster")
    return f"{head}: {', '.join(parts)}" if parts else head


def summary_lines(outcomes: Mapping[str, Mapping[str, Any]], problem: str = "") -> list[str]:
    """Return lines for the clusters that did not end as they were, failures first, a line with the counts, and one with what is left.

    Clusters with the same lines share them.

    outcomes: the outcome of each host: status, reason, remedy, and in a plan the steps.
    problem: why the report was not written, "" if it was.
    """
    shown = [row for row in outcomes.items() if row[1]["status"] != OK]
    shown.sort(key=lambda row: [*RUN_STATUSES].index(row[1]["status"]))
    groups: dict[object, tuple[Sequence[str], list[str]]] = {}
    for host, row in shown:
        text = (_words(row), *_plan_lines(row))
        key = (row["code"], row.get("remedy")) if row.get("code") in SHARED else text
        groups.setdefault(key, (text, []))[1].append(visible(host))
    lines = [
        line
        for (words, *plan_lines), hosts in groups.values()
        for line in (f"{', '.join(hosts)}: {words}", *plan_lines)
    ]
    return [*lines, count_line(str(row["status"]) for row in outcomes.values()), _last_line(shown, problem)]


def _last_line(shown: Sequence[tuple[str, Mapping[str, Any]]], problem: str) -> str:
    """Return what is left, why, and what to do. shown: the clusters, the worst ones first."""
    left = [entry for entry in shown if _has_left(entry[1])]
    if left:
        host, row = left[0]
        clusters = plural(len(left), "cluster")
        again = "" if row.get("remedy") else f". {AGAIN}"
        return f"left: {clusters}, first {visible(host)}, {_words(row)}{again}"
    if problem:
        return f"left: the report. {problem}"
    is_planned = any(
        row.get("steps") or _planned_repairs(row) for _host, row in shown if row["status"] == PLANNED
    )
    return (
        "next: run the playbook without --check and without --tags plan"
        if is_planned
        else "the run did everything that it was asked for"
    )


def _words(outcome: Mapping[str, Any]) -> str:
    """Return the status, the reason and the remedy of a cluster in one line."""
    reason, remedy = (visible(str(outcome.get(key) or "")) for key in ("reason", "remedy"))
    return (
        f"{outcome['status']}: {reason.rstrip('.')}. {remedy[0].upper()}{remedy[1:].rstrip('.')}."
        if remedy
        else f"{outcome['status']}: {reason}"
    )


def _plan_lines(outcome: Mapping[str, Any]) -> list[str]:
    """Return a line for each step or repair that a planned cluster would get."""
    steps = outcome.get("steps") or () if outcome["status"] == PLANNED else ()
    lines = [
        visible(f"to {step['hop']}, {step['id']}: {step['title']}") for step in steps if step.get("title")
    ]
    lines += [
        f"{repair['kind']}: {visible(report_model.place(repair['object']))}"
        for repair in _planned_repairs(outcome)
    ]
    more = len(lines) + 2 - MOST_PLAN_LINES
    return [f"  {line}" for line in (lines if more < 2 else [*lines[:-more], f"and {more} more steps"])]


def _has_left(outcome: Mapping[str, Any]) -> bool:
    """Return True if a run or a plan does not do everything that was asked for."""
    return bool(
        is_failure(outcome) or outcome["status"] == WAITING or (outcome.get("left") or {}).get("count")
    )


def _planned_repairs(outcome: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [repair for repair in outcome.get(outcome_of_result.REPAIRS) or () if repair["state"] == PLANNED]


def unfinished_line(hosts: Sequence[str], at: str) -> str:
    """Return the line about the clusters that a killed run had started, "" without one. at: when that run began."""
    if not hosts:
        return ""
    return f"the run of {at} has not ended its work on {', '.join(map(visible, hosts))}. If it was killed, a run on them completes it."
