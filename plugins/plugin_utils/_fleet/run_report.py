# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The report of a fleet run, from its run file, and what a run takes from earlier reports: a plan and findings.

The report is written again and again, so a killed run leaves the last one.
"""

from __future__ import annotations

import atexit
import os
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from ...module_utils._ansible.operation import VERSION
from ...module_utils._audit.facts.finding import FAIL
from ...module_utils._base.errors import CertflowError
from ...module_utils._base.text import visible
from ...module_utils._base.times import find_time
from ...module_utils._repair import kinds
from .._report import report_files, report_model, report_schema, report_text
from .._variables.values import is_blank, parsed
from . import plan
from .fleet_run import Findings, FleetRun
from .plan import RunPlan
from .private_file import RunFileError
from .run_state import ClusterState

#: The report of a large run is written at most once in this time while clusters start and end. Seconds.
INTERVAL = 5.0
#: The time for each cluster of a smaller run, because a report takes as much longer as it has more clusters. Seconds.
INTERVAL_PER_CLUSTER = 0.02
#: The variable with the report whose findings a run of the playbook repair may repair.
FINDINGS = "certflow_findings"
#: The keys of the object of a finding by which the repair finds it again.
_OBJECT = ("kind", "namespace", "name", "webhook")
#: Status of a cluster without an outcome -> the reason. A run that is killed leaves the report that it wrote while it worked.
REASONS = {
    report_schema.NOT_STARTED: "the run did not reach this cluster",
    report_schema.STARTED: "the run did not end its work on this cluster",
}


def outcomes_of(
    run: FleetRun, known: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, dict[str, Any]]:
    """Return the outcome of each host, in the order of the run.

    known: outcomes from elsewhere, for hosts that the run file does not know because it could not be written.

    Raises RunFileError.
    """
    clusters = run.file.read_details().clusters
    return {host: _outcome(clusters.get(host), (known or {}).get(host)) for host in run.hosts}


def _outcome(state: ClusterState | None, known: Mapping[str, Any] | None) -> dict[str, Any]:
    if known and (state is None or state.status == report_schema.STARTED or "reason" not in state.outcome):
        return dict(known)
    status = state.status if state else report_schema.NOT_STARTED
    if state is None or status == report_schema.STARTED:
        return {"status": status, "code": "", "reason": REASONS[status]}
    return {**state.outcome, "status": state.status, "code": state.code, "seconds": state.seconds}


def build(run: FleetRun, outcomes_by_host: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the report of these outcomes."""
    names = {field.name for field in report_schema.of_kind(report_schema.CLUSTER, report_schema.RUN)}
    rows = [
        {
            **{key: value for key, value in outcome.items() if key in names},
            "name": host,
            "stage": run.stage_of(host).name,
        }
        for host, outcome in outcomes_by_host.items()
    ]
    head = {
        "id": run.run,
        "role": run.role,
        "check_mode": run.is_check,
        "plan": data_of_plan(run, outcomes_by_host).get("hash", ""),
    }
    return dict(report_model.envelope(report_schema.RUN, rows, datetime.now(timezone.utc), VERSION, run=head))


def data_of_plan(run: FleetRun, outcomes_by_host: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the plan that a run in check mode makes, or that another run carries out, {} for none."""
    rows = [{**outcome, "name": host} for host, outcome in outcomes_by_host.items()]
    return plan.make(run.role, rows).to_data() if run.is_check else run.plan


def read_plan(value: Any, role: str) -> RunPlan:
    """Return the plan for a role, from its data or from the report at a path. Raises CertflowError."""
    content = parsed(value)
    if isinstance(content, Mapping):
        run_plan = plan.from_data(content)
    else:
        path = str(value).strip()
        run_plan = plan.from_report(
            report_text.parse(report_files.read(path, "the plan"), f"the plan {path}")
        )
    if not isinstance(run_plan, str) and run_plan.role != role:
        run_plan = (
            f"the plan of {plan.NAME} is for the role {visible(run_plan.role)}, and this run is for {role}"
        )
    if isinstance(run_plan, str):
        raise CertflowError(
            run_plan, code="invalid-input", remedy="Make the plan again with --check and certflow_report"
        )
    return run_plan


def read_findings(value: Any) -> Findings | None:
    """Return the findings of each cluster that a kind of repair answers and no exception accepts, None if certflow_findings is not set.

    value: the path of a report, or its content.

    Raises CertflowError.
    """
    if is_blank(value):
        return None
    where, content = f"the value of {FINDINGS}", parsed(value)
    if isinstance(content, Mapping):
        report = report_files.check_audit(report_text.normalise(content, where), where)
    else:
        report = report_files.read_audit(str(value).strip())
    return {
        cluster["name"]: {
            "findings": [
                {
                    "fingerprint": finding["fingerprint"],
                    "check": finding["check"],
                    "object": {key: finding["object"][key] for key in _OBJECT},
                }
                for finding in cluster["findings"]
                if finding["status"] == FAIL
                and not _is_accepted(finding)
                and finding["check"] in kinds.CHECKS
            ],
            "uid": cluster["uid"],
            "unread": cluster["reason"] if cluster["status"] == report_schema.INCOMPLETE else "",
        }
        for cluster in report["clusters"]
        if cluster["status"] in (report_schema.OK, report_schema.INCOMPLETE)
    }


def _is_accepted(finding: Mapping[str, Any]) -> bool:
    """Return True if an exception accepts the finding, and has not ended since the audit."""
    accepted = finding["excepted"]
    until = find_time(accepted["until"]) if accepted else None
    return bool(accepted) and (until is None or until > datetime.now(timezone.utc))


def write(run: FleetRun, outcomes_by_host: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the report. Raises CertflowError."""
    report_files.write(run.report, report_text.dump(build(run, outcomes_by_host)))


def write_if_due(run: FleetRun) -> None:
    """Write the report if the last one is not new. An error waits for the end of the run."""
    interval = min(INTERVAL, INTERVAL_PER_CLUSTER * len(run.hosts))
    try:
        if run.report and time.time() - os.stat(run.report).st_mtime >= interval:
            write(run, outcomes_of(run))
    except (CertflowError, RunFileError, OSError):
        return


def write_at_exit(run: FleetRun) -> None:
    """Write the report when this process ends before the run has ended, such as after Ctrl-C."""
    if run.report and run.run not in _WATCHED:
        _WATCHED.add(run.run)
        atexit.register(_write_unfinished, run, os.getpid())


# The runs whose report this process writes at its end.
_WATCHED: set[str] = set()


def _write_unfinished(run: FleetRun, pid: int) -> None:
    """Write the report of a run that was interrupted. A forked process inherits this call, and leaves it to its parent."""
    try:
        if os.getpid() == pid and not run.file.read().is_ended:
            write(run, outcomes_of(run))
    except (CertflowError, OSError):
        return
