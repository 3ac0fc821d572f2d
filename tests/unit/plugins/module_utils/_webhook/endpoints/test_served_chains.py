# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The handshake with an endpoint: what it leaves on the other side, when it gives up, and where it never goes."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import websocket
import yaml
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube import port_forward
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.client import Client
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.errors import AuthenticationError
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.login import transport
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.login.connection import Connection
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.bundles.bundle_targets import (
    ClientConfig,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.calls import call_faults
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.endpoints import (
    served_chains,
    webhook_endpoints,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.endpoints.webhook_endpoints import (
    Endpoint,
    Endpoints,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509 import certificate_facts
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509.chain import chain_judge
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.support.certificates import authority, der
from tests.support.webhooks import https_webhook
from tests.unit.plugins.module_utils._csr.flow import ScriptedApi
from tests.unit.plugins.module_utils._kube.raw import dripping, endless, guarded, talking
from tests.unit.plugins.module_utils._webhook import pki


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
                seen.extend([tls.version(), tls.recv(1)])
        except OSError as error:
            seen.append(error)

    server = threading.Thread(target=serve)
    server.start()
    with ours:
        chain, _ended, refusal = served_chains.handshake(ours, CONFIG)
    server.join()
    assert [ssl.DER_cert_to_PEM_cert(der) for der in chain] == [ca.pem]
    assert (seen, refusal) == ([version.name.replace("_", "."), b""], "")  # and an end that is no error


class MemoryServer:
    """A TLS server in memory that sends its data in one piece with the end of the handshake."""

    def __init__(
        self, file: Path, version: ssl.TLSVersion, data: bytes, protocols: tuple[str, ...] = ()
    ) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_alpn_protocols(protocols)
        context.minimum_version = context.maximum_version = version
        context.load_cert_chain(file)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._data = data

    def sendall(self, data: bytes) -> None:
        self._incoming.write(data)
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.do_handshake()
            self._tls.write(self._data)
            self._data = b""

    def recv(self, _size: int) -> bytes:
        return self._outgoing.read()

    @property
    def protocol(self) -> str | None:
        return self._tls.selected_alpn_protocol()

    def reads_end(self) -> bool:
        """Return True if the client ended the connection in an orderly way."""
        return self._tls.read() == b""


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_data_right_after_the_handshake_does_not_hide_the_chain(
    tmp_path: Path, version: ssl.TLSVersion
) -> None:
    """A server with h2 sends its SETTINGS frame without waiting."""
    ca = pki.authority("served")
    file = tmp_path / "both.pem"
    key = ca.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(key + ca.pem.encode())
    server = MemoryServer(file, version, b"\x00\x00\x00\x04\x00\x00\x00\x00\x00")
    chain, _ended, refusal = served_chains.handshake(server, CONFIG)
    assert [ssl.DER_cert_to_PEM_cert(der) for der in chain] == [ca.pem]
    assert (refusal, server.reads_end()) == ("", True)


#: Service and pointer of a client configuration -> the protocol that a server chooses that prefers h2.
PROTOCOLS = (
    (("apps", "hook"), "/webhooks/0/clientConfig", "http/1.1"),
    (("apps", "hook"), "/spec/conversion/webhook/clientConfig", "http/1.1"),
    (None, "/webhooks/0/clientConfig", "h2"),
    (("apps", "hook"), "/spec", "h2"),
)


@pytest.mark.parametrize(("service", "pointer", "protocol"), PROTOCOLS)
def test_it_offers_the_protocols_of_the_api_server(
    service: tuple[str, str] | None, pointer: str, protocol: str, tmp_path: Path
) -> None:
    """The API server calls the Service of a webhook without HTTP/2 (kubernetes/kubernetes#75791)."""
    file = tmp_path / "both.pem"
    ca = pki.authority("served")
    key = ca.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(key + ca.pem.encode())
    server = MemoryServer(file, ssl.TLSVersion.TLSv1_3, b"", protocols=("h2", "http/1.1"))
    served_chains.handshake(server, ClientConfig("", pointer, "", "hook.apps.svc", service, ""))
    assert server.protocol == protocol


def test_a_key_of_another_certificate_is_a_fault() -> None:
    """OpenSSL and Go verify the signature of the handshake with the key of the first certificate."""
    error = ssl.SSLError(1, "[SSL: BAD_SIGNATURE] bad signature (_ssl.c:1032)")
    error.reason = "BAD_SIGNATURE"
    assert served_chains._GO_FAILS[served_chains._reason_of(error)][0] == call_faults.HANDSHAKE_FAILS
    assert "its key is not that of the first certificate" in served_chains._in_words(error)


def present_certificate(server: https_webhook.WebhookServer) -> authority.Issued:
    issued = authority.issue("hook")
    key = issued.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    server.present(SimpleNamespace(certificate_pem=issued.pem.encode(), key_pem=key))
    return issued


def chain_of(server: https_webhook.WebhookServer) -> served_chains.ServedChain:
    """Return what a scan of the server's URL shows."""
    server.serve()
    try:
        api: Any = ScriptedApi()
        api.host_name = "127.0.0.1"
        (seen,) = served_chains.scan(api, replace(URL, port=server.port), until=time.monotonic() + 5).served
    finally:
        server.close()
    return seen


@pytest.mark.parametrize(
    ("mode", "refusal"),
    [
        (ssl.CERT_OPTIONAL, ""),
        (
            ssl.CERT_REQUIRED,
            "the TLS handshake failed: it demands a client certificate (TLSV13_ALERT_CERTIFICATE_REQUIRED)",
        ),
    ],
)
def test_with_tls_1_3_a_client_certificate_is_demanded_after_the_chain(
    mode: ssl.VerifyMode, refusal: str
) -> None:
    server = https_webhook.WebhookServer(https_webhook.allow)
    issued = present_certificate(server)
    context: Any = server._tls
    context.verify_mode, context.minimum_version = mode, ssl.TLSVersion.TLSv1_3
    seen = chain_of(server)
    assert (seen.chain_pem, seen.problem, seen.refusal) == (issued.pem, "", refusal)


@pytest.mark.parametrize(
    ("cipher", "is_offered"),
    [
        ("ECDHE-ECDSA-CHACHA20-POLY1305", True),
        ("ECDHE-ECDSA-AES256-SHA", True),
        ("ECDHE-ECDSA-AES256-SHA384", False),
        ("ECDHE-ECDSA-AES128-CCM", False),
    ],
)
def test_the_ciphers_of_the_api_server_are_offered(cipher: str, is_offered: bool) -> None:
    """Source: Go crypto/tls cipherSuitesPreferenceOrder and disabledCipherSuites."""
    server = https_webhook.WebhookServer(https_webhook.allow)
    issued = present_certificate(server)
    context: Any = server._tls
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(f"{cipher}:@SECLEVEL=0")
    seen = chain_of(server)
    assert (seen.chain_pem == issued.pem) is is_offered
    assert (seen.problem == "") is is_offered


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    ("group", "is_offered"),
    [("prime256v1", True), ("secp384r1", True), ("secp521r1", True), ("X448", False), ("ffdhe2048", False)],
)
def test_a_group_that_the_api_server_does_not_offer_is_not_accepted(
    group: str, is_offered: bool, version: ssl.TLSVersion
) -> None:
    """Source: Go crypto/tls defaultCurvePreferences."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).set_ecdh_curve(group)
    except (ValueError, ssl.SSLError):  # an older ssl module knows only curves
        pytest.skip(f"this Python cannot serve the group {group}")
    server = https_webhook.WebhookServer(https_webhook.allow)
    issued = present_certificate(server)
    context: Any = server._tls
    context.maximum_version = version
    context.set_ecdh_curve(group)
    seen = chain_of(server)
    assert (seen.chain_pem == issued.pem) is is_offered
    assert (bool(seen.problem), seen.is_blind) == (not is_offered, not is_offered)


def test_a_server_without_the_protocols_of_the_api_server_is_explained() -> None:
    api: Any = ScriptedApi()
    api.host_name = "127.0.0.1"
    with talking(lambda: [b"\x15\x03\x03\x00\x02\x02\x78"]) as server:
        config = replace(URL, port=server.port)
        (seen,) = served_chains.scan(api, config, until=time.monotonic() + 5).served
    assert "it accepts no protocol that the API server offers" in seen.problem
    assert not seen.is_blind


MUTUAL, PLAIN = "a client certificate", "plain HTTP"
#: What the server does -> a part of the problem.
REFUSALS = {
    MUTUAL: "it demands a client certificate, or has no cipher or group in common with this run (SSLV3_ALERT_HANDSHAKE_FAILURE)",
    PLAIN: "it speaks plain HTTP, or another protocol without TLS (WRONG_VERSION_NUMBER)",
}


@pytest.mark.parametrize("kind", REFUSALS)
def test_a_refused_handshake_is_explained(kind: str) -> None:
    server = https_webhook.WebhookServer(https_webhook.allow)
    if kind != PLAIN:
        present_certificate(server)
        context: Any = server._tls
        context.verify_mode = ssl.CERT_REQUIRED
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    seen = chain_of(server)
    assert seen.problem == f"the TLS handshake failed: {REFUSALS[kind]}"
    assert (seen.fault, seen.is_blind) == (("not-tls", False) if kind == PLAIN else ("", True))


URL = ClientConfig("w", "", "", "127.0.0.1", None, "", 0)
RECORD = b"\x16\x03\x03\x40\x00"  # a TLS record of 16 KiB that holds a part of a handshake
#: A ServerHello with the largest length that three bytes can hold.
HELLO = b"\x02\xff\xff\xff"
TALKS = {
    "a byte now and then": (lambda: dripping(RECORD), "did not end in time"),
    "the first bytes only": (lambda: dripping(RECORD[:3], seconds=60), "did not end in time"),
    "a chain without an end": (lambda: endless(RECORD + HELLO + bytes(16380), RECORD + bytes(16384)), ""),
}


@pytest.mark.parametrize("talk", TALKS)
def test_a_handshake_is_bounded_as_a_whole(talk: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served_chains, "HANDSHAKE_SECONDS", 1.5)
    says, problem = TALKS[talk]
    api: Any = ScriptedApi()
    with talking(says) as server:
        config = replace(URL, port=server.port)
        api.host_name = "127.0.0.1"
        (seen,) = guarded(lambda: served_chains.scan(api, config, until=time.monotonic() + 60)).served
        assert (server.connections, seen.certificate) == (1, None)
        assert problem in seen.problem
        # The library of this run takes shorter messages than Go.
        assert seen.is_blind is not bool(problem)
        assert server.sent < served_chains.HANDSHAKE_BYTES + (8 << 20)


#: The bytes of a server that does not finish a handshake.
UNFINISHED: dict[str, Callable[[], Iterator[bytes]]] = {
    "silent": lambda: dripping(seconds=60),
    "slow": lambda: dripping(RECORD),
}


@pytest.mark.parametrize("way", UNFINISHED)
@pytest.mark.parametrize(
    ("limit", "left", "is_blind"), [(10.0, 0.3, True), (0.3, 60.0, False)], ids=["the run's end", "the limit"]
)
def test_only_a_handshake_with_its_whole_time_says_something_about_the_endpoint(
    monkeypatch: pytest.MonkeyPatch, way: str, limit: float, left: float, is_blind: bool
) -> None:
    monkeypatch.setattr(served_chains, "HANDSHAKE_SECONDS", limit)
    api: Any = ScriptedApi()
    with talking(UNFINISHED[way]) as server:
        outside = Endpoint("127.0.0.1", server.port, is_outside=True)
        seen = guarded(lambda: served_chains.read_chain(api, outside, URL, time.monotonic() + left))
    assert (seen.certificate, seen.is_blind, seen.may_pass) == (None, is_blind, is_blind)
    assert ("when the time was over" in seen.problem) is is_blind


def test_a_slow_way_leaves_the_handshake_its_whole_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The way takes most of a limit, and then the handshake takes most of a limit."""
    monkeypatch.setattr(served_chains, "HANDSHAKE_SECONDS", 1.0)
    dial, times = transport.dial, list[float]()

    def slow(*arguments: Any) -> socket.socket:
        connection = dial(*arguments)
        connection.settimeout(0.3)  # as a read of the way leaves it
        time.sleep(0.7)
        times.append(time.monotonic())
        return connection

    monkeypatch.setattr(transport, "dial", slow)
    api: Any = ScriptedApi()
    with talking(UNFINISHED["silent"]) as server:
        outside = Endpoint("127.0.0.1", server.port, is_outside=True)
        seen = guarded(lambda: served_chains.read_chain(api, outside, URL, time.monotonic() + 60))
    assert time.monotonic() - times[0] >= 1.0
    assert not seen.is_blind


class ManyEndpoints:
    """Endpoints that are read by a function of the test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, read: Callable[[int], object], count: int) -> None:
        self.places = [(Endpoint("h", number, is_outside=True), URL) for number in range(count)]
        api: Any = ScriptedApi()
        api.prepare = lambda: self.hooks.append(threading.current_thread())
        self.api = api
        self.readers: list[threading.Thread] = []
        self.hooks: list[threading.Thread] = []
        self._work = read
        self.chain_pem = ""
        monkeypatch.setattr(served_chains, "read_chain", self._read_chain)

    def look(self, seconds: float = 60) -> list[served_chains.ServedChain]:
        return served_chains.read_chains(self.api, self.places, time.monotonic() + seconds)

    def _read_chain(
        self, _client: Any, endpoint: Endpoint, _config: Any, _until: float
    ) -> served_chains.ServedChain:
        self.readers.append(threading.current_thread())
        self._work(endpoint.port)
        return served_chains.ServedChain(endpoint, self.chain_pem, problem=f"read {endpoint.port}")


def test_ten_endpoints_are_read_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten handshakes wait for each other. More than ten would be more than these threads."""
    together = threading.Barrier(10)
    many = ManyEndpoints(monkeypatch, lambda number: together.wait(30) if number < 20 else None, 25)
    chains = guarded(many.look)
    assert [chain.problem for chain in chains] == [f"read {number}" for number in range(25)]
    assert len(set(many.readers)) == 10
    assert all(thread.daemon for thread in many.readers)
    assert many.hooks
    assert not set(many.hooks) & set(many.readers)


def test_an_error_of_the_api_server_in_a_thread_is_raised_and_not_printed(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def read(number: int) -> None:
        if number == 3:
            raise AuthenticationError("the token has expired")

    with pytest.raises(AuthenticationError):
        guarded(ManyEndpoints(monkeypatch, read, 25).look)
    assert capfd.readouterr() == ("", "")


#: The version of the API server -> True if it is not known what it does with a certificate that an ML-DSA key signed.
ML_DSA = {"v1.37.4-eks-0a1b2c3": False, "v1.38.0": True, "": True}


@pytest.mark.parametrize("version", ML_DSA)
def test_the_version_of_the_api_server_decides_about_ml_dsa(
    version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    signed = der.signed_again(
        authority.issue("hook").certificate.public_bytes(Encoding.DER),
        lambda _body: b"s" * 3309,
        algorithm=der.sequence(der.oid("2.16.840.1.101.3.4.3.18")),
    )
    many = ManyEndpoints(monkeypatch, lambda _number: None, 1)
    many.api.get = lambda _path: {"gitVersion": version}
    monkeypatch.setattr(
        served_chains,
        "read_chain",
        lambda _client, endpoint, *_: served_chains._understood(endpoint, [signed]),
    )
    (chain,) = guarded(many.look)
    assert (chain.is_unread, chain.is_blind, chain.certificate is None) == (ML_DSA[version],) * 3


def test_an_unexpected_error_at_one_endpoint_does_not_end_the_look(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def read(number: int) -> None:
        if number == 3:
            raise ZeroDivisionError(number)

    chains = guarded(ManyEndpoints(monkeypatch, read, 25).look)
    blind = chains.pop(3)
    assert blind.problem == "it was not checked, because of an unexpected error (ZeroDivisionError)"
    assert (blind.endpoint.port, blind.is_blind, blind.certificate) == (3, True, None)
    assert all(chain.problem.startswith("read") for chain in chains)
    assert capfd.readouterr() == ("", "")


def test_the_chains_of_many_endpoints_have_one_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand pods that serve chains of the largest size would need 350 MB."""
    monkeypatch.setattr(served_chains, "MOST_CHAIN_TEXT", 10_000)
    many = ManyEndpoints(monkeypatch, lambda _number: None, 1000)
    many.chain_pem = "x" * 3000
    chains = guarded(many.look)
    assert sum(len(chain.chain_pem) for chain in chains) == 9000
    dropped = [chain for chain in chains if not chain.chain_pem]
    assert len(dropped) == 997
    assert {(chain.is_blind, chain.may_pass) for chain in dropped} == {(True, False)}


def test_equal_chains_are_judged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pods of one workload serve equal chains."""
    judged: list[object] = []
    now, issuer = datetime.now(timezone.utc), authority.authority("a CA")
    leaf = authority.issue("leaf", issuer, names=authority.dns("hook.shop.svc"))
    facts = certificate_facts.describe_pem(leaf.pem)

    def count(*args: Any, **options: Any) -> chain_judge.Judgement:
        judged.append(args)
        return chain_judge.judge(*args, **options)

    monkeypatch.setattr(served_chains, "judge", count)
    config = ClientConfig("hook", "", "", "hook.shop.svc", ("shop", "hook"), issuer.pem, 443)
    chains = [served_chains.ServedChain(Endpoint("", port), "".join(leaf.pem), facts) for port in range(1000)]
    assert {served_chains.judge_served(chain, config, now).verdict.code for chain in chains} == {"ok"}
    assert len(judged) == 1
    other = replace(config, server_name="other.shop.svc")
    assert served_chains.judge_served(chains[0], other, now).verdict.code == "name-mismatch"


@pytest.mark.parametrize(
    ("host", "is_blind"),
    [
        ("a..example.com", False),
        (f"{'a' * 64}.example.com", False),
        (".example.com", False),
        ("\u05d0a.example.com", True),
    ],
)
def test_a_host_name_that_idna_refuses(host: str, is_blind: bool) -> None:
    """Python and Go follow other versions of IDNA, so a name that is not ASCII may be valid."""
    api: Any = ScriptedApi()
    config = ClientConfig("w", "", "", host, None, "")
    (seen,) = guarded(lambda: served_chains.scan(api, config, until=time.monotonic() + 60)).served
    assert seen.problem == (
        "Python cannot encode its host name" if is_blind else "its host name is not valid"
    )
    assert (seen.is_blind, seen.may_pass) == (is_blind, False)


def test_a_hook_ends_the_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lost Lease, a signal, or a parent that has ended. No further handshake begins."""
    go_on, begun = threading.Event(), threading.Barrier(11)

    def read(_number: int) -> None:
        begun.wait(30)
        go_on.wait(30)

    def stop() -> None:
        begun.wait(30)
        raise KeyboardInterrupt

    many = ManyEndpoints(monkeypatch, read, 25)
    many.api.prepare = stop
    with pytest.raises(KeyboardInterrupt):
        guarded(many.look)
    go_on.set()
    for thread in set(many.readers):
        thread.join(30)
    assert len(many.readers) == 10


def test_a_look_ends_although_a_thread_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolver of names may not answer. The other endpoints are read nevertheless."""
    end = threading.Event()
    many = ManyEndpoints(monkeypatch, lambda number: end.wait(60) if number == 3 else None, 5)
    chains = guarded(lambda: many.look(seconds=0.5))
    end.set()
    assert [chain.problem.startswith("read") for chain in chains] == [True, True, True, False, True]
    assert (chains[3].is_blind, chains[3].may_pass) == (True, True)


def test_a_look_at_slow_endpoints_ends_in_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every server is slow. The first ones use up the time, and the client does not connect to the others."""
    api: Any = ScriptedApi()
    with talking(lambda: dripping(RECORD)) as server:
        many = tuple(Endpoint("127.0.0.1", server.port, is_outside=True) for _ in range(8))
        monkeypatch.setattr(webhook_endpoints, "find", lambda *_arguments: Endpoints(many, unready=many))
        scan = guarded(lambda: served_chains.scan(api, URL, until=time.monotonic() + 1, unready=True))
        assert server.connections == 10
        assert not scan.is_blind
        unseen = [entry.problem for entry in (*scan.served, *scan.unready)]
        assert sum("not checked" in problem for problem in unseen) == 6


def test_a_handshake_leaves_time_for_the_next_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    """One endpoint does not use up a long wait."""
    monkeypatch.setattr(served_chains, "HANDSHAKE_SECONDS", 0.5)
    monkeypatch.setattr(served_chains, "MOST_AT_ONCE", 1)
    api: Any = ScriptedApi()
    with talking(lambda: dripping(RECORD)) as server:
        many = tuple(Endpoint("127.0.0.1", server.port, is_outside=True) for _ in range(3))
        monkeypatch.setattr(webhook_endpoints, "find", lambda *_arguments: Endpoints(many))
        guarded(lambda: served_chains.scan(api, URL, until=time.monotonic() + 60))
        assert server.connections == 3


@pytest.mark.parametrize(
    ("shows", "bundle", "is_blind"), [(True, "other", False), (False, "other", True), (False, "ca", False)]
)
def test_a_leaf_without_its_chain_is_not_judged(
    monkeypatch: pytest.MonkeyPatch, shows: bool, bundle: str, is_blind: bool
) -> None:
    """Python 3.9 shows no intermediate certificates: that they are missing here says nothing of what was sent."""
    ca, now = pki.authority("ca"), datetime.now(timezone.utc)
    leaf = pki.leaf(ca, "hook.example.com", expires=now + pki.YEAR)
    monkeypatch.setattr(served_chains, "SHOWS_CHAINS", shows)
    monkeypatch.setattr(
        served_chains, "handshake", lambda *_arguments: ([ssl.PEM_cert_to_DER_cert(leaf)], 0.0, "")
    )
    monkeypatch.setattr(transport, "dial", lambda *_arguments: socket.socket())
    config = ClientConfig("w", "", "", "hook.example.com", None, pki.authority(bundle).pem)
    api: Any = ScriptedApi()
    (seen,) = served_chains.scan(api, config, until=time.monotonic() + 5).served
    assert (seen.is_blind, seen.certificate is None) == (is_blind, is_blind)


POD = Endpoint("", 8443, ("apps", "hook-1"))
CONFIG = ClientConfig("w", "", "", "hook.apps.svc", ("apps", "hook"), "")


def status(code: int, message: str) -> bytes:
    """Return the answer of an API server with a Status object."""
    body = json.dumps({"kind": "Status", "reason": "InternalError", "message": message}).encode()
    return b"HTTP/1.1 %d No\r\nContent-Length: %d\r\n\r\n" % (code, len(body)) + body


DIAL = "error dialing backend: dial tcp 10.0.0.9:10250: "
DEAD = 'failed calling webhook "guard.example.com": no endpoints available for service "guard"'
#: The answer of the API server to a port-forward -> a part of the problem, and if a permission is missing.
NO_STREAM: dict[str, tuple[bytes, str, bool]] = {
    "the kubelet's port refuses": (status(500, f"{DIAL}connect: connection refused"), "refused", False),
    "the kubelet's port drops": (status(503, f"{DIAL}i/o timeout"), "i/o timeout", False),
    "the kubelet forbids it": (b"HTTP/1.1 403 No\r\nContent-Length: 9\r\n\r\nForbidden", "Forbidden", False),
    "a dead webhook": (status(500, f"Internal error occurred: {DEAD}"), DEAD, False),
    "a webhook denies it": (status(403, 'admission webhook "w" denied the request: no'), "denied", False),
    "the pod is gone": (status(404, 'pods "hook-1" not found'), "not found", False),
    "no permission": (status(403, 'User "a" cannot get resource "pods/portforward"'), "cannot get", True),
    "no permission to create": (status(403, 'pods "hook-1" is forbidden: '), "may not reach pods", True),
    "the token has expired": (status(401, "Unauthorized"), "Unauthorized", False),
    "a proxy without WebSockets": (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "an empty answer", False),
    "no answer": (b"", "timed out", False),
}


@pytest.mark.parametrize("case", NO_STREAM)
def test_without_a_stream_nothing_is_said_about_the_endpoint(case: str) -> None:
    answer, words, lacks = NO_STREAM[case]
    with talking(lambda: [answer] if answer else dripping(seconds=60)) as server:
        own = Client(Connection(server.url, "a test"), user_agent="t", deadline=time.monotonic() + 9)
        seen = guarded(lambda: served_chains.read_chain(own, POD, CONFIG, time.monotonic() + 1))
    assert words in seen.problem
    assert (seen.certificate, seen.is_blind, seen.lacks_permission, seen.may_pass) == (
        None,
        True,
        lacks,
        not lacks,
    )


#: What containerd, CRI-O and socat write if the connection inside of the pod fails.
SANDBOX = b"c353599ce53b5bdd85fa23a93c1fd3f858be75a95dfe0d2956ce7ed1cee4c2b3"
CONTAINERD = (
    b"error forwarding port 8224 to pod %b, uid : failed to execute portforward in network namespace "
    b'"/var/run/netns/cni-742d1a4e-4966-9085-47a1-fae6be80bc99": failed to connect to localhost:8224 inside namespace "%b", '
    b"IPv4: dial tcp4 127.0.0.1:8224: " % (SANDBOX, SANDBOX)
)
RESET = b"error forwarding port 8224 to pod 25bf: read tcp4 127.0.0.1:38522->127.0.0.1:8224: read: connection reset by peer"
SOCAT = (
    b"exit status 1: 2026/11/28 10:00:00 socat[9] E connect(5, AF=2 127.0.0.1:8224, 16): Connection refused"
)
#: What they write if the node itself has a fault.
NODE_FAULTS = {
    "socat is missing": b"error forwarding port 8224 to pod 25bf, uid : unable to do port forwarding: socat not found",
    "the sandbox is unknown": b'failed to find sandbox "25bf" in store: not found',
    "the namespace is gone": b'failed to open network namespace "/run/netns/cni-1": no such file or directory',
    "the namespace is closed": b'network namespace for sandbox "25bf" is closed',
    "no descriptors": CONTAINERD + b"socket: too many open files",
    "the runtime refuses": b"rpc error: dial unix /run/shim.sock: connect: connection refused",
    "the runtime is slow": b"rpc error: code = DeadlineExceeded desc = context deadline exceeded",
    "the runtime's connection resets": b"read tcp 127.0.0.1:38522->127.0.0.1:40001: read: connection reset by peer",
}
#: A message of the stream, or its error -> a part of the problem, and if it says nothing about the endpoint.
STREAMS: dict[str, tuple[Any, str, bool]] = {
    "the pod's port refuses": (b"\x01\x21\x20connect: connection refused", "connection refused", False),
    "the pod's port refuses, containerd": (
        b"\x01\x21\x20" + CONTAINERD + b"connect: connection refused",
        "refused",
        False,
    ),
    "the pod's port drops": (b"\x01\x21\x20" + CONTAINERD + b"i/o timeout", "i/o timeout", False),
    "the pod has no route": (b"\x01\x21\x20" + CONTAINERD + b"connect: no route to host", "no route", False),
    "the pod's port refuses, socat": (b"\x01\x21\x20" + SOCAT, "Connection refused", False),
    "the pod resets": (b"\x01\x21\x20" + RESET, "reset by peer", False),
    "the pod is silent": (websocket.WebSocketTimeoutException("timed out"), "nothing in time", False),
    "the kubelet ends the stream": (b"", "closed the connection", False),
    "the pod speaks HTTP": (b"\x00\x21\x20HTTP/1.1 400 Bad Request\r\n", "WRONG_VERSION_NUMBER", False),
    "the stream breaks": (ConnectionResetError(104, "Connection reset by peer"), "reset", True),
    "a load balancer ends it": (
        websocket.WebSocketConnectionClosedException("Connection to remote host was lost."),
        "lost",
        True,
    ),
    "the proxy ends it": (websocket.WebSocketProtocolException("rsv is not implemented"), "rsv", True),
    **{
        name: (b"\x01\x21\x20" + text, "the node cannot forward the port", True)
        for name, text in NODE_FAULTS.items()
    },
}


@pytest.mark.parametrize("case", STREAMS)
def test_an_open_stream_speaks_for_the_endpoint(monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    message, words, is_blind = STREAMS[case]

    def recv() -> bytes:
        if isinstance(message, Exception):
            raise message
        return bytes(message)

    raw = SimpleNamespace(send_binary=lambda _data: None, shutdown=lambda: None, recv=recv)
    raw.settimeout = lambda _seconds: None
    stream = port_forward.PortForwardStream(raw, 8224)
    monkeypatch.setattr(port_forward, "connect", lambda *_arguments: stream)
    api: Any = ScriptedApi()
    seen = served_chains.read_chain(api, POD, CONFIG, time.monotonic() + 60)
    assert words in seen.problem
    assert (seen.is_blind, seen.may_pass) == (is_blind, is_blind)


@pytest.mark.parametrize(
    ("error", "is_blind"),
    [
        (ConnectionRefusedError(111, "refused"), False),
        (socket.timeout("timed out"), True),
        (OSError(113, "x"), True),
    ],
)
def test_an_address_that_this_machine_does_not_reach(
    monkeypatch: pytest.MonkeyPatch, error: OSError, is_blind: bool
) -> None:
    """The API server may reach it. Only the machine itself refuses a connection."""

    def dial(*_arguments: Any) -> None:
        raise error

    monkeypatch.setattr(transport, "dial", dial)
    api: Any = ScriptedApi()
    outside = Endpoint("hook.example.com", 443, is_outside=True)
    seen = served_chains.read_chain(api, outside, URL, time.monotonic() + 5)
    assert (seen.is_blind, seen.may_pass) == (is_blind, is_blind)


def test_an_address_of_the_clusters_network_is_never_dialled(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Service without a selector: its EndpointSlice names addresses, which mean something else here."""
    monkeypatch.setattr(transport, "dial", lambda *_arguments: pytest.fail("dialled"))
    api: Any = ScriptedApi(
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
    scan = served_chains.scan(api, config, until=time.monotonic() + 5)
    assert scan.is_blind
    assert "no pod is behind this endpoint" in scan.served[0].problem


@pytest.mark.parametrize("role", ["rotate", "prove"])
def test_the_documented_roles_let_it_look(role: str) -> None:
    file = Path(__file__).resolve().parents[6] / "docs" / "rbac" / f"{role}.yaml"
    rules = yaml.safe_load(file.read_text())["rules"]
    for permission in served_chains.permissions("apps"):
        assert any(
            permission.group in rule["apiGroups"]
            and permission.resource in rule["resources"]
            and permission.verb in rule["verbs"]
            for rule in rules
        ), permission
