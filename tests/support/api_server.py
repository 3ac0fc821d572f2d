# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A scripted API server on loopback. It sends a list of answers and records the requests.

It is only for tests of answers that a real API server never gives.
"""

from __future__ import annotations

import contextlib
import json
import os
import ssl
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.certificates.server_pki import Pair


class ScriptedAnswer(NamedTuple):
    """One answer."""

    status: int = 200
    #: Bytes, or an object that is sent as JSON.
    body: Any = b"{}"
    headers: tuple[tuple[str, str], ...] = ()
    #: True if the server closes the connection instead.
    lost: bool = False


class ReceivedRequest(NamedTuple):
    method: str
    path: str
    headers: dict[str, list[str]]
    body: bytes
    #: Common name of the client's certificate.
    client: str | None


LOST = ScriptedAnswer(lost=True)


class ScriptedServer:
    """Answer requests in their order. The last answer is repeated."""

    def __init__(self, answers: list[ScriptedAnswer]) -> None:
        self.answers = answers
        self.requests: list[ReceivedRequest] = []
        self.connections = 0
        self.url = ""
        self.port = 0

    def paths(self) -> list[str]:
        return [f"{request.method} {request.path}" for request in self.requests]

    def next(self) -> ScriptedAnswer:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


class _QuietServer(ThreadingHTTPServer):
    """A server that prints nothing, because clients of these tests hang up on purpose."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing."""


@contextlib.contextmanager
def serving(
    *answers: ScriptedAnswer,
    tls: Pair | None = None,
    client_ca: str | None = None,
    by: ScriptedServer | None = None,
) -> Iterator[ScriptedServer]:
    """Yield a server on a free port of 127.0.0.1 until the block ends.

    by: a server that chooses its answers by the requests, in place of the answers.
    """
    server = by or ScriptedServer(list(answers) or [ScriptedAnswer()])
    httpd = _QuietServer(("127.0.0.1", 0), _handler(server))
    if tls:
        httpd.socket = _context(tls, client_ca).wrap_socket(httpd.socket, server_side=True)
    server.port = httpd.server_address[1]
    server.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.port}"
    thread = threading.Thread(target=httpd.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server
    finally:
        httpd.shutdown()
        thread.join()
        httpd.server_close()


def _context(pair: Pair, client_ca: str | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    descriptor, path = tempfile.mkstemp()
    try:
        os.write(descriptor, f"{pair.certificate}{pair.key}".encode())
        context.load_cert_chain(path)
    finally:
        os.close(descriptor)
        os.unlink(path)
    if client_ca:
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(cadata=client_ca)
    return context


def _handler(server: ScriptedServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 20

        def setup(self) -> None:
            super().setup()
            server.connections += 1

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Print nothing."""

        def handle_any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            headers = {name.lower(): self.headers.get_all(name) or [] for name in self.headers}
            server.requests.append(
                ReceivedRequest(self.command, self.path, headers, self.rfile.read(length), self.client_name())
            )
            answer = server.next()
            if answer.lost:
                self.close_connection = True
                return
            body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
            self.send_response(answer.status)
            for name, value in answer.headers:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def client_name(self) -> str | None:
            certificate = (
                self.connection.getpeercert() if isinstance(self.connection, ssl.SSLSocket) else None
            )
            subject: Any = certificate["subject"] if certificate else ()
            return next((value for ((key, value),) in subject if key == "commonName"), None)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_CONNECT = handle_any  # noqa: N815

    return Handler
