# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report of a job in a workflow, and the check of an earlier job's report."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.text import harmless
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._report import job_report
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._variables.check_variables import (
    misspelt,
    unknown,
)
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._variables.read_variables import names_of
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._variables.specs import of_role

GOOD = job_report.make("snapshot_controller", False, {"a": "ok", "b": "changed"})
BAD = job_report.make("snapshot_controller", False, {"a": "ok", "b": "failed", "c": "not started"})

MAY_START: tuple[tuple[Any, Any, dict[str, Any]], ...] = (
    ("", "", {}),
    (None, None, {}),
    ("canary", "", {}),
    ("fleet_2", "canary", {"certflow_report_canary": GOOD}),
    ("fleet", "canary", {"certflow_report_canary": GOOD, "certflow_report_check": BAD}),
)
# The arguments, and the words that the line must have.
MUST_NOT_START: tuple[tuple[Any, Any, dict[str, Any], tuple[str, ...]], ...] = (
    ("71", "", {}, ("certflow_job_name", "71")),
    ("Canary", "", {}, ("certflow_job_name", "Canary")),
    ("", "a-b", {}, ("certflow_required_job", "a-b")),
    ("", ["canary"], {}, ("certflow_required_job",)),
    ("fleet", "canary", {}, ("certflow_report_canary",)),
    ("fleet", "canary", {"certflow_report_check": GOOD}, ("certflow_report_canary",)),
    ("fleet", "canary", {"certflow_report_canary": BAD}, ("canary", "b", "c")),
    ("fleet", "canary", {"certflow_report_canary": {"succeeded": "true"}}, ("certflow_report_canary",)),
    ("fleet", "canary", {"certflow_report_canary": ["succeeded"]}, ("certflow_report_canary",)),
    ("fleet", "canary", {"certflow_report_canary": {"succeeded": False, "counts": 3}}, ("canary",)),
    (
        "fleet",
        "canary",
        {"certflow_report_canary": {**BAD, "clusters_without_success": 3}},
        ("certflow_report_canary",),
    ),
)


def test_a_report_names_the_clusters_as_the_inventory_does() -> None:
    name = "arn:aws:eks:eu-west-1:111122223333:cluster/DataPlatform-Prod-EUW1-Blue-K8s-v2"
    report = harmless(job_report.make("snapshot_controller", False, {name: "failed"}))
    assert report["clusters_without_success"] == [name]


@pytest.mark.parametrize(("name", "required", "variables"), MAY_START)
def test_a_job_that_may_start(name: Any, required: Any, variables: dict[str, Any]) -> None:
    assert job_report.problems(name, required, variables) == []


@pytest.mark.parametrize(("name", "required", "variables", "words"), MUST_NOT_START)
def test_a_job_that_must_not_start(
    name: Any, required: Any, variables: dict[str, Any], words: tuple[str, ...]
) -> None:
    (line,) = job_report.problems(name, required, variables)
    assert [word for word in words if word not in line] == []


@pytest.mark.parametrize(
    ("statuses", "succeeded"),
    [
        ({}, False),
        ({"a": "planned"}, True),
        ({"a": "ok", "b": "skipped"}, False),
        ({"a": "ok", "b": "waiting"}, False),
        ({"a": "ok", "b": "left"}, True),
    ],
)
def test_a_job_succeeds_if_every_cluster_does(statuses: dict[str, str], succeeded: bool) -> None:
    assert job_report.make("webhook_certificate", False, statuses)["succeeded"] is succeeded


def test_the_report_of_a_large_fleet_is_small() -> None:
    statuses = {f"cluster-{number}": "failed" for number in range(5000)}
    report = job_report.make("webhook_certificate", True, statuses)
    assert len(json.dumps(report)) < 1000
    assert report["counts"] == {"failed": 5000}


def test_artifacts_are_not_misspelt_variables() -> None:
    artifacts = {"certflow_report_canary": GOOD, "certflow_report_7": {}, "certflow_report_path": "x"}
    names = names_of({**artifacts, "certflow_job_name": "a", "certflow_required_job": "b"})
    assert names == ["certflow_report_path", "certflow_job_name", "certflow_required_job"]
    assert misspelt(of_role("webhook_certificate"), names) == {}
    assert [*unknown(of_role("webhook_certificate"), names)] == ["certflow_report_path"]
