# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real control plane that goes through a rotation of its CA."""

from __future__ import annotations

import base64
import contextlib
import functools
import re
import ssl
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations.audit_info import OPERATION
from cryptography import x509

from tests.support import clusters
from tests.support.certificates.authority import new_key
from tests.support.certificates.csr_by_hand import create, decide, settled
from tests.support.certificates.csr_rig import CsrRig
from tests.support.certificates.signer_requests import GOOD, KUBELET_SERVING
from tests.support.clusters import APP_SERVING, pki
from tests.support.pages import page_files
from tests.support.permissions import rbac
from tests.support.rig import ADMINISTRATORS, encoded
from tests.support.rotation.rotation_rig import RotationRig, rotation_findings, with_ca
from tests.support.waiting import now, wait_for
from tests.support.world import ACCEPTED, Program, Shape, shapes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.clusters import Cluster
    from tests.support.clusters.pki import KeyPair
    from tests.support.rig import ClusterRig


@pytest.fixture
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Return a new cluster, because a rotation changes all that other tests rely on."""
    profile = getattr(request, "param", "local-services")
    with clusters.running({"rotated": profile}) as fleet:
        yield fleet["rotated"]


def is_issued_by(leaf: x509.Certificate, ca: KeyPair) -> bool:
    try:
        leaf.verify_directly_issued_by(ca.certificate)
    except Exception:
        return False
    return True


def is_trust_bundle(cluster: Cluster, cas: list[KeyPair]) -> bool:
    """Return True if the ClusterTrustBundles of the signer of API servers have these CAs."""
    query = "fieldSelector=spec.signerName%3Dkubernetes.io/kube-apiserver-serving"
    items = cluster.api("GET", f"/apis/certificates.k8s.io/v1/clustertrustbundles?{query}")["items"]
    text = "".join(item["spec"]["trustBundle"] for item in items)
    return set(x509.load_pem_x509_certificates(text.encode())) == {ca.certificate for ca in cas}


def issued_now(cluster: Cluster) -> x509.Certificate:
    csr = create(cluster, KUBELET_SERVING, GOOD[KUBELET_SERVING])
    decide(cluster, csr)
    status = settled(cluster, csr)["status"]
    return x509.load_pem_x509_certificate(base64.b64decode(status["certificate"]))


@pytest.mark.full
@pytest.mark.parametrize("cluster", ["local-services", "old-ca"], indirect=True)
def test_a_control_plane_goes_through_a_rotation(cluster: Cluster) -> None:
    rotation = cluster.rotation(key_identifiers=cluster.profile_name != "old-ca")
    old, new = rotation.outgoing, rotation.successor
    assert old.certificate.subject == new.certificate.subject
    steps: list[tuple[Callable[[], None], KeyPair, list[KeyPair]]] = [
        (rotation.publish, old, [old, new]),
        (rotation.switch, new, [new, old]),
        (rotation.roll_back, old, [old, new]),
        (rotation.switch, new, [new, old]),
        (rotation.drop_outgoing, new, [new]),
    ]
    for step, signing, published in steps:
        step()
        assert is_issued_by(x509.load_pem_x509_certificate(cluster.served_pem().encode()), signing)
        assert is_issued_by(issued_now(cluster), signing)
        root = cluster.api("GET", "/api/v1/namespaces/default/configmaps/kube-root-ca.crt")["data"]["ca.crt"]
        assert root == b"".join(pair.certificate_pem for pair in published).decode()
        # From Kubernetes 1.37 on, a ClusterTrustBundle has the same CAs. So the ConfigMap of every release is enough.
        wait_for(functools.partial(is_trust_bundle, cluster, published))


@pytest.mark.full
def test_kubeadm_switches_a_control_plane(cluster: Cluster) -> None:
    """The steps of the guide after the phase prepare: replace the files of the CA, and renew two certificates by kubeadm.

    kubeadm needs no node for them, because the files of a test cluster have its names.
    """
    rotation = cluster.rotation()
    directory = cluster.servers[0].pki(cluster.directory)
    kubelet_client = pki.issue(
        rotation.outgoing, "kube-apiserver-kubelet-client", ("kubeadm:cluster-admins",)
    )
    kubelet_client.write(directory, "apiserver-kubelet-client")
    rotation.publish()
    rotation.successor.write(directory, "ca")
    commands = re.findall(
        r"``kubeadm (certs renew ([a-z-]+))``", (page_files.GUIDES / "guide_cluster_ca.rst").read_text()
    )
    assert len(commands) == 2
    for command, name in commands:
        path = directory / f"{name}.crt"
        before = x509.load_pem_x509_certificate(path.read_bytes())
        subprocess.run([clusters.kubeadm(), *command.split(), "--cert-dir", directory], check=True)
        after = x509.load_pem_x509_certificate(path.read_bytes())
        assert is_issued_by(after, rotation.successor)
        assert (after.subject, names_of(after)) == (before.subject, names_of(before))
    cluster.reload()
    served = x509.load_pem_x509_certificate(cluster.served_pem().encode())
    assert is_issued_by(served, rotation.successor)
    assert is_issued_by(issued_now(cluster), rotation.successor)


def names_of(certificate: x509.Certificate) -> set[x509.GeneralName]:
    with contextlib.suppress(x509.ExtensionNotFound):
        return set(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    return set()


#: Programs whose certificates a CA of the cluster signs.
OF_CLUSTER = (
    Shape("prepared", reached=shapes.BY_NAME),
    Shape("broken", reached=shapes.BY_NAME),
    Shape("skipped", reached=shapes.BY_NAME, failure_policy="Ignore"),
)
#: A program with a CA of its own, which has the subject of the CA of the cluster.
OWN = Shape("own", reached=shapes.BY_NAME, certificate=shapes.issued("kubernetes"), bundle=("kubernetes",))


class Lab(RotationRig):
    """A cluster in a rotation, with webhooks of which only some are prepared, and with what is older than the rotation."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster, key_identifiers=False)
        self.prepared, self.broken, self.skipped = self.of_cluster = [self.one(shape) for shape in OF_CLUSTER]
        self.own = self.one(OWN)
        self.lacking = (self.broken.full_name, self.skipped.full_name)
        path = f"/api/v1/namespaces/{self.name}/serviceaccounts/default"
        wait_for(lambda: self.ask("GET", path) == ACCEPTED)
        spec = {"containers": [{"name": "web", "image": "web"}]}
        self.make(f"/api/v1/namespaces/{self.name}/pods", {"metadata": {"name": "old-pod"}, "spec": spec})

    def found(self, *cas: KeyPair, **options: Any) -> dict[str, dict[str, str]]:
        """Return the findings about the rotation. cas: those of the kubeconfig, () for the kubeconfig as it is."""
        config = {"kubeconfig": with_ca(self, *cas)} if cas else {}
        return rotation_findings(self.audit(**config, **options))

    def add_to_bundle(self, program: Program, *cas: KeyPair) -> None:
        program.set_bundle("".join(ca.certificate_pem.decode() for ca in cas))


PUBLISHED = {
    "cluster-ca-rotation": {"kube-root-ca.crt": "info"},
    "pods-before-successor": {"": "info"},
    "nodes-before-successor": {"": "info"},
}


@pytest.mark.parametrize("cluster", ["old-ca"], indirect=True)
def test_the_audit_names_exactly_what_the_switch_breaks(cluster: Cluster) -> None:
    lab = Lab(cluster)
    try:
        assert lab.found() == {}
        before_the_switch(lab)
        at_the_switch(lab)
        after_the_switch(lab)
    finally:
        lab.close()


def before_the_switch(lab: Lab) -> None:
    for hook in (*lab.of_cluster, lab.own):
        wait_for(hook.is_called)
    lab.rotation.publish(for_clients=False)
    the_documented_role_is_enough(lab)
    lab.add_to_bundle(lab.prepared, lab.old, lab.new)
    result = lab.audit()
    assert rotation_findings(result) == PUBLISHED | {
        "bundle-without-successor": dict.fromkeys(lab.lacking, "warning"),
        "kubeconfig-without-successor": {"this run": "warning"},
        "client-ca-without-successor": {"extension-apiserver-authentication": "info"},
    }
    merged = lab.old.certificate_pem + lab.new.certificate_pem
    assert base64.b64decode(result["certificate_authority_data"]) == merged
    events = {"firstAutoActivation": time.time() + 3 * 86400}
    eks = {"data": encoded(lab.new.certificate_pem.decode()), "scheduledEvents": events}
    soon = lab.found(certificate_authorities={"certificateAuthority": eks})
    assert soon["bundle-without-successor"] == dict.fromkeys(lab.lacking, "error")

    lab.rotation.publish()
    result = lab.audit(kubeconfig=with_ca(lab, lab.new, lab.old))
    assert rotation_findings(result) == PUBLISHED | {
        "bundle-without-successor": dict.fromkeys(lab.lacking, "warning"),
        "ca-order": {"this run": "warning"},
    }
    assert base64.b64decode(result["certificate_authority_data"]) == merged
    # OpenSSL agrees.
    with pytest.raises(ssl.SSLError):
        ssl.get_server_certificate(lab.cluster.address, ca_certs=written(lab, lab.new, lab.old))
    ssl.get_server_certificate(lab.cluster.address, ca_certs=written(lab, lab.old, lab.new))


def the_documented_role_is_enough(lab: Lab) -> None:
    """It lists only the ConfigMaps with the published CAs. Without this rule, only the answer about pods is incomplete."""
    role = rbac.documented("audit")
    for name, part, expected in (
        ("auditor", role, []),
        ("limited", rbac.without(role, "configmaps", "list"), [["pods-before-successor"]]),
    ):
        lab.made += rbac.grant(lab.cluster, name, part)
        findings = lab.audit(kubeconfig=str(lab.cluster.kubeconfig_for(name)))["findings"]
        unknown = [finding["unanswered"] for finding in findings if finding["status"] == "unknown"]
        assert unknown == expected
    maps, word = "/api/v1/configmaps", "?fieldSelector=metadata.name%3D"
    assert may_get(lab, "auditor", f"{maps}{word}kube-root-ca.crt")
    others = (maps, f"{maps}{word}cluster-info", f"/api/v1/namespaces/{lab.name}/configmaps")
    assert not any(may_get(lab, "auditor", path) for path in others)


def may_get(lab: Lab, user: str, path: str) -> bool:
    kubeconfig = f"--kubeconfig={lab.cluster.kubeconfig_for(user)}"
    command = [str(clusters.programs() / "kubectl"), kubeconfig, "get", "--raw", path]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def at_the_switch(lab: Lab) -> None:
    hooks = (*lab.of_cluster, lab.own)
    with lab.calling(*hooks) as calls:
        lab.rotation.switch()
        errors = dict.fromkeys(lab.lacking, "error")
        assert lab.found(lab.new, lab.old)["bundle-without-successor"] == errors
        unbroken = {name: len(results) for name, results in calls.answers.items()}
        for hook in lab.of_cluster:
            hook.issue(lab.new)
        wait_for(lambda: not lab.broken.is_called() and not lab.skipped.is_called())
        wait_for(lambda: all(len(calls.answers[name]) > count + 3 for name, count in unbroken.items()))
    for name, count in unbroken.items():
        assert count
        assert not any(entry.is_failure for entry in calls.answers[name][:count])
    assert calls.failures.keys() == {lab.broken.name, lab.skipped.name}
    assert lab.skipped.ask() == ACCEPTED
    assert lab.broken.ask() != ACCEPTED


def after_the_switch(lab: Lab) -> None:
    found = lab.found(lab.new, lab.old)
    assert found["bundle-without-successor"] == dict.fromkeys(lab.lacking, "error")
    assert found["outgoing-ca-left"] == {"kube-root-ca.crt": "info"}
    for hook in (lab.broken, lab.skipped):
        lab.add_to_bundle(hook, lab.old, lab.new)
        wait_for(hook.is_called)
    lab.rotation.drop_outgoing()
    assert lab.operate(OPERATION)["code"] == "cluster-ca-unknown"
    lab.kubeconfig = lab.cluster.kubeconfig_for(lab.user, ADMINISTRATORS)
    assert lab.found() == {}


def written(rig: ClusterRig, *cas: KeyPair) -> str:
    path = rig.kubeconfig.with_suffix(".pem")
    path.write_bytes(b"".join(ca.certificate_pem for ca in cas))
    return str(path)


def run_in(rig: CsrRig, target: dict[str, Any]) -> bool:
    """Run k8s_csr with the CAs that the cluster publishes now. Return True if it issued a certificate."""
    before = rig.data()["tls.crt"]
    rig.kubeconfig = rig.cluster.kubeconfig_for(rig.user, ADMINISTRATORS)
    since = now()
    result = rig.run(targets=[target])
    assert "failed" not in result, result
    is_new = rig.data()["tls.crt"] != before
    # A run after a renewal asks for the endpoints, until each is seen to serve the certificate, and if another Secret needs an old CA.
    resources = ("secrets", "validatingwebhookconfigurations", "services")
    kept = {("list", "secrets"), *(("get", name) for name in resources)}
    assert is_new or set(rig.asked(since)) <= kept
    leaf = rig.certificate()
    bundle = x509.load_pem_x509_certificates(rig.bundle(target).encode())
    assert any(is_issued_by(leaf, pki.KeyPair(ca, new_key())) for ca in bundle)
    return is_new


@pytest.mark.parametrize("cluster", ["onprem", pytest.param("eks", marks=pytest.mark.full)], indirect=True)
def test_a_certificate_is_renewed_once_after_the_switch(cluster: Cluster) -> None:
    """Every run succeeds in every phase. A run with nothing to do sends the two requests of any other cluster."""
    rig = CsrRig(cluster, APP_SERVING if cluster.profile_name == "eks" else KUBELET_SERVING)
    try:
        target = rig.hook()
        assert rig.run(targets=[target])["changed"]
        rotation = cluster.rotation()
        old, new = rotation.outgoing, rotation.successor
        rotation.publish()
        assert not run_in(rig, target)
        # The API server has a certificate of the successor, and the signer does not: one attempt shows it.
        rotation.switch(signer=False)
        assert run_in(rig, target)
        assert is_issued_by(rig.certificate(), old)
        assert not run_in(rig, target)
        # Times in certificates have whole seconds, and the certificate of the API server must be the younger one.
        time.sleep(1)
        rotation.switch()
        assert run_in(rig, target)
        assert is_issued_by(rig.certificate(), new)
        assert not run_in(rig, target)
        rotation.roll_back()
        assert not run_in(rig, target)
        rotation.switch()
        rotation.drop_outgoing()
        assert not run_in(rig, target)
    finally:
        rig.close()
