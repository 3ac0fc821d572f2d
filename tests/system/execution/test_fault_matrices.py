# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Kill tasks and inject faults at some of their requests. `make reliability` does it at all of them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from tests.system.fault_injection import crash, requests, transport
from tests.system.fault_injection.crash import Killer
from tests.system.fault_injection.fault_rig import FaultRig
from tests.system.fault_injection.flows import NAMED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.support.clusters import Fleet
    from tests.system.fault_injection.crash import CrashCase
    from tests.system.fault_injection.flows import Flow
    from tests.system.fault_injection.transport import TransportCase, TransportFault


@pytest.fixture(scope="module")
def rig(fleet: Fleet) -> Iterator[FaultRig]:
    with contextlib.closing(FaultRig(fleet["onprem"])) as rig:
        yield rig


@pytest.fixture(scope="module")
def killer() -> Iterator[Killer]:
    with contextlib.closing(Killer()) as killer:
        yield killer


def by_name(row: Flow | TransportFault) -> str:
    return row.name


def assert_good(cases: Iterable[CrashCase | TransportCase]) -> None:
    assert [str(case) for case in cases if not case.is_good] == []


KILLED = [
    NAMED[name]
    for name in (
        "k8s_csr: new",
        "k8s_csr, two steps: ask",
        "k8s_csr, two steps: fetch",
        "k8s_csr_approve: two requests",
        "webhook_cabundle: add",
    )
]


@pytest.mark.parametrize("flow", KILLED, ids=by_name)
def test_a_task_completes_after_a_kill_at_each_write(rig: FaultRig, killer: Killer, flow: Flow) -> None:
    sent = crash.whole(rig, killer, flow)
    writes = [(number, "after") for number, words in enumerate(sent, 1) if requests.writes(words)]
    cases = list(crash.cases(rig, killer, flow, writes))
    assert_good(cases)
    assert len(cases) == len(writes) > 0


NEW, ASK = NAMED["k8s_csr: new"], NAMED["k8s_csr, two steps: ask"]
CSR = "create certificatesigningrequests"


@pytest.fixture(scope="module")
def sent(rig: FaultRig) -> list[str]:
    """Return the requests of a new certificate."""
    return transport.whole(rig, NEW)


@pytest.mark.parametrize("fault", [fault for fault in transport.FAULTS if fault.is_daily], ids=by_name)
def test_a_fault_at_one_request(rig: FaultRig, sent: list[str], fault: TransportFault) -> None:
    """Inject the fault where the request is created, or else at the first request that can have it."""
    met = [number for number, words in enumerate(sent, 1) if fault.can_meet(words)]
    created = sent.index(CSR) + 1
    assert_case(rig, fault, created if created in met else met[0])


@pytest.mark.parametrize("flow", [NEW, ASK], ids=by_name)
def test_a_lost_answer_of_a_write_is_harmless(rig: FaultRig, flow: Flow) -> None:
    sent = transport.whole(rig, flow)
    for words in dict.fromkeys(filter(requests.writes, sent)):
        assert_case(rig, transport.LOST, sent.index(words) + 1, flow)


@pytest.mark.parametrize("fault", transport.FAULTS[:2], ids=by_name)
def test_a_key_is_kept_when_its_connection_breaks(rig: FaultRig, fault: TransportFault) -> None:
    number = transport.whole(rig, ASK).index("create secrets") + 1
    assert_case(rig, fault, number, ASK)


def assert_case(rig: FaultRig, fault: TransportFault, number: int, flow: Flow = NEW) -> None:
    cases = list(transport.cases(rig, flow, fault, [number]))
    assert len(cases) == 1
    assert_good(cases)
