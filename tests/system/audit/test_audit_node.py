# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Audit webhooks in pods, whose certificates a port-forward through the API server shows."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube import port_forward
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.client import Client
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.errors import ConnectionFailed
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.login.kubeconfig import resolve
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.login.transport import ReadLimits

from tests.support.audit.audit_rig import ROLE, checks, failed, resources_of
from tests.support.audit.audit_rig import audit_as_auditor as audit
from tests.support.clusters import pki
from tests.support.clusters.node import in_network
from tests.support.rig import encoded
from tests.support.waiting import wait_for
from tests.support.webhooks import called_objects, node_webhook
from tests.support.webhooks.node_webhook import NodeWebhook

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.port_forward import (
        PortForwardStream,
    )

    from tests.support.clusters import Cluster


@pytest.fixture(scope="module")
def ca() -> pki.KeyPair:
    return pki.make_ca("a CA of these tests")


@pytest.fixture(scope="module")
def webhook(node: Cluster, ca: pki.KeyPair) -> Iterator[NodeWebhook]:
    with node_webhook.serving(node, NodeWebhook("audited", "audited", reload="never"), ca) as webhook:
        yield webhook


def restart(cluster: Cluster, webhook: NodeWebhook, pair: pki.KeyPair, *, pods: int) -> None:
    """Change the Secret, and replace this number of pods, because the others keep what they have loaded."""
    secret = f"/api/v1/namespaces/{webhook.namespace}/secrets/{webhook.name}"
    cluster.api("PATCH", secret, {"data": webhook.secret(pair)["data"]}, "application/merge-patch+json")
    time.sleep(
        3
    )  # kubelet mounts the Secret that it has watched. On a busy machine it is older for a moment.
    for pod in node_webhook.pods(cluster, webhook)[:pods]:
        cluster.api("DELETE", f"/api/v1/namespaces/{webhook.namespace}/pods/{pod['metadata']['name']}")
    node_webhook.wait_until_ready(cluster, webhook)


def test_healthy_webhooks_have_no_finding(node: Cluster, webhook: NodeWebhook, ca: pki.KeyPair) -> None:
    definition = webhook.definition()["metadata"]["name"]
    with node_webhook.custom_resource(node, webhook, ca.certificate_pem.decode()):
        result = audit(node, include_passed=True)
    for name in (webhook.name, definition):
        assert checks(result, name, with_info=True) == []
        passed = {
            finding["check"]
            for finding in result["findings"]
            if finding["object"]["name"] == name and finding["status"] == "pass"
        }
        assert {"ca-mismatch", "expired", "endpoints-differ", "no-endpoints", "handshake-fails"} <= passed
    assert result["counts"]["unknown"] == 0
    assert result["limits"]["endpoints_left_out"] == 0


def test_the_limit_of_endpoints_is_told(node: Cluster, webhook: NodeWebhook) -> None:
    result = audit(node, endpoints_per_service=1)
    assert result["limits"]["endpoints_left_out"] >= webhook.replicas - 1


def test_without_the_permission_to_port_forward(node: Cluster, webhook: NodeWebhook) -> None:
    result = audit(node, lacking=["pods/portforward"], include_passed=True)
    (unknown,) = [finding for finding in result["findings"] if finding["status"] == "unknown"]
    assert "ca-mismatch" in unknown["evidence"][0]
    assert unknown["permissions"] == ["get pods/portforward", "create pods/portforward"]
    own = [finding["check"] for finding in result["findings"] if finding["object"]["name"] == webhook.name]
    assert "ca-mismatch" not in own
    assert {"ca-expired", "no-endpoints"} <= set(own)


#: Answers each request with 403, as a kubelet does that does not know the API server. Arguments: port, certificate, key.
FORBIDDING = """
import http.server, ssl, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_error(403, "Forbidden")
server = http.server.ThreadingHTTPServer(("", int(sys.argv[1])), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(*sys.argv[2:])
server.socket = context.wrap_socket(server.socket, server_side=True)
print("ready", flush=True)
server.serve_forever()
"""


@contextlib.contextmanager
def kubelet_port(cluster: Cluster, hook: str, verdict: str) -> Iterator[None]:
    """Apply a verdict to connections to the port of the kubelet during the block, in the node's network."""
    table = f"table ip closed {{\nchain c {{\n{hook};\ntcp dport 10250 {verdict}\n}}\n}}\n"
    done = cluster.run_inside("nft", "-f", "-", stdin=table.encode())
    assert done.returncode == 0, done.stderr
    try:
        yield
    finally:
        assert cluster.run_inside("nft", "delete table ip closed").returncode == 0


@contextlib.contextmanager
def forbidding_kubelet(cluster: Cluster) -> Iterator[None]:
    """Lead connections to the kubelet to a server that answers with 403."""
    pair = [str(cluster.directory / "pki" / f"kubelet.{end}") for end in ("crt", "key")]
    program = [sys.executable, "-c", FORBIDDING, "10251", *pair]
    cluster.start_program("forbidding", in_network(cluster.directory, program))
    try:
        wait_for(lambda: "ready" in cluster.log("forbidding").read_text(), 30)
        with kubelet_port(cluster, "type nat hook output priority -100", "redirect to :10251"):
            yield
    finally:
        cluster.stop("forbidding")


@contextlib.contextmanager
def dead_guard(cluster: Cluster) -> Iterator[None]:
    """Refuse each port-forward by a webhook whose Service does not exist."""
    rule = called_objects.rule("pods/portforward", "CONNECT")
    hook = called_objects.webhook("guard.certflow.invalid", called_objects.service("default", "guard"), rule)
    cluster.api("POST", node_webhook.CONFIGURATIONS, called_objects.configuration("guard", hook))
    try:
        yield
    finally:
        cluster.api("DELETE", f"{node_webhook.CONFIGURATIONS}/guard")


INPUT = "type filter hook input priority 0"
#: Why no port-forward begins -> how, and a part of the reason.
WAYS: dict[str, tuple[Callable[[Cluster], contextlib.AbstractContextManager[None]], str]] = {
    "refused": (lambda cluster: kubelet_port(cluster, INPUT, "reject with tcp reset"), "connection refused"),
    "dropped": (lambda cluster: kubelet_port(cluster, INPUT, "drop"), "timed out"),
    "forbidden": (forbidding_kubelet, "Forbidden"),
    "dead webhook": (dead_guard, 'service "guard" not found'),
}


@pytest.mark.parametrize("way", WAYS)
def test_without_a_port_forward_a_healthy_webhook_is_unknown(
    node: Cluster, webhook: NodeWebhook, way: str
) -> None:
    blocked, reason = WAYS[way]
    with blocked(node):
        node_webhook.dry_run(node, webhook)  # the API server calls it
        result = audit(node, include_passed=True)
    assert checks(result, webhook.name) == []
    unknown = [finding for finding in result["findings"] if finding["status"] == "unknown"]
    (named,) = [finding for finding in unknown if any(webhook.name in name for name in finding["objects"])]
    assert reason in named["cause"]
    assert {"ca-mismatch", "handshake-fails"} <= set(named["unanswered"])
    assert named["permissions"] == []
    own = [finding["check"] for finding in result["findings"] if finding["object"]["name"] == webhook.name]
    assert not {"ca-mismatch", "handshake-fails"} & set(own)


@contextlib.contextmanager
def port_forwarded(cluster: Cluster, webhook: NodeWebhook, port: int) -> Iterator[PortForwardStream]:
    """Open a port-forward to a port of the first pod."""
    pod = node_webhook.pods(cluster, webhook)[0]["metadata"]
    given = {"kubeconfig": str(cluster.kubeconfig)}
    client = Client(resolve(given, {}), user_agent="test", deadline=time.monotonic() + 60)
    bounds = ReadLimits("it", until=time.monotonic() + 30)
    with (
        contextlib.closing(client),
        port_forward.connect(client, pod["namespace"], pod["name"], port, bounds) as stream,
    ):
        yield stream


def test_a_port_forward_ends_when_the_program_in_the_pod_ends_the_connection(
    node: Cluster, webhook: NodeWebhook
) -> None:
    """The kubelet closes the WebSocket, which a broken way does not."""
    with port_forwarded(node, webhook, node_webhook.PORT) as stream:
        stream.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        answers = list(iter(lambda: stream.recv(65536), b""))
    assert b"HTTP request to an HTTPS server" in b"".join(answers)


def test_a_port_forward_to_a_port_without_a_program_blames_the_pod(
    node: Cluster, webhook: NodeWebhook
) -> None:
    with port_forwarded(node, webhook, 1) as stream, pytest.raises(ConnectionFailed) as caught:
        stream.recv(65536)
    assert not isinstance(caught.value, port_forward.StreamBroken)


@pytest.fixture(scope="module")
def every_source(node: Cluster, webhook: NodeWebhook, ca: pki.KeyPair) -> Iterator[None]:
    """A configuration for which the audit reads pods, nodes and a Certificate. It guards no pod and no node that is created."""
    body = webhook.configuration(ca.certificate_pem.decode())
    annotations = {"cert-manager.io/inject-ca-from": f"{webhook.namespace}/{webhook.name}"}
    body["metadata"] = {"name": "every-source", "annotations": annotations}
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    selector = {"matchLabels": {"kubernetes.io/metadata.name": "kube-public"}}
    of_pods, labels = body["webhooks"][0], {"matchLabels": {"certflow.test/guarded": "true"}}
    of_pods |= {"rules": [rule], "objectSelector": {}, "namespaceSelector": selector}
    guarded = {
        "rules": [{**rule, "resources": ["nodes"]}],
        "objectSelector": labels,
        "namespaceSelector": {},
    }
    body["webhooks"].append({**of_pods, **guarded, "name": f"nodes.{of_pods['name']}"})
    node.api("POST", node_webhook.CONFIGURATIONS, body)
    yield
    node.api("DELETE", f"{node_webhook.CONFIGURATIONS}/every-source")


@pytest.fixture(scope="module")
def complete(node: Cluster, every_source: None) -> dict[str, Any]:
    return audit(node, include_passed=True)


def subjects(result: dict[str, Any], status: str) -> set[tuple[str, ...]]:
    """Return check and object of each finding. A fingerprint depends on the UID of the cluster, which may be missing."""
    keys = ("kind", "namespace", "name", "webhook")
    return {
        (finding["check"], *(finding["object"][key] for key in keys))
        for finding in result["findings"]
        if finding["status"] == status
    }


#: The rules of the documented role. Two are enough for make test, because tests/unit has all of them.
RULES = [
    pytest.param(rule, id=resources_of(rule)[0], marks=() if number in (0, 6) else pytest.mark.full)
    for number, rule in enumerate(ROLE["rules"])
]


@pytest.mark.parametrize("rule", RULES)
def test_a_missing_permission_is_unknown_and_named(
    node: Cluster, complete: dict[str, Any], rule: dict[str, Any]
) -> None:
    result = audit(node, lacking=resources_of(rule), include_passed=True)
    unknown = [finding for finding in result["findings"] if finding["status"] == "unknown"]
    assert unknown
    for audit_finding in unknown:
        assert any(belongs(permission, rule) for permission in audit_finding["permissions"]), audit_finding
    named = {check for finding in unknown for check in finding["unanswered"]}
    lost = subjects(complete, "pass") - subjects(result, "pass")
    assert subjects(result, "pass") <= subjects(complete, "pass")
    assert {check for check, *_object in lost} <= named


def test_the_role_of_an_audit_has_every_permission_that_it_lacks(node: Cluster) -> None:
    """An audit with this role is complete, as the other tests show."""
    nothing = audit(node, lacking=[name for rule in ROLE["rules"] for name in resources_of(rule)])
    assert nothing["incomplete"] == ["configurations", "definitions", "api-services"]
    unknown = [finding for finding in nothing["findings"] if finding["status"] == "unknown"]
    assert all(finding["objects"] for finding in unknown)
    lacking = {permission for finding in unknown for permission in finding["permissions"]}
    assert [entry for entry in lacking if not any(belongs(entry, rule) for rule in ROLE["rules"])] == []


def test_what_the_site_does_not_permit_is_skipped(node: Cluster, complete: dict[str, Any]) -> None:
    given = ["port-forward", "metrics", "pods"]
    names = ["pods/portforward", "/metrics", "pods"]
    result = audit(node, lacking=names, without=given, include_passed=True)
    assert subjects(result, "unknown") == subjects(complete, "unknown")
    assert result["incomplete"] == []
    assert ("ca-mismatch", "Cluster", "", "", "") in subjects(result, "skip")
    assert subjects(result, "pass") < subjects(complete, "pass")


def belongs(permission: str, rule: dict[str, Any]) -> bool:
    """Return True if a permission in words, such as "get services", is one of a rule."""
    verb, resource, *_name = permission.split()
    group = next(iter(rule.get("apiGroups", ())), "")
    return verb in rule["verbs"] and resource in {
        f"{name}.{group}" if group else name for name in resources_of(rule)
    }


def test_a_webhook_that_guards_its_own_pods(node: Cluster, webhook: NodeWebhook, ca: pki.KeyPair) -> None:
    body = webhook.configuration(ca.certificate_pem.decode())
    body["metadata"]["name"] = "guarding"
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    selector = {"matchLabels": {"kubernetes.io/metadata.name": webhook.namespace}}
    body["webhooks"][0] |= {"rules": [rule], "objectSelector": {}, "namespaceSelector": selector}
    node.api("POST", node_webhook.CONFIGURATIONS, body)
    try:
        (finding,) = failed(audit(node), "guarding")
    finally:
        node.api("DELETE", f"{node_webhook.CONFIGURATIONS}/guarding")
    assert (finding["check"], finding["certainty"]) == ("deadlock", "proven")


def test_a_rotation_that_reached_one_pod_and_one_with_another_ca(
    node: Cluster, webhook: NodeWebhook, ca: pki.KeyPair
) -> None:
    restart(node, webhook, node_webhook.certificate(webhook, ca), pods=1)
    assert checks(audit(node), webhook.name) == []  # each pod has a certificate of its own, and both verify
    restart(node, webhook, node_webhook.certificate(webhook, pki.make_ca("a stranger")), pods=1)
    wait_for(lambda: len(failed(audit(node), webhook.name)) == 2)
    findings = failed(audit(node), webhook.name)
    assert [finding["check"] for finding in findings] == ["ca-mismatch", "endpoints-differ"]
    prints = [line for line in findings[1]["evidence"] if line.startswith("SHA-256")]
    assert len(prints) == webhook.replicas


# Objects that lead elsewhere


def test_a_webhook_behind_the_aggregation_layer_is_healthy(node: Cluster) -> None:
    """Its Service is the API server itself, which has no pod (https://github.com/openshift/generic-admission-server)."""
    path, bundle = "/apis/admission.example.com/v1/checks", encoded(node.ca_pem)
    config = {**called_objects.service("default", "kubernetes", path=path), "caBundle": bundle}
    hook = called_objects.webhook(
        "aggregated.certflow.invalid", config, called_objects.rule("*", "*", group="example.com")
    )
    node.api("POST", node_webhook.CONFIGURATIONS, called_objects.configuration("aggregated", hook))
    try:
        result = audit(node, include_passed=True)
    finally:
        node.api("DELETE", f"{node_webhook.CONFIGURATIONS}/aggregated")
    own = [finding for finding in result["findings"] if finding["object"]["name"] == "aggregated"]
    assert [finding["check"] for finding in own if finding["status"] == "fail"] == []
    assert "ca-mismatch" not in {finding["check"] for finding in own if finding["status"] == "pass"}


def test_endpoints_that_name_pods_of_another_namespace_are_not_read(
    node: Cluster, webhook: NodeWebhook, ca: pki.KeyPair
) -> None:
    """A user who may write EndpointSlices cannot make the audit connect to pods of other users."""
    namespace = "/api/v1/namespaces/default"
    pod = node_webhook.pods(node, webhook)[0]["metadata"]
    assert pod["namespace"] != "default"
    target = {"kind": "Pod", "namespace": pod["namespace"], "name": pod["name"]}
    labels = {
        "kubernetes.io/service-name": "foreign",
        "endpointslice.kubernetes.io/managed-by": "certflow.test",
    }
    slice_ = {
        "metadata": {"name": "foreign", "labels": labels},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["192.0.2.7"], "targetRef": target}],
        "ports": [{"name": "", "port": node_webhook.PORT}],
    }
    slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
    body = webhook.configuration(ca.certificate_pem.decode())
    body["metadata"]["name"] = "foreign"
    body["webhooks"][0]["clientConfig"]["service"] |= {"namespace": "default", "name": "foreign"}
    before = audit(node)["traffic"]["handshakes"]
    made = []
    try:
        for path, obj in (
            (f"{namespace}/services", {"metadata": {"name": "foreign"}, "spec": {"ports": [{"port": 443}]}}),
            (slices, slice_),
            (node_webhook.CONFIGURATIONS, body),
        ):
            node.api("POST", path, obj)
            made.append(f"{path}/foreign")
        result = audit(node)
    finally:
        for path in reversed(made):
            node.api("DELETE", path)
    assert result["traffic"]["handshakes"] == before
    assert checks(result, "foreign") == []
    assert any(finding["status"] == "unknown" for finding in result["findings"])
