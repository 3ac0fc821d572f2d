# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every parser, with what hypothesis draws: a right answer or a CertflowError of one line, and never quadratic time.

`make test` draws few examples, always the same; `make test-all` many, and others each time.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.errors import CertflowError
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.text import mask, visible
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.times import ServerClock
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr import secret_content
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.intent import SecretSpec
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.request import csr_content
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube import client as client_module
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube import errors as kube_errors
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.client import Client
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.login import (
    kubeconfig as kubeconfig_module,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.bundles import (
    bundle_content,
    bundle_targets,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.bundles.bundle_targets import (
    Target,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.calls import (
    admission_match,
    call_failures,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.calls.admission_match import (
    AdmissionRequest,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.endpoints import webhook_endpoints
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509 import private_keys
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509.encoding import pem_text
from hypothesis import strategies as st

from tests.support.failures import fails
from tests.support.faults import damage
from tests.support.faults.damage import FEW, JSON, MANY, PIECES, damaged_object, damaged_text, pem
from tests.unit.plugins.module_utils._csr import objects as csr_objects
from tests.unit.plugins.module_utils._webhook import objects
from tests.unit.plugins.module_utils._x509 import test_damage as x509

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")

NOW = csr_objects.NOW
SPEC = SecretSpec("shop", "hook-tls", ca_key="ca.crt")
CERTIFICATE, CA, KEY = x509.LEAF.pem, x509.CA.pem, x509.KEY
fuzz = functools.partial(damage.fuzz, hidden=KEY.split("\n")[1])
CREATION = AdmissionRequest("apps", "v1", "deployments", "Deployment", "shop", {"a": "b"}, {"c": "d"})


def secret() -> dict[str, Any]:
    data = {"tls.crt": CERTIFICATE + CA, "tls.key": KEY, "ca.crt": CA}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": "hook-tls",
            "namespace": "shop",
            "uid": "8f1c",
            "resourceVersion": "7",
            "labels": {"app.kubernetes.io/managed-by": "certflow.kubernetes"},
            "annotations": {"certflow.kubernetes/service": "shop/hook"},
            "ownerReferences": [{"kind": "Certificate", "name": "hook", "uid": "1"}],
            "managedFields": [{"manager": "kubectl", "operation": "Update"}],
        },
        "type": "kubernetes.io/tls",
        "data": {key: csr_objects.encoded(text) for key, text in data.items()},
    }


def webhooks() -> dict[str, Any]:
    first = ("a.hook", objects.client_config(CA))
    found = objects.configuration(
        first, ("b.hook", objects.client_config(CA, service=None, url="https://h:8443/x"))
    )
    rule = {
        "apiGroups": ["apps"],
        "apiVersions": ["v1"],
        "operations": ["CREATE"],
        "resources": ["deployments"],
    }
    selector = {
        "matchLabels": {"c": "d"},
        "matchExpressions": [{"key": "c", "operator": "In", "values": ["d"]}],
    }
    more = {"rules": [rule], "namespaceSelector": selector, "objectSelector": {}, "matchConditions": []}
    return {**found, "webhooks": [{**webhook, **more} for webhook in found["webhooks"]]}


def kubeconfig() -> dict[str, Any]:
    cluster = {
        "server": "https://api.example.com:6443/k8s/clusters/c-1",
        "certificate-authority-data": csr_objects.encoded(CA),
        "proxy-url": "http://user:word@proxy.example.com:3128",
        "tls-server-name": "kubernetes",
    }
    user = {
        "client-certificate-data": csr_objects.encoded(CERTIFICATE),
        "client-key-data": csr_objects.encoded(private_keys.to_pem(x509.LEAF.key)),
        "token": "a-token",
        "as": "jane",
        "as-groups": ["auditors"],
        "exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "/absent", "env": [], "args": []},
    }  # fmt: skip
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "clusters": [{"name": "k", "cluster": cluster}],
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "users": [{"name": "u", "user": user}],
    }


SERVICE = {
    "metadata": {"namespace": "shop", "name": "hook"},
    "spec": {"ports": [{"name": "https", "port": 443}]},
}
POD = {"kind": "Pod", "namespace": "shop", "name": "hook-1"}
SLICE = {
    "ports": [{"name": "https", "port": 8443}],
    "endpoints": [{"addresses": ["10.1.2.3"], "conditions": {"ready": True}, "targetRef": POD}],
}
# What API servers say, one for each frame of call_failures.
WORDS = (
    ('Internal error occurred: failed calling webhook "a.hook": failed to call webhook: Post '
    '"https://hook.shop.svc:443/x?timeout=2s": tls: failed to verify certificate: x509: certificate signed by unknown authority'),
    'admission webhook "a.hook" denied the request: because {words} of %s',
    'admission webhook "a.hook" does not support dry run',
    "conversion webhook for example.com/v1, Kind=Thing failed: Post \"https://hook.shop.svc:443/x\": EOF",
    'error trying to reach service: dial tcp 10.1.2.3:443: connect: connection refused: service/hook in "shop" is not present',
    "ValidatingAdmissionWebhook/a.hook has panicked: runtime error",
    'pods "x" is forbidden: User "jane" cannot create resource "pods"',
)  # fmt: skip


def read_secret(value: Any) -> object:
    return secret_content.read_secret(value, SPEC)


def read_targets(value: Any) -> object:
    target = Target("ValidatingWebhookConfiguration", "hooks")
    found = bundle_targets.client_configs(target, value)
    for config in found:
        bundle_content.certificates(config.ca_bundle)
    return found, bundle_targets.find_managers(target, value)


def read_definition(value: Any) -> object:
    return bundle_targets.client_configs(Target("CustomResourceDefinition", "things.example.com"), value)


def read_csr(value: Any) -> object:
    return csr_content.content_of(value), csr_content.certificate_of(value), csr_content.condition_text(value)


def match_webhook(value: Any) -> object:
    return admission_match.match(value, CREATION)


def read_endpoints(values: tuple[Any, Any]) -> object:
    service, slices = values
    return webhook_endpoints.of_service(service, slices, 443)


def connect(value: Any) -> object:
    """As far as one gets without sending anything."""
    connection = kubeconfig_module.resolve({"kubeconfig": value}, {})
    with_client(connection)
    return connection


def connect_directly(values: tuple[str, str]) -> object:
    host, proxy = values
    connection = kubeconfig_module.resolve({"host": host, "api_key": "t", "proxy": proxy}, {})
    with_client(connection)
    return connection


def with_client(connection: Any) -> None:
    client = Client(connection, user_agent="fuzz", deadline=0.0)
    if not connection.exec_plugin:
        client.websocket_request("/api", {})
    client._make_pool(connection, client._credentials.client_certificate)
    client.close()


def read_kubeconfig_file(directory: Path, text: str) -> object:
    path = directory / "kubeconfig"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    return kubeconfig_module.resolve({"kubeconfig": str(path)}, {})


def explain(words: str) -> object:
    found = [
        call_failures.of_answer(words, kind, name)
        for kind in (call_failures.ADMISSION, call_failures.CONVERSION, call_failures.AGGREGATION)
        for name in ("", "a.hook")
    ]
    for failure in found:
        assert failure.code
        assert "\n" not in failure.cause
        assert "\n" not in failure.remedy
    call_failures.said_by_webhook(words)
    return found


def read_answer(body: bytes) -> object:
    error = kube_errors.error_from("GET", "/x", 500, body, auth_source="a kubeconfig")
    kube_errors.is_transient(error, idempotent=True)
    return str(error), kube_errors.object_from("GET", "/x", 200, body)


def _set_clock(date: str) -> object:
    clock = ServerClock()
    clock.set_once(date)
    return clock.now()


def read_headers(texts: tuple[str, str, str]) -> object:
    warning, date, retry_after = texts
    assert all(isinstance(text, str) for text in kube_errors.warning_texts(warning))
    return kube_errors.delay(1, retry_after), _set_clock(date)


def read_events(chunks: list[bytes]) -> object:
    """Watches end where they cannot be read, by the errors that Client.watch takes for an end."""
    response = type("Response", (), {"stream": lambda self, size, **_options: iter(chunks)})()
    try:
        return list(client_module._events(response))
    except ValueError:
        return []


def merge_bundles(texts: tuple[str, str]) -> object:
    present, wanted = texts
    bundle_content.check(wanted)
    return [bundle_content.merge(present, wanted, mode=mode, now=NOW) for mode in bundle_content.MODES]


@dataclass(frozen=True)
class FuzzCase:
    """A parser, and what it is given. good: what it must take."""

    parse: Callable[[Any], object]
    values: st.SearchStrategy[Any]
    good: Any


STATUS = json.dumps(
    {"kind": "Status", "status": "Failure", "message": "no", "reason": "Conflict", "code": 409}
)
EVENT = json.dumps({"type": "ADDED", "object": {"kind": "Pod"}}).encode() + b"\n"
URLS = damaged_text("https://user@api.example.com:6443/k8s/c-1?a=b")
CASES: dict[str, FuzzCase] = {
    **{name: FuzzCase(parse, pem(text), text) for name, (parse, text) in x509.PARSERS.items()},
    "bundles": FuzzCase(merge_bundles, st.tuples(pem(CA), pem(CA)), (CA, CA)),
    "bundle to write": FuzzCase(bundle_content.check, pem(CA), CA),
    "Secret": FuzzCase(read_secret, damaged_object(secret()), secret()),
    "webhook configuration": FuzzCase(read_targets, damaged_object(webhooks()), webhooks()),
    "definition": FuzzCase(
        read_definition,
        damaged_object(objects.definition(objects.client_config(CA))),
        objects.definition(objects.client_config(CA)),
    ),
    "rules and selectors": FuzzCase(match_webhook, damaged_object(webhooks()["webhooks"][0]), webhooks()["webhooks"][0]),
    "endpoints": FuzzCase(
        read_endpoints, st.tuples(damaged_object(SERVICE), damaged_object([SLICE])), (SERVICE, [SLICE])
    ),
    "CSR object": FuzzCase(
        read_csr,
        damaged_object(csr_objects.csr(pem=x509.REQUEST, certificate=CERTIFICATE)),
        csr_objects.csr(pem=x509.REQUEST, certificate=CERTIFICATE),
    ),
    "kubeconfig": FuzzCase(connect, damaged_object(kubeconfig()), kubeconfig()),
    "host and proxy": FuzzCase(
        connect_directly, st.tuples(URLS, URLS), ("https://api.example.com/k8s/c-1", "http://p.example.com")
    ),
    "words of an API server": FuzzCase(
        explain, st.one_of(*map(damaged_text, WORDS), st.lists(PIECES).map("".join)), WORDS[0]
    ),
    "answer": FuzzCase(
        read_answer, st.one_of(damaged_text(STATUS).map(encoded := lambda text: text.encode("utf-8", "replace")), st.binary(), JSON.map(json.dumps).map(encoded)), b"{}"
    ),
    "words of a plugin": FuzzCase(mask, st.lists(PIECES).map("".join), "--client-secret a https://a:b@c"),
    "headers": FuzzCase(
        read_headers,
        st.tuples(
            damaged_text('299 - "first", 299 - "sec\\"ond"'),
            damaged_text("Tue, 01 Sep 2026 12:00:00 GMT"),
            damaged_text("12"),
        ),
        ('299 - "a"', "Tue, 01 Sep 2026 12:00:00 GMT", "1"),
    ),
    "watch": FuzzCase(read_events, st.lists(st.one_of(st.just(EVENT), st.binary(), damaged_text(EVENT.decode()).map(encoded))), [EVENT]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_right_answer_or_one_line(name: str) -> None:
    case = CASES[name]
    assert fuzz(case.parse, case.values, case.good, FEW)["answer"]


@pytest.mark.full
@pytest.mark.parametrize("name", CASES)
def test_a_right_answer_or_one_line_to_many(name: str) -> None:
    case = CASES[name]
    assert fuzz(case.parse, case.values, case.good, MANY)["answer"]


YAML = json.dumps(kubeconfig(), indent=1)


@pytest.mark.parametrize("examples", [FEW, pytest.param(MANY, marks=pytest.mark.full)])
def test_kubeconfig_files(tmp_path: Path, examples: int) -> None:
    fuzz(functools.partial(read_kubeconfig_file, tmp_path), damaged_text(YAML), YAML, examples)


def test_a_bundle_that_is_read_and_cannot_be_described() -> None:
    """Its subject holds a value of no length: the certificate loads, and has no name."""
    block = pem_text.blocks(CA)[0]
    broken = pem_text.encode(
        block.label, pem_text.der(block).replace(b"\x0c\x0akubernetes", b"\x00\x0akubernetes")
    )
    with fails("bundle-broken"):
        merge_bundles((CA, broken))


# What would take quadratic time if anything did: (parser, a text of so many pieces).
GROWING: dict[str, tuple[Callable[[Any], object], Callable[[int], Any]]] = {
    "service after service": (explain, lambda n: "error trying to reach service: " + "service/" * n),
    "kind after kind": (explain, lambda n: "conversion webhook for " + ", Kind=a" * n),
    "colon after colon": (explain, lambda n: ": " * n),
    "quote after quote": (explain, lambda n: 'failed calling webhook "' * n),
    "from after from": (explain, lambda n: 'failed calling webhook "a.hook": ' + " from https://x" * n),
    "warning after warning": (kube_errors.warning_texts, lambda n: '299 - "a", ' * n),
    "escape after escape": (kube_errors.warning_texts, lambda n: '299 - "' + "\\" * n),
    "an event in small pieces": (read_events, lambda n: [b"a" * 1000] * n),
    "marker after marker": (pem_text.blocks, lambda n: "-----BEGIN A-----\n" * n),
    "annotation after annotation": (read_secret, lambda n: {**secret(), "metadata": {"annotations": {f"a.example.com/{i}": "b" for i in range(n)}}}),
    "webhook after webhook": (read_targets, lambda n: objects.configuration(*((f"{i}.hook", objects.client_config("")) for i in range(n)))),
    "secret after secret": (mask, lambda n: "x-token" * n),
    "hidden character after hidden character": (visible, lambda n: "a\x1b\u202e" * n),
    "context after context": (
        lambda value: kubeconfig_module.resolve({"kubeconfig": value}, {}),
        lambda n: {**kubeconfig(), "contexts": kubeconfig()["contexts"] + [{"name": f"c{i}", "context": {}} for i in range(n)]},
    ),
}  # fmt: skip
TIMES, ALLOWED = 8, 24
MEASURABLE = 0.02


def seconds(parse: Callable[[Any], object], value: Any) -> float:
    """CPU time of this thread, the best of three."""

    def once() -> float:
        began = time.thread_time()
        with contextlib.suppress(CertflowError):
            parse(value)
        return time.thread_time() - began

    # Each collection of garbage would look at the objects of all tests before.
    gc.disable()
    try:
        return min(once() for _ in range(3))
    finally:
        gc.enable()


@pytest.mark.parametrize("name", GROWING)
def test_time_grows_like_the_input(name: str) -> None:
    """Eight times the input takes eight times the time, not sixty-four; what takes no time at all, is made longer."""
    parse, made = GROWING[name]
    size = 250
    while (small := seconds(parse, made(size))) < MEASURABLE / TIMES and size < 1 << 18:
        size *= 2
    large = seconds(parse, made(size * TIMES))
    assert large < MEASURABLE or large < ALLOWED * small, (size, small, large)
