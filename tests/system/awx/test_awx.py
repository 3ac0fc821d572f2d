# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run examples/awx as AWX does: an inventory update and a job through ansible-runner, with its own
ansible-core.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.support.awx import example, surveys
from tests.support.failures import absent
from tests.support.webhooks import called_objects
from tests.support.webhooks.bundle_rig import pem
from tests.support.webhooks.repair_rig import RepairRig
from tools.ci import tree, venvs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.clusters import Fleet

# The calls that AWX makes to ansible-runner inside the execution environment.
JOB = """
import json, sys, ansible_runner
place, ident, playbook, extra, kubeconfig, options = sys.argv[1:]
run = ansible_runner.interface.run(
    private_data_dir=place, ident=ident, playbook=playbook, inventory=place + "/inventory/hosts", quiet=True,
    cmdline=options,
    extravars=json.loads(extra), envvars={"K8S_AUTH_KUBECONFIG": kubeconfig, "ANSIBLE_FORCE_COLOR": "false"},
)
print(json.dumps({"status": run.status, "rc": run.rc, "output": run.stdout.read(), "stats": run.stats,
    "artifacts": [e["event_data"].get("artifact_data") or {} for e in run.events if e["event"] == "playbook_on_stats"]}))
"""


def run(venv: Path, place: Path, *command: str, **variables: str) -> str:
    """Return the standard output of a program of AWX's environment."""
    environment = {**tree.environ(venv), **variables}
    command = (str(venv / "bin" / command[0]), *command[1:])
    done = subprocess.run(
        command, cwd=place, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def program(path: Path, text: str) -> Path:
    """Write a program that prints this text. AWX gives the hosts from its database in this way."""
    path.write_text(f"#!/bin/sh\ncat <<'END'\n{text}END\n")
    path.chmod(0o700)
    return path


class Awx:
    """The private data directory of a job."""

    def __init__(self, venv: Path, place: Path, kubeconfig: str) -> None:
        self.venv = venv
        self.place = place
        self.kubeconfig = kubeconfig
        shutil.copytree(example.FOLDER, place / "project")
        (place / "inventory").mkdir()

    def credential(self, name: str) -> str:
        """Write the file that the credential type injects. Each job has its own file."""
        injectors = example.named("credential_types", "certflow kubeconfig")["injectors"]
        assert injectors["env"] == {"K8S_AUTH_KUBECONFIG": "{{ tower.filename }}"}
        assert injectors["file"]["template"] == "{{ kubeconfig }}"
        path = self.place / "env" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(self.kubeconfig)
        path.chmod(0o600)
        return str(path)

    def update_inventory(self, canary: str) -> dict[str, Any]:
        """Update the inventory of the kubeconfig, and then the constructed one. Return the hosts and groups.

        canary: the condition for the group canary.
        """
        source, constructed = example.objects()["controller_inventory_sources"]
        credential = self.credential("tmp1")
        project = self.place / "project"
        command = ["ansible-inventory", "--list", "-i"]
        listed = run(self.venv, project, *command, source["source_path"], K8S_AUTH_KUBECONFIG=credential)
        Path(credential).unlink()
        folder = self.place / "inventory"
        script = program(folder / "kubeconfig", listed)
        rules = {**constructed["source_vars"], "groups": {"canary": canary}}
        (folder / "constructed.yml").write_text(yaml.safe_dump(rules))
        listed = run(self.venv, project, *command, str(script), "-i", str(folder / "constructed.yml"))
        program(folder / "hosts", listed)
        return dict(json.loads(listed))

    def job(self, number: int, template: str, extra: dict[str, Any], job_type: str = "run") -> Job:
        """Run a job of a template with these extra variables."""
        # AWX gives each job a directory of its own.
        for name in ("cmdline", "extravars"):
            (self.place / "env" / name).unlink(missing_ok=True)
        found = example.named("templates", template)
        variables = {**found.get("extra_vars", {}), **extra, "awx_job_id": number}
        words = [
            str(number),
            found["playbook"],
            json.dumps(variables),
            self.credential(f"tmp{number}"),
            "--check --diff" if job_type == "check" else "",
        ]
        output = run(self.venv, self.place / "project", "python", "-c", JOB, str(self.place), *words)
        return Job(**json.loads(output.splitlines()[-1]))

    def survey(self, number: int, template: str, **answers: str | list[str]) -> Job:
        """Run a job with these answers to its survey, and the default for every other question."""
        return self.job(number, template, surveys.extra_variables(example.questions(template), answers))


@dataclass(frozen=True)
class Job:
    """A job that has ended."""

    status: str
    rc: int
    output: str
    stats: dict[str, Any]
    artifacts: list[dict[str, Any]]

    @property
    def hosts(self) -> set[str]:
        """Return the hosts that AWX would count as hosts of the job."""
        return {host for kind in self.stats.values() if isinstance(kind, dict) for host in kind}

    def statuses(self, number: int) -> dict[str, str]:
        """Return the status of each cluster from the artifact."""
        (artifacts,) = self.artifacts
        return {name: artifact["status"] for name, artifact in artifacts[f"certflow_report_{number}"].items()}


@pytest.fixture(scope="module")
def awx(fleet: Fleet, venv: Path, tmp_path_factory: pytest.TempPathFactory) -> Awx:
    place = tmp_path_factory.mktemp("awx") / "private"
    made = Awx(venv, place, fleet.merged_kubeconfig.read_text())
    inventory = made.update_inventory(f"certflow_context == '{next(iter(fleet))}'")
    assert set(inventory["_meta"]["hostvars"]) == set(fleet)
    assert inventory["canary"]["hosts"] == [next(iter(fleet))]
    return made


WEBHOOK = "awx-webhook"
HOOKS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"


@pytest.fixture
def webhook(fleet: Fleet) -> Iterator[str]:
    """A webhook configuration on each cluster that calls the Service of another webhook. Its Secret is removed too."""
    hook = called_objects.webhook("awx.certflow.test", called_objects.service("kube-system", WEBHOOK))
    for cluster in fleet.values():
        cluster.api("POST", HOOKS, called_objects.configuration(WEBHOOK, hook))
    yield WEBHOOK
    for cluster in fleet.values():
        cluster.api("DELETE", f"{HOOKS}/{WEBHOOK}")
        secrets = cluster.api("GET", "/api/v1/namespaces/kube-system/secrets")["items"]
        if f"{WEBHOOK}-tls" in {secret["metadata"]["name"] for secret in secrets}:
            cluster.api("DELETE", f"/api/v1/namespaces/kube-system/secrets/{WEBHOOK}-tls")


def of_node(extra_data: dict[str, Any], template: str = "certflow certificates") -> dict[str, Any]:
    """Return what the job of a node gets from it: the answers that its survey asks for, and the defaults of the others."""
    spec = example.questions(template)
    return {**surveys.extra_variables(spec, {}), **surveys.accepted(spec, extra_data)}


def test_a_workflow(awx: Awx, fleet: Fleet, webhook: str) -> None:
    """Run the jobs of the workflow as AWX does: artifacts of the earlier jobs, then the answers to the survey."""
    workflow = example.named("workflows", "certflow certificates rollout")
    nodes = {node["identifier"]: node for node in workflow["workflow_nodes"]}
    answers = {
        "webhook_certificate_service": webhook,
        "certificate_targets": f"ValidatingWebhookConfiguration/{webhook}\n\n",
        "webhook_certificate_discover_targets": "false",
    }
    asked = surveys.extra_variables(workflow["survey_spec"]["spec"], answers)
    artifacts: dict[str, Any] = {}
    seen: dict[str, dict[str, str]] = {}
    for number, name in enumerate(("check", "canary", "fleet"), 81):
        extra = {**of_node(nodes[name]["extra_data"]), **artifacts, **asked}
        job = awx.job(number, "certflow certificates", extra, nodes[name].get("job_type", "run"))
        assert job.status == "successful", job.output
        artifacts |= job.artifacts[0]
        seen[name] = job.statuses(number)
        assert artifacts[f"certflow_report_{name}"]["counts"] == dict(Counter(seen[name].values()))
    first, second = fleet
    assert seen == {
        "check": {first: "planned", second: "planned"},
        "canary": {first: "changed"},
        "fleet": {first: "ok", second: "changed"},
    }
    for cluster in fleet.values():
        assert cluster.api("GET", f"{HOOKS}/{webhook}")["webhooks"][0]["clientConfig"]["caBundle"]
    report = {**artifacts, **asked}
    job = awx.job(84, "certflow report", report)
    assert job.status == "successful", job.output
    assert set(re.findall(r'"(\S+):\s(\w+)"', job.output)) == {(first, "ok"), (second, "changed")}
    # A node of which the parent ended in an error gets no artifact of it.
    del report["certflow_report_fleet"], artifacts["certflow_report_canary"]
    assert awx.job(85, "certflow report", report).status == "failed"
    extra = {**of_node(nodes["fleet"]["extra_data"]), **artifacts, **asked}
    job = awx.job(86, "certflow certificates", extra)
    assert job.status == "failed"
    assert not absent(["certflow_required_job", "certflow_report_canary"], job.output)
    assert job.hosts == {first}


def test_wrong_answers_are_named_before_any_cluster_is_contacted(awx: Awx, fleet: Fleet) -> None:
    # The first cluster of the inventory is not in the pattern, so it must have no result.
    chosen = list(fleet)[-1]
    answers = {
        "certflow_max_failures": "none",
        "snapshot_controller_version": "8.7.0",
        "certflow_hosts": chosen,
    }
    job = awx.survey(72, "certflow upgrade", **answers)
    assert job.status == "failed"
    assert not absent(["certflow_max_failures"], job.output)
    assert job.hosts == {chosen}
    job = awx.survey(73, "certflow upgrade", snapshot_controller_version="8.9.9")
    assert job.status == "failed"
    assert not absent(["8.9.9"], job.output)
    assert "unhandled exception" not in job.output
    wrong = {"certflow_hosts": chosen, "certificate_targets": 'Pod/x\nhook\nCustomResourceDefinition/"'}
    job = awx.survey(74, "certflow certificates", **wrong)
    assert not absent(
        ["webhook_certificate_service", "targets[0].kind", "targets[1]", "targets[2]"], job.output
    )
    assert job.hosts == {chosen}


def test_an_audit(awx: Awx, fleet: Fleet, tmp_path: Path) -> None:
    extra = surveys.extra_variables(example.questions("certflow audit"), {"certflow_fail_on": "never"})
    job = awx.job(75, "certflow audit", {**extra, "certflow_report": [str(tmp_path / "audit.json")]})
    assert job.status == "successful", job.output
    assert job.artifacts[0]["certflow_audit"]
    assert job.hosts == set(fleet)
    assert (tmp_path / "audit.json").exists()


def test_a_plan_of_repairs_and_its_job(awx: Awx, fleet: Fleet) -> None:
    """The answer to the question about the plan is the text of the artifact."""
    questions = example.questions("certflow repair")
    extra = surveys.extra_variables(questions, {"certflow_job_name": "plan"})
    job = awx.job(76, "certflow repair", extra, "check")
    assert job.status == "successful", job.output
    plan = job.artifacts[0]["certflow_report_plan"]["plan"]
    assert set(plan["clusters"]) == set(fleet)
    extra = surveys.extra_variables(questions, {"certflow_plan": json.dumps(plan)})
    job = awx.job(77, "certflow repair", extra)
    assert job.status == "successful", job.output
    assert set(job.statuses(77)) == set(fleet)


@pytest.mark.full
def test_a_workflow_repairs_what_the_audit_found(awx: Awx, fleet: Fleet, tmp_path: Path) -> None:
    """An audit, the plan, and after each approval the canary and the fleet. A second audit has no such finding."""
    workflow = example.named("workflows", "certflow repair rollout")
    nodes = {node["identifier"]: node for node in workflow["workflow_nodes"]}
    questions = example.questions("certflow audit")
    # The server of the test is an address outside of the cluster.
    options = {"certflow_audit_options": {"probe_urls": True}}
    repair_options = {"certflow_repair_options": {"probe_urls": True, "proof_after": 1, "wait_timeout": 30}}
    first, second = fleet
    with contextlib.closing(RepairRig(fleet[first])) as rig:
        rig.publish(pem("good"))
        broken = rig.broken("workflow")

        def audit(number: int) -> set[str]:
            path = tmp_path / f"{number}.json"
            extra = surveys.extra_variables(questions, {"certflow_fail_on": "never"})
            job = awx.job(number, "certflow audit", {**extra, **options, "certflow_report": [str(path)]})
            assert job.status == "successful", job.output
            rows = {row["name"]: row["findings"] for row in json.loads(path.read_text())["clusters"]}
            return {
                row["check"]
                for row in rows[first]
                if row["object"].get("name") == broken and row["status"] == "fail"
            }

        assert "ca-mismatch" in audit(91)
        asked = surveys.extra_variables(workflow["survey_spec"]["spec"], {})
        artifacts: dict[str, Any] = {}
        seen: dict[str, dict[str, str]] = {}
        for number, name in enumerate(("check", "canary", "fleet"), 92):
            node = of_node(nodes[name]["extra_data"], "certflow repair")
            extra = {**node, **repair_options, **artifacts, **asked}
            job = awx.job(number, "certflow repair", extra, nodes[name].get("job_type", "run"))
            assert job.status == "successful", job.output
            artifacts |= job.artifacts[0]
            seen[name] = job.statuses(number)
        assert seen == {
            "check": {first: "planned", second: "planned"},
            "canary": {first: "changed"},
            "fleet": {first: "ok", second: "ok"},
        }
        assert "ca-mismatch" not in audit(95)


def test_the_execution_environment_can_be_described(venv: Path, tmp_path: Path) -> None:
    """Test the steps before the container: the build context, and the requirements of the collection."""
    run(
        venv,
        example.FOLDER,
        "ansible-builder",
        "create",
        "--output-filename",
        "Containerfile",
        "--context",
        str(tmp_path / "context"),
    )
    recipe = (tmp_path / "context" / "Containerfile").read_text()
    assert "python3.12" in recipe
    assert "ansible-core>=2.21,<2.22" in recipe
    python = (tmp_path / "context" / "_build" / "requirements.txt").read_text().split()
    assert [line.partition(">")[0] for line in python] == ["awscli", "tzdata"]
    assert (tmp_path / "context" / "_build" / "requirements.yml").read_text() == (
        example.FOLDER / "collections" / "requirements.yml"
    ).read_text()
    installed = tmp_path / "installed" / "ansible_collections" / "certflow"
    installed.mkdir(parents=True)
    os.symlink(venvs.REPOSITORY, installed / "kubernetes")
    asked = yaml.safe_load(run(venv, tmp_path, "ansible-builder", "introspect", str(tmp_path / "installed")))
    wanted = (venvs.REPOSITORY / "meta" / "ee-requirements.txt").read_text().splitlines()
    found = {re.sub(r"\s*#.*", "", str(line)) for line in asked["python"]}
    assert found == {line for line in wanted if line and not line.startswith("#")}
