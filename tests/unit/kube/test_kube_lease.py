# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A Lease: what its object says, who gets it, how it is kept, given back, lost, and done without."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube import _lease
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube._errors import (
    AlreadyExists,
    ApiError,
    Conflict,
    ConnectionFailed,
    Forbidden,
    KubeError,
    NotFound,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube._lease import (
    HeldByAnother,
    Lease,
    Terms,
)

pytestmark = pytest.mark.quick

NOW = datetime(2026, 6, 15, 12, 0, tzinfo=timezone.utc)
MINUTE = timedelta(minutes=1)
PATH = "/apis/coordination.k8s.io/v1/namespaces/apps/leases"


class Server:
    """An API server with a clock of its own. ``refused``: method -> what it answers instead."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.time = NOW
        self.refused: dict[str, KubeError] = {}
        self.asked: list[str] = []
        self._version = 0

    def store(self, body: Any) -> dict[str, Any]:
        self._version += 1
        metadata = {**body["metadata"], "uid": "1ea5e", "resourceVersion": str(self._version)}
        self.lease = {**copy.deepcopy(body), "metadata": metadata}
        return copy.deepcopy(self.lease)

    def held_by(self, holder: str, **changed: Any) -> None:
        spec = {**_lease.spec_of(holder, self.time, self.time, 0), **changed}
        self.store({"metadata": {"name": "certflow-hook"}, "spec": spec})

    @property
    def holder(self) -> str:
        return _lease.terms(self.lease or {}).holder


class Client:
    """What Lease uses of _kube._client.Client. ``lost``: the answer of the next write does not arrive."""

    def __init__(self, server: Server, seconds: float = 120) -> None:
        self.server = server
        self.deadline = time.monotonic() + seconds
        self.before_request: Callable[[], None] | None = None

    def now(self) -> datetime:
        return self.server.time

    def find(self, path: str) -> dict[str, Any] | None:
        self._ask("GET")
        assert path == f"{PATH}/certflow-hook"
        return copy.deepcopy(self.server.lease)

    def send(self, method: str, path: str, body: Any) -> dict[str, Any]:
        self._ask(method)
        there = self.server.lease
        assert path == (PATH if method == "POST" else f"{PATH}/certflow-hook")
        if method == "POST" and there is not None:
            raise AlreadyExists("it exists", status=409)
        if method != "POST" and there is None:
            raise NotFound("there is none", status=404)
        exactly = body["preconditions"] if method == "DELETE" else body["metadata"]
        if there is not None and exactly["resourceVersion"] != there["metadata"]["resourceVersion"]:
            raise Conflict("it has changed", status=409)
        if method == "DELETE":
            self.server.lease = None
            return {}
        return self.server.store(body)

    def _ask(self, method: str) -> None:
        self.server.asked.append(method)
        if method in self.server.refused:
            raise self.server.refused[method]


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def passing(server: Server, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Seconds pass at once, on both sides."""
    slept, clock = [0.0], time.monotonic

    def sleep(seconds: float) -> None:
        slept[0] += seconds
        server.time += timedelta(seconds=seconds)

    monkeypatch.setattr(time, "monotonic", lambda: clock() + slept[0])
    monkeypatch.setattr(time, "sleep", sleep)
    return sleep


def lease(server: Server, seconds: float = 120) -> Lease:
    client: Any = Client(server, seconds)
    return Lease(
        client,
        "apps",
        "certflow-hook",
        purpose="certificate of Service apps/hook",
        metadata={"labels": {"a": "b"}},
    )


def refusal(kind: type[KubeError], status: int | None = None) -> KubeError:
    return kind("no", status=status, message="leases are forbidden")


STAMP = "2026-06-15T12:00:00.000000Z"
# (spec, what it says, whether it is free a second later)
SAID: list[tuple[Any, Terms, bool]] = [
    (_lease.spec_of("a", NOW, NOW + MINUTE, 3), Terms("a", NOW, NOW + 2 * MINUTE), False),
    (_lease.spec_of("a", NOW, NOW - MINUTE, 0), Terms("a", NOW, NOW), True),
    ({}, Terms(), True),
    (None, Terms(), True),
    ({"holderIdentity": "a"}, Terms("a"), True),
    ({"holderIdentity": "a", "renewTime": STAMP}, Terms("a"), True),
    ({"holderIdentity": "a", "renewTime": "soon", "leaseDurationSeconds": 15}, Terms("a"), True),
    (
        {"holderIdentity": "a", "renewTime": STAMP, "leaseDurationSeconds": 15},
        Terms("a", None, NOW + MINUTE / 4),
        False,
    ),
    ({"renewTime": STAMP, "leaseDurationSeconds": 15}, Terms("", None, NOW + MINUTE / 4), True),
]


@pytest.mark.parametrize(("spec", "said", "is_free"), SAID)
def test_what_a_lease_says(spec: Any, said: Terms, is_free: bool) -> None:
    assert _lease.terms({"spec": spec}) == said
    assert said.is_free(NOW + timedelta(seconds=1)) is is_free


def test_one_takes_it_with_one_request_and_gives_it_back_with_another(server: Server) -> None:
    own = lease(server)
    own.acquire()
    assert server.holder == own.holder
    assert server.lease
    assert (server.lease["metadata"]["labels"], server.lease["spec"]["leaseDurationSeconds"]) == (
        {"a": "b"},
        60,
    )
    own.release()
    assert server.holder == ""
    assert (server.asked, own.problem) == (["POST", "DELETE"], "")


def test_who_never_took_it_gives_nothing_back(server: Server) -> None:
    server.held_by("other")
    lease(server).release()
    assert server.asked == []


def test_the_second_waits_for_the_first(server: Server, passing: Callable[[float], None]) -> None:
    server.held_by("other")
    own = lease(server)
    find, end = own._client.find, server.time + timedelta(seconds=5)

    def find_in_time(path: str) -> dict[str, Any] | None:
        if server.time > end:
            server.lease = None
        return find(path)

    own._client.find = find_in_time  # type: ignore[method-assign]
    own.acquire()
    assert server.holder == own.holder


def test_who_waits_in_vain_says_who_holds_it_since_when(
    server: Server, passing: Callable[[float], None]
) -> None:
    server.held_by("runner-3_1a2b", leaseDurationSeconds=600)
    with pytest.raises(HeldByAnother) as caught:
        lease(server, 30).acquire()
    line = str(caught.value)
    for words in (
        "Service apps/hook",
        "runner-3_1a2b holds Lease apps/certflow-hook",
        "since 2026-06-15 12:00:00",
        "12:10:00",
    ):
        assert words in line, line
    assert server.holder == "runner-3_1a2b"


@pytest.mark.parametrize("hours", [0, 5, -5])
def test_a_dead_holder_is_succeeded(server: Server, passing: Callable[[float], None], hours: int) -> None:
    """Whatever the clock that it wrote by."""
    server.time += timedelta(hours=hours)
    server.held_by("dead")
    server.time = NOW
    own = lease(server)
    own.acquire()
    assert server.holder == own.holder
    assert server.lease
    assert server.lease["spec"]["leaseTransitions"] == 1
    assert server.time <= NOW + timedelta(seconds=62)


def test_a_holder_that_goes_on_is_not_succeeded(server: Server, passing: Callable[[float], None]) -> None:
    holder = lease(server)
    holder.acquire()
    other = lease(server, 300)
    client: Any = holder._client
    find = other._client.find
    other._client.find = lambda path: (client.before_request(), find(path))[1]  # type: ignore[method-assign]
    with pytest.raises(HeldByAnother):
        other.acquire()
    assert server.holder == holder.holder
    assert server.asked.count("PUT") == 20


def test_an_answer_that_was_lost(server: Server) -> None:
    own = lease(server)
    server.held_by(own.holder)
    own.acquire()
    own.release()
    assert server.lease is None


def test_whoever_was_stopped_for_too_long_hears_of_it(
    server: Server, passing: Callable[[float], None]
) -> None:
    slow, fast = lease(server), lease(server)
    slow.acquire()
    passing(120)
    fast.acquire()
    client: Any = slow._client
    with pytest.raises(HeldByAnother, match=fast.holder):
        client.before_request()
    slow.release()
    assert server.holder == fast.holder, "not its own any more"


def test_a_lease_that_somebody_deleted_is_taken_again(
    server: Server, passing: Callable[[float], None]
) -> None:
    own = lease(server)
    own.acquire()
    server.lease = None
    passing(20)
    client: Any = own._client
    client.before_request()
    assert server.holder == own.holder


@pytest.mark.parametrize("method", ["POST", "GET", "PUT", "DELETE"])
def test_without_the_right_it_goes_on_and_says_so(
    server: Server, passing: Callable[[float], None], method: str
) -> None:
    if method != "DELETE":
        server.held_by("dead", renewTime="2026-06-15T11:00:00.000000Z")
    server.refused[method] = refusal(Forbidden, 403)
    own = lease(server)
    own.acquire()
    own.release()
    assert "Lease apps/certflow-hook cannot be written" in own.problem
    assert "leases are forbidden" in own.problem
    assert "docs/rbac.md" in own.problem


def test_without_the_right_to_renew_it_goes_on_too(server: Server, passing: Callable[[float], None]) -> None:
    own = lease(server)
    own.acquire()
    server.refused["PUT"] = refusal(Forbidden, 403)
    passing(20)
    client: Any = own._client
    client.before_request()
    assert own.problem
    assert client.before_request is None


@pytest.mark.parametrize("error", [refusal(ApiError, 503), refusal(ConnectionFailed)])
def test_an_api_server_that_does_not_answer(server: Server, error: KubeError) -> None:
    own = lease(server)
    server.refused["POST"] = error
    with pytest.raises(type(error)):
        own.acquire()
    server.refused = {"DELETE": error}
    own = lease(server)
    own.acquire()
    own.release()
    assert own.problem == "", "it ends by itself"
