# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Send requests to one API server within one deadline, and repeat them if that is safe.

Decision 0012 has the reasons for a client of its own.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Callable, TypeVar
from urllib.parse import quote, urlencode, urlsplit

from .._base.times import ServerClock, describe_difference
from .._process import interrupt
from .errors import (
    MOST_LIST_MEMORY,
    AnswerTooLarge,
    ApiError,
    ConfigurationError,
    ConnectionFailed,
    KubeError,
    ListExpired,
    NotFound,
    TimedOut,
    as_list,
    check_memory,
    delay,
    error_from,
    is_transient,
    memory_of,
    object_from,
    warning_texts,
)
from .login import transport
from .login.connection import Connection, is_unknown_ca, unknown_ca
from .login.credentials import Credentials
from .login.transport import LEAST_SECONDS, ReadLimits, context_for, proxy_for

try:
    import urllib3
    from urllib3 import __version__ as URLLIB3_VERSION  # type: ignore[attr-defined]  # noqa: N812
    from urllib3._collections import HTTPHeaderDict  # urllib3 1.26 has it there only
    from urllib3.exceptions import (
        ConnectTimeoutError,
        HTTPError,
        InsecureRequestWarning,
        NewConnectionError,
        ProxyError,
        SSLError,
    )
    from urllib3.util import make_headers
    from urllib3.util.ssl_match_hostname import CertificateError
except ImportError:  # reported by _ansible, with the interpreter's path
    pass

CONNECT_SECONDS = 5.0
READ_SECONDS = 30.0
# A webhook may take 30 s to time out, and a create may call several. The API server ends a request after 60 s.
PATIENT_SECONDS = 65.0
# A server that has answered once is expected to come back. A server that never did probably has the wrong address.
FIRST_CONTACT_SECONDS = 5.0
# An API server that has just started refuses permitted requests until it has read its roles and ServiceAccounts.
STARTING_SECONDS = 20.0
PAGE = "500"
# A page that is too large is divided by this.
PAGE_PARTS = 8
JSON_PATCH = "application/json-patch+json"
# Lists without specifications and states (https://kubernetes.io/docs/reference/using-api/api-concepts/).
METADATA = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
# Every resource of every group in one answer (KEP-3352). Older API servers answer with the list of groups.
DISCOVERY = ",".join(
    [
        *(
            f"application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"
            for version in ("v2", "v2beta1")
        ),
        "application/json",
    ]
)
APPLY_PATCH = "application/apply-patch+yaml"  # JSON is YAML too
_T = TypeVar("_T")
SLOW_REMEDY = "Increase wait_timeout if the connection is slow, or check which server answers at the API server's address"


@dataclass(frozen=True)
class HttpAnswer:
    """A complete HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class _HttpCall:
    """A request without its headers."""

    method: str
    path: str
    query: Mapping[str, str] | None
    payload: bytes | None
    #: The type of the payload.
    content: str
    #: The longest pause in the answer, in seconds.
    patience: float
    #: Only the lines of the answer that begin with one of these are kept.
    beginnings: tuple[bytes, ...] = (b"",)


@dataclass(frozen=True)
class _FailedAttempt:
    """The failure of one attempt."""

    error: KubeError
    #: True if the server answered.
    is_answered: bool = False
    #: True if the request may have reached the server.
    is_sent: bool = True
    #: True if another attempt would fail too.
    is_final: bool = False
    #: True if the request may have taken effect.
    is_uncertain: bool = False
    #: The header Retry-After, in seconds.
    retry_after: str | None = None

    def may_repeat(self, idempotent: bool) -> bool:
        """Return True if another attempt may succeed and does no harm."""
        return (
            is_transient(self.error, idempotent=idempotent)
            if self.is_answered
            else not self.is_final and (idempotent or not self.is_sent)
        )


class Client:
    """A connection to one API server, with one deadline. Its methods raise the errors of ``errors``.

    A signal does not cut a write (see shield). The client reads the answer and adds it to ``written`` before the signal
    interrupts the run.

    deadline: a time of ``time.monotonic()``. After it the client does not repeat requests, does not read the rest of an answer,
      and does not read further pages of a list. A request that begins later has LEAST_SECONDS.
    overtime: the seconds after the deadline in which requests are still sent. An operation that only reads has a limit, because each of
      its many requests would take LEAST_SECONDS of a silent server. A write must be able to complete or to undo its work.
    list_memory: the bytes that a list may need, or all lists together if there is a limit of overtime: an audit keeps what it reads.
    warnings: the texts of Warning headers.
    written: each write that took effect, such as "PUT /api/...".
    left: the state in which this run left an object, None if it deleted the object. Only of the paths that the caller put there.
    hooks: called in turn before each request. Requests of a hook call no hooks.
    requests, received: the number of requests that were sent, repeated ones included, and the bytes of their answers.
    """

    def __init__(self, connection: Connection, *, user_agent: str, deadline: float) -> None:
        self.connection = connection
        self.host = connection.host
        self.host_name = urlsplit(connection.host).hostname or ""
        self.auth_source = connection.auth_source
        self.deadline = deadline
        self.overtime = float("inf")
        self.list_memory = MOST_LIST_MEMORY
        self.warnings: list[str] = []
        self.written: list[str] = []
        self.left: dict[str, Mapping[str, Any] | None] = {}
        self.hooks: list[Callable[[], None]] = []
        self.requests = 0
        self.received = 0
        self._has_hooks = True
        self._user_agent = user_agent
        self._credentials = Credentials(connection)
        self._bounds = ReadLimits()
        #: The bytes of the last answer, without compression.
        self._content_size = 0
        #: The bytes that its object needs in memory at most.
        self._memory = 0
        self._pool: Any = None
        self._pool_certificate: tuple[str, str] | None = None
        self._answered = False
        self._broken_at = float("-inf")
        self._clock = ServerClock()

    def for_thread(self) -> Client:
        """Return a client for another thread: the same server and credentials, but its own connection and no hooks."""
        other = Client(self.connection, user_agent=self._user_agent, deadline=self.deadline)
        other._credentials = self._credentials
        other._clock = self._clock
        other.overtime = self.overtime
        other._answered = self._answered
        return other

    def now(self) -> datetime:
        """Return the time by the API server's clock, UTC. Before the first answer it is the time of this machine."""
        return self._clock.now()

    def earlier(self) -> datetime:
        """Return the earlier time of the API server's clock and of this machine's, UTC.

        A certificate begins then, and trust that has not ended by then stays. Another API server may have the other clock's time.
        """
        return self._clock.earlier()

    def later(self) -> datetime:
        """Return the later time of the API server's clock and of this machine's, UTC. A renewal is due by it."""
        return self._clock.later()

    def clock_warnings(self) -> tuple[str, ...]:
        """Return a warning if the two clocks differ too much."""
        return tuple(filter(None, [describe_difference(self._clock.ahead)]))

    def get(self, path: str, query: Mapping[str, str] | None = None, accept: str = "") -> dict[str, Any]:
        """Return an object or a list. accept: METADATA, DISCOVERY, "" for whole objects."""
        return self._request("GET", path, query, accept=accept)

    def find(self, path: str) -> dict[str, Any] | None:
        """Return the object, None if it does not exist."""
        try:
            return self.get(path)
        except NotFound:
            return None

    def text(
        self, path: str, query: Mapping[str, str] | None = None, beginnings: tuple[str, ...] = ("",)
    ) -> str:
        """Return an answer that is not an object, such as a pod's log.

        beginnings: keep only the lines that begin with one of these.
        """
        kept = tuple(text.encode() for text in beginnings)
        return str(self._request("GET", path, query, plain=True, beginnings=kept)["text"])

    def list_all(self, path: str, query: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Return the whole list: the first page with the items of all pages."""
        try:
            pages = list(self.kept_pages(path, query))
        except ListExpired:  # read all items at once, as client-go's pager does
            pages = [as_list(path, self.get(path, query))]
        return {**pages[0], "items": [item for page in pages for item in page.get("items") or []]}

    def kept_pages(self, path: str, query: Mapping[str, str] | None = None) -> Iterator[dict[str, Any]]:
        """Yield the pages of a list whose items the caller keeps. Raises AnswerTooLarge if they would need too much memory."""
        memory = 0
        for page in self.pages(path, query):
            memory += self._memory
            check_memory(f"GET {path}: the list", memory, self.list_memory)
            if self.overtime < float("inf"):
                self.list_memory -= memory
                memory = 0
            yield page

    def pages(
        self, path: str, query: Mapping[str, str] | None = None, accept: str = ""
    ) -> Iterator[dict[str, Any]]:
        """Yield the List object of each page. Raises TimedOut for a page that begins after the deadline.

        A page that is too large is read again in smaller pages.
        accept: METADATA, "" for whole objects.
        """
        least = time.monotonic() + LEAST_SECONDS
        tokens: set[str] = set()
        more = {"limit": PAGE, **(query or {})}
        while True:
            try:
                page = as_list(path, self.get(path, more, accept))
            except AnswerTooLarge:
                size = int(more["limit"])
                if size == 1:
                    raise
                more["limit"] = str(-(-size // PAGE_PARTS))
                continue
            yield page
            token = str((page.get("metadata") or {}).get("continue") or "")
            if not token:
                return
            if token in tokens:
                raise ApiError(
                    f"GET {path}: the API server repeats the pages of the list",
                    evidence=(f"{len(tokens) + 1} pages were read",),
                    remedy="Check which server answers at the API server's address",
                )
            tokens.add(token)
            if time.monotonic() > max(self.deadline, least):
                raise TimedOut(
                    f"GET {path}: the list did not end in time",
                    evidence=(f"{len(tokens)} pages were read",),
                    remedy=SLOW_REMEDY,
                )
            more["continue"] = token

    def create(
        self, path: str, body: Mapping[str, Any], *, dry_run: bool = False, idempotent: bool = False
    ) -> dict[str, Any]:
        """Create an object with POST and return it.

        idempotent: True to repeat the request after a lost answer. The caller recognises its own object (AlreadyExists).
        """
        return self._request("POST", path, _dry(dry_run), body, idempotent=dry_run or idempotent)

    def try_create(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Create an object by a dry run. Do not repeat the request, because the caller wants to know each failure."""
        return self._request("POST", path, _dry(True), body, once=True)

    def try_get(self, path: str) -> dict[str, Any]:
        """Return an object. Do not repeat the request, and wait longer for the answer."""
        return self._request("GET", path, once=True)

    def review(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the answer to a review, such as SelfSubjectAccessReview, which stores nothing."""
        return self._request("POST", path, None, body, stores=False)

    def replace(self, path: str, body: Mapping[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
        """Replace an object with PUT. The object has the resourceVersion with which it was read."""
        return self._request("PUT", path, _dry(dry_run), body)

    def patch(self, path: str, operations: list[dict[str, Any]], *, dry_run: bool = False) -> dict[str, Any]:
        """Change an object by a JSON patch (RFC 6902) and return it."""
        return self._request("PATCH", path, _dry(dry_run), operations, content=JSON_PATCH)

    def apply(
        self,
        path: str,
        body: Mapping[str, Any],
        *,
        manager: str,
        takes_fields: bool = True,
        dry_run: bool = False,
    ) -> dict[str, Any]:
        """Create or change an object by server-side apply.

        takes_fields: ``manager`` takes fields over from other managers. If False, such a field leads to Conflict.
        """
        query = {"fieldManager": manager, "force": str(takes_fields).lower(), **(_dry(dry_run) or {})}
        return self._request("PATCH", path, query, body, content=APPLY_PATCH)

    def delete(
        self,
        path: str,
        *,
        uid: str | None = None,
        resource_version: str = "",
        propagation: str = "",
        dry_run: bool = False,
    ) -> None:
        """Delete an object.

        uid: delete only the object with this UID. Another object of the name leads to Conflict.
        resource_version: delete the object only at this version. A later write leads to Conflict.
        propagation: what happens to the objects that it owns: "Orphan", "Foreground", "Background", "" for the kind's default.
        """
        body: dict[str, Any] = {"kind": "DeleteOptions", "apiVersion": "v1"}
        read = {"uid": uid, "resourceVersion": resource_version}
        body["preconditions"] = {key: value for key, value in read.items() if value}
        if propagation:
            body["propagationPolicy"] = propagation
        if dry_run:
            body["dryRun"] = ["All"]  # the API server ignores the query if there is a body
        self._request("DELETE", path, _dry(dry_run), body)

    def send(self, method: str, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Send a write that ``written`` omits, such as a write of a Lease. Repeat it after a lost answer."""
        return self._request(method, path, None, body, is_noted=False)

    def watch(self, path: str, query: Mapping[str, str], *, seconds: float) -> Iterator[dict[str, Any]]:
        """Yield events until the server ends the watch after ``seconds`` (at least 1), or until the connection breaks.

        A watch without events is not an error. Proxies buffer watches, so callers read the objects again afterwards.
        """
        headers = self._headers()
        self.prepare()
        seconds = max(1.0, seconds)
        target = self._url(path, {**query, "watch": "true", "timeoutSeconds": str(int(seconds))})
        timeout = urllib3.Timeout(connect=CONNECT_SECONDS, read=seconds + 1.0)
        self._bounds.start(f"GET {path}: the watch", until=time.monotonic() + seconds + 1.0)
        try:
            response = self._open("GET", target, headers, timeout)
        except (HTTPError, TimedOut, AnswerTooLarge):
            self._broken_at = time.monotonic()
            return
        try:
            if response.status < 400:
                yield from _events(response)
        except (HTTPError, OSError, TimedOut, AnswerTooLarge, ValueError, RecursionError):
            self._broken_at = time.monotonic()
        finally:
            response.close()

    def websocket_request(self, path: str, query: Mapping[str, str]) -> tuple[str, list[str]]:
        """Return the URL and headers of a WebSocket, with the server and identity of the requests."""
        headers = self._headers()
        headers.discard(
            "Accept"
        )  # the container runtime refuses a stream for a client that accepts only JSON
        return f"ws{self._url(path, query)[4:]}", [f"{name}: {value}" for name, value in headers.items()]

    def dial(self, bounds: ReadLimits) -> socket.socket:
        """Open a separate connection to the API server, with the CA, certificate and proxy of the requests.

        Raises TimedOut, OSError, ConfigurationError.
        """
        return self._with_each_authority(lambda connection: self._dial(connection, bounds))

    def _dial(self, settings: Connection, bounds: ReadLimits) -> socket.socket:
        target, proxy = urlsplit(self.host), proxy_for(settings)
        host = target.hostname or ""
        port = target.port or (443 if target.scheme == "https" else 80)
        if proxy:
            gateway = urlsplit(proxy)
            if gateway.scheme != "http":  # the tunnel's request has the login of the proxy
                cause = f"a stream through a proxy with the scheme {gateway.scheme} is not supported. Use an http proxy"
                raise OSError(None, cause)
            connection = transport.dial(gateway.hostname or "", gateway.port or 80, bounds)
        else:
            connection = transport.dial(host, port, bounds)
        with contextlib.ExitStack() as stack:
            stack.enter_context(connection)
            if proxy:
                transport.tunnel(connection, host, port, self._proxy_headers(proxy))
            if target.scheme == "https":
                context = context_for(settings, self._credentials.client_certificate)
                context.sslsocket_class = transport.bounded_class(ssl.SSLSocket, bounds)
                connection.settimeout(bounds.left())
                connection = context.wrap_socket(connection, server_hostname=settings.tls_server_name or host)
            stack.pop_all()
        return connection

    def _proxy_headers(self, proxy: str) -> dict[str, str]:
        return dict(
            make_headers(**{"proxy_basic_auth": transport.user_info(proxy), **self.connection.proxy_headers})
        )

    def close(self) -> None:
        """Close the open connection. The next request opens another one, perhaps to another API server."""
        if self._pool is not None:
            self._pool.clear()
            self._pool = None

    def _note(self, method: str, path: str, answer: Mapping[str, Any]) -> None:
        self.written.append(f"{method} {path}")
        if method == "POST":
            path = f"{path}/{(answer.get('metadata') or {}).get('name', '')}"
        if path in self.left:
            self.left[path] = None if method == "DELETE" else answer

    def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        *,
        content: str = "application/json",
        accept: str = "",
        idempotent: bool = True,
        once: bool = False,
        plain: bool = False,
        stores: bool = True,
        is_noted: bool = True,
        beginnings: tuple[bytes, ...] = (b"",),
    ) -> dict[str, Any]:
        if time.monotonic() > self.deadline + self.overtime:
            raise TimedOut(
                f"{method} {path} was not sent, because the time of the task has ended", remedy=SLOW_REMEDY
            )
        first_contact = time.monotonic() + FIRST_CONTACT_SECONDS
        payload = None if body is None else json.dumps(body).encode()
        patience = PATIENT_SECONDS if once else READ_SECONDS
        call = _HttpCall(method, path, query, payload, content, patience, beginnings)
        is_write = stores and method != "GET" and "dryRun" not in (query or {})
        attempt, renewed, uncertain = 0, False, False
        while True:
            # An exec plugin may take a minute, so the hooks check the Lease after it.
            headers = self._headers()
            headers["Accept"] = accept or headers["Accept"]
            self.prepare()
            with interrupt.shield(is_write):
                outcome = self._attempt(call, headers, plain=plain)
                if not isinstance(outcome, _FailedAttempt):
                    if is_write and is_noted:
                        self._note(method, path, outcome)
                    return outcome
                error = outcome.error
                if error.status == 401 and self._credentials.renewable and not renewed:
                    renewed = True
                    self._credentials.renew()
                    continue
                again = outcome.may_repeat(idempotent) or self._is_starting(error)
                uncertain = uncertain or outcome.is_uncertain
                pause = delay(attempt, outcome.retry_after)
                give_up = self.deadline if self._answered else min(self.deadline, first_contact)
                if once or not again or interrupt.is_waiting() or time.monotonic() + pause > give_up:
                    if uncertain and is_write:
                        error.evidence += (f"{method} {path} was sent. It is not known if it took effect",)
                    try:
                        raise error
                    finally:  # the frames of the error hold the answer, and would hold themselves
                        del error, outcome
            time.sleep(pause)
            attempt += 1

    def _attempt(self, call: _HttpCall, headers: Any, *, plain: bool) -> dict[str, Any] | _FailedAttempt:
        """Send a request once."""
        try:
            response = self._send(call, headers)
        except HTTPError as exc:
            error = self._unreachable(exc)
            error.__cause__ = exc
            self._broken_at = time.monotonic()
            never_sent = (NewConnectionError, ConnectTimeoutError)
            is_final, is_sent = _distrusted(exc), not isinstance(_root(exc), never_sent)
            return _FailedAttempt(
                error, is_final=is_final, is_sent=is_sent, is_uncertain=is_sent and not is_final
            )
        except (TimedOut, AnswerTooLarge) as exc:
            return _FailedAttempt(exc, is_final=True, is_uncertain=True)
        self._answered = True
        try:
            content = self._taken(call.method, call.path, response, plain=plain)
        except KubeError as exc:
            is_uncertain = response.status < 300 or response.status >= 500
            retry_after = response.headers.get("Retry-After")
            return _FailedAttempt(exc, is_answered=True, is_uncertain=is_uncertain, retry_after=retry_after)
        if (
            not plain
        ):  # an object comes from the API server, but a page may come from a proxy with another clock
            self._clock.set_once(response.headers.get("Date"))
        return content

    def _is_starting(self, error: KubeError) -> bool:
        """Return True if the error may come from an API server that was restarted during this run."""
        return error.status in (401, 403) and time.monotonic() < self._broken_at + STARTING_SECONDS

    def _taken(self, method: str, path: str, response: HttpAnswer, *, plain: bool) -> dict[str, Any]:
        """Return the content of the answer. Raises KubeError for an answer with an error."""
        if response.status >= 300:
            raise error_from(method, path, response.status, response.body, auth_source=self.auth_source)
        if plain:
            return {"text": response.body.decode("utf-8", "replace")}
        self._memory = check_memory(f"{method} {path}: the answer", memory_of(response.body))
        return object_from(method, path, response.status, response.body)

    def prepare(self) -> None:
        """Call the hooks, for example the check of a Lease. Call it before other network work too.

        Raises what a hook raises. The hooks after it are not called then.
        """
        if not self._has_hooks:
            return
        with self.without_hooks():
            for hook in tuple(self.hooks):
                hook()

    @contextlib.contextmanager
    def without_hooks(self) -> Iterator[None]:
        """Send the requests of the block without a call of the hooks."""
        had_hooks = self._has_hooks
        self._has_hooks = False
        try:
            yield
        finally:
            self._has_hooks = had_hooks

    def _send(self, call: _HttpCall, headers: Any) -> HttpAnswer:
        if call.payload is not None:
            headers["Content-Type"] = call.content
        # The API server compresses metrics, and answers of 128 KiB or more.
        headers["Accept-Encoding"] = "gzip"
        left = max(LEAST_SECONDS, self.deadline - time.monotonic())
        timeout = urllib3.Timeout(connect=min(CONNECT_SECONDS, left), read=min(call.patience, left))
        what = f"{call.method} {call.path}: the answer"
        size = 0 if call.beginnings == (b"",) else transport.READ_AND_DROPPED_BYTES
        self._bounds.start(what, until=time.monotonic() + left, size=size, remedy=SLOW_REMEDY)
        url = self._url(call.path, call.query)
        self.requests += 1
        response = self._open(call.method, url, headers, timeout, body=call.payload)
        try:
            kept = call.beginnings if response.status < 300 else (b"",)
            answer = HttpAnswer(response.status, response.headers, self._whole(response, kept))
        finally:
            self.received += self._bounds.received
            response.close()
        for text in warning_texts(answer.headers.get("Warning")):
            if text not in self.warnings:
                self.warnings.append(text)
        return answer

    def _whole(self, response: Any, beginnings: tuple[bytes, ...]) -> bytes:
        """Read an answer to its end, and return its lines with these beginnings. Check an announced length before reading.

        A small compressed answer may be large, so the size of the content has the same limit. What is compressed twice, or in another
        way than was asked for, is not decompressed: a few kilobytes could be gigabytes before their size is known.
        """
        length = response.headers.get("Content-Length", "")
        self._bounds.check_size(int(length[:20]) if length.isdecimal() else 0)
        self._content_size = 0
        kept: list[bytes] = []
        rest = b""
        is_gzip = response.headers.get("Content-Encoding", "").lower() == "gzip"
        chunks = response.stream(transport.READ_BYTES, decode_content=False)
        for chunk in _inflated(chunks) if is_gzip else chunks:
            self._content_size += len(chunk)
            self._bounds.check_content(self._content_size)
            if beginnings == (b"",):
                kept.append(chunk)
                continue
            *lines, rest = (rest + chunk).split(b"\n")
            kept += [line + b"\n" for line in lines if line.startswith(beginnings)]
            rest = rest[: transport.READ_BYTES]  # no line is longer
        return b"".join(kept) + (rest if rest.startswith(beginnings) else b"")

    def _open(self, method: str, url: str, headers: Any, timeout: Any, **options: Any) -> Any:
        """Send one request. urllib3 must not follow a redirect, because the token would go to another server."""
        certificate = self._credentials.client_certificate
        options.update(headers=headers, timeout=timeout, retries=False, redirect=False, preload_content=False)

        def request(connection: Connection) -> Any:
            is_part = connection is not self.connection
            if self._pool is None or is_part or certificate != self._pool_certificate:
                self.close()  # a renewed certificate needs a new handshake
                self._pool = self._make_pool(connection, certificate)
                self._pool_certificate = certificate
            return self._pool.request(method, url, **options)

        return self._with_each_authority(request)

    def _with_each_authority(self, connect: Callable[[Connection], _T]) -> _T:
        """Return the result of the first attempt in which the server's certificate is accepted."""
        failure: Exception | None = None
        for connection in transport.each_authority(self.connection):
            try:
                return connect(connection)
            except (HTTPError, ssl.SSLError) as exc:
                if (
                    not _distrusted(exc)
                    or "ostname mismatch" in str(exc)
                    or "IP address mismatch" in str(exc)
                ):
                    raise
                failure = failure or exc
        self.close()
        raise failure or AssertionError

    def _url(self, path: str, query: Mapping[str, str] | None) -> str:
        # A mistyped name must not lead to another path. Names do not contain "..", "?" and so on.
        if {".", ".."} & set(path.split("/")):
            raise ConfigurationError(f"no object can have the path {path}", remedy="Check the names")
        # What UTF-8 cannot encode becomes "?", which no name has.
        return f"{self.host}{quote(path, errors='replace')}" + (
            f"?{urlencode(query, errors='replace')}" if query else ""
        )

    def _headers(self) -> Any:
        """Return urllib3's dictionary, which may have a name twice. Several groups need several Impersonate-Group headers."""
        headers = HTTPHeaderDict({"Accept": "application/json", "User-Agent": self._user_agent})
        authorization = self._credentials.header(max(LEAST_SECONDS, self.deadline - time.monotonic()))
        if authorization:
            headers["Authorization"] = authorization
        if self.connection.impersonate_user:
            headers["Impersonate-User"] = self.connection.impersonate_user
        for group in self.connection.impersonate_groups:
            headers.add("Impersonate-Group", group)
        return headers

    def _make_pool(self, connection: Connection, certificate: tuple[str, str] | None) -> Any:
        arguments: dict[str, Any] = {"num_pools": 1, "maxsize": 1, "retries": False}
        if self.host.startswith("https:"):
            arguments["ssl_context"] = context = context_for(connection, certificate)
            context.sslsocket_class = transport.bounded_class(ssl.SSLSocket, self._bounds)
            if URLLIB3_VERSION.startswith("1."):
                # urllib3 1.26 compares the name itself, because it does not give OpenSSL IP addresses.
                context.check_hostname = False
            if connection.tls_server_name:
                arguments["server_hostname"] = arguments["assert_hostname"] = connection.tls_server_name
            if not connection.verify:
                arguments.update(cert_reqs="CERT_NONE", assert_hostname=False)
                urllib3.disable_warnings(InsecureRequestWarning)  # the user turned the verification off
        proxy = proxy_for(connection)
        if proxy is None:
            return self._bounded(urllib3.PoolManager(**arguments))
        if not proxy.startswith(("http://", "https://")):
            raise ConfigurationError(
                f"a proxy of kind {urlsplit(proxy).scheme} is not supported", remedy="Use an http(s) proxy"
            )
        return self._bounded(
            urllib3.ProxyManager(proxy, proxy_headers=self._proxy_headers(proxy), **arguments)
        )

    def _bounded(self, manager: Any) -> Any:
        """Make the manager open connections with this client's bounds."""
        manager.pool_classes_by_scheme = {
            scheme: _pool_class(kind, self._bounds) for scheme, kind in manager.pool_classes_by_scheme.items()
        }
        return manager

    def _unreachable(self, exc: Exception) -> ConnectionFailed:
        root = _root(exc)
        words = " ".join(str(root).split())
        if _distrusted(exc):
            reason = root.args[0] if isinstance(root, SSLError) and root.args else root
            if is_unknown_ca(self.connection, reason):
                return unknown_ca(self.connection, _tls_words(words))
            return ConnectionFailed(
                f"the server's certificate was not accepted: {_tls_words(words)}",
                code="server-untrusted",
                remedy=f"Check the address and the CA of {self.auth_source}. They belong to different clusters, or a "
                "proxy answered",
            )
        via = " through the proxy" if isinstance(exc, ProxyError) else ""
        return ConnectionFailed(
            f"the API server cannot be reached{via}: {_short(words)}",
            remedy="Check the address, the network, and the proxy settings on the machine that runs this task",
        )


def _pool_class(kind: Any, bounds: ReadLimits) -> Any:
    """Return urllib3's class of pools, with bounds on its connections below TLS."""

    class BoundedConnection(kind.ConnectionCls):  # type: ignore[misc]
        def _new_conn(self) -> socket.socket:
            return transport.bounded(super()._new_conn(), bounds)

    class BoundedPool(kind):  # type: ignore[misc]
        ConnectionCls = BoundedConnection

    return BoundedPool


def _dry(dry_run: bool) -> dict[str, str] | None:
    return {"dryRun": "All"} if dry_run else None


def _inflated(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the content of gzip in small parts. A chunk of 64 KiB may have 64 MiB of content."""
    inflater = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        for chunk in chunks:
            yield inflater.decompress(chunk, transport.READ_BYTES)
            while inflater.unconsumed_tail:
                yield inflater.decompress(inflater.unconsumed_tail, transport.READ_BYTES)
        yield inflater.flush()
    except zlib.error as exc:
        raise HTTPError(f"the answer is not gzip: {exc}") from None


def _events(response: Any) -> Iterator[dict[str, Any]]:
    begun: list[bytes] = []
    for chunk in response.stream(transport.READ_BYTES, decode_content=False):
        first, *others = chunk.split(b"\n")
        begun.append(first)
        if not others:
            continue
        lines = [b"".join(begun), *others[:-1]]
        begun = [others[-1]]
        for line in filter(None, lines):
            check_memory("an event of the watch", memory_of(line))
            event = json.loads(line)
            if isinstance(event, dict):
                yield event


def _root(exc: BaseException) -> BaseException:
    """Return the original error, which urllib3 wraps in MaxRetryError or ProxyError."""
    inner = getattr(exc, "original_error", None) or getattr(exc, "reason", None)
    return _root(inner) if isinstance(inner, BaseException) else exc


def _distrusted(exc: Exception) -> bool:
    """Return True if the server's certificate was refused. Another attempt would fail too."""
    root = _root(exc)
    reason = root.args[0] if isinstance(root, SSLError) and root.args else root
    return isinstance(reason, (ssl.SSLCertVerificationError, CertificateError))


def _tls_words(words: str) -> str:
    """Return OpenSSL's reason without its source line, such as "certificate verify failed: unable to get ..."."""
    return (words.partition("] ")[2] or words).split(" (_ssl.c")[0].strip()


def _short(words: str) -> str:
    """Return urllib3's message without its connection object and its time-outs."""
    text = words.partition(">: ")[2] or words.partition("): ")[2] or words
    return text.partition(" (read timeout=")[0].partition(" (connect timeout=")[0]
