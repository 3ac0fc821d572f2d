# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The outcomes of a fleet run, and the lines that tell them."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._ansible import operation
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.codes import CODES
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet import outcomes, run_steps
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet.outcomes import Progress
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._report import report_schema

pytestmark = pytest.mark.quick


@pytest.mark.parametrize(
    ("code", "wrote", "status"),
    [
        *(("", False, "failed"), ("timed-out", False, "failed"), ("unreachable", False, "unreachable")),
        ("cluster-ca-unknown", False, "unreachable"),
        *(("server-untrusted", False, "unreachable"), ("owned-by-another", False, "refused")),
        *(("server-untrusted", True, "failed"), ("unreachable", True, "failed")),
        *(("owned-by-another", True, "failed"), ("wrong-cluster", False, "refused")),
        *(("managed-bundle", False, "refused"), ("requested-by-another-identity", False, "refused")),
        *(("secret-unusable", False, "refused"), ("same-cluster", False, "refused")),
    ],
)
def test_the_outcome_of_a_failure(code: str, wrote: bool, status: str) -> None:
    """A cluster that was written to has failed, whatever the code is."""
    assert outcomes.status_of_failure(code, wrote) == status


def test_the_outcome_depends_on_codes_that_exist() -> None:
    assert outcomes.STATUS_OF_CODE.keys() <= CODES.keys()
    assert set(outcomes.STATUS_OF_CODE.values()) == {"unreachable", "refused", "plan-differs"}


def test_the_outcomes_that_count() -> None:
    assert sorted(report_schema.COUNTED) == ["failed", "refused", "unreachable"]
    assert sorted(report_schema.FAILURES - report_schema.COUNTED) == [
        "drift",
        "left",
        "not started",
        "plan-differs",
        "started",
    ]
    assert sorted(report_schema.RUN_STATUSES.keys() - report_schema.FAILURES) == [
        "changed",
        "ok",
        "planned",
        "skipped",
        "waiting",
    ]


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        *(({"status": status}, False) for status in ("ok", "changed", "planned", "skipped")),
        *(({"status": status}, True) for status in ("failed", "refused", "unreachable", "not started", "started", "drift", "plan-differs")),
        ({"status": "waiting", "severity": "info"}, False),
        ({"status": "waiting", "severity": "error"}, True),
    ],
)  # fmt: skip
def test_the_outcomes_that_fail_a_host(outcome: dict[str, str], expected: bool) -> None:
    assert outcomes.is_failure(outcome) is expected


LINES = (
    (Progress(37, 100, 2, 5), "prod-eu-3", "changed", 12.3, "[37/100] prod-eu-3 changed in 12 s (2 failed, 5 allowed)"),
    (Progress(1, 1, 0, 0), "a", "ok", 0.2, "[1/1] a ok in 0 s"),
    (Progress(2, 9, 1, 0), "a", "failed", 130, "[2/9] a failed in 2 min 10 s (1 failed, 0 allowed)"),
    (Progress(2, 9, 0, 3), "a", "waiting", 0, "[2/9] a waiting"),
    (Progress(2, 9, 1, 0), "a", "not started", 0, "[2/9] a not started (1 failed, 0 allowed)"),
    (Progress(2, 9, 0, 0), "\u202ea\nb", "ok", 1, "[2/9] \\u202ea b ok in 1 s"),
)  # fmt: skip


@pytest.mark.parametrize(("progress", "host", "status", "seconds", "line"), LINES)
def test_a_line_of_progress(progress: Progress, host: str, status: str, seconds: float, line: str) -> None:
    assert outcomes.progress_line(progress, host, status, seconds) == line


@pytest.mark.parametrize(
    ("statuses", "line"),
    [
        ([], "0 clusters"),
        (["ok"], "1 cluster: 1 ok"),
        (["ok", "failed", "ok", "changed", "waiting"], "5 clusters: 1 failed, 1 waiting, 1 changed, 2 ok"),
    ],
)
def test_the_counts(statuses: list[str], line: str) -> None:
    assert outcomes.count_line(statuses) == line


def test_clusters_with_a_shared_reason_have_one_line() -> None:
    def lost(remedy: str, code: str = "cluster-ca-unknown") -> dict[str, str]:
        return {"status": "unreachable", "code": code, "reason": "the reason", "remedy": remedy}

    found = {
        "a": lost("fetch"),
        "b": lost("fetch"),
        "c": lost("copy"),
        "d": lost("fetch", "unreachable"),
        "e": lost("fetch", "unreachable"),
    }
    heads = [line.partition(":")[0] for line in outcomes.summary_lines(found)]
    assert heads == ["a, b", "c", "d, e", "5 clusters", "left"]


def test_the_summary_has_failures_first_and_counts_quiet_clusters() -> None:
    found = {
        "a": {"status": "ok", "reason": "x"},
        "b": {"status": "changed", "reason": "renewed"},
        "c": {"status": "unreachable", "reason": "no\nanswer\x1b[2J"},
        "d": {"status": "failed", "reason": "y.", "remedy": "do z"},
        "e": {"status": "ok", "reason": "x"},
    }
    assert outcomes.summary_lines(found) == [
        "d: failed: y. Do z.",
        "c: unreachable: no answer\\x1b[2J",
        "b: changed: renewed",
        "5 clusters: 1 failed, 1 unreachable, 1 changed, 2 ok",
        "left: 2 clusters, first d, failed: y. Do z.",
    ]


LAST: list[tuple[dict[str, dict[str, Any]], str]] = [
    ({"a": {"status": "ok", "reason": "x"}}, "the run did everything that it was asked for"),
    ({"a": {"status": "changed", "reason": "x"}, "b": {"status": "skipped", "reason": "x"}}, "the run did everything that it was asked for"),
    ({"a": {"status": "planned", "reason": "nothing to change", "steps": []}}, "the run did everything that it was asked for"),
    ({"a": {"status": "planned", "reason": "would", "steps": [{"id": "certificate"}]}}, "next: run the playbook without --check and without --tags plan"),
    (
        {"a": {"status": "planned", "reason": "r", "repairs": [{"state": "planned", "kind": "add-ca", "object": {}}]}},
        "next: run the playbook without --check and without --tags plan",
    ),
    (
        {"a": {"status": "planned", "reason": "1 refused", "remedy": "set accept", "left": {"count": 1}}},
        "left: 1 cluster, first a, planned: 1 refused. Set accept.",
    ),
    (
        {"a": {"status": "waiting", "reason": "the window opens at 2026-12-05T22:00:00Z"}},
        "left: 1 cluster, first a, waiting: the window opens at 2026-12-05T22:00:00Z. Then run the playbook again",
    ),
    (
        {"a": {"status": "left", "reason": "2 left. x", "remedy": "set accept"}, "b": {"status": "left", "reason": "y"}},
        "left: 2 clusters, first a, left: 2 left. x. Set accept.",
    ),
    ({"a\x1b": {"status": "not started", "reason": "r"}}, "left: 1 cluster, first a\\x1b, not started: r. Then run the playbook again"),
]  # fmt: skip


@pytest.mark.parametrize(("found", "line"), LAST)
def test_the_last_line_says_what_is_left_and_why_and_what_is_next(
    found: dict[str, dict[str, Any]], line: str
) -> None:
    rows = {host: {"code": "", **row} for host, row in found.items()}
    assert outcomes.summary_lines(rows)[-1] == line


def test_a_quiet_fleet_has_a_short_summary() -> None:
    found = {f"h{number}": {"status": "ok", "reason": "the certificate is kept"} for number in range(100)}
    assert outcomes.summary_lines(found) == [
        "100 clusters: 100 ok",
        "the run did everything that it was asked for",
    ]


def test_a_plan_has_a_line_for_each_cluster_and_each_step() -> None:
    steps = [{"id": f"s{number}", "hop": "8.7.0", "changed": True, "title": "t"} for number in range(30)]
    found: dict[str, dict[str, Any]] = {
        "a": {"status": "planned", "reason": "would install", "steps": steps[:2]},
        "b": {"status": "planned", "reason": "nothing to change", "steps": []},
        "c": {"status": "planned", "reason": "would install", "steps": steps},
    }  # fmt: skip
    lines = outcomes.summary_lines(found)
    assert lines[:4] == [
        "a: planned: would install",
        "  to 8.7.0, s0: t",
        "  to 8.7.0, s1: t",
        "b: planned: nothing to change",
    ]
    assert len(lines[4:-2]) == outcomes.MOST_PLAN_LINES
    assert "12" in lines[-3], "the number of further steps"


def test_a_cluster_that_the_tags_skipped_has_its_reason() -> None:
    found = {"a": {"status": "skipped", "reason": "no tag"}}
    assert outcomes.summary_lines(found) == [
        "a: skipped: no tag",
        "1 cluster: 1 skipped",
        "the run did everything that it was asked for",
    ]


def test_the_line_about_a_killed_run() -> None:
    assert outcomes.unfinished_line([], "2026-12-04T22:00:00Z") == ""
    line = outcomes.unfinished_line(["a", "b\x1b"], "2026-12-04T22:00:00Z")
    assert "2026-12-04T22:00:00Z" in line
    assert "a, b\\x1b" in line


def test_a_missing_library_is_one_problem_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check of the settings finds it once, before the run contacts the first cluster."""
    monkeypatch.setattr(operation, "LIBRARIES", {"json": "json", "certflow_no_such_module": "something>=1"})
    (line,) = run_steps._missing_libraries([])
    assert (
        line
        == f"{sys.executable} lacks the Python libraries something>=1. Install them for that interpreter."
    )
    monkeypatch.setattr(operation, "LIBRARIES", {"json": "json"})
    assert run_steps._missing_libraries([]) == []
