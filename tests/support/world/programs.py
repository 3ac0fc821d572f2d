# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The programs of shapes: their objects, their endpoints, and the request that calls them."""

from __future__ import annotations

import base64
import contextlib
import copy
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ansible_collections.certflow.kubernetes.plugins.module_utils._x509.encoding import pem_text

from tests.support.certificates.authority import Issued
from tests.support.clusters import AdminApiError
from tests.support.other_client import OtherClient
from tests.support.rig import encoded
from tests.support.waiting import wait_for
from tests.support.webhooks import called_objects
from tests.support.webhooks.https_webhook import allow, convert
from tests.support.webhooks.probe_rig import API_SERVICES, DEFINITIONS, HOOKS, MUTATING_HOOKS, config_map
from tests.support.world import shapes
from tests.support.world.certificates import Certificates, Sent
from tests.support.world.reach import MERGE, Reach
from tests.support.world.servers import Endpoint

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.support.clusters.pki import KeyPair
    from tests.support.webhooks.https_webhook import CertificateWithKey, Reply
    from tests.support.world.shapes import Owner, Shape
    from tests.support.world.world import World

ACCEPTED = "accepted"
#: The request was accepted without the program, as with the failure policy Ignore.
NOT_CALLED = "accepted without a call"
JSON_PATCH = "application/json-patch+json"
#: The record of a repair, by which the next one sees that the owner has overwritten it.
REPAIRED = "certflow.kubernetes/repaired"
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


class Program:
    """A program that the API server calls, by an object that its owner has written. Each call is a new connection.

    The subclasses are the kinds of objects.
    """

    collection, version, kind = HOOKS, "admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration"
    #: Where the object has its client configuration.
    pointer: tuple[str | int, ...] = ("webhooks", 0, "clientConfig")
    answer = staticmethod(allow)

    def __init__(self, world: World, shape: Shape, name: str) -> None:
        self.world, self.shape, self.name = world, shape, name
        #: The owner of the row. An event may give the object to another one.
        self.first_owner = shape.owner
        self.group = f"{name}.{world.id}.certflow.test"
        self.reach = Reach(world, name, shape, self.answer)
        self.kept = self._bundle_of(shape)
        #: The time at which its owner issued its certificate last.
        self.issued = world.cluster.now()
        #: True if the marks of its Secret were edited by hand.
        self.is_edited = False
        self._served = ""
        if not self.is_ours:
            self.issue()
        self.write()
        if self.is_ours:
            self.set_reloads(reloads=True)
            world.renew(self)

    # The object

    @property
    def full_name(self) -> str:
        return f"{self.name}-{self.world.name}"

    @property
    def path(self) -> str:
        return f"{self.collection}/{self.full_name}"

    @property
    def target(self) -> dict[str, Any]:
        return {"kind": self.kind, "name": self.full_name}

    def body(self, config: dict[str, Any]) -> dict[str, Any]:
        """Return the fields of the object with this client configuration."""
        fields = {
            **called_objects.of_namespace(self.world.name),
            "objectSelector": {"matchLabels": {"probe": self.name}},
            "failurePolicy": self.shape.failure_policy,
            "timeoutSeconds": 30,  # a slow machine is no fault of the program
            **self.shape.fields,
        }
        name = f"{self.full_name}.certflow.test"
        webhook = called_objects.webhook(name, config, called_objects.CONFIG_MAPS, **fields)
        return {"webhooks": [webhook]}

    def read(self) -> dict[str, Any]:
        return self.world.cluster.api("GET", self.path)

    @property
    def bundle(self) -> str:
        """The CAs of the object, PEM text."""
        value: Any = self.read()
        for part in self.pointer:
            value = value[part]
        return base64.b64decode(value.get("caBundle", "")).decode()

    def set_bundle(self, text: str, manager: str = "") -> None:
        """Write the CAs as a program does, by default as its owner does."""
        self._set(encoded(text), "caBundle", manager=manager)

    def set_port(self, port: int) -> None:
        """Let the object call another port of the Service, as its owner does. A URL stays."""
        if self.shape.reached != shapes.BY_URL:
            self._set(port, "service", "port")

    def _set(self, value: str | int, *field: str, manager: str = "") -> None:
        """Write a field of the client configuration."""
        path = "/" + "/".join(map(str, (*self.pointer, *field)))
        query = f"fieldManager={manager or self.shape.owner.manager}"
        patch = [{"op": "add", "path": path, "value": value}]
        self.world.cluster.api("PATCH", f"{self.path}?{query}", patch, JSON_PATCH)

    def give_to(self, owner: Owner) -> None:
        """Let another owner take over the object. It restores the bundle that the object has now after each change."""
        self.kept = self.bundle
        self.shape = replace(self.shape, owner=owner)
        self.world.keep()

    def restore(self) -> None:
        """Give the object back to its first owner, with its port. All endpoints become ready, and pods of ours reload."""
        self.shape = replace(self.shape, owner=self.first_owner)
        self.set_port(self.reach.port)
        if shapes.NOT_READY in self.reach.states:
            self.reach.set_states(shapes.READY)
        if self.is_ours:
            self.set_reloads(reloads=True)

    def recreate(self) -> None:
        """Delete the object, and let its first owner create it again, with what this owner writes."""
        self.world.cluster.api("DELETE", self.path)
        wait_for(lambda: self.world.ask("GET", self.path) != ACCEPTED)
        self.shape = replace(self.shape, owner=self.first_owner)
        self.write()

    def content(self) -> dict[str, Any]:
        """Return what the owner writes into the object: all but the CAs, and the records of a repair and of kubectl about them."""
        obj = copy.deepcopy(self.read())
        config: Any = obj
        for part in self.pointer:
            config = config[part]
        config.pop("caBundle", None)
        annotations = {**(obj["metadata"].get("annotations") or {})}
        for record in (REPAIRED, _LAST_APPLIED):
            annotations.pop(record, None)
        metadata = {"labels": obj["metadata"].get("labels"), "annotations": annotations}
        return {**obj, "metadata": metadata, "status": None}

    def trusts(self, ca: KeyPair) -> bool:
        return ca.certificate_pem.decode() in self.bundle

    def _bundle_of(self, shape: Shape) -> str | None:
        if shape.bundle is None:
            return None
        return "".join(self.world.ca(name).certificate_pem.decode() for name in shape.bundle)

    def write(self) -> None:
        """Create the object, as its owner does."""
        owner, metadata = self.shape.owner, dict(self.shape.metadata)
        config = dict(self.reach.client_config)
        if self.kept is not None:
            config["caBundle"] = encoded(self.kept)
        for key, values in (("labels", owner.labels), ("annotations", owner.annotations)):
            if values or key in metadata:
                metadata[key] = {**values, **metadata.get(key, {})}
        obj = {
            "apiVersion": self.version,
            "kind": self.kind,
            "metadata": {"name": self.full_name, **metadata},
            **self.body(config),
        }
        if owner.records:
            obj["metadata"]["annotations"] = {
                **metadata.get("annotations", {}),
                _LAST_APPLIED: json.dumps(obj),
            }
        OtherClient(owner.manager, applies=owner.applies).write(self.world.cluster, self.collection, obj)
        self.world.made.append(self.path)

    # The certificate

    @property
    def is_ours(self) -> bool:
        """True if the collection issues its certificate. Its pods read the Secret before each handshake."""
        return self.shape.certificate == shapes.OURS

    @property
    def secret(self) -> str:
        """The path of the Secret that the collection writes."""
        return f"/api/v1/namespaces/{self.world.name}/secrets/{self.name}"

    def delete_secret(self) -> None:
        """Delete the Secret, if there is one. Pods serve what they have until the next one comes."""
        with contextlib.suppress(AdminApiError):
            self.world.cluster.api("DELETE", self.secret)
            self.is_edited = False

    def edit_secret(self) -> None:
        """Replace one annotation of the Secret, if there is one, and another one each day."""
        with contextlib.suppress(AdminApiError):
            marks = sorted(self.world.cluster.api("GET", self.secret)["metadata"].get("annotations") or {})
            edited = dict.fromkeys(marks[self.world.cluster.now().toordinal() % len(marks) :][:1], "x")
            self.world.cluster.api("PATCH", self.secret, {"metadata": {"annotations": edited}}, MERGE)
            self.is_edited = True

    def set_reloads(self, *, reloads: bool) -> None:
        """Let the pods read the Secret before each handshake, or no longer."""
        for endpoint in self.reach.endpoints:
            endpoint.prepare = self.reload if reloads else lambda: None

    def reload(self) -> None:
        """Serve the certificate of the Secret, if there is one."""
        with contextlib.suppress(AdminApiError, OSError):
            data = self.world.cluster.api("GET", self.secret)["data"]
            if data["tls.crt"] != self._served:
                self._served = data["tls.crt"]
                self.present(Sent(*(base64.b64decode(data[key]) for key in ("tls.crt", "tls.key"))))

    def issue(self, ca: KeyPair | None = None, *sent: KeyPair, endpoints: tuple[int, ...] = ()) -> None:
        """Serve a new certificate, by default of the CA of the row. sent: the intermediates that the server sends.

        endpoints: their numbers, () for all.
        """
        row, world = self.shape.certificate, self.world
        self.issued = world.cluster.now()
        if ca:
            row = replace(row, chain=("given",))
        cas = {"given": Issued(ca.certificate, ca.key)} if ca else world.cas
        certificates = Certificates(cas, now=world.cluster.now())
        leaf = replace(row, names=(*row.names, *self.reach.addresses))
        chain = certificates.sent(leaf, self.reach.server_name)
        extra = b"".join(pair.certificate_pem for pair in sent)
        sent_chain = Sent(chain.certificate_pem + extra, chain.key_pem)
        if row.octets:
            self._present_any(sent_chain)
        else:
            self.present(sent_chain, *endpoints)

    def renew(self) -> None:
        """Issue the certificate, and write a CA that the bundle lacks, also where the owner restores it from."""
        self.issue()
        ca = self.world.ca(self.shape.certificate.chain[0])
        if not self.trusts(ca):
            self.set_bundle(self.bundle + ca.certificate_pem.decode())
        if self.shape.owner.rewrites_after is not None:
            self.kept = self.bundle

    def _present_any(self, chain: Sent) -> None:
        """Serve certificates that no library may read."""
        for endpoint in self.reach.endpoints:
            plain = Endpoint(endpoint.answer)
            plain.calls = endpoint.calls
            backend = self.world.listeners.listen("127.0.0.1", lambda plain=plain: plain)  # type: ignore[misc]
            certificates = [pem_text.der(block) for block in pem_text.blocks(chain.certificate_pem.decode())]
            key = pem_text.der(pem_text.blocks(chain.key_pem.decode())[0])
            endpoint.present_any(self.world.listeners.serve_any(certificates, key, backend))

    def present(self, chain: CertificateWithKey | None, *endpoints: int) -> None:
        """Serve a certificate at the endpoints with these numbers, () for all."""
        for number, endpoint in enumerate(self.reach.endpoints):
            if not endpoints or number in endpoints:
                endpoint.present(chain)

    # Calls

    @property
    def calls(self) -> int:
        """The number of requests that reached an endpoint."""
        return sum(len(endpoint.calls) for endpoint in self.reach.endpoints)

    @property
    def handshakes(self) -> int:
        return sum(endpoint.connections for endpoint in self.reach.endpoints)

    def ask(self) -> str:
        """Return the API server's answer to a request that calls the program."""
        path = f"/api/v1/namespaces/{self.world.name}/configmaps?dryRun=All"
        return self.world.ask("POST", path, config_map(self.world.name, probe=self.name))

    def call(self) -> str:
        """Return "accepted" if a request that calls it is accepted and reaches it, else the answer or NOT_CALLED."""
        before = self.calls
        answer = self.ask()
        return NOT_CALLED if answer == ACCEPTED and self.calls == before else answer

    def is_called(self) -> bool:
        return self.call() == ACCEPTED


class Mutating(Program):
    """A mutating webhook, which changes nothing."""

    collection, kind = MUTATING_HOOKS, "MutatingWebhookConfiguration"


class Conversion(Program):
    """A CustomResourceDefinition whose objects are stored as v1 and read as v1beta1."""

    collection, version, kind = DEFINITIONS, "apiextensions.k8s.io/v1", "CustomResourceDefinition"
    pointer = ("spec", "conversion", "webhook", "clientConfig")
    answer = staticmethod(convert)
    _is_stored = False

    def write(self) -> None:
        super().write()
        self._is_stored = False  # objects are gone with their definition

    @property
    def full_name(self) -> str:
        return f"things.{self.group}"

    def body(self, config: dict[str, Any]) -> dict[str, Any]:
        return {"spec": {**called_objects.definition(self.group, config)["spec"], **self.shape.fields}}

    def ask(self) -> str:
        place = f"/apis/{self.group}/{{}}/namespaces/{self.world.name}/things"
        if not self._is_stored:
            body = {"apiVersion": f"{self.group}/v1", "kind": "Thing", "metadata": {"name": "a"}}
            with contextlib.suppress(AdminApiError):
                self.world.cluster.api("POST", place.format("v1"), body)
            self._is_stored = self.world.ask("GET", f"{place.format('v1')}/a") == ACCEPTED
        return self.world.ask("GET", f"{place.format('v1beta1')}/a")


class AggregatedApi(Program):
    """An aggregated API. It has no URL."""

    collection, version, kind = API_SERVICES, "apiregistration.k8s.io/v1", "APIService"
    pointer = ("spec",)

    @staticmethod
    def answer(review: dict[str, Any]) -> Reply:
        return 200, {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "", "resources": []}

    @property
    def full_name(self) -> str:
        return f"v1.{self.group}"

    def body(self, config: dict[str, Any]) -> dict[str, Any]:
        return {"spec": called_objects.api_service(self.group, config, **self.shape.fields)["spec"]}

    def ask(self) -> str:
        return self.world.ask("GET", f"/apis/{self.group}/v1/things")


KINDS: Mapping[str, type[Program]] = {
    shapes.VALIDATING: Program,
    shapes.MUTATING: Mutating,
    shapes.CONVERSION: Conversion,
    shapes.AGGREGATED: AggregatedApi,
}


def names(shape: Shape, copies: int) -> Sequence[str]:
    """Return the names of the copies of a row."""
    return [shape.name] if copies == 1 else [f"{shape.name}-{number}" for number in range(copies)]
