# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Faults of networks, proxies and API servers as data, and a run of a task for each fault at each request."""

from __future__ import annotations

import contextlib
import json
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from unittest import mock

from ansible_collections.certflow.kubernetes.plugins.module_utils._diagnosis import wait_for_certificate
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube import client, errors, lease

from tests.system.fault_injection import flows, verdict
from tests.system.fault_injection.fault_rig import wait_until_ready
from tests.system.fault_injection.proxy import Act, Exchange, GoneAway, ProxyAnswer
from tests.system.fault_injection.verdict import COMPLETES, SAYS, CaseVerdict

if TYPE_CHECKING:
    from tests.system.fault_injection.fault_rig import FaultRig
    from tests.system.fault_injection.flows import Flow, OperationCall

# Shorten the collection's own times, so that a case takes about a second.
QUICKLY = (
    (client, "READ_SECONDS", 0.6),
    (errors, "FIRST_DELAY_SECONDS", 0.02),
    (wait_for_certificate, "LOOK_SECONDS", 1.0),
    (lease, "RELEASE_SECONDS", 0.5),
)
STALL_SECONDS = 1.5
PAGE = "<html><head><title>{0}</title></head><body><h1>{0}</h1><hr>load balancer</body></html>"


def _status(code: int, reason: str, message: str) -> dict[str, Any]:
    head = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    return {**head, "message": message, "reason": reason, "code": code}


def _hang_up(_exchange: Exchange) -> None:
    raise GoneAway


def _lose_the_answer(exchange: Exchange) -> None:
    exchange.send()
    raise GoneAway


def _deliver_late(exchange: Exchange) -> None:
    time.sleep(STALL_SECONDS)
    exchange.pass_on()


def _answer_late(exchange: Exchange) -> None:
    answer = exchange.send()
    time.sleep(STALL_SECONDS)
    exchange.answer(answer)


def _truncate(exchange: Exchange) -> None:
    answer = exchange.send()
    exchange.answer(replace(answer, body=answer.body[: len(answer.body) // 2]))


def _cut(exchange: Exchange) -> None:
    exchange.cut(exchange.send())


def _say(status: int, body: object, **headers: str) -> Act:
    return lambda exchange: exchange.say(status, body, **headers)


def _done_and_say(status: int, body: object) -> Act:
    def act(exchange: Exchange) -> None:
        exchange.send()
        exchange.say(status, body)

    return act


def _end_early(exchange: Exchange) -> None:
    exchange.answer(ProxyAnswer(200, {"Content-Type": "application/json"}, b""))


def _buffer(exchange: Exchange) -> None:
    exchange.answer(exchange.send())


def _too_old(exchange: Exchange) -> None:
    event = {"type": "ERROR", "object": _status(410, "Expired", "too old resource version: 1 (2)")}
    exchange.answer(
        ProxyAnswer(200, {"Content-Type": "application/json"}, json.dumps(event).encode() + b"\n")
    )


def _restart(exchange: Exchange) -> None:
    exchange.cluster.stop("kube-apiserver", signal.SIGKILL)
    exchange.cluster.start("kube-apiserver")
    wait_until_ready(exchange.cluster)
    raise GoneAway


@dataclass(frozen=True)
class TransportFault:
    """A row of the transport table."""

    #: Name in the table.
    name: str
    #: What happens to the request.
    act: Act
    #: First words of the requests that can have the fault. Empty for all requests.
    meets: tuple[str, ...] = ()
    #: True if the task must succeed. Otherwise it may also fail and say what to do.
    passes: bool = True
    #: True if all later requests have the fault too.
    stays: bool = False
    #: True if `make test` runs one case of the fault.
    is_daily: bool = False
    #: The wait_timeout of the task.
    seconds: int = 60

    def can_meet(self, words: str) -> bool:
        return not self.meets or words.startswith(self.meets)


_TRY_AGAIN = _status(429, "TooManyRequests", "the server has received too many requests, try again later")
_INTERNAL = _status(500, "InternalError", "etcdserver: leader changed")
_UNAVAILABLE = _status(503, "ServiceUnavailable", "the server is currently unable to handle the request")
_TIMEOUT = _status(504, "Timeout", "request did not complete within the requested timeout")
_CONFLICT = _status(
    409, "Conflict", "the object has been modified; please apply your changes to the latest version"
)
_EXPIRED = _status(410, "Expired", "too old resource version")

LOST = TransportFault("connection dropped after it took effect", _lose_the_answer, is_daily=True)
FAULTS: tuple[TransportFault, ...] = (
    TransportFault("connection dropped before the request took effect", _hang_up, is_daily=True),
    LOST,
    TransportFault("connection dropped in the middle of the answer", _cut, is_daily=True),
    TransportFault("answer with half of its JSON", _truncate, is_daily=True),
    TransportFault("stall, delivered after the client gave up", _deliver_late, is_daily=True),
    TransportFault("stall, answered after the client gave up", _answer_late),
    TransportFault("429 with Retry-After", _say(429, _TRY_AGAIN, Retry_After="1"), is_daily=True),
    TransportFault("429 without Retry-After", _say(429, _TRY_AGAIN)),
    TransportFault("500", _say(500, _INTERNAL)),
    TransportFault("500 although it took effect", _done_and_say(500, _INTERNAL), is_daily=True),
    TransportFault("503", _say(503, _UNAVAILABLE)),
    TransportFault("504 although it took effect", _done_and_say(504, _TIMEOUT)),
    TransportFault("502, a page of a load balancer", _say(502, PAGE.format("502 Bad Gateway"))),
    TransportFault(
        "404, a page of a load balancer", _say(404, PAGE.format("404 Not Found")), passes=False, is_daily=True
    ),
    TransportFault("403, a page of a firewall", _say(403, PAGE.format("403 Forbidden")), passes=False),
    TransportFault("200, a page to sign in", _say(200, PAGE.format("Sign in")), passes=False),
    TransportFault("409", _say(409, _CONFLICT), passes=False, is_daily=True),
    TransportFault("410", _say(410, _EXPIRED), ("list ", "watch ")),
    TransportFault("watch: 410 as an event", _too_old, ("watch ",), is_daily=True),
    TransportFault("watch: ends at once", _end_early, ("watch ",), is_daily=True),
    TransportFault("watch: held back until it ends", _buffer, ("watch ",), is_daily=True),
    TransportFault(
        "API server killed, and started again",
        _restart,
        ("create certi", "update ", "watch ", "patch ", "delete "),
        seconds=300,  # on a busy machine the API server needs a minute to answer again
    ),
    TransportFault("unreachable from then on", _hang_up, passes=False, stays=True, is_daily=True, seconds=2),
)


@dataclass(frozen=True)
class TransportCase:
    """One fault at one request."""

    #: Name of the flow.
    flow: str
    #: Name of the fault.
    fault: str
    #: The request, as `requests.in_words` writes it.
    request: str
    #: The end of the task that had the fault.
    first: str
    #: Descriptions of what was wrong with that end.
    wrong: tuple[str, ...]
    #: What the next run did.
    verdict: CaseVerdict

    @property
    def is_good(self) -> bool:
        return not self.wrong and self.verdict.is_good

    def __str__(self) -> str:
        return f"{self.flow}, {self.fault}, {self.request}: {'; '.join((self.first, *self.wrong))}; then {self.verdict}"


# Together these flows send every kind of request of the collection.
FLOWS = tuple(
    flows.NAMED[name]
    for name in (
        "k8s_csr: new",
        "k8s_csr: renewal, new CA (another signer)",
        "k8s_csr, two steps: ask",
        "k8s_csr, two steps: fetch",
        "k8s_csr: state absent",
        "k8s_csr_approve: two requests",
        "webhook_cabundle: add",
    )
)


def numbers(fault: TransportFault, sent: Sequence[str]) -> list[int]:
    """Return the numbers of the requests that can have the fault, of repeated ones the first and the last."""
    around = [None, *sent, None]
    return [
        number
        for number, words in enumerate(sent, 1)
        if fault.can_meet(words) and not around[number - 1] == words == around[number + 1]
    ]


def whole(rig: FaultRig, flow: Flow) -> list[str]:
    """Return the requests of a task without a fault."""
    with rig.new_webhook() as webhook:
        sent = rig.proxy.inject(None)
        result = rig.through_proxy(flow.prepare(webhook)).run()
        assert not result.get("failed"), result
        return sent


def cases(
    rig: FaultRig, flow: Flow, fault: TransportFault, numbers: Iterable[int]
) -> Iterator[TransportCase]:
    """Yield one case for each of these requests (from 1 on) that the task reaches."""
    for number in numbers:
        with rig.new_webhook() as webhook:
            task = flow.prepare(webhook)
            before = webhook.data()
            met = rig.through_proxy(task)
            sent, result = _met(rig, met, fault, number)
            if len(sent) >= number:
                webhook.let_time_pass()
                judged = verdict.of_next_run(webhook, flow, flow.again(webhook, task), before)
                first = SAYS if result.get("failed") else COMPLETES
                yield TransportCase(
                    flow.name, fault.name, sent[number - 1], first, _wrong(fault, result), judged
                )


def _met(
    rig: FaultRig, task: OperationCall, fault: TransportFault, number: int
) -> tuple[list[str], dict[str, Any]]:
    """Run a task with a fault at one request, or from that request on. Return the requests and the result."""
    task = replace(task, options={**task.options, "wait_timeout": fault.seconds})
    sent = rig.proxy.inject(lambda at: fault.act if at == number or (fault.stays and at > number) else None)
    with quickly():
        result = task.run()
    rig.proxy.wait_until_idle()
    wait_until_ready(rig.cluster)
    return sent, result


def _wrong(fault: TransportFault, result: dict[str, Any]) -> tuple[str, ...]:
    if not result.get("failed"):
        return ()
    cruel = f"it should have passed: {result['msg']}" if fault.passes else ""
    return tuple(filter(None, (verdict.unclear(result), cruel)))


@contextlib.contextmanager
def quickly() -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for module, name, seconds in QUICKLY:
            stack.enter_context(mock.patch.object(module, name, seconds))
        yield
