# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""k8s_csr_approve and k8s_csr_info on real control planes."""

from __future__ import annotations

import base64
import threading
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509 import private_keys, signing_request
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.certificates import der
from tests.support.certificates.csr_rig import CSRS, KUBELET_SERVING, CsrRig, assert_one_line
from tests.support.clusters import APP_SERVING
from tests.support.failures import absent, has_failed

if TYPE_CHECKING:
    pass

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


MISMATCHES: list[tuple[dict[str, Any], str]] = [
    ({"service": "other"}, "ForbiddenName"),
    ({"signer_name": APP_SERVING}, "Signer"),
    ({"requester": "somebody"}, "Requester"),
    ({"usages": ["client auth"]}, "Usages"),
    ({"names": ["hook"]}, "Names"),
    ({"common_name": "y"}, "Subject"),
    ({"longest_seconds": 3600}, "Lifetime"),
    ({"public_key_sha256": "0"}, "PublicKey"),
]


@pytest.mark.parametrize(("differs", "reason"), MISMATCHES)
def test_a_mismatch_writes_nothing(rig: CsrRig, differs: dict[str, Any], reason: str) -> None:
    name = request(rig)
    result = rig.approve(name=name, expect={**expect(rig), **differs})
    assert_one_line(result, "invalid-request", rig.cluster.url, name, f"({reason})", "allow_names")
    assert not absent([name, "'kubernetes-admin'"], result["evidence"][-1])
    assert conditions(rig, name) == []
    assert rig.writes() == []


@pytest.mark.parametrize(
    ("usages", "reason"),
    [
        (["digital signature", "key encipherment"], "ClientIdentity"),
        (["server auth", "code signing"], "UnexpectedUsage"),
    ],
)
def test_usages_beyond_those_of_a_server_are_refused(rig: CsrRig, usages: list[str], reason: str) -> None:
    """A signer may copy all usages, and the API server accepts a certificate without a purpose as a login."""
    name = request(rig, signer="example.com/takes-all", common_name="root", usages=usages)
    result = rig.approve(name=name, expect=expect(rig, signer_name="example.com/takes-all"))
    assert_one_line(result, "invalid-request", name, f"({reason})", "allow_names")
    assert (conditions(rig, name), rig.writes()) == ([], [])


def identity(*alternatives: x509.GeneralName, common_name: str = "hook", organization: str = "team") -> str:
    """Return a request with other kinds of names and another subject than those of a Service."""
    subject = [(NameOID.COMMON_NAME, common_name), (NameOID.ORGANIZATION_NAME, organization)]
    name = x509.Name([x509.NameAttribute(oid, text) for oid, text in subject])
    builder = x509.CertificateSigningRequestBuilder(name)
    builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    signed = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM).decode()


# A name of a request, the names that the task allows, and whether it is approved.
IDENTITIES: list[tuple[x509.GeneralName, list[str], bool]] = [
    (x509.UniformResourceIdentifier("spiffe://prod.example/ns/a/sa/Admin"), ["spiffe://prod.example/ns/a/sa/admin"], False),
    (x509.UniformResourceIdentifier("spiffe://prod.example/ns/a/sa/admin"), ["SPIFFE://Prod.Example/ns/a/sa/admin"], True),
    (x509.RFC822Name("Ada@example.com"), ["ada@example.com"], False),
    (x509.RFC822Name("ada@Example.com"), ["ada@example.com"], True),
    (x509.DNSName("hook.{}.svc.attacker.example"), [], False),
    (x509.DNSName("hook.{}.svc.cluster.local"), [], True),
]  # fmt: skip


@pytest.mark.parametrize(("name", "allowed", "is_approved"), IDENTITIES)
def test_a_name_of_another_identity_is_not_approved(
    rig: CsrRig, name: x509.GeneralName, allowed: list[str], is_approved: bool
) -> None:
    if isinstance(name, x509.DNSName):
        name = x509.DNSName(name.value.format(rig.name))
    pem = identity(x509.DNSName(f"hook.{rig.name}.svc"), name)
    asked = request(rig, signer="example.com/takes-all", pem=pem)
    result = rig.approve(name=asked, expect=expect(rig), allow_names=allowed)
    if not is_approved:
        assert_one_line(result, "invalid-request", asked, str(name.value), "(ForbiddenName)")
    assert conditions(rig, asked) == (["Approved"] if is_approved else [])


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


@pytest.mark.parametrize(
    ("common_name", "organization"),
    [
        ("hook", "system:masters"),
        ("system:kube-controller-manager", "team"),
        ("system:node:x", "system:masters"),
    ],
)
def test_a_subject_of_kubernetes_itself_is_not_approved(
    rig: CsrRig, common_name: str, organization: str
) -> None:
    """A signer may ignore the usages, and its certificate would then be a login of that user or group."""
    pem = identity(x509.DNSName(f"hook.{rig.name}.svc"), common_name=common_name, organization=organization)
    asked = request(rig, signer="example.com/takes-all", pem=pem)
    result = rig.approve(name=asked, expect=expect(rig))
    assert_one_line(result, "invalid-request", asked, "system:", "(Subject)")
    assert conditions(rig, asked) == []
    spelled_out = expect(rig, common_name=common_name, organizations=[organization])
    assert rig.approve(name=asked, expect=spelled_out)["changed"]


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


def test_usages_inside_a_request_may_not_exceed_those_of_the_object(rig: CsrRig) -> None:
    inside = der.extended_usage("1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2")
    names = der.names(der.dns(f"hook.{rig.name}.svc"))
    name = request(rig, pem=der.pem(der.request(names, inside)))
    assert_one_line(rig.approve(name=name, expect=expect(rig)), "invalid-request", name, "auth'", "(Usages)")
    assert conditions(rig, name) == []


def test_a_name_that_only_some_signers_copy_is_refused(rig: CsrRig) -> None:
    names = der.names(der.dns(f"hook.{rig.name}.svc"), der.other_name("administrator@corp"))
    name = request(rig, pem=der.pem(der.request(names)))
    result = rig.approve(name=name, expect=expect(rig))
    assert_one_line(result, "request-not-canonical", name, "otherName", "(Integrity)")
    assert conditions(rig, name) == []


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


@pytest.mark.parametrize("options", [{"name": ""}, {"label_selectors": []}, {"field_selectors": []}])
def test_an_empty_selector_is_refused(rig: CsrRig, options: dict[str, Any]) -> None:
    assert_one_line(rig.approve(**options), "invalid-request", "label_selectors")


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
