# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Issue certificates on a machine whose crypto policy lacks MD5, SHA-1 and Ed25519. See tests/support/crypto_policy."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.release import __version__ as ansible_version

from tests.support import crypto_policy
from tests.support.certificates.csr_rig import CsrRig
from tests.support.clusters import Cluster
from tests.support.playbooks import playbook

POLICY = str(Path(next(iter(crypto_policy.__path__))))
PYTHONPATH = os.pathsep.join([POLICY, os.environ.get("PYTHONPATH", "")])


@pytest.fixture
def rig(cluster: Cluster) -> Iterator[CsrRig]:
    rig = CsrRig(cluster)
    try:
        yield rig
    finally:
        rig.close()


@pytest.mark.parametrize(
    "code",
    [
        "import hashlib; hashlib.sha1()",
        "import hashlib; hashlib.new('md5')",
        "from cryptography.hazmat.primitives import hashes; hashes.Hash(hashes.SHA1())",
        "from cryptography.hazmat.primitives.asymmetric import ed25519; ed25519.Ed25519PrivateKey.generate()",
    ],
)
def test_the_policy_lacks_an_algorithm(code: str) -> None:
    for path, status in ((PYTHONPATH, 1), (os.environ.get("PYTHONPATH", ""), 0)):
        environment = {**os.environ, "PYTHONPATH": path}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=False)
        assert done.returncode == status, done.stderr


@pytest.mark.skipif(
    tuple(map(int, ansible_version.split(".")[:2])) < (2, 19),
    reason="ansible-core before 2.19 needs SHA-1 itself, for its placeholder of omit",
)
@pytest.mark.parametrize("mode", ["in_process", "module"])
def test_certificates_under_the_policy(rig: CsrRig, tmp_path: Path, mode: str) -> None:
    """The cluster's signer and the ephemeral CA work. A key that the policy lacks is one clear failure."""
    options: dict[str, Any] = {
        "kubeconfig": str(rig.kubeconfig),
        "service": "hook",
        "namespace": rig.name,
        "targets": [rig.hook()],
        "secret": {"name": "hook-tls"},
    }
    cluster_signed = {**options, "signer_name": rig.signer}
    own = {**options, "signer_name": "ephemeral-ca", "secret": {"name": "own-tls"}}
    rows: list[tuple[str, dict[str, Any], str]] = [
        ("k8s_csr", cluster_signed, "is changed"),
        ("k8s_csr", cluster_signed, "is not changed"),
        ("k8s_csr", own, "is changed"),
        ("k8s_csr", {**own, "key_type": "ed25519", "renew_before": "300d"}, ".code == 'invalid-certificate'"),
        ("k8s_csr_info", {"kubeconfig": options["kubeconfig"]}, "is not changed"),
    ]
    tasks: list[dict[str, Any]] = []
    for module, arguments, expected in rows:
        task = {f"certflow.kubernetes.{module}": arguments, "register": "result", "ignore_errors": True}
        condition = (
            f"result{expected}" if expected.startswith(".") else f"result {expected} and result is not failed"
        )
        tasks += [task, {"ansible.builtin.assert": {"that": [condition]}}]
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "vars": {"__certflow_execution_mode": mode},
        "tasks": tasks,
    }
    run = playbook.play(tmp_path, [play], "-v", PYTHONPATH=PYTHONPATH)
    assert run.status == 0, run.output
