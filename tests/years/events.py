# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What happens to a program by chance: a table of events. Each is written to the journal before it is done."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.support.clusters import AdminApiError
from tests.support.waiting import wait_for
from tests.support.world import Program, shapes
from tests.support.world.journal import DONE
from tests.years import owners
from tests.years.places import Place

if TYPE_CHECKING:
    from random import Random

_CSRS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
_MERGE = "application/merge-patch+json"
_CLIENT = "kubectl-edit"
_CLOSED_PORT = 9


@dataclass(frozen=True)
class Event:
    """One kind of event."""

    id: str
    #: What is done to a program of a place.
    act: Callable[[Place, Program], object]
    #: True for a program to which it can happen.
    fits: Callable[[Program], bool] = lambda program: True
    #: True if a run of ours brings the program back, without an administrator.
    heals: bool = False


def is_run(program: Program) -> bool:
    """Return True for a program whose certificate comes from the runs, also on the twin."""
    return program.name in ("policy", "mesh", "store", "numbers")


def _has_service(program: Program) -> bool:
    return program.shape.reached != shapes.BY_URL


def _has_owner(program: Program) -> bool:
    return not is_run(program)


def _has_own_ca(program: Program) -> bool:
    return program.shape.certificate.chain[0] not in ("cluster", *shapes.OURS.chain)


def _empty_bundle(_place: Place, program: Program) -> None:
    program.set_bundle("", _CLIENT)


def _replace_bundle(place: Place, program: Program) -> None:
    program.set_bundle(place.ca("other").certificate_pem.decode(), _CLIENT)


def _restore_manifest(_place: Place, program: Program) -> None:
    """Write the bundle that the object had at first, as an old file of a repository has it."""
    program.set_bundle(program.kept or "")


def _delete_requests(place: Place, _program: Program) -> None:
    place.cluster.api("DELETE", _CSRS)


def _edit_mark(place: Place, program: Program) -> None:
    """Replace one annotation of the Secret, another one each day."""
    path = f"/api/v1/namespaces/{place.name}/secrets/{program.name}"
    with contextlib.suppress(AdminApiError):  # the twin has none
        marks = sorted(place.cluster.api("GET", path)["metadata"].get("annotations") or {})
        edited = dict.fromkeys(marks[place.now.toordinal() % len(marks) :][:1], "x")
        place.cluster.api("PATCH", path, {"metadata": {"annotations": edited}}, _MERGE)


def _scale_to_zero(_place: Place, program: Program) -> None:
    for number, _endpoint in enumerate(program.reach.endpoints):
        program.reach.set_state(number, shapes.NOT_READY)


def _change_port(_place: Place, program: Program) -> None:
    owners.set_port(program, _CLOSED_PORT)


def _recreate(place: Place, program: Program) -> None:
    place.cluster.api("DELETE", program.path)
    wait_for(lambda: place.ask("GET", program.path) != "accepted")
    program.write()
    if program.shape.kind == shapes.CONVERSION:
        program._is_stored = False  # type: ignore[attr-defined]


def _stop_reloading(_place: Place, program: Program) -> None:
    for endpoint in program.reach.endpoints:
        endpoint.prepare = lambda: None


def _forget_bundle(place: Place, program: Program) -> None:
    owners.renew(place, program, forgets_bundle=True, new_ca=True)


EVENTS = (
    Event("bundle-emptied", _empty_bundle, heals=True),
    Event("bundle-replaced", _replace_bundle, heals=True),
    Event("manifest-restored", _restore_manifest, heals=True),
    Event("secret-deleted", owners.delete_secret, is_run, heals=True),
    Event("requests-deleted", _delete_requests, is_run, heals=True),
    Event("object-recreated", _recreate, heals=True),
    Event("scaled-to-zero", _scale_to_zero, _has_service),
    Event("port-changed", _change_port, _has_service),
    Event("mark-edited", _edit_mark, is_run),
    Event("stops-reloading", _stop_reloading, is_run),
    Event("renewed-without-bundle", _forget_bundle, _has_own_ca),
    Event(owners.NEVER_RENEWS, lambda _place, _program: None, _has_owner),
)
#: What the runs mend.
HEALED = {event.id for event in EVENTS if event.heals}
#: The chance of an event for each program and month.
_CHANCE = 0.2


def draw(chance: Random, programs: list[Program]) -> dict[str, Event]:
    """Return at most one event for each program, by its name."""
    drawn: dict[str, Event] = {}
    for program in programs:
        event = chance.choice([event for event in EVENTS if event.fits(program)])
        if chance.random() < _CHANCE:
            drawn[program.name] = event
    return drawn


def happen(place: Place, name: str, event: Event) -> None:
    """Let an event happen to a program of a place."""
    program = place.program(name)
    place.journal.add(DONE, f"event {event.id}", name)
    place.states[name].faults.add(event.id)
    event.act(place, program)
