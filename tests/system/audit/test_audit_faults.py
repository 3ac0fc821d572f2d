# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Audits of a real API server behind a proxy that spoils its answers: one line, or findings of the status unknown."""

from __future__ import annotations

import datetime
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit import gather
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations.audit_info import OPERATION

from tests.support.audit.audit_rig import AuditRig, checks
from tests.support.certificates.csr_rig import assert_one_line
from tests.support.clusters.cluster import free_ports
from tests.system.fault_injection import proxy
from tests.system.fault_injection.proxy import Act, Exchange, GoneAway

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.clusters import Fleet

#: No test waits longer for an answer that never comes.
WAIT_SECONDS = 6
IDENTITY = "/api/v1/namespaces/kube-system"
VALIDATING = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
MUTATING = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
EXPIRED = {"kind": "Status", "status": "Failure", "code": 410, "reason": "Expired", "message": "too old"}
BROKEN = {
    "kind": "Status",
    "status": "Failure",
    "code": 500,
    "reason": "InternalError",
    "message": "etcdserver",
}


@pytest.fixture(scope="module")
def rig(fleet: Fleet) -> Iterator[AuditRig]:
    rig = AuditRig(fleet["onprem"])
    rig.hook("service-missing", service="nosuch")
    rig.hook("healthy")
    for group in ("a", "b", "c"):
        rig.make(DEFINITIONS, plain_definition(f"{group}.{rig.name}.certflow.test"))
    try:
        yield rig
    finally:
        rig.close()


def plain_definition(group: str) -> dict[str, Any]:
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": {"type": "object"}},
    }
    names = {"plural": "things", "kind": "Thing"}
    spec = {"group": group, "scope": "Cluster", "names": names, "versions": [version]}
    return {"metadata": {"name": f"things.{group}"}, "spec": spec}


@dataclass(frozen=True)
class Spoilt:
    """A real cluster behind a proxy."""

    rig: AuditRig
    front: proxy.Proxy
    kubeconfig: dict[str, Any]

    def audit(self, act: Act | None = None, **options: Any) -> dict[str, Any]:
        """Audit the cluster while the proxy acts on each request. Raises AssertionError if the audit fails."""
        self.front.inject(lambda _number: act)
        return self.rig.audit(kubeconfig=self.kubeconfig, include_passed=True, **options)

    def fail(self, act: Act, **options: Any) -> dict[str, Any]:
        """Return the result of an audit that fails."""
        self.front.inject(lambda _number: act)
        return self.rig.operate(OPERATION, kubeconfig=self.kubeconfig, **options)


@pytest.fixture(scope="module")
def spoilt(rig: AuditRig) -> Iterator[Spoilt]:
    front = proxy.Proxy(rig.cluster)
    try:
        yield Spoilt(rig, front, rig.proxied(front.url))
    finally:
        front.close()


@pytest.fixture(scope="module")
def complete(spoilt: Spoilt) -> dict[str, Any]:
    """Return the audit through the proxy without a fault."""
    return spoilt.audit()


@pytest.fixture
def pages_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read the CustomResourceDefinitions one by one, so that the few of a test cluster have several pages."""
    monkeypatch.setattr(gather, "DEFINITIONS_PAGE", "1")


def cut(exchange: Exchange) -> None:
    exchange.cut(exchange.send())


def half(exchange: Exchange) -> None:
    """Answer with half of the object as if it were the whole one."""
    answer = exchange.send()
    exchange.answer(replace(answer, body=answer.body[: len(answer.body) // 2]))


def hang(exchange: Exchange) -> None:
    threading.Event().wait(WAIT_SECONDS)
    raise GoneAway


def trickle(exchange: Exchange) -> None:
    """Send a byte now and then, so that no read times out."""
    answer = exchange.send()
    handler = exchange._handler
    handler.start(answer.status, answer.headers, {"Content-Length": str(len(answer.body))})
    for number in range(int(WAIT_SECONDS / 0.2)):
        handler.wfile.write(answer.body[number : number + 1])
        threading.Event().wait(0.2)
    raise GoneAway


def large(exchange: Exchange) -> None:
    exchange._handler.start(200, {}, {"Content-Length": str(10**10)})
    raise GoneAway


FAULTS: dict[str, Act] = {
    "500": lambda exchange: exchange.say(500, BROKEN),
    "half an answer": half,
    "a connection that ends": cut,
    "a page of a load balancer": lambda exchange: exchange.say(200, "<html>maintenance</html>"),
    "a list of another shape": lambda exchange: exchange.say(200, {"items": [None]}),
    "no answer": hang,
    "an endless answer": trickle,
    "an answer of 10 GB": large,
    "401": lambda exchange: exchange.say(401, {"kind": "Status", "code": 401, "message": "Unauthorized"}),
}
#: The first of a kind runs with make test.
DAILY = {(VALIDATING, "half an answer"), (DEFINITIONS, "an endless answer"), ("/api/v1/events", "500")}
SOURCES = {
    VALIDATING: "configurations",
    MUTATING: "configurations",
    DEFINITIONS: "definitions",
    "/apis/apiregistration.k8s.io/v1/apiservices": "api-services",
    "/api/v1/namespaces": "namespaces",
    "/api/v1/namespaces/{}/services/hook": "services",
    "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices": "services",
    "/api/v1/events": "events",
    "/apis/certificates.k8s.io/v1/certificatesigningrequests": "requests",
    "/apis/certificates.k8s.io/v1/podcertificaterequests": "pod-certificates",
    "/api/v1/namespaces/kube-system/configmaps/kube-root-ca.crt": "cluster-ca",
    "/metrics": "metrics",
}
#: The metrics are text, so that every text is an answer.
PLAIN = {
    ("/metrics", "a page of a load balancer"),
    ("/metrics", "a list of another shape"),
    ("/metrics", "half an answer"),
}
#: One object is no list. The only Service of the rig is an ExternalName, whose EndpointSlices do not matter.
OF_ONE = {(name, "a list of another shape") for name in ("kube-root-ca.crt", "hook", "endpointslices")}
ROWS = [
    pytest.param(
        path, fault, id=f"{source}: {fault}", marks=() if (path, fault) in DAILY else pytest.mark.full
    )
    for path, source in SOURCES.items()
    for fault in FAULTS
    if (path, fault) not in PLAIN and (path.rpartition("/")[2], fault) not in OF_ONE
]


@pytest.mark.parametrize(("path", "fault"), ROWS)
def test_an_answer_that_cannot_be_read_is_unknown(
    spoilt: Spoilt, complete: dict[str, Any], path: str, fault: str
) -> None:
    name = spoilt.rig.name

    def act(exchange: Exchange) -> None:
        if exchange.path.partition("?")[0] == path.format(name):
            FAULTS[fault](exchange)
        else:
            exchange.pass_on()

    result = spoilt.audit(act, wait_timeout=WAIT_SECONDS)
    sources = {finding["cause"].split()[5].rstrip(":") for finding in unknown(result)}
    assert SOURCES[path] in sources
    assert prints(result, "pass") <= prints(complete, "pass")
    assert not [finding for finding in result["findings"] if finding["permissions"]]
    if path != VALIDATING:
        assert checks(result, f"service-missing-{name}") == ["service-missing"]
    assert all("\n" not in finding["cause"] for finding in result["findings"])


def unknown(result: dict[str, Any]) -> list[dict[str, Any]]:
    return [finding for finding in result["findings"] if finding["status"] == "unknown"]


def prints(result: dict[str, Any], status: str) -> set[str]:
    return {finding["fingerprint"] for finding in result["findings"] if finding["status"] == status}


@pytest.mark.usefixtures("pages_of_one")
@pytest.mark.parametrize("answer", [(422, {**BROKEN, "code": 422}), (410, EXPIRED)])
def test_a_page_that_fails_in_the_middle_is_unknown(spoilt: Spoilt, answer: tuple[int, Any]) -> None:
    def act(exchange: Exchange) -> None:
        if exchange.path.startswith(DEFINITIONS) and "continue=" in exchange.path:
            exchange.say(*answer)
        else:
            exchange.pass_on()

    result = spoilt.audit(act)
    assert any("definitions" in finding["cause"] for finding in unknown(result))
    assert not [
        finding
        for finding in result["findings"]
        if (finding["check"], finding["status"]) == ("crd-not-ready", "pass")
    ]
    assert checks(result, f"service-missing-{spoilt.rig.name}") == ["service-missing"]


# Clusters that cannot be audited at all


def test_a_cluster_that_cannot_be_reached_is_one_line(rig: AuditRig) -> None:
    config = rig.proxied("")
    config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{free_ports().etcd}"
    result = rig.operate(OPERATION, kubeconfig=config, wait_timeout=1)
    assert_one_line(result, "unreachable")


def test_an_expired_login_is_one_line(rig: AuditRig) -> None:
    lifetime = -datetime.timedelta(hours=1)
    kubeconfig = rig.cluster.kubeconfig_for(rig.user, ["system:masters"], lifetime=lifetime)
    result = rig.operate(OPERATION, kubeconfig=str(kubeconfig))
    assert_one_line(result, "authentication-failed")


FIRST_ANSWERS: list[tuple[str, Act]] = [
    ("unreachable", cut),
    ("api-error", half),
    ("api-error", FAULTS["a page of a load balancer"]),
    ("api-error", lambda exchange: exchange.say(200, {"hello": "world"})),
    ("timed-out", trickle),
    ("authentication-failed", FAULTS["401"]),
    ("api-error", large),
    ("api-error", FAULTS["500"]),
]


@pytest.mark.parametrize(("code", "act"), FIRST_ANSWERS, ids=[code for code, _act in FIRST_ANSWERS])
def test_a_first_answer_that_cannot_be_read_is_one_line(spoilt: Spoilt, code: str, act: Act) -> None:
    assert_one_line(spoilt.fail(act, wait_timeout=2), code)
