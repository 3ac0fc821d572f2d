# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""cert-manager's webhook and cainjector on a cluster with a node, as its chart installs them.

The definitions are those of the module. The other objects have the settings of its chart's templates webhook-*.yaml.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import yaml

from tests.support import clusters
from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.clusters import Cluster

NAME, NAMESPACE = "cert-manager-webhook", "cert-manager"
IMAGE = "certflow.invalid/cert-manager-webhook:1"
PORT, HEALTH_PORT = 10250, 6080
LABELS = {
    "app": "webhook",
    "app.kubernetes.io/name": "webhook",
    "app.kubernetes.io/instance": "cert-manager",
    "app.kubernetes.io/component": "webhook",
    "app.kubernetes.io/managed-by": "Helm",
}
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
ADMISSION = "/apis/admissionregistration.k8s.io/v1"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
ISSUERS = "/apis/cert-manager.io/v1/namespaces/default/issuers"
_WEBHOOK: dict[str, Any] = {
    "name": "webhook.cert-manager.io",
    "admissionReviewVersions": ["v1"],
    "matchPolicy": "Equivalent",
    "timeoutSeconds": 30,
    "failurePolicy": "Fail",
    "sideEffects": "None",
}


def definitions() -> list[dict[str, Any]]:
    """Return all definitions of cert-manager."""
    folder = clusters.cert_manager_dir() / "deploy" / "crds"
    return [yaml.safe_load(path.read_text()) for path in sorted(folder.glob("*.yaml"))]


def configurations() -> dict[str, dict[str, Any]]:
    """Return collection -> the configuration. cainjector writes the caBundles."""

    def webhook(path: str, groups: list[str], resource: str, operations: list[str]) -> dict[str, Any]:
        service = {"name": NAME, "namespace": NAMESPACE, "path": path}
        rule = {"apiGroups": groups, "apiVersions": ["v1"], "resources": [resource], "operations": operations}
        return {**_WEBHOOK, "clientConfig": {"service": service}, "rules": [rule]}

    annotations = {"cert-manager.io/inject-ca-from-secret": f"{NAMESPACE}/{NAME}-ca"}
    metadata = {"name": NAME, "labels": LABELS, "annotations": annotations}
    groups = ["cert-manager.io", "acme.cert-manager.io"]
    validating = webhook("/validate", groups, "*/*", ["CREATE", "UPDATE"])
    disabled = {"key": "cert-manager.io/disable-validation", "operator": "NotIn", "values": ["true"]}
    validating["namespaceSelector"] = {"matchExpressions": [disabled]}
    mutating = webhook("/mutate", groups[:1], "certificaterequests", ["CREATE"])
    return {
        f"{ADMISSION}/validatingwebhookconfigurations": {"metadata": metadata, "webhooks": [validating]},
        f"{ADMISSION}/mutatingwebhookconfigurations": {"metadata": metadata, "webhooks": [mutating]},
    }


def deployment() -> dict[str, Any]:
    names = (NAME, f"{NAME}.{NAMESPACE}", f"{NAME}.{NAMESPACE}.svc")
    container = {
        "name": "cert-manager-webhook",
        "image": IMAGE,
        "imagePullPolicy": "Never",
        "args": [
            f"--secure-port={PORT}",
            "--dynamic-serving-ca-secret-namespace=$(POD_NAMESPACE)",
            f"--dynamic-serving-ca-secret-name={NAME}-ca",
            *(f"--dynamic-serving-dns-names={name}" for name in names),
        ],
        "ports": [
            {"name": "https", "containerPort": PORT},
            {"name": "healthcheck", "containerPort": HEALTH_PORT},
        ],
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": "healthcheck"}, "periodSeconds": 1},
        "env": [{"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}}],
    }
    spec = {"serviceAccountName": NAME, "containers": [container], "terminationGracePeriodSeconds": 5}
    return {
        "metadata": {"name": NAME, "labels": LABELS},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": LABELS},
            "template": {"metadata": {"labels": LABELS}, "spec": spec},
        },
    }


def objects() -> list[tuple[str, dict[str, Any]]]:
    """Return the objects in order, each with its collection."""
    inside = f"/api/v1/namespaces/{NAMESPACE}"
    subject = {"kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE}
    metadata = {"name": NAME, "labels": LABELS}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "name": NAME}
    secrets = {"apiGroups": [""], "resources": ["secrets"]}
    reviews = {
        "apiGroups": ["authorization.k8s.io"],
        "resources": ["subjectaccessreviews"],
        "verbs": ["create"],
    }
    roles = f"{RBAC}/namespaces/{NAMESPACE}"
    ports = [{"name": "https", "port": 443, "targetPort": "https"}]
    return [
        ("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}}),
        (f"{inside}/serviceaccounts", {"metadata": metadata}),
        (
            f"{roles}/roles",
            {
                "metadata": metadata,
                "rules": [
                    {**secrets, "resourceNames": [f"{NAME}-ca"], "verbs": ["get", "list", "watch", "update"]},
                    {**secrets, "verbs": ["create"]},
                ],
            },
        ),
        (f"{roles}/rolebindings", {"metadata": metadata, "roleRef": {**reference, "kind": "Role"}, "subjects": [subject]}),
        (f"{RBAC}/clusterroles", {"metadata": metadata, "rules": [reviews]}),
        (f"{RBAC}/clusterrolebindings", {"metadata": metadata, "roleRef": {**reference, "kind": "ClusterRole"}, "subjects": [subject]}),
        (f"{inside}/services", {"metadata": metadata, "spec": {"selector": LABELS, "ports": ports}}),
        (f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments", deployment()),
        *configurations().items(),
        *((DEFINITIONS, definition) for definition in definitions()),
    ]  # fmt: skip


@contextlib.contextmanager
def installed(cluster: Cluster) -> Iterator[None]:
    """Install the webhook, run cainjector, and wait until the webhook refuses a wrong object. Remove all at the end."""
    cluster.load_image(IMAGE, clusters.cert_manager_webhook())
    made: list[str] = []
    kubeconfig = cluster.kubeconfig_for("cainjector", ["system:masters"])
    cluster.start_program("cainjector", [str(clusters.cainjector()), f"--kubeconfig={kubeconfig}"])
    try:
        for collection, obj in objects():
            cluster.api("POST", collection, obj)
            made.append(f"{collection}/{obj['metadata']['name']}")
        wait_for(lambda: refuses(cluster), seconds=120)
        yield
    finally:
        cluster.stop("cainjector")
        print(cluster.log("cainjector").read_text()[-4000:])  # pytest shows it with a failure
        for path in reversed(made):
            cluster.api("DELETE", path)
        names = {definition["metadata"]["name"] for definition in definitions()}
        wait_for(
            lambda: (
                not names & {item["metadata"]["name"] for item in cluster.api("GET", DEFINITIONS)["items"]}
            )
        )


def refuses(cluster: Cluster) -> bool:
    """Return True if the webhook refuses an issuer without a configuration."""
    issuer = {
        "apiVersion": "cert-manager.io/v1",
        "kind": "Issuer",
        "metadata": {"name": "wrong"},
        "spec": {},
    }
    try:
        cluster.api("POST", f"{ISSUERS}?dryRun=All", issuer)
    except clusters.AdminApiError as error:
        return "denied the request" in error.message
    return False
