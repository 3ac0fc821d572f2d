# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run every playbook from an installed copy that has only meta, plugins, playbooks and roles.

The inclusion rules of Ansible let a playbook use only these folders. Each playbook runs until its first contact with a cluster,
or for an upgrade with the source of the release. Neither answers, and the run has to say so.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.pages import collection_copy
from tools.ci import tree
from tools.ci.venvs import REPOSITORY

PLAYBOOKS = sorted(path.stem for path in REPOSITORY.glob("playbooks/[!_]*.yml"))
#: Variables of all playbooks: the required ones of the roles, and a server that does not answer.
VARIABLES: dict[str, Any] = {
    "certflow_context": "absent",
    "certflow_fail_on": "never",
    "webhook_certificate_service": "hook",
    "webhook_certificate_namespace": "demo",
    "webhook_certificate_secret": {"name": "hook-tls"},
    "snapshot_controller_version": "8.7.0",
    "snapshot_controller_source": "https://127.0.0.1:1",
}
SERVER = "https://127.0.0.1:1"
KUBECONFIG = {
    "clusters": [{"name": "a", "cluster": {"server": SERVER}}],
    "users": [{"name": "a", "user": {"token": "not-a-token"}}],
    "contexts": [{"name": "absent", "context": {"cluster": "a", "user": "a"}}],
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("installed")
    collection_copy.make(place)
    return place


@pytest.mark.parametrize("name", PLAYBOOKS)
def test_a_playbook_needs_no_other_folder(name: str, installed: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    (tmp_path / "kubeconfig").write_text(json.dumps(KUBECONFIG))
    variables = {**VARIABLES, "certflow_kubeconfig": str(tmp_path / "kubeconfig")}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"clusters": {"hosts": {"a": variables}}}))
    program = Path(sys.executable).with_name("ansible-playbook")
    words = ["-i", "hosts.yml", f"certflow.kubernetes.{name}", "--check", "-e", f"certflow_report={report}"]
    run = subprocess.run(
        [str(program), *words],
        cwd=tmp_path,
        env={
            **tree.environ(Path(sys.prefix)),
            "ANSIBLE_COLLECTIONS_PATH": str(installed),
            "PYTHONPATH": str(installed),
            "HOME": str(tmp_path),
            "NO_PROXY": "*",
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    written = report.read_text() if report.exists() else ""
    assert "Connection refused" in run.stdout + written, run.stdout + run.stderr
    assert str(REPOSITORY) not in run.stdout + run.stderr
