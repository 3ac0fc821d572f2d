# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What goes wrong in the middle of an upgrade, as data, and what becomes of it: of that run, and of the next one."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests import playbook
from tests.real import snapshot_lab as lab
from tests.real.node_webhook import wait_for
from tests.real.snapshot_kept import GROUPS
from tests.upgrades.jumps import FROM_BETA, ONE, Jump, counts
from tests.upgrades.lab import BINDINGS, UPGRADERS, Upgrade, grant, pods

if TYPE_CHECKING:
    import subprocess

    from tests.clusters import Cluster
    from tests.playbook import Run
    from tests.upgrades.lab import Lab

Deed = Callable[["Cluster"], object]
HERE = "onprem"
COMPLETES, REFUSES = "completes", "writes nothing, and says why"
BACK, STOPS = "fails, and what ran before is back", "fails, and says what is left to do"
CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/volumesnapshots.snapshot.storage.k8s.io"
JSON_PATCH, MERGE_PATCH = "application/json-patch+json", "application/merge-patch+json"
USUAL = Jump("6.2.2", "7.0.2", ONE)
SHORTLY = {"snapshot_controller_step_timeout": 60}


def nothing(_cluster: Cluster) -> None:
    pass


@dataclass(frozen=True)
class Fault:
    """A row. do: what happens when the task ``at`` begins, or before the run without one; mend: before the next run.

    given: variables of the run that meets it. ends: how that run may end. is_outage: while it lasts nobody could answer.
    """

    name: str
    ends: tuple[str, ...]
    at: str = ""
    do: Deed = nothing
    mend: Deed = nothing
    given: Mapping[str, Any] = field(default_factory=dict)
    jump: Jump = USUAL
    is_outage: bool = False


def _unbind_controller(cluster: Cluster) -> None:
    cluster.api("DELETE", f"{BINDINGS}/snapshot-controller-role")


def _take_rights(cluster: Cluster) -> None:
    cluster.api("DELETE", f"{BINDINGS}/{UPGRADERS}")


def _restart_api(cluster: Cluster) -> None:
    cluster.stop("kube-apiserver", signal.SIGKILL)
    cluster.start("kube-apiserver")


def _stop_kubelet(cluster: Cluster) -> None:
    cluster.stop("kubelet", signal.SIGKILL)


def _start_kubelet(cluster: Cluster) -> None:
    cluster.start("kubelet")
    wait_for(lambda: lab.webhook_refuses(cluster, "6.2.2"), seconds=180)


_POLICIES = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolic"
_NAME = {"metadata": {"name": "certflow-keeps-groups"}}


def _forbid_group_updates(cluster: Cluster) -> None:
    rule = {
        "apiGroups": [GROUPS.rpartition("/")[2]], "apiVersions": ["*"], "operations": ["UPDATE"],
        "resources": ["volumegroupsnapshotcontents"],
    }  # fmt: skip
    spec = {"matchConstraints": {"resourceRules": [rule]}, "validations": [{"expression": "false"}]}
    binding = {"policyName": _NAME["metadata"]["name"], "validationActions": ["Deny"]}
    cluster.api("POST", f"{_POLICIES}ies", {**_NAME, "spec": spec})
    cluster.api("POST", f"{_POLICIES}ybindings", {**_NAME, "spec": binding})
    time.sleep(5)  # it is compiled, and then asked


def _allow_group_updates(cluster: Cluster) -> None:
    for kind in ("ybindings", "ies"):
        cluster.api("DELETE", f"{_POLICIES}{kind}/{_NAME['metadata']['name']}")
    time.sleep(5)


_V9 = {"name": "v9", "served": False, "storage": False, "schema": {"openAPIV3Schema": {"type": "object"}}}


def _store_at_unknown(cluster: Cluster) -> None:
    cluster.api("PATCH", CRD, [{"op": "add", "path": "/spec/versions/-", "value": _V9}], JSON_PATCH)
    cluster.api("PATCH", f"{CRD}/status", {"status": {"storedVersions": ["v9", "v1"]}}, MERGE_PATCH)


def _forget_unknown(cluster: Cluster) -> None:
    cluster.api("PATCH", f"{CRD}/status", {"status": {"storedVersions": ["v1"]}}, MERGE_PATCH)
    found = cluster.api("GET", CRD)
    found["spec"]["versions"] = [one for one in found["spec"]["versions"] if one["name"] != "v9"]
    cluster.api("PUT", CRD, found)


FAULTS = (
    Fault(
        "an image that does not exist",
        (BACK,),
        given={"snapshot_controller_image_registry": "nowhere.invalid/certflow", **SHORTLY},
    ),
    Fault(
        "a webhook that never gets ready",
        (BACK,),
        given={"snapshot_controller_webhook": {"node_selector": {"certflow.invalid/no": "node"}}, **SHORTLY},
    ),
    Fault("a proof that fails", (BACK,), at="A snapshot is worked on", do=_unbind_controller, given=SHORTLY),
    Fault("storedVersions that refuse", (REFUSES,), do=_store_at_unknown, mend=_forget_unknown),
    Fault(
        "an object that refuses its migration",
        (REFUSES, STOPS, BACK),
        do=_forbid_group_updates,
        mend=_allow_group_updates,
        jump=FROM_BETA,
    ),
    Fault(
        "a right taken away in the middle",
        (STOPS,),
        at="The Service leads to the new pods alone",
        do=_take_rights,
        mend=grant,
    ),
    Fault("the API server killed, and started again", (COMPLETES,), at="The webhook of 7.0.2", do=_restart_api, is_outage=True),
    Fault(
        "the node gone",
        (STOPS,),
        at="Its pods answer",
        do=_stop_kubelet,
        mend=_start_kubelet,
        given=SHORTLY,
        is_outage=True,
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Met:
    """What became of it. end: of the run that met it. wrong: what was not as it has to be, a line each."""

    fault: str
    jump: str
    end: str
    made: int
    refused: int
    wrong: tuple[str, ...]


def meet(site: Lab, fault: Fault, say: Callable[[str], None]) -> Met:
    """One run that meets it; then, with that mended, another one. Raises AssertionError where the next does not complete."""
    jump = fault.jump
    upgrade = Upgrade(site, jump.first, jump.policies, say, jump.groups[0])
    cluster, before = site.fleet[HERE], pods(site.fleet[HERE])
    with upgrade.under_load(jump.first):
        if not fault.at:
            fault.do(cluster)
        run, moments = site.attempt(
            jump.last, HERE, meet=_once(fault.at, lambda: fault.do(cluster)), **{**jump.given, **fault.given}
        )
    fault.mend(cluster)
    upgrade.tell(f"{jump.last}, {fault.name}", moments)
    end, (made, refused, *_invalid) = _end(run), counts(upgrade.load[HERE])
    wrong = [] if end in fault.ends else [run.output]
    wrong += ["what failed is not said in one line"] if _is_torn(run) else []
    wrong += [str(one) for one in upgrade.load[HERE].wrong()[:5] if not fault.is_outage]
    wrong += ["other pods run than before"] if end in (BACK, REFUSES) and pods(cluster) != before else []
    upgrade.kept[HERE].check(_served(cluster, jump))
    upgrade.let_turns_lapse()
    upgrade.to(jump.last, jump.groups[1], **jump.given)
    return Met(fault.name, str(jump), end, made, refused, tuple(wrong))


def _once(task: str, do: Callable[[], object]) -> playbook.Meet:
    done: list[str] = []

    def met(name: str, _process: subprocess.Popen[str]) -> None:
        if name == task and not done:
            done.append(name)
            do()

    return met


def _served(cluster: Cluster, jump: Jump) -> str:
    """The version at which group snapshots can be read now."""
    if not jump.groups[0]:
        return ""
    versions = [one["version"] for one in cluster.api("GET", GROUPS)["versions"]]
    return jump.groups[0] if jump.groups[0] in versions else str(versions[0])


def _is_torn(run: Run) -> bool:
    """Whether the message of the failure has a line break in it."""
    said = [line for line in run.output.splitlines() if line.startswith("fatal: ")][-1:]
    return any("\\n" in line for line in said)


def _end(run: Run) -> str:
    if run.status == 0:
        return COMPLETES
    if ": Take this run's turn]" not in run.output:
        return REFUSES
    return BACK if "Put back to " in run.output else STOPS


# The webhook ends on the one, and is handed over from pods to pods on the other.
KILLED_ALL_ALONG = (Jump("4.2.1", "8.7.0", ONE), USUAL)


def killed_at_every_step(site: Lab, jump: Jump, say: Callable[[str], None]) -> tuple[int, int, int]:
    """Each run goes one step further than the one before, and is killed there, until one completes.

    Returns how many were killed, and how many valid creates were made and refused meanwhile.
    """
    upgrade, killed = Upgrade(site, jump.first, jump.policies, say), 0
    with upgrade.under_load(jump.last):
        moments = []
        while True:
            run, began = site.attempt(jump.last, HERE, meet=kill_after(killed), **jump.given)
            moments += began
            if run.status == 0:
                break
            assert run.status == -signal.SIGKILL, run.output
            killed += 1
            upgrade.let_turns_lapse()
    upgrade.tell(f"{jump.last}, killed {killed} times", moments)
    assert upgrade.load[HERE].wrong() == []
    made, refused, *_invalid = counts(upgrade.load[HERE])
    upgrade.check(jump.last, jump.groups[1], **jump.given)
    return killed, made, refused


def kill_after(steps: int, seconds: float = 1.0) -> playbook.Meet:
    """Kills a run that long after it began the step behind so many."""
    seen = [-1]

    def met(name: str, process: subprocess.Popen[str]) -> None:
        if name in ("Note how this hop begins", "Note what became of it"):
            seen[0] += 1
        if seen[0] == steps:
            seen[0] += 1
            time.sleep(seconds)
            playbook.kill(process)

    return met


def kill_at(task: str) -> playbook.Meet:
    """Kills a run when this task begins."""

    def met(name: str, process: subprocess.Popen[str]) -> None:
        if name == task:
            playbook.kill(process)

    return met
