# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Allow one run at a time for a Service, and one upgrade of the snapshot controller, on a real control plane.

The cases are two processes at once, a killed process, and a process without the permission.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube import _lease

from tests.clusters import ApiError
from tests.gates.venvs import REPOSITORY

from .csr_site import CSRS, WRITES, Site, assert_one_line
from .leases import lapse, leases, path
from .snapshot_site import Site as UpgradeSite
from .test_k8s_csr import TWO_STEP, assert_pair, eventually, since
from .test_k8s_csr_rights import APPROVE, BUNDLE, REQUEST, User, without

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.clusters import Fleet

NEVER = 99
ABSENT: dict[str, Any] = {"state": "absent"}
LEASE_WRITES = [("create", "leases"), ("delete", "leases")]


@pytest.fixture
def site(fleet: Fleet) -> Iterator[Site]:
    with contextlib.closing(Site(fleet["onprem"])) as site:
        yield site


def started(site: Site, after: int, *signal: str, **options: Any) -> subprocess.Popen[str]:
    """Another process that runs k8s_csr, and is killed after so many writes."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.real.killed", str(after), *signal],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )
    given = {
        "kubeconfig": str(site.kubeconfig),
        "service": "hook",
        "namespace": site.name,
        "signer_name": site.signer,
        "secret": {"name": "hook-tls"},
    }
    assert process.stdin
    process.stdin.write(json.dumps({**given, **options}))
    process.stdin.close()
    process.stdin = None
    return process


def held(site: Site) -> dict[str, Any]:
    (lease,) = leases(site.cluster, site.name)
    return lease


def change(site: Site, **spec: Any) -> None:
    """As if somebody else wrote it."""
    patch = [{"op": "replace", "path": f"/spec/{field}", "value": value} for field, value in spec.items()]
    name = f"{path(site.name)}/certflow-hook"
    site.cluster.api("PATCH", name, patch, "application/json-patch+json")


def die(site: Site) -> str:
    """A run is killed right after it has asked; returns who it was."""
    process = started(site, 1)
    _out, errors = process.communicate(timeout=120)
    assert process.returncode == -9, errors
    return str(held(site)["spec"]["holderIdentity"])


@pytest.mark.quick
def test_two_processes_at_once_make_one_certificate(site: Site) -> None:
    target = site.hook()
    both = [started(site, NEVER, targets=[target]) for _ in range(2)]
    results = [json.loads(process.communicate(timeout=120)[0]) for process in both]
    assert [(result.get("msg"), result.get("warnings")) for result in results] == [(None, None)] * 2
    assert sorted(result["changed"] for result in results) == [False, True], "the second found it done"
    assert results[0]["certificate"] == results[1]["certificate"]
    assert len(site.csrs()) == 1
    assert_pair(site)
    assert site.bundle(target) == site.cluster.ca_pem
    assert leases(site.cluster, site.name) == []


def test_a_dead_run_is_named_and_its_lease_ends(site: Site) -> None:
    holder = die(site)
    lease = held(site)
    assert lease["metadata"]["name"] == "certflow-hook"
    assert lease["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "certflow.kubernetes"
    before = len(site.writes())
    refused = site.run(wait_timeout=1)
    taken = lease["spec"]["acquireTime"][:19].split("T")
    assert_one_line(refused, "lease-held", f"{site.name}/hook", holder, *taken, "wait_timeout")
    assert f"kubectl --namespace {site.name} delete lease certflow-hook" in refused["remedy"]
    assert (refused["changed"], site.secret()) == (False, None)
    assert [entry for entry in site.writes()[before:] if entry[1] != "leases"] == []

    change(site, leaseDurationSeconds=2)
    assert site.run()["changed"], "it waited until the Lease had ended"
    assert_pair(site)
    assert leases(site.cluster, site.name) == []


def test_ctrl_c_gives_it_back(site: Site) -> None:
    process = started(site, 1, "INT")
    _out, errors = process.communicate(timeout=120)
    assert "KeyboardInterrupt" in errors
    assert (leases(site.cluster, site.name), len(site.csrs())) == ([], 1)
    assert site.run()["changed"]


def test_an_error_gives_it_back(site: Site) -> None:
    failed = site.run(signer_name="example.com/nobody", wait_timeout=1)
    assert_one_line(failed, "not-issued", "example.com/nobody")
    assert (leases(site.cluster, site.name), LEASE_WRITES[1] in site.writes()) == ([], True)


def test_it_is_taken_only_when_there_is_something_to_write(site: Site) -> None:
    given: dict[str, Any] = {"targets": [site.hook()], "served_timeout": 1}
    site.run(**given, check_mode=True)
    assert site.writes() == []
    site.run(**given)
    start = since(site)
    reading: list[dict[str, Any]] = [
        {},
        {"check_mode": True, "key_type": "rsa-2048"},
        {"check_mode": True, **ABSENT},
    ]
    for options in reading:
        site.run(**given, **options)
    assert [entry for entry in site.asked(start) if entry[0] in WRITES] == []
    writing: list[dict[str, Any]] = [
        {"secret": {"labels": {"tier": "edge"}}},
        {"key_type": "ecdsa-p384"},
        ABSENT,
    ]
    for options in writing:
        start = since(site)
        assert site.run(**given, **options)["changed"]
        writes = [entry for entry in site.asked(start) if entry[0] in WRITES]
        assert [writes[0], writes[-1]] == LEASE_WRITES, options
        assert len([entry for entry in writes if entry[1] == "leases"]) == 2
    assert site.run(**given, **ABSENT)["changed"] is False


def test_it_is_held_while_an_approver_is_waited_for(site: Site) -> None:
    results: list[dict[str, Any]] = []
    first = threading.Thread(target=lambda: results.append(site.run(approve=False)))
    first.start()
    eventually(lambda: site.secret("hook-tls-pending") is not None)
    other = site.run(wait_timeout=1)
    assert_one_line(other, "lease-held", held(site)["spec"]["holderIdentity"])
    asked = site.run(**TWO_STEP)
    assert (asked["pending"], asked["changed"]) == (True, False), "it writes nothing, and needs no turn"
    site.decide(asked["csr"]["name"])
    first.join()
    assert results[0].get("changed"), results
    assert_pair(site)
    assert leases(site.cluster, site.name) == []


@pytest.mark.parametrize("verb", ["create", "delete"])
def test_without_the_right_it_goes_on_and_warns(site: Site, verb: str) -> None:
    user = User(site, without(REQUEST, "leases", verb), APPROVE, BUNDLE)
    result = site.run(kubeconfig=user.kubeconfig)
    assert result.get("changed"), result
    (warning,) = result["warnings"]
    assert f"Lease {site.name}/certflow-hook" in warning
    assert f'cannot {verb} resource \\"leases\\"' in warning or f'cannot {verb} resource "leases"' in warning
    assert "docs/rbac.md" in warning
    assert_pair(site)
    quiet = site.run(kubeconfig=user.kubeconfig)
    assert (quiet["changed"], quiet.get("warnings")) == (False, None)


def test_a_holder_that_is_not_heard_of_does_not_write_on(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was stopped, as a virtual machine is, for longer than its Lease lasts, and another run took over."""
    results: list[dict[str, Any]] = []
    monkeypatch.setattr(_lease, "RENEW_SECONDS", 0.2)
    first = threading.Thread(target=lambda: results.append(site.run(approve=False)))
    first.start()
    eventually(lambda: site.secret("hook-tls-pending") is not None)
    now = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime())
    change(site, holderIdentity="another", renewTime=now)
    label = {"metadata": {"labels": {"seen": "yes"}}}  # wakes it
    (csr,) = site.csrs()
    site.cluster.api("PATCH", f"{CSRS}/{csr['metadata']['name']}", label, "application/merge-patch+json")
    first.join()
    assert_one_line(results[0], "lease-lost", "another,")
    assert (site.secret(), held(site)["spec"]["holderIdentity"]) == (None, "another")


def test_a_thread_renews_the_lease_during_a_long_wait(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run has one request, which is a watch. The thread has a connection of its own."""
    results: list[dict[str, Any]] = []
    monkeypatch.setattr(_lease, "RENEW_SECONDS", 0.2)
    first = threading.Thread(target=lambda: results.append(site.run(approve=False)))
    first.start()
    eventually(lambda: site.secret("hook-tls-pending") is not None)
    versions = set()

    def is_renewed() -> bool:
        versions.add(held(site)["metadata"]["resourceVersion"])
        return len(versions) > 3

    eventually(is_renewed)
    (csr,) = site.csrs()
    site.decide(csr["metadata"]["name"])
    first.join()
    assert results[0].get("changed"), results
    assert leases(site.cluster, site.name) == []
    writes = [entry for entry in site.writes() if entry[1] == "leases"]
    assert (writes[0], writes[-1]) == (("create", "leases"), ("delete", "leases"))


# The Lease of an upgrade, whose steps are tasks of their own

WEBHOOKS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
TURN = f"{path('kube-system')}/certflow-snapshot-controller"


@pytest.fixture
def upgrade(fleet: Fleet, tmp_path: Path) -> Iterator[UpgradeSite]:
    """Create a webhook configuration whose failurePolicy steps change."""
    site = UpgradeSite(fleet["onprem"], "", tmp_path)
    hook = {
        "name": "hook.example.com",
        "clientConfig": {"url": "https://hook.example.com"},
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "failurePolicy": "Ignore",
        "rules": [{"apiGroups": ["none.example.com"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["none"]}],
    }  # fmt: skip
    site.cluster.api("POST", WEBHOOKS, {"metadata": {"name": site.user}, "webhooks": [hook]})
    yield site
    site.cluster.api("DELETE", f"{WEBHOOKS}/{site.user}")
    with contextlib.suppress(ApiError):
        site.cluster.api("DELETE", TURN)


def turn(site: UpgradeSite, action: str, run_id: str, **options: Any) -> dict[str, Any]:
    return site.run(action, options={"run_id": run_id, **options})


def set_policy(site: UpgradeSite, policy: str, lease: dict[str, Any]) -> dict[str, Any]:
    return site.run("failure_policy", names=[site.user], policy=policy, options={"lease": lease})


def lost(result: dict[str, Any]) -> None:
    assert_one_line(result, "lease-lost", "kube-system/certflow-snapshot-controller")
    assert result["changed"] is False


@pytest.mark.quick
@pytest.mark.parametrize("ends", [True, False])
def test_a_step_stops_if_another_run_held_the_lease_since_the_first_step(
    upgrade: UpgradeSite, ends: bool
) -> None:
    """The run waited for other clusters until its Lease expired. The other run has ended by then, or still works."""
    first = turn(upgrade, "take_turn", "first")["lease"]
    assert first["holder"] == "first"
    assert set_policy(upgrade, "Fail", first)["changed"]
    lapse(upgrade.cluster, "kube-system", starting="certflow-snapshot")
    assert set_policy(upgrade, "Ignore", first)["changed"], "no other run has taken it"
    lapse(upgrade.cluster, "kube-system", starting="certflow-snapshot")
    second = turn(upgrade, "take_turn", "second")["lease"]
    assert set_policy(upgrade, "Fail", second)["changed"]
    if ends:
        assert not turn(upgrade, "end_turn", "second").get("failed")
    lost(set_policy(upgrade, "Ignore", first))
    lost(turn(upgrade, "take_turn", "first", lease=first))
    (hook,) = upgrade.cluster.api("GET", f"{WEBHOOKS}/{upgrade.user}")["webhooks"]
    assert hook["failurePolicy"] == "Fail", "as the second run left it"
    turn(upgrade, "end_turn", "first")
    assert ("second" in str(leases(upgrade.cluster, "kube-system"))) is not ends, "it gives back only its own"


def test_an_upgrade_needs_the_permission_for_its_lease(upgrade: UpgradeSite) -> None:
    powerless = upgrade.cluster.kubeconfig_for(f"{upgrade.user}-other", [])
    refused = turn(upgrade, "take_turn", "first", kubeconfig=str(powerless))
    assert_one_line(refused, "forbidden", "certflow-snapshot-controller", "docs/rbac.md", '"leases"')


@pytest.mark.parametrize("token", [{"holder": "a"}, {"holder": "a", "uid": "b", "transitions": "many"}])
def test_a_token_is_used_as_it_is(upgrade: UpgradeSite, token: dict[str, Any]) -> None:
    assert set_policy(upgrade, "Fail", token)["code"] == "invalid-step"
