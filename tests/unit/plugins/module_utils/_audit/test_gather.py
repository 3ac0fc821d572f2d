# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The data that the gatherer reads, leaves out, and cannot read."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any
from unittest.mock import Mock

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit import (
    audit_result,
    gather,
    gather_rotation,
    object_parsing,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.facts import cluster_data
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.facts.cluster_data import (
    AuditOptions,
    ClusterData,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.facts.finding import every
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.guarded_reads import GuardedReads
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.times import format_time
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.errors import (
    AnswerTooLarge,
    ApiError,
    AuthenticationError,
    ConnectionFailed,
    Forbidden,
    NotFound,
    TimedOut,
    TruncatedAnswer,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.login.connection import Connection
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.bundles.bundle_targets import (
    ADMISSION_KINDS,
    KINDS,
    ClientConfig,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.endpoints import served_chains
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.endpoints.served_chains import (
    ServedChain,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.endpoints.webhook_endpoints import (
    READY,
    Endpoint,
)
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from tests.support.certificates import der
from tests.support.certificates.authority import DAY, NOW, Issued, authority, issue
from tests.support.failures import fails
from tests.unit.plugins.module_utils._audit.world import CA, GOOD, encoded, served, webhook

pytestmark = pytest.mark.quick

CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
API_SERVICES = "/apis/apiregistration.k8s.io/v1/apiservices"
CSRS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
POD_CERTIFICATES = "/apis/certificates.k8s.io/v1/podcertificaterequests"
SERVICE = "/api/v1/namespaces/shop/services/hook"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices"
PODS = "/api/v1/namespaces/shop/pods"
ROOT_CA = "/api/v1/namespaces/kube-system/configmaps/kube-root-ca.crt"
CALL = {"service": {"namespace": "shop", "name": "hook"}, "caBundle": encoded(CA.pem)}


def listed(*items: Any) -> dict[str, Any]:
    return {"items": list(items)}


def configuration(*webhooks: dict[str, Any], name: str = "hooks") -> dict[str, Any]:
    called = [{"clientConfig": CALL, **hook} for hook in webhooks]
    return {"metadata": {"name": name, "uid": f"uid-{name}"}, "webhooks": called}


def service(**spec: Any) -> dict[str, Any]:
    ports = [{"port": 443, "name": ""}]
    return {
        "metadata": {"namespace": "shop", "name": "hook"},
        "spec": {"ports": ports, "selector": {"app": "hook"}, **spec},
    }


def slices(*pods: str) -> dict[str, Any]:
    endpoints = [
        {"addresses": ["10.0.0.1"], "targetRef": {"kind": "Pod", "namespace": "shop", "name": name}}
        for name in pods
    ]
    return listed({"ports": [{"name": "", "port": 8443}], "endpoints": endpoints})


ANSWERS: dict[str, Any] = {
    "/api/v1/namespaces/kube-system": {"metadata": {"uid": "cluster-1"}},
    "/version": {"gitVersion": "v1.36.3"},
    "/metrics": "",
    **{KINDS[kind].path: listed() for kind in ADMISSION_KINDS},
    f"{CONFIGURATIONS}/validatingwebhookconfigurations": listed(configuration(webhook("pods"))),
    DEFINITIONS: listed(),
    API_SERVICES: listed(),
    SERVICE: service(),
    SLICES: slices("hook-1", "hook-2", "hook-3"),
    "/api/v1/namespaces": listed({"metadata": {"name": "shop", "labels": {"team": "red"}}}),
    PODS: listed({"metadata": {"labels": {"app": "hook"}}}, {"metadata": {"labels": {"app": "hook"}}}),
    "/api/v1/events": listed(),
    ROOT_CA: {"data": {"ca.crt": CA.pem}},
    CSRS: listed(),
    POD_CERTIFICATES: listed(),
}


class FakeClient:
    """A client of a cluster with these answers. An answer that is an error is raised.

    A list has the pages of one attempt after another. An attempt ends with an error, or with the list.
    """

    host, host_name, auth_source = "http://127.0.0.1", "127.0.0.1", "a test"

    def __init__(self, **changed: Any) -> None:
        self.answers = copy.deepcopy({**ANSWERS, **changed.pop("answers", {})})
        self.connection = Connection(self.host, "a test")
        self.deadline = time.monotonic() + 60
        self.asked: list[str] = []
        self.requests = self.received = 0
        self.queries: list[Mapping[str, str]] = []

    def for_thread(self) -> FakeClient:
        return self

    def prepare(self) -> None:
        """Call no hooks."""

    def now(self) -> Any:
        return NOW

    def earlier(self) -> Any:
        return self.now()

    def get(self, path: str, query: Mapping[str, str] | None = None, _accept: str = "") -> Any:
        self.asked.append(path)
        self.queries.append(query or {})
        answer = self.answers.get(path, NotFound(f"{path} does not exist"))
        if isinstance(answer, Exception):
            raise answer
        return answer

    list_all = get

    def text(self, path: str, *, beginnings: tuple[str, ...]) -> Any:
        return self.get(path)

    def review(self, _path: str, _body: Any) -> Any:
        return {"status": {"allowed": False}}

    def find(self, path: str) -> Any:
        try:
            return self.get(path)
        except NotFound:
            return None

    def kept_pages(self, path: str) -> Iterator[Any]:
        return self.pages(path, {})

    def pages(self, path: str, query: Mapping[str, str]) -> Iterator[Any]:
        if not isinstance(self.answers.get(path), list):
            yield self.get(path, query)
            return
        while self.answers[path]:
            page = self.answers[path].pop(0)
            if isinstance(page, Exception):
                raise page
            yield page


@pytest.fixture(autouse=True)
def read(monkeypatch: pytest.MonkeyPatch) -> list[Endpoint]:
    """Replace the handshakes. Return the endpoints that were read."""
    found: list[Endpoint] = []

    def read_chain(_client: Any, endpoint: Endpoint, _config: ClientConfig, _until: float) -> ServedChain:
        found.append(endpoint)
        return replace(served(GOOD), endpoint=endpoint)

    monkeypatch.setattr(served_chains, "read_chain", read_chain)
    return found


def run(client: FakeClient, **options: Any) -> cluster_data.ClusterData:
    return gather.gather(client, AuditOptions(**options))  # type: ignore[arg-type]


def test_a_cluster_is_read_with_few_requests() -> None:
    client = FakeClient()
    data = run(client)
    assert (data.cluster_uid, data.version, data.request_count) == ("cluster-1", "v1.36.3", 0)
    assert [str(point.object) for point in data.points] == [
        "ValidatingWebhookConfiguration hooks, webhook hook.example.com"
    ]
    assert data.pods == {("shop", "hook"): ({"app": "hook"},)}
    assert data.gaps == ()
    assert sorted(client.asked) == sorted([*ANSWERS, "/metrics"])  # the counters at the begin and at the end


def test_a_service_of_several_webhooks_is_read_once(read: list[Endpoint]) -> None:
    webhooks = [{**webhook(), "name": f"w{number}.example.com"} for number in range(5)]
    client = FakeClient(
        answers={f"{CONFIGURATIONS}/mutatingwebhookconfigurations": listed(configuration(*webhooks))}
    )
    assert len(run(client).points) == 6
    assert client.asked.count(SERVICE) == client.asked.count(SLICES) == 1
    assert len(read) == 3


def test_a_service_is_read_as_each_caller_of_the_api_server_calls_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The API server offers HTTP/2 to an aggregated API, and not to a webhook. So a server may refuse only one of them."""
    offered: list[tuple[str, ...]] = []

    def read_chain(_client: Any, endpoint: Endpoint, config: ClientConfig, _until: float) -> ServedChain:
        offered.append(tuple(config.protocols))
        return replace(served(GOOD), endpoint=endpoint)

    monkeypatch.setattr(served_chains, "read_chain", read_chain)
    spec = {"service": {**CALL["service"], "port": 443}, "caBundle": CALL["caBundle"]}  # type: ignore[dict-item]
    api_service = {"metadata": {"name": "v1.shop.example.com"}, "spec": spec}
    client = FakeClient(answers={API_SERVICES: listed(api_service), SLICES: slices("hook-1")})
    webhook_point, api_point = run(client).points
    assert sorted(offered) == [("h2", "http/1.1"), ("http/1.1",)]
    assert webhook_point.backend != api_point.backend
    assert client.asked.count(SERVICE) == 1


def test_only_some_endpoints_of_a_service_are_read(read: list[Endpoint]) -> None:
    data = run(FakeClient(), endpoints_per_service=2)
    assert (len(read), data.endpoints_left_out) == (2, 1)
    (backend,) = data.backends.values()
    assert (backend.ready, len(backend.chains)) == (3, 2)
    reason = "endpoints_per_service 2 left out 1 of 3 endpoints"
    assert data.gaps == (cluster_data.Gap(cluster_data.ENDPOINTS, reason, backend=data.points[0].backend),)


def test_no_endpoint_is_read_without_the_option(read: list[Endpoint]) -> None:
    data = run(FakeClient(), without=("port-forward",))
    assert (read, [gap.source for gap in data.gaps]) == ([], [cluster_data.PORT_FORWARD])


def test_nothing_is_read_after_the_time(read: list[Endpoint]) -> None:
    client = FakeClient()
    client.deadline = time.monotonic() - 1
    data = run(client)
    assert {gap.source for gap in data.gaps} >= {cluster_data.CONFIGURATIONS, cluster_data.DEFINITIONS}
    assert not any(gap.lacks_permission for gap in data.gaps)
    assert not data.is_over()  # comparisons have some time more
    client.deadline = time.monotonic() - 60
    assert run(client).is_over()
    assert (client.asked[:2], read) == (["/api/v1/namespaces/kube-system", "/version"], [])


#: The version of the API server -> the findings about a certificate that an ML-DSA key signed.
ML_DSA: dict[str, list[tuple[str, str]]] = {
    "v1.37.4-eks-0a1b2c3": [("ca-mismatch", "fail")],
    "v1.38.0": [("unreadable", "unknown")],
    "v1.40.1": [("unreadable", "unknown")],
    "": [("unreadable", "unknown")],
}


@pytest.mark.parametrize("version", ML_DSA)
def test_what_go_does_with_ml_dsa_depends_on_the_version(
    version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    oid = der.sequence(der.oid("2.16.840.1.101.3.4.3.18"))
    data = GOOD.certificate.public_bytes(serialization.Encoding.DER)
    pem = der.pem(der.signed_again(data, lambda _body: b"s" * 3309, algorithm=oid), "CERTIFICATE")
    signed = Issued(x509.load_pem_x509_certificate(pem.encode()), GOOD.key)
    monkeypatch.setattr(
        served_chains, "read_chain", lambda _client, endpoint, *_: replace(served(signed), endpoint=endpoint)
    )
    data_of_cluster = run(FakeClient(answers={"/version": {"gitVersion": version}}))
    found = [
        (finding.check, finding.status)
        for finding in audit_result.find(data_of_cluster)
        if finding.status in ("fail", "unknown")
    ]
    assert [entry for entry in found if entry[0] in ("ca-mismatch", "unreadable")] == ML_DSA[version]


def test_no_endpoint_is_read_after_most_of_the_time(
    read: list[Endpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gather, "READING_SHARE", -1.0)
    data = run(FakeClient())
    assert [gap.source for gap in data.gaps] == [cluster_data.ENDPOINTS]
    assert read == []


@pytest.mark.parametrize(
    "called",
    [
        {"namespace": "shop", "name": "hook/proxy/secret"},
        {"namespace": "shop", "name": "../hook"},
        {"namespace": "shop/secrets", "name": "hook"},
        {"namespace": "", "name": "hook"},
    ],
)
def test_a_service_that_cannot_exist_is_missing_and_is_not_read(called: dict[str, str]) -> None:
    """The API server accepts any text as the Service of a webhook."""
    changed = configuration({**webhook(), "clientConfig": {"service": called}})
    client = FakeClient(answers={f"{CONFIGURATIONS}/validatingwebhookconfigurations": listed(changed)})
    (backend,) = run(client).backends.values()
    assert not backend.exists
    assert not [path for path in client.asked if "/services/" in path]


def test_a_url_with_an_impossible_port_is_audited() -> None:
    changed = configuration({**webhook(), "clientConfig": {"url": "https://hook.example.com:99999/"}})
    data = run(FakeClient(answers={f"{CONFIGURATIONS}/validatingwebhookconfigurations": listed(changed)}))
    assert [point.config.port for point in data.points] == [0]


OUTSIDE = [
    ({f"{CONFIGURATIONS}/validatingwebhookconfigurations": listed(
        configuration({**webhook(), "clientConfig": {"url": "https://hooks.example.com/x"}}))}, "hooks.example.com"),
    ({SERVICE: service(type="ExternalName", externalName="hooks.example.com", ports=[])}, "hooks.example.com"),
]  # fmt: skip


@pytest.mark.parametrize(("answers", "host"), OUTSIDE)
@pytest.mark.parametrize("probe_urls", [True, False])
def test_an_address_of_the_objects_is_read_only_with_the_option(
    answers: dict[str, Any], host: str, probe_urls: bool, read: list[Endpoint]
) -> None:
    data = run(FakeClient(answers=answers), probe_urls=probe_urls)
    assert [endpoint.host for endpoint in read] == ([host] if probe_urls else [])
    assert [gap.source for gap in data.gaps] == ([] if probe_urls else [cluster_data.ENDPOINTS])
    assert next(iter(data.backends.values())).is_external


@pytest.mark.parametrize("is_serving", [True, False])
def test_endpoints_that_end_are_read_as_long_as_they_serve(is_serving: bool, read: list[Endpoint]) -> None:
    answer = slices("hook-1")
    conditions = {"ready": False, "serving": is_serving, "terminating": True}
    answer["items"][0]["endpoints"][0]["conditions"] = conditions
    (backend,) = run(FakeClient(answers={SLICES: answer})).backends.values()
    assert (backend.ready, backend.is_ending, backend.is_reachable) == (0, is_serving, is_serving)
    assert [(str(endpoint.pod), endpoint.state) for endpoint in read] == (
        [("('shop', 'hook-1')", READY)] if is_serving else []
    )


FORBIDDEN = Forbidden("no", status=403, message="the user may not")
WEBHOOK = "ValidatingWebhookConfiguration hooks, webhook hook.example.com"
MUTATING = every("MutatingWebhookConfiguration")
GAPS = [
    (f"{CONFIGURATIONS}/mutatingwebhookconfigurations", cluster_data.CONFIGURATIONS),
    (DEFINITIONS, cluster_data.DEFINITIONS),
    (API_SERVICES, cluster_data.API_SERVICES),
    (SERVICE, cluster_data.SERVICES),
    (SLICES, cluster_data.SERVICES),
    ("/api/v1/namespaces", cluster_data.NAMESPACES),
    (PODS, cluster_data.PODS),
    ("/api/v1/events", cluster_data.EVENTS),
    ("/metrics", cluster_data.METRICS),
    (CSRS, cluster_data.REQUESTS),
    (POD_CERTIFICATES, cluster_data.POD_CERTIFICATES),
    (ROOT_CA, cluster_data.CLUSTER_CA),
]


@pytest.mark.parametrize(("path", "source"), GAPS)
def test_a_missing_permission_is_one_gap(path: str, source: str) -> None:
    data = run(FakeClient(answers={path: FORBIDDEN}))
    (gap,) = data.gaps
    assert (gap.source, gap.reason, gap.lacks_permission) == (source, "the user may not", True)
    assert data.points
    if source in (cluster_data.SERVICES, cluster_data.PODS):
        assert data.names_of(gap) == (WEBHOOK,)
    if source == cluster_data.CONFIGURATIONS:
        assert data.names_of(gap) == (MUTATING,)


def test_a_missing_certificate_is_a_gap_of_the_objects_that_name_it() -> None:
    injected = configuration(webhook())
    injected["metadata"]["annotations"] = {"cert-manager.io/inject-ca-from": "shop/hook"}
    path = "/apis/cert-manager.io/v1/namespaces/shop/certificates/hook"
    hooks = {f"{CONFIGURATIONS}/validatingwebhookconfigurations": listed(injected)}
    data = run(FakeClient(answers={**hooks, path: FORBIDDEN}))
    assert [(gap.source, data.names_of(gap)) for gap in data.gaps] == [
        (cluster_data.CERTIFICATES, (WEBHOOK,))
    ]


def test_an_identity_without_permissions_lacks_those_of_all_checks() -> None:
    """Without the configurations, the audit finds no Service to read. The permissions are missing nevertheless."""
    answers = {path: FORBIDDEN for path in ANSWERS if path not in ("/version", SERVICE, SLICES, PODS)}
    data = run(FakeClient(answers=answers), without=("port-forward", "metrics"))
    left_out = ("port-forward", "metrics", "snapshot-controller")
    every_other = [
        entry
        for source, entries in cluster_data.PERMISSIONS.items()
        if source not in left_out
        for entry in entries
    ]
    assert list(data.lacking) == every_other
    assert run(FakeClient()).lacking == ()


def test_permissions_that_cannot_be_reviewed_are_missing() -> None:
    client = FakeClient(answers={"/api/v1/events": FORBIDDEN})

    def refuse(_path: str, _body: Any) -> Any:
        raise FORBIDDEN

    client.review = refuse  # type: ignore[method-assign]
    assert set(cluster_data.PERMISSIONS[cluster_data.SERVICES]) <= set(run(client).lacking)


@pytest.mark.parametrize("source", cluster_data.DECLARABLE)
def test_what_the_site_does_not_permit_is_not_read(source: str, read: list[Endpoint]) -> None:
    client = FakeClient()
    data = run(client, without=(source,))
    paths = [path for path, name in GAPS if name == source]
    assert not set(paths) & set(client.asked)
    assert (read == []) is (source == cluster_data.PORT_FORWARD)
    assert {gap.source for gap in data.gaps} <= {source}


def test_a_missing_identity_is_a_gap() -> None:
    """Without it the findings of two audits cannot be compared."""
    data = run(FakeClient(answers={"/api/v1/namespaces/kube-system": FORBIDDEN}))
    assert (data.cluster_uid, [gap.source for gap in data.gaps]) == ("", [cluster_data.IDENTITY])


LARGE = {"openAPIV3Schema": {"description": "x" * 1000}}


def definition(number: int) -> dict[str, Any]:
    return {
        "metadata": {
            "name": f"things{number}.example.com",
            "uid": str(number),
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "x" * 1000, "a": "b"},
            "managedFields": [{"manager": "kubectl", "operation": "Apply", "fieldsV1": {"f:spec": {}}}],
        },
        "spec": {
            "group": "example.com",
            "versions": [{"name": "v1", "schema": LARGE}],
            "conversion": {"strategy": "Webhook", "webhook": {"clientConfig": CALL}},
        },
    }


def test_schemas_of_definitions_are_dropped() -> None:
    client = FakeClient(
        answers={DEFINITIONS: listed(definition(1), {**definition(2), "spec": {"group": "x"}})}
    )
    data = run(client)
    assert [point.object.name for point in data.points] == ["hooks", "things1.example.com"]
    assert "x" * 1000 not in repr(data)
    assert repr(LARGE) not in repr(data)
    assert {"limit": gather.DEFINITIONS_PAGE} in client.queries


def test_requests_that_were_read_before_an_error_are_explained() -> None:
    """A cluster without an approver has thousands of pending requests."""
    stuck = {**csr(90, condition=""), "metadata": {**csr(90, condition="")["metadata"], "name": "first"}}
    pages = [listed(stuck), AnswerTooLarge("the list would need too much memory")]
    data = run(FakeClient(answers={CSRS: pages, "/apis": {"groups": []}}))
    assert [request.object.name for request in data.requests] == ["first"]
    assert [(gap.source, gap.reason) for gap in data.gaps] == [
        (cluster_data.REQUESTS, "the list would need too much memory")
    ]


HOOKS = f"{CONFIGURATIONS}/mutatingwebhookconfigurations"
BROKEN_OBJECTS: list[tuple[str, Any]] = [
    (HOOKS, {"metadata": {}}),
    (HOOKS, {"webhooks": [{}], "metadata": {"name": "x"}}),
    (HOOKS, {"metadata": None}),
    (HOOKS, {"metadata": {"name": "x"}, "webhooks": [{"name": "a", "clientConfig": {"service": {}}}]}),
    (DEFINITIONS, {"metadata": None}),
    (DEFINITIONS, {"metadata": {"name": "x"}, "spec": {"conversion": {"strategy": "Webhook"}}}),
    (DEFINITIONS, {"metadata": {"name": "x"}, "spec": {}, "status": {"conditions": [{}]}}),
    (API_SERVICES, {"metadata": {"name": "x"}}),
    ("/api/v1/namespaces", {}),
    (PODS, {"metadata": []}),
    (SLICES, {"endpoints": [{}], "ports": [{"name": "", "port": 1}]}),
    ("/api/v1/events", []),
    (CSRS, {"spec": None}),
]
CALLED_PORT = {"service": {"namespace": "shop", "name": "hook", "port": 8443}}
TWO_PORTS = [{"port": 8443, "name": "a"}, {"port": 9443, "name": "b"}]
#: Answers that the audit reads for one source, and the source.
BROKEN_DATA: list[tuple[dict[str, Any], str]] = [
    ({SERVICE: service(ports=TWO_PORTS), SLICES: listed({"endpoints": [{}], "ports": [{"name": "a", "port": 1}]}),
      f"{CONFIGURATIONS}/validatingwebhookconfigurations": listed(configuration(webhook(clientConfig=CALLED_PORT)))}, cluster_data.SERVICES),
    ({SERVICE: service(selector=["app"])}, cluster_data.SERVICES),
    ({SERVICE: service(ports=[{}])}, cluster_data.SERVICES),
    ({"/metrics": 'apiserver_admission_webhook_fail_open_count{name="x"} 1.2.3'}, cluster_data.METRICS),
]  # fmt: skip


@pytest.mark.parametrize(("answers", "source"), BROKEN_DATA)
def test_data_of_another_shape_is_a_gap_of_its_source(answers: dict[str, Any], source: str) -> None:
    data = run(FakeClient(answers=answers))
    assert [gap.source for gap in data.gaps] == [source]
    assert data.points


@pytest.mark.parametrize(("path", "broken"), BROKEN_OBJECTS)
def test_an_object_of_another_shape_is_one_gap(path: str, broken: Any) -> None:
    data = run(FakeClient(answers={path: listed(broken)}))
    (gap,) = data.gaps
    assert not gap.lacks_permission
    assert data.points


BROKEN_ANSWERS = [
    ApiError("answered with 500", status=500, message="etcdserver: request timed out"),
    TruncatedAnswer("half of a JSON object", status=200),
    ApiError("no JSON object", code="api-error", status=200),
    AuthenticationError("the credentials have expired", status=401),
    ConnectionFailed("the API server cannot be reached"),
    TimedOut("the answer did not end in time"),
    AnswerTooLarge("the answer is too large"),
]


@pytest.mark.parametrize("answer", BROKEN_ANSWERS)
@pytest.mark.parametrize(("path", "source"), GAPS)
def test_an_answer_that_cannot_be_read_is_one_gap(path: str, source: str, answer: Any) -> None:
    data = run(FakeClient(answers={path: answer}))
    (gap,) = data.gaps
    assert (gap.source, gap.reason, gap.lacks_permission) == (source, answer.cause, False)
    assert data.points


@pytest.mark.parametrize("answer", BROKEN_ANSWERS)
@pytest.mark.parametrize("path", ["/api/v1/namespaces/kube-system", "/version"])
def test_a_cluster_that_does_not_answer_at_the_begin_is_an_error(path: str, answer: Any) -> None:
    with pytest.raises(type(answer)):
        run(FakeClient(answers={path: answer}))


def test_another_server_at_the_address_is_an_error() -> None:
    with fails("api-error", "kube-system", "server"):
        run(FakeClient(answers={"/api/v1/namespaces/kube-system": {"hello": "world"}}))


def csr(
    age_minutes: float, condition: str = "Approved", signer: str = "kubernetes.io/kubelet-serving"
) -> dict[str, Any]:
    created = format_time(NOW - DAY * (age_minutes / 1440))
    conditions = [{"type": condition, "status": "True", "lastUpdateTime": created}] if condition else []
    return {
        "metadata": {"name": "hook-1", "uid": "u", "creationTimestamp": created},
        "spec": {"signerName": signer, "request": encoded("x"), "usages": [], "username": "me"},
        "status": {"conditions": conditions},
    }


REQUESTS = [
    (csr(1), 0),
    (csr(30), 1),
    (csr(30, condition=""), 0),
    (csr(90, condition=""), 1),
    (csr(90, condition="Denied"), 0),
    (csr(1, signer="kubernetes.io/no-such-signer"), 1),  # no signer will ever answer
]


@pytest.mark.parametrize(("request_", "count"), REQUESTS)
def test_requests_that_wait_too_long(request_: dict[str, Any], count: int) -> None:
    data = run(FakeClient(answers={CSRS: listed(request_), "/apis": {"groups": []}}))
    assert (len(data.requests), data.request_count) == (count, 1)


def test_an_auditor_needs_no_permission_to_approve() -> None:
    data = run(FakeClient(answers={CSRS: listed(csr(90, condition="")), "/apis": {"groups": []}}))
    assert [request.diagnosis.code for request in data.requests] == ["never-approved"]


LINE = 'apiserver_admission_webhook_fail_open_count{name="hook.example.com",type="validating"} 9'


@pytest.mark.parametrize("previous", [None, {}, {"x": 1.0}])
def test_the_counters_of_an_earlier_audit_are_kept_apart(previous: Any) -> None:
    data = run(FakeClient(answers={"/metrics": LINE}), previous_counters=previous)
    assert data.counters_before == data.counters_after == {"hook.example.com": 9}
    assert data.counters_previous == previous


STARTED = "process_start_time_seconds"
CALLED = 'apiserver_admission_webhook_request_total{name="hook.example.com",code="200",rejected="false"}'


@pytest.mark.parametrize(("start", "grown", "answered"), [(5, 7, 90), (6, 0, None)])
def test_the_counters_of_two_api_servers_show_no_growth(start: int, grown: int, answered: int | None) -> None:
    class Balanced(FakeClient):
        def text(self, path: str, *, beginnings: tuple[str, ...]) -> Any:
            is_first = path not in self.asked
            self.asked.append(path)
            if is_first:
                return f"{STARTED} 5\n{LINE}\n{CALLED} 10\n"
            return f"{STARTED} {start}\n{LINE.replace(' 9', ' 16')}\n{CALLED} 100\n"

    data = run(Balanced())
    assert data.counters_before
    assert data.counters_after
    assert [data.counters_after[name] - count for name, count in data.counters_before.items()] == [grown]
    assert data.answered.get("hook.example.com") == answered


def test_each_page_of_events_is_read() -> None:
    message = 'Error creating: Internal error occurred: failed calling webhook "hook.example.com": refused'
    events = [{"message": "exceeded quota"}, {"message": message, "lastTimestamp": format_time(NOW)}]
    data = run(FakeClient(answers={"/api/v1/events": [listed(event) for event in events]}))
    assert [call.webhook for call in data.failed_calls] == ["hook.example.com"]


#: The status of a Certificate -> ready, and days until its end and its renewal.
STATES: list[tuple[dict[str, Any], tuple[bool, float | None, float | None]]] = [
    ({"notAfter": 90, "renewalTime": 60, "conditions": [{"type": "Ready", "status": "True"}]}, (True, 90, 60)),
    ({"notAfter": 90, "renewalTime": 60, "conditions": [{"type": "Ready", "status": "False"}]}, (False, 90, 60)),
    ({"notAfter": 90}, (False, 90, None)),
    ({}, (False, None, None)),
]  # fmt: skip


@pytest.mark.parametrize(("status", "wanted"), STATES)
def test_the_state_of_a_certificate_of_cert_manager(
    status: dict[str, Any], wanted: tuple[bool, float | None, float | None]
) -> None:
    times = {key: format_time(NOW + value * DAY) for key, value in status.items() if key != "conditions"}
    known = {"notBefore": format_time(NOW), **times, "conditions": status.get("conditions", [])}
    issued = object_parsing.issued_certificate({"spec": {}, "status": known})
    assert issued is not None
    days = [None if moment is None else (moment - NOW) / DAY for moment in (issued.not_after, issued.renewal)]
    assert (issued.is_ready, *days) == wanted


def test_a_service_without_pods_is_no_gap() -> None:
    """The API server answers null in place of an empty list of metadata."""
    data = run(FakeClient(answers={PODS: {"items": None}}))
    assert data.pods == {("shop", "hook"): ()}
    assert "pods" not in {gap.source for gap in data.gaps}


@pytest.mark.parametrize("given", [webhook(), webhook("*/*", group="cert-manager.io")])
def test_webhooks_that_are_not_asked_about_pods_need_no_pods(given: dict[str, Any]) -> None:
    client = FakeClient(
        answers={f"{CONFIGURATIONS}/validatingwebhookconfigurations": listed(configuration(given))}
    )
    assert run(client).pods == {}
    assert PODS not in client.asked


SYSTEM_PODS, NODES = "/api/v1/namespaces/kube-system/pods", "/api/v1/nodes"
SELECTOR: dict[str, Any] = {"objectSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}
#: A webhook -> the objects of the control plane whose labels are read.
SELECTING: list[tuple[dict[str, Any], list[str]]] = [
    (webhook("pods"), []),
    (webhook("configmaps", **SELECTOR), []),
    (webhook("pods/binding", **SELECTOR), []),
    (webhook("pods", **SELECTOR), [SYSTEM_PODS]),
    (webhook("nodes", **SELECTOR), [NODES]),
    (webhook("*", **SELECTOR), [SYSTEM_PODS, NODES]),
    (webhook("pods", **SELECTOR, failurePolicy="Ignore"), []),
    (webhook("pods", **SELECTOR, failurePolicy="Ignore", timeoutSeconds=16), [SYSTEM_PODS]),
]


@pytest.mark.parametrize(("given", "paths"), SELECTING)
def test_labels_of_the_control_plane_are_read_for_selectors(given: dict[str, Any], paths: list[str]) -> None:
    labels = {"k8s-app": "kube-dns"}
    pods = [{"metadata": {"name": name, "labels": labels}} for name in ("a", "b")]
    answers = {
        f"{CONFIGURATIONS}/validatingwebhookconfigurations": listed(configuration(given)),
        SYSTEM_PODS: listed(*pods, {"metadata": {"name": "c"}}),
        NODES: Forbidden("no"),
    }
    data = run(client := FakeClient(answers=answers))
    assert [path for path in client.asked if path in (SYSTEM_PODS, NODES)] == paths
    assert data.object_labels == ({"pods": (labels, {})} if SYSTEM_PODS in paths else {})
    named = [gap.objects for gap in data.gaps if gap.source == "nodes"]
    assert named == ([(str(data.points[0].object),)] if NODES in paths else [])
    limits = {query.get("limit") for path, query in zip(client.asked, client.queries) if path in paths}
    assert limits <= {"500"}


def test_labels_beyond_the_first_page_are_not_read() -> None:
    page = {"metadata": {"continue": "more"}, **listed({"metadata": {"labels": {"app": "hook"}}})}
    answers = {
        f"{CONFIGURATIONS}/validatingwebhookconfigurations": listed(configuration(webhook("*", **SELECTOR))),
        **dict.fromkeys((PODS, SYSTEM_PODS, NODES), page),
    }
    data = run(FakeClient(answers=answers))
    assert data.truncated == {("shop", "hook"), "pods", "nodes"}
    assert run(FakeClient()).truncated == frozenset()


def test_many_gaps_are_kept_once() -> None:
    reads = GuardedReads(FakeClient())  # type: ignore[arg-type]
    for number in (1, 2, 1):
        reads.note(cluster_data.Gap("services", "no", backend=("shop", str(number))))
    assert [gap.backend[1] for gap in reads.gaps] == ["1", "2"]


def pod_request(kind: str = "", *, age: timedelta = timedelta(), name: str = "req") -> dict[str, Any]:
    conditions = [{"type": kind, "status": "True", "reason": "Because", "message": ""}] if kind else []
    return {
        "metadata": {"name": name, "namespace": "shop", "uid": name, "creationTimestamp": format_time(NOW - age)},
        "spec": {"signerName": "example.com/pods", "podName": "web", "nodeName": "one", "maxExpirationSeconds": 3600},
        "status": {"conditions": conditions},
    }  # fmt: skip


def test_pod_certificate_requests_that_wait_or_are_refused() -> None:
    items = [
        pod_request(name="new"),
        pod_request(name="old", age=timedelta(minutes=3)),
        pod_request("Denied", name="denied"),
        pod_request("Failed", name="failed"),
        pod_request("Issued", name="issued", age=timedelta(minutes=9)),
    ]
    data = run(FakeClient(answers={POD_CERTIFICATES: listed(*items)}))
    assert [str(found.object) for found in data.requests] == [
        f"PodCertificateRequest shop/{name}" for name in ("old", "denied", "failed")
    ]


def test_a_cluster_without_pod_certificate_requests_has_no_gap() -> None:
    absent = NotFound("no such path", status=404)
    client = FakeClient(answers={POD_CERTIFICATES: absent})
    data = run(client)
    assert (data.requests, data.gaps) == ((), ())
    assert client.asked.count(POD_CERTIFICATES) == 1


@pytest.mark.parametrize(
    "metadata", [{}, {"name": "x", "namespace": "y"}, {"name": "x", "creationTimestamp": "no"}]
)
def test_a_pod_certificate_request_of_another_shape_is_a_gap(metadata: dict[str, Any]) -> None:
    broken = {**pod_request("Denied"), "metadata": metadata}
    data = run(FakeClient(answers={POD_CERTIFICATES: listed(broken)}))
    assert [gap.source for gap in data.gaps] == [cluster_data.POD_CERTIFICATES]


def test_a_read_that_is_a_part_of_another_one_does_not_give_it_more_time() -> None:
    client = FakeClient()
    reads, end = GuardedReads(client), client.deadline  # type: ignore[arg-type]

    def whole() -> tuple[float, float]:
        before = client.deadline
        reads.collect("requests", lambda: iter((1, 2)))
        return before, client.deadline

    before, after = reads.read("requests", whole, (0.0, 0.0))
    assert before == after < end
    assert client.deadline == end


def test_an_api_server_that_was_not_asked_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    addresses = [f"10.0.0.{number}" for number in range(gather_rotation.MOST_SERVERS + 2)]
    part = {"ports": [{"port": 6443}], "endpoints": [{"addresses": [address]} for address in addresses]}
    client: Any = Mock(get=lambda *_about: {"items": [part]})
    monkeypatch.setattr(served_chains, "read_chains", lambda _client, places, _until: [])
    rotation = Mock(outgoing=())
    assert gather_rotation._servers(client, rotation) == {
        f"{address}:6443": None for address in addresses[gather_rotation.MOST_SERVERS :]
    }


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([("f:data", 0)], None),
        ([("f:data", 0), ("f:metadata", 5)], None),
        ([("f:data", 5)], 5),
        ([("f:data", 0), ("f:data", 3)], 3),
        ([], None),
    ],
)
def test_the_time_of_a_change_after_the_creation(
    entries: list[tuple[str, int]], expected: int | None
) -> None:
    """The CAs that a cluster has from its beginning are no rotation."""
    fields = [{"time": format_time(NOW + days * DAY), "fieldsV1": {key: {}}} for key, days in entries]
    changed = gather_rotation.changed_at(
        {"metadata": {"creationTimestamp": format_time(NOW), "managedFields": fields}}
    )
    assert changed == (None if expected is None else NOW + expected * DAY)


@pytest.mark.parametrize(
    ("published", "since", "noted"), [(2, NOW, 1), (2, None, 0), (1, NOW, 0), (3, NOW, 0)]
)
def test_a_rotation_behind_a_proxy_is_unknown(published: int, since: Any, noted: int) -> None:
    """No published CA signed what the proxy shows, so a pass would say that there is no rotation."""
    cas = "".join(authority(f"ca-{number}").pem for number in range(published))
    shown = issue("leaf", authority("proxy")).pem
    data = ClusterData(NOW, cluster_ca=cas, cluster_ca_since=since, api_server=shown)
    gaps: list[Any] = []
    reads = Mock(note=gaps.append)
    assert gather_rotation.read(Mock(), reads, AuditOptions(), data) is None
    assert [gap.checks for gap in gaps] == [("cluster-ca-rotation",)] * noted
    assert all("APIServer kube-apiserver" not in data.names_of(gap) for gap in gaps), "its dates are known"
