# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Read what a rotation of the cluster's CA affects. A cluster with one CA costs no request."""

from __future__ import annotations

import collections
import functools
import re
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from .._base.errors import check_shape
from .._base.times import find_time
from .._csr import ca_rotation
from .._csr.ca_rotation import CaRotation, find_successor
from .._kube import kubeconfig_parsing
from .._kube.client import METADATA, Client
from .._webhook import served_chains
from .._webhook.bundle_targets import ClientConfig
from .._webhook.webhook_endpoints import Endpoint
from .._x509 import certificate_facts
from .facts.cluster_data import (
    CLIENT_CA,
    CLIENT_CAS,
    CLUSTER_INFO,
    JOIN_INFO,
    NODES,
    PODS,
    SERVICES,
    AuditOptions,
    ClusterData,
    Object,
    RotationData,
)
from .facts.finding import CLUSTER
from .guarded_reads import GuardedReads

MOST_SERVERS = 5
SERVERS_SECONDS = 5.0
_SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
_CLUSTER = (str(CLUSTER),)
#: A ReplicaSet of a Deployment has the name of the Deployment and a hash (k/k pkg/controller/deployment/sync.go).
_HASH = re.compile("-[bcdfghjklmnpqrstvwxz2456789]{1,10}$")


def read(
    client: Client, reads: GuardedReads, options: AuditOptions, data: ClusterData
) -> RotationData | None:
    """Return what a rotation affects, None without one."""
    cas = ca_rotation.published_cas(data.cluster_ca or data.kubeconfig_ca, options.ca_successor)
    served = {
        f"endpoint {chain.endpoint}": chain.chain_pem
        for backend in data.backends.values()
        for chain in backend.chains
        if chain.certificate
    }
    rotation = ca_rotation.find_rotation(
        cas,
        data.api_server,
        {**served, **data.issued},
        now=data.now,
        has_changed=not data.cluster_ca or data.cluster_ca_since is not None,  # a kubeconfig does not show it
        named=options.ca_successor,
    )
    if rotation is None:
        return None
    since = data.cluster_ca_since
    pods = functools.partial(_old_pods, client, since)
    nodes = functools.partial(_old_nodes, client, since)
    return RotationData(
        rotation,
        since,
        reads.read(CLIENT_CA, lambda: _config_map(client, CLIENT_CAS, "client-ca-file"), ""),
        reads.read(CLUSTER_INFO, lambda: _join_ca(_config_map(client, JOIN_INFO, "kubeconfig")), ""),
        reads.read(PODS, pods, None, objects=_CLUSTER, checks=("pods-before-successor",)),
        reads.read(NODES, nodes, None, objects=_CLUSTER, checks=("nodes-before-successor",)),
        reads.read(
            SERVICES,
            lambda: _servers(client, rotation),
            {},
            objects=_CLUSTER,
            checks=("cluster-ca-rotation",),
        )
        if options.probe_urls
        else {},
        find_successor(options.eks_cas, rotation, data.now),
    )


def changed_at(obj: Object) -> datetime | None:
    """Return the time of the last change of the data of a ConfigMap, None if it has the data with which it was created."""
    metadata = obj.get("metadata") or {}
    entries = metadata.get("managedFields") or ()
    times = [find_time(entry.get("time")) for entry in entries if "f:data" in (entry.get("fieldsV1") or {})]
    changed, created = max(filter(None, times), default=None), find_time(metadata.get("creationTimestamp"))
    return None if changed and created and changed <= created else changed


def _config_map(client: Client, place: tuple[str, str], key: str) -> str:
    found = client.find(f"/api/v1/namespaces/{place[0]}/configmaps/{place[1]}") or {}
    with check_shape(f"the ConfigMap {place[1]}"):
        return str((found.get("data") or {}).get(key) or "")


@check_shape(f"the ConfigMap {JOIN_INFO[1]}")
def _join_ca(text: str) -> str:
    """Return the CAs in a kubeconfig without users, as PEM text."""
    config = kubeconfig_parsing.load_yaml(text, f"the ConfigMap {JOIN_INFO[1]}") or {}
    clusters = [entry["cluster"] for entry in config.get("clusters") or ()]
    fields = [entry.get("certificate-authority-data") for entry in clusters]
    return "".join(map(certificate_facts.decoded_certificate, fields))


def _old_pods(client: Client, since: datetime | None) -> dict[str, int] | None:
    if since is None:
        return None
    found: collections.Counter[str] = collections.Counter()
    for metadata in _older(client, "/api/v1/pods", since):
        owner = next(iter(metadata.get("ownerReferences") or ()), {"kind": "Pod", "name": metadata["name"]})
        if owner["kind"] != "Node":  # a static pod reads the files of its node
            kind, name = owner["kind"], owner["name"]
            if kind == "ReplicaSet" and _HASH.search(name):
                kind, name = "Deployment", _HASH.sub("", name)
            found[f"{kind} {metadata['namespace']}/{name}"] += 1
    return dict(found)


def _old_nodes(client: Client, since: datetime | None) -> tuple[str, ...] | None:
    if since is None:
        return None
    return tuple(metadata["name"] for metadata in _older(client, "/api/v1/nodes", since))


def _older(client: Client, path: str, since: datetime) -> Iterator[Mapping[str, Any]]:
    """Yield the metadata of the objects of a list that are older. One page at a time is in memory."""
    for page in client.pages(path, accept=METADATA):
        with check_shape("metadata"):
            for item in page["items"] or ():
                created = find_time(item["metadata"].get("creationTimestamp"))
                if created and created < since:
                    yield item["metadata"]


def _servers(client: Client, rotation: CaRotation) -> dict[str, bool | None]:
    """Return for each API server if it serves a certificate of the successor. The handshakes send no credentials."""
    with check_shape("an EndpointSlice"):
        query = {"labelSelector": "kubernetes.io/service-name=kubernetes"}
        slices = client.get(_SLICES, query)["items"] or ()
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
    found: dict[str, bool | None] = {str(place): None for place in unasked}
    for chain in chains:
        seen = chain.parsed if chain.certificate else None
        signer = ca_rotation.signer_of(rotation.cas, *seen) if seen else None
        found[str(chain.endpoint)] = None if signer is None else signer is rotation.successor
    return found
