# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Read a file by its path or URL. No credentials: none are asked for, kept, or taken from a URL."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .._paths import expand
from ._errors import SourceError

# The time-out to connect, and of each read.
SECONDS = 30.0
LOOK_SECONDS = 0.2
# A release with all that it vendors has 15 MB.
MOST_BYTES = 64 * 2**20


def read(where: str, until: float) -> bytes:
    """Return the content of a local path, or of a file, http or https URL.

    until: the deadline of a download, a time of time.monotonic().
    Proxies and CAs come from the environment (HTTPS_PROXY, NO_PROXY, SSL_CERT_FILE). Raises SourceError.
    """
    parts = urlsplit(where)
    if not parts.scheme:
        return _local(Path(expand(where)))
    if parts.scheme == "file":
        return _local(Path(urllib.request.url2pathname(parts.path)))
    if parts.scheme not in ("http", "https"):
        raise SourceError(
            f"the URL {where} cannot be fetched: {parts.scheme} is not among file, http and https",
            remedy="Give another URL, or a directory",
        )
    if parts.username or parts.password:
        raise SourceError(
            f"the URL of {parts.hostname} holds a user name or password, which would be shown and logged",
            remedy="Fetch the archive beforehand, and give its path",
        )
    return _remote(where, until)


def _local(path: Path) -> bytes:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise _too_large(str(path))
        return path.read_bytes()
    except OSError as exc:
        raise SourceError(f"the file {path} cannot be read: {exc.strerror}", remedy="Check the path") from exc


class _Clock:
    """Close the connections of one download at the deadline. A slow trickle of bytes never exceeds a socket's time-out."""

    def __init__(self, until: float) -> None:
        self.left = max(until - time.monotonic(), 0.0)
        self.is_over = False
        self._connections: list[http.client.HTTPConnection] = []
        self._sockets: list[socket.socket] = []
        self._ended = threading.Event()

    def __enter__(self) -> _Clock:
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *_about: object) -> None:
        self._ended.set()

    def dials(self, connection: http.client.HTTPConnection) -> None:
        self._connections.append(connection)

    def is_connected(self, connection: http.client.HTTPConnection) -> None:
        """Record the socket, because urllib detaches it from the connection before it reads the body."""
        if connection.sock is not None:
            self._sockets.append(connection.sock)

    def _watch(self) -> None:
        left = self.left
        while not self._ended.wait(left):
            self.is_over, left = True, LOOK_SECONDS  # repeat it, because a connection may open later
            dialling = [one.sock for one in self._connections if one.sock is not None]
            for one in (*self._sockets, *dialling):
                with suppress(OSError):  # it is closed
                    # Do not call the method of an SSLSocket, which would change the object while another thread reads.
                    socket.socket.shutdown(one, socket.SHUT_RDWR)


def _opener(clock: _Clock) -> urllib.request.OpenerDirector:
    class PlainConnection(http.client.HTTPConnection):
        def connect(self) -> None:
            clock.dials(self)
            super().connect()
            clock.is_connected(self)

    class SecureConnection(http.client.HTTPSConnection):
        def connect(self) -> None:
            clock.dials(self)
            super().connect()
            clock.is_connected(self)

    class Plain(urllib.request.HTTPHandler):
        def http_open(self, req: urllib.request.Request) -> Any:
            return self.do_open(PlainConnection, req)

    class Secure(urllib.request.HTTPSHandler):
        def https_open(self, req: urllib.request.Request) -> Any:
            return self.do_open(SecureConnection, req)

    class NoFtp(urllib.request.FTPHandler):
        def ftp_open(self, req: urllib.request.Request) -> Any:  # noqa: ARG002 # the name is the library's
            raise urllib.error.URLError("it leads to an ftp server")

    return urllib.request.build_opener(Plain, Secure, NoFtp)


def _remote(url: str, until: float) -> bytes:
    with _Clock(until) as clock:
        try:
            data = _download(url, clock)
        except SourceError:
            if clock.is_over:
                raise _too_slow(url) from None
            raise
    if clock.is_over:
        raise _too_slow(url)
    return data


def _download(url: str, clock: _Clock) -> bytes:
    request = urllib.request.Request(url, headers={"User-Agent": "certflow.kubernetes"})  # noqa: S310 # see read
    seconds = max(min(SECONDS, clock.left), 0.1)
    try:
        with _opener(clock).open(request, timeout=seconds) as answer:
            data: bytes = answer.read(MOST_BYTES + 1)
            expected = answer.length  # what is still to come: with an honest Content-Length nothing
    except urllib.error.HTTPError as exc:
        exc.close()
        raise SourceError(
            f"the URL {url} was answered with {exc.code} {exc.reason}",
            remedy="Check that this place has this release" if exc.code in (404, 410) else "Try again later",
        ) from exc
    except (OSError, http.client.HTTPException) as exc:
        raise SourceError(
            f"the URL {url} cannot be fetched: {_words(exc)}",
            remedy="Check the address, the network and the proxy settings of the controller, or give a directory",
        ) from exc
    if len(data) > MOST_BYTES:
        raise _too_large(url)
    if expected:
        raise SourceError(f"the URL {url} ended {expected} bytes too soon", remedy="Try again")
    return data


def _too_slow(url: str) -> SourceError:
    return SourceError(
        f"the URL {url} was not fetched in time: the server sends too slowly",
        remedy="Try again, or fetch the archive beforehand and give its path",
    )


def _too_large(where: str) -> SourceError:
    return SourceError(
        f"the source {where} has more than {MOST_BYTES} bytes", remedy="Give the archive of one release"
    )


def _words(exc: BaseException) -> str:
    reason = getattr(exc, "reason", None)
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {reason.verify_message}"
    if isinstance(reason, OSError):
        return reason.strerror or str(reason)
    return str(reason or exc) or type(exc).__name__
