# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Objects with caBundles and a user for one test on a test cluster, and the operations of webhook_cabundle."""

from __future__ import annotations

import base64
import copy
import datetime
import functools
from typing import TYPE_CHECKING, Any

from ansible_collections.certflow.kubernetes.plugins.module_utils._operations.webhook_cabundle import (
    OPERATION,
)
from cryptography.hazmat.primitives import hashes

from tests.support.clusters import pki
from tests.support.other_client import KUBECTL, OtherClient
from tests.support.rig import ClusterRig
from tests.support.webhooks import called_objects

if TYPE_CHECKING:
    from tests.support.clusters import Cluster

VALIDATING = "ValidatingWebhookConfiguration"
MUTATING = "MutatingWebhookConfiguration"
DEFINITION = "CustomResourceDefinition"
API_SERVICE = "APIService"
PATHS = {
    VALIDATING: "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
    MUTATING: "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations",
    DEFINITION: "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    API_SERVICE: "/apis/apiregistration.k8s.io/v1/apiservices",
}
JSON_PATCH = "application/json-patch+json"
DAMAGED = "-----BEGIN CERTIFICATE-----\nTm90IGEgY2VydGlmaWNhdGU=\n-----END CERTIFICATE-----\n"
SERVICE = {"namespace": "kube-system", "name": "hook"}


@functools.cache
def ca(name: str) -> pki.KeyPair:
    return pki.make_ca(name)


def pem(name: str) -> str:
    return ca(name).certificate_pem.decode()


def fingerprint(name: str) -> str:
    return ca(name).certificate.fingerprint(hashes.SHA256()).hex()


def leaf(name: str, *names: str, lifetime: datetime.timedelta = pki.YEAR) -> str:
    return pki.issue(ca(name), "leaf", names=names, lifetime=lifetime).certificate_pem.decode()


class BundleRig(ClusterRig):
    """Objects with caBundles that no other test touches."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster, "bundle")

    def run(self, *targets: dict[str, Any], check_mode: bool = False, **options: Any) -> dict[str, Any]:
        """Run webhook_cabundle."""
        return self.operate(OPERATION, check_mode=check_mode, targets=list(targets), **options)

    def webhooks(
        self,
        kind: str,
        *bundles: str | None,
        service: dict[str, str] = SERVICE,
        by: OtherClient = KUBECTL,
        **metadata: Any,
    ) -> dict[str, Any]:
        """Create a webhook configuration with one webhook for each bundle (PEM text, None without the key).

        Return its target.
        """
        entries = [
            called_objects.webhook(f"hook{number}.certflow.test", client_config(bundle, service))
            for number, bundle in enumerate(bundles)
        ]
        return self._make(kind, f"hooks-{len(self.made)}-{self.id}", {"webhooks": entries}, metadata, by)

    def definition(
        self,
        bundle: str | None = None,
        *,
        conversion: bool = True,
        by: OtherClient = KUBECTL,
        **metadata: Any,
    ) -> dict[str, Any]:
        group, plural = f"{self.id}.certflow.test", f"things{len(self.made)}"
        webhook = {"clientConfig": client_config(bundle), "conversionReviewVersions": ["v1"]}
        schema = {"openAPIV3Schema": {"type": "object"}}
        spec = {
            "group": group,
            "scope": "Cluster",
            "names": {"plural": plural, "kind": plural.title()},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
            "conversion": {"strategy": "Webhook", "webhook": webhook} if conversion else {"strategy": "None"},
        }
        return self._make(DEFINITION, f"{plural}.{group}", {"spec": spec}, metadata, by)

    def api_service(self, bundle: str | None = None, **spec: Any) -> dict[str, Any]:
        group = f"aggregated{len(self.made)}.{self.id}.certflow.test"
        body = called_objects.api_service(group, client_config(bundle), **spec)
        return self._make(API_SERVICE, f"v1.{group}", {"spec": body["spec"]}, {}, KUBECTL)

    def read(self, target: dict[str, Any]) -> dict[str, Any]:
        return self.cluster.api("GET", f"{PATHS[target['kind']]}/{target['name']}")

    def bundles(self, target: dict[str, Any]) -> list[str | None]:
        """Return the bundles of an object as PEM text, None for a missing key."""
        obj = self.read(target)
        return [
            base64.b64decode(place["caBundle"]).decode() if "caBundle" in place else None
            for place in places(obj)
        ]

    def patch(self, target: dict[str, Any], *operations: dict[str, Any]) -> None:
        self.cluster.api("PATCH", f"{PATHS[target['kind']]}/{target['name']}", list(operations), JSON_PATCH)

    def delete(self, target: dict[str, Any]) -> None:
        self.cluster.api("DELETE", f"{PATHS[target['kind']]}/{target['name']}")

    def _make(
        self, kind: str, name: str, body: dict[str, Any], metadata: dict[str, Any], by: OtherClient
    ) -> dict[str, Any]:
        version = PATHS[kind].removeprefix("/apis/").rpartition("/")[0]
        obj = {"apiVersion": version, "kind": kind, "metadata": {"name": name, **metadata}, **body}
        by.write(self.cluster, PATHS[kind], obj)
        self.made.append(f"{PATHS[kind]}/{name}")
        return {"kind": kind, "name": name}


def client_config(bundle: str | None, service: dict[str, str] = SERVICE) -> dict[str, Any]:
    place: dict[str, Any] = {} if bundle is None else {"caBundle": base64.b64encode(bundle.encode()).decode()}
    return {**place, "service": {**service, "port": 443}}


def places(obj: dict[str, Any]) -> list[dict[str, Any]]:
    if "webhooks" in obj:
        return [webhook["clientConfig"] for webhook in obj["webhooks"]]
    return [
        obj["spec"]["conversion"]["webhook"]["clientConfig"] if "conversion" in obj["spec"] else obj["spec"]
    ]


def without_bundles(obj: dict[str, Any]) -> dict[str, Any]:
    """Return the object without its bundles and without the fields that every write changes."""
    rest = copy.deepcopy(obj)
    for place in places(rest):
        place.pop("caBundle", None)
    for moving in ("resourceVersion", "generation", "managedFields"):
        rest["metadata"].pop(moving, None)
    rest.pop("status", None)
    return rest
