# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Broken and healthy webhooks on one test cluster, and the audit of them."""

from __future__ import annotations

import base64
import datetime
import functools
import uuid
from typing import TYPE_CHECKING, Any

import yaml
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations.audit_info import OPERATION

from tests.support.certificates.authority import SERVER_AUTH, Issued, authority, dns, issue
from tests.support.clusters import AdminApiError, pki
from tests.support.operations import operate
from tests.support.permissions import rbac
from tests.support.rig import encoded
from tests.support.webhooks import endpoint_slices
from tests.support.webhooks.bundle_rig import ca, pem
from tests.support.webhooks.https_webhook import WebhookServer, allow
from tests.support.webhooks.probe_rig import HOOKS, REPOSITORY, ProbeRig, config_map

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from tests.support.clusters import Cluster

NOW = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
DAY = datetime.timedelta(days=1)
#: The documented role of an auditor.
ROLE = yaml.safe_load((REPOSITORY / "docs" / "rbac" / "audit.yaml").read_text())


def as_pair(issued: Issued) -> pki.KeyPair:
    return pki.KeyPair(issued.certificate, issued.key)


@functools.cache
def old_ca(days: int) -> Issued:
    """Return a CA that was made two years ago and ends in this number of days."""
    return authority(f"a CA of {days} days", not_before=NOW - 730 * DAY, not_after=NOW + days * DAY)


def leaf(
    *names: str,
    issuer: Issued | None = None,
    usages: tuple[str, ...] = (SERVER_AUTH,),
    begin: datetime.datetime = NOW - 60 * DAY,
    end: datetime.datetime = NOW + 300 * DAY,
) -> pki.KeyPair:
    good = Issued(ca("good").certificate, ca("good").key)
    made = issue("leaf", issuer or good, names=dns(*names), usages=usages, not_before=begin, not_after=end)
    return as_pair(made)


class AuditRig(ProbeRig):
    """A namespace of webhooks. Each has one fault, and is called by nothing unless its rules say so."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster)
        self.servers: list[WebhookServer] = []

    def close(self) -> None:
        super().close()
        for server in self.servers:
            server.close()

    def serve(self, pair: pki.KeyPair | None) -> int:
        """Serve a certificate, None for no TLS. Return the port."""
        server = WebhookServer(allow)
        server.present(pair)
        server.serve()
        self.servers.append(server)
        return server.port

    def hook(
        self,
        name: str,
        *,
        hooks: str = HOOKS,
        metadata: dict[str, Any] | None = None,
        path: str = "",
        query: str = "",
        **fields: Any,
    ) -> str:
        """Create a configuration with one webhook. Return its name, which ends in the name of the rig.

        query: of the request, such as ?fieldManager=kubectl-create.
        """
        full = f"{name}-{self.name}"
        webhook = self.webhook(name=f"{name}.{self.name}.certflow.test", **fields)
        webhook["clientConfig"]["service"]["path"] = path or f"/{name}"
        body = {"metadata": {"name": full, **(metadata or {})}, "webhooks": [webhook]}
        self.cluster.api("POST", f"{hooks}{query}", body)
        self.made.append(f"{hooks}/{full}")
        return full

    def called_hook(self, name: str, *, bundle: bytes | None = None, **fields: Any) -> str:
        """Create a webhook that the API server calls for ConfigMaps with the label of its name. bundle: the bytes."""
        full = f"{name}-{self.name}"
        webhook = self.webhook(
            name=f"{full}.certflow.test", **{"objectSelector": {"matchLabels": {"probe": name}}, **fields}
        )
        if bundle is not None:
            webhook["clientConfig"]["caBundle"] = base64.b64encode(bundle).decode()
        self.make(HOOKS, {"metadata": {"name": full}, "webhooks": [webhook]})
        return full

    def ask(self, name: str) -> str:
        """Return the API server's answer to a dry run that calls only the webhook of this name, "accepted" for none."""
        path = f"/api/v1/namespaces/{self.name}/configmaps?dryRun=All"
        try:
            self.cluster.api("POST", path, config_map(self.name, probe=name))
        except AdminApiError as error:
            return error.message
        return "accepted"

    def service(self, name: str, *, address: str = "") -> str:
        """Create a Service with port 443 and a selector. address: that of a ready endpoint, "" for no endpoint."""
        self.make(
            f"/api/v1/namespaces/{self.name}/services",
            {"metadata": {"name": name}, "spec": {"selector": {"app": name}, "ports": [{"port": 443}]}},
        )
        if address:
            body = endpoint_slices.endpoint_slice(
                name, endpoint_slices.endpoint(address), port=443, name=f"{name}-by-hand"
            )
            self.make(endpoint_slices.path(self.name), body)
        return name

    def audit(self, **options: Any) -> dict[str, Any]:
        """Audit the cluster. Addresses outside of the cluster are read, because the servers are there."""
        result = self.operate(OPERATION, **{"probe_urls": True, **options})
        assert "failed" not in result, result
        assert self.writes() == []
        return result

    def proxied(self, url: str) -> dict[str, Any]:
        """Return a kubeconfig with the token of an administrator for another address of the API server.

        A proxy cannot pass a client certificate on.
        """
        name = f"auditor{len(self.made)}"
        config: dict[str, Any] = yaml.safe_load(self.cluster.token_kubeconfig(name, self.name).read_text())
        config["clusters"][0]["cluster"]["server"] = url
        self.made.append(rbac.make_administrator(self.cluster, name, self.name))
        return config


def audit_as_auditor(
    cluster: Cluster,
    *,
    lacking: Collection[str] = (),
    also: Sequence[dict[str, Any]] = (),
    **options: Any,
) -> dict[str, Any]:
    """Audit as a user with the documented role.

    lacking: resources and paths whose rules the user lacks.
    also: further rules.
    """
    user = f"auditor-{uuid.uuid4().hex[:8]}"
    rules = [rule for rule in ROLE["rules"] if not set(lacking) & set(resources_of(rule))]
    granted = rbac.grant(cluster, user, rbac.cluster_role(*rules, *also))
    try:
        result = operate(OPERATION, {"kubeconfig": str(cluster.kubeconfig_for(user)), **options})
    finally:
        rbac.delete(cluster, granted)
    assert "failed" not in result, result
    return result


def resources_of(rule: dict[str, Any]) -> list[str]:
    return [*rule.get("resources", ()), *rule.get("nonResourceURLs", ())]


def failed(result: dict[str, Any], name: str, *, with_info: bool = False) -> list[dict[str, Any]]:
    """Return the findings about objects of this name that failed, without those of the severity info."""
    return [
        finding
        for finding in result["findings"]
        if finding["status"] == "fail"
        and (with_info or finding["severity"] != "info")
        and finding["object"]["name"] == name
    ]


def checks(result: dict[str, Any], name: str, **options: Any) -> list[str]:
    return [finding["check"] for finding in failed(result, name, **options)]


def bundle_of(issued: Issued) -> str:
    return issued.pem


__all__ = [
    "NOW",
    "AuditRig",
    "bundle_of",
    "checks",
    "encoded",
    "failed",
    "leaf",
    "old_ca",
    "pem",
]
