# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How API servers are asked: what one control plane on loopback cannot show."""

from __future__ import annotations

import contextlib
import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.client import Client
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.errors import ConnectionFailed
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.login.connection import Connection
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.bundles.bundle_targets import (
    ClientConfig,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.endpoints import served_chains
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.endpoints.webhook_endpoints import (
    Endpoint,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.probe import (
    probe_calls,
    probe_webhook,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.probe.probe_calls import ProbeCall
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509 import certificate_facts

from tests.support.api_server import LOST, ScriptedAnswer, ScriptedServer, serving
from tests.support.certificates import authority

if TYPE_CHECKING:
    from collections.abc import Iterator

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=timezone.utc)
CALL = ProbeCall("admission", "/api/v1/namespaces/a/configmaps", "dry run", {"kind": "ConfigMap"}, "hook")
DONE = ScriptedAnswer(200, {"kind": "ConfigMap"})
DENIED = ScriptedAnswer(
    429, {"kind": "Status", "message": 'admission webhook "hook" denied the request: slow down'}
)
FAILED = ScriptedAnswer(
    500, {"kind": "Status", "message": 'Internal error occurred: failed calling webhook "hook": EOF'}
)


@contextlib.contextmanager
def asking(server: ScriptedServer) -> Iterator[Client]:
    connection = Connection(host=server.url, auth_source="a test", token="t")
    client = Client(connection, user_agent="test/1", deadline=time.monotonic() + 60)
    try:
        yield client
    finally:
        client.close()


@pytest.mark.parametrize("answer", [DONE, DENIED])
def test_each_request_has_a_connection_of_its_own(answer: ScriptedAnswer) -> None:
    with serving(answer) as server, asking(server) as client:
        assert len(probe_calls.send_probe(client, CALL)) == probe_calls.CONNECTIONS
        assert server.connections == probe_calls.CONNECTIONS
        assert set(server.paths()) == {f"POST {CALL.path}?dryRun=All"}


def test_a_failed_call_ends_it() -> None:
    with serving(DONE, FAILED, DONE) as server, asking(server) as client:
        answers = probe_calls.send_probe(client, CALL)
        assert [answer.failure.code if answer.failure else "" for answer in answers] == [
            "",
            "connection-closed",
        ]


def test_an_api_server_that_does_not_answer_says_nothing_of_the_webhook() -> None:
    with serving(LOST) as server, asking(server) as client, pytest.raises(ConnectionFailed):
        probe_calls.send_probe(client, CALL)


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ('configmaps "x" already exists', ""),
        ('admission webhook "hook" denied the request: x "y" already exists', "denied"),
        ('admission webhook "other" denied the request: "y" already exists', "another-webhook"),
    ],
)
def test_only_the_store_says_that_an_object_exists(message: str, code: str) -> None:
    body = {"kind": "Status", "reason": "AlreadyExists", "message": message}
    with serving(ScriptedAnswer(409, body)) as server, asking(server) as client:
        answer = probe_calls.send_probe(client, CALL)[0]
    assert (answer.failure.code if answer.failure else "") == code


CA_ENDS = [
    (900, "", ""),
    (9, "(the CA CN=a CA of the caBundle expires at ", ""),
    (-9, "", "(the CA CN=a CA of the caBundle has expired at "),
]


@pytest.mark.parametrize(("days", "later", "now"), CA_ENDS)
def test_the_certificate_that_ends_a_chain_is_named(days: int, later: str, now: str) -> None:
    day = authority.DAY
    issuer = authority.authority("a CA", not_before=NOW - 90 * day, not_after=NOW + days * day)
    leaf = authority.issue(
        "leaf", issuer, names=authority.dns("hook.shop.svc"), not_before=NOW - day, not_after=NOW + 300 * day
    )
    config = ClientConfig("hook", "", "", "hook.shop.svc", ("shop", "hook"), issuer.pem, 443)
    chain = served_chains.ServedChain(Endpoint("", 8443), leaf.pem, certificate_facts.describe_pem(leaf.pem))
    report = served_chains.ServedReport(chain, probe_webhook._refusal(chain, config, NOW))
    seen = probe_webhook._endpoint_evidence(report, config, NOW)
    assert (later in seen.certificate, now in seen.refusal) == (True, True)
    assert ("(" in seen.certificate, seen.verifies) == (bool(later), not now)
