# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A webhook that the API server calls over the network of this machine."""

from __future__ import annotations

import base64
import contextlib
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible_collections.certflow.kubernetes.plugins.module_utils._operations.webhook_probe import OPERATION

from tests.support.clusters import AdminApiError, pki
from tests.support.permissions import rbac
from tests.support.rig import ClusterRig, encoded
from tests.support.waiting import wait_for
from tests.support.webhooks import called_objects
from tests.support.webhooks.bundle_rig import ca, pem
from tests.support.webhooks.https_webhook import WebhookServer, allow, convert

if TYPE_CHECKING:
    from tests.support.clusters import Cluster


REPOSITORY = Path(__file__).parents[3]


VALIDATING = "ValidatingWebhookConfiguration"


HOOKS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"


DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


API_SERVICES = "/apis/apiregistration.k8s.io/v1/apiservices"

#: The fields of the schema of an object that must have a size.
_CLOSED = {"properties": {"size": {"type": "integer"}}, "required": ["size"]}


class ProbeRig(ClusterRig):
    """A namespace with Service hook, which leads to a server on this machine."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster, "probe")
        self.server_name = f"hook.{self.name}.svc"
        self.make("/api/v1/namespaces", {"metadata": {"name": self.name}})
        self.make(
            f"/api/v1/namespaces/{self.name}/services",
            {"metadata": {"name": "hook"}, "spec": {"type": "ExternalName", "externalName": "localhost"}},
        )
        self.server = WebhookServer(allow)
        self.server.present(self.leaf())
        self.server.serve()

    def close(self) -> None:
        super().close()
        self.server.close()

    def leaf(self, *names: str, issuer: str = "good", **options: Any) -> pki.KeyPair:
        return pki.issue(ca(issuer), "hook", names=names or (self.server_name,), **options)

    # Probed objects

    def webhook(
        self, *, port: int = 0, bundle: str = "", service: str = "hook", name: str = "", **fields: Any
    ) -> dict[str, Any]:
        """Return a webhook for ConfigMaps of this namespace with the label probe, as the API returns it."""
        client = {
            **called_objects.service(self.name, service, port=port or self.server.port),
            "caBundle": encoded(bundle or pem("good")),
        }
        defaults = {
            **called_objects.of_namespace(self.name),
            "objectSelector": {"matchLabels": {"probe": "yes"}},
            "timeoutSeconds": 1,
        }
        full = name or f"{self.name}.certflow.test"
        return called_objects.webhook(full, client, called_objects.CONFIG_MAPS, **{**defaults, **fields})

    def configure(self, *webhooks: dict[str, Any], hooks: str = HOOKS, **metadata: Any) -> dict[str, Any]:
        """Create a configuration and wait until the API server uses it. Return its target."""
        name = f"hooks{len(self.made)}-{self.name}"
        self.make(hooks, {"metadata": {"name": name, **metadata}, "webhooks": list(webhooks)})
        kind = VALIDATING if hooks == HOOKS else "MutatingWebhookConfiguration"
        return {"kind": kind, "name": name}

    def called_webhook(self, **fields: Any) -> dict[str, Any]:
        """Return the target of a webhook that the API server has called: it follows the configuration and is connected."""
        target = self.configure(self.webhook(**fields))
        before = len(self.server.calls)
        wait_for(lambda: self.dry_run() and len(self.server.calls) > before)
        return target

    def dry_run(self) -> str:
        """Return the answer to a dry run of the ConfigMap."""
        path = f"/api/v1/namespaces/{self.name}/configmaps?dryRun=All"
        try:
            self.cluster.api("POST", path, config_map(self.name))
        except AdminApiError as error:
            return error.message
        return "accepted"

    def definition(self, **versions: bool) -> dict[str, Any]:
        """Create a CustomResourceDefinition with a conversion webhook. versions: version -> True if its
        schema is open.
        """
        group = f"{self.name}.certflow.test"
        config = {
            **called_objects.service(self.name, "hook", port=self.server.port, path="/convert"),
            "caBundle": encoded(pem("good")),
        }
        schemas = {
            version: called_objects.schema(**({} if is_open else _CLOSED))
            for version, is_open in versions.items()
        }
        name = self.make(DEFINITIONS, called_objects.definition(group, config, **schemas))["metadata"]["name"]
        self.server.answer = convert
        wait_for(lambda: self.is_served(f"/apis/{group}/v1"))
        return {"kind": "CustomResourceDefinition", "name": name}

    def api_service(self, **spec: Any) -> dict[str, Any]:
        """Create an aggregated API that this rig's server serves. ``spec`` describes the Service."""
        group = f"aggregated.{self.name}.certflow.test"
        service = {"namespace": self.name, "name": "hook", "port": self.server.port, **spec}
        resources = {
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": f"{group}/v1",
            "resources": [],
        }
        self.server.answer = lambda _asked: (200, resources)
        config = {"service": service, "caBundle": encoded(pem("good"))}
        self.make(API_SERVICES, called_objects.api_service(group, config))
        return {"kind": "APIService", "name": f"v1.{group}"}

    def is_served(self, path: str) -> bool:
        with contextlib.suppress(AdminApiError):
            return bool(self.cluster.api("GET", path))
        return False

    def bundle(self, target: dict[str, Any]) -> str:
        config = self.cluster.api("GET", f"{HOOKS}/{target['name']}")["webhooks"][0]["clientConfig"]
        return base64.b64decode(config["caBundle"]).decode()

    # Operations

    def probe(self, target: dict[str, Any], *, check_mode: bool = False, **options: Any) -> dict[str, Any]:
        is_admission = target["kind"].endswith("WebhookConfiguration")
        given = {"target": target, **({"object": config_map(self.name)} if is_admission else {}), **options}
        result = self.operate(OPERATION, check_mode=check_mode, **given)
        assert "\n" not in result["msg"]
        if result.get("verdict") == "failed":
            assert result["failed"], result
        return result

    def verdict(self, target: dict[str, Any], **options: Any) -> tuple[str, str]:
        result = self.probe(target, **options)
        return result["verdict"], (result["failure"] or {"code": "ok"})["code"]

    def dry_runs(self) -> int:
        return sum(verb == "dry" for verb, _resource in self.asked())

    def become(self, *rules: tuple[str, str, list[str]]) -> None:
        """Switch to a user with only these permissions: (group, resource, verbs)."""
        self.become_by(
            [
                {"apiGroups": [group], "resources": [resource], "verbs": verbs}
                for group, resource, verbs in rules
            ]
        )

    def become_by(self, rules: list[dict[str, Any]]) -> None:
        """Switch to a user with the rules of a ClusterRole."""
        self.user = f"limited-{uuid.uuid4().hex[:8]}"
        self.made += rbac.grant(self.cluster, self.user, rbac.cluster_role(*rules))
        self.kubeconfig = self.cluster.kubeconfig_for(self.user)

    def become_blind(self, *verbs: str) -> None:
        """Switch to a user who may probe, but not read endpoints."""
        self.become(
            ("admissionregistration.k8s.io", "*", ["get", *verbs]),
            ("apiextensions.k8s.io", "*", ["get", *verbs]),
            ("apiregistration.k8s.io", "*", ["get", *verbs]),
            (f"{self.name}.certflow.test", "things", ["create"]),
            ("", "configmaps", ["create"]),
            ("", "namespaces", ["get"]),
        )


def config_map(namespace: str, **labels: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "probed", "namespace": namespace, "labels": {"probe": "yes", **labels}},
    }


MUTATING_HOOKS = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
