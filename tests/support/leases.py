# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Leases of a namespace, and the expiry of those whose holder is dead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.support.clusters import Cluster


def path(namespace: str) -> str:
    return f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"


def leases(cluster: Cluster, namespace: str) -> list[dict[str, Any]]:
    return list(cluster.api("GET", path(namespace))["items"])


def lapse(cluster: Cluster, namespace: str, starting: str = "") -> None:
    """Let Leases expire now, so that a test that killed their holder does not wait.

    starting: only Leases whose names begin with this text.
    """
    past = [{"op": "replace", "path": "/spec/renewTime", "value": "2020-01-01T00:00:00.000000Z"}]
    for lease in leases(cluster, namespace):
        if not lease["metadata"]["name"].startswith(starting):
            continue
        cluster.api(
            "PATCH", f"{path(namespace)}/{lease['metadata']['name']}", past, "application/json-patch+json"
        )
