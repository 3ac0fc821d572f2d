# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tables of results: rows of cells, for a terminal and for the page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from benchmarks.peers import PEERS
from benchmarks.rows import ROWS
from benchmarks.samples import FIRST, Case, Results


class Measure(NamedTuple):
    """A column: its heading, and the number of digits after the point."""

    title: str
    digits: int = 1


#: The measures that are shown, in this order.
MEASURES = {
    "wall": Measure("Seconds"),
    "cpu": Measure("CPU seconds"),
    "server_cpu": Measure("CPU seconds of the control planes"),
    "requests": Measure("Requests a host"),
    "connections": Measure("Connections a host"),
    "bytes": Measure("Bytes a host", 0),
    "lines": Measure("Lines", 0),
    "events": Measure("Events a host"),
    "pss_parent": Measure("MB of the parent"),
    "pss_fork": Measure("MB of a fork"),
    "private_fork": Measure("MB that only the fork uses"),
    "pss_all": Measure("MB of all"),
    "calls": Measure("Calls", 0),
    "failed_calls": Measure("Failed calls", 0),
    "logins": Measure("Logins", 0),
    "named": Measure("Cause named", 0),
    "findings": Measure("Findings", 0),
    "per_cluster": Measure("Seconds a cluster"),
    "ms": Measure("CPU ms a host"),
    "ms_main": Measure("of these in Ansible's main process and other tasks"),
    "ms_before": Measure("in the fork before the task"),
    "ms_kubeconfig": Measure("kubeconfig"),
    "ms_requests": Measure("requests and TLS"),
    "ms_rest": Measure("the rest of the task"),
    "faults": Measure("Page faults of the fork", 0),
}
#: Measures that are left out of the tables of most rows, because another row is about them.
OF_OTHER_ROWS = {
    "certificates": ("lines", "events"),
    "forks": ("lines",),
    "distance": ("lines",),
    "memory": ("lines", "requests"),
}
PHASES = {FIRST: "first run", "again": "without change"}


def title_of(peer: str) -> str:
    """Return what the page calls a peer."""
    return PEERS[peer].title if peer in PEERS else peer


def columns(results: Results, row: str) -> list[str]:
    """Return the measures that cases of a row have."""
    hidden = OF_OTHER_ROWS.get(row, ())
    cases = results.cases(row)
    return [
        name
        for name in MEASURES
        if name not in hidden and any(name in results.samples[case] for case in cases)
    ]


def table(results: Results, row: str) -> tuple[list[str], list[list[str]]]:
    """Return head and cells of a row's table."""
    names = columns(results, row)
    head = ["Way", "Hosts", "Forks", "Run", *(MEASURES[name].title for name in names)]
    order = list(PEERS)
    cases = sorted(
        results.cases(row),
        key=lambda case: (
            case.hosts,
            case.forks,
            order.index(case.peer) if case.peer in order else 99,
            case.phase != FIRST,
        ),
    )
    return head, [_cells(results, case, names) for case in cases]


def _cells(results: Results, case: Case, names: Sequence[str]) -> list[str]:
    values = (shown(results.value(case, name), MEASURES[name].digits) for name in names)
    return [
        title_of(case.peer),
        str(case.hosts),
        str(case.forks),
        PHASES.get(case.phase, case.phase),
        *values,
    ]


def shown(value: float | None, digits: int = 1) -> str:
    """Return a number for a table. A small one has a second digit."""
    if value is None:
        return "-"
    return f"{value:.{digits + (digits and abs(value) < 1)}f}"


def text(results: Results) -> str:
    """Return the tables of all rows for a terminal, and the peers that were not measured."""
    parts = [_text(results, name) for name in ROWS if results.cases(name)]
    missing = [f"not measured: {entry.row}: {entry.peer}: {entry.reason}" for entry in results.missing]
    return "\n".join([*parts, *missing])


def _text(results: Results, row: str) -> str:
    head, cells = table(results, row)
    return "\n".join([f"\n{ROWS[row].title}", *aligned([head, *cells])])


def aligned(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    """Return the rows as lines. The first column is aligned left, the others right."""
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    for row in rows:
        first, *rest = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join([row[0].ljust(widths[0]), *rest]) if first else ""
