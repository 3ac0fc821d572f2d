# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run operations inside Ansible's process in jobs of ansible-runner: a silent step, cancelled jobs, artifacts, failed hosts."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.support import api_server, leases
from tests.support.api_server import ScriptedAnswer
from tests.support.awx import example, jobs
from tests.support.awx.jobs import Job, RunningJob
from tests.support.failures import absent
from tests.support.upgrade import snapshot_kept, snapshot_lab, snapshot_pods
from tests.support.upgrade.snapshot_rig import release_server
from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.support.clusters import Cluster, Fleet
    from tests.system.conftest import Runners

RELEASE = "8.1.0"
LEASE = "certflow-snapshot-controller"
RECORD = "certflow.kubernetes/upgrade"
# A step is silent for 30 seconds before its progress is printed.
SILENT_SECONDS = 35
HOST = {
    "ansible_connection": "local",
    "ansible_python_interpreter": "{{ ansible_playbook_python }}",
    "__certflow_execution_mode": "in_process",
}
SERVICE, FLEET_SERVICE = "cancelled-webhook", "job-webhook"
REQUESTS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
ROLE = [{"hosts": "all", "gather_facts": False, "roles": ["certflow.kubernetes.snapshot_controller"]}]


@pytest.fixture(scope="module")
def source() -> Iterator[str]:
    with release_server(RELEASE) as url:
        yield url


@pytest.fixture(scope="module")
def empty(fleet: Fleet) -> Iterator[Fleet]:
    """The clusters without a snapshot controller."""
    for cluster in fleet.values():
        snapshot_kept.remove(cluster)
    yield fleet
    for cluster in fleet.values():
        snapshot_kept.remove(cluster)


@pytest.fixture
def _no_secrets_left(fleet: Fleet) -> Iterator[None]:
    """Remove the Secrets of the jobs after the test."""
    yield
    names = [f"{name}-tls" for name in (SERVICE, FLEET_SERVICE)]
    for cluster in fleet.values():
        snapshot_lab.kubectl(cluster, "delete", "secret", "--ignore-not-found", "-n=kube-system", *names)


def upgrade_job(directory: Path, cluster: Cluster, source: str, **options: Any) -> Job:
    """Return the job that runs the role snapshot_controller in Ansible's process."""
    project = directory / "project"
    project.mkdir(exist_ok=True)
    (project / "upgrade.yml").write_text(yaml.safe_dump(ROLE))
    variables = {
        "snapshot_controller_version": RELEASE,
        "snapshot_controller_source": source,
        "snapshot_controller_cache_directory": str(directory / "cache"),
        "snapshot_controller_backup": "",
        "snapshot_controller_validation_webhook": False,
        "snapshot_controller_kubeconfig": str(cluster.kubeconfig),
        **{f"snapshot_controller_{name}": value for name, value in options.items()},
    }
    return Job("upgrade.yml", {"prod": HOST}, variables, project)


def held_leases(cluster: Cluster) -> list[str]:
    names = [lease["metadata"]["name"] for lease in leases.leases(cluster, "kube-system")]
    return [name for name in names if name.startswith("certflow-")]


def step_of(cluster: Cluster) -> str:
    """Return the step of the upgrade that holds the Lease, "" if no upgrade does."""
    for lease in leases.leases(cluster, "kube-system"):
        annotations = lease["metadata"].get("annotations") or {}
        if lease["metadata"]["name"] == LEASE and RECORD in annotations:
            return str(json.loads(annotations[RECORD])["step"])
    return ""


def test_a_silent_step_ends(empty: Fleet, source: str, runners: Runners, tmp_path: Path) -> None:
    """The clusters have no node, so the step that waits for the pods fails at its time limit."""
    with contextlib.ExitStack() as stack:
        running = []
        for number, (runner, cluster) in enumerate(zip(runners, empty.values(), strict=True)):
            task = upgrade_job(tmp_path, cluster, source, step_timeout=SILENT_SECONDS)
            running.append(stack.enter_context(jobs.start(tmp_path, task, runner, number=number)))
        for job in running:
            assert job.wait(120) == "failed", job.output()
            # The step is shown while it works, and at its end.
            shown = re.findall(r"^prod\s\s(\d+/\d+)\s\s", job.output(), re.MULTILINE)
            assert shown[-1:] == shown[-2:-1] != [], job.output()
            assert [result["code"] for result in job.results("prod") if result.get("code")] == [
                "rollout-failed"
            ]
            assert job.processes() == []
    assert [held_leases(cluster) for cluster in empty.values()] == [[], []]


def certificate_job(directory: Path, cluster: Cluster) -> Job:
    """Return the job that requests a certificate and waits for its approval, in Ansible's process."""
    project = directory / "project"
    project.mkdir(exist_ok=True)
    role = "certflow.kubernetes.webhook_certificate"
    (project / "certificate.yml").write_text(
        yaml.safe_dump([{"hosts": "all", "gather_facts": False, "roles": [role]}])
    )
    variables = {
        "webhook_certificate_service": SERVICE,
        "webhook_certificate_namespace": "kube-system",
        "webhook_certificate_secret": {"name": f"{SERVICE}-tls"},
        "webhook_certificate_approve": False,
        "webhook_certificate_wait_timeout": 600,
        "webhook_certificate_kubeconfig": str(cluster.kubeconfig),
    }
    return Job("certificate.yml", {"prod": HOST}, variables, project)


def requests_of(cluster: Cluster) -> list[str]:
    """Return the names of the requests for the certificate."""
    items = cluster.api("GET", REQUESTS)["items"]
    return [item["metadata"]["name"] for item in items if SERVICE in item["metadata"]["name"]]


@pytest.mark.usefixtures("_no_secrets_left")
def test_the_next_job_completes_cancelled_jobs(
    empty: Fleet, source: str, runners: Runners, tmp_path: Path
) -> None:
    """One job upgrades a cluster, the other one waits for a certificate on another cluster."""
    upgraded, certified = empty.values()
    snapshot_kept.remove(upgraded)
    tasks = upgrade_job(tmp_path, upgraded, source), certificate_job(tmp_path, certified)
    with contextlib.ExitStack() as stack:
        started = [
            stack.enter_context(jobs.start(tmp_path, task, runners.newest, number=number))
            for number, task in enumerate(tasks, 1)
        ]
        wait_for(lambda: step_of(upgraded) == "controller-wait", evidence=started[0].output)
        wait_for(lambda: requests_of(certified), evidence=started[1].output)
        assert [job.cancel() for job in started] == ["canceled", "canceled"]
        assert [job.artifacts() for job in started] == [{}, {}]
        # ansible-playbook is killed. Its workers see this at their next request.
        wait_for(lambda: not any(job.processes() for job in started), 30)
    for cluster in (upgraded, certified):
        leases.lapse(cluster, "kube-system", starting="certflow")
    (request,) = requests_of(certified)
    snapshot_lab.kubectl(certified, "certificate", "approve", request)
    with snapshot_pods.running(upgraded, RELEASE), contextlib.ExitStack() as stack:
        started = [
            stack.enter_context(jobs.start(tmp_path, task, runners.newest, number=number))
            for number, task in enumerate(tasks, 3)
        ]
        assert [job.wait(120) for job in started] == ["successful", "successful"], [
            job.output() for job in started
        ]
    assert requests_of(certified) == [request]
    assert [held_leases(cluster) for cluster in (upgraded, certified)] == [[], []]


# Artifacts of fleet runs, and the jobs after them

SIGNER = "kubernetes.io/kubelet-serving"
EVIL = "{{ lookup('ansible.builtin.pipe', 'touch evaluated') }}"
SHOW = [
    {
        "hosts": "localhost",
        "gather_facts": False,
        "tasks": [{"ansible.builtin.debug": {"var": "certflow_report_1"}}],
    },
    {"ansible.builtin.import_playbook": "report.yml"},
]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The project of examples/awx, with a playbook that shows the artifact of the first job before the report."""
    folder = tmp_path / "project"
    shutil.copytree(example.FOLDER, folder)
    (folder / "show.yml").write_text(yaml.safe_dump(SHOW))
    return folder


def fleet_job(project: Path, kubeconfigs: Mapping[str, Path], **options: Any) -> Job:
    """Return the job of examples/awx that issues a certificate on each cluster. options: more extra variables."""
    hosts = {name: {"certflow_kubeconfig": str(path)} for name, path in kubeconfigs.items()}
    variables = {
        "certflow_hosts": "all",
        "certflow_job_name": "fleet",
        "webhook_certificate_service": FLEET_SERVICE,
        "webhook_certificate_namespace": "kube-system",
        **options,
    }
    return Job("certificates.yml", hosts, variables, project)


def next_job(project: Path, *artifacts: Mapping[str, Any]) -> Job:
    """Return the job that gets the artifacts of other jobs as extra variables, and reports them."""
    variables: dict[str, Any] = {"certflow_required_job": "fleet"}
    for artifact in artifacts:
        variables |= artifact
    return Job("show.yml", {"localhost": {"ansible_connection": "local"}}, variables, project)


def shown_statuses(job: RunningJob) -> set[tuple[str, str]]:
    """Return the clusters and statuses that the report job shows."""
    return set(re.findall(r'"([\w-]+):\s(\w+)"', job.output()))


def refusing_kubeconfig(path: Path, url: str) -> Path:
    """Write a kubeconfig of a server."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "evil", "cluster": {"server": url}}],
        "users": [{"name": "evil", "user": {"token": "t" * 8}}],
        "contexts": [{"name": "evil", "context": {"cluster": "evil", "user": "evil"}}],
        "current-context": "evil",
    }
    path.write_text(json.dumps(content))
    return path


def test_an_artifact_is_no_template_in_the_next_job(project: Path, runners: Runners, tmp_path: Path) -> None:
    refusal = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "reason": "Invalid",
        "message": EVIL,
    }
    with api_server.serving(ScriptedAnswer(422, refusal)) as server:
        kubeconfig = refusing_kubeconfig(tmp_path / "kubeconfig", server.url)
        task = fleet_job(project, {"evil": kubeconfig}, webhook_certificate_signer_name=SIGNER)
        with jobs.start(tmp_path, task, runners.newest) as job:
            assert job.wait(120) == "failed", job.output()
            artifact = job.artifacts()
    assert artifact["certflow_report_1"]["evil"]["status"] == "failed", artifact
    assert not absent(["lookup('ansible.builtin.pipe',"], artifact["certflow_report_1"]["evil"]["reason"])
    with jobs.start(tmp_path, next_job(project, artifact), runners.newest, number=2) as job:
        assert job.wait(120) == "failed", job.output()
        assert shown_statuses(job) == {("evil", "failed")}
        assert not absent(["lookup('ansible.builtin.pipe',"], job.output())
    assert list(tmp_path.rglob("evaluated")) == []


@pytest.mark.full
@pytest.mark.usefixtures("_no_secrets_left")
def test_slices_run_at_once_and_one_report_has_both(
    fleet: Fleet, project: Path, runners: Runners, tmp_path: Path
) -> None:
    kubeconfigs = {name: cluster.kubeconfig for name, cluster in fleet.items()}
    with contextlib.ExitStack() as stack:
        slices = []
        for number, (name, path) in enumerate(kubeconfigs.items(), 1):
            task = fleet_job(project, {name: path})
            slices.append(stack.enter_context(jobs.start(tmp_path, task, runners.newest, number=number)))
        assert [job.wait(180) for job in slices] == ["successful"] * 2, [job.output() for job in slices]
        artifacts = [job.artifacts() for job in slices]
    with jobs.start(tmp_path, next_job(project, *artifacts), runners.newest, number=3) as job:
        assert job.wait(120) == "successful", job.output()
        assert shown_statuses(job) == {(name, "changed") for name in kubeconfigs}


@pytest.mark.full
@pytest.mark.usefixtures("_no_secrets_left")
def test_a_relaunch_on_failed_hosts_runs_only_them(
    fleet: Fleet, project: Path, runners: Runners, tmp_path: Path
) -> None:
    """One cluster is repaired before the relaunch, the other one is still down."""
    down = refusing_kubeconfig(tmp_path / "down", "http://127.0.0.1:9")
    repaired = shutil.copy(down, tmp_path / "repaired")
    well, other = (cluster.kubeconfig for cluster in fleet.values())
    kubeconfigs = {"well": well, "down": down, "repaired": Path(repaired)}
    task = fleet_job(project, kubeconfigs, certflow_max_failures=3)
    with jobs.start(tmp_path, task, runners.newest) as job:
        assert job.wait(180) == "failed", job.output()
        assert statuses(job, 1) == {"well": "changed", "down": "unreachable", "repaired": "unreachable"}
    Path(repaired).write_text(other.read_text())
    again = replace(task, arguments="--limit down,repaired")
    with jobs.start(tmp_path, again, runners.newest, number=2) as job:
        assert job.wait(180) == "failed", job.output()
        assert statuses(job, 2) == {"down": "unreachable", "repaired": "changed"}


def statuses(job: RunningJob, number: int) -> dict[str, str]:
    """Return the status of each cluster from the artifact of a fleet run."""
    return {name: row["status"] for name, row in job.artifacts()[f"certflow_report_{number}"].items()}
