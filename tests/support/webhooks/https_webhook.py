# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An HTTPS server on loopback that keeps connections open, changes its certificate, and fails on demand."""

from __future__ import annotations

import itertools
import json
import os
import socket
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

Reply = tuple[int, object]


def allow(review: dict[str, Any]) -> Reply:
    return _review(review, allowed=True)


def deny(review: dict[str, Any]) -> Reply:
    return _review(review, allowed=False, status={"message": "no team, no ConfigMap"})


def convert(review: dict[str, Any]) -> Reply:
    wanted = review["request"]["desiredAPIVersion"]
    objects = [{**obj, "apiVersion": wanted} for obj in review["request"]["objects"]]
    return _review(review, convertedObjects=objects, result={"status": "Success"})


def _review(review: dict[str, Any], **response: Any) -> Reply:
    response["uid"] = review["request"]["uid"]
    return 200, {"apiVersion": review["apiVersion"], "kind": review["kind"], "response": response}


class CertificateWithKey(Protocol):
    """A certificate with its chain and key, such as a pki.KeyPair."""

    @property
    def certificate_pem(self) -> bytes: ...

    @property
    def key_pem(self) -> bytes: ...


class _WebhookHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections stay open
    server: WebhookServer

    def do_POST(self) -> None:
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.calls.append(self.path)
        self._reply(*self.server.answer(review))

    def do_GET(self) -> None:
        self.server.calls.append(self.path)
        self._reply(*self.server.answer({"path": self.path}))

    def _reply(self, status: int, body: object) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        """Print nothing, because tests read `calls`."""


class OneRequestHandler(_WebhookHandler):
    """End each connection after one request."""

    protocol_version = "HTTP/1.0"


class WebhookServer(ThreadingHTTPServer):
    """A server on a free loopback port, from `serve` until `close`. `connections` counts TLS handshakes."""

    daemon_threads = True

    def __init__(self, answer: Callable[[dict[str, Any]], Reply], address: str = "127.0.0.1") -> None:
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        super().__init__((address, 0), _WebhookHandler)
        self.answer = answer
        self.calls: list[str] = []
        self.connections = 0
        self._tls: ssl.SSLContext | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def present(self, pair: CertificateWithKey | None) -> None:
        """Present this certificate from the next connection on. None disables TLS. Open connections stay."""
        self._tls = server_context(pair) if pair else None

    def serve(self) -> WebhookServer:
        self._thread = threading.Thread(target=self.serve_forever, daemon=True, args=(0.05,))
        self._thread.start()
        return self

    def close(self) -> None:
        if self._thread:
            self.shutdown()
            self._thread.join()
            self._thread = None
        self.server_close()

    def get_request(self) -> tuple[Any, Any]:
        connection, address = super().get_request()
        self.connections += 1
        if self._tls is None:
            return connection, address
        # The handshake runs in the thread of its connection, so that a client that hangs up does not stop the
        # others.
        tls = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return tls, address

    def handle_error(self, request: object, client_address: object) -> None:
        """Print nothing. A client that does not trust the certificate hangs up and reports that itself."""


class BalancedServer(WebhookServer):
    """Serve several machines at one address. Each connection reaches the next machine, with its own certificate."""

    def present_in_turn(self, *pairs: CertificateWithKey) -> None:
        self._turns = itertools.cycle([server_context(pair) for pair in pairs])

    def get_request(self) -> tuple[Any, Any]:
        self._tls = next(self._turns)
        return super().get_request()


def server_context(pair: CertificateWithKey) -> ssl.SSLContext:
    """Return a server context.

    The ssl module reads only paths, so anonymous memory keeps the key off the disk.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")  # tests also serve weak keys and signatures
    descriptor = os.memfd_create("webhook")
    try:
        os.write(descriptor, pair.certificate_pem + pair.key_pem)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
    return context
