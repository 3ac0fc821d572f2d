# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check the tables, ratios, goals and the page that `make bench` writes from its results."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from benchmarks import charts, goals, page, ratios, samples, tables
from benchmarks.peers import PEERS
from benchmarks.rows import QUICK
from benchmarks.samples import AGAIN, FIRST, Case, Results

ABOUT = dict.fromkeys((*page.MACHINE, "date"), "x")


def measured(row: str, hosts: int, seconds: dict[tuple[str, str], float]) -> Results:
    """Return results with one value for each peer and phase."""
    results = Results(about={row: ABOUT})
    for (peer, phase), value in seconds.items():
        results.add(Case(row, peer, hosts, phase), {"wall": value, "cpu": value, "requests": 2})
    return results


def test_the_page_is_made_from_the_results() -> None:
    results = samples.read()
    assert page.PAGE.read_text() == page.page(results), "run `python -m benchmarks --page`"
    drawn = {chart.file for chart in page.CHARTS if page.bars(results, chart)}
    assert {path.name for path in page.IMAGES.glob("benchmark-*.svg")} == drawn
    assert all(text for _title, text in goals.missed(results)), "say in goals.py what remains"


def test_other_pages_have_the_figures_of_the_results() -> None:
    for path, sentence in page.quotes(samples.read()).items():
        assert sentence in " ".join(path.read_text().split()), f"write into {path.name}: {sentence}"


def test_results_survive_the_file() -> None:
    results = measured("certificates", 50, {("in_process", FIRST): 1.5, ("in_process", AGAIN): 0.5})
    results.miss("certificates", "composed", "first line\nsecond line")
    assert samples.parse(samples.dump(results)) == results
    assert results.missing[0].reason == "first line second line"
    with pytest.raises(ValueError, match="version"):
        samples.parse('{"version": 0}')


def test_a_newer_run_replaces_only_its_rows() -> None:
    old = measured("certificates", 50, {("in_process", FIRST): 1.0})
    old.samples |= measured("forks", 50, {("in_process", FIRST): 2.0}).samples
    new = measured("forks", 10, {("role", FIRST): 3.0})
    assert set(old.merged(new, ["forks"]).samples) == {*old.cases("certificates"), *new.samples}


def test_a_value_is_the_median_of_the_rounds() -> None:
    results = Results()
    for seconds in (1.0, 9.0, 2.0):
        results.add(Case("forks", "role"), {"wall": seconds})
    assert results.value(Case("forks", "role"), "wall") == 2.0
    assert results.least(Case("forks", "role"), "wall") == 1.0
    assert results.value(Case("forks", "bare"), "wall") is None


QUICK_SECONDS = {
    ("bare", FIRST): 1.0,
    ("debug", FIRST): 1.0,
    ("in_process", FIRST): 4.0,
    ("in_process", AGAIN): 2.0,
}


@pytest.mark.parametrize(
    ("factor", "count"),
    [(1.0, 0), (1.2, 0), (1.3, 4), (0.5, 0)],  # two ratios, each of wall clock and of CPU time
)
def test_a_ratio_is_worse_if_it_grew_by_more_than_a_quarter(factor: float, count: int) -> None:
    old = measured(QUICK, 20, QUICK_SECONDS)
    now = {key: value * (factor if key[0] == "in_process" else 1) for key, value in QUICK_SECONDS.items()}
    new = measured(QUICK, 20, now)
    assert ratios.values(old)["in_process first / bare first + debug first, wall"] == 2.0
    assert len(ratios.worse(old, new)) == count
    assert f"{count} of" in ratios.compare(old, new) or not count


def test_ratios_compare_costs_of_each_host() -> None:
    results = measured(QUICK, 20, {("in_process", FIRST): 2.0})
    results.samples |= measured(QUICK, 10, {("scripts_2", FIRST): 10.0}).samples
    assert ratios.values(results)["in_process first / scripts_2 first, wall"] == pytest.approx(0.1)


#: Title of a goal -> the seconds of 200 hosts, its value, and whether it is met.
GOALS = {
    "200 hosts: as many times as fast as the scripts, two at a time": ({("scripts_2", FIRST): 120.0, ("in_process", FIRST): 20.0}, "6.00", "no"),
    "200 hosts without change: time of the module, divided by that of debug": ({("in_process", AGAIN): 3.0, ("debug", FIRST): 2.0}, "1.50", "yes"),
    "200 hosts: time of the playbook, divided by that of the role": ({("playbook", FIRST): 13.0, ("role", FIRST): 10.0}, "1.30", "no"),
}  # fmt: skip


@pytest.mark.parametrize("title", GOALS)
def test_a_goal_has_its_measured_value(title: str) -> None:
    seconds, value, met = GOALS[title]
    rows = {row[0]: row[2:] for row in goals.rows(measured(goals.ROW, 200, seconds))}
    assert rows[title] == (value, met)
    assert rows["Memory that only a fork uses"] == ("not measured", "-")


def test_the_page_has_tables_charts_and_reasons() -> None:
    results = measured("certificates", 50, {("in_process", FIRST): 1.5, ("scripts_2", FIRST): 30.0})
    results.miss("certificates", "composed", "not `installed` | here")
    text = page.page(results)
    assert f'"{PEERS["in_process"].title}","50","10","first run","1.5"' in text
    assert "images/benchmark-first.svg" in text
    assert "images/benchmark-200.svg" not in text
    assert "not  installed    here" in text
    assert [bar.value for bar in page.bars(results, page.CHARTS[0])] == [1.5, 30.0]
    assert "Not measured:" in text


def test_every_peer_is_described() -> None:
    assert set(page.DESCRIPTIONS) == set(PEERS)


def test_a_chart_is_valid_and_escapes_its_texts() -> None:
    bars = [
        charts.Bar("a <b> & c", 2.0, is_own=True, shown="2.0 s"),
        charts.Bar("d", 0.0, is_own=False, shown="0 s"),
    ]
    root = ElementTree.fromstring(charts.bars("A & B", "Seconds", bars))
    space = "{http://www.w3.org/2000/svg}"
    assert root.findtext(f"{space}title") == "A & B"
    widths = [
        float(rect.get("width", "")) for rect in root.iter(f"{space}rect") if rect.get("class") != "page"
    ]
    assert widths == [charts.WIDTH - charts.LABELS - charts.VALUES - 20, 1.0]


def test_the_terminal_shows_what_was_not_measured() -> None:
    results = measured("certificates", 50, {("in_process", FIRST): 0.5})
    results.miss("audit", "all", "no node")
    lines = tables.text(results).splitlines()
    assert lines[-1].endswith("audit: all: no node")
    assert any("0.50" in line and "first run" in line for line in lines)
