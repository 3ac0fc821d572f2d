# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Audits of large clusters: webhooks and endpoints on a real API server, CustomResourceDefinitions on a stand-in server.

A real API server needs gigabytes of memory for 5,000 CustomResourceDefinitions.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import urllib.parse
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import api_server
from tests.support.api_server import ReceivedRequest, ScriptedAnswer, ScriptedServer
from tests.support.audit.audit_rig import AuditRig, bundle_of, failed, old_ca
from tests.support.webhooks.bundle_rig import pem
from tests.support.webhooks.probe_rig import HOOKS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.clusters import Fleet

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
MIB = 1024 * 1024
#: Audit the URL of the first argument, and print the result and the growth of the peak memory in KiB. The peak of getrusage
#: would be that of the process that started this one.
PROGRAM = """
import json, re, sys
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations.audit_info import OPERATION
from tests.support.operations import operate
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
before = peak()
result = operate(OPERATION, {"host": sys.argv[1], "api_key": "none", "include_passed": True})
print(json.dumps({"result": result, "grown": peak() - before}))
"""


@pytest.fixture(scope="module")
def rig(fleet: Fleet) -> Iterator[AuditRig]:
    rig = AuditRig(fleet["onprem"])
    try:
        yield rig
    finally:
        rig.close()


def test_an_audit_reads_few_bytes_of_the_metrics(rig: AuditRig) -> None:
    """An audit reads the metrics twice. Compressed, both are a small part of one."""
    whole = len(rig.cluster.client.request("GET", "/metrics"))
    traffic = rig.audit()["traffic"]
    print(f"metrics of {whole} bytes, {traffic}")
    assert 0 < traffic["bytes_received"] < whole / 2


@pytest.mark.parametrize("count", [60, pytest.param(1000, marks=pytest.mark.full)])
def test_many_webhooks_of_one_service(rig: AuditRig, count: int) -> None:
    """The number of requests and handshakes is that of the Services, and not of the webhooks."""
    few = rig.audit()["traffic"]
    nothing = {"apiGroups": [rig.name], "apiVersions": ["*"], "operations": ["*"], "resources": ["*"]}
    made = []
    for number in range(count // 20):
        webhooks = [
            {**rig.webhook(name=f"w{index}.{rig.name}.certflow.test"), "rules": [nothing]}
            for index in range(20)
        ]
        for index, webhook in enumerate(webhooks):
            webhook["clientConfig"]["service"]["path"] = f"/{number}/{index}"
        made.append(f"many-{count}-{number}-{rig.name}")
        rig.make(HOOKS, {"metadata": {"name": made[-1]}, "webhooks": webhooks})
    result = rig.audit(include_passed=True)
    traffic = result["traffic"]
    assert (traffic["requests"], traffic["handshakes"]) == (few["requests"] + 2, few["handshakes"] + 1)
    assert [failed(result, name) for name in made] == [[]] * len(made)
    passed = [
        finding
        for finding in result["findings"]
        if (finding["check"], finding["status"]) == ("ca-mismatch", "pass")
    ]
    assert sum(finding["object"]["name"] in made for finding in passed) == count
    for name in made:
        rig.cluster.api("DELETE", f"{HOOKS}/{name}")
        rig.made.remove(f"{HOOKS}/{name}")


def test_a_bundle_of_a_megabyte(rig: AuditRig) -> None:
    """It contains the CA once, among many others and text that is not PEM."""
    other = bundle_of(old_ca(-1))
    noise = "-----BEGIN CERTIFICATE-----\n" + "A" * 64 + "\n-----END CERTIFICATE-----\n"
    large = noise * 1000 + other * 800 + "x" * 300_000 + "\n" + pem("good")
    assert len(large) > 700_000
    name = rig.hook("large-bundle", bundle=large)
    assert failed(rig.audit(), name) == []


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.full)])
def test_a_service_with_many_endpoints(rig: AuditRig, count: int) -> None:
    """They are not pods, so the audit connects to none of them."""
    service = rig.service(f"wide-{count}")
    labels = {
        "kubernetes.io/service-name": service,
        "endpointslice.kubernetes.io/managed-by": "certflow.test",
    }
    for first in range(0, count, 1000):
        body = {
            "metadata": {"name": f"{service}-{first}", "labels": labels},
            "addressType": "IPv4",
            "endpoints": [
                {"addresses": [f"198.18.{number // 250}.{number % 250 + 1}"], "conditions": {"ready": True}}
                for number in range(first, min(first + 1000, count))
            ],
            "ports": [{"port": 443, "name": ""}],
        }
        rig.make(f"/apis/discovery.k8s.io/v1/namespaces/{rig.name}/endpointslices", body)
    name = rig.hook(f"wide-{count}", service=service, port=443)
    before = rig.audit()["limits"]["endpoints_left_out"]
    result = rig.audit(endpoints_per_service=3, include_passed=True)
    assert failed(result, name) == []
    assert result["limits"]["endpoints_left_out"] == before + 7
    own = [
        finding
        for finding in result["findings"]
        if finding["object"]["name"] == name and finding["status"] == "pass"
    ]
    assert "ca-mismatch" not in {finding["check"] for finding in own}


# A stand-in server


class LargeCluster(ScriptedServer):
    """A server with many CustomResourceDefinitions, each with a large schema."""

    def __init__(self, count: int, size: int) -> None:
        super().__init__([])
        self.count = count
        self._schema = {"openAPIV3Schema": {"description": "x" * size}}

    def next(self) -> ScriptedAnswer:
        request = self.requests[-1]
        self.requests[-1] = ReceivedRequest(request.method, request.path, {}, b"", None)
        path, _mark, query = request.path.partition("?")
        if path == "/api/v1/namespaces/kube-system":
            return ScriptedAnswer(body={"metadata": {"uid": "cluster-1"}})
        if path == "/version":
            return ScriptedAnswer(body={"gitVersion": "v1.36.3"})
        if path != DEFINITIONS:
            return ScriptedAnswer(body={"items": []})
        asked = urllib.parse.parse_qs(query)
        first = int(asked.get("continue", ["0"])[0])
        last = min(first + int(asked["limit"][0]), self.count)
        more = {"continue": str(last)} if last < self.count else {}
        return ScriptedAnswer(
            body={"metadata": more, "items": [self._item(number) for number in range(first, last)]}
        )

    def _item(self, number: int) -> dict[str, Any]:
        group = f"g{number}.example.com"
        return {
            "metadata": {"name": f"things.{group}", "uid": str(number)},
            "spec": {
                "group": group,
                "names": {"plural": "things"},
                "versions": [{"name": "v1", "served": True, "storage": True, "schema": self._schema}],
            },
            "status": {"storedVersions": ["v1"], "conditions": [{"type": "Established", "status": "True"}]},
        }


@contextlib.contextmanager
def large_cluster(count: int, size: int) -> Iterator[LargeCluster]:
    server = LargeCluster(count, size)
    with api_server.serving(by=server):
        yield server


@pytest.mark.parametrize(
    ("count", "size"), [(200, 100_000), pytest.param(5000, 100_000, marks=pytest.mark.full)]
)
def test_the_memory_does_not_grow_with_the_schemas(count: int, size: int) -> None:
    """The page of 50 definitions decides. All schemas together are 20 and 500 MB."""
    with large_cluster(count, size) as server:
        command = [sys.executable, "-c", PROGRAM, server.url]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    answer = json.loads(done.stdout)
    result = answer["result"]
    assert "failed" not in result, result
    assert result["traffic"]["bytes_received"] > count * size
    passed = [
        finding
        for finding in result["findings"]
        if (finding["check"], finding["status"]) == ("crd-not-ready", "pass")
    ]
    assert len(passed) == count
    pages = [request for request in server.requests if request.path.startswith(DEFINITIONS)]
    assert len(pages) == count // 50
    print(f"{count} definitions: {answer['grown'] / 1024:.0f} MiB more, {result['traffic']}")
    assert MIB < answer["grown"] * 1024 < 35 * MIB
