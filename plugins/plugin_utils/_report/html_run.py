# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The HTML page of a run: its sentence, counts and rows, from the report. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...module_utils._base.text import plural
from ...module_utils._base.times import find_time
from . import report_model
from .html_parts import Column, Count, Moment, Row, Table, moment
from .report_schema import RUN_STATUSES, RUN_SUCCESSES, WAITING

_START = (
    Column("cluster", "Cluster"),
    Column("stage", "Stage"),
    Column("status", "Status"),
    Column("found", "Reason"),
)
_SECONDS = Column("seconds", "Seconds", is_number=True)
#: Class of a table -> its columns. The role decides about the class.
LAYOUTS: Mapping[str, tuple[Column, ...]] = {
    "upgrades": (*_START, Column("before", "Before"), Column("after", "After"), _SECONDS),
    "certificates": (
        *_START, Column("signer", "Signer"), Column("expiry", "Valid until"), Column("days", "Days left", is_number=True), _SECONDS,
    ),
}  # fmt: skip
# The statuses in the order of the page: what failed, what was not reached, what is done.
_WORST_FIRST = (
    "failed",
    "drift",
    *("refused", "plan-differs", "unreachable"),
    *("started", "not started", WAITING),
)
# Status -> the id of its section. All others are failures.
_SECTIONS = {**dict.fromkeys(RUN_SUCCESSES, "done"), WAITING: "waiting"}


@dataclass(frozen=True)
class OutcomeRow:
    """The outcome of a cluster."""

    cluster: Row
    not_after: Moment | None

    @property
    def lines(self) -> Sequence[str]:
        """Return the details of a failure."""
        named = (("task", "task"), ("code", "code"), ("remedy", "remedy"))
        found = [f"{title} {self.cluster[key]}" for key, title in named if self.cluster[key]]
        changed = [step["id"] for step in self.cluster["steps"] if step["changed"]]
        steps = [f"changed by the steps {', '.join(changed)}"] if changed else []
        repairs = [_repair_line(repair) for repair in self.cluster["repairs"]]
        return [*self.cluster["evidence"], *found, *steps, *repairs]


def _repair_line(repair: Row) -> str:
    """Return what became of a repair in one line."""
    words = (
        report_model.place(repair["object"]),
        repair["kind"],
        repair["state"],
        repair["code"],
        repair["reason"],
    )
    return " ".join(filter(None, words))


@dataclass(frozen=True)
class RunPage:
    """The content of the page."""

    title: str
    verdict: str
    counts: Sequence[Count]
    #: A key of LAYOUTS.
    layout: str
    tables: Sequence[Table]


def build(report: Row) -> RunPage:
    """Return the content of the page."""
    clusters: Sequence[Row] = report["clusters"]
    now = find_time(report["made_at"])
    ordered = sorted(clusters, key=_order)
    rows = [OutcomeRow(cluster, moment(cluster["not_after"], now)) for cluster in ordered]
    sections = (
        (
            "failures",
            "Failures",
            "Clusters with a failure, and clusters that the run did not reach",
            _is_failed,
        ),
        ("waiting", "Waiting", "Clusters whose window is closed", _is_waiting),
        ("done", "Done", "Clusters without a failure", _is_done),
    )
    tables = [
        Table(id_, title, text, [row for row in rows if is_here(row.cluster)])
        for id_, title, text, is_here in sections
    ]
    run: Row = report["run"]
    role = run["role"] or "a playbook"
    return RunPage(
        title=f"{'Plan' if run['check_mode'] else 'Run'} of {role} on {plural(len(clusters), 'cluster')}",
        verdict=_verdict(clusters),
        counts=_counts(clusters),
        layout="certificates" if any(one["not_after"] or one["signer"] for one in clusters) else "upgrades",
        tables=[table for table in tables if table.rows or table.id == "failures"],
    )


def _is_failed(cluster: Row) -> bool:
    return cluster["status"] not in RUN_SUCCESSES or cluster["severity"] == "error"


def _is_waiting(cluster: Row) -> bool:
    return bool(cluster["status"] == WAITING)


def _is_done(cluster: Row) -> bool:
    return not _is_failed(cluster) and not _is_waiting(cluster)


def _order(cluster: Row) -> tuple[Any, ...]:
    status = cluster["status"]
    rank = _WORST_FIRST.index(status) if status in _WORST_FIRST else len(_WORST_FIRST)
    return (rank, status, cluster["stage"], cluster["name"])


def _verdict(clusters: Sequence[Row]) -> str:
    number = Counter(one["status"] for one in clusters)
    rest = [f"{number[status]} {status}" for status in _WORST_FIRST if number[status]]
    done = f"{sum(map(_is_done, clusters))} of {plural(len(clusters), 'cluster')} are done."
    return f"{done} The rest: {', '.join(rest)}." if rest else done


def _counts(clusters: Iterable[Row]) -> list[Count]:
    number = Counter(one["status"] for one in clusters)
    return [
        Count(
            number[status],
            status,
            _SECTIONS.get(status, "failures"),
            f"status={status.replace(' ', '+')}",
            status,
        )
        for status in RUN_STATUSES
        if number[status] or status in ("failed", "unreachable", "changed")
    ]
