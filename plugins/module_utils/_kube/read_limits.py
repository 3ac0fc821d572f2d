# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Limit the time and the size of reads from a connection: one clock and one count for each exchange.

A socket's time-out limits only a single read. A server that sends a byte now and then never exceeds it. The sockets of
this file check a Bounds at each read, which limits every protocol on top: HTTP, its chunks, WebSocket, TLS in memory.
"""

from __future__ import annotations

import socket
import ssl
import time
from typing import Any, Callable, TypeVar

from .errors import TimedOut, TooLarge

# The time for a call that begins at the deadline, such as the last check of a wait.
LEAST_SECONDS = 1.0
# A page of a list has at most 500 objects, and etcd limits each to 1.5 MiB. Pages of real clusters have a few MiB.
ANSWER_BYTES = 256 * 1024 * 1024
READ_BYTES = 65536

_T = TypeVar("_T", bound="int | bytes")


class Bounds:
    """The bounds of the current exchange. ``start`` begins the next one.

    subject: the name of the answer, for the errors.
    until: the deadline, a time of ``time.monotonic()``.
    size: the largest number of bytes, ANSWER_BYTES for 0.
    received: the number of bytes so far.
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
        """Return the remaining seconds, more than 0. Raises TimedOut."""
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
        """Raise TooLarge if the size exceeds the limit."""
        if size > self.size:
            raise TooLarge(
                f"{self.subject} is larger than {self.size} bytes",
                evidence=(f"{self.received} bytes were read",),
                remedy=self._remedy,
            )

    def read(self, connection: socket.socket, receive: Callable[[], _T]) -> _T:
        """Return the result of one call of ``receive``, within the bounds. Raises TimedOut, TooLarge, OSError."""
        left = self.left()
        connection.settimeout(min(connection.gettimeout() or left, left))
        try:
            taken = receive()
        except socket.timeout:
            # A server that sent nothing is unreachable. The caller reports that.
            if self.received and time.monotonic() >= self.until:
                raise self.timed_out() from None
            raise
        self.received += taken if isinstance(taken, int) else len(taken)
        self.check_size(self.received)
        return taken


def plain_class(bounds: Bounds) -> type[socket.socket]:
    """Return a class of sockets with these bounds."""

    class BoundedSocket(socket.socket):
        def recv(self, *arguments: Any) -> bytes:
            return bounds.read(self, lambda: super(BoundedSocket, self).recv(*arguments))

        def recv_into(self, *arguments: Any, **options: Any) -> int:
            return bounds.read(self, lambda: super(BoundedSocket, self).recv_into(*arguments, **options))

    return BoundedSocket


def tls_class(bounds: Bounds) -> type[ssl.SSLSocket]:
    """Return the class for ``SSLContext.sslsocket_class``. The socket's time-out limits the TLS handshake."""

    class BoundedTlsSocket(ssl.SSLSocket):
        def recv(self, *arguments: Any) -> bytes:
            return bounds.read(self, lambda: super(BoundedTlsSocket, self).recv(*arguments))

        def recv_into(self, *arguments: Any, **options: Any) -> int:
            return bounds.read(self, lambda: super(BoundedTlsSocket, self).recv_into(*arguments, **options))

    return BoundedTlsSocket


def bounded(connection: socket.socket, bounds: Bounds) -> socket.socket:
    """Move the connection into a socket with these bounds and return it. The given object is then closed."""
    seconds = connection.gettimeout()
    kind = connection.family, connection.type, connection.proto
    ours = plain_class(bounds)(*kind, fileno=connection.detach())
    ours.settimeout(seconds)
    return ours
