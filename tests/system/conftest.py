# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The clusters that all tests here share: one like on-prem, one like EKS, and one with a real node."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, NamedTuple

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.client import Client
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.login.kubeconfig import resolve
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade import engine

from tests.support import clusters
from tests.support.certificates.csr_rig import CsrRig
from tools.ci import venvs
from tools.ci.environments import AWX, OLD_RUNNER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Runners(NamedTuple):
    """Environments of ansible-runner. They start the ansible-playbook of the tests."""

    #: The last one that waits for the lock of the display in a worker.
    old: Path
    newest: Path


@pytest.fixture(scope="session")
def fleet() -> Iterator[clusters.Fleet]:
    """Clusters `onprem` and `eks`, started at the first use. What a test creates, it names uniquely or removes."""
    with clusters.running({"onprem": "onprem", "eks": "eks"}) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def cluster(fleet: clusters.Fleet) -> clusters.Cluster:
    """Return the cluster of tests that need only one. A file may have a fixture of this name of its own."""
    return fleet["onprem"]


@pytest.fixture
def rig(fleet: clusters.Fleet) -> Iterator[CsrRig]:
    """Return the rig of certificates on the cluster onprem. A file may have a fixture of this name of its own."""
    with contextlib.closing(CsrRig(fleet["onprem"])) as rig:
        yield rig


@pytest.fixture
def eks(fleet: clusters.Fleet) -> Iterator[CsrRig]:
    with contextlib.closing(CsrRig(fleet["eks"], clusters.APP_SERVING)) as rig:
        yield rig


@pytest.fixture
def client(cluster: clusters.Cluster) -> Iterator[Client]:
    """Return the collection's own client, as administrator of the cluster."""
    given = {"kubeconfig": str(cluster.kubeconfig)}
    client = Client(resolve(given, {}), user_agent="certflow.kubernetes/test", deadline=time.monotonic() + 60)
    yield client
    client.close()


@pytest.fixture(scope="session")
def node() -> Iterator[clusters.Cluster]:
    """A cluster like on-prem with a node that runs pods, started at the first use; skips where none can run."""
    reason = clusters.why_no_node()
    if reason:
        pytest.skip(reason)
    with clusters.running({"node": "onprem-node"}) as fleet:
        yield fleet["node"]


@pytest.fixture(scope="session")
def without_snapshots() -> Iterator[clusters.Cluster]:
    """A cluster for one installation of the snapshot controller after another. Each test or file removes its own."""
    with clusters.running({"snapshots": "onprem"}) as fleet:
        yield fleet["snapshots"]


@pytest.fixture
def unanswered() -> Iterator[None]:
    """Verify the present state before an upgrade only briefly. Without a node no webhook answers, however long it takes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "BEFORE_SECONDS", 2)
        yield


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory for temporary files, of this test alone: here and in the processes that it starts."""
    clusters.programs()
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="session")
def runners() -> Runners:
    """Return the environments of ansible-runner, which are made at the first use."""
    try:
        return Runners(venvs.ensure(OLD_RUNNER), venvs.ensure(AWX))
    except venvs.PythonUnavailable as problem:
        pytest.skip(str(problem))


@pytest.fixture(scope="session")
def venv() -> Path:
    """Return the environment of AWX."""
    try:
        return venvs.ensure(AWX)
    except venvs.PythonUnavailable as problem:
        pytest.skip(str(problem))
