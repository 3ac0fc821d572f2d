# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Nothing removes the trust in a certificate that a pod may serve, also if the pod is not ready or terminates at the moment."""

from __future__ import annotations

import contextlib
import datetime
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._certificate import (
    rotation,
    wait_until_served,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations import k8s_csr, webhook_cabundle
from ansible_collections.certflow.kubernetes.plugins.module_utils._repair import bundle_repairs
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook import trust_removal

from tests.support import clusters
from tests.support.certificates.authority import Issued
from tests.support.clusters import AdminApiError, pki
from tests.support.rig import encoded
from tests.support.rotation.rotation_rig import RotationRig, codes, of_program
from tests.support.waiting import wait_for
from tests.support.webhooks import endpoint_slices
from tests.support.webhooks.repair_rig import publish_as_istiod, withdraw
from tests.support.world import ACCEPTED, Program, Shape, World, shapes

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
    """webhook_cabundle refuses what it sees, and what it does not see."""
    for word, program in (("downtime", hook), ("unseen", url)):
        for mode, ca in (("absent", rig.old), ("exactly", rig.new)):
            assert set_bundle(rig, program, ca, mode, kubeconfig=rig.trust())["code"] == "still-needed"
        accept = [{word: [f"ValidatingWebhookConfiguration/{program.full_name}"]}]
        options: dict[str, Any] = {"check_mode": word == "unseen", "accept": accept}
        result = set_bundle(rig, program, rig.old, "absent", kubeconfig=rig.trust(), **options)
        assert result["changed"]
        # The clock of the API server has jumped.
        accepted, clocks = result["warnings"]
        assert program.full_name in accepted
        assert "clock" in clocks


def set_bundle(rig: World, program: Program, ca: KeyPair, mode: str, **options: Any) -> dict[str, Any]:
    pem = ca.certificate_pem.decode()
    return rig.operate(
        webhook_cabundle.OPERATION, targets=[program.target], ca_bundle=pem, mode=mode, **options
    )


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


OURS: dict[str, Any] = {"certificate": shapes.OURS, "bundle": None}


@pytest.fixture
def world() -> Iterator[World]:
    with (
        clusters.running({"removal": "local-services"}) as fleet,
        contextlib.closing(World(fleet["removal"])) as world,
    ):
        world.signer = "ephemeral-ca"
        yield world


@contextlib.contextmanager
def hidden(world: World, program: Program, *, is_deleted: bool) -> Iterator[None]:
    """Delete the Service for a moment, as helm --force does, or let it select no pod. The pods stay."""
    path = f"/api/v1/namespaces/{world.name}/services"
    service = world.cluster.api("GET", f"{path}/{program.name}")
    before = service["spec"]["selector"]
    if is_deleted:
        world.cluster.api("DELETE", f"{path}/{program.name}")
    else:
        world.cluster.api("PATCH", f"{path}/{program.name}", {"spec": {"selector": {"app": "none"}}}, MERGE)
        wait_for(lambda: not slices(world, program))
    yield
    if is_deleted:
        spec = {key: service["spec"][key] for key in ("clusterIP", "ports", "selector")}
        world.cluster.api("POST", path, {"metadata": {"name": program.name}, "spec": spec})
    else:
        world.cluster.api("PATCH", f"{path}/{program.name}", {"spec": {"selector": before}}, MERGE)
    wait_for(lambda: slices(world, program))


def slices(world: World, program: Program) -> list[Any]:
    """Return the endpoints in the EndpointSlices of the program."""
    path = f"{endpoint_slices.path(world.name)}?labelSelector=kubernetes.io/service-name={program.name}"
    items = world.cluster.api("GET", path)["items"]
    return [endpoint for item in items for endpoint in item["endpoints"] or ()]


@pytest.mark.parametrize("is_deleted", [True, False])
def test_pods_behind_a_service_that_is_away(world: World, is_deleted: bool) -> None:
    """state: absent deletes the Secret, and the pods that have it serve its certificate as soon as the Service leads to them again."""
    hook, other = world.one(Shape("ours", **OURS)), world.one(Shape("other"))
    new = pki.make_ca("new")
    other.set_bundle(other.bundle + new.certificate_pem.decode())
    options: dict[str, Any] = {
        "service": "ours",
        "namespace": world.name,
        "secret": {"name": "ours"},
        "wait_timeout": 10,
    }
    with hidden(world, hook, is_deleted=is_deleted), hidden(world, other, is_deleted=is_deleted):
        assert set_bundle(world, other, world.ca("cluster"), "absent")["code"] == "still-needed"
        assert set_bundle(world, other, new, "exactly")["code"] == "still-needed"
        absent = world.operate(k8s_csr.OPERATION, state="absent", targets=[hook.target], **options)
        assert absent["code"] == "still-needed"
    for program in (hook, other):
        wait_for(program.is_called, evidence=program.call)


def test_two_runs_that_each_leave_the_ca_that_the_other_removes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook, first = world.one(Shape("hook")), world.ca("cluster")
    twin = pki.make_ca("kubernetes", key=first.key)
    hook.set_bundle(hook.bundle + twin.certificate_pem.decode())
    judge, judged = trust_removal.check_removal, list[str]()

    def judge_and_wait(*arguments: Any) -> Iterator[str]:
        yield from judge(*arguments)
        judged.append("judged")
        if len(judged) == 1:
            assert set_bundle(world, hook, twin, "absent")["changed"]

    monkeypatch.setattr(trust_removal, "check_removal", judge_and_wait)
    assert set_bundle(world, hook, first, "absent")["code"] == "conflict"
    assert (hook.trusts(first), hook.call()) == (True, ACCEPTED)


def test_a_secret_that_is_restored_during_the_wait(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pod serves the new certificate until the kubelet updates its volume."""
    hook = world.one(Shape("restored", **OURS))
    path = f"/api/v1/namespaces/{world.name}/secrets/restored"
    before, wait = world.cluster.api("GET", path)["data"], wait_until_served.wait_until_served

    def wait_and_restore(*arguments: Any) -> Any:
        served = wait(*arguments)
        world.cluster.api("PATCH", path, {"data": before}, MERGE)
        return served

    monkeypatch.setattr(rotation, "wait_until_served", wait_and_restore)
    more = "more.certflow.test"
    renewed = world.renew(hook, names=[hook.reach.server_name, more], allow_names=[more])
    assert renewed["proof"]["verdict"] == "unproven"
    assert hook.call() == ACCEPTED


def test_two_ports_of_one_pod(world: World) -> None:
    """EndpointSlices that were written by hand lead to two programs in one pod."""
    hook = world.one(Shape("hook", reached=shapes.BY_SLICE, endpoints=(shapes.READY, shapes.READY)))
    world.one(Shape("pod"))
    new = pki.make_ca("new")
    hook.set_bundle(hook.bundle + new.certificate_pem.decode())
    world.forwarded[f"{world.name}/pod-0"] = hook.reach.address
    world.cluster.api("DELETE", f"{endpoint_slices.path(world.name)}/hook")
    for number, port in enumerate(hook.reach.ports):
        endpoint = endpoint_slices.endpoint("10.9.9.9", pod=(world.name, "pod-0"))
        body = endpoint_slices.endpoint_slice("hook", endpoint, port=port, name=f"hook-{number}")
        world.make(endpoint_slices.path(world.name), body)
    hook.issue(new, endpoints=(0,))
    assert set_bundle(world, hook, world.ca("cluster"), "absent")["code"] == "still-needed"
    assert {hook.call() for _turn in range(4)} == {ACCEPTED}


#: Restores the caBundle of a CustomResourceDefinition, as the policy of a platform team.
RESTORE = (
    "[JSONPatch{op: 'replace', path: '/spec/conversion/webhook/clientConfig/caBundle', "
    "value: oldObject.spec.conversion.webhook.clientConfig.caBundle}]"
)


def test_a_policy_that_restores_the_bundle_during_each_write(world: World) -> None:
    """No certificate is stored that the object does not trust, and no run reports a change that was not made."""
    hook = world.one(Shape("kept", kind=shapes.CONVERSION, **OURS))
    wait_for(hook.is_called)
    policies = "/apis/admissionregistration.k8s.io/v1/mutatingadmissionpolicies"
    rule = {
        "apiGroups": ["apiextensions.k8s.io"],
        "apiVersions": ["*"],
        "operations": ["UPDATE"],
        "resources": ["customresourcedefinitions"],
        "resourceNames": [hook.full_name],
    }
    spec = {
        "matchConstraints": {"resourceRules": [rule]},
        "failurePolicy": "Fail",
        "reinvocationPolicy": "Never",
        "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": RESTORE}}],
    }
    name = {"name": f"restore-{world.id}"}
    world.make(policies, {"metadata": name, "spec": spec})
    world.make(
        f"{policies.removesuffix('ies')}ybindings", {"metadata": name, "spec": {"policyName": name["name"]}}
    )
    before, new = hook.bundle, pki.make_ca("new")
    # The API server reads the policy within a second.
    wait_for(lambda: set_bundle(world, hook, new, "add", check_mode=True).get("code") == "object-refused", 30)
    assert set_bundle(world, hook, new, "add")["code"] == "object-refused"
    options: dict[str, Any] = {
        "service": "kept",
        "namespace": world.name,
        "signer_name": world.signer,
        "secret": {"name": "kept"},
    }
    renewed = world.operate(k8s_csr.OPERATION, **options, targets=[hook.target], renew_before="36500d")
    assert renewed.get("code") == "object-refused", renewed
    assert (hook.bundle, hook.call()) == (before, ACCEPTED)


def test_the_idle_secret_of_a_service_with_two(world: World) -> None:
    """The pods of the second Secret do not run now, as between two switches of a blue and a green Deployment."""
    hook, options = world.one(Shape("green", **OURS)), {"wait_timeout": 10}
    secrets = f"/api/v1/namespaces/{world.name}/secrets"
    arguments: dict[str, Any] = {
        "service": "green",
        "namespace": world.name,
        "signer_name": world.signer,
        **options,
    }
    world.operate(k8s_csr.OPERATION, secret={"name": "blue"}, targets=[hook.target], **arguments)
    renewed = world.renew(hook, renew_before="36500d", **options)
    assert (renewed["proof"]["verdict"], renewed["proof"]["dropped"], renewed["left"]["count"]) == (
        "ok",
        1,
        0,
    )
    assert hook.call() == ACCEPTED
    blue = world.cluster.api("GET", f"{secrets}/blue")["data"]
    world.cluster.api("PATCH", f"{secrets}/green", {"data": blue}, MERGE)
    assert hook.call() == ACCEPTED
