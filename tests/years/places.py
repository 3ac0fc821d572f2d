# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The control planes of the simulation, and the programs that they call."""

from __future__ import annotations

import base64
import datetime
import sys
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import yaml

from tests.support.authority import Issued
from tests.support.rig import ADMINISTRATORS
from tests.support.waiting import becomes_true, wait_for
from tests.support.world import ACCEPTED, Program, Shape, World, shapes
from tests.support.world.journal import CALL
from tests.years import credential

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from tests.support.clusters import Cluster
    from tests.support.clusters.pki import KeyPair
    from tests.support.clusters.rotation import Rotation

DAY = datetime.timedelta(days=1)
#: The time of a round. The audit names an expiry 28 days before.
MONTH = 27 * DAY
YEAR = 365 * DAY
#: The name of a place -> the profile of its control plane. The twin has all that happens to the plant, and no run.
PROFILES = {"plant": "local-services", "eks": "eks-local-services", "twin": "local-services"}
PLANT, EKS, TWIN = PROFILES

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
    Shape("by-hand"),
    Shape("chart", shapes.MUTATING, owner=shapes.HELM, certificate=shapes.issued("chart"), bundle=("chart",)),
    Shape("gate", reached=shapes.BY_URL, owner=shapes.OPERATOR, failure_policy="Ignore"),
    Shape("legacy", shapes.CONVERSION, reached=shapes.BY_SLICE, owner=shapes.KUBECTL),
)
#: The certificate of a program of the twin that a run renews elsewhere: its owner never makes a mistake.
PERFECT = shapes.issued(life=(-1, 3600))

#: The time after which an API server has seen that an aggregated API works.
_AGGREGATED_SECONDS = 40
_BINDINGS = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"


@dataclass
class State:
    """What people know about a program, beside its objects."""

    #: The end of the certificate that its owner issued last, None if its owner does not have to.
    ends: datetime.datetime | None
    #: The events that are not mended yet.
    faults: set[str] = field(default_factory=set)


class Place(World):
    """One control plane, the programs that it calls, and the rotation of its CA."""

    def __init__(self, cluster: Cluster, name: str, journal: Path, rows: Iterable[Shape] = SHAPES) -> None:
        super().__init__(cluster, journal)
        self.place = name
        #: True if the playbooks run here.
        self.is_run = name != TWIN
        self.rotation: Rotation | None = None
        #: The state of the rotation, a key of `rotations.STEPS`.
        self.phase = "none"
        #: The number of months for which it does not run.
        self.months_off = 0
        self.states: dict[str, State] = {}
        for row in rows:
            is_ours = row.certificate == shapes.OURS
            made = (
                row if self.is_run or not is_ours else replace(row, certificate=PERFECT, bundle=("cluster",))
            )
            program = self.one(made)
            self.states[row.name] = State(None if is_ours else self.now + YEAR)
            wait_for(program.is_called, evidence=program.call)

    @property
    def now(self) -> datetime.datetime:
        return self.cluster.now()

    @property
    def ours(self) -> list[Program]:
        """The programs whose certificates the runs issue."""
        return [program for program in self.programs if program.is_ours]

    def program(self, name: str) -> Program:
        return next(program for program in self.programs if program.name == name)

    def sign_with(self, ca: KeyPair) -> None:
        """Let owners get certificates of this CA from now on."""
        self.cas["cluster"] = Issued(ca.certificate, ca.key)

    def log_in(self) -> None:
        """Write the kubeconfig of the runs, with the CAs that the cluster publishes now."""
        self.kubeconfig = self.cluster.kubeconfig_for(self.user, ADMINISTRATORS)

    def log_in_by_plugin(self) -> tuple[str, Path]:
        """Return a user, a ServiceAccount with all permissions, and a kubeconfig that gets its tokens from a plugin."""
        path = self.cluster.token_kubeconfig(credential.ACCOUNT, self.name)
        subject = {"kind": "ServiceAccount", "name": credential.ACCOUNT, "namespace": self.name}
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
        if self.ask("GET", f"{_BINDINGS}/{self.name}") != ACCEPTED:
            self.make(_BINDINGS, {"metadata": {"name": self.name}, "roleRef": role, "subjects": [subject]})
        config = yaml.safe_load(path.read_text())
        config["users"][0]["user"] = {
            "exec": {
                "apiVersion": credential.API,
                "interactiveMode": "Never",
                "command": sys.executable,
                "args": ["-m", credential.__name__, str(self.cluster.directory), self.name],
            }
        }
        path.write_text(yaml.safe_dump(config))
        return f"system:serviceaccount:{self.name}:{credential.ACCOUNT}", path

    def private_keys(self) -> Iterator[str]:
        """Yield the keys that are in Secrets now."""
        secrets = self.cluster.api("GET", f"/api/v1/namespaces/{self.name}/secrets")["items"]
        for secret in secrets:
            for name, value in (secret.get("data") or {}).items():
                if name.endswith(".key"):
                    yield base64.b64decode(value).decode()

    def jump(self, by: datetime.timedelta) -> bool:
        is_restarted = super().jump(by)
        if is_restarted:
            self.settle()
        return is_restarted

    def settle(self) -> None:
        """Wait until the API server asks the aggregated APIs again, which it does every half minute."""
        for program in () if self.months_off else self.programs:
            if program.shape.kind == shapes.AGGREGATED:
                becomes_true(program.is_called, _AGGREGATED_SECONDS)

    def call_all(self) -> dict[str, str]:
        """Call each program once. Return the answers. A cluster that is off has none."""
        answers: dict[str, str] = {}
        for program in () if self.months_off else self.programs:
            answers[program.name] = answer = program.call()
            self.journal.add(CALL, answer, program.name, is_failure=answer != ACCEPTED)
        return answers


def failing(answers: Mapping[str, str]) -> list[str]:
    return [name for name, answer in answers.items() if answer != ACCEPTED]
