# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How far a Deployment is, and what keeps it, from the objects as an API server returns them."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot._rollout import Trouble, progress

Object = dict[str, Any]
REVISION = "deployment.kubernetes.io/revision"


def _of(owner: str) -> Object:
    return {"ownerReferences": [{"uid": owner, "controller": True}]}


def deployment(*, replicas: int = 2, revision: str = "2", observed: int = 5, **status: Any) -> Object:
    """counts: updated, available and all pods, as its status has them; all wanted where none are given."""
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
# What it shows: the Deployment, the pods, and whether it is done.
DONE: dict[str, tuple[Object, list[Object], bool]] = {
    "all are new and available": (deployment(), TWO, True),
    "its controller has not seen the newest template yet": (deployment(observed=4), TWO, False),
    "one is not available yet": (deployment(availableReplicas=1), TWO, False),
    "one is not of the new template yet": (deployment(updatedReplicas=1), TWO, False),
    "an old one is left": (deployment(), [*TWO, pod("c", "old")], False),
    "an old one is on its way out": (deployment(), [*TWO, pod("c", "old", ending=True)], True),
    "pods of another do not count": (deployment(), [*TWO, pod("c", "strange"), pod("d", "nobody")], True),
    "none is wanted": (deployment(replicas=0), [], True),
}


@pytest.mark.parametrize("case", DONE)
def test_whether_it_is_done(case: str) -> None:
    wanted, pods, done = DONE[case]
    assert progress(wanted, SETS, pods).done is done


def test_pods_on_their_way_out_are_named() -> None:
    pods = [*TWO, pod("c", "old", ending=True), pod("d", "strange", ending=True)]
    assert progress(deployment(), SETS, pods).ending == {"c"}


LOG = ("a", "hook")
# What it shows: the status of a pod of the new template, and what is said about it.
TROUBLES: dict[str, tuple[Object, list[Trouble]]] = {
    "it runs and is ready": (box({"running": {"startedAt": "t"}}, ready=True), []),
    "it is being made": (box({"waiting": {"reason": "ContainerCreating"}}), []),
    "it runs and does not answer": (
        box({"running": {"startedAt": "t"}}, ready=False), [Trouble("pod a: container hook runs and is not ready", log=LOG)],
    ),
    "its image is not there yet": (
        box({"waiting": {"reason": "ImagePullBackOff", "message": "no\n  such image"}}),
        [Trouble("pod a: container hook: ImagePullBackOff: no such image")],
    ),
    "an image of that name cannot be": (
        box({"waiting": {"reason": "InvalidImageName", "message": "m"}}), [Trouble("pod a: container hook: InvalidImageName: m", True)],
    ),
    "it ended once": (
        box({"terminated": {"exitCode": 2}}), [Trouble("pod a: container hook ended 1 times, the last time with exit code 2", False, LOG)],
    ),
    "it ends again and again": (
        box({"waiting": {"reason": "CrashLoopBackOff"}}, restartCount=3, lastState={"terminated": {"exitCode": 2}}),
        [Trouble("pod a: container hook ended 4 times, the last time with exit code 2", True, LOG)],
    ),
    # The validation webhook ends with 0 for a flag that it does not know.
    "it ends again and again, and says that all is well": (
        box({"waiting": {"reason": "CrashLoopBackOff"}}, restartCount=1, lastState={"terminated": {"exitCode": 0}}),
        [Trouble("pod a: container hook ended 2 times, the last time with exit code 0", False, LOG)],
    ),
    "no node takes it": (
        {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}]},
        [Trouble("pod a finds no node: 0/1 nodes")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", TROUBLES)
def test_what_keeps_a_pod(case: str) -> None:
    status, troubles = TROUBLES[case]
    found = progress(deployment(availableReplicas=0), SETS, [pod("a", **status)])
    assert list(found.troubles) == troubles


def test_an_old_pods_troubles_are_nobodys() -> None:
    crashing = box({"waiting": {"reason": "CrashLoopBackOff"}}, restartCount=9)
    assert progress(deployment(), SETS, [pod("a", "old", **crashing)]).troubles == ()


# What it shows: conditions of the Deployment, and what is said about it.
CONDITIONS: dict[str, tuple[Object, list[Trouble]]] = {
    "a quota refuses its pods": (
        {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota"},
        [Trouble("its pods are refused: exceeded quota")],
    ),
    "it took too long": (
        {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "m"},
        [Trouble("ProgressDeadlineExceeded: m", lasting=True)],
    ),
    "it goes on": ({"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated"}, []),
}


@pytest.mark.parametrize("case", CONDITIONS)
def test_what_keeps_the_deployment(case: str) -> None:
    condition, troubles = CONDITIONS[case]
    assert list(progress(deployment(conditions=[condition]), SETS, []).troubles) == troubles


def test_conditions_of_an_older_template_are_not_this_ones() -> None:
    failed = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "m"}
    assert progress(deployment(observed=4, conditions=[failed]), SETS, []).troubles == ()
