# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run the playbooks with variables whose template fails. No cluster exists, and none is contacted."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet.fleet_operations import spec_of

from tests.support.failures import absent
from tests.support.playbooks.playbook import PlaybookRun, play

CONTEXT = {"certflow_kubeconfig": "kubeconfig", "certflow_context": "dead"}
ROLES: dict[str, dict[str, Any]] = {
    "certificates": {"webhook_certificate_service": "hook", "webhook_certificate_namespace": "apps", "webhook_certificate_secret": {"name": "tls"}},
    "upgrade": {"snapshot_controller_version": "8.7.0"},
    "audit": {},
}  # fmt: skip
MISSING_FILE = "{{ lookup('ansible.builtin.file', 'secret-name.json') }}"
FAILING = {
    "a missing file": MISSING_FILE,
    "another variable": "{{ nested }}",
    "an unknown filter": "{{ 'secret-name' | no_such_filter }}",
    "an error of Python": "{{ 1 / 0 }}",
    "no template": "{{ 'secret-name' ",
}
NESTED = {"nested": MISSING_FILE}
CHECK = re.compile(r"TASK \[Check the settings of the (?:run|audit)\](.*?)PLAY RECAP", re.DOTALL)


def run(directory: Path, playbook: str, variables: dict[str, Any], *arguments: str) -> PlaybookRun:
    hosts: dict[str, dict[str, Any]] = {"dead": {}, "gone": {}}
    everywhere = {**CONTEXT, **ROLES[playbook], **NESTED, **variables}
    (directory / "clusters.yml").write_text(
        yaml.safe_dump({"clusters": {"hosts": hosts, "vars": everywhere}})
    )
    return play(
        directory,
        Path(f"certflow.kubernetes.{playbook}"),
        "-i",
        "clusters.yml",
        *arguments,
        COLUMNS="2000",
        HOME=str(directory),
    )


def checked(done: PlaybookRun) -> str:
    """Return the output of the check. The run ends with it, and the output has no text of a template."""
    assert done.status != 0, done.output
    found = CHECK.search(done.output)
    assert found, done.output
    assert "TASK [" not in found[1], done.output
    assert "secret-name" not in done.output
    return found[1]


@pytest.mark.parametrize("playbook", ROLES)
def test_each_variable_that_cannot_be_rendered_is_named_once(tmp_path: Path, playbook: str) -> None:
    """Several variables have each kind of failure, and the run ends before it contacts a cluster."""
    undefined, *names = sorted(spec_of(playbook).options)
    variables = dict(zip(names, itertools.cycle(FAILING.values()))) | {undefined: "{{ approved }}"}
    output = checked(run(tmp_path, playbook, variables))
    lines = output.splitlines()
    assert {name: lines.count(f"{name} cannot be rendered. Correct its template.") for name in names} == (
        dict.fromkeys(names, 1)
    )
    assert lines.count(f"{undefined} refers to a variable that is not defined.") == 1
    assert f"{undefined} cannot be rendered" not in output
    assert f"The list above has {len(names)} more." in output
    assert "object at 0x" not in output


def test_a_gate_that_cannot_be_rendered_ends_the_run(tmp_path: Path) -> None:
    """One wrong variable is enough."""
    output = checked(run(tmp_path, "upgrade", {"certflow_plan": FAILING["no template"]}))
    assert "certflow_plan cannot be rendered. Correct its template." in output


def test_a_pattern_that_cannot_be_rendered_ends_the_run(tmp_path: Path) -> None:
    """The default pattern would run on all clusters."""
    done = run(tmp_path, "upgrade", {}, "-e", f"certflow_hosts={MISSING_FILE!r}")
    assert done.status != 0
    assert "TASK [Install, renew" not in done.output


def test_a_role_names_its_variable_that_cannot_be_rendered(tmp_path: Path) -> None:
    """Without the text of the error, which may quote a secret."""
    variables = {**CONTEXT, **ROLES["upgrade"], "snapshot_controller_source": MISSING_FILE}
    role = {"ansible.builtin.import_role": {"name": "certflow.kubernetes.snapshot_controller"}}
    plays = [{"hosts": "localhost", "gather_facts": False, "vars": variables, "tasks": [role]}]
    done = play(tmp_path, plays, COLUMNS="2000")
    assert done.status != 0
    assert not absent(["snapshot_controller_source", "rendered."], done.output)
    assert "secret-name" not in done.output
