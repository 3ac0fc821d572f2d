# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps of a fleet run that no test of a whole run reaches."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleError, AnsibleUndefinedVariable
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet import (
    fleet_run,
    read_run,
    run_file,
    run_report,
    run_steps,
)
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet.budget import Budget
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet.check_hosts import RunInput
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet.fleet_run import FleetRun
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet.run_steps import Step
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet.stages import Stage
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._inventory.contexts import UNREAD

from tests.support.failures import fails
from tests.support.playbooks.playbook import play

GATES = (
    "certflow_allow_shared_cluster",
    "certflow_fail_on_change",
    "certflow_plan",
    "certflow_report",
    "certflow_required_job",
    "certflow_run_file",
)
CHECKED = {
    "stages": [{"name": "rest", "hosts": ["a"], "concurrency": 0, "soak": 0}],
    "budget": {"limit": 0, "canary": ""},
    "uids": {},
}


class Templar:
    """Return each value, or raise it."""

    def template(self, value: Any) -> Any:
        if isinstance(value, Exception):
            raise value
        return value


def step(directory: Path, **variables: Any) -> Step:
    task = SimpleNamespace(args={"step": "begin", "playbook": "upgrade"}, check_mode=False)
    given = {
        "inventory_hostname": "a",
        run_steps.CHECKED: CHECKED,
        "certflow_run_file": str(directory / "run"),
        **variables,
    }
    return Step(task, None, Templar(), given)


def test_a_run_begins(tmp_path: Path) -> None:
    assert step(tmp_path).run()["plan"] == {}
    assert (tmp_path / "run").exists()


def test_an_unread_source_of_the_inventory_is_the_first_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_run, "read", lambda *_args, **_options: RunInput("audit", "clusters"))
    reason = "Kubeconfig a.yml: it does not exist. Check the path."
    check = step(tmp_path, **{UNREAD: reason})
    check._options = {"step": "check", "playbook": "audit", "pattern": "clusters"}
    result = check.run()
    assert result["msg"].endswith(reason)
    assert result["problems"][0] == result["msg"]
    assert result["problems"][1].startswith("the inventory has no host")


@pytest.mark.parametrize("error", [AnsibleError("no file"), AnsibleUndefinedVariable("x"), ValueError("x")])
@pytest.mark.parametrize("name", GATES)
def test_a_run_does_not_begin_if_a_gate_cannot_be_rendered(
    tmp_path: Path, name: str, error: Exception
) -> None:
    """The check could render it, but a lookup may fail later."""
    with fails("invalid-input", name, "rendered"):
        step(tmp_path, **{name: error}).run()
    assert not (tmp_path / "run").exists()


SECRET = "hunter2"
FAIL: dict[str, Any] = {"ansible.builtin.fail": {"msg": f"{SECRET} of {{{{ inventory_hostname }}}}"}}
#: The host of a task that fails -> the task.
HIDDEN = {
    "task": {**FAIL, "no_log": True},
    "template": {**FAIL, "no_log": "{{ is_hidden }}"},
    "loop": {**FAIL, "no_log": True, "loop": [1, 2]},
    "item": {**FAIL, "no_log": "{{ item == 2 }}", "loop": [2]},
    "block": {"block": [FAIL], "no_log": True},
    "variables": {"block": [{**FAIL, "no_log": "{{ mine }}"}], "vars": {"mine": True}},
    "options": {"ansible.builtin.fail": {"msg": f"{SECRET} {{{{ 1 / 0 }}}}"}, "no_log": True},
}
SHOWN = {"plain": FAIL, "false": {**FAIL, "no_log": "{{ not is_hidden }}"}, "items": {**FAIL, "loop": [1]}}


def test_the_result_of_a_task_with_no_log_is_not_recorded(tmp_path: Path) -> None:
    """The run file has it nowhere, and the outcome says why it has no reason."""
    tasks = {**HIDDEN, **SHOWN}
    begun = FleetRun(
        "snapshot_controller", str(tmp_path / "run"), "one", (Stage("rest", tuple(tasks)),), Budget(99)
    )
    run_file.begin(begun.path, begun.run, len(tasks), {})
    record = {"certflow.kubernetes.fleet_run": {"step": "failed", "task": "{{ ansible_failed_task.name }}"}}
    blocks = [
        {"block": [{"block": [task], "rescue": [record]}], "when": f"inventory_hostname == '{host}'"}
        for host, task in tasks.items()
    ]
    variables = {"ansible_connection": "local", "is_hidden": True, "__certflow_run": begun.to_data()}
    (tmp_path / "hosts.ini").write_text("\n".join(tasks))
    plays = [{"hosts": "all", "gather_facts": False, "vars": variables, "tasks": blocks}]
    done = play(tmp_path, plays, "-i", "hosts.ini")
    assert done.status == 0, done.output
    outcomes = run_report.outcomes_of(begun)
    assert {host for host, row in outcomes.items() if SECRET in str(row)} == {*SHOWN}
    assert {host for host, row in outcomes.items() if "no_log" in row["reason"]} == {*HIDDEN}
    assert {row["status"] for row in outcomes.values()} == {"failed"}


class Variables(dict[str, Any]):
    """The variables of the hosts, as Ansible hands them to a lookup."""

    def raw_get(self, host: str) -> Any:
        return self[host]


def test_the_run_that_began_last_is_the_run_of_a_play() -> None:
    """A file imports two playbooks, and the second one has fewer hosts."""
    runs = [
        FleetRun("snapshot_controller", "run", name, (Stage("rest", hosts),), Budget(), began=began)
        for name, hosts, began in (("first", ("a", "b", "c"), 9.5), ("second", ("b",), 10.5))
    ]
    known = {host: {"__certflow_run": run.to_data()} for run in runs for host in run.hosts}
    variables = {"hostvars": Variables(d={}, **known), "groups": {"all": ["a", "b", "c", "d"]}}
    begun = fleet_run.find(variables)
    assert begun is not None
    assert begun.run == "second"
    assert fleet_run.find({"hostvars": Variables(d={}), "groups": {"all": ["d"]}}) is None
