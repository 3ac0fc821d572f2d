# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Read what an audit needs of a cluster. It writes nothing.

A permission that is missing is a gap in the data, and never an error.
"""

from __future__ import annotations

import base64
import contextlib
import json
import ssl
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from .. import _managers
from .._csr.csr_content import COLLECTION
from .._diagnosis import signer_stats
from .._diagnosis.causes import diagnose
from .._diagnosis.cluster_evidence import ClusterEvidence
from .._diagnosis.diagnosis import Diagnosis
from .._diagnosis.observation import APPROVED, PENDING, symptom_of
from .._errors import check_shape
from .._kube.cluster_facts import read_cluster_uid
from .._kube.errors import Forbidden, KubeError, ListExpired, NotFound
from .._kube.transport import ReadLimits
from .._managers import OWN_MANAGER
from .._snapshot.hazards import table
from .._snapshot.hazards.table import DetectedHazard
from .._snapshot.installed import object_reading, read_objects
from .._snapshot.plan import planner
from .._snapshot.plan.upgrade_context import UpgradeOptions
from .._snapshot.release import crd_sets, release_table
from .._snapshot.release.release_table import Release
from .._times import find_time
from .._webhook import served_chains, webhook_endpoints
from .._webhook.bundle_targets import KINDS, ClientConfig, Target, client_configs
from .._webhook.served_chains import ServedChain
from .._webhook.webhook_endpoints import Endpoint
from .._x509 import certificate_facts
from .._x509.certificate_facts import CertificateFacts
from .._x509.errors import CertificateError
from . import failure_signs
from .admission_checks import names_pods
from .cluster_data import (
    ADMISSION,
    AGGREGATION,
    API_SERVICES,
    CONDITIONS,
    CONFIGURATIONS,
    CONVERSION,
    DEFINITIONS,
    ENDPOINTS,
    EVENTS,
    METRICS,
    NAMESPACES,
    PODS,
    PORT_FORWARD,
    REQUESTS,
    SERVICES,
    SNAPSHOT,
    ApiServiceState,
    Backend,
    BackendKey,
    CallPoint,
    ClusterData,
    FailedCall,
    Gap,
    Login,
    Object,
    SnapshotHazard,
    StuckRequest,
)
from .exceptions import annotated_checks
from .finding import UNMANAGED, AuditedObject

if TYPE_CHECKING:
    from types import TracebackType

    from .._kube.client import Client
    from .._kube.connection import Connection

# A page of CustomResourceDefinitions. One of them may have a megabyte.
DEFINITIONS_PAGE = "50"
#: The share of the time after which no further endpoint is read, so that the result is complete in time.
READING_SHARE = 0.8
API_SERVER_SECONDS = 10.0
API_SERVER_BYTES = 256 * 1024
PENDING_AFTER = timedelta(hours=1)
EVENTS_AFTER = timedelta(hours=1)
EVENTS_LIMIT = "500"
# The annotation holds the whole object, with its schema.
_DROPPED_ANNOTATIONS = (_managers.LAST_APPLIED,)
UNREADABLE_HAZARD = "unreadable"
_EXTERNAL_NAME = "ExternalName"
_MUTATING = "MutatingWebhookConfiguration"
_VALIDATING = "ValidatingWebhookConfiguration"


@dataclass(frozen=True)
class AuditOptions:
    """Options for the extent of an audit."""

    #: Read the certificates of pods through the API server.
    probe_endpoints: bool = True
    #: Connect to URLs and to Services of type ExternalName.
    probe_urls: bool = False
    #: The number of endpoints of one Service that are read.
    endpoints_per_service: int = 10
    #: The counters of an earlier audit, in which a counter that is missing was 0. None without an earlier audit.
    previous_counters: Mapping[str, float] | None = None
    #: The release whose hazards are found if a snapshot controller is installed, None for no release.
    snapshot_release: Release | None = None


def gather(client: Client, options: AuditOptions) -> ClusterData:
    """Read the cluster until the deadline of the client. Raises KubeError, MalformedObject."""
    return _Gatherer(client, options).run()


class _Readable:
    """A block that reads one source. A missing permission ends the block, and is a gap."""

    def __init__(self, gatherer: _Gatherer, source: str) -> None:
        self._gatherer = gatherer
        self._source = source

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> bool:
        if isinstance(error, Forbidden):
            self._gatherer.note(Gap(self._source, reason_of(error)))
            return True
        return False


class _Gatherer:
    def __init__(self, client: Client, options: AuditOptions) -> None:
        self._client = client
        self._options = options
        self._gaps: list[Gap] = []
        self._left_out = 0
        now = time.monotonic()
        self._until = now + (client.deadline - now) * READING_SHARE

    def run(self) -> ClusterData:
        client = self._client
        uid = self._cluster_uid()
        version = str(client.get("/version").get("gitVersion", ""))
        counters = self._counters()
        points = tuple(self._points())
        api_services = tuple(self._api_services)
        backends = self._backends(points)
        namespaces = self._namespaces()
        data = ClusterData(
            now=client.now(),
            cluster_uid=uid,
            version=version,
            points=points,
            backends=backends,
            namespaces=namespaces,
            pods=self._pods(points, backends),
            api_services=api_services,
            failed_calls=tuple(self._failed_calls()),
            api_server=self._api_server(),
            login=login_of(client.connection),
        )
        data = self._with_requests(data)
        previous = self._options.previous_counters
        after = self._counters() if counters is not None else None
        self._note_conditions(points)
        return replace(
            data,
            counters_before=counters if previous is None else previous,
            counters_after=after,
            snapshot_hazards=self._snapshot_hazards(),
            gaps=tuple(dict.fromkeys(self._gaps)),
            endpoints_left_out=self._left_out,
        )

    def _readable(self, source: str) -> _Readable:
        return _Readable(self, source)

    def note(self, gap: Gap) -> None:
        """Keep the first missing permission of a source. The messages of other namespaces differ only in the names."""
        if not any(known.source == gap.source for known in self._gaps):
            self._gaps.append(gap)

    def _cluster_uid(self) -> str:
        try:
            return read_cluster_uid(self._client)
        except Forbidden:
            return ""

    # Endpoints that the API server calls

    def _points(self) -> Iterator[CallPoint]:
        for kind in (_VALIDATING, _MUTATING):
            with self._readable(CONFIGURATIONS):
                for obj in self._list(kind):
                    yield from _points_of(kind, obj, ADMISSION)
        with self._readable(DEFINITIONS):
            for obj in self._definitions():
                if (obj["spec"].get("conversion") or {}).get("strategy") == "Webhook":
                    yield from _points_of("CustomResourceDefinition", obj, CONVERSION)
        self._api_services: list[ApiServiceState] = []
        with self._readable(API_SERVICES):
            for obj in self._list("APIService"):
                if obj["spec"].get("service"):
                    self._api_services.append(_state_of(obj))
                    yield from _points_of("APIService", obj, AGGREGATION)

    def _list(self, kind: str) -> list[dict[str, Any]]:
        row = KINDS[kind]
        items: list[dict[str, Any]] = self._client.list_all(
            f"/apis/{row.group}/{row.version}/{row.resource}"
        )["items"]
        return items

    def _definitions(self) -> Iterator[dict[str, Any]]:
        """Yield the CustomResourceDefinitions without their schemas, page by page."""
        row = KINDS["CustomResourceDefinition"]
        path = f"/apis/{row.group}/{row.version}/{row.resource}"
        found: list[dict[str, Any]] = []
        try:
            for page in self._client.pages(path, {"limit": DEFINITIONS_PAGE}):
                found += [without_schema(item) for item in page.get("items") or ()]
        except ListExpired:  # read all items at once, as client-go's pager does
            found = [without_schema(item) for item in self._client.get(path).get("items") or ()]
        yield from found

    # Services and endpoints

    def _backends(self, points: Iterable[CallPoint]) -> dict[BackendKey, Backend]:
        found: dict[BackendKey, Backend] = {}
        services: dict[tuple[str, str], Any] = {}
        for point in points:
            if point.backend not in found:
                found[point.backend] = self._backend(point.config, services)
        return found

    def _backend(self, config: ClientConfig, services: dict[tuple[str, str], Any]) -> Backend:
        if config.service is None:
            address = Endpoint(config.server_name, config.port, is_outside=True)
            return Backend(is_external=True, ready=1, chains=self._outside(address, config))
        if config.service not in services:
            services[config.service] = self._service(*config.service)
        known = services[config.service]
        if known is None:
            return Backend(is_known=False)
        service, slices = known
        if service is None:
            return Backend(exists=False)
        if service["spec"].get("type") == _EXTERNAL_NAME:
            address = Endpoint(str(service["spec"].get("externalName")), config.port, is_outside=True)
            return Backend(is_external=True, ready=1, chains=self._outside(address, config))
        endpoints = webhook_endpoints.of_service(service, slices, config.port)
        ports = {entry.get("port") for entry in service["spec"].get("ports") or ()}
        return Backend(
            has_port=config.port in ports,
            selector=service["spec"].get("selector") or {},
            ready=len(endpoints.ready),
            chains=self._chains(endpoints.ready, config),
        )

    def _service(
        self, namespace: str, name: str
    ) -> tuple[dict[str, Any] | None, list[dict[str, Any]]] | None:
        """Return the Service and its EndpointSlices, None if they may not be read."""
        with self._readable(SERVICES):
            service = webhook_endpoints.find_service(self._client, (namespace, name))
            if service is None:
                return None, []
            path = f"/apis/{webhook_endpoints.SLICES}/v1/namespaces/{namespace}/endpointslices"
            query = {"labelSelector": f"kubernetes.io/service-name={name}"}
            return service, self._client.list_all(path, query)["items"]
        return None

    def _outside(self, address: Endpoint, config: ClientConfig) -> tuple[ServedChain, ...]:
        """Return the chain at an address outside of the cluster, if the options allow the connection."""
        if not self._options.probe_urls:
            self._gaps.append(
                Gap(ENDPOINTS, "probe_urls is false, so no address outside of the cluster was read")
            )
            return ()
        reason = webhook_endpoints.find_address_problem(self._client, address.host)
        if reason:
            self._gaps.append(Gap(ENDPOINTS, reason))
            return ()
        return self._chains((address,), config)

    def _chains(self, endpoints: Sequence[Endpoint], config: ClientConfig) -> tuple[ServedChain, ...]:
        if not endpoints:
            return ()
        if not self._options.probe_endpoints:
            self._gaps.append(Gap(ENDPOINTS, "probe_endpoints is false, so no endpoint was read"))
            return ()
        limit = self._options.endpoints_per_service
        self._left_out += max(0, len(endpoints) - limit)
        found = []
        for endpoint in sorted(endpoints, key=str)[:limit]:
            if time.monotonic() > self._until:
                self._gaps.append(Gap(ENDPOINTS, "wait_timeout ended before every endpoint was read"))
                break
            seen = served_chains.read_chain(self._client, endpoint, config, self._client.deadline)
            if seen.lacking:
                self._gaps.append(
                    Gap(PORT_FORWARD, "this identity may not reach pods through the API server")
                )
            elif seen.is_blind:
                self._gaps.append(Gap(ENDPOINTS, seen.problem))
            found.append(seen)
        return tuple(found)

    # Objects that webhooks match

    def _namespaces(self) -> dict[str, Mapping[str, str]] | None:
        with self._readable(NAMESPACES):
            items = self._client.list_all("/api/v1/namespaces")["items"]
            return {item["metadata"]["name"]: item["metadata"].get("labels") or {} for item in items}
        return None

    def _pods(
        self, points: Sequence[CallPoint], backends: Mapping[BackendKey, Backend]
    ) -> dict[tuple[str, str], tuple[Mapping[str, str], ...]]:
        """Return the labels of the pods of each strict webhook, if a strict webhook is asked about pods at all."""
        strict = [point for point in points if point.caller == ADMISSION and point.is_strict]
        found: dict[tuple[str, str], tuple[Mapping[str, str], ...]] = {}
        if not any(names_pods(point) for point in strict):
            return found
        for point in strict:
            service, selector = point.config.service, backends[point.backend].selector
            if service is None or not selector or service in found:
                continue
            with self._readable(PODS):
                query = {"labelSelector": ",".join(f"{key}={value}" for key, value in selector.items())}
                items = self._client.list_all(f"/api/v1/namespaces/{service[0]}/pods", query)["items"]
                labels = {json.dumps(item["metadata"].get("labels") or {}, sort_keys=True) for item in items}
                found[service] = tuple(json.loads(text) for text in sorted(labels))
        return found

    def _note_conditions(self, points: Iterable[CallPoint]) -> None:
        if any(point.webhook.get("matchConditions") for point in points):
            self._gaps.append(Gap(CONDITIONS, "the audit does not evaluate matchConditions of webhooks"))

    # The cluster

    def _counters(self) -> dict[str, float] | None:
        try:
            return failure_signs.read_counters(self._client.text("/metrics"))
        except (Forbidden, NotFound) as error:
            self.note(Gap(METRICS, reason_of(error)))
        return None

    def _failed_calls(self) -> Iterator[FailedCall]:
        with self._readable(EVENTS):
            query = {"fieldSelector": failure_signs.SELECTOR, "limit": EVENTS_LIMIT}
            items = self._client.get("/api/v1/events", query).get("items") or ()
            oldest = self._client.now() - EVENTS_AFTER
            yield from failure_signs.find_failed_calls(items, oldest)

    def _with_requests(self, data: ClusterData) -> ClusterData:
        with self._readable(REQUESTS):
            csrs = self._client.list_all(COLLECTION)["items"]
            evidence = ClusterEvidence(self._client, None, csrs)
            stuck = (_stuck(csr, evidence, self._client.now()) for csr in csrs)
            return replace(data, requests=tuple(filter(None, stuck)), request_count=len(csrs))
        return data

    def _snapshot_hazards(self) -> tuple[SnapshotHazard, ...] | None:
        release = self._options.snapshot_release
        if release is None:
            return None
        needs_rules = crd_sets.row(release.crds, release_table.SNAPSHOT).rules
        objects = read_objects.observe(self._client, needs_rules=needs_rules)
        installed = object_reading.installed(objects, release)
        if installed.is_empty and not installed.unreadable:
            return None
        plan = planner.plan(installed, release, UpgradeOptions())
        for found in plan.hazards:
            if found.hazard.id == UNREADABLE_HAZARD:
                self.note(Gap(SNAPSHOT, "; ".join(found.finding.evidence)))
        return tuple(_hazard(found) for found in plan.hazards if found.hazard.id != UNREADABLE_HAZARD)

    def _api_server(self) -> CertificateFacts | None:
        """Return the certificate that the API server serves on a new connection, None without TLS."""
        if not self._client.host.startswith("https:"):
            return None
        until = time.monotonic() + API_SERVER_SECONDS
        bounds = ReadLimits("the TLS handshake of the API server", until=until, size=API_SERVER_BYTES)
        try:
            with self._client.dial(bounds) as connection:
                der = (
                    connection.getpeercert(binary_form=True)
                    if isinstance(connection, ssl.SSLSocket)
                    else None
                )
            return certificate_facts.describe_pem(ssl.DER_cert_to_PEM_cert(der)) if der else None
        except (OSError, KubeError, CertificateError) as error:
            self._gaps.append(Gap(ENDPOINTS, f"the certificate of the API server: {reason_of(error)}"))
        return None


def _hazard(found: DetectedHazard) -> SnapshotHazard:
    row = found.hazard
    stops = row.handling in (table.REFUSE, table.ASK)
    return SnapshotHazard(row.id, row.title, stops, found.finding.evidence, found.finding.remedy)


def reason_of(error: Exception) -> str:
    """Return the API server's message, or the cause."""
    return str(getattr(error, "message", "") or getattr(error, "cause", "") or error)


def without_schema(definition: Object) -> dict[str, Any]:
    """Return the parts of a CustomResourceDefinition that the checks need."""
    with check_shape("a CustomResourceDefinition"):
        metadata, spec = definition["metadata"], definition["spec"]
        annotations = {
            key: value
            for key, value in (metadata.get("annotations") or {}).items()
            if key not in _DROPPED_ANNOTATIONS
        }
        kept = ("name", "uid", "labels", "ownerReferences")
        fields = [
            {key: entry.get(key, "") for key in ("manager", "operation")}
            for entry in metadata.get("managedFields") or ()
        ]
        return {
            "metadata": {
                **{key: metadata[key] for key in kept if key in metadata},
                "annotations": annotations,
                "managedFields": fields,
            },
            "spec": {"group": spec.get("group"), "conversion": spec.get("conversion")},
        }


def _points_of(kind: str, obj: Object, caller: str) -> Iterator[CallPoint]:
    """Yield the call points of an object. An object without webhooks has none."""
    with check_shape(f"a {kind}"):
        name = str(obj["metadata"]["name"])
        webhooks = {webhook["name"]: webhook for webhook in obj.get("webhooks") or ()}
        is_verified = not (caller == AGGREGATION and obj["spec"].get("insecureSkipTLSVerify"))
        if caller == ADMISSION and not webhooks:
            return
    if not is_verified:
        obj = {**obj, "spec": {**obj["spec"], "insecureSkipTLSVerify": False}}
    for config in client_configs(Target(kind, name), obj):
        subject = replace(_subject(kind, obj), webhook=config.webhook, path=config.pointer)
        yield CallPoint(
            subject,
            config,
            caller,
            webhook=webhooks.get(config.webhook, {}),
            is_mutating=kind == _MUTATING,
            is_verified=is_verified,
        )


def _subject(kind: str, obj: Object) -> AuditedObject:
    metadata, row = obj["metadata"], KINDS[kind]
    return AuditedObject(
        kind,
        str(metadata["name"]),
        f"{row.group}/{row.version}",
        uid=str(metadata.get("uid", "")),
        manager=manager_of(metadata),
        excepted_checks=annotated_checks(metadata),
    )


def manager_of(metadata: Object) -> str:
    """Return the names of the programs that manage an object, this collection among them, or UNMANAGED."""
    names = [found.manager.name for found in _managers.find_managers(metadata)]
    fields = (str(entry.get("manager", "")) for entry in metadata.get("managedFields") or ())
    if any(field.startswith(OWN_MANAGER) for field in fields):
        names.append(OWN_MANAGER)
    return ", ".join(names) or UNMANAGED


def _state_of(obj: Object) -> ApiServiceState:
    with check_shape("an APIService"):
        conditions = (obj.get("status") or {}).get("conditions") or ()
        found: Object = next((entry for entry in conditions if entry.get("type") == "Available"), {})
        words = ": ".join(filter(None, (str(found.get(key, "")) for key in ("reason", "message"))))
        return ApiServiceState(
            _subject("APIService", obj),
            found.get("status") == "True",
            words or "it has no condition Available",
            find_time(found.get("lastTransitionTime")),
        )


def _stuck(csr: Object, evidence: ClusterEvidence, now: datetime) -> StuckRequest | None:
    """Return the CSR if it waits too long, or if its diagnosis says that a longer wait is useless."""
    symptom = symptom_of(csr)
    if symptom not in (APPROVED, PENDING):
        return None
    since = signer_stats.approved_at(csr)
    if symptom == PENDING and now - since < PENDING_AFTER:
        return None
    # The permissions of this identity do not matter. It audits, and does not approve.
    diagnosis: Diagnosis | None = diagnose(replace(evidence.observe(csr), lacking=None))
    if diagnosis is None or (now - since < signer_stats.STUCK_AFTER and not diagnosis.is_settled):
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


def login_of(connection: Connection) -> Login:
    """Return the end of the credentials of a connection. The audit does not send or return them."""
    if connection.exec_plugin:
        return Login("exec plugin", reason="The exec plugin of the kubeconfig renews its credentials.")
    if connection.token_file:
        return Login("token file", reason="The token is read from a file, which another program renews.")
    if connection.token:
        times = _token_times(connection.token)
        reason = "" if times[1] else "The token does not show when it expires."
        return Login("token", *times, reason)
    if connection.client_certificate:
        with contextlib.suppress(CertificateError):
            facts = certificate_facts.describe_pem(connection.client_certificate)
            return Login("client certificate", facts.not_before, facts.not_after)
    return Login("none", reason="The login has no certificate and no token.")


def _token_times(token: str) -> tuple[datetime | None, datetime | None]:
    """Return the begin and the end of a JSON Web Token (RFC 7519), without a check of its signature."""
    try:
        part = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        times = [claims.get(name) for name in ("iat", "exp")]
        begin, end = (datetime.fromtimestamp(value, timezone.utc) if value else None for value in times)
    except (ValueError, IndexError, TypeError, AttributeError, OverflowError, OSError):
        return None, None
    return begin, end
