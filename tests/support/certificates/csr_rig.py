# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A namespace, a user and targets for one test on a test cluster, and the operations on requests there."""

from __future__ import annotations

import base64
import datetime
import re
from typing import TYPE_CHECKING, Any

from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.request import csr_api
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations import (
    k8s_csr,
    k8s_csr_approve,
    k8s_csr_info,
)
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from tests.support.clusters import AdminApiError, Cluster, audit
from tests.support.failures import has_failed
from tests.support.other_client import KUBECTL, OtherClient
from tests.support.permissions import rbac
from tests.support.rig import ClusterRig
from tests.support.waiting import now
from tests.support.webhooks import called_objects

if TYPE_CHECKING:
    from tests.support.clusters import Cluster


CSRS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
HOOKS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
HOOK_KIND = "ValidatingWebhookConfiguration"
KUBELET_SERVING = "kubernetes.io/kubelet-serving"


class CsrRig(ClusterRig):
    """A namespace, and certificates for Service hook in it."""

    def __init__(self, cluster: Cluster, signer: str = KUBELET_SERVING) -> None:
        super().__init__(cluster, "csr")
        self.signer = signer
        self.make("/api/v1/namespaces", {"metadata": {"name": self.name}})

    def close(self) -> None:
        super().close()
        for csr in self.csrs():
            self.cluster.api("DELETE", f"{CSRS}/{csr['metadata']['name']}")

    # Operations

    def run(self, *, check_mode: bool = False, **options: Any) -> dict[str, Any]:
        """Run k8s_csr for Service hook of the namespace, with Secret hook-tls."""
        secret = {"name": "hook-tls", **options.pop("secret", {})}
        given = {"service": "hook", "namespace": self.name, "signer_name": self.signer, "secret": secret}
        return self.operate(k8s_csr.OPERATION, check_mode=check_mode, **{**given, **options})

    def approve(self, *, check_mode: bool = False, **options: Any) -> dict[str, Any]:
        return self.operate(k8s_csr_approve.OPERATION, check_mode=check_mode, **options)

    def info(self, **options: Any) -> dict[str, Any]:
        return self.operate(k8s_csr_info.OPERATION, **options)

    def refused(self, code: str, *names: str, **options: Any) -> dict[str, Any]:
        """Run, and check that it fails with this code and one line with cluster and names, and writes
        nothing.
        """
        result = self.run(**options)
        assert_one_line(result, code, self.cluster.url, *names)
        assert result["changed"] is False, result
        assert self.writes() == []
        return result

    # Objects

    def hook(self, name: str = "hook", *, service: str = "hook", **metadata: Any) -> dict[str, Any]:
        """Create a webhook configuration that calls the Service. Return its target."""
        config = called_objects.service(self.name, service)
        webhook = called_objects.webhook("hook.certflow.test", config)
        full = f"{name}-{self.name}"
        self.make(HOOKS, called_objects.configuration(full, webhook, **metadata))
        return {"kind": HOOK_KIND, "name": full}

    def bundle(self, target: dict[str, Any]) -> str:
        """Return the bundle of the last webhook of the target, "" if the object does not exist."""
        try:
            config = self.cluster.api("GET", f"{HOOKS}/{target['name']}")["webhooks"][-1]["clientConfig"]
        except AdminApiError as error:
            assert error.status == 404, error
            return ""
        return base64.b64decode(config.get("caBundle", "")).decode()

    def set_bundle(self, target: dict[str, Any], bundle: str) -> None:
        """Write a bundle as another client does."""
        value = base64.b64encode(bundle.encode()).decode()
        place = {"op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": value}
        self.cluster.api("PATCH", f"{HOOKS}/{target['name']}", [place], "application/json-patch+json")

    def secret(self, name: str = "hook-tls") -> dict[str, Any] | None:
        try:
            return self.cluster.api("GET", f"{self.secrets}/{name}")
        except AdminApiError as error:
            assert error.status == 404, error
            return None

    def data(self, name: str = "hook-tls") -> dict[str, str]:
        secret = self.secret(name)
        assert secret is not None
        return {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}

    def certificate(self, name: str = "hook-tls", key: str = "tls.crt") -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.data(name)[key].encode())

    def put_secret(
        self,
        data: dict[str, str],
        *,
        kind: str = "kubernetes.io/tls",
        by: OtherClient = KUBECTL,
        **changed: Any,
    ) -> None:
        encoded = {key: base64.b64encode(text.encode()).decode() for key, text in data.items()}
        top = {key: changed.pop(key) for key in ("immutable",) if key in changed}
        metadata = {"name": "hook-tls", **changed}
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": metadata,
            "type": kind,
            "data": encoded,
            **top,
        }
        by.write(self.cluster, self.secrets, body)

    @property
    def secrets(self) -> str:
        return f"/api/v1/namespaces/{self.name}/secrets"

    def csrs(self) -> list[dict[str, Any]]:
        """Return the requests for Services of this namespace."""
        marker = f"-{self.name}-"
        return [csr for csr in self.cluster.api("GET", CSRS)["items"] if marker in csr["metadata"]["name"]]

    def csr(self, name: str) -> dict[str, Any] | None:
        try:
            return self.cluster.api("GET", f"{CSRS}/{name}")
        except AdminApiError as error:
            assert error.status == 404, error
            return None

    def decide(
        self,
        name: str,
        decision: str = "Approved",
        *,
        manager: str = "kubectl",
        reason: str = "ByHand",
        message: str = "by a person.",
    ) -> None:
        """Approve or deny a request as kubectl certificate or another client does."""
        csr = self.cluster.api("GET", f"{CSRS}/{name}")
        body = csr_api.Decision(decision, reason, message).on(csr, now())
        self.cluster.api("PUT", f"{CSRS}/{name}/approval?fieldManager={manager}", body)

    def grant(self, user: str, *roles: dict[str, Any]) -> None:
        """Bind ClusterRoles and Roles (or Lists of them) to a user, for the time of the test."""
        self.made += rbac.grant(self.cluster, user, *roles)


def assert_one_line(result: dict[str, Any], code: str, *names: str) -> None:
    """Check that a result is a failure with this code, whose line holds the names and whose remedy is not empty."""
    assert has_failed(result, code, *names), result
    assert "\n" not in result["msg"]
    assert result["cause"]
    assert result["remedy"], result["msg"]


def roles_in(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the roles of docs/rbac that a failure for missing permissions names."""
    names = re.findall(r"-f docs/rbac/([a-z-]+)\.yaml", result["remedy"])
    assert names, result["remedy"]
    return [role for name in names for role in rbac.roles_of(name)]


TWO_STEP = {"approve": False, "wait": False}


def assert_pair(
    rig: CsrRig, name: str = "hook-tls", *, certificate: str = "tls.crt", key: str = "tls.key"
) -> None:
    """Check that key and certificate of the Secret belong together, and that the cluster's CA issued the
    certificate.
    """
    data = rig.data(name)
    leaf = x509.load_pem_x509_certificate(data[certificate].encode())
    private = serialization.load_pem_private_key(data[key].encode(), None)
    assert leaf.public_key() == private.public_key()
    leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(rig.cluster.ca_pem.encode()))


def since(rig: CsrRig) -> datetime.datetime:
    """Return the time just after the last request of the rig's user."""
    return audit.received(rig.cluster.requests(user=rig.user)[-1]) + datetime.timedelta(microseconds=1)
