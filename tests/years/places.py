# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The control planes of the simulation, the programs that they call, and the runs of the playbooks against them."""

from __future__ import annotations

import datetime
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import yaml

from tests.support.certificates.authority import DAY
from tests.support.playbooks.playbook_process import ReportedRun
from tests.support.rig import Change, changes
from tests.support.waiting import wait_for
from tests.support.world import ACCEPTED, Program, Shape, forecasts, shapes
from tests.support.world.journal import CALL, DONE
from tests.support.world.rotating import RotatingWorld

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from random import Random

    from tests.support.clusters import Cluster

#: The time of a round. The audit names an expiry 28 days before.
MONTH = 27 * DAY
#: The name of a place -> the profile of its control plane. The twin has all that happens to the plant, and no run.
PROFILES = {"plant": "local-services", "eks": "eks-local-services", "twin": "local-services"}

SHAPES = (
    Shape("policy", certificate=shapes.OURS, bundle=None),
    Shape(
        "mesh",
        shapes.MUTATING,
        endpoints=(shapes.READY, shapes.READY),
        owner=shapes.KUBECTL_SERVER,
        failure_policy="Ignore",
        certificate=shapes.OURS,
        bundle=None,
    ),
    Shape("store", shapes.CONVERSION, owner=shapes.KUBECTL, certificate=shapes.OURS, bundle=None),
    Shape("numbers", shapes.AGGREGATED, certificate=shapes.OURS, bundle=None),
    Shape("by-hand", certificate=shapes.issued(days=90)),
    Shape(
        "chart",
        shapes.MUTATING,
        owner=shapes.HELM,
        certificate=shapes.issued("chart", days=120),
        bundle=("chart",),
    ),
    Shape("gate", reached=shapes.BY_URL, owner=shapes.OPERATOR, failure_policy="Ignore"),
    Shape("legacy", shapes.CONVERSION, reached=shapes.BY_SLICE, owner=shapes.KUBECTL),
)
#: The programs whose certificates come from the runs, also on the twin, where an owner without mistakes has them.
RENEWED = tuple(row.name for row in SHAPES if row.certificate == shapes.OURS)
#: The programs whose owners issue their certificates.
OWNED = tuple(row.name for row in SHAPES if row.name not in RENEWED)
#: The certificate of an owner without mistakes.
_PERFECT = shapes.issued(days=3600)

#: The state of a rotation -> the chance of each step in a month, the method of Rotation, and the state after it.
_STEPS: dict[str, tuple[tuple[float, str, str], ...]] = {
    "none": ((0.5, "publish", "published"),),
    "published": ((0.6, "switch", "switched"), (0.1, "withdraw_successor", "over")),
    "rolled-back": ((0.6, "switch", "switched"), (0.2, "withdraw_successor", "over")),
    # A third CA is published before the runs have removed the first one everywhere.
    "switched": (
        (0.2, "roll_back", "rolled-back"),
        (0.4, "drop_outgoing", "over"),
        (0.1, "publish", "published"),
    ),
    "over": ((1, "", "none"),),
}
#: The states in which the guide tells to run the phase finish.
FINISHING = ("switched", "over")

#: A failure stops no other host.
_GO_ON = {"certflow_max_failures": "100%"}
_REPAIR = {"certflow_repair_options": {"probe_urls": True, "proof_after": 1, "wait_timeout": 30}}
#: The variables of each playbook.
_VARIABLES: dict[str, dict[str, Any]] = {
    "certificates": {
        **_GO_ON,
        "certflow_hosts": "webhooks",
        "certflow_allow_shared_cluster": True,
        "webhook_certificate_wait_timeout": 60,
    },
    "audit": {"certflow_fail_on": "never", "certflow_audit_options": {"probe_urls": True}},
    "repair": {**_GO_ON, **_REPAIR},
    "cluster_ca": {**_GO_ON, **_REPAIR, "certflow_cluster_ca": {"confirmed": True}},
    "upgrade": {"snapshot_controller_accept": ["kubectl"], "snapshot_controller_validation_webhook": False},
}


class Place(RotatingWorld):
    """One control plane, the programs that it calls, the rotation of its CA, and what people know about it."""

    def __init__(self, cluster: Cluster, journals: Path) -> None:
        super().__init__(cluster, journals / f"{cluster.name}.jsonl")
        self.place = cluster.name
        #: The state of the rotation, a key of _STEPS.
        self.phase = "none"
        #: The number of months for which it does not run.
        self.months_off = 0
        #: Program -> the events that are not mended yet.
        self.faults: dict[str, set[str]] = defaultdict(set)
        #: The findings of the last audit, None if the place could not be audited.
        self.findings: list[dict[str, Any]] | None = None
        #: The programs for which a run has not issued what it should.
        self.refused: list[str] = []
        for row in SHAPES:
            is_perfect = row.name in RENEWED and self.place == "twin"
            program = self.one(replace(row, certificate=_PERFECT, bundle=("cluster",)) if is_perfect else row)
            wait_for(program.is_called, evidence=program.call)
        #: Program -> what its owner wrote at the beginning into an object that no run owns.
        self.first = {program.name: program.content() for program in self.programs if not program.is_ours}

    @property
    def now(self) -> datetime.datetime:
        return self.cluster.now()

    @property
    def ours(self) -> list[Program]:
        """The programs whose certificates the runs issue."""
        return [program for program in self.programs if program.is_ours]

    @property
    def breaks(self) -> dict[str, datetime.datetime]:
        """The programs that break by the last audit -> the time. It is past if the audit calls a program broken."""
        return forecasts.breaks(self.programs, self.findings or (), self.now)

    def host(self, name: str) -> str:
        """Return the inventory host of a program. Several certificates of a cluster are several hosts."""
        return f"{self.place}-{name}"

    def is_written(self, name: str, since: datetime.datetime) -> bool:
        """Return True if an owner has written an object since a time, as nightly jobs do."""
        return any(entry.objects for entry in self.journal.entries(name, what=DONE, since=since))

    def has_failed(self, name: str, since: datetime.datetime) -> bool:
        """Return True if a call has failed since a time."""
        return any(entry.is_failure for entry in self.journal.entries(name, what=CALL, since=since))

    def be_off(self, months: int) -> None:
        self.journal.add(DONE, f"it is off for {months} months")
        self.months_off, self.answers, self.refused = months, {}, []
        self.switch_off()

    def be_on(self, with_clock_of: Place) -> None:
        self.journal.add(DONE, "it is on again")
        self.restart()
        self.jump(with_clock_of.now - self.now)
        self.months_off = 0
        self.call_all()

    def draw_step(self, chance: Random) -> tuple[str, str] | None:
        """Return the step of this month, and the state after it."""
        number = chance.random()
        for share, step, after in _STEPS[self.phase]:
            if number < share:
                return step, after
            number -= share
        return None

    def turn(self, step: str, after: str) -> None:
        """Take a step of the rotation, "" for its end."""
        self.journal.add(DONE, f"rotation: {step or 'is over'}")
        self.rotate(step)
        self.phase = after


class Run(ReportedRun):
    """A run of a playbook at these places."""

    def __init__(
        self, playbook: str, report: Path, places: Sequence[Place], *arguments: str, **options: Any
    ) -> None:
        #: What the run changed at each place.
        self.writes: dict[Place, list[Change]] = {}
        self._starts = [(place, place.user, place.cluster.audit_log.stat().st_size) for place in places]
        inventory = report.with_name("fleet.yml")
        inventory.write_text(yaml.safe_dump(_inventory(places)))
        words, ahead = ("-i", str(inventory), *arguments), places[-1].cluster.ahead
        super().__init__(playbook, report, *words, ahead=ahead, **{**_VARIABLES[playbook], **options})

    def finish(self, seconds: float = 600) -> None:
        super().finish(seconds)
        for place, user, start in self._starts:
            with place.restarting:
                self.writes[place] = [] if place.months_off else changes(place.cluster, user, start)


def _inventory(places: Sequence[Place]) -> dict[str, Any]:
    clusters = {place.place: {"certflow_kubeconfig": str(place.kubeconfig)} for place in places}
    webhooks = {
        place.host(program.name): {
            **clusters[place.place],
            "webhook_certificate_service": program.name,
            "webhook_certificate_namespace": place.name,
            "webhook_certificate_secret": {"name": program.name},
            "webhook_certificate_targets": [program.target],
            "webhook_certificate_signer_name": place.signer,
        }
        for place in places
        for program in place.ours
    }
    return {"all": {"children": {"clusters": {"hosts": clusters}, "webhooks": {"hosts": webhooks}}}}


def failing(answers: Mapping[str, str]) -> list[str]:
    return [name for name, answer in answers.items() if answer != ACCEPTED]
