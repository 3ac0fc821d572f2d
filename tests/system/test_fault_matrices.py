# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Killed anywhere, and every fault at every request: a part of both matrices, and the whole of them by make test-all.

docs/reliability.md tells what the whole is; its figures must be those of a run.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from tests.system.fault_injection import crash, page, requests, transport
from tests.system.fault_injection.crash import Killer
from tests.system.fault_injection.fault_rig import FaultRig
from tests.system.fault_injection.flows import FLOWS, NAMED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.support.clusters import Fleet
    from tests.system.fault_injection.crash import CrashCase
    from tests.system.fault_injection.flows import Flow
    from tests.system.fault_injection.transport import TransportCase, TransportFault


@pytest.fixture(scope="module")
def ground(fleet: Fleet) -> Iterator[FaultRig]:
    with contextlib.closing(FaultRig(fleet["onprem"])) as ground:
        yield ground


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
def test_killed_after_each_write_and_run_again(ground: FaultRig, killer: Killer, flow: Flow) -> None:
    asked = crash.whole(ground, killer, flow)
    writes = [(number, "after") for number, words in enumerate(asked, 1) if requests.writes(words)]
    points = list(crash.points(ground, killer, flow, writes))
    assert_good(points)
    assert len(points) == len(writes) > 0


@pytest.mark.full
@pytest.mark.parametrize("flow", FLOWS, ids=by_name)
def test_killed_at_every_request_and_run_again(ground: FaultRig, killer: Killer, flow: Flow) -> None:
    count = len(crash.whole(ground, killer, flow))
    points = list(crash.points(ground, killer, flow, crash.everywhere(count)))
    row = page.crash_row(count, points)
    print(f"{flow.name}: {' | '.join(row)}")
    assert_good(points)
    assert_told(dict(zip(page.CRASH_HEAD[1:], row, strict=True)), page.PAGE.read(page.CRASHES)[flow.name])


NEW, ASK = NAMED["k8s_csr: new"], NAMED["k8s_csr, two steps: ask"]
CSR = "create certificatesigningrequests"


@pytest.fixture(scope="module")
def asked(ground: FaultRig) -> list[str]:
    """The requests of a new certificate."""
    return transport.whole(ground, NEW)


@pytest.mark.parametrize("fault", [fault for fault in transport.FAULTS if fault.is_daily], ids=by_name)
def test_a_fault_at_one_request(ground: FaultRig, asked: list[str], fault: TransportFault) -> None:
    """Where a request is created, whose answer matters most; else at the first that can meet it."""
    met = [number for number, words in enumerate(asked, 1) if fault.can_meet(words)]
    created = asked.index(CSR) + 1
    assert_case(ground, fault, created if created in met else met[0])


def test_no_lost_answer_of_a_write_matters(ground: FaultRig, asked: list[str]) -> None:
    for words in dict.fromkeys(filter(requests.writes, asked)):
        assert_case(ground, transport.LOST, asked.index(words) + 1)


@pytest.mark.parametrize("fault", transport.FAULTS[:2], ids=by_name)
def test_a_key_is_kept_although_its_connection_breaks(ground: FaultRig, fault: TransportFault) -> None:
    number = transport.whole(ground, ASK).index("create secrets") + 1
    assert_case(ground, fault, number, ASK)


def assert_case(ground: FaultRig, fault: TransportFault, number: int, flow: Flow = NEW) -> None:
    cases = list(transport.cases(ground, flow, fault, [number]))
    assert len(cases) == 1
    assert_good(cases)


@pytest.mark.full
@pytest.mark.parametrize("flow", transport.FLOWS, ids=by_name)
def test_every_fault_at_every_request(ground: FaultRig, flow: Flow) -> None:
    cases = list(transport.everywhere(ground, flow))
    column = page.transport_column(cases)
    print(f"{flow.name}: {column}")
    assert_good(cases)
    assert_told(column, {fault: cells[flow.name] for fault, cells in page.PAGE.read(page.TRANSPORT).items()})


def assert_told(found: dict[str, str], told: dict[str, str]) -> None:
    """The page says what a run shows; a look more or less, while something is waited for, is chance."""
    differ = {name: (cell, told[name]) for name, cell in found.items() if not _about(cell, told[name])}
    assert differ == {}, "run make reliability"


def _about(one: str, other: str) -> bool:
    if one.count("+") != other.count("+"):
        return False
    pairs = zip(one.split(" + "), other.split(" + "), strict=True)
    return all(abs(int(a) - int(b)) <= 2 for a, b in pairs)
