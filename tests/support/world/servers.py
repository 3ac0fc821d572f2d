# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Servers of programs on loopback: one thread accepts for all addresses, so that four hundred programs cost no more than one.

Each connection ends after one answer. So the API server makes a TLS handshake for each call, and sees a changed certificate at once.
"""

from __future__ import annotations

import base64
import contextlib
import json
import selectors
import socket
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tests.support.clusters.build import static_program
from tests.support.webhooks.https_webhook import OneRequestHandler, server_context

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Sequence

    from tests.support.webhooks.https_webhook import CertificateWithKey, Reply

_TLS_SERVER = Path(__file__).parent / "tls_server" / "main.go"


class Endpoint:
    """The program of one endpoint: its certificate, its answers, and what was asked."""

    def __init__(self, answer: Callable[[dict[str, Any]], Reply]) -> None:
        self.answer = answer
        #: The paths of the requests that it answered.
        self.calls: list[str] = []
        #: The number of connections, each with a handshake of its own.
        self.connections = 0
        #: Called before each handshake.
        self.prepare: Callable[[], object] = lambda: None
        self._tls: ssl.SSLContext | None = None
        self._other: AnyBytes | None = None

    def present(self, pair: CertificateWithKey | None) -> None:
        """Present this certificate from the next connection on. None disables TLS."""
        self._tls, self._other = (server_context(pair) if pair else None), None

    def present_any(self, server: AnyBytes) -> None:
        """Let another server make the handshakes from the next connection on."""
        self._other = server

    def serve(self, connection: socket.socket, address: object) -> None:
        """Answer one request, and close the connection."""
        self.connections += 1
        with contextlib.suppress(OSError), connection:
            connection.settimeout(30)
            self.prepare()
            if self._other:
                self._other.take(connection)
                return
            tls = self._tls.wrap_socket(connection, server_side=True) if self._tls else connection
            with tls:
                OneRequestHandler(tls, address, cast("Any", self))
                tls.shutdown(socket.SHUT_RDWR)


class AnyBytes:
    """A server in Go that sends any bytes as its certificates, until `close`, also those that OpenSSL refuses to load.

    chain: the certificates, DER. key: PKCS #8, DER. backend: the port of the server without TLS to which it passes requests on.
    groups: the numbers of the only groups for the exchange of keys. is_tls12: True for no newer version. needed, refused: the
    application protocol that clients must offer, and the one that they must not offer.
    """

    def __init__(
        self,
        chain: Sequence[bytes],
        key: bytes,
        backend: int,
        *,
        groups: Sequence[int] = (),
        is_tls12: bool = False,
        needed: str = "",
        refused: str = "",
    ) -> None:
        given = {
            "Chain": [base64.b64encode(entry).decode() for entry in chain],
            "Key": base64.b64encode(key).decode(),
            "Backend": f"127.0.0.1:{backend}",
            "Groups": list(groups),
            "IsTLS12": is_tls12,
            "Needed": needed,
            "Refused": refused,
        }
        self._process = subprocess.Popen(
            [str(static_program(_TLS_SERVER))], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(given) + "\n")
        self._process.stdin.flush()
        self.port = int(self._process.stdout.readline())

    def take(self, connection: socket.socket) -> None:
        """Pass the bytes of a connection in both directions until it ends."""
        with socket.create_connection(("127.0.0.1", self.port)) as server:
            thread = threading.Thread(target=_copy, args=(connection, server), daemon=True)
            thread.start()
            _copy(server, connection)
            thread.join()

    def close(self) -> None:
        self._process.communicate()  # it ends with its standard input


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


class Listeners:
    """The addresses at which programs listen, until `close`."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._closed_ports: list[socket.socket] = []
        self._others: list[AnyBytes] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def listen(self, address: str, choose: Callable[[], Endpoint | None]) -> int:
        """Listen at a free port of an address. choose: returns the endpoint of a connection, None to refuse it."""
        listener = socket.create_server((address, 0), backlog=64)
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ, choose)
        return int(listener.getsockname()[1])

    def closed_port(self, address: str) -> int:
        """Return a port at which no program listens."""
        port = socket.socket()
        port.bind((address, 0))
        self._closed_ports.append(port)
        return int(port.getsockname()[1])

    def serve_any(self, chain: Sequence[bytes], key: bytes, backend: int) -> AnyBytes:
        """Start a server that sends any bytes as its certificates."""
        self._others.append(AnyBytes(chain, key, backend))
        return self._others[-1]

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        for other in self._others:
            other.close()
        for key in list(self._selector.get_map().values()):
            cast("socket.socket", key.fileobj).close()
        for port in self._closed_ports:
            port.close()
        self._selector.close()

    def _accept(self) -> None:
        while not self._stop.is_set():
            for key, _events in self._selector.select(0.1):
                with contextlib.suppress(OSError):
                    connection, address = cast("socket.socket", key.fileobj).accept()
                    connection.setblocking(True)
                    endpoint = key.data()
                    if endpoint is None:
                        connection.close()
                    else:
                        threading.Thread(
                            target=endpoint.serve, args=(connection, address), daemon=True
                        ).start()
