# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs of the playbook repair: the findings of an audit, the outcome of a cluster, and its place in the summary."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.facts.cluster_data import (
    PRINT_ROOT_CA,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.errors import CertflowError
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations import webhook_repair
from ansible_collections.certflow.kubernetes.plugins.module_utils._repair import kinds, repair_model
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet import (
    budget,
    check_run,
    cluster_run,
    outcome_of_result,
    outcomes,
    run_file,
    run_report,
)
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet.budget import Budget
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet.cluster_run import ClusterTask
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet.fleet_operations import (
    OPERATIONS,
    spec_of,
)
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet.fleet_run import FleetRun, from_data
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet.outcome_of_result import OperationRun
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet.stages import Stage
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._variables import check_variables
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._variables.specs import PLAYBOOK_VARIABLES

pytestmark = pytest.mark.quick

REPAIR = OPERATIONS["repair"]
HOOK = {"kind": "ValidatingWebhookConfiguration", "namespace": "", "name": "policy"}


def finding(check: str = "ca-mismatch", fingerprint: str = "f1", **fields: Any) -> dict[str, Any]:
    row = {"check": check, "status": "fail", "severity": "error", "fingerprint": fingerprint, "object": HOOK}
    return {**row, **fields}


def audit(*clusters: dict[str, Any], kind: str = "audit") -> dict[str, Any]:
    return {"format_version": "1.0", "kind": kind, "made_at": "2026-11-28T10:00:00Z", "clusters": [*clusters]}


def cluster(name: str, *findings: dict[str, Any], status: str = "ok", reason: str = "") -> dict[str, Any]:
    return {"name": name, "status": status, "reason": reason, "findings": [*findings]}


REPORT = audit(
    cluster(
        "stale", finding(), finding("webhook-timeout-long", "f2"), finding(fingerprint="f3", status="pass")
    ),
    cluster("accepted", finding(excepted={"reason": "known", "until": "2099-01-01T00:00:00Z"})),
    cluster("part", finding(), status="incomplete", reason="no Services"),
    cluster("unread", status="incomplete", reason="no Services"),
    cluster("dead", status="unreachable"),
)
WANTED = [{"fingerprint": "f1", "check": "ca-mismatch", "object": {**HOOK, "webhook": ""}}]
FINDINGS: dict[str, dict[str, Any]] = {
    "stale": {"findings": WANTED, "uid": "", "unread": ""},
    "accepted": {"findings": [], "uid": "", "unread": ""},
    "part": {"findings": WANTED, "uid": "", "unread": "no Services"},
    "unread": {"findings": [], "uid": "", "unread": "no Services"},
}


@pytest.mark.parametrize("form", ["path", "content", "text"])
def test_the_findings_of_a_report(tmp_path: Path, form: str) -> None:
    """Only what a kind of repair answers, and no cluster that the audit did not read."""
    (tmp_path / "audit.json").write_text(json.dumps(REPORT))
    value = {"path": f" {tmp_path}/audit.json", "content": REPORT, "text": json.dumps(REPORT)}[form]
    assert run_report.read_findings(value) == FINDINGS
    assert [*check_run.CHECKS["certflow_findings"](value)] == []
    assert [*check_run.CHECKS["certflow_exceptions"](EXCEPTIONS)] == []
    assert len([*check_run.CHECKS["certflow_exceptions"]([{"check": "x"}])]) == 1


def test_an_exception_that_has_ended_since_the_audit_accepts_nothing() -> None:
    ended = finding(excepted={"reason": "known", "until": "2026-01-01T00:00:00Z"})
    annotated = finding(fingerprint="f2", excepted={"reason": "annotation", "until": None})
    findings = run_report.read_findings(audit(cluster("stale", ended, annotated)))
    assert findings == {"stale": FINDINGS["stale"]}


@pytest.mark.parametrize("value", ["", None, {}])
def test_no_findings_are_all_findings(value: Any) -> None:
    assert run_report.read_findings(value) is None


@pytest.mark.parametrize("value", ["/nowhere/audit.json", audit(kind="run"), {"clusters": []}, "{}x"])
def test_what_is_no_report_of_an_audit(value: Any) -> None:
    with pytest.raises(CertflowError):
        run_report.read_findings(value)
    assert len([*check_run.CHECKS["certflow_findings"](value)]) == 1


def repair(state: str, code: str = "", **fields: Any) -> dict[str, Any]:
    return {
        "finding": "f1",
        "check": "ca-mismatch",
        "object": HOOK,
        "kind": "add-ca",
        "state": state,
        "code": code,
        "reason": "",
        "remedy": "",
        "is_left": state in ("refused", "waiting") and code not in repair_model.NOT_DUE,
        **fields,
    }


# Repairs of a result in check mode or not, and the status, and the words of the reason.
OUTCOMES: dict[str, tuple[list[dict[str, Any]], bool, str, tuple[str, ...]]] = {
    "repaired": ([repair("repaired")], False, "changed", ("1 repaired",)),
    "planned": ([repair("planned"), repair("refused", "not-published")], True, "planned", ("1 planned", "policy (not-published)")),
    "refused": ([repair("refused", "owned-by-another")], False, "left", ("1 left", "1 refused", "policy (owned-by-another)")),
    "waiting": ([repair("waiting", "not-switched")], False, "waiting", ("1 waiting", "policy (not-switched)")),
    "waiting, and repaired": ([repair("repaired"), repair("waiting", "outgoing-served")], False, "left", ("1 left", "1 waiting")),
    "gone": ([repair("gone", object={})], False, "ok", ("1 gone",)),
    "none": ([], False, "ok", ("nothing to do",)),
}  # fmt: skip


@pytest.mark.parametrize("name", OUTCOMES)
def test_the_outcome_of_a_cluster(name: str) -> None:
    repairs, is_planned, status, words = OUTCOMES[name]
    is_changed = any(entry["state"] in ("planned", "repaired") for entry in repairs)
    fields = outcome_of_result.outcome(
        REPAIR.describe, OperationRun({"repairs": repairs}, is_changed, is_planned)
    )
    assert fields["status"] == status
    assert all(word in fields["reason"] for word in words)
    assert fields.get("repairs", []) == repairs


@pytest.mark.parametrize("playbook", ["repair", "cluster_ca"])
def test_a_reason_names_few_of_many_objects(playbook: str) -> None:
    repairs = [
        repair("refused", "owned-by-another", reason="r", object={**HOOK, "name": f"policy-{number}"})
        for number in range(1000)
    ]
    run = OperationRun({"repairs": repairs}, is_changed=False, is_planned=False)
    reason = OPERATIONS[playbook].describe(run)["reason"]
    assert "policy-0" in reason
    assert "995 more" in reason
    assert len(reason) < 1000


@pytest.mark.parametrize("number", [1, 18, 40, 400])
def test_a_report_has_every_repair(number: int) -> None:
    """What was written comes first. A finding that no kind of the run repairs is counted only."""
    many = [repair("refused", "owned-by-another", reason="r") for _number in range(number)]
    unnamed = [repair("refused", "not-repairable", kind="") for _number in range(7)]
    result = {"repairs": [*unnamed, *many, repair("repaired")]}
    fields = REPAIR.describe(OperationRun(result, is_changed=True, is_planned=False))
    states = [entry["state"] for entry in fields["repairs"]]
    assert states == ["repaired", *["refused"] * number]
    assert all(words in fields["reason"] for words in (f"{number} refused", "7 further findings"))
    assert OperationRun(result, is_changed=True, is_planned=False).left["count"] == number


WHOLE = {"kind": "ConfigMap", "namespace": "kube-system", "name": "kube-root-ca.crt"}
# Repairs of a phase in check mode or not, and the status, and the words of the reason in their order.
PHASES: dict[str, tuple[list[dict[str, Any]], bool, str, tuple[str, ...]]] = {
    "nothing": ([], False, "ok", ("nothing to do",)),
    "changed": ([repair("repaired"), repair("repaired")], False, "changed", ("changed 2 caBundles",)),
    "planned": ([repair("planned")], True, "planned", ("would change 1 caBundle",)),
    "a wait of the cluster": (
        [repair("waiting", "not-settled", reason="until noon", remedy="Wait", object=WHOLE)], False, "waiting",
        ("not-settled: until noon. Wait",),
    ),
    "a part": (
        [repair("repaired"), *(repair("waiting", "outgoing-served", reason=f"until {day}", remedy="Renew") for day in "ab")], False, "left",
        ("2 left. changed 1 caBundle. outgoing-served: ", "policy: until a, ", "policy: until b. Renew"),
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("no-successor", "nothing to do: no successor of the cluster's CA is published"),
        ("unknown", "nothing to do: it is not known which CA of the cluster is in use"),
        ("before-switch", "nothing to do: each caBundle has what the phase needs (before-switch)"),
        ("after-switch", "nothing to do: each caBundle has what the phase needs (after-switch)"),
    ],
)
def test_nothing_to_do_is_not_the_same_without_a_successor(state: str, words: str) -> None:
    run = OperationRun({"repairs": [], "ca_state": state}, is_changed=False, is_planned=False)
    fields = outcome_of_result.outcome(OPERATIONS["cluster_ca"].describe, run)
    assert (fields["status"], fields["reason"], fields["before"]) == ("ok", words, state)


def test_the_outcome_of_a_phase_has_the_command_that_prints_the_cas_for_the_kubeconfig() -> None:
    result = {"repairs": [], "ca_state": "before-switch", "certificate_authority_data": "LS0t"}
    run = OperationRun(result, is_changed=False, is_planned=False)
    reason = outcome_of_result.outcome(OPERATIONS["cluster_ca"].describe, run)["reason"]
    assert PRINT_ROOT_CA in reason


@pytest.mark.parametrize("name", PHASES)
def test_the_outcome_of_a_phase_has_each_code_once_and_what_to_do(name: str) -> None:
    repairs, is_planned, status, words = PHASES[name]
    is_changed = any(entry["state"] in ("planned", "repaired") for entry in repairs)
    run = OperationRun({"repairs": repairs}, is_changed, is_planned)
    fields = outcome_of_result.outcome(OPERATIONS["cluster_ca"].describe, run)
    assert fields["status"] == status
    assert re.search(".*".join(map(re.escape, words)), fields["reason"]), fields["reason"]
    assert fields["reason"].count("outgoing-served") <= 1


def test_what_is_refused_has_a_line_in_the_summary() -> None:
    refused = {"status": "left", "code": "x", "reason": "r", "repairs": [repair("refused", "not-published")]}
    planned = {"status": "planned", "reason": "r", "repairs": [repair("planned")]}
    gone = {"status": "ok", "reason": "r", "repairs": [repair("gone", object={})]}
    lines = outcomes.summary_lines({"a": refused, "b": planned, "c": gone})
    assert [line.split(":")[0].strip() for line in lines] == ["a", "b", "add-ca", "3 clusters", "left"]


class Rig:
    """A run of three clusters with the findings of an audit."""

    def __init__(self, directory: Path) -> None:
        stages = (Stage("canary", ("accepted",)), Stage("rest", ("stale", "part", "unread", "dead")))
        self.run = FleetRun(
            "webhook_repair",
            str(directory / "run"),
            directory.name,  # A process keeps the last run by its id, so no two tests may share an id.
            stages,
            Budget(0),
            findings=FINDINGS,
            exceptions=EXCEPTIONS,
            uids={"dead": "uid-1"},
        )
        run_file.begin(self.run.path, self.run.run, 5, {})
        self.calls = 0

    def work(self, host: str, result: dict[str, Any], **values: Any) -> dict[str, Any]:
        """Return the outcome of a cluster whose module returns the result."""

        def work() -> dict[str, Any]:
            self.calls += 1
            return result

        task = replace(ClusterTask(host, cluster_run.WORK, reads_only=False), **values)
        answer = cluster_run.work_on(self.run, task, cluster_run.Actions(work, print, work))
        return dict(answer[cluster_run.OUTCOME])

    def status(self, host: str) -> str:
        return str(run_report.outcomes_of(self.run)[host]["status"])


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def test_clusters_without_a_finding_are_not_contacted(rig: Rig) -> None:
    """One that the audit did not read is no success, and does not count for the budget. Neither is a canary."""
    assert rig.work("accepted", {})["status"] == "ok"
    assert rig.work("dead", {})["code"] == "plan-differs"
    assert rig.calls == 0
    assert (
        rig.work("stale", {"failed": True, "code": "repair-failed", "cause": "x", "changed": True})["status"]
        == "failed"
    )
    assert (rig.work("part", {})["status"], rig.calls) == ("not started", 1)


def test_a_report_of_another_cluster_does_not_show_that_nothing_is_to_do(rig: Rig) -> None:
    """The inventory has the UID of the host, and the report has a cluster of the same name with another UID."""
    rig.run = replace(rig.run, uids={"accepted": "uid-1", "stale": "uid-1"})
    for uid, status in (("uid-1", "ok"), ("", "ok"), ("uid-2", "plan-differs")):
        known = {**FINDINGS["accepted"], "uid": uid}
        rig.run = replace(rig.run, findings={**FINDINGS, "accepted": known})
        assert (rig.work("accepted", {})["status"], rig.calls) == (status, 0)


def test_a_report_of_an_incomplete_audit_leaves_something(rig: Rig) -> None:
    """With and without a finding. In check mode it is shown, and it does not fail."""
    outcome = rig.work("unread", {})
    assert (outcome["status"], outcome["code"], rig.calls) == ("left", "audit-incomplete", 0)
    assert (outcome["left"]["count"], outcome["left"]["first"]["reason"]) == (1, "no Services")
    assert rig.work("part", {"changed": True, "repairs": [repair("repaired")]})["status"] == "left"
    planned = rig.work("unread", {}, reads_only=True)
    assert (planned["status"], planned["left"]["count"]) == ("planned", 1)


# An exception that the host of a run and the object match, and those that do not.
ACCEPTED = {
    "check": "ca-mismatch",
    "clusters": ["stale"],
    "objects": ["*/policy*"],
    "reason": "soon",
    "until": "2099-01-01",
}
EXCEPTIONS = [
    {**ACCEPTED, "until": "2020-01-01"},
    {**ACCEPTED, "check": "not-reloaded"},
    {**ACCEPTED, "clusters": ["other"]},
    {**ACCEPTED, "objects": ["Service/*"]},
    ACCEPTED,
]


@pytest.mark.parametrize("number", [1, 40])
def test_an_excepted_object_is_counted_and_not_left(rig: Rig, number: int) -> None:
    refused = [
        repair("refused", "not-published", object={**HOOK, "name": f"policy-{entry}"})
        for entry in range(number)
    ]
    excepted = rig.work("stale", {"repairs": refused})
    assert excepted["status"] == "ok"
    assert (excepted["left"]["count"], excepted["left"]["excepted"]) == (0, number)
    assert f"accepts {number} object" in excepted["reason"]
    other = rig.work(
        "stale", {"repairs": [*refused, repair("refused", "x", object={**HOOK, "name": "other"})]}
    )
    assert (other["status"], other["left"]["count"]) == ("left", 1)
    assert rig.work("part", {"repairs": refused})["left"]["count"] == number + 1


def test_what_is_left_stops_nothing_and_answers_only_if_something_was_written(rig: Rig) -> None:
    """It is no failure of a canary, and costs no budget. Its report has the first object with reason and remedy."""
    outcome = rig.work(
        "part", {"repairs": [repair("refused", "not-published", reason="why", remedy="Do it")]}
    )
    assert (outcome["status"], outcome["remedy"], outcome["left"]["first"]["object"]) == (
        "left",
        "Do it",
        HOOK,
    )
    assert outcomes.is_failure(outcome)
    state = rig.run.file.read()
    assert budget.needs_answer(state, Budget(0), "rest")
    assert budget.find_refusal(state, Budget(0), "rest") == ""
    rig.work("part", {"changed": True, "repairs": [repair("repaired"), repair("refused", "x")]})
    assert not budget.needs_answer(rig.run.file.read(), Budget(0), "rest")


def test_a_plan_of_a_cluster_without_a_finding(rig: Rig) -> None:
    assert rig.work("accepted", {}, reads_only=True)["status"] == "planned"
    assert rig.calls == 0


def test_a_repair_that_is_due_again_after_the_soak_has_failed(rig: Rig) -> None:
    rig.work("stale", {"changed": True, "repairs": [repair("repaired")]})
    rig.work("stale", {"changed": False, "repairs": []}, phase=cluster_run.VERIFY)
    assert rig.status("stale") == "changed"
    outcome = rig.work("stale", {"changed": True, "repairs": [repair("planned")]}, phase=cluster_run.VERIFY)
    assert (outcome["code"], rig.status("stale")) == ("verification-failed", "failed")


def test_what_a_verification_finds_left_is_recorded_once(rig: Rig) -> None:
    """Another program has replaced the value during the soak, so nothing is due, and the cluster is not done."""
    lost = {
        "changed": False,
        "repairs": [repair("refused", "overwritten-by", object={**HOOK, "name": "other"})],
    }
    rig.work("stale", {"changed": True, "repairs": [repair("repaired")]})
    rig.work("stale", lost, phase=cluster_run.VERIFY)
    assert rig.status("stale") == "left"
    rig.work("part", {"changed": True, "repairs": [repair("repaired"), repair("refused", "not-published")]})
    rig.work("part", lost, phase=cluster_run.VERIFY)
    assert rig.run.file.read_details().clusters["part"].outcome["repairs"][0]["state"] == "repaired"


def test_the_users_check_keeps_what_the_verification_found_left(rig: Rig) -> None:
    lost = {
        "changed": False,
        "repairs": [repair("refused", "overwritten-by", object={**HOOK, "name": "other"})],
    }
    rig.work("stale", {"changed": True, "repairs": [repair("repaired")]})
    rig.work("stale", lost, phase=cluster_run.VERIFY)
    before, _failure = cluster_run.begin_check(rig.run, "stale")
    assert rig.status("stale") == "failed"
    cluster_run.end_check(rig.run, "stale", before)
    outcome = run_report.outcomes_of(rig.run)["stale"]
    assert (outcome["status"], outcome["code"], outcome["left"]["count"]) == ("left", "overwritten-by", 1)


def test_a_failure_keeps_its_repairs(rig: Rig) -> None:
    bad = {
        "failed": True,
        "code": "repair-failed",
        "cause": "x",
        "changed": True,
        "repairs": [repair("overwritten")],
    }
    assert rig.work("stale", bad)["repairs"] == bad["repairs"]


def test_the_findings_survive_as_plain_data(rig: Rig) -> None:
    assert from_data(json.loads(json.dumps(rig.run.to_data()))).findings == FINDINGS


@pytest.mark.parametrize(
    ("accept", "number"), [(["argo-cd"], 1), (["argocd", "manager:istiod"], 0), ("helm", 0)]
)
def test_an_owner_that_no_cluster_accepts_stops_the_run(accept: Any, number: int) -> None:
    hosts = {"a": {"certflow_repair_accept": accept}}
    assert len(check_variables.find_problems(spec_of("repair"), hosts)) == number


@pytest.mark.parametrize("text", ['{"proof_after": 1}', "proof_after=1", ""])
def test_the_further_options_may_be_a_text(text: str) -> None:
    """The check takes what a module takes for a dictionary."""
    assert check_variables.find_problems(spec_of("repair"), {"a": {"certflow_repair_options": text}}) == []
    options = REPAIR.option_values({"certflow_repair_options": text})
    assert {key: str(value) for key, value in options.items()} == ({"proof_after": "1"} if text else {})


def test_the_variables_are_options_of_the_module() -> None:
    values = {
        "certflow_repair_kinds": ["add-ca"],
        "certflow_context": "prod",
        "certflow_repair_options": {"proof_after": 1},
    }
    assert REPAIR.option_values(values) == {"kinds": ["add-ca"], "context": "prod", "proof_after": 1}
    further = PLAYBOOK_VARIABLES[REPAIR.more_options]["options"]
    assert {*REPAIR.options, *further} <= webhook_repair.SPEC.keys()
    assert REPAIR.variables.options.keys() <= PLAYBOOK_VARIABLES.keys()
    assert PLAYBOOK_VARIABLES["certflow_repair_kinds"]["choices"] == [*kinds.KINDS]
