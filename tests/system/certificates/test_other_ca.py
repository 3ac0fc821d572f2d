# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A controller-manager with its own signing CA: which CA is trusted, and what happens when the CA changes or
expires.

All tests share one cluster. It issues only for kubelet-serving, for a day at most, and reads its CA again
when the files change.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import time
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509

from tests.support import clusters
from tests.support.certificates.csr_by_hand import CSRS, create, decide, settled, signing
from tests.support.certificates.csr_rig import CsrRig, assert_one_line
from tests.support.certificates.signer_requests import GOOD, KUBELET_SERVING
from tests.support.clusters import AdminApiError, clock, components, pki
from tests.support.clusters.profiles import PROFILES
from tests.support.failures import absent
from tests.support.waiting import NOT_REACHED, now, wait_for
from tests.support.webhooks.called_hook import assert_trusted, take_bundle, webhook

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.clusters import Cluster

OPENSHIFT = "openshift-config-managed"
PUBLISHED = f"/api/v1/namespaces/{OPENSHIFT}/configmaps"
CLIENT = "kubernetes.io/kube-apiserver-client"
ISSUER = "clusterissuers.cert-manager.io/main"
TRUST_BUNDLES = "/apis/certificates.k8s.io/v1/clustertrustbundles"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
DAY = datetime.timedelta(days=1)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with clusters.running({"other-ca": "other-ca"}) as fleet:
        fleet["other-ca"].api("POST", "/api/v1/namespaces", {"metadata": {"name": OPENSHIFT}})
        yield fleet["other-ca"]


@pytest.fixture(scope="module")
def usual(cluster: Cluster) -> pki.KeyPair:
    """The CA that signs unless a test changes it."""
    return pki.KeyPair.read(cluster.directory / "pki", "signing-ca")


@pytest.fixture
def rig(cluster: Cluster, usual: pki.KeyPair) -> Iterator[CsrRig]:
    with contextlib.closing(CsrRig(cluster)) as rig:
        yield rig
        usual.write(cluster.directory / "pki", "signing-ca")


def pem(ca: pki.KeyPair) -> str:
    return ca.certificate_pem.decode()


def publish(rig: CsrRig, text: str) -> None:
    """Publish a CA as OpenShift does, for the time of the test."""
    rig.make(PUBLISHED, {"metadata": {"name": "csr-controller-ca"}, "data": {"ca-bundle.crt": text}})


def issuer_of(cluster: Cluster, seconds: float = 15) -> str:
    """Return the subject of the CA that signs now, "" if no signer answers."""
    csr = decide(cluster, create(cluster, KUBELET_SERVING, GOOD[KUBELET_SERVING]))
    found = settled(cluster, csr, seconds)
    cluster.api("DELETE", f"{CSRS}/{csr['metadata']['name']}")
    return issuer_in(found)


def issuer_in(csr: dict[str, Any]) -> str:
    issued = base64.b64decode(csr["status"].get("certificate", ""))
    return x509.load_pem_x509_certificate(issued).issuer.rfc4514_string() if issued else ""


def sign_with(cluster: Cluster, ca: pki.KeyPair) -> None:
    """Give the controller-manager another CA, and wait until it signs with that CA."""
    ca.write(cluster.directory / "pki", "signing-ca")
    wanted = ca.certificate.subject.rfc4514_string()
    wait_for(lambda: issuer_of(cluster) == wanted)


# The trusted CA


def tried(refused: dict[str, Any]) -> list[str]:
    return [line for line in refused["evidence"] if not line.startswith("written before")]


def test_a_ca_that_is_not_published_must_be_given(rig: CsrRig, usual: pki.KeyPair) -> None:
    """Without it the failure lists what was tried. With it the API server accepts the certificate too."""
    with webhook(rig) as target:
        refused = rig.run(targets=[target])
        assert_one_line(refused, "no-trust-anchor", "CN=kube-csr-signer", "ca_bundle")
        assert [line.partition(": ")[0].partition(" in ")[0] for line in tried(refused)] == [
            "the API server's CA",
            f"ConfigMap {rig.name}/kube-root-ca.crt",
            f"ConfigMap {OPENSHIFT}/csr-controller-ca",
            f"ConfigMap {OPENSHIFT}/kubelet-serving-ca",
        ]
        assert (rig.secret(), rig.bundle(target)) == (None, "")
        given = rig.run(targets=[target], ca_bundle=rig.cluster.ca_pem + pem(usual))
        assert (given["ca_source"], given["ca_bundle"]) == ("the task's ca_bundle", pem(usual))
        assert_trusted(rig)


def test_a_ca_published_as_on_openshift_and_another_ca_of_its_name(rig: CsrRig, usual: pki.KeyPair) -> None:
    twin = pki.make_ca("kube-csr-signer")
    publish(rig, pem(twin))
    refused = rig.run()
    assert "unknown authority" in tried(refused)[-2]
    change = {"data": {"ca-bundle.crt": pem(twin) + pem(usual)}}
    rig.cluster.api("PATCH", f"{PUBLISHED}/csr-controller-ca", change, "application/merge-patch+json")
    with webhook(rig) as target:
        result = rig.run(targets=[target])
        assert (result["ca_source"], result["ca_bundle"]) == (
            f"ConfigMap {OPENSHIFT}/csr-controller-ca",
            pem(usual),
        )
        assert rig.bundle(target) == pem(usual), "the twin is not trusted"
        assert_trusted(rig)
        assert rig.run(targets=[target])["changed"] is False


def test_a_signer_that_publishes_its_ca_in_a_cluster_trust_bundle(rig: CsrRig) -> None:
    """The signer has several bundles. Another task takes the CA of all of them by the signer's name."""
    ca, retired = pki.make_ca("custom"), pki.make_ca("retired")
    signer = f"example.com/{rig.name}"
    for name, text in (("a", pem(retired)), ("b", pem(retired) + pem(ca))):
        spec = {"signerName": signer, "trustBundle": text}
        rig.make(TRUST_BUNDLES, {"metadata": {"name": f"example.com:{rig.name}:{name}"}, "spec": spec})
    with webhook(rig) as target, signing(rig.cluster, signer, ca):
        result = rig.run(signer_name=signer, targets=[target])
        assert result["ca_source"] == f"ClusterTrustBundle example.com:{rig.name}:b"
        assert (result["ca_bundle"], rig.bundle(target)) == (pem(ca), pem(ca))
        assert_trusted(rig)
        assert rig.run(signer_name=signer, targets=[target])["changed"] is False
        taken = take_bundle(rig, target, {"signer_name": signer})
        assert (taken["changed"], rig.bundle(target)) == (True, pem(retired) + pem(ca))
        assert take_bundle(rig, target, {"name": f"example.com:{rig.name}:b"})["changed"] is False
        missing = take_bundle(rig, target, {"signer_name": "example.com/other"})
        assert_one_line(missing, "no-trust-anchor", "spec.signerName", "example.com/other")


def test_an_intermediate_that_the_signer_does_not_send(rig: CsrRig) -> None:
    """The controller-manager sends no intermediate.

    The root alone does not verify. The intermediate is an anchor, as Go accepts it.
    """
    root = pki.make_ca("root")
    middle = pki.make_ca("middle", issuer=root)
    sign_with(rig.cluster, middle)
    publish(rig, pem(root))
    with webhook(rig) as target:
        refused = rig.run(targets=[target])
        assert_one_line(refused, "no-trust-anchor", "CN=middle")
        alone = rig.run(targets=[target], ca_bundle=pem(root) + pem(middle))
        assert alone["ca_bundle"] == pem(middle)
        assert_trusted(rig)


def test_a_chain_with_an_intermediate(rig: CsrRig) -> None:
    """A signer sends the intermediate.

    The root is the anchor, and the server presents the intermediate too.
    """
    root = pki.make_ca("root")
    middle = pki.make_ca("middle", issuer=root)
    publish(rig, pem(root))
    signer = f"example.com/{rig.name}"
    with webhook(rig) as target, signing(rig.cluster, signer, middle, chain=pem(middle)):
        given = rig.run(signer_name=signer, ca_bundle=pem(root), secret={"name": "given"})
        assert (given["ca_source"], given["ca_bundle"]) == ("the task's ca_bundle", pem(root))
        result = rig.run(signer_name=signer, targets=[target])
        assert result["ca_source"] == f"ConfigMap {OPENSHIFT}/csr-controller-ca"
        assert rig.data()["tls.crt"].endswith(pem(middle))
        assert rig.bundle(target) == pem(root)
        assert_trusted(rig)


# The life of a CA


def diagnosis_of(rig: CsrRig, csr: dict[str, Any]) -> dict[str, Any]:
    found = rig.info(name=csr["metadata"]["name"], gather=["csrs"])["csrs"][0]["diagnosis"]
    assert found is not None
    return dict(found)


HOUR = datetime.timedelta(hours=1)


def short_lived(cluster: Cluster) -> pki.KeyPair:
    """Return a CA that signs and expires within the hour."""
    ca = pki.make_ca("short-lived", lifetime=HOUR / 2)
    ca.write(cluster.directory / "pki", "signing-ca")

    def issued() -> dict[str, Any] | None:
        csr = decide(cluster, create(cluster, KUBELET_SERVING, GOOD[KUBELET_SERVING]))
        csr = settled(cluster, csr, 2)
        return csr if issuer_in(csr) == "CN=short-lived" else None

    wait_for(issued)
    return ca


@pytest.mark.skipif(bool(clock.why_not()), reason=clock.why_not())
def test_an_expired_ca_is_reported(rig: CsrRig) -> None:
    publish(rig, pem(short_lived(rig.cluster)))
    rig.cluster.jump(HOUR)
    try:
        result = rig.run(wait_timeout=120)
    finally:
        rig.cluster.jump(-HOUR)
    assert_one_line(result, "not-issued", "CN=short-lived")
    diagnosis = result["diagnosis"]
    assert (diagnosis["code"], diagnosis["certainty"]) == ("signing-ca-expired", "likely")
    assert "it issued this signer's earlier certificates" in diagnosis["evidence"]
    assert rig.secret() is None


def test_a_shortened_lifetime_is_reported(rig: CsrRig) -> None:
    sign_with(rig.cluster, pki.make_ca("long-lived"))  # the CA of the test before ends within the hour
    result = rig.run(expiration_seconds=7 * 86400, trust="leaf")
    assert any(not absent(["7", "23"], text) for text in result["warnings"]), result


# Signers that do not exist here


def test_a_disabled_signer_is_reported(rig: CsrRig) -> None:
    """Only flags prove it, if the controller-manager's pod can be read."""
    client: dict[str, Any] = {
        "service": None,
        "signer_name": CLIENT,
        "common_name": "jane",
        "organizations": [],
        "allow_client_identity": True,
    }
    unknown = rig.run(**client, wait_timeout=5)
    assert (unknown["diagnosis"]["code"], unknown["diagnosis"]["certainty"]) == (
        "approved-not-issued",
        "one of",
    )
    assert "a signer that does not run" not in unknown["diagnosis"]["cause"], "its Lease says that it runs"

    (server,) = rig.cluster.servers
    flags = components.controller_manager(rig.cluster.directory, PROFILES["other-ca"], server)
    container = {"name": "x", "image": "x", "command": ["kube-controller-manager", *flags]}
    labels = {"component": "kube-controller-manager", "tier": "control-plane"}
    pod = {"metadata": {"name": f"kube-controller-manager-{rig.name}", "labels": labels}}
    rig.make("/api/v1/namespaces/kube-system/pods", {**pod, "spec": {"containers": [container]}})
    started = time.monotonic()
    result = rig.run(**client, wait_timeout=NOT_REACHED)
    assert time.monotonic() - started < NOT_REACHED
    assert_one_line(result, "not-issued", "kubernetes.io/kube-apiserver-client")
    diagnosis = result["diagnosis"]
    assert (diagnosis["code"], diagnosis["certainty"]) == ("signer-switched-off", "proven")
    assert "it issues for: kubernetes.io/kubelet-serving" in diagnosis["evidence"]
    assert rig.run()["code"] == "no-trust-anchor", "kubelet-serving is issued"


def test_signers_of_cert_manager_are_explained(rig: CsrRig) -> None:
    """Its feature gate is off, or cert-manager reports a condition itself."""
    cluster = rig.cluster
    csr = decide(cluster, create(cluster, ISSUER, GOOD[KUBELET_SERVING]))
    off = diagnosis_of(rig, csr)
    assert (off["code"], off["certainty"]) == ("cert-manager-gate-off", "likely")

    about = {
        "kind": "CertificateSigningRequest",
        "name": csr["metadata"]["name"],
        "uid": csr["metadata"]["uid"],
    }
    event = {
        "metadata": {"generateName": "not-ready-"},
        "involvedObject": {"apiVersion": "certificates.k8s.io/v1", **about},
        "reason": "IssuerNotReady",
        "message": "Referenced issuer does not have a Ready status condition",
        "type": "Warning",
        "source": {"component": "cert-manager"},
    }
    rig.make("/api/v1/namespaces/default/events", event)
    reported = diagnosis_of(rig, csr)
    assert (reported["code"], reported["certainty"]) == ("signer-reports", "likely")
    assert not absent(["IssuerNotReady:"], reported["cause"])


def answers(cluster: Cluster, path: str) -> bool:
    try:
        cluster.api("GET", path)
    except AdminApiError:
        return False
    return True


def test_a_summary_of_all_requests_by_signer(rig: CsrRig) -> None:
    """Requests are days old, counted by signer, and explained.

    The module needs few requests for all of them.
    """
    cluster, nobody = rig.cluster, f"example.com/{rig.name}"
    for name, days in ((nobody, 3), (nobody, 5), ("kubernetes.io/kubelet-servings", 0)):
        decide(cluster, create(cluster, name, GOOD[KUBELET_SERVING]), ago=days * DAY)
    create(cluster, nobody, GOOD[KUBELET_SERVING])
    result = rig.info(gather=["csrs"], provider="kubeadm")
    asked = [resource for verb, resource in rig.asked() if verb != "review"]
    counted = {entry.pop("signer_name"): entry for entry in result["signers"]}
    assert result["signers"][0] == counted[nobody], "the worst first"
    assert (counted[nobody]["stuck"], counted[nobody]["pending"], counted[nobody]["issued"]) == (2, 1, 0)
    assert (
        now() - datetime.datetime.fromisoformat(counted[nobody]["oldest_stuck"].replace("Z", "+00:00"))
    ).days == 5
    codes = {csr["signer_name"]: set[str]() for csr in result["csrs"]}
    for csr in result["csrs"]:
        codes[csr["signer_name"]].add((csr["diagnosis"] or {"code": ""})["code"])
    assert codes[nobody] == {"left-over", "never-approved"}
    assert codes["kubernetes.io/kubelet-servings"] == {"no-such-signer"}
    assert len(asked) == len(set(asked)), "each fact once"
    assert rig.writes() == []
