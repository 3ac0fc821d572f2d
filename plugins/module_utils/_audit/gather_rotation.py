# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Read what a rotation of the cluster's CA affects. A cluster whose published CAs never changed costs no request."""

from __future__ import annotations

import collections
import functools
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from .._base.errors import check_shape
from .._base.times import find_time
from .._csr import ca_rotation
from .._csr.ca_rotation import ClusterCas, find_successor
from .._kube.client import METADATA, Client
from .._webhook.bundles.bundle_targets import ClientConfig
from .._webhook.endpoints import served_chains
from .._webhook.endpoints.webhook_endpoints import Endpoint
from .._x509 import certificate_facts
from .facts.cluster_data import (
    API_SERVER,
    CLIENT_CA,
    CLIENT_CAS,
    CLUSTER_CA,
    NODES,
    PODS,
    ROOT_CA,
    SERVICES,
    AuditOptions,
    CaData,
    ClusterData,
    Gap,
    Object,
)
from .facts.finding import CLUSTER
from .guarded_reads import GuardedReads

MOST_SERVERS = 5
SERVERS_SECONDS = 5.0
_SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
_CLUSTER = (str(CLUSTER),)
#: A ReplicaSet of a Deployment has the name of the Deployment and a hash (k/k pkg/controller/deployment/sync.go).
_HASH = re.compile("-[bcdfghjklmnpqrstvwxz2456789]{1,10}$")


#: Kubelet may take this long to write a changed ConfigMap to the volumes of pods: its sync period and the lifetime of its cache, one
#: minute each by default (https://kubernetes.io/docs/concepts/configuration/configmap/, "Mounted ConfigMaps are updated automatically").
KUBELET_DELAY = timedelta(minutes=2)
#: kube-controller-manager backdates what it signs by five minutes (k/k pkg/controller/certificates/authority/policies.go). A change of
#: the published CAs that is younger by more than this than a certificate of the youngest CA did not publish this CA.
PUBLISHED_WITHIN = timedelta(minutes=10)
_WORKLOAD = tuple[str, str, str]


def read(client: Client, reads: GuardedReads, options: AuditOptions, data: ClusterData) -> CaData | None:
    """Return the CAs and what a rotation affects, None if no published CA is known to be in use."""
    cas = ca_rotation.published_cas(data.cluster_ca or data.kubeconfig_ca, options.ca_successor)
    if data.cluster_ca:
        # A CA with the name of the cluster's CA in a caBundle may be one of another program.
        cas = ca_rotation.with_gone(cas, data.kubeconfig_ca)
    served = {
        f"endpoint {chain.endpoint}": chain.chain_pem
        for backend in data.backends.values()
        for chain in backend.chains
        if chain.certificate
    }
    has_changed = not data.cluster_ca or data.cluster_ca_since is not None  # a kubeconfig does not show it
    found = ca_rotation.find_cas(
        cas,
        data.api_server,
        {**served, **data.issued},
        now=data.now,
        has_changed=has_changed,
        named=options.ca_successor,
    )
    if found is None:
        # Such as behind a proxy. More CAs than two have several purposes, as those of OpenShift.
        if data.api_server and has_changed and len([ca for ca in cas if ca.is_published]) == 2:
            words = "no published CA signed the certificate that the API server shows, so it is not known which CA is in use"
            about: dict[str, Any] = {
                "objects": (f"ConfigMap {'/'.join(ROOT_CA)}",),
                "checks": ("cluster-ca-rotation",),
            }
            reads.note(Gap(API_SERVER, words, **about))
        return None
    ca = CaData(found, data.cluster_ca_since, eks=find_successor(options.eks_cas, found, data.now))
    # Pods and nodes cannot have a successor that only the user names.
    is_published = found.needed[-1].is_in(data.cluster_ca)
    known = _known_at(data, ca, [*served.values(), *data.issued.values()])
    since = ca.since if ca.since and ca.since <= known else None
    if is_published and (found.is_rotating or ca.since):
        about = {"objects": _CLUSTER, "checks": ("pods-before-successor",)}
        changes: list[tuple[str, datetime | None]] = []
        if found.is_rotating and PODS not in reads.without:
            changes = reads.collect(CLUSTER_CA, lambda: _changes(client), **about)
        own = {namespace: moment for namespace, moment in changes if moment and moment <= known}
        ca = reads.read(PODS, lambda: _with_pods(client, ca, since, own), ca, **about)
    if not found.is_rotating:
        return ca
    if is_published:
        nodes = functools.partial(_old_nodes, client, since or found.needed[-1].begin)
        about = {"objects": _CLUSTER, "checks": ("nodes-before-successor",)}
        ca = replace(ca, old_nodes=reads.read(NODES, nodes, None, **about))
    return _with_affected(client, reads, options, ca)


def _with_affected(client: Client, reads: GuardedReads, options: AuditOptions, ca: CaData) -> CaData:
    """Add the API servers, and the CAs that components trust."""
    about: dict[str, Any] = {"objects": _CLUSTER, "checks": ("cluster-ca-rotation",)}
    servers: dict[str, ca_rotation.ClusterCa | None] = {}
    if options.probe_urls:
        servers = reads.read(SERVICES, lambda: _servers(client, ca.cas), servers, **about)
    return replace(
        ca,
        cas=replace(ca.cas, servers=servers),
        client_ca=reads.read(CLIENT_CA, lambda: _client_ca(client), ""),
    )


def changed_at(obj: Object) -> datetime | None:
    """Return the time of the last change of the data of a ConfigMap, None if it has the data with which it was created."""
    metadata = obj.get("metadata") or {}
    entries = metadata.get("managedFields") or ()
    times = [find_time(entry.get("time")) for entry in entries if "f:data" in (entry.get("fieldsV1") or {})]
    changed, created = max(filter(None, times), default=None), find_time(metadata.get("creationTimestamp"))
    return None if changed and created and changed <= created else changed


def _client_ca(client: Client) -> str:
    found = client.find(f"/api/v1/namespaces/{CLIENT_CAS[0]}/configmaps/{CLIENT_CAS[1]}") or {}
    with check_shape(f"the ConfigMap {CLIENT_CAS[1]}"):
        return str((found.get("data") or {}).get("client-ca-file") or "")


def _known_at(data: ClusterData, ca: CaData, chains: Iterable[str]) -> datetime:
    """Return a time after which no change of the published CAs published the youngest CA.

    A ConfigMap has the time of its last change only, which may be a reordering. The cluster published a CA before it signs, and before
    a caBundle has it. Only a CA with a twin (k3s) and one that Amazon EKS named may be in a caBundle earlier.
    """
    youngest = ca.cas.needed[-1]
    times = [
        leaf.not_before
        for leaf, sent in map(certificate_facts.load_leaf_and_chain, chains)
        if leaf.not_before > youngest.begin and ca_rotation.signer_of(ca.cas.cas, leaf, sent) is youngest
    ]
    if len(youngest.certificates) == 1 and ca.eks is None:
        times += [
            point.written_at
            for point in data.points
            if point.written_at and youngest.is_in(point.config.ca_bundle)
        ]
    return min(times, default=data.now) + PUBLISHED_WITHIN


def _with_pods(
    client: Client, ca: CaData, published: datetime | None, changed: Mapping[str, datetime]
) -> CaData:
    """Add the workloads whose pods are older than the youngest CA, and those whose pods may be older than its publication.

    published: the time of the publication in kube-system, None if only later changes are known. changed: namespace -> the same.
    """
    begin = ca.cas.needed[-1].begin
    latest = max(filter(None, (published, *changed.values())), default=begin)
    old: collections.Counter[_WORKLOAD] = collections.Counter()
    early: collections.Counter[_WORKLOAD] = collections.Counter()
    for created, metadata in _created_before(client, "/api/v1/pods", max(begin, latest + KUBELET_DELAY)):
        since = changed.get(metadata["namespace"]) or published
        owner = next(iter(metadata.get("ownerReferences") or ()), {"kind": "Pod", "name": metadata["name"]})
        if owner["kind"] == "Node":  # a static pod reads the files of its node
            continue
        kind, name = owner["kind"], owner["name"]
        if kind == "ReplicaSet" and _HASH.search(name):
            kind, name = "Deployment", _HASH.sub("", name)
        if created < begin:
            old[kind, metadata["namespace"], name] += 1
        elif ca.cas.is_rotating and since and created < since + KUBELET_DELAY:
            early[kind, metadata["namespace"], name] += 1
    return replace(ca, old_pods=dict(old), early_pods=dict(early))


def _changes(client: Client) -> Iterator[tuple[str, datetime | None]]:
    """Yield each namespace with the time at which its published CAs changed last. The publisher writes one namespace after the other."""
    query = {"fieldSelector": f"metadata.name={ROOT_CA[1]}"}
    for page in client.pages("/api/v1/configmaps", query, accept=METADATA):
        with check_shape("metadata"):
            for item in page["items"] or ():
                yield item["metadata"]["namespace"], changed_at(item)


def _old_nodes(client: Client, published: datetime) -> tuple[str, ...]:
    return tuple(
        metadata["name"] for _created, metadata in _created_before(client, "/api/v1/nodes", published)
    )


def _created_before(client: Client, path: str, end: datetime) -> Iterator[tuple[datetime, Mapping[str, Any]]]:
    """Yield time of creation and metadata of the older objects of a list. One page at a time is in memory."""
    for page in client.pages(path, accept=METADATA):
        with check_shape("metadata"):
            for item in page["items"] or ():
                created = find_time(item["metadata"].get("creationTimestamp"))
                if created and created < end:
                    yield created, item["metadata"]


def _servers(client: Client, cas: ClusterCas) -> dict[str, ca_rotation.ClusterCa | None]:
    """Return the CA of the certificate of each API server. The handshakes send no credentials."""
    with check_shape("an EndpointSlice"):
        slices = (
            client.get(_SLICES, {"labelSelector": "kubernetes.io/service-name=kubernetes"})["items"] or ()
        )
        places = [
            Endpoint(address, int(port["port"]), is_outside=True)
            for entry in slices
            for port in entry.get("ports") or ()
            for endpoint in entry.get("endpoints") or ()
            for address in endpoint["addresses"]
        ]
    config = ClientConfig("", "", "", "kubernetes", None, "")
    until = time.monotonic() + SERVERS_SECONDS
    asked, unasked = places[:MOST_SERVERS], places[MOST_SERVERS:]
    chains = served_chains.read_chains(client, [(place, config) for place in asked], until)
    seen = {
        str(chain.endpoint): ca_rotation.signer_of(cas.cas, *chain.parsed) if chain.certificate else None
        for chain in chains
    }
    return {**dict.fromkeys(map(str, unasked)), **seen}
