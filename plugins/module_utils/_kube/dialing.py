# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Open connections within bounds: to one of a host's addresses, and through an HTTP proxy."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping
from http.client import HTTPException, HTTPResponse

from .read_limits import Bounds, plain_class


def dial(host: str, port: int, bounds: Bounds, seconds: float = float("inf")) -> socket.socket:
    """Connect to the first address of the host that answers. The bounds apply to all addresses together.

    seconds: how long each attempt and each read may take besides. Raises TimedOut, OSError.
    """
    failure = OSError(None, "its name has no address")
    for family, kind, protocol, _name, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        with contextlib.ExitStack() as stack:
            connection = stack.enter_context(plain_class(bounds)(family, kind, protocol))
            connection.settimeout(min(seconds, bounds.left()))
            try:
                connection.connect(address)
            except OSError as error:
                failure = error
                continue
            stack.pop_all()
            return connection
    raise failure


def tunnel(connection: socket.socket, host: str, port: int, headers: Mapping[str, str]) -> None:
    """Ask the connected proxy for a tunnel to the host (HTTP CONNECT). Raises TimedOut, OSError."""
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [
        f"CONNECT {target} HTTP/1.1",
        f"Host: {target}",
        *(f"{name}: {headers[name]}" for name in headers),
    ]
    connection.sendall("".join(f"{line}\r\n" for line in [*lines, ""]).encode("latin-1"))
    answer = HTTPResponse(connection, method="CONNECT")
    try:
        answer.begin()
    except HTTPException as error:
        raise OSError(None, f"the proxy's answer is not HTTP ({type(error).__name__})") from None
    finally:
        answer.close()
    if answer.status != 200:
        raise OSError(None, f"the proxy refuses the connection: {answer.status} {answer.reason}")
