# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run examples/awx as AWX does: an inventory update and a job through ansible-runner, with its own
ansible-core.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.support.failures import absent
from tools.ci import tree, venvs
from tools.ci.environments import AWX

if TYPE_CHECKING:
    from tests.support.clusters import Fleet

EXAMPLE = venvs.REPOSITORY / "examples" / "awx"
# The calls that AWX makes to ansible-runner inside the execution environment.
JOB = """
import json, sys, ansible_runner
place, ident, playbook, extra, kubeconfig = sys.argv[1:]
run = ansible_runner.interface.run(
    private_data_dir=place, ident=ident, playbook=playbook, inventory=place + "/inventory/hosts", quiet=True,
    extravars=json.loads(extra), envvars={"K8S_AUTH_KUBECONFIG": kubeconfig, "ANSIBLE_FORCE_COLOR": "false"},
)
print(json.dumps({"status": run.status, "rc": run.rc, "output": run.stdout.read(), "stats": run.stats,
    "artifacts": [e["event_data"].get("artifact_data") for e in run.events if e["event"] == "playbook_on_stats"]}))
"""


@pytest.fixture(scope="module")
def venv() -> Path:
    try:
        return venvs.ensure(AWX)
    except venvs.PythonUnavailable as problem:
        pytest.skip(str(problem))


def run(venv: Path, place: Path, *command: str, **variables: str) -> str:
    """Return the standard output of a program of AWX's environment."""
    environment = {**tree.environ(venv), **variables}
    command = (str(venv / "bin" / command[0]), *command[1:])
    done = subprocess.run(
        command, cwd=place, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Awx:
    """The private data directory of a job."""

    def __init__(self, venv: Path, place: Path, kubeconfig: str) -> None:
        self.venv = venv
        self.place = place
        self.kubeconfig = kubeconfig
        shutil.copytree(EXAMPLE, place / "project")
        (place / "inventory").mkdir()

    def credential(self, name: str) -> str:
        """Write the file that the credential type injects. Each job has its own file."""
        field = {"kubeconfig": self.kubeconfig}
        kind = yaml.safe_load((EXAMPLE / "credential-type.yml").read_text())
        assert kind["injectors"]["env"] == {"K8S_AUTH_KUBECONFIG": "{{ tower.filename }}"}
        assert kind["injectors"]["file"]["template"] == "{{ kubeconfig }}"
        path = self.place / "env" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(field["kubeconfig"])
        path.chmod(0o600)
        return str(path)

    def update_inventory(self) -> dict[str, Any]:
        credential = self.credential("tmp1")
        arguments = ("-i", "inventory/clusters.yml", "--list")
        project = self.place / "project"
        listed = run(self.venv, project, "ansible-inventory", *arguments, K8S_AUTH_KUBECONFIG=credential)
        Path(credential).unlink()
        # A job gets the inventory from AWX's database, through a program that prints it.
        script = self.place / "inventory" / "hosts"
        script.write_text(f"#!/bin/sh\ncat <<'END'\n{listed}END\n")
        script.chmod(0o700)
        return dict(json.loads(listed))

    def job(self, number: int, playbook: str, survey: str, **answers: str) -> dict[str, Any]:
        """Run a job with these answers to its survey, and the default for every other question."""
        spec = json.loads((EXAMPLE / survey).read_text())["spec"]
        # AWX leaves out a choice without an answer.
        asked = [question for question in spec if question["type"] != "multiselect" or question["default"]]
        extra = {question["variable"]: question["default"] for question in asked} | answers
        assert set(answers) <= {question["variable"] for question in spec}
        words = [
            str(number),
            playbook,
            json.dumps({**extra, "awx_job_id": number}),
            self.credential(f"tmp{number}"),
        ]
        output = run(self.venv, self.place / "project", "python", "-c", JOB, str(self.place), *words)
        return dict(json.loads(output.splitlines()[-1]))


def test_a_project_in_awx(fleet: Fleet, venv: Path, tmp_path: Path) -> None:
    awx = Awx(venv, tmp_path / "private", fleet.merged_kubeconfig.read_text())
    inventory = awx.update_inventory()
    assert set(inventory["_meta"]["hostvars"]) == set(fleet)
    answers = {"webhook_certificate_service": "awx-webhook", "webhook_certificate_namespace": "kube-system"}
    job = awx.job(71, "certificates.yml", "survey-certificates.json", **answers)
    assert (job["status"], job["rc"]) == ("successful", 0), job["output"]
    (artifacts,) = job["artifacts"]
    outcomes = artifacts["certflow_report_71"]
    assert {name: one["status"] for name, one in outcomes.items()} == dict.fromkeys(fleet, "changed")
    assert with_results(job) == set(fleet)
    for cluster in fleet.values():
        cluster.api("DELETE", "/api/v1/namespaces/kube-system/secrets/awx-webhook-tls")
    # The first cluster of the inventory is not in the pattern, so it must have no result.
    chosen = list(fleet)[-1]
    wrong = {
        "certflow_max_failures": "none",
        "snapshot_controller_version": "8.7.0",
        "certflow_hosts": chosen,
    }
    job = awx.job(72, "upgrade.yml", "survey-upgrade.json", **wrong)
    assert job["status"] == "failed"
    assert not absent(["certflow_max_failures"], job["output"])
    assert with_results(job) == {chosen}
    job = awx.job(73, "upgrade.yml", "survey-upgrade.json", snapshot_controller_version="8.9.9")
    assert job["status"] == "failed"
    assert not absent(["8.9.9"], job["output"])
    assert "unhandled exception" not in job["output"]
    job = awx.job(74, "certificates.yml", "survey-certificates.json", certflow_hosts=chosen)
    assert not absent(["webhook_certificate_service"], job["output"])
    assert with_results(job) == {chosen}


def with_results(job: dict[str, Any]) -> set[str]:
    """Return the hosts that AWX would count as hosts of the job."""
    return {host for kind in job["stats"].values() if isinstance(kind, dict) for host in kind}


def test_awx_refuses_an_empty_answer_to_a_required_question() -> None:
    for survey in EXAMPLE.glob("survey-*.json"):
        for question in json.loads(survey.read_text())["spec"]:
            assert question.get("min", 0) == int(question["required"]), question


def test_every_answer_of_a_survey_sets_a_variable_of_a_role_or_playbook() -> None:
    roles = ("webhook_certificate", "snapshot_controller")
    specs = [venvs.REPOSITORY / "roles" / role / "meta" / "argument_specs.yml" for role in roles]
    texts = [path.read_text() for path in (*specs, venvs.REPOSITORY / "playbooks" / "_fleet.yml")]
    for survey in EXAMPLE.glob("survey-*.json"):
        for question in json.loads(survey.read_text())["spec"]:
            assert any(re.search(rf"\b{question['variable']}\b", text) for text in texts), question


def test_the_execution_environment_can_be_described(venv: Path, tmp_path: Path) -> None:
    """Test the steps before the container: the build context, and the requirements of the collection."""
    run(
        venv,
        EXAMPLE,
        "ansible-builder",
        "create",
        "--output-filename",
        "Containerfile",
        "--context",
        str(tmp_path / "context"),
    )
    recipe = (tmp_path / "context" / "Containerfile").read_text()
    assert "python3.12" in recipe
    assert "ansible-core>=2.18,<2.19" in recipe
    python = (tmp_path / "context" / "_build" / "requirements.txt").read_text().split()
    assert [line.partition(">")[0] for line in python] == ["awscli"], "the program of EKS kubeconfigs"
    assert (tmp_path / "context" / "_build" / "requirements.yml").read_text() == (
        EXAMPLE / "collections" / "requirements.yml"
    ).read_text()
    installed = tmp_path / "installed" / "ansible_collections" / "certflow"
    installed.mkdir(parents=True)
    os.symlink(venvs.REPOSITORY, installed / "kubernetes")
    asked = yaml.safe_load(run(venv, tmp_path, "ansible-builder", "introspect", str(tmp_path / "installed")))
    wanted = (venvs.REPOSITORY / "meta" / "ee-requirements.txt").read_text().splitlines()
    found = {re.sub(r"\s*#.*", "", str(line)) for line in asked["python"]}
    assert found == {line for line in wanted if line and not line.startswith("#")}
