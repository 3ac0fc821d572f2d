# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The HTML page of a report, as a parser without script and style reads it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._report import html, html_audit, report_text
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._report.report_text import Report

from tests.support.audit import hostile, report_sample, reports
from tests.support.audit.hostile import HOSTILE
from tests.support.audit.html_page import Page

#: Elements and attributes that the templates use. Everything else would come from the text of a report.
ELEMENTS = {
    *("html", "head", "meta", "title", "style", "body", "header", "main", "section", "script"),
    *("h1", "h2", "h3", "p", "ul", "li", "a", "b", "strong", "small", "span", "pre", "details", "summary", "time"),
    *("table", "caption", "thead", "tbody", "tr", "th", "td"),
    *("svg", "g", "line", "circle", "text"),
}  # fmt: skip
ATTRIBUTES = {
    *(
        "lang",
        "charset",
        "http-equiv",
        "content",
        "name",
        "class",
        "id",
        "href",
        "rel",
        "scope",
        "colspan",
        "datetime",
    ),
    *("data-key", "data-type", "data-status", "data-filter", "data-name"),
    *("width", "height", "role", "aria-label", "x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "r"),
}

SAMPLES = {"audit": report_sample.audit, "compared": report_sample.compared}


@pytest.fixture(scope="module", params=SAMPLES)
def page(request: pytest.FixtureRequest) -> Page:
    return Page(html.render(SAMPLES[request.param]()))


def audit(*findings: Mapping[str, Any], **values: Any) -> Report:
    return reports.report({"one": reports.result(*findings, **values)})


def test_the_page_has_only_elements_and_attributes_of_the_templates(page: Page) -> None:
    assert {name for name, _attributes in page.tags} <= ELEMENTS
    assert {key for _name, attributes in page.tags for key in attributes} <= ATTRIBUTES
    assert page.comments == []


def test_the_policy_allows_exactly_the_style_and_the_script(page: Page) -> None:
    (policy,) = [tag["content"] for tag in page.named("meta") if tag.get("http-equiv")]
    allowed = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    (style,), (script,) = page.raw["style"], page.raw["script"]
    assert allowed["default-src"] == "'none'"
    assert allowed["style-src"] == f"'{html.content_hash(style)}'"
    assert allowed["script-src"] == f"'{html.content_hash(script)}'"


def test_the_page_loads_nothing(page: Page) -> None:
    (style,) = page.raw["style"]
    assert not re.search(r"url\(|@import|expression", style)
    assert not re.search(
        r"fetch|XMLHttp|import\(|innerHTML|outerHTML|insertAdjacent|eval", page.raw["script"][0]
    )


def test_links_lead_to_the_page_and_to_the_table_of_checks(page: Page) -> None:
    ids = [attributes["id"] for _name, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for link in page.named("a"):
        if link["href"].startswith("#"):
            assert link["href"][1:] in ids
        else:
            assert link["href"].startswith(report_text.SITE)
            assert link["rel"] == "noreferrer"


def test_every_table_has_a_caption_and_scopes(page: Page) -> None:
    tables = page.named("table")
    assert tables
    assert len(page.named("caption")) == len(tables)
    assert {tag.get("scope") for tag in page.named("th")} == {"col", "row"}
    for finding in page.named("time"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\dZ", finding["datetime"])


def test_every_class_has_a_rule_of_the_style(page: Page) -> None:
    words = {word for _name, attributes in page.tags for word in attributes.get("class", "").split()}
    assert [word for word in words if not re.search(rf"\.{word}\b", page.raw["style"][0])] == []


def test_the_sections_are_in_order() -> None:
    page = Page(html.render(report_sample.compared()))
    sections = [
        "broken",
        "soon",
        "hazards",
        "clusters",
        "unknown",
        "exceptions",
        "accepted",
        "gone",
        "passed",
    ]
    assert [tag["id"] for tag in page.named("section")] == sections


def test_what_refuses_requests_comes_first_and_later_faults_come_by_their_time() -> None:
    page = html_audit.build(report_sample.audit())
    broken, soon = page.failures[0].rows, page.failures[1].rows
    words = [row.fault.effect.split()[0] for row in broken]
    assert (words, len(soon)) == (["refuses"] * 4 + ["is"], 3)
    times = [row.fault.breaks_at for row in soon]
    assert times == sorted(times)
    assert all(row.fault.breaks_at <= "2026-11-26T12:00:00Z" < times[0] for row in broken)


def test_a_cluster_whose_clock_is_ahead_has_no_later_fault_that_breaks_now() -> None:
    later = "2026-11-26T15:30:00Z"
    audit_finding = reports.result(reports.finding(breaks_at=later), audited_at=later)
    texts = Page(html.render(reports.report({"ahead": audit_finding}))).texts
    assert texts[texts.index("2026-11-26 15:30") + 1] == "now"


def test_every_finding_is_on_the_page_with_its_text() -> None:
    """Of each finding: check, severity or status, object, cause, evidence, manager, cluster."""
    findings = [
        reports.finding("ca-mismatch", name=f"n-{status}", namespace=f"s-{status}", kind=f"K-{status}", webhook=f"w-{status}",
                        cause=f"c-{status}", evidence=[f"e-{status}", f"f-{status}"], manager=f"m-{status}",
                        status=status, breaks_at="2026-12-01T10:20:30Z")
        for status in ("fail", "pass", "skip")
    ]  # fmt: skip
    accepted = {**findings[0], "excepted": {"reason": "r-accepted", "until": "2027-01-01T00:00:00Z"}}
    unknown = reports.unread("u-check", cause="c-unknown", permissions=["p-permission"])
    page = Page(html.render(audit(*findings, accepted, unknown)))
    for status in ("fail", "pass", "skip"):
        wanted = [
            f"s-{status}/n-{status}",
            f"c-{status}",
            f"e-{status}",
            f"f-{status}",
            f"K-{status}, webhook w-{status}",
        ]
        assert [word for word in wanted if word not in page.texts] == []
    shown = {
        "ca-mismatch",
        "m-fail",
        "r-accepted",
        "c-unknown",
        "u-check",
        "p-permission",
        "2026-12-01 10:20",
    }
    assert shown <= set(page.texts)


def test_skipped_checks_have_not_passed() -> None:
    findings = [reports.finding(name=status, status=status) for status in ("pass", "skip", "skip")]
    counts = {"pass": 1, "skip": 2}
    page = html_audit.build(reports.report({"a": reports.result(*findings, counts=counts)}))
    assert (page.passed_count, [count.number for count in page.counts if count.title == "passed"]) == (1, [1])
    assert {status: len(rows) for status, rows in page.answers.items()} == {"pass": 1, "skip": 2}


def test_a_cluster_that_was_not_read_is_a_row_with_its_reason() -> None:
    given = {
        "lost": reports.failed("unreachable", cause="no route", remedy="Look"),
        "none": None,
        "good": reports.result(),
    }
    page = Page(html.render(reports.report(given)))
    for words in (("lost", "unreachable", "no route"), ("none", "not started"), ("good", "ok")):
        at = page.texts.index(words[0])
        assert all(any(word in text for text in page.texts[at : at + 6]) for word in words)


EXCEPTION = {
    "check": "expired",
    "clusters": ["*"],
    "objects": ["*"],
    "reason": "why",
    "until": "2027-01-01T00:00:00Z",
}
#: The states of one exception on the clusters, and the state on the page with the number of findings.
STATES = [
    (["unused", "matched"], "matched", "2"),
    (["unused", "other-cluster"], "unused", "0"),
    (["expired", "other-cluster"], "expired", "0"),
]


@pytest.mark.parametrize(("states", "state", "number"), STATES)
def test_an_exception_has_its_use_over_all_clusters(states: list[str], state: str, number: str) -> None:
    given = {
        f"cluster-{at}": reports.result(
            exceptions=[{**EXCEPTION, "state": state, "findings": 2 if state == "matched" else 0}]
        )
        for at, state in enumerate(states)
    }
    page = Page(html.render(reports.report(given)))
    at = page.texts.index(state)
    assert page.texts[at : at + 7] == [state, "expired", "*", "*", "why", "2027-01-01 00:00", number]


def test_a_comparison_is_told() -> None:
    page = Page(html.render(report_sample.compared()))
    assert any({"3 new", "2 known", "1 gone."} <= set(re.split(r"[:,] ", text)) for text in page.texts)
    for words in (("ca-mismatch", "3 new"), ("expired", "known since 2026-11-12")):
        at = page.texts.index(words[0])
        assert page.texts[at + 1] == words[1]
    assert "kubevirt-operator-webhook" in page.texts


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_comes_out_as_text(name: str) -> None:
    """Every text of the report is hostile. The page has no element, attribute or link beside those of the templates."""
    page = Page(html.render(hostile.audit(HOSTILE[name])))
    assert {name for name, _attributes in page.tags} <= ELEMENTS
    assert {key for _name, attributes in page.tags for key in attributes} <= ATTRIBUTES
    assert page.comments == []
    assert all(link["href"].startswith("#") for link in page.named("a"))
    assert len(page.raw["script"]) == len(page.raw["style"]) == 1
    assert page.texts.count(report_text.short(HOSTILE[name])) > 3


def test_hidden_characters_are_shown() -> None:
    report = audit(reports.finding())
    report["clusters"][0]["findings"][0]["cause"] = "a\x00b\u202ec\ud800d\u2028e"
    page = Page(html.render(report))
    assert r"a\x00b\u202ec\ud800d\u2028e" in page.texts


def test_a_large_fleet_fits() -> None:
    assert len(html.render(reports.fleet(100, 40)).encode()) < 2_000_000


def test_the_columns_of_numbers_are_sorted_as_numbers(page: Page) -> None:
    headers = [header for header in page.named("th") if header.get("data-key")]
    keys = {header["data-key"] for header in headers if header.get("data-type") == "number"}
    assert keys == {"error", "warning", "info", "unknown", "accepted", "matches"}
