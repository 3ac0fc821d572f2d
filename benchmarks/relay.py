# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A TCP relay that delays both directions, and counts connections and bytes. It runs in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator

_CHUNK = 1 << 16


class Relay:
    """The handle of a running relay. TLS passes through, so clients verify the API server itself."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self._process = process
        self.port = port

    def delay(self, seconds: float) -> None:
        """Delay each direction by this time from now on. A new connection waits for a round trip too."""
        self._ask(f"delay {seconds}")

    def counts(self) -> dict[str, int]:
        """Return the connections so far, and the bytes in both directions together."""
        counts: dict[str, int] = json.loads(self._ask("count"))
        return counts

    def _ask(self, line: str) -> str:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline()


@contextlib.contextmanager
def relayed(url: str) -> Iterator[Relay]:
    """Yield a relay in front of an API server until the block ends."""
    command = [sys.executable, "-m", "benchmarks.relay", url.rpartition(":")[2]]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield Relay(process, int(process.stdout.readline()))
        finally:
            process.kill()


class _Server:
    """The relay itself."""

    def __init__(self, upstream: int) -> None:
        self._upstream = upstream
        self._delay = 0.0
        self._counts = {"connections": 0, "bytes": 0}

    async def serve(self) -> None:
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0, backlog=1024)
        print(server.sockets[0].getsockname()[1], flush=True)
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            word, _blank, value = line.strip().partition(" ")
            if word == "delay":
                self._delay = float(value)
            print(json.dumps(self._counts), flush=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._counts["connections"] += 1
        await asyncio.sleep(2 * self._delay)
        try:
            inner = await asyncio.open_connection("127.0.0.1", self._upstream)
        except OSError:
            writer.close()
            return
        await asyncio.gather(self._carry(reader, inner[1]), self._carry(inner[0], writer))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one direction. Every chunk arrives after the delay, and the next one is read meanwhile."""
        loop = asyncio.get_running_loop()
        last = loop.time()
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK):
                self._counts["bytes"] += len(data)
                last = max(last + 1e-6, loop.time() + self._delay)  # in order
                loop.call_at(last, _write, writer, data)
        loop.call_at(max(last + 1e-6, loop.time() + self._delay), writer.close)


def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    if not writer.is_closing():
        writer.write(data)


if __name__ == "__main__":
    asyncio.run(_Server(int(sys.argv[1])).serve())
