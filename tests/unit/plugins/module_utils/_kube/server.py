# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A stand-in API server on loopback: it plays a list of answers and keeps what it was asked.

Only for what a real one cannot be made to do.
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

    from tests.unit.plugins.module_utils._kube.pki import Pair


class Answer(NamedTuple):
    """One answer. ``body`` that is no bytes is sent as JSON; ``lost`` closes the connection instead."""

    status: int = 200
    body: Any = b"{}"
    headers: tuple[tuple[str, str], ...] = ()
    lost: bool = False


class Request(NamedTuple):
    method: str
    path: str
    headers: dict[str, list[str]]
    body: bytes
    #: Common name of the client's certificate.
    client: str | None


LOST = Answer(lost=True)


class Server:
    """Answers requests in their order; the last answer stays."""

    def __init__(self, answers: list[Answer]) -> None:
        self.answers = answers
        self.requests: list[Request] = []
        self.connections = 0
        self.url = ""
        self.port = 0

    def paths(self) -> list[str]:
        return [f"{request.method} {request.path}" for request in self.requests]

    def next(self) -> Answer:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


class Quiet(ThreadingHTTPServer):
    """Clients that hang up in the middle are what the tests are about."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing to print."""


@contextlib.contextmanager
def serving(*answers: Answer, tls: Pair | None = None, client_ca: str | None = None) -> Iterator[Server]:
    """A server on a free port of 127.0.0.1, for as long as the block runs."""
    server = Server(list(answers) or [Answer()])
    httpd = Quiet(("127.0.0.1", 0), _handler(server))
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


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 20

        def setup(self) -> None:
            super().setup()
            server.connections += 1

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """A test's output is not the place for it."""

        def handle_any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            headers = {name.lower(): self.headers.get_all(name) or [] for name in self.headers}
            server.requests.append(
                Request(self.command, self.path, headers, self.rfile.read(length), self.client_name())
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
