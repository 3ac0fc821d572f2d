# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A file with several playbooks, of which a host fails in between, and the tags of a role. No cluster exists, and none is contacted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.playbooks.playbook import PlaybookRun, play, reports_in

ROOT = Path(__file__).parents[5]
REPAIR = {"ansible.builtin.import_playbook": str(ROOT / "playbooks" / "repair.yml")}
AUDIT = {"ansible.builtin.import_playbook": str(ROOT / "playbooks" / "audit.yml")}
#: The report of an audit that found nothing, so a repair contacts no cluster.
SOUND = {
    "format_version": "1.0",
    "kind": "audit",
    "made_at": "2026-11-28T10:00:00Z",
    "clusters": [
        {"name": name, "status": "ok", "reason": "", "findings": []} for name in ("first", "second")
    ],
}


def failing(*hosts: str) -> dict[str, Any]:
    task = {"ansible.builtin.fail": {}, "when": f"inventory_hostname in {list(hosts)}"}
    return {"hosts": "clusters", "gather_facts": False, "connection": "local", "tasks": [task]}


def run(directory: Path, *plays: dict[str, Any]) -> PlaybookRun:
    everywhere = {
        "certflow_kubeconfig": "kubeconfig",
        "certflow_context": "dead",
        "certflow_findings": SOUND,
        "certflow_run_file": str(directory / "run.jsonl"),
    }
    groups = {"clusters": {"hosts": {"first": {}, "second": {}}, "vars": everywhere}}
    (directory / "clusters.yml").write_text(json.dumps(groups))
    return play(directory, [*plays], "-i", "clusters.yml", HOME=str(directory))


@pytest.mark.parametrize(("failed", "runs"), [((), ["first", "second"]), (("second",), ["first"])])
def test_a_playbook_whose_hosts_have_failed_works_on_no_host(
    tmp_path: Path, failed: tuple[str, ...], runs: list[str]
) -> None:
    """The hosts of an earlier playbook of the file would get the work of this one."""
    first, second = ({**REPAIR, "vars": {"certflow_hosts": name}} for name in ("first", "second"))
    done = run(tmp_path, first, failing(*failed), second)
    assert bool(done.status) is bool(failed), done.output
    events = [json.loads(line) for line in (tmp_path / "run.jsonl").read_text().splitlines()]
    assert [event["cluster"] for event in events if event["event"] == "cluster-ended"] == runs, done.output


def test_an_audit_reports_no_earlier_result_of_a_host_that_failed_since(tmp_path: Path) -> None:
    """Its row would look like a result of this audit. The first play has what an earlier audit of the file leaves."""
    task = {"certflow.kubernetes.audit_info": {}, "register": "__certflow_audit", "failed_when": False}
    before = {"hosts": "clusters", "gather_facts": False, "connection": "local", "tasks": [task]}
    path = tmp_path / "report.json"
    done = run(tmp_path, before, failing("second"), {**AUDIT, "vars": {"certflow_report": str(path)}})
    assert path.exists(), done.output
    codes = {row["name"]: row["code"] for row in json.loads(path.read_text())["clusters"]}
    assert codes["first"] == "invalid-connection" != codes["second"]


@pytest.mark.parametrize(
    ("tags", "reading"),
    [
        ("all", []),
        ("plan,all", []),
        ("storage", []),
        ("verify", ["verify"]),
        ("tagged", ["plan", "verify"]),
    ],
)
def test_the_tags_of_an_upgrade_that_only_read(tmp_path: Path, tags: str, reading: list[str]) -> None:
    """Ansible's tag tagged selects the tasks of both tags, and no user means a write by it."""
    task = {
        "ansible.builtin.debug": {"msg": "REPORT {{ ['tags', __snapshot_controller_tags] | to_json }}"},
        "tags": ["always"],
    }
    variables = [str(ROOT / "roles" / "snapshot_controller" / "vars" / "main.yml")]
    plays = [{"hosts": "localhost", "gather_facts": False, "vars_files": variables, "tasks": [task]}]
    done = play(tmp_path, plays, "--tags", tags)
    assert reports_in(done.output) == {"tags": reading}, done.output
