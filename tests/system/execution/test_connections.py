# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Connect to a real API server in every way of one table. Each row sends requests and starts a port-forward
(WebSocket).

The port-forward is to a pod that does not exist. The API server's own 404 shows that it used the same
address, proxy and names as the requests.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import socket
import ssl
import subprocess
import threading
import time
import uuid
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube import port_forward
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.client import Client
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.login.kubeconfig import resolve
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.login.transport import ReadLimits
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.certificates.csr_rig import CsrRig
from tests.support.clusters import pki, programs
from tests.support.failures import fails

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.clusters import Fleet

PREFIX = "/k8s/clusters/c-m-1"
PROXY_USER, PROXY_PASSWORD = "us@er", "a-pass:word"


class Relay:
    """A server on loopback that carries connections to an API server.

    kind: "plain" (unchanged), "proxy" (HTTP CONNECT with a password), or "prefix" (ends TLS and removes
    PREFIX from paths). ``seen``: the first line of each connection.
    """

    def __init__(self, kind: str, server: tuple[str, int], ca_pem: str = "", host: str = "127.0.0.1") -> None:
        self.seen: list[str] = []
        self._kind, self._server, self._ca_pem = kind, server, ca_pem
        self._own_ca = pki.make_ca("terminator")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family)
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @property
    def own_ca(self) -> str:
        return self._own_ca.certificate_pem.decode()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _accept(self) -> None:
        while True:
            try:
                client, _address = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError):
            getattr(self, f"_{self._kind}")(client)

    def _plain(self, client: socket.socket) -> None:
        self.seen.append("connection")
        both_ways(client, socket.create_connection(self._server))

    def _proxy(self, client: socket.socket) -> None:
        head = read_head(client)
        self.seen.append(head.partition("\r\n")[0])
        wanted = base64.b64encode(f"{PROXY_USER}:{PROXY_PASSWORD}".encode()).decode()
        if f"Basic {wanted}" not in head:
            client.sendall(b"HTTP/1.1 407 Who are you?\r\nContent-Length: 0\r\n\r\n")
            client.close()
            return
        client.sendall(b"HTTP/1.1 200 Go\r\n\r\n")
        both_ways(client, socket.create_connection(self._server))

    def _prefix(self, client: socket.socket) -> None:
        pair = pki.issue(self._own_ca, "rancher", names=["rancher.certflow.test"])
        ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        descriptor = os.memfd_create("pair")
        os.write(descriptor, pair.certificate_pem + pair.key_pem)
        ours.load_cert_chain(f"/proc/self/fd/{descriptor}")
        os.close(descriptor)
        inner = ours.wrap_socket(client, server_side=True)
        line, _end, rest = read_head(inner).partition("\r\n")
        self.seen.append(line)
        method, path, version = line.split()
        assert path.startswith(PREFIX)
        theirs = ssl.create_default_context(cadata=self._ca_pem)
        outer = theirs.wrap_socket(socket.create_connection(self._server), server_hostname="kubernetes")
        # Only the first line of a connection is rewritten, so each connection has one request.
        closing = "" if "upgrade:" in rest.lower() else "Connection: close\r\n"
        outer.sendall(f"{method} {path[len(PREFIX) :]} {version}\r\n{closing}{rest}".encode("latin-1"))
        both_ways(inner, outer)


def read_head(client: socket.socket) -> str:
    head = b""
    while b"\r\n\r\n" not in head:
        piece = client.recv(4096)
        if not piece:
            raise OSError
        head += piece
    return head.decode("latin-1")


def both_ways(first: socket.socket, other: socket.socket) -> None:
    """Carry data in both directions until first side ends the connection.

    One thread does it, because a TLS connection must not be read and written at once.
    """
    sinks = {first: other, other: first}
    with contextlib.suppress(OSError):
        while True:
            waiting = [end for end in sinks if isinstance(end, ssl.SSLSocket) and end.pending()]
            for source in waiting or select.select(list(sinks), [], [])[0]:
                source.settimeout(0)
                try:
                    piece = source.recv(65536)
                except ssl.SSLWantReadError:  # a record of TLS itself, such as a session ticket
                    continue
                if not piece:
                    raise OSError
                sinks[source].settimeout(None)
                sinks[source].sendall(piece)
    for end in sinks:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()


@dataclass
class Way:
    """A row: the changes of a kubeconfig, the environment, and the expected user."""

    #: Changes of the kubeconfig's cluster.
    cluster: dict[str, Any] = field(default_factory=dict)
    #: The kubeconfig's user, None for the usual one.
    user: dict[str, Any] | None = None
    #: Environment variables.
    environ: dict[str, str] = field(default_factory=dict)
    #: The user that the audit log must name.
    seen_as: str = ""
    #: The server that must carry the connections.
    relay: Relay | None = None
    #: True if the relay must have no connection.
    is_bypassed: bool = False


@dataclass
class ConnectionRig:
    rig: CsrRig
    directory: Path
    stack: contextlib.ExitStack

    def relay(self, kind: str, host: str = "127.0.0.1") -> Relay:
        address, _colon, port = self.rig.cluster.url.removeprefix("https://").partition(":")
        return self.stack.enter_context(
            contextlib.closing(Relay(kind, (address, int(port)), self.rig.cluster.ca_pem, host))
        )

    def token(self) -> tuple[str, str]:
        """Return a token of a ServiceAccount with all permissions, and its user name."""
        name = f"robot-{uuid.uuid4().hex[:6]}"
        path = self.rig.cluster.token_kubeconfig(name, self.rig.name)
        token: str = yaml.safe_load(path.read_text())["users"][0]["user"]["token"]
        user = f"system:serviceaccount:{self.rig.name}:{name}"
        everything = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}
        paths = {"nonResourceURLs": ["*"], "verbs": ["get"]}
        self.rig.grant(
            user, {"kind": "ClusterRole", "metadata": {"name": name}, "rules": [everything, paths]}
        )
        return token, user


def client_certificate(place: ConnectionRig) -> Way:
    return Way(seen_as=place.rig.user)


def token(place: ConnectionRig) -> Way:
    text, user = place.token()
    return Way(user={"token": text}, seen_as=user)


def token_file(place: ConnectionRig) -> Way:
    text, user = place.token()
    path = place.directory / "token"
    path.write_text(f"{text}\n")
    return Way(user={"tokenFile": str(path)}, seen_as=user)


def exec_plugin(place: ConnectionRig) -> Way:
    text, user = place.token()
    return Way(user={"exec": plugin(place.directory, text, seconds=900)}, seen_as=user)


def plugin(directory: Path, text: str, *, seconds: int) -> dict[str, Any]:
    """Return an exec plugin like `aws eks get-token`, which records each run."""
    path, status = directory / "plugin", '{"token": "%s", "expirationTimestamp": "%s"}'
    body = (
        '{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": '
        + status
        + "}"
    )
    path.write_text(
        f"#!/bin/sh\necho run >> {directory}/runs\n"
        f"printf '{body}\\n' \"$(cat {directory}/plugin-token)\" \"$(date -u -d '+{seconds} seconds' +%Y-%m-%dT%H:%M:%SZ)\"\n"
    )
    path.chmod(0o700)
    (directory / "plugin-token").write_text(text)
    return {"apiVersion": "client.authentication.k8s.io/v1", "command": str(path), "interactiveMode": "Never"}


def proxy_url(place: ConnectionRig) -> Way:
    relay = place.relay("proxy")
    return Way({"proxy-url": proxy_address(relay)}, seen_as=place.rig.user, relay=relay)


def proxy_address(relay: Relay) -> str:
    return f"http://us%40er:a-pass%3Aword@127.0.0.1:{relay.port}"


def https_proxy(place: ConnectionRig) -> Way:
    relay = place.relay("proxy")
    return Way(environ={"HTTPS_PROXY": proxy_address(relay)}, seen_as=place.rig.user, relay=relay)


def no_proxy(place: ConnectionRig) -> Way:
    relay = place.relay("proxy")
    environ = {"HTTPS_PROXY": proxy_address(relay), "NO_PROXY": "127.0.0.1"}
    return Way(environ=environ, seen_as=place.rig.user, relay=relay, is_bypassed=True)


def tls_server_name(place: ConnectionRig) -> Way:
    """Connect to an address that the certificate lacks, with a name that it has."""
    relay = place.relay("plain", "127.0.0.2")
    server = {"server": f"https://127.0.0.2:{relay.port}", "tls-server-name": "kubernetes"}
    return Way(server, seen_as=place.rig.user, relay=relay)


def tls_server_name_through_a_proxy(place: ConnectionRig) -> Way:
    relay = place.relay("proxy")
    way = {
        "server": "https://api.invalid:6443",
        "tls-server-name": "kubernetes",
        "proxy-url": proxy_address(relay),
    }
    return Way(way, seen_as=place.rig.user, relay=relay)


def path_prefix(place: ConnectionRig) -> Way:
    """Connect as to Rancher, which ends TLS itself, so the identity is a token."""
    relay, (text, user) = place.relay("prefix"), place.token()
    ca = base64.b64encode(relay.own_ca.encode()).decode()
    server = {"server": f"https://127.0.0.1:{relay.port}{PREFIX}", "certificate-authority-data": ca}
    return Way(
        {**server, "tls-server-name": "rancher.certflow.test"}, {"token": text}, seen_as=user, relay=relay
    )


def impersonation(place: ConnectionRig) -> Way:
    user = yaml.safe_load(place.rig.kubeconfig.read_text())["users"][0]["user"]
    return Way(user={**user, "as": "jane", "as-groups": ["system:masters", "auditors"]}, seen_as="jane")


def ipv6(place: ConnectionRig) -> Way:
    try:
        relay = place.relay("plain", "::1")
    except OSError as exc:
        pytest.skip(f"no IPv6 on this machine's loopback: {exc.strerror}")
    server = {"server": f"https://[::1]:{relay.port}", "tls-server-name": "kubernetes"}
    return Way(server, seen_as=place.rig.user, relay=relay)


def earlier_ca(place: ConnectionRig) -> str:
    """Return a CA with the name of the cluster's CA, another key, and no key identifier, as before a rotation."""
    current = x509.load_pem_x509_certificate(place.rig.cluster.ca_pem.encode())
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateBuilder(current.subject, current.subject, key.public_key(), 1)
    builder = builder.not_valid_before(current.not_valid_before_utc).not_valid_after(
        current.not_valid_after_utc
    )
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def bundle(place: ConnectionRig, *authorities: str) -> Way:
    data = base64.b64encode("".join(authorities).encode()).decode()
    return Way({"certificate-authority-data": data}, seen_as=place.rig.user)


def earlier_ca_first(place: ConnectionRig) -> Way:
    return bundle(place, earlier_ca(place), place.rig.cluster.ca_pem)


def earlier_ca_last(place: ConnectionRig) -> Way:
    return bundle(place, place.rig.cluster.ca_pem, earlier_ca(place))


def earlier_cas_through_a_proxy(place: ConnectionRig) -> Way:
    relay = place.relay("proxy")
    way = bundle(place, earlier_ca(place), earlier_ca(place), place.rig.cluster.ca_pem)
    return replace(way, cluster={**way.cluster, "proxy-url": proxy_address(relay)}, relay=relay)


WAYS: dict[str, Callable[[ConnectionRig], Way]] = {
    "client certificate": client_certificate,
    "token": token,
    "token file": token_file,
    "exec plugin": exec_plugin,
    "proxy-url": proxy_url,
    "HTTPS_PROXY": https_proxy,
    "NO_PROXY": no_proxy,
    "tls-server-name": tls_server_name,
    "tls-server-name through a proxy": tls_server_name_through_a_proxy,
    "path prefix": path_prefix,
    "impersonation": impersonation,
    "IPv6": ipv6,
    "the CA after an earlier one": earlier_ca_first,
    "the CA before an earlier one": earlier_ca_last,
    "the CA after two earlier ones, through a proxy": earlier_cas_through_a_proxy,
}


@pytest.fixture
def place(fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ConnectionRig]:
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with contextlib.ExitStack() as stack:
        rig = stack.enter_context(contextlib.closing(CsrRig(fleet["onprem"])))
        yield ConnectionRig(rig, tmp_path, stack)


def kubeconfig_for(place: ConnectionRig, way: Way) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(place.rig.kubeconfig.read_text())
    content["clusters"][0]["cluster"].update(way.cluster)
    if way.user is not None:
        content["users"][0]["user"] = way.user
    return content


@pytest.mark.parametrize("name", WAYS)
def test_every_way_reaches_the_api_server(
    place: ConnectionRig, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    way = WAYS[name](place)
    for variable, value in way.environ.items():
        monkeypatch.setenv(variable, value)
    content = kubeconfig_for(place, way)
    result = place.rig.run(kubeconfig=content)
    assert result.get("changed"), result
    assert PROXY_PASSWORD not in json.dumps(result)
    asked = [
        event
        for event in place.rig.cluster.requests()
        if way.seen_as in (event["user"]["username"], event.get("impersonatedUser", {}).get("username"))
    ]
    assert asked
    before = len(way.relay.seen) if way.relay else 0
    client = Client(resolve({"kubeconfig": content}, {}), user_agent="t", deadline=time.monotonic() + 30)
    with contextlib.closing(client), fails("not-found", '"absent"'):
        port_forward.connect(
            client, place.rig.name, "absent", 8443, ReadLimits("it", until=time.monotonic() + 10)
        )
    if way.relay:
        assert bool(before) is not way.is_bypassed
        assert (len(way.relay.seen) > before) is not way.is_bypassed


def test_a_name_that_the_certificate_lacks_is_refused(place: ConnectionRig) -> None:
    content = kubeconfig_for(place, Way({"tls-server-name": "other.certflow.test"}))
    assert place.rig.run(kubeconfig=content)["code"] == "server-untrusted"
    client = Client(resolve({"kubeconfig": content}, {}), user_agent="t", deadline=0.0)
    with contextlib.closing(client), fails("unreachable"):
        port_forward.connect(
            client, place.rig.name, "absent", 8443, ReadLimits("it", until=time.monotonic() + 10)
        )


def kubectl(place: ConnectionRig, content: dict[str, Any]) -> str:
    """Return the output of kubectl, the reference for what a client in Go accepts."""
    path = place.directory / "kubeconfig"
    path.write_text(yaml.safe_dump(content))
    command = [str(programs() / "kubectl"), "--kubeconfig", str(path), "get", "--raw", "/version"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("order", "is_accepted"),
    [("earlier current", True), ("current earlier", True), ("earlier earlier", False)],
)
def test_a_bundle_is_accepted_if_kubectl_accepts_it(
    place: ConnectionRig, order: str, is_accepted: bool
) -> None:
    texts = [earlier_ca(place) if word == "earlier" else place.rig.cluster.ca_pem for word in order.split()]
    content = kubeconfig_for(place, bundle(place, *texts))
    assert ("gitVersion" in kubectl(place, content)) is is_accepted
    result = place.rig.run(kubeconfig=content)
    assert result.get("code", "") == ("" if is_accepted else "cluster-ca-unknown"), result


def test_a_token_is_renewed_during_a_wait(place: ConnectionRig) -> None:
    """An EKS token lasts 15 minutes and is renewed a minute before its end.

    This token lasts a minute and a second.
    """
    first, _user = place.token()
    content = kubeconfig_for(place, Way(user={"exec": plugin(place.directory, first, seconds=61)}))
    done: list[dict[str, Any]] = []
    given: dict[str, Any] = {"kubeconfig": content, "approve": False, "wait": True, "wait_timeout": 90}
    waiting = threading.Thread(target=lambda: done.append(place.rig.run(**given)))
    waiting.start()
    deadline = time.monotonic() + 60
    while not place.rig.csrs() and time.monotonic() < deadline:
        time.sleep(0.2)
    second, other = place.token()
    (place.directory / "plugin-token").write_text(second)
    time.sleep(2)
    place.rig.decide(place.rig.csrs()[0]["metadata"]["name"])
    waiting.join()
    assert done[0].get("changed"), done
    assert done[0]["csr"]["condition"] == "Approved,Issued"
    assert place.rig.asked(user=other), "the second token was used"
    assert len((place.directory / "runs").read_text().splitlines()) > 1
