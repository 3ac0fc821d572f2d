# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The documentation's page of the benchmarks, with its charts. A run writes both from its results."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks import charts, goals, tables
from benchmarks.charts import Bar
from benchmarks.peers import PEERS
from benchmarks.rows import QUICK, ROWS
from benchmarks.samples import AGAIN, FIRST, FORKS, Case, Results
from tools.ci.venvs import REPOSITORY
from tools.docs import rst

NAME = "benchmarks"
PAGE = rst.GUIDES / "reference_benchmarks.rst"
IMAGES = rst.GUIDES / "images"
#: Peers that are not part of this collection, in the charts' other colour.
OTHERS = ("debug", "scripts_1", "scripts_2", "composed")
MACHINE = {
    "commit": "Commit",
    "processor": "Processor",
    "cores": "Cores",
    "memory": "Memory",
    "system": "System",
    "kubernetes": "Kubernetes",
    "ansible-core": "ansible-core",
    "kubernetes client": "kubernetes (Python)",
    "python": "Python",
}


class Chart(NamedTuple):
    """A chart of one measure of a row."""

    file: str
    title: str
    unit: str
    row: str
    hosts: int
    phase: str
    measure: str = "wall"


CHARTS = (
    Chart("benchmark-first.svg", "Certificates of 50 hosts", "Seconds, first run, 10 forks", "certificates", 50, FIRST),
    Chart("benchmark-again.svg", "50 hosts without change", "Seconds, 10 forks", "certificates", 50, AGAIN),
    Chart("benchmark-200.svg", "Certificates of 200 hosts", "Seconds, first run, 10 forks", "certificates", 200, FIRST),
    Chart(
        "benchmark-distance.svg",
        "20 hosts with a round trip of 50 ms and a signer that takes 300 ms",
        "Seconds, first run, 10 forks",
        "distance",
        20,
        FIRST,
    ),
)  # fmt: skip
INTRODUCTION = """\
# Benchmarks

This page compares the collection with its alternatives. All ways run on the same real control planes and on one machine, one after the
other in turns. The control planes use the processor of that machine too. So the ratios hold on other machines, and the seconds do not.
A run of `make bench` writes this page, its charts, and `benchmarks/results.json`. To repeat it:

```console
$ make bench                      # all rows (an hour)
$ make bench ROWS="certificates"  # some rows
$ make bench ROWS=--large         # with 1000 hosts (80 minutes)
$ make bench-quick                # under 2 minutes: compare the ratios with those of this page
```

A host is a namespace of one of two control planes, with a webhook configuration of its own. Each figure is the median of all rounds, and a way
that takes minutes has one round.
"""
WAYS = """
## The compared ways

| Way | What it runs |
|---|---|
"""
DESCRIPTIONS = {
    "bare": "the operation of `k8s_csr` in forked processes, without Ansible. It is the limit.",
    "debug": "`ansible -m debug`. It is the least time that Ansible takes for these hosts.",
    "in_process": "one task `k8s_csr` inside Ansible's own process.",
    "role": "the role, with its default settings.",
    "playbook": "the playbook for fleets, with its default settings and a report.",
    "module": "the same task as an ordinary module, in a process of its own for each host.",
    "scripts_2": "the scripts of external-snapshotter 7.0.2 and `kubectl apply`, for two hosts at the same time.",
    "scripts_1": "the same scripts for one host after the other.",
    "composed": "`benchmarks/plays/composed.yml`. It keeps a valid certificate, and changes nothing in the second run.",
}


def page(results: Results) -> str:
    """Return the page."""
    parts = [INTRODUCTION, *_goals(results), *_machine(results), WAYS, *_ways()]
    for name, row in ROWS.items():
        if name != QUICK:
            parts += [f"\n## {row.title}\n\n{row.text}\n", *_charts(results, name), *_table(results, name)]
    return rst.page("".join(parts), NAME, "Made by `make bench` from benchmarks/results.json.")


def bars(results: Results, chart: Chart) -> list[Bar]:
    """Return the bars of a chart, the shortest first. A peer that has only one kind of run is in both charts."""
    found = []
    for key, peer in PEERS.items():
        phase = chart.phase if peer.works and peer.keeps else FIRST
        value = results.value(Case(chart.row, key, chart.hosts, phase, FORKS), chart.measure)
        if value is not None:
            found.append(Bar(peer.short, value, key not in OTHERS, f"{tables.shown(value)} s"))
    return sorted(found, key=lambda bar: bar.value)


def _goals(results: Results) -> Iterator[str]:
    yield "\n## Goals\n\n| Measure | Goal | Measured | Met |\n|---|---|---|---|\n"
    for cells in goals.rows(results):
        yield _row(*cells)
    missed = list(goals.missed(results))
    if missed:
        yield "\nWhat remains:\n\n"
        yield from (f"- {title}: {text}\n" for title, text in missed)


def _machine(results: Results) -> Iterator[str]:
    """Yield the table of machine and versions, with one row for each set of them."""
    yield "\n## Machine and versions\n\n"
    rows: dict[tuple[str, ...], list[str]] = {}
    for name in ROWS:
        about = results.about.get(name)
        if about and name != QUICK:
            rows.setdefault(tuple(about.get(key, "-") for key in MACHINE), []).append(name)
    if not rows:
        yield "No run has measured anything yet.\n"
    for values, names in rows.items():
        dates = sorted({results.about[name]["date"] for name in names})
        yield f"Measured {' and '.join(dict.fromkeys((dates[0], dates[-1])))}: {', '.join(names)}.\n\n"
        yield "| | |\n|---|---|\n"
        for title, value in zip(MACHINE.values(), values, strict=True):
            yield _row(title, value)
        yield "\n"


def _ways() -> Iterator[str]:
    for key, peer in PEERS.items():
        yield _row(peer.title, DESCRIPTIONS[key])


def _charts(results: Results, row: str) -> Iterator[str]:
    for chart in CHARTS:
        entries = bars(results, chart)
        if chart.row == row and entries:
            alt = "; ".join(f"{bar.label}: {bar.shown}" for bar in entries)
            yield f"\n.. image:: images/{chart.file}\n   :alt: {chart.title}. {chart.unit}. {alt}.\n"


def _table(results: Results, row: str) -> Iterator[str]:
    head, cells = tables.table(results, row)
    if not cells:
        yield "\nNo run has measured this yet.\n"
        return
    yield f"\n{_row(*head)}|{'---|' * len(head)}\n"
    for line in cells:
        yield _row(*line)
    missing = [entry for entry in results.missing if entry.row == row]
    if missing:
        yield "\nNot measured:\n\n"
        yield from (f"- {tables.title_of(entry.peer)}: {_plain(entry.reason)}\n" for entry in missing)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |\n"


def _plain(text: str) -> str:
    """Return a text from a program without the marks of the page's light markup."""
    return re.sub(r"[`*|\[\]<>_]", " ", text)


def quotes(results: Results) -> dict[Path, str]:
    """Return the sentences of other pages that have figures of the results, by page."""

    def seconds(peer: str, hosts: int, phase: str = FIRST) -> str:
        return f"{results.value(Case('certificates', peer, hosts, phase), 'wall') or 0:.0f} seconds"

    readme = (
        f"On two cores, a run on 200 clusters takes {seconds('playbook', 200)}, and {seconds('playbook', 200, AGAIN)} without change. "
        f"The two scripts take {seconds('scripts_2', 200)}"
    )
    return {REPOSITORY / "README.md": readme}


def write(results: Results) -> None:
    """Write the page and the charts. A chart without values is removed."""
    PAGE.write_text(page(results))
    for chart in CHARTS:
        image, entries = IMAGES / chart.file, bars(results, chart)
        image.unlink(missing_ok=True)
        if entries:
            image.write_text(charts.bars(chart.title, chart.unit, entries))
