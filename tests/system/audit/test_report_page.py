# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The HTML page of a report in headless Chromium: filter, sorting, fragment, keyboard, print, widths, contrast."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._report import html
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._report.report_text import Report

from tests.support.audit import browser, report_sample, reports
from tests.support.audit.browser import DESKTOP, TELEPHONE, Browser
from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.full
SAMPLES: dict[str, Callable[[], Report]] = {
    "audit": report_sample.audit,
    "compared": report_sample.compared,
    "empty": lambda: reports.report({}),
    # No filter has two values to choose from.
    "one": lambda: reports.report({"a": reports.result(reports.finding("expired"))}),
    "fleet": lambda: reports.fleet(100, 40),
}
TAB, ENTER = ("Tab", 9), ("Enter", 13)
#: JavaScript that the tests share.
HELPERS = """
  const rows = (place) => [...document.querySelectorAll(`${place} tbody tr`)]
    .filter((row) => row.checkVisibility() && !row.matches(".more, .members tr"));
  const column = (place, at) => rows(place).map((row) => row.cells[at].innerText.split("\\n")[0].trim());
  const choose = (title, value) => {
    const label = [...document.querySelectorAll("form label")].find((one) => one.firstChild.textContent === title);
    const control = label.querySelector("select, input");
    control.value = value;
    control.dispatchEvent(new Event(control.tagName === "INPUT" ? "input" : "change", { bubbles: true }));
  };
  const head = (section, key) => document.querySelector(`#${section} th[data-key=${key}]`);
  const sort = (section, key) => head(section, key).querySelector("button").click();
  const count = (word) => [...document.querySelectorAll(".counts button")].find((one) => one.textContent.includes(word));
"""
#: The contrast of every visible text with its background, the smallest first.
CONTRAST = """
  const channels = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((one) => one / 255).map((one) => one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4)
    .reduce((sum, one, at) => sum + one * [0.2126, 0.7152, 0.0722][at], 0);
  const background = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const found = channels(getComputedStyle(one).backgroundColor);
      if (found.length < 4 || found[3] > 0) return found;
    }
    return [255, 255, 255];
  };
  const ratios = [...document.body.querySelectorAll("*:not(script)")]
    .filter((one) => one.checkVisibility() && [...one.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim()))
    .map((one) => {
      const [a, b] = [light(channels(getComputedStyle(one).color)), light(background(one))].sort((x, y) => y - x);
      return [(a + 0.05) / (b + 0.05), one.outerHTML.slice(0, 80)];
    });
  return ratios.sort((a, b) => a[0] - b[0]);
"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    program = browser.find()
    if program is None:
        pytest.skip(f"Chromium is not installed: none of {', '.join(browser.NAMES)} is on the PATH")
    with Browser(program) as running:
        yield running


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    paths = {name: folder / f"{name}.html" for name in SAMPLES}
    for name, path in paths.items():
        path.write_text(html.render(SAMPLES[name]()), encoding="utf-8")
    return paths


@pytest.fixture
def page(chromium: Browser, pages: dict[str, Path]) -> Iterator[Browser]:
    """Show the page of an audit in a desktop's window. A test that leaves an error fails."""
    chromium.show(DESKTOP)
    chromium.open(pages["audit"])
    yield chromium
    assert chromium.errors == []


def ask(page: Browser, statements: str) -> Any:
    """Return the value that the statements return."""
    return page.value(f"(() => {{ {HELPERS} {statements} }})()")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, TELEPHONE])
@pytest.mark.parametrize("name", SAMPLES)
def test_a_page_has_no_error_fits_its_window_and_can_be_read(
    chromium: Browser, pages: dict[str, Path], name: str, size: tuple[int, int], scheme: str
) -> None:
    chromium.show(size, scheme=scheme)
    chromium.open(pages[name])
    if name != "fleet":
        ask(chromium, "document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        ratio, element = ask(chromium, CONTRAST)[0]
        assert ratio >= 4.5, element
    assert ask(chromium, "return document.documentElement.scrollWidth") <= size[0]
    assert all(
        ask(
            chromium, "return [...document.querySelectorAll('.counts li')].map((one) => one.innerText.trim())"
        )
    )
    width, height = struct.unpack(">II", chromium.picture()[16:24])
    assert (width, height) == size
    assert chromium.errors == []


def test_a_header_sorts_its_table_in_both_directions(page: Browser) -> None:
    ask(page, "sort('clusters', 'error')")
    up = ask(page, "return column('#clusters', 2)")
    assert ask(page, "return document.querySelectorAll('th[aria-sort]').length") == 1
    assert ask(page, "return head('clusters', 'error').getAttribute('aria-sort')") == "ascending"
    ask(page, "sort('clusters', 'error')")
    down = ask(page, "return column('#clusters', 2)")
    assert ask(page, "return head('clusters', 'error').getAttribute('aria-sort')") == "descending"
    numbers = [int(entry) for entry in up[:-2]]
    assert numbers == sorted(numbers) != [int(entry) for entry in down[:-2]] == sorted(numbers, reverse=True)
    assert not any(finding.isdigit() for finding in (*up[-2:], *down[-2:])), (
        "clusters without an audit are last"
    )


def test_times_and_severities_sort_by_their_meaning(page: Browser) -> None:
    ask(page, "sort('soon', 'breaks'); sort('soon', 'breaks')")
    times = ask(page, "return column('#soon', 0)")
    assert times == sorted(times, reverse=True)
    ask(page, "sort('hazards', 'severity'); sort('hazards', 'severity')")
    words = ask(page, "return column('#hazards', 1)")
    assert words == sorted(words, key=["info", "warning", "error"].index) != sorted(words)
    assert ask(page, "return column('#soon', 0)") == sorted(times), (
        "the other table has its first order again"
    )


def test_a_filter_leaves_only_matching_rows_and_says_how_many(page: Browser) -> None:
    every = ask(page, "return rows('table[data-status]').length")
    ask(page, "choose('Cluster', 'edge-berlin')")
    assert set(ask(page, "return column('table.findings', 4)")) == {"edge-berlin"}
    number = ask(page, "return rows('table[data-status]').length")
    assert 0 < number < every
    hidden = "document.querySelector('#passed details').open = true; return rows('table[data-status]').length"
    total = ask(page, hidden)
    assert ask(page, "return document.querySelector('output').textContent").startswith(f"{total} of ")
    assert ask(page, "return document.querySelector('output').getAttribute('aria-live')") == "polite"
    ask(page, "choose('Check', 'service-missing')")
    assert ask(page, "return rows('table[data-status]').length") == 1
    assert ask(page, "return document.querySelector('#broken h2').innerText") == "Broken now (1 of 5)"
    ask(page, "document.querySelector('form button').click()")
    wait_for(lambda: ask(page, "return rows('table.findings').length") > 1)


def test_a_text_is_found_in_the_evidence_too(page: Browser) -> None:
    ask(page, "choose('Text', 'ROLLOUT nothing-like-this')")
    wait_for(lambda: ask(page, "return rows('table[data-status]').length") == 0)
    ask(page, "choose('Text', 'vault-agent timeoutseconds')")
    wait_for(lambda: ask(page, "return column('table.findings', 2)") == ["slow-leases"])


def test_a_count_is_a_filter(page: Browser) -> None:
    number = int(ask(page, "return count('error').querySelector('strong').textContent"))
    ask(page, "count('error').click()")
    shown = ask(page, "return column('table.findings', 1)")
    assert set(shown) == {"error"}
    assert 0 < len(shown) < number, "one fault of several clusters is one row"
    assert ask(page, "return count('error').getAttribute('aria-pressed')") == "true"
    assert ask(page, "return count('warning').getAttribute('aria-pressed')") == "false"
    ask(page, "count('error').click()")
    assert len(ask(page, "return column('table.findings', 1)")) > len(shown)


def test_passed_answers_are_folded_until_they_are_chosen(page: Browser) -> None:
    assert ask(page, "return rows('#passed').length") == 0
    ask(page, "count('passed').click()")
    assert ask(page, "return rows('#passed').length") == ask(
        page, "return Number(count('passed').querySelector('strong').textContent)"
    )


def test_the_fragment_holds_the_state(chromium: Browser, page: Browser, pages: dict[str, Path]) -> None:
    ask(page, "choose('Text', 'helm')")
    wait_for(lambda: "text=helm" in ask(page, "return location.hash"))
    ask(page, "count('warning').click(); sort('clusters', 'cluster'); sort('clusters', 'cluster')")
    fragment = ask(page, "return location.hash")
    seen = ask(page, "return [column('table.findings', 2), column('#clusters', 0)]")
    chromium.open(pages["audit"], fragment)
    assert ask(page, "return [column('table.findings', 2), column('#clusters', 0)]") == seen
    assert seen[1] == sorted(seen[1], reverse=True)
    ask(page, "location.hash = '#severity=error'")
    wait_for(lambda: set(ask(page, "return column('table.findings', 1)")) == {"error"})


@pytest.mark.parametrize(
    "fragment", ["#severity=none&sort=no.such.thing", "#=", "#%", "#check-1", "#sort=..", "#a=%3Cb%3E"]
)
def test_any_fragment_shows_the_page(page: Browser, pages: dict[str, Path], fragment: str) -> None:
    every = ask(page, "return rows('table.findings').length")
    page.open(pages["audit"], fragment)
    assert ask(page, "return rows('table.findings').length") == every


def test_the_keyboard_reaches_counts_filter_and_findings(page: Browser) -> None:
    page.press(*TAB)
    assert ask(page, "return document.activeElement === document.querySelector('.counts button')")
    page.press(*ENTER)
    assert ask(page, "return document.activeElement.getAttribute('aria-pressed')") == "true"
    page.press(*ENTER)
    order = []
    while "SUMMARY" not in order:
        page.press(*TAB)
        order.append(ask(page, "return document.activeElement.tagName"))
        assert len(order) < 60
    assert list(dict.fromkeys(order)) == ["BUTTON", "A", "INPUT", "SELECT", "a", "SUMMARY"]
    page.press(*ENTER)
    assert ask(page, "return document.activeElement.parentElement.open")


def test_an_open_finding_shows_the_remedy_of_its_check(page: Browser) -> None:
    ask(page, "document.querySelector('#broken .more details').open = true")
    wait_for(
        lambda: "Remedy: " in ask(page, "return document.querySelector('#broken .more details').innerText")
    )


def test_a_click_anywhere_on_a_fault_opens_its_findings(page: Browser) -> None:
    is_open = "return document.querySelector('#broken .more details').open"
    ask(page, "document.querySelector('#broken tbody td:last-child').click()")
    assert ask(page, is_open)
    ask(page, "document.querySelector('#broken tbody td:last-child').click()")
    assert not ask(page, is_open)
    ask(page, "document.querySelector('#broken tbody th a').click()")
    assert not ask(page, is_open), "a link is no click on the row"


def test_the_findings_of_a_fault_use_the_whole_width(page: Browser) -> None:
    ask(page, "document.querySelector('#broken .more details').open = true")
    widths = "return ['#broken .members', '#broken table'].map((one) => document.querySelector(one).getBoundingClientRect().width)"
    members, table = ask(page, widths)
    assert members > 0.95 * table


def test_a_mark_of_the_strip_leads_to_its_fault(page: Browser) -> None:
    assert ask(page, "return document.querySelectorAll('.timeline a').length") == 3
    target = ask(page, "return document.querySelector('.timeline a').getAttribute('href')")
    ask(
        page,
        "document.querySelector('.timeline a').dispatchEvent(new MouseEvent('click', { bubbles: true }))",
    )
    wait_for(lambda: ask(page, "return location.hash") == target)
    assert ask(page, "return document.querySelector(location.hash).closest('section').id") == "soon"


def test_a_telephone_can_sort_too(page: Browser) -> None:
    page.show(TELEPHONE)
    assert (
        ask(page, "return head('soon', 'cluster').querySelector('button').getBoundingClientRect().width") > 20
    )
    ask(page, "sort('soon', 'cluster'); sort('soon', 'cluster')")
    clusters = ask(page, "return column('#soon', 4)")
    assert clusters == sorted(clusters, reverse=True)


def test_the_filter_does_not_cover_the_target_of_a_link(page: Browser) -> None:
    ask(page, "document.querySelector('#broken th a').click()")
    below = "document.querySelector(location.hash).getBoundingClientRect().top"
    wait_for(lambda: ask(page, "return scrollY") > 0)
    assert ask(page, f"return {below} >= document.querySelector('form').getBoundingClientRect().bottom - 1")


def test_print_opens_the_findings_and_closes_them_again(page: Browser) -> None:
    ask(
        page,
        "addEventListener('beforeprint', () => { window.seen = document.querySelectorAll('details:not([open])').length; })",
    )
    closed = ask(page, "return document.querySelectorAll('details:not([open])').length")
    assert page.pdf().startswith(b"%PDF")
    assert ask(page, "return window.seen") == 0
    assert ask(page, "return document.querySelectorAll('details:not([open])').length") == closed > 0


def test_without_scripts_every_row_is_there(chromium: Browser, pages: dict[str, Path]) -> None:
    chromium.show(DESKTOP)
    chromium.open(pages["compared"])
    seen = ask(chromium, "return [rows('table').length, document.querySelector('main').textContent.length]")
    chromium.use_scripts(False)
    try:
        chromium.open(pages["compared"])
    finally:
        chromium.use_scripts(True)
    assert ask(chromium, "return document.querySelectorAll('form, button').length") == 0
    assert (
        ask(chromium, "return [rows('table').length, document.querySelector('main').textContent.length]")
        == seen
    )
    assert ask(chromium, "return document.querySelectorAll('[hidden]').length") == 0
    chromium.show(DESKTOP)


def test_the_policy_stops_a_script_that_came_into_the_page(chromium: Browser, pages: dict[str, Path]) -> None:
    chromium.open(pages["audit"])
    ask(
        chromium,
        """
        const script = document.createElement("script");
        script.textContent = "window.hit = true";
        document.body.append(script);
        document.body.insertAdjacentHTML("beforeend", "<img src=x onerror='window.hit = true'><p style='color: red'>x</p>");
        """,
    )
    wait_for(lambda: len(chromium.errors) >= 3 or ask(chromium, "return window.hit"))
    assert ask(chromium, "return window.hit ?? null") is None
    assert ask(chromium, "return getComputedStyle(document.body.lastChild).color") != "rgb(255, 0, 0)"


def test_a_large_fleet_can_be_filtered(chromium: Browser, pages: dict[str, Path]) -> None:
    chromium.show(DESKTOP)
    chromium.open(pages["fleet"])
    faults = ask(chromium, "return rows('table.findings').length")
    ask(chromium, "choose('Cluster', 'cluster-0042')")
    assert ask(chromium, "return rows('table.findings').length") == faults == 40
    shown = "[...document.querySelectorAll('.members tbody tr')].filter((row) => !row.hidden).map((row) => row.cells[0].textContent)"
    assert set(ask(chromium, f"return {shown}")) == {"cluster-0042"}
    assert chromium.errors == []


def test_a_thousand_clusters_load_and_filter(chromium: Browser, tmp_path: Path) -> None:
    path = tmp_path / "thousand.html"
    path.write_text(html.render(reports.fleet(1000, 40)), encoding="utf-8")
    assert path.stat().st_size < 6_000_000
    chromium.open(path)
    ask(chromium, "choose('Cluster', 'cluster-0942')")
    assert ask(chromium, "return rows('table.findings').length") == 40
