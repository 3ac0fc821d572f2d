# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The programs of external-snapshotter, the labels of their pods, and the kinds of objects that an upgrade writes. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# The name of upstream's Deployment, ServiceAccount and image of the controller.
CONTROLLER_NAME = "snapshot-controller"
# The registry of upstream's images, with the path in front of the programs' names.
REGISTRY = "registry.k8s.io/sig-storage"
CONTROLLER, VALIDATION, CONVERSION, SIDECAR = "controller", "validation", "conversion", "csi-snapshotter"
# A label of pods. It distinguishes the pods of a release from older pods under the same Service.
RELEASE_LABEL = "app.kubernetes.io/version"
# A label of a webhook's pods. It distinguishes the pods of one release that have different ports.
PORT_LABEL = "certflow.kubernetes/port"
# A label of pods and ReplicaSets without their Deployment. Its value is the Deployment's name.
ORPHAN_LABEL = "certflow.kubernetes/detached"


@dataclass(frozen=True)
class ObjectKind:
    """One row."""

    name: str
    api_version: str
    #: The name of the resource in paths.
    plural: str
    namespaced: bool
    #: True if manifests may contain it. Other kinds are only deleted.
    applied: bool = True

    @property
    def group(self) -> str:
        """The API group, "" for the core group."""
        return self.api_version.rpartition("/")[0]

    def collection(self, namespace: str = "") -> str:
        """Return the path of the objects in one namespace, or in all namespaces."""
        root = f"/apis/{self.api_version}" if self.group else f"/api/{self.api_version}"
        place = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        return f"{root}{place}/{self.plural}"


_RBAC = "rbac.authorization.k8s.io/v1"
_ADMISSION = "admissionregistration.k8s.io/v1"

# The paths are those of https://kubernetes.io/docs/reference/kubernetes-api/, each served by Kubernetes 1.25 and newer.
KINDS: dict[str, ObjectKind] = {
    kind.name: kind
    for kind in (
        ObjectKind("Namespace", "v1", "namespaces", namespaced=False),
        ObjectKind(
            "CustomResourceDefinition",
            "apiextensions.k8s.io/v1",
            "customresourcedefinitions",
            namespaced=False,
        ),
        ObjectKind("ServiceAccount", "v1", "serviceaccounts", namespaced=True),
        ObjectKind("ClusterRole", _RBAC, "clusterroles", namespaced=False),
        ObjectKind("ClusterRoleBinding", _RBAC, "clusterrolebindings", namespaced=False),
        ObjectKind("Role", _RBAC, "roles", namespaced=True),
        ObjectKind("RoleBinding", _RBAC, "rolebindings", namespaced=True),
        ObjectKind("Service", "v1", "services", namespaced=True),
        ObjectKind("Deployment", "apps/v1", "deployments", namespaced=True),
        ObjectKind("PodDisruptionBudget", "policy/v1", "poddisruptionbudgets", namespaced=True),
        ObjectKind(
            "ValidatingWebhookConfiguration", _ADMISSION, "validatingwebhookconfigurations", namespaced=False
        ),
        ObjectKind(
            "MutatingWebhookConfiguration", _ADMISSION, "mutatingwebhookconfigurations", False, applied=False
        ),
        ObjectKind("StatefulSet", "apps/v1", "statefulsets", namespaced=True, applied=False),
        ObjectKind("ReplicaSet", "apps/v1", "replicasets", namespaced=True, applied=False),
        ObjectKind("Pod", "v1", "pods", namespaced=True, applied=False),
        ObjectKind("Secret", "v1", "secrets", namespaced=True, applied=False),
        ObjectKind(
            "CertificateSigningRequest",
            "certificates.k8s.io/v1",
            "certificatesigningrequests",
            False,
            applied=False,
        ),
    )
}


@dataclass(frozen=True)
class Reference:
    """The name of one object."""

    kind: str
    name: str
    #: "" for a kind that is not namespaced.
    namespace: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"

    @property
    def path(self) -> str:
        return f"{KINDS[self.kind].collection(self.namespace)}/{self.name}"


def reference(obj: Mapping[str, Any]) -> Reference:
    """Return the name of a manifest's object."""
    metadata = obj["metadata"]
    return Reference(obj["kind"], metadata["name"], metadata.get("namespace") or "")
