# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Find the endpoints of a webhook: the pods behind its Service, or the address of its URL."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..._base.errors import check_shape
from ..._kube.access_review import Permission
from ..._kube.client import Client
from ..._kube.errors import Forbidden
from ..bundles.bundle_targets import ClientConfig, ServiceName

SLICES = "discovery.k8s.io"
# Only a ready endpoint gets new connections. An endpoint that is not ready may become ready at any time. A terminating endpoint
# never becomes ready, but gets connections until kube-proxy on each node knows (KEP-1669).
READY, NOT_READY, TERMINATING = "ready", "not ready", "terminating"
ANY_PORT, HTTPS = 0, 443
_SERVICE_NAME = "kubernetes.io/service-name"
# The name of a Service and of a namespace (RFC 1123 label).
_NAME = re.compile("[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
# Notations of an IPv4 address that getaddrinfo reads, and Go does not (net.ParseIP), such as 127.1 and 0x7f000001.
_DECIMAL, _NUMBER = "(?:0|[1-9][0-9]{0,2})", "(?:0x[0-9a-f]*|[0-9]+)"
_OTHER_NOTATION = re.compile(
    rf"(?!{_DECIMAL}(?:[.]{_DECIMAL}){{3}}$){_NUMBER}(?:[.]{_NUMBER}){{0,3}}", re.IGNORECASE
)
_POD_NAME = re.compile("[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


@dataclass(frozen=True)
class Endpoint:
    """One address.

    pod: its (namespace, name), None if the endpoint is not a pod.
    state: READY, NOT_READY, TERMINATING.
    is_outside: True for the address of a URL or of a Service of type ExternalName. This process may connect to it, and it
      may lead each connection to another machine. Here an address of the cluster's network may belong to another machine.
    serves_until_end: True for a terminating endpoint that answers. kube-proxy leads to it if no endpoint is ready (KEP-1669).
    """

    host: str
    port: int
    pod: tuple[str, str] | None = None
    state: str = READY
    is_outside: bool = False
    serves_until_end: bool = field(default=False, compare=False)

    def __str__(self) -> str:
        name = f"pod {'/'.join(self.pod)}, port {self.port}" if self.pod else f"{self.host}:{self.port}"
        return name if self.state == READY else f"{name} ({self.state})"


@dataclass(frozen=True)
class Endpoints:
    """The endpoints of a webhook."""

    #: The endpoints that get new connections.
    ready: tuple[Endpoint, ...] = ()
    #: The reason why no endpoint is ready, or why the endpoints are not known. "" if one is ready.
    problem: str = ""
    is_known: bool = True
    #: The endpoints that are not ready, and those that are terminating.
    unready: tuple[Endpoint, ...] = ()


def permissions(namespace: str) -> list[Permission]:
    return [
        Permission("get", "", "services", namespace),
        Permission("list", SLICES, "endpointslices", namespace),
    ]


def find_service(client: Client, service: ServiceName) -> dict[str, Any] | None:
    """Return the Service, None if it does not exist. Raises KubeError.

    The API server accepts any text as the Service of a webhook. A name with a slash would lead to another path.
    """
    namespace, name = service
    if not (_NAME.fullmatch(namespace) and _NAME.fullmatch(name)):
        return None
    return client.find(f"/api/v1/namespaces/{namespace}/services/{name}")


def find(client: Client, config: ClientConfig) -> Endpoints:
    """Find the endpoints. A missing permission is the problem of the result. Raises KubeError for other errors."""
    if config.service is None:
        return _at_address(client, config.server_name, config.port)
    namespace, name = config.service
    try:
        service = find_service(client, config.service)
        if service is None:
            return Endpoints(problem=f"there is no Service {namespace}/{name}")
        if service["spec"].get("type") == "ExternalName":
            return _at_address(client, str(service["spec"].get("externalName")), config.port)
        slices = list_slices(client, config.service)
    except Forbidden as exc:
        return Endpoints(problem=f"this identity may not read the endpoints: {exc.message}", is_known=False)
    return of_service(service, slices, config.port)


def list_slices(client: Client, service: ServiceName) -> list[dict[str, Any]]:
    """Return the EndpointSlices of a Service. Raises KubeError."""
    namespace, name = service
    path = f"/apis/{SLICES}/v1/namespaces/{namespace}/endpointslices"
    return [*client.list_all(path, {"labelSelector": f"{_SERVICE_NAME}={name}"})["items"]]


@check_shape("the Service, or one of its EndpointSlices,")
def of_service(service: Mapping[str, Any], slices: Iterable[Mapping[str, Any]], port: int) -> Endpoints:
    """Return the endpoints of a Service's port. A pod with two addresses (dual stack) is one endpoint.

    port: ANY_PORT for the only port of the Service, or else port 443. Raises MalformedObject.
    """
    where = f"Service {service['metadata']['namespace']}/{service['metadata']['name']}"
    wanted = find_port(service, port)
    if wanted is None:
        return Endpoints(problem=f"{where} has no TCP port {port or HTTPS}")
    endpoints: dict[Any, Endpoint] = {}
    # The API server connects to the cluster IP, which leads to the endpoints of its family.
    family = next(iter(service["spec"].get("ipFamilies") or ()), "")
    own = [part for part in slices if not family or part.get("addressType", family) == family]
    for endpoint in _of_slices(own, service["metadata"]["namespace"], wanted.get("name") or ""):
        key = endpoint.pod or endpoint.host, endpoint.port
        # While slices are reordered, two of them may list the same endpoint.
        known = endpoints.get(key)
        if known is None or (known.state != READY and endpoint.state == READY):
            endpoints[key] = endpoint
    ready = tuple(endpoint for endpoint in endpoints.values() if endpoint.state == READY)
    unready = tuple(endpoint for endpoint in endpoints.values() if endpoint.state != READY)
    return Endpoints(ready, "" if ready else f"{where} has no ready endpoint", unready=unready)


def find_port(service: Mapping[str, Any], number: int) -> Mapping[str, Any] | None:
    """Return the TCP port of a Service, None if it has none. number: ANY_PORT for the only port, or else port 443."""
    ports = [entry for entry in service["spec"].get("ports") or () if entry.get("protocol", "TCP") == "TCP"]
    if number == ANY_PORT:
        number = ports[0].get("port") if len(ports) == 1 else HTTPS
    return next((entry for entry in ports if entry.get("port") == number), None)


def _of_slices(slices: Iterable[Mapping[str, Any]], namespace: str, port_name: str) -> Iterator[Endpoint]:
    """Yield the endpoints. A Service's pods are in its own namespace, so ignore other pods in slices written by hand.

    The API server accepts any text as the name of a targetRef. A name with a slash would lead to another namespace.
    """
    for part in slices:
        ports = [
            entry.get("port")
            for entry in part.get("ports") or ()
            if (entry.get("name") or "") == port_name and entry.get("protocol", "TCP") == "TCP"
        ]
        if not ports or ports[0] is None:
            continue
        for entry in part.get("endpoints") or ():
            target = entry.get("targetRef") or {}
            is_pod = target.get("kind") == "Pod" and target.get("namespace") == namespace
            name = str(target.get("name") or "")
            pod = (namespace, name) if is_pod and _POD_NAME.fullmatch(name) else None
            conditions = entry.get("conditions") or {}
            state = _state(conditions)
            is_ending = state == TERMINATING and conditions.get("serving") is not False
            yield Endpoint(entry["addresses"][0], ports[0], pod, state, serves_until_end=is_ending)


def _state(conditions: Mapping[str, Any]) -> str:
    """Source: k8s.io/api discovery/v1 EndpointConditions. A missing condition means ready, and not terminating."""
    unready = TERMINATING if conditions.get("terminating") else NOT_READY
    return unready if conditions.get("ready") is False else READY


def _at_address(client: Client, host: str, port: int) -> Endpoints:
    """Return the endpoint at an address outside of the cluster's network."""
    problem = find_address_problem(client, host)
    known = Endpoints((Endpoint(host, port, is_outside=True),))
    return Endpoints(problem=problem, is_known=False) if problem else known


def find_address_problem(client: Client, host: str) -> str:
    """Return why this process cannot reach the address that the API server would reach, "" if it can try."""
    if not host:
        return "the URL has no valid host"
    if _OTHER_NOTATION.fullmatch(host):
        return f"the API server looks up {host} as a name, and other programs read it as an IPv4 address"
    # A loopback address is the API server's, not ours.
    is_elsewhere = _is_loopback(host) and not _is_loopback(client.host_name)
    return f"{host} means the API server's own machine" if is_elsewhere else ""


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.rstrip(".").lower() == "localhost"
