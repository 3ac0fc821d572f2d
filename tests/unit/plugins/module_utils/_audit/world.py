# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Data of a cluster for the tests of the audit, as the gatherer reads it."""

from __future__ import annotations

import base64
from datetime import timedelta
from typing import Any

from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.checks import check_table
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.facts.cluster_data import (
    Backend,
    CallPoint,
    ClusterData,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.facts.finding import (
    FAIL,
    AuditedObject,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.bundles.bundle_targets import (
    Address,
    ClientConfig,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.calls.call_failures import (
    ADMISSION,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.endpoints.served_chains import (
    ServedChain,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.endpoints.webhook_endpoints import (
    Endpoint,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509 import certificate_facts

from tests.support.certificates.authority import DAY, NOW, SERVER_AUTH, Issued, authority, dns, issue

NAME = "hook.shop.svc"
CA = authority("a CA", not_before=NOW - 1000 * DAY, not_after=NOW + 3650 * DAY)
OTHER_CA = authority("another CA")
YEAR = timedelta(days=365)


def leaf(issuer: Issued = CA, **options: Any) -> Issued:
    given = {
        "names": dns(NAME),
        "usages": (SERVER_AUTH,),
        "not_before": NOW - 30 * DAY,
        "not_after": NOW + YEAR,
    }
    return issue("leaf", issuer, **{**given, **options})


GOOD = leaf()


def served(*chain: Issued, pod: str = "hook-1") -> ServedChain:
    pem = "".join(certificate.pem for certificate in chain)
    return ServedChain(Endpoint("", 8443, ("shop", pod)), pem, certificate_facts.describe_pem(pem))


def silent(
    problem: str = "it cannot be reached from here: Connection refused", **options: Any
) -> ServedChain:
    return ServedChain(Endpoint("", 8443, ("shop", "hook-1")), problem=problem, **options)


def config(bundle: str = CA.pem, *, name: str = "hook", url: str = "", port: int = 443) -> ClientConfig:
    server_name = url or f"{name}.shop.svc"
    service = None if url else ("shop", name)
    return ClientConfig(
        "hook.example.com", "/webhooks/0/clientConfig", "", server_name, service, bundle, port
    )


RULE = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}


def webhook(*resources: str, group: str = "", **fields: Any) -> dict[str, Any]:
    rule = {**RULE, "apiGroups": [group], "resources": list(resources or ("configmaps",))}
    selector = {"matchLabels": {"kubernetes.io/metadata.name": "shop"}}
    return {"name": "hook.example.com", "rules": [rule], "namespaceSelector": selector, **fields}


def point(
    given: ClientConfig | None = None,
    *,
    kind: str = "ValidatingWebhookConfiguration",
    caller: str = ADMISSION,
    **options: Any,
) -> CallPoint:
    subject = AuditedObject(
        kind, options.pop("name", "hooks"), uid=options.pop("uid", "1"), webhook="hook.example.com"
    )
    return CallPoint(subject, given or config(), caller, **{"webhook": webhook(), **options})


def cluster(*points: CallPoint, backend: Backend | None = None, **options: Any) -> ClusterData:
    """Return a cluster in which every point calls the same kind of backend, by default a healthy one."""
    healthy = Backend(ready=2, chains=(served(GOOD),), selector={"app": "hook"})
    backends: dict[Address, Backend] = {call_point.backend: backend or healthy for call_point in points}
    namespaces = {name: {"kubernetes.io/metadata.name": name} for name in ("kube-system", "shop")}
    given: dict[str, Any] = {"backends": backends, "namespaces": namespaces}
    return ClusterData(NOW, "cluster-1", points=points, **{**given, **options})


def failures(findings: Any) -> list[tuple[str, str]]:
    """Return check and severity of the findings that fail. Every finding must have a row in the table."""
    findings = list(findings)
    assert {finding.check for finding in findings} <= set(check_table.BY_ID)
    return [(finding.check, finding.severity) for finding in findings if finding.status == FAIL]


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
