# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""PodCertificateRequests of a real API server are explained, and those of a real kubelet are seen."""

from __future__ import annotations

import base64
import datetime
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations import audit_info, k8s_csr_info
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from tests.support import clusters
from tests.support.audit.audit_rig import AuditRig, audit_as_auditor
from tests.support.operations import operate
from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.clusters import Cluster, Fleet

REQUESTS = "/apis/certificates.k8s.io/v1/namespaces/{}/podcertificaterequests"
SIGNER = "certflow.test/pods"
UTC = datetime.timezone.utc


@pytest.fixture(scope="module")
def rig(fleet: Fleet) -> Iterator[AuditRig]:
    rig = AuditRig(fleet["onprem"])
    try:
        yield rig
    finally:
        rig.close()


def request(rig: AuditRig, name: str, *, signer: str = SIGNER, **status: Any) -> str:
    """Make a request as kubelet does, and decide about it as a signer does. Return its name."""
    key = ec.generate_private_key(ec.SECP256R1())
    stub = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    spec = {
        "signerName": signer,
        **{f"{kind}Name": kind.lower() for kind in ("pod", "serviceAccount", "node")},
        **{f"{kind}UID": f"{kind}-1" for kind in ("pod", "serviceAccount", "node")},
        "stubPKCS10Request": base64.b64encode(stub.public_bytes(Encoding.DER)).decode(),
    }
    path = REQUESTS.format(rig.name)
    made = rig.make(path, {"metadata": {"name": name}, "spec": spec})
    if status:
        now = datetime.datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        condition = {"status": "True", "lastTransitionTime": now, "message": "as the signer says", **status}
        body = {
            **made,
            "status": {"conditions": [condition], **(issued(key) if status["type"] == "Issued" else {})},
        }
        rig.cluster.api("PUT", f"{path}/{name}/status", body)
    return name


def issued(key: ec.EllipticCurvePrivateKey) -> dict[str, str]:
    """Return the status with a certificate of two hours."""
    begin = datetime.datetime.now(UTC).replace(microsecond=0)
    end = begin + datetime.timedelta(hours=2)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a pod")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .sign(key, hashes.SHA256())
    )
    times = {"notBefore": begin, "beginRefreshAt": begin + datetime.timedelta(hours=1), "notAfter": end}
    return {
        "certificateChain": certificate.public_bytes(Encoding.PEM).decode(),
        **{field: moment.strftime("%Y-%m-%dT%H:%M:%SZ") for field, moment in times.items()},
    }


#: Name -> the signer's decision, the code of its diagnosis, and whether the audit reports it at once.
DECISIONS: dict[str, tuple[dict[str, str], str, bool]] = {
    "key": ({"type": "Denied", "reason": "UnsupportedKeyType"}, "key-type-unsupported", True),
    "denied": ({"type": "Denied", "reason": "NotAllowed"}, "denied", True),
    "failed": ({"type": "Failed", "reason": "CaUnavailable"}, "failed", True),
    "waits": ({}, "pod-not-issued", False),
    "issued": ({"type": "Issued", "reason": "Issued"}, "lifetime-shortened", False),
}


def test_each_decision_of_a_signer_is_explained(rig: AuditRig) -> None:
    assert not [
        finding for finding in rig.audit()["findings"] if finding["object"]["kind"] == "PodCertificateRequest"
    ]
    for name, (decision, _code, _is_reported) in DECISIONS.items():
        request(rig, name, **decision)
    request(rig, "reserved", signer="kubernetes.io/kube-apiserver-client-pod")
    found = rig.operate(k8s_csr_info.OPERATION, gather=["pod_certificates"])["pod_certificates"]
    codes = {
        entry["name"]: entry["diagnosis"]["code"]
        for entry in found["requests"]
        if entry["namespace"] == rig.name
    }
    assert codes == {"reserved": "no-such-signer", **{name: row[1] for name, row in DECISIONS.items()}}
    assert found["api_version"] == "certificates.k8s.io/v1"
    result = rig.audit()
    reported = {
        finding["object"]["name"]
        for finding in result["findings"]
        if finding["object"]["kind"] == "PodCertificateRequest" and finding["object"]["namespace"] == rig.name
    }
    assert reported == {name for name, row in DECISIONS.items() if row[2]}
    assert rig.writes() == []


def test_a_list_that_is_refused_is_no_failure(rig: AuditRig) -> None:
    reader = rig.cluster.kubeconfig_for(f"reader-{rig.id}")
    found = operate(k8s_csr_info.OPERATION, {"kubeconfig": str(reader), "gather": ["pod_certificates"]})
    assert "podcertificaterequests" in found["pod_certificates"]["unreadable"]
    result = audit_as_auditor(rig.cluster, lacking=["podcertificaterequests"])
    (gap,) = [finding for finding in result["findings"] if finding["source"] == "pod-certificates"]
    assert (gap["unanswered"], gap["objects"]) == (["request-stuck"], ["every PodCertificateRequest"])
    assert not result["incomplete"]
    declared = audit_as_auditor(rig.cluster, lacking=["podcertificaterequests"], without=["pod-certificates"])
    assert not [finding for finding in declared["findings"] if finding["source"] == "pod-certificates"]


def test_a_gate_that_is_off_is_named_and_is_no_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    row = clusters.PROFILES["onprem"]
    gate = "--feature-gates=PodCertificateRequest=false"
    off = replace(row, apiserver=(*row.apiserver, gate), controller_manager=(*row.controller_manager, gate))
    monkeypatch.setitem(clusters.PROFILES, "onprem", off)
    with clusters.running({"off": "onprem"}) as fleet:
        options = {"kubeconfig": str(fleet["off"].kubeconfig)}
        found = operate(k8s_csr_info.OPERATION, {**options, "gather": ["pod_certificates"]})
        result = operate(audit_info.OPERATION, {**options, "include_passed": True})
    found = found["pod_certificates"]
    assert (found["api_version"], found["diagnosis"]["code"]) == ("", "pod-certificates-off")
    assert not [
        finding for finding in result["findings"] if finding["object"]["kind"] == "PodCertificateRequest"
    ]
    assert "pod-certificates" not in {finding["source"] for finding in result["findings"]}


def test_a_request_of_kubelet_names_the_pod_that_waits(node: Cluster) -> None:
    name = "waits-for-certificate"
    source = {"signerName": SIGNER, "keyType": "ECDSAP256", "credentialBundlePath": "bundle.pem"}
    container = {
        "name": "web",
        "image": "certflow.invalid/none:1",
        "volumeMounts": [{"name": "certificate", "mountPath": "/certificate"}],
    }
    spec = {
        "containers": [container],
        "volumes": [{"name": "certificate", "projected": {"sources": [{"podCertificate": source}]}}],
    }
    pods = "/api/v1/namespaces/default/pods"
    node.api("POST", pods, {"metadata": {"name": name}, "spec": spec})

    def entries() -> list[dict[str, Any]]:
        options = {"kubeconfig": str(node.kubeconfig), "gather": ["pod_certificates"]}
        found = operate(k8s_csr_info.OPERATION, options)["pod_certificates"]["requests"]
        return [entry for entry in found if entry["pod"] == name]

    try:
        wait_for(entries)
        (entry,) = entries()
    finally:
        node.api("DELETE", f"{pods}/{name}?gracePeriodSeconds=0")
    assert (entry["signer_name"], entry["condition"]) == (SIGNER, "Pending")
    assert (entry["diagnosis"]["code"], entry["diagnosis"]["certainty"]) == ("pod-not-issued", "one of")
