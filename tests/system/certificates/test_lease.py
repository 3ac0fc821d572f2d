# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Allow one run at a time for a Service, and one upgrade of the snapshot controller, on a real control plane.

The cases are two processes at once, a killed process, and a process without the permission.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.text import PERMISSIONS_PAGE
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube import lease as lease_module
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations.snapshot_controller import (
    OPERATION,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade import engine

from tests.support.certificates.csr_rig import CSRS, TWO_STEP, CsrRig, assert_one_line, assert_pair, since
from tests.support.leases import leases, path
from tests.support.operations import operate
from tests.support.permissions.rbac import APPROVE, BUNDLE, REQUEST, User, without
from tests.support.rig import WRITES, written
from tests.support.upgrade.snapshot_rig import release_server
from tests.support.waiting import wait_for
from tools.ci.venvs import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.clusters import Cluster, Fleet

NEVER = 99
ABSENT: dict[str, Any] = {"state": "absent"}
LEASE_WRITES = [("create", "leases"), ("delete", "leases")]


def started(rig: CsrRig, after: int, *signal: str, **options: Any) -> subprocess.Popen[str]:
    """Start another process that runs k8s_csr, and kills itself after this number of writes."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.faults.killed", str(after), *signal],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )
    given = {
        "kubeconfig": str(rig.kubeconfig),
        "service": "hook",
        "namespace": rig.name,
        "signer_name": rig.signer,
        "secret": {"name": "hook-tls"},
    }
    assert process.stdin
    process.stdin.write(json.dumps({**given, **options}))
    process.stdin.close()
    process.stdin = None
    return process


def held(rig: CsrRig) -> dict[str, Any]:
    (lease,) = leases(rig.cluster, rig.name)
    return lease


def change(rig: CsrRig, **spec: Any) -> None:
    """Change the Lease as another client does."""
    patch = [{"op": "replace", "path": f"/spec/{field}", "value": value} for field, value in spec.items()]
    name = f"{path(rig.name)}/certflow-hook"
    rig.cluster.api("PATCH", name, patch, "application/json-patch+json")


def die(rig: CsrRig) -> str:
    """Kill a run right after its request. Return its holder identity."""
    process = started(rig, 1)
    _out, errors = process.communicate(timeout=120)
    assert process.returncode == -9, errors
    return str(held(rig)["spec"]["holderIdentity"])


@pytest.mark.quick
def test_two_concurrent_processes_issue_one_certificate(rig: CsrRig) -> None:
    target = rig.hook()
    both = [started(rig, NEVER, targets=[target]) for _ in range(2)]
    results = [json.loads(process.communicate(timeout=120)[0]) for process in both]
    assert [(result.get("msg"), result.get("warnings")) for result in results] == [(None, None)] * 2
    assert sorted(result["changed"] for result in results) == [False, True], "the second found it done"
    assert results[0]["certificate"] == results[1]["certificate"]
    assert len(rig.csrs()) == 1
    assert_pair(rig)
    assert rig.bundle(target) == rig.cluster.ca_pem
    assert leases(rig.cluster, rig.name) == []


def test_a_held_lease_names_its_holder_and_expires(rig: CsrRig) -> None:
    holder = die(rig)
    lease = held(rig)
    assert lease["metadata"]["name"] == "certflow-hook"
    assert lease["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "certflow.kubernetes"
    before = len(rig.writes())
    refused = rig.run(wait_timeout=1)
    taken = lease["spec"]["acquireTime"][:19].split("T")
    assert_one_line(refused, "lease-held", f"{rig.name}/hook", holder, *taken, "wait_timeout")
    assert f"kubectl --namespace {rig.name} delete lease certflow-hook" in refused["remedy"]
    assert (refused["changed"], rig.secret()) == (False, None)
    assert [entry for entry in rig.writes()[before:] if entry[1] != "leases"] == []

    change(rig, leaseDurationSeconds=2)
    assert rig.run()["changed"], "it waited until the Lease had ended"
    assert_pair(rig)
    assert leases(rig.cluster, rig.name) == []


def test_ctrl_c_releases_the_lease(rig: CsrRig) -> None:
    process = started(rig, 1, "INT")
    _out, errors = process.communicate(timeout=120)
    assert "KeyboardInterrupt" in errors
    assert (leases(rig.cluster, rig.name), len(rig.csrs())) == ([], 1)
    assert rig.run()["changed"]


def test_a_failure_releases_the_lease(rig: CsrRig) -> None:
    failed = rig.run(signer_name="example.com/nobody", wait_timeout=1)
    assert_one_line(failed, "not-issued", "example.com/nobody")
    assert (leases(rig.cluster, rig.name), LEASE_WRITES[1] in rig.writes()) == ([], True)


def test_the_lease_is_acquired_only_for_a_write(rig: CsrRig) -> None:
    given: dict[str, Any] = {"targets": [rig.hook()], "wait": False}
    rig.run(**given, check_mode=True)
    assert rig.writes() == []
    rig.run(**given)
    start = since(rig)
    reading: list[dict[str, Any]] = [
        {},
        {"check_mode": True, "key_type": "rsa-2048"},
        {"check_mode": True, **ABSENT},
    ]
    for options in reading:
        rig.run(**given, **options)
    assert [entry for entry in rig.asked(start) if entry[0] in WRITES] == []
    writing: list[dict[str, Any]] = [
        {"secret": {"labels": {"tier": "edge"}}},
        {"key_type": "ecdsa-p384"},
        ABSENT,
    ]
    for options in writing:
        start = since(rig)
        assert rig.run(**given, **options)["changed"]
        writes = [entry for entry in rig.asked(start) if entry[0] in WRITES]
        assert [writes[0], writes[-1]] == LEASE_WRITES, options
        assert len([entry for entry in writes if entry[1] == "leases"]) == 2
    assert rig.run(**given, **ABSENT)["changed"] is False


def test_the_lease_is_held_during_a_wait_for_approval(rig: CsrRig) -> None:
    results: list[dict[str, Any]] = []
    first = threading.Thread(target=lambda: results.append(rig.run(approve=False)))
    first.start()
    wait_for(lambda: rig.secret("hook-tls-pending") is not None)
    other = rig.run(wait_timeout=1)
    assert_one_line(other, "lease-held", held(rig)["spec"]["holderIdentity"])
    asked = rig.run(**TWO_STEP)
    assert (asked["pending"], asked["changed"]) == (True, False), "it writes nothing, and acquires no Lease"
    rig.decide(asked["csr"]["name"])
    first.join()
    assert results[0].get("changed"), results
    assert_pair(rig)
    assert leases(rig.cluster, rig.name) == []


@pytest.mark.parametrize("verb", ["create", "delete"])
def test_without_permission_for_leases_the_run_continues_with_a_warning(rig: CsrRig, verb: str) -> None:
    user = User(rig, without(REQUEST, "leases", verb), APPROVE, BUNDLE)
    result = rig.run(kubeconfig=user.kubeconfig)
    assert result.get("changed"), result
    [warning] = [text for text in result["warnings"] if "Lease" in text]
    assert f"Lease {rig.name}/certflow-hook" in warning
    assert f'cannot {verb} resource \\"leases\\"' in warning or f'cannot {verb} resource "leases"' in warning
    assert PERMISSIONS_PAGE in warning
    assert_pair(rig)
    quiet = rig.run(kubeconfig=user.kubeconfig)
    assert (quiet["changed"], quiet.get("warnings")) == (False, None)


def test_a_holder_that_was_suspended_stops_writing(rig: CsrRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process was suspended, as a virtual machine is, until its Lease expired and another run acquired
    it.
    """
    results: list[dict[str, Any]] = []
    monkeypatch.setattr(lease_module, "RENEW_SECONDS", 0.2)
    first = threading.Thread(target=lambda: results.append(rig.run(approve=False)))
    first.start()
    wait_for(lambda: rig.secret("hook-tls-pending") is not None)
    now = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime())
    change(rig, holderIdentity="another", renewTime=now)
    label = {"metadata": {"labels": {"seen": "yes"}}}  # wakes it
    (csr,) = rig.csrs()
    rig.cluster.api("PATCH", f"{CSRS}/{csr['metadata']['name']}", label, "application/merge-patch+json")
    first.join()
    assert_one_line(results[0], "lease-lost", "another,")
    assert (rig.secret(), held(rig)["spec"]["holderIdentity"]) == (None, "another")


def test_a_thread_renews_the_lease_during_a_long_wait(rig: CsrRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run has one request, which is a watch. The thread has its own connection."""
    results: list[dict[str, Any]] = []
    monkeypatch.setattr(lease_module, "RENEW_SECONDS", 0.2)
    first = threading.Thread(target=lambda: results.append(rig.run(approve=False)))
    first.start()
    wait_for(lambda: rig.secret("hook-tls-pending") is not None)
    versions = set()

    def is_renewed() -> bool:
        versions.add(held(rig)["metadata"]["resourceVersion"])
        return len(versions) > 3

    wait_for(is_renewed)
    (csr,) = rig.csrs()
    rig.decide(csr["metadata"]["name"])
    first.join()
    assert results[0].get("changed"), results
    assert leases(rig.cluster, rig.name) == []
    writes = [entry for entry in rig.writes() if entry[1] == "leases"]
    assert (writes[0], writes[-1]) == (("create", "leases"), ("delete", "leases"))


# The Lease of an upgrade. test_snapshot_stops.py has runs that lose it, and runs that wait for each other.

UPGRADE = f"{path('kube-system')}/certflow-snapshot-controller"


@pytest.fixture
def held_upgrade(fleet: Fleet) -> Iterator[Cluster]:
    """A cluster with the Lease of another run."""
    cluster = fleet["onprem"]
    now = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime())
    spec = {"holderIdentity": "another", "leaseDurationSeconds": 150, "acquireTime": now, "renewTime": now}
    name = UPGRADE.rpartition("/")[2]
    cluster.api("POST", path("kube-system"), {"metadata": {"name": name}, "spec": spec})
    yield cluster
    cluster.api("DELETE", UPGRADE)


def test_an_upgrade_writes_nothing_while_another_run_holds_its_lease(
    held_upgrade: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run reserves no time for a rollback, so it waits for only 20 seconds."""
    monkeypatch.setattr(engine, "UNDO_SECONDS", 0)
    user = f"upgrade-{uuid.uuid4().hex[:8]}"
    with release_server("8.1.0") as source:
        given = {
            "kubeconfig": str(held_upgrade.kubeconfig_for(user, ["system:masters"])),
            "version": "8.1.0",
            "validation_webhook": False,
            "source": source,
            "cache_directory": str(tmp_path),
            "step_timeout": 20,
            "wait_timeout": 20,
        }
        result = operate(OPERATION, given)
    assert_one_line(result, "lease-held", "kube-system/certflow-snapshot-controller", "another")
    assert f"kubectl --namespace kube-system delete lease {UPGRADE.rpartition('/')[2]}" in result["remedy"]
    assert {line.partition("?")[0] for line in written(held_upgrade, user)} == {
        f"create {path('kube-system')}"
    }, "only the attempt to create it"
    assert (result["changed"], held_upgrade.api("GET", UPGRADE)["spec"]["holderIdentity"]) == (
        False,
        "another",
    )
