# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real webhook on this machine: HTTPS, a rule, and a list of its calls."""

from __future__ import annotations

import json
import os
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Rule = Callable[[dict[str, Any]], dict[str, Any]]
RULE = "every ConfigMap needs a label team, which names its owner"


def judge(review: dict[str, Any]) -> dict[str, Any]:
    """Return the answer to an AdmissionReview: allowed with a label `team`, refused with RULE without it."""
    request = review["request"]
    metadata = request["object"]["metadata"]
    response: dict[str, Any] = {"uid": request["uid"], "allowed": "team" in metadata.get("labels", {})}
    if not response["allowed"]:
        response["status"] = {"message": f"{metadata['name']}: {RULE}"}
    return {"apiVersion": review["apiVersion"], "kind": review["kind"], "response": response}


def anything_goes(review: dict[str, Any]) -> dict[str, Any]:
    """Return an answer that allows every object, for a demo that must fail."""
    response = {"uid": review["request"]["uid"], "allowed": True}
    return {"apiVersion": review["apiVersion"], "kind": review["kind"], "response": response}


class _DemoHandler(BaseHTTPRequestHandler):
    server: DemoWebhook

    def do_POST(self) -> None:
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.calls.append(review["request"]["name"])
        body = json.dumps(self.server.rule(review)).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Print nothing, because the demo prints the calls."""


class DemoWebhook(ThreadingHTTPServer):
    """A server on a free loopback port. It runs from `serve` until `close`. `calls` has the objects' names."""

    daemon_threads = True

    def __init__(self, rule: Rule) -> None:
        super().__init__(("127.0.0.1", 0), _DemoHandler)
        self.rule = rule
        self.calls: list[str] = []
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def serve(self, certificate_pem: str, key_pem: str) -> None:
        """Start to serve with this certificate. The key stays in memory."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        _load(context, f"{certificate_pem}\n{key_pem}".encode())
        # The handshake runs in the connection's thread, so a client that disconnects does not stop the server.
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        if self._thread:
            self.shutdown()
            self._thread.join()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """Print nothing, because an API server that does not trust the certificate reports that itself."""


def _load(context: ssl.SSLContext, pair: bytes) -> None:
    """Load certificate and key from anonymous memory, because the ssl module only reads files."""
    descriptor = os.memfd_create("webhook")
    try:
        os.write(descriptor, pair)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
