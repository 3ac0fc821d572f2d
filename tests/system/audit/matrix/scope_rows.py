# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rows about what webhooks match: the control plane, their own pods, and settings.

The webhooks of the control plane answer, so that nothing breaks. The API server shows by its calls about which requests it asks.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from tests.system.audit.matrix.requests import send_all
from tests.system.audit.matrix.row import ACCEPTED, SILENT, Made, Row, Shape

if TYPE_CHECKING:
    from tests.system.audit.matrix.lab import Lab
    from tests.system.audit.matrix.row import Make

BLOCKED = "control-plane-blocked: error, proven"
NOT_ASKED = "not asked"
#: The number of requests that an answer shows.
MOST = 4
EVERYWHERE: dict[str, Any] = {"namespaceSelector": {}, "objectSelector": {}}
OUTSIDE = {"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "NotIn",
    "values": ["kube-system", "kube-node-lease", "kube-public", "default"]}]}  # fmt: skip


def rule(
    resource: str, *operations: str, group: str = "", version: str = "*", **fields: Any
) -> dict[str, Any]:
    return {
        "apiGroups": [group],
        "apiVersions": [version],
        "operations": list(operations or ("*",)),
        "resources": [resource],
        **fields,
    }


def _asked(lab: Lab, name: str, *, shape: Shape) -> Made:
    """Make a webhook. The answer lists the requests of a control plane about which it is asked."""
    full, seen = lab.recording(name, shape)

    def ask() -> str:
        send_all(lab)
        kinds = list(dict.fromkeys(seen))
        more = f" and {len(kinds) - MOST} more" if len(kinds) > MOST else ""
        return f"asked about {', '.join(kinds[:MOST])}{more}" if kinds else NOT_ASKED

    return Made((full,), ask)


def asked(*rules: dict[str, Any], is_mutating: bool = False, **fields: Any) -> Make:
    """Return what makes a webhook with these rules for every namespace. fields: of the webhook.

    It has a URL, because a Service has pods, and the rows about them are others.
    """
    webhook = {**EVERYWHERE, "timeoutSeconds": 3, **fields, "rules": list(rules)}
    return partial(_asked, shape=Shape(webhook=webhook, is_mutating=is_mutating, url="localhost"))


LEASES = rule("leases", "UPDATE", group="coordination.k8s.io")
CONTROL_PLANE = (
    Row("the status of nodes", "UPDATE nodes/status", BLOCKED, asked(rule("nodes/status", "UPDATE")), True),
    Row("the status of pods", "UPDATE pods/status", BLOCKED, asked(rule("pods/status", "UPDATE")), True),
    Row("the binding of pods", "CREATE pods/binding", BLOCKED, asked(rule("pods/binding", "CREATE"))),
    Row("tokens of service accounts", "CREATE serviceaccounts/token", BLOCKED, asked(rule("serviceaccounts/token", "CREATE"))),
    Row("EndpointSlices", "CREATE endpointslices", BLOCKED, asked(rule("endpointslices", group="discovery.k8s.io"))),
    Row("the deletion of pods", "DELETE pods", BLOCKED, asked(rule("pods", "DELETE"))),
    Row("the creation of pods", "CREATE pods", BLOCKED, asked(rule("pods", "CREATE"))),
    Row("the creation of nodes", "CREATE nodes", BLOCKED, asked(rule("nodes", "CREATE"))),
    Row("updates of Leases", "UPDATE leases", BLOCKED, asked(LEASES)),
    Row("the deletion of namespaces", "DELETE namespaces", BLOCKED, asked(rule("namespaces", "DELETE"))),
    Row("the finalizers of namespaces", "UPDATE namespaces/finalize", BLOCKED, asked(rule("namespaces/finalize", "UPDATE"))),
    Row("CSRs of nodes", "CREATE certificatesigningrequests", BLOCKED, asked(rule("certificatesigningrequests", group="certificates.k8s.io"))),
    Row("the status of Deployments", "UPDATE deployments/status", BLOCKED, asked(rule("deployments/status", "UPDATE", group="apps"))),
    Row("secrets and configmaps", "CREATE configmaps", BLOCKED, asked(rule("secrets"), rule("configmaps"))),
    Row("all resources with their subresources", "asked about UPDATE nodes/status, UPDATE nodes",
        f"{BLOCKED}; matches-everything: warning, proven", asked(rule("*/*", group="*")), True),
    Row("all resources without subresources", "asked about UPDATE nodes, CREATE nodes",
        f"{BLOCKED}; matches-everything: warning, proven", asked(rule("*", group="*"))),
    Row("the status of all resources", "UPDATE pods/status", BLOCKED, asked(rule("*/status", "UPDATE", group="*"))),
    Row("pods with all their subresources", "CREATE pods/binding", BLOCKED, asked(rule("pods/*"))),
    Row("nodes, by a label that all nodes have", "UPDATE nodes/status", BLOCKED,
        asked(rule("nodes/status", "UPDATE"), objectSelector={"matchLabels": {"kubernetes.io/os": "linux"}})),
    Row("pods, by a label that pods of kube-system have", "CREATE pods", BLOCKED,
        asked(rule("pods", "CREATE"), objectSelector={"matchLabels": {"k8s-app": "kube-dns"}})),
    Row("pods of kube-system only", "CREATE pods", BLOCKED,
        asked(rule("pods"), namespaceSelector={"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}})),
    Row("Leases, with failurePolicy Ignore and 4 seconds", "UPDATE leases", "slow-leases: warning, proven",
        asked(LEASES, failurePolicy="Ignore", timeoutSeconds=4)),
    Row("nodes, with failurePolicy Ignore and 16 seconds", "UPDATE nodes", "control-plane-blocked: warning, proven",
        asked(rule("nodes"), failurePolicy="Ignore", timeoutSeconds=16)),
    # Older releases ask, as tests/system/execution/test_kubernetes_releases.py shows.
    Row("reviews of tokens, on Kubernetes 1.37", NOT_ASKED, SILENT,
        asked(rule("tokenreviews", group="authentication.k8s.io"))),
    Row("reviews of permissions, on Kubernetes 1.37", NOT_ASKED, SILENT,
        asked(rule("subjectaccessreviews", group="authorization.k8s.io"))),
    Row("pods, and a condition that cannot be evaluated", "CREATE pods", "unknown: match-conditions",
        asked(rule("pods", "CREATE"), matchConditions=[{"name": "all", "expression": "true"}])),
    Row("updates of Leases, but only in version v1beta1", NOT_ASKED, "unknown: rule-versions",
        asked({**LEASES, "apiVersions": ["v1beta1"]})),
    Row("pods outside of the namespaces of the system, and a condition", NOT_ASKED, SILENT,
        asked(rule("pods"), namespaceSelector=OUTSIDE, matchConditions=[{"name": "all", "expression": "true"}])),
    Row("pods, with failurePolicy Ignore, 3 seconds and a condition", "CREATE pods", SILENT,
        asked(rule("pods", "CREATE"), failurePolicy="Ignore", matchConditions=[{"name": "all", "expression": "true"}])),
    Row("pods outside of the namespaces of the system", NOT_ASKED, SILENT, asked(rule("pods"), namespaceSelector=OUTSIDE)),
    Row("pods, with a label that no pod has", NOT_ASKED, SILENT, asked(rule("pods"), objectSelector={"matchLabels": {"inject": "yes"}}), True),
    Row("Leases, with failurePolicy Ignore and 3 seconds", "UPDATE leases", SILENT, asked(LEASES, failurePolicy="Ignore")),
    Row("all resources, with failurePolicy Ignore, outside of the namespaces of the system", "asked about UPDATE nodes, CREATE nodes", SILENT,
        asked(rule("*", group="*"), failurePolicy="Ignore", namespaceSelector=OUTSIDE)),
    Row("commands in pods", NOT_ASKED, SILENT, asked(rule("pods/exec", "CONNECT"))),
    Row("the creation of Ingresses", NOT_ASKED, SILENT, asked(rule("ingresses", group="networking.k8s.io"))),
    Row("PersistentVolumeClaims", NOT_ASKED, SILENT, asked(rule("persistentvolumeclaims"))),
    Row("resources of its own group", NOT_ASKED, SILENT, asked(rule("*", group="example.com"))),
    Row("nodes, but only in namespaces", NOT_ASKED, SILENT, asked(rule("nodes", scope="Namespaced"))),
    Row("another version of pods, with matchPolicy Exact", NOT_ASKED, SILENT, asked(rule("pods", version="v2"), matchPolicy="Exact")),
    Row("mutates pods outside of the namespaces of the system", NOT_ASKED, SILENT,
        asked(rule("pods", "CREATE"), namespaceSelector=OUTSIDE, is_mutating=True)),
)  # fmt: skip


def _guards(lab: Lab, name: str, *, size: int = 1, **fields: Any) -> Made:
    """Make a ring of webhooks: each is asked about the pods of the next one. The API server creates the pods as dry runs."""
    names = [f"{name[:50]}-{number}" for number in range(size)]
    made, seen = [], []
    for own, other in zip(names, [*names[1:], names[0]], strict=True):
        webhook = {
            "rules": [rule("pods", "CREATE")],
            "objectSelector": {"matchLabels": {"app": other}},
            **fields,
        }
        full, requests = lab.recording(own, Shape(webhook=webhook))
        made.append(full)
        seen.append(requests)

    def ask() -> str:
        for requests in seen:
            requests.clear()
        for entry in names:
            lab.create_pod(entry)
        count = sum(map(bool, seen))
        return f"asks {count} of {size} about the pods" if count else NOT_ASKED

    return Made(tuple(made), ask)


def _guards_excluded(lab: Lab, name: str) -> Made:
    service = f"{name[:50]}-0"
    selector = {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": [service]}]}
    return _guards(lab, name, objectSelector=selector)


def _twice(lab: Lab, name: str) -> Made:
    """Make two configurations that make the same call."""
    config = lab.client_config(name, Shape())
    names = tuple(lab.configure(f"{name}{suffix}", Shape(webhook={"objectSelector": {"matchLabels": {"probe": name}}}), config)
        for suffix in ("", "-again"))  # fmt: skip
    return Made(names, lambda: lab.ask(name))


DEADLOCK = "deadlock: error, proven"
OWN_PODS = (
    Row("it guards its own pods", "asks 1 of 1 about the pods", DEADLOCK, _guards, True),
    Row("two webhooks guard the pods of each other", "asks 2 of 2 about the pods", DEADLOCK, partial(_guards, size=2)),
    Row("a ring of three webhooks", "asks 3 of 3 about the pods", DEADLOCK, partial(_guards, size=3)),
    Row("a ring of five webhooks", "asks 5 of 5 about the pods", DEADLOCK, partial(_guards, size=5)),
    Row("it guards its own pods, with failurePolicy Ignore", "asks 1 of 1 about the pods", SILENT, partial(_guards, failurePolicy="Ignore")),
    Row("a ring of three webhooks, with failurePolicy Ignore", "asks 3 of 3 about the pods", SILENT, partial(_guards, size=3, failurePolicy="Ignore")),
    Row("it leaves out its own pods", NOT_ASKED, SILENT, _guards_excluded, True),
    Row("two configurations contain the same webhook", ACCEPTED, "webhook-duplicated: warning, proven", _twice),
)  # fmt: skip
