# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Audit webhooks in pods, whose certificates a port-forward through the API server shows."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations.audit_info import OPERATION

from tests.support import node_webhook
from tests.support.audit_rig import checks, failed
from tests.support.clusters import pki
from tests.support.node_webhook import NodeWebhook
from tests.support.rig import operate
from tests.support.waiting import wait_for
from tools.ci.venvs import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.clusters import Cluster

RBAC = "/apis/rbac.authorization.k8s.io/v1"
ROLE = yaml.safe_load((REPOSITORY / "docs" / "rbac" / "audit.yaml").read_text())


@pytest.fixture(scope="module")
def ca() -> pki.KeyPair:
    return pki.make_ca("a CA of these tests")


@pytest.fixture(scope="module")
def webhook(node: Cluster, ca: pki.KeyPair) -> Iterator[NodeWebhook]:
    with node_webhook.serving(node, NodeWebhook("audited", "audited", reload="never"), ca) as webhook:
        yield webhook


def audit(cluster: Cluster, *without: str, **options: Any) -> dict[str, Any]:
    """Audit as a user with the documented role, without the rules of these resources."""
    user = f"auditor-{uuid.uuid4().hex[:8]}"
    rules = [rule for rule in ROLE["rules"] if not set(without) & set(rule.get("resources", ()))]
    cluster.api("POST", f"{RBAC}/clusterroles", {"metadata": {"name": user}, "rules": rules})
    group = "rbac.authorization.k8s.io"
    binding = {
        "metadata": {"name": user},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": user},
        "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
    }
    cluster.api("POST", f"{RBAC}/clusterrolebindings", binding)
    result = operate(OPERATION, {"kubeconfig": str(cluster.kubeconfig_for(user)), **options})
    assert "failed" not in result, result
    for kind in ("clusterroles", "clusterrolebindings"):
        cluster.api("DELETE", f"{RBAC}/{kind}/{user}")
    return result


def restart(cluster: Cluster, webhook: NodeWebhook, pair: pki.KeyPair, *, pods: int) -> None:
    """Change the Secret, and replace this number of pods, because the others keep what they have loaded."""
    secret = f"/api/v1/namespaces/{webhook.namespace}/secrets/{webhook.name}"
    cluster.api("PATCH", secret, {"data": webhook.secret(pair)["data"]}, "application/merge-patch+json")
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
            one["check"]
            for one in result["findings"]
            if one["object"]["name"] == name and one["status"] == "pass"
        }
        assert {"ca-mismatch", "expired", "endpoints-differ", "no-endpoints", "handshake-fails"} <= passed
    assert result["missing_role"] == {}
    assert result["limits"]["endpoints_left_out"] == 0


def test_the_limit_of_endpoints_is_told(node: Cluster, webhook: NodeWebhook) -> None:
    result = audit(node, endpoints_per_service=1)
    assert result["limits"]["endpoints_left_out"] >= webhook.replicas - 1


def test_without_the_permission_to_port_forward(node: Cluster, webhook: NodeWebhook) -> None:
    result = audit(node, "pods/portforward", include_passed=True)
    (unknown,) = [one for one in result["findings"] if one["status"] == "unknown"]
    assert "ca-mismatch" in unknown["evidence"][0]
    rule = {"apiGroups": [""], "resources": ["pods/portforward"], "verbs": ["get", "create"]}
    assert result["missing_role"]["rules"] == [rule]
    own = [one["check"] for one in result["findings"] if one["object"]["name"] == webhook.name]
    assert "ca-mismatch" not in own
    assert {"ca-expired", "no-endpoints"} <= set(own)


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
    (finding,) = failed(audit(node), webhook.name)
    assert finding["check"] == "endpoints-differ"
    prints = [line for line in finding["evidence"] if line.startswith("SHA-256")]
    assert len(prints) == webhook.replicas
    restart(
        node, webhook, node_webhook.certificate(webhook, pki.make_ca("a stranger")), pods=webhook.replicas
    )
    wait_for(lambda: checks(audit(node), webhook.name) == ["ca-mismatch"])
