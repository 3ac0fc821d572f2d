# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The handshake with an endpoint: what it leaves on the other side, when it gives up, and where it never goes."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook import _served
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook._targets import ClientConfig
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.unit.csr.flow import Api
from tests.unit.webhook import pki


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_server_sees_a_handshake_that_is_complete(tmp_path: Path, version: ssl.TLSVersion) -> None:
    """Or it would log an error at each look."""
    ca = pki.authority("served")
    file = tmp_path / "both.pem"
    key = ca.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(key + ca.pem.encode())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = version
    context.load_cert_chain(file)
    ours, theirs = socket.socketpair()
    seen: list[Any] = []

    def serve() -> None:
        try:
            with context.wrap_socket(theirs, server_side=True) as tls:
                seen.append(tls.version())
        except OSError as error:
            seen.append(error)

    server = threading.Thread(target=serve)
    server.start()
    with ours:
        chain = _served.handshake(_served._Direct(ours), "hook.apps.svc", until=time.monotonic() + 5)
    server.join()
    assert [ssl.DER_cert_to_PEM_cert(der) for der in chain] == [ca.pem]
    assert seen == [version.name.replace("_", ".")]


def test_a_server_that_sends_a_byte_now_and_then_is_given_up() -> None:
    class Slow:
        def send(self, data: bytes) -> None:
            """Take it."""

        def recv(self) -> bytes:
            return b"\x16"

    with pytest.raises(OSError, match="comes to no end"):
        _served.handshake(Slow(), "hook.apps.svc", until=time.monotonic() - 1)


@pytest.mark.parametrize(
    ("shows", "bundle", "is_blind"), [(True, "other", False), (False, "other", True), (False, "ca", False)]
)
def test_a_leaf_without_its_chain_is_not_judged(
    monkeypatch: pytest.MonkeyPatch, shows: bool, bundle: str, is_blind: bool
) -> None:
    """Python 3.9 shows no intermediate certificates: that they are missing here says nothing of what was sent."""
    ca, now = pki.authority("ca"), datetime.now(timezone.utc)
    leaf = pki.leaf(ca, "hook.example.com", expires=now + pki.YEAR)
    monkeypatch.setattr(_served, "SHOWS_CHAINS", shows)
    monkeypatch.setattr(
        _served, "handshake", lambda *_arguments, **_options: [ssl.PEM_cert_to_DER_cert(leaf)]
    )
    monkeypatch.setattr(socket, "create_connection", lambda *_arguments, **_options: socket.socket())
    config = ClientConfig("w", "", "", "hook.example.com", None, pki.authority(bundle).pem)
    api: Any = Api()
    (seen,) = _served.look(api, config, until=time.monotonic() + 5).served
    assert (seen.is_blind, seen.certificate is None) == (is_blind, is_blind)


def test_an_address_of_the_clusters_network_is_never_dialled(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Service without a selector: its EndpointSlice names addresses, which mean something else here."""
    monkeypatch.setattr(socket, "create_connection", lambda *_arguments, **_options: pytest.fail("dialled"))
    api: Any = Api(
        {
            "/api/v1/namespaces/apps/services/hook": {
                "metadata": {"namespace": "apps", "name": "hook"},
                "spec": {"ports": [{"port": 443}]},
            },
            "/apis/discovery.k8s.io/v1/namespaces/apps/endpointslices": {
                "items": [{"ports": [{"port": 443}], "endpoints": [{"addresses": ["10.9.9.9"]}]}]
            },
        }
    )
    config = ClientConfig("w", "", "", "hook.apps.svc", ("apps", "hook"), "")
    look = _served.look(api, config, until=time.monotonic() + 5)
    assert (look.is_blind, look.is_complete) == (True, False)
    assert "no pod is behind it" in look.served[0].problem


@pytest.mark.parametrize("role", ["rotate", "prove"])
def test_the_documented_roles_let_it_look(role: str) -> None:
    file = Path(__file__).resolve().parents[3] / "docs" / "rbac" / f"{role}.yaml"
    rules = yaml.safe_load(file.read_text())["rules"]
    for right in _served.rights("apps"):
        assert any(
            right.group in rule["apiGroups"]
            and right.resource in rule["resources"]
            and right.verb in rule["verbs"]
            for rule in rules
        ), right
