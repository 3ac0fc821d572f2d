# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A private mirror on loopback: an HTTPS server that demands headers or a client certificate, and takes uploads."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.support.api_server import _context
from tests.support.certificates import server_pki as pki

CONTENT = b"the archive"


@dataclass
class Mirror:
    """A server that demands some headers. It repeats each wrong header in its words, as an unfriendly server may."""

    url: str = ""
    demanded: Mapping[str, str] = field(default_factory=dict)
    #: The target of a redirection, which it sends after the demanded headers.
    leads_to: str = ""
    status: int = 401
    #: The files that were uploaded, by path.
    received: dict[str, bytes] = field(default_factory=dict)
    #: For each request: path, headers, and True if the client sent a certificate.
    requests: list[tuple[str, dict[str, str], bool]] = field(default_factory=list)


@contextlib.contextmanager
def mirror(client_ca: str | None = None, **options: Any) -> Iterator[Mirror]:
    made = Mirror(**options)

    class Handler(http.server.BaseHTTPRequestHandler):
        body = b""

        def do_PUT(self) -> None:  # the name is the library's
            self.body = self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def do_GET(self) -> None:  # the name is the library's
            has_certificate = bool(self.connection.getpeercert())
            made.requests.append((self.path, dict(self.headers.items()), has_certificate))
            wrong = [name for name, value in made.demanded.items() if self.headers.get(name) != value]
            if wrong or (client_ca and not has_certificate):
                self.send_response(made.status, " ".join(f"no {self.headers.get(name)}" for name in wrong))
                self.end_headers()
            elif made.leads_to and self.path == "/a.zip":
                self.send_response(302)
                self.send_header("Location", made.leads_to)
                self.end_headers()
            else:
                self.send_response(200)
                self.end_headers()
                if self.command == "PUT":
                    made.received[self.path] = self.body
                else:
                    self.wfile.write(CONTENT)

        def log_message(self, *_arguments: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    pair = pki.leaf("mirror", pki.ca(), "localhost")
    server.socket = _context(pair, client_ca).wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    made.url = f"https://127.0.0.1:{server.server_address[1]}"
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
