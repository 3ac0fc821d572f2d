# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who answers for a webhook, by its Service and EndpointSlices."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.errors import Forbidden
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.bundles.bundle_targets import (
    ClientConfig,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.endpoints import webhook_endpoints
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.endpoints.webhook_endpoints import (
    Endpoint,
    Endpoints,
)

from tests.unit.plugins.module_utils._csr.flow import ScriptedApi, api_error

SERVICE_PATH = "/api/v1/namespaces/apps/services/hook"
SLICES_PATH = "/apis/discovery.k8s.io/v1/namespaces/apps/endpointslices"
PORTS = [{"name": "https", "port": 443, "targetPort": "tls"}]


def service(ports: list[dict[str, Any]] | None = None, **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "apps", "name": "hook"},
        "spec": {"ports": PORTS if ports is None else ports, **spec},
    }


def pod(name: str, address: str, **conditions: bool) -> dict[str, Any]:
    reference = {"kind": "Pod", "namespace": "apps", "name": name}
    return {"addresses": [address], "targetRef": reference, "conditions": conditions}


def part(*endpoints: dict[str, Any], name: str | None = "https", port: int = 8443) -> dict[str, Any]:
    return {"ports": [{"name": name, "port": port}], "endpoints": list(endpoints)}


def config(**changed: Any) -> ClientConfig:
    given = {"server_name": "hook.apps.svc", "service": ("apps", "hook"), "port": 443, **changed}
    return ClientConfig(webhook="w", pointer="", name_pointer="", ca_bundle="", **given)


A, B = Endpoint("10.0.0.4", 8443, ("apps", "a")), Endpoint("10.0.0.5", 8443, ("apps", "b"))


@pytest.mark.parametrize(
    ("obj", "slices", "port", "expected"),
    [
        pytest.param(service(), [part(pod("a", "10.0.0.4")), part(pod("b", "10.0.0.5"))], 443, (A, B), id="slices"),
        pytest.param(service(), [part(pod("a", "10.0.0.4", ready=True, terminating=True))], 443, (A,), id="publishNotReadyAddresses"),
        pytest.param(service(), [part(pod("a", "10.0.0.4")), part(pod("a", "fd00::4"))], 443, (A,), id="dual stack is one pod"),
        pytest.param(service(), [part(pod("a", "10.0.0.4")), part(pod("a", "10.0.0.4"), port=9443)], 443, (A, replace(A, port=9443)), id="one pod, two ports"),
        pytest.param(service(), [part(pod("a", "10.0.0.4")), part(pod("a", "10.0.0.4"), name="metrics", port=9090)], 443, (A,), id="named"),
        pytest.param(service([{"port": 443}]), [part(pod("a", "10.0.0.4"), name=None)], 443, (A,), id="a port without a name"),
        pytest.param(service([{"port": 8080}]), [part(pod("a", "10.0.0.4"), name="")], webhook_endpoints.ANY_PORT, (A,), id="the only one"),
        pytest.param(service([{"name": "m", "port": 9090}, *PORTS]), [part(pod("a", "10.0.0.4"))], webhook_endpoints.ANY_PORT, (A,), id="HTTPS"),
        pytest.param(service(), [part({"addresses": ["10.9.9.9"], "conditions": {}})], 443, (Endpoint("10.9.9.9", 8443),), id="no pod behind it"),
        pytest.param(
            service(),
            [part({"addresses": ["10.9.9.9"], "targetRef": {"kind": "Pod", "namespace": "kube-system", "name": "etcd"}})],
            443,
            (Endpoint("10.9.9.9", 8443),),
            id="a pod of another namespace",
        ),
        pytest.param(
            service(),
            [part(pod("../../evil/pods/a", "10.9.9.9"))],
            443,
            (Endpoint("10.9.9.9", 8443),),
            id="a name that leads to another namespace",
        ),
    ],
)  # fmt: skip
def test_of_a_service(obj: Any, slices: list[Any], port: int, expected: tuple[Endpoint, ...]) -> None:
    assert webhook_endpoints.of_service(obj, slices, port) == Endpoints(expected)


def test_only_the_family_of_the_cluster_ip_and_tcp_count() -> None:
    """The API server connects to the cluster IP. A slice by hand may list a port of each protocol, without names."""
    other = {**part(pod("b", "fd00::5")), "addressType": "IPv6"}
    single = service()
    single["spec"]["ipFamilies"] = ["IPv4"]
    assert webhook_endpoints.of_service(single, [part(pod("a", "10.0.0.4")), other], 443) == Endpoints((A,))
    own = part(pod("a", "10.0.0.4"))
    own["ports"] = [{**own["ports"][0], "protocol": "UDP", "port": 1}, *own["ports"]]
    assert webhook_endpoints.of_service(single, [own], 443) == Endpoints((A,))


@pytest.mark.parametrize(
    ("conditions", "state"),
    [
        ({"ready": False}, "not ready"),
        ({"ready": False, "serving": False, "terminating": False}, "not ready"),
        ({"ready": False, "serving": False, "terminating": True}, "terminating"),
        ({"ready": False, "serving": True, "terminating": True}, "terminating"),
    ],
)
def test_those_that_get_no_new_connections_are_unready(conditions: dict[str, bool], state: str) -> None:
    slices = [part(pod("a", "10.0.0.4"), pod("b", "10.0.0.5", **conditions))]
    found = webhook_endpoints.of_service(service(), slices, 443)
    assert found == Endpoints((A,), unready=(replace(B, state=state),))
    assert str(found.unready[0]) == f"pod apps/b, port 8443 ({state})"
    assert found.unready[0].serves_until_end is conditions.get("serving", False)


def test_an_endpoint_that_moves_between_slices_is_ready_where_one_says_so() -> None:
    slices = [part(pod("a", "10.0.0.4", ready=False)), part(pod("a", "10.0.0.4", ready=True))]
    assert webhook_endpoints.of_service(service(), slices, 443) == Endpoints((A,))


UDP, TCP = {"port": 443, "protocol": "UDP", "name": "u"}, {"port": 443, "protocol": "TCP", "name": "t"}
#: The ports of a Service, and a number -> the name of the port.
SERVICE_PORTS: list[tuple[list[dict[str, Any]], int, str]] = [
    ([UDP], 443, ""),
    ([UDP, TCP], 443, "t"),
    ([UDP, TCP], webhook_endpoints.ANY_PORT, "t"),
    ([{**TCP, "port": 8443}], 443, ""),
    ([{"port": 8443, "name": "d"}, UDP], webhook_endpoints.ANY_PORT, "d"),
    ([{"port": 8443}, TCP], webhook_endpoints.ANY_PORT, "t"),
    ([], webhook_endpoints.ANY_PORT, ""),
]


@pytest.mark.parametrize(("ports", "number", "name"), SERVICE_PORTS)
def test_the_api_server_calls_a_tcp_port(ports: list[dict[str, Any]], number: int, name: str) -> None:
    found = webhook_endpoints.find_port({"spec": {"ports": ports}}, number)
    assert (found or {}).get("name", "") == name


@pytest.mark.parametrize(
    ("slices", "port", "problem"),
    [
        ([], 443, "Service apps/hook has no ready endpoint"),
        # Made by hand: a port without number is any port (k8s.io/api discovery/v1 EndpointPort).
        ([{**part(pod("a", "10.0.0.4")), "ports": [{"name": "https"}]}], 443, "Service apps/hook has no ready endpoint"),
        ([part(pod("a", "10.0.0.4"))], 8443, "Service apps/hook has no TCP port 8443"),
    ],
)  # fmt: skip
def test_a_webhook_without_endpoints(slices: list[Any], port: int, problem: str) -> None:
    assert webhook_endpoints.of_service(service(), slices, port) == Endpoints((), problem)


def test_read_from_the_api_server() -> None:
    api: Any = ScriptedApi({SERVICE_PATH: service(), SLICES_PATH: {"items": [part(pod("a", "10.0.0.4"))]}})
    assert webhook_endpoints.find(api, config()).ready == (A,)


def test_there_is_no_service() -> None:
    api: Any = ScriptedApi()
    expected = Endpoints((), "there is no Service apps/hook")
    assert webhook_endpoints.find(api, config()) == expected


def test_what_may_not_be_read_is_not_known() -> None:
    api: Any = ScriptedApi({SERVICE_PATH: api_error(Forbidden, "services is forbidden")})
    found = webhook_endpoints.find(api, config())
    assert (found.ready, found.is_known) == ((), False)
    assert "services is forbidden" in found.problem


@pytest.mark.parametrize(
    ("host", "api_host", "is_seen"),
    [
        ("hook.example.com", "10.0.0.1", True),
        ("localhost", "127.0.0.1", True),
        ("127.0.0.1", "localhost", True),
        ("::1", "127.0.0.1", True),
        # The API server's loopback address is not ours. Another program listens on ours.
        ("localhost", "10.0.0.1", False),
        ("LOCALHOST.", "10.0.0.1", False),
        ("127.0.0.1", "api.example.com", False),
        # Go reads only four decimal numbers as an address, and looks up these as names. getaddrinfo does not.
        ("127.1", "127.0.0.1", False),
        ("2130706433", "127.0.0.1", False),
        ("0x7f000001", "127.0.0.1", False),
        ("127.000.000.001", "127.0.0.1", False),
        ("10.1.example.com", "10.0.0.1", True),
        ("10.20.30.40", "10.0.0.1", True),
    ],
)
@pytest.mark.parametrize("by", ["url", "ExternalName"])
def test_an_address_outside_of_the_cluster(host: str, api_host: str, is_seen: bool, by: str) -> None:
    api: Any = ScriptedApi({SERVICE_PATH: service([], type="ExternalName", externalName=host)})
    api.host_name = api_host
    called = config() if by == "ExternalName" else config(service=None, server_name=host)
    found = webhook_endpoints.find(api, called)
    assert found.is_known is is_seen
    assert found.ready == ((Endpoint(host, 443, is_outside=True),) if is_seen else ())


def test_in_words() -> None:
    assert [str(A), str(Endpoint("h", 1))] == ["pod apps/a, port 8443", "h:1"]
