# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A Lease: its content, its acquisition, renewal, release and loss, and runs without it."""

from __future__ import annotations

import contextlib
import copy
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.errors import CertflowError
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.text import PERMISSIONS_PAGE
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube import lease as lease_module
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.errors import (
    AlreadyExists,
    ApiError,
    AuthenticationError,
    Conflict,
    ConnectionFailed,
    Forbidden,
    KubeError,
    NotFound,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.lease import (
    Lease,
    LeaseHeldError,
    LeaseLostError,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.lease_state import (
    LeaseState,
    lease_spec,
    read_lease,
)

from tests.support.failures import fails

pytestmark = pytest.mark.quick

NOW = datetime(2026, 6, 15, 12, 0, tzinfo=timezone.utc)
MINUTE = timedelta(minutes=1)


class LeaseServer:
    """An API server with a clock of its own. ``refused``: method -> what it answers instead."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.time = NOW
        self.refused: dict[str, KubeError] = {}
        self.asked: list[str] = []
        self._version = 0
        self.uid = "1ea5e"

    def store(self, body: Any) -> dict[str, Any]:
        self._version += 1
        metadata = {**body["metadata"], "uid": self.uid, "resourceVersion": str(self._version)}
        self.lease = {**copy.deepcopy(body), "metadata": metadata}
        return copy.deepcopy(self.lease)

    def held_by(self, holder: str, **changed: Any) -> None:
        spec = {**lease_spec(holder, self.time, self.time, 0), **changed}
        self.store({"metadata": {"name": "certflow-hook"}, "spec": spec})

    @property
    def holder(self) -> str:
        return read_lease(self.lease or {}).holder


class LeaseClient:
    """The part of _kube._client.Client that Lease uses. ``servers``: the namespaces, each with at most one Lease."""

    def __init__(self, server: LeaseServer, seconds: float = 120) -> None:
        self.server = server
        self.servers = {"apps": server}
        self.deadline = time.monotonic() + seconds
        self.hooks: list[Callable[[], None]] = []
        self._is_hooked = True
        self.is_closed = False

    def prepare(self) -> None:
        if self._is_hooked:
            with self.without_hooks():
                for hook in tuple(self.hooks):
                    hook()

    @contextlib.contextmanager
    def without_hooks(self) -> Iterator[None]:
        before, self._is_hooked = self._is_hooked, False
        try:
            yield
        finally:
            self._is_hooked = before

    def for_thread(self) -> LeaseClient:
        other = LeaseClient(self.server)
        other.servers = self.servers
        return other

    def close(self) -> None:
        self.is_closed = True

    def now(self) -> datetime:
        return self.server.time

    def find(self, path: str) -> dict[str, Any] | None:
        server = self._ask("GET", path)
        assert path.endswith("/leases/certflow-hook")
        return copy.deepcopy(server.lease)

    def send(self, method: str, path: str, body: Any) -> dict[str, Any]:
        server = self._ask(method, path)
        there = server.lease
        assert path.endswith("/leases" if method == "POST" else "/leases/certflow-hook")
        if method == "POST" and there is not None:
            raise AlreadyExists("it exists", status=409)
        if method != "POST" and there is None:
            raise NotFound("there is none", status=404)
        exactly = body["preconditions"] if method == "DELETE" else body["metadata"]
        if there is not None and exactly["resourceVersion"] != there["metadata"]["resourceVersion"]:
            raise Conflict("it has changed", status=409)
        if method == "DELETE":
            server.lease = None
            return {}
        return server.store(body)

    def _ask(self, method: str, path: str) -> LeaseServer:
        self.prepare()
        server = self.servers[path.split("/")[5]]
        server.asked.append(method)
        if method in server.refused:
            raise server.refused[method]
        return server


@pytest.fixture
def server() -> LeaseServer:
    return LeaseServer()


@pytest.fixture
def passing(server: LeaseServer, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Seconds pass at once, on both sides."""
    slept, clock = [0.0], time.monotonic

    def sleep(seconds: float) -> None:
        slept[0] += seconds
        server.time += timedelta(seconds=seconds)

    monkeypatch.setattr(time, "monotonic", lambda: clock() + slept[0])
    monkeypatch.setattr(lease_module, "elapsed", lambda: clock() + slept[0])
    monkeypatch.setattr(time, "sleep", sleep)
    return sleep


def lease(server: LeaseServer, seconds: float = 120, **options: Any) -> Lease:
    client: Any = LeaseClient(server, seconds)
    return Lease(
        client,
        "apps",
        "certflow-hook",
        purpose="certificate of Service apps/hook",
        metadata={"labels": {"a": "b"}},
        **options,
    )


def refusal(kind: type[KubeError], status: int | None = None) -> KubeError:
    return kind("no", status=status, message="leases are forbidden")


STAMP = "2026-06-15T12:00:00.000000Z"
FAR = "9999-12-31T23:59:59.999999"
LARGE = 2**31 - 1
# (spec, its content, True if it is free two minutes later)
SAID: list[tuple[Any, LeaseState, bool]] = [
    (lease_spec("a", NOW, NOW + MINUTE, 3), LeaseState("a", NOW, NOW + MINUTE, 60, 3), False),
    (lease_spec("a", NOW, NOW, 0), LeaseState("a", NOW, NOW, 60), True),
    (lease_spec("a", NOW, NOW + MINUTE / 60, 0), LeaseState("a", NOW, NOW + MINUTE / 60, 60), False),
    ({}, LeaseState(), True),
    (None, LeaseState(), True),
    ("a", LeaseState(), True),
    ([{}], LeaseState(), True),
    ({"renewTime": STAMP, "leaseDurationSeconds": 15}, LeaseState("", None, NOW, 15), True),
    ({"holderIdentity": 7}, LeaseState(), True),
    ({"holderIdentity": {"a": "b"}, "leaseDurationSeconds": 15}, LeaseState("", None, None, 15), True),
    ({"holderIdentity": "a"}, LeaseState("a"), False),
    ({"holderIdentity": "a", "renewTime": STAMP}, LeaseState("a", None, NOW), True),
    ({"holderIdentity": "a", "renewTime": "soon", "leaseDurationSeconds": 15}, LeaseState("a", None, None, 15), False),
    ({"holderIdentity": "a", "renewTime": 5, "acquireTime": [], "leaseDurationSeconds": 15}, LeaseState("a", None, None, 15), False),
    ({"holderIdentity": "a", "renewTime": STAMP[:-1]}, LeaseState("a", None, NOW), True),
    ({"holderIdentity": "a", "renewTime": f"{FAR}Z"}, LeaseState("a", None, datetime(9999, 12, 31, 23, 59, 59, 999999, timezone.utc)), False),
    ({"holderIdentity": "a", "renewTime": f"{FAR}-05:00"}, LeaseState("a"), False),
    ({"holderIdentity": "a", "renewTime": "0001-01-01T00:00:00+14:00"}, LeaseState("a"), False),
    ({"holderIdentity": "a", "renewTime": STAMP, "leaseDurationSeconds": LARGE}, LeaseState("a", None, NOW, LARGE), False),
    ({"holderIdentity": "a", "renewTime": STAMP, "leaseDurationSeconds": 10**30}, LeaseState("a", None, NOW, LARGE), False),
    ({"holderIdentity": "a", "renewTime": STAMP, "leaseDurationSeconds": -5}, LeaseState("a", None, NOW), True),
    ({"holderIdentity": "a", "renewTime": STAMP, "leaseDurationSeconds": "15"}, LeaseState("a", None, NOW), True),
    ({"holderIdentity": "a", "renewTime": STAMP, "leaseDurationSeconds": 1.5}, LeaseState("a", None, NOW), True),
    ({"holderIdentity": "a", "renewTime": STAMP, "leaseDurationSeconds": True}, LeaseState("a", None, NOW), True),
    ({"holderIdentity": "a", "leaseTransitions": -1}, LeaseState("a"), False),
    ({"holderIdentity": "a", "leaseTransitions": "many"}, LeaseState("a"), False),
    ({"holderIdentity": "a", "leaseTransitions": 10**30}, LeaseState("a", transitions=LARGE), False),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "said", "is_free"), SAID)
def test_the_content_of_a_lease(spec: Any, said: LeaseState, is_free: bool) -> None:
    """Timestamps count only if they are older than twice the duration."""
    assert read_lease({"spec": spec}) == said
    assert said.is_free(NOW + 2 * MINUTE, 0.0, 60) is is_free


@pytest.mark.parametrize(
    ("said", "unchanged", "is_free"),
    [
        (LeaseState("a", NOW, NOW + MINUTE * 600, 15), 14.9, False),
        (LeaseState("a", NOW, NOW + MINUTE * 600, 15), 15.0, True),
        (LeaseState("a"), 59.9, False),
        (LeaseState("a"), 60.0, True),
        # Every user with the role edit can write a duration of 68 years, and a renewal in the future.
        (LeaseState("a", NOW, NOW, LARGE), 599.9, False),
        (LeaseState("a", NOW, NOW, LARGE), 600.0, True),
        (LeaseState("a", NOW, NOW - MINUTE * 19.9, LARGE), 0.0, False),
        (LeaseState("a", NOW, NOW - MINUTE * 20, LARGE), 0.0, True),
        (LeaseState("a", NOW, NOW + MINUTE * 19.9, LARGE), 60.0, False),
        (LeaseState("a", NOW, NOW + MINUTE * 20, LARGE), 59.9, False),
        (LeaseState("a", NOW, NOW + MINUTE * 20, LARGE), 60.0, True),
        (LeaseState(""), 0.0, True),
    ],
)
def test_a_lease_that_stays_unchanged_for_its_duration_is_free(
    said: LeaseState, unchanged: float, is_free: bool
) -> None:
    assert said.is_free(NOW, unchanged, 60) is is_free


def test_the_end_of_a_lease_is_told_if_there_is_one() -> None:
    assert LeaseState("a", None, NOW, 60).until == NOW + MINUTE
    late = datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone.utc)
    assert [
        state.until
        for state in (LeaseState("a", None, late, LARGE), LeaseState("a", None, None, 5), LeaseState("a"))
    ] == [None] * 3


def test_one_takes_it_with_one_request_and_gives_it_back_with_another(server: LeaseServer) -> None:
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


def test_who_never_took_it_gives_nothing_back(server: LeaseServer) -> None:
    server.held_by("other")
    lease(server).release()
    assert server.asked == []


def test_the_second_waits_for_the_first(server: LeaseServer, passing: Callable[[float], None]) -> None:
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
    server: LeaseServer, passing: Callable[[float], None]
) -> None:
    server.held_by("runner-3_1a2b", leaseDurationSeconds=600)
    names = ("apps/hook", "runner-3_1a2b", "apps/certflow-hook", "2026-06-15", "12:00:00", "600", "12:10:00")
    with fails("lease-held", *names) as caught:
        lease(server, 30).acquire()
    assert "kubectl --namespace apps delete lease certflow-hook" in caught.value.remedy
    assert server.holder == "runner-3_1a2b"


@pytest.mark.parametrize("hours", [0, 5, -5])
def test_a_dead_holder_is_succeeded(
    server: LeaseServer, passing: Callable[[float], None], hours: int
) -> None:
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


def test_a_holder_that_goes_on_is_not_succeeded(
    server: LeaseServer, passing: Callable[[float], None]
) -> None:
    holder = lease(server)
    holder.acquire()
    other = lease(server, 300)
    client: Any = holder._client
    find = other._client.find
    other._client.find = lambda path: (client.prepare(), find(path))[1]  # type: ignore[method-assign]
    with pytest.raises(LeaseHeldError):
        other.acquire()
    assert server.holder == holder.holder
    assert server.asked.count("PUT") >= 10


def test_an_answer_that_was_lost(server: LeaseServer) -> None:
    own = lease(server)
    server.held_by(own.holder)
    own.acquire()
    own.release()
    assert server.lease is None


HOSTILE: list[dict[str, Any]] = [
    {"leaseDurationSeconds": LARGE},
    {"leaseDurationSeconds": 10**30},
    {"leaseDurationSeconds": LARGE, "renewTime": f"{FAR}-05:00", "acquireTime": f"{FAR}-05:00"},
    {"leaseDurationSeconds": LARGE, "holderIdentity": "x" * 70000},
]


@pytest.mark.parametrize("spec", HOSTILE)
def test_a_lease_of_an_absurd_duration_ends_the_wait_with_the_command_that_removes_it(
    server: LeaseServer, passing: Callable[[float], None], spec: dict[str, Any]
) -> None:
    server.held_by("other", **spec)
    with fails("lease-held", str(LARGE)) as caught:
        lease(server, 300).acquire()
    assert "kubectl --namespace apps delete lease certflow-hook" in caught.value.remedy
    assert len(str(caught.value)) < 600
    assert "PUT" not in server.asked


@pytest.mark.parametrize(
    "spec",
    [
        {"leaseDurationSeconds": -1},
        {"leaseDurationSeconds": None},
        {"leaseDurationSeconds": "soon", "leaseTransitions": "many"},
        {"renewTime": f"{FAR}Z"},
        {"renewTime": f"{FAR}Z", "leaseDurationSeconds": LARGE},
        {"renewTime": None, "acquireTime": 5, "leaseTransitions": 10**30},
    ],
)
def test_a_lease_that_does_not_say_how_long_it_lasts_lasts_as_long_as_this_run_s(
    server: LeaseServer, passing: Callable[[float], None], spec: dict[str, Any]
) -> None:
    server.held_by("other", **spec)
    own = lease(server)
    own.acquire()
    assert NOW + timedelta(seconds=59) <= server.time <= NOW + timedelta(seconds=62)
    assert server.holder == own.holder


def test_a_lease_of_68_years_counts_as_ten_of_this_run_s(
    server: LeaseServer, passing: Callable[[float], None]
) -> None:
    server.held_by("other", leaseDurationSeconds=LARGE)
    own = lease(server, 900)
    own.acquire()
    assert NOW + timedelta(seconds=599) <= server.time <= NOW + timedelta(seconds=602)
    assert server.holder == own.holder


def test_a_timestamp_counts_only_after_twice_the_duration(
    server: LeaseServer, passing: Callable[[float], None]
) -> None:
    """The holder's clock may differ from the API server's, so only the resourceVersion counts before that."""
    holder = lease(server)
    holder.acquire()
    server.time += timedelta(seconds=90)  # the clock of the API server jumps, and the holder continues
    other = lease(server, 20)
    with pytest.raises(LeaseHeldError):
        other.acquire()
    assert server.holder == holder.holder


# A change of the Lease while its holder does nothing: True if the holder goes on.
def _labelled(server: LeaseServer) -> None:
    found = copy.deepcopy(server.lease)
    assert found
    server.store({**found, "metadata": {**found["metadata"], "labels": {"c": "d"}}})


def _taken(server: LeaseServer) -> None:
    passed = server.time + timedelta(hours=1)
    server.time, before = passed, server.time
    lease(server).acquire()
    server.time = before


def _taken_and_released(server: LeaseServer) -> None:
    server.time += timedelta(hours=1)
    other = lease(server)
    other.acquire()
    other.release()


def _taken_over_by_the_same_name(server: LeaseServer) -> None:
    found = copy.deepcopy(server.lease)
    assert found
    server.store({**found, "spec": {**found["spec"], "leaseTransitions": 2}})


def _made_again(server: LeaseServer) -> None:
    assert server.lease
    server.uid = "0dd"
    server.store(server.lease)


MEANWHILE: dict[str, tuple[Callable[[LeaseServer], None], bool]] = {
    "nothing": (lambda _server: None, True),
    "labelled": (_labelled, True),
    "taken": (_taken, False),
    "taken and released": (_taken_and_released, False),
    "taken over by the same name": (_taken_over_by_the_same_name, False),
    "made again": (_made_again, False),
    "deleted": (lambda server: setattr(server, "lease", None), False),
}


@pytest.mark.parametrize("meanwhile", MEANWHILE)
def test_a_lease_is_held_without_a_gap_or_lost(
    server: LeaseServer, passing: Callable[[float], None], meanwhile: str
) -> None:
    change, goes_on = MEANWHILE[meanwhile]
    own = lease(server)
    own.acquire()
    client: Any = own._client
    passing(120)
    change(server)
    there = copy.deepcopy(server.lease)
    if goes_on:
        client.prepare()
        assert server.holder == own.holder
        assert own.is_held
        return
    with fails("lease-lost", "certflow-hook"):
        client.prepare()
    asked = len(server.asked)
    with pytest.raises(LeaseLostError):
        client.prepare()  # every further request fails too
    own.release()
    assert (server.lease, len(server.asked)) == (there, asked), "the other run's is left alone"
    assert client.hooks == []


def test_the_answer_to_a_renewal_that_was_lost(server: LeaseServer, passing: Callable[[float], None]) -> None:
    """The client sends the request again, and finds its own write."""
    own = lease(server)
    own.acquire()
    client: Any = own._client
    send = client.send

    def lose(method: str, path: str, body: Any) -> dict[str, Any]:
        client.send = send
        send(method, path, body)
        return send(method, path, body)  # type: ignore[no-any-return]

    client.send = lose
    passing(30)
    client.prepare()
    assert own.is_held


def test_a_lease_that_changes_all_the_time_is_lost(
    server: LeaseServer, passing: Callable[[float], None]
) -> None:
    own = lease(server)
    own.acquire()
    server.refused["PUT"] = refusal(Conflict, 409)
    passing(30)
    client: Any = own._client
    with pytest.raises(LeaseLostError):
        client.prepare()


def test_held_means_that_a_request_ends_before_the_lease_does(
    server: LeaseServer, passing: Callable[[float], None]
) -> None:
    own = lease(server)
    client: Any = own._client
    held = [own.is_held]
    for act in (
        own.acquire,
        lambda: passing(60 - lease_module.REQUEST_SECONDS - 1),
        lambda: passing(1),
        client.prepare,
        own.release,
    ):
        act()
        held.append(own.is_held)
    assert held == [False, True, True, False, True, False]


@pytest.mark.parametrize("method", ["POST", "GET", "PUT", "DELETE"])
def test_without_the_right_it_goes_on_and_says_so(
    server: LeaseServer, passing: Callable[[float], None], method: str
) -> None:
    if method != "DELETE":
        server.held_by("dead", renewTime="2026-06-15T11:00:00.000000Z")
    server.refused[method] = refusal(Forbidden, 403)
    own = lease(server)
    own.acquire()
    own.release()
    assert "Lease apps/certflow-hook cannot be written" in own.problem
    assert "leases are forbidden" in own.problem
    assert PERMISSIONS_PAGE in own.problem


def test_without_the_right_to_renew_it_goes_on_too(
    server: LeaseServer, passing: Callable[[float], None]
) -> None:
    own = lease(server)
    own.acquire()
    server.refused["PUT"] = refusal(Forbidden, 403)
    passing(30)
    client: Any = own._client
    client.prepare()
    assert own.problem
    assert client.hooks == []
    assert not own.is_held


def nested(outer: Lease) -> tuple[Lease, LeaseServer]:
    """Return a Lease in another namespace with the client of the first Lease, as that of k8s_csr during an upgrade."""
    client: Any = outer._client
    client.servers["inner"] = server = LeaseServer()
    return Lease(client, "inner", "certflow-hook", purpose="Service inner/hook", metadata={}), server


def test_a_lease_within_another_one_leaves_the_renewal_of_the_outer_one(
    server: LeaseServer, passing: Callable[[float], None]
) -> None:
    outer = lease(server)
    outer.acquire()
    inner, _ = nested(outer)
    inner.acquire()
    inner.release()
    passing(30)
    outer._client.prepare()
    assert outer.is_held
    assert server.asked == ["POST", "PUT"]


def test_a_lost_lease_refuses_the_requests_but_not_the_release_of_an_inner_lease(
    server: LeaseServer, passing: Callable[[float], None]
) -> None:
    outer = lease(server)
    outer.acquire()
    inner, beside = nested(outer)
    inner.acquire()
    passing(120)
    server.lease = None
    for _ in range(2):
        with pytest.raises(LeaseLostError):
            outer._client.find("/apis/x/v1/namespaces/inner/leases/certflow-hook")
    inner.release()
    assert beside.lease is None
    with pytest.raises(LeaseLostError):
        outer._client.prepare()
    outer.release()
    outer._client.prepare()


def test_a_release_keeps_the_deadline_of_the_client(server: LeaseServer) -> None:
    own = lease(server)
    deadline = own._client.deadline
    own.acquire()
    own.release()
    assert own._client.deadline == deadline


def test_a_loss_that_is_noticed_after_the_release_stops_no_request(server: LeaseServer) -> None:
    """A renewal by the thread may end after the release."""
    own = lease(server)
    own.acquire()
    own.release()
    own._lost_error(None)
    own._client.prepare()


def test_a_release_does_not_wait_for_a_long_renewal(
    server: LeaseServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The timeout of the task would end the operation in the middle of it."""
    monkeypatch.setattr(lease_module, "RELEASE_SECONDS", 0.2)
    monkeypatch.setattr(lease_module, "RENEW_SECONDS", 0.01)
    own = lease(server)
    begun, ends = threading.Event(), threading.Event()

    def renew(_client: Any) -> None:
        begun.set()
        ends.wait(30)

    monkeypatch.setattr(own, "_renew", renew)
    own.acquire()
    assert begun.wait(30)
    thread, started = thread_of(own), time.monotonic()
    own.release()
    taken, is_held, hooks = time.monotonic() - started, own.is_held, list(own._client.hooks)
    ends.set()
    thread.join(30)
    assert (is_held, hooks, thread.is_alive(), server.holder) == (False, [], False, own.holder)
    assert taken < 10


# Renewals by the thread


def eventually(is_true: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not is_true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_machine_that_slept_is_not_certain_of_its_lease(
    server: LeaseServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, awake = lease(server), time.clock_gettime
    own.acquire()
    held = [own.is_held]
    monkeypatch.setattr(time, "clock_gettime", lambda number: awake(number) + 600)
    held.append(own.is_held)
    own.release()
    assert held == [True, False]


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread renews at once and again and again."""
    monkeypatch.setattr(lease_module, "RENEW_SECONDS", 0.01)
    monkeypatch.setattr(lease_module, "RETRY_SECONDS", 0.01)


def silent(own: Lease) -> Lease:
    """Make each request of the main thread's client fail."""

    def fail(*_: Any) -> Any:
        raise AssertionError("a request of the main thread")

    client: Any = own._client
    client.send = client.find = fail
    return own


def thread_of(own: Lease) -> threading.Thread:
    assert own._thread
    return own._thread


@pytest.mark.usefixtures("soon")
def test_a_thread_renews_the_lease_while_the_main_thread_does_something_else(server: LeaseServer) -> None:
    own = lease(server)
    own.acquire()
    thread, send = thread_of(own), own._client.send
    silent(own)
    eventually(lambda: server.asked.count("PUT") >= 3)
    own._client.prepare()  # sends nothing
    own._client.send = send  # type: ignore[method-assign]
    own.release()
    assert not thread.is_alive()
    assert server.lease is None
    assert own._client.hooks == []


@pytest.mark.usefixtures("soon")
def test_a_loss_that_the_thread_sees_stops_the_next_request(server: LeaseServer) -> None:
    own = lease(server)
    own.acquire()
    server.held_by("other")
    eventually(lambda: not own.is_held)
    with pytest.raises(LeaseLostError):
        silent(own)._client.prepare()
    thread = thread_of(own)
    own.release()
    assert not thread.is_alive()
    assert server.holder == "other"


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("status", [401, 403, 429])
def test_a_refused_renewal_by_the_thread_makes_the_main_thread_look_at_once(
    server: LeaseServer, status: int
) -> None:
    own = lease(server, is_optional=False)
    own.acquire()
    server.refused["PUT"] = refusal(AuthenticationError if status == 401 else ApiError, status)
    eventually(lambda: own._is_doubtful)
    assert own.is_held
    with pytest.raises(CertflowError):
        own._client.prepare()
    own.release()


@pytest.mark.usefixtures("soon")
def test_a_failure_of_the_thread_is_tried_again(server: LeaseServer) -> None:
    own = lease(server)
    own.acquire()
    server.refused["PUT"] = refusal(ConnectionFailed)
    asked = server.asked.count("PUT")
    eventually(lambda: server.asked.count("PUT") > asked + 2)
    own._client.prepare()  # it is held for longer than a request takes
    version = (server.lease or {})["metadata"]["resourceVersion"]
    server.refused = {}
    eventually(lambda: (server.lease or {})["metadata"]["resourceVersion"] != version)
    own.release()
    assert server.lease is None


def test_there_is_no_thread_if_the_lease_is_refused(server: LeaseServer) -> None:
    server.refused["POST"] = refusal(Forbidden, 403)
    own = lease(server)
    own.acquire()
    assert own._thread is None


def test_the_thread_does_not_keep_the_process() -> None:
    """A run that ends without a release, as one that is killed within a library."""
    script = (
        "from tests.unit.plugins.module_utils._kube.test_lease import LeaseServer, lease\n"
        "own = lease(LeaseServer())\nown.acquire()\nprint(own._thread.is_alive())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.stdout.strip(), done.returncode) == ("True", 0), done.stderr


# Annotations, and the run before

NAME, VALUE = "certflow.kubernetes/step", "5 of 12"


def annotated(server: LeaseServer) -> Any:
    return (server.lease or {"metadata": {}})["metadata"].get("annotations")


@pytest.mark.parametrize("meanwhile", [lambda _server: None, _labelled])
def test_an_annotation_is_written_at_once_and_kept(
    server: LeaseServer, passing: Callable[[float], None], meanwhile: Callable[[LeaseServer], None]
) -> None:
    own = lease(server)
    own.acquire()
    own.annotate("other", "a")
    meanwhile(server)
    own.annotate(NAME, VALUE)
    expected = {"other": "a", NAME: VALUE}
    assert annotated(server) == expected
    assert server.lease
    server.lease["metadata"]["annotations"] = {}
    passing(30)
    own._client.prepare()
    assert annotated(server) == expected


def test_an_annotation_needs_the_lease(server: LeaseServer, passing: Callable[[float], None]) -> None:
    own = lease(server)
    own.acquire()
    passing(120)
    server.lease = None
    for _ in range(2):
        with pytest.raises(LeaseLostError):
            own.annotate(NAME, VALUE)
    assert server.lease is None


def test_an_annotation_that_is_refused_for_its_content_does_not_end_the_lease(server: LeaseServer) -> None:
    own = lease(server, is_optional=False)
    own.acquire()
    server.refused["PUT"] = refusal(ApiError, 422)
    with pytest.raises(ApiError):
        own.annotate(NAME, "x")
    server.refused = {}
    own.annotate("other", "a")
    assert annotated(server) == {"other": "a"}


def test_an_optional_lease_without_the_permission_takes_no_annotation(server: LeaseServer) -> None:
    server.refused["POST"] = refusal(Forbidden, 403)
    own = lease(server)
    own.acquire()
    own.annotate(NAME, VALUE)
    assert server.lease is None


def test_the_object_of_a_dead_run_is_kept_for_reading(
    server: LeaseServer, passing: Callable[[float], None]
) -> None:
    """Its annotations are not those of the run that takes over."""
    dead = lease(server)
    dead.acquire()
    dead.annotate(NAME, VALUE)
    left = copy.deepcopy(server.lease)
    waits: list[str] = []
    own = lease(server, on_wait=lambda said: waits.append(said.holder))
    own.acquire()
    assert own.previous == left
    assert len(waits) > 1
    assert set(waits) == {dead.holder}
    assert server.holder == own.holder
    assert not annotated(server)


def test_a_run_without_a_dead_run_before_it_has_no_previous(server: LeaseServer) -> None:
    server.held_by("")
    own = lease(server)
    own.acquire()
    assert own.previous is None


# Releases after an interruption


def cut(own: Lease) -> None:
    """Interrupt the run after the API server stored its next write, before the run knows that."""
    client: Any = own._client
    send = client.send

    def interrupted(method: str, path: str, body: Any) -> Any:
        client.send = send
        send(method, path, body)
        raise KeyboardInterrupt

    client.send = interrupted


def test_a_lease_is_released_if_the_acquisition_was_interrupted(server: LeaseServer) -> None:
    own = lease(server)
    cut(own)
    with pytest.raises(KeyboardInterrupt):
        own.acquire()
    assert server.holder == own.holder
    own.release()
    assert server.lease is None


def test_a_lease_is_released_if_a_renewal_was_interrupted(
    server: LeaseServer, passing: Callable[[float], None]
) -> None:
    own = lease(server)
    own.acquire()
    passing(30)
    cut(own)
    with pytest.raises(KeyboardInterrupt):
        own._client.prepare()
    own.release()
    assert server.lease is None


def test_an_interrupted_wait_leaves_the_lease_of_the_other_run(server: LeaseServer) -> None:
    def interrupt(_said: LeaseState) -> None:
        raise KeyboardInterrupt

    server.held_by("other")
    own = lease(server, on_wait=interrupt)
    with pytest.raises(KeyboardInterrupt):
        own.acquire()
    own.release()
    assert server.holder == "other"


# An answer of the API server: True if the run goes on without an optional Lease.
REFUSALS = [
    (refusal(Forbidden, 403), True),
    (refusal(ApiError, 400), True),
    (refusal(ApiError, 429), False),
    (refusal(AuthenticationError, 401), False),
    (refusal(ApiError, 503), False),
    (refusal(ConnectionFailed), False),
]


@pytest.mark.parametrize("refused", REFUSALS)
@pytest.mark.parametrize("is_optional", [True, False])
@pytest.mark.parametrize("when", ["acquire", "renew"])
def test_a_run_that_needs_its_lease_stops_if_it_is_refused(
    server: LeaseServer,
    passing: Callable[[float], None],
    refused: tuple[KubeError, bool],
    is_optional: bool,
    when: str,
) -> None:
    error, goes_on = refused
    own = lease(server, is_optional=is_optional)
    client: Any = own._client
    if when == "renew":
        own.acquire()
        passing(30)
    server.refused = {"POST": error, "PUT": error}
    act = client.prepare if when == "renew" else own.acquire
    if goes_on and is_optional:
        act()
        assert own.problem
        return
    with pytest.raises(CertflowError) as caught:
        act()
    assert caught.value.code == error.code
    if when == "renew":
        with pytest.raises(CertflowError):
            client.prepare()  # the next request is not sent without it either


@pytest.mark.parametrize("error", [refusal(ApiError, 503), refusal(ConnectionFailed)])
def test_an_api_server_that_does_not_answer(server: LeaseServer, error: KubeError) -> None:
    own = lease(server)
    server.refused["POST"] = error
    with pytest.raises(type(error)):
        own.acquire()
    server.refused = {"DELETE": error}
    own = lease(server)
    own.acquire()
    own.release()
    assert own.problem == "", "it ends by itself"
