# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A server on loopback that sends the bytes of a test, such as no HTTP library would send."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")

#: Far more than the bounds in these tests. It only turns a hang into a failure.
GUARD_SECONDS = 30.0


class Raw:
    """``talk`` yields the parts to send on each connection. ``sent`` counts bytes, ``connections`` connections."""

    def __init__(self, talk: Callable[[], Iterable[bytes]], context: ssl.SSLContext | None) -> None:
        self.sent = 0
        self.connections = 0
        self._talk, self._context = talk, context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.url = f"{'https' if context else 'http'}://127.0.0.1:{self.port}"
        self._open: list[socket.socket] = []
        self._is_closed = False
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._is_closed = True
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _accept(self) -> None:
        while True:
            try:
                client, _address = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            stream = stack.enter_context(client)
            if self._context:
                stream = stack.enter_context(self._context.wrap_socket(client, server_side=True))
            stream.recv(65536)
            for part in self._talk():
                if self._is_closed:
                    return
                stream.sendall(part)
                self.sent += len(part)


@contextlib.contextmanager
def talking(talk: Callable[[], Iterable[bytes]], context: ssl.SSLContext | None = None) -> Iterator[Raw]:
    """Run such a server during the block."""
    server = Raw(talk, context)
    try:
        yield server
    finally:
        server.close()


def dripping(*parts: bytes, seconds: float = 0.1) -> Iterator[bytes]:
    """Yield the parts at once, and then a blank again and again, with a pause before each."""
    yield from parts
    while True:
        time.sleep(seconds)
        yield b" "


def endless(*parts: bytes) -> Iterator[bytes]:
    """Yield the parts, and then the last one again and again."""
    yield from parts
    while True:
        yield parts[-1]


def guarded(work: Callable[[], T]) -> T:
    """Return the result of ``work``, or raise its error. A hang fails the test."""
    outcome: list[tuple[Any, BaseException | None]] = []

    def run() -> None:
        try:
            outcome.append((work(), None))
        except BaseException as exc:  # raised again below
            outcome.append((None, exc))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(GUARD_SECONDS)
    assert outcome, f"it did not end in {GUARD_SECONDS:.0f} s"
    answer, error = outcome[0]
    if error is not None:
        raise error
    return answer  # type: ignore[no-any-return]
