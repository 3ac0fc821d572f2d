# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Serve on loopback, under the name of each Service, the current certificate in its Secret."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
from collections.abc import Callable

Pair = Callable[[str], dict[str, str]]


class SecretServer:
    """A TLS server.

    ``pair`` returns tls.crt and tls.key for the server name of a handshake, or an empty mapping.
    """

    def __init__(self, pair: Pair) -> None:
        self._pair = pair
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept
        self._listener.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                connection, _address = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._handshake, args=(connection,), daemon=True).start()

    def _handshake(self, connection: socket.socket) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.sni_callback = self._choose
        connection.settimeout(5)
        with (
            connection,
            contextlib.suppress(OSError),
            context.wrap_socket(connection, server_side=True) as tls,
        ):
            tls.recv(1)

    def _choose(
        self, tls: ssl.SSLSocket | ssl.SSLObject, name: str | None, _context: ssl.SSLContext
    ) -> int | None:
        data = self._pair(name or "")
        if "tls.crt" not in data:
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        descriptor = os.memfd_create(
            "served"
        )  # The ssl module reads only paths. Anonymous memory keeps the key off the disk.
        try:
            os.write(descriptor, f"{data['tls.crt']}\n{data['tls.key']}".encode())
            context.load_cert_chain(f"/proc/self/fd/{descriptor}")
        finally:
            os.close(descriptor)
        tls.context = context
        return None
