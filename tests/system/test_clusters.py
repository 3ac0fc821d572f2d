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
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.support import clusters
from tests.support.clusters import APP_SERVING, AdminApiError, audit

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
def test_both_clusters_are_ready_within_seconds(fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(f" both clusters ready after {fleet.ready_after:.1f} s ", end="")
    assert 0 < fleet.ready_after < 60  # 15 on a quiet machine. `make test` keeps it busy.


def test_each_cluster_reports_its_version(fleet: Fleet) -> None:
    assert fleet["onprem"].api("GET", "/version")["gitVersion"] == "v1.36.3"
    assert fleet["eks"].api("GET", "/version")["gitVersion"] == "v1.36.3-eks-3c42bf9"


def test_each_cluster_has_the_marks_of_its_kind(fleet: Fleet) -> None:
    fleet["onprem"].api("GET", "/api/v1/namespaces/kube-system/configmaps/kubeadm-config")
    roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles/eks:certificate-controller"
    for suffix in ("approver", "signer"):
        fleet["eks"].api("GET", f"{roles}-{suffix}")
    (node,) = fleet["eks"].api("GET", "/api/v1/nodes")["items"]
    assert node["spec"]["providerID"].startswith("aws:///eu-west-1a/i-")
    assert "eks.amazonaws.com/nodegroup" in node["metadata"]["labels"]
    assert node["status"]["nodeInfo"]["kubeletVersion"] == "v1.36.3-eks-3c42bf9"


def test_the_published_ca_issued_the_serving_certificate(fleet: Fleet) -> None:
    for cluster in fleet.values():
        for namespace in ("default", "kube-system"):
            path = f"/api/v1/namespaces/{namespace}/configmaps/kube-root-ca.crt"
            assert cluster.api("GET", path)["data"]["ca.crt"] == cluster.ca_pem


def test_the_merged_kubeconfig_has_a_context_for_each_cluster(fleet: Fleet) -> None:
    merged = fleet.merged_kubeconfig
    assert merged.stat().st_mode & 0o777 == 0o600
    contexts = yaml.safe_load(merged.read_text())["contexts"]
    assert {context["name"] for context in contexts} == {"onprem", "eks"}
    for name, version in (("onprem", "v1.36.3"), ("eks", "v1.36.3-eks-3c42bf9")):
        answer = run_kubectl(merged, "--context", name, "get", "--raw", "/version")
        assert f'"gitVersion": "{version}"' in answer.stdout, answer.stderr


def test_a_client_certificate_has_user_and_groups(fleet: Fleet) -> None:
    kubeconfig = fleet["onprem"].kubeconfig_for("ada", ("auditors", "system:masters"))
    assert kubeconfig.stat().st_mode & 0o777 == 0o600
    who = yaml.safe_load(run_kubectl(kubeconfig, "auth", "whoami", "-o", "yaml").stdout)["status"]["userInfo"]
    assert who["username"] == "ada"
    assert who["groups"] == ["auditors", "system:masters", "system:authenticated"]


def test_an_expired_certificate_is_refused(fleet: Fleet) -> None:
    kubeconfig = fleet["onprem"].kubeconfig_for("ada", lifetime=datetime.timedelta(hours=-1))
    answer = run_kubectl(kubeconfig, "auth", "whoami")
    assert answer.returncode != 0
    assert "Unauthorized" in answer.stderr


def test_a_token_has_the_name_of_its_service_account(fleet: Fleet) -> None:
    kubeconfig = fleet["eks"].token_kubeconfig("deployer", "kube-system")
    who = yaml.safe_load(run_kubectl(kubeconfig, "auth", "whoami", "-o", "yaml").stdout)["status"]["userInfo"]
    assert who["username"] == "system:serviceaccount:kube-system:deployer"


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


def test_onprem_issues_for_kubelet_serving(fleet: Fleet) -> None:
    certificate = issued(fleet["onprem"], KUBELET_SERVING)
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(fleet["onprem"].ca_pem.encode()))


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


def test_a_program_can_be_stopped_and_started_again(fleet: Fleet) -> None:
    cluster = fleet["eks"]
    cluster.stop("eks-signer")
    try:
        request = ask(cluster, APP_SERVING)
        approve(cluster, request)
        assert "eks-signer" not in cluster.running
        assert "certificate" not in outcome(cluster, request, NEVER)
    finally:
        cluster.start("eks-signer")
    assert "certificate" in outcome(cluster, request, 15)


def test_an_error_of_the_api_carries_its_message(fleet: Fleet) -> None:
    with pytest.raises(AdminApiError) as caught:
        fleet["onprem"].api("GET", "/api/v1/namespaces/nowhere")
    assert caught.value.status == 404


def test_the_replaced_scripts_are_available() -> None:
    scripts = clusters.snapshotter_dir() / "deploy" / "kubernetes" / "webhook-example"
    assert KUBELET_SERVING in (scripts / "create-cert.sh").read_text()
    assert "CA_BUNDLE" in (scripts / "patch-ca-bundle.sh").read_text()
