# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Faults during an upgrade as data, and the ends of that run and of the next one."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.support.playbooks import playbook
from tests.support.upgrade import snapshot_lab as lab
from tests.support.upgrade.snapshot_kept import GROUPS
from tests.support.waiting import wait_for
from tests.system.upgrade.rows import records
from tests.system.upgrade.rows.jumps import FROM_BETA, ONE, Jump, counts
from tests.system.upgrade.rows.lab import BINDINGS, UPGRADERS, UpgradePath, grant, pods

if TYPE_CHECKING:
    import subprocess

    from tests.support.clusters import Cluster
    from tests.support.playbooks.playbook import TaskStart
    from tests.support.upgrade.snapshot_load import SnapshotLoad
    from tests.system.upgrade.rows.lab import Lab, RoleOutcome

Deed = Callable[["Cluster"], object]
HERE = "onprem"
COMPLETES, REFUSES = "completes", "writes nothing, and says why"
BACK, STOPS = "fails, and what ran before is back", "fails, and says what is left to do"
CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/volumesnapshots.snapshot.storage.k8s.io"
JSON_PATCH, MERGE_PATCH = "application/json-patch+json", "application/merge-patch+json"
USUAL = Jump("6.2.2", "7.0.2", ONE)
IN_FLIGHT_SECONDS = 1.0
SHORTLY = {"snapshot_controller_step_timeout": 60}


def nothing(_cluster: Cluster) -> None:
    pass


@dataclass(frozen=True)
class UpgradeFault:
    """A row of the table of faults."""

    #: Name in the table.
    name: str
    #: Allowed ends of the run.
    ends: tuple[str, ...]
    #: Id of the step at which the fault happens, "" if it happens before the run.
    at: str = ""
    #: Injects the fault.
    do: Deed = nothing
    #: Repairs it before the next run.
    mend: Deed = nothing
    #: Variables of the run.
    given: Mapping[str, Any] = field(default_factory=dict)
    jump: Jump = USUAL
    #: True if valid creates are refused because the API server or the only node does not answer.
    is_outage: bool = False
    #: First and last step of a time in which valid creates are refused, ("", "") without such a time.
    outage: tuple[str, str] = ("", "")
    #: Failure code, "" for any.
    code: str = ""
    #: A part of the message.
    says: str = ""

    @property
    def may_refuse(self) -> bool:
        return self.is_outage or bool(self.outage[0])


def _unbind_controller(cluster: Cluster) -> None:
    cluster.api("DELETE", f"{BINDINGS}/snapshot-controller-role")


def _remove_permissions(cluster: Cluster) -> None:
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
    time.sleep(5)  # the API server compiles the policy and then applies it


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
    found["spec"]["versions"] = [version for version in found["spec"]["versions"] if version["name"] != "v9"]
    cluster.api("PUT", CRD, found)


# With this memory the webhook of 7.0.2 starts and answers. It is killed under load.
LIMITED = {"spec": {"template": {"spec": {"containers": [{"resources": {"limits": {"memory": "6Mi"}}}]}}}}

FAULTS = (
    UpgradeFault(
        "an image that does not exist",
        (BACK,),
        given={"snapshot_controller_image_registry": "nowhere.invalid/certflow", **SHORTLY},
        code="rollout-failed",
    ),
    UpgradeFault(
        "a webhook that never gets ready",
        (BACK,),
        given={"snapshot_controller_webhook": {
                "spec": {"template": {"spec": {"nodeSelector": {"certflow.invalid/no": "node"}}}}
            }, **SHORTLY},
        code="rollout-failed",
    ),
    UpgradeFault(
        "a webhook that is killed under load",
        (BACK,),
        given={"snapshot_controller_webhook": LIMITED},
        code="rollout-failed",
        outage=("webhook-switch", "webhook-settle-reconnect (undo)"),
    ),
    UpgradeFault(
        "a proof that fails",
        (BACK,),
        given={"snapshot_controller_arguments": ["--worker-threads=0"], **SHORTLY},
        code="verification-failed",
    ),
    UpgradeFault(
        "a permission of the controller that another client deletes",
        (STOPS,),
        at="verify-version",
        do=_unbind_controller,
        given=SHORTLY,
        code="verification-failed",
        says="Another client deleted ClusterRoleBinding snapshot-controller-role",
    ),
    UpgradeFault("storedVersions that refuse", (REFUSES,), do=_store_at_unknown, mend=_forget_unknown, code="upgrade-refused"),
    UpgradeFault("an object that refuses its migration", (REFUSES, STOPS, BACK), do=_forbid_group_updates, mend=_allow_group_updates, jump=FROM_BETA),
    UpgradeFault("a right taken away in the middle", (STOPS,), at="webhook-switch", do=_remove_permissions, mend=grant),
    UpgradeFault("the API server killed, and started again", (COMPLETES,), at="webhook-deployment", do=_restart_api, is_outage=True),
    UpgradeFault("the node gone", (STOPS,), at="webhook-wait", do=_stop_kubelet, mend=_start_kubelet, given=SHORTLY, is_outage=True),
)  # fmt: skip


@dataclass(frozen=True)
class Met:
    """The result of a fault."""

    fault: str
    jump: str
    #: End of the run.
    end: str
    #: Code of its failure.
    code: str
    #: Number of valid creates during the run.
    made: int
    #: Number of refused ones among them.
    refused: int
    #: A line for each unexpected result.
    wrong: tuple[str, ...]


def meet(rig: Lab, fault: UpgradeFault, say: Callable[[str], None]) -> Met:
    """Run the role with a fault, repair it, and run the role again.

    Raises AssertionError if the second run fails.
    """
    jump = fault.jump
    upgrade = UpgradePath(rig, jump.first, jump.policies, say, jump.groups[0])
    cluster, before = rig.fleet[HERE], pods(rig.fleet[HERE])
    with upgrade.under_load(jump.first):
        if not fault.at:
            fault.do(cluster)
        met = _once(fault.at, lambda: fault.do(cluster))
        outcome = rig.attempt(jump.last, HERE, meet=met, **{**jump.given, **fault.given, **_only(rig, fault)})
    fault.mend(cluster)
    upgrade.tell(f"{jump.last}, {fault.name}", outcome.moments)
    end, (made, refused, *_invalid) = end_of(outcome), counts(upgrade.load[HERE])
    wrong = _wrong(fault, outcome, upgrade.load[HERE])
    wrong += ["other pods run than before"] if end in (BACK, REFUSES) and pods(cluster) != before else []
    upgrade.kept[HERE].check(_served(cluster, jump))
    upgrade.let_leases_expire()
    upgrade.to(jump.last, jump.groups[1], **jump.given)
    code = outcome.result.get("code", "")
    return Met(fault.name, str(jump), end, code, made, refused, tuple(wrong))


def _only(rig: Lab, fault: UpgradeFault) -> dict[str, Any]:
    """Return the variables of a source that has only the target, if the way leads there at once. An undo needs no source."""
    return rig.source_of(fault.jump.last) if fault.jump is USUAL else {}


def _wrong(fault: UpgradeFault, outcome: RoleOutcome, load: SnapshotLoad) -> list[str]:
    """Return a line for each result that the fault does not allow."""
    end, result = end_of(outcome), outcome.result
    lines = [] if end in fault.ends else [f"it {end}", outcome.run.output]
    if fault.code and result["code"] != fault.code:
        lines.append(f"the code of the failure is {result['code']}, not {fault.code}")
    if fault.says not in result.get("msg", ""):
        lines.append(f"the message of the failure does not say: {fault.says}")
    if "\n" in result.get("msg", ""):
        lines.append("the message of the failure has more than one line")
    begin, end_at = _outage(fault, outcome.moments)
    refused = [answer for answer in load.wrong() if not fault.is_outage and not begin <= answer.at <= end_at]
    return [*lines, *(str(entry) for entry in refused[:5])]


def _outage(fault: UpgradeFault, moments: Sequence[TaskStart]) -> tuple[float, float]:
    """Return the times between which valid creates may be refused. After the last step a call in flight may still fail."""
    names = [moment.name for moment in moments]
    if not {*fault.outage} <= {*names}:
        return 0.0, 0.0
    first, last = (names.index(step) for step in fault.outage)
    return moments[first].at, moments[last + 1].at + IN_FLIGHT_SECONDS


def _once(step: str, do: Callable[[], object]) -> playbook.Meet:
    done: list[str] = []

    def met(name: str, _process: subprocess.Popen[str]) -> None:
        if name == step and not done:
            done.append(name)
            do()

    return met


def _served(cluster: Cluster, jump: Jump) -> str:
    """Return the version at which group snapshots can be read now."""
    if not jump.groups[0]:
        return ""
    versions = [version["version"] for version in cluster.api("GET", GROUPS)["versions"]]
    return jump.groups[0] if jump.groups[0] in versions else str(versions[0])


def end_of(outcome: RoleOutcome) -> str:
    """Return the end of a run on one cluster, from its result."""
    result = outcome.result
    if outcome.run.status == 0:
        return COMPLETES
    if not any(step["changed"] for step in result.get("steps", ())):
        return REFUSES
    return BACK if result["undone"]["is_back"] else STOPS


# In the first jump the webhook ends, in the second its pods are replaced.
KILLED_ALL_ALONG = (Jump("4.2.1", "8.7.0", ONE), USUAL)
# Seconds from the beginning of a step to the kill. Runs use them in turn.
KILL_SECONDS = (0.0, 0.3, 1.0)


@dataclass(frozen=True)
class Kills:
    """The result of runs that were killed until one completed."""

    #: Number of killed runs.
    killed: int
    #: Ids of the steps on their Leases, in order.
    records: tuple[str, ...]
    #: Number of valid creates meanwhile.
    made: int
    #: Number of refused ones among them.
    refused: int


def killed_at_every_step(rig: Lab, jump: Jump, say: Callable[[str], None]) -> Kills:
    """Kill each run one step later than the previous one, until one completes.

    The Lease of each run must name the step at which it was killed. The run that completes must report the
    last of them.
    """
    upgrade = UpgradePath(rig, jump.first, jump.policies, say)
    named: list[Mapping[str, Any] | None] = []
    last: Mapping[str, Any] | None = None
    planned = rig.plan(jump.last, *jump.policies, **jump.given)
    with upgrade.under_load(jump.last):
        moments = []
        while True:
            seconds = KILL_SECONDS[len(named) % len(KILL_SECONDS)]
            outcome = rig.attempt(jump.last, HERE, meet=kill_after(len(named), seconds), **jump.given)
            moments += outcome.moments
            if outcome.run.status == 0:
                break
            assert outcome.run.status == -signal.SIGKILL, outcome.run.output
            named.append(upgrade.check_records(outcome)[HERE])
            if named[-1]:
                last = named[-1]
            elif records.ends([moment for moment in outcome.moments if moment.host == HERE]):
                last = None  # that run had released the Lease
            say(
                f"killed after {len(named)} steps and {seconds} s, on record: {(named[-1] or {}).get('step')}\n"
            )
            upgrade.let_leases_expire()
            upgrade.check_plan(planned, jump.last, **jump.given)
    upgrade.tell(f"{jump.last}, killed {len(named)} times", moments)
    assert upgrade.load[HERE].wrong() == []
    assert not records.wrong_previous(outcome.result, last), outcome.run.output
    made, refused, *_invalid = counts(upgrade.load[HERE])
    upgrade.check(jump.last, jump.groups[1], **jump.given)
    steps = tuple(entry["step"] for entry in named if entry)
    # Fewer than the steps of the first plan, because the next run plans only the remaining steps.
    assert len(set(steps)) >= 6, steps
    return Kills(len(named), steps, made, refused)


def kill_after(steps: int, seconds: float) -> playbook.Meet:
    """Return a hook that kills a run this time after it began the step with this number of steps before it."""
    seen = [0]

    def met(name: str, process: subprocess.Popen[str]) -> None:
        if not playbook.is_step(name):
            return
        if seen[0] == steps:
            time.sleep(seconds)
            playbook.kill(process)
        seen[0] += 1

    return met


def kill_at(step: str) -> playbook.Meet:
    """Return a hook that kills a run when this step begins."""

    def met(name: str, process: subprocess.Popen[str]) -> None:
        if name == step:
            playbook.kill(process)

    return met
