# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Read the Services that the API server calls, and the certificates that their endpoints serve."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .._base.errors import check_shape
from .._kube.client import Client
from .._webhook.bundles.bundle_targets import Address, ClientConfig
from .._webhook.endpoints import served_chains, webhook_endpoints
from .._webhook.endpoints.served_chains import ServedChain
from .._webhook.endpoints.webhook_endpoints import READY, Endpoint
from .facts.cluster_data import (
    ENDPOINTS,
    PORT_FORWARD,
    SERVICES,
    UNREAD_CERTIFICATE,
    AuditOptions,
    Backend,
    CallPoint,
    Gap,
    Object,
)
from .guarded_reads import DECLARED, GuardedReads

_EXTERNAL_NAME = "ExternalName"
_EXTERNAL = Backend(is_external=True, ready=1)


@dataclass
class ServiceReader:
    """Reads each Service once, although many webhooks call it."""

    client: Client
    reads: GuardedReads
    #: True to return also the endpoints that are not ready or that terminate.
    unready: bool = False
    _services: dict[tuple[str, str], Any] = field(default_factory=dict)

    def backends(self, points: Iterable[CallPoint]) -> dict[Address, tuple[Backend, tuple[Endpoint, ...]]]:
        """Return what the points call, without certificates, and the endpoints that may be read."""
        configs = {point.backend: point.config for point in points}
        return {key: self._backend(config) for key, config in configs.items()}

    def _backend(self, config: ClientConfig) -> tuple[Backend, tuple[Endpoint, ...]]:
        if config.service is None:
            return _EXTERNAL, (Endpoint(config.server_name, config.port, is_outside=True),)
        known = self._service(config.service)
        if known is None:
            return Backend(is_known=False), ()
        service, slices = known
        if not service:
            return Backend(exists=False), ()
        if service["spec"].get("type") == _EXTERNAL_NAME:
            target = service["spec"].get("externalName")
            return _EXTERNAL, (Endpoint(str(target), config.port, is_outside=True),)
        endpoints = webhook_endpoints.of_service(service, slices, config.port)
        ending = tuple(entry for entry in endpoints.unready if entry.serves_until_end and not endpoints.ready)
        called = endpoints.ready or tuple(replace(entry, state=READY) for entry in ending)
        others = tuple(entry for entry in endpoints.unready if entry not in ending)
        return Backend(
            has_port=webhook_endpoints.find_port(service, config.port) is not None,
            is_headless=service["spec"].get("clusterIP") == "None",
            selector=service["spec"].get("selector") or {},
            ready=len(endpoints.ready),
            unready=len(endpoints.unready),
            is_ending=bool(ending),
        ), (*called, *(others if self.unready else ()))

    def _service(self, name: tuple[str, str]) -> Any:
        if name not in self._services:
            self._services[name] = self.reads.read(SERVICES, lambda: self._read(name), None, backend=name)
        return self._services[name]

    def _read(self, name: tuple[str, str]) -> tuple[Object, Sequence[Object]]:
        service = webhook_endpoints.find_service(self.client, name)
        if service is None:
            return {}, ()
        slices = webhook_endpoints.list_slices(self.client, name)
        # The shape is checked here for every port, so that a Service of another shape is a gap of its own.
        with check_shape(f"the Service {'/'.join(name)}"):
            ports = [entry["port"] for entry in service["spec"].get("ports") or ()]
            (service["spec"].get("selector") or {}).items()
        for port in (webhook_endpoints.ANY_PORT, *ports):
            webhook_endpoints.of_service(service, slices, port)
        return service, slices


@dataclass
class ChainReader:
    """Reads the certificates of endpoints until a time, and notes what it could not read."""

    client: Client
    reads: GuardedReads
    options: AuditOptions
    #: A time of time.monotonic() after which no further endpoint is read.
    until: float
    left_out: int = 0
    handshakes: int = 0

    def with_chains(
        self, points: Sequence[CallPoint], called: Mapping[Address, tuple[Backend, tuple[Endpoint, ...]]]
    ) -> dict[Address, Backend]:
        """Return the backends with the chains that their endpoints serve."""
        configs = {point.backend: point.config for point in points}
        chosen = [
            (key, endpoint)
            for key, (_backend, endpoints) in called.items()
            for endpoint in self._choose(key, endpoints)
        ]
        places = [(endpoint, configs[key]) for key, endpoint in chosen]
        seen: dict[Address, list[ServedChain]] = {key: [] for key in called}
        chains = served_chains.read_chains(self.client, places, self.until)
        for (key, _endpoint), chain in zip(chosen, chains):
            seen[key].append(chain)
            self.handshakes += not chain.is_blind
            if chain.endpoint.state == READY:
                self._note(chain, key)
        return {
            key: replace(
                backend,
                chains=tuple(chain for chain in seen[key] if chain.endpoint.state == READY),
                unready_chains=tuple(chain for chain in seen[key] if chain.endpoint.state != READY),
            )
            for key, (backend, _endpoints) in called.items()
        }

    def _choose(self, key: Address, endpoints: Sequence[Endpoint]) -> Sequence[Endpoint]:
        """Return the endpoints to read, and note the reason why others are not read."""
        refused, limit = self._refusal(endpoints), self.options.endpoints_per_service
        left = 0 if refused else max(0, len(endpoints) - limit)
        self.left_out += left
        words = f"endpoints_per_service {limit} left out {left} of {len(endpoints)} endpoints"
        if refused or left:
            self.reads.note(replace(refused or Gap(ENDPOINTS, words), backend=key))
        return (
            () if refused else sorted(endpoints, key=lambda entry: (entry.state != READY, str(entry)))[:limit]
        )

    def _refusal(self, endpoints: Sequence[Endpoint]) -> Gap | None:
        """Return why the options forbid the connections, None if they allow them."""
        outside = [endpoint for endpoint in endpoints if endpoint.is_outside]
        if outside and not self.options.probe_urls:
            return Gap(ENDPOINTS, "probe_urls is false, so no address outside of the cluster was read")
        if outside:
            problem = webhook_endpoints.find_address_problem(self.client, outside[0].host)
            return Gap(ENDPOINTS, problem) if problem else None
        return Gap(PORT_FORWARD, DECLARED) if endpoints and PORT_FORWARD in self.options.without else None

    def _note(self, seen: ServedChain, backend: Address) -> None:
        if seen.lacks_permission:
            words = "this identity may not reach pods through the API server"
            self.reads.note(Gap(PORT_FORWARD, words, lacks_permission=True, backend=backend))
        elif seen.is_blind:
            source = UNREAD_CERTIFICATE if seen.is_unread else ENDPOINTS
            self.reads.note(Gap(source, seen.problem, backend=backend))
