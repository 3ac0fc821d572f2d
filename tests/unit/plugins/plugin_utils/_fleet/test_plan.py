# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The plan of a fleet run: its hash, and the forms in which a later run gets it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet import (
    plan,
    run_file,
    run_report,
    stages,
)
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet.budget import Budget
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet.fleet_run import FleetRun
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._report import job_report, report_text

from tests.support.failures import absent, fails

pytestmark = pytest.mark.quick

ROLE = "snapshot_controller"


DIGESTS = ["cluster:c1", "option version:o1", "write crds:w1"]


def digests(old: str, *new: str) -> list[str]:
    """Return the digests of a cluster, one of which is replaced."""
    return [entry for entry in DIGESTS if entry != old] + list(new)


def row(name: str, **keys: Any) -> dict[str, Any]:
    """Return the cluster of a report."""
    return {"name": name, "plan_digests": DIGESTS, "reason": "x", "seconds": 3, **keys}


def report(*rows: Mapping[str, Any], **run: Any) -> dict[str, Any]:
    made = {"role": ROLE, "check_mode": True, "plan": plan.make(ROLE, rows).hash}
    return {"kind": "run", "clusters": list(rows), "run": {**made, **run}}


BASE = plan.make(ROLE, [row("a"), row("b")])
#: Changes that are no change of the plan.
SAME: tuple[list[dict[str, Any]], ...] = (
    [row("b"), row("a")],
    [row("a", seconds=99, reason="y"), row("b", status="ok", opens_at="2026-01-01T00:00:00Z")],
    [row("a"), row("b"), row("c", plan_digests=[])],
)
#: Each part of a plan, changed once.
DIFFERENT: dict[str, list[dict[str, Any]]] = {
    "a cluster less": [row("a")],
    "a cluster more": [row("a"), row("b"), row("c")],
    "another name": [row("a"), row("c")],
    "another UID": [row("a"), row("b", plan_digests=digests("cluster:c1", "cluster:c2"))],
    "another option": [row("a"), row("b", plan_digests=digests("option version:o1", "option version:o2"))],
    "an option less": [row("a"), row("b", plan_digests=digests("option version:o1"))],
    "another write": [row("a"), row("b", plan_digests=digests("write crds:w1", "write crds:w2"))],
    "a write more": [row("a"), row("b", plan_digests=digests("", "write controller:w2"))],
}


@pytest.mark.parametrize("rows", SAME)
def test_equal_plans(rows: list[dict[str, Any]]) -> None:
    """The order of the clusters, texts, times and windows do not count. A cluster without digests is not in the plan."""
    assert plan.make(ROLE, rows).hash == BASE.hash


@pytest.mark.parametrize("rows", DIFFERENT.values(), ids=DIFFERENT)
def test_different_plans(rows: list[dict[str, Any]]) -> None:
    assert plan.make(ROLE, rows).hash != BASE.hash


def test_the_role_counts() -> None:
    assert plan.make("webhook_certificate", [row("a"), row("b")]).hash != BASE.hash


def test_the_report_and_the_artifact_are_the_same_plan(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps({**report(row("a"), row("b")), "format_version": "1.0", "made_at": "2026-01-01T00:00:00Z"}
        | {"clusters": [{**row(name), "status": "planned"} for name in ("a", "b")]}))  # fmt: skip
    data = json.loads(json.dumps(BASE.to_data()))
    for value in (data, json.dumps(data), f" {path} "):
        assert [*plan.find_problems(value)] == []
        assert run_report.read_plan(value, ROLE) == BASE
    with fails("invalid-input", "webhook_certificate"):
        run_report.read_plan(data, "webhook_certificate")


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "audit", "clusters": [], "run": None},
        report(row("a"), row("b"), check_mode=False),
        report(row("a"), plan=BASE.hash),  # a cluster is gone
        report(row("a", plan_digests=digests("", "write x:y")), row("b"), plan=BASE.hash),
    ],
)
def test_another_report_is_not_a_plan(wrong: dict[str, Any]) -> None:
    line = plan.from_report(wrong)
    assert isinstance(line, str)
    assert not absent(["certflow_plan"], line)


@pytest.mark.parametrize("value", ["", None, "plan.json", "~/plans/sha256.json", BASE.to_data()])
def test_a_value_of_the_variable(value: Any) -> None:
    assert [*plan.find_problems(value)] == []


@pytest.mark.parametrize(
    "value",
    ["sha256:12", BASE.hash, {}, [], {"name": ""}, ["x"], {"a": 1}, {**BASE.to_data(), "hash": "x"}, {**BASE.to_data(), "clusters": {"a": 1}}, 7, "a\nb", "\x1b"],
)  # fmt: skip
def test_a_wrong_value_of_the_variable(value: Any) -> None:
    (line,) = plan.find_problems(value)
    assert line.startswith("certflow_plan is ")
    assert line.isprintable()


@pytest.mark.parametrize("is_made", [True, False])
def test_a_job_hands_its_plan_to_the_job_that_requires_it(is_made: bool) -> None:
    artifact = {"succeeded": True, "role": ROLE, "plan": BASE.to_data() if is_made else {}}
    variables = {"certflow_report_check": artifact}
    assert job_report.plan_of("check", ROLE, variables, is_check=False) == artifact["plan"]
    assert job_report.plan_of("check", "webhook_certificate", variables, is_check=False) is None
    assert job_report.plan_of("", ROLE, variables, is_check=False) is None


def test_a_plan_for_another_playbook_is_not_left_out_in_silence() -> None:
    """A person may have approved it, and the job after the approval has the wrong playbook."""
    artifact = {"succeeded": True, "role": ROLE, "plan": BASE.to_data(), "check_mode": True}
    variables = {"certflow_report_check": artifact}
    assert job_report.plan_of("check", "webhook_certificate", variables, is_check=True) is None
    given = job_report.plan_of("check", "webhook_certificate", variables, is_check=False)
    with fails("invalid-input", ROLE, "webhook_certificate"):
        run_report.read_plan(given, "webhook_certificate")


def test_the_hash_is_stable() -> None:
    """A plan that was approved must stay valid after an update of the collection. A new form needs a new number of FORMAT."""
    assert BASE.hash == "sha256:d620c32553645c82c566cef599736faf365755f2eaf5d9975bff2216cabc0308"


@pytest.mark.parametrize("number", [1, 18, 40, 400])
def test_a_plan_of_many_writes_comes_whole_from_check_to_the_run(tmp_path: Path, number: int) -> None:
    """By the report, and by the artifact of a job, which a later job gets as an extra variable."""
    writes = [f"write add-ca:{entry:064}" for entry in range(number)]
    stage = stages.Stage("fleet", ("a",), 1, 0)
    run = FleetRun(ROLE, str(tmp_path / "run"), "one", (stage,), Budget(), is_check=True)
    run_file.begin(run.path, run.run, 1, {})
    repairs = [{"finding": str(entry), "state": "planned", "reason": "r" * 99} for entry in range(number)]
    outcome = {"status": "planned", "code": "", "reason": "x", "plan_digests": writes, "repairs": repairs}
    run.file.end_cluster("a", "fleet", outcome)
    rows = run_report.outcomes_of(run)
    (tmp_path / "plan.json").write_text(report_text.dump(run_report.build(run, rows)))
    by_report = run_report.read_plan(str(tmp_path / "plan.json"), ROLE)
    by_artifact = run_report.read_plan(json.loads(json.dumps(run_report.data_of_plan(run, rows))), ROLE)
    assert by_report.clusters == by_artifact.clusters == {"a": writes}
