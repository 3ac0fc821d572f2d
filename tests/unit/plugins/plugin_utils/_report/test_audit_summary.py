# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The short forms of an audit's report."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._report import audit_summary, report_model

from tests.support.audit import reports
from tests.support.audit.reports import failed, finding, result


def test_the_summary_has_ten_faults_and_ten_clusters() -> None:
    results = {
        "many": result(*(finding(cause=f"fault {'x' * number}") for number in range(12))),
        **{f"lost-{number:02}": failed("unreachable", cause=f"lost {number}") for number in range(13)},
    }
    lines = audit_summary.lines(reports.report(results), ["written: x.json"], ["it failed"])
    assert sum(": fault " in line for line in lines) == 10
    assert sum(line.startswith("lost-") for line in lines) == 10
    assert [line for line in lines if line.startswith("and ")] == ["and 2 more faults", "and 3 more clusters"]
    assert lines[-3:-1] == ["written: x.json", "it failed"]


def test_the_artifact_names_the_clusters_as_the_inventory_does() -> None:
    name = "arn:aws:eks:eu-west-1:111122223333:cluster/DataPlatform-Prod-EUW1-Blue-K8s-v2"
    artifact = audit_summary.artifact(reports.report({name: result(finding())}), [name])
    assert artifact["faults"][0]["first_cluster"] == name


def test_clusters_with_the_same_reason_have_one_line() -> None:
    results = {
        **{f"lost-{number:02}": failed("unreachable") for number in range(60)},
        "other": failed("unreachable", cause="no route"),
    }
    lines = audit_summary.lines(reports.report(results), [], [])
    assert [line.count("lost-") for line in lines if ": unreachable: " in line] == [60, 0]


def test_a_cluster_with_faults_is_audited_and_not_ok() -> None:
    report = reports.report(
        {"a": result(finding()), "b": failed("audit-incomplete"), "c": failed("unreachable")}
    )
    assert audit_summary.lines(report, [], [])[0] == "3 clusters: 1 audited, 1 failed, 1 unreachable"


NEXT: list[tuple[dict[str, Any], list[str], str]] = [
    ({"a": result()}, [], "nothing is left to do"),
    ({}, [], "nothing is left to do"),
    (
        {name: result(finding("no-endpoints"), finding("expired")) for name in "abc"} | {"d": failed()},
        [],
        "left: 2 faults in 3 clusters, 1 cluster without a complete audit. Next: for expired, Renew ",
    ),
    # A rotation of the cluster CA leads the faults.
    ({"a": result(finding("cluster-ca-rotation", severity="info", breaks_at=None), finding("expired", breaks_at="2026-11-26T00:00:00Z"))}, [], "left: 2 faults in 1 cluster. Next: for expired, Renew "),
    ({"a": failed("unreachable", remedy="Check the address")}, [], "left: 1 cluster without a complete audit. Next: for a, Check the address"),
    ({"a": result(reports.unread("deadlock"))}, [], "left: 1 gap in 1 cluster. Next: for unreadable, If the line names missing permissions, grant them"),
    ({"a": result()}, ["the report x cannot be written"], "left: 1 problem of the report. Next: the report x cannot"),
]  # fmt: skip


@pytest.mark.parametrize(("results", "problems", "last"), NEXT)
def test_the_last_line_says_what_is_left_and_what_is_next(
    results: dict[str, Any], problems: list[str], last: str
) -> None:
    assert audit_summary.lines(reports.report(results), [], problems)[-1].startswith(last)


def test_the_finding_that_breaks_first_is_the_first() -> None:
    results = {
        "a": result(finding(name="later", breaks_at="2026-12-24T00:00:00Z")),
        "b": result(finding(name="now", breaks_at="2026-11-26T00:00:00Z")),
    }
    lines = [
        line
        for line in audit_summary.lines(reports.report(results), [], [])
        if line.startswith("warning expiring")
    ]
    assert ["/now/" in line for line in lines] == [True, False]


def test_a_fault_that_a_repair_answers_names_the_playbook() -> None:
    last = [
        audit_summary.lines(reports.report({"a": result(finding(check))}), [], [])[-1]
        for check in ("ca-mismatch", "no-endpoints")
    ]
    assert ["certflow.kubernetes.repair with --check" in line for line in last] == [True, False]


def test_the_remedy_of_a_stuck_request_is_its_own() -> None:
    stuck = finding("request-stuck", evidence=["Use signer_name: a"])
    assert (
        "Next: for request-stuck, Use signer_name: a ("
        in audit_summary.lines(reports.report({"a": result(stuck)}), [], [])[-1]
    )


def test_each_check_that_failed_has_one_line_with_what_to_do() -> None:
    results = {"a": result(finding("expired"), finding("expired", name="other"), finding("no-endpoints"))}
    report = reports.report(results)
    lines = audit_summary.lines(report, [], [])
    for check in ("expired", "no-endpoints"):
        assert [line for line in lines if report["checks"][check]["url"] in line] == [
            line for line in lines if report["checks"][check]["remedy"] in line
        ]
        assert sum(report["checks"][check]["url"] in line for line in lines) == 1


@pytest.mark.parametrize(
    ("results", "has_none"),
    [
        ({"a": failed("missing-library"), "b": failed("unreachable")}, False),
        ({"a": failed("deadline-exceeded")}, False),
        ({"a": result(), "b": failed("unreachable")}, True),
        ({"a": result()}, True),
    ],
)
def test_clusters_without_an_audit_are_not_clusters_without_findings(
    results: dict[str, Any], has_none: bool
) -> None:
    lines = audit_summary.lines(reports.report(results), [], [])
    (line,) = (line for line in lines if line.startswith("findings:"))
    assert ("none" in line.split(": ")[1].split(".")[0].split()) is has_none


def test_an_audit_that_took_too_long_is_incomplete() -> None:
    report = reports.report({"a": failed("deadline-exceeded"), "b": result()})
    assert [cluster["status"] for cluster in report["clusters"]] == ["incomplete", "ok"]


def test_outcomes() -> None:
    results = {"bad": result(finding("expired")), "good": result(), "lost": failed("unreachable")}
    report = reports.report(results)
    assert audit_summary.outcomes(report, report_model.gate(report, "error")) == {
        "bad": "findings",
        "good": "ok",
        "lost": "unreachable",
    }


@pytest.mark.parametrize("name", ["cluster-{:04}", "{:04}-" + 200 * "x"])
def test_the_artifact_of_a_thousand_clusters_is_bounded(name: str) -> None:
    results = {name.format(number): result() for number in range(1000)}
    results["zz-lost"] = failed("unreachable")
    report = reports.report(results)
    artifact = audit_summary.artifact(report, report_model.gate(report, "error"))
    assert len(json.dumps(artifact)) < 50_000
    assert artifact["outcomes"]["zz-lost"] == "unreachable"
    assert len(artifact["outcomes"]) + artifact["left_out"] == 1001
    assert artifact["clusters"]["ok"] == 1000


def test_a_name_in_the_artifact_is_no_template() -> None:
    report = reports.report({"{{ lookup('pipe', 'id') }}": result(), "{% if %}": failed()})
    text = json.dumps(audit_summary.artifact(report, report_model.gate(report, "error"))["outcomes"])
    assert "{{" not in text
    assert "{%" not in text


def test_the_artifact_has_the_time_at_which_the_fleet_breaks_first() -> None:
    times = ["2026-12-24T00:00:00Z", "2026-12-01T00:00:00Z"]
    results = {time[:10]: result(finding(breaks_at=time)) for time in times}
    results["lasting"] = result(finding())
    assert audit_summary.artifact(reports.report(results), [])["breaks_at"] == times[1]
    assert audit_summary.artifact(reports.report({"good": result()}), [])["breaks_at"] is None


def test_clusters_with_a_shared_reason_have_one_line() -> None:
    results = {name: failed("cluster-ca-unknown") for name in ("a", "b")} | {"c": failed("unreachable")}
    lines = audit_summary.lines(reports.report(results), [], [])
    assert [line.partition(":")[0] for line in lines[:-1] if "findings" not in line] == [
        "3 clusters",
        "a, b",
        "c",
    ]
