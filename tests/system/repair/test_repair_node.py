# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Repairs of webhooks in pods: the CA of the Secret that they mount, and the restart of pods that keep an old certificate."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations.webhook_repair import OPERATION

from tests.support.clusters import AdminApiError, pki
from tests.support.operations import operate
from tests.support.rig import encoded
from tests.support.waiting import wait_for
from tests.support.webhooks import node_webhook
from tests.support.webhooks.node_webhook import CONFIGURATIONS, NodeWebhook
from tests.support.webhooks.repair_rig import of, states

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.clusters import Cluster

JSON_PATCH, MERGE = "application/json-patch+json", "application/merge-patch+json"
UNKNOWN = "certificate signed by unknown authority"


@pytest.fixture(scope="module")
def cas() -> tuple[pki.KeyPair, pki.KeyPair]:
    return pki.make_ca("the CA before"), pki.make_ca("the CA after")


@pytest.fixture(scope="module")
def webhook(node: Cluster, cas: tuple[pki.KeyPair, pki.KeyPair]) -> Iterator[NodeWebhook]:
    with node_webhook.serving(node, NodeWebhook("mended", "mended", reload="never"), cas[0]) as webhook:
        yield webhook


def repair(cluster: Cluster, *, check_mode: bool = False, **options: Any) -> dict[str, Any]:
    given = {"kubeconfig": str(cluster.kubeconfig), "proof_after": 1, "wait_timeout": 60, **options}
    return operate(OPERATION, given, check_mode=check_mode)


def renew(cluster: Cluster, webhook: NodeWebhook, ca: pki.KeyPair) -> None:
    """Let another program renew the Secret: certificate, key and ca.crt."""
    data = webhook.secret(node_webhook.certificate(webhook, ca))["data"]
    data["ca.crt"] = encoded(ca.certificate_pem.decode())
    path = f"/api/v1/namespaces/{webhook.namespace}/secrets/{webhook.name}"
    cluster.api("PATCH", path, {"data": data}, MERGE)


def write_bundle(cluster: Cluster, webhook: NodeWebhook, ca: pki.KeyPair) -> None:
    value = encoded(ca.certificate_pem.decode())
    operation = {"op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": value}
    path = f"{CONFIGURATIONS}/{webhook.name}?fieldManager=kubectl-edit"
    cluster.api("PATCH", path, [operation], JSON_PATCH)


def answer(cluster: Cluster, webhook: NodeWebhook) -> str:
    try:
        node_webhook.dry_run(cluster, webhook)
    except AdminApiError as error:
        return error.message
    return "accepted"


@contextlib.contextmanager
def changed(cluster: Cluster, webhook: NodeWebhook, spec: dict[str, Any]) -> Iterator[None]:
    """Change the Deployment during the block, without a rollout."""
    before = cluster.api("GET", webhook.deployment_path)["spec"]["strategy"]
    cluster.api(
        "PATCH",
        webhook.deployment_path,
        [{"op": "replace", "path": "/spec/strategy", "value": spec}],
        JSON_PATCH,
    )
    yield
    cluster.api(
        "PATCH",
        webhook.deployment_path,
        [{"op": "replace", "path": "/spec/strategy", "value": before}],
        JSON_PATCH,
    )


def test_the_pods_load_the_certificate_and_the_bundle_gets_its_ca(
    node: Cluster, webhook: NodeWebhook, cas: tuple[pki.KeyPair, pki.KeyPair]
) -> None:
    """The owner renewed the Secret and wrote the bundle. The pods keep the old certificate, so every call fails."""
    renew(node, webhook, cas[1])
    write_bundle(node, webhook, cas[1])
    wait_for(lambda: UNKNOWN in answer(node, webhook))
    assert states(repair(node, check_mode=True), webhook.name) == [
        ("ca-mismatch", "refused", "not-published")
    ]
    with changed(node, webhook, {"type": "Recreate"}):
        plan = repair(node, check_mode=True, kinds=["reload"])
        assert states(plan, webhook.name) == [("ca-mismatch", "refused", "no-pod-left")]
        assert "ends at" in of(plan, webhook.name)[0]["reason"]
    names = {pod["metadata"]["name"] for pod in node_webhook.pods(node, webhook)}
    plan = repair(node, check_mode=True, kinds=["reload"])
    assert states(plan, webhook.name) == [("ca-mismatch", "planned", "")]
    assert {pod["metadata"]["name"] for pod in node_webhook.pods(node, webhook)} == names
    result = repair(node, kinds=["reload"], approved_plan=plan["plan_digests"])
    assert states(result, webhook.name) == [("ca-mismatch", "repaired", "")], result
    assert answer(node, webhook) == "accepted"
    node_webhook.wait_until_ready(node, webhook)
    # The other way round: the pods serve the certificate of the Secret, and the bundle stayed.
    write_bundle(node, webhook, cas[0])
    wait_for(lambda: UNKNOWN in answer(node, webhook))
    result = repair(node)
    assert states(result, webhook.name) == [("ca-mismatch", "repaired", "")], result
    wait_for(lambda: answer(node, webhook) == "accepted")
    assert repair(node, kinds=["add-ca", "reload"])["changed"] is False


def test_no_night_takes_one_more_pod(
    node: Cluster, webhook: NodeWebhook, cas: tuple[pki.KeyPair, pki.KeyPair]
) -> None:
    """A quota refuses every new pod of a workload with the mark of Argo CD. The second night finds the rollout of the first one."""
    node.api(
        "PATCH",
        webhook.deployment_path,
        {"metadata": {"annotations": {"argocd.argoproj.io/tracking-id": "a"}}},
        MERGE,
    )
    newest = pki.make_ca("the newest CA")
    renew(node, webhook, newest)
    write_bundle(node, webhook, newest)
    quotas = f"/api/v1/namespaces/{webhook.namespace}/resourcequotas"
    node.api("POST", quotas, {"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}})
    wait_for(lambda: "hard" in node.api("GET", f"{quotas}/none").get("status", {}))
    names = {pod["metadata"]["name"] for pod in node_webhook.pods(node, webhook)}
    with changed(node, webhook, {"rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}}):
        codes = []
        for _night in range(3):
            result = repair(node, kinds=["reload"], wait_timeout=10)
            codes += [(state, code) for _check, state, code in states(result, webhook.name)]
        left = {
            pod["metadata"]["name"]
            for pod in node_webhook.pods(node, webhook)
            if not pod["metadata"].get("deletionTimestamp")
        }
        assert codes == [("failed", "unproven"), *[("refused", "rollout-incomplete")] * 2], result
        assert len(left) == webhook.replicas - 1
        assert left < names
        node.api("DELETE", f"{quotas}/none")
        wait_for(lambda: answer(node, webhook) == "accepted")
    node_webhook.wait_until_ready(node, webhook)


def test_a_webhook_that_guards_its_own_pods_is_not_restarted(
    node: Cluster, webhook: NodeWebhook, cas: tuple[pki.KeyPair, pki.KeyPair]
) -> None:
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    operations = [
        {"op": "add", "path": "/webhooks/0/rules/-", "value": rule},
        {"op": "replace", "path": "/webhooks/0/objectSelector", "value": {}},
        {"op": "replace", "path": "/webhooks/0/namespaceSelector", "value": {"matchLabels": {"kubernetes.io/metadata.name": webhook.namespace}}},
    ]  # fmt: skip
    node.api("PATCH", f"{CONFIGURATIONS}/{webhook.name}", operations, JSON_PATCH)
    another = pki.make_ca("another CA")
    renew(node, webhook, another)
    write_bundle(node, webhook, another)
    refused = repair(node, kinds=["reload"])
    assert states(refused, webhook.name) == [("ca-mismatch", "refused", "blocks-its-own-pods")], refused


# The kind, its fields, and whether its restart needs the consent of the user.
WORKLOADS = [
    ("DaemonSet", {}, True),
    ("StatefulSet", {"replicas": 2, "serviceName": "reloaded"}, False),
]


@pytest.mark.full  # a minute
@pytest.mark.parametrize(("kind", "spec", "is_refused"), WORKLOADS)
def test_a_workload_of_another_kind_is_restarted(
    node: Cluster,
    cas: tuple[pki.KeyPair, pki.KeyPair],
    kind: str,
    spec: dict[str, Any],
    is_refused: bool,
) -> None:
    """A DaemonSet on one node stops its only pod first."""
    resource = f"{kind.lower()}s"
    webhook = NodeWebhook(
        "reloaded", f"reloaded-{resource}", reload="never", replicas=spec.get("replicas", 1)
    )
    node_webhook.deploy(node, webhook, resource, spec)
    node_webhook.create_secret(node, webhook, node_webhook.certificate(webhook, cas[0]))
    node_webhook.configure(node, webhook, cas[0].certificate_pem.decode())
    path = f"/apis/apps/v1/namespaces/{webhook.namespace}/{resource}/{webhook.name}"

    def is_ready() -> bool:
        status = node.api("GET", path)["status"]
        return webhook.replicas in (status.get("numberReady"), status.get("availableReplicas"))

    with contextlib.ExitStack() as stack:
        stack.callback(node_webhook.remove, node, webhook)
        wait_for(is_ready)
        renew(node, webhook, cas[1])
        write_bundle(node, webhook, cas[1])
        wait_for(lambda: UNKNOWN in answer(node, webhook))
        if is_refused:
            refused = repair(node, kinds=["reload"])
            assert states(refused, webhook.name) == [("ca-mismatch", "refused", "no-pod-left")], refused
        accept = [{"downtime": [f"{kind}/{webhook.namespace}/{webhook.name}"]}]
        result = repair(node, kinds=["reload"], accept=accept)
        assert states(result, webhook.name) == [("ca-mismatch", "repaired", "")], result
        assert answer(node, webhook) == "accepted"
