# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run operations inside Ansible's process in jobs of ansible-runner: progress of a silent step, and cancelled jobs."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.support import leases, snapshot_kept
from tests.support.awx import jobs
from tests.support.awx.jobs import Job
from tests.support.snapshot_rig import release_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.clusters import Cluster, Fleet
    from tests.system.conftest import Runners

RELEASE = "8.1.0"
LEASE = "certflow-snapshot-controller"
# A step is silent for 30 seconds before its progress is printed.
SILENT_SECONDS = 35
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


def upgrade_job(directory: Path, cluster: Cluster, source: str, **options: Any) -> Job:
    """Return the job that runs the role snapshot_controller in Ansible's process."""
    project = directory / "project"
    project.mkdir(exist_ok=True)
    (project / "upgrade.yml").write_text(yaml.safe_dump(ROLE))
    variables = {
        "snapshot_controller_version": RELEASE,
        "snapshot_controller_source": source,
        "snapshot_controller_cache_directory": str(directory / "cache"),
        "snapshot_controller_backup_directory": "",
        "snapshot_controller_validation_webhook": False,
        "snapshot_controller_kubeconfig": str(cluster.kubeconfig),
        **{f"snapshot_controller_{name}": value for name, value in options.items()},
    }
    host = {
        "ansible_connection": "local",
        "ansible_python_interpreter": "{{ ansible_playbook_python }}",
        "certflow_kubernetes_execution_mode": "in_process",
    }
    return Job("upgrade.yml", {"prod": host}, variables, project)


def held_leases(cluster: Cluster) -> list[str]:
    names = [lease["metadata"]["name"] for lease in leases.leases(cluster, "kube-system")]
    return [name for name in names if name.startswith(LEASE)]


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
