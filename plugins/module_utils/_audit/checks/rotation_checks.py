# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The checks of a rotation of the cluster's CA, and their rows. They have no finding on a cluster that publishes one CA. Pure."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from ..._base.times import format_time
from ..._csr.ca_rotation import CaRotation, is_refused_by_openssl, published_cas, signer_of
from ..._webhook.call_failures import ADMISSION
from ..._webhook.served_chains import ServedChain
from ..._x509 import certificate_facts
from ..facts import cluster_data
from ..facts.cluster_data import CLIENT_CAS, JOIN_INFO, Backend, CallPoint, ClusterData, RotationData
from ..facts.finding import (
    CLUSTER,
    ERROR,
    FAIL,
    INFO,
    LIKELY,
    PASS,
    PROVEN,
    SKIP,
    WARNING,
    AuditedObject,
    AuditFinding,
    judged,
)
from .check_row import FAILS, ROTATION, Check
from .cluster_checks import CLUSTER_CA_OBJECT, MOST_LINES

if TYPE_CHECKING:
    from cryptography.x509 import Certificate


KUBECONFIG = AuditedObject("Kubeconfig", "this run")
CLIENT_CA_OBJECT = AuditedObject("ConfigMap", CLIENT_CAS[1], "v1", namespace=CLIENT_CAS[0])
JOIN_OBJECT = AuditedObject("ConfigMap", JOIN_INFO[1], "v1", namespace=JOIN_INFO[0])
#: Agents of these distributions fetch the CA each time that they start.
_FETCHING = ("+k3s", "+rke2")


def certificate_authority_data(data: ClusterData) -> str:
    """Return the CAs for certificate-authority-data of a kubeconfig (base64), the CA in use first, "" without a known CA."""
    cas = published_cas(data.kubeconfig_ca, data.cluster_ca)
    leaf, sent = _api_server(data)
    first = signer_of(cas, leaf, sent) if leaf else None
    rotation, held = data.ca.rotation if data.ca else None, data.kubeconfig_ca
    lacks = rotation is not None and not rotation.successor.is_in(held)
    if first is None or not held or not (lacks or (leaf and is_refused_by_openssl(leaf, held))):
        return ""
    pem = "".join(ca.pem for ca in sorted(cas, key=lambda ca: ca is not first))
    return base64.b64encode(pem.encode()).decode()


def check_rotation(data: ClusterData) -> Iterator[AuditFinding]:
    """Yield the finding about a rotation of the cluster's CA: which CA is outgoing, and which signs."""
    ca = data.ca
    if ca is None:
        yield AuditFinding("cluster-ca-rotation", PASS, CLUSTER_CA_OBJECT)
        return
    rotation = ca.rotation
    lines = [f"outgoing CA: {entry}" for entry in rotation.outgoing]
    lines += [f"successor: {rotation.successor}"]
    lines += [f"the API server serves a certificate of: {rotation.api_server}"]
    lines += [
        f"the newest certificate of a signer ({rotation.newest}) is of: {rotation.signer}"
        if rotation.signer
        else "no certificate of a signer was seen, so it is not known which CA the signers use"
    ]
    lines += [f"the published CAs changed at {format_time(ca.since)}"] if ca.since else []
    words = {True: "the successor", False: "an outgoing CA", None: "not reached, or another CA"}
    lines += [f"API server {address}: {words[state]}" for address, state in ca.servers.items()]
    if ca.eks and ca.eks.first_activation:
        lines += [f"Amazon EKS activates the successor at {format_time(ca.eks.first_activation)} or later"]
        lines += (
            [f"at the latest at {format_time(ca.eks.final_activation)}"] if ca.eks.final_activation else []
        )
        lines += ["Amazon EKS can roll back"] if ca.eks.has_rollback else []
    state = "The successor signs" if ca.is_switched else "The outgoing CA signs"
    if ca.has_begun and not ca.is_switched:
        state = "The switch is not complete"
    cause = f"The cluster publishes {1 + len(rotation.outgoing)} CAs. {state}"
    yield AuditFinding("cluster-ca-rotation", FAIL, CLUSTER_CA_OBJECT, cause, tuple(lines))


def check_bundles(data: ClusterData) -> Iterator[AuditFinding]:
    """Yield the findings about caBundles that do not verify a certificate of the successor."""
    if data.ca:
        for point in data.points:
            yield from _bundle(data, data.ca, point)


def _bundle(data: ClusterData, ca: RotationData, point: CallPoint) -> Iterator[AuditFinding]:
    rotation, bundle = ca.rotation, point.config.ca_bundle
    if not (point.is_verified and bundle):
        return
    backend = data.backends.get(point.backend, Backend(is_known=False))
    seen = [chain for chain in backend.chains if chain.certificate]
    is_blind = len(seen) < max(len(backend.chains), 1)
    has_outgoing = rotation.has_outgoing_in(bundle)
    signed = [(chain, signer) for chain in seen if (signer := signer_of(rotation.cas, *chain.parsed))]
    if not signed and not (is_blind and has_outgoing):
        return
    if rotation.successor.is_in(bundle):
        yield AuditFinding("bundle-without-successor", PASS, point.object)
        return
    breaks_at = _breaks_at(ca, [chain for chain, signer in signed if signer in rotation.outgoing])
    if any(signer is rotation.successor for _chain, signer in signed):
        breaks_at = data.now
    lines = [f"{chain.endpoint} serves a certificate of {signer}" for chain, signer in signed[:MOST_LINES]]
    lines += ["no endpoint shows its certificate, and the caBundle has the outgoing CA"] if not signed else []
    lines += [f"the caBundle lacks {rotation.successor}"]
    yield AuditFinding(
        "bundle-without-successor",
        FAIL,
        point.object,
        f"{point.object} trusts only the outgoing CA of the cluster{_skipped(point)}",
        tuple(lines),
        severity=_severity(data, rotation, breaks_at),
        certainty=PROVEN if signed else LIKELY,
        breaks_at=breaks_at,
    )


def _severity(data: ClusterData, rotation: CaRotation, breaks_at: datetime | None) -> str:
    """Return ERROR after the switch, and if calls fail soon. Return "" for the severity of the check."""
    is_soon = breaks_at is not None and breaks_at - data.now <= data.ca_break_within
    return ERROR if rotation.is_switched or is_soon else ""


def _breaks_at(ca: RotationData, chains: Sequence[ServedChain]) -> datetime | None:
    """Return the time at which calls begin to fail: the switch or, after it, the end of the first certificate. None if not known."""
    if ca.rotation.is_switched:
        ends = [chain.certificate.not_after for chain in chains if chain.certificate]
        return min(ends, default=None)
    return ca.eks.first_activation if ca.eks else None


def _skipped(point: CallPoint) -> str:
    """Return the requests for which the API server skips a webhook with failurePolicy Ignore, "" for other webhooks."""
    if point.caller != ADMISSION or point.is_strict:
        return ""
    rules = point.webhook.get("rules") or ()
    names = [
        f"{', '.join(rule.get('operations') or ())} of {', '.join(rule.get('resources') or ())}"
        for rule in rules[:MOST_LINES]
    ]
    return (
        ". Its failurePolicy is Ignore, so the API server then skips the webhook without an error or an Event, for "
        + "; ".join(names)
    )


def check_kubeconfig(data: ClusterData) -> Iterator[AuditFinding]:
    """Yield the finding about the CAs that this run trusts."""
    ca = data.ca
    if ca is None:
        return
    rotation, bundle = ca.rotation, data.kubeconfig_ca
    has_outgoing = rotation.has_outgoing_in(bundle)
    if rotation.successor.is_in(bundle) or not has_outgoing:
        yield AuditFinding("kubeconfig-without-successor", PASS if has_outgoing else SKIP, KUBECONFIG)
        return
    breaks_at = _breaks_at(ca, ())
    words = "The kubeconfig of this run trusts only the outgoing CA of the cluster"
    severity = _severity(data, rotation, breaks_at)
    lines = (f"it lacks {rotation.successor}",)
    yield AuditFinding(
        "kubeconfig-without-successor",
        FAIL,
        KUBECONFIG,
        words,
        lines,
        severity=severity,
        breaks_at=breaks_at,
    )


def check_order(data: ClusterData) -> Iterator[AuditFinding]:
    """Yield the findings about bundles that OpenSSL reads. The API server reads a caBundle with Go, where the order does not matter."""
    leaf, _sent = _api_server(data)
    bundles = {KUBECONFIG: data.kubeconfig_ca, CLUSTER_CA_OBJECT: data.cluster_ca}
    if data.ca:
        bundles[JOIN_OBJECT] = data.ca.join_ca
    for subject, bundle in bundles.items():
        if leaf is None or not bundle:
            yield AuditFinding("ca-order", SKIP, subject)
            continue
        words = f"In {subject}, a CA that did not sign the certificate of the API server comes before the one that did"
        is_refused = is_refused_by_openssl(leaf, bundle)
        yield judged("ca-order", subject, words if is_refused else "", breaks_at=data.now)


def check_client_ca(data: ClusterData) -> Iterator[AuditFinding]:
    """Yield the finding about the CAs by which aggregated API servers verify clients."""
    check, ca = "client-ca-without-successor", data.ca
    if ca is None:
        return
    if not ca.rotation.has_outgoing_in(ca.client_ca):
        yield AuditFinding(check, SKIP, CLIENT_CA_OBJECT)
        return
    words = f"{CLIENT_CA_OBJECT} has only the outgoing CA of the cluster"
    lines = (f"it lacks {ca.rotation.successor}",)
    is_known = ca.rotation.successor.is_in(ca.client_ca)
    yield judged(check, CLIENT_CA_OBJECT, "" if is_known else words, lines)


def check_pods(data: ClusterData) -> Iterator[AuditFinding]:
    """Yield the finding about pods that are older than the successor."""
    if data.ca:
        old = data.ca.old_pods
        names = None if old is None else [f"{name}: {count} pods" for name, count in old.items()]
        yield _older(data.ca, "pods-before-successor", names, "workloads have pods that are")


def check_nodes(data: ClusterData) -> Iterator[AuditFinding]:
    """Yield the finding about nodes that are older than the successor, unless they fetch the CA at each start."""
    if data.ca:
        names = () if any(mark in data.version for mark in _FETCHING) else data.ca.old_nodes
        yield _older(data.ca, "nodes-before-successor", names, "nodes are")


def _older(ca: RotationData, check: str, names: Sequence[str] | None, words: str) -> AuditFinding:
    if not names or ca.since is None:
        return AuditFinding(check, SKIP if names is None else PASS, CLUSTER)
    cause = f"{len(names)} {words} older than the successor of the cluster's CA, which was published at {format_time(ca.since)}"
    return AuditFinding(check, FAIL, CLUSTER, cause, tuple(names[:MOST_LINES]), objects=tuple(names))


def check_outgoing(data: ClusterData) -> Iterator[AuditFinding]:
    """Yield the finding about an outgoing CA that is still published after the switch."""
    check, ca = "outgoing-ca-left", data.ca
    if ca is None:
        return
    rotation = ca.rotation
    if not ca.is_switched:
        yield AuditFinding(check, SKIP, CLUSTER_CA_OBJECT)
        return
    having = [str(point.object) for point in data.points if rotation.has_outgoing_in(point.config.ca_bundle)]
    lines = (*map(str, rotation.outgoing), *(f"{name} trusts it" for name in having[:MOST_LINES]))
    words = "The successor signs, and the cluster still publishes the outgoing CA"
    yield AuditFinding(check, FAIL, CLUSTER_CA_OBJECT, words, lines, objects=tuple(having))


def _api_server(data: ClusterData) -> tuple[Certificate | None, tuple[Certificate, ...]]:
    return certificate_facts.load_leaf_and_chain(data.api_server) if data.api_server else (None, ())


_MANUAL = "https://kubernetes.io/docs/tasks/tls/manual-rotation-of-ca-certificates/"
_OBJECTS = (cluster_data.CONFIGURATIONS, cluster_data.DEFINITIONS, cluster_data.API_SERVICES)
_CA = (cluster_data.CLUSTER_CA, cluster_data.API_SERVER)

ROTATION_ROWS: tuple[Check, ...] = (
    Check(
        "cluster-ca-rotation",
        "The CA of the cluster is being rotated",
        ROTATION,
        INFO,
        _CA,
        "At the switch the successor begins to sign. Clients and webhooks that trust only the outgoing CA then fail, one after the other.",
        "Let every client and webhook trust both CAs before the switch. Renew the certificates after it. Remove the outgoing CA last.",
        f"aws/containers-roadmap#2874; {_MANUAL}",
        check_rotation,
    ),
    Check(
        "bundle-without-successor",
        "The caBundle lacks the successor of the cluster's CA",
        ROTATION,
        WARNING,
        (
            *_OBJECTS,
            *_CA,
            cluster_data.SERVICES,
            cluster_data.PORT_FORWARD,
            cluster_data.ENDPOINTS,
            cluster_data.REQUESTS,
        ),
        "The API server refuses the first certificate that the successor signs. " + FAILS,
        "Add the successor to the caBundle, and keep the outgoing CA. If cert-manager injects it with inject-apiserver-ca, restart "
        "cainjector.",
        "aws/containers-roadmap#2874; aws/karpenter-provider-aws#9522",
        check_bundles,
    ),
    Check(
        "kubeconfig-without-successor",
        "The kubeconfig of this run lacks the successor of the cluster's CA",
        ROTATION,
        WARNING,
        _CA,
        "After the switch no task with this kubeconfig connects to the API server.",
        "Write the result certificate_authority_data into certificate-authority-data of the kubeconfig.",
        _MANUAL,
        check_kubeconfig,
    ),
    Check(
        "ca-order",
        "Programs with OpenSSL refuse the API server, because another CA of the same name comes first",
        ROTATION,
        WARNING,
        (*_CA, cluster_data.CLUSTER_INFO),
        'curl, Python and Ruby fail with "certificate signature failure". Programs in Go, such as kubectl, accept the API server.',
        "Put the CA in use before the other CA. For a kubeconfig, the result certificate_authority_data has this order.",
        "aws/containers-roadmap#2638",
        check_order,
    ),
    Check(
        "client-ca-without-successor",
        "Aggregated API servers do not accept client certificates of the successor",
        ROTATION,
        INFO,
        (cluster_data.CLIENT_CA, *_CA),
        "They refuse users and components whose client certificate the successor signed.",
        "Add the successor to the file of --client-ca-file of each API server.",
        _MANUAL,
        check_client_ca,
    ),
    Check(
        "pods-before-successor",
        "Pods are older than the successor of the cluster's CA",
        ROTATION,
        INFO,
        (cluster_data.PODS, *_CA),
        "A program that read ca.crt only at its start does not trust the API server after the switch.",
        "Restart these workloads before the switch, unless their program reads ca.crt again.",
        _MANUAL,
        check_pods,
    ),
    Check(
        "nodes-before-successor",
        "Nodes are older than the successor of the cluster's CA",
        ROTATION,
        INFO,
        (cluster_data.NODES, *_CA),
        "A kubelet that got the CA when its node joined does not trust the API server after the switch.",
        "Replace the nodes that you manage, or add the successor to their kubeconfig, before the switch.",
        _MANUAL,
        check_nodes,
    ),
    Check(
        "outgoing-ca-left",
        "The cluster still publishes the outgoing CA after the switch",
        ROTATION,
        INFO,
        (*_CA, *_OBJECTS),
        "An owner of the key of the outgoing CA can still act as the API server, or as a webhook whose caBundle has this CA.",
        "Renew the certificates that the outgoing CA signed. Then remove it from the caBundles, and from the published CAs.",
        _MANUAL,
        check_outgoing,
    ),
)
