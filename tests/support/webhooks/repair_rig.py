# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Broken webhooks on one test cluster, and their repair."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from ansible_collections.certflow.kubernetes.plugins.module_utils._operations.webhook_repair import (
    OPERATION,
)

from tests.support.audit.audit_rig import AuditRig
from tests.support.clusters import AdminApiError
from tests.support.webhooks.bundle_rig import pem

if TYPE_CHECKING:
    from tests.support.clusters import Cluster

#: The ConfigMap in which istiod publishes its CA.
ISTIO_CA = "istio-ca-root-cert"
_NAMESPACES = "/api/v1/namespaces"
_CONFIG_MAPS = f"{_NAMESPACES}/istio-system/configmaps"


def publish_as_istiod(cluster: Cluster, pem: str) -> None:
    """Publish CAs, PEM text. The namespace stays, because a namespace that is deleted cannot be created at once."""
    for path, body in (
        (_NAMESPACES, {"metadata": {"name": "istio-system"}}),
        (_CONFIG_MAPS, {"metadata": {"name": ISTIO_CA}, "data": {"root-cert.pem": pem}}),
    ):
        with contextlib.suppress(AdminApiError):  # It exists.
            cluster.api("POST", path, body)
    cluster.api(
        "PUT",
        f"{_CONFIG_MAPS}/{ISTIO_CA}",
        {"metadata": {"name": ISTIO_CA}, "data": {"root-cert.pem": pem}},
    )


def withdraw(cluster: Cluster) -> None:
    """Remove the published CAs, if there are any."""
    with contextlib.suppress(AdminApiError):
        cluster.api("DELETE", f"{_CONFIG_MAPS}/{ISTIO_CA}")


class RepairRig(AuditRig):
    """A namespace of broken webhooks, with a place that publishes CAs."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster)
        self.config_maps = f"/api/v1/namespaces/{self.name}/configmaps"

    def close(self) -> None:
        super().close()
        withdraw(self.cluster)

    def publish(self, pem: str) -> None:
        """Publish CAs as istiod does."""
        publish_as_istiod(self.cluster, pem)

    def broken(
        self,
        name: str,
        *,
        bundle: str = "",
        by: str = "kubectl-create",
        metadata: dict[str, Any] | None = None,
        **fields: Any,
    ) -> str:
        """Create a webhook that the API server calls for ConfigMaps with the label of its name. Return the name of its object.

        bundle: PEM text of another CA than the server's. by: the field manager.
        """
        fields.setdefault("objectSelector", {"matchLabels": {"probe": name}})
        return self.hook(
            name,
            query=f"?fieldManager={by}",
            metadata=metadata,
            bundle=bundle or pem("other"),
            **fields,
        )

    def repair(self, *, check_mode: bool = False, **options: Any) -> dict[str, Any]:
        """Run webhook_repair. Addresses outside of the cluster are read, because the servers are there."""
        given = {"probe_urls": True, "proof_after": 1, "wait_timeout": 20, **options}
        return self.operate(OPERATION, check_mode=check_mode, **given)


def of(result: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """Return the repairs of an object of this name."""
    return [entry for entry in result["repairs"] if entry["object"]["name"] == name]


def states(result: dict[str, Any], name: str) -> list[tuple[str, str, str]]:
    """Return check, state and code of each repair of an object."""
    return [(entry["check"], entry["state"], entry["code"]) for entry in of(result, name)]
