# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The requests that the control plane and the nodes make, and the webhooks that the API server asks about them. Pure.

Sources of the table: the controllers of kubernetes/kubernetes (cmd/kube-controller-manager, pkg/kubelet, pkg/controlplane), and gardener
pkg/gardenlet/operation/botanist/matchers/matcher.go.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from ..._webhook.calls.admission_match import AdmissionRequest, match
from ..facts.cluster_data import NODES, PODS, CallPoint, ClusterData, Labels, Object
from ..facts.finding import ERROR, LIKELY, PROVEN, WARNING

#: The pods and nodes whose labels are compared with selectors. Those of a large cluster repeat.
LABELS_LIMIT = 500
KUBE_SYSTEM = "kube-system"
NAME_LABEL, SERVICE_LABEL = "kubernetes.io/metadata.name", "kubernetes.io/service-name"
NAMESPACES, SLICES, SERVICES, BOOTSTRAP = "namespaces", "endpointslices", "services", "bootstrap"
_DNS, _PROXY, _STATIC = (
    {"k8s-app": "kube-dns"},
    {"k8s-app": "kube-proxy"},
    {"component": "etcd", "tier": "control-plane"},
)
#: Whose labels -> the labels that such objects have on most clusters. Each of them may be missing on this cluster.
WELL_KNOWN_LABELS: Mapping[str, tuple[Labels, ...]] = {
    "": ({},),
    PODS: ({}, _STATIC, {**_DNS, "pod-template-hash": "1"}, {**_PROXY, "controller-revision-hash": "1"}),
    NODES: ({f"{prefix}kubernetes.io/{key}": value for key, value in (("os", "linux"), ("arch", "amd64")) for prefix in ("", "beta.")},),
    NAMESPACES: ({NAME_LABEL: KUBE_SYSTEM},),
    SLICES: ({SERVICE_LABEL: "kubernetes"}, {**_DNS, "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"}),
    SERVICES: ({"component": "apiserver", "provider": "kubernetes"}, _DNS),
    BOOTSTRAP: ({"kubernetes.io/bootstrapping": "rbac-defaults"},),
}  # fmt: skip


@dataclass(frozen=True)
class ControlPlaneRequest:
    """One kind of request, by the control plane or by nodes."""

    group: str
    #: With its subresource, such as "pods/status". A row of the table may have several, separated by spaces.
    resource: str
    #: CREATE, UPDATE and DELETE, separated by spaces.
    operations: str
    #: () for objects outside of namespaces.
    namespaces: tuple[str, ...]
    #: What stops if the API server refuses the request. A clause.
    effect: str
    #: A key of WELL_KNOWN_LABELS, "" for an object without labels.
    labelled: str = ""
    #: WARNING if the cluster works without it.
    severity: str = ERROR
    #: True if the pods behind a Service need it in their own namespace before they can get requests.
    restores_pods: bool = False
    #: True for the renewal of a Lease, which must not take long.
    is_renewal: bool = False
    #: True for a review, which is not stored. Kubernetes 1.37 and newer do not ask webhooks about it.
    is_virtual: bool = False

    @property
    def name(self) -> str:
        return f"{self.resource}.{self.group}" if self.group else self.resource

    def requests(
        self, namespace: str, namespace_labels: Labels | None, labels: Labels
    ) -> Iterator[AdmissionRequest]:
        """Yield the request of each operation on an object with these labels."""
        resource, _slash, subresource = self.resource.partition("/")
        # The control plane uses version v1 of every resource in the table.
        request = AdmissionRequest(self.group, "v1", resource, "", namespace, None, namespace_labels)
        for operation in self.operations.split():
            new = None if operation == "DELETE" else labels
            old = None if operation == "CREATE" else labels
            yield replace(request, operation=operation, subresource=subresource, labels=new, old_labels=old)


_SYSTEM, _WITH_DEFAULT = (KUBE_SYSTEM,), (KUBE_SYSTEM, "default")
_Row = ControlPlaneRequest
_ROWS: tuple[ControlPlaneRequest, ...] = (
    _Row("", "nodes", "CREATE", (), "new nodes cannot join", NODES),
    _Row("", "nodes", "UPDATE", (), "taints of broken nodes cannot be set or removed", NODES),
    _Row("", "nodes", "DELETE", (), "nodes that the cloud removed stay", NODES),
    _Row("", "nodes/status", "UPDATE", (), "nodes cannot report that they are ready", NODES),
    _Row("coordination.k8s.io", "leases", "CREATE", ("kube-node-lease",), "new nodes stay NotReady"),
    _Row("coordination.k8s.io", "leases", "UPDATE", ("kube-node-lease",), "nodes become NotReady, and their pods are evicted", is_renewal=True),
    _Row("coordination.k8s.io", "leases", "CREATE", _SYSTEM, "controllers cannot elect a leader"),
    _Row("coordination.k8s.io", "leases", "UPDATE", _SYSTEM, "the scheduler and the controllers lose their leader, and restart", is_renewal=True),
    _Row("storage.k8s.io", "csinodes", "CREATE UPDATE", (), "kubelet ends, because it cannot register volume drivers"),
    _Row("storage.k8s.io", "volumeattachments", "CREATE DELETE", (), "volumes cannot be attached or detached"),
    _Row("certificates.k8s.io", "certificatesigningrequests", "CREATE DELETE", (), "nodes cannot request or renew their certificates"),
    _Row("certificates.k8s.io", "certificatesigningrequests/approval", "UPDATE", (), "requests of nodes are not approved"),
    _Row("certificates.k8s.io", "certificatesigningrequests/status", "UPDATE", (), "approved certificates of nodes are not issued"),
    _Row("", "pods", "CREATE", _SYSTEM, "pods of the system cannot be created", PODS, restores_pods=True),
    _Row("", "pods", "UPDATE", _SYSTEM, "controllers cannot adopt pods", PODS),
    _Row("", "pods", "DELETE", _SYSTEM, "pods of lost nodes stay, and get no replacement", PODS, restores_pods=True),
    _Row("", "pods/status", "UPDATE", _SYSTEM, "no pod becomes ready", PODS, restores_pods=True),
    _Row("", "pods/binding", "CREATE", _SYSTEM, "no pod gets a node", restores_pods=True),
    _Row("", "pods/eviction", "CREATE", _SYSTEM, "nodes cannot be drained", severity=WARNING),
    _Row("", "serviceaccounts/token", "CREATE", _SYSTEM, "pods that mount a token cannot start", restores_pods=True),
    _Row("", "serviceaccounts", "CREATE UPDATE", _SYSTEM, "controllers and pods have no identity"),
    _Row("discovery.k8s.io", "endpointslices", "CREATE UPDATE DELETE", _WITH_DEFAULT, "Services lead to old pods", SLICES, restores_pods=True),
    _Row("", "endpoints", "CREATE UPDATE DELETE", _WITH_DEFAULT, "the addresses of the API server and of other Services become old", SLICES),
    _Row("", "services", "CREATE UPDATE", _WITH_DEFAULT, "the API server cannot restore the Service kubernetes", SERVICES),
    _Row("", "configmaps", "CREATE UPDATE", _SYSTEM, "the CAs that the API server publishes become old"),
    _Row("", "secrets", "CREATE UPDATE DELETE", _SYSTEM, "bootstrap tokens of nodes cannot be created or removed"),
    _Row("", "events", "CREATE UPDATE", _WITH_DEFAULT, "Events are lost", severity=WARNING),
    _Row("events.k8s.io", "events", "CREATE UPDATE", _WITH_DEFAULT, "Events of the scheduler are lost", severity=WARNING),
    _Row("", "namespaces", "CREATE UPDATE DELETE", (), "system namespaces cannot be created, and no namespace can be deleted", NAMESPACES),
    _Row("", "namespaces/status namespaces/finalize", "UPDATE", (), "deleted namespaces stay Terminating", NAMESPACES),
    _Row("", "persistentvolumes", "UPDATE", (), "volumes are not bound and not released"),
    _Row("apps", "controllerrevisions replicasets", "CREATE UPDATE DELETE", _SYSTEM, "programs of the system do not roll out", PODS),
    _Row("apps", "replicasets/status deployments/status daemonsets/status", "UPDATE", _SYSTEM, "programs of the system do not roll out", PODS),
    _Row("apps", "deployments daemonsets", "CREATE UPDATE", _SYSTEM, "upgrades of the cluster do not change its programs", PODS),
    _Row("apps", "deployments/scale", "UPDATE", _SYSTEM, "the cluster's DNS is not scaled", severity=WARNING),
    _Row(
        "rbac.authorization.k8s.io", "clusterroles clusterrolebindings", "CREATE UPDATE", (),
        "a new API server ends, because it cannot write its roles", BOOTSTRAP,
    ),
    _Row("rbac.authorization.k8s.io", "roles rolebindings", "CREATE UPDATE", _SYSTEM, "a new API server ends, because it cannot write its roles", BOOTSTRAP),
    _Row("apiregistration.k8s.io", "apiservices", "CREATE UPDATE DELETE", (), "new API groups are not served"),
    _Row("apiregistration.k8s.io", "apiservices/status", "UPDATE", (), "aggregated APIs stay unavailable"),
    _Row("apiextensions.k8s.io", "customresourcedefinitions", "CREATE UPDATE", (), "definitions cannot be installed or deleted"),
    _Row("apiextensions.k8s.io", "customresourcedefinitions/status", "UPDATE", (), "new definitions are not served"),
    _Row("scheduling.k8s.io", "priorityclasses", "CREATE", (), "a new API server ends, because it cannot write its classes"),
    _Row("flowcontrol.apiserver.k8s.io", "flowschemas prioritylevelconfigurations", "CREATE UPDATE", (), "a new API server is not ready"),
    _Row("authentication.k8s.io", "tokenreviews", "CREATE", (), "kubelets and aggregated APIs refuse tokens", is_virtual=True),
    _Row("authentication.k8s.io", "selfsubjectreviews", "CREATE", (), "users cannot read their own identity", is_virtual=True),
    _Row("authorization.k8s.io", "subjectaccessreviews", "CREATE", (), "kubelets and aggregated APIs refuse their callers", is_virtual=True),
    _Row("authorization.k8s.io", "selfsubjectaccessreviews selfsubjectrulesreviews", "CREATE", (), "users cannot read their permissions", is_virtual=True),
    _Row("authorization.k8s.io", "localsubjectaccessreviews", "CREATE", ("default",), "programs refuse their callers", is_virtual=True),
)  # fmt: skip
REQUESTS = tuple(replace(row, resource=name) for row in _ROWS for name in row.resource.split())
RESTORING = tuple(row for row in REQUESTS if row.restores_pods)
VIRTUAL = tuple(row for row in REQUESTS if row.is_virtual)
#: From this minor version on the API server does not call webhooks about virtual resources by default.
VIRTUAL_UNTIL_MINOR = 37


def find_unasked(version: str) -> frozenset[tuple[str, str]]:
    """Return group and resource of the virtual resources about which an API server of a version asks no webhook."""
    minor = re.match(r"v?1\.(\d+)", version)
    is_asked = minor is None or int(minor[1]) < VIRTUAL_UNTIL_MINOR
    return frozenset(() if is_asked else ((row.group, row.resource) for row in VIRTUAL))


@dataclass(frozen=True)
class RequestMatch:
    """A row of the table about whose requests the API server asks a webhook."""

    row: ControlPlaneRequest
    #: "" for objects outside of namespaces.
    namespace: str
    operations: tuple[str, ...]
    #: LIKELY if the labels are not those of this cluster.
    certainty: str

    def __str__(self) -> str:
        return f"{self.row.name} in {self.namespace}" if self.namespace else self.row.name


def find_matches(
    data: ClusterData,
    point: CallPoint,
    rows: Iterable[ControlPlaneRequest],
    own: Mapping[str, tuple[Labels, ...]] | None = None,
    namespace: str = "",
    *,
    unread: Container[object] = (),
    is_one_enough: bool = False,
) -> tuple[list[RequestMatch], tuple[str, ...]]:
    """Return the rows that the webhook matches, and the sources because of which a match of others is not decided.

    own: whose labels -> the labels of the only objects to compare. namespace: the only one, "" for those of the rows.
    unread: whose labels of own are not all. is_one_enough: end with the first match.
    """
    matched: list[RequestMatch] = []
    undecided: set[str] = set()
    selector = point.webhook.get("objectSelector") or {}
    for_any_labels = {**point.webhook, "objectSelector": {}}
    for row in rows:
        sets = (own or {}).get(row.labelled) or object_labels(data, row.labelled)
        # The webhook does not compare the labels of the objects of the row, or they were read.
        is_read = not (selector and row.labelled) or row.labelled in (own or data.object_labels)
        partial = unread if row.labelled in (own or ()) else data.truncated
        for place in (namespace,) if namespace else row.namespaces or ("",):
            requests = [
                request
                for labels in (sets if row.labelled == NAMESPACES else _distinct(sets, selector))
                for request in row.requests(place, labels_of(data, place), labels)
            ]
            answers = [match(point.webhook, request) for request in requests]
            operations = [request.operation for request, answer in zip(requests, answers) if answer.is_asked]
            if operations:
                certainty = PROVEN if is_read else LIKELY
                matched.append(RequestMatch(row, place, tuple(dict.fromkeys(operations)), certainty))
                if is_one_enough:
                    return matched, ()
            elif selector and row.labelled in partial:
                others = (match(for_any_labels, request) for request in requests)
                undecided.update(row.labelled for answer in others if answer.is_asked is not False)
            undecided.update(answer.source for answer in answers if answer.is_asked is None)
    return matched, tuple(sorted(undecided))


def _distinct(sets: Iterable[Labels], selector: Object) -> list[Labels]:
    """Return the labels that a selector compares, each set once. Nodes of a large cluster differ only in others."""
    terms = selector.get("matchExpressions") or ()
    keys = {*(selector.get("matchLabels") or ()), *(term["key"] for term in terms)}
    pairs = (tuple((key, labels[key]) for key in sorted(keys & labels.keys())) for labels in sets)
    return [dict(entries) for entries in dict.fromkeys(pairs)]


def object_labels(data: ClusterData, labelled: str) -> tuple[Labels, ...]:
    """Return the labels of such objects of this cluster, or well-known ones if they were not read."""
    if labelled == NAMESPACES and data.namespaces is not None:
        return (labels_of(data, KUBE_SYSTEM) or {},)
    return data.object_labels.get(labelled) or WELL_KNOWN_LABELS[labelled]


def labels_of(data: ClusterData, namespace: str) -> Labels | None:
    """Return the labels of a namespace, None if they are not known. The API server sets the label of its name."""
    if namespace and data.namespaces is None:
        return None
    return (data.namespaces or {}).get(namespace, {NAME_LABEL: namespace} if namespace else {})


def may_match(point: CallPoint, row: ControlPlaneRequest) -> bool:
    """Return True if the rules of the webhook name requests of the row, for any selector and condition."""
    rules = {"rules": point.webhook.get("rules")}
    return any(
        match(rules, request).is_asked is not False
        for request in row.requests("any" if row.namespaces else "", {}, {})
    )
