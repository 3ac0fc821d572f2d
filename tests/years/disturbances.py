# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What disturbs the runs of a month: a block around them, at one place."""

from __future__ import annotations

import contextlib
import datetime
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.support import snapshot_lab, snapshot_pods
from tests.support.snapshot_rig import release_server
from tests.support.world.journal import DONE
from tests.years.runs import host

if TYPE_CHECKING:
    from random import Random

    from tests.years.months import Years
    from tests.years.places import Place

_ADMISSION = "/apis/admissionregistration.k8s.io/v1"
_POLICIES, _BINDINGS = (f"{_ADMISSION}/validatingadmissionpolic{end}" for end in ("ies", "ybindings"))
#: A renewal that is due at once has the most requests.
_RENEW: dict[str, Any] = {"webhook_certificate_renew_before": "360d"}
#: The shortest lifetime of a token.
_TOKEN_SECONDS = 600
#: After this time the next run believes that the Lease of a killed run is old.
_LATER = datetime.timedelta(minutes=10)
#: The releases of the snapshot controller before and after the upgrade.
_BEFORE, _AFTER = "7.0.2", "8.7.0"
#: The chance of a disturbance in a month.
_CHANCE = 0.6


@dataclass(frozen=True)
class Disturbance:
    """One kind of disturbance."""

    id: str
    #: Returns the block around the runs at a place.
    block: Callable[[Years, Place, Random], AbstractContextManager[object]]
    #: True if the runs may end with a failure because of it.
    is_obstacle: bool = False


@contextlib.contextmanager
def _kill(years: Years, place: Place, chance: Random) -> Iterator[None]:
    """Kill a renewal after one of its requests. The ordinary runs come later."""
    program, number = chance.choice(place.ours), chance.randint(1, 40)
    place.journal.add(DONE, f"a run is killed after request {number}", program.name)
    run = years.run("certificates", "--limit", host(place, program.name), kill_after=number, **_RENEW)
    years.seen.kills += run.is_killed
    years.jump(_LATER)
    yield


@contextlib.contextmanager
def _restart(_years: Years, place: Place, chance: Random) -> Iterator[None]:
    """Kill the API server while runs are at work, and start it again."""

    def restart() -> None:
        with place.restarting:
            place.cluster.stop("kube-apiserver", signal.SIGKILL)
            place.restart()

    place.journal.add(DONE, "its API server restarts")
    timer = threading.Timer(chance.uniform(2, 8), restart)
    timer.start()
    yield
    timer.join()


@contextlib.contextmanager
def _run_twice(years: Years, place: Place, _chance: Random) -> Iterator[None]:
    """Let another run renew all certificates at the same time."""
    place.journal.add(DONE, "two runs at once")
    other = years.runs.start("certificates", **_RENEW)
    years.is_shared = True
    try:
        yield
    finally:
        years.check_output(years.runs.finish(other))
        years.is_shared = False


@contextlib.contextmanager
def _deny(_years: Years, place: Place, chance: Random) -> Iterator[None]:
    """Let a policy refuse what the runs write to a kind of objects."""
    resource, group = chance.choice([("secrets", ""), ("*", "admissionregistration.k8s.io")])
    place.journal.add(DONE, f"a policy denies writes of {resource}")
    rule = {
        "apiGroups": [group],
        "apiVersions": ["*"],
        "operations": ["CREATE", "UPDATE"],
        "resources": [resource],
    }
    name = f"deny-{place.id}"
    spec = {
        "matchConstraints": {"resourceRules": [rule]},
        "validations": [{"expression": f"request.userInfo.username != '{place.user}'"}],
    }
    place.cluster.api("POST", _POLICIES, {"metadata": {"name": name}, "spec": spec})
    binding = {"metadata": {"name": name}, "spec": {"policyName": name, "validationActions": ["Deny"]}}
    place.cluster.api("POST", _BINDINGS, binding)
    try:
        yield
    finally:
        place.cluster.api("DELETE", f"{_BINDINGS}/{name}")
        place.cluster.api("DELETE", f"{_POLICIES}/{name}")


@contextlib.contextmanager
def _forbid(_years: Years, place: Place, _chance: Random) -> Iterator[None]:
    """Let the runs have only the permissions of an audit."""
    place.journal.add(DONE, "the runs lose their permissions")
    with place.logged_in(place.user, place.kubeconfig):
        place.become("audit")
        yield


@contextlib.contextmanager
def _end_token(years: Years, place: Place, chance: Random) -> Iterator[None]:
    """Let a plugin log the runs in, and let its first token end while a run is at work."""
    place.journal.add(DONE, "a token ends in the middle of a run")
    user, kubeconfig, printed = place.make_plugin()
    printed.write_text(place.credential(_TOKEN_SECONDS))
    next_one = place.credential(3600)

    def end() -> None:
        printed.write_text(next_one)
        years.jump(datetime.timedelta(seconds=_TOKEN_SECONDS + 60))

    timer = threading.Timer(chance.uniform(3, 6), end)
    timer.start()
    with place.logged_in(user, kubeconfig):
        yield
    timer.join()


@contextlib.contextmanager
def _upgrade(years: Years, plant: Place, _chance: Random) -> Iterator[None]:
    """Upgrade the snapshot controller. A second run changes nothing."""
    plant.journal.add(DONE, f"the snapshot controller is upgraded from {_BEFORE} to {_AFTER}")
    snapshot_lab.install(plant.cluster, _BEFORE, webhook=False, pods=False)
    releases = (_BEFORE, _AFTER)
    with release_server(*releases) as source, snapshot_pods.running(plant.cluster, *releases):
        snapshot_pods.wait_until_ready(plant.cluster, _BEFORE)
        given = {"snapshot_controller_version": _AFTER, "snapshot_controller_source": source}
        for status in ("changed", "ok"):
            row = years.run("upgrade", "--limit", plant.place, **given).rows.get(plant.place, {})
            if row.get("status") != status:
                years.violate("4 green", plant, "", f"the upgrade is not {status}: {row}")
    yield


DISTURBANCES = (
    Disturbance("killed", _kill),
    Disturbance("server-restarts", _restart),
    Disturbance("two-runs", _run_twice),
    Disturbance("token-ends", _end_token),
    Disturbance("policy-denies", _deny, is_obstacle=True),
    Disturbance("permission-lost", _forbid, is_obstacle=True),
)
UPGRADE = Disturbance("upgrade", _upgrade)


def draw(chance: Random, choice: tuple[str, ...] = ()) -> Disturbance | None:
    """Return the disturbance of a month. choice: the kinds, () for all."""
    kinds = [kind for kind in DISTURBANCES if not choice or kind.id in choice]
    return chance.choice(kinds) if kinds and (choice or chance.random() < _CHANCE) else None
