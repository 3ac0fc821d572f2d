# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Services with one ready pod each, whose program is a server of this machine, on a cluster of the profile local-services.

The API server calls the address of the Service. Port-forwards to the pod reach the same server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.support.webhooks import endpoint_slices
from tests.support.webhooks.port_forwarder import PortForwarder

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.clusters import Cluster

NODE = "node-a"


class ForwardedPods:
    """The node of the pods, with a small kubelet that forwards their ports until `close`.

    Services of several clusters may have one address. Their ports differ.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._addresses: dict[str, str] = {}
        self._kubelet = PortForwarder(self._addresses)
        status = {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self._kubelet.port}},
        }
        cluster.api("POST", "/api/v1/nodes", {"metadata": {"name": NODE}, "status": status})

    def close(self) -> None:
        self._kubelet.close()

    def next_address(self) -> str:
        """Return the address for the server of the next Service."""
        return f"127.96.2.{len(self._addresses) + 1}"

    def create(
        self,
        make: Callable[[str, dict[str, Any]], object],
        namespace: str,
        name: str,
        server: tuple[str, int],
        **spec: Any,
    ) -> None:
        """Create a Service, its pod and its EndpointSlice with this name.

        make: creates an object, called with the path of its collection and the object.
        server: address and port.
        spec: further fields of the pod.
        """
        address, port = server
        self._addresses[f"{namespace}/{name}"] = address
        service = {"clusterIP": address, "selector": {"app": name}, "ports": [{"port": port}]}
        make(f"/api/v1/namespaces/{namespace}/services", {"metadata": {"name": name}, "spec": service})
        pod = endpoint_slices.pod(name, NODE, {"app": name}, **spec)
        make(f"/api/v1/namespaces/{namespace}/pods", pod)
        endpoint = endpoint_slices.endpoint(
            f"10.244.0.{len(self._addresses)}", pod=(namespace, name), nodeName=NODE
        )
        make(endpoint_slices.path(namespace), endpoint_slices.endpoint_slice(name, endpoint, port=port))
