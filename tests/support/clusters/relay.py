# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Forward connections from a loopback port of the machine to the same port in a node's network."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import sys

from tests.support.clusters.namespaces import enter_network
from tests.support.clusters.processes import Process

_CHUNK = 1 << 16
_AT_ONCE = struct.pack("ii", 1, 0)  # struct linger: on, 0 s


def run(listener: socket.socket, port: int) -> None:
    """Serve until killed. Bytes pass in both directions until one side closes the connection."""
    asyncio.run(_serve(listener, port))


async def _serve(listener: socket.socket, port: int) -> None:
    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            inside = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            _reset(writer)  # no server listens there
            return
        await asyncio.gather(_carry(reader, inside[1]), _carry(inside[0], writer))
        for end in (writer, inside[1]):
            end.close()

    server = await asyncio.start_server(connection, sock=listener)
    await server.serve_forever()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Forward one direction. Pass its end on, because the other direction may continue."""
    try:
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
    except OSError:
        _reset(writer)
        return
    with contextlib.suppress(OSError):
        writer.write_eof()


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection by a reset, as if the server had died."""
    with contextlib.suppress(OSError):  # closed already
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
    writer.transport.abort()


def main() -> None:
    pid, started, port = map(int, sys.argv[1:4])
    listener = socket.create_server(("127.0.0.1", port))  # it belongs to the network in which it is created
    enter_network(Process(pid, started))
    run(listener, port)


if __name__ == "__main__":
    main()
