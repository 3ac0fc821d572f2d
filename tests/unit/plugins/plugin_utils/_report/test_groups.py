# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The groups of findings: one fault of many clusters is one row in every short form of a report."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit import audit_result
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.facts.cluster_data import Backend
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.facts.finding import FAIL
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._report import (
    audit_summary,
    groups,
    html,
    html_audit,
    prometheus,
    report_model,
    report_text,
    timeline,
)
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._report.groups import Group
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._report.report_text import Report

from tests.support.audit import hostile, reports
from tests.support.audit.hostile import HOSTILE
from tests.support.audit.reports import finding, result
from tests.support.certificates.authority import DAY, NOW
from tests.unit.plugins.module_utils._audit.world import cluster, config, leaf, point, served, silent, webhook

PAST, SOON, LATER = "2026-11-20T00:00:00Z", "2026-12-01T00:00:00Z", "2027-05-01T00:00:00Z"


def found(report: Report) -> list[Group]:
    return groups.group(report_model.failures(report))


def fleet(number: int, make: Callable[[int], Sequence[Any]]) -> Report:
    """Return the report of a fleet. make: returns the findings of the cluster with a number."""
    return reports.report({f"c-{at:04}": result(*make(at), uid=f"u-{at}") for at in range(number)})


def three_faults(at: int) -> list[dict[str, Any]]:
    """Return three faults with names, times and numbers that differ in each cluster."""
    day = f"2026-12-{at % 28 + 1:02}T00:00:00Z"
    return [
        finding("expiring", name=f"hooks-{at}", breaks_at=day,
                cause=f"The certificate CN=hook-{at} expires at {day} (ValidatingWebhookConfiguration hooks-{at}, webhook a.example.com)"),
        finding("no-endpoints", name=f"gone-{at}", breaks_at=PAST, impact="skips",
                cause=f'ValidatingWebhookConfiguration gone-{at}, webhook a.example.com cannot be called, because no endpoint of "x {at}" is ready'),
        finding("timeout-long", name="slow", cause=f"It may delay each request by {at + 1} s"),
    ]  # fmt: skip


@pytest.mark.parametrize("number", [1, 60, 1000])
def test_three_faults_of_any_number_of_clusters_are_three_rows_everywhere(number: int) -> None:
    report = fleet(number, three_faults)
    began = time.monotonic()
    shown = found(report)
    assert time.monotonic() - began < 60, "each row is compared with each other one"
    assert [group.finding["check"] for group in shown] == ["no-endpoints", "expiring", "timeout-long"]
    assert [(len(group.clusters), len(group.rows)) for group in shown] == [(number, number)] * 3
    lines = [line for line in audit_summary.lines(report, [], []) if re.match("error|warning|info", line)]
    artifact = audit_summary.artifact(report, [])
    page = html_audit.build(report)
    assert len(lines) == len(artifact["faults"]) == sum(len(table.rows) for table in page.failures) == 3
    assert artifact["more_faults"] == 0
    assert prometheus.render(report).count("\ncertflow_fault_clusters{") == 3


def test_the_order_is_refused_skipped_other_later_undated() -> None:
    rows = [
        finding("deadlock", breaks_at=None, severity="error"),
        finding("expiring", breaks_at=LATER, severity="error"),
        finding("ca-expiring", breaks_at=SOON, severity="warning"),
        finding("request-stuck", breaks_at=PAST, impact="", requests=[]),
        finding("no-endpoints", breaks_at=PAST, impact="skips"),
        finding("expired", breaks_at=reports.AUDITED, severity="warning"),
    ]
    shown = found(reports.report({"a": result(*rows)}))
    assert [group.finding["check"] for group in shown] == [row["check"] for row in reversed(rows)]
    assert [group.effect for group in shown] == [
        "refuses CREATE of deployments.apps",
        "is skipped for CREATE of deployments.apps",
        "broken",
        "will refuse CREATE of deployments.apps",
        "will refuse CREATE of deployments.apps",
        "",
    ]


def test_of_the_faults_that_refuse_requests_now_that_of_most_clusters_is_first() -> None:
    audit_finding = finding("expired", breaks_at=PAST)
    many = finding("no-endpoints", breaks_at=reports.AUDITED)
    report = reports.report({"a": result(audit_finding), "b": result(many), "c": result(many)})
    assert [group.finding["check"] for group in found(report)] == ["no-endpoints", "expired"]


def test_a_rotation_of_the_cluster_ca_stands_above_a_hundred_other_faults() -> None:
    others = [
        finding("expiring", name=f"h-{at}", cause=f"fault {'x' * at}", breaks_at=PAST) for at in range(1, 100)
    ]
    rotation = [
        finding("bundle-without-successor", name=f"r-{at}", cause="It lacks a CA", breaks_at=None)
        for at in range(22)
    ]
    outgoing = finding(
        "cluster-ca-rotation", kind="ConfigMap", impact="", cause="The cluster publishes 2 CAs"
    )
    report = reports.report({"a": result(*others, *rotation, outgoing)})
    lines = audit_summary.lines(report, [], [])
    assert " bundle-without-successor " in lines[2]
    assert " cluster-ca-rotation " in lines[3]
    assert "and 91 more faults" in lines


def test_a_rotation_that_breaks_calls_now_refuses_requests_now() -> None:
    audit_finding = finding("bundle-without-successor", breaks_at=PAST)
    assert found(reports.report({"a": result(audit_finding)}))[0].effect.startswith("refuses ")


def test_one_fault_with_two_effects_is_two_rows() -> None:
    """A row says what happens to requests, so the clusters that skip the webhook are not among those that refuse."""
    report = reports.report({
        "a": result(finding("expired", breaks_at=PAST)),
        "b": result(finding("expired", breaks_at=PAST, impact="skips")),
        "c": result(finding("expired", breaks_at=SOON)),
        "d": result(finding("expired", breaks_at=SOON, impact="skips")),
    })  # fmt: skip
    assert [group.clusters for group in found(report)] == [["a"], ["b"], ["c"], ["d"]]


def test_a_group_has_its_earliest_time_and_the_requests_of_all() -> None:
    times = {"a": LATER, "b": SOON, "c": LATER}
    report = reports.report({
        name: result(finding("expiring", breaks_at=at, requests=[f"CREATE of {name}"])) for name, at in times.items()
    })  # fmt: skip
    (group,) = found(report)
    assert (group.breaks_at, group.first.cluster["name"]) == (SOON, "b")
    assert group.effect == "will refuse CREATE of b, CREATE of a, CREATE of c"
    (line,) = (line for line in audit_summary.lines(report, [], []) if " expiring " in line)
    assert f"from {SOON}" in line
    assert "3 clusters" in line


def test_missing_times_and_unknown_checks_and_accepted_findings() -> None:
    accepted = finding("expired", breaks_at=PAST, excepted={"reason": "r", "until": None})
    lost = reports.report(
        {"a": result(accepted, finding("of-a-newer-release", breaks_at=None), reports.unread("deadlock"))}
    )
    assert [group.finding["check"] for group in found(lost)] == ["of-a-newer-release"]
    missing = {**result(finding(breaks_at=PAST)), "audited_at": None}
    assert [group.effect.split()[0] for group in found(reports.report({"a": missing}))] == ["will"]
    older = reports.report({"a": result(finding(breaks_at=PAST))})
    del older["clusters"][0]["findings"][0]["impact"], older["clusters"][0]["findings"][0]["requests"]
    older["checks"]["expiring"].pop("leads")
    assert [group.effect for group in found(report_text.normalise(older, "an older report"))] == ["broken"]


def test_what_could_not_be_read_is_one_row_too() -> None:
    report = fleet(60, lambda _at: [reports.unread("deadlock", permissions=["list pods"])])
    (row,) = html_audit.build(report).unknown
    assert len(row.fault.clusters) == 60
    lines = [line for line in audit_summary.lines(report, [], []) if line.startswith("unknown ")]
    assert len(lines) == 1
    assert "60 clusters" in lines[0]
    assert "list pods" in lines[0]


def test_each_source_that_could_not_be_read_has_its_own_line() -> None:
    causes = (
        "api-services: forbidden",
        "pod-certificates: forbidden",
        "endpoints: no pod is behind this endpoint",
    )
    gaps = [
        reports.unread(
            source=cause.partition(":")[0], cause=f"The audit could not read {cause}", objects=["Pod a/b"]
        )
        for cause in causes
    ]
    gaps[-1]["permissions"] = []
    lines = audit_summary.lines(fleet(2, lambda _at: gaps), [], [])
    assert [line for line in lines if line.startswith("unknown ")] == [
        "unknown 2 clusters, first c-0000: The audit could not read api-services: forbidden (missing permissions: list pods)",
        "unknown 2 clusters, first c-0000: The audit could not read pod-certificates: forbidden (missing permissions: list pods)",
        "unknown 2 clusters, first c-0000: The audit could not read endpoints: no pod is behind this endpoint (objects: Pod a/b)",
    ]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_cause_is_one_row_for_all_clusters(name: str) -> None:
    report = fleet(3, lambda _at: [finding(cause=HOSTILE[name], name=HOSTILE[name], webhook=HOSTILE[name])])
    assert len(found(report)) == 1
    assert groups.group(report_model.failures(hostile.audit(HOSTILE[name])))


def test_a_cause_of_any_length_is_grouped_in_linear_time() -> None:
    began = time.monotonic()
    for part in ('"', "a ", "1 ", "* ", '"a" ', " "):
        groups.fault(finding(cause=part * 300_000))
    assert time.monotonic() - began < 60, "the work is not linear"


def _worlds() -> Any:
    """Yield pairs of points and backends with one fault each, whose names, times and numbers are those of a cluster."""
    for at in (1, 2):
        name = f"hook-{at}"
        old = leaf(not_after=NOW - at * DAY, not_before=NOW - 300 * DAY)
        near = leaf(not_after=NOW + at * DAY, not_before=NOW - 300 * DAY)
        given = config(name=name)
        slow = webhook(f"r{at}", timeoutSeconds=20 + at)
        yield at, {
            "expired": (point(given, name=name), Backend(ready=1, chains=(served(old, pod=name),))),
            "expiring": (point(given, name=name), Backend(ready=at, chains=(served(near, pod=name),) * at)),
            "missing": (point(given, name=name), Backend(exists=False)),
            "empty": (point(config("", name=name), name=name), Backend(ready=1)),
            "silent": (point(given, name=name), Backend(ready=1, chains=(silent("refused", fault="refused"),) * at)),
            "slow": (point(given, name=name, webhook=slow), Backend(ready=1)),
        }  # fmt: skip


def test_the_causes_of_the_checks_have_no_name_time_or_number_that_splits_a_group() -> None:
    """The real checks make the causes. Two clusters with the same faults have the same groups."""
    keys: dict[str, list[list[tuple[str, str]]]] = {}
    for _at, cases in _worlds():
        for case, (called, backend) in cases.items():
            rows = audit_result.build(cluster(called, backend=backend))["findings"]
            assert rows
            keys.setdefault(case, []).append(
                sorted((row["check"], groups.fault(row)) for row in rows if row["status"] == FAIL)
            )
    assert {case: first for case, (first, second) in keys.items() if first != second} == {}


def test_the_strip_of_time_has_a_mark_for_each_day_and_the_begin_of_each_month() -> None:
    days = {"a": SOON, "b": SOON, "c": LATER, "d": "2028-01-01T00:00:00Z", "e": PAST, "f": None}
    faults = found(reports.report({name: result(finding(breaks_at=at)) for name, at in days.items()}))
    strip = timeline.build([(f"fault-{at}", fault) for at, fault in enumerate(faults)], reports.NOW)
    assert [mark["text"] for mark in strip["marks"]] == [
        "2026-12-01: expiring in 2 clusters",
        "2027-05-01: expiring in 1 cluster",
    ]
    assert (strip["later"], len(strip["months"]), strip["months"][0]["text"]) == (1, 12, "2026-12")
    positions = [month["at"] for month in strip["months"]]
    assert positions == sorted(positions)
    assert 0 < strip["marks"][0]["at"] < strip["marks"][1]["at"] < 100
    assert timeline.build([], reports.NOW)["marks"] == []


def test_a_report_of_the_last_year_has_a_strip_of_time() -> None:
    """A report that was read may have any time."""
    assert timeline.build([], reports.NOW.replace(year=9999))["months"][-1]["text"] == "9999-12"


def test_the_page_of_a_thousand_clusters_is_small_and_names_each() -> None:
    text = html.render(fleet(1000, three_faults))
    assert len(text) < 1_500_000
    assert all(f">c-{at:04}<" in text for at in range(1000))
    assert "The JSON report has 800 more" in text
