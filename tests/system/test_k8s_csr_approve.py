# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""k8s_csr_approve and k8s_csr_info on real control planes."""

from __future__ import annotations

import base64
import contextlib
import threading
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509 import private_keys, signing_request

from tests.support.clusters import APP_SERVING
from tests.support.csr_site import CSRS, KUBELET_SERVING, Site, assert_one_line
from tests.support.failures import absent, has_failed
from tests.unit.plugins.module_utils._x509 import pkcs10

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.clusters import Fleet

LABEL = "certflow.test/site"


@pytest.fixture
def site(fleet: Fleet) -> Iterator[Site]:
    with contextlib.closing(Site(fleet["onprem"])) as site:
        yield site


@pytest.fixture
def eks(fleet: Fleet) -> Iterator[Site]:
    with contextlib.closing(Site(fleet["eks"], APP_SERVING)) as site:
        yield site


def request(
    site: Site,
    *names: str,
    signer: str = "",
    common_name: str = "system:node:x",
    pem: str = "",
    **spec: Any,
) -> str:
    """Create a request as another user would, labelled with the site's name. Return its own name."""
    pem = pem or signing_request.build(
        private_keys.generate("ecdsa-p256"),
        common_name=common_name,
        organizations=("system:nodes",),
        dns_names=names or (f"hook.{site.name}.svc",),
    )
    body = {
        "metadata": {"name": f"asked-{uuid.uuid4().hex[:8]}", "labels": {LABEL: site.name}},
        "spec": {
            "request": base64.b64encode(pem.encode()).decode(),
            "signerName": signer or site.signer,
            "usages": ["digital signature", "key encipherment", "server auth"],
            **spec,
        },
    }
    return str(site.make(CSRS, body)["metadata"]["name"])


def expect(site: Site, **more: Any) -> dict[str, Any]:
    return {"service": "hook", "namespace": site.name, **more}


def conditions(site: Site, name: str) -> list[str]:
    csr = site.csr(name)
    assert csr is not None
    return [entry["type"] for entry in csr["status"].get("conditions") or ()]


def test_by_label_and_by_field(site: Site) -> None:
    names = {request(site), request(site)}
    result = site.approve(label_selectors=[f"{LABEL}={site.name}"], expect=expect(site))
    assert {entry["name"] for entry in result["csrs"] if entry["changed"]} == names
    signer = f"example.com/{site.name}"
    name = request(site, signer=signer)
    result = site.approve(field_selectors=[f"spec.signerName={signer}"], expect=expect(site))
    assert [entry["name"] for entry in result["csrs"]] == [name]
    assert conditions(site, name) == ["Approved"]


MISMATCHES: list[tuple[dict[str, Any], str]] = [
    ({"service": "other"}, "ForbiddenName"),
    ({"signer_name": APP_SERVING}, "Signer"),
    ({"requester": "somebody"}, "Requester"),
    ({"usages": ["client auth"]}, "Usages"),
    ({"dns_names": ["hook"]}, "Names"),
    ({"common_name": "y"}, "Subject"),
    ({"longest_seconds": 3600}, "Lifetime"),
    ({"public_key_sha256": "0"}, "PublicKey"),
]


@pytest.mark.parametrize(("differs", "reason"), MISMATCHES)
def test_a_mismatch_writes_nothing(site: Site, differs: dict[str, Any], reason: str) -> None:
    name = request(site)
    result = site.approve(name=name, expect={**expect(site), **differs})
    assert_one_line(result, "invalid-request", site.cluster.url, name, f"({reason})", "allow_names")
    assert not absent([name, "'kubernetes-admin'"], result["evidence"][-1])
    assert conditions(site, name) == []
    assert site.writes() == []


@pytest.mark.parametrize(
    ("usages", "reason"),
    [
        (["digital signature", "key encipherment"], "ClientIdentity"),
        (["server auth", "code signing"], "UnexpectedUsage"),
    ],
)
def test_usages_that_are_not_only_a_servers_write_nothing(site: Site, usages: list[str], reason: str) -> None:
    """A signer may copy all usages, and the API server accepts a certificate without a purpose as a login."""
    name = request(site, signer="example.com/takes-all", common_name="root", usages=usages)
    result = site.approve(name=name, expect=expect(site, signer_name="example.com/takes-all"))
    assert_one_line(result, "invalid-request", name, f"({reason})", "allow_names")
    assert (conditions(site, name), site.writes()) == ([], [])


READINGS = list(pkcs10.attacks("harmless", "evil"))


@pytest.mark.parametrize("title", READINGS)
def test_a_request_that_the_api_server_reads_in_another_way_stays_pending(site: Site, title: str) -> None:
    """The API server accepts each of them, and its signer would sign the other name."""
    own, usages = f"hook.{site.name}.svc", ["digital signature", "key encipherment", "server auth"]
    shown: dict[str, Any] = {"common_name": "hook", "dns_names": [own]}
    pem, signer = pkcs10.attacks(own, "kubernetes.default.svc")[title], site.signer
    if title == "common name that Go passes over":
        usages, signer = ["digital signature", "client auth"], "kubernetes.io/kube-apiserver-client"
        shown, pem = (
            {"common_name": "alice", "dns_names": []},
            pkcs10.attacks("alice", "root-of-cluster")[title],
        )
    name = request(site, pem=pem, signer=signer, usages=usages)
    expected = {"signer_name": signer, "usages": usages, "organizations": [], "ip_addresses": [], **shown}
    result = site.approve(name=name, expect=expect(site, **expected), allow_client_identity=True)
    assert_one_line(result, "request-not-canonical", name, "(Integrity)")
    assert (conditions(site, name), site.writes()) == ([], [])
    [entry] = site.info(name=name, gather=["csrs"])["csrs"]
    assert (entry["names"], entry["subject"]) == ([], "")
    assert "not in canonical form" in entry["unreadable"]
    assert site.approve(name=name, decision="deny")["changed"]


def test_usages_inside_a_request_do_not_go_beyond_those_of_the_object(site: Site) -> None:
    inside = pkcs10.extended_usage("1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2")
    names = pkcs10.names(pkcs10.dns(f"hook.{site.name}.svc"))
    name = request(site, pem=pkcs10.pem(pkcs10.request(names, inside)))
    assert_one_line(
        site.approve(name=name, expect=expect(site)), "invalid-request", name, "auth'", "(Usages)"
    )
    assert conditions(site, name) == []


def test_a_name_that_only_some_signers_copy_is_refused(site: Site) -> None:
    names = pkcs10.names(pkcs10.dns(f"hook.{site.name}.svc"), pkcs10.other_name("administrator@corp"))
    name = request(site, pem=pkcs10.pem(pkcs10.request(names)))
    result = site.approve(name=name, expect=expect(site))
    assert_one_line(result, "request-not-canonical", name, "otherName", "(Integrity)")
    assert conditions(site, name) == []


@pytest.mark.parametrize("decision", ["approve", "deny"])
def test_a_wide_selector_decides_nothing_about_a_node(site: Site, decision: str) -> None:
    """One that does not fit, and nothing is written: not the node's renewal, not the others."""
    mine, node = request(site), request(site, "ip-10-0-0-1", common_name="system:node:ip-10-0-0-1")
    result = site.approve(label_selectors=[f"{LABEL}={site.name}"], decision=decision, expect=expect(site))
    assert_one_line(result, "invalid-request", node, "(ForbiddenName)")
    assert (conditions(site, mine), conditions(site, node)) == ([], [])
    assert site.writes() == []


def test_denying_by_name_needs_no_excuse(site: Site) -> None:
    """What breaks the rules is what one wants to deny; what the task says it expects must hold all the same."""
    name = request(site, "kubernetes.default.svc")
    assert has_failed(site.approve(name=name, expect=expect(site)), "invalid-request", "(ForbiddenName)")
    other = site.approve(name=name, decision="deny", expect={"requester": "somebody"})
    assert has_failed(other, "invalid-request", "(Requester)")
    denied = site.approve(name=name, decision="deny", decision_message="Not this name.")
    assert denied["changed"]
    csr = site.csr(name)
    assert csr is not None
    assert csr["status"]["conditions"][0]["message"] == "Not this name."


def test_decisions_of_others_stay(site: Site) -> None:
    name = request(site)
    site.decide(name)
    assert_one_line(site.approve(name=name, decision="deny"), "already-decided", name, "Approved")
    selected = site.approve(label_selectors=[f"{LABEL}={site.name}"], decision="deny", expect=expect(site))
    assert (selected["changed"], selected["csrs"]) == (False, [])


@pytest.mark.parametrize("options", [{"name": ""}, {"label_selectors": []}, {"field_selectors": []}])
def test_nothing_selected_is_not_everything(site: Site, options: dict[str, Any]) -> None:
    assert_one_line(site.approve(**options), "invalid-request", "label_selectors")


def test_a_wait_ends_with_the_reason(eks: Site) -> None:
    name = request(eks, signer=KUBELET_SERVING)
    result = eks.approve(name=name, expect=expect(eks), wait=True, wait_timeout=30)
    assert_one_line(result, "not-issued", name, "kubernetes.io/kubelet-serving", APP_SERVING)
    assert result["changed"], "it was approved before"


def test_two_that_approve_at_once(site: Site) -> None:
    name = request(site)
    results: list[dict[str, Any]] = []
    threads = [
        threading.Thread(target=lambda: results.append(site.approve(name=name, expect=expect(site))))
        for _number in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [result.get("msg") for result in results] == [None] * 3
    assert conditions(site, name) == ["Approved"]


# k8s_csr_info


@pytest.mark.quick
def test_info_tells_the_provider_and_why_requests_are_stuck(site: Site, eks: Site) -> None:
    assert site.info(gather=["provider"])["provider"]["name"] == "kubeadm"
    pending, denied, failed = request(site), request(site), request(site, usages=["server auth"])
    site.decide(denied, "Denied")
    site.decide(failed)
    issued = site.approve(name=request(site), expect=expect(site), wait=True)["csrs"][0]["name"]
    result = site.info(label_selectors=[f"{LABEL}={site.name}"], gather=["csrs"])
    found = {csr["name"]: csr for csr in result["csrs"]}
    assert found[pending]["diagnosis"]["code"] == "never-approved"
    assert found[denied]["diagnosis"]["code"] == "denied"
    assert found[failed]["diagnosis"]["code"] == "failed"
    assert found[issued]["diagnosis"] is None
    assert found[issued]["certificate"]["names"] == [f"hook.{site.name}.svc"]

    stuck = request(eks, signer=KUBELET_SERVING)
    eks.decide(stuck)
    result = eks.info(name=stuck)
    assert result["provider"]["name"] == "eks"
    assert result["csrs"][0]["diagnosis"]["code"] == "signer-not-served"
    assert result["csrs"][0]["condition"] == "Approved"
    assert site.writes() == [("update", "certificatesigningrequests/approval")], "of k8s_csr_approve"
    assert eks.writes() == []


@pytest.mark.parametrize(("options", "verb"), [({"name": "x"}, "get"), ({}, "list")])
def test_info_without_the_right(site: Site, options: dict[str, Any], verb: str) -> None:
    user = f"nobody-{site.name}"
    kubeconfig = str(site.cluster.kubeconfig_for(user))
    result = site.info(kubeconfig=kubeconfig, gather=["csrs"], **options)
    assert_one_line(result, "missing-permissions", site.cluster.url, verb, "certificatesigningrequests")
