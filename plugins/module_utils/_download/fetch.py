# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Read a file by its path or URL.

ansible.module_utils.urls.open_url limits one read of a socket, but not a whole download, and it sends headers to the host of a
redirection. So this file opens its connections itself: with limits for time and size, and credentials for one host only.
"""

from __future__ import annotations

import errno
import http.client
import socket
import ssl
import time
import urllib.error
import urllib.request
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from .._base.paths import expand
from .._base.paths import read as read_file
from .._kube.errors import AnswerTooLarge, TimedOut
from .._kube.login.transport import ReadLimits, bounded_class, dial
from . import source_auth
from .source_auth import SourceAuth, SourceError

# The time-out to connect, and of each read.
SECONDS = 30.0
# A release with its vendored modules has 15 MB.
MOST_BYTES = 64 * 2**20


def read(where: str, until: float, auth: SourceAuth | None = None) -> bytes:
    """Return the content of a local path, or of a file, http or https URL.

    until: the deadline of a download, a time of time.monotonic().
    auth: the credentials for the host of an https URL. Another host never gets them, also if that host redirects to it.
    Proxies and CAs come from the environment (HTTPS_PROXY, NO_PROXY, SSL_CERT_FILE). Raises SourceError.
    """
    try:
        parts = urlsplit(where)
    except ValueError as exc:
        # Its words may repeat a password.
        raise SourceError("the URL of the source has no valid host", remedy="Check its address") from exc
    if not parts.scheme:
        return _local(Path(expand(where)))
    if parts.scheme == "file":
        return _local(Path(urllib.request.url2pathname(parts.path)))
    if "@" in where:  # a / or # in a password ends what a parser takes for the host
        raise SourceError(
            "the URL of the source has a user name or password, which would be shown and logged",
            remedy=f"Set url_username and url_password of {source_auth.OPTION}, or fetch the archive beforehand and set its path. "
            "In a path, write %40 for @",
        )
    if parts.scheme not in ("http", "https"):
        raise SourceError(
            f"the URL {where} cannot be fetched: its scheme {parts.scheme} is not file, http or https",
            remedy="Set another URL, or a directory",
        )
    credentials = auth or SourceAuth()
    if parts.scheme == "http" and credentials.has_credentials():
        raise SourceError(
            f"the URL {where} is not https, so the credentials of {source_auth.OPTION} would be sent without encryption",
            remedy=f"Use an https URL, or remove {source_auth.OPTION}",
        )
    return _remote(where, until, credentials)


def _local(path: Path) -> bytes:
    try:
        return read_file(str(path), MOST_BYTES)
    except (OSError, ValueError) as exc:
        if isinstance(exc, OSError) and exc.errno == errno.EFBIG:
            raise _too_large(str(path)) from None
        raise SourceError(f"the file {path} cannot be read: {_words(exc)}", remedy="Check the path") from exc


def _origin(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port of a URL. An invalid port is 0, which is the port of no server."""
    parts = urlsplit(url)
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        port = 0
    return parts.scheme, parts.hostname or "", port


def opener(bounds: ReadLimits, url: str, auth: SourceAuth) -> urllib.request.OpenerDirector:
    """Return an opener whose connections, those to a proxy and those of a redirection too, keep to the bounds.

    It sends the client certificate, and the headers of the credentials, only to the origin of the URL.
    """
    origin, headers = _origin(url), source_auth.request_headers(auth)
    contexts = {is_ours: source_auth.tls_context(auth, is_client=is_ours) for is_ours in (True, False)}
    for context in contexts.values():
        context.sslsocket_class = bounded_class(ssl.SSLSocket, bounds)

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
            is_ours = _origin(req.full_url) == origin
            for name, value in headers.items() if is_ours else ():
                # The library copies other headers to the request of a redirection.
                req.add_unredirected_header(name, value)
            return self.do_open(
                partial(connection, http.client.HTTPSConnection), req, context=contexts[is_ours]
            )

    class NoFtp(urllib.request.FTPHandler):
        def ftp_open(self, req: urllib.request.Request) -> Any:  # noqa: ARG002 # the name is the library's
            raise urllib.error.URLError("it leads to an ftp server")

    return urllib.request.build_opener(Plain, Secure, NoFtp)


def _remote(url: str, until: float, auth: SourceAuth) -> bytes:
    request = urllib.request.Request(url, headers={"User-Agent": "certflow.kubernetes"})  # noqa: S310 # see read
    try:
        with opener(ReadLimits(url, until=until, size=2 * MOST_BYTES), url, auth).open(request) as answer:
            data: bytes = answer.read(MOST_BYTES + 1)
            expected = answer.length  # the bytes that are missing by the Content-Length
    except TimedOut as exc:
        raise _too_slow(url) from exc
    except AnswerTooLarge as exc:
        raise _too_large(url) from exc
    except urllib.error.HTTPError as exc:
        exc.close()
        raise _refused(url, exc.code, exc.url, auth) from None
    # ValueError: a host or path without an encoding
    except (OSError, http.client.HTTPException, ValueError) as exc:
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


def _refused(url: str, status: int, asked: str, auth: SourceAuth) -> SourceError:
    """Return the error of a status.

    The words are not the server's, which may repeat a credential. Of a redirection only the host is named, because its URL may
    be signed.

    asked: the URL that was answered, after redirections.
    """
    words = (
        f"{status} {HTTPStatus(status).phrase}" if status in HTTPStatus._value2member_map_ else f"{status}"
    )
    elsewhere = urlsplit(asked).hostname if _origin(asked) != _origin(url) else None
    cause = (
        f"the URL {url} leads to the host {elsewhere}, which answered with {words}"
        if elsewhere
        else f"the URL {url} was answered with {words} by {urlsplit(url).hostname}"
    )
    if status not in (401, 403):
        remedy = "Check that the server has this release" if status in (404, 410) else "Try again later"
    elif elsewhere:
        remedy = f"The credentials of {source_auth.OPTION} are sent to the first host only. Set the URL of a mirror that sends the file itself"
    else:
        remedy = (
            f"Check the credentials in {source_auth.OPTION}, and that they may read this file"
            if auth.has_credentials()
            else f"Set {source_auth.OPTION}, for example with a token, or with url_username and url_password"
        )
    return SourceError(cause, remedy=remedy)


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
    reason = exc.reason if isinstance(exc, urllib.error.URLError) else exc
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {reason.verify_message}"
    if isinstance(reason, OSError):
        return reason.strerror or str(reason)
    return str(reason or exc) or type(exc).__name__
