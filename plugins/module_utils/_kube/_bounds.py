# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The time and the size of what is read from a connection: one clock and one count for each exchange.

A time-out of a socket bounds each read. A server that sends a byte now and then never exceeds it. The sockets made here
ask a Bounds before each read instead, so every protocol on top (HTTP, its chunks, WebSocket, TLS in memory) is bounded.
"""

from __future__ import annotations

import socket
import ssl
import time
from typing import Any, Callable, TypeVar

from ._errors import TimedOut, TooLarge

# A call that begins at the deadline has this long. The last look of a wait happens then.
LEAST_SECONDS = 1.0
# A page of a list is at most 500 objects, which etcd limits to 1.5 MiB each. Pages of real clusters have a few MiB.
ANSWER_BYTES = 256 * 1024 * 1024
READ_BYTES = 65536

_T = TypeVar("_T", bound="int | bytes")


class Bounds:
    """The bounds of one exchange after another. ``start`` begins the next one.

    ``subject`` names what is read, for the errors. ``until`` is a time of ``time.monotonic()``.
    ``size`` is the largest number of bytes (ANSWER_BYTES for 0), ``received`` how many came so far.
    """

    def __init__(
        self, subject: str = "", *, until: float = float("inf"), size: int = 0, remedy: str = ""
    ) -> None:
        self.start(subject, until=until, size=size, remedy=remedy)

    def start(self, subject: str, *, until: float, size: int = 0, remedy: str = "") -> None:
        self.subject = subject
        self.until = max(until, time.monotonic())
        self.size = size or ANSWER_BYTES
        self.received = 0
        self._remedy = remedy
        self._started = time.monotonic()

    def left(self) -> float:
        """Return the seconds that are left, more than 0. Raises TimedOut."""
        left = self.until - time.monotonic()
        if left <= 0:
            raise self.timed_out()
        return left

    def timed_out(self) -> TimedOut:
        seconds = time.monotonic() - self._started
        return TimedOut(
            f"{self.subject} did not end in time",
            evidence=(f"{self.received} bytes came in {seconds:.1f} s",),
            remedy=self._remedy,
        )

    def check_size(self, size: int) -> None:
        """Raise TooLarge for more bytes than are read at most."""
        if size > self.size:
            raise TooLarge(
                f"{self.subject} is larger than {self.size} bytes",
                evidence=(f"{self.received} bytes were read",),
                remedy=self._remedy,
            )

    def read(self, connection: socket.socket, receive: Callable[[], _T]) -> _T:
        """Return what ``receive`` reads from the connection, once. Raises TimedOut, TooLarge, OSError."""
        left = self.left()
        connection.settimeout(min(connection.gettimeout() or left, left))
        try:
            taken = receive()
        except socket.timeout:
            # A server that sent nothing at all is unreachable: that is the caller's error.
            if self.received and time.monotonic() >= self.until:
                raise self.timed_out() from None
            raise
        self.received += taken if isinstance(taken, int) else len(taken)
        self.check_size(self.received)
        return taken


def plain_class(bounds: Bounds) -> type[socket.socket]:
    """Return a class of sockets that these bounds hold for."""

    class BoundedSocket(socket.socket):
        def recv(self, *arguments: Any) -> bytes:
            return bounds.read(self, lambda: super(BoundedSocket, self).recv(*arguments))

        def recv_into(self, *arguments: Any, **options: Any) -> int:
            return bounds.read(self, lambda: super(BoundedSocket, self).recv_into(*arguments, **options))

    return BoundedSocket


def tls_class(bounds: Bounds) -> type[ssl.SSLSocket]:
    """Return the class for ``SSLContext.sslsocket_class``. TLS itself bounds its handshake by the socket's time-out."""

    class BoundedTlsSocket(ssl.SSLSocket):
        def recv(self, *arguments: Any) -> bytes:
            return bounds.read(self, lambda: super(BoundedTlsSocket, self).recv(*arguments))

        def recv_into(self, *arguments: Any, **options: Any) -> int:
            return bounds.read(self, lambda: super(BoundedTlsSocket, self).recv_into(*arguments, **options))

    return BoundedTlsSocket


def bounded(connection: socket.socket, bounds: Bounds) -> socket.socket:
    """Return the connection as one that these bounds hold for. The given object is empty afterwards."""
    seconds = connection.gettimeout()
    kind = connection.family, connection.type, connection.proto
    ours = plain_class(bounds)(*kind, fileno=connection.detach())
    ours.settimeout(seconds)
    return ours
