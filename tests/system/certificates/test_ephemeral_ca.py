# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Use signer_name: ephemeral-ca on a cluster whose kubelet-serving signer never issues, without permissions
for CSRs.
"""

from __future__ import annotations

import contextlib
import copy
import socket
import ssl
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.client import Client
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.login.kubeconfig import resolve
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations import webhook_cabundle
from cryptography import x509

from examples.demo import webhook
from examples.demo.webhook import DemoWebhook
from tests.support.certificates.csr_rig import HOOK_KIND, HOOKS, CsrRig, assert_one_line
from tests.support.clusters import AdminApiError
from tests.support.permissions.rbac import BUNDLE, User, documented
from tests.support.webhooks import called_objects
from tests.support.webhooks.https_webhook import BalancedServer, deny

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.clusters import Fleet

STORE = documented("store")
CA_KEY = "ca.crt"
PLANTER = {
    "kind": "ClusterRole",
    "metadata": {"name": "plant-secrets-anywhere"},
    "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]}],
}
# No server presents the certificate that is replaced, so the run need not wait.
RENEW: dict[str, Any] = {"renew_before": "400d", "wait": False}


@pytest.fixture
def rig(fleet: Fleet) -> Iterator[CsrRig]:
    """A rig whose user has only the roles certflow-store and certflow-bundle."""
    with contextlib.closing(CsrRig(fleet["eks"], "ephemeral-ca")) as rig:
        user = User(rig, STORE, BUNDLE)
        rig.user, rig.kubeconfig = user.name, Path(user.kubeconfig)
        yield rig


def prints(pem: str) -> list[str]:
    return [str(certificate.serial_number) for certificate in x509.load_pem_x509_certificates(pem.encode())]


def assert_trusted(rig: CsrRig, target: dict[str, Any]) -> None:
    """Check that key, certificate and CA fit together, and that the target trusts the CA."""
    data = rig.data()
    leaf, ca = (x509.load_pem_x509_certificate(data[key].encode()) for key in ("tls.crt", CA_KEY))
    leaf.verify_directly_issued_by(ca)
    assert data[CA_KEY] in rig.bundle(target)


@pytest.mark.quick
def test_issue_renew_and_remove(rig: CsrRig) -> None:
    target = rig.hook()
    foreseen = rig.run(targets=[target], check_mode=True)
    assert (foreseen["changed"], foreseen["pending"], foreseen["ca_bundle"]) == (True, True, None)
    assert rig.writes() == []

    first = rig.run(targets=[target], expiration_seconds=3600)
    assert (first["changed"], first["csr"], first.get("warnings")) == (True, None, None), first
    assert first["ca_bundle"] == rig.bundle(target) == rig.data()[CA_KEY]
    assert_trusted(rig, target)
    assert rig.writes() == [
        ("create", "leases"),
        ("patch", "validatingwebhookconfigurations"),
        ("create", "secrets"),
        ("delete", "leases"),
    ]

    before = len(rig.asked())
    again = rig.run(targets=[target])
    assert (again["changed"], again["reason"]) == (False, "the certificate is kept")
    assert again["ca_source"] == first["ca_source"]
    assert [verb for verb, _ in rig.asked()[before:]] == ["get"] * 2

    renewed = rig.run(targets=[target], **RENEW)
    assert renewed["changed"]
    assert prints(rig.bundle(target)) == prints(first["ca_bundle"] + renewed["ca_bundle"]), "side by side"
    assert_trusted(rig, target)
    assert "certificatesigningrequests" not in {resource for _verb, resource in rig.asked()}

    refused = rig.run(targets=[target], state="absent")
    assert refused.get("code") == "still-needed", "this identity does not see the endpoints"
    unseen = {"unseen": [f"ValidatingWebhookConfiguration/{target['name']}"]}
    assert rig.run(targets=[target], state="absent", accept=[unseen])["changed"]
    assert (rig.secret(), rig.bundle(target)) == (None, "")
    assert rig.run(targets=[target], state="absent")["changed"] is False


def test_a_lost_ca_is_found_on_the_targets(rig: CsrRig) -> None:
    """The Secret has the CA, else the targets have it. If neither does, the certificate is replaced."""
    target = rig.hook()
    rig.run(targets=[target])
    leaf, ca = rig.certificate(), rig.data()[CA_KEY]
    forget = [{"op": "remove", "path": f"/data/{CA_KEY}"}]
    rig.cluster.api("PATCH", f"{rig.secrets}/hook-tls", forget, "application/json-patch+json")
    assert rig.run(targets=[target])["ca_source"] == "the anchor that an earlier run added to the targets"
    assert (rig.certificate(), rig.data()[CA_KEY]) == (leaf, ca)
    assert rig.run(targets=[target])["changed"] is False
    # The Secret records the target, so a task that does not name it finds the CA there too.
    rig.cluster.api("PATCH", f"{rig.secrets}/hook-tls", forget, "application/json-patch+json")
    rig.run()
    assert (rig.certificate(), rig.data()[CA_KEY]) == (leaf, ca)
    rig.set_bundle(target, "")
    rig.cluster.api("PATCH", f"{rig.secrets}/hook-tls", forget, "application/json-patch+json")
    lost = rig.run()
    assert "no known CA vouches" in lost["reason"]
    assert rig.certificate() != leaf


def test_a_ca_that_another_identity_planted_gets_into_no_target(rig: CsrRig) -> None:
    """The permission to create Secrets is enough to plant one with all marks. No target trusts its CA."""
    rig.run()
    planted = rig.secret()
    assert planted is not None
    rig.cluster.api("DELETE", f"{rig.secrets}/hook-tls")
    mallory = User(rig, PLANTER)
    connection = resolve({"kubeconfig": mallory.kubeconfig}, {})
    client = Client(connection, user_agent="mallory", deadline=time.monotonic() + 30)
    kept = {key: planted["metadata"][key] for key in ("name", "labels", "annotations")}
    client.create(rig.secrets, {"metadata": kept, "type": planted["type"], "data": planted["data"]})
    key, ca = rig.data()["tls.key"], rig.data()[CA_KEY]

    target = rig.hook()
    done = rig.run(targets=[target])
    assert done["changed"]
    assert rig.data()["tls.key"] != key
    assert_trusted(rig, target)
    assert ca not in rig.bundle(target)


def test_the_target_of_another_task_that_may_not_be_read(rig: CsrRig) -> None:
    """The tasks share the Secret. The webhook of the first one would refuse a certificate that the second one renews."""
    first, second = rig.hook("first"), rig.hook("second")
    rig.run(targets=[first], expiration_seconds=3600)
    rig.run(targets=[second])
    bundle = copy.deepcopy(BUNDLE)
    for rule in bundle["rules"]:
        rule["resourceNames"] = [second["name"]]
    user = User(rig, STORE, bundle)
    options: dict[str, Any] = {"targets": [second], "kubeconfig": user.kubeconfig}
    kept = rig.run(**options)
    assert (kept["changed"], kept["left"]["count"]) == (False, 0), kept
    for check_mode in (True, False):
        refused = rig.run(check_mode=check_mode, **options, **RENEW)
        assert_one_line(refused, "missing-permissions", first["name"])
    assert user.writes() == []
    renewed = rig.run(**options, **RENEW, accept=[{"unseen": [f"{HOOK_KIND}/{first['name']}"]}])
    assert (renewed["changed"], renewed["left"]["count"]) == (True, 0), renewed
    left = rig.run(**options)["left"]
    assert (left["count"], left["first"]["object"]["name"]) == (1, first["name"])
    assert rig.run(targets=[first])["left"]["count"] == 0
    assert rig.run(**options)["left"]["count"] == 0


def test_options_without_meaning_are_refused(rig: CsrRig) -> None:
    rig.refused("invalid-request", "ephemeral-ca", "approve", approve=False)
    rig.refused("invalid-request", "ephemeral-ca", "usages", usages=["server auth", "client auth"])
    done = rig.run(trust="leaf", wait=False, ca_bundle=rig.cluster.ca_pem, expiration_seconds=3600)
    assert done["ca_bundle"] == rig.data()[CA_KEY]
    assert rig.run(trust="chain")["changed"] is False


def test_the_signer_can_be_changed_and_changed_back(rig: CsrRig) -> None:
    """Each change issues another certificate, and the target trusts both CAs."""
    target, signers = rig.hook(), ("beta.eks.amazonaws.com/app-serving", rig.signer)
    administrator = str(rig.cluster.kubeconfig)
    options: dict[str, Any] = {"targets": [target], "kubeconfig": administrator, "wait": False}
    for signer in (*signers, signers[0]):
        assert rig.run(signer_name=signer, **options)["changed"]
        assert rig.run(signer_name=signer, **options)["changed"] is False
    assert len(prints(rig.bundle(target))) == 2
    assert rig.run(state="absent", **options)["changed"]
    assert rig.bundle(target) == ""
    assert rig.secret() is None


def test_the_api_server_calls_a_webhook_with_the_certificate(rig: CsrRig) -> None:
    """The refusal has the webhook's own message, so the API server accepted the certificate."""
    with contextlib.closing(DemoWebhook(webhook.judge)) as server:
        name = f"called-{rig.name}"
        service = {
            "metadata": {"name": "hook"},
            "spec": {"type": "ExternalName", "externalName": "localhost"},
        }
        rig.make(f"/api/v1/namespaces/{rig.name}/services", service)
        target = {"kind": "ValidatingWebhookConfiguration", "name": name}
        rig.make(HOOKS, _configuration(rig, name, server.port))
        rig.run(targets=[target], expiration_seconds=3600)
        server.serve(rig.data()["tls.crt"], rig.data()["tls.key"])
        assert webhook.RULE in _call(rig)
        assert rig.run(targets=[target], **RENEW)["changed"]
        assert webhook.RULE in _call(rig), "the old certificate is still served, and still trusted"
    assert len(server.calls) == 2


@dataclass(frozen=True)
class Stored:
    """The certificate that one machine of the webhook has loaded."""

    certificate_pem: bytes
    key_pem: bytes

    @classmethod
    def by(cls, rig: CsrRig) -> Stored:
        data = rig.data()
        return cls(data["tls.crt"].encode(), data["tls.key"].encode())


def test_an_address_with_two_machines_keeps_the_old_ca(rig: CsrRig) -> None:
    """One machine reloads and the other one does not. A single connection reaches only one of them."""
    with contextlib.closing(BalancedServer(deny)) as server:
        target = {"kind": "ValidatingWebhookConfiguration", "name": f"balanced-{rig.name}"}
        url = {"url": f"https://localhost:{server.port}/"}
        rig.make(HOOKS, _configuration(rig, target["name"], server.port, client_config=url))
        names: dict[str, Any] = {"service": None, "common_name": "x", "names": ["localhost"]}
        options = {**names, "allow_names": ["localhost"], "targets": [target]}
        old_ca = rig.run(**options, expiration_seconds=3600)["ca_bundle"]
        old = Stored.by(rig)
        new_ca = rig.run(**options, **RENEW)["ca_bundle"]
        server.present_in_turn(old, Stored.by(rig))
        server.serve()
        seen = rig.run(**options, wait_timeout=20)
        assert (seen["proof"]["verdict"], seen["proof"]["kept"], seen["proof"]["dropped"]) == (
            "unproven",
            1,
            0,
        ), seen
        assert f"localhost:{server.port}" in seen["warnings"][0]
        assert prints(rig.bundle(target)) == prints(old_ca + new_ca)
        assert len({_serial(server.port, rig.bundle(target)) for _connection in range(4)}) == 2
        assert "no team, no ConfigMap" in _call(rig)
        again = rig.run(**options)
        assert (again["changed"], again["proof"]["verdict"], again["left"]["count"]) == (False, "unproven", 1)
        verified = [rig.run(**options, state="verified") for _machine in range(2)]
        assert [result["left"]["count"] for result in verified if "failed" not in result] == [1], verified
        # The user knows when the last machine has reloaded.
        exactly = {"targets": [target], "ca_bundle": new_ca, "mode": "exactly"}
        assert rig.operate(webhook_cabundle.OPERATION, **exactly)["code"] == "still-needed"
        accept = [{"unseen": [f"{target['kind']}/{target['name']}"]}]
        assert rig.operate(webhook_cabundle.OPERATION, **exactly, accept=accept)["changed"]
        assert prints(rig.bundle(target)) == prints(new_ca)


def _serial(port: int, bundle: str) -> str:
    """Connect as an API server does. Raises ssl.SSLError for an untrusted certificate."""
    context = ssl.create_default_context(cadata=bundle)
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as connection,
        context.wrap_socket(connection, server_hostname="localhost") as tls,
    ):
        return str((tls.getpeercert() or {})["serialNumber"])


def _configuration(
    rig: CsrRig, name: str, port: int, *, client_config: dict[str, Any] | None = None
) -> dict[str, Any]:
    config = client_config or called_objects.service(rig.name, "hook", port=port)
    where = called_objects.of_namespace(rig.name)
    hook = called_objects.webhook("called.certflow.test", config, called_objects.CONFIG_MAPS, **where)
    return called_objects.configuration(name, hook)


def _call(rig: CsrRig) -> str:
    """Return the API server's answer to a ConfigMap that the webhook refuses."""
    body = {"metadata": {"name": f"unlabelled-{uuid.uuid4().hex[:8]}"}}
    with pytest.raises(AdminApiError) as refused:
        rig.cluster.api("POST", f"/api/v1/namespaces/{rig.name}/configmaps", body)
    return str(refused.value)
