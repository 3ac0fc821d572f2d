# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A kubelet that only forwards ports: the API server reaches through it the servers of pods that no program runs."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import socket
import ssl
import struct
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from tests.support.clusters import pki
from tests.support.webhooks.https_webhook import server_context

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: The protocol of the API server's client: each message begins with its channel, and the first one of each is the port.
PROTOCOL = "v4.channel.k8s.io"
DATA, ERROR = b"\0", b"\1"
_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455
_BINARY, _CLOSE = 2, 8


class PortForwarder(ThreadingHTTPServer):
    """Serve port-forwards to pods until `close`. addresses: NAMESPACE/POD -> the address of its server."""

    daemon_threads = True

    def __init__(self, addresses: Mapping[str, str]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.addresses = addresses
        pair = pki.issue(pki.make_ca("kubelets"), "kubelet", names=["127.0.0.1"])
        self.socket = server_context(pair).wrap_socket(
            self.socket, server_side=True, do_handshake_on_connect=False
        )
        self._thread = threading.Thread(target=self.serve_forever, daemon=True, args=(0.05,))
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def close(self) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """Print nothing, because clients end streams when they have seen enough."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: PortForwarder

    def do_GET(self) -> None:
        """Answer GET /portForward/NAMESPACE/POD?port=PORT."""
        url = urllib.parse.urlsplit(self.path)
        pod = "/".join(url.path.split("/")[2:4])
        query = urllib.parse.parse_qs(url.query)
        port = int((query.get("port") or query["ports"])[0])
        key = self.headers["Sec-WebSocket-Key"] + _GUID
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header(
            "Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        )
        self.send_header("Sec-WebSocket-Protocol", PROTOCOL)
        self.end_headers()
        for channel in (DATA, ERROR):
            self._send(channel + struct.pack("<H", port))
        try:
            backend = socket.create_connection((self.server.addresses[pod], port), timeout=20)
        except (OSError, KeyError) as error:
            self._send(ERROR + f"failed to connect to the port of the pod: {error}".encode())
            self.close_connection = True
            return
        with backend:
            self._copy(backend)
        self.close_connection = True

    def log_message(self, *arguments: object) -> None:
        """Print nothing."""

    def _copy(self, backend: socket.socket) -> None:
        """Copy both ways until one side ends."""
        upward = threading.Thread(target=self._copy_up, args=(backend,), daemon=True)
        upward.start()
        with contextlib.suppress(OSError, ssl.SSLError, struct.error):
            for message in self._messages():
                if message[:1] == DATA:
                    backend.sendall(message[1:])
        with contextlib.suppress(OSError):
            backend.shutdown(socket.SHUT_RDWR)
        upward.join()

    def _copy_up(self, backend: socket.socket) -> None:
        with contextlib.suppress(OSError, ssl.SSLError):
            while data := backend.recv(65536):
                self._send(DATA + data)
            self.wfile.write(bytes([0x80 | _CLOSE, 0]))

    def _send(self, data: bytes) -> None:
        size = len(data)
        if size > 0xFFFF:
            head = struct.pack("!BBQ", 0x80 | _BINARY, 127, size)
        elif size > 125:
            head = struct.pack("!BBH", 0x80 | _BINARY, 126, size)
        else:
            head = bytes([0x80 | _BINARY, size])
        self.wfile.write(head + data)

    def _messages(self) -> Iterator[bytes]:
        """Yield the messages of the client until it closes."""
        while head := self.rfile.read(2):
            kind, size = head[0] & 0x0F, head[1] & 0x7F
            if size == 126:
                size = struct.unpack("!H", self.rfile.read(2))[0]
            elif size == 127:
                size = struct.unpack("!Q", self.rfile.read(8))[0]
            mask = self.rfile.read(4) if head[1] & 0x80 else b"\0\0\0\0"
            data = self.rfile.read(size)
            if kind == _CLOSE:
                return
            yield bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))
