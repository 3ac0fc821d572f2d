# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What people and programs do to a webhook: its owner, an administrator who errs, and one who has read an audit."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tests.support.authority import DAY
from tests.support.clusters import AdminApiError
from tests.support.waiting import wait_for
from tests.support.world import ACCEPTED, Owner, Program, shapes
from tests.support.world.journal import DONE
from tests.support.world.programs import JSON_PATCH
from tests.years.places import RENEWED, YEAR, Place

if TYPE_CHECKING:
    from random import Random

_CSRS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
_MERGE = "application/merge-patch+json"
_CLIENT = "kubectl-edit"
_CLOSED_PORT = 9
_NEVER_RENEWS = "never-renews"
#: An owner renews so long before the end.
_BEFORE = 45 * DAY
#: The chance of an event for each program and month, and if the user chose the kinds.
_CHANCE, _CHANCE_OF_CHOICE = 0.2, 0.5


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


# What owners do


def live(place: Place) -> None:
    """Let the owners renew what is due in a month."""
    for program in place.programs:
        state = place.states[program.name]
        if state.ends and state.ends - place.now < _BEFORE and _NEVER_RENEWS not in state.faults:
            place.journal.add(DONE, "its owner renews", program.name)
            _renew(place, program)


def _renew(place: Place, program: Program) -> None:
    """Issue the certificate, and write a CA that the bundle lacks, also where the owner restores it from."""
    program.issue()
    ca = place.ca(program.shape.certificate.chain[0])
    if not program.trusts(ca):
        program.set_bundle(program.bundle + ca.certificate_pem.decode())
    if program.shape.owner.rewrites_after is not None:
        program.kept = program.bundle
    place.states[program.name].ends = place.now + YEAR


def _forget_bundle(place: Place, program: Program) -> None:
    """Issue the certificate with a new CA, and forget the bundle."""
    place.cas.pop(program.shape.certificate.chain[0])
    program.issue()
    place.states[program.name].ends = place.now + YEAR


def _give_to(owner: Owner) -> Callable[[Place, Program], None]:
    """Return an event: this owner takes over an object, and restores the bundle that it has now after each change."""

    def act(place: Place, program: Program) -> None:
        program.kept = program.bundle
        program.shape = replace(program.shape, owner=owner)
        place.keep()

    return act


# What administrators do


def mend(place: Place, program: Program) -> None:
    """Set everything right about a program that no run repairs. Its first owner has it again."""
    place.journal.add(DONE, "an administrator mends it", program.name)
    state = place.states[program.name]
    program.shape = replace(program.shape, owner=program.first_owner)
    _set_port(program, program.reach.port)
    for number, _endpoint in enumerate(program.reach.endpoints):
        if program.reach.states[number] != shapes.READY:
            program.reach.set_state(number, shapes.READY)
    if program.is_ours:
        _delete_secret(place, program)
        for endpoint in program.reach.endpoints:
            endpoint.prepare = program.reload
    elif state.ends:
        _renew(place, program)
    else:
        program.set_bundle(program.kept or place.ca("cluster").certificate_pem.decode())
    state.faults.clear()


def _empty_bundle(_place: Place, program: Program) -> None:
    program.set_bundle("", _CLIENT)


def _replace_bundle(place: Place, program: Program) -> None:
    program.set_bundle(place.ca("other").certificate_pem.decode(), _CLIENT)


def _restore_manifest(_place: Place, program: Program) -> None:
    """Write the bundle that the object had at first, as an old file of a repository or the release of a chart has it."""
    program.set_bundle(program.kept or "")


def _delete_requests(place: Place, _program: Program) -> None:
    place.cluster.api("DELETE", _CSRS)


def _secret(place: Place, program: Program) -> str:
    return f"/api/v1/namespaces/{place.name}/secrets/{program.name}"


def _delete_secret(place: Place, program: Program) -> None:
    """Delete the Secret, so that the next run issues another one. Pods serve what they have until then."""
    with contextlib.suppress(AdminApiError):  # the twin has none
        place.cluster.api("DELETE", _secret(place, program))


def _edit_mark(place: Place, program: Program) -> None:
    """Replace one annotation of the Secret, another one each day."""
    with contextlib.suppress(AdminApiError):  # the twin has none
        marks = sorted(place.cluster.api("GET", _secret(place, program))["metadata"].get("annotations") or {})
        edited = dict.fromkeys(marks[place.now.toordinal() % len(marks) :][:1], "x")
        place.cluster.api("PATCH", _secret(place, program), {"metadata": {"annotations": edited}}, _MERGE)


def _scale_to_zero(_place: Place, program: Program) -> None:
    for number, _endpoint in enumerate(program.reach.endpoints):
        program.reach.set_state(number, shapes.NOT_READY)


def _set_port(program: Program, port: int) -> None:
    """Let the object call another port of the Service. A URL stays."""
    if _has_service(program):
        path = "/" + "/".join(map(str, (*program.pointer, "service", "port")))
        patch = [{"op": "add", "path": path, "value": port}]
        query = f"fieldManager={program.shape.owner.manager}"
        program.world.cluster.api("PATCH", f"{program.path}?{query}", patch, JSON_PATCH)


def _recreate(place: Place, program: Program) -> None:
    """Delete the object, and let its first owner create it again, with what this owner writes."""
    place.cluster.api("DELETE", program.path)
    wait_for(lambda: place.ask("GET", program.path) != ACCEPTED)
    program.shape = replace(program.shape, owner=program.first_owner)
    program.write()


def _stop_reloading(_place: Place, program: Program) -> None:
    for endpoint in program.reach.endpoints:
        endpoint.prepare = lambda: None


def _is_run(program: Program) -> bool:
    return program.name in RENEWED


def _has_service(program: Program) -> bool:
    return program.shape.reached != shapes.BY_URL


def _has_owner(program: Program) -> bool:
    return not _is_run(program)


def _has_own_ca(program: Program) -> bool:
    return program.shape.certificate.chain[0] not in ("cluster", *shapes.OURS.chain)


EVENTS = (
    Event("bundle-emptied", _empty_bundle, heals=True),
    Event("bundle-replaced", _replace_bundle, heals=True),
    Event("manifest-restored", _restore_manifest, heals=True),
    Event("secret-deleted", _delete_secret, _is_run, heals=True),
    Event("requests-deleted", _delete_requests, _is_run, heals=True),
    Event("object-recreated", _recreate, heals=True),
    Event("scaled-to-zero", _scale_to_zero, _has_service),
    Event("port-changed", lambda _place, program: _set_port(program, _CLOSED_PORT), _has_service),
    Event("mark-edited", _edit_mark, _is_run),
    Event("stops-reloading", _stop_reloading, _is_run),
    Event("renewed-without-bundle", _forget_bundle, _has_own_ca),
    Event(_NEVER_RENEWS, lambda _place, _program: None, _has_owner),
    Event("argo-cd-rewrites", _give_to(shapes.ARGO_CD_AT_ONCE), _has_owner),
    Event("helm-rewrites", _give_to(shapes.HELM_NIGHTLY), _has_owner),
    Event("operator-rewrites", _give_to(shapes.OPERATOR_AT_ONCE), _has_owner),
    Event("operator-rewrites-nightly", _give_to(shapes.OPERATOR_NIGHTLY), _has_owner),
)
#: What the runs mend.
HEALED = {event.id for event in EVENTS if event.heals}


def draw(chance: Random, programs: list[Program], choice: tuple[str, ...] = ()) -> dict[str, Event]:
    """Return at most one event for each program, by its name. choice: the kinds, () for all."""
    drawn: dict[str, Event] = {}
    for program in programs:
        kinds = [event for event in EVENTS if event.fits(program) and (not choice or event.id in choice)]
        if kinds and chance.random() < (_CHANCE_OF_CHOICE if choice else _CHANCE):
            drawn[program.name] = chance.choice(kinds)
    return drawn


def happen(place: Place, name: str, event: Event) -> None:
    """Let an event happen to a program of a place."""
    program = place.program(name)
    place.journal.add(DONE, f"event {event.id}", name)
    place.states[name].faults.add(event.id)
    event.act(place, program)
