# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The formats of a report: Prometheus, JUnit, and the files."""

from __future__ import annotations

import os
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._report import (
    junit,
    prometheus,
    report_files,
    report_schema,
)

from tests.support.audit.reports import failed, finding, report, result, unread
from tests.support.failures import fails

pytestmark = pytest.mark.quick

SOON = "2026-12-01T00:00:00Z"
EXCEPTED = {"reason": "moves soon", "until": "2027-01-31T00:00:00Z"}
AUDIT = report(
    {
        "a": result(
            finding("expired", name="hooks", breaks_at="2026-11-01T00:00:00Z"),
            finding("ca-expiring", name="hooks", breaks_at=SOON),
            finding("webhook-duplicated", severity="warning", name="twice"),
            finding("deadlock", name="known", excepted=EXCEPTED),
            finding("calls-fail", severity="info", name="slow"),
            unread("calls-fail", "deadlock"),
            {**finding("no-endpoints", name="fine"), "status": "pass"},
            seconds=2.5,
        ),
        "b": failed("unreachable"),
        "c": None,
    }
)


def samples(text: str) -> dict[str, str]:
    """Return series -> value."""
    return dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))


def test_the_metrics_of_an_audit() -> None:
    shown = samples(prometheus.render(AUDIT))
    subject = 'kind="ValidatingWebhookConfiguration",namespace="",name="hooks",webhook="a.example.com"'
    wanted = {
        "certflow_report_timestamp_seconds": "1795694400",
        'certflow_cluster_up{cluster="a"}': "1",
        'certflow_cluster_up{cluster="b"}': "0",
        'certflow_cluster_up{cluster="c"}': "0",
        'certflow_cluster_info{cluster="b",uid="",kubernetes_version="",status="unreachable",code="unreachable"}': "1",
        'certflow_cluster_last_audit_timestamp_seconds{cluster="a"}': "1795694340",
        'certflow_findings{cluster="a",severity="error",status="fail"}': "1",
        'certflow_findings{cluster="a",severity="warning",status="fail"}': "2",
        'certflow_findings{cluster="a",severity="info",status="excepted"}': "0",
        f'certflow_finding_info{{cluster="a",check="expired",severity="error",{subject}}}': "1",
        f'certflow_breaks_timestamp_seconds{{cluster="a",{subject}}}': "1793491200",
        'certflow_findings_left_out{cluster="a"}': "0",
        'certflow_checks_unknown{cluster="a"}': "2",
        'certflow_endpoints_left_out{cluster="a"}': "0",
    }
    assert {series: shown.get(series) for series in wanted} == wanted
    assert not [series for series in shown if 'name="known"' in series or 'name="fine"' in series]
    read = ("certflow_findings", "certflow_checks_unknown", "certflow_cluster_last_audit")
    assert not [series for series in shown if series.startswith(read) and 'cluster="b"' in series]


def test_each_metric_has_its_help_and_type_before_its_series() -> None:
    lines = prometheus.render(AUDIT).splitlines()
    for metric in prometheus.METRICS:
        start = lines.index(f"# HELP {metric.name} {metric.meaning}")
        assert lines[start + 1] == f"# TYPE {metric.name} gauge"
        own = [number for number, line in enumerate(lines) if re.match(rf"{metric.name}[{{ ]", line)]
        assert own, metric.name
        assert own == list(range(start + 2, start + 2 + len(own)))


@pytest.mark.parametrize("metric", prometheus.METRICS, ids=lambda metric: metric.name)
def test_names_of_metrics_follow_the_conventions(metric: prometheus.Metric) -> None:
    assert re.fullmatch(r"certflow_[a-z_]+[a-z]", metric.name)
    assert not metric.name.endswith(("_total", "_count", "_sum", "_bucket"))
    assert all(re.fullmatch("[a-z_]+", label) for label in metric.labels)
    assert "\\" not in metric.meaning and "\n" not in metric.meaning


def test_the_number_of_series_of_a_cluster_is_bounded() -> None:
    names = range(prometheus.MOST_FINDINGS + 50)
    made = report({"a": result(*(finding(name=f"{name}", uid=f"{name}", breaks_at=SOON) for name in names))})
    shown = samples(prometheus.render(made))
    for metric in ("certflow_finding_info", "certflow_breaks_timestamp_seconds"):
        assert sum(series.startswith(metric) for series in shown) == prometheus.MOST_FINDINGS
    assert shown['certflow_findings_left_out{cluster="a"}'] == "50"


def test_a_finding_that_leads_the_others_hides_none_that_breaks_earlier() -> None:
    names = [f"{name}" for name in range(prometheus.MOST_FINDINGS)]
    leading = (
        finding("bundle-without-successor", name=name, uid=name, breaks_at="2028-01-01T00:00:00Z")
        for name in names
    )
    made = report({"a": result(*leading, finding("expiring", name=names[-1], uid=names[-1], breaks_at=SOON))})
    shown = samples(prometheus.render(made))
    series = [
        series for series in shown if series.startswith("certflow_finding_info") and "expiring" in series
    ]
    times = [
        time
        for series, time in shown.items()
        if series.startswith("certflow_breaks") and f'name="{names[-1]}"' in series
    ]
    assert (len(series), times) == (1, ["1796083200"])


def test_series_are_unique() -> None:
    same = (finding(breaks_at=SOON), finding(breaks_at="2026-12-02T00:00:00Z"))
    lines = prometheus.render(report({"a": result(*same)})).splitlines()
    series = [line.rsplit(" ", 1)[0] for line in lines if not line.startswith("#")]
    assert len(series) == len(set(series))
    breaks = [line for line in lines if line.startswith("certflow_breaks")]
    assert [line.rsplit(" ", 1)[1] for line in breaks] == ["1796083200"]


def test_a_fault_counts_the_clusters_that_it_refuses_and_those_that_it_skips() -> None:
    """Without a time, both have no effect in words, so they have one series."""
    impacts = {"a": "refuses", "b": "skips", "c": "skips"}
    made = report({name: result(finding("timeout-long", impact=impact)) for name, impact in impacts.items()})
    shown = samples(prometheus.render(made))
    assert [value for series, value in shown.items() if series.startswith("certflow_fault_clusters")] == ["3"]


def cases(text: str, tag: str) -> list[tuple[str, str]]:
    """Return the class and name of the test cases with a child of this tag."""
    root = ElementTree.fromstring(text.encode())
    return [
        (case.get("classname", ""), case.get("name", ""))
        for case in root.iter("testcase")
        if case.find(tag) is not None
    ]


# The gate, and the checks that are failures.
FAILURES = {
    "never": [],
    "error": ["expired"],
    "warning": ["expired", "ca-expiring", "webhook-duplicated", "unreadable"],
}


@pytest.mark.parametrize("fail_on", FAILURES)
def test_findings_are_test_cases(fail_on: str) -> None:
    text = junit.render(AUDIT, fail_on)
    assert [group for group, _name in cases(text, "failure")] == FAILURES[fail_on]
    assert cases(text, "error") == [("audit", "b"), ("audit", "c")]
    skipped = {"deadlock", "unreadable"} - {*FAILURES[fail_on]}
    assert {group for group, _name in cases(text, "skipped")} == skipped
    root = ElementTree.fromstring(text.encode())
    suite = root.findall("testsuite")[0]
    assert suite.get("name") == "a"
    assert [case.get("time") for case in suite] == ["2.5", *[None] * 7]  # the audit itself took the time
    numbers = {key: suite.get(key) for key in ("tests", "failures", "errors", "skipped", "time")}
    assert numbers == {
        "tests": "8",
        "failures": str(len(FAILURES[fail_on])),
        "errors": "0",
        "skipped": str(len(skipped)),
        "time": "2.5",
    }
    assert [other.get("time") for other in root.findall("testsuite")[1:]] == ["0", "0"]


def test_a_failure_says_what_happens_to_requests() -> None:
    audit_finding = finding(
        "expired", breaks_at="2026-11-20T00:00:00Z", impact="skips", requests=["CREATE of pods"]
    )
    root = ElementTree.fromstring(junit.render(report({"a": result(audit_finding)})).encode())
    (failure,) = root.iter("failure")
    assert "is skipped for CREATE of pods" in str(failure.text).splitlines()


def test_no_two_test_cases_have_one_class_and_name() -> None:
    """GitLab shows only one of them."""
    twice = [finding("expired"), finding("expired"), unread("services"), unread("events")]
    root = ElementTree.fromstring(junit.render(report({"a": result(*twice), "b": result(*twice)})).encode())
    names = [(case.get("classname"), case.get("name")) for case in root.iter("testcase")]
    assert len(names) == len(set(names)) == 10


@pytest.mark.parametrize("mode", [report_files.READABLE, report_files.PRIVATE])
def test_a_file_is_replaced_whole(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "report.prom"
    path.write_text("old")
    path.chmod(0o640)
    kept = tmp_path / "kept"
    os.link(path, kept)
    report_files.write(str(path), "new \u00e9\n", mode)
    assert path.read_bytes() == "new \u00e9\n".encode()
    assert path.stat().st_mode & 0o777 == mode & 0o640
    assert kept.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "report.prom"]


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    target, path = tmp_path / "target", tmp_path / "report.json"
    target.write_text("old")
    path.symlink_to(target)
    with fails("report-not-written", str(path)):
        report_files.write(str(path), "new")
    assert (target.read_text(), path.is_symlink()) == ("old", True)


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path, tmp_path / "none" / "a.json", tmp_path / "file" / "a.json", Path("/dev/null")):
        for is_trial in (True, False):
            with fails("report-not-written", str(path)):
                report_files.write(str(path), "x", is_trial=is_trial)
    assert Path("/dev/null").is_char_device()


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.json"
    path.write_text("old")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with fails("report-not-written", str(path)):
        report_files.write(str(path), "new")
    assert (path.read_text(), [path.name for path in tmp_path.iterdir()]) == ("old", ["report.json"])


def test_every_status_has_a_meaning() -> None:
    meanings = [*report_schema.AUDIT_STATUSES.values()]
    meanings += [row.meaning for row in report_schema.RUN_STATUSES.values()]
    assert all(meaning.endswith(".") for meaning in meanings)
