# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The control planes of the simulation, the programs that they call, and the rotations of their CAs."""

from __future__ import annotations

import base64
import contextlib
import datetime
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import yaml

from tests.support.authority import Issued
from tests.support.clusters import AdminApiError
from tests.support.rig import ADMINISTRATORS
from tests.support.waiting import becomes_true, wait_for
from tests.support.world import ACCEPTED, Program, Shape, World, shapes
from tests.support.world.journal import CALL, DONE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from random import Random

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
#: The programs whose certificates come from the runs, also on the twin, where an owner without mistakes has them.
RENEWED = tuple(row.name for row in SHAPES if row.certificate == shapes.OURS)
_PERFECT = shapes.issued(life=(-1, 3600))

#: The programs that end with an API server, in the order in which they start.
_PROGRAMS = ("kube-apiserver", "kube-controller-manager")
#: The state of a rotation -> the chance of each step in a month, the method of Rotation, and the state after it.
STEPS: dict[str, tuple[tuple[float, str, str], ...]] = {
    "none": ((0.3, "publish", "published"),),
    "published": ((0.5, "switch", "switched"), (0.1, "withdraw_successor", "over")),
    "rolled-back": ((0.6, "switch", "switched"), (0.2, "withdraw_successor", "over")),
    # A third CA is published before the runs have removed the first one everywhere.
    "switched": ((0.2, "roll_back", "rolled-back"), (0.3, "drop_outgoing", "over"), (0.1, "publish", "published")),
    "over": ((1, "", "none"),),
}  # fmt: skip
#: The states in which the guide tells to run the phase finish.
FINISHING = ("switched", "over")
_ACCOUNT, _EXEC = "runs", "client.authentication.k8s.io/v1"
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

    def __init__(self, cluster: Cluster, name: str, journal: Path) -> None:
        super().__init__(cluster, journal)
        self.place = name
        #: True if the playbooks run here.
        self.is_run = name != TWIN
        self.rotation: Rotation | None = None
        #: The CAs before the outgoing one that stay published until the next removal. They signed certificates of the control plane.
        self._earlier: tuple[KeyPair, ...] = ()
        #: The state of the rotation, a key of STEPS.
        self.phase = "none"
        #: The number of months for which it does not run.
        self.months_off = 0
        #: True if kubectl, which has the clock of this machine, does not accept the certificate of the API server yet.
        self.is_dated = False
        #: True if there is a ServiceAccount for runs.
        self.has_account = False
        self.states: dict[str, State] = {}
        for row in SHAPES:
            is_perfect = row.name in RENEWED and not self.is_run
            program = self.one(replace(row, certificate=_PERFECT, bundle=("cluster",)) if is_perfect else row)
            self.states[row.name] = State(None if row.name in RENEWED else self.now + YEAR)
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

    def private_keys(self) -> Iterator[str]:
        """Yield the keys that are in Secrets now."""
        for secret in self.cluster.api("GET", f"/api/v1/namespaces/{self.name}/secrets")["items"]:
            for name, value in (secret.get("data") or {}).items():
                if name.endswith(".key"):
                    yield base64.b64decode(value).decode()

    # Calls

    def call_all(self) -> dict[str, str]:
        """Call each program once. Return the answers. A cluster that is off has none."""
        answers: dict[str, str] = {}
        for program in () if self.months_off else self.programs:
            answers[program.name] = answer = program.call()
            self.journal.add(CALL, answer, program.name, is_failure=answer != ACCEPTED)
        return answers

    def settle(self) -> None:
        """Let the API server ask its aggregated APIs again. It does so each half minute, and after each change."""
        for program in () if self.months_off else self.programs:
            with contextlib.suppress(OSError):  # the API server restarts again
                if program.shape.kind == shapes.AGGREGATED and not program.is_called():
                    mark = {"metadata": {"annotations": {"touched": f"{self.now}"}}}
                    with contextlib.suppress(AdminApiError):  # it does not exist now
                        self.cluster.api("PATCH", program.path, mark, "application/merge-patch+json")
                    becomes_true(program.is_called, 5)

    # Time

    def jump(self, by: datetime.timedelta) -> bool:
        is_restarted = super().jump(by)
        if is_restarted:
            self.settle()
        return is_restarted

    def restart(self) -> None:
        """Start what has ended, as kubelet does. Without an API server, the controller manager ends too."""
        ended = [name for name in _PROGRAMS if name not in self.cluster.running]
        self.cluster.collect(*ended)
        for name in ended:
            self.cluster.start(name)
            wait_for(self._is_ready)
        self.settle()

    def _is_ready(self) -> bool:
        with contextlib.suppress(Exception):
            self.cluster.client_of(timeout=2).request("GET", "/readyz")
            return True
        return False

    def switch_off(self, months: int) -> None:
        self.journal.add(DONE, f"it is off for {months} months")
        self.months_off = months
        for name in reversed(_PROGRAMS):
            self.cluster.stop(name)

    # The rotation of the CA

    def draw_step(self, chance: Random) -> tuple[str, str] | None:
        """Return the step of this month, and the state after it."""
        number = chance.random()
        for share, step, after in STEPS[self.phase]:
            if number < share:
                return step, after
            number -= share
        return None

    def rotate(self, step: str, after: str) -> None:
        """Take a step. Owners get certificates of the CA that signs then."""
        self.journal.add(DONE, f"rotation: {step or 'is over'}")
        if step == "publish":
            if self.rotation:
                self._earlier += (self.rotation.outgoing,)
            self.rotation = self.cluster.rotation(is_dated=True)
        elif step == "drop_outgoing":
            self._earlier = ()
        if self.rotation:
            self.rotation.further = self._earlier
        if step and self.rotation:
            getattr(self.rotation, step)()
            if step in ("switch", "roll_back"):
                self.is_dated = True
                signing = self.rotation.successor if step == "switch" else self.rotation.outgoing
                self.cas["cluster"] = Issued(signing.certificate, signing.key)
        else:
            self.rotation = None
        self.phase = after
        self.kubeconfig = self.cluster.kubeconfig_for(self.user, ADMINISTRATORS)

    # Who the runs are

    @contextlib.contextmanager
    def logged_in(self, user: str, kubeconfig: Path) -> Iterator[None]:
        """Let the runs be another user."""
        before = self.user, self.kubeconfig
        self.user, self.kubeconfig = user, kubeconfig
        try:
            yield
        finally:
            self.user, self.kubeconfig = before

    def make_plugin(self) -> tuple[str, Path, Path]:
        """Return a ServiceAccount with all permissions, a kubeconfig whose plugin prints a file, and that file."""
        path = self.cluster.token_kubeconfig(_ACCOUNT, self.name)
        if not self.has_account:
            subject = {"kind": "ServiceAccount", "name": _ACCOUNT, "namespace": self.name}
            role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
            self.make(_BINDINGS, {"metadata": {"name": self.name}, "roleRef": role, "subjects": [subject]})
            self.has_account = True
        printed = path.with_suffix(".token")
        plugin = {"apiVersion": _EXEC, "interactiveMode": "Never", "command": "cat", "args": [str(printed)]}
        config = yaml.safe_load(path.read_text())
        config["users"][0]["user"] = {"exec": plugin}
        path.write_text(yaml.safe_dump(config))
        return f"system:serviceaccount:{self.name}:{_ACCOUNT}", path, printed

    def credential(self, seconds: int) -> str:
        """Return what a plugin prints: a token of this lifetime."""
        path = f"/api/v1/namespaces/{self.name}/serviceaccounts/{_ACCOUNT}/token"
        status = self.cluster.api("POST", path, {"spec": {"expirationSeconds": seconds}})["status"]
        return json.dumps({"apiVersion": _EXEC, "kind": "ExecCredential", "status": status})


def failing(answers: Mapping[str, str]) -> list[str]:
    return [name for name, answer in answers.items() if answer != ACCEPTED]
