# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The outcome of a cluster in the report of a fleet run."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.plan import plan_report
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet import (
    fleet_operations,
    outcome_of_result,
)
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet.outcome_of_result import OperationRun
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._report import report_schema

from tests.unit.plugins.module_utils._snapshot.world import planned, upstream

pytestmark = pytest.mark.quick

SECRET = {"namespace": "kube-system", "name": "hook"}
ISSUED: dict[str, Any] = {
    "reason": "issued a certificate (the Secret did not exist)",
    "not_after": "2027-11-26T10:00:00Z",
    "days_left": 364,
    "signer": "beta.eks.amazonaws.com/app-serving",
    "provider": {"name": "eks"},
    "secret": SECRET,
}
FACTS = "Secret kube-system/hook: valid until 2027-11-26 (364 days), signer beta.eks.amazonaws.com/app-serving, provider eks"
DUE = {**ISSUED, "reason": "a certificate is due (no Secret)", "not_after": None, "days_left": None}
# A run, and its status and reason.
CERTIFICATES: dict[str, tuple[OperationRun, str, str]] = {
    "issued": (OperationRun(ISSUED, True, False), "changed", f"issued a certificate (the Secret did not exist). {FACTS}"),
    "kept": (OperationRun({**ISSUED, "reason": "the certificate is kept"}, False, False), "ok", f"the certificate is kept. {FACTS}"),
    "one day": (OperationRun({**ISSUED, "reason": "x", "days_left": 1, "provider": {}}, False, False), "ok",
                "x. Secret kube-system/hook: valid until 2027-11-26 (1 day), signer beta.eks.amazonaws.com/app-serving"),
    "removed": (OperationRun({"reason": "removed: Secret a", "signer": "example.com/s", "provider": {}, "secret": SECRET}, True, False), "changed", "removed: Secret a"),
    "planned": (OperationRun(DUE, True, True), "planned",
                "would change: a certificate is due (no Secret). Secret kube-system/hook: signer beta.eks.amazonaws.com/app-serving, provider eks"),
    "nothing to change": (OperationRun({**ISSUED, "reason": "the certificate is kept"}, False, True, True), "planned",
                          f"nothing to change: the certificate is kept. {FACTS}"),
    "drift": (OperationRun({**DUE, "signer": "", "provider": {}}, True, True, True), "drift",
              "would change: a certificate is due (no Secret). This is a failure because of certflow_fail_on_change"),
}  # fmt: skip


@pytest.mark.parametrize("name", CERTIFICATES)
def test_the_outcome_of_a_certificate(name: str) -> None:
    run, status, reason = CERTIFICATES[name]
    found = outcome_of_result.outcome(fleet_operations.of_name("webhook_certificate").describe, run)
    assert (found["status"], found["reason"]) == (status, reason)
    assert found["code"] == ("drift" if status == "drift" else "")
    assert found["not_after"] == run.result.get("not_after")
    assert isinstance(found["provider"], str)


def upgrade(old: str | None, *hops: str, changed: int = 0, **values: Any) -> dict[str, Any]:
    steps = [{"hop": hop, "changed": number < changed} for number, hop in enumerate(hops)]
    ways = [{"release": hop} for hop in [*hops, "8.7.0"]]
    return {"installed": {"version": old}, "hops": ways, "steps": steps, **values}


UPGRADES: dict[str, tuple[OperationRun, str, str]] = {
    "upgraded": (OperationRun(upgrade("6.2.2", "8.1.0", "8.7.0", changed=2), True, False), "changed", "upgraded from 6.2.2 to 8.7.0, 2 steps changed something"),
    "installed": (OperationRun(upgrade(None, "8.7.0", changed=1), True, False), "changed", "installed 8.7.0, 1 step changed something"),
    "downgraded": (OperationRun(upgrade("8.10.0", "8.7.0", changed=1), True, False), "changed", "downgraded from 8.10.0 to 8.7.0, 1 step changed something"),
    "updated": (OperationRun(upgrade("8.7.0", "8.7.0", changed=1), True, False), "changed", "updated the objects of 8.7.0, 1 step changed something"),
    "verified": (OperationRun(upgrade("8.7.0", "8.7.0"), False, False), "ok", "verified 8.7.0, and changed nothing"),
    "the tag verify": (OperationRun(upgrade("8.7.0", due=[], verified=[]), False, True), "planned", "verified 8.7.0, and changed nothing"),
    "plan": (OperationRun(upgrade("8.1.0", plan=[{}, {}, {}]), False, True), "planned", "would upgrade from 8.1.0 to 8.7.0, 3 steps may change something"),
    "preflight": (OperationRun(upgrade("8.1.0", due=["crds", "controller"]), True, True), "planned", "would upgrade from 8.1.0 to 8.7.0, 2 steps would change something"),
    "no drift": (OperationRun(upgrade("8.7.0", due=[]), False, True, True), "planned", "nothing to change at 8.7.0"),
    "drift": (OperationRun(upgrade("8.7.0", due=["controller"]), True, True, True), "drift",
              "would update the objects of 8.7.0, 1 step would change something. This is a failure because of certflow_fail_on_change"),
}  # fmt: skip


@pytest.mark.parametrize("operation", ["webhook_certificate", "snapshot_controller"])
def test_what_a_module_left_is_the_status_of_its_cluster(operation: str) -> None:
    first = {
        "object": {"kind": "Secret", "name": "hook"},
        "code": "webhook-unproven",
        "reason": "not seen",
        "remedy": "Look",
    }
    result = {**ISSUED, **upgrade("8.1.0", "8.7.0", changed=1), "left": {"count": 1, "first": first}}
    describe = fleet_operations.of_name(operation).describe
    found = outcome_of_result.outcome(describe, OperationRun(result, True, False))
    assert (found["status"], found["code"], found["remedy"]) == ("left", "webhook-unproven", "Look")
    assert found["reason"].startswith("1 left. Secret/hook: not seen. ")
    planned = outcome_of_result.outcome(describe, OperationRun(result, True, True))
    assert (planned["status"], planned["code"], planned["remedy"]) == ("planned", "", "Look")
    assert planned["reason"].startswith("Secret/hook: not seen. ")


@pytest.mark.parametrize("name", UPGRADES)
def test_the_outcome_of_an_upgrade(name: str) -> None:
    run, status, reason = UPGRADES[name]
    found = outcome_of_result.outcome(fleet_operations.of_name("snapshot_controller").describe, run)
    assert (found["status"], found["reason"]) == (status, reason)
    assert (found["before"], found["after"]) == (run.result["installed"]["version"] or "", "8.7.0")


def test_the_tag_verify_judges_the_installed_release() -> None:
    """The task asks for another one."""
    run = OperationRun(upgrade("8.4.0", due=[], verified=[]), False, True)
    found = outcome_of_result.outcome(fleet_operations.of_name("snapshot_controller").describe, run)
    assert (found["before"], found["after"]) == ("8.4.0", "8.4.0")
    assert found["reason"].startswith("verified 8.4.0")


@pytest.mark.parametrize("target", ["8.7.0", "8.1.0"])
def test_the_releases_of_a_report_are_those_of_a_real_plan(target: str) -> None:
    """The result of the module carries the installed release and the plan by other names than a test would choose."""
    plan = planned(upstream("7.0.2"), target)
    result = {
        "installed": plan_report.installed(plan.hops[0].context),
        **plan_report.plan(plan),
        "due": ["crds"],
    }
    describe = fleet_operations.of_name("snapshot_controller").describe
    found = outcome_of_result.outcome(describe, OperationRun(result, True, True))
    assert (found["before"], found["after"]) == ("7.0.2", target)
    assert found["reason"] == f"would upgrade from 7.0.2 to {target}, 1 step would change something"


def test_the_steps_of_a_report() -> None:
    done = {"id": "crds", "hop": "8.7.0", "changed": False, "title": "Apply"}
    undone = {**done, "undoes": True}
    assert outcome_of_result.details({"steps": [done, undone, "x"]}) == {
        "steps": [{"id": "crds", "hop": "8.7.0", "changed": False}]
    }
    plan = [{"id": name, "hop": "8.7.0", "title": "Apply", "x": 1} for name in ("crds", "rbac")]
    rows = [{"id": name, "hop": "8.7.0", "changed": True, "title": "Apply"} for name in ("crds", "rbac")]
    read_only = OperationRun({**upgrade("8.1.0"), "plan": plan}, False, True)
    assert outcome_of_result.describe_upgrade(read_only)["steps"] == rows, "the tag plan"
    assert outcome_of_result.details({"plan": plan}) == {}, "a failure that tried no step"
    assert outcome_of_result.details({"plan": plan, "due": ["crds"]}) == {"steps": rows[:1]}
    assert outcome_of_result.details({"plan": plan, "due": []}) == {}
    assert outcome_of_result.details({"plan": plan, "due": ["crds"], "steps": [done]}) == {
        "steps": [{"id": "crds", "hop": "8.7.0", "changed": False}]
    }
    assert outcome_of_result.details({}) == {}


@pytest.mark.parametrize("name", fleet_operations.PLAYBOOK_OF)
def test_every_field_of_an_outcome_is_in_the_schema(name: str) -> None:
    described = fleet_operations.of_name(name).describe(OperationRun({}, True, False))
    assert set(described) <= {field.name for field in report_schema.CLUSTER}


def test_a_certificate_is_one_step_if_it_changed() -> None:
    describe = fleet_operations.of_name("webhook_certificate").describe
    assert describe(OperationRun(ISSUED, True, False))["steps"] == [{"id": "certificate", "changed": True}]
    assert describe(OperationRun(ISSUED, False, False))["steps"] == []
