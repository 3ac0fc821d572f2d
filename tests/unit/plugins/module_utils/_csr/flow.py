# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Intents, Secrets, certificates and an API server in memory, for tests of the certificate flow."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from ansible_collections.certflow.kubernetes.plugins.module_utils._csr import intent as intent_module
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr import markers, secret_content
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.intent import Intent
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.secret_content import ExistingSecret
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.errors import (
    Conflict,
    KubeError,
    NotFound,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.login.connection import Connection
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.support.accepted import accepting
from tests.support.certificates import authority
from tests.support.certificates.authority import CLIENT_AUTH, DAY, NOW, SERVER_AUTH, Issued
from tests.unit.plugins.module_utils._csr import objects
from tests.unit.plugins.module_utils._csr.objects import KUBELET_SERVING, OWN, encoded

CSRS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
CLIENT = "kubernetes.io/kube-apiserver-client"
CUSTOM = "example.com/signer"
YEAR = 365 * DAY
SERVER_AND_CLIENT = (SERVER_AUTH, CLIENT_AUTH)


def parameters(**changed: Any) -> dict[str, Any]:
    """The options of k8s_csr for Service apps/hook; ``secret`` may name its own suboptions."""
    secret = {"name": "hook-tls", **changed.pop("secret", {})}
    given = {"service": "hook", "namespace": "apps", "signer_name": KUBELET_SERVING, "secret": secret}
    return {"state": "present", "approve": True, "wait": True, **given, **changed}


CLIENT_OPTIONS: dict[str, Any] = {
    "service": None,
    "signer_name": CLIENT,
    "common_name": "jane",
    "organizations": ["developers"],
    "allow_client_identity": True,
}


def intent(**changed: Any) -> Intent:
    """Return the intent of a task. accept: words that count for every object."""
    consent = accepting(*changed.pop("accept", ()))
    return intent_module.intent_from(parameters(**changed), consent)


def client_intent(**changed: Any) -> Intent:
    return intent(**{**CLIENT_OPTIONS, **changed})


def ca(name: str = "cluster", *, issuer: str = "") -> Issued:
    """The CA of that name, always the same."""
    return _ca(name, issuer)


@cache
def _ca(name: str, issuer: str) -> Issued:
    return authority.authority(name, ca(issuer) if issuer else None, not_after=NOW + 10 * YEAR)


@cache
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def leaf(
    *names: str,
    by: Issued | None = None,
    common_name: str = "system:node:hook.apps.svc",
    usages: tuple[str, ...] = (SERVER_AUTH,),
    lifetime: timedelta = YEAR,
    **options: Any,
) -> Issued:
    """A certificate of the cluster's CA for these names (the Service's own by default), valid for a day by now."""
    start = options.pop("not_before", NOW - DAY)
    entries = authority.dns(*(names or OWN)) if names != ("",) else ()
    options.setdefault("not_after", start + lifetime)
    return authority.issue(common_name, by or ca(), names=entries, usages=usages, not_before=start, **options)


def key_pem(issued: Issued) -> str:
    formats = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return str(issued.key.private_bytes(serialization.Encoding.PEM, *formats).decode())


MARKED: dict[str, Any] = {
    "labels": {"app.kubernetes.io/managed-by": "certflow.kubernetes"},
    "annotations": {
        "certflow.kubernetes/service": "apps/hook",
        "certflow.kubernetes/signer-name": KUBELET_SERVING,
    },
}


def created(pair: Issued, **metadata: Any) -> dict[str, Any]:
    """Return the metadata of a Secret that this collection created with this certificate."""
    marked = {**MARKED, **metadata}
    mark = secret_content.read_secret(secret_object(pair), intent().secret).written
    return {**marked, "annotations": {**marked["annotations"], markers.CREATED: mark}}


def secret_object(issued: Issued | None = None, **changed: Any) -> dict[str, Any]:
    """A Secret with a good pair; ``data`` adds keys (None: takes them away), other names go into its metadata.

    With the label of this collection, it has the mark of an adopted Secret with this pair, unless it has another mark.
    """
    pair = issued or leaf()
    data = {"tls.crt": encoded(pair.pem), "tls.key": encoded(key_pem(pair)), **changed.pop("data", {})}
    top: dict[str, Any] = {key: changed.pop(key) for key in ("type", "immutable") if key in changed}
    metadata = {"name": "hook-tls", "namespace": "apps", "uid": "5ec7e7", "resourceVersion": "12", **changed}
    kept = {key: value for key, value in data.items() if value is not None}
    obj = {"type": "kubernetes.io/tls", **top, "metadata": metadata, "data": kept}
    annotations = metadata.get("annotations") or {}
    if markers.is_ours(obj) and not {markers.CREATED, markers.ADOPTED} & set(annotations):
        mark = secret_content.read_secret(obj, intent().secret).written
        metadata["annotations"] = {**annotations, markers.ADOPTED: mark}
    return obj


def found(issued: Issued | None = None, *, of: Intent | None = None, **changed: Any) -> ExistingSecret:
    return secret_content.read_secret(secret_object(issued, **changed), (of or intent()).secret)


#: The collections whose lists hold the scripted objects below them.
LISTS = (CSRS, "/api/v1/nodes", "/api/v1/namespaces/apps/pods", "/api/v1/namespaces/apps/secrets")


class ScriptedApi:
    """A client of the API server with scripted answers.

    ``objects`` are found by path; a function as value is called, an exception raised. ``watched`` holds what each watch
    yields in turn. ``asked`` records every call. ``lacking``: (verb, resource) of the rights that are missing.
    ``identity``: what it stamps on requests, or the error with which it refuses their dry run.
    """

    host = "https://10.0.0.1:6443"
    host_name = "10.0.0.1"
    auth_source = "test"

    def __init__(
        self, objects: Mapping[str, Any] | None = None, *, ca_pem: str = "", seconds: float = 1.0
    ) -> None:
        self.connection = Connection(host=self.host, auth_source=self.auth_source, ca_pem=ca_pem or None)
        self.deadline = time.monotonic() + seconds
        self.objects = dict(objects or {})
        self.watched: list[list[dict[str, Any]]] = []
        self.asked: list[tuple[str, str]] = []
        self.sent: list[Any] = []
        self.written: list[str] = []
        self.left: dict[str, Any] = {}
        self.warnings: list[str] = []
        self.hooks: list[Callable[[], None]] = []
        self.lacking: set[tuple[str, str]] = set()
        self.reviews = 0
        self.identity: dict[str, Any] | Exception = {"username": "deployer"}
        self.on_write: Callable[[str, str, Any], Any] = lambda _method, _path, body: body

    def prepare(self) -> None:
        """Call no hooks, because the tests have no Lease that is due."""

    def for_thread(self) -> ScriptedApi:
        return self

    def close(self) -> None:
        """Close nothing."""

    def without_hooks(self) -> AbstractContextManager[None]:
        return nullcontext()

    def now(self) -> datetime:
        return objects.NOW

    def earlier(self) -> datetime:
        return self.now()

    def later(self) -> datetime:
        return self.now()

    def clock_warnings(self) -> tuple[str, ...]:
        return ()

    def get(self, path: str, query: Mapping[str, str] | None = None, accept: str = "") -> dict[str, Any]:
        self.asked.append(("GET", path))
        listed = [name for name in self.objects if path in LISTS and name.startswith(f"{path}/")]
        items = [obj for obj in map(self.objects.get, listed) if isinstance(obj, dict)]
        empty = {"metadata": {"resourceVersion": "1"}, "items": items} if path in LISTS else None
        answer = self.objects.get(path, empty)
        answer = answer() if callable(answer) else answer
        if isinstance(answer, Exception):
            raise answer
        if answer is None:
            raise NotFound(f"{path} not found", status=404)
        return of_list(copy.deepcopy(answer))

    def find(self, path: str) -> dict[str, Any] | None:
        try:
            return self.get(path)
        except NotFound:
            return None

    def list_all(self, path: str, query: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Return the list of this path, or of the one object that a field selector names if it has a script of its own."""
        named = f"{path}/{(query or {}).get('fieldSelector', '').removeprefix('metadata.name=')}"
        if named not in self.objects:
            return self.get(path, query)
        obj = self.find(named)
        return of_list({"metadata": {"resourceVersion": "1"}, "items": [obj] if obj else []})

    def pages(self, path: str) -> Iterator[dict[str, Any]]:
        yield self.list_all(path)

    def create(self, path: str, body: Any, *, dry_run: bool = False, idempotent: bool = False) -> Any:
        if path != CSRS:
            return self._write("POST", path, body)
        if not dry_run:
            return self._stamped(self._write("POST", path, body))
        self.asked.append(("DRY", path))
        if isinstance(self.identity, Exception):
            raise self.identity
        return self._stamped(body)

    def _stamped(self, csr: Any) -> Any:
        """Overwrite the requester of the body, as the API server does."""
        stamp = {} if isinstance(self.identity, Exception) else self.identity
        return {**csr, "spec": {**csr["spec"], **stamp}}

    def review(self, path: str, body: Any) -> dict[str, Any]:
        self.reviews += 1
        wanted = body["spec"]["resourceAttributes"]
        resource = "/".join(filter(None, (wanted["resource"], wanted.get("subresource"))))
        return {"status": {"allowed": (wanted["verb"], resource) not in self.lacking}}

    def replace(self, path: str, body: Any, *, dry_run: bool = False) -> Any:
        return self._write("PUT", path, body)

    def patch(self, path: str, operations: Any, *, dry_run: bool = False) -> Any:
        """Return the webhooks after the patch. The answers for other objects have only the body, if the test has no script."""
        live = self.objects.get(path)
        held = copy.deepcopy(live() if callable(live) else live)
        answer = self._write("PATCH", path, operations)
        if answer is operations and isinstance(held, dict) and "webhooks" in held:
            return applied(held, operations)
        return answer

    def delete(self, path: str, *, uid: str | None = None, resource_version: str = "") -> None:
        live = self.find(path) if resource_version else None
        if live and live["metadata"].get("resourceVersion") != resource_version:
            raise Conflict(f"{path} was changed", status=409)
        self._write("DELETE", path, uid)

    def watch(self, path: str, query: Mapping[str, str], *, seconds: float) -> Iterator[dict[str, Any]]:
        self.asked.append(("WATCH", path))
        yield from self.watched.pop(0) if self.watched else ()

    def writes(self) -> list[tuple[str, str]]:
        return [entry for entry in self.asked if entry[0] not in ("GET", "WATCH", "DRY")]

    def _write(self, method: str, path: str, body: Any) -> Any:
        self.asked.append((method, path))
        self.sent.append(body)
        answer = self.on_write(method, path, body)
        if isinstance(answer, Exception):
            raise answer
        self.written.append(f"{method} {path}")
        return answer


def of_list(answer: dict[str, Any]) -> dict[str, Any]:
    """Return an answer with its items, if it is a list, as those of the API server."""
    return {**answer, "items": [listed(item) for item in answer["items"]]} if answer.get("items") else answer


def listed(obj: dict[str, Any]) -> dict[str, Any]:
    """Return an object as it is in a list: without apiVersion and kind."""
    return {key: value for key, value in obj.items() if key not in ("apiVersion", "kind")}


def applied(obj: dict[str, Any], operations: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the object after a JSON patch, as far as the tests need it."""
    for operation in operations:
        *parents, last = (
            part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]
        )
        place: Any = obj
        for part in parents:
            place = place[int(part)] if isinstance(place, list) else place[part]
        if operation["op"] == "remove":
            del place[last]
        elif operation["op"] != "test":
            assert operation["op"] == "add" or last in place
            place[last] = operation["value"]
    return obj


def api_error(kind: type[KubeError], message: str = "no") -> KubeError:
    return kind(message, message=message)


def later(**span: float) -> datetime:
    return NOW + timedelta(**span)
