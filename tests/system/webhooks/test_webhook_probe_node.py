# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run webhook_probe on a webhook in pods.

A port-forward through the API server shows the certificate of each pod.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations.webhook_probe import OPERATION
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.calls import call_failures

from tests.support.clusters import AdminApiError, pki
from tests.support.operations import operate
from tests.support.permissions import rbac
from tests.support.waiting import wait_for
from tests.support.webhooks import node_webhook
from tests.support.webhooks.node_webhook import NodeWebhook

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.clusters import Cluster


@pytest.fixture(scope="module")
def ca() -> pki.KeyPair:
    return pki.make_ca("a CA of these tests")


@pytest.fixture(scope="module")
def webhook(node: Cluster, ca: pki.KeyPair) -> Iterator[NodeWebhook]:
    with node_webhook.serving(node, NodeWebhook("probed", "probed"), ca) as webhook:
        yield webhook


@pytest.fixture(scope="module")
def kubeconfig(node: Cluster) -> Path:
    """A kubeconfig of a user with only the documented role."""
    user = f"prober-{uuid.uuid4().hex[:8]}"
    rbac.grant(node, user, rbac.documented("prove"))
    return node.kubeconfig_for(user)


def probe(kubeconfig: Path, webhook: NodeWebhook, *, refuse: bool, **options: Any) -> dict[str, Any]:
    manifest = webhook.asked_about(refuse=refuse)
    given = {
        "kubeconfig": str(kubeconfig),
        "target": {"kind": "ValidatingWebhookConfiguration", "name": webhook.name},
        "object": {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {**manifest["metadata"], "namespace": webhook.namespace},
        },
        "expect": "denied" if refuse else "allowed",
        **options,
    }
    return operate(OPERATION, given)


def test_pods_with_a_certificate_that_the_bundle_trusts(
    node: Cluster, webhook: NodeWebhook, kubeconfig: Path
) -> None:
    for refuse in (True, False):
        result = probe(kubeconfig, webhook, refuse=refuse, wait=True)
        assert result["verdict"] == "ok", result
    pods = {f"pod {webhook.namespace}/{pod['metadata']['name']}" for pod in node_webhook.pods(node, webhook)}
    assert {served["endpoint"].partition(",")[0] for served in result["served"]} == pods
    assert {served["verifies"] for served in result["served"]} == {True}


def test_a_changed_certificate_is_detected_despite_open_connections(
    node: Cluster, webhook: NodeWebhook, kubeconfig: Path, ca: pki.KeyPair
) -> None:
    """The pods load a certificate without a trusted CA, and the API server continues to use old connections."""
    secret = f"/api/v1/namespaces/{webhook.namespace}/secrets/{webhook.name}"

    def serve(pair: pki.KeyPair, mark: str, verdict: str) -> dict[str, Any]:
        node.api("PATCH", secret, {"data": webhook.secret(pair)["data"]}, "application/merge-patch+json")
        node_webhook.touch(node, webhook, mark)
        results: list[dict[str, Any]] = []

        def told() -> bool:
            results.append(probe(kubeconfig, webhook, refuse=True))
            verifies = {served["verifies"] for served in results[-1]["served"]}
            return verifies == {verdict == "ok"}

        wait_for(told)
        assert results[-1]["verdict"] == verdict, results[-1]
        return results[-1]

    strange = node_webhook.certificate(webhook, pki.make_ca("a stranger"))
    result = serve(strange, "strange", "failed")
    assert result["failure"]["code"] == "ca-mismatch"
    assert len(result["served"]) == webhook.replicas
    serve(node_webhook.certificate(webhook, ca), "good", "ok")


def test_a_service_without_pods(node: Cluster, webhook: NodeWebhook, kubeconfig: Path) -> None:
    def scale(replicas: int) -> None:
        body = {"spec": {"replicas": replicas}}
        node.api("PATCH", f"{webhook.deployment_path}/scale", body, "application/merge-patch+json")

    scale(0)
    try:
        wait_for(lambda: not node_webhook.pods(node, webhook))
        result = probe(kubeconfig, webhook, refuse=False)
        assert (result["verdict"], result["failure"]["code"]) == ("failed", "no-endpoints")
        with pytest.raises(AdminApiError) as caught:
            node_webhook.dry_run(node, webhook)
        said = call_failures.of_answer(
            caught.value.message, call_failures.ADMISSION, f"{webhook.name}.certflow.invalid"
        )
        assert said.code in ("refused", "no-endpoints"), said
    finally:
        scale(webhook.replicas)
    node_webhook.wait_until_ready(node, webhook)
    assert probe(kubeconfig, webhook, refuse=True, wait=True)["verdict"] == "ok"
