# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check the example alert rules against the table of metrics, and by promtool in `make test-all`."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.facts.finding import SEVERITIES
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._report import prometheus

from tests.support.audit import hostile
from tests.support.audit.reports import fleet
from tests.support.clusters import build
from tests.support.pages import page_files
from tools.ci.venvs import REPOSITORY
from tools.docs import rst

FILE = REPOSITORY / "examples" / "monitoring" / "certflow-alerts.yml"
PAGE = rst.GUIDES / "reference_audit_report.rst"
RULES: dict[str, dict[str, Any]] = {
    rule["alert"]: rule for group in yaml.safe_load(FILE.read_text())["groups"] for rule in group["rules"]
}
METRICS = {metric.name: metric for metric in prometheus.METRICS}
#: The values of a label, as far as they are known.
VALUES = {"severity": SEVERITIES}
_METRIC = re.compile(r"\b(certflow_[a-z_]+)(?:\{([^}]*)\})?")
DAY = 86400
REPORT = "certflow_report_timestamp_seconds"
#: Names of a series for the tests of rules.
HOOKS = 'cluster="a",kind="ValidatingWebhookConfiguration",namespace="",name="hooks",webhook="a.example.com"'
BREAKS = f"certflow_breaks_timestamp_seconds{{{HOOKS}}}"
ERROR, WARNING = (
    f'certflow_finding_info{{check="x",severity="{word}",{HOOKS}}}' for word in ("error", "warning")
)
SOON, VERY_SOON = {"CertflowBreaksSoon"}, {"CertflowBreaksSoon", "CertflowBreaksVerySoon"}
# Series with their values, then for days the alerts that fire on them.
FIRING: dict[str, tuple[dict[str, float], dict[int, set[str]]]] = {
    "breaks": ({BREAKS: 30 * DAY}, {1: set(), 3: SOON, 17: VERY_SOON, 31: VERY_SOON}),
    "error": ({ERROR: 1}, {1: {"CertflowBroken"}}),
    "error that breaks later": ({ERROR: 1, BREAKS: 10 * DAY}, {9: VERY_SOON, 10: {*VERY_SOON, "CertflowBroken"}}),
    "warning": ({WARNING: 1}, {1: set()}),
    "warning that takes effect": ({WARNING: 1, BREAKS: 0}, {1: VERY_SOON}),
    "up": ({'certflow_cluster_up{cluster="a"}': 1}, {1: set()}),
    "down": ({'certflow_cluster_up{cluster="a"}': 0}, {1: {"CertflowClusterNotAudited"}}),
    "audit": ({'certflow_cluster_last_audit_timestamp_seconds{cluster="a"}': 0}, {2: set(), 4: {"CertflowAuditTooOld"}}),
    "report": ({REPORT: 0}, {2: set(), 4: {"CertflowReportTooOld"}}),
    "no report": ({"another_metric": 0}, {2: {"CertflowReportMissing"}}),
    "no blind spot": ({'certflow_checks_unknown{cluster="a"}': 0}, {1: set()}),
    "unknown": ({'certflow_checks_unknown{cluster="a"}': 2}, {1: {"CertflowBlindSpots"}}),
    "endpoints": ({'certflow_endpoints_left_out{cluster="a"}': 2}, {1: {"CertflowBlindSpots"}}),
}  # fmt: skip


@pytest.mark.parametrize("name", RULES)
def test_a_rule_uses_metrics_and_labels_that_exist(name: str) -> None:
    rule = RULES[name]
    used = _METRIC.findall(rule["expr"])
    assert used
    assert [metric for metric, _selector in used if metric not in METRICS] == []
    for metric, selector in used:
        for label, value in re.findall(r'([a-z_]+)="([^"]*)"', selector):
            assert label in METRICS[metric].labels
            assert value in VALUES[label]
    texts = " ".join(rule["annotations"].values())
    # The result of "unless" has the labels of its left side.
    shown = _METRIC.findall(rule["expr"].partition(" unless ")[0])
    shared = set.intersection(*(set(METRICS[metric].labels) for metric, _selector in shown))
    assert set(re.findall(r"\$labels\.(\w+)", texts)) <= shared


def test_the_page_lists_the_rules_with_their_severities() -> None:
    listed = {
        row[0].strip("`"): row[1]
        for row in rst.read_table(PAGE.read_text())
        if row[0].startswith("``Certflow")
    }
    assert listed == {name: rule["labels"]["severity"] for name, rule in RULES.items()}


def test_every_metric_of_an_audit_that_shows_blindness_has_an_alert() -> None:
    text = FILE.read_text()
    blind = [name for name in prometheus.names() if name.endswith(("_left_out", "_unknown", "_up"))]
    assert [name for name in blind if name not in text] == []


def test_every_rule_has_a_case() -> None:
    assert set.union(*(alerts for _series, days in FIRING.values() for alerts in days.values())) == set(RULES)


@pytest.mark.full  # builds promtool
def test_rules_fire_when_they_are_to_fire(tmp_path: Path) -> None:
    """A series stays as it is for the whole test, which begins at time 0."""
    tests = []
    for case, (series, days) in FIRING.items():
        known = [{"series": name, "values": f"{value:.0f}+0x40"} for name, value in series.items()]
        if case not in ("report", "no report"):
            # The report is new at every time, because its age is the subject of another case.
            known.append({"series": REPORT, "values": f"0+{DAY}x40"})
        tests.append(
            {
                "name": case,
                "interval": "1d",
                "input_series": known,
                "promql_expr_test": [
                    {
                        "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                        "eval_time": f"{day}d",
                        "exp_samples": [
                            {"labels": f'{{alertname="{alert}"}}', "value": 1} for alert in sorted(alerts)
                        ],
                    }
                    for day, alerts in days.items()
                ],
            }
        )
    path = tmp_path / "tests.yml"
    path.write_text(yaml.safe_dump({"rule_files": [str(FILE)], "evaluation_interval": "1d", "tests": tests}))
    promtool("check", "rules", str(FILE))
    promtool("test", "rules", str(path))


@pytest.mark.full  # builds promtool
@pytest.mark.parametrize("name", ["large fleet", *hostile.HOSTILE])
def test_promtool_reads_the_metrics(name: str) -> None:
    reports = [fleet(20, 40)] if name == "large fleet" else [hostile.audit(hostile.HOSTILE[name])]
    for report in reports:
        promtool("check", "metrics", text=prometheus.render(report))


@pytest.mark.full  # builds promtool
def test_promtool_finds_a_broken_file() -> None:
    text = prometheus.render(fleet(1, 1))
    with pytest.raises(AssertionError):
        promtool("check", "metrics", text=text.replace('cluster="', 'cluster="\\x', 1))


def promtool(*arguments: str, text: str = "") -> None:
    done = subprocess.run(
        [str(build.promtool()), *arguments], input=text, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_commands_of_the_guide_make_an_object_of_the_rules(tmp_path: Path) -> None:
    """The Prometheus operator reads the same groups from it."""
    (command,) = [
        line for line in page_files.commands(rst.GUIDES / "guide_audit_fleet.rst") if FILE.name in line
    ]
    shutil.copy(FILE, tmp_path)
    subprocess.run(["bash", "-euc", command], cwd=tmp_path, check=True)
    made = yaml.safe_load((tmp_path / "prometheus-rule.yml").read_text())
    assert (made["kind"], made["spec"]) == ("PrometheusRule", yaml.safe_load(FILE.read_text()))
