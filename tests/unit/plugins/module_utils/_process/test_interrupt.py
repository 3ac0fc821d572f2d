# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Signals: a write in flight ends first, then the cleaning runs, then the signal ends the process or the operation."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._ansible import argument_specs
from ansible_collections.certflow.kubernetes.plugins.module_utils._ansible.operation import (
    Operation,
    execute,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.errors import CertflowError
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.result import (
    Result,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._process import interrupt
from ansible_collections.certflow.kubernetes.plugins.module_utils._process.interrupt import (
    RunInterrupted,
    clean_up_with,
    stop_on_signal,
)

from tests.support.api_server import LOST, ScriptedAnswer, serving

if TYPE_CHECKING:
    from collections.abc import Callable

    from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.client import Client

pytestmark = pytest.mark.quick

# Each script runs in a process of its own, because the signals end it.
HEAD = """
import os, signal, sys
from ansible_collections.certflow.kubernetes.plugins.module_utils._process.interrupt import shield
from ansible_collections.certflow.kubernetes.plugins.module_utils._process.interrupt import RunInterrupted, clean_up_with, stop_on_signal

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup lets the gates and their programs ignore it

def send(names):
    for name in names.split():
        signal.raise_signal(getattr(signal, name))

def say(*words):
    print(*words, flush=True)

def clean():
    send(sys.argv[2])
    say("clean")
"""

PUT_AWAY = """
with clean_up_with(clean):
    send(sys.argv[1])
    say("end of the block")
say("after it")
"""

# An inner cleaning, as that of a certificate during an upgrade.
NESTED = """
try:
    with stop_on_signal():
        with clean_up_with(lambda: say("outer")):
            with clean_up_with(clean):
                send(sys.argv[1])
                say("end of the block")
            say("after the inner block")
except RunInterrupted as interrupted:
    say(signal.Signals(interrupted.signum).name)
say("after it")
"""

SHIELDED = """
try:
    with stop_on_signal():
        with clean_up_with(clean):
            with shield():
                with shield():
                    send(sys.argv[1])
                    say("inner write")
                say("write")
            say("end of the block")
except RunInterrupted as interrupted:
    say(signal.Signals(interrupted.signum).name)
say("after it")
"""

ALARM = """
def end(*_):
    raise KeyError("of Ansible")

signal.signal(signal.SIGALRM, end)
try:
    {block}:
        with clean_up_with(clean):
            with shield():
                send("SIGALRM")
                say("write")
            say("end of the block")
except (RunInterrupted, KeyError) as error:
    say(type(error).__name__)
assert signal.getsignal(signal.SIGALRM) is end
say("after it")
"""
END, AFTER = "end of the block", "after it"

# (script, signals in the block, signals during the cleaning, printed lines, signal that ends the process or 0)
ROWS: list[tuple[str, str, str, list[str], int]] = [
    (PUT_AWAY, "", "", [END, "clean", AFTER], 0),
    (PUT_AWAY, "SIGTERM", "", ["clean"], signal.SIGTERM),
    (PUT_AWAY, "SIGHUP", "", ["clean"], signal.SIGHUP),
    (PUT_AWAY, "SIGINT", "", ["clean"], signal.SIGINT),
    (PUT_AWAY, "SIGINT SIGTERM", "", ["clean"], signal.SIGINT),
    (PUT_AWAY, "SIGTERM", "SIGINT SIGTERM", ["clean"], signal.SIGTERM),
    (PUT_AWAY, "", "SIGTERM", [END, "clean"], signal.SIGTERM),
    (NESTED, "", "", [END, "clean", "after the inner block", "outer", AFTER], 0),
    (NESTED, "SIGINT", "", ["clean", "outer", "SIGINT", AFTER], 0),
    (NESTED, "SIGTERM", "", ["clean", "outer", "SIGTERM", AFTER], 0),
    (NESTED, "SIGHUP", "", ["clean", "outer", "SIGHUP", AFTER], 0),
    (NESTED, "", "SIGTERM", [END, "clean", "outer", "SIGTERM", AFTER], 0),
    # Ansible ends its worker after Ctrl-C. It does not read the result of that worker.
    (NESTED, "SIGINT", "SIGTERM", ["clean", "outer"], signal.SIGTERM),
    (SHIELDED, "", "", ["inner write", "write", END, "clean", AFTER], 0),
    (SHIELDED, "SIGINT", "", ["inner write", "write", "clean", "SIGINT", AFTER], 0),
    (SHIELDED, "SIGINT SIGTERM", "", ["inner write", "write", "clean"], signal.SIGTERM),
    (ALARM.format(block="with stop_on_signal()"), "", "", ["write", "clean", "RunInterrupted", AFTER], 0),
    (ALARM.format(block="if True"), "", "", ["write", "clean", "KeyError", AFTER], 0),
]


@pytest.mark.parametrize(("script", "inside", "cleaning", "printed", "status"), ROWS)
def test_a_signal_takes_effect_after_the_cleaning(
    script: str, inside: str, cleaning: str, printed: list[str], status: int
) -> None:
    command = [sys.executable, "-c", HEAD + script, inside, cleaning]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout.splitlines(), done.returncode) == (printed, -status), done.stderr


@pytest.fixture
def _not_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the signals of a test not stop the operations of the tests after it."""
    monkeypatch.setattr(interrupt._InterruptState, "stopped_by", 0)


def test_an_error_goes_on_after_the_cleaning() -> None:
    done: list[str] = []
    handlers = [signal.getsignal(signum) for signum in interrupt.SIGNALS]
    with pytest.raises(ValueError, match="of the block"), clean_up_with(lambda: done.append("clean")):
        raise ValueError("of the block")
    assert done == ["clean"]
    assert [signal.getsignal(signum) for signum in interrupt.SIGNALS] == handlers


def test_a_thread_leaves_signals_alone() -> None:
    done: list[str] = []

    def work() -> None:
        with stop_on_signal(), clean_up_with(lambda: done.append("clean")), interrupt.shield():
            done.append("block")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == ["block", "clean"]


@pytest.mark.usefixtures("_not_stopped")
def test_a_signal_during_a_shield_of_another_thread_interrupts_at_once() -> None:
    begun, ended = threading.Event(), threading.Event()

    def work() -> None:
        with interrupt.shield():
            begun.set()
            ended.wait()

    thread = threading.Thread(target=work)
    thread.start()
    begun.wait()
    with pytest.raises(RunInterrupted), stop_on_signal():
        signal.raise_signal(signal.SIGTERM)
        pytest.fail("the signal did not interrupt")
    ended.set()
    thread.join()


# Operations against a stand-in API server. The signal arrives while the server answers the request.


def run(work: Callable[[Client, Any, bool], Result], url: str) -> dict[str, Any]:
    operation = Operation("k8s_test", argument_specs.AUTH, work)
    return execute(operation, {"host": url, "api_key": "t", "wait_timeout": 5}, check_mode=False)


def during(client: Client, monkeypatch: pytest.MonkeyPatch, signum: int) -> None:
    """Send the signal after the next request is sent and before its answer is read."""
    whole = client._whole

    def read(response: Any, beginnings: tuple[bytes, ...]) -> bytes:
        monkeypatch.setattr(client, "_whole", whole)
        signal.raise_signal(signum)
        return whole(response, beginnings)

    monkeypatch.setattr(client, "_whole", read)


REQUESTS: dict[str, tuple[Callable[[Client], Any], list[str]]] = {
    "create": (lambda c: c.create("/p", {}), ["POST /p"]),
    "replace": (lambda c: c.replace("/p", {}), ["PUT /p"]),
    "patch": (lambda c: c.patch("/p", []), ["PATCH /p"]),
    "apply": (lambda c: c.apply("/p", {}, manager="m"), ["PATCH /p"]),
    "delete": (lambda c: c.delete("/p"), ["DELETE /p"]),
}
READS: dict[str, Callable[[Client], Any]] = {
    "get": lambda c: c.get("/p"),
    "dry run": lambda c: c.replace("/p", {}, dry_run=True),
    "review": lambda c: c.review("/p", {}),
}


@pytest.mark.usefixtures("_not_stopped")
@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize("signum", interrupt.SIGNALS)
def test_a_write_in_flight_is_finished_and_noted(
    monkeypatch: pytest.MonkeyPatch, name: str, signum: int
) -> None:
    request, written = REQUESTS[name]
    reached: list[str] = []

    def work(client: Client, *_: Any) -> Result:
        with stop_on_signal():
            during(client, monkeypatch, signum)
            request(client)
            reached.append("after the write")
        return Result(True, {})

    with serving() as server:
        result = run(work, server.url)
        assert len(server.requests) == 1
        again = run(lambda *_: pytest.fail("an operation after the signal"), server.url)
        assert len(server.requests) == 1
    assert (result["failed"], result["changed"], result["code"]) == (True, True, "interrupted")
    assert result["evidence"] == [f"written before the failure: {written[0]}"]
    assert (again["failed"], again["changed"], again["code"]) == (True, False, "interrupted")
    assert reached == []


@pytest.mark.usefixtures("_not_stopped")
@pytest.mark.parametrize("name", READS)
def test_a_request_that_stores_nothing_is_interrupted_at_once(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    read: list[str] = []

    def work(client: Client, *_: Any) -> Result:
        taken = client._taken

        def answered(*arguments: Any, **options: Any) -> Any:
            read.append("answer")
            return taken(*arguments, **options)

        monkeypatch.setattr(client, "_taken", answered)
        with stop_on_signal():
            during(client, monkeypatch, signal.SIGTERM)
            READS[name](client)
        return Result(True, {})

    with serving() as server:
        result = run(work, server.url)
    assert (result["code"], result["changed"], read) == ("interrupted", False, [])


@pytest.mark.usefixtures("_not_stopped")
def test_an_interrupted_write_is_not_repeated_and_its_doubt_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(client: Client, *_: Any) -> Result:
        attempt = client._attempt
        with stop_on_signal():

            def send(*arguments: Any, **options: Any) -> Any:
                signal.raise_signal(signal.SIGTERM)
                return attempt(*arguments, **options)

            monkeypatch.setattr(client, "_attempt", send)
            client.replace("/p", {})
        return Result(True, {})

    with serving(ScriptedAnswer(), LOST, ScriptedAnswer()) as server:

        def warmed(client: Client, *rest: Any) -> Result:
            client.get("/first")
            return work(client, *rest)

        result = run(warmed, server.url)
        assert server.paths() == ["GET /first", "PUT /p"]
    assert result["code"] == "interrupted"
    assert result["evidence"] == ["PUT /p was sent. It is not known if it took effect"]


@pytest.mark.usefixtures("_not_stopped")
def test_an_operation_ends_before_its_next_request_if_its_parent_has_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def work(client: Client, *_: Any) -> Result:
        with stop_on_signal():
            client.get("/first")
            monkeypatch.setattr("os.getppid", lambda: 1)
            client.replace("/p", {})
        return Result(True, {})

    with serving() as server:
        result = run(work, server.url)
        assert server.paths() == ["GET /first"]
    assert (result["code"], result["changed"]) == ("interrupted", False)


@pytest.mark.usefixtures("_not_stopped")
def test_the_end_of_the_timeout_does_not_stop_the_next_item() -> None:
    def work(*_: Any) -> Result:
        with stop_on_signal():
            signal.raise_signal(signal.SIGALRM)
        return Result(True, {})

    before = signal.signal(signal.SIGALRM, lambda *_: pytest.fail("the handler of Ansible"))
    try:
        with serving() as server:
            result = run(work, server.url)
            after = run(lambda *_: Result(True, {}), server.url)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert (result["code"], after.get("code")) == ("interrupted", None)


@pytest.mark.usefixtures("_not_stopped")
def test_an_operation_without_a_stop_passes_the_signal_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """It finishes its write too."""
    seen: list[list[str]] = []
    written: list[list[str]] = []

    def work(client: Client, *_: Any) -> Result:
        written.append(client.written)
        during(client, monkeypatch, signal.SIGTERM)
        client.replace("/p", {})
        return Result(True, {})

    before = signal.signal(signal.SIGTERM, lambda *_: seen.extend(list(names) for names in written))
    try:
        with serving() as server:
            result = run(work, server.url)
            after = run(lambda *_: Result(True, {}), server.url)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [["PUT /p"]]
    assert (result["code"], after.get("code")) == ("interrupted", None)


def test_the_error_of_an_interruption_keeps_the_evidence_of_what_it_interrupted() -> None:
    with pytest.raises(RunInterrupted) as caught:
        try:
            raise CertflowError("x", evidence=("first",))
        except CertflowError:
            raise RunInterrupted(signal.SIGTERM) from None
    error = caught.value.error()
    assert (error.code, error.evidence) == ("interrupted", ("first",))
