# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A client limits its reads from a slow, repeating or endless server: bytes, pages, and the code of the error."""

from __future__ import annotations

import contextlib
import gc
import gzip
import itertools
import json
import time
import tracemalloc
import urllib.parse
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube import errors, port_forward
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.client import Client
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.errors import (
    ApiError,
    Forbidden,
    KubeError,
    TimedOut,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.login import transport
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.login.connection import (
    Connection,
    ExecPlugin,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.login.transport import ReadLimits

from tests.support.api_server import ScriptedAnswer, ScriptedServer, _context, serving
from tests.support.certificates import server_pki as pki
from tests.support.failures import fails
from tests.unit.plugins.module_utils._kube.raw import dripping, endless, guarded, talking

PATH = "/api/v1/things"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
SECONDS = 1.0
SIZE = 1 << 20
#: Bytes that the kernel and the test's server may still send after the client stops reading.
ON_THE_WAY = 8 << 20
PART = b"x" * 65536
CHUNK = b"10000\r\n" + PART + b"\r\n"

Talk = Callable[[], Iterable[bytes]]
DRIPS: dict[str, Talk] = {
    "status line": lambda: dripping(b"HTTP/1.1 "),
    "headers": lambda: dripping(HEAD + b"X-Long: "),
    "body with a length": lambda: dripping(HEAD + b"Content-Length: 65000\r\n\r\n{"),
    "body without a length": lambda: dripping(HEAD + b"Connection: close\r\n\r\n{"),
    "one chunk": lambda: dripping(HEAD + b"Transfer-Encoding: chunked\r\n\r\nffff\r\n{"),
    "length of a chunk": lambda: dripping(HEAD + b"Transfer-Encoding: chunked\r\n\r\n"),
}
FLOODS: dict[str, Talk] = {
    "body with a length": lambda: endless(HEAD + b"Content-Length: 99999999999999\r\n\r\n{", PART),
    "body without a length": lambda: endless(HEAD + b"Connection: close\r\n\r\n{", PART),
    "chunks": lambda: endless(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", CHUNK),
    "one chunk": lambda: endless(HEAD + b"Transfer-Encoding: chunked\r\n\r\nfffffffffff\r\n", PART),
}
READS: dict[str, Callable[[Client], Any]] = {
    "get": lambda own: own.get(PATH),
    "list": lambda own: own.list_all(PATH),
    "log": lambda own: own.text(PATH),
    "create": lambda own: own.create(PATH, {"kind": "Thing"}),
    "dry run": lambda own: own.try_create(PATH, {"kind": "Thing"}),
}


def client(url: str, **fields: Any) -> Client:
    connection = Connection(host=url, auth_source="test", **{"token": "t", **fields})
    return Client(connection, user_agent="test/1", deadline=time.monotonic() + SECONDS)


def failed(own: Client, read: Callable[[Client], Any]) -> KubeError:
    with pytest.raises(KubeError) as caught:
        guarded(lambda: read(own))
    return caught.value


@pytest.mark.parametrize("drip", DRIPS)
def test_an_answer_that_drips_ends_at_the_deadline(drip: str) -> None:
    with talking(DRIPS[drip]) as server:
        error = failed(client(server.url), READS["get"])
        assert error.code == "timed-out"
        assert server.connections == 1


@pytest.mark.parametrize("read", READS)
def test_every_kind_of_read_ends_at_the_deadline(read: str) -> None:
    with talking(DRIPS["body with a length"]) as server:
        own = client(server.url)
        error = failed(own, READS[read])
        assert error.code == "timed-out"
        assert server.connections == 1
        is_told = any("not known if it took effect" in text for text in error.evidence)
        assert is_told is (read == "create")


def test_tls_changes_nothing() -> None:
    ca = pki.ca()
    context = _context(pki.leaf("server", ca), None)
    with talking(DRIPS["one chunk"], context) as server:
        assert failed(client(server.url, ca_pem=ca.certificate), READS["get"]).code == "timed-out"


@pytest.mark.parametrize("flood", FLOODS)
@pytest.mark.parametrize("read", ["get", "log"])
def test_an_answer_without_an_end_is_not_kept(flood: str, read: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "ANSWER_BYTES", SIZE)
    with talking(FLOODS[flood]) as server:
        own = client(server.url)
        own.deadline += 60  # only the size limit ends it
        assert failed(own, READS[read]).code == "api-error"
        announced = flood == "body with a length"  # the client reads nothing of it
        assert own._bounds.received <= (0 if announced else SIZE) + 2 * len(PART)
        assert server.connections == 1
        time.sleep(0.2)  # the server notices that the connection is closed
        assert server.sent < SIZE + ON_THE_WAY


def compressed(content: bytes, times: int = 1, coding: bytes = b"gzip") -> Callable[[], Iterator[bytes]]:
    body = content
    for _time in range(times):
        body = gzip.compress(body)
    encoding = b", ".join([coding] * times)
    head = HEAD + b"Content-Encoding: %s\r\nContent-Length: %d\r\n\r\n" % (encoding, len(body))
    return lambda: iter([head, body])


@pytest.mark.parametrize("read", ["get", "log"])
def test_a_small_answer_of_a_large_content_is_not_kept(read: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "ANSWER_BYTES", SIZE)
    with talking(compressed(b" " * SIZE * 20)) as server:
        own = client(server.url)
        assert failed(own, READS[read]).code == "api-error"
        assert own._bounds.received < SIZE


def test_an_answer_that_is_compressed_too_much_is_not_kept() -> None:
    """The worst gzip is a thousand times smaller than its content."""
    with talking(compressed(b'{"items": [' + b"{}," * 8_000_000 + b"{}]}")) as server:
        own = client(server.url)
        own.deadline += 60
        assert failed(own, READS["get"]).code == "api-error"
        assert own._content_size < 2 * transport.FREE_BYTES


# Texts of JSON that need far more memory than their bytes: the shape, repeated.
DENSE: dict[str, Callable[[int], bytes]] = {
    "empty objects": lambda number: b"[" + b",".join([b"{}"] * number) + b"]",
    "objects of one key": lambda number: b"[" + b",".join([b'{"a":1}'] * number) + b"]",
    "objects in objects": lambda number: b"[" + b",".join([b'{"a":{}}'] * number) + b"]",
    "objects of six keys": lambda number: b"[" + b",".join([b'{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1}'] * number) + b"]",
    "one object of many keys": lambda number: b"{" + b",".join(b'"%x":1' % key for key in range(number)) + b"}",
    "empty lists": lambda number: b"[" + b",".join([b"[]"] * number) + b"]",
    "lists in lists": lambda number: b"[" + b",".join([b"[" * 50 + b"]" * 50] * (number // 50)) + b"]",
    "texts": lambda number: b"[" + b",".join(b'"%x"' % key for key in range(number)) + b"]",
    "numbers": lambda number: b"[" + b",".join(b"%d.5" % key for key in range(number)) + b"]",
    "one text": lambda number: b'["' + b"a" * number + b'"]',
    "a text with an emoji": lambda number: b'["' + b"a" * number + "\U0001f600".encode() + b'"]',
}  # fmt: skip


@pytest.mark.parametrize("shape", DENSE)
def test_the_memory_of_an_answer_is_known_before_it_is_parsed(shape: str) -> None:
    body = DENSE[shape](50_000)
    tracemalloc.start()
    try:
        json.loads(body)
        needed = tracemalloc.get_traced_memory()[1] + len(body)
    finally:
        tracemalloc.stop()
    assert needed < 1.6 * errors.memory_of(body)


@pytest.mark.parametrize("status", [200, 500])
def test_an_answer_of_too_many_objects_is_not_parsed(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    body = b'{"kind":"Status","items":' + DENSE["empty objects"](100_000) + b"}"
    monkeypatch.setattr(errors, "MOST_MEMORY", errors.memory_of(body) - 1)
    monkeypatch.setattr(json, "loads", lambda _body: pytest.fail("it was parsed"))
    head = HEAD.replace(b"200 OK", b"%d No" % status) + b"Content-Length: %d\r\n\r\n" % len(body)
    with talking(lambda: iter([head, body])) as server:
        assert failed(client(server.url), READS["get"]).code == "api-error"


def test_compressed_content_is_counted_in_small_parts() -> None:
    with talking(compressed(b'{"items": ["' + b" " * 60 * SIZE + b'"]}')) as server:
        own = client(server.url)
        own.deadline += 60
        tracemalloc.start()
        try:
            assert failed(own, READS["get"]).code == "api-error"
            assert tracemalloc.get_traced_memory()[1] < 3 * transport.FREE_BYTES
        finally:
            tracemalloc.stop()


def test_content_that_is_not_gzip_is_an_error() -> None:
    head = HEAD + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\n"
    with talking(lambda: iter([head, b"none"])) as server:
        assert failed(client(server.url), READS["get"]).code == "unreachable"


def test_an_answer_that_was_refused_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits for the collector of cycles, which seldom runs in a fork."""
    monkeypatch.setattr(transport, "ANSWER_BYTES", SIZE)
    gc.disable()
    tracemalloc.start()
    try:
        with talking(FLOODS["body without a length"]) as server:
            own = client(server.url)
            own.deadline += 60
            for _time in range(8):
                with contextlib.suppress(KubeError):
                    own.get(PATH)
            assert tracemalloc.get_traced_memory()[0] < 2 * SIZE
    finally:
        tracemalloc.stop()
        gc.enable()


class SizedPages(ScriptedServer):
    """A list of 20 objects in pages of the limit of the request."""

    def __init__(self) -> None:
        super().__init__([])
        self.limits: list[int] = []

    def next(self) -> ScriptedAnswer:
        query = urllib.parse.parse_qs(self.requests[-1].path.partition("?")[2])
        first, limit = int(query.get("continue", ["0"])[0]), int(query["limit"][0])
        self.limits.append(limit)
        names = list(range(20))[first : first + limit]
        token = {"continue": str(names[-1] + 1)} if names[-1] < 19 else {}
        return ScriptedAnswer(body={"metadata": token, "items": [{"n": n, "x": "y" * SIZE} for n in names]})


def test_a_page_that_is_too_large_is_read_in_smaller_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "ANSWER_BYTES", 3 * SIZE)
    pages = SizedPages()
    with serving(by=pages):
        own = client(pages.url)
        own.deadline += 60
        assert [item["n"] for item in own.list_all(PATH, {"limit": "16"})["items"]] == list(range(20))
        assert pages.limits == [16, *[2] * 10]
    monkeypatch.setattr(transport, "ANSWER_BYTES", SIZE)
    with serving(by=pages):
        own = client(pages.url)
        own.deadline += 60
        assert failed(own, READS["list"]).code == "api-error"
    assert pages.limits[-1] == 1


@pytest.mark.parametrize("is_reader", [True, False])
def test_the_lists_of_a_reader_share_their_memory(is_reader: bool) -> None:
    with serving(page("", 1000)) as server:
        own = client(server.url)
        own.overtime = 5.0 if is_reader else float("inf")
        own.list_memory = 5000
        own.list_all(PATH)
        if is_reader:
            assert failed(own, READS["list"]).code == "api-error"
        else:
            own.list_all(PATH)


def test_an_answer_that_is_compressed_twice_is_not_decompressed() -> None:
    """64 kilobytes that are compressed twice may be gigabytes."""
    content = b'{"items": []}' + b" " * SIZE
    with talking(compressed(content, times=2)) as server:
        own = client(server.url)
        assert failed(own, READS["get"]).code == "api-error"
        assert own._content_size < own._bounds.received < SIZE / 100
    for coding in (b"gzip", b"GZIP"):  # RFC 9110, section 8.4.1
        with talking(compressed(content, coding=coding)) as server:
            assert client(server.url).get(PATH) == {"items": []}


def test_the_limit_of_a_list_counts_the_content_of_its_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = itertools.count()

    def answer() -> Iterator[bytes]:
        body = json.dumps({"metadata": {"continue": str(next(tokens))}, "items": []}).encode()
        yield from compressed(body + b" " * (SIZE // 3))()

    with talking(answer) as server:
        own = client(server.url)
        own.deadline += 60
        own.list_memory = 2 * SIZE
        pages, read = own.pages, []

        def counted(*arguments: Any) -> Iterator[Any]:
            for page in pages(*arguments):
                read.append(page)
                yield page

        # The pages count, because a busy machine may repeat a request.
        monkeypatch.setattr(own, "pages", counted)
        assert failed(own, READS["list"]).code == "api-error"
        assert len(read) == 3


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_only_the_lines_with_a_wanted_beginning_are_kept(end: bytes) -> None:
    other = b"etcd_requests_total 1\n" * 10000
    content = other + b'wanted{name="x"} 1\n' + other + b"wanted_too 2" + end
    with talking(compressed(content)) as server:
        own = client(server.url)
        text = guarded(lambda: own.text(PATH, beginnings=("wanted", "absent")))
        assert text.splitlines() == ['wanted{name="x"} 1', "wanted_too 2"]
        assert own.received < len(content) / 20


def test_an_error_is_reported_whatever_lines_are_wanted() -> None:
    body = b'{"kind": "Status", "message": "it is forbidden"}'
    head = b"HTTP/1.1 403 Forbidden\r\nContent-Length: %d\r\n\r\n" % len(body)
    with talking(lambda: iter([head, body])) as server, pytest.raises(Forbidden) as caught:
        client(server.url).text(PATH, beginnings=("wanted",))
    assert caught.value.message == "it is forbidden"


def page(token: str, size: int = 1) -> ScriptedAnswer:
    return ScriptedAnswer(200, {"metadata": {"continue": token}, "items": [{"x": "y" * size}]})


@pytest.mark.parametrize(
    ("answers", "pages"),
    [
        ([page("a")], 2),
        ([page("a"), page("b"), page("a")], 3),
        ([page("a"), page("b"), page("b")], 3),
    ],
)
def test_a_list_that_repeats_its_token_is_an_error(answers: list[ScriptedAnswer], pages: int) -> None:
    with serving(*answers) as server:
        own = client(server.url)
        own.deadline += 60
        error = failed(own, READS["list"])
        assert (type(error), error.code, len(server.requests)) == (ApiError, "api-error", pages)


def test_a_list_with_ever_new_tokens_ends_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = itertools.count()
    with serving() as server:
        monkeypatch.setattr(server, "next", lambda: page(str(next(tokens))))
        own = client(server.url)
        assert failed(own, READS["list"]).code == "timed-out"
        asked = len(server.requests)
        assert asked > 1
        own.deadline, own.list_memory = time.monotonic() + SECONDS, 8000
        assert failed(own, READS["list"]).code == "api-error"  # the limit counts all pages together
        assert 2 < len(server.requests) - asked < 20


def test_a_reader_sends_nothing_long_after_the_deadline() -> None:
    with serving() as server:
        own = client(server.url)
        own.overtime, own.deadline = 5.0, time.monotonic() - 6.0
        for reader in (own, own.for_thread()):
            assert failed(reader, READS["get"]).code == "timed-out"
        assert server.requests == []
        own.deadline = time.monotonic() - 1.0
        own.get(PATH)


def test_after_the_deadline_a_list_of_pages_is_still_read_for_a_moment() -> None:
    with serving(page("a"), page("b"), page("")) as server:
        own = client(server.url)
        own.deadline = 0.0
        assert len(own.list_all(PATH)["items"]) == 3


def test_a_watch_that_drips_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    event = json.dumps({"type": "ADDED"}).encode() + b"\n"
    begun = HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\nffff\r\n" % (len(event), event)
    with talking(lambda: dripping(begun)) as server:
        own = client(server.url)
        assert guarded(lambda: list(own.watch(PATH, {}, seconds=1))) == [{"type": "ADDED"}]
    monkeypatch.setattr(transport, "ANSWER_BYTES", SIZE)
    with talking(FLOODS["body without a length"]) as server:
        assert guarded(lambda: list(client(server.url).watch(PATH, {}, seconds=60))) == []
        assert server.sent < SIZE + ON_THE_WAY


SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
STREAMS: dict[str, Talk] = {
    "status line": lambda: dripping(b"HTTP/1.1 101 "),
    "headers": lambda: dripping(SWITCHED + b"X: "),
    "body of a refusal": lambda: dripping(b"HTTP/1.1 403 No\r\nContent-Length: 65000\r\n\r\n"),
    "headers without an end": lambda: endless(SWITCHED, b"X-More: " + PART[:1000] + b"\r\n"),
}
#: The libraries have their own limits for some. The stream then breaks.
ENDS = ("timed-out", "api-error", "unreachable", "forbidden")


@pytest.mark.parametrize(
    ("stream", "way"),
    [("status line", "https"), ("status line", "proxy"), *((stream, "http") for stream in STREAMS)],
)
def test_a_port_forward_that_does_not_begin(stream: str, way: str) -> None:
    """A proxy sends its own answer slowly. The client does not reach the API server."""
    ca = pki.ca()
    context = _context(pki.leaf("server", ca), None) if way == "https" else None
    with talking(STREAMS[stream], context) as server:
        own = client(server.url, **({"ca_pem": ca.certificate} if context else {}))
        if way == "proxy":
            own = client("https://api.certflow.invalid:6443", proxy=server.url)
        bounds = ReadLimits("the stream", until=time.monotonic() + SECONDS, size=SIZE)
        error = failed(own, lambda own: port_forward.connect(own, "apps", "hook-0", 8443, bounds))
        assert error.code in ENDS
        assert bounds.received <= SIZE + len(PART)
        assert server.connections == 1
        if stream == "status line":
            assert error.code == "timed-out"


def test_every_address_of_a_host_shares_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as server:
        addresses = [(2, 1, 6, "", ("127.0.0.1", port)) for port in (1, server.port)]
        monkeypatch.setattr("socket.getaddrinfo", lambda *_arguments, **_options: addresses)
        transport.dial("h", 1, ReadLimits("it", until=time.monotonic() + 30)).close()
        over = ReadLimits("it", until=0.0)
        with pytest.raises(TimedOut):
            transport.dial("h", 1, over)


def test_an_exec_plugin_has_the_time_of_its_request(tmp_path: Path) -> None:
    program = tmp_path / "plugin"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    entry = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": str(program),
        "interactiveMode": "Never",
    }
    own = client("https://127.0.0.1:1", token=None, exec_plugin=ExecPlugin(entry, "", {}))
    with fails("authentication-failed", str(program), "s"):
        guarded(lambda: own.get(PATH))
