# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Restart the workload of a webhook as `kubectl rollout restart` does.

A restart needs a complete rollout, and a strategy that keeps one of the `spec.replicas` pods. So repeated runs never stop one pod after
the other. The user may accept the downtime of a workload.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Callable

from .._base.accept import DOWNTIME, Consent
from .._base.errors import CertflowError
from .._base.owners import accept_option
from .._base.times import format_time
from .._kube import json_patch, object_state
from .._kube.client import Client
from .._kube.json_patch import retry_on_conflict
from .workloads import RESTARTED_AT, WebhookWorkload, annotate

Object = Mapping[str, Any]
RESTART_ATTEMPTS = 3


class RestartError(CertflowError):
    """A restart of the workload may leave no pod that answers."""

    code = "no-pod-left"


@dataclass(frozen=True)
class _Rollouts:
    """How one kind of workload replaces its pods. Sources: pkg/controller/deployment/util, daemon/util, statefulset of Kubernetes."""

    #: The field of the spec with the strategy.
    strategy: str
    #: The fields of the status with the numbers of pods: wanted, of the newest template, available, all.
    wanted: str
    updated: str
    available: str
    total: str
    #: The defaults of maxUnavailable and maxSurge.
    unavailable: Any
    surge: Any
    #: Rounds a percentage of maxUnavailable.
    rounded: Callable[[float], int] = math.floor


_COUNTS = ("updatedReplicas", "availableReplicas", "replicas")
_NUMBERS = ("desiredNumberScheduled", "updatedNumberScheduled", "numberAvailable", "currentNumberScheduled")
_KINDS = {
    "Deployment": _Rollouts("strategy", "", *_COUNTS, unavailable="25%", surge="25%"),
    "StatefulSet": _Rollouts("updateStrategy", "", *_COUNTS, unavailable=1, surge=0),
    "DaemonSet": _Rollouts("updateStrategy", *_NUMBERS, unavailable=1, surge=0, rounded=math.ceil),
}


def find_obstacle(
    workload: WebhookWorkload, obj: Object, consent: Consent, ends: datetime | None = None
) -> RestartError | None:
    """Return why the workload must not be restarted now, None if it may be. Pure.

    ends: when the certificate ends that the pods serve, None if that is not known.
    """
    rollouts, spec, status = _KINDS[workload.kind], obj["spec"], obj.get("status") or {}
    until = f". The certificate that its pods serve ends at {format_time(ends)}" if ends else ""
    held = _held(spec, spec.get(rollouts.strategy) or {})
    if held:
        return RestartError(
            f"{workload} does not replace its pods by itself, because {held}{until}",
            remedy="Replace the pods by hand, one by one, or let the workload replace them",
            code="rollout-held",
        )
    wanted = int((status.get(rollouts.wanted) or 0) if rollouts.wanted else spec.get("replicas", 1))
    counts = [int(status.get(key) or 0) for key in (rollouts.updated, rollouts.available, rollouts.total)]
    if not object_state.is_observed(obj) or counts != [wanted] * 3:
        return RestartError(
            f"the last rollout of {workload} is not complete: {counts[0]} of {wanted} pods are of the newest template, "
            f"{counts[1]} are available, and {counts[2]} exist{until}",
            remedy="Find out why its pods do not become available, and run the task again after the rollout",
            code="rollout-incomplete",
        )
    if consent.covers(DOWNTIME, workload) or _keeps_pod(rollouts, spec.get(rollouts.strategy) or {}, wanted):
        return None
    kind = (spec.get(rollouts.strategy) or {}).get("type") or "RollingUpdate"
    return RestartError(
        f"a restart of {workload} may leave no pod that answers (replicas: {wanted}, strategy: {kind}){until}",
        remedy="Run two or more replicas with a rolling update that keeps one of them, or restart it in a maintenance window with "
        + accept_option([DOWNTIME], workload),
    )


def _held(spec: Object, strategy: Object) -> str:
    """Return why a change of the template replaces no pod, or not every pod, "" if it replaces them."""
    partition = int((strategy.get("rollingUpdate") or {}).get("partition") or 0)
    reasons = {
        "it is paused": spec.get("paused"),
        "its updateStrategy is OnDelete": strategy.get("type") == "OnDelete",
        f"its updateStrategy has the partition {partition}": partition,
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def _keeps_pod(rollouts: _Rollouts, strategy: Object, wanted: int) -> bool:
    """Return True if a rollout stops fewer pods than there are before their successors are available.

    A single pod does not count: its successor may count as available before it answers.
    """
    rolling = strategy.get("rollingUpdate") or {}
    left = _part(rolling.get("maxUnavailable", rollouts.unavailable), wanted, rollouts.rounded)
    more = _part(rolling.get("maxSurge", rollouts.surge), wanted, math.ceil)
    stopped = left if left or more else 1
    return strategy.get("type") != "Recreate" and wanted > 1 and stopped < wanted


def _part(value: Any, whole: int, rounded: Callable[[float], int]) -> int:
    text = str(value)
    return int(rounded(int(text[:-1]) * whole / 100)) if text.endswith("%") else int(text)


def restart(
    client: Client,
    workload: WebhookWorkload,
    consent: Consent,
    *,
    ends: datetime | None = None,
    dry_run: bool = False,
) -> None:
    """Change the annotation of the pod template, if the workload may be restarted as it is at the write.

    Raises RestartError, KubeError.
    """
    stamp = format_time(client.now())

    def read() -> Object:
        return client.get(workload.path)

    def write(obj: Object) -> None:
        obstacle = find_obstacle(workload, obj, consent, ends)
        if obstacle:
            raise obstacle
        lock = json_patch.at_version(obj["metadata"]["resourceVersion"])
        operations = [lock, *annotate(obj, "/spec/template", RESTARTED_AT, stamp)]
        client.patch(workload.path, operations, dry_run=dry_run)

    retry_on_conflict(read(), write, read, attempts=RESTART_ATTEMPTS)
