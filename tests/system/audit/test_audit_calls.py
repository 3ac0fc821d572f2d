# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a real API server does with a webhook, a conversion and its own CA, beside what the audit says."""

from __future__ import annotations

import base64
import contextlib
import datetime
import json
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations import webhook_cabundle
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._report import compare, report_model
from cryptography import x509

from tests.support import clusters
from tests.support.audit.audit_rig import NOW, AuditRig, as_pair, audit_as_auditor, failed, leaf
from tests.support.certificates.authority import DAY, Issued, authority, new_key
from tests.support.clusters import AdminApiError
from tests.support.operations import operate
from tests.support.waiting import wait_for
from tests.support.webhooks.bundle_rig import DEFINITION, PATHS, VALIDATING, ca, pem
from tests.support.webhooks.https_webhook import WebhookServer, allow
from tests.system.fault_injection import proxy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.clusters import Cluster, Fleet
    from tests.system.fault_injection.proxy import Exchange

ACCEPTED = "accepted"


@pytest.fixture(scope="module")
def rig(fleet: Fleet) -> Iterator[AuditRig]:
    rig = AuditRig(fleet["onprem"])
    try:
        yield rig
    finally:
        rig.close()


def says(cluster: Cluster, verb: str, path: str, body: dict[str, Any] | None = None) -> str:
    try:
        cluster.api(verb, path, body)
    except AdminApiError as error:
        return error.message
    return ACCEPTED


def test_a_failed_call_of_the_past_is_information(rig: AuditRig) -> None:
    """The counters show that calls failed. Only a call that fails during the audit shows that they still fail."""
    port = rig.serve(leaf(rig.server_name))
    name, server = rig.called_hook("repaired", port=port), rig.servers[-1]
    server.answer = lambda _asked: (500, {})
    earlier = rig.audit()["counters"]
    wait_for(lambda: rig.ask("repaired") != ACCEPTED)
    stop = threading.Event()

    def keep_asking() -> None:
        while not stop.wait(0.05):
            rig.ask("repaired")

    thread = threading.Thread(target=keep_asking)
    thread.start()
    try:
        (broken,) = [finding for finding in failed(rig.audit(), name) if finding["check"] == "calls-fail"]
    finally:
        stop.set()
        thread.join()
    server.answer = allow
    wait_for(lambda: rig.ask("repaired") == ACCEPTED)
    result = rig.audit(previous_counters=earlier)
    (past,) = [
        finding for finding in failed(result, name, with_info=True) if finding["check"] == "calls-fail"
    ]
    assert (broken["severity"], past["severity"], past["breaks_at"]) == ("error", "info", None)
    assert "since the previous audit" in past["evidence"][1]


def test_a_server_that_demands_a_client_certificate_or_speaks_no_tls_is_explained(rig: AuditRig) -> None:
    port = rig.serve(leaf(rig.server_name))
    context: Any = rig.servers[-1]._tls
    context.verify_mode, context.maximum_version = ssl.CERT_REQUIRED, ssl.TLSVersion.TLSv1_2
    names = {
        "mutual": rig.called_hook("mutual", port=port),
        "plain": rig.called_hook("plain", port=rig.serve(None)),
    }
    answers = {"mutual": "tls: handshake failure", "plain": "first record does not look like a TLS handshake"}
    words = {"mutual": "it demands a client certificate", "plain": "it speaks plain HTTP"}
    for name, answer in answers.items():
        wait_for(lambda name=name, answer=answer: answer in rig.ask(name))  # type: ignore[misc]
    result = rig.audit()
    (finding,) = [finding for finding in failed(result, names["plain"]) if finding["check"] == "not-tls"]
    assert words["plain"] in finding["evidence"][0]
    # The API server may have a client certificate, by its AdmissionConfiguration.
    assert failed(result, names["mutual"]) == []
    assert words["mutual"] in unknown(result, names["mutual"])


def unknown(result: dict[str, Any], name: str) -> str:
    """Return the causes of the findings without an answer about a configuration."""
    found = [finding for finding in result["findings"] if finding["status"] == "unknown"]
    return " ".join(finding["cause"] for finding in found if any(name in text for text in finding["objects"]))


class SlowServer(WebhookServer):
    """A server that begins each TLS handshake late."""

    def finish_request(self, request: Any, client_address: Any) -> None:
        time.sleep(2.5)
        super().finish_request(request, client_address)


@contextlib.contextmanager
def other_protocol(rig: AuditRig) -> Iterator[int]:
    """Run a server that ends the handshake of each client without its protocol, as Go does. The ssl module cannot."""
    pair, port = leaf(rig.server_name), free_port()
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "pair.pem"
        file.write_bytes(pair.certificate_pem + pair.key_pem)
        command = f"openssl s_server -quiet -alpn grpc -cert {file} -accept 127.0.0.1:{port}".split()
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as server:
            wait_for(lambda: is_listening(port))
            yield port
            server.kill()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def is_listening(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def mutual_port(rig: AuditRig, mode: ssl.VerifyMode) -> int:
    """Serve TLS 1.3, and ask each client for a certificate."""
    port = rig.serve(leaf(rig.server_name))
    context: Any = rig.servers[-1]._tls
    context.verify_mode, context.minimum_version = mode, ssl.TLSVersion.TLSv1_3
    return port


def slow_port(rig: AuditRig) -> int:
    server = SlowServer(allow)
    server.present(leaf(rig.server_name))
    server.serve()
    rig.servers.append(server)
    return server.port


def test_handshakes_that_the_api_server_does_not_finish(rig: AuditRig) -> None:
    """Each has the same certificate and caBundle as a webhook that works."""
    with other_protocol(rig) as grpc:
        slow = slow_port(rig)
        #: Name -> port and timeoutSeconds, a part of the answer of the API server, the check of the audit, and a part of what it says.
        cases = {
            "demanding": (mutual_port(rig, ssl.CERT_REQUIRED), 10, "certificate required", "", "demands a client"),
            "asking": (mutual_port(rig, ssl.CERT_OPTIONAL), 10, ACCEPTED, "", ""),
            "grpc": (grpc, 10, "no application protocol", "handshake-fails", "no protocol that the API server offers"),
            "impatient": (slow, 1, "deadline exceeded", "timed-out", "and timeoutSeconds is 1"),
            "patient": (slow, 10, ACCEPTED, "", ""),
        }  # fmt: skip
        for name, (port, seconds, answer, _check, _words) in cases.items():
            rig.called_hook(name, port=port, timeoutSeconds=seconds)
            wait_for(lambda name=name, answer=answer: answer in rig.ask(name))  # type: ignore[misc]
        result = rig.audit()
    for name, (_port, _seconds, _answer, check, words) in cases.items():
        found = [
            finding for finding in failed(result, f"{name}-{rig.name}") if finding["check"] != "calls-fail"
        ]
        assert [finding["check"] for finding in found] == ([check] if check else []), name
        assert all(words in finding["evidence"][0] for finding in found), name
        assert (words in unknown(result, f"{name}-{rig.name}")) is not bool(check), name


def test_services_to_which_the_api_server_has_no_way(rig: AuditRig) -> None:
    services: dict[str, dict[str, Any]] = {
        "headless": {"clusterIP": "None", "ports": [{"port": 443}]},
        "datagrams": {"ports": [{"port": 443, "protocol": "UDP"}]},
        "both": {
            "ports": [{"port": 443, "protocol": entry, "name": entry.lower()} for entry in ("UDP", "TCP")]
        },
    }
    answers = {
        "headless": 'cannot route to service with ClusterIP "None"',
        "datagrams": "failed calling webhook",
        "both": "failed calling webhook",
    }
    names = {}
    for name, spec in services.items():
        path = f"/api/v1/namespaces/{rig.name}/services"
        rig.make(path, {"metadata": {"name": name}, "spec": {"selector": {"app": name}, **spec}})
        names[name] = rig.called_hook(name, service=name, port=443, timeoutSeconds=1)
        wait_for(lambda name=name: answers[name] in rig.ask(name))  # type: ignore[misc]
    result = rig.audit()
    found = {
        name: {
            finding["check"]: (finding["severity"], finding["certainty"])
            for finding in failed(result, full)
            if finding["check"] != "calls-fail"
        }
        for name, full in names.items()
    }
    assert found["headless"]["service-headless"] == ("warning", "likely")
    assert found["datagrams"] == {"port-missing": ("error", "proven")}
    assert found["both"] == {"no-endpoints": ("error", "proven")}


# The CA of the cluster


def kubernetes_ca(days: float, key: Any = None) -> Issued:
    key = key or new_key()
    identifier = (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
    begin, end = NOW - 3610 * DAY, NOW + days * DAY
    return authority("kubernetes", key=key, extensions=[identifier], not_before=begin, not_after=end)


SOON = kubernetes_ca(40)
#: The published CAs -> what the check says. A certificate of the CA that ends soon is served.
PUBLISHED = {
    "alone": ((SOON,), "fail"),
    "with a successor of the same name": ((SOON, kubernetes_ca(3600)), "fail"),
    "with a successor of the same name and key": ((SOON, kubernetes_ca(3600, key=SOON.key)), "pass"),
}


@pytest.mark.parametrize("published", PUBLISHED)
def test_the_ca_in_use_counts_and_not_one_of_the_same_name(rig: AuditRig, published: str) -> None:
    """The API server stands behind a proxy with a certificate of the CA that ends, and publishes these CAs."""
    issuers, status = PUBLISHED[published]
    text = "".join(issuer.pem for issuer in issuers)

    def publish(exchange: Exchange) -> None:
        answer = exchange.send()
        if exchange.path.endswith("/configmaps/kube-root-ca.crt"):
            body = {**json.loads(answer.body), "data": {"ca.crt": text}}
            answer = replace(answer, body=json.dumps(body).encode())
        exchange.answer(answer)

    front = proxy.Proxy(rig.cluster, ca=as_pair(SOON), lifetime=datetime.timedelta(days=39))
    front.inject(lambda _number: publish)
    kubeconfig = rig.proxied(front.url)
    kubeconfig["clusters"][0]["cluster"]["certificate-authority-data"] = base64.b64encode(
        text.encode()
    ).decode()
    try:
        result = rig.audit(kubeconfig=kubeconfig, include_passed=True)
    finally:
        front.close()
    (finding,) = [finding for finding in result["findings"] if finding["check"] == "cluster-ca-expiring"]
    assert finding["status"] == status
    assert finding["breaks_at"] == (
        (NOW + 40 * DAY).strftime("%Y-%m-%dT%H:%M:%SZ") if status == "fail" else None
    )


# Fields of a newer API


def test_a_field_beside_a_bundle_that_is_not_known_is_left_and_reported(rig: AuditRig) -> None:
    """No release of Kubernetes has such a field, so a proxy adds it to the answers of the API server."""
    name = rig.hook("newer")

    def add_field(exchange: Exchange) -> None:
        answer = exchange.send()
        if exchange.path.startswith(PATHS[VALIDATING]):
            body = json.loads(answer.body)
            for obj in body.get("items", [body]):
                if obj["metadata"]["name"] == name:
                    obj["webhooks"][0]["clientConfig"]["trustBundleRef"] = {"name": "example"}
            answer = replace(answer, body=json.dumps(body).encode())
        exchange.answer(answer)

    before = rig.cluster.api("GET", f"{PATHS[VALIDATING]}/{name}")["webhooks"]
    front = proxy.Proxy(rig.cluster)
    front.inject(lambda _number: add_field)
    kubeconfig = rig.proxied(front.url)
    try:
        result = rig.audit(kubeconfig=kubeconfig)
        target = {"kind": VALIDATING, "name": name}
        options = {"kubeconfig": kubeconfig, "targets": [target], "ca_bundle": pem("other")}
        written = operate(webhook_cabundle.OPERATION, options)
    finally:
        front.close()
    found = [finding for finding in result["findings"] if finding["check"] == "trust-field-unknown"]
    assert [(finding["object"]["name"], finding["severity"]) for finding in found] == [(name, "info")]
    assert written["changed"]
    after = rig.cluster.api("GET", f"{PATHS[VALIDATING]}/{name}")["webhooks"]
    assert after[0]["clientConfig"].pop("caBundle") != before[0]["clientConfig"].pop("caBundle")
    assert after == before


# Certificates of cert-manager


@pytest.fixture
def certificates(rig: AuditRig) -> Iterator[None]:
    """Install the definition of the Certificates of cert-manager."""
    path = clusters.cert_manager_dir() / "deploy" / "crds" / "cert-manager.io_certificates.yaml"
    definition = yaml.safe_load(path.read_text())
    rig.cluster.api("POST", PATHS[DEFINITION], definition)
    try:
        wait_for(lambda: rig.is_served("/apis/cert-manager.io/v1/certificates"))
        yield
    finally:
        own = f"{PATHS[DEFINITION]}/{definition['metadata']['name']}"
        rig.cluster.api("DELETE", own)
        wait_for(lambda: says(rig.cluster, "GET", own) != ACCEPTED)


@pytest.mark.usefixtures("certificates")
def test_an_annotation_for_a_certificate_that_does_not_exist_is_named(rig: AuditRig) -> None:
    metadata = {"annotations": {"cert-manager.io/inject-ca-from": f"{rig.name}/nosuch"}}
    name = rig.hook("no-certificate", bundle=ca("bad").certificate_pem.decode(), metadata=metadata)
    (finding,) = failed(rig.audit(), name)
    assert any("has issued no certificate, or does not exist" in line for line in finding["evidence"])


def test_an_annotation_for_a_cert_manager_that_is_not_installed_is_named(rig: AuditRig) -> None:
    metadata = {"annotations": {"cert-manager.io/inject-ca-from": f"{rig.name}/hook"}}
    name = rig.hook("no-injector", bundle=ca("bad").certificate_pem.decode(), metadata=metadata)
    (finding,) = failed(rig.audit(), name)
    assert any("needs cert-manager, which is not installed" in line for line in finding["evidence"])


# Incomplete audits


def report_of(result: dict[str, Any], made_at: datetime.datetime = NOW) -> dict[str, Any]:
    return dict(report_model.build_audit({"a": result}, made_at, "1.0.0"))


def test_an_endpoint_that_cannot_be_read_hides_no_finding_of_another_webhook(rig: AuditRig) -> None:
    rig.hook("no-pod", service=rig.service("no-pod", address="192.0.2.1"), port=443)
    earlier = report_of(rig.audit(), NOW - DAY)
    name = rig.hook("new", port=rig.serve(leaf(rig.server_name, end=NOW + 5 * DAY)))
    compared = compare.compare(report_of(rig.audit()), earlier)
    states = {
        finding["check"]: finding["state"]
        for finding in compared["clusters"][0]["findings"]
        if finding["object"]["name"] == name and finding["severity"] != "info"
    }
    assert states == {"expiring": "new"}


@pytest.mark.parametrize("resource", ["services", "endpointslices"])
def test_an_audit_that_may_not_read_services_is_not_complete(rig: AuditRig, resource: str) -> None:
    name = rig.hook(f"without-{resource}")
    result = audit_as_auditor(rig.cluster, lacking=[resource])
    assert result["incomplete"] == ["services"]
    (unknown,) = (finding for finding in result["findings"] if finding["source"] == "services")
    assert any(name in subject for subject in unknown["objects"])
    (cluster,) = report_of(result)["clusters"]
    assert (cluster["status"], cluster["code"]) == ("incomplete", "audit-incomplete")
