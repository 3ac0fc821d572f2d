# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Repairs of broken webhooks on a real control plane, with the answer of the API server before and after."""

from __future__ import annotations

import json
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.client import Client
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations.audit_info import (
    OPERATION as AUDIT,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._repair import bundle_repairs
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.probe import probe_calls

from tests.support.audit.audit_rig import as_pair, leaf
from tests.support.certificates.authority import authority
from tests.support.clusters import pki
from tests.support.clusters.cluster import LEADER
from tests.support.rig import encoded
from tests.support.waiting import wait_for
from tests.support.webhooks import called_objects
from tests.support.webhooks.bundle_rig import JSON_PATCH, ca, pem
from tests.support.webhooks.https_webhook import allow, convert
from tests.support.webhooks.probe_rig import API_SERVICES, DEFINITIONS, HOOKS
from tests.support.webhooks.repair_rig import ISTIO_CA, RepairRig, of, states

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.clusters import Cluster, Fleet

REFUSED = "certificate signed by unknown authority"
MERGE = "application/merge-patch+json"
APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
#: A webhook of the population -> the field manager that wrote its caBundle, the annotations and labels, and the code of the refusal.
OWNERS: dict[str, tuple[str, dict[str, Any], str]] = {
    "by-hand": ("kubectl-create", {}, ""),
    "helm-elsewhere": ("kubectl-edit", {"labels": {"app.kubernetes.io/managed-by": "Helm"}}, ""),
    "argo-elsewhere": ("kubectl-patch", {"annotations": {"argocd.argoproj.io/tracking-id": "a:b/c:d/e"}}, ""),
    "helm": ("helm", {}, "owned-by-another"),
    "argocd": ("argocd-controller", {}, "owned-by-another"),
    "operator": ("pilot-discovery", {}, "owned-by-another"),
    "cainjector": ("kubectl-create", {"annotations": {"cert-manager.io/inject-ca-from": "a/b"}}, "owned-by-another"),
}  # fmt: skip


@pytest.fixture(scope="module")
def rig(fleet: Fleet) -> Iterator[RepairRig]:
    rig = RepairRig(fleet["onprem"])
    rig.publish(pem("other") + pem("good"))
    try:
        yield rig
    finally:
        rig.close()


@pytest.fixture(autouse=True)
def empty(rig: RepairRig) -> Iterator[None]:
    """Delete the objects of a test, so that the next audits have no finding about them."""
    kept = len(rig.made)
    yield
    while len(rig.made) > kept:
        rig.cluster.api("DELETE", rig.made.pop())


def bundles(rig: RepairRig, name: str) -> list[str]:
    obj = rig.cluster.api("GET", f"{HOOKS}/{name}")
    return [webhook["clientConfig"].get("caBundle", "") for webhook in obj["webhooks"]]


def test_each_owner_of_the_field(rig: RepairRig) -> None:
    """One run repairs what has no other owner, also with marks of managers on the object. The plan covers the run."""
    names = {key: rig.broken(key, by=by, metadata=metadata) for key, (by, metadata, _code) in OWNERS.items()}
    applied = {
        "webhooks": [{"name": f"applied.{rig.name}.certflow.test", "clientConfig": {"caBundle": "eA=="}}]
    }
    names["applied"] = rig.broken("applied", metadata={"annotations": {APPLIED: json.dumps(applied)}})
    codes = {**{key: code for key, (_by, _metadata, code) in OWNERS.items()}, "applied": "owned-by-another"}
    assert {key: REFUSED in rig.ask(key) for key in names} == dict.fromkeys(names, True)
    before = len(rig.writes())
    plan = rig.repair(check_mode=True)
    expected = {key: [("ca-mismatch", "refused" if code else "planned", code)] for key, code in codes.items()}
    assert {key: states(plan, name) for key, name in names.items()} == expected
    assert len(rig.writes()) == before
    result = rig.repair(approved_plan=plan["plan_digests"])
    done = {key: [("ca-mismatch", "refused" if code else "repaired", code)] for key, code in codes.items()}
    assert {key: states(result, name) for key, name in names.items()} == done
    assert len(rig.writes()) - before == list(codes.values()).count("")
    answers = {key: rig.ask(key) == "accepted" for key in names}
    assert answers == {key: not code for key, code in codes.items()}
    assert {key: of(result, names[key])[0]["proof"] for key in names} == {
        key: "" if code else "call" for key, code in codes.items()
    }
    again = rig.repair()
    assert (again["changed"], states(again, names["by-hand"])) == (False, [])
    accepted = rig.repair(
        accept=[{"manager:pilot-discovery": [f"ValidatingWebhookConfiguration/{names['operator']}"]}]
    )
    assert states(accepted, names["operator"]) == [("ca-mismatch", "repaired", "")]
    assert states(accepted, names["helm"])[0][2] == "owned-by-another"


def test_a_ca_is_never_trusted_because_it_is_served(rig: RepairRig) -> None:
    """The endpoint of an attacker serves a certificate of a CA with the name of the published one.

    The attacker may also write ConfigMaps in the namespace of the Service.
    """
    fake = authority("good")
    text = as_pair(fake).certificate_pem.decode()
    rig.make(rig.config_maps, {"metadata": {"name": ISTIO_CA}, "data": {"root-cert.pem": text}})
    server = rig.serve(leaf(rig.server_name, issuer=fake))
    name = rig.broken("stranger", port=server)
    before = rig.cluster.api("GET", f"{HOOKS}/{name}")
    result = rig.repair()
    assert states(result, name) == [("ca-mismatch", "refused", "not-published")]
    assert any("istio-ca-root-cert" in line for line in of(result, name)[0]["evidence"])
    assert rig.cluster.api("GET", f"{HOOKS}/{name}") == before


def test_several_webhooks_of_one_object_are_one_write(rig: RepairRig) -> None:
    name = f"several-{rig.name}"
    webhooks = [
        rig.webhook(name=f"{part}.{rig.name}.certflow.test", bundle=pem("stranger")) for part in ("a", "b")
    ]
    rig.cluster.api(
        "POST", f"{HOOKS}?fieldManager=kubectl-create", {"metadata": {"name": name}, "webhooks": webhooks}
    )
    rig.made.append(f"{HOOKS}/{name}")
    before = len(rig.writes())
    result = rig.repair()
    assert states(result, name) == [("ca-mismatch", "repaired", "")] * 2
    assert len(rig.writes()) == before + 1
    first, second = (entry["writes"] for entry in of(result, name))
    assert first == second
    record = json.loads(
        rig.cluster.api("GET", f"{HOOKS}/{name}")["metadata"]["annotations"][bundle_repairs.RECORD]
    )
    assert len(record) == 2


def test_an_operator_that_overwrites_the_field_is_not_fought(
    rig: RepairRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user accepted it. In three nightly runs, the field is written once. At the end, the field has the operator's value."""
    name = rig.broken("fought", by="some-operator")
    stale = bundles(rig, name)
    path = f"{HOOKS}/{name}?fieldManager=some-operator"
    patch = Client.patch

    def overwrite(self: Client, *arguments: Any, **options: Any) -> dict[str, Any]:
        answer = patch(self, *arguments, **options)
        if not options.get("dry_run"):
            operation = {"op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": stale[0]}
            rig.cluster.api("PATCH", path, [operation], JSON_PATCH)
        return answer

    monkeypatch.setattr(Client, "patch", overwrite)
    before = len(rig.writes())
    results = [rig.repair(accept=["manager:some-operator"]) for _night in range(3)]
    assert [states(result, name) for result in results[1:]] == [
        [("ca-mismatch", "refused", "overwritten-by")]
    ] * 2
    assert (results[0]["code"], states(results[0], name)[0][1]) == ("repair-failed", "overwritten")
    assert len(rig.writes()) == before + 1
    assert bundles(rig, name) == stale


def change_before_patch(rig: RepairRig, change: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a change between the read of an object and the first write."""
    patch, changes = Client.patch, [change]

    def patched(self: Client, *arguments: Any, **options: Any) -> dict[str, Any]:
        if changes and not options.get("dry_run"):
            changes.pop()()
        return patch(self, *arguments, **options)

    monkeypatch.setattr(Client, "patch", patched)


def test_an_object_that_changes_before_the_write_is_judged_again(
    rig: RepairRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = rig.broken("moved")
    path = f"{HOOKS}/{name}?fieldManager=some-operator"
    value = [{"op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": encoded(pem("stranger"))}]
    change_before_patch(rig, lambda: rig.cluster.api("PATCH", path, value, JSON_PATCH), monkeypatch)
    result = rig.repair()
    assert states(result, name) == [("ca-mismatch", "refused", "conflict")]
    assert bundles(rig, name) == [encoded(pem("stranger"))]


def test_an_addition_without_effect_stays(rig: RepairRig) -> None:
    """The endpoint takes another certificate after the write. The next run repairs that one, and no record is in its way."""
    server = rig.serve(rig.leaf())
    name = rig.broken("unproven", port=server)
    patch = Client.patch
    newest = pki.issue(ca("new"), "hook", names=(rig.server_name,))

    def replace_certificate(self: Client, *arguments: Any, **options: Any) -> dict[str, Any]:
        answer = patch(self, *arguments, **options)
        rig.servers[-1].present(newest)
        return answer

    with pytest.MonkeyPatch.context() as context:
        context.setattr(Client, "patch", replace_certificate)
        result = rig.repair(wait_timeout=3)
    assert (states(result, name), result["left"]["count"]) == ([("ca-mismatch", "written", "unproven")], 1), (
        result
    )
    assert bundles(rig, name) == [encoded(pem("other") + pem("good"))]
    rig.publish(pem("other") + pem("good") + pem("new"))
    try:
        assert states(rig.repair(), name) == [("ca-mismatch", "repaired", "")]
    finally:
        rig.publish(pem("other") + pem("good"))


def test_an_api_server_that_dies_between_the_write_and_the_proof(
    rig: RepairRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is killed, and starts again while the proof waits."""
    name = rig.broken("killed")
    patch, kills = Client.patch, [True]

    def patch_and_kill(self: Client, *arguments: Any, **options: Any) -> dict[str, Any]:
        answer = patch(self, *arguments, **options)
        if kills:
            kills.pop()
            rig.cluster.stop("kube-apiserver", signal.SIGKILL)
            started = threading.Timer(3, rig.cluster.start, ["kube-apiserver"])
            started.start()
        return answer

    monkeypatch.setattr(Client, "patch", patch_and_kill)
    result = rig.repair(wait_timeout=120)
    assert states(result, name) == [("ca-mismatch", "repaired", "")], result
    wait_for(lambda: rig.ask("killed") == "accepted")
    assert kills == []
    keep_manager(rig.cluster)


def keep_manager(cluster: Cluster) -> None:
    """Wait until the controller manager works for the next tests. It ends if no API server answers for 10 seconds."""
    before = cluster.api("GET", LEADER)["spec"]["renewTime"]

    def is_leading() -> bool:
        cluster.start_again("kube-controller-manager")
        return bool(cluster.api("GET", LEADER)["spec"]["renewTime"] != before)

    wait_for(is_leading, seconds=120)


@pytest.mark.parametrize("is_changed", [False, True])
def test_a_removal_without_effect_is_put_back(rig: RepairRig, is_changed: bool) -> None:
    """The endpoint takes another certificate after the write. With another client in between, its field stays as it is.

    The API server itself writes the status in between, so another version of the object alone keeps nothing.

    The record of the write ends with it, so a later run is free to secure the API.
    """
    port = rig.serve(rig.leaf())
    server = rig.servers[-1]
    server.answer = lambda review: (200, {"kind": "APIResourceList"}) if "path" in review else allow(review)
    name = make_api_service(rig, port=port, insecureSkipTLSVerify=True)
    options: dict[str, Any] = {"kinds": ["secure-apiservice"], "accept": [{"unseen": [f"APIService/{name}"]}]}
    path, patch, writes = f"{API_SERVICES}/{name}", Client.patch, [1]
    field = {"spec": {"caBundle": encoded(pem("other"))}}
    change = field if is_changed else {"metadata": {"labels": {"changed": "yes"}}}

    def replace_certificate(self: Client, *arguments: Any, **options: Any) -> dict[str, Any]:
        if not writes:
            rig.cluster.api("PATCH", path, change, MERGE)
        answer = patch(self, *arguments, **options)
        if writes:
            writes.pop()
            server.present(pki.issue(pki.make_ca("new"), "hook", names=(rig.server_name,)))
        return answer

    with pytest.MonkeyPatch.context() as context:
        context.setattr(Client, "patch", replace_certificate)
        result = rig.repair(**options, wait_timeout=3)
    end = "failed" if is_changed else "put-back"
    assert states(result, name) == [("apiservice-insecure", end, "unproven")], result
    obj = rig.cluster.api("GET", path)
    assert obj["spec"].get("insecureSkipTLSVerify", False) is not is_changed
    assert (bundle_repairs.RECORD in (obj["metadata"].get("annotations") or {})) is is_changed
    if not is_changed:
        server.present(rig.leaf())
        wait_for(lambda: probe_calls.availability(rig.cluster.api("GET", path))[0])
        again = rig.repair(**options)
        assert states(again, name) == [("apiservice-insecure", "repaired", "")], again


def test_a_bundle_that_is_empty_or_broken(rig: RepairRig) -> None:
    names = {}
    for key, value in (("empty", ""), ("broken", encoded("no certificate"))):
        name = names[key] = f"{key}-{rig.name}"
        webhook = rig.webhook(name=f"{name}.certflow.test", objectSelector={"matchLabels": {"probe": key}})
        webhook["clientConfig"]["caBundle"] = value
        rig.cluster.api(
            "POST",
            f"{HOOKS}?fieldManager=kubectl-create",
            {"metadata": {"name": name}, "webhooks": [webhook]},
        )
        rig.made.append(f"{HOOKS}/{name}")
    result = rig.repair()
    assert {key: states(result, name) for key, name in names.items()} == {
        key: [(f"bundle-{key}", "repaired", "")] for key in names
    }
    assert {key: rig.ask(key) for key in names} == dict.fromkeys(names, "accepted")


def test_a_finding_that_is_named(rig: RepairRig) -> None:
    """Only the named finding is repaired. A finding of no named kind is listed, and an old one is gone."""
    wanted, other = rig.broken("wanted"), rig.broken("unwanted")
    insecure = make_api_service(rig, insecureSkipTLSVerify=True)
    audit = rig.operate(AUDIT, probe_urls=True)
    named = [
        finding
        for finding in audit["findings"]
        if finding["object"]["name"] in (wanted, insecure)
        and finding["check"] in ("ca-mismatch", "apiservice-insecure")
    ]
    result = rig.repair(findings=[*named, "0" * 32])
    assert states(result, wanted) == [("ca-mismatch", "repaired", "")]
    assert states(result, insecure) == [("apiservice-insecure", "refused", "not-repairable")]
    assert result["left"]["count"] == 2
    assert states(result, other) == []
    assert [entry["code"] for entry in result["repairs"] if entry["finding"] == "0" * 32] == ["not-proven"]
    again = rig.repair(findings=named)
    assert states(again, wanted) == [("ca-mismatch", "gone", "")]


def test_an_object_that_was_created_again_is_not_gone(rig: RepairRig) -> None:
    """An operator deletes the object and creates it again between the audit and the repair."""
    name = rig.broken("recreated")
    audit = rig.operate(AUDIT, probe_urls=True)
    named = [
        entry
        for entry in audit["findings"]
        if entry["object"]["name"] == name and entry["check"] == "ca-mismatch"
    ]
    assert [entry["check"] for entry in named] == ["ca-mismatch"]
    rig.cluster.api("DELETE", rig.made.pop())
    assert states(rig.repair(findings=named), name) == [("ca-mismatch", "gone", "")], "it does not exist"
    assert rig.broken("recreated") == name
    result = rig.repair(findings=named)
    assert states(result, name) == [("ca-mismatch", "refused", "recreated")]
    assert (result["left"]["count"], result["changed"]) == (1, False)
    assert REFUSED in rig.ask("recreated")


def make_api_service(rig: RepairRig, *, port: int = 0, **spec: Any) -> str:
    name = f"v1.g{len(rig.made)}.{rig.name}.test"
    config = called_objects.service(rig.name, "hook", port=port or rig.server.port)
    body = called_objects.api_service(name[3:], config, **spec)
    rig.cluster.api("POST", f"{API_SERVICES}?fieldManager=kubectl-create", body)
    rig.made.append(f"{API_SERVICES}/{name}")
    return name


def test_an_aggregated_api_without_verification(rig: RepairRig) -> None:
    """One write ends insecureSkipTLSVerify and sets the CA. A certificate in memory, as of metrics-server, is refused."""
    rig.server.answer = lambda review: (
        (200, {"kind": "APIResourceList"}) if "path" in review else allow(review)
    )
    secured = make_api_service(rig, insecureSkipTLSVerify=True)
    memory = rig.serve(as_pair(authority("metrics-server")))
    in_memory = make_api_service(rig, port=memory, insecureSkipTLSVerify=True)
    path = f"{API_SERVICES}/{secured}"
    wait_for(lambda: probe_calls.availability(rig.cluster.api("GET", path))[0])
    before = len(rig.writes())
    # The Service leads to an address outside of the cluster, so it is not known if other machines answer there.
    unseen = rig.repair(kinds=["secure-apiservice"])
    assert states(unseen, secured) == [("apiservice-insecure", "waiting", "endpoint-unseen")]
    result = rig.repair(kinds=["secure-apiservice"], accept=[{"unseen": [f"APIService/{secured}"]}])
    assert states(result, secured) == [("apiservice-insecure", "repaired", "")]
    assert states(result, in_memory) == [("apiservice-insecure", "refused", "not-published")]
    assert len(rig.writes()) == before + 1
    spec = rig.cluster.api("GET", path)["spec"]
    assert (spec["caBundle"], spec.get("insecureSkipTLSVerify")) == (encoded(pem("good")), None)
    assert of(result, secured)[0]["proof"] == "call"


def test_a_conversion_and_a_webhook_that_refuses_every_patch_of_it(rig: RepairRig) -> None:
    """The webhook with Fail intercepts the write of the definition, so its own bundle is repaired before it."""
    definition = rig.definition()
    rig.server.answer = lambda review: (convert if "objects" in review["request"] else allow)(review)
    rig.cluster.api(
        "PATCH",
        f"{DEFINITIONS}/{definition['name']}?fieldManager=kubectl-edit",
        {"spec": {"conversion": {"webhook": {"clientConfig": {"caBundle": encoded(pem("other"))}}}}},
        MERGE,
    )
    rule = {
        "apiGroups": ["apiextensions.k8s.io"],
        "apiVersions": ["v1"],
        "operations": ["UPDATE"],
        "resources": ["customresourcedefinitions"],
    }
    guard = rig.broken("guard", rules=[rule], namespaceSelector={}, objectSelector={})
    result = rig.repair()
    assert ("ca-mismatch", "repaired", "") in states(result, guard), result
    assert [state for _check, state, _code in states(result, definition["name"])] == ["repaired"], result
    assert [entry["proof"] for entry in of(result, definition["name"])] == ["call"]
