# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""What a cluster shows of itself, as plain data for the rules that recognise its provider."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .errors import ApiError, NotFound

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .client import Client

# Its UID is the identity of a cluster.
_KUBE_SYSTEM = "/api/v1/namespaces/kube-system"
# Objects whose existence is a provider's mark: (fact, name that the rules see, path).
_MARKS = (
    (
        "cluster_roles",
        "eks:certificate-controller-approver",
        "/apis/rbac.authorization.k8s.io/v1/clusterroles/eks:certificate-controller-approver",
    ),
    (
        "cluster_roles",
        "eks:certificate-controller-signer",
        "/apis/rbac.authorization.k8s.io/v1/clusterroles/eks:certificate-controller-signer",
    ),
    (
        "config_maps",
        "kube-system/kubeadm-config",
        "/api/v1/namespaces/kube-system/configmaps/kubeadm-config",
    ),
)


def cluster_uid(client: Client) -> str:
    """Return the identity of the cluster: the UID of its namespace kube-system. Raises KubeError."""
    return str(client.get(_KUBE_SYSTEM)["metadata"]["uid"])


def cluster_facts(client: Client) -> dict[str, Any]:
    """Return what the cluster shows of itself, by seven reads.

    version: {"gitVersion"}; api_host: host name of the API server's address; api_groups: names; nodes: at most five,
    each {"name", "labels", "annotations", "addresses", "provider_id", "os_image", "kubelet_version"};
    cluster_roles, config_maps ("namespace/name"): those that exist of the few that are a provider's mark;
    service_networks: CIDRs, empty before Kubernetes 1.33; unreadable: {fact: reason} for what this user may not read.
    Raises ConnectionFailed and AuthenticationError; any other refusal is a reason in unreadable.
    """
    unreadable: dict[str, str] = {}

    def read(fact: str, path: str, query: Mapping[str, str] | None = None) -> dict[str, Any]:
        try:
            return client.get(path, query)
        except NotFound:
            return {}
        except ApiError as error:
            unreadable[fact] = error.message or error.cause
            return {}

    facts: dict[str, Any] = {
        "version": {"gitVersion": read("version", "/version").get("gitVersion", "")},
        "api_host": urlsplit(client.host).hostname or "",
        "api_groups": [group["name"] for group in _items(read("api_groups", "/apis"), "groups")],
        "nodes": [_node(node) for node in _items(read("nodes", "/api/v1/nodes", {"limit": "5"}))],
        "cluster_roles": [],
        "config_maps": [],
        "service_networks": [
            cidr
            for entry in _items(read("service_networks", "/apis/networking.k8s.io/v1/servicecidrs"))
            for cidr in entry["spec"].get("cidrs", ())
        ],
        "unreadable": unreadable,
    }
    for fact, name, path in _MARKS:
        if read(fact, path):
            facts[fact].append(name)
    return facts


def _items(answer: Mapping[str, Any], key: str = "items") -> list[dict[str, Any]]:
    return answer.get(key) or []


def _node(node: Mapping[str, Any]) -> dict[str, Any]:
    metadata, status = node["metadata"], node.get("status") or {}
    info = status.get("nodeInfo") or {}
    return {
        "name": metadata["name"],
        "labels": metadata.get("labels") or {},
        "annotations": metadata.get("annotations") or {},
        "addresses": [entry["address"] for entry in status.get("addresses") or ()],
        "provider_id": (node.get("spec") or {}).get("providerID", ""),
        "os_image": info.get("osImage", ""),
        "kubelet_version": info.get("kubeletVersion", ""),
    }
