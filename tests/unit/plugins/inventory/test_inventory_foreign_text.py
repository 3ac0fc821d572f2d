# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ansible never renders foreign text as a template: names of contexts in plays, messages of API servers in playbooks.

The gates run this on every supported ansible-core. Versions before 2.19 render every text that looks like a template.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.api_server import ScriptedAnswer, serving
from tests.support.playbooks import playbook
from tests.unit.plugins.inventory.test_inventory_kubeconfig import config

MARK = "rendered"


def lookup(place: Path) -> str:
    """Return an expression that creates a file when it is rendered."""
    return f"lookup('pipe', 'touch {place / MARK}')"


def hostile(place: Path) -> dict[str, str]:
    return {
        "expression": f"{{{{ {lookup(place)} }}}}x",
        "statement": f"{{% set x = {lookup(place)} %}}x",
        "options": f"#jinja2:variable_start_string:'[[',variable_end_string:']]'\n[[ {lookup(place)} ]]",
        "terminal": "a\x1b]0;title\x07\u202eb",
        "path": "../../etc/x",
    }


# All variables in which a play gets the name of a host or of a group.
PLAY: list[dict[str, Any]] = [
    {
        "hosts": "all",
        "gather_facts": False,
        "tasks": [
            {"ansible.builtin.debug": {"msg": "{{ inventory_hostname }}"}},
            {"ansible.builtin.debug": {"msg": "{{ group_names }} {{ groups }} {{ hostvars.keys() | list }}"}},
            {
                "ansible.builtin.set_fact": {
                    "shown": "{{ inventory_hostname ~ ' of ' ~ (group_names | join(' ')) }}"
                }
            },
            {"ansible.builtin.debug": {"var": "shown"}},
            {
                "name": "Work on {{ inventory_hostname }}",
                "ansible.builtin.add_host": {"name": "{{ item }}", "groups": ["again"]},
                "loop": "{{ groups.all }}",
            },
            {"ansible.builtin.set_fact": {"rendered_context": "{{ certflow_context }}"}},
            {
                "ansible.builtin.copy": {
                    "content": "{{ ansible_play_hosts_all | map('extract', hostvars, 'rendered_context') | to_json }}",
                    "dest": "{{ playbook_dir }}/names.json",
                    "mode": "0600",
                },
                "run_once": True,
            },
        ],
    }
]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Create a directory with an inventory of hostile contexts that name an API server."""
    (tmp_path / "clusters.yml").write_text(
        yaml.safe_dump(
            {
                "plugin": "certflow.kubernetes.kubeconfig",
                "kubeconfig": ["kubeconfig"],
                "keyed_groups": [{"key": "certflow_context", "prefix": "of"}],
                "compose": {"composed": "certflow_context"},
            }
        )
    )
    return tmp_path


def test_names_of_hosts_and_groups(place: Path) -> None:
    contexts = ("plain", *hostile(place).values())
    (place / "kubeconfig").write_text(yaml.safe_dump(config(*contexts)))
    run = playbook.play(place, PLAY, "-i", "clusters.yml", COLUMNS="1000")
    assert not (place / MARK).exists(), run.output
    assert run.status == 0, run.output
    names = json.loads((place / "names.json").read_text())
    assert sorted(names) == sorted(contexts)  # certflow_context is the context as it is
    assert "\x1b]0" not in run.output
    assert "\u202e" not in run.output
    assert run.output.count("becomes the host") == len(contexts) - 1


def test_messages_of_an_api_server(place: Path) -> None:
    """Check the outcome, the report and the last play of the playbook."""
    said = f"{{{{ {lookup(place)} }}}} \x1b[2J"
    variables = {
        "webhook_certificate_service": "hook",
        "webhook_certificate_namespace": "shop",
        "webhook_certificate_signer_name": "example.com/serving",
        "webhook_certificate_secret": {"name": "hook-tls"},
        "certflow_max_failures": 9,
        "certflow_report": str(place / "report.json"),
    }
    answer = ScriptedAnswer(422, {"kind": "Status", "reason": "Invalid", "message": said})
    with serving(answer) as server:
        (place / "kubeconfig").write_text(
            yaml.safe_dump(config("plain", hostile(place)["expression"], server=server.url))
        )
        run = playbook.play(
            place,
            Path("certflow.kubernetes.certificates"),
            "-i",
            "clusters.yml",
            "--check",
            "-e",
            json.dumps(variables),
        )
        assert server.requests, run.output
    assert run.status != 0
    assert not (place / MARK).exists(), run.output
    assert lookup(place) in run.output
    assert "\x1b[2J" not in run.output
    report = (place / "report.json").read_text()
    assert "object-refused" in report
    assert lookup(place) in report
