# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The CA of a place changes, step by step, as its administrators like."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.support.world.journal import DONE
from tests.years.places import Place

if TYPE_CHECKING:
    from random import Random


def _publish(place: Place) -> None:
    place.rotation = place.cluster.rotation(is_dated=True)
    place.rotation.publish()


def _switch(place: Place) -> None:
    assert place.rotation
    place.rotation.switch()
    place.sign_with(place.rotation.successor)


def _roll_back(place: Place) -> None:
    assert place.rotation
    place.rotation.roll_back()
    place.sign_with(place.rotation.outgoing)


def _abandon(place: Place) -> None:
    assert place.rotation
    place.rotation.withdraw_successor()


def _drop(place: Place) -> None:
    assert place.rotation
    place.rotation.drop_outgoing()


def _end(place: Place) -> None:
    place.rotation = None


#: The states in which the guide tells to run the phase finish.
FINISHING = ("switched", "over")
#: The state of a rotation -> the chance of each step in a month, what it does, and the state after it.
STEPS: dict[str, tuple[tuple[float, Callable[[Place], None], str], ...]] = {
    "none": ((0.3, _publish, "published"),),
    "published": ((0.5, _switch, "switched"), (0.1, _abandon, "over")),
    "rolled-back": ((0.6, _switch, "switched"), (0.2, _abandon, "over")),
    # A third CA is published before the runs have removed the first one everywhere.
    "switched": ((0.2, _roll_back, "rolled-back"), (0.3, _drop, "over"), (0.1, _publish, "published")),
    "over": ((1, _end, "none"),),
}


def draw(chance: Random, place: Place) -> tuple[Callable[[Place], None], str] | None:
    """Return the step of this month, and the state after it."""
    number = chance.random()
    for share, step, after in STEPS[place.phase]:
        if number < share:
            return step, after
        number -= share
    return None


def take(place: Place, step: Callable[[Place], None], after: str) -> None:
    place.journal.add(DONE, f"rotation: {step.__name__.strip('_')}")
    step(place)
    place.phase = after
    place.log_in()
