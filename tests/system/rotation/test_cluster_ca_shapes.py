# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The phases around other shapes of a rotation: other signers and CAs, a roll back, k3s and cainjector."""

from __future__ import annotations

import contextlib
import datetime
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations import audit_info

from tests.support import clusters
from tests.support.rig import ADMINISTRATORS
from tests.support.rotation.rotation_rig import RotationRig, codes, of_cluster, of_program
from tests.support.waiting import wait_for
from tests.support.webhooks import cert_manager
from tests.support.world import Program, Shape, shapes

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.full

PREPARE, FINISH = ["add-successor"], ["remove-outgoing"]
OWN = Shape("own", certificate=shapes.OURS, bundle=None)
PLAIN, CONTROL = Shape("plain"), Shape("control", owner=shapes.OPERATOR)
APIS = (Shape("api", shapes.AGGREGATED), Shape("conversion", shapes.CONVERSION))
REPAIRED = [("repaired", "")]
#: The time after which a switch counts as settled, with a margin.
DAY = datetime.timedelta(hours=25)


@contextlib.contextmanager
def rotating(profile: str, **rotation: Any) -> Iterator[RotationRig]:
    with clusters.running({"shapes": profile}) as fleet:
        rig = RotationRig(fleet["shapes"], **rotation)
        try:
            yield rig
        finally:
            rig.close()


@pytest.mark.parametrize(
    "rotation",
    [
        {"subject": "other-ca"},
        {"key_identifiers": False},
    ],
    ids=["other-subject", "no-key-identifiers"],
)
def test_a_switch_a_roll_back_and_a_second_switch(rotation: dict[str, Any]) -> None:
    with rotating("local-services", **rotation) as rig:
        own, hook, control = rig.one(OWN), rig.one(PLAIN), rig.one(CONTROL)
        prepared = (own, hook, *map(rig.one, APIS))
        for program in (*prepared, control):
            wait_for(program.is_called)
        assert rig.findings() == {}
        rig.rotation.publish()
        lacking = {program.full_name: "warning" for program in (*prepared, control)}
        assert rig.findings()["bundle-without-successor"] == lacking
        assert codes(rig.run(PREPARE), prepared) == {program.name: REPAIRED for program in prepared}
        with rig.calling(*prepared, control) as calls:
            for step, ca in (
                (rig.rotation.switch, rig.new),
                (rig.rotation.roll_back, rig.old),
                (rig.rotation.switch, rig.new),
            ):
                step()
                for program in (*prepared[1:], control):
                    program.issue(ca)
                rig.renew(own, renew_before="400d")
                calls.wait_for_more()
                state = ("waiting", "not-settled" if ca is rig.new else "not-switched")
                assert of_cluster(rig.run(FINISH)) == [state]
        assert calls.failures.keys() == {"control"}
        rig.jump(DAY)
        finished = rig.run(FINISH)
        assert codes(finished, prepared[1:]) == {program.name: REPAIRED for program in prepared[1:]}
        for program in prepared:
            assert program.trusts(rig.new)
            wait_for(program.is_called)


def test_two_rotations_of_k3s() -> None:
    """The operator names each successor, because the cluster publishes it only at the restart that switches to it."""
    with rotating("local-services", subject="k3s-server-ca@2") as rig:
        own, hook, control = rig.one(OWN), rig.one(PLAIN), rig.one(CONTROL)
        for program in (own, hook, control):
            wait_for(program.is_called)
        switch_at_once(rig, own, hook, control)
        rig.jump(DAY)
        assert of_program(rig.run(FINISH), hook) == REPAIRED
        assert not hook.trusts(rig.old)
        rig.jump(-DAY)  # the next certificates of the API server begin today
        first = rig.new
        rig.rotation = rig.cluster.rotation(subject="k3s-server-ca@3")
        rig.old, rig.new = first, rig.rotation.successor
        rig.connection = {"kubeconfig": rig.trust()}
        # Its certificate is minutes old, so it counts as a proof that the outgoing CA signs. Its ordinary renewal comes first.
        switch_at_once(rig, own, hook, renewal={"renew_before": "400d"})
        assert "cluster-ca-rotation" in rig.findings()
        # A cluster that publishes an intermediate, a root and its twin is not in a rotation. The phase finish has not cleaned up.
        rig.rotation.drop_outgoing()
        rig.kubeconfig = rig.cluster.kubeconfig_for(rig.user, ADMINISTRATORS)
        assert rig.findings() == {"ca-left": {own.full_name: "warning"}}


def switch_at_once(
    rig: RotationRig, own: Program, hook: Program, *controls: Program, renewal: dict[str, Any] | None = None
) -> None:
    # The guide joins these three files. The twin proves that the successor is one of this cluster.
    successor = b"".join(ca.certificate_pem for ca in rig.rotation.make_line())
    named = {"successor": successor.decode(), "confirmed": True}
    assert codes(rig.run(PREPARE, cluster_ca=named), (own, hook)) == {"own": REPAIRED, "plain": REPAIRED}
    with rig.calling(own, hook, *controls) as calls:
        calls.wait_for_more()
        rig.rotation.replace_at_once()
        hook.issue(*rig.rotation.signing)
        for control in controls:
            # It sends what the signer issues. A bundle before the rotation verifies a server that also sends the twin.
            control.issue(rig.rotation.signing[0])
        assert rig.renew(own, **(renewal or {}))["changed"]
        calls.wait_for_more()
    assert calls.failures.keys() == {program.name for program in controls}


#: A webhook whose caBundle cainjector writes.
INJECTED = Shape(
    "injected", bundle=None, metadata={"annotations": {"cert-manager.io/inject-apiserver-ca": "true"}}
)


@contextlib.contextmanager
def cainjector(rig: RotationRig) -> Iterator[None]:
    """Run a real cainjector, with the CAs that the cluster publishes at its start, as those of a ServiceAccount."""
    kubeconfig = rig.cluster.kubeconfig_for("cainjector", ADMINISTRATORS)
    rig.cluster.start_program("cainjector", [str(clusters.cainjector()), f"--kubeconfig={kubeconfig}"])
    try:
        yield
    finally:
        rig.cluster.stop("cainjector")
        print(rig.cluster.log("cainjector").read_text()[-4000:])  # pytest shows it with a failure


def test_cainjector_has_the_successor_after_a_restart() -> None:
    with rotating("local-services") as rig, cert_manager.defined(rig.cluster, ("certificates",)):
        hook = rig.one(INJECTED)
        with cainjector(rig):
            wait_for(hook.is_called)
            rig.rotation.publish()
            trust = rig.trust()
            audit = rig.operate(audit_info.OPERATION, kubeconfig=trust, probe_urls=True)
            (finding,) = (
                entry for entry in audit["findings"] if entry["check"] == "bundle-without-successor"
            )
            assert (finding["object"]["name"], finding["manager"]) == (hook.full_name, "cert-manager")
            before = rig.writes()
            for accept in ([], ["cert-manager"]):
                result = rig.run(PREPARE, accept=accept)
                assert of_program(result, hook) == [("waiting", "injected-at-start")]
                assert "cainjector" in result["repairs"][0]["remedy"]
            assert rig.writes() == before
            assert not hook.trusts(rig.new)
        with cainjector(rig):
            wait_for(lambda: hook.trusts(rig.new))
            assert "bundle-without-successor" not in rig.findings()
            assert rig.run(PREPARE)["repairs"] == []
            with rig.calling(hook) as calls:
                rig.rotation.switch()
                hook.issue(rig.new)
                calls.wait_for_more()
            assert calls.failures == {}
        assert hook.trusts(rig.old)
