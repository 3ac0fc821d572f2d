# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Programs that an API server calls during a rotation of the CA of its cluster, with certificates of that CA."""

from __future__ import annotations

import base64
import contextlib
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import yaml
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.checks.rotation_checks import (
    ROTATION_ROWS,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations import (
    audit_info,
    k8s_csr,
    webhook_repair,
)

from tests.support.audit_rig import AuditRig
from tests.support.clusters import AdminApiError, pki
from tests.support.forwarded_pods import ForwardedPods
from tests.support.https_webhook import OneRequestHandler, WebhookServer, allow, convert
from tests.support.other_client import OtherClient
from tests.support.probe_rig import API_SERVICES, DEFINITIONS, HOOKS, schema
from tests.support.repair_rig import states
from tests.support.rig import encoded
from tests.support.signer_requests import KUBELET_SERVING
from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.support.clusters import Cluster
    from tests.support.clusters.pki import KeyPair

BY_HAND = OtherClient("kubectl-create")


class Called(Protocol):
    """A program that an API server calls."""

    name: str

    def is_called(self) -> bool: ...


class Calls:
    """Requests that call programs, one after the other, until the block ends."""

    def __init__(self, *callers: Called) -> None:
        self._callers = callers
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        #: Names of the programs -> the results of all calls.
        self.results: dict[str, list[bool]] = {caller.name: [] for caller in callers}

    def __enter__(self) -> Calls:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def failures(self) -> dict[str, int]:
        """Return the number of failed calls of each program that failed once. Print the figures."""
        for name, results in self.results.items():
            print(f"{name}: {len(results)} calls, {results.count(False)} failures")
        return {name: count for name, results in self.results.items() if (count := results.count(False))}

    def wait_for_more(self, count: int = 3) -> None:
        """Wait until each program was called this number of times more."""
        before = {name: len(results) for name, results in self.results.items()}
        wait_for(lambda: all(len(results) >= before[name] + count for name, results in self.results.items()))

    def _run(self) -> None:
        while not self._stop.wait(0.1):
            for caller in self._callers:
                # The client of this test does not know the CA of the API server for a moment.
                with contextlib.suppress(OSError):
                    self.results[caller.name].append(caller.is_called())


def rotation_findings(result: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Return check -> name of the object -> severity, of the findings about a rotation that fail."""
    severities: dict[str, dict[str, str]] = {row.id: {} for row in ROTATION_ROWS}
    for finding in result["findings"]:
        if finding["status"] == "fail" and finding["check"] in severities:
            severities[finding["check"]][finding["object"]["name"]] = finding["severity"]
    return {check: objects for check, objects in severities.items() if objects}


def with_ca(rig: AuditRig, *cas: KeyPair) -> dict[str, Any]:
    """Return the user's kubeconfig with these CAs."""
    config: dict[str, Any] = yaml.safe_load(rig.kubeconfig.read_text())
    pem = b"".join(ca.certificate_pem for ca in cas)
    config["clusters"][0]["cluster"]["certificate-authority-data"] = base64.b64encode(pem).decode()
    return config


class RotationRig(AuditRig):
    """A cluster before a rotation, with pods whose ports a small kubelet forwards."""

    def __init__(self, cluster: Cluster, **rotation: Any) -> None:
        super().__init__(cluster)
        self.pods = ForwardedPods(cluster)
        self.rotation = cluster.rotation(**rotation)
        self.old, self.new = self.rotation.outgoing, self.rotation.successor

    def close(self) -> None:
        super().close()
        self.pods.close()

    def make_service(self, name: str, server: WebhookServer) -> None:
        """Create a Service with one pod, which is the server."""
        self.pods.create(self.make, self.name, name, (str(server.server_address[0]), server.port))

    def run(self, kinds: list[str], *, check_mode: bool = False, **options: Any) -> dict[str, Any]:
        """Run a phase with a kubeconfig that trusts both CAs."""
        arguments = {
            "kinds": kinds,
            "kubeconfig": with_ca(self, self.old, self.new),
            "probe_urls": True,
            "proof_after": 1,
            "wait_timeout": 30,
            "cluster_ca": {"confirmed": True},
            **options,
        }
        return self.operate(webhook_repair.OPERATION, check_mode=check_mode, **arguments)

    def findings(self) -> dict[str, dict[str, str]]:
        """Audit the cluster as `run` connects to it. Return the findings about the rotation."""
        trust = with_ca(self, self.old, self.new)
        return rotation_findings(self.operate(audit_info.OPERATION, kubeconfig=trust, probe_urls=True))


class PodHook:
    """A webhook of a pod whose owner issues its certificates with a CA of the cluster. Each call is a new connection.

    The subclasses are other objects by which an API server calls a program.
    """

    collection, version, kind = HOOKS, "admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration"
    #: Where the object has its client configuration.
    pointer: tuple[str | int, ...] = ("webhooks", 0, "clientConfig")
    answer = staticmethod(allow)

    def __init__(
        self,
        rig: RotationRig,
        name: str,
        *,
        by: OtherClient = BY_HAND,
        metadata: dict[str, Any] | None = None,
        **fields: Any,
    ) -> None:
        self._rig = rig
        self.name = name
        self.group = f"{name}.{rig.id}.certflow.test"
        self.server = WebhookServer(self.answer, rig.pods.next_address())
        self.server.RequestHandlerClass = OneRequestHandler
        rig.servers.append(self.server)
        self.issue(rig.old)
        self.server.serve()
        rig.make_service(name, self.server)
        body = {
            "apiVersion": self.version,
            "kind": self.kind,
            "metadata": {"name": self.full_name, **(metadata or {})},
            **self.body(**fields),
        }
        by.write(rig.cluster, self.collection, body)
        rig.made.append(f"{self.collection}/{self.full_name}")

    @property
    def full_name(self) -> str:
        return f"{self.name}-{self._rig.name}"

    def body(self, **fields: Any) -> dict[str, Any]:
        webhook = self._rig.webhook(
            name=f"{self.full_name}.certflow.test",
            objectSelector={"matchLabels": {"probe": self.name}},
            timeoutSeconds=30,  # a slow machine is no fault of a rotation
            **{"clientConfig": self.client_config(), **fields},
        )
        return {"webhooks": [webhook]}

    def client_config(self) -> dict[str, Any]:
        service = {"namespace": self._rig.name, "name": self.name, "port": self.server.port}
        return {"service": service, "caBundle": encoded(self._rig.old.certificate_pem.decode())}

    def issue(self, ca: KeyPair, *sent: KeyPair) -> None:
        """Serve a new certificate of a CA. sent: the intermediates that the server sends."""
        names = (f"{self.name}.{self._rig.name}.svc", str(self.server.server_address[0]))
        pair = pki.issue(ca, "hook", names=names)
        chain = b"".join(entry.certificate_pem for entry in (pair, *sent))
        self.server.present(_Pair(chain, pair.key_pem))

    def is_called(self) -> bool:
        """Return True if a request that it matches is accepted, and reaches it."""
        before = len(self.server.calls)
        return self.is_accepted() and len(self.server.calls) > before

    def is_accepted(self) -> bool:
        return self._rig.ask(self.name) == "accepted"

    @property
    def bundle(self) -> str:
        value: Any = self._rig.cluster.api("GET", f"{self.collection}/{self.full_name}")
        for part in self.pointer:
            value = value[part]
        return base64.b64decode(value["caBundle"]).decode()

    def trusts(self, ca: KeyPair) -> bool:
        return ca.certificate_pem.decode() in self.bundle


class UrlHook(PodHook):
    """A webhook that is called by its URL. The API server skips it without an error if a call fails."""

    def body(self, **fields: Any) -> dict[str, Any]:
        return super().body(failurePolicy="Ignore", **fields)

    def client_config(self) -> dict[str, Any]:
        url = f"https://{self.server.server_address[0]!s}:{self.server.port}/"
        return {**super().client_config(), "service": None, "url": url}


class Conversion(PodHook):
    """A CustomResourceDefinition whose objects are stored as v1 and read as v1beta1."""

    collection, version, kind = DEFINITIONS, "apiextensions.k8s.io/v1", "CustomResourceDefinition"
    pointer = ("spec", "conversion", "webhook", "clientConfig")
    answer = staticmethod(convert)

    @property
    def full_name(self) -> str:
        return f"things.{self.group}"

    def body(self, **fields: Any) -> dict[str, Any]:
        webhook = {"clientConfig": self.client_config(), "conversionReviewVersions": ["v1"]}
        versions = [
            {"name": version, "served": True, "storage": version == "v1", "schema": schema(True)}
            for version in ("v1", "v1beta1")
        ]
        spec = {
            "group": self.group,
            "scope": "Namespaced",
            "names": {"plural": "things", "kind": "Thing"},
            "versions": versions,
            "conversion": {"strategy": "Webhook", "webhook": webhook},
        }
        return {"spec": spec, **fields}

    def is_accepted(self) -> bool:
        place = f"/apis/{self.group}/{{}}/namespaces/{self._rig.name}/things"
        if self._rig.is_served(f"{place.format('v1beta1')}/a"):
            return True
        if not self._rig.is_served(f"{place.format('v1')}/a"):
            body = {"apiVersion": f"{self.group}/v1", "kind": "Thing", "metadata": {"name": "a"}}
            with contextlib.suppress(AdminApiError):
                self._rig.cluster.api("POST", place.format("v1"), body)
        return False


class AggregatedApi(PodHook):
    """An aggregated API."""

    collection, version, kind = API_SERVICES, "apiregistration.k8s.io/v1", "APIService"
    pointer = ("spec",)

    @staticmethod
    def answer(review: dict[str, Any]) -> tuple[int, object]:
        return 200, {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "", "resources": []}

    @property
    def full_name(self) -> str:
        return f"v1.{self.group}"

    def body(self, **fields: Any) -> dict[str, Any]:
        priorities = {"groupPriorityMinimum": 10, "versionPriority": 10}
        return {
            "spec": {"group": self.group, "version": "v1", **priorities, **self.client_config()},
            **fields,
        }

    def is_accepted(self) -> bool:
        return self._rig.is_served(f"/apis/{self.group}/v1/things")


class OwnHook(PodHook):
    """A webhook whose certificate and caBundle k8s_csr writes. Its pod reads the Secret at each call."""

    def __init__(self, rig: RotationRig, name: str, signer: str = KUBELET_SERVING) -> None:
        super().__init__(rig, name)
        self._served, self._signer = "", signer
        assert self.renew()["changed"]

    def client_config(self) -> dict[str, Any]:
        return {**super().client_config(), "caBundle": None}

    def renew(self, **options: Any) -> dict[str, Any]:
        """Run k8s_csr as the weekly playbook does."""
        arguments = {
            "kubeconfig": with_ca(self._rig, self._rig.old, self._rig.new),
            "service": self.name,
            "namespace": self._rig.name,
            "signer_name": self._signer,
            "secret": {"name": self.name},
            "targets": [{"kind": self.kind, "name": self.full_name}],
            **options,
        }
        result = self._rig.operate(k8s_csr.OPERATION, **arguments)
        assert "failed" not in result, result
        return result

    def is_called(self) -> bool:
        path = f"/api/v1/namespaces/{self._rig.name}/secrets/{self.name}"
        data = self._rig.cluster.api("GET", path)["data"]
        if data["tls.crt"] != self._served:
            self._served = data["tls.crt"]
            self.server.present(_Pair(*(base64.b64decode(data[key]) for key in ("tls.crt", "tls.key"))))
        return super().is_called()


@dataclass(frozen=True)
class _Pair:
    certificate_pem: bytes
    key_pem: bytes


def of_cluster(result: dict[str, Any]) -> list[tuple[str, str]]:
    """Return state and code of what a phase waits for in the whole cluster."""
    return [
        (entry["state"], entry["code"])
        for entry in result["repairs"]
        if entry["object"]["kind"] == "ConfigMap"
    ]


def of_hook(result: dict[str, Any], hook: PodHook) -> list[tuple[str, str]]:
    return [(state, code) for _check, state, code in states(result, hook.full_name)]


def codes(result: dict[str, Any], hooks: Sequence[PodHook]) -> dict[str, list[tuple[str, str]]]:
    """Return the name of each program -> state and code of its repairs."""
    return {hook.name: of_hook(result, hook) for hook in hooks}
