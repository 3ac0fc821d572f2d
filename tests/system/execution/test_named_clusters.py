# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a run refuses before it connects to a cluster: a context that is not named, and a library that is missing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.failures import absent
from tests.support.playbooks import playbook

#: Nothing listens there.
SERVER = "https://127.0.0.1:9"
CLUSTER = {"name": "c", "cluster": {"server": SERVER, "insecure-skip-tls-verify": True}}
#: A connection that is not local, although its machine is this one. The kubeconfig is read where the module runs.
ELSEWHERE = '''
DOCUMENTATION = """
name: elsewhere
short_description: another machine
description: It runs modules on this machine.
author: the test
"""
from ansible.plugins.connection.local import Connection as Local


class Connection(Local):
    transport = "elsewhere"
'''
ROLES: dict[str, dict[str, Any]] = {
    "webhook_certificate": {"service": "hook", "namespace": "apps", "secret": {"name": "hook-tls"}},
    "snapshot_controller": {"version": "8.7.0"},
}
TASKS = """
- block:
    - ansible.builtin.include_role: {name: "certflow.kubernetes.{{ role }}"}
  rescue:
    - ansible.builtin.debug:
        msg: "REPORT {{ [case.key, ansible_failed_result] | to_json }}"
"""
#: How a task reaches the kubeconfig.
WAYS: dict[str, dict[str, Any]] = {
    "in process": {"ansible_connection": "local", "ansible_python_interpreter": sys.executable},
    "module": {"ansible_connection": "local", "__certflow_execution_mode": "module"},
    "another machine": {"ansible_connection": "elsewhere", "ansible_python_interpreter": sys.executable},
}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A folder with a kubeconfig of two contexts, of which one is current, and one of a single context."""
    contexts = [{"name": name, "context": {"cluster": "c", "user": "u"}} for name in ("dev", "prod")]
    user = {"name": "u", "user": {"token": "x"}}
    for name, number in (("several", 2), ("single", 1)):
        content = {
            "clusters": [CLUSTER],
            "contexts": contexts[:number],
            "users": [user],
            "current-context": "dev",
        }
        (tmp_path / name).write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", **content}))
    plugins = tmp_path / "connection_plugins"
    plugins.mkdir()
    (plugins / "elsewhere.py").write_text(ELSEWHERE)
    return tmp_path


@pytest.mark.parametrize(
    ("role", "way"),
    [*(("webhook_certificate", way) for way in WAYS), ("snapshot_controller", "another machine")],
)
def test_a_role_names_its_cluster_wherever_the_kubeconfig_is(directory: Path, role: str, way: str) -> None:
    named = {f"{role}_{name}": value for name, value in ROLES[role].items()}
    (directory / "tasks.yml").write_text(TASKS)
    cases = {"several": {"kubeconfig": "several"}, "named": {"kubeconfig": "several", "context": "prod"}}
    cases["single"] = {"kubeconfig": "single"}
    variables = {
        **WAYS[way],
        **named,
        "role": role,
        f"{role}_kubeconfig": f"{directory}/{{{{ case.value.kubeconfig }}}}",
        f"{role}_context": "{{ case.value.context | default('') }}",
    }
    include = {"ansible.builtin.include_tasks": "tasks.yml", "loop": "{{ cases | dict2items }}"}
    loop = {**include, "loop_control": {"loop_var": "case"}}
    play = {"hosts": "cluster", "gather_facts": False, "vars": {**variables, "cases": cases}, "tasks": [loop]}
    run = playbook.play(directory, [play], "-i", "cluster,")
    found = run.reports()
    assert found.keys() == cases.keys(), run.output
    assert {name: result["code"] for name, result in found.items()} == {
        "several": "invalid-connection", "named": "unreachable", "single": "unreachable",
    }  # fmt: skip
    assert absent(["dev", "prod", f"{role}_context"], found["several"]["msg"]) == []
    assert "the task's option" not in run.output, "what Ansible prints names the variables too"


#: The start of each Python: these libraries do not exist. Nothing else in the tests needs the file.
WITHOUT = """
import os, sys


class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in os.environ["MISSING"].split():
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Missing())
"""
FLEET: dict[str, dict[str, Any]] = {
    "audit": {},
    "certificates": {
        f"webhook_certificate_{name}": value for name, value in ROLES["webhook_certificate"].items()
    },
    "repair": {},
    "cluster_ca": {"certflow_phase": "prepare"},
    "upgrade": {"snapshot_controller_version": "8.7.0"},
}
RULE = {"webhook_certificate_providers": {"mine": {"rule": "version", "serving_signer": "example.com/a"}}}


@pytest.mark.parametrize(
    ("name", "missing", "options"),
    [
        *((name, "kubernetes", {}) for name in FLEET),
        ("certificates", "cryptography", {}),
        ("certificates", "jmespath", RULE),
    ],
)
def test_a_missing_library_is_one_line_before_the_first_cluster(
    directory: Path, name: str, missing: str, options: dict[str, Any]
) -> None:
    (directory / "sitecustomize.py").write_text(WITHOUT)
    hosts = {f"cluster-{number}": {"certflow_context": "dev"} for number in range(3)}
    variables = {"certflow_kubeconfig": str(directory / "single"), **FLEET[name], **options}
    inventory = {"clusters": {"hosts": hosts, "vars": variables}}
    (directory / "inventory.yml").write_text(yaml.safe_dump(inventory))
    run = playbook.play(
        directory,
        Path(f"certflow.kubernetes.{name}"),
        "-i",
        "inventory.yml",
        PYTHONPATH=str(directory),
        MISSING=missing,
    )
    assert run.status != 0, run.output
    lines = [line for line in run.output.splitlines() if line.startswith("fatal: ")]
    assert len(lines) == 1, run.output
    assert absent(["missing-library", missing, sys.executable], lines[0]) == []
    assert "cluster-1" not in run.output.partition("PLAY RECAP")[0], run.output
    assert "Traceback" not in run.output
