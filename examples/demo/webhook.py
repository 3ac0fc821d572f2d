# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real webhook on this machine: HTTPS, a rule of its own, and a count of its callers."""

from __future__ import annotations

import json
import os
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Rule = Callable[[dict[str, Any]], dict[str, Any]]
RULE = "every ConfigMap needs a label team, so that somebody can be asked about it"


def judge(review: dict[str, Any]) -> dict[str, Any]:
    """The answer to an AdmissionReview: allowed with a label `team`, refused in words of our own without."""
    request = review["request"]
    metadata = request["object"]["metadata"]
    response: dict[str, Any] = {"uid": request["uid"], "allowed": "team" in metadata.get("labels", {})}
    if not response["allowed"]:
        response["status"] = {"message": f"{metadata['name']}: {RULE}"}
    return {"apiVersion": review["apiVersion"], "kind": review["kind"], "response": response}


def anything_goes(review: dict[str, Any]) -> dict[str, Any]:
    """A webhook that lost its rule, for a demo that has to fail."""
    response = {"uid": review["request"]["uid"], "allowed": True}
    return {"apiVersion": review["apiVersion"], "kind": review["kind"], "response": response}


class _Handler(BaseHTTPRequestHandler):
    server: Webhook

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
        """The story tells who called."""


class Webhook(ThreadingHTTPServer):
    """A server on a free loopback port. It answers from `serve` until `close`; `calls` names what it was asked about."""

    daemon_threads = True

    def __init__(self, rule: Rule) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.rule = rule
        self.calls: list[str] = []
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def serve(self, certificate_pem: str, key_pem: str) -> None:
        """Start to answer with this certificate. The key stays in memory."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        _load(context, f"{certificate_pem}\n{key_pem}".encode())
        # The handshake belongs to the thread of its connection: a caller that hangs up must not stop the others.
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        if self._thread:
            self.shutdown()
            self._thread.join()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """An API server that does not trust the certificate hangs up; it says so itself."""


def _load(context: ssl.SSLContext, pair: bytes) -> None:
    """The ssl module takes paths only, and a key has no place on a disk: anonymous memory has a path too."""
    descriptor = os.memfd_create("webhook")
    try:
        os.write(descriptor, pair)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
