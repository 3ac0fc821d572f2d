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
from ansible_collections.certflow.kubernetes.plugins.module_utils._errors import CertflowError
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube import _lease
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube._errors import (
    AlreadyExists,
    ApiError,
    AuthenticationError,
    Conflict,
    ConnectionFailed,
    Forbidden,
    KubeError,
    NotFound,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube._lease import (
    HeldByAnother,
    Lease,
    LeaseLostError,
    LeaseToken,
    Terms,
)

from tests.failures import fails

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
        self.uid = "1ea5e"

    def store(self, body: Any) -> dict[str, Any]:
        self._version += 1
        metadata = {**body["metadata"], "uid": self.uid, "resourceVersion": str(self._version)}
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


def lease(server: Server, seconds: float = 120, **options: Any) -> Lease:
    client: Any = Client(server, seconds)
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
SAID: list[tuple[Any, Terms, bool]] = [
    (_lease.spec_of("a", NOW, NOW + MINUTE, 3), Terms("a", NOW, NOW + MINUTE, 60, 3), False),
    (_lease.spec_of("a", NOW, NOW, 0), Terms("a", NOW, NOW, 60), True),
    (_lease.spec_of("a", NOW, NOW + MINUTE / 60, 0), Terms("a", NOW, NOW + MINUTE / 60, 60), False),
    ({}, Terms(), True),
    (None, Terms(), True),
    ("a", Terms(), True),
    ([{}], Terms(), True),
    ({"renewTime": STAMP, "leaseDurationSeconds": 15}, Terms("", None, NOW, 15), True),
    ({"holderIdentity": 7}, Terms(), True),
    ({"holderIdentity": {"a": "b"}, "leaseDurationSeconds": 15}, Terms("", None, None, 15), True),
    ({"holderIdentity": "a"}, Terms("a"), False),
    ({"holderIdentity": "a", "renewTime": STAMP}, Terms("a", None, NOW), True),
    ({"holderIdentity": "a", "renewTime": "soon", "leaseDurationSeconds": 15}, Terms("a", None, None, 15), False),
    ({"holderIdentity": "a", "renewTime": 5, "acquireTime": [], "leaseDurationSeconds": 15}, Terms("a", None, None, 15), False),
    ({"holderIdentity": "a", "renewTime": STAMP[:-1]}, Terms("a", None, NOW), True),
    ({"holderIdentity": "a", "renewTime": f"{FAR}Z"}, Terms("a", None, datetime(9999, 12, 31, 23, 59, 59, 999999, timezone.utc)), False),
    ({"holderIdentity": "a", "renewTime": f"{FAR}-05:00"}, Terms("a"), False),
    ({"holderIdentity": "a", "renewTime": "0001-01-01T00:00:00+14:00"}, Terms("a"), False),
    ({"holderIdentity": "a", "renewTime": STAMP, "leaseDurationSeconds": LARGE}, Terms("a", None, NOW, LARGE), False),
    ({"holderIdentity": "a", "renewTime": STAMP, "leaseDurationSeconds": 10**30}, Terms("a", None, NOW, LARGE), False),
    ({"holderIdentity": "a", "renewTime": STAMP, "leaseDurationSeconds": -5}, Terms("a", None, NOW), True),
    ({"holderIdentity": "a", "renewTime": STAMP, "leaseDurationSeconds": "15"}, Terms("a", None, NOW), True),
    ({"holderIdentity": "a", "renewTime": STAMP, "leaseDurationSeconds": 1.5}, Terms("a", None, NOW), True),
    ({"holderIdentity": "a", "renewTime": STAMP, "leaseDurationSeconds": True}, Terms("a", None, NOW), True),
    ({"holderIdentity": "a", "leaseTransitions": -1}, Terms("a"), False),
    ({"holderIdentity": "a", "leaseTransitions": "many"}, Terms("a"), False),
    ({"holderIdentity": "a", "leaseTransitions": 10**30}, Terms("a", transitions=LARGE), False),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "said", "is_free"), SAID)
def test_the_content_of_a_lease(spec: Any, said: Terms, is_free: bool) -> None:
    """Timestamps count only if they are older than twice the duration."""
    assert _lease.terms({"spec": spec}) == said
    assert said.is_free(NOW + 2 * MINUTE, 0.0, 60) is is_free


@pytest.mark.parametrize(
    ("said", "unchanged", "is_free"),
    [
        (Terms("a", NOW, NOW + MINUTE * 600, 15), 14.9, False),
        (Terms("a", NOW, NOW + MINUTE * 600, 15), 15.0, True),
        (Terms("a"), 59.9, False),
        (Terms("a"), 60.0, True),
        (Terms("a", NOW, NOW, LARGE), 10.0**6, False),
        (Terms(""), 0.0, True),
    ],
)
def test_a_lease_that_stays_unchanged_for_its_duration_is_free(
    said: Terms, unchanged: float, is_free: bool
) -> None:
    assert said.is_free(NOW, unchanged, 60) is is_free


def test_the_end_of_a_lease_is_told_if_there_is_one() -> None:
    assert Terms("a", None, NOW, 60).until == NOW + MINUTE
    late = datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone.utc)
    assert [one.until for one in (Terms("a", None, late, LARGE), Terms("a", None, None, 5), Terms("a"))] == [
        None
    ] * 3


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
    names = ("apps/hook", "runner-3_1a2b", "apps/certflow-hook", "2026-06-15", "12:00:00", "600", "12:10:00")
    with fails("lease-held", *names) as caught:
        lease(server, 30).acquire()
    assert "kubectl --namespace apps delete lease certflow-hook" in caught.value.remedy
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


HOSTILE: list[dict[str, Any]] = [
    {"leaseDurationSeconds": LARGE},
    {"leaseDurationSeconds": 10**30, "renewTime": f"{FAR}Z"},
    {"leaseDurationSeconds": LARGE, "renewTime": f"{FAR}-05:00", "acquireTime": f"{FAR}-05:00"},
    {"leaseDurationSeconds": LARGE, "holderIdentity": "x" * 70000},
]


@pytest.mark.parametrize("spec", HOSTILE)
def test_a_lease_of_an_absurd_duration_ends_the_wait_with_the_command_that_removes_it(
    server: Server, passing: Callable[[float], None], spec: dict[str, Any]
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
        {"renewTime": None, "acquireTime": 5, "leaseTransitions": 10**30},
    ],
)
def test_a_lease_that_does_not_say_how_long_it_lasts_lasts_as_long_as_this_run_s(
    server: Server, passing: Callable[[float], None], spec: dict[str, Any]
) -> None:
    server.held_by("other", **spec)
    own = lease(server)
    own.acquire()
    assert NOW + timedelta(seconds=59) <= server.time <= NOW + timedelta(seconds=62)
    assert server.holder == own.holder


def test_a_timestamp_counts_only_after_twice_the_duration(
    server: Server, passing: Callable[[float], None]
) -> None:
    """The holder's clock may differ from the API server's, so only the resourceVersion counts before that."""
    holder = lease(server)
    holder.acquire()
    server.time += timedelta(seconds=90)  # the clock of the API server jumps, and the holder continues
    other = lease(server, 20)
    with pytest.raises(HeldByAnother):
        other.acquire()
    assert server.holder == holder.holder


# A change of the Lease while its holder does nothing: True if the holder goes on.
def _labelled(server: Server) -> None:
    found = copy.deepcopy(server.lease)
    assert found
    server.store({**found, "metadata": {**found["metadata"], "labels": {"c": "d"}}})


def _taken(server: Server) -> None:
    passed = server.time + timedelta(hours=1)
    server.time, before = passed, server.time
    lease(server).acquire()
    server.time = before


def _taken_and_released(server: Server) -> None:
    server.time += timedelta(hours=1)
    other = lease(server)
    other.acquire()
    other.release()


def _taken_over_by_the_same_name(server: Server) -> None:
    found = copy.deepcopy(server.lease)
    assert found
    server.store({**found, "spec": {**found["spec"], "leaseTransitions": 2}})


def _made_again(server: Server) -> None:
    assert server.lease
    server.uid = "0dd"
    server.store(server.lease)


MEANWHILE: dict[str, tuple[Callable[[Server], None], bool]] = {
    "nothing": (lambda _server: None, True),
    "labelled": (_labelled, True),
    "taken": (_taken, False),
    "taken and released": (_taken_and_released, False),
    "taken over by the same name": (_taken_over_by_the_same_name, False),
    "made again": (_made_again, False),
    "deleted": (lambda server: setattr(server, "lease", None), False),
}


@pytest.mark.parametrize("meanwhile", MEANWHILE)
@pytest.mark.parametrize("way", ["renewed", "resumed"])
def test_a_lease_is_held_without_a_gap_or_lost(
    server: Server, passing: Callable[[float], None], meanwhile: str, way: str
) -> None:
    """Check a loss within one process, and between two processes of a run."""
    change, goes_on = MEANWHILE[meanwhile]
    own = lease(server)
    own.acquire()
    client: Any = own._client
    token = own.token
    assert token == LeaseToken(own.holder, "1ea5e", 0)
    passing(120)
    change(server)
    there = copy.deepcopy(server.lease)
    other = Lease(client, "apps", "certflow-hook", purpose="x", metadata={}, holder=own.holder)
    act = client.before_request if way == "renewed" else lambda: other.resume(token)
    if goes_on:
        act()
        assert server.holder == own.holder
        assert (own if way == "renewed" else other).is_held
        return
    with fails("lease-lost", "certflow-hook"):
        act()
    asked = len(server.asked)
    with pytest.raises(LeaseLostError):
        client.before_request()  # every further request fails too
    (own if way == "renewed" else other).release()
    assert (server.lease, len(server.asked)) == (there, asked), "the other run's is left alone"
    assert client.before_request is None


def test_the_answer_to_a_renewal_that_was_lost(server: Server, passing: Callable[[float], None]) -> None:
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
    passing(20)
    client.before_request()
    assert own.is_held


def test_a_lease_that_changes_all_the_time_is_lost(server: Server, passing: Callable[[float], None]) -> None:
    own = lease(server)
    own.acquire()
    server.refused["PUT"] = refusal(Conflict, 409)
    passing(20)
    client: Any = own._client
    with pytest.raises(LeaseLostError):
        client.before_request()


def test_held_means_that_a_request_ends_before_the_lease_does(
    server: Server, passing: Callable[[float], None]
) -> None:
    own = lease(server)
    client: Any = own._client
    held = [own.is_held]
    for act in (
        own.acquire,
        lambda: passing(60 - _lease.REQUEST_SECONDS - 1),
        lambda: passing(1),
        lambda: client.before_request(),  # noqa: PLW0108 # it is another one by then
        own.release,
    ):
        act()
        held.append(own.is_held)
    assert held == [False, True, True, False, True, False]


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
    passing(30)
    client: Any = own._client
    client.before_request()
    assert own.problem
    assert client.before_request is None
    assert not own.is_held


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
    server: Server,
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
        passing(20)
    server.refused = {"POST": error, "PUT": error}
    act = client.before_request if when == "renew" else own.acquire
    if goes_on and is_optional:
        act()
        assert own.problem
        return
    with pytest.raises(CertflowError) as caught:
        act()
    assert caught.value.code == error.code
    if when == "renew":
        with pytest.raises(CertflowError):
            client.before_request()  # the next request is not sent without it either


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
