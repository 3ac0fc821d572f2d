# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""CSR objects as the API server returns them, and facts of clusters as they are found."""

from __future__ import annotations

import base64
from datetime import datetime, timezone
from functools import cache
from typing import Any

from ansible_collections.certflow.kubernetes.plugins.module_utils._x509 import private_keys, signing_request

NOW = datetime(2026, 9, 1, 12, 0, 0, tzinfo=timezone.utc)
CREATED = "2026-09-01T11:00:00Z"
KUBELET_SERVING = "kubernetes.io/kubelet-serving"
APP_SERVING = "beta.eks.amazonaws.com/app-serving"
USAGES = ("digital signature", "key encipherment", "server auth")
OWN = ("hook", "hook.apps", "hook.apps.svc")


@cache
def request(
    common_name: str = "hook.apps.svc",
    organizations: tuple[str, ...] = (),
    dns_names: tuple[str, ...] = OWN,
    ip_addresses: tuple[str, ...] = (),
) -> str:
    """A PKCS#10 request in PEM, by a key of its own."""
    return signing_request.build(
        private_keys.generate("ecdsa-p256"),
        common_name=common_name,
        organizations=organizations,
        dns_names=dns_names,
        ip_addresses=ip_addresses,
    )


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def condition(kind: str, reason: str = "", message: str = "", at: str = CREATED) -> dict[str, Any]:
    return {"type": kind, "status": "True", "reason": reason, "message": message, "lastUpdateTime": at}


def csr(
    *conditions: dict[str, Any],
    name: str = "hook-apps-1a2b",
    pem: str = "",
    certificate: str = "",
    managed_fields: list[dict[str, Any]] | None = None,
    **spec: Any,
) -> dict[str, Any]:
    status: dict[str, Any] = {"conditions": list(conditions)} if conditions else {}
    if certificate:
        status["certificate"] = encoded(certificate)
    return {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": name, "uid": "3d0b8a6e", "resourceVersion": "4711", "creationTimestamp": CREATED, "managedFields": managed_fields or []},
        "spec": {
            "request": encoded(pem or request()),
            "signerName": KUBELET_SERVING,
            "usages": list(USAGES),
            "username": "deployer",
            "groups": ["system:authenticated"],
            **spec,
        },
        "status": status,
    }  # fmt: skip


def approved(at: str = CREATED) -> dict[str, Any]:
    return condition(
        "Approved", "KubectlApprove", "This CSR was approved by kubectl certificate approve.", at
    )


def facts(
    version: str = "v1.36.3",
    *,
    api_host: str = "10.0.0.1",
    groups: tuple[str, ...] = (),
    cluster_roles: tuple[str, ...] = (),
    config_maps: tuple[str, ...] = (),
    unreadable: dict[str, str] | None = None,
    lacking: tuple[str, ...] = (),
    nodes: tuple[dict[str, Any], ...] = (),
) -> dict[str, Any]:
    return {
        "version": {"gitVersion": version},
        "api_host": api_host,
        "api_groups": ["apps", *groups],
        "nodes": [{"name": "one", "labels": {}, "annotations": {}, **node} for node in nodes],
        "cluster_roles": list(cluster_roles),
        "config_maps": list(config_maps),
        "unreadable": unreadable or {},
        "lacking": list(lacking),
    }


EKS_ROLES = ("eks:certificate-controller-approver", "eks:certificate-controller-signer")
KUBEADM_CONFIG = ("kube-system/kubeadm-config",)
EKS_NODE = {
    "labels": {"eks.amazonaws.com/nodegroup": "workers", "kubernetes.io/os": "linux"},
    "provider_id": "aws:///eu-west-1a/i-0a1b2c3d4e5f60718",
}
EKS = facts("v1.36.3-eks-3c42bf9", cluster_roles=EKS_ROLES, nodes=(EKS_NODE,))
