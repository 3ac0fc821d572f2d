# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A rotation on a control plane of several API servers, which switch one after the other. The leader moves back."""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Collection, Iterator

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations import audit_info

from tests.support import clusters
from tests.support.certificates.csr_by_hand import create, decide, settled
from tests.support.certificates.signer_requests import GOOD, KUBELET_SERVING
from tests.support.clusters import AdminApiError
from tests.support.clusters.components import Server
from tests.support.rotation.rotation_rig import RotationRig, codes, of_cluster
from tests.support.waiting import wait_for
from tests.support.webhooks.probe_rig import config_map
from tests.support.world import ACCEPTED, Program, Shape, shapes
from tests.support.world.caller import Called

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(os.geteuid() != 0, reason="several API servers need a network of their own"),
]
PREPARE, FINISH = ["add-successor"], ["remove-outgoing"]
REPAIRED, NOT_SWITCHED = ("repaired", ""), ("waiting", "not-switched")


@pytest.fixture(params=["two-servers", "three-servers"])
def rig(request: pytest.FixtureRequest) -> Iterator[RotationRig]:
    with clusters.running({"several": request.param}) as fleet:
        rig = RotationRig(fleet["several"])
        try:
            yield rig
        finally:
            rig.close()


class Through:
    """A webhook that one of several API servers calls."""

    def __init__(self, rig: RotationRig, hook: Program, server: Server) -> None:
        self.name = f"{hook.name}{server.suffix}"
        self._rig, self._hook, self._server = rig, hook, server

    def call(self) -> str:
        path = f"/api/v1/namespaces/{self._rig.name}/configmaps?dryRun=All"
        client = self._rig.cluster.client_of(self._server)
        try:
            client.api("POST", path, config_map(self._rig.name, probe=self._hook.name))
        except AdminApiError as error:
            return error.message
        return ACCEPTED


def issue(rig: RotationRig) -> None:
    """Let the leader issue a certificate. Times in certificates have whole seconds, and it must be the youngest."""
    time.sleep(1.1)
    csr = create(rig.cluster, KUBELET_SERVING, GOOD[KUBELET_SERVING])
    decide(rig.cluster, csr)
    settled(rig.cluster, csr)


def servers(rig: RotationRig) -> tuple[dict[str, str], bool]:
    """Return what the audit tells about each address, and if it takes the rotation as switched."""
    result = rig.operate(audit_info.OPERATION, kubeconfig=rig.trust(), probe_urls=True)
    by_check = {finding["check"]: finding for finding in result["findings"] if finding["status"] == "fail"}
    lines = [line.rpartition(": ") for line in by_check["cluster-ca-rotation"]["evidence"]]
    shown = {
        server.address: words
        for server in rig.cluster.servers
        for begin, _colon, words in lines
        if f" {server.address}:" in begin
    }
    return shown, "outgoing-ca-left" in by_check


def assert_incomplete(rig: RotationRig, late: Collection[Server]) -> None:
    shown, is_switched = servers(rig)
    assert not is_switched
    addresses = {server.address for server in late}
    groups = [{address for address in shown if shown[address] == words} for words in set(shown.values())]
    assert addresses in groups
    finish = rig.run(FINISH)
    assert of_cluster(finish) == [NOT_SWITCHED]
    evidence = next(entry["evidence"] for entry in finish["repairs"] if entry["code"] == "not-switched")
    assert len(evidence) == len(late)
    assert all(any(server.address in line for line in evidence) for server in late)


def test_servers_switch_one_after_the_other(rig: RotationRig) -> None:
    own, hook, control = (
        rig.one(Shape("own", certificate=shapes.OURS, bundle=None)),
        rig.one(Shape("plain")),
        rig.one(Shape("control", owner=shapes.EKS)),
    )
    apis = (Shape("api", shapes.AGGREGATED), Shape("conversion", shapes.CONVERSION))
    prepared = (own, hook, *map(rig.one, apis))
    further = [Through(rig, program, server) for server in rig.cluster.servers[1:] for program in (own, hook)]
    callers: tuple[Called, ...] = (*prepared, control, *further)
    for caller in callers:
        wait_for(lambda: caller.call() == ACCEPTED)  # noqa: B023
    rig.rotation.publish()
    assert codes(rig.run(PREPARE), prepared) == {program.name: [REPAIRED] for program in prepared}
    late = list(rig.cluster.servers)
    # The kubeconfig names the first server, which is the last but one to switch.
    first, *middle, last = late
    early = (*middle, first)
    with rig.calling(*callers) as calls:
        for server in early:
            late.remove(server)
            rig.rotation.switch_server(server)
            issue(rig)
            for program in (*prepared[1:], control):
                program.issue(rig.new)
            assert_incomplete(rig, late)
            rig.cluster.lead(last)
            issue(rig)
            assert_incomplete(rig, late)
            assert not rig.renew(own)["changed"]
            calls.wait_for_more()
        rig.rotation.switch_server(last)
        issue(rig)
        assert rig.renew(own)["changed"]
        calls.wait_for_more()
    assert calls.failures.keys() == {control.name}

    shown, is_switched = servers(rig)
    assert is_switched
    assert len(set(shown.values())) == 1
    assert of_cluster(rig.run(FINISH)) == [("waiting", "not-settled")]
    rig.jump(datetime.timedelta(hours=25))
    finished = rig.run(FINISH, cluster_ca={"confirmed": False})
    assert codes(finished, prepared[1:]) == {program.name: [REPAIRED] for program in prepared[1:]}
    for program in prepared:
        assert (program.trusts(rig.old), program.trusts(rig.new)) == (False, True), program.name
        wait_for(program.is_called)
