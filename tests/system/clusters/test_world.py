# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The world of tests: its shapes are called as real ones, each call has a handshake of its own, and its clock jumps."""

from __future__ import annotations

import base64
import contextlib
import datetime
import subprocess
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations import audit_info
from cryptography import x509

from tests.support import clusters
from tests.support.certificates import der
from tests.support.clusters import clock
from tests.support.waiting import wait_for
from tests.support.world import Program, Shape, World, shapes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DAY = datetime.timedelta(days=1)


@pytest.fixture(scope="module")
def fleet() -> Iterator[clusters.Fleet]:
    with clusters.running({"world": "local-services", "eks": "eks-local-services"}) as fleet:
        yield fleet


@pytest.fixture
def world(fleet: clusters.Fleet, request: pytest.FixtureRequest) -> Iterator[World]:
    with contextlib.closing(World(fleet[getattr(request, "param", "world")])) as world:
        yield world


SHAPES = (
    Shape("pods"),
    Shape("three-pods", endpoints=(shapes.READY, shapes.READY, shapes.NOT_READY)),
    Shape("ending", endpoints=(shapes.TERMINATING,)),
    Shape("slice", reached=shapes.BY_SLICE),
    Shape("url", reached=shapes.BY_URL, failure_policy="Ignore"),
    Shape("external", reached=shapes.BY_NAME),
    Shape("mutating", kind=shapes.MUTATING, owner=shapes.HELM),
    Shape("conversion", kind=shapes.CONVERSION, owner=shapes.KUBECTL),
    Shape("api", kind=shapes.AGGREGATED, owner=shapes.ARGO_CD),
    Shape("octets", certificate=shapes.issued(octets={"serial": der.integer(0)})),
    Shape("ours", certificate=shapes.OURS, bundle=None, owner=shapes.KUBECTL_SERVER),
)


def test_each_shape_is_called_with_a_handshake_of_its_own(world: World) -> None:
    programs = [world.one(shape) for shape in SHAPES]
    for program in programs:
        wait_for(program.is_called, evidence=program.call)
    with world.calling() as calls:
        calls.wait_for_more()
    assert calls.failures == {}
    for program in programs:
        assert program.handshakes >= program.calls >= 3, program.name
    ready, other, unready = programs[1].reach.endpoints
    assert ready.calls
    assert other.calls
    assert not unready.calls


@pytest.mark.skipif(bool(clock.why_not()), reason=clock.why_not())
def test_a_program_has_another_clock_from_its_start() -> None:
    """The first look at the clock decides, because an API server makes a certificate at once."""
    command = clock.starting_ahead(1000 * DAY, ["/bin/date", "+%s"])
    for _start in range(20):
        assert float(subprocess.check_output(command)) - time.time() > 999 * DAY.total_seconds()


@pytest.mark.skipif(bool(clock.why_not()), reason=clock.why_not())
def test_a_program_has_started_once_its_clock_can_jump() -> None:
    """Before, it is another program, and a jump is lost or stops it."""
    command = ["/bin/sleep", "60"]
    for _start in range(20):
        with subprocess.Popen(clock.starting_ahead(DAY, command)) as child:
            try:
                wait_for(partial(clock.has_started, child.pid, command))
                assert Path(f"/proc/{child.pid}/comm").read_text() == "sleep\n"
                clock.set_ahead(child.pid, 2 * DAY)
            finally:
                child.kill()


def test_an_owner_restores_its_bundle_when_its_time_has_come(world: World) -> None:
    at_once, nightly = (
        world.one(Shape(name, owner=owner))
        for name, owner in (("at-once", shapes.OPERATOR_AT_ONCE), ("nightly", shapes.OPERATOR_NIGHTLY))
    )
    other = world.ca("other").certificate_pem.decode()
    for program in (at_once, nightly):
        program.set_bundle(other, "another-client")
    wait_for(lambda: at_once.bundle == at_once.kept)
    assert nightly.bundle == other
    world.jump(DAY)
    wait_for(lambda: nightly.bundle == nightly.kept)


@pytest.mark.parametrize("world", ["world", "eks"], indirect=True)
def test_a_control_plane_of_next_year_issues_and_renews_a_certificate(world: World) -> None:
    """The certificate is due eleven months later, and not before. A clock that goes back changes nothing while it is valid."""
    world.jump(365 * DAY)
    program = world.one(Shape("ours", certificate=shapes.OURS, bundle=None))
    wait_for(program.is_called, evidence=program.call)
    first = served(program)
    assert first.not_valid_before_utc > datetime.datetime.now(datetime.timezone.utc) + 364 * DAY
    assert first.not_valid_after_utc - world.cluster.now() > 364 * DAY
    with world.calling() as calls:
        for days in (0, 330, -100):
            world.jump(days * DAY)
            calls.wait_for_more()
            assert not world.renew(program)["changed"]
        assert "expiring" not in checks(world, program)
        world.jump(105 * DAY)
        assert world.renew(program)["changed"]
        calls.wait_for_more()
        second = served(program)
        assert second.not_valid_after_utc - first.not_valid_after_utc > 300 * DAY
        assert not world.renew(program)["changed"]
    assert calls.failures == {}, world.journal.text(program.name)


def test_a_certificate_of_the_future_is_issued_again(world: World) -> None:
    """The clock was wrong by a month when the certificate was issued. It is set right, and no call passes until the next run."""
    world.jump(30 * DAY)
    program = world.one(Shape("early", certificate=shapes.OURS, bundle=None))
    wait_for(program.is_called, evidence=program.call)
    world.jump(-20 * DAY)
    wait_for(lambda: "not yet valid" in program.call(), evidence=program.call)
    assert "not-yet-valid" in checks(world, program)
    assert world.renew(program)["changed"]
    wait_for(program.is_called, evidence=program.call)
    assert "not-yet-valid" not in checks(world, program)


def served(program: Program) -> x509.Certificate:
    secret = program.world.cluster.api(
        "GET", f"/api/v1/namespaces/{program.world.name}/secrets/{program.name}"
    )
    return x509.load_pem_x509_certificate(base64.b64decode(secret["data"]["tls.crt"]))


def checks(world: World, program: Program) -> list[str]:
    result = world.operate(audit_info.OPERATION)
    return [
        finding["check"]
        for finding in result["findings"]
        if finding["status"] == "fail" and finding["object"]["name"] == program.full_name
    ]
