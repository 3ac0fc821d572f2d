# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run every example of every module's page as printed, on a real cluster."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support import clusters
from tests.support.clusters import pki
from tests.support.pages import page_files
from tests.support.playbooks import playbook
from tests.support.upgrade import snapshot_lab
from tests.support.webhooks import called_objects, snapshot_webhook, team_labels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.webhooks.https_webhook import WebhookServer

REPOSITORY = Path(__file__).parents[3]
REQUESTS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
CRD = "volumegroupsnapshotcontents.groupsnapshot.storage.k8s.io"
# Servers of examples. They are closed after the last example.
SERVERS: list[WebhookServer] = []


@pytest.fixture(scope="module")
def onprem(fleet: clusters.Fleet) -> Iterator[clusters.Cluster]:
    """A cluster with the objects that the examples name. They are removed in the end."""
    cluster = fleet["onprem"]
    cluster.api("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", _crd())
    with snapshot_webhook.present(cluster):
        yield cluster
    names = snapshot_lab.kubectl(cluster, "get", "crds", "-oname").split()
    snapshot_lab.delete(cluster, *(name for name in names if name.endswith("snapshot.storage.k8s.io")))
    for server in SERVERS:
        server.close()


def _k8s_csr(cluster: clusters.Cluster, _directory: Path) -> None:
    config = called_objects.service("kube-system", "policy-webhook")
    webhook = called_objects.webhook("policy.certflow.invalid", config)
    cluster.api(
        "POST",
        "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations",
        called_objects.configuration("policy-webhook", webhook),
    )


def _webhook_cabundle(cluster: clusters.Cluster, directory: Path) -> None:
    """Write ca.pem, which issued tls.crt for the webhook's Service, and an older CA."""
    (directory / "ca.pem").write_text(cluster.ca_pem)
    secret = cluster.api("GET", "/api/v1/namespaces/kube-system/secrets/snapshot-validation-secret")
    (directory / "tls.crt").write_bytes(base64.b64decode(secret["data"]["tls.crt"]))
    (directory / "old-ca.pem").write_bytes(pki.make_ca("old").certificate_pem)


def _k8s_csr_approve(cluster: clusters.Cluster, _directory: Path) -> None:
    labels = {"app.kubernetes.io/managed-by": "certflow.kubernetes"}
    # The example selects by this label, and other tests on the same cluster may have left requests that wait.
    (selector,) = (f"{key}={value}" for key, value in labels.items())
    snapshot_lab.kubectl(cluster, "delete", "csr", "-l", selector)
    _request(cluster, "audit-webhook-request", ["audit-webhook.kube-system.svc"], labels)
    _request(cluster, "unexpected-request", ["db", "db.prod.svc"], {})


# In this order, because the examples of webhook_cabundle use the certificate of k8s_csr's examples.
PREPARE: dict[str, Callable[[clusters.Cluster, Path], None]] = {
    "k8s_csr": _k8s_csr,
    "webhook_cabundle": _webhook_cabundle,
    "k8s_csr_approve": _k8s_csr_approve,
    "k8s_csr_info": lambda _cluster, _directory: None,
    "k8s_signer_probe": lambda _cluster, _directory: None,
    "snapshot_controller_info": lambda _cluster, _directory: None,
    "webhook_probe": lambda cluster, _directory: SERVERS.append(team_labels.start(cluster)),
    "audit_info": lambda _cluster, _directory: None,
    "audit_report": lambda _cluster, _directory: None,
    "webhook_repair": lambda _cluster, _directory: None,
}
# Their examples expect a cluster without a broken webhook.
ON_EKS = {"audit_info", "audit_report", "webhook_repair"}
# Modules whose examples need pods. test_upgrade_pages.py runs these.
WITH_PODS = {"snapshot_controller"}
# Only the playbooks use it. Their tests run it.
INTERNAL = {"fleet_run"}


def test_every_module_has_its_examples_run() -> None:
    modules = {path.stem for path in (REPOSITORY / "plugins" / "modules").glob("[a-z]*.py")}
    assert modules == {*PREPARE, *WITH_PODS, *INTERNAL}


@pytest.mark.parametrize("module", PREPARE)
def test_the_examples_run(
    fleet: clusters.Fleet, onprem: clusters.Cluster, module: str, tmp_path: Path
) -> None:
    cluster = fleet["eks"] if module in ON_EKS else onprem
    PREPARE[module](cluster, tmp_path)
    play: dict[str, Any] = {"name": module, "hosts": "localhost", "gather_facts": False}
    tasks = page_files.examples(module)
    run = playbook.play(tmp_path, [{**play, "tasks": tasks}], K8S_AUTH_KUBECONFIG=str(cluster.kubeconfig))
    assert run.status == 0, run.output
    assert run.recap("ok") == len(tasks), run.output


def _request(cluster: clusters.Cluster, name: str, dns_names: list[str], labels: dict[str, str]) -> None:
    subject = x509.Name(
        [
            x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "system:nodes"),
            x509.NameAttribute(x509.NameOID.COMMON_NAME, "system:node:example"),
        ]
    )
    names = x509.SubjectAlternativeName([x509.DNSName(text) for text in dns_names])
    builder = (
        x509.CertificateSigningRequestBuilder().subject_name(subject).add_extension(names, critical=False)
    )
    pem = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()).public_bytes(
        serialization.Encoding.PEM
    )
    spec = {
        "request": base64.b64encode(pem).decode(),
        "signerName": "kubernetes.io/kubelet-serving",
        "usages": ["digital signature", "key encipherment", "server auth"],
    }
    cluster.api("POST", REQUESTS, {"metadata": {"name": name, "labels": labels}, "spec": spec})


def _crd() -> dict[str, Any]:
    plural, _dot, group = CRD.partition(".")
    names = {"plural": plural, "kind": "VolumeGroupSnapshotContent"}
    conversion = {
        "strategy": "Webhook",
        "webhook": {
            "clientConfig": {"service": snapshot_webhook.SERVICE},
            "conversionReviewVersions": ["v1"],
        },
    }
    schema = {"openAPIV3Schema": {"type": "object"}}
    versions = [
        {"name": name, "served": True, "storage": name == "v1", "schema": schema}
        for name in ("v1", "v1beta1")
    ]
    return {
        "metadata": {"name": CRD, "annotations": {"api-approved.kubernetes.io": "unapproved, a test"}},
        "spec": {
            "group": group,
            "names": names,
            "scope": "Cluster",
            "versions": versions,
            "conversion": conversion,
        },
    }
