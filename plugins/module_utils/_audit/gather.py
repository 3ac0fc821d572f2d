# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Read what an audit needs of a cluster. It writes nothing.

A source that cannot be read is a gap in the data, and never an error. Only a cluster that does not answer to the first request is
an error.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from .._base.errors import MalformedObject, check_shape
from .._csr.request.csr_content import COLLECTION, newest_issued
from .._diagnosis import observation, pod_certificates
from .._diagnosis.causes import diagnose
from .._diagnosis.cluster_evidence import ClusterEvidence
from .._diagnosis.observation import APPROVED, FAILED, PENDING, Diagnosis, symptom_of
from .._kube import access_review
from .._kube import client as kube_client
from .._kube.access_review import Permission
from .._kube.client import METADATA, Client
from .._kube.cluster_facts import read_cluster_uid
from .._kube.errors import Forbidden, KubeError
from .._snapshot.context.hop_context import UpgradeOptions
from .._snapshot.hazards.table import DetectedHazard
from .._snapshot.installed import fetch_objects, parse_objects
from .._snapshot.plan import planner
from .._snapshot.release import crd_sets, release_table
from .._webhook.bundles.bundle_targets import ADMISSION_KINDS, KINDS, Address
from .._webhook.calls.admission_match import ServedResources
from .._webhook.calls.call_failures import ADMISSION
from .._webhook.endpoints import served_chains
from .._x509 import certificate_facts
from .._x509.errors import CertificateError
from . import gather_rotation, object_parsing
from .backends import ChainReader, ServiceReader
from .checks import call_checks, control_plane_requests
from .checks.admission_checks import SLOW_SECONDS, seconds_of
from .checks.control_plane_requests import KUBE_SYSTEM, LABELS_LIMIT, RESTORING, find_unasked, may_match
from .facts.cluster_data import (
    API_SERVER,
    API_SERVICES,
    CERTIFICATES,
    CLUSTER_CA,
    CONFIGURATIONS,
    DEFINITIONS,
    EVENTS,
    IDENTITY,
    METRICS,
    NAMESPACES,
    NODES,
    PERMISSIONS,
    POD_CERTIFICATES,
    PODS,
    REQUESTS,
    ROOT_CA,
    SNAPSHOT,
    ApiServiceState,
    AuditOptions,
    Backend,
    CallPoint,
    ClusterData,
    DefinitionState,
    FailedCall,
    Gap,
    IssuedCertificate,
    Labels,
    Object,
    StuckRequest,
)
from .facts.finding import AuditedObject, annotated_checks, every
from .guarded_reads import GuardedReads, reason_of
from .object_parsing import API_SERVICE, DEFINITION, login_of, manager_of, points_of

# A page of CustomResourceDefinitions. One of them may have a megabyte.
DEFINITIONS_PAGE = "50"
#: The share of the time after which no further endpoint is read, so that the result is complete in time.
READING_SHARE = 0.8
#: The seconds for comparisons after the time of the audit.
COMPARING_SECONDS = 3.0
PENDING_AFTER = timedelta(hours=1)
#: kube-controller-manager deletes PodCertificateRequests after 15 minutes, and a signer answers within seconds.
POD_PENDING_AFTER = timedelta(minutes=2)
EVENTS_AFTER = timedelta(hours=1)
UNREADABLE_HAZARD = "unreadable"


def gather(client: Client, options: AuditOptions) -> ClusterData:
    """Read the cluster until the deadline of the client.

    Raises KubeError if the cluster does not answer to the first requests, or if another program answers.
    """
    return _Gatherer(client, options).run()


class _Gatherer:
    def __init__(self, client: Client, options: AuditOptions) -> None:
        self._client = client
        self._options = options
        self._reads = GuardedReads(client, options.without)
        now = time.monotonic()
        until = now + (client.deadline - now) * READING_SHARE
        self._truncated: set[Any] = set()
        self._file_webhooks: tuple[str, ...] | None = None
        self._api_server_start: datetime | None = None
        self._counters_before: Mapping[str, float] | None = None
        #: The answered calls of webhooks, at each read of the counters.
        self._answers: list[Mapping[str, float]] = []
        self._services = ServiceReader(client, self._reads, options.unready)
        self._chains = ChainReader(client, self._reads, options, until)

    def run(self) -> ClusterData:
        client, reads = self._client, self._reads
        uid, version = self._identity()
        counters = self._counters()
        data = self._objects(
            ClusterData(
                client.now(),
                uid,
                version,
                login=login_of(client.connection),
                earlier=client.earlier(),
                is_over=reads.is_over,
            )
        )
        found = self._services.backends(data.points)
        plain = {key: backend for key, (backend, _endpoints) in found.items()}
        data = replace(
            data,
            namespaces=reads.read(NAMESPACES, self._namespaces, None),
            pods=self._pods(data.points, plain),
            object_labels=dict(self._object_labels(data.points)),
            certificates=self._certificates(data.points),
            failed_calls=tuple(reads.collect(EVENTS, self._failed_calls)),
            kubeconfig_ca=client.connection.ca_pem or "",
            ca_break_within=self._options.ca_break_within,
            ca_outgoing=self._options.ca_outgoing,
            api_server=self._api_server(),
        )
        data = reads.read(CLUSTER_CA, lambda: self._with_cluster_ca(data), data)
        data = reads.read(REQUESTS, lambda: self._with_requests(data), data)
        of_pods = reads.collect(POD_CERTIFICATES, self._pod_requests)
        data = replace(data, requests=(*data.requests, *of_pods))
        data = replace(data, backends=self._chains.with_chains(data.points, found))
        if call_checks.has_broken_webhook(data):  # a webhook that is never called does no harm
            data = replace(data, served=self._served(data))
        data = replace(data, ca=gather_rotation.read(client, reads, self._options, data))
        previous = self._options.previous_counters
        data = replace(
            data,
            counters_after=None if counters is None else self._counters(),  # sets the next one
            counters_before=self._counters_before,
            counters_previous=previous,
            file_webhooks=self._file_webhooks,
            api_server_start=self._api_server_start,
            answered=object_parsing.growth(self._answers),
            truncated=frozenset(self._truncated),
            snapshot_hazards=reads.read(SNAPSHOT, self._snapshot_hazards, None),
            endpoints_left_out=self._chains.left_out,
        )
        return replace(
            data,
            lacking=self._lacking(),
            gaps=tuple(reads.gaps),
            without=self._options.without,
            traffic={
                "requests": client.requests,
                "bytes_received": client.received,
                "handshakes": self._chains.handshakes,
            },
            is_over=functools.partial(reads.is_over, COMPARING_SECONDS),
        )

    def _lacking(self) -> tuple[Permission, ...]:
        """Return the missing permissions of all checks, because a read that failed hides the reads after it."""
        if not any(gap.lacks_permission for gap in self._reads.gaps):
            return ()
        unwanted = (*self._options.without, *(() if self._options.snapshot_release else (SNAPSHOT,)))
        needed = [entry for source in PERMISSIONS if source not in unwanted for entry in PERMISSIONS[source]]
        try:
            return tuple(access_review.find_missing(self._client, needed))
        except KubeError:
            return tuple(dict.fromkeys(needed))

    def _identity(self) -> tuple[str, str]:
        """Return the UID of the cluster, "" if it may not be read, and its version."""
        try:
            uid = read_cluster_uid(self._client)
        except Forbidden as error:
            uid = ""
            self._reads.note(Gap(IDENTITY, reason_of(error), lacks_permission=True))
        return uid, str(self._client.get("/version").get("gitVersion", ""))

    # Endpoints that the API server calls

    def _objects(self, data: ClusterData) -> ClusterData:
        """Add the call points, and the states of CustomResourceDefinitions and of aggregated APIs."""
        points: list[CallPoint] = []
        for kind in ADMISSION_KINDS:
            read = functools.partial(self._points_of, kind)
            points += self._reads.collect(CONFIGURATIONS, read, objects=(every(kind),))
        definitions = self._reads.collect(DEFINITIONS, self._definitions)
        services = self._reads.collect(API_SERVICES, self._api_services)
        points += [point for _state, called in (*definitions, *services) for point in called]
        return replace(
            data,
            points=tuple(points),
            definitions=tuple(state for state, _called in definitions),
            api_services=tuple(state for state, _called in services),
        )

    def _points_of(self, kind: str) -> Iterator[CallPoint]:
        for obj in self._list(kind):
            yield from points_of(kind, obj)

    def _list(self, kind: str) -> list[dict[str, Any]]:
        return [*self._client.list_all(KINDS[kind].path)["items"]]

    def _definitions(self) -> Iterator[tuple[DefinitionState, tuple[CallPoint, ...]]]:
        """Yield what the checks need of each CustomResourceDefinition. All of them at once, with their schemas, could exceed the memory."""
        for page in self._client.pages(KINDS[DEFINITION].path, {"limit": DEFINITIONS_PAGE}):
            for definition in page.get("items") or ():
                state = object_parsing.definition_state(definition)
                yield state, tuple(points_of(DEFINITION, definition)) if state.has_webhook else ()

    def _api_services(self) -> Iterator[tuple[ApiServiceState, tuple[CallPoint, ...]]]:
        for obj in self._list(API_SERVICE):
            with check_shape("an APIService"):
                is_local = not obj["spec"].get("service")
            if not is_local:
                yield object_parsing.api_service_state(obj), tuple(points_of(API_SERVICE, obj))

    def _certificates(self, points: Iterable[CallPoint]) -> dict[tuple[str, str], IssuedCertificate]:
        """Return the Certificates of cert-manager that objects name, and that exist."""
        names = dict.fromkeys(point.certificate for point in points if point.certificate)
        found = {
            name: self._reads.read(CERTIFICATES, functools.partial(self._issued, *name), None, backend=name)
            for name in names
        }
        return {name: issued for name, issued in found.items() if issued}

    def _issued(self, namespace: str, name: str) -> IssuedCertificate | None:
        if "/" in name:  # a name with a slash would lead to another path
            return None
        certificate = self._client.find(
            f"/apis/cert-manager.io/v1/namespaces/{namespace}/certificates/{name}"
        )
        return object_parsing.issued_certificate(certificate) if certificate else None

    # Objects that webhooks match

    def _served(self, data: ClusterData) -> ServedResources | None:
        """Return what the API server serves. Without it, each webhook counts as called."""
        try:
            documents = [self._client.get(path, None, kube_client.DISCOVERY) for path in ("/api", "/apis")]
            groups = {state.object.name.partition(".")[2] for state in data.api_services}
            return object_parsing.served_resources(documents, find_unasked(data.version), groups)
        except (KubeError, MalformedObject):
            return None

    @check_shape("a Namespace")
    def _namespaces(self) -> dict[str, Mapping[str, str]]:
        items = self._client.list_all("/api/v1/namespaces")["items"]
        return {item["metadata"]["name"]: item["metadata"].get("labels") or {} for item in items}

    def _pods(
        self, points: Sequence[CallPoint], backends: Mapping[Address, Backend]
    ) -> dict[tuple[str, str], tuple[Labels, ...]]:
        """Return the labels of the pods of each strict webhook, if a strict webhook may guard pods at all."""
        strict = [point for point in points if point.caller == ADMISSION and point.is_strict]
        found: dict[tuple[str, str], tuple[Labels, ...]] = {}
        if not any(may_match(point, row) for point in strict for row in RESTORING):
            return found
        selectors = {
            point.config.service: backends[point.backend].selector for point in strict if point.config.service
        }
        for service, selector in selectors.items():
            query = {"labelSelector": ",".join(f"{key}={value}" for key, value in selector.items())}
            read = functools.partial(self._labels, service, f"/api/v1/namespaces/{service[0]}/pods", query)
            labels = self._reads.read(PODS, read, None, backend=service) if selector else None
            if labels is not None:
                found[service] = labels
        return found

    def _object_labels(self, points: Iterable[CallPoint]) -> Iterator[tuple[str, tuple[Labels, ...]]]:
        """Yield the labels of objects of the control plane, if an objectSelector may select them."""
        hooks = [point for point in points if point.caller == ADMISSION]
        selecting = [
            point
            for point in hooks
            if point.webhook.get("objectSelector")
            if point.is_strict or seconds_of(point) > SLOW_SECONDS
        ]
        for source, path in ((PODS, f"/api/v1/namespaces/{KUBE_SYSTEM}/pods"), (NODES, "/api/v1/nodes")):
            rows = [row for row in control_plane_requests.REQUESTS if row.labelled == source]
            needing = [point for point in selecting if any(may_match(point, row) for row in rows)]
            objects = tuple(str(point.object) for point in needing)
            read = functools.partial(self._labels, source, path)
            labels = self._reads.read(source, read, None, objects=objects) if objects else None
            if labels:
                yield source, labels

    def _labels(self, key: object, path: str, query: Mapping[str, str] | None = None) -> tuple[Labels, ...]:
        """Return the distinct labels of the first objects of a list. Keep its key if there are others."""
        with check_shape("metadata"):
            answer = self._client.get(path, {"limit": str(LABELS_LIMIT), **(query or {})}, METADATA)
            items = answer["items"] or ()
            if (answer.get("metadata") or {}).get("continue"):
                self._truncated.add(key)
            texts = {json.dumps(item["metadata"].get("labels") or {}, sort_keys=True) for item in items}
        return tuple(json.loads(text) for text in sorted(texts))

    # The cluster

    def _counters(self) -> dict[str, float] | None:
        return self._reads.read(METRICS, self._read_counters, None)

    def _read_counters(self) -> dict[str, float] | None:
        text = self._client.text("/metrics", beginnings=object_parsing.FAMILIES)
        counters, start = object_parsing.read_counters(text), object_parsing.read_start(text)
        self._file_webhooks = object_parsing.find_file_webhooks(text)
        # The counters of two API servers show no growth.
        if not self._answers or start != self._api_server_start:
            self._answers = []
            self._counters_before = counters
            self._api_server_start = start
        self._answers.append(object_parsing.read_answers(text))
        return counters

    def _failed_calls(self) -> Iterator[FailedCall]:
        pages = self._client.pages("/api/v1/events", {"fieldSelector": object_parsing.SELECTOR})
        items = (event for page in pages for event in page.get("items") or ())
        with check_shape("an Event"):
            yield from object_parsing.find_failed_calls(items, self._client.now() - EVENTS_AFTER)

    def _with_requests(self, data: ClusterData) -> ClusterData:
        pages = self._reads.collect(REQUESTS, lambda: self._client.kept_pages(COLLECTION))
        if not pages:
            return data
        csrs = [csr for page in pages for csr in page.get("items") or ()]
        with check_shape("a CertificateSigningRequest"):
            evidence = ClusterEvidence(self._client, None, csrs)
            stuck = [_stuck(csr, evidence, self._client.now()) for csr in csrs]
            issued = newest_issued(csrs)
        return replace(data, requests=tuple(filter(None, stuck)), request_count=len(csrs), issued=issued)

    def _pod_requests(self) -> Iterator[StuckRequest]:
        """Yield the PodCertificateRequests that are denied or failed, or wait longer than a signer takes."""
        version, requests = pod_certificates.read(self._client)
        for obj, diagnosis in requests:
            with check_shape("a PodCertificateRequest"):
                since, state = observation.approved_at(obj), pod_certificates.state_of(obj)
                name, namespace, uid = (
                    str(obj["metadata"].get(key, "")) for key in ("name", "namespace", "uid")
                )
            waits = state == pod_certificates.PENDING and self._client.now() - since < POD_PENDING_AFTER
            if diagnosis and state != pod_certificates.ISSUED and not waits:
                subject = AuditedObject("PodCertificateRequest", name, version, namespace, uid)
                yield StuckRequest(subject, diagnosis, since)

    def _with_cluster_ca(self, data: ClusterData) -> ClusterData:
        namespace, name = ROOT_CA
        found = self._client.find(f"/api/v1/namespaces/{namespace}/configmaps/{name}")
        with check_shape(f"the ConfigMap {name}"):
            text = str(((found or {}).get("data") or {}).get("ca.crt") or "")
            since = gather_rotation.changed_at(found) if found else None
            return replace(data, cluster_ca=text, cluster_ca_since=since)

    def _snapshot_hazards(self) -> tuple[DetectedHazard, ...] | None:
        release = self._options.snapshot_release
        if release is None:
            return None
        needs_rules = crd_sets.row(release.crds, release_table.SNAPSHOT).rules
        objects = fetch_objects.observe(self._client, needs_rules=needs_rules)
        installed = parse_objects.installed(objects, release)
        if installed.is_empty and not installed.unreadable:
            return None
        plan = planner.plan(installed, release, UpgradeOptions())
        for found in plan.hazards:
            if found.hazard.id == UNREADABLE_HAZARD:
                self._reads.note(Gap(SNAPSHOT, "; ".join(found.finding.evidence), lacks_permission=True))
        return tuple(found for found in plan.hazards if found.hazard.id != UNREADABLE_HAZARD)

    def _api_server(self) -> str:
        """Return the chain that the API server serves on a new connection as PEM text, "" without TLS."""
        try:
            pem = served_chains.api_server_chain(self._client)
            certificate_facts.load(pem)
            return pem
        except (KubeError, CertificateError) as error:
            self._reads.note(Gap(API_SERVER, reason_of(error)))
        except OSError as error:
            self._reads.note(Gap(API_SERVER, str(error.strerror or error)))
        return ""


def _stuck(csr: Object, evidence: ClusterEvidence, now: datetime) -> StuckRequest | None:
    """Return the CSR if it waits too long, or if its diagnosis says that a longer wait is useless."""
    symptom = symptom_of(csr)
    if symptom not in (APPROVED, PENDING, FAILED):
        return None
    since = observation.approved_at(csr)
    if symptom == PENDING and now - since < PENDING_AFTER:
        return None
    # The permissions of this identity do not matter. It audits, and does not approve.
    diagnosis: Diagnosis | None = diagnose(replace(evidence.observe(csr), lacking=None))
    if diagnosis is None or (now - since < observation.STUCK_AFTER and not diagnosis.is_settled):
        return None
    metadata = csr["metadata"]
    subject = AuditedObject(
        "CertificateSigningRequest",
        str(metadata["name"]),
        "certificates.k8s.io/v1",
        uid=str(metadata.get("uid", "")),
        manager=manager_of(metadata),
        excepted_checks=annotated_checks(metadata),
    )
    return StuckRequest(subject, diagnosis, since)
