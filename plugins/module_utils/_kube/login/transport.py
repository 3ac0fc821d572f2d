# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Open connections to an API server: TLS, proxies, and limits for the time and the size of what is read.

A socket's time-out limits only a single read. A server that sends a byte now and then never exceeds it. The sockets of
this file check a ReadLimits at each read, which limits every protocol on top: HTTP, its chunks, WebSocket, TLS in memory.
Client keys never touch a disk.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import ssl
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from http.client import HTTPException, HTTPResponse
from typing import Any, Callable, TypeVar
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

from ..errors import AnswerTooLarge, ConfigurationError, TimedOut
from .connection import Connection

with contextlib.suppress(ImportError):  # reported by _ansible, with the interpreter's path
    from urllib3.util import parse_url

# The time for a call that begins at the deadline, such as the last check of a wait.
LEAST_SECONDS = 1.0
# A page of a list has at most 500 objects, and etcd limits each to 1.5 MiB. Pages of real clusters have a few MiB.
ANSWER_BYTES = 16 * 1024 * 1024
# Of an answer of which only some lines are kept.
READ_AND_DROPPED_BYTES = 256 * 1024 * 1024
READ_BYTES = 65536
# Lists of equal objects are compressed to a fiftieth, the worst content to a thousandth. Less content may have any ratio.
MOST_RATIO, FREE_BYTES = 200, 8 * 1024 * 1024
# Each CA costs a connection if the server's certificate is not accepted.
MOST_AUTHORITIES = 30
_CERTIFICATE = re.compile("-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----")

_T = TypeVar("_T", bound="int | bytes")


class ReadLimits:
    """The limits of the current exchange. ``start`` begins the next one.

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
        """Raise AnswerTooLarge if the size exceeds the limit."""
        if size > self.size:
            raise AnswerTooLarge(
                f"{self.subject} is larger than {self.size} bytes",
                evidence=(f"{self.received} bytes were read",),
                remedy=self._remedy,
            )

    def check_content(self, size: int) -> None:
        """Raise AnswerTooLarge if the content of an answer exceeds the limit, or is far larger than what was sent."""
        self.check_size(size)
        if size > max(FREE_BYTES, MOST_RATIO * self.received):
            raise AnswerTooLarge(
                f"{self.subject} is compressed more than {MOST_RATIO} times",
                evidence=(f"{self.received} bytes became more than {size}",),
                remedy=self._remedy,
            )

    def read(self, connection: socket.socket, receive: Callable[[], _T]) -> _T:
        """Return the result of one call of ``receive``, within the bounds. Raises TimedOut, AnswerTooLarge, OSError."""
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


def bounded_class(kind: Any, bounds: ReadLimits) -> Any:
    """Return a class of sockets with these bounds. kind: socket.socket, or the class of ``SSLContext.sslsocket_class``.

    The time-out of a socket limits its TLS handshake.
    """

    class BoundedSocket(kind):  # type: ignore[misc]
        def recv(self, *arguments: Any) -> bytes:
            taken: bytes = bounds.read(self, lambda: super(BoundedSocket, self).recv(*arguments))
            return taken

        def recv_into(self, *arguments: Any, **options: Any) -> int:
            size: int = bounds.read(self, lambda: super(BoundedSocket, self).recv_into(*arguments, **options))
            return size

    return BoundedSocket


def bounded(connection: socket.socket, bounds: ReadLimits) -> socket.socket:
    """Move the connection into a socket with these bounds and return it. The given object is then closed."""
    seconds = connection.gettimeout()
    kind = connection.family, connection.type, connection.proto
    ours: socket.socket = bounded_class(socket.socket, bounds)(*kind, fileno=connection.detach())
    ours.settimeout(seconds)
    return ours


def dial(host: str, port: int, bounds: ReadLimits, seconds: float = float("inf")) -> socket.socket:
    """Connect to the first address of the host that answers. The bounds apply to all addresses together.

    seconds: how long each attempt and each read may take besides. Raises TimedOut, OSError.
    """
    failure = OSError(None, "its name has no address")
    for family, kind, protocol, _name, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        with contextlib.ExitStack() as stack:
            connection: socket.socket = stack.enter_context(
                bounded_class(socket.socket, bounds)(family, kind, protocol)
            )
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
    """Request a tunnel to the host from the connected proxy (HTTP CONNECT). Raises TimedOut, OSError."""
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


def each_authority(connection: Connection) -> Iterator[Connection]:
    """Yield the connection, and then the connection with each CA of its bundle alone.

    OpenSSL verifies a certificate only with the first CA that has the name of its issuer. Go tries each of them, and needs
    one. A part of the bundle accepts nothing that the bundle does not.
    """
    yield connection
    authorities = _CERTIFICATE.findall(connection.ca_pem or "") if connection.verify else []
    for authority in authorities[:MOST_AUTHORITIES] if len(authorities) > 1 else ():
        yield replace(connection, ca_pem=authority)


def context_for(connection: Connection, client_certificate: tuple[str, str] | None) -> ssl.SSLContext:
    """Return a TLS context with the connection's CA and this client certificate.

    client_certificate: certificate and key as PEM text.
    Raises ConfigurationError if the CA, the certificate or the key cannot be parsed.
    """
    authorities = None
    if connection.ca_pem is not None:
        # The ssl module accepts only ASCII, and comments may contain other characters. An empty text means the system's trust store.
        authorities = connection.ca_pem.encode("ascii", "ignore").decode() or "\n"
    try:
        context = ssl.create_default_context(cadata=authorities)
    except (ssl.SSLError, ValueError) as exc:
        raise ConfigurationError(
            f"{connection.auth_source}: the CA certificate is not valid PEM",
            remedy="Check ca_cert, or certificate-authority of the kubeconfig",
        ) from exc
    # Clients in Go accept a CA without key identifiers, and an intermediate certificate as the anchor.
    context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0x20)
    context.verify_flags |= 0x80000  # X509_V_FLAG_PARTIAL_CHAIN, a name of the ssl module since Python 3.10
    if not connection.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if client_certificate:
        _load(context, *client_certificate, connection.auth_source)
    return context


def _load(context: ssl.SSLContext, certificate: str, key: str, origin: str) -> None:
    """Load the pair from memory. The ssl module accepts only paths, and a forked process may end without a clean-up."""
    with _private_file(f"{certificate}\n{key}\n".encode()) as path:
        try:
            # Without a password OpenSSL would ask the terminal for it if the key is encrypted.
            context.load_cert_chain(path, password="")
        except (ssl.SSLError, ValueError) as exc:
            raise ConfigurationError(
                f"{origin}: the client certificate and key are not a valid pair",
                remedy="Check client_cert and client_key, or the kubeconfig's user. Decrypt an encrypted key",
            ) from exc


@contextmanager
def _private_file(content: bytes) -> Iterator[str]:
    """Yield the path of a file with the content: anonymous memory on Linux, a file with mode 0600 elsewhere."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("certflow")
        path, on_disk = f"/proc/self/fd/{descriptor}", False
    else:
        descriptor, path = tempfile.mkstemp()
        on_disk = True
    try:
        os.write(descriptor, content)
        yield path
    finally:
        os.close(descriptor)
        if on_disk:
            os.unlink(path)


def proxy_for(connection: Connection) -> str | None:
    """Return the URL of the proxy: the connection's own, or HTTPS_PROXY and NO_PROXY as the kubernetes package reads them."""
    target = urlsplit(connection.host)
    environment = getproxies_environment()
    proxy = connection.proxy or environment.get(target.scheme)
    # The environment's NO_PROXY applies only to the environment's proxy.
    exceptions = connection.no_proxy or ("" if connection.proxy else environment.get("no", ""))
    if not proxy or (exceptions and proxy_bypass_environment(target.netloc, {"no": exceptions})):
        return None
    return _checked(proxy if "://" in proxy else f"http://{proxy}")


def _checked(proxy: str) -> str:
    """Return the URL of a proxy if it is valid. The error does not quote the URL, because it may contain a password."""
    try:
        is_usable = has_one_address(proxy) and proxy.isprintable()
    except ValueError:
        is_usable = False
    if not is_usable:
        raise ConfigurationError(
            "the proxy's address is not a URL",
            remedy="Check proxy, proxy-url of the kubeconfig, and HTTPS_PROXY",
        )
    return proxy


def has_one_address(url: str) -> bool:
    """Return True if the URL has a host, and urllib3 and urllib.parse read the same host and port. Raises ValueError.

    urllib3 opens the connections of requests. Those of port-forwards, the exceptions from the proxy, and messages follow urllib.parse. A
    backslash or a percent sign in a host would lead them to different servers, and so would a letter that IDNA 2003 (Python) and
    IDNA 2008 (urllib3) encode differently.
    """
    parts, other = urlsplit(url), parse_url(url)
    host = parts.hostname or ""
    is_same = host.encode("idna").decode() == str(other.host).strip("[]").lower()
    # From 2.8 on urllib3 decodes a host, except the zone of an IPv6 address.
    is_encoded = "%" in host and ":" not in host
    return bool(host) and not is_encoded and parts.port != 0 and parts.port == other.port and is_same


def user_info(url: str) -> str | None:
    """Return user name and password for make_headers, which encodes them as Latin-1. A password is UTF-8 (RFC 7617)."""
    parts = urlsplit(url)
    name, password = unquote(parts.username or ""), unquote(parts.password or "")
    return f"{name}:{password}".encode().decode("latin-1") if name else None
