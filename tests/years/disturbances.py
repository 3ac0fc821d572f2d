# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What disturbs the runs of a month: a block around them, at one place."""

from __future__ import annotations

import contextlib
import datetime
from typing import TYPE_CHECKING, Any

from tests.support.permissions import policies
from tests.support.permissions.token_plugin import TokenPlugin
from tests.support.upgrade import snapshot_lab, snapshot_pods
from tests.support.upgrade.snapshot_rig import release_server
from tests.support.waiting import acting_after
from tests.support.world.journal import DONE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from random import Random

    from tests.years.months import Years
    from tests.years.places import Place

#: A renewal that is due at once has the most requests.
_RENEW: dict[str, Any] = {"webhook_certificate_renew_before": "360d"}
#: The shortest lifetime of a token, and two jumps that end it. A certificate is valid from five minutes before its issuance on.
_TOKEN_SECONDS = 600
_AGED, _ENDED = datetime.timedelta(seconds=400), datetime.timedelta(seconds=270)
#: After this time the next run believes that the Lease of a killed run is old.
_LATER = datetime.timedelta(minutes=10)
#: The releases of the snapshot controller before and after the upgrade.
_BEFORE, _AFTER = "7.0.2", "8.7.0"
#: The chance of a disturbance in a month.
_CHANCE = 0.6


@contextlib.contextmanager
def _kill(years: Years, place: Place, chance: Random) -> Iterator[None]:
    """Kill a renewal after one of its requests. The ordinary runs come later."""
    name, number = chance.choice(place.ours).name, chance.randint(1, 20)
    place.journal.add(DONE, f"a run is killed after request {number}", name)
    run = years.run("certificates", "--limit", place.host(name), kill_after=number, **_RENEW)
    years.seen.kills += run.is_killed
    years.jump(_LATER)
    yield


def _restart(_years: Years, place: Place, chance: Random) -> AbstractContextManager[None]:
    """Kill the API server while runs are at work, and start it again."""
    place.journal.add(DONE, "its API server restarts")
    return acting_after(chance.uniform(2, 8), place.crash)


@contextlib.contextmanager
def _run_twice(years: Years, place: Place, _chance: Random) -> Iterator[None]:
    """Let another run renew all certificates at the same time."""
    place.journal.add(DONE, "two runs at once")
    other = years.start("certificates", **_RENEW)
    years.is_shared = True
    try:
        yield
    finally:
        other.finish()
        years.check_output(other)
        years.is_shared = False


def _deny(_years: Years, place: Place, chance: Random) -> AbstractContextManager[None]:
    """Let a policy refuse what the runs write to a kind of objects."""
    resource, group = chance.choice([("secrets", ""), ("*", "admissionregistration.k8s.io")])
    place.journal.add(DONE, f"a policy denies writes of {resource}")
    rule = {"apiGroups": [group], "operations": ["CREATE", "UPDATE"], "resources": [resource]}
    expression = f"request.userInfo.username != '{place.user}'"
    return policies.denying(place.cluster, f"deny-{place.id}", rule, expression=expression)


def _forbid(_years: Years, place: Place, _chance: Random) -> AbstractContextManager[None]:
    """Let the runs have only the permissions of an audit."""
    place.journal.add(DONE, "the runs lose their permissions")
    return place.limited_to("audit")


@contextlib.contextmanager
def _end_token(years: Years, place: Place, chance: Random) -> Iterator[None]:
    """Let a plugin log the runs in, and let its first token end while a run is at work."""
    place.journal.add(DONE, "a token ends in the middle of a run")
    plugin = TokenPlugin(place, "runs")
    plugin.printed.write_text(plugin.credential(_TOKEN_SECONDS))
    next_one = plugin.credential(2 * 86400)  # the phase finish comes a day later
    years.jump(_AGED)

    def end() -> None:
        plugin.printed.write_text(next_one)
        years.jump(_ENDED)

    with acting_after(chance.uniform(3, 6), end), plugin.logging_in():
        yield


@contextlib.contextmanager
def _upgrade(years: Years, plant: Place, _chance: Random) -> Iterator[None]:
    """Upgrade the snapshot controller. A second run changes nothing."""
    plant.journal.add(DONE, f"the snapshot controller is upgraded from {_BEFORE} to {_AFTER}")
    snapshot_lab.install(plant.cluster, _BEFORE, webhook=False, pods=False)
    with release_server(_BEFORE, _AFTER) as source, snapshot_pods.running(plant.cluster, _BEFORE, _AFTER):
        snapshot_pods.wait_until_ready(plant.cluster, _BEFORE)
        given = {"snapshot_controller_version": _AFTER, "snapshot_controller_source": source}
        for status in ("changed", "ok"):
            row = years.run("upgrade", "--limit", plant.place, **given).rows.get(plant.place, {})
            if row.get("status") != status:
                years.violate("4 green", plant, "", f"the upgrade is not {status}: {row}")
    yield


UPGRADE = "upgrade"
#: The kinds, and what returns the block around the runs at a place. The upgrade is drawn apart.
BLOCKS: dict[str, Callable[[Years, Place, Random], AbstractContextManager[None]]] = {
    "killed": _kill,
    "server-restarts": _restart,
    "two-runs": _run_twice,
    "token-ends": _end_token,
    "policy-denies": _deny,
    "permission-lost": _forbid,
    UPGRADE: _upgrade,
}
#: Those because of which the runs may end with a failure.
OBSTACLES = ("policy-denies", "permission-lost")


def draw(chance: Random, choice: tuple[str, ...] = ()) -> str:
    """Return the disturbance of a month, or "". choice: the kinds, () for all."""
    kinds = [kind for kind in BLOCKS if kind != UPGRADE and (not choice or kind in choice)]
    return chance.choice(kinds) if kinds and (choice or chance.random() < _CHANCE) else ""
