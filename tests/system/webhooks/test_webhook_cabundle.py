# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run webhook_cabundle on real API servers: its writes, its reads, and its refusals."""

from __future__ import annotations

import datetime
import json
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations import webhook_cabundle

from tests.support.clusters import audit
from tests.support.failures import has_failed
from tests.support.permissions import rbac
from tests.support.waiting import wait_for
from tests.support.webhooks.bundle_rig import (
    DAMAGED,
    MUTATING,
    SERVICE,
    VALIDATING,
    BundleRig,
    ca,
    client_config,
    fingerprint,
    leaf,
    pem,
    without_bundles,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.clusters import Fleet


@pytest.fixture
def rig(fleet: Fleet) -> Iterator[BundleRig]:
    rig = BundleRig(fleet["onprem"])
    try:
        yield rig
    finally:
        rig.close()


@pytest.mark.quick
@pytest.mark.parametrize("cluster", ["onprem", "eks"])
def test_four_kinds_of_objects_in_one_task_and_a_second_run_that_only_reads(
    fleet: Fleet, cluster: str
) -> None:
    rig = BundleRig(fleet[cluster])
    try:
        targets = [
            rig.webhooks(VALIDATING, None, pem("other"), pem("mine")),
            rig.webhooks(MUTATING, "\n"),
            rig.definition(),
            rig.api_service(),
        ]
        before = [rig.read(target) for target in targets]
        first = rig.run(*targets, ca_bundle=pem("mine"))
        assert first["changed"], first
        assert first["reason"] == "4 of 4 targets lacked certificates of the bundle"
        assert first["targets"][0]["webhooks"] == [
            {"name": "hook0.certflow.test", "before": [], "after": [fingerprint("mine")]},
            {
                "name": "hook1.certflow.test",
                "before": [fingerprint("other")],
                "after": [fingerprint("other"), fingerprint("mine")],
            },
            {"name": "hook2.certflow.test", "before": [fingerprint("mine")], "after": [fingerprint("mine")]},
        ]
        assert [rig.bundles(target) for target in targets] == [
            [pem("mine"), pem("other") + pem("mine"), pem("mine")],
            [pem("mine")],
            [pem("mine")],
            [pem("mine")],
        ]
        after = [rig.read(target) for target in targets]
        assert [without_bundles(obj) for obj in after] == [without_bundles(obj) for obj in before]
        asked = rig.asked()
        assert [verb for verb, _ in asked] == ["get"] * 4 + ["review"] * 4 + ["patch"] * 4
        assert {resource for verb, resource in asked if verb == "review"} == {"selfsubjectaccessreviews"}

        start = audit.received(rig.cluster.requests(user=rig.user)[-1]) + datetime.timedelta(microseconds=1)
        second = rig.run(*targets, ca_bundle=pem("mine"))
        assert (second["changed"], second["reason"]) == (False, "every target is as wanted already")
        assert "diff" not in second
        assert [verb for verb, _ in rig.asked(start)] == ["get"] * 4
    finally:
        rig.close()


def test_a_bundle_from_the_first_to_the_last_change(rig: BundleRig) -> None:
    for target in (rig.definition(pem("a")), rig.api_service(pem("a"))):
        accept = [{"unseen": [f"{target['kind']}/{target['name']}"]}]  # no server answers for it
        rig.run(target, ca_bundle=pem("b"))
        assert rig.bundles(target) == [pem("a") + pem("b")]
        assert rig.run(target, ca_bundle=pem("b") + pem("a"), mode="exactly")["changed"] is False
        assert rig.run(target, ca_bundle=pem("c"), mode="exactly")["code"] == "still-needed"
        result = rig.run(target, ca_bundle=pem("c"), mode="exactly", accept=accept)
        assert result["targets"][0]["webhooks"][0]["after"] == [fingerprint("c")]
        assert rig.bundles(target) == [pem("c")]
        assert rig.run(target, ca_bundle=pem("a"), mode="absent")["changed"] is False
        assert rig.run(target, ca_bundle=pem("a") + pem("c"), mode="absent", accept=accept)["changed"]
        assert rig.bundles(target) == [None]
        assert rig.run(target, ca_bundle=pem("c"), mode="absent")["changed"] is False


def test_only_the_selected_webhooks_are_written(rig: BundleRig) -> None:
    target = rig.webhooks(VALIDATING, None, None)
    rig.run({**target, "webhooks": ["hook1.certflow.test"]}, ca_bundle=pem("a"))
    assert rig.bundles(target) == [None, pem("a")]
    other = {"op": "replace", "path": "/webhooks/0/clientConfig/service/name", "value": "other"}
    rig.patch(target, other)
    rig.run(target, ca_bundle=pem("b"), service=SERVICE)
    assert rig.bundles(target) == [None, pem("a") + pem("b")]


def test_a_damaged_bundle_is_repaired(rig: BundleRig) -> None:
    """Kubernetes 1.31 and newer do not serve a CustomResourceDefinition with a damaged bundle."""
    definition, webhook = rig.definition(DAMAGED), rig.webhooks(VALIDATING, DAMAGED + pem("a"))
    refused = ("False", "InvalidCABundle")
    wait_for(
        lambda: condition(rig.read(definition), "Established") == refused,
        evidence=lambda: rig.read(definition),
    )
    rig.run(definition, webhook, ca_bundle=pem("b"))
    assert rig.bundles(definition) == [pem("b")]
    assert rig.bundles(webhook) == [pem("a") + pem("b")]
    assert wait_for(lambda: condition(rig.read(definition), "Established", "True"))


def without_status(obj: dict[str, Any]) -> dict[str, Any]:
    """Return the object without its status, which the API server writes after the creation."""
    metadata = {key: value for key, value in obj["metadata"].items() if key != "resourceVersion"}
    managers = [entry for entry in metadata["managedFields"] if entry.get("subresource") != "status"]
    return {**obj, "metadata": {**metadata, "managedFields": managers}, "status": {}}


def test_check_mode_reports_the_same_and_writes_nothing(rig: BundleRig) -> None:
    targets = [rig.webhooks(VALIDATING, pem("a")), rig.definition(), rig.api_service()]
    before = [without_status(rig.read(target)) for target in targets]
    planned = rig.run(*targets, ca_bundle=pem("b"), check_mode=True)
    assert [without_status(rig.read(target)) for target in targets] == before
    assert [verb for verb, _ in rig.asked()] == ["get"] * 3 + ["review"] * 3 + ["dry"] * 3
    done = rig.run(*targets, ca_bundle=pem("b"))
    same = ("changed", "targets", "reason", "diff")
    assert {key: planned[key] for key in same} == {key: done[key] for key in same}
    assert "BEGIN" not in json.dumps(done)
    assert fingerprint("b") in json.dumps(done["diff"]["after"])


def test_an_unknown_bundle_counts_as_a_change_in_check_mode(rig: BundleRig) -> None:
    target = rig.webhooks(VALIDATING, pem("a"))
    result = rig.run(target, ca_bundle=None, check_mode=True)
    assert result["changed"], result
    assert result["reason"] == "the bundle is not known before the certificate is issued"
    assert result["targets"][0]["webhooks"][0]["after"] is None
    assert rig.asked() == [("get", "validatingwebhookconfigurations")]
    absent_target = rig.run({**target, "name": "absent"}, ca_bundle=None, check_mode=True)
    assert has_failed(absent_target, "invalid-target", VALIDATING, "absent")
    assert rig.run(target, ca_bundle=None)["code"] == "bundle-broken"


def between(monkeypatch: pytest.MonkeyPatch, action: Callable[[], None]) -> None:
    """Call a function after the module has read and before it writes."""
    monkeypatch.setattr(webhook_cabundle, "require", lambda *_arguments: action())


def test_a_change_by_another_client_survives(rig: BundleRig, monkeypatch: pytest.MonkeyPatch) -> None:
    target = rig.webhooks(VALIDATING, None)
    theirs = {
        "op": "add",
        "path": "/webhooks/0/clientConfig/caBundle",
        "value": client_config(pem("a"))["caBundle"],
    }
    between(monkeypatch, lambda: rig.patch(target, theirs))
    result = rig.run(target, ca_bundle=pem("b"))
    assert rig.bundles(target) == [pem("a") + pem("b")]
    assert result["targets"][0]["webhooks"][0]["before"] == [fingerprint("a")]
    assert [verb for verb, _ in rig.asked()] == ["get", "patch", "get", "patch"]
    codes = [event["responseStatus"]["code"] for event in rig.cluster.requests(user=rig.user)]
    assert codes == [200, 409, 200, 200]


def test_webhooks_in_another_order_get_their_own_bundles(
    rig: BundleRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The API server answers 422: the test of the name in the patch fails before the resourceVersion is
    compared.
    """
    target = {**rig.webhooks(VALIDATING, None, None), "webhooks": ["hook1.certflow.test"]}
    between(monkeypatch, lambda: rig.patch(target, {"op": "remove", "path": "/webhooks/0"}))
    result = rig.run(target, ca_bundle=pem("a"))
    assert result["changed"], result
    assert rig.bundles(target) == [pem("a")]
    codes = [event["responseStatus"]["code"] for event in rig.cluster.requests(user=rig.user)]
    assert codes == [200, 422, 200, 200]


def test_a_failure_after_a_write_reports_what_was_written(
    rig: BundleRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = rig.webhooks(VALIDATING, None), rig.webhooks(MUTATING, None)
    between(monkeypatch, lambda: rig.patch(second, {"op": "remove", "path": "/webhooks"}))
    result = rig.run(first, second, ca_bundle=pem("a"))
    assert result["failed"]
    assert result["changed"]
    names = (rig.cluster.url, MUTATING, second["name"], VALIDATING, first["name"])
    assert has_failed(result, "invalid-target", *names), result
    assert rig.bundles(first) == [pem("a")]


def test_a_certificate_is_verified_for_the_name_of_each_webhook(rig: BundleRig) -> None:
    target = rig.webhooks(VALIDATING, None)
    certificate = leaf("a", "hook.kube-system.svc")
    assert rig.run(target, ca_bundle=pem("b"), certificate=certificate)["code"] == "certificate-untrusted"
    assert rig.run(target, ca_bundle=pem("a"), certificate=certificate)["changed"]
    assert rig.run(target, ca_bundle=pem("a"), certificate=certificate)["changed"] is False
    accept = [{"unseen": [f"{VALIDATING}/{target['name']}"]}]
    assert rig.run(target, ca_bundle=certificate, mode="exactly", certificate=certificate, accept=accept)[
        "changed"
    ]


CERT_MANAGER = {"cert-manager.io/inject-ca-from": "ns/hook"}

# Title -> the invalid object, the options, the code, names in the message.
BAD_INPUT: dict[
    str, tuple[Callable[[BundleRig], dict[str, Any]], Callable[[], dict[str, Any]], str, tuple[str, ...]]
] = {
    "another writer": (
        lambda s: s.webhooks(VALIDATING, None, annotations=CERT_MANAGER),
        lambda: {"ca_bundle": pem("a")},
        "owned-by-another",
        ("{kind}", "{name}", "cert-manager", "cert-manager.io/inject-ca-from:"),
    ),
    "another Service": (
        lambda s: s.webhooks(VALIDATING, None),
        lambda: {"ca_bundle": pem("a"), "service": {"namespace": "a", "name": "b"}},
        "invalid-target",
        ("{kind}", "{name}", "a/b", "kube-system/hook"),
    ),
    "another name": (
        lambda s: s.definition(),
        lambda: {"ca_bundle": pem("a"), "certificate": leaf("a", "a.b.svc", "hook.kube-system")},
        "certificate-untrusted",
        ("{kind}", "{name}", "hook.kube-system.svc"),
    ),
}  # fmt: skip

# The object before the invalid one, for rows in which the usual object would be invalid too.
GOOD: dict[str, Callable[[BundleRig], dict[str, Any]]] = {
    "another Service": lambda s: s.webhooks(MUTATING, None, service={"namespace": "a", "name": "b"}),
    "another name": lambda s: s.webhooks(MUTATING, None, service={"namespace": "b", "name": "a"}),
}


@pytest.mark.parametrize("row", BAD_INPUT)
def test_invalid_input_writes_nothing(rig: BundleRig, row: str) -> None:
    make, options, code, names = BAD_INPUT[row]
    good = GOOD[row](rig) if row in GOOD else rig.webhooks(MUTATING, None)
    bad, before = make(rig), rig.bundles(good)
    result = rig.run(good, bad, **options())
    told = (rig.cluster.url, *(name.format(**bad) for name in names))
    assert has_failed(result, code, *told), result
    assert "\n" not in result["msg"]
    assert result["remedy"]
    assert result["changed"] is False
    assert {verb for verb, _ in rig.asked()} <= {"get"}
    assert rig.bundles(good) == before


def test_a_private_key_is_refused_and_never_shown(rig: BundleRig) -> None:
    key = ca("a").key_pem.decode()
    body = "".join(key.split("\n")[1:-2])
    target = rig.webhooks(VALIDATING, None)
    pasted: list[dict[str, Any]] = [
        {"ca_bundle": pem("a") + key},
        {"ca_bundle": pem("a"), "certificate": pem("a") + key},
    ]
    for options in pasted:
        result = rig.run(target, **options)
        assert result["code"] == "contains-private-key"
        shown = json.dumps(result)
        assert not any(body[start : start + 16] in shown for start in range(0, len(body) - 16, 16))
    assert rig.asked() == []


def test_missing_permissions_are_found_before_the_first_write(rig: BundleRig) -> None:
    first, second = rig.webhooks(VALIDATING, None), rig.webhooks(MUTATING, None)
    may_read = ["get"], [first["name"], second["name"]]
    rig.kubeconfig = grant(rig, may_read, (["patch"], [first["name"]]))
    for check_mode in (True, False):
        result = rig.run(first, second, ca_bundle=pem("a"), check_mode=check_mode)
        resource = "mutatingwebhookconfigurations.admissionregistration.k8s.io"
        names = (rig.cluster.url, "patch", resource, second["name"])
        assert has_failed(result, "missing-permissions", *names), result
        assert "docs/rbac/bundle.yaml" in result["remedy"]
    assert rig.bundles(first) == [None]
    rig.kubeconfig = grant(rig, may_read, (["patch"], [first["name"], second["name"]]))
    assert rig.run(first, second, ca_bundle=pem("a"))["changed"]


def test_an_object_that_may_not_be_read_has_a_role_in_the_message(rig: BundleRig) -> None:
    target = rig.webhooks(VALIDATING, None)
    rig.kubeconfig = rig.cluster.kubeconfig_for(f"nobody-{rig.id}")
    result = rig.run(target, ca_bundle=pem("a"))
    assert has_failed(result, "missing-permissions", VALIDATING, target["name"]), result
    assert "docs/rbac/bundle.yaml" in result["remedy"]


def test_accept_is_needed_only_for_a_change(rig: BundleRig) -> None:
    target = rig.webhooks(VALIDATING, pem("a"), annotations=CERT_MANAGER)
    assert rig.run(target, ca_bundle=pem("a"))["changed"] is False
    assert rig.run(target, ca_bundle=pem("b"), accept=["cert-manager"])["changed"]
    assert rig.bundles(target) == [pem("a") + pem("b")]


def grant(rig: BundleRig, *rules: tuple[list[str], list[str]]) -> Any:
    """Return a kubeconfig of a new user with these verbs on webhook configurations of these names."""
    user = f"limited-{uuid.uuid4().hex[:8]}"
    kinds = ["validatingwebhookconfigurations", "mutatingwebhookconfigurations"]
    shared = {"apiGroups": ["admissionregistration.k8s.io"], "resources": kinds}
    role = rbac.cluster_role(*({**shared, "verbs": verbs, "resourceNames": names} for verbs, names in rules))
    rig.made += rbac.grant(rig.cluster, user, role)
    return rig.cluster.kubeconfig_for(user)


def condition(obj: dict[str, Any], kind: str, status: str = "") -> tuple[str, str] | None:
    """Return status and reason of a condition, None without it or with another status."""
    for entry in obj.get("status", {}).get("conditions") or ():
        if entry["type"] == kind and status in ("", entry["status"]):
            return entry["status"], entry["reason"]
    return None
