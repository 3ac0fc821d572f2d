# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Read facts of a cluster as plain data: what identifies its provider, and what its kube-controller-manager shows."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from .._base.errors import check_shape
from .client import Client
from .errors import ApiError, Forbidden, NotFound
from .lease_state import read_lease

# Its UID is the identity of a cluster.
_KUBE_SYSTEM = "/api/v1/namespaces/kube-system"
# Objects that identify a provider: fact, name that the rules see, path.
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
# The permission that each fact about the provider takes.
_PERMISSIONS: Mapping[str, str] = {
    "version": "get the URL /version",
    "api_groups": "get the URL /apis",
    "nodes": "list nodes",
    "cluster_roles": "get the ClusterRoles eks:certificate-controller-approver and eks:certificate-controller-signer",
    "config_maps": "get the ConfigMap kube-system/kubeadm-config",
}
# The facts that only the objects of a cluster show. The version is the same for several providers.
_OBJECTS = frozenset(("nodes", "cluster_roles", "config_maps"))
MANAGER_LEASE = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/kube-controller-manager"
MANAGER_PODS = "/api/v1/namespaces/kube-system/pods"
# kubeadm and most others run it as a static pod with this label. Its mirror pod can be read (k/k cmd/kubeadm/app/util/staticpod).
_MANAGER_SELECTOR = {"labelSelector": "component=kube-controller-manager", "limit": "20"}
# ManagerFlags that tell what it signs, and if it holds a Lease. Other flags are not returned.
_MANAGER_FLAGS = ("cluster-signing-", "controllers", "leader-elect", "root-ca-file")
# A released Lease has a length of one second (client-go leaderelection release), and a standby takes it within two.
_SHORTEST_LEASE = timedelta(seconds=15)
_LONGEST_PAUSE_SECONDS = 30.0


@dataclass(frozen=True)
class ManagerLease:
    """The Lease of the controller-manager that leads."""

    #: The time of the last renewal, by the clock of the holder.
    renewed: datetime
    length: timedelta
    #: The name of the holder, "" if it has released the Lease.
    holder: str

    @property
    def runs_out(self) -> datetime:
        return self.renewed + max(self.length, _SHORTEST_LEASE)


@dataclass(frozen=True)
class ManagerFlags:
    """The flags of one controller-manager's pod: those of _MANAGER_FLAGS, without the dashes."""

    pod: str
    values: Mapping[str, str]


def find_manager_lease(client: Client, before: ManagerLease | None = None) -> ManagerLease | None:
    """Return the Lease, None if it does not exist. Without leader election there is no Lease, so that proves nothing.

    A Lease that seems to have run out is read again after a fifth of its length. The holder renews it more often than that
    (every 2 of 15 seconds, on OpenShift every 26 of 137). Clocks differ, and a holder that works must not look dead.

    before: the result of an earlier call.
    Raises ApiError.
    """
    lease = _manager_lease(client.find(MANAGER_LEASE))
    if lease is None or lease == before or client.now() <= lease.runs_out:
        return lease
    time.sleep(min(lease.length.total_seconds() / 5, _LONGEST_PAUSE_SECONDS))
    again = _manager_lease(client.find(MANAGER_LEASE))
    return replace(again, renewed=client.now()) if again and again.renewed != lease.renewed else again


def read_manager_flags(client: Client) -> tuple[ManagerFlags, ...]:
    """Return the flags of each controller-manager with a visible pod. An empty result proves nothing. Raises ApiError."""
    pods = client.get(MANAGER_PODS, _MANAGER_SELECTOR).get("items") or ()
    return tuple(ManagerFlags(pod["metadata"]["name"], dict(_listed_flags(pod))) for pod in pods)


def _manager_lease(obj: Mapping[str, Any] | None) -> ManagerLease | None:
    state = read_lease(obj or {})
    # A client that may write the Lease may set a year to which nothing can be added.
    return (
        ManagerLease(state.renewed, timedelta(seconds=state.seconds), state.holder)
        if state.renewed and state.renewed.year < 9000
        else None
    )


def _listed_flags(pod: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the names and values of flags in the forms --name=value, --name value, and --name (true)."""
    for container in pod["spec"].get("containers") or ():
        # A flag may be a part of a command of a shell.
        words = " ".join((*(container.get("command") or ()), *(container.get("args") or ()))).split()
        for word, following in zip(words, [*words[1:], ""]):
            name, equals, value = word.lstrip("-").partition("=")
            if word.startswith("--") and name.startswith(_MANAGER_FLAGS):
                next_word = "true" if following.startswith("--") or not following else following
                yield name, value if equals else next_word


def read_cluster_uid(client: Client) -> str:
    """Return the identity of the cluster: the UID of its namespace kube-system. Raises KubeError, and MalformedObject for other JSON."""
    with check_shape("the namespace kube-system"):
        return str(client.get(_KUBE_SYSTEM)["metadata"]["uid"])


def read_cluster_facts(client: Client) -> dict[str, Any]:
    """Read the facts that the rules of the providers use.

    version: a mapping with gitVersion.
    api_host: the host name of the API server's address.
    api_groups: names.
    nodes: at most five mappings with name, labels, annotations, addresses, provider_id, os_image and kubelet_version.
    cluster_roles, config_maps: the names ("NAMESPACE/NAME" for ConfigMaps) of _MARKS that exist.
    service_networks: CIDRs, empty before Kubernetes 1.33.
    unreadable: fact -> the reason why it cannot be read.
    lacking: the permissions that this identity lacks to read more marks of a provider.
    is_hidden: True if this identity may read none of the objects with such marks.
    Raises ConnectionFailed and AuthenticationError.
    """
    unreadable: dict[str, str] = {}
    forbidden: set[str] = set()

    def read(fact: str, path: str, query: Mapping[str, str] | None = None) -> dict[str, Any]:
        try:
            return client.get(path, query)
        except NotFound:
            return {}
        except ApiError as error:
            unreadable[fact] = error.message or error.cause
            if isinstance(error, Forbidden):
                forbidden.add(fact)
            return {}

    facts: dict[str, Any] = {
        "version": {"gitVersion": read("version", "/version").get("gitVersion", "")},
        "api_host": (urlsplit(client.host).hostname or "").rstrip("."),
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
    facts["lacking"] = [text for fact, text in _PERMISSIONS.items() if fact in forbidden]
    facts["is_hidden"] = forbidden >= _OBJECTS
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
