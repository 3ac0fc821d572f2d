# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A proxy between client and API server. It passes requests on, or injects a fault into some of them."""

from __future__ import annotations

import contextlib
import datetime
import http.client
import json
import os
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.support.clusters import Cluster, pki
from tests.system.fault_injection import requests

# Headers that a proxy must not pass on (RFC 9110 section 7.6.1), and headers that it sends itself.
_OWN = frozenset(
    ("connection", "keep-alive", "transfer-encoding", "content-length", "host", "date", "server")
)


class GoneAway(Exception):
    """The proxy closes the connection without an answer."""


@dataclass(frozen=True)
class ProxyAnswer:
    """A complete answer of the API server."""

    status: int
    headers: dict[str, str]
    body: bytes


class Exchange:
    """One request of the client. A fault decides how it ends."""

    def __init__(self, handler: _ProxyHandler, body: bytes) -> None:
        self._handler, self._body = handler, body
        self.cluster = handler.server.cluster
        self.path = handler.path
        self.is_watch = "watch=true" in handler.path

    def send(self) -> ProxyAnswer:
        """Send the request and return the complete answer. For a watch this returns when the watch ends."""
        response = self._forward()
        return ProxyAnswer(response.status, dict(response.getheaders()), response.read())

    def pass_on(self) -> None:
        """Pass the request and its answer on, a watch event by event."""
        if not self.is_watch:
            return self.answer(self.send())
        response = self._forward()
        self._handler.start(response.status, dict(response.getheaders()), {"Transfer-Encoding": "chunked"})
        while data := response.read1():
            self._handler.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self._handler.wfile.write(b"0\r\n\r\n")
        return None

    def answer(self, answer: ProxyAnswer) -> None:
        self._handler.start(answer.status, answer.headers, {"Content-Length": str(len(answer.body))})
        self._handler.wfile.write(answer.body)

    def say(self, status: int, body: object, **headers: str) -> None:
        """Answer in place of the API server: an object as JSON, a text as an HTML page."""
        is_text = isinstance(body, str)
        kind = "text/html" if is_text else "application/json"
        data = str(body).encode() if is_text else json.dumps(body).encode()
        fields = {name.replace("_", "-"): text for name, text in headers.items()}
        self.answer(ProxyAnswer(status, {"Content-Type": kind, **fields}, data))

    def cut(self, answer: ProxyAnswer) -> None:
        """Send half of an answer, and close the connection."""
        self._handler.start(answer.status, answer.headers, {"Content-Length": str(len(answer.body))})
        self._handler.wfile.write(answer.body[: len(answer.body) // 2])
        raise GoneAway

    def _forward(self) -> http.client.HTTPResponse:
        headers = {name: text for name, text in self._handler.headers.items() if name.lower() not in _OWN}
        upstream = self._handler.upstream
        try:
            upstream.request(self._handler.command, self._handler.path, self._body, headers)
            return upstream.getresponse()
        except (OSError, http.client.HTTPException) as error:
            upstream.close()
            raise GoneAway from error


Act = Callable[[Exchange], None]


class Proxy(ThreadingHTTPServer):
    """Serve on loopback until `close`, with a certificate of the cluster's CA, or of another CA."""

    daemon_threads = True

    def __init__(
        self, cluster: Cluster, *, lifetime: datetime.timedelta = pki.YEAR, ca: pki.KeyPair | None = None
    ) -> None:
        super().__init__(("127.0.0.1", 0), _ProxyHandler)
        self.cluster = cluster
        self.upstream_address = cluster.url.rpartition("/")[2]
        self.upstream_context = ssl.create_default_context(cadata=cluster.ca_pem)
        self.socket = _context(ca or cluster._ca, lifetime).wrap_socket(
            self.socket, server_side=True, do_handshake_on_connect=False
        )
        self.url = f"https://127.0.0.1:{self.server_address[1]}"
        self._requests: list[str] = []
        self._choose: Callable[[int], Act | None] | None = None
        self._busy = 0
        self._idle = threading.Condition()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def inject(self, choose: Callable[[int], Act | None] | None) -> list[str]:
        """Count requests from 1 on, and inject the fault that ``choose`` returns for a number.

        Return the list of requests, which grows as they arrive.
        """
        self._requests, self._choose = [], choose
        return self._requests

    def wait_until_idle(self) -> None:
        """Wait until all requests, including delayed ones, are answered."""
        with self._idle:
            assert self._idle.wait_for(lambda: self._busy == 0, 300)

    def close(self) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    def exchange(self, exchange: Exchange, words: str) -> None:
        with self._idle:
            self._busy += 1
            self._requests.append(words)
            act = self._choose(len(self._requests)) if self._choose else None
        try:
            act(exchange) if act else exchange.pass_on()
        finally:
            with self._idle:
                self._busy -= 1
                self._idle.notify_all()

    def handle_error(self, request: object, client_address: object) -> None:
        """Print nothing, because clients of these tests give up on purpose."""


class _ProxyHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def setup(self) -> None:
        super().setup()
        self.upstream = http.client.HTTPSConnection(
            self.server.upstream_address, context=self.server.upstream_context, timeout=60
        )

    def finish(self) -> None:
        self.upstream.close()
        with contextlib.suppress(OSError):
            super().finish()

    def start(self, status: int, headers: dict[str, str], own: dict[str, str]) -> None:
        self.send_response(status)
        theirs = {name: text for name, text in headers.items() if name.lower() not in _OWN}
        for name, text in {**theirs, **own}.items():
            self.send_header(name, text)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """Print nothing."""

    def do_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            self.server.exchange(Exchange(self, body), requests.in_words(self.command, self.path))
        except (GoneAway, OSError):
            self.close_connection = True

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_any  # noqa: N815


def _context(ca: pki.KeyPair, lifetime: datetime.timedelta) -> ssl.SSLContext:
    pair = pki.issue(ca, "proxy", names=["127.0.0.1"], lifetime=lifetime)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    descriptor = os.memfd_create("proxy")
    try:
        os.write(descriptor, pair.certificate_pem + pair.key_pem)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
    return context
