# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How the API server reaches the program of a shape: Services, pods, EndpointSlices, URLs, and their servers on loopback.

A control plane of the profile local-services has no node. Its Services have loopback addresses, and a thread of the test does the work
of kube-proxy. The pods are real objects whose status the test writes. A small kubelet forwards their ports.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from tests.support.waiting import wait_for
from tests.support.webhooks import endpoint_slices
from tests.support.world import shapes
from tests.support.world.servers import Endpoint

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.webhooks.https_webhook import Reply
    from tests.support.world.shapes import Shape
    from tests.support.world.world import World

MERGE = "application/merge-patch+json"
#: Longer than a test runs. No kubelet ends the pod.
_GRACE = 365 * 86400


class Reach:
    """The way to the program of a shape: what it creates, its endpoints, and the client configuration that leads there."""

    def __init__(
        self, world: World, name: str, shape: Shape, answer: Callable[[dict[str, Any]], Reply]
    ) -> None:
        self._world, self._name, self._shape = world, name, shape
        self.address = "127.0.0.1" if shape.reached == shapes.BY_NAME else world.next_address()
        states = () if shape.reached == shapes.NOWHERE else shape.endpoints
        self.states = list(states)
        self.endpoints = [Endpoint(answer) for _state in states]
        self._turn = itertools.count()
        #: The port of each endpoint, and that of the Service or the URL.
        self.ports = [self._listen(number) for number in range(len(states))]
        self.port = (
            world.listeners.closed_port(self.address)
            if shape.reached == shapes.NOWHERE
            else world.listeners.listen(self.address, self._choose)
        )
        #: The name that the API server requires of a Service.
        self.server_name = f"{name}.{world.name}.svc"
        #: The address that it requires of a URL.
        self.addresses = (self.address,) if shape.reached == shapes.BY_URL else ()
        self.client_config = self._make()

    def set_state(self, number: int, state: str) -> None:
        """Let an endpoint become ready, not ready, or terminate, and wait until the EndpointSlices show it."""
        self.states[number] = state
        self._world.journal.add("done", f"endpoint {number}: {state}", self._name)
        if self._shape.reached == shapes.BY_SLICE:
            body = {"endpoints": self._slice_endpoints()}
            self._world.cluster.api("PATCH", f"{self._slices}/{self._name}", body, MERGE)
        else:
            self._set_pod(number)
            self._wait_for_slices()

    def set_states(self, state: str) -> None:
        """Set the state of all endpoints."""
        for number in range(len(self.states)):
            self.set_state(number, state)

    # Servers

    def _listen(self, number: int) -> int:
        def choose() -> Endpoint | None:
            return self.endpoints[number] if self.states[number] != shapes.UNREACHABLE else None

        return self._world.listeners.listen(self.address, choose)

    def _choose(self) -> Endpoint | None:
        """Return the next endpoint in turn, as kube-proxy does: a ready one, else one that terminates, else none."""
        for wanted in ((shapes.READY, shapes.UNREACHABLE), (shapes.TERMINATING,)):
            numbers = [number for number, state in enumerate(self.states) if state in wanted]
            if numbers:
                number = numbers[next(self._turn) % len(numbers)]
                return self.endpoints[number] if self.states[number] != shapes.UNREACHABLE else None
        is_url = self._shape.reached in (shapes.BY_URL, shapes.BY_NAME)
        return self.endpoints[0] if is_url else None

    # Objects

    def _make(self) -> dict[str, Any]:
        if self._shape.reached == shapes.BY_URL:
            return {"url": f"https://{self.address}:{self.port}/"}
        self._world.make(self._services, {"metadata": {"name": self._name}, "spec": self._service()})
        if self._shape.reached == shapes.BY_SLICE:
            self._world.make(self._slices, self._slice())
        elif self._shape.reached == shapes.BY_PODS:
            for number in range(len(self.states)):
                self._make_pod(number)
            self._wait_for_slices()
        return {"service": {"namespace": self._world.name, "name": self._name, "port": self.port}}

    def _service(self) -> dict[str, Any]:
        if self._shape.reached == shapes.BY_NAME:
            return {"type": "ExternalName", "externalName": "localhost"}
        target = {"port": self.port, "targetPort": "https"}
        has_pods = self._shape.reached != shapes.BY_SLICE
        return {
            "clusterIP": self.address,
            "ports": [target],
            **({"selector": {"app": self._name}} if has_pods else {}),
        }

    def _slice(self) -> dict[str, Any]:
        port = self.ports[0] if self.ports else self.port
        return endpoint_slices.endpoint_slice(self._name, *self._slice_endpoints(), port=port)

    def _slice_endpoints(self) -> list[dict[str, Any]]:
        return [
            {"addresses": [self._pod_address(number)], "conditions": _conditions(state)}
            for number, state in enumerate(self.states)
        ]

    def _pod_address(self, number: int) -> str:
        """Return an address that no other endpoint has."""
        port = self.ports[number]
        return f"10.{self.address.split('.')[-1]}.{port // 250}.{port % 250 + 1}"

    def _pod_name(self, number: int) -> str:
        return f"{self._name}-{number}"

    def _make_pod(self, number: int) -> None:
        name = self._pod_name(number)
        port = {"name": "https", "containerPort": self.ports[number]}
        mount = {"name": "tls", "mountPath": "/tls"}
        container = {"name": "webhook", "image": "webhook", "ports": [port], "volumeMounts": [mount]}
        volume = {"name": "tls", "secret": {"secretName": self._name, "optional": True}}
        spec = {"containers": [container], "volumes": [volume]}
        pod = endpoint_slices.pod(name, self._world.node, {"app": self._name}, **spec)
        self._world.cluster.api("POST", self._pods, pod)
        self._world.made.append(f"{self._pods}/{name}?gracePeriodSeconds=0")
        self._world.forwarded[f"{self._world.name}/{name}"] = self.address
        self._set_pod(number)

    def _set_pod(self, number: int) -> None:
        """Write the status of a pod as a kubelet does."""
        state, path = self.states[number], f"{self._pods}/{self._pod_name(number)}"
        now = f"{self._world.cluster.now():%Y-%m-%dT%H:%M:%SZ}"
        is_ready = state != shapes.NOT_READY
        conditions = [
            {"type": kind, "status": str(is_ready), "lastTransitionTime": now}
            for kind in ("Ready", "ContainersReady")
        ]
        address = self._pod_address(number)
        status = {
            "phase": "Running",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "startTime": now,
            "conditions": conditions,
        }
        self._world.cluster.api("PATCH", f"{path}/status", {"status": status}, MERGE)
        if state == shapes.TERMINATING:
            self._world.cluster.api("DELETE", f"{path}?gracePeriodSeconds={_GRACE}")

    def _wait_for_slices(self) -> None:
        wanted = sorted(
            (self._pod_address(number), state in (shapes.READY, shapes.UNREACHABLE))
            for number, state in enumerate(self.states)
        )
        wait_for(lambda: self._listed() == wanted, evidence=self._listed)

    def _listed(self) -> list[tuple[str, bool]]:
        """Return address and readiness of the endpoints that the EndpointSlices list."""
        query = f"labelSelector=kubernetes.io/service-name={self._name}"
        items = self._world.cluster.api("GET", f"{self._slices}?{query}")["items"]
        return sorted(
            (endpoint["addresses"][0], endpoint["conditions"]["ready"])
            for item in items
            for endpoint in item["endpoints"] or ()
        )

    @property
    def _services(self) -> str:
        return f"/api/v1/namespaces/{self._world.name}/services"

    @property
    def _pods(self) -> str:
        return f"/api/v1/namespaces/{self._world.name}/pods"

    @property
    def _slices(self) -> str:
        return endpoint_slices.path(self._world.name)


def _conditions(state: str) -> dict[str, bool]:
    return {
        "ready": state in (shapes.READY, shapes.UNREACHABLE),
        "serving": state != shapes.NOT_READY,
        "terminating": state == shapes.TERMINATING,
    }
