# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The control plane of the matrix. It has no node: Services lead to servers of this machine, and a small kubelet to pods."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import re
import socket
import time
from typing import TYPE_CHECKING, Any

import yaml
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations.audit_info import OPERATION

from tests.support import clusters
from tests.support.certificates.authority import Issued
from tests.support.clusters import AdminApiError
from tests.support.rig import ClusterRig
from tests.support.waiting import becomes_true, wait_for
from tests.support.webhooks import called_objects, endpoint_slices
from tests.support.webhooks.https_webhook import OneRequestHandler, WebhookServer, allow, server_context
from tests.support.webhooks.port_forwarder import PortForwarder
from tests.support.webhooks.probe_rig import DEFINITIONS, HOOKS, MUTATING_HOOKS, config_map
from tests.support.world.certificates import Certificates, Sent
from tests.system.audit.matrix.row import ACCEPTED, LEAF, OWN_NAMESPACE, Made, Pod, Shape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tests.support.clusters import Cluster
    from tests.support.webhooks.https_webhook import Reply

NODES = ("node-a", "node-b")
CERTIFICATES = "/apis/cert-manager.io/v1/namespaces/{}/certificates"


class PodServer(WebhookServer):
    """The server of pods at one address. Each connection reaches the next pod. With several pods it ends after one request."""

    def __init__(self, pods: Sequence[tuple[Pod, Any]], address: str) -> None:
        super().__init__(allow, address)
        self._pods = itertools.cycle(pods)
        self._delay = 0.0
        if len(pods) > 1:
            self.RequestHandlerClass = OneRequestHandler

    def get_request(self) -> tuple[Any, Any]:
        pod, self._tls = next(self._pods)
        self._delay = pod.delay
        return super().get_request()

    def finish_request(self, request: Any, client_address: Any) -> None:
        time.sleep(self._delay)
        super().finish_request(request, client_address)


class ControlPlane:
    """A cluster with the objects that all rows share, from the beginning until `close`."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.addresses: dict[str, str] = {}
        self.kubelet = PortForwarder(self.addresses)
        self._numbers = itertools.count(300)
        status = {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self.kubelet.port}},
        }
        for name in NODES:
            labels = {"kubernetes.io/os": "linux", "kubernetes.io/hostname": name}
            cluster.api(
                "POST", "/api/v1/nodes", {"metadata": {"name": name, "labels": labels}, "status": status}
            )
        # Every row meets a cluster that publishes a successor of its CA. It is no fault of a webhook of another CA.
        rotation = cluster.rotation()
        rotation.publish()
        cas = {"cluster-ca": rotation.outgoing, "cluster-successor": rotation.successor}
        self.cas = {name: Issued(pair.certificate, pair.key) for name, pair in cas.items()}
        path = clusters.cert_manager_dir() / "deploy" / "crds" / "cert-manager.io_certificates.yaml"
        cluster.api("POST", DEFINITIONS, yaml.safe_load(path.read_text()))

    def close(self) -> None:
        self.kubelet.close()

    def next_address(self) -> str:
        """Return an address for a Service."""
        number = next(self._numbers)
        return f"127.96.{number // 250}.{number % 250 + 1}"


class Lab(ClusterRig):
    """A namespace of a control plane with the objects of rows, as they are when a number of days has passed."""

    def __init__(self, plane: ControlPlane, days: float = 0) -> None:
        super().__init__(plane.cluster, "matrix")
        self.plane = plane
        self.certificates = Certificates(dict(plane.cas), days=days)
        self._servers: list[WebhookServer] = []
        self._closed_ports: list[socket.socket] = []
        #: Ends what a row started.
        self.closers: list[Callable[[], object]] = []
        #: The dry runs about which each recording webhook is asked.
        self.recorded: list[list[str]] = []
        #: The certificates by the name of the server and the leaf.
        self._sent: dict[tuple[str, int], Sent] = {}
        #: True if the requests of a control plane were sent.
        self.has_sent = False
        self.make("/api/v1/namespaces", {"metadata": {"name": self.name}})
        path = CERTIFICATES.format(self.name)
        wait_for(lambda: self.says("GET", path) == ACCEPTED)

    def close(self) -> None:
        super().close()
        for server in self._servers:
            server.close()
        for port in self._closed_ports:
            port.close()
        for end in self.closers:
            end()

    # What the API server says

    def says(self, verb: str, path: str, body: object = None, kind: str = "application/json") -> str:
        """Send a request. Return "accepted", or the end of the API server's message."""
        try:
            self.cluster.client.api(verb, path, body, kind)
        except AdminApiError as error:
            return plain(error.message, self.name)
        return ACCEPTED

    def ask(self, name: str) -> str:
        """Return the answer to a dry run that calls only the webhook of this name."""
        path = f"/api/v1/namespaces/{self.name}/configmaps?dryRun=All"
        return self.says("POST", path, config_map(self.name, probe=name))

    # Services and pods

    def serve(self, pods: Sequence[tuple[Pod, Any]], address: str) -> PodServer:
        """Serve pods with their TLS contexts at an address."""
        server = PodServer(pods, address)
        server.serve()
        self._servers.append(server)
        return server

    def context(self, pod: Pod, server_name: str) -> Any:
        """Return the TLS context of a pod, None for a pod without TLS. Pods with the same `Leaf` share a certificate."""
        if pod.leaf is None:
            return None
        key = (server_name, id(pod.leaf))
        if key not in self._sent:
            self._sent[key] = self.certificates.sent(pod.leaf, server_name)
        context = server_context(self._sent[key])
        if pod.tls:
            pod.tls(context)
        return context

    def closed_port(self, address: str) -> int:
        """Return a port at which no program listens until the end."""
        port = socket.socket()
        port.bind((address, 0))
        self._closed_ports.append(port)
        return int(port.getsockname()[1])

    def service(self, name: str, shape: Shape, namespace: str = "") -> tuple[int, list[PodServer]]:
        """Create a Service with pods, and an EndpointSlice for each pod. Return its port, and the servers.

        The API server calls the address of the Service. With several ready pods, a server of its own leads to them in turn.
        """
        is_external = shape.service.get("type") == "ExternalName"
        namespace, address = namespace or self.name, "127.0.0.1" if is_external else self.plane.next_address()
        pods = [(pod, self.context(pod, f"{name}.{namespace}.svc")) for pod in shape.pods]
        servers = {number: self.serve([pair], address) for number, pair in enumerate(pods) if pair[0].listens}
        ready = [number for number, (pod, _context) in enumerate(pods) if pod.is_ready and pod.listens]
        fronts = [self.serve([pods[number] for number in ready], address)] if len(ready) > 1 else []
        ports = [
            servers[number].port if number in servers else self.closed_port(address)
            for number in range(len(pods))
        ]
        first = [ports[number] for number in ready] or ports or [self.closed_port(address)]
        port = fronts[0].port if fronts else first[0]
        spec = {"clusterIP": address, "selector": {"app": name}, "ports": [{"port": 0}], **shape.service}
        spec["ports"] = [{**entry, "port": entry["port"] or port} for entry in spec["ports"]]
        if is_external:
            del spec["clusterIP"]
        path = f"/api/v1/namespaces/{namespace}/services"
        self.make(path, {"metadata": {"name": name}, "spec": spec})
        for number, (pod, _context) in enumerate(pods):
            self._pod((namespace, name, number), pod, ports[number], address)
        return port, [*servers.values(), *fronts]

    def _pod(self, which: tuple[str, str, int], pod: Pod, port: int, address: str) -> None:
        """Create a pod and its EndpointSlice. which: namespace, Service, number."""
        namespace, service, number = which
        name, node = f"{service}-{number}", NODES[number % len(NODES)]
        self.plane.addresses[f"{namespace}/{name}"] = address
        body = endpoint_slices.pod(name, node, {"app": service, **pod.labels})
        self.make(f"/api/v1/namespaces/{namespace}/pods", body)
        endpoint = endpoint_slices.endpoint(
            f"10.244.{port // 250}.{port % 250 + 1}",
            is_ready=pod.is_ready,
            pod=(namespace, name),
            nodeName=node,
        )
        slice_ = endpoint_slices.endpoint_slice(
            service, endpoint, port=port, port_name=pod.port_name, name=name
        )
        self.make(endpoint_slices.path(namespace), slice_)

    # Callers

    def client_config(
        self, name: str, shape: Shape, answer: Callable[[dict[str, Any]], Reply] = allow
    ) -> dict[str, Any]:
        """Create what a caller calls, and return its client configuration."""
        config: dict[str, Any] = {}
        if shape.url:
            host = shape.url.strip("[]")
            address = "127.0.0.1" if host == "localhost" else host
            pair = (shape.pods[0], self.context(shape.pods[0], host))
            servers = [self.serve([pair], address)] if shape.pods[0].listens else []
            port = servers[0].port if servers else self.closed_port(address)
            config["url"] = f"https://{shape.url}:{port}/{name}"
        else:
            port, servers = self.service(name, shape)
            service = {"namespace": self.name, "name": shape.calls or name, "port": shape.port or port}
            config["service"] = {**service, "path": f"/{name}"}
        for server in servers:
            server.answer = answer
        bundle = self._bundle(name, shape)
        if bundle is not None:
            config["caBundle"] = base64.b64encode(shape.rewrite(bundle)).decode()
        return config

    def _bundle(self, name: str, shape: Shape) -> bytes | None:
        if shape.bundle == LEAF:
            return self._sent[f"{name}.{self.name}.svc", id(shape.pods[0].leaf)].certificate_pem
        return self.certificates.bundle(shape.bundle) if isinstance(shape.bundle, tuple) else shape.bundle

    def recording(self, name: str, shape: Shape) -> tuple[str, list[str]]:
        """Make a webhook that answers. Return its name, and the dry runs about which it is asked, which grow."""
        asked: list[str] = []
        self.recorded.append(asked)

        def record(review: dict[str, Any]) -> Reply:
            request = review["request"]
            if request.get("dryRun"):
                what = [request["resource"]["resource"], *filter(None, [request.get("subResource")])]
                asked.append(f"{request['operation']} {'/'.join(what)}")
            return allow(review)

        return self.configure(name, shape, self.client_config(name, shape, record)), asked

    def webhook(self, name: str, config: Mapping[str, Any], /, **fields: Any) -> dict[str, Any]:
        """Return a webhook for ConfigMaps with the label of its name in the namespace of the lab."""
        defaults = {
            **called_objects.of_namespace(self.name),
            "objectSelector": {"matchLabels": {"probe": name}},
            "timeoutSeconds": 1,
        }
        return called_objects.webhook(
            f"{name}.certflow.test", dict(config), called_objects.CONFIG_MAPS, **{**defaults, **fields}
        )

    def configure(self, name: str, shape: Shape, config: Mapping[str, Any]) -> str:
        """Create the configuration of a webhook. Return its name."""
        full = f"{name}-{self.id}"
        webhooks = [self.webhook(name, config, **{**shape.webhook, **other}) for other in ({}, *shape.others)]
        webhooks = json.loads(json.dumps(webhooks).replace(OWN_NAMESPACE, self.name))
        hooks = MUTATING_HOOKS if shape.is_mutating else HOOKS
        body = {"metadata": {"name": full, **shape.metadata}, "webhooks": webhooks}
        self.cluster.api("POST", f"{hooks}?fieldManager={shape.field_manager}", body)
        self.made.append(f"{hooks}/{full}")
        return full

    def admission(self, name: str, shape: Shape) -> Made:
        """Make an admission webhook. The API server is asked to create a ConfigMap that only it is asked about."""
        full = self.configure(name, shape, self.client_config(name, shape))
        return Made((full,), lambda: self.ask_each(name, len(shape.pods)))

    def ask_each(self, name: str, pods: int) -> str:
        """Return the first refusal, or "accepted", of as many calls as there are pods."""
        answers = [self.ask(name) for _number in range(pods or 1)]
        return next((answer for answer in answers if answer != ACCEPTED), ACCEPTED)

    def create_pod(self, app: str) -> None:
        """Create a pod with the label app in a dry run."""
        spec = {"containers": [{"name": "webhook", "image": "webhook"}]}
        body = {"metadata": {"name": "new", "labels": {"app": app}}, "spec": spec}
        self.says("POST", f"/api/v1/namespaces/{self.name}/pods?dryRun=All", body)

    def settle(self) -> None:
        """Wait until the API server uses the configurations."""
        for number, is_mutating in enumerate((False, True)):
            name = f"sentinel-{number}"
            self.configure(name, Shape(is_mutating=is_mutating), {"url": "https://127.0.0.1:1/"})
            assert becomes_true(lambda name=name: self.ask(name) != ACCEPTED)  # type: ignore[misc]
            path = f"{MUTATING_HOOKS if is_mutating else HOOKS}/{name}-{self.id}"
            self.cluster.api("DELETE", path)
            self.made.remove(path)

    def audit(self) -> dict[str, Any]:
        result = self.operate(OPERATION, probe_urls=True, wait_timeout=300)
        assert "failed" not in result, result
        assert self.writes() == []
        return result


def plain(message: str, namespace: str) -> str:
    """Return the end of a message of the API server, without what differs from run to run."""
    is_call = "failed calling webhook" in message or "conversion webhook for" in message
    text = message.rpartition('": ')[2] if is_call else message
    text = re.sub(r": current time \S+ is (after|before) \S+", "", text)
    text = text.replace(namespace, "NAMESPACE")
    text = re.sub(r"message of length \d+ bytes", "message of length LENGTH bytes", text)
    return re.sub(r"127\.(96|0)\.\d+\.\d+:\d+", "ADDRESS", text)


@contextlib.contextmanager
def running() -> Iterator[ControlPlane]:
    """Start the control plane."""
    with clusters.running({"matrix": "local-services"}) as fleet:
        plane = ControlPlane(fleet["matrix"])
        try:
            yield plane
        finally:
            plane.close()
