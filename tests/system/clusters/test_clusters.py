# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check that the clusters of all other tests behave like the clusters that they represent."""

from __future__ import annotations

import base64
import datetime
import subprocess
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.support import clusters
from tests.support.clusters import APP_SERVING, audit

if TYPE_CHECKING:
    from tests.support.clusters import Cluster, Fleet

REQUESTS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
KUBELET_SERVING = "kubernetes.io/kubelet-serving"
SERVING = ("digital signature", "key encipherment", "server auth")
# Seconds after which "never" counts as true. The signers answer within one second.
NEVER = 3.0


def ask(
    cluster: Cluster, signer: str, *, name: str = "", usages: tuple[str, ...] = SERVING, **spec: Any
) -> dict[str, Any]:
    """Create a request for a Service's names in the shape that kubelet-serving wants, with more extensions."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = [(NameOID.ORGANIZATION_NAME, "system:nodes"), (NameOID.COMMON_NAME, "system:node:webhook")]
    csr = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(kind, value) for kind, value in subject]))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("webhook.default.svc")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.TLSFeature([x509.TLSFeatureType.status_request]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = csr.public_bytes(serialization.Encoding.PEM)
    body = {
        "metadata": {"name": name or f"webhook-{uuid.uuid4().hex[:8]}"},
        "spec": {
            "signerName": signer,
            "usages": usages,
            "request": base64.b64encode(pem).decode(),
            **spec,
        },
    }
    return cluster.api("POST", REQUESTS, body)


def approve(cluster: Cluster, request: dict[str, Any]) -> None:
    condition = {"type": "Approved", "status": "True", "reason": "Test", "message": "approved by a test"}
    path = f"{REQUESTS}/{request['metadata']['name']}"
    fresh = cluster.api("GET", path)
    fresh["status"]["conditions"] = [condition]
    cluster.api("PUT", f"{path}/approval", fresh)


def outcome(cluster: Cluster, request: dict[str, Any], patience: float) -> dict[str, Any]:
    """Return the request's status once it is issued or failed, or after `patience` seconds."""
    deadline = time.monotonic() + patience
    while True:
        status: dict[str, Any] = cluster.api("GET", f"{REQUESTS}/{request['metadata']['name']}")["status"]
        if "certificate" in status or conditions(status) != ["Approved"] or time.monotonic() > deadline:
            return status
        time.sleep(0.1)


def conditions(status: dict[str, Any]) -> list[str]:
    return [condition["type"] for condition in status.get("conditions", ())]


def issued(cluster: Cluster, signer: str, **how: Any) -> x509.Certificate:
    """Create a request, approve it, and return the certificate."""
    request = ask(cluster, signer, **how)
    approve(cluster, request)
    status = outcome(cluster, request, 15)
    assert "certificate" in status, status
    return x509.load_pem_x509_certificate(base64.b64decode(status["certificate"]))


def run_kubectl(kubeconfig: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(clusters.programs() / "kubectl"), "--kubeconfig", str(kubeconfig), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


# The start, and the clients


@pytest.mark.quick
def test_both_clusters_become_ready(fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(f" both clusters ready after {fleet.ready_after:.1f} s ", end="")
    assert fleet.ready_after > 0


def test_the_audit_log_counts_every_request_of_a_user(fleet: Fleet) -> None:
    cluster = fleet["onprem"]
    kubeconfig = cluster.kubeconfig_for("counted")
    run_kubectl(kubeconfig, "get", "--raw", "/api/v1/namespaces/default/secrets")
    between = datetime.datetime.now(datetime.timezone.utc)
    run_kubectl(kubeconfig, "get", "--raw", "/apis")
    run_kubectl(kubeconfig, "get", "--raw", "/apis")
    events = cluster.requests(user="counted")
    assert [event["requestURI"] for event in events] == [
        "/api/v1/namespaces/default/secrets",
        "/apis",
        "/apis",
    ]
    assert [event["responseStatus"]["code"] for event in events] == [403, 200, 200]
    assert events[0]["verb"] == "list"
    assert "kubectl" in events[0]["userAgent"]
    assert cluster.requests(user="counted", since=between) == events[1:]
    assert audit.requests(cluster.audit_log, user="counted") == events


# Signers


def test_eks_approves_for_kubelet_serving_and_never_issues(fleet: Fleet) -> None:
    """create-cert.sh of external-snapshotter 7.0.2 sends such requests."""
    request = ask(fleet["eks"], KUBELET_SERVING, name="snapshot-validation-service.default")
    approve(fleet["eks"], request)
    status = outcome(fleet["eks"], request, NEVER)
    assert conditions(status) == ["Approved"]
    assert "certificate" not in status


@pytest.mark.quick
def test_app_serving_signs_with_the_cluster_ca(fleet: Fleet) -> None:
    certificate = issued(fleet["eks"], APP_SERVING)
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(fleet["eks"].ca_pem.encode()))
    assert certificate.subject.rfc4514_string() == "CN=system:node:webhook,O=system:nodes"


def test_app_serving_honours_names_and_usages_and_drops_the_rest(fleet: Fleet) -> None:
    extensions = issued(fleet["eks"], APP_SERVING).extensions
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["webhook.default.svc"]
    usage = extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.digital_signature, usage.key_encipherment, usage.key_cert_sign) == (True, True, False)
    extended = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(extended) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca  # the request has cA true
    with pytest.raises(x509.ExtensionNotFound):  # the request has it
        extensions.get_extension_for_class(x509.TLSFeature)


@pytest.mark.parametrize(
    ("asked", "granted"),
    [({"expirationSeconds": 600}, 600), ({"expirationSeconds": 94608000}, 31536000), ({}, 31536000)],
    ids=["ten minutes", "three years", "unspecified"],
)
def test_app_serving_caps_the_lifetime_at_a_year(fleet: Fleet, asked: dict[str, int], granted: int) -> None:
    certificate = issued(fleet["eks"], APP_SERVING, **asked)
    lifetime = certificate.not_valid_after_utc - datetime.datetime.now(datetime.timezone.utc)
    assert granted - 60 < lifetime.total_seconds() <= granted


def test_app_serving_fails_a_client_certificate(fleet: Fleet) -> None:
    request = ask(fleet["eks"], APP_SERVING, usages=("digital signature", "client auth"))
    approve(fleet["eks"], request)
    status = outcome(fleet["eks"], request, 15)
    assert conditions(status) == ["Approved", "Failed"]
    assert status["conditions"][1]["message"] == "usages not permitted: client auth"
    assert "certificate" not in status


def test_app_serving_ignores_names_that_start_with_csr(fleet: Fleet) -> None:
    request = ask(fleet["eks"], APP_SERVING, name=f"csr-{uuid.uuid4().hex[:8]}")
    approve(fleet["eks"], request)
    status = outcome(fleet["eks"], request, NEVER)
    assert conditions(status) == ["Approved"]
    assert "certificate" not in status


def test_no_request_is_approved_automatically(fleet: Fleet) -> None:
    waiting = {
        name: ask(fleet[name], signer) for name, signer in (("eks", APP_SERVING), ("onprem", KUBELET_SERVING))
    }
    time.sleep(NEVER)
    for name, request in waiting.items():
        path = f"{REQUESTS}/{request['metadata']['name']}"
        assert conditions(fleet[name].api("GET", path)["status"]) == []
