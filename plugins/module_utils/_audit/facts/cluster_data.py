# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The objects of a cluster that an audit reads, as plain data. The checks decide over them. Pure."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from ..._csr.ca_rotation import ClusterCa, ClusterCas, EksCa, published_cas
from ..._diagnosis.observation import Diagnosis
from ..._kube import port_forward
from ..._kube.access_review import Permission
from ..._webhook.bundles.bundle_targets import ADMISSION_KINDS, KINDS, Address, ClientConfig
from ..._webhook.calls import admission_match, call_faults
from ..._webhook.calls.admission_match import ServedResources, Versions
from ..._webhook.endpoints.served_chains import ServedChain
from .finding import AuditedObject, AuditFinding, every

if TYPE_CHECKING:  # each play of a fleet loads this file
    from ..._snapshot.hazards.table import DetectedHazard
    from ..._snapshot.release.release_table import Release

Object = Mapping[str, Any]
Labels = Mapping[str, str]

# The sources of the data.
CONFIGURATIONS, DEFINITIONS, API_SERVICES = "configurations", "definitions", "api-services"
NAMESPACES, SERVICES, PORT_FORWARD, PODS = admission_match.NAMESPACES, "services", "port-forward", "pods"
NODES = "nodes"
REQUESTS, EVENTS, METRICS = "requests", "events", "metrics"
POD_CERTIFICATES = "pod-certificates"
CONDITIONS, VERSIONS = admission_match.CONDITIONS, admission_match.VERSIONS
ENDPOINTS, SNAPSHOT = "endpoints", "snapshot-controller"
IDENTITY = "identity"
#: The comparisons of the checks, which end with the time of the audit.
COMPARISONS = "comparisons"
CERTIFICATES, CLUSTER_CA, API_SERVER = "certificates", "cluster-ca", "api-server"
#: A certificate that Go reads, and the library of the run does not.
UNREAD_CERTIFICATE = call_faults.UNREAD
#: A client certificate or an ability of TLS that the API server may have, and this run has not.
HANDSHAKES = "handshakes"
CLIENT_CA = "client-ca"
#: The ConfigMap in which every cluster publishes the CA of its API server (KEP-1205).
ROOT_CA = ("kube-system", "kube-root-ca.crt")
#: The command that prints the CAs for a kubeconfig.
PRINT_ROOT_CA = f"kubectl -n {ROOT_CA[0]} get configmap {ROOT_CA[1]} -o 'jsonpath={{.data.ca\\.crt}}'"
#: The ConfigMap with the CAs of client certificates, for aggregated API servers.
CLIENT_CAS = ("kube-system", "extension-apiserver-authentication")
#: The annotation with NAMESPACE/NAME of a Certificate (https://cert-manager.io/docs/concepts/ca-injector/).
INJECTS_FROM = "cert-manager.io/inject-ca-from"
#: Source -> the permissions to read it. A resource that begins with "/" is a path of the API server.
PERMISSIONS: Mapping[str, tuple[Permission, ...]] = {
    CONFIGURATIONS: tuple(KINDS[kind].permission("list") for kind in ADMISSION_KINDS),
    DEFINITIONS: (Permission("list", "apiextensions.k8s.io", "customresourcedefinitions"),),
    API_SERVICES: (Permission("list", "apiregistration.k8s.io", "apiservices"),),
    NAMESPACES: (Permission("list", "", "namespaces"),),
    SERVICES: (
        Permission("get", "", "services"),
        Permission("list", "discovery.k8s.io", "endpointslices"),
    ),
    PORT_FORWARD: tuple(port_forward.permissions("")),
    PODS: (Permission("list", "", "pods"),),
    NODES: (Permission("list", "", "nodes"),),
    REQUESTS: (Permission("list", "certificates.k8s.io", "certificatesigningrequests"),),
    POD_CERTIFICATES: (Permission("list", "certificates.k8s.io", "podcertificaterequests"),),
    EVENTS: (Permission("list", "", "events"),),
    METRICS: (Permission("get", "", "/metrics"),),
    IDENTITY: (Permission("get", "", "namespaces", name="kube-system"),),
    CERTIFICATES: (Permission("get", "cert-manager.io", "certificates"),),
    CLUSTER_CA: tuple(Permission(verb, "", "configmaps", name=ROOT_CA[1]) for verb in ("get", "list")),
    CLIENT_CA: (Permission("get", "", "configmaps", name=CLIENT_CAS[1]),),
    CONDITIONS: (),
    VERSIONS: (),
    ENDPOINTS: (),
    COMPARISONS: (),
    UNREAD_CERTIFICATE: (),
    HANDSHAKES: (),
    API_SERVER: (),
    SNAPSHOT: (
        Permission("get", "apiextensions.k8s.io", "customresourcedefinitions"),
        *(
            Permission("list", "apps", kind)
            for kind in ("deployments", "statefulsets", "daemonsets", "replicasets")
        ),
        *(
            Permission("get", "rbac.authorization.k8s.io", kind)
            for kind in ("clusterroles", "clusterrolebindings")
        ),
        Permission("list", "snapshot.storage.k8s.io", "*"),
        Permission("list", "groupsnapshot.storage.k8s.io", "*"),
    ),
}
#: An audit without one of these sources has not seen everything that calls webhooks.
ESSENTIAL = (CONFIGURATIONS, DEFINITIONS, API_SERVICES, SERVICES, COMPARISONS)
#: The sources that a site may declare as not permitted.
DECLARABLE = tuple(
    source for source, needed in PERMISSIONS.items() if needed and source not in (*ESSENTIAL, SNAPSHOT)
)
_HOOKS = tuple(map(every, ADMISSION_KINDS))
_DEFINITIONS = every("CustomResourceDefinition")
#: What has to trust the CAs of the cluster.
_TRUSTING = (*_HOOKS, _DEFINITIONS, every("APIService"), every("Kubeconfig"))
_SERVING = ("APIServer kube-apiserver", f"ConfigMap {'/'.join(ROOT_CA)}", *_TRUSTING)
#: Source -> the objects without an answer if nothing of it was read. Of other sources it is every webhook configuration.
_OBJECTS: Mapping[str, tuple[str, ...]] = {
    DEFINITIONS: (_DEFINITIONS,),
    API_SERVICES: (every("APIService"),),
    REQUESTS: (every("CertificateSigningRequest"), *_TRUSTING),
    POD_CERTIFICATES: (every("PodCertificateRequest"),),
    METRICS: (*_HOOKS, _DEFINITIONS),
    IDENTITY: ("Namespace kube-system",),
    CLUSTER_CA: _SERVING,
    API_SERVER: _SERVING,
    CLIENT_CA: (f"ConfigMap {'/'.join(CLIENT_CAS)}",),
    SNAPSHOT: ("SnapshotController external-snapshotter",),
}


@dataclass(frozen=True)
class AuditOptions:
    """Options for the extent of an audit."""

    #: Connect to URLs and to Services of type ExternalName.
    probe_urls: bool = False
    #: The number of endpoints of one Service that are read.
    endpoints_per_service: int = 10
    #: The counters of an earlier audit, in which a counter that is missing was 0. None without an earlier audit.
    previous_counters: Mapping[str, float] | None = None
    #: The release whose hazards are found if a snapshot controller is installed, None for no release.
    snapshot_release: Release | None = None
    #: The sources that the site does not permit. They are not read.
    without: tuple[str, ...] = ()
    #: What Amazon EKS says about the CAs of the cluster.
    eks_cas: tuple[EksCa, ...] = ()
    #: The successor of the cluster's CA as PEM text, if the cluster does not publish it before it signs.
    ca_successor: str = ""
    #: Fingerprints of the CAs that the user no longer trusts.
    ca_outgoing: frozenset[str] = frozenset()
    #: Also read the certificates of endpoints that are not ready or that terminate.
    unready: bool = False
    #: A fault of a CA rotation that takes effect within this time is an error.
    ca_break_within: timedelta = timedelta(days=30)


@dataclass(frozen=True)
class CaData:
    """The CAs of the cluster, and what a rotation affects. The latter is read only if the CAs were ever changed."""

    cas: ClusterCas
    #: When the published CAs changed last, None if that is not known.
    since: datetime | None = None
    #: The CAs of client certificates, as PEM text. "" if they were not read.
    client_ca: str = ""
    #: Kind, namespace and name of a workload -> the number of its pods that are older than the youngest CA. None if not read.
    old_pods: Mapping[tuple[str, str, str], int] | None = None
    #: The same of pods that are younger, and that may have started before the cluster published it.
    early_pods: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    #: The nodes that may be older than its publication, None if they were not read.
    old_nodes: tuple[str, ...] | None = None
    #: The youngest CA as Amazon EKS describes it, None if that is not known.
    eks: EksCa | None = None


@dataclass(frozen=True)
class Gap:
    """Something that the audit could not read."""

    #: A key of PERMISSIONS.
    source: str
    #: A clause.
    reason: str
    #: True if a missing permission is the reason, False for an error of the cluster and for a limit of the audit.
    lacks_permission: bool = False
    #: The key of the only Service or address that it is about, or namespace and name of a Service or Certificate. () for others.
    backend: tuple[Any, ...] = ()
    #: The names of the only objects that it is about. () for others.
    objects: tuple[str, ...] = ()
    #: The ids of the only checks without an answer. () for those that need the source.
    checks: tuple[str, ...] = ()


@dataclass(frozen=True)
class CallPoint:
    """One place in which an object tells the API server what to call."""

    object: AuditedObject
    config: ClientConfig
    #: ADMISSION, CONVERSION or AGGREGATION.
    caller: str
    #: The webhook of a configuration, {} for other objects.
    webhook: Object = field(default_factory=dict)
    is_mutating: bool = False
    #: False if the API server does not verify the certificate.
    is_verified: bool = True
    #: The field managers that own a caBundle of the object.
    bundle_writers: tuple[str, ...] = ()
    #: The time of the last change of the object, None if that is not known.
    written_at: datetime | None = None
    #: Namespace and name of the Certificate of cert-manager whose CA is injected, None without the annotation.
    certificate: tuple[str, str] | None = None

    @property
    def backend(self) -> Address:
        """Return the key of what it calls."""
        return self.config.address

    @property
    def is_strict(self) -> bool:
        """Return True if a call that fails makes the request fail."""
        return str(self.webhook.get("failurePolicy", "Fail")) == "Fail"


@dataclass(frozen=True)
class Backend:
    """The Service or the address that a CallPoint calls."""

    exists: bool = True
    #: False without a TCP port of the number.
    has_port: bool = True
    #: True for clusterIP None.
    is_headless: bool = False
    #: True for a URL and for a Service of type ExternalName.
    is_external: bool = False
    #: The selector of the Service.
    selector: Mapping[str, str] = field(default_factory=dict)
    ready: int = 0
    chains: tuple[ServedChain, ...] = ()
    #: The number of endpoints that are not ready or that terminate, and the chains of those that were read.
    unready: int = 0
    unready_chains: tuple[ServedChain, ...] = ()
    #: True if no endpoint is ready, and one terminates and still answers. It gets calls, but not with --enable-aggregator-routing.
    is_ending: bool = False
    #: False if the Service or its endpoints could not be read.
    is_known: bool = True

    @property
    def is_reachable(self) -> bool:
        """Return True if at least one endpoint can get calls."""
        return (self.is_external or self.ready > 0 or self.is_ending) and (
            self.is_known and self.exists and self.has_port
        )


@dataclass(frozen=True)
class Login:
    """The credentials that this run uses."""

    #: In words, such as "client certificate".
    kind: str
    not_before: datetime | None = None
    #: None if they do not expire, or are renewed by themselves.
    not_after: datetime | None = None
    #: Why it cannot expire, "" otherwise.
    reason: str = ""


@dataclass(frozen=True)
class ApiServiceState:
    """The condition Available of an aggregated API."""

    object: AuditedObject
    is_available: bool
    #: Reason and message of the condition.
    words: str = ""
    since: datetime | None = None


@dataclass(frozen=True)
class DefinitionState:
    """A CustomResourceDefinition without its schemas."""

    object: AuditedObject
    group: str
    #: The plural name of the resource.
    resource: str
    #: The versions that the API server serves.
    served: tuple[str, ...]
    #: status.storedVersions.
    stored: tuple[str, ...] = ()
    has_webhook: bool = False
    #: All versions, also those that are not served.
    versions: tuple[str, ...] = ()
    #: Type of a condition -> (status, reason and message).
    conditions: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    created: datetime | None = None
    #: Since when it is being deleted, None if it is not.
    deleted: datetime | None = None

    @property
    def used(self) -> frozenset[str]:
        """Return the versions between which objects may be converted."""
        return frozenset((*self.served, *self.stored) if self.stored else self.versions)


@dataclass(frozen=True)
class IssuedCertificate:
    """The newest certificate of a Certificate of cert-manager, by its specification and its status."""

    not_before: datetime
    dns_names: tuple[str, ...] = ()
    not_after: datetime | None = None
    #: When cert-manager renews it, None if that is not known.
    renewal: datetime | None = None
    is_ready: bool = True


@dataclass(frozen=True)
class StuckRequest:
    """A CSR or a PodCertificateRequest that is not issued."""

    object: AuditedObject
    diagnosis: Diagnosis
    #: Since its creation or approval.
    since: datetime


@dataclass(frozen=True)
class FailedCall:
    """An Event that tells of a failed call."""

    webhook: str
    #: The object that the Event is about.
    regarding: str
    message: str
    seen: datetime


@dataclass(frozen=True)
class ClusterData:
    """Everything that the audit read."""

    #: The time of the API server.
    now: datetime
    cluster_uid: str = ""
    version: str = ""
    points: tuple[CallPoint, ...] = ()
    backends: Mapping[Address, Backend] = field(default_factory=dict)
    #: Namespace -> labels, None if they could not be read.
    namespaces: Mapping[str, Mapping[str, str]] | None = None
    #: What the API server serves, None if it was not read.
    served: ServedResources | None = None
    #: (namespace, Service) -> the labels of its pods. A Service without an entry was not read.
    pods: Mapping[tuple[str, str], tuple[Labels, ...]] = field(default_factory=dict)
    #: PODS and NODES -> the labels of the pods of kube-system and of the nodes. What was not read has no entry.
    object_labels: Mapping[str, tuple[Labels, ...]] = field(default_factory=dict)
    #: PODS, NODES, and (namespace, Service) whose pods are too many, so that only the labels of the first ones were read.
    truncated: frozenset[Any] = frozenset()
    api_services: tuple[ApiServiceState, ...] = ()
    definitions: tuple[DefinitionState, ...] = ()
    #: Namespace and name -> a Certificate of cert-manager.
    certificates: Mapping[tuple[str, str], IssuedCertificate] = field(default_factory=dict)
    requests: tuple[StuckRequest, ...] = ()
    #: The number of CSRs that were read, None if they could not be read.
    request_count: int | None = None
    failed_calls: tuple[FailedCall, ...] = ()
    #: Counter -> value, at the begin and at the end of the audit. None if they could not be read.
    counters_before: Mapping[str, float] | None = None
    counters_after: Mapping[str, float] | None = None
    #: The same of an earlier audit, None without one.
    counters_previous: Mapping[str, float] | None = None
    #: Webhook -> the number of calls that it answered during the audit, by the counters of one API server.
    answered: Mapping[str, float] = field(default_factory=dict)
    #: What the metrics show of webhooks that the API server reads from files, None if they could not be read.
    file_webhooks: tuple[str, ...] | None = None
    #: The chain that the API server serves as PEM text, leaf first, "" without TLS.
    api_server: str = ""
    #: The CAs of the API server that the cluster publishes as PEM text, "" if they could not be read.
    cluster_ca: str = ""
    #: The time of their last change, None if they never changed or if the time is not known.
    cluster_ca_since: datetime | None = None
    #: The CAs of the kubeconfig as PEM text, "" without one.
    kubeconfig_ca: str = ""
    #: CSR -> its certificate as PEM text. The newest ones only.
    issued: Mapping[str, str] = field(default_factory=dict)
    #: None if no published CA is known to be in use.
    ca: CaData | None = None
    #: Fingerprints of the CAs that the user no longer trusts.
    ca_outgoing: frozenset[str] = frozenset()
    #: The options of the audit about a rotation of the CA.
    ca_break_within: timedelta = timedelta(days=30)
    #: When the API server started whose counters were read, None if it is not known.
    api_server_start: datetime | None = None
    login: Login = Login("none")
    #: None if no release is wanted, or no snapshot controller is installed.
    snapshot_hazards: tuple[DetectedHazard, ...] | None = None
    gaps: tuple[Gap, ...] = ()
    #: The sources that the site does not permit.
    without: tuple[str, ...] = ()
    #: The missing permissions of all checks, if one of them was missing.
    lacking: tuple[Permission, ...] = ()
    #: The number of endpoints that the limit left out.
    endpoints_left_out: int = 0
    #: The earlier time of the API server's clock and of this machine's, None if it is ``now``.
    earlier: datetime | None = None
    #: The numbers of requests, of received bytes and of TLS handshakes with endpoints.
    traffic: Mapping[str, int] = field(default_factory=dict)
    #: Returns True when the time for comparisons is over.
    is_over: Callable[[], bool] = field(default=lambda: False, compare=False)

    @property
    def rotation(self) -> CaData | None:
        """Return the CAs if there is more than one, None otherwise."""
        return self.ca if self.ca and self.ca.cas.is_rotating else None

    @functools.cached_property
    def shared_webhooks(self) -> frozenset[str]:
        """Return the names that several webhooks have. The API server counts their calls together."""
        counts = Counter(point.config.webhook for point in self.points)
        return frozenset(name for name, number in counts.items() if number > 1)

    @functools.cached_property
    def definition_named(self) -> dict[str, DefinitionState]:
        """Return each CustomResourceDefinition by its name."""
        return {state.object.name: state for state in self.definitions}

    @functools.cached_property
    def versions(self) -> Versions | None:
        """Return the versions of each CustomResourceDefinition, None if they could not be read."""
        if any(gap.source == DEFINITIONS for gap in self.gaps):
            return None
        return {(state.group, state.resource): state.versions for state in self.definitions}

    @functools.cached_property
    def api_service_named(self) -> dict[str, ApiServiceState]:
        """Return each aggregated API by its name."""
        return {state.object.name: state for state in self.api_services}

    @functools.cached_property
    def _points_named(self) -> dict[str, list[CallPoint]]:
        named: dict[str, list[CallPoint]] = {}
        for point in self.points:
            named.setdefault(str(point.object), []).append(point)
        return named

    def points_about(self, finding: AuditFinding) -> list[CallPoint]:
        """Return the call points that a finding is about, by its object or among several objects."""
        names = dict.fromkeys((str(finding.object), *finding.objects))
        return [point for name in names for point in self._points_named.get(name, ())]

    @functools.cached_property
    def published(self) -> tuple[ClusterCa, ...]:
        """Return the CAs that the cluster publishes."""
        return published_cas(self.cluster_ca)

    def names_of(self, gap: Gap) -> tuple[str, ...]:
        """Return the names of the objects without an answer because of a gap."""
        called = self._callers.get((gap.source == CERTIFICATES, gap.backend), ())
        return gap.objects or tuple(called) or _OBJECTS.get(gap.source, _HOOKS)

    @functools.cached_property
    def _callers(self) -> dict[tuple[bool, tuple[Any, ...]], dict[str, None]]:
        """Return the objects that name each Certificate (True), and that call each Service or address (False)."""
        found: dict[tuple[bool, tuple[Any, ...]], dict[str, None]] = {}
        for point in self.points:
            for key in ((True, point.certificate), (False, point.backend), (False, point.backend[:2])):
                if key[1]:
                    found.setdefault((key[0], key[1]), {})[str(point.object)] = None
        return found
