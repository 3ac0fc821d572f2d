# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Kubeconfigs of EKS log in through the program `aws`, once in a run of ansible-playbook."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.support.clusters import aws_tokens
from tests.support.failures import absent
from tests.support.playbooks import aws_program, playbook

if TYPE_CHECKING:
    from tests.support import clusters
    from tests.support.playbooks.aws_program import AwsProgram

HOSTS = 6


@dataclass
class LoginRig:
    cluster: clusters.Cluster
    aws: AwsProgram
    tokens: list[str]
    directory: Path

    def kubeconfig(self, **changed: str) -> str:
        """Write a kubeconfig of EKS, and return its path."""
        ca = base64.b64encode(self.cluster.ca_pem.encode()).decode()
        path = self.directory / f"{'-'.join(changed.values()) or 'usual'}.kubeconfig"
        path.write_text(yaml.safe_dump(aws_program.kubeconfig(self.cluster.url, ca, **changed)))
        return str(path)

    def play(self, hosts: dict[str, dict[str, Any]], *tasks: dict[str, Any]) -> playbook.PlaybookRun:
        """Run tasks on hosts, all at the same time."""
        inventory = self.directory / "inventory.yml"
        inventory.write_text(yaml.safe_dump({"all": {"hosts": hosts, "vars": _LOCAL}}))
        plays = [{"hosts": "all", "gather_facts": False, "tasks": list(tasks)}]
        path = f"{self.aws.path}{os.pathsep}{os.environ['PATH']}"
        return playbook.play(self.directory, plays, "-i", str(inventory), "--forks", str(HOSTS), PATH=path)


_LOCAL = {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}
READ_UID: dict[str, Any] = {
    "certflow.kubernetes.k8s_csr_info": {"kubeconfig": "{{ config }}", "gather": ["cluster"]},
    "register": "info",
}
HAS_UID: dict[str, Any] = {"ansible.builtin.assert": {"that": "info.cluster_uid | length == 36"}}


@pytest.fixture
def rig(fleet: clusters.Fleet, tmp_path: Path) -> LoginRig:
    cluster = fleet["eks"]
    tokens = aws_tokens.read(cluster.directory / "pki")
    aws = aws_program.install(tmp_path / "aws", tokens)
    return LoginRig(cluster, aws, tokens, tmp_path)


def test_a_run_logs_in_once(rig: LoginRig) -> None:
    hosts = {f"h{number}": {"config": rig.kubeconfig()} for number in range(HOSTS)}
    before = len(rig.cluster.requests(user=aws_tokens.ROLE))
    done = rig.play(hosts, READ_UID, HAS_UID, READ_UID)
    assert done.status == 0, done.output
    assert [run[2:4] for run in rig.aws.runs()] == [["eks", "get-token"]]
    assert len(rig.cluster.requests(user=aws_tokens.ROLE)) - before >= 2 * HOSTS
    assert not any(token in done.output for token in rig.tokens)
    files = [path for path in rig.directory.rglob("*") if path.is_file() and path.parent != rig.aws.directory]
    assert not any(rig.tokens[0].encode() in path.read_bytes() for path in files)


def test_a_token_that_expires_soon_is_renewed(rig: LoginRig) -> None:
    rig.aws.reset(rig.tokens[:2], lifetime_seconds=30)
    done = rig.play({"h": {"config": rig.kubeconfig()}}, READ_UID, READ_UID, HAS_UID)
    assert done.status == 0, done.output
    assert len(rig.aws.runs()) >= 2


def test_a_refused_token_is_renewed(rig: LoginRig) -> None:
    rig.aws.reset([aws_tokens.make_token(), rig.tokens[0]])
    done = rig.play({"h": {"config": rig.kubeconfig()}}, READ_UID, HAS_UID, READ_UID)
    assert done.status == 0, done.output
    assert len(rig.aws.runs()) == 2


#: Profile -> the code of the failure, and a name or number that its line must show.
FAILURES = {
    "missing": ("authentication-failed", "'certflow-no-such-aws'"),
    "signed-out": ("authentication-failed", "253"),
    "chatty": ("authentication-failed", "'aws'"),
    "outdated": ("authentication-failed", "client.authentication.k8s.io/v1alpha1"),
    "no-such-profile": ("authentication-failed", "no-such-profile"),
}


def test_each_failure_of_the_program_is_one_line_without_the_token(rig: LoginRig) -> None:
    configs = {name: rig.kubeconfig(profile=name) for name in FAILURES if name != "missing"}
    configs["missing"] = rig.kubeconfig(command="certflow-no-such-aws")
    show = {
        "ansible.builtin.copy": {
            "dest": str(rig.directory / "{{ inventory_hostname }}.json"),
            "content": "{{ {'code': info.code, 'msg': info.msg} | to_json }}",
        }
    }
    hosts = {name: {"config": path} for name, path in configs.items()}
    done = rig.play(hosts, {**READ_UID, "ignore_errors": True}, show)
    assert done.status == 0, done.output
    for name, (code, name_shown) in FAILURES.items():
        found = yaml.safe_load((rig.directory / f"{name}.json").read_text())
        assert found["code"] == code, found
        assert not absent([name_shown], found["msg"])
        assert "\n" not in found["msg"]
    assert not any(token in done.output for token in rig.tokens)
