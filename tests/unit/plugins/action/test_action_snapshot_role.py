# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role snapshot_controller, with stand-ins for its modules that return what they are told and how they were called."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.playbooks.playbook import play
from tools.ci.venvs import REPOSITORY

ROLE = "certflow.kubernetes.snapshot_controller"
# A result is the variable stub_MODULE of the run. It says if the module was asked to write.
STUB = """
from ansible.plugins.action import ActionBase

class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        found = dict(self._templar.template((task_vars or {})["stub_" + self._task.action.rpartition(".")[2]]))
        return {**found, "wrote": not self._task.check_mode} if "changed" in found else found
"""
INFO = {"refusal": "", "refused": [], "lines": ["a plan"], "installed": {"version": "7.0.2"}}
UPGRADED = {"changed": True, "steps": [{"id": "controller", "changed": True}]}


@pytest.fixture(scope="module")
def collections(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory of collections with the role and stand-ins for its modules."""
    root = tmp_path_factory.mktemp("collections")
    collection = root / "ansible_collections" / "certflow" / "kubernetes"
    shutil.copytree(
        REPOSITORY / "roles" / "snapshot_controller", collection / "roles" / "snapshot_controller"
    )
    shutil.copytree(REPOSITORY / "meta", collection / "meta")
    for kind in ("action", "modules"):
        (collection / "plugins" / kind).mkdir(parents=True)
        for name in ("snapshot_controller", "snapshot_controller_info", "k8s_csr_info"):
            (collection / "plugins" / kind / f"{name}.py").write_text(STUB if kind == "action" else "")
    return root


def run(directory: Path, collections: Path, plays: list[dict[str, Any]], *arguments: str) -> list[Any]:
    """Run plays on localhost. Return what the tasks of ``show`` have told."""
    output = play_on_localhost(directory, collections, plays, *arguments)
    told = [entry.partition(">>>")[0] for entry in output.split("<<<")[1:]]
    return [json.loads(entry.replace('\\"', '"')) for entry in told]


def play_on_localhost(
    directory: Path, collections: Path, plays: list[dict[str, Any]], *arguments: str, status: int = 0
) -> str:
    """Run plays with the stand-ins, and return the output."""
    values = {"snapshot_controller_version": "8.7.0", "stub_snapshot_controller_info": INFO}
    whole = [{"hosts": "localhost", "gather_facts": False, "vars": values, **entry} for entry in plays]
    done = play(directory, whole, *arguments, ANSIBLE_COLLECTIONS_PATH=str(collections))
    assert done.status == status, done.output
    return done.output


def role(result: dict[str, Any], **given: Any) -> dict[str, Any]:
    """Return a task that runs the role. result: of the upgrade. given: options of the include."""
    include = {"name": ROLE, **given}
    return {
        "ansible.builtin.include_role": include,
        "vars": {"stub_snapshot_controller": result},
        "tags": ["always"],
    }


def show(expression: str) -> dict[str, Any]:
    return {
        "ansible.builtin.debug": {"msg": "<<<{{ (" + expression + ") | to_json }}>>>"},
        "tags": ["always"],
    }


SHOW = show("__snapshot_controller_upgrade.wrote")
PLAYS: dict[str, dict[str, Any]] = {
    "plain": {"tasks": [role(UPGRADED), SHOW]},
    "check mode of the include": {"tasks": [role(UPGRADED, apply={"check_mode": True}), SHOW]},
    "check mode of the play": {"tasks": [role(UPGRADED), SHOW], "check_mode": True},
    "no check mode of the play": {"tasks": [role(UPGRADED), SHOW], "check_mode": False},
}


@pytest.mark.parametrize(
    ("arguments", "wrote"),
    [
        ((), ["plain", "no check mode of the play"]),
        (("--check",), []),
    ],
)
def test_the_role_writes_only_without_check_mode(
    tmp_path: Path, collections: Path, arguments: tuple[str, ...], wrote: list[str]
) -> None:
    """A play or an include may set it. The tags that read set it too."""
    told = run(tmp_path, collections, list(PLAYS.values()), *arguments)
    assert dict(zip(PLAYS, told)) == {name: name in wrote for name in PLAYS}


FAILED = {"failed": True, "changed": True, "code": "rollout-failed", "steps": [{"id": "controller"}]}
GONE = {"failed": True, "msg": "gone", "code": "unreachable"}
FACTS = "[snapshot_controller_result.changed, snapshot_controller_result.code, snapshot_controller_result.steps | default([])]"


def test_the_facts_are_those_of_the_last_run(tmp_path: Path, collections: Path) -> None:
    """The second run fails before its upgrade, so it has no result of one."""
    plays = [
        {
            "tasks": [
                {"block": [role(first)], "rescue": [show(FACTS)], "always": [show(FACTS)]},
                {
                    "block": [role(first)],
                    "vars": {"stub_snapshot_controller_info": GONE},
                    "rescue": [show(FACTS)],
                },
            ]
        }
        for first in (UPGRADED, FAILED)
    ]
    gone = [False, "unreachable", []]
    first, failed = [True, "", UPGRADED["steps"]], [True, "rollout-failed", FAILED["steps"]]
    assert run(tmp_path, collections, plays) == [first, gone, failed, failed, gone]


@pytest.mark.parametrize("verbosity", [(), ("-v",)])
def test_a_long_plan_is_cut_in_the_log(tmp_path: Path, collections: Path, verbosity: tuple[str, ...]) -> None:
    """AWX shows no output of a job above 1 MB, and a fleet of the user's own play has many clusters."""
    info = {**INFO, "lines": [f"line-{number}-" for number in range(60)]}
    tasks = [{"name": "r", "block": [role(UPGRADED)], "vars": {"stub_snapshot_controller_info": info}}]
    output = play_on_localhost(tmp_path, collections, [{"tasks": tasks}], "--tags", "plan", *verbosity)
    shown = {number for number in range(60) if f"line-{number}-" in output}
    assert shown == set(range(60 if verbosity else 19))


def test_a_failed_upgrade_is_short_in_the_log(tmp_path: Path, collections: Path) -> None:
    """The fact has the whole result."""
    failure = {
        **FAILED,
        "msg": f"{500 * 'it is long '}",
        "plan": [{"id": f"step-{number}"} for number in range(2000)],
    }
    keep = {
        "ansible.builtin.assert": {"that": "snapshot_controller_result.plan | length == 2000", "quiet": True}
    }
    end = {"ansible.builtin.debug": {"msg": "END"}}
    tasks = [
        {"block": [role(failure)], "rescue": [keep, end]},
        {"block": [role(FAILED)], "rescue": [end]},
    ]
    long, short, _end = play_on_localhost(tmp_path, collections, [{"tasks": tasks}]).split('"msg": "END"')
    assert "step-1999" not in long
    assert "rollout-failed" in short
    assert len(long) - len(short) < 5500  # ansible-core since 2.19 prints a failure twice
