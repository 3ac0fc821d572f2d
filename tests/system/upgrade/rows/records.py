# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The record of a killed run on its Lease, which names the step in progress.

A run shows the id of a step, then writes the record, then begins the step. Meanwhile the line with the id
passes through Ansible's queue. So at the moment of a kill the record may name the step that was shown last,
the one before it, or the one after it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tests.support import leases

if TYPE_CHECKING:
    from tests.support.clusters import Cluster
    from tests.support.playbooks.playbook import TaskStart

NAMESPACE, NAME = "kube-system", "certflow-snapshot-controller"
ANNOTATION = "certflow.kubernetes/upgrade"
# Endings and beginnings of the ids of steps that change nothing. A run with only such steps takes a Lease
# only if a killed run left one.
_WAITS, _VERIFIES = "-wait", "verify-"
# The last step of each upgrade. A kill during it may come after the release of the Lease.
_LAST = "verify-controller"


def on_lease(cluster: Cluster, since: float) -> dict[str, Any] | None:
    """Return the record of a run that acquired the Lease after a time (time.time), None without such a Lease."""
    for lease in leases.leases(cluster, NAMESPACE):
        if lease["metadata"]["name"] != NAME:
            continue
        if datetime.fromisoformat(lease["spec"]["acquireTime"]).timestamp() < since:
            continue  # acquired by an earlier run
        found: dict[str, Any] = json.loads((lease["metadata"].get("annotations") or {}).get(ANNOTATION, "{}"))
        return found
    return None


def wrong(record: Mapping[str, Any] | None, shown: Sequence[TaskStart]) -> str:
    """Return a line if the record of a killed run does not fit the steps that the run showed, else ""."""
    if record is None:
        if ends(shown):
            return ""
        due = [entry.name for entry in shown if not _looks(entry.name)]
        return f"without a Lease the run came to {', '.join(due)}" if due else ""
    if not record:
        return "" if len(shown) <= 1 else f"there is no record, and the run came to {shown[-1].name}"
    name, number = record["step"] + " (undo)" * record["undoes"], record["number"]
    near = [(entry.name, entry.number) for entry in shown[-2:]]
    # On a busy machine the run completes several short steps until the kill reaches it.
    is_later = number > (shown[-1].number if shown else 0)
    if (name, number) in near or is_later:
        return ""
    return f"the record names {number} {name}, and the run came to {near}"


def ends(shown: Sequence[TaskStart]) -> bool:
    """Return True if a run came to its last step, after which it releases the Lease."""
    return bool(shown) and shown[-1].name == _LAST


def wrong_previous(result: Mapping[str, Any], record: Mapping[str, Any] | None) -> str:
    """Return a line if a result does not report the run that was killed before it, else "".

    record: of the last killed run that had the Lease, None without such a run.
    """
    previous = result["previous_run"]
    found = previous["record"] if previous else None
    return "" if found == record else f"previous_run names {found}, and the Lease named {record}"


def _looks(step: str) -> bool:
    return step.startswith(_VERIFIES) or step.endswith(_WAITS)
