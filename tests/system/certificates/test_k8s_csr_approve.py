# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""k8s_csr_approve and k8s_csr_info on real control planes."""

from __future__ import annotations

import base64
import threading
import uuid
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509 import private_keys, signing_request

from tests.support.certificates import der
from tests.support.certificates.csr_rig import CSRS, KUBELET_SERVING, CsrRig, assert_one_line
from tests.support.clusters import APP_SERVING
from tests.support.failures import has_failed

LABEL = "certflow.test/rig"


def request(
    rig: CsrRig,
    *names: str,
    signer: str = "",
    common_name: str = "system:node:x",
    pem: str = "",
    **spec: Any,
) -> str:
    """Create a request as another user, labelled with the rig's name. Return its own name."""
    pem = pem or signing_request.build(
        private_keys.generate("ecdsa-p256"),
        common_name=common_name,
        organizations=("system:nodes",),
        dns_names=names or (f"hook.{rig.name}.svc",),
    )
    body = {
        "metadata": {"name": f"asked-{uuid.uuid4().hex[:8]}", "labels": {LABEL: rig.name}},
        "spec": {
            "request": base64.b64encode(pem.encode()).decode(),
            "signerName": signer or rig.signer,
            "usages": ["digital signature", "key encipherment", "server auth"],
            **spec,
        },
    }
    return str(rig.make(CSRS, body)["metadata"]["name"])


def expect(rig: CsrRig, **more: Any) -> dict[str, Any]:
    return {"service": "hook", "namespace": rig.name, **more}


def conditions(rig: CsrRig, name: str) -> list[str]:
    csr = rig.csr(name)
    assert csr is not None
    return [entry["type"] for entry in csr["status"].get("conditions") or ()]


def test_requests_are_selected_by_label_and_by_field(rig: CsrRig) -> None:
    names = {request(rig), request(rig)}
    result = rig.approve(label_selectors=[f"{LABEL}={rig.name}"], expect=expect(rig))
    assert {entry["name"] for entry in result["csrs"] if entry["changed"]} == names
    signer = f"example.com/{rig.name}"
    name = request(rig, signer=signer)
    result = rig.approve(field_selectors=[f"spec.signerName={signer}"], expect=expect(rig))
    assert [entry["name"] for entry in result["csrs"]] == [name]
    assert conditions(rig, name) == ["Approved"]


@pytest.mark.parametrize("kind", ["Hostname", "InternalDNS"])
def test_another_name_of_a_node_is_not_approved_with_the_expected_ones(rig: CsrRig, kind: str) -> None:
    """The API server calls a kubelet under these names, which need not be the name of the Node."""
    name = f"ip-10-1-0-4.{rig.name}.internal"
    node = rig.make("/api/v1/nodes", {"metadata": {"name": f"node-{rig.name}"}})
    addresses = {"status": {"addresses": [{"type": kind, "address": name}]}}
    path = f"/api/v1/nodes/{node['metadata']['name']}/status"
    rig.cluster.api("PATCH", path, addresses, "application/merge-patch+json")
    own = f"hook.{rig.name}.svc"
    asked = request(rig, own, name)
    result = rig.approve(name=asked, expect=expect(rig, names=[own, name]))
    assert_one_line(result, "invalid-request", asked, name, "(ForbiddenName)")
    assert conditions(rig, asked) == []
    assert rig.approve(name=asked, expect=expect(rig, names=[own, name]), allow_names=[name])["changed"]


READINGS = list(der.attacks("harmless", "evil"))


@pytest.mark.parametrize("title", READINGS)
def test_a_request_that_the_api_server_reads_differently_stays_pending(rig: CsrRig, title: str) -> None:
    """The API server accepts each of these requests, and its signer would sign the other name."""
    own, usages = f"hook.{rig.name}.svc", ["digital signature", "key encipherment", "server auth"]
    shown: dict[str, Any] = {"common_name": "hook", "names": [own]}
    pem, signer = der.attacks(own, "kubernetes.default.svc")[title], rig.signer
    if title == "common name that Go passes over":
        usages, signer = ["digital signature", "client auth"], "kubernetes.io/kube-apiserver-client"
        shown, pem = (
            {"common_name": "alice", "names": []},
            der.attacks("alice", "root-of-cluster")[title],
        )
    name = request(rig, pem=pem, signer=signer, usages=usages)
    expected = {"signer_name": signer, "usages": usages, "organizations": [], **shown}
    result = rig.approve(name=name, expect=expect(rig, **expected), allow_client_identity=True)
    assert_one_line(result, "request-not-canonical", name, "(Integrity)")
    assert (conditions(rig, name), rig.writes()) == ([], [])
    [entry] = rig.info(name=name, gather=["csrs"])["csrs"]
    assert (entry["names"], entry["subject"]) == ([], "")
    assert "not in canonical form" in entry["unreadable"]
    assert rig.approve(name=name, decision="deny")["changed"]


@pytest.mark.parametrize("decision", ["approve", "deny"])
def test_a_selector_that_matches_a_node_decides_nothing(rig: CsrRig, decision: str) -> None:
    """One request does not match the expectation, so no request is decided, not even the matching ones."""
    mine, node = request(rig), request(rig, "ip-10-0-0-1", common_name="system:node:ip-10-0-0-1")
    result = rig.approve(label_selectors=[f"{LABEL}={rig.name}"], decision=decision, expect=expect(rig))
    assert_one_line(result, "invalid-request", node, "(ForbiddenName)")
    assert (conditions(rig, mine), conditions(rig, node)) == ([], [])
    assert rig.writes() == []


def test_denying_by_name_ignores_the_rules_of_approval(rig: CsrRig) -> None:
    """A user denies exactly those requests that break the rules.

    The task's expectation applies in any case.
    """
    name = request(rig, "kubernetes.default.svc")
    assert has_failed(rig.approve(name=name, expect=expect(rig)), "invalid-request", "(ForbiddenName)")
    other = rig.approve(name=name, decision="deny", expect={"requester": "somebody"})
    assert has_failed(other, "invalid-request", "(Requester)")
    denied = rig.approve(name=name, decision="deny", decision_message="Not this name.")
    assert denied["changed"]
    csr = rig.csr(name)
    assert csr is not None
    assert csr["status"]["conditions"][0]["message"] == "Not this name."


def test_decisions_of_other_clients_are_kept(rig: CsrRig) -> None:
    name = request(rig)
    rig.decide(name)
    assert_one_line(rig.approve(name=name, decision="deny"), "already-decided", name, "Approved")
    selected = rig.approve(label_selectors=[f"{LABEL}={rig.name}"], decision="deny", expect=expect(rig))
    assert (selected["changed"], selected["csrs"]) == (False, [])


def test_a_failed_wait_reports_the_cause(eks: CsrRig) -> None:
    name = request(eks, signer=KUBELET_SERVING)
    result = eks.approve(name=name, expect=expect(eks), wait=True, wait_timeout=30)
    assert_one_line(result, "not-issued", name, "kubernetes.io/kubelet-serving", APP_SERVING)
    assert result["changed"], "it was approved before"


def test_concurrent_approvals(rig: CsrRig) -> None:
    name = request(rig)
    results: list[dict[str, Any]] = []
    threads = [
        threading.Thread(target=lambda: results.append(rig.approve(name=name, expect=expect(rig))))
        for _number in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [result.get("msg") for result in results] == [None] * 3
    assert conditions(rig, name) == ["Approved"]


# k8s_csr_info


@pytest.mark.quick
def test_info_reports_the_provider_and_the_causes_of_stuck_requests(rig: CsrRig, eks: CsrRig) -> None:
    assert rig.info(gather=["provider"])["provider"]["name"] == "kubeadm"
    pending, denied, failed = request(rig), request(rig), request(rig, usages=["server auth"])
    rig.decide(denied, "Denied")
    rig.decide(failed)
    issued = rig.approve(name=request(rig), expect=expect(rig), wait=True)["csrs"][0]["name"]
    result = rig.info(label_selectors=[f"{LABEL}={rig.name}"], gather=["csrs"])
    found = {csr["name"]: csr for csr in result["csrs"]}
    assert found[pending]["diagnosis"]["code"] == "never-approved"
    assert found[denied]["diagnosis"]["code"] == "denied"
    assert found[failed]["diagnosis"]["code"] == "failed"
    assert found[issued]["diagnosis"] is None
    assert found[issued]["certificate"]["names"] == [f"hook.{rig.name}.svc"]

    stuck = request(eks, signer=KUBELET_SERVING)
    eks.decide(stuck)
    result = eks.info(name=stuck)
    assert result["provider"]["name"] == "eks"
    assert result["csrs"][0]["diagnosis"]["code"] == "signer-not-served"
    assert result["csrs"][0]["condition"] == "Approved"
    assert rig.writes() == [("update", "certificatesigningrequests/approval")], "of k8s_csr_approve"
    assert eks.writes() == []


@pytest.mark.parametrize("options", [{"name": "x"}, {}])
def test_info_without_permission(rig: CsrRig, options: dict[str, Any]) -> None:
    user = f"nobody-{rig.name}"
    kubeconfig = str(rig.cluster.kubeconfig_for(user))
    result = rig.info(kubeconfig=kubeconfig, gather=["csrs"], **options)
    assert_one_line(result, "missing-permissions", rig.cluster.url, "list", "certificatesigningrequests")
