# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The state of a rollout, from the objects as an API server returns them."""

from __future__ import annotations

import time
from typing import Any, cast

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.errors import (
    ConnectionFailed,
    Forbidden,
    KubeError,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.errors import (
    RolloutError,
    StepError,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.kinds import Reference
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade.steps import waits
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade.steps.rollout_report import (
    MORE_MEMORY,
    DeploymentPods,
    RolloutTrouble,
    count_restarts,
    event_lines,
    find_crash_loops,
    find_refused_sets,
    find_setbacks,
    rollout_progress,
    select_worst_pods,
)

Object = dict[str, Any]
REVISION = "deployment.kubernetes.io/revision"


def _of(owner: str) -> Object:
    return {"ownerReferences": [{"uid": owner, "controller": True}]}


def deployment(*, replicas: int = 2, revision: str = "2", observed: int = 5, **status: Any) -> Object:
    """counts: updated, available and all pods in its status, by default all that the spec requires."""
    counts = {"updatedReplicas": replicas, "availableReplicas": replicas, "replicas": replicas}
    return {
        "metadata": {"uid": "deployment", "generation": 5, "annotations": {REVISION: revision}},
        "spec": {"replicas": replicas},
        "status": {"observedGeneration": observed, **counts, **status},
    }


def replica_set(uid: str, revision: str, owner: str = "deployment") -> Object:
    return {"metadata": {"uid": uid, "annotations": {REVISION: revision}, **_of(owner)}}


def pod(name: str, of: str = "new", *, ending: bool = False, **status: Any) -> Object:
    metadata = {"name": name, "uid": name, **_of(of), **({"deletionTimestamp": "t"} if ending else {})}
    return {"metadata": metadata, "status": status}


def box(state: Object, **more: Any) -> Object:
    return {"containerStatuses": [{"name": "hook", "state": state, **more}]}


SETS = [replica_set("old", "1"), replica_set("new", "2"), replica_set("strange", "2", owner="another")]
TWO = [pod("a"), pod("b")]
# A case: the Deployment, the pods, and True if the rollout is done.
DONE: dict[str, tuple[Object, list[Object], bool]] = {
    "all are new and available": (deployment(), TWO, True),
    "its controller has not seen the newest template yet": (deployment(observed=4), TWO, False),
    "an evicted pod stays, as Failed": (
        deployment(),
        [*TWO, pod("c", "old", phase="Failed"), pod("d", phase="Failed")],
        True,
    ),
    "one is not available yet": (deployment(availableReplicas=1), TWO, False),
    "one is not of the new template yet": (deployment(updatedReplicas=1), TWO, False),
    "an old one is left": (deployment(), [*TWO, pod("c", "old")], False),
    "an old one is on its way out": (deployment(), [*TWO, pod("c", "old", ending=True)], True),
    "pods of another do not count": (deployment(), [*TWO, pod("c", "strange"), pod("d", "none")], True),
    "none is wanted": (deployment(replicas=0), [], True),
}


@pytest.mark.parametrize("case", DONE)
def test_a_rollout_is_done_or_not(case: str) -> None:
    wanted, pods, done = DONE[case]
    assert rollout_progress(DeploymentPods(wanted, SETS, pods)).is_complete is done


def test_pods_that_are_being_deleted_are_listed() -> None:
    pods = [*TWO, pod("c", "old", ending=True), pod("d", "strange", ending=True)]
    assert rollout_progress(DeploymentPods(deployment(), SETS, pods)).ending == {"c"}


LOG = ("a", "hook")
# A case: the status of a pod of the new template, and its troubles.
TROUBLES: dict[str, tuple[Object, list[RolloutTrouble]]] = {
    "it runs and is ready": (box({"running": {"startedAt": "t"}}, ready=True), []),
    "it is being made": (box({"waiting": {"reason": "ContainerCreating"}}), []),
    "it runs and does not answer": (
        box({"running": {"startedAt": "t"}}, ready=False), [RolloutTrouble("pod a: container hook runs but is not ready", log=LOG)],
    ),
    "its image is not there yet": (
        box({"waiting": {"reason": "ImagePullBackOff", "message": "no\n  such image"}}),
        [RolloutTrouble("pod a: container hook: ImagePullBackOff: no such image")],
    ),
    "an image of that name cannot be": (
        box({"waiting": {"reason": "InvalidImageName", "message": "m"}}), [RolloutTrouble("pod a: container hook: InvalidImageName: m", True)],
    ),
    "it ended once": (
        box({"terminated": {"exitCode": 2}}), [RolloutTrouble("pod a: container hook ended 1 times, the last time with exit code 2", False, LOG)],
    ),
    "it ends again and again": (
        box({"waiting": {"reason": "CrashLoopBackOff"}}, restartCount=3, lastState={"terminated": {"exitCode": 2}}),
        [RolloutTrouble("pod a: container hook ended 4 times, the last time with exit code 2", True, LOG)],
    ),
    # Its log does not show the reason.
    "it exceeds its memory limit": (
        box({"waiting": {"reason": "CrashLoopBackOff"}}, restartCount=1, lastState={"terminated": {"reason": "OOMKilled", "exitCode": 137}}),
        [RolloutTrouble("pod a: container hook ended 2 times, the last time with exit code 137 (OOMKilled)", remedy=MORE_MEMORY)],
    ),
    # The validation webhook ends with 0 for a flag that it does not know.
    "it ends again and again, and says that all is well": (
        box({"waiting": {"reason": "CrashLoopBackOff"}}, restartCount=1, lastState={"terminated": {"exitCode": 0}}),
        [RolloutTrouble("pod a: container hook ended 2 times, the last time with exit code 0", False, LOG)],
    ),
    "no node takes it": (
        {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}]},
        [RolloutTrouble("pod a cannot be scheduled: 0/1 nodes")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", TROUBLES)
def test_the_troubles_of_a_pod(case: str) -> None:
    status, troubles = TROUBLES[case]
    found = rollout_progress(DeploymentPods(deployment(availableReplicas=0), SETS, [pod("a", **status)]))
    assert list(found.troubles) == troubles


def test_the_troubles_of_old_pods_do_not_count() -> None:
    crashing = box({"waiting": {"reason": "CrashLoopBackOff"}}, restartCount=9)
    assert rollout_progress(DeploymentPods(deployment(), SETS, [pod("a", "old", **crashing)])).troubles == ()


# A case: a condition of the Deployment, and its troubles.
CONDITIONS: dict[str, tuple[Object, list[RolloutTrouble]]] = {
    "a quota refuses its pods": (
        {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota"},
        [RolloutTrouble("the API server refuses its pods: exceeded quota")],
    ),
    "it took too long": (
        {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "m"},
        [RolloutTrouble("ProgressDeadlineExceeded: m", is_lasting=True)],
    ),
    "it goes on": ({"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated"}, []),
}


@pytest.mark.parametrize("case", CONDITIONS)
def test_the_troubles_of_a_deployment(case: str) -> None:
    condition, troubles = CONDITIONS[case]
    assert (
        list(rollout_progress(DeploymentPods(deployment(conditions=[condition]), SETS, [])).troubles)
        == troubles
    )


def test_conditions_of_an_older_template_are_not_this_ones() -> None:
    failed = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "m"}
    assert (
        rollout_progress(DeploymentPods(deployment(observed=4, conditions=[failed]), SETS, [])).troubles == ()
    )


# The pods and events of a failure

TIME = "2026-11-26T04:00:{:02}Z"
OOM: Object = {"reason": "OOMKilled", "exitCode": 137, "finishedAt": TIME.format(9)}
READY: Object = {"conditions": [{"type": "Ready", "status": "True"}]}


def event(number: int, **more: Any) -> Object:
    return {
        "reason": f"R{number}",
        "message": f"m {number}",
        "lastTimestamp": TIME.format(number),
        "count": 2,
        **more,
    }


# In the form of events.k8s.io and in the older forms.
TIMES: list[Object] = [
    {"lastTimestamp": TIME.format(1)},
    {"lastTimestamp": None, "eventTime": TIME.format(2)},
    {"eventTime": TIME.format(1), "series": {"count": 4, "lastObservedTime": TIME.format(3)}},
    {"metadata": {"creationTimestamp": TIME.format(4)}},
]


def test_the_newest_five_events_are_reported() -> None:
    found = event_lines(pod("a"), [event(number) for number in (3, 1, 7, 5, 6, 2, 4)])
    assert found == [f"event of a: R{number}: m {number}" for number in (7, 6, 5, 4, 3)]
    made = [{"reason": f"R{number}", "message": "m", **fields} for number, fields in enumerate(TIMES, 1)]
    assert [line.split()[3] for line in event_lines(pod("a"), made)] == ["R4:", "R3:", "R2:", "R1:"]


def test_long_text_of_the_cluster_is_cut() -> None:
    (found,) = event_lines(pod("a"), [event(1, message="x\n" * 5000)])
    assert len(found) < 1000
    assert "\n" not in found


def test_at_most_five_pods_of_the_newest_template_the_worst_first() -> None:
    crashing = box({"waiting": {"reason": "CrashLoopBackOff"}}, restartCount=4)
    restarted = {**READY, **box({"running": {}}, ready=True, restartCount=1)}
    fine = {**READY, **box({"running": {}}, ready=True)}
    pods = [
        *(pod(f"fine-{number}", **fine) for number in range(4)),
        pod("restarted", **restarted),
        pod("crashing", **crashing),
        pod("old", "old", **crashing),
        pod("strange", "strange", **crashing),
        pod("ending", ending=True, **crashing),
    ]
    found = [
        worst_pod["metadata"]["name"]
        for worst_pod in select_worst_pods(DeploymentPods(deployment(), SETS, pods))
    ]
    assert found == ["crashing", "restarted", "fine-0", "fine-1", "fine-2"]


def test_no_pods_while_the_newest_template_is_not_known() -> None:
    """The controller has not read the template, so the revision of the Deployment is still that of the old pods."""
    assert select_worst_pods(DeploymentPods(deployment(observed=4), SETS, TWO)) == []
    assert find_refused_sets(DeploymentPods(deployment(observed=4), [refusing("new", "2")], [])) == []


def refusing(uid: str, revision: str) -> Object:
    failure = {
        "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded\n quota",
    }  # fmt: skip
    status = {"conditions": [{"type": "Other", "status": "True"}, failure], "replicas": 0}
    made = replica_set(uid, revision)
    return {**made, "metadata": {**made["metadata"], "name": uid}, "spec": {"replicas": 2}, "status": status}


def test_a_replica_set_whose_pods_are_refused_is_reported() -> None:
    sets = [refusing("old", "1"), refusing("new", "2"), replica_set("strange", "2", owner="another")]
    (found,) = find_refused_sets(DeploymentPods(deployment(), sets, []))
    assert found["metadata"]["name"] == "new"


def test_a_replica_set_without_a_refusal_is_not_reported() -> None:
    made = refusing("new", "2")
    made["status"]["conditions"][1]["status"] = "False"
    assert find_refused_sets(DeploymentPods(deployment(), [made], [])) == []


# The error of a wait that fails

TARGET = Reference("Deployment", "hook", "default")


class RolloutCluster:
    """A client of objects that do not change. events: by UID. refusal: the error of every list of events."""

    def __init__(
        self, made: Object, sets: list[Object], pods: list[Object], refusal: KubeError | None = None
    ) -> None:
        made["spec"]["selector"] = {"matchLabels": {"app": "hook"}}
        self.deadline = float("-inf")
        self.objects = {"deployments": [made], "replicasets": sets, "pods": pods}
        self.refusal = refusal
        self.event_requests: list[str] = []

    def find(self, _path: str) -> Object | None:
        return next(iter(self.objects["deployments"]), None)

    def list_all(self, path: str, query: dict[str, str]) -> Object:
        kind = path.rpartition("/")[2]
        if kind != "events":
            return {"items": self.objects[kind]}
        self.event_requests.append(query["fieldSelector"])
        if self.refusal:
            raise self.refusal
        return {"items": [event(1, message=f"of {query['fieldSelector'].rpartition('=')[2]}")]}

    def text(self, _path: str, _query: dict[str, str]) -> str:
        return "it says\n"


def failed(cluster: RolloutCluster) -> RolloutError:
    with pytest.raises(RolloutError) as caught:
        waits.until_available(cast("Any", cluster), TARGET)
    assert caught.value.code == "rollout-failed"
    assert "\n" not in str(caught.value)
    return caught.value


def reported(error: RolloutError) -> list[str]:
    """Return the names of the objects whose events the error has, in their order."""
    return [line.split()[2].rstrip(":") for line in error.evidence if line.startswith("event of ")]


CRASHING = box({"waiting": {"reason": "CrashLoopBackOff"}}, restartCount=1, lastState={"terminated": OOM})


def test_a_failed_rollout_carries_the_events_of_its_pods() -> None:
    pods = [pod("a", **CRASHING), pod("b", **CRASHING), pod("c", "old")]
    error = failed(RolloutCluster(deployment(availableReplicas=0), SETS, pods))
    for name in ("a", "b"):
        assert f"event of {name}: R1: of {name}" in error.evidence
    assert not [line for line in error.evidence if line.startswith("event of c:")]
    assert "OOMKilled" in str(error)
    assert error.remedy == MORE_MEMORY


def test_a_rollout_whose_pods_are_refused_carries_the_events_of_the_replica_set() -> None:
    condition = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "quota"}
    made = deployment(updatedReplicas=0, conditions=[condition])
    error = failed(RolloutCluster(made, [refusing("new", "2")], []))
    assert "event of new: R1: of new" in error.evidence


@pytest.mark.parametrize(
    "refusal",
    [Forbidden("GET is refused", status=403, message="cannot list events"), ConnectionFailed("no answer")],
)
def test_events_that_cannot_be_read_are_a_note(refusal: KubeError) -> None:
    cluster = RolloutCluster(
        deployment(availableReplicas=0), SETS, [pod("a", **CRASHING), pod("b", **CRASHING)], refusal
    )
    error = failed(cluster)
    (note,) = [line for line in error.evidence if line.startswith("events in the namespace default cannot")]
    assert (refusal.message or refusal.cause) in note
    assert len(cluster.event_requests) == 1


# Pods that were available, and do not stay so

COMPLETE: Object = {
    "type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable", "lastUpdateTime": TIME.format(5),
}  # fmt: skip
UP = box({"running": {}}, ready=True)


def ended_at(second: int, **more: Any) -> Object:
    """Return the status of a ready pod whose container ended and runs again."""
    end = {"reason": "Error", "exitCode": 1, "finishedAt": TIME.format(second)}
    return {
        **READY,
        **box({"running": {}}, ready=True, restartCount=1, lastState={"terminated": end}, **more),
    }


def created(made: Object, second: int) -> Object:
    return {**made, "metadata": {**made["metadata"], "creationTimestamp": TIME.format(second)}}


# A case: the pods, how often their containers had restarted at the look before, and the pods with a setback.
SETBACKS: dict[str, tuple[list[Object], dict[tuple[str, str], int], list[str]]] = {
    "they are ready": ([pod("a", **READY, **UP), pod("b", **READY, **UP)], {}, []),
    "one restarted after the rollout was complete": (
        [pod("a", **READY, **UP), pod("b", **ended_at(7))], {("b", "hook"): 1}, ["b"],
    ),
    "one restarted before the rollout was complete": ([pod("a", **ended_at(4))], {("a", "hook"): 1}, []),
    "one restarted since the last look, on a node whose clock is late": ([pod("a", **ended_at(4))], {("a", "hook"): 0}, ["a"]),
    "one is being restarted": ([pod("a", **box({"terminated": {**OOM, "finishedAt": TIME.format(7)}}))], {}, ["a"]),
    "one is no longer ready": ([created(pod("a", **UP), 1)], {}, ["a"]),
    "one was evicted": ([pod("a", phase="Failed", reason="Evicted", message="low on memory")], {}, ["a"]),
    "one was evicted before": ([created(pod("a", phase="Failed", reason="Evicted"), 1)], {}, []),
    "one was evicted afterwards": ([created(pod("a", phase="Failed", reason="Evicted", conditions=[{"type": "Ready", "status": "False", "lastTransitionTime": TIME.format(8)}]), 1)], {}, ["a"]),
    "a replacement is not ready yet": ([created(pod("a", **box({"waiting": {}})), 6)], {}, []),
    "a replacement restarted": ([created(pod("a", **ended_at(8)), 6)], {}, ["a"]),
    "one is being deleted": ([pod("a", ending=True, **ended_at(8))], {}, []),
    "an old one restarts": ([pod("a", "old", **ended_at(8))], {}, []),
    "a pod of another owner restarts": ([pod("a", "strange", **ended_at(8))], {}, []),
}  # fmt: skip


@pytest.mark.parametrize("case", SETBACKS)
def test_the_setbacks_of_pods_that_were_available(case: str) -> None:
    pods, before, names = SETBACKS[case]
    found = find_setbacks(DeploymentPods(deployment(conditions=[COMPLETE]), SETS, pods), before)
    assert [
        name for name in "ab" if any(finding.words.startswith(f"pod {name}") for finding in found)
    ] == names
    assert len(found) == len(names)
    assert all(finding.is_lasting for finding in found)


def test_without_a_time_of_completion_only_later_restarts_count() -> None:
    """A Deployment without progressDeadlineSeconds has no such condition."""
    pods = [pod("a", **ended_at(7))]
    assert find_setbacks(DeploymentPods(deployment(), SETS, pods), {("a", "hook"): 1}) == []
    assert len(find_setbacks(DeploymentPods(deployment(), SETS, pods), {("a", "hook"): 0})) == 1


def test_a_setback_names_the_last_termination() -> None:
    killed = {**READY, **box({"running": {}}, ready=True, restartCount=1, lastState={"terminated": OOM})}
    (found,) = find_setbacks(
        DeploymentPods(deployment(conditions=[COMPLETE]), SETS, [pod("a", **killed)]), {}
    )
    assert found.words == "pod a: container hook ended after it was available: OOMKilled, exit code 137"
    assert (found.log, found.remedy) == (None, MORE_MEMORY)


# A case: restarts now, restarts at the first look, the reason of the last end, and True for a crash loop.
LOOPS = [
    (3, 0, "Error", True),
    (2, 0, "Error", False),
    (2, 0, "OOMKilled", True),
    (1, 0, "OOMKilled", False),
    (9, 7, "Error", False),  # most of them long ago
    (9, 9, "OOMKilled", False),
]


@pytest.mark.parametrize(("restarts", "first", "reason", "is_loop"), LOOPS)
def test_a_container_that_restarts_repeatedly(restarts: int, first: int, reason: str, is_loop: bool) -> None:
    """The container is ready between two ends."""
    end = {"terminated": {"reason": reason, "exitCode": 1}}
    pods = [pod("a", **READY, **box({"running": {}}, ready=True, restartCount=restarts, lastState=end))]
    found = find_crash_loops(DeploymentPods(deployment(), SETS, pods), {("a", "hook"): first})
    assert bool(found) is is_loop
    assert all(finding.is_lasting and (finding.log == LOG) != (reason == "OOMKilled") for finding in found)


def test_a_pod_that_was_not_there_at_the_first_look_began_without_restarts() -> None:
    made = pod("a", **box({"running": {}}, restartCount=3))
    assert count_restarts([made]) == {("a", "hook"): 3}
    assert find_crash_loops(DeploymentPods(deployment(), SETS, [made]), {}) != []


class Changing(RolloutCluster):
    """A client whose pods change with each look until the last state. The clock advances by a second with each look."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, *looks: list[Object], conditions: list[Object]
    ) -> None:
        super().__init__(deployment(conditions=conditions), SETS, looks[0])
        self.looks, self.seconds, self.deadline = list(looks), 0.0, 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.seconds)
        monkeypatch.setattr(time, "sleep", self.sleep)

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds

    def list_all(self, path: str, query: dict[str, str]) -> Object:
        if path.endswith("/pods"):
            self.objects["pods"] = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        return super().list_all(path, query)


GOOD = [pod("a", **READY, **UP), pod("b", **READY, **UP)]
FELL = [pod("a", **READY, **UP), pod("b", **ended_at(9))]


def stay_up(cluster: Changing, seconds: float = 15) -> None:
    waits.watch_pods(cast("Any", cluster), TARGET, seconds)


def test_pods_that_stay_up_are_watched_for_the_whole_time(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Changing(monkeypatch, GOOD, conditions=[COMPLETE])
    stay_up(cluster, 15)
    assert cluster.seconds >= 15


@pytest.mark.parametrize("looks", [0, 1, 7])
def test_a_restart_ends_the_watch_at_once(monkeypatch: pytest.MonkeyPatch, looks: int) -> None:
    cluster = Changing(monkeypatch, *[GOOD] * looks, FELL, conditions=[COMPLETE])
    with pytest.raises(RolloutError) as caught:
        stay_up(cluster)
    assert caught.value.code == "rollout-failed"
    assert cluster.seconds == looks * waits.PAUSE_SECONDS
    assert reported(caught.value) == ["b", "a"]


def test_the_watch_waits_for_a_replacement(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node is drained meanwhile. The watch lasts until the replacement of its pod is available."""
    fresh = created(pod("c", **box({"waiting": {"reason": "ContainerCreating"}})), 9)
    drained = [GOOD[0], fresh]
    cluster = Changing(
        monkeypatch, GOOD, *[drained] * 20, [GOOD[0], pod("c", **READY, **UP)], conditions=[COMPLETE]
    )
    cluster.objects["deployments"][0]["status"]["availableReplicas"] = 1

    def look(_path: str) -> Object:
        done = len(cluster.looks) == 1
        cluster.objects["deployments"][0]["status"]["availableReplicas"] = 1 + done
        return cluster.objects["deployments"][0]

    monkeypatch.setattr(cluster, "find", look)
    stay_up(cluster, 5)
    assert cluster.seconds >= 20


def test_a_watch_that_does_not_fit_into_the_time_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Changing(monkeypatch, GOOD, conditions=[COMPLETE])
    cluster.deadline = 5.0
    with pytest.raises(StepError):
        stay_up(cluster, 15)
    assert cluster.seconds <= 5


def test_a_wait_fails_for_a_pod_that_is_ready_between_two_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(restarts: int) -> Object:
        return {
            **READY,
            **box({"running": {}}, ready=True, restartCount=restarts, lastState={"terminated": OOM}),
        }

    looks = [[GOOD[0], pod("b", **killed(number))] for number in range(3)]
    cluster = Changing(monkeypatch, *looks, conditions=[])
    made = cluster.objects["deployments"][0]
    monkeypatch.setattr(
        cluster,
        "find",
        lambda _path: {
            **made,
            "status": {**made["status"], "availableReplicas": 1 + (len(cluster.looks) == 1)},
        },
    )
    with pytest.raises(RolloutError) as caught:
        waits.until_available(cast("Any", cluster), TARGET)
    assert reported(caught.value)[0] == "b"
