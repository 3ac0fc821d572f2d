# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The table of the statuses of a cluster in a fleet run. Pure."""

from __future__ import annotations

from dataclasses import dataclass

OK, CHANGED, PLANNED, DRIFT, SKIPPED = "ok", "changed", "planned", "drift", "skipped"
FAILED, REFUSED, UNREACHABLE, PLAN_DIFFERS = "failed", "refused", "unreachable", "plan-differs"
WAITING, NOT_STARTED, STARTED = "waiting", "not started", "started"

#: Codes of failures that many clusters have at one time for one reason. The summary has one line for all of them.
SHARED = frozenset(("cluster-ca-unknown",))


@dataclass(frozen=True)
class Status:
    """A row of the table of outcomes."""

    #: For the documentation.
    meaning: str
    #: True if the host of the cluster has failed for Ansible.
    is_failure: bool = False
    #: True if it counts for certflow_max_failures.
    counts: bool = False


#: The outcomes, in the order of the summary.
STATUSES: dict[str, Status] = {
    FAILED: Status("The role failed, or it passed `certflow_deadline`.", is_failure=True, counts=True),
    REFUSED: Status(
        "The role wrote nothing, because a condition is not met. For example, another program manages an object.",
        is_failure=True,
        counts=True,
    ),
    UNREACHABLE: Status(
        "The API server did not answer, or its certificate did not verify. Nothing was written.",
        is_failure=True,
        counts=True,
    ),
    PLAN_DIFFERS: Status(
        "The run would write more to the cluster, or something else, than `certflow_plan` has, or the audit of `certflow_findings`"
        " did not read the cluster. Nothing was written.",
        is_failure=True,
    ),
    STARTED: Status(
        "The run ended while it worked on this cluster, by Ctrl-C or a kill. Only the files show this status.",
        is_failure=True,
    ),
    NOT_STARTED: Status(
        "Too many clusters had failed, or the run ended before this cluster.", is_failure=True
    ),
    DRIFT: Status(
        "The run had `--check` and `certflow_fail_on_change`, and a real run would change the cluster.",
        is_failure=True,
    ),
    WAITING: Status(
        "The maintenance window of the cluster is closed, or the phase of the rotation of its CA is not due. The reason has the next"
        " opening, or what the cluster waits for."
    ),
    CHANGED: Status("The role ran and changed something."),
    PLANNED: Status(
        "The run had `--check`, or a tag that only reads. The reason says what a real run would change."
    ),
    OK: Status("The role ran and changed nothing."),
    SKIPPED: Status("`--tags` selected no task of the role. Nothing was read or written."),
}
COUNTED = frozenset(name for name, status in STATUSES.items() if status.counts)
FAILURES = frozenset(name for name, status in STATUSES.items() if status.is_failure)
