# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""webhook_cabundle against real API servers: what it writes, what it asks, what it refuses."""

from __future__ import annotations

import datetime
import json
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook import bundle_patch

from tests.support.clusters import audit
from tests.support.failures import has_failed
from tests.support.webhook_site import (
    API_SERVICE,
    DAMAGED,
    MUTATING,
    SERVICE,
    VALIDATING,
    Site,
    ca,
    client_config,
    fingerprint,
    leaf,
    pem,
    wait_for,
    without_bundles,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.clusters import Fleet


@pytest.fixture
def site(fleet: Fleet) -> Iterator[Site]:
    site = Site(fleet["onprem"])
    try:
        yield site
    finally:
        site.close()


@pytest.mark.quick
@pytest.mark.parametrize("cluster", ["onprem", "eks"])
def test_four_kinds_in_one_call_and_a_second_run_that_only_reads(fleet: Fleet, cluster: str) -> None:
    site = Site(fleet[cluster])
    try:
        targets = [
            site.webhooks(VALIDATING, None, pem("other"), pem("mine")),
            site.webhooks(MUTATING, "\n"),
            site.definition(),
            site.api_service(),
        ]
        before = [site.read(target) for target in targets]
        first = site.run(*targets, ca_bundle=pem("mine"))
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
        assert [site.bundles(target) for target in targets] == [
            [pem("mine"), pem("other") + pem("mine"), pem("mine")],
            [pem("mine")],
            [pem("mine")],
            [pem("mine")],
        ]
        after = [site.read(target) for target in targets]
        assert [without_bundles(obj) for obj in after] == [without_bundles(obj) for obj in before]
        asked = site.asked()
        assert [verb for verb, _ in asked] == ["get"] * 4 + ["create"] * 4 + ["patch"] * 4
        assert {resource for verb, resource in asked if verb == "create"} == {"selfsubjectaccessreviews"}

        start = audit.received(site.cluster.requests(user=site.user)[-1]) + datetime.timedelta(microseconds=1)
        second = site.run(*targets, ca_bundle=pem("mine"))
        assert (second["changed"], second["reason"]) == (False, "every target is as wanted already")
        assert "diff" not in second
        assert [verb for verb, _ in site.asked(start)] == ["get"] * 4
    finally:
        site.close()


def test_a_life_of_a_bundle(site: Site) -> None:
    for target in (site.definition(pem("a")), site.api_service(pem("a"))):
        site.run(target, ca_bundle=pem("b"))
        assert site.bundles(target) == [pem("a") + pem("b")]
        assert site.run(target, ca_bundle=pem("b") + pem("a"), mode="exactly")["changed"] is False
        result = site.run(target, ca_bundle=pem("c"), mode="exactly")
        assert result["targets"][0]["webhooks"][0]["after"] == [fingerprint("c")]
        assert site.bundles(target) == [pem("c")]
        assert site.run(target, ca_bundle=pem("a"), mode="absent")["changed"] is False
        assert site.run(target, ca_bundle=pem("a") + pem("c"), mode="absent")["changed"]
        assert site.bundles(target) == [None]
        assert site.run(target, ca_bundle=pem("c"), mode="absent")["changed"] is False


def test_only_the_wanted_webhooks_are_written(site: Site) -> None:
    target = site.webhooks(VALIDATING, None, None)
    site.run({**target, "webhooks": ["hook1.certflow.test"]}, ca_bundle=pem("a"))
    assert site.bundles(target) == [None, pem("a")]
    other = {"op": "replace", "path": "/webhooks/0/clientConfig/service/name", "value": "other"}
    site.patch(target, other)
    site.run(target, ca_bundle=pem("b"), service=SERVICE)
    assert site.bundles(target) == [None, pem("a") + pem("b")]


def test_a_damaged_bundle_is_mended(site: Site) -> None:
    """Kubernetes 1.31 and newer do not serve a CustomResourceDefinition with a damaged bundle."""
    definition, webhook = site.definition(DAMAGED), site.webhooks(VALIDATING, DAMAGED + pem("a"))
    assert wait_for(lambda: condition(site.read(definition), "Established")) == ("False", "InvalidCABundle")
    site.run(definition, webhook, ca_bundle=pem("b"))
    assert site.bundles(definition) == [pem("b")]
    assert site.bundles(webhook) == [pem("a") + pem("b")]
    assert wait_for(lambda: condition(site.read(definition), "Established", "True"))


def test_an_expired_certificate_goes_when_another_is_added(site: Site) -> None:
    old = leaf("old", "x", lifetime=datetime.timedelta(days=-1))
    target = site.webhooks(VALIDATING, old + pem("a"))
    assert site.run(target, ca_bundle=pem("a"))["changed"] is False
    site.run(target, ca_bundle=pem("b"))
    assert site.bundles(target) == [pem("a") + pem("b")]


def test_check_mode_says_the_same_and_writes_nothing(site: Site) -> None:
    targets = [site.webhooks(VALIDATING, pem("a")), site.definition(), site.api_service()]
    before = [site.read(target) for target in targets]
    planned = site.run(*targets, ca_bundle=pem("b"), check_mode=True)
    assert [site.read(target)["metadata"]["resourceVersion"] for target in targets] == [
        obj["metadata"]["resourceVersion"] for obj in before
    ]
    assert [verb for verb, _ in site.asked()] == ["get"] * 3 + ["create"] * 3 + ["dry"] * 3
    done = site.run(*targets, ca_bundle=pem("b"))
    same = ("changed", "targets", "reason", "diff")
    assert {key: planned[key] for key in same} == {key: done[key] for key in same}
    assert "BEGIN" not in json.dumps(done)
    assert fingerprint("b") in json.dumps(done["diff"]["after"])


def test_a_bundle_that_is_not_known_yet_is_a_change_in_check_mode(site: Site) -> None:
    target = site.webhooks(VALIDATING, pem("a"))
    result = site.run(target, ca_bundle=None, check_mode=True)
    assert result["changed"], result
    assert result["reason"] == "the bundle is not known before the certificate is issued"
    assert result["targets"][0]["webhooks"][0]["after"] is None
    assert site.asked() == [("get", "validatingwebhookconfigurations")]
    absent_target = site.run({**target, "name": "absent"}, ca_bundle=None, check_mode=True)
    assert has_failed(absent_target, "invalid-target", VALIDATING, "absent")
    assert site.run(target, ca_bundle=None)["code"] == "no-certificate"


def between(monkeypatch: pytest.MonkeyPatch, action: Callable[[], None]) -> None:
    """Do something after the module has read and before it writes."""
    monkeypatch.setattr(bundle_patch, "require", lambda *_arguments: action())


def test_a_change_by_somebody_else_survives(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    target = site.webhooks(VALIDATING, None)
    theirs = {
        "op": "add",
        "path": "/webhooks/0/clientConfig/caBundle",
        "value": client_config(pem("a"))["caBundle"],
    }
    between(monkeypatch, lambda: site.patch(target, theirs))
    result = site.run(target, ca_bundle=pem("b"))
    assert site.bundles(target) == [pem("a") + pem("b")]
    assert result["targets"][0]["webhooks"][0]["before"] == [fingerprint("a")]
    assert [verb for verb, _ in site.asked()] == ["get", "patch", "get", "patch"]
    codes = [event["responseStatus"]["code"] for event in site.cluster.requests(user=site.user)]
    assert codes == [200, 409, 200, 200]


def test_webhooks_that_change_places_get_their_own_bundles(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The API server answers 422 here: the guard of the name fails before the resourceVersion is compared."""
    target = {**site.webhooks(VALIDATING, None, None), "webhooks": ["hook1.certflow.test"]}
    between(monkeypatch, lambda: site.patch(target, {"op": "remove", "path": "/webhooks/0"}))
    result = site.run(target, ca_bundle=pem("a"))
    assert result["changed"], result
    assert site.bundles(target) == [pem("a")]
    codes = [event["responseStatus"]["code"] for event in site.cluster.requests(user=site.user)]
    assert codes == [200, 422, 200, 200]


def test_a_failure_in_the_middle_says_what_was_written(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = site.webhooks(VALIDATING, None), site.webhooks(MUTATING, None)
    between(monkeypatch, lambda: site.patch(second, {"op": "remove", "path": "/webhooks"}))
    result = site.run(first, second, ca_bundle=pem("a"))
    assert result["failed"]
    assert result["changed"]
    names = (site.cluster.url, MUTATING, second["name"], VALIDATING, first["name"])
    assert has_failed(result, "invalid-target", *names), result
    assert site.bundles(first) == [pem("a")]


def test_an_object_deleted_in_the_middle_is_named(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    target = site.webhooks(VALIDATING, None)
    between(monkeypatch, lambda: site.delete(target))
    result = site.run(target, ca_bundle=pem("a"))
    assert has_failed(result, "invalid-target", VALIDATING, target["name"]), result
    assert not result["changed"]


def test_a_certificate_is_verified_for_the_name_of_each_webhook(site: Site) -> None:
    target = site.webhooks(VALIDATING, None)
    certificate = leaf("a", "hook.kube-system.svc")
    assert site.run(target, ca_bundle=pem("b"), certificate=certificate)["code"] == "certificate-untrusted"
    assert site.run(target, ca_bundle=pem("a"), certificate=certificate)["changed"]
    assert site.run(target, ca_bundle=pem("a"), certificate=certificate)["changed"] is False
    assert site.run(target, ca_bundle=certificate, mode="exactly", certificate=certificate)["changed"]


CERT_MANAGER = {"cert-manager.io/inject-ca-from": "ns/hook"}

# Title -> the bad object, the options, the code, names in the line.
BAD_INPUT: dict[
    str, tuple[Callable[[Site], dict[str, Any]], Callable[[], dict[str, Any]], str, tuple[str, ...]]
] = {
    "a damaged one": (
        lambda s: s.webhooks(VALIDATING, None),
        lambda: {"ca_bundle": DAMAGED},
        "invalid-bundle",
        (),
    ),
    "too many": (
        lambda s: s.webhooks(VALIDATING, None),
        lambda: {"ca_bundle": pem("a") * 201},
        "invalid-bundle",
        ("201", "200"),
    ),
    "unknown webhook": (
        lambda s: {**s.webhooks(VALIDATING, None), "webhooks": ["other.certflow.test"]},
        lambda: {"ca_bundle": pem("a")},
        "invalid-target",
        ("{kind}", "{name}", "other.certflow.test", "hook0.certflow.test"),
    ),
    "unknown kind": (
        lambda _: {"kind": "Secret", "name": "x"},
        lambda: {"ca_bundle": pem("a")},
        "invalid-target",
        ("Secret", VALIDATING),
    ),
    "no conversion": (
        lambda s: s.definition(conversion=False),
        lambda: {"ca_bundle": pem("a")},
        "invalid-target",
        ("{kind}", "{name}", "spec.conversion.strategy"),
    ),
    "insecure API": (
        lambda s: s.api_service(insecureSkipTLSVerify=True),
        lambda: {"ca_bundle": pem("a")},
        "invalid-target",
        ("{kind}", "{name}", "insecureSkipTLSVerify:"),
    ),
    "local API": (
        lambda _: {"kind": API_SERVICE, "name": "v1.apps"},
        lambda: {"ca_bundle": pem("a")},
        "invalid-target",
        ("{kind}", "v1.apps", "spec.service)"),
    ),
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
    "expired": (
        lambda s: s.webhooks(VALIDATING, None),
        lambda: {"ca_bundle": leaf("a", "x", lifetime=datetime.timedelta(days=-1))},
        "bundle-expired",
        (),
    ),
}

# The object before the bad one, where an ordinary one would be bad as well.
GOOD: dict[str, Callable[[Site], dict[str, Any]]] = {
    "another Service": lambda s: s.webhooks(MUTATING, None, service={"namespace": "a", "name": "b"}),
    "another name": lambda s: s.webhooks(MUTATING, None, service={"namespace": "b", "name": "a"}),
}


@pytest.mark.parametrize("row", BAD_INPUT)
def test_bad_input_is_one_line_and_nothing_is_written(site: Site, row: str) -> None:
    make, options, code, names = BAD_INPUT[row]
    good = GOOD[row](site) if row in GOOD else site.webhooks(MUTATING, None)
    bad, before = make(site), site.bundles(good)
    result = site.run(good, bad, **options())
    told = (site.cluster.url, *(name.format(**bad) for name in names))
    assert has_failed(result, code, *told), result
    assert "\n" not in result["msg"]
    assert result["remedy"]
    assert result["changed"] is False
    assert {verb for verb, _ in site.asked()} <= {"get"}
    assert site.bundles(good) == before


def test_a_private_key_is_refused_and_never_shown(site: Site) -> None:
    key = ca("a").key_pem.decode()
    body = "".join(key.split("\n")[1:-2])
    target = site.webhooks(VALIDATING, None)
    pasted: list[dict[str, Any]] = [
        {"ca_bundle": pem("a") + key},
        {"ca_bundle": pem("a"), "certificate": pem("a") + key},
    ]
    for options in pasted:
        result = site.run(target, **options)
        assert result["code"] == "contains-private-key"
        shown = json.dumps(result)
        assert not any(body[start : start + 16] in shown for start in range(0, len(body) - 16, 16))
    assert site.asked() == []


def test_missing_rights_are_found_before_the_first_write(site: Site) -> None:
    first, second = site.webhooks(VALIDATING, None), site.webhooks(MUTATING, None)
    may_read = ["get"], [first["name"], second["name"]]
    site.kubeconfig = grant(site, may_read, (["patch"], [first["name"]]))
    for check_mode in (True, False):
        result = site.run(first, second, ca_bundle=pem("a"), check_mode=check_mode)
        resource = "mutatingwebhookconfigurations.admissionregistration.k8s.io"
        names = (site.cluster.url, "patch", resource, second["name"])
        assert has_failed(result, "missing-permissions", *names), result
        assert f"resourceNames: ['{second['name']}'], verbs: [patch]" in result["remedy"]
    assert site.bundles(first) == [None]
    site.kubeconfig = grant(site, may_read, (["patch"], [first["name"], second["name"]]))
    assert site.run(first, second, ca_bundle=pem("a"))["changed"]


def test_an_object_that_may_not_be_read_names_the_rule(site: Site) -> None:
    target = site.webhooks(VALIDATING, None)
    site.kubeconfig = site.cluster.kubeconfig_for(f"nobody-{site.id}")
    result = site.run(target, ca_bundle=pem("a"))
    assert has_failed(result, "missing-permissions", VALIDATING, target["name"]), result
    assert f"resourceNames: ['{target['name']}'], verbs: [get, patch]" in result["remedy"]


def test_take_over_writes_and_what_is_as_wanted_needs_none(site: Site) -> None:
    target = site.webhooks(VALIDATING, pem("a"), annotations=CERT_MANAGER)
    assert site.run(target, ca_bundle=pem("a"))["changed"] is False
    assert site.run(target, ca_bundle=pem("b"), take_over=True)["changed"]
    assert site.bundles(target) == [pem("a") + pem("b")]


def grant(site: Site, *rules: tuple[list[str], list[str]]) -> Any:
    """A kubeconfig of a new user with these verbs on webhook configurations of these names."""
    user = f"limited-{uuid.uuid4().hex[:8]}"
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    role = {
        "metadata": {"name": user},
        "rules": [
            {
                "apiGroups": ["admissionregistration.k8s.io"],
                "resources": ["validatingwebhookconfigurations", "mutatingwebhookconfigurations"],
                "verbs": verbs,
                "resourceNames": names,
            }
            for verbs, names in rules
        ],
    }
    site.cluster.api("POST", f"{rbac}/clusterroles", role)
    site.made.append(f"{rbac}/clusterroles/{user}")
    group = "rbac.authorization.k8s.io"
    binding = {
        "metadata": {"name": user},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": user},
        "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
    }
    site.cluster.api("POST", f"{rbac}/clusterrolebindings", binding)
    site.made.append(f"{rbac}/clusterrolebindings/{user}")
    return site.cluster.kubeconfig_for(user)


def condition(obj: dict[str, Any], kind: str, status: str = "") -> tuple[str, str] | None:
    """Status and reason of a condition; None while it is not there, or not of the wanted status."""
    for entry in obj.get("status", {}).get("conditions") or ():
        if entry["type"] == kind and status in ("", entry["status"]):
            return entry["status"], entry["reason"]
    return None
