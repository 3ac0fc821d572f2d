# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The test webhook in pods of a real node: its manifests and its life in a test."""

from __future__ import annotations

import base64
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from tests.support import clusters
from tests.support.clusters import image, pki
from tests.support.waiting import wait_for
from tests.support.webhooks import called_objects, endpoint_slices

if TYPE_CHECKING:
    from collections.abc import Iterator

IMAGE = "certflow.invalid/webhook:1"
PORT = 8443
#: The answer to an object with `refuse: "yes"` among its labels, annotations or data.
REFUSAL = "the test webhook refuses this"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"


@dataclass(frozen=True)
class NodeWebhook:
    """A Deployment of the test webhook and its other objects, which all have the name `name`."""

    name: str
    namespace: str = "default"
    replicas: int = 2
    #: "poll" reads the Secret's files every second, "never" only at the start.
    reload: Literal["poll", "never"] = "poll"
    #: Mounts the files with subPath, which never shows a change.
    sub_path: bool = False
    failure_policy: Literal["Fail", "Ignore"] = "Fail"
    #: The Secret that the pods mount. If empty, it has the name of the webhook.
    secret_name: str = ""

    @property
    def server_name(self) -> str:
        """The DNS name for which the API server requires a certificate."""
        return f"{self.name}.{self.namespace}.svc"

    @property
    def deployment_path(self) -> str:
        return f"/apis/apps/v1/namespaces/{self.namespace}/deployments/{self.name}"

    def secret(self, pair: pki.KeyPair) -> dict[str, Any]:
        """Return the Secret that the pods mount."""
        data = {"tls.crt": pair.certificate_pem, "tls.key": pair.key_pem}
        return {
            "metadata": {"name": self.name},
            "type": "kubernetes.io/tls",
            "data": {key: base64.b64encode(value).decode() for key, value in data.items()},
        }

    def service(self) -> dict[str, Any]:
        return {
            "metadata": {"name": self.name},
            "spec": {"selector": {"app": self.name}, "ports": [{"port": 443, "targetPort": PORT}]},
        }

    def deployment(self) -> dict[str, Any]:
        mounts = [{"name": "certs", "mountPath": "/certs", "readOnly": True}]
        if self.sub_path:
            mounts = [
                {"name": "certs", "mountPath": f"/certs/{file}", "subPath": file, "readOnly": True}
                for file in ("tls.crt", "tls.key")
            ]
        container = {
            "name": "webhook",
            "image": IMAGE,
            "imagePullPolicy": "Never",
            "args": [f"--addr=:{PORT}", "--certs=/certs", f"--reload={self.reload}"],
            "ports": [{"containerPort": PORT}],
            "readinessProbe": {
                "httpGet": {"path": "/readyz", "port": PORT, "scheme": "HTTPS"},
                "periodSeconds": 1,
            },
            "volumeMounts": mounts,
        }
        pod = {
            "containers": [container],
            "volumes": [{"name": "certs", "secret": {"secretName": self.secret_name or self.name}}],
            "terminationGracePeriodSeconds": 10,
        }
        return {
            "metadata": {"name": self.name},
            "spec": {
                "replicas": self.replicas,
                "selector": {"matchLabels": {"app": self.name}},
                "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
                "template": {"metadata": {"labels": {"app": self.name}}, "spec": pod},
            },
        }

    def configuration(self, ca_pem: str = "") -> dict[str, Any]:
        """Return the ValidatingWebhookConfiguration for ConfigMaps with the label `webhook: NAME`."""
        client = self._client("/validate", ca_pem)
        webhook = called_objects.webhook(
            f"{self.name}.certflow.invalid",
            client,
            called_objects.rule("configmaps", "CREATE", "UPDATE"),
            objectSelector={"matchLabels": {"webhook": self.name}},
            failurePolicy=self.failure_policy,
            timeoutSeconds=5,
        )
        return called_objects.configuration(self.name, webhook)

    def definition(self, ca_pem: str = "") -> dict[str, Any]:
        """Return a CustomResourceDefinition with conversion: `things`, of the versions v1 (stored) and v2."""
        client = self._client("/convert", ca_pem)
        schema = called_objects.schema(**{"x-kubernetes-preserve-unknown-fields": True})
        return called_objects.definition(f"{self.name}.certflow.invalid", client, v1=schema, v2=schema)

    def asked_about(self, *, refuse: bool = False) -> dict[str, Any]:
        """Return a ConfigMap for which the API server calls the webhook."""
        labels = {"webhook": self.name} | ({"refuse": "yes"} if refuse else {})
        return {"metadata": {"generateName": "asked-", "labels": labels}}

    def thing(self, version: str) -> dict[str, Any]:
        """Return an object of that definition. The webhook converts v2 on a write, but not v1."""
        return {
            "apiVersion": f"{self.name}.certflow.invalid/{version}",
            "kind": "Thing",
            "metadata": {"generateName": "thing-"},
        }

    def _client(self, path: str, ca_pem: str) -> dict[str, Any]:
        service = {"name": self.name, "namespace": self.namespace, "path": path}
        bundle = {"caBundle": base64.b64encode(ca_pem.encode()).decode()} if ca_pem else {}
        return {"service": service, **bundle}


def deploy(
    cluster: clusters.Cluster,
    webhook: NodeWebhook,
    kind: str = "deployments",
    spec: dict[str, Any] | None = None,
) -> None:
    """Create Namespace, Service and the workload. The pods start once their Secret exists.

    kind: the resource of the workload. spec: its fields instead of those that only a Deployment has.
    """
    cluster.load_image(IMAGE, image.program("webhook"))
    core, name = "/api/v1/namespaces", webhook.namespace
    if name not in {entry["metadata"]["name"] for entry in cluster.api("GET", core)["items"]}:
        cluster.api("POST", core, {"metadata": {"name": name}})
        account = f"{core}/{name}/serviceaccounts/default"
        wait_for(lambda: _there(cluster, account))
    cluster.api("POST", f"{core}/{name}/services", webhook.service())
    body = webhook.deployment()
    if spec is not None:
        common = {key: body["spec"][key] for key in ("selector", "template")}
        body["spec"] = {**common, **spec}
    cluster.api("POST", f"/apis/apps/v1/namespaces/{name}/{kind}?fieldManager=kubectl-create", body)


def create_secret(cluster: clusters.Cluster, webhook: NodeWebhook, pair: pki.KeyPair) -> None:
    cluster.api("POST", f"/api/v1/namespaces/{webhook.namespace}/secrets", webhook.secret(pair))


def configure(cluster: clusters.Cluster, webhook: NodeWebhook, ca_pem: str = "") -> None:
    cluster.api("POST", CONFIGURATIONS, webhook.configuration(ca_pem))


def certificate(webhook: NodeWebhook, ca: pki.KeyPair) -> pki.KeyPair:
    """Return a serving certificate for the webhook."""
    return pki.issue(ca, webhook.server_name, names=(webhook.server_name,))


@contextlib.contextmanager
def serving(cluster: clusters.Cluster, webhook: NodeWebhook, ca: pki.KeyPair) -> Iterator[NodeWebhook]:
    """Deploy the webhook with a certificate of the CA and a configuration that trusts it. Remove it at the end."""
    deploy(cluster, webhook)
    create_secret(cluster, webhook, certificate(webhook, ca))
    configure(cluster, webhook, ca.certificate_pem.decode())
    wait_until_ready(cluster, webhook)
    yield webhook
    remove(cluster, webhook)


def wait_until_ready(cluster: clusters.Cluster, webhook: NodeWebhook) -> None:
    """Wait until all replicas have the newest revision and are ready for calls, and no other pod is left."""

    def ready() -> bool:
        deployment = cluster.api("GET", webhook.deployment_path)
        status = deployment["status"]
        counts = {status.get(key, 0) for key in ("replicas", "updatedReplicas", "readyReplicas")}
        return (
            status.get("observedGeneration", 0) >= deployment["metadata"]["generation"]
            and counts == {webhook.replicas}
            and len(pods(cluster, webhook)) == count_ready(cluster, webhook) == webhook.replicas
        )

    wait_for(ready)


def count_ready(cluster: clusters.Cluster, webhook: NodeWebhook) -> int:
    """Return how many endpoints of the Service are ready. They follow the pods after a moment."""
    selector = f"labelSelector=kubernetes.io%2Fservice-name%3D{webhook.name}"
    slices = cluster.api("GET", f"{endpoint_slices.path(webhook.namespace)}?{selector}")["items"]
    endpoints = [endpoint for each in slices for endpoint in each.get("endpoints") or ()]
    return sum(endpoint["conditions"]["ready"] for endpoint in endpoints)


def pods(cluster: clusters.Cluster, webhook: NodeWebhook) -> list[dict[str, Any]]:
    """Return the pods of the webhook, including those that are being deleted."""
    selector = f"/api/v1/namespaces/{webhook.namespace}/pods?labelSelector=app%3D{webhook.name}"
    found: list[dict[str, Any]] = cluster.api("GET", selector)["items"]
    return found


def dry_run(cluster: clusters.Cluster, webhook: NodeWebhook, *, refuse: bool = False) -> None:
    """Call the webhook by a dry run of the API server. Raises AdminApiError after a refusal."""
    path = f"/api/v1/namespaces/{webhook.namespace}/configmaps?dryRun=All"
    cluster.api("POST", path, webhook.asked_about(refuse=refuse))


def touch(cluster: clusters.Cluster, webhook: NodeWebhook, value: str) -> None:
    """Change an annotation of each pod, so that the kubelet updates its volumes at once."""
    for pod in pods(cluster, webhook):
        path = f"/api/v1/namespaces/{webhook.namespace}/pods/{pod['metadata']['name']}"
        patch = {"metadata": {"annotations": {"certflow.invalid/touched": value}}}
        cluster.api("PATCH", path, patch, "application/merge-patch+json")


def remove(cluster: clusters.Cluster, webhook: NodeWebhook) -> None:
    """Delete its configuration, and its namespace with all objects."""
    cluster.api("DELETE", f"{CONFIGURATIONS}/{webhook.name}")
    cluster.api("DELETE", f"/api/v1/namespaces/{webhook.namespace}")


@contextlib.contextmanager
def custom_resource(cluster: clusters.Cluster, webhook: NodeWebhook, ca_pem: str) -> Iterator[str]:
    """Create a custom resource of the versions v1 (stored) and v2, which the webhook converts.

    Yield the path of its objects, with `{}` for the version.
    """
    definition = webhook.definition(ca_pem)
    group, name = definition["spec"]["group"], definition["metadata"]["name"]
    cluster.api("POST", DEFINITIONS, definition)
    path = f"/apis/{group}/{{}}/namespaces/{webhook.namespace}/{definition['spec']['names']['plural']}"
    wait_for(lambda: all(_there(cluster, path.format(version)) for version in ("v1", "v2")))
    try:
        yield path
    finally:
        cluster.api("DELETE", f"{DEFINITIONS}/{name}")


def _there(cluster: clusters.Cluster, path: str) -> bool:
    try:
        cluster.api("GET", path)
    except clusters.AdminApiError as error:
        if error.status not in (404, 429):  # 429 while the storage of a new resource starts
            raise
        return False
    return True
