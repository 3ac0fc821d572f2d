# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What people and programs do to a webhook: its owner, an administrator who errs, and one who has read an audit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.support.certificates.authority import DAY
from tests.support.world import Owner, Program, shapes
from tests.support.world.journal import DONE
from tests.years.places import OWNED, RENEWED, SHAPES, Place

if TYPE_CHECKING:
    from random import Random

_CSRS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
_CLIENT = "kubectl-edit"
_CLOSED_PORT = 9
_NEVER_RENEWS = "never-renews"
#: An owner renews so long before the end.
_BEFORE = 45 * DAY
#: The chance of an event for each program and month, and if the user chose the kinds.
_CHANCE, _CHANCE_OF_CHOICE = 0.3, 0.5
_WITH_SERVICE = tuple(row.name for row in SHAPES if row.reached != shapes.BY_URL)


@dataclass(frozen=True)
class Event:
    """One kind of event."""

    id: str
    #: What is done to a program.
    act: Callable[[Program], object]
    #: The programs to which it can happen.
    programs: tuple[str, ...] = (*RENEWED, *OWNED)
    #: True if a run of ours brings the program back, without an administrator.
    heals: bool = False


def live(place: Place) -> None:
    """Let the owners renew what is due in a month."""
    for program in map(place.program, OWNED):
        ends = program.issued + program.shape.certificate.life[1] * DAY
        if ends - place.now < _BEFORE and _NEVER_RENEWS not in place.faults[program.name]:
            place.journal.add(DONE, "its owner renews", program.name)
            program.renew()


def mend(place: Place, name: str) -> None:
    """Let an administrator set everything right about a program that no run repairs. Its first owner has it again."""
    place.journal.add(DONE, "an administrator mends it", name)
    program = place.program(name)
    program.restore()
    if program.is_ours:
        program.delete_secret()  # the next run issues another one
    elif name in OWNED:
        program.renew()
    else:
        program.set_bundle(program.kept or place.ca("cluster").certificate_pem.decode())
    place.faults[name].clear()


def _forget_bundle(program: Program) -> None:
    """Issue the certificate with a new CA, and forget the bundle."""
    program.world.cas.pop(program.shape.certificate.chain[0])
    program.issue()


def _replace_bundle(program: Program) -> None:
    program.set_bundle(program.world.ca("other").certificate_pem.decode(), _CLIENT)


def _give_to(owner: Owner) -> Callable[[Program], None]:
    return lambda program: program.give_to(owner)


EVENTS = (
    Event("bundle-emptied", lambda program: program.set_bundle("", _CLIENT), heals=True),
    Event("bundle-replaced", _replace_bundle, heals=True),
    # The bundle that the object had at first, as an old file of a repository or the release of a chart has it.
    Event("manifest-restored", lambda program: program.set_bundle(program.kept or ""), heals=True),
    Event("secret-deleted", Program.delete_secret, RENEWED, heals=True),
    Event(
        "requests-deleted", lambda program: program.world.cluster.api("DELETE", _CSRS), RENEWED, heals=True
    ),
    Event("object-recreated", Program.recreate, heals=True),
    Event("scaled-to-zero", lambda program: program.reach.set_states(shapes.NOT_READY), _WITH_SERVICE),
    Event("port-changed", lambda program: program.set_port(_CLOSED_PORT), _WITH_SERVICE),
    Event("mark-edited", Program.edit_secret, RENEWED),
    Event("stops-reloading", lambda program: program.set_reloads(reloads=False), RENEWED),
    Event("renewed-without-bundle", _forget_bundle, ("chart",)),
    Event(_NEVER_RENEWS, lambda _program: None, OWNED),
    Event("argo-cd-rewrites", _give_to(shapes.ARGO_CD_AT_ONCE), OWNED),
    Event("helm-rewrites", _give_to(shapes.HELM_NIGHTLY), OWNED),
    Event("operator-rewrites", _give_to(shapes.OPERATOR_AT_ONCE), OWNED),
    Event("operator-rewrites-nightly", _give_to(shapes.OPERATOR_NIGHTLY), OWNED),
)
#: What the runs mend.
HEALED = {event.id for event in EVENTS if event.heals}


def draw(chance: Random, choice: tuple[str, ...] = ()) -> dict[str, Event]:
    """Return at most one event for each program, by its name. choice: the kinds, () for all."""
    drawn: dict[str, Event] = {}
    for name in (row.name for row in SHAPES):
        kinds = [event for event in EVENTS if name in event.programs and (not choice or event.id in choice)]
        if kinds and chance.random() < (_CHANCE_OF_CHOICE if choice else _CHANCE):
            drawn[name] = chance.choice(kinds)
    return drawn


def is_healed(place: Place, name: str) -> bool:
    """Return True if runs mend all that happened to a program."""
    return place.faults[name] <= HEALED


def happen(place: Place, name: str, event: Event) -> None:
    """Let an event happen to a program of a place."""
    place.journal.add(DONE, f"event {event.id}", name)
    place.faults[name].add(event.id)
    event.act(place.program(name))
