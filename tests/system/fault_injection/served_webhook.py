# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Service, Secret and webhooks of one case, in a namespace that many cases share, and the checks of their
state.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ansible_collections.certflow.kubernetes.plugins.module_utils._operations import (
    k8s_csr,
    k8s_csr_approve,
    webhook_cabundle,
)
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization

from tests.support.clusters import AdminApiError, Cluster
from tests.support.operations import operate
from tests.support.webhooks import called_objects

if TYPE_CHECKING:
    from pathlib import Path

CSRS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
HOOKS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
HOOK_KIND = "ValidatingWebhookConfiguration"
KUBELET_SERVING, EPHEMERAL_CA = "kubernetes.io/kubelet-serving", "ephemeral-ca"
OPERATIONS = {
    operation.name: operation
    for operation in (k8s_csr.OPERATION, k8s_csr_approve.OPERATION, webhook_cabundle.OPERATION)
}
LONG_AGO = "2000-01-01T00:00:00.000000Z"


@dataclass(frozen=True)
class ServedWebhook:
    """A Service ``name`` with its Secret and two webhooks that call it. ``port`` is its port on loopback."""

    cluster: Cluster
    kubeconfig: Path
    namespace: str
    name: str
    port: int

    @property
    def secret_name(self) -> str:
        return f"{self.name}-tls"

    @property
    def secrets(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/secrets"

    @property
    def _lease(self) -> str:
        leases = f"/apis/coordination.k8s.io/v1/namespaces/{self.namespace}/leases"
        return f"{leases}/certflow-{self.name}"

    @property
    def targets(self) -> list[dict[str, Any]]:
        return [{"kind": HOOK_KIND, "name": f"{self.name}-{part}-{self.namespace}"} for part in ("a", "b")]

    @property
    def given_up(self) -> list[dict[str, list[str]]]:
        """Return the words that remove the last CA from the targets, although the server shows a certificate of it, or none."""
        names = [f"{HOOK_KIND}/{target['name']}" for target in self.targets]
        return [{"downtime": names}, {"unseen": names}]

    @property
    def server_name(self) -> str:
        """Return the name under which an API server calls the Service."""
        return f"{self.name}.{self.namespace}.svc"

    def make(self) -> None:
        """Create the Service and the webhooks.

        The Service leads to loopback, where a server presents the Secret's certificate.
        """
        spec = {"type": "ExternalName", "externalName": "localhost"}
        services = f"/api/v1/namespaces/{self.namespace}/services"
        self.cluster.api("POST", services, {"metadata": {"name": self.name}, "spec": spec})
        for target in self.targets:
            self.cluster.api("POST", HOOKS, self._configuration(target["name"]))

    def close(self) -> None:
        """Delete the objects outside the namespace."""
        for target in self.targets:
            self.cluster.api("DELETE", f"{HOOKS}/{target['name']}")
        for csr in self.csrs():
            self.cluster.api("DELETE", f"{CSRS}/{csr['metadata']['name']}")

    def options(self, **changed: Any) -> dict[str, Any]:
        """Return options of k8s_csr that issue a certificate and use it."""
        given = {
            "kubeconfig": str(self.kubeconfig),
            "service": self.name,
            "namespace": self.namespace,
            "secret": {"name": self.secret_name},
            "signer_name": KUBELET_SERVING,
            "targets": self.targets,
        }
        return {**given, **changed}

    def issue(self, **changed: Any) -> dict[str, Any]:
        """Run k8s_csr before the case. It must succeed."""
        result = operate(k8s_csr.OPERATION, self.options(**changed))
        assert result.get("changed"), result
        return result

    # The current state

    def find(self, path: str) -> dict[str, Any] | None:
        try:
            return self.cluster.api("GET", path)
        except AdminApiError as error:
            assert error.status == 404, error
            return None

    def data(self) -> dict[str, str]:
        """Return the Secret's data as text, empty without a Secret."""
        secret = self.find(f"{self.secrets}/{self.secret_name}") or {}
        return {key: base64.b64decode(text).decode() for key, text in (secret.get("data") or {}).items()}

    def bundles(self) -> list[str]:
        objects = [self.cluster.api("GET", f"{HOOKS}/{target['name']}") for target in self.targets]
        places = [obj["webhooks"][0]["clientConfig"] for obj in objects]
        return [base64.b64decode(place.get("caBundle", "")).decode() for place in places]

    def csrs(self) -> list[dict[str, Any]]:
        marker = f"-{self.name}-{self.namespace}-"
        return [csr for csr in self.cluster.api("GET", CSRS)["items"] if marker in csr["metadata"]["name"]]

    def approve(self, name: str) -> None:
        """Approve a request as a user does with kubectl."""
        csr = self.cluster.api("GET", f"{CSRS}/{name}")
        condition = {"type": "Approved", "status": "True", "reason": "ByHand", "message": "by a person."}
        body = {**csr, "status": {"conditions": [condition]}}
        self.cluster.api("PUT", f"{CSRS}/{name}/approval", body)

    def let_time_pass(self) -> None:
        """Let the Lease of a killed run expire now."""
        lease = self.find(self._lease)
        if lease:
            lease["spec"]["renewTime"] = LONG_AGO
            self.cluster.api("PUT", self._lease, lease)

    # The required state

    def faults(self) -> list[str]:
        """Return the reasons why a client would refuse the certificate in the Secret. An empty Secret has none."""
        data = self.data()
        return list(_faults(data, self.server_name, self.bundles())) if "tls.crt" in data else []

    def leftovers(self) -> list[str]:
        """Return descriptions of objects that a finished task must not leave."""
        found = [
            f"CSR {csr['metadata']['name'].rpartition('-')[2]} {_condition(csr)}"
            for csr in self.csrs()
            if not (csr.get("status") or {}).get("certificate")
        ]
        if self.find(f"{self.secrets}/{self.secret_name}-pending"):
            found.append("pending Secret")
        lease = self.find(self._lease)
        if lease and lease["spec"]["renewTime"] != LONG_AGO:
            # A Lease that has expired does not block the next run, which takes it over and deletes it.
            found.append("Lease")
        leaf = _certificates(self.data().get("tls.crt", ""))[:1]
        for bundle in self.bundles():
            needless = [ca for ca in _certificates(bundle) if not (leaf and _vouches(ca, leaf[0]))]
            found += [f"CA {ca.subject.rfc4514_string()} on a target" for ca in needless]
        return found

    def _configuration(self, name: str) -> dict[str, Any]:
        config = called_objects.service(self.namespace, self.name, port=self.port)
        return called_objects.configuration(name, called_objects.webhook("hook.certflow.test", config))


def _faults(data: dict[str, str], name: str, bundles: list[str]) -> Any:
    leaf = x509.load_pem_x509_certificate(data["tls.crt"].encode())
    key = serialization.load_pem_private_key(data["tls.key"].encode(), None)
    if key.public_key() != leaf.public_key():
        yield "its key is another certificate's"
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    if name not in names.get_values_for_type(x509.DNSName):
        yield f"it is not for {name}"
    for number, bundle in enumerate(bundles, 1):
        if not any(_vouches(ca, leaf) for ca in _certificates(bundle)):
            yield f"target {number} does not trust it"


def _certificates(pem: str) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(pem.encode()) if pem.strip() else []


def _vouches(ca: x509.Certificate, leaf: x509.Certificate) -> bool:
    try:
        leaf.verify_directly_issued_by(ca)
    except (InvalidSignature, ValueError):
        return False
    return True


def _condition(csr: dict[str, Any]) -> str:
    kinds = [condition["type"] for condition in (csr.get("status") or {}).get("conditions") or ()]
    return ",".join(kinds) or "Pending"
