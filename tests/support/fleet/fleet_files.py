# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files and objects of the tests with many hosts."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping


def kubeconfig(parts: Mapping[str, Path]) -> dict[str, Any]:
    """Return one kubeconfig with a context for each host, in this order.

    No server listens at the address of `dead`.
    """
    merged: dict[str, Any] = {"contexts": [], "clusters": [], "users": []}
    for host, path in parts.items():
        part = yaml.safe_load(path.read_text())
        if host == "dead":
            part["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{closed_port()}"
        for section, items in merged.items():
            items.append({**part[section][0], "name": host})
        merged["contexts"][-1]["context"] = {"cluster": host, "user": host}
    return merged


DEPLOYMENTS = "/apis/apps/v1/namespaces/{}/deployments"


# The markers that `helm install` leaves.
BY_HELM = {
    "metadata": {
        "name": "snapshot-controller",
        "labels": {"app.kubernetes.io/managed-by": "Helm"},
        "annotations": {
            "meta.helm.sh/release-name": "snapshots",
            "meta.helm.sh/release-namespace": "kube-system",
        },
    },
    "spec": {
        "replicas": 0,
        "selector": {"matchLabels": {"app": "x"}},
        "template": {
            "metadata": {"labels": {"app": "x"}},
            "spec": {
                "containers": [
                    {
                        "name": "snapshot-controller",
                        "image": "registry.k8s.io/sig-storage/snapshot-controller:v6.2.2",
                    }
                ]
            },
        },
    },
}


def closed_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])
