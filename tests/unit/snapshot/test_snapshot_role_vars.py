# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role's variables that come from a plan: the lines that it shows, and the options of its undo."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.certflow.kubernetes.plugins.module_utils._errors import CertflowError
from ansible_collections.certflow.kubernetes.plugins.module_utils._run import (
    _snapshot_controller_plan as plan,
)

from tests import playbook

ROLE = Path(__file__).parents[3] / "roles" / "snapshot_controller"
BEFORE = {"snapshot": "Fail", "groups": "Ignore"}


def test_the_policies_of_before_are_given_by_configuration(tmp_path: Path) -> None:
    configurations: list[dict[str, Any]] = [
        {"name": name, "webhooks": [{"failure_policy": policy}]} for name, policy in BEFORE.items()
    ]
    empty = {"name": "empty", "webhooks": []}
    at = {"installed": {"configurations": [*configurations, empty]}}
    asked = re.search(r"failure_policy: (.*)", (ROLE / "tasks" / "undo.yml").read_text())
    assert asked
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "vars_files": [str(ROLE / "vars" / "main.yml")],
        "vars": {"__snapshot_controller_at": at},
        "tasks": [
            {"ansible.builtin.set_fact": {"given": json.loads(asked[1])}},
            {"ansible.builtin.assert": {"that": ["given is mapping"]}},
            {"ansible.builtin.debug": {"msg": "GIVEN {{ given | to_json }}"}},
        ],
    }
    run = playbook.play(tmp_path, [play])
    assert run.status == 0, run.output
    found = re.search(r'"msg": ("GIVEN .*")$', run.output, re.MULTILINE)
    assert found
    given = json.loads(json.loads(found[1]).partition(" ")[2])
    assert given == BEFORE
    assert plan._policies(given) == {"failure_policies": BEFORE}


def test_the_shown_plan_names_the_deleted_objects(tmp_path: Path) -> None:
    objects = [
        {"kind": "ValidatingWebhookConfiguration", "name": "company"},
        {"kind": "Secret", "namespace": "default", "name": "tls"},
        {"kind": "ReplicaSet", "namespace": "default", "label_selector": "a=b"},
    ]
    steps = [
        {"title": "first", "action": "apply", "parameters": {}},
        {"title": "last", "action": "delete", "parameters": {"objects": objects}},
    ]
    shown = {"steps": steps, "refused": [], "reports": [], "hops": [], "installed": {"version": "8.1.0"}}
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "vars_files": [str(ROLE / "vars" / "main.yml")],
        "vars": {"__snapshot_controller_plan": shown, "snapshot_controller_version": "8.7.0"},
        "tasks": [
            {"ansible.builtin.debug": {"msg": "LINES {{ __snapshot_controller_plan_lines | to_json }}"}}
        ],
    }
    run = playbook.play(tmp_path, [play])
    assert run.status == 0, run.output
    found = re.search(r'"msg": ("LINES .*")$', run.output, re.MULTILINE)
    assert found
    assert json.loads(json.loads(found[1]).partition(" ")[2]) == [
        "from 8.1.0 to 8.7.0",
        "first",
        "last",
        "deletes: ValidatingWebhookConfiguration company; Secret default tls",
    ]


def test_what_another_run_changed_before_the_turn_is_tried_and_kept_again(tmp_path: Path) -> None:
    """A failed upgrade is undone from the originals that the last trial kept. They must not be older than the plan."""
    tasks = yaml.safe_load((ROLE / "tasks" / "hop.yml").read_text())
    (trial,) = (one["when"] for one in tasks if "certflow.kubernetes.snapshot_controller_preflight" in one)
    cases = [(0, "8.1.0", "8.1.0"), (0, "8.1.0", "8.6.0"), (1, "8.1.0", "8.1.0"), (1, "8.1.0", "8.6.0")]
    plans = [
        {
            "__snapshot_controller_stage_index": index,
            "__snapshot_controller_plan": {"installed": {"version": before}},
            "__snapshot_controller_plan_now": {"installed": {"version": now}},
        }
        for index, before, now in cases
    ]
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "vars_files": [str(ROLE / "vars" / "main.yml")],
        "tasks": [
            {"ansible.builtin.debug": {"msg": f"TRIED {number}"}, "vars": one, "when": trial}
            for number, one in enumerate(plans)
        ],
    }
    run = playbook.play(tmp_path, [play])
    assert run.status == 0, run.output
    assert re.findall(r"TRIED (\d)", run.output) == ["1", "2", "3"], run.output


@pytest.mark.parametrize("wrong", ["fail", {"snapshot": "Never"}, ["Fail"], {"snapshot": None}])
def test_a_policy_that_does_not_exist_is_an_error(wrong: Any) -> None:
    with pytest.raises(CertflowError) as caught:
        plan._policies(wrong)
    assert caught.value.code == "invalid-input"


@pytest.mark.parametrize(
    ("given", "expected"),
    [(None, ""), ("", ""), ("Fail", "Fail"), ({}, {})],
)
def test_policies_that_may_be_given(given: Any, expected: Any) -> None:
    name = "failure_policies" if isinstance(expected, dict) else "failure_policy"
    assert plan._policies(given) == {name: expected}
