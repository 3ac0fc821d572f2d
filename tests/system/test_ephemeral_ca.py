# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""signer_name: ephemeral-ca on the cluster whose kubelet-serving signer issues nothing, without any right to CSRs."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.client import Client
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.kubeconfig import resolve
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations import webhook_cabundle
from cryptography import x509

from examples.demo import webhook
from examples.demo.webhook import Webhook
from tests.support.clusters import ApiError
from tests.support.csr_site import HOOKS, Site, role_in
from tests.support.https_webhook import Balanced, deny
from tests.system.test_k8s_csr_rights import BUNDLE, DOCS, User

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.clusters import Fleet

STORE = role_in(DOCS / "rbac" / "store.yaml")
CA_KEY = "ca.crt"
PLANTER = {
    "kind": "ClusterRole",
    "metadata": {"name": "plant-secrets-anywhere"},
    "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]}],
}
# It replaces a certificate that nobody serves here, so there is nothing to wait for.
RENEW: dict[str, Any] = {"renew_before": "400d", "wait": False}


@pytest.fixture
def site(fleet: Fleet) -> Iterator[Site]:
    """Its user may do what certflow-store and certflow-bundle grant, and nothing else."""
    with contextlib.closing(Site(fleet["eks"], "ephemeral-ca")) as site:
        user = User(site, STORE, BUNDLE)
        site.user, site.kubeconfig = user.name, Path(user.kubeconfig)
        yield site


def prints(pem: str) -> list[str]:
    return [str(certificate.serial_number) for certificate in x509.load_pem_x509_certificates(pem.encode())]


def assert_trusted(site: Site, target: dict[str, Any]) -> None:
    """What is stored fits together, and the target trusts it."""
    data = site.data()
    leaf, ca = (x509.load_pem_x509_certificate(data[key].encode()) for key in ("tls.crt", CA_KEY))
    leaf.verify_directly_issued_by(ca)
    assert data[CA_KEY] in site.bundle(target)


@pytest.mark.quick
def test_its_whole_life(site: Site) -> None:
    target = site.hook()
    foreseen = site.run(targets=[target], check_mode=True)
    assert (foreseen["changed"], foreseen["pending"], foreseen["ca_bundle"]) == (True, True, None)
    assert site.writes() == []

    first = site.run(targets=[target], expiration_seconds=3600)
    assert (first["changed"], first["csr"], first.get("warnings")) == (True, None, None), first
    assert first["ca_bundle"] == site.bundle(target) == site.data()[CA_KEY]
    assert_trusted(site, target)
    assert site.writes() == [
        ("create", "leases"),
        ("patch", "validatingwebhookconfigurations"),
        ("create", "secrets"),
        ("delete", "leases"),
    ]

    before = len(site.asked())
    again = site.run(targets=[target])
    assert (again["changed"], again["reason"]) == (False, "the certificate is kept")
    assert again["ca_source"] == first["ca_source"]
    assert [verb for verb, _ in site.asked()[before:]] == ["get"] * 2

    renewed = site.run(targets=[target], **RENEW)
    assert renewed["changed"]
    assert prints(site.bundle(target)) == prints(first["ca_bundle"] + renewed["ca_bundle"]), "side by side"
    assert_trusted(site, target)
    assert "certificatesigningrequests" not in {resource for _verb, resource in site.asked()}

    assert site.run(targets=[target], state="absent")["changed"]
    assert (site.secret(), site.bundle(target)) == (None, "")
    assert site.run(targets=[target], state="absent")["changed"] is False


def test_its_ca_is_found_again(site: Site) -> None:
    """Beside the certificate, else on the targets, else nowhere: then another certificate is made."""
    target = site.hook()
    site.run(targets=[target])
    leaf, ca = site.certificate(), site.data()[CA_KEY]
    forget = [{"op": "remove", "path": f"/data/{CA_KEY}"}]
    site.cluster.api("PATCH", f"{site.secrets}/hook-tls", forget, "application/json-patch+json")
    assert site.run(targets=[target])["ca_source"] == "the anchor that an earlier run added to the targets"
    assert (site.certificate(), site.data()[CA_KEY]) == (leaf, ca)
    assert site.run(targets=[target])["changed"] is False
    site.cluster.api("PATCH", f"{site.secrets}/hook-tls", forget, "application/json-patch+json")
    lost = site.run()
    assert "no CA that is known here vouches" in lost["reason"]
    assert site.certificate() != leaf


def test_a_ca_that_another_identity_planted_gets_into_no_target(site: Site) -> None:
    """The permission to create Secrets is enough to plant one with all marks. No target trusts its CA."""
    site.run()
    planted = site.secret()
    assert planted is not None
    site.cluster.api("DELETE", f"{site.secrets}/hook-tls")
    mallory = User(site, PLANTER)
    connection = resolve({"kubeconfig": mallory.kubeconfig}, {})
    client = Client(connection, user_agent="mallory", deadline=time.monotonic() + 30)
    kept = {key: planted["metadata"][key] for key in ("name", "labels", "annotations")}
    client.create(site.secrets, {"metadata": kept, "type": planted["type"], "data": planted["data"]})
    key, ca = site.data()["tls.key"], site.data()[CA_KEY]

    target = site.hook()
    done = site.run(targets=[target])
    assert done["changed"]
    assert site.data()["tls.key"] != key
    assert_trusted(site, target)
    assert ca not in site.bundle(target)


def test_what_has_no_meaning_and_what_is_refused(site: Site) -> None:
    site.refused("invalid-request", "ephemeral-ca", "approve", approve=False)
    site.refused("invalid-request", "ephemeral-ca", "usages", usages=["server auth", "client auth"])
    done = site.run(trust="leaf", wait=False, ca_bundle=site.cluster.ca_pem, expiration_seconds=3600)
    assert done["ca_bundle"] == site.data()[CA_KEY]
    assert site.run(trust="chain")["changed"] is False


def test_a_signer_is_changed_both_ways(site: Site) -> None:
    """From the cluster's signer and back to it: each time another certificate, and trust for both on the target."""
    target, signers = site.hook(), ("beta.eks.amazonaws.com/app-serving", site.signer)
    administrator = str(site.cluster.kubeconfig)
    options: dict[str, Any] = {"targets": [target], "kubeconfig": administrator, "wait": False}
    for signer in (*signers, signers[0]):
        assert site.run(signer_name=signer, **options)["changed"]
        assert site.run(signer_name=signer, **options)["changed"] is False
    assert len(prints(site.bundle(target))) == 2
    assert site.run(state="absent", **options)["changed"]
    assert site.bundle(target) == ""


def test_the_api_server_calls_a_webhook_with_it(site: Site) -> None:
    """A real call over TLS: refused in the webhook's own words, so its certificate was accepted."""
    with contextlib.closing(Webhook(webhook.judge)) as server:
        name = f"called-{site.name}"
        service = {
            "metadata": {"name": "hook"},
            "spec": {"type": "ExternalName", "externalName": "localhost"},
        }
        site.make(f"/api/v1/namespaces/{site.name}/services", service)
        target = {"kind": "ValidatingWebhookConfiguration", "name": name}
        site.make(HOOKS, _configuration(site, name, server.port))
        site.run(targets=[target], expiration_seconds=3600)
        server.serve(site.data()["tls.crt"], site.data()["tls.key"])
        assert webhook.RULE in _call(site)
        assert site.run(targets=[target], **RENEW)["changed"]
        assert webhook.RULE in _call(site), "the old certificate is still served, and still trusted"
    assert len(server.calls) == 2


@dataclass(frozen=True)
class Stored:
    """The certificate that a machine of the webhook has loaded."""

    certificate_pem: bytes
    key_pem: bytes

    @classmethod
    def by(cls, site: Site) -> Stored:
        data = site.data()
        return cls(data["tls.crt"].encode(), data["tls.key"].encode())


def test_an_address_with_two_machines_keeps_the_old_ca(site: Site) -> None:
    """One machine reloads and the other one does not. A single connection reaches only one of them."""
    with contextlib.closing(Balanced(deny)) as server:
        target = {"kind": "ValidatingWebhookConfiguration", "name": f"balanced-{site.name}"}
        url = {"url": f"https://localhost:{server.port}/"}
        site.make(HOOKS, _configuration(site, target["name"], server.port, client_config=url))
        names: dict[str, Any] = {"service": None, "common_name": "x", "dns_names": ["localhost"]}
        options = {**names, "allow_names": ["localhost"], "targets": [target]}
        old_ca = site.run(**options, expiration_seconds=3600)["ca_bundle"]
        old = Stored.by(site)
        new_ca = site.run(**options, **RENEW)["ca_bundle"]
        server.present_in_turn(old, Stored.by(site))
        server.serve()
        seen = site.run(**options, served_timeout=20)
        assert (seen["proof"]["verdict"], seen["proof"]["kept"], seen["proof"]["dropped"]) == (
            "unproven",
            1,
            0,
        ), seen
        assert f"localhost:{server.port}" in seen["warnings"][0]
        assert prints(site.bundle(target)) == prints(old_ca + new_ca)
        assert len({_serial(server.port, site.bundle(target)) for _connection in range(4)}) == 2
        assert "no team, no ConfigMap" in _call(site)
        again = site.run(**options)
        assert (again["changed"], again["proof"]) == (False, None)
        # The user knows when the last machine has reloaded.
        exactly = {"targets": [target], "ca_bundle": new_ca, "mode": "exactly"}
        assert site.operate(webhook_cabundle.OPERATION, **exactly)["changed"]
        assert prints(site.bundle(target)) == prints(new_ca)


def _serial(port: int, bundle: str) -> str:
    """Connect as an API server does. Raises ssl.SSLError for a certificate that is not trusted."""
    context = ssl.create_default_context(cadata=bundle)
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as connection,
        context.wrap_socket(connection, server_hostname="localhost") as tls,
    ):
        return str((tls.getpeercert() or {})["serialNumber"])


def _configuration(
    site: Site, name: str, port: int, *, client_config: dict[str, Any] | None = None
) -> dict[str, Any]:
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}
    hook = {
        "name": "called.certflow.test",
        "clientConfig": client_config or {"service": {"namespace": site.name, "name": "hook", "port": port}},
        "rules": [rule],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": site.name}},
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    return {"metadata": {"name": name}, "webhooks": [hook]}


def _call(site: Site) -> str:
    """What the API server says to a ConfigMap that the webhook refuses."""
    body = {"metadata": {"name": f"unlabelled-{uuid.uuid4().hex[:8]}"}}
    with pytest.raises(ApiError) as refused:
        site.cluster.api("POST", f"/api/v1/namespaces/{site.name}/configmaps", body)
    return str(refused.value)
