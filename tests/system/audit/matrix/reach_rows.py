# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rows about Services, endpoints, connections and addresses."""

from __future__ import annotations

import ssl
import warnings
from typing import Any

from tests.support.world.certificates import Leaf
from tests.system.audit.matrix.certificate_rows import EXPIRED, MISMATCH, UNKNOWN
from tests.system.audit.matrix.row import ACCEPTED, Pod, Row, Shape, healthy

OTHER = Leaf(("other",))
EXPIRED_LEAF = Leaf(life=(-60, -1))
REFUSED = "connection refused"
MIXED = f"{MISMATCH}; endpoints-differ: warning, proven"
NO_LABEL = {"matchLabels": {"team": "unknown"}}
CONTRADICTION = {
    "matchLabels": {"probe": "contradiction"},
    "matchExpressions": [{"key": "probe", "operator": "DoesNotExist"}],
}


def _version(version: ssl.TLSVersion) -> Any:
    def limit(context: ssl.SSLContext) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of TLS 1.1
            context.minimum_version = context.maximum_version = version

    return limit


def _demands_certificate(version: ssl.TLSVersion) -> Any:
    def limit(context: ssl.SSLContext) -> None:
        context.minimum_version = context.maximum_version = version
        context.verify_mode = ssl.CERT_REQUIRED

    return limit


def _requests_certificate(context: ssl.SSLContext) -> None:
    context.verify_mode = ssl.CERT_OPTIONAL


def _names_protocol(context: ssl.SSLContext) -> None:
    context.set_alpn_protocols(["http/1.1"])


def _rule(
    resource: str, group: str = "", version: str = "v1", operation: str = "CREATE", scope: str = "*"
) -> dict[str, Any]:
    return {
        "apiGroups": [group],
        "apiVersions": [version],
        "operations": [operation],
        "resources": [resource],
        "scope": scope,
    }


#: Rules that match no request, and further fields of the webhook.
NEVER: tuple[tuple[str, dict[str, Any], dict[str, Any]], ...] = (
    ("the rule names a group that is not served", _rule("*", "gone.certflow.test", "*", "*"), {}),
    (
        "the rule names exactly a version that is not served",
        _rule("deployments", "apps", "v1beta1"),
        {"matchPolicy": "Exact"},
    ),
    ("the rule names a namespaced resource outside of namespaces", _rule("configmaps", scope="Cluster"), {}),
    ("the rule names connections to a resource without any", _rule("configmaps", operation="CONNECT"), {}),
    ("the rule names a subresource that does not exist", _rule("configmaps/status"), {}),
)
SERVICES = (
    healthy("two pods with one certificate each, of one CA", Shape((Pod(), Pod(Leaf(life=(-2, 88))))), is_daily=True),
    healthy("three pods, each with a CA of its own, and all CAs in the bundle",
        Shape((Pod(), Pod(OTHER), Pod(Leaf(("p384-root",)))), ("root", "other", "p384-root")), is_daily=True),
    healthy("a pod that is not ready serves a certificate of another CA", Shape((Pod(), Pod(OTHER, is_ready=False))), is_daily=True),
    healthy("a pod that is not ready serves an expired certificate", Shape((Pod(), Pod(EXPIRED_LEAF, is_ready=False)))),
    healthy("a Service of type NodePort", Shape(service={"type": "NodePort"})),
    healthy("a Service of type LoadBalancer", Shape(service={"type": "LoadBalancer"})),
    healthy("a Service with session affinity", Shape((Pod(), Pod()), service={"sessionAffinity": "ClientIP"})),
    healthy("a Service with several named ports", Shape((Pod(port_name="https"),), service={"ports": [
        {"name": "metrics", "port": 1, "targetPort": "metrics"}, {"name": "https", "port": 0, "targetPort": "https"}]})),
    healthy("a Service that publishes pods that are not ready", Shape(service={"publishNotReadyAddresses": True})),
    healthy("a pod with sidecars", Shape((Pod(labels={"sidecar.istio.io/inject": "true", "security.istio.io/tlsMode": "istio"}),))),
    healthy("two webhooks of one configuration behind one Service", Shape(others=({"name": "second.certflow.test"},))),
    healthy("five webhooks of one configuration behind one Service",
        Shape(others=tuple({"name": f"hook{number}.certflow.test"} for number in range(4)))),
    healthy("a mutating webhook", Shape(is_mutating=True, webhook={"reinvocationPolicy": "IfNeeded"})),
    healthy("failurePolicy Ignore", Shape(webhook={"failurePolicy": "Ignore"})),
    healthy("a Service of type ExternalName", Shape(service={"type": "ExternalName", "externalName": "localhost"})),
    healthy("a URL of localhost", Shape(url="localhost")),
    healthy("a URL of an IPv4 address", Shape(url="127.0.0.1")),
    healthy("a URL of an IPv6 address", Shape(url="[::1]"), is_daily=True),
    Row("the Service does not exist", "not found", "service-missing: error, proven, now", Shape(calls="nosuch"), True),
    Row("the Service has another port", "no service port", "port-missing: error, proven, now", Shape(port=8443), True),
    Row("the Service is headless, and the API server does not route to endpoints", 'cannot route to service with ClusterIP "None"',
        "service-headless: warning, likely", Shape(service={"clusterIP": "None"})),
    Row("the Service has no pod", REFUSED, "no-endpoints: error, proven, now", Shape(pods=())),
    Row("no pod is ready", REFUSED, "no-endpoints: error, proven, now", Shape((Pod(is_ready=False, listens=False),))),
    Row("the first of two pods serves a certificate of another CA", UNKNOWN, MIXED, Shape((Pod(OTHER), Pod())), True),
    Row("the second of two pods serves an expired certificate", EXPIRED, "endpoints-differ: warning, proven; expired: error, proven, 1 days ago",
        Shape((Pod(), Pod(EXPIRED_LEAF)))),
    Row("the last of eleven pods serves a certificate of another CA", UNKNOWN, "unknown: endpoints", Shape((
        *(Pod() for _number in range(9)), Pod(OTHER), Pod()))),
    Row("each pod has a CA of its own, and one is not in the bundle", UNKNOWN, MIXED, Shape((Pod(), Pod(OTHER)), ("root",))),
    Row("a URL whose certificate is of another CA", UNKNOWN, MISMATCH, Shape((Pod(OTHER),), url="localhost")),
    Row("a URL whose certificate is for another name", "certificate is valid for", "name-mismatch: error, proven, now",
        Shape((Pod(Leaf(names=("elsewhere.example.com",))),), url="localhost")),
    Row("a URL whose certificate has expired", EXPIRED, "expired: error, proven, 1 days ago", Shape((Pod(EXPIRED_LEAF),), url="127.0.0.1")),
)  # fmt: skip

CONNECTIONS = (
    healthy("TLS 1.2 only", Shape((Pod(tls=_version(ssl.TLSVersion.TLSv1_2)),))),
    healthy("TLS 1.3 only", Shape((Pod(tls=_version(ssl.TLSVersion.TLSv1_3)),))),
    healthy("the server accepts requests without a client certificate, which it requests", Shape((Pod(tls=_requests_certificate),))),
    healthy("the server names the protocol http/1.1", Shape((Pod(tls=_names_protocol),))),
    healthy("the handshake takes half a second of three", Shape((Pod(delay=0.5),), webhook={"timeoutSeconds": 3})),
    Row("the pod does not listen", REFUSED, "handshake-fails: error, likely, now", Shape((Pod(listens=False),)), True),
    Row("a URL at which no program listens", REFUSED, "refused: error, likely, now", Shape((Pod(listens=False),), url="127.0.0.1")),
    Row("the pod speaks plain HTTP", "first record does not look like a TLS handshake", "not-tls: error, likely, now", Shape((Pod(leaf=None),)), True),
    Row("the server demands a client certificate, with TLS 1.2", "tls: handshake failure", "unknown: endpoints",
        Shape((Pod(tls=_demands_certificate(ssl.TLSVersion.TLSv1_2)),)), True),
    Row("the server demands a client certificate, with TLS 1.3", "tls: certificate required", "unknown: handshakes",
        Shape((Pod(tls=_demands_certificate(ssl.TLSVersion.TLSv1_3)),))),
    Row("the server speaks only TLS 1.1", "protocol version", "handshake-fails: error, likely, now",
        Shape((Pod(tls=_version(ssl.TLSVersion.TLSv1_1)),))),
    Row("the handshake takes longer than timeoutSeconds", "deadline exceeded", "timed-out: error, likely, now", Shape((Pod(delay=3),))),
)  # fmt: skip

UNUSED = (
    healthy("no Service, and no rule", Shape(calls="nosuch", webhook={"rules": []})),
    Row("no Service, and the namespaceSelector selects nothing", ACCEPTED, "service-missing: warning, likely",
        Shape(calls="nosuch", webhook={"namespaceSelector": NO_LABEL}), True),
    *(healthy(f"no Service, and {name}", Shape(calls="nosuch", webhook={"rules": [rule], **fields})) for name, rule, fields in NEVER),
    healthy("no Service, and a condition is always false",
        Shape(calls="nosuch", webhook={"matchConditions": [{"name": "never", "expression": "false"}]})),
    Row("no Service, and the rule names another version of a group that is served", "not found", "service-missing: error, proven, now",
        Shape(calls="nosuch", webhook={"rules": [_rule("configmaps"), _rule("deployments", "apps", "v1beta1")]})),
    healthy("no Service, and the objectSelector contradicts itself", Shape(calls="nosuch", webhook={"objectSelector": CONTRADICTION})),
)  # fmt: skip
