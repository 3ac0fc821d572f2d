# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The report that a job of a workflow leaves under its own name, and the check of an earlier job's report. It reads and writes nothing.

AWX gives the artifacts of a job to the later jobs of a workflow as extra variables. A later job does not know the id of the
earlier one, so the report has a fixed name. AWX may start a node although a node before it ended in an error
(ansible/awx#14009), so a job checks the earlier report itself.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from ...module_utils._base.text import spare, visible
from .._variables.specs import REPORT
from .._variables.values import is_blank, listed

# A name becomes a part of a variable. It begins with a letter, because a number is the id of a job.
NAME = re.compile("[a-z][a-z0-9_]{0,39}")
#: What is left stops no later job. The last job of a workflow shows it.
SUCCESSES = frozenset(("ok", "changed", "planned", "left"))
# At most so many clusters without success are listed. An artifact of a large fleet stays small.
MOST_CLUSTERS = 20


def make(role: str, is_check: bool, statuses: Mapping[str, str]) -> dict[str, Any]:
    """Return the report of a job. The mask leaves the names of its clusters from then on.

    is_check: True if the job wrote nothing.
    statuses: the status of each cluster.
    """
    spare(statuses)
    bad = [host for host, status in statuses.items() if status not in SUCCESSES]
    return {
        "role": role,
        "check_mode": is_check,
        "succeeded": bool(statuses) and not bad,
        "counts": dict(Counter(statuses.values())),
        "clusters_without_success": bad[:MOST_CLUSTERS],
    }


def problems(name: Any, required: Any, variables: Mapping[str, Any]) -> list[str]:
    """Return the problems of the names, and of the earlier job's report, one line each.

    name: certflow_job_name.
    required: certflow_required_job.
    variables: the variables of the run.
    """
    wrong = [
        f"{variable} is not a name of lower-case letters, digits and underscores that begins with a letter: {visible(str(value))}."
        for variable, value in (("certflow_job_name", name), ("certflow_required_job", required))
        if not is_blank(value) and not NAME.fullmatch(str(value))
    ]
    if wrong or is_blank(required):
        return wrong
    artifact = f"{REPORT}{required}"
    report = variables.get(artifact)
    if report is None:
        return [
            (
                f"certflow_required_job is {required}, but there is no artifact {artifact}. The job {required} did not end, or its"
                f" certflow_job_name is not {required}. Start the workflow again."
            )
        ]
    data = report if isinstance(report, Mapping) else {}
    names = data.get("clusters_without_success") or ["all"]
    if not isinstance(data.get("succeeded"), bool) or not isinstance(names, list):
        return [f"{artifact} is not the report of a job. Remove this variable."]
    if data["succeeded"]:
        return []
    return [
        (
            f"the job {required} did not succeed. Repair these clusters, and start the workflow again:"
            f" {listed([visible(str(name)) for name in names])}."
        )
    ]


def plan_of(required: Any, role: str, variables: Mapping[str, Any], *, is_check: bool) -> Any:
    """Return the plan for this role that the required job made or carried out, None without one.

    A job that only made a plan is required for what it planned. So a run that writes gets its plan also if it is for another
    role, and refuses it. ``problems`` found no problem.
    """
    report = {} if is_blank(required) else variables[f"{REPORT}{required}"]
    return (
        report.get("plan")
        if report.get("role") == role or (report.get("check_mode") and not is_check)
        else None
    )
