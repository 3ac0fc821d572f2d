# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pods of webhooks and EndpointSlices on control planes without a node. The tests write them instead of controllers."""

from __future__ import annotations

from typing import Any


def path(namespace: str) -> str:
    return f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"


def endpoint(
    address: str, *, is_ready: bool = True, pod: tuple[str, str] | None = None, **fields: Any
) -> dict[str, Any]:
    """Return an endpoint. pod: namespace and name of the pod that it refers to."""
    target = {"targetRef": {"kind": "Pod", "namespace": pod[0], "name": pod[1]}} if pod else {}
    return {"addresses": [address], "conditions": {"ready": is_ready}, **target, **fields}


def endpoint_slice(
    service: str, *endpoints: dict[str, Any], port: int, port_name: str = "", name: str = ""
) -> dict[str, Any]:
    """Return an EndpointSlice that no controller of the cluster changes. name: that of the Service by default."""
    labels = {
        "kubernetes.io/service-name": service,
        "endpointslice.kubernetes.io/managed-by": "certflow.test",
    }
    return {
        "metadata": {"name": name or service, "labels": labels},
        "addressType": "IPv4",
        "endpoints": list(endpoints),
        "ports": [{"port": port, "name": port_name}],
    }


def pod(name: str, node: str, labels: dict[str, str], **spec: Any) -> dict[str, Any]:
    """Return a pod of a webhook on a node that no kubelet watches."""
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "nodeName": node,
            "automountServiceAccountToken": False,
            "tolerations": [{"operator": "Exists"}],
            "containers": [{"name": "webhook", "image": "webhook"}],
            **spec,
        },
    }
