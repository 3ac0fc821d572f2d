# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What owners of programs do by themselves, and what an administrator does who has read an audit."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from tests.support.authority import DAY
from tests.support.clusters import AdminApiError
from tests.support.world import shapes
from tests.support.world.journal import DONE
from tests.years.places import YEAR, Place

if TYPE_CHECKING:
    from tests.support.world import Program

#: An owner renews so long before the end.
_BEFORE = 45 * DAY
#: The fault of an owner that does not renew.
NEVER_RENEWS = "never-renews"


def renew(place: Place, program: Program, *, forgets_bundle: bool = False, new_ca: bool = False) -> None:
    """Issue the certificate as its owner does. A good owner also writes a CA that the bundle lacks."""
    name = program.shape.certificate.chain[0]
    if new_ca and name != "cluster":
        place.cas.pop(name)
    program.issue()
    ca = place.ca(name)
    if not forgets_bundle and not program.trusts(ca):
        program.set_bundle(program.bundle + ca.certificate_pem.decode())
    place.states[program.name].ends = place.now + YEAR


def month(place: Place) -> None:
    """Let the owners do what is due in a month."""
    for program in place.programs:
        state = place.states[program.name]
        if state.ends and state.ends - place.now < _BEFORE and NEVER_RENEWS not in state.faults:
            place.journal.add(DONE, "its owner renews", program.name)
            renew(place, program)


def mend(place: Place, program: Program) -> None:
    """Set everything right about a program that no run repairs."""
    place.journal.add(DONE, "an administrator mends it", program.name)
    state = place.states[program.name]
    restore_client(program)
    for number, _endpoint in enumerate(program.reach.endpoints):
        if program.reach.states[number] != shapes.READY:
            program.reach.set_state(number, shapes.READY)
    if program.is_ours:
        delete_secret(place, program)
        for endpoint in program.reach.endpoints:
            endpoint.prepare = program.reload
    elif state.ends:
        renew(place, program)
    else:
        program.set_bundle(place.ca("cluster").certificate_pem.decode() if not program.kept else program.kept)
    state.faults.clear()


def delete_secret(place: Place, program: Program) -> None:
    """Delete the Secret, so that the next run issues another one. Pods serve what they have until then."""
    with contextlib.suppress(AdminApiError):  # the twin has none
        place.cluster.api("DELETE", f"/api/v1/namespaces/{place.name}/secrets/{program.name}")


def restore_client(program: Program) -> None:
    """Write the address of the program into its object again."""
    set_port(program, program.reach.port)


def set_port(program: Program, port: int) -> None:
    """Let the object call another port of the Service. A URL stays."""
    if program.shape.reached == shapes.BY_URL:
        return
    path = "/" + "/".join(map(str, (*program.pointer, "service", "port")))
    patch = [{"op": "add", "path": path, "value": port}]
    query = f"fieldManager={program.shape.owner.manager}"
    program.world.cluster.api("PATCH", f"{program.path}?{query}", patch, "application/json-patch+json")
