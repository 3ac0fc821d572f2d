# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Read a file by its path or URL, without credentials."""

from __future__ import annotations

import http.client
import socket
import ssl
import time
import urllib.error
import urllib.request
from functools import partial
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from ..._kube.errors import AnswerTooLarge, TimedOut
from ..._kube.transport import ReadLimits, dial, tls_class
from ..._paths import expand
from ..errors import SourceError

# The time-out to connect, and of each read.
SECONDS = 30.0
# A release with its vendored modules has 15 MB.
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
            f"the URL {where} cannot be fetched: its scheme {parts.scheme} is not file, http or https",
            remedy="Set another URL, or a directory",
        )
    if parts.username or parts.password:
        raise SourceError(
            f"the URL of {parts.hostname} has a user name or password, which would be shown and logged",
            remedy="Fetch the archive beforehand, and set its path",
        )
    return _remote(where, until)


def _local(path: Path) -> bytes:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise _too_large(str(path))
        return path.read_bytes()
    except OSError as exc:
        raise SourceError(f"the file {path} cannot be read: {exc.strerror}", remedy="Check the path") from exc


def _opener(bounds: ReadLimits) -> urllib.request.OpenerDirector:
    """Return an opener whose connections, those to a proxy and those of a redirection too, keep to the bounds."""
    context = ssl.create_default_context()
    context.sslsocket_class = tls_class(bounds)

    def connected(address: tuple[str, int], *_others: Any) -> socket.socket:
        host, port = address
        return dial(host, port, bounds, SECONDS)

    def connection(
        kind: type[http.client.HTTPConnection], *arguments: Any, **options: Any
    ) -> http.client.HTTPConnection:
        made: Any = kind(*arguments, **options)
        # http.client opens every socket here, before it talks to a proxy and before TLS.
        made._create_connection = connected  # noqa: SLF001
        return cast(http.client.HTTPConnection, made)

    class Plain(urllib.request.HTTPHandler):
        def http_open(self, req: urllib.request.Request) -> Any:
            return self.do_open(partial(connection, http.client.HTTPConnection), req)

    class Secure(urllib.request.HTTPSHandler):
        def https_open(self, req: urllib.request.Request) -> Any:
            return self.do_open(partial(connection, http.client.HTTPSConnection), req, context=context)

    class NoFtp(urllib.request.FTPHandler):
        def ftp_open(self, req: urllib.request.Request) -> Any:  # noqa: ARG002 # the name is the library's
            raise urllib.error.URLError("it leads to an ftp server")

    return urllib.request.build_opener(Plain, Secure, NoFtp)


def _remote(url: str, until: float) -> bytes:
    request = urllib.request.Request(url, headers={"User-Agent": "certflow.kubernetes"})  # noqa: S310 # see read
    try:
        with _opener(ReadLimits(url, until=until)).open(request) as answer:
            data: bytes = answer.read(MOST_BYTES + 1)
            expected = answer.length  # the bytes that are missing by the Content-Length
    except TimedOut as exc:
        raise _too_slow(url) from exc
    except AnswerTooLarge as exc:
        raise _too_large(url) from exc
    except urllib.error.HTTPError as exc:
        exc.close()
        raise SourceError(
            f"the URL {url} was answered with {exc.code} {exc.reason}",
            remedy="Check that the server has this release" if exc.code in (404, 410) else "Try again later",
        ) from exc
    except (OSError, http.client.HTTPException) as exc:
        if time.monotonic() >= until:
            raise _too_slow(url) from exc
        raise SourceError(
            f"the URL {url} cannot be fetched: {_words(exc)}",
            remedy="Check the address, the network and the proxy settings of the controller, or set a directory",
        ) from exc
    if len(data) > MOST_BYTES:
        raise _too_large(url)
    if expected:
        raise SourceError(f"the answer of {url} ended {expected} bytes too soon", remedy="Try again")
    return data


def _too_slow(url: str) -> SourceError:
    return SourceError(
        f"the URL {url} was not fetched in time: the server sends too slowly",
        remedy="Try again, or fetch the archive beforehand and set its path",
    )


def _too_large(where: str) -> SourceError:
    return SourceError(
        f"the source {where} has more than {MOST_BYTES} bytes", remedy="Set the archive of one release"
    )


def _words(exc: BaseException) -> str:
    reason = getattr(exc, "reason", None)
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {reason.verify_message}"
    if isinstance(reason, OSError):
        return reason.strerror or str(reason)
    return str(reason or exc) or type(exc).__name__
