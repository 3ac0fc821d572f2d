# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Nothing removes the trust in a certificate that a pod may serve, also if the pod is not ready or terminates at the moment."""

from __future__ import annotations

import contextlib
import datetime
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations import webhook_cabundle
from ansible_collections.certflow.kubernetes.plugins.module_utils._repair import bundle_repairs

from tests.support import clusters
from tests.support.authority import Issued
from tests.support.clusters import AdminApiError, pki
from tests.support.repair_rig import publish_as_istiod, withdraw
from tests.support.rig import encoded
from tests.support.rotation_rig import RotationRig, codes, of_program
from tests.support.waiting import wait_for
from tests.support.world import Program, Shape, shapes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.clusters.pki import KeyPair

PREPARE, FINISH, SECURE = ["add-successor"], ["remove-outgoing"], ["secure-apiservice"]
NOT_READY = (shapes.READY, shapes.NOT_READY)
TERMINATING = (shapes.READY, shapes.TERMINATING)
MERGE = "application/merge-patch+json"


@pytest.fixture
def rig() -> Iterator[RotationRig]:
    with clusters.running({"removal": "local-services"}) as fleet:
        rig = RotationRig(fleet["removal"])
        try:
            yield rig
        finally:
            rig.close()


def present(program: Program, ca: KeyPair | None, endpoint: int = 1) -> None:
    """Serve a certificate of a CA at one endpoint only, or nothing that is TLS."""
    pair = pki.issue(ca, "hook", names=(program.reach.server_name,)) if ca else None
    program.present(pair, endpoint)


def test_every_removal_of_trust(rig: RotationRig) -> None:
    """Pods that get no calls now serve a certificate of the outgoing CA, while the ready one serves the successor's."""
    rows = [Shape("well"), *(Shape(name, endpoints=NOT_READY) for name in ("not-ready", "silent", "set"))]
    rows += [Shape("terminating", endpoints=TERMINATING), Shape("url", reached=shapes.BY_URL)]
    hooks = {shape.name: rig.one(shape) for shape in rows}
    apis = [rig.one(Shape(name, shapes.AGGREGATED, endpoints=NOT_READY)) for name in ("insecure", "secured")]
    rig.rotation.publish()
    rig.run(PREPARE)
    rig.rotation.switch()
    for program in (*hooks.values(), *apis):
        program.issue(rig.new)
    for name in ("not-ready", "terminating", "set"):
        present(hooks[name], rig.old)
    present(hooks["silent"], None)
    rig.jump(datetime.timedelta(hours=25))
    unseen, served = [("waiting", "endpoint-unseen")], [("waiting", "outgoing-served")]
    assert codes(rig.run(FINISH), list(hooks.values())) == {
        "well": [("repaired", "")],
        "not-ready": served,
        "silent": unseen,
        "set": served,
        "terminating": served,
        "url": unseen,
    }
    assert [name for name, hook in hooks.items() if not hook.trusts(rig.old)] == ["well"]
    confirm(rig, hooks)
    set_bundles(rig, hooks["set"], hooks["url"])
    present(hooks["not-ready"], rig.new)
    assert of_program(rig.run(FINISH), hooks["not-ready"]) == [("repaired", "")]
    for hook in hooks.values():
        wait_for(hook.is_called, evidence=hook.call)
    secure(rig, *apis)


def confirm(rig: RotationRig, hooks: dict[str, Program]) -> None:
    """The user has checked the machines of two objects. What is seen counts nevertheless."""
    names = [f"ValidatingWebhookConfiguration/{hooks[name].full_name}" for name in ("silent", "not-ready")]
    accept = [{"unseen": names}]
    plan = rig.run(FINISH, check_mode=True, accept=accept)
    (planned,) = (entry for entry in plan["repairs"] if entry["object"]["name"] == hooks["silent"].full_name)
    assert any("silent" in line for line in planned["evidence"])
    result = rig.run(FINISH, accept=accept, approved_plan=plan["plan_digests"])
    assert of_program(result, hooks["silent"]) == [("repaired", "")]
    assert of_program(result, hooks["not-ready"]) == [("waiting", "outgoing-served")]


def set_bundles(rig: RotationRig, hook: Program, url: Program) -> None:
    """webhook_cabundle refuses what it sees, and warns about what it does not see."""

    def run(
        program: Program, ca: KeyPair, mode: str, accept: Any = (), *, check_mode: bool = False
    ) -> dict[str, Any]:
        pem = ca.certificate_pem.decode()
        options = {"targets": [program.target], "ca_bundle": pem, "mode": mode, "accept": list(accept)}
        return rig.operate(
            webhook_cabundle.OPERATION, check_mode=check_mode, kubeconfig=rig.trust(), **options
        )

    for mode, ca in (("absent", rig.old), ("exactly", rig.new)):
        assert run(hook, ca, mode)["code"] == "still-needed"
        warned = run(url, ca, mode, check_mode=True)
        assert (warned["changed"], len(warned["warnings"])) == (True, 1)
    downtime = {"downtime": [f"ValidatingWebhookConfiguration/{hook.full_name}"]}
    assert run(hook, rig.old, "absent", [downtime])["changed"]


def secure(rig: RotationRig, insecure: Program, secured: Program) -> None:
    """The end of insecureSkipTLSVerify removes trust as well."""
    publish_as_istiod(rig.cluster, rig.new.certificate_pem.decode())
    try:
        for program in (insecure, secured):
            spec = {"insecureSkipTLSVerify": True, "caBundle": None}
            metadata = {"annotations": {bundle_repairs.RECORD: None}}
            path = f"{program.path}?fieldManager=kubectl-patch"  # an unknown program would own the field
            rig.cluster.api("PATCH", path, {"metadata": metadata, "spec": spec}, MERGE)
        present(insecure, rig.ca("stranger"))
        result = rig.run(SECURE)
        assert of_program(result, insecure) == [("refused", "not-published")]
        assert of_program(result, secured) == [("repaired", "")]
        wait_for(secured.is_called, evidence=secured.call)
        present(insecure, rig.old)
        assert of_program(rig.run(SECURE), insecure) == [("repaired", "")]
        assert (insecure.trusts(rig.old), insecure.trusts(rig.new)) == (True, True)
    finally:
        withdraw(rig.cluster)


def store(rig: RotationRig, name: str, ca: KeyPair, server_name: str) -> None:
    """Let the Secret that the pods mount have a certificate of a CA."""
    pair = pki.issue(ca, "hook", names=(server_name,))
    data = {"tls.crt": encoded(pair.certificate_pem.decode()), "tls.key": encoded(pair.key_pem.decode())}
    path = f"/api/v1/namespaces/{rig.name}/secrets"
    with contextlib.suppress(AdminApiError):  # It exists.
        rig.cluster.api("POST", path, {"metadata": {"name": name}})
    rig.cluster.api("PATCH", f"{path}/{name}", {"data": data}, MERGE)


def test_a_secret_that_may_not_be_read_is_not_seen(rig: RotationRig) -> None:
    """Each endpoint serves the successor. The pods come back with the certificate of their Secret."""
    hook, confirmed = rig.one(Shape("hook")), rig.one(Shape("confirmed"))
    late = rig.one(Shape("late", endpoints=NOT_READY))
    every, served = [hook, confirmed, late], [("waiting", "outgoing-served")]
    unseen, repaired = [("waiting", "endpoint-unseen")], [("repaired", "")]
    rig.rotation.publish()
    rig.become("audit", "repair", without="secrets")
    rig.run(PREPARE)
    rig.rotation.switch()
    for program in every:
        program.issue(rig.new)
        store(rig, program.name, rig.old, program.reach.server_name)
    rig.jump(datetime.timedelta(hours=25))
    names = [f"ValidatingWebhookConfiguration/{confirmed.full_name}"]
    plan = rig.run(FINISH, check_mode=True, accept=[{"unseen": names}])
    assert any(
        f"Secret {rig.name}/confirmed" in text for entry in plan["repairs"] for text in entry["evidence"]
    )
    result = rig.run(FINISH, accept=[{"unseen": names}], approved_plan=plan["plan_digests"])
    assert codes(result, every) == {"hook": unseen, "confirmed": repaired, "late": unseen}
    assert result["left"]["count"] == 2
    rig.become("audit", "repair")
    assert codes(rig.run(FINISH), [hook, late]) == {"hook": served, "late": served}
    for program in (hook, late):
        store(rig, program.name, rig.new, program.reach.server_name)
    assert codes(rig.run(FINISH), [hook, late]) == {"hook": repaired, "late": repaired}
    for program in every:
        wait_for(program.is_called, evidence=program.call)


def test_an_abandoned_rotation(rig: RotationRig) -> None:
    """The cluster withdraws the successor before the caBundles lose it. The user names it, and the phase finish removes it."""
    hook, busy = rig.one(Shape("hook")), rig.one(Shape("busy"))
    assert rig.findings() == {}
    rig.rotation.publish()
    assert of_program(rig.run(PREPARE), hook) == [("repaired", "")]
    rig.rotation.withdraw_successor()
    left = {hook.full_name: "warning", busy.full_name: "warning"}
    wait_for(lambda: rig.findings() == {"ca-left": left}, evidence=rig.findings)
    assert rig.run(FINISH)["repairs"] == []
    busy.issue(rig.new)
    rig.jump(datetime.timedelta(hours=2))  # a CA whose certificate is younger than an hour counts as in use
    result = rig.run(FINISH, cluster_ca={"outgoing": [Issued(rig.new.certificate, rig.new.key).fingerprint]})
    assert of_program(result, hook) == [("repaired", "")]
    assert of_program(result, busy) == [("waiting", "outgoing-served")]
    assert (hook.trusts(rig.old), hook.trusts(rig.new)) == (True, False)
    refused = rig.run(FINISH, cluster_ca={"outgoing": [rig.old.certificate_pem.decode()]})
    assert refused["code"] == "invalid-input"
    for program in (hook, busy):
        wait_for(program.is_called, evidence=program.call)
