# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The checks of the cluster's CAs, and their rows. Pure."""

from __future__ import annotations

import base64
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime

from ..._base.object_managers import OWN_MANAGER
from ..._base.text import plural
from ..._base.times import format_time
from ..._csr import ca_rotation
from ..._csr.ca_rotation import (
    ClusterCa,
    ClusterCas,
    EksCa,
    is_refused_by_openssl,
    prints_of,
    published_cas,
    signer_of,
    unrelated_cas,
)
from ..._webhook.calls.call_faults import FAILS
from ..._x509 import certificate_facts
from ..._x509.certificate_facts import CertificateFacts
from ..facts import cluster_data
from ..facts.cluster_data import CLIENT_CAS, Backend, CaData, CallPoint, ClusterData
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
from .check_row import ROTATION, Check
from .cluster_checks import CLUSTER_CA_OBJECT, MOST_LINES

KUBECONFIG = AuditedObject("Kubeconfig", "this run")
CLIENT_CA_OBJECT = AuditedObject("ConfigMap", CLIENT_CAS[1], "v1", namespace=CLIENT_CAS[0])
#: Agents of these distributions fetch the CA each time that they start.
_FETCHING = ("+k3s", "+rke2")


_STATES = {
    ca_rotation.BEFORE: "The outgoing CA signs",
    ca_rotation.DURING: "The switch is not complete",
    ca_rotation.AFTER: "The successor signs",
}
#: The states that only the certificate of the API server shows.
_STATES_OF_SERVER = {
    ca_rotation.BEFORE: "The API server uses the outgoing CA",
    ca_rotation.AFTER: "The API server uses the successor",
}


def _state(cas: ClusterCas) -> str:
    return (_STATES if cas.signer else {**_STATES, **_STATES_OF_SERVER})[cas.state]


def certificate_authority_data(data: ClusterData) -> str:
    """Return the CAs for certificate-authority-data of a kubeconfig (base64), the CA in use first, "" without a known CA."""
    cas = published_cas(data.kubeconfig_ca, data.cluster_ca)
    leaf, sent = _api_server(data)
    first = signer_of(cas, leaf, sent) if leaf else None
    held = data.kubeconfig_ca
    lacks = data.ca is not None and data.ca.cas.missing_in_kubeconfig(held)
    if first is None or not held or not (lacks or (leaf and is_refused_by_openssl(leaf, held))):
        return ""
    ordered = sorted(cas, key=lambda ca: ca is not first)
    entries = dict.fromkeys(entry for ca in ordered for entry in ca.certificates)
    return base64.b64encode("".join(entry.pem for entry in entries).encode()).decode()


def check_rotation(data: ClusterData) -> Iterator[AuditFinding]:
    """Yield the finding about a rotation of the cluster's CA: which CA is outgoing, and which signs."""
    ca = data.rotation
    if ca is None:
        yield AuditFinding("cluster-ca-rotation", PASS, CLUSTER_CA_OBJECT)
        return
    cas = ca.cas
    others = [entry for entry in cas.in_use if entry not in (*cas.outgoing, *cas.successors)]
    lines = (
        *(f"outgoing CA: {entry}" for entry in cas.outgoing),
        *(f"CA in use: {entry}" for entry in others),
        *(f"successor: {entry}" for entry in cas.successors),
        f"the API server serves a certificate of: {cas.api_server}",
        f"the newest certificate of a signer ({cas.newest}) is of: {cas.signer}"
        if cas.signer
        else "no certificate of a signer was seen, so it is not known which CA the signers use",
        *([f"the published CAs changed last at {format_time(ca.since)}"] if ca.since else []),
        *(
            f"API server {address}: {of or 'not reached, or another CA'}"
            for address, of in cas.servers.items()
        ),
        *_eks_lines(ca.eks),
    )
    yield AuditFinding(
        "cluster-ca-rotation",
        FAIL,
        CLUSTER_CA_OBJECT,
        f"The cluster publishes {len(cas.cas) - len(cas.gone)} CAs. {_state(cas)}",
        lines,
    )


def _eks_lines(eks: EksCa | None) -> Iterator[str]:
    if eks and eks.first_activation:
        yield f"Amazon EKS activates the successor at {format_time(eks.first_activation)} or later"
        if eks.final_activation:
            yield f"at the latest at {format_time(eks.final_activation)}"
        if eks.has_rollback:
            yield "Amazon EKS can roll back"


def check_bundles(data: ClusterData) -> Iterator[AuditFinding]:
    """Yield the findings about caBundles that do not verify each certificate that the CAs of the cluster may issue."""
    if data.ca:
        gone = frozenset[str]().union(*(ca.fingerprints for ca in data.ca.cas.gone))
        for point in data.points:
            if data.rotation or not gone.isdisjoint(prints_of(point.config.ca_bundle)):
                yield from _bundle(data, data.ca, point)
            elif point.is_verified and not data.ca.cas.missing_in(point.config.ca_bundle):
                yield AuditFinding("bundle-without-successor", PASS, point.object)


def _bundle(data: ClusterData, ca: CaData, point: CallPoint) -> Iterator[AuditFinding]:
    cas, bundle = ca.cas, point.config.ca_bundle
    if not (point.is_verified and bundle):
        return
    backend = data.backends.get(point.backend, Backend(is_known=False))
    seen = [chain for chain in backend.chains if chain.certificate]
    signed = [(chain, signer) for chain in seen if (signer := signer_of(cas.cas, *chain.parsed))]
    if not signed and not cas.has_any_in(bundle):
        return
    missing = cas.missing_in(bundle)
    if not missing:
        yield AuditFinding("bundle-without-successor", PASS, point.object)
        return
    signers = [signer for _chain, signer in signed]
    ends = [chain.certificate.not_after for chain, _signer in signed if chain.certificate]
    breaks_at = _breaks_at(data, ca, missing, signers, ends)
    unseen = "no endpoint shows a certificate of the cluster's CAs, and the caBundle has a CA of the cluster"
    lines = (
        *(f"{chain.endpoint} serves a certificate of {signer}" for chain, signer in signed[:MOST_LINES]),
        *([] if signed else [unseen]),
        *(f"the caBundle lacks {entry}" for entry in missing),
    )
    yield AuditFinding(
        "bundle-without-successor",
        FAIL,
        point.object,
        f"{point.object} {_trusts(cas, bundle)}",
        lines,
        severity=_severity(data, ca, missing, breaks_at),
        certainty=PROVEN if signed else LIKELY,
        breaks_at=breaks_at,
    )


def _trusts(cas: ClusterCas, bundle: str) -> str:
    """Return what a bundle lacks, as the predicate of a sentence."""
    held = [ca for ca in cas.cas if ca.is_in(bundle)]
    if held and all(ca in cas.gone for ca in held):
        return "trusts only CAs that the cluster no longer publishes"
    if held and all(ca in cas.outgoing for ca in held):
        return "trusts only the outgoing CA of the cluster"
    return "lacks a CA that signs in the cluster, or that will sign"


def _severity(
    data: ClusterData, ca: CaData, missing: Collection[ClusterCa], breaks_at: datetime | None
) -> str:
    """Return ERROR if calls fail at a known time that a missing CA in use sets, or soon. Return "" for the severity of the check."""
    signs = ca.cas.signs in missing
    return ERROR if breaks_at and (signs or breaks_at - data.now <= data.ca_break_within) else ""


def _breaks_at(
    data: ClusterData,
    ca: CaData,
    missing: Collection[ClusterCa],
    signers: Collection[ClusterCa | None],
    ends: Collection[datetime],
) -> datetime | None:
    """Return the time at which calls begin to fail, None if it is not known.

    It is now if a missing CA is among the signers of what is served. Otherwise it is the switch or, after it, the first end of a served
    certificate.
    """
    if any(signer in missing for signer in signers):
        return data.now
    if ca.cas.signs in missing:
        return min(ends, default=None)
    return ca.eks.first_activation if ca.eks else None


def check_kubeconfig(data: ClusterData) -> Iterator[AuditFinding]:
    """Yield the finding about the CAs that this run trusts."""
    ca, check = data.rotation, "kubeconfig-without-successor"
    if ca is None:
        return
    bundle = data.kubeconfig_ca
    missing = ca.cas.missing_in_kubeconfig(bundle)
    if not missing or not ca.cas.has_any_in(bundle):
        yield AuditFinding(check, SKIP if missing else PASS, KUBECONFIG)
        return
    leaf, _sent = _api_server(data)
    signers = (ca.cas.api_server, *ca.cas.servers.values())
    breaks_at = _breaks_at(data, ca, missing, signers, [leaf.not_after] if leaf else ())
    yield AuditFinding(
        check,
        FAIL,
        KUBECONFIG,
        f"The kubeconfig of this run {_trusts(ca.cas, bundle)}",
        tuple(f"it lacks {entry}" for entry in missing),
        severity=_severity(data, ca, missing, breaks_at),
        breaks_at=breaks_at,
    )


def check_order(data: ClusterData) -> Iterator[AuditFinding]:
    """Yield the findings about bundles that OpenSSL reads. The API server reads a caBundle with Go, where the order does not matter."""
    leaf, _sent = _api_server(data)
    for subject, bundle in ((KUBECONFIG, data.kubeconfig_ca), (CLUSTER_CA_OBJECT, data.cluster_ca)):
        if leaf is None or not bundle:
            yield AuditFinding("ca-order", SKIP, subject)
            continue
        words = f"In {subject}, a CA that did not sign the certificate of the API server comes before the one that did"
        is_refused = is_refused_by_openssl(leaf, bundle)
        yield judged("ca-order", subject, words if is_refused else "", breaks_at=data.now)


def check_client_ca(data: ClusterData) -> Iterator[AuditFinding]:
    """Yield the finding about the CAs by which aggregated API servers verify clients."""
    check, ca = "client-ca-without-successor", data.rotation
    if ca is None:
        return
    if not ca.cas.has_any_in(ca.client_ca):
        yield AuditFinding(check, SKIP, CLIENT_CA_OBJECT)
        return
    missing = ca.cas.missing_in(ca.client_ca)
    yield judged(
        check,
        CLIENT_CA_OBJECT,
        f"{CLIENT_CA_OBJECT} {_trusts(ca.cas, ca.client_ca)}" if missing else "",
        tuple(f"it lacks {entry}" for entry in missing),
    )


def check_pods(data: ClusterData) -> Iterator[AuditFinding]:
    """Yield a finding for each workload with pods that are older than the youngest CA, and one about pods that may be."""
    check, ca = "pods-before-successor", data.ca
    if ca is None:
        return
    if ca.old_pods is None:
        yield AuditFinding(check, SKIP, CLUSTER)
    elif not ca.old_pods:
        yield AuditFinding(check, PASS, CLUSTER)
    for (kind, namespace, own), count in (ca.old_pods or {}).items():
        words = f"it has {plural(count, 'pod')} from before {_youngest(ca)}"
        yield AuditFinding(check, FAIL, AuditedObject(kind, own, namespace=namespace), words)
    names = tuple(f"{kind} {namespace}/{own}" for kind, namespace, own in ca.early_pods)
    if names:
        yield AuditFinding(
            check,
            FAIL,
            CLUSTER,
            f"{len(names)} workloads have pods that are older than the last change of the published CAs, so they may lack the youngest one",
            names[:MOST_LINES],
            severity=INFO,
            certainty=LIKELY,
            objects=names,
            detail="early",
        )


def check_nodes(data: ClusterData) -> Iterator[AuditFinding]:
    """Yield the finding about nodes that are older than the youngest CA, unless they fetch the CA at each start."""
    check, ca = "nodes-before-successor", data.rotation
    if ca is None:
        return
    names = () if any(mark in data.version for mark in _FETCHING) else ca.old_nodes
    if not names:
        yield AuditFinding(check, SKIP if names is None else PASS, CLUSTER)
        return
    yield AuditFinding(
        check,
        FAIL,
        CLUSTER,
        f"{len(names)} nodes are older than the last change of the published CAs, so they may lack the youngest one",
        names[:MOST_LINES],
        certainty=LIKELY,
        objects=names,
    )


def _youngest(ca: CaData) -> str:
    return f"the youngest CA of the cluster, which is valid from {format_time(ca.cas.needed[-1].begin)}"


def check_outgoing(data: ClusterData) -> Iterator[AuditFinding]:
    """Yield the finding about an outgoing CA that is still published after the switch. It passes if no caBundle has one either."""
    check, ca = "outgoing-ca-left", data.ca
    if ca is None:
        return
    outgoing = frozenset[str]().union(*(entry.fingerprints for entry in ca.cas.superseded or ca.cas.gone))
    having = [
        str(point.object)
        for point in data.points
        if not outgoing.isdisjoint(prints_of(point.config.ca_bundle))
    ]
    if not ca.cas.superseded:
        yield AuditFinding(check, SKIP if data.rotation or having else PASS, CLUSTER_CA_OBJECT)
        return
    yield AuditFinding(
        check,
        FAIL,
        CLUSTER_CA_OBJECT,
        f"{_state(ca.cas)}, and the cluster still publishes the outgoing CA",
        (*map(str, ca.cas.superseded), *(f"{name} trusts it" for name in having[:MOST_LINES])),
        certainty=PROVEN if ca.cas.signer else LIKELY,
        objects=tuple(having),
    )


def check_left(data: ClusterData) -> Iterator[AuditFinding]:
    """Yield the findings about CAs in caBundles of this collection that the cluster does not publish, and that verify no endpoint."""
    if data.ca is None or not data.cluster_ca:
        return
    known = published_cas(data.cluster_ca, *(ca.pem for ca in data.ca.cas.needed))
    for point in data.points:
        bundle = point.config.ca_bundle
        named = data.ca_outgoing & prints_of(bundle)
        if named or (point.is_verified and bundle and set(point.bundle_writers) == {OWN_MANAGER}):
            yield _left(data, point, known, named)


def _left(
    data: ClusterData, point: CallPoint, known: Sequence[ClusterCa], named: Collection[str]
) -> AuditFinding:
    unknown = unrelated_cas(known, point.config.ca_bundle)
    backend = data.backends.get(point.backend, Backend(is_known=False))
    chains = (*backend.chains, *backend.unready_chains)
    is_seen = len([chain for chain in chains if chain.certificate]) >= max(backend.ready + backend.unready, 1)
    served = [chain.parsed for chain in chains if chain.certificate]
    if named:
        going = [str(ca) for ca in unknown if not ca.fingerprints.isdisjoint(named)]
        return judged(
            "ca-left",
            point.object,
            f"{point.object} trusts a CA that the user names as outgoing",
            tuple(going),
        )
    idle = [str(ca) for ca in unknown if not any(signer_of([ca], *chain) for chain in served)]
    if idle and (backend.is_external or not is_seen):
        return AuditFinding("ca-left", SKIP, point.object)
    words = f"{point.object} trusts {len(idle)} CAs that the cluster does not publish, and that verify no endpoint"
    return judged("ca-left", point.object, words if idle else "", tuple(idle))


def _api_server(data: ClusterData) -> tuple[CertificateFacts | None, tuple[CertificateFacts, ...]]:
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
        leads=True,
    ),
    Check(
        "bundle-without-successor",
        "The caBundle lacks a CA that signs in the cluster, or that will sign",
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
        "Add each CA that is in use or younger to the caBundle, and keep the outgoing CA. If cert-manager injects it with inject-apiserver-ca, restart "
        "cainjector.",
        "aws/containers-roadmap#2874; aws/karpenter-provider-aws#9522",
        check_bundles,
        leads=True,
    ),
    Check(
        "kubeconfig-without-successor",
        "The kubeconfig of this run lacks the successor of the cluster's CA",
        ROTATION,
        WARNING,
        _CA,
        "After the switch no task with this kubeconfig connects to the API server.",
        "Write the published CAs into certificate-authority-data of the kubeconfig. audit_info returns them as certificate_authority_data, and "
        f"{cluster_data.PRINT_ROOT_CA} prints them.",
        _MANUAL,
        check_kubeconfig,
    ),
    Check(
        "ca-order",
        "Programs with OpenSSL refuse the API server, because another CA of the same name comes first",
        ROTATION,
        WARNING,
        _CA,
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
        "Pods are older than the youngest CA of the cluster",
        ROTATION,
        WARNING,
        (cluster_data.PODS, *_CA),
        "A program that read ca.crt only at its start does not trust the API server after the switch.",
        "Restart the workload, before the switch if it is still to come, unless its program reads ca.crt again.",
        f"{_MANUAL}; KBVE/kbve#10104; gardener/gardener#15301",
        check_pods,
    ),
    Check(
        "nodes-before-successor",
        "Nodes are older than the youngest CA of the cluster",
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
        compares_objects=True,
    ),
    Check(
        "ca-left",
        "A caBundle of this collection trusts a CA that nothing needs",
        ROTATION,
        WARNING,
        # Without a view of the endpoints, the check is skipped only for a CA that they may need.
        (*_OBJECTS, *_CA),
        "A holder of the key of this CA can act as the webhook. The CA may be the successor of a rotation that was abandoned, or an outgoing "
        "CA that the cluster stopped publishing before the caBundle was cleaned.",
        "Name the CA in outgoing of certflow_cluster_ca, and run the phase finish of the playbook cluster_ca.",
        _MANUAL,
        check_left,
    ),
)
