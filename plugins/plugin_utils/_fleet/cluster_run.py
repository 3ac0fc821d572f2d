# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The work on one cluster of a fleet run: decide if it may start, do it, and record its outcome.

The action plugin of the role's working task calls it in a forked process, so the decision is made at the moment at which the
cluster would start. Ansible limits the number of these processes with ``throttle``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from ...module_utils._ansible.operation import failed_result
from ...module_utils._base.errors import CertflowError
from ...module_utils._base.text import visible
from ...module_utils._base.times import format_time, parse_time
from .._report import report_schema, report_text
from . import fleet_operations, outcome_of_result, outcomes, run_report, windows
from .fleet_run import Findings, FleetRun
from .outcomes import Progress
from .private_file import RunFileError
from .run_state import UNTOUCHED
from .windows import Window

#: The variable of the tasks that this file controls. Its value is one of the phases.
VARIABLE = "__certflow_phase"
#: The role runs, or what it did is verified after a soak.
WORK, VERIFY = "work", "verify"
#: The key of a result that has the outcome.
OUTCOME = "certflow_outcome"
#: The key of a result that has the id of the run.
RUN = "certflow_run"
#: A cluster has passed its deadline if it fails this close to it, because its waits are shortened by this time. Seconds.
DEADLINE_MARGIN = 6
#: The reason of a cluster whose check by the user did not end. Ansible may end the run, or not reach the host of a task.
CHECK_NOT_ENDED = "certflow_after_cluster did not end on this cluster"
#: The failure of a cluster that the plan of the run does not have. The cluster is not contacted.
UNPLANNED = {
    "code": report_schema.PLAN_DIFFERS,
    "cause": "the approved plan does not have this cluster",
    "remedy": "Make a new plan with --check, and have it approved. To plan, the identity must be able to get the namespace kube-system",
}
#: The failure of a verification after a soak, if the work is needed again.
UNDONE = {
    "failed": True,
    "code": "verification-failed",
    "cause": "the cluster needs the work again after the soak",
    "remedy": "Find the program that writes the objects, and run again",
}
#: The reason of a cluster that is not contacted, because the report has nothing to repair.
NOTHING_FOUND = (
    "nothing to do: the report of certflow_findings has no finding of this cluster that this playbook repairs"
)
#: The reason of a failure whose result must not be shown.
HIDDEN = "the task failed, and no_log hides its result"
#: Quiet clusters get a line of progress at every multiple of this number.
QUIET_LINES = 10
#: A smaller run has a line for each cluster.
FEW_CLUSTERS = 20


@dataclass(frozen=True)
class ClusterTask:
    """The working task on one host."""

    host: str
    phase: str
    #: True if the task writes nothing.
    reads_only: bool
    #: The windows of the cluster, () if it has none or if they are overridden.
    windows: tuple[Window, ...] = ()
    #: Seconds that the task may take, 0 without a limit.
    deadline: int = 0
    #: The outcome of the work, in the phase VERIFY.
    done: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Actions:
    """What the work on a cluster needs from the action plugin."""

    #: Run the module. Return its result.
    work: Callable[[], dict[str, Any]]
    #: Print a line at once.
    show: Callable[[str], None]
    #: Run the module in check mode.
    look: Callable[[], dict[str, Any]]
    #: True if the result in check mode tells when the certificate expires.
    tells_expiry: bool = False
    #: Return the UID of the cluster, "" if it is not known.
    uid: Callable[[], str] = lambda: ""


def work_on(run: FleetRun, task: ClusterTask, actions: Actions) -> dict[str, Any]:
    """Return the result of the task, with the outcome of the cluster. Do nothing if the cluster may not start.

    An error of the work is recorded and raised again.
    """
    began = time.monotonic()
    refusal = _find_refusal(run, task, actions)
    if refusal:
        outcome = _record(run, task, actions, refusal, 0)
        return {"changed": False, "msg": outcome["reason"], OUTCOME: outcome}
    if task.phase == WORK:
        run_report.write_if_due(run)
    opening = _find_opening(task)
    is_closed = task.phase == VERIFY and opening is not None
    if is_closed:
        actions.show(f"{task.host}: the window is closed, so the verification creates no test object")
    try:
        answer = actions.look() if is_closed else actions.work()
    except Exception as error:
        _record(run, task, actions, _failure(task, {"msg": str(error)}, began), time.monotonic() - began)
        raise
    except BaseException as error:
        # Ansible's error at the end of a task's timeout. After a signal the process ends, and the cluster stays started.
        if type(error).__name__ != "TaskTimeoutError":
            raise
        answer = {"failed": True, "changed": False, "msg": str(error)}
    is_verified = task.phase == VERIFY and not answer.get("failed")
    if is_verified and fleet_operations.of_name(run.role).is_undone(answer, task.done):
        answer = {**answer, **UNDONE}
    is_failed = bool(answer.get("failed") or answer.get("refusal"))
    details = _failure(task, answer, began) if is_failed else _success(run, task, answer)
    details["uid"] = actions.uid()
    if task.phase == WORK and task.reads_only and opening is not None:
        shown = format_time(opening)
        details |= {
            "opens_at": shown,
            "reason": f"{details['reason']}. The maintenance window opens at {shown}",
        }
    outcome = _record(run, task, actions, details, time.monotonic() - began)
    if is_failed and task.phase == WORK:
        # The host fails at the end of the run, which prints the reason. The result of the module would fill the log.
        return {"changed": bool(answer.get("changed")), "msg": answer.get("msg", ""), OUTCOME: outcome}
    return {**answer, OUTCOME: outcome}


def record_failure(
    run: FleetRun, host: str, result: Mapping[str, Any], task_name: str, *, is_hidden: bool = False
) -> dict[str, Any]:
    """Record a failure that the working task did not record itself, and return the outcome.

    It is the failure of another task, or of the working task before its action plugin began.

    is_hidden: True if no_log of the task is set or not known. ansible-core before 2.21 also marks the result.
    """
    known = result.get(OUTCOME)
    if isinstance(known, Mapping):
        state = run.file.read().clusters.get(host)
        if state is None or state.status != known["status"]:  # A full disk has kept it out of the run file.
            _end(run, host, known, 0)
        return dict(known)
    # A check of the user follows the work.
    task = ClusterTask(host, VERIFY, run.is_check, done={"status": report_schema.CHANGED})
    item = _of_item(result)
    if is_hidden or result.get("_ansible_no_log") or item.get("_ansible_no_log"):
        item = {"msg": HIDDEN}
    outcome = {**_failure(task, item, time.monotonic()), "task": task_name}
    _end(run, host, outcome, 0)
    return outcome


def begin_check(run: FleetRun, host: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Record that the user's check of a cluster began. Return the outcome before it, and the failure that it is until the check has ended."""
    state = run.file.read_details().clusters[host]
    outcome = {**state.outcome, "status": report_schema.FAILED, "code": "", "reason": CHECK_NOT_ENDED}
    _end(run, host, outcome, state.seconds)
    return dict(state.outcome), outcome


def end_check(run: FleetRun, host: str, outcome: Mapping[str, Any]) -> dict[str, Any]:
    """Record that the user's check succeeded, and return the outcome. outcome: of the work and its verification, before the check."""
    _end(run, host, outcome, run.file.read().clusters[host].seconds)
    return dict(outcome)


def _of_item(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the result of the failed item of a loop, which has the reason, or the result itself."""
    items = (item for item in result.get("results") or () if isinstance(item, Mapping))
    return next((item for item in items if item.get("failed")), result)


def _find_refusal(run: FleetRun, task: ClusterTask, actions: Actions) -> dict[str, Any]:
    """Append that the cluster starts, or return the outcome of a cluster that may not start."""
    if task.phase != WORK:
        return {}
    if run.findings is not None and not run.findings.get(task.host, {}).get("findings"):
        return _nothing_found(run, run.findings, task)
    if run.plan and task.host not in run.plan["clusters"]:
        return _failure(task, UNPLANNED, time.monotonic())
    opening = None if task.reads_only else _find_opening(task)
    if opening is not None:
        return _waiting(opening, actions)
    try:
        reason = run.file.start_cluster(task.host, run.stage_of(task.host).name)
    except RunFileError as error:
        return {
            "status": report_schema.NOT_STARTED,
            "code": error.code,
            "reason": error.cause,
            "remedy": error.remedy,
        }
    return {"status": report_schema.NOT_STARTED, "code": "", "reason": reason} if reason else {}


def _nothing_found(run: FleetRun, findings: Findings, task: ClusterTask) -> dict[str, Any]:
    """Return the outcome of a cluster that is not contacted, because the report has no repairable finding of it."""
    known, uid = findings.get(task.host), run.uids.get(task.host, "")
    if known is None or (uid and known["uid"] and known["uid"] != uid):
        error = CertflowError(
            "the report of certflow_findings has no audit of this cluster"
            if known is None
            else f"the report of certflow_findings has the audit of a cluster with the UID {visible(known['uid'])}, not {visible(uid)}",
            code="plan-differs",
            remedy="Audit the cluster, and run the repair with the new report",
        )
        return _failure(task, failed_result(error), time.monotonic())
    outcome = _success(run, task, {outcome_of_result.REPAIRS: ()})
    if outcome["status"] != report_schema.LEFT:
        outcome["reason"] = NOTHING_FOUND
    return {**outcome, UNTOUCHED: True}


def _find_opening(task: ClusterTask) -> datetime | None:
    """Return the next opening of the cluster's window, None if it is open."""
    return windows.judge(task.windows, datetime.now(timezone.utc)) if task.windows else None


def _waiting(opening: datetime, actions: Actions) -> dict[str, Any]:
    """Return the outcome of a cluster whose window is closed. It says if the certificate expires before the window opens."""
    if not actions.tells_expiry:
        return windows.waiting_outcome(opening)
    try:
        answer = actions.look()
    except Exception as error:
        answer = {"failed": True, "msg": str(error)}
    cause = " ".join(report_text.cause_of(answer).split()) if answer.get("failed") else ""
    expiry = answer.get("not_after")
    return windows.waiting_outcome(opening, parse_time(str(expiry)) if expiry else None, cause)


def _success(run: FleetRun, task: ClusterTask, answer: Mapping[str, Any]) -> dict[str, Any]:
    operation_run = outcome_of_result.OperationRun(
        result=answer,
        is_changed=bool(answer.get("changed")),
        is_planned=task.reads_only and task.phase != VERIFY,
        fails_on_change=run.fails_on_change,
        unread=str((run.findings or {}).get(task.host, {}).get("unread") or ""),
        exceptions=run.exceptions_for(task.host),
    )
    return outcome_of_result.outcome(fleet_operations.of_name(run.role).describe, operation_run)


def _failure(task: ClusterTask, answer: Mapping[str, Any], began: float) -> dict[str, Any]:
    code = str(answer.get("code") or ("upgrade-refused" if answer.get("refusal") else ""))
    text = str(answer.get("refusal") or report_text.cause_of(answer, "failed without a message"))
    # A verification writes nothing, and the change before it may be the cause.
    status = outcomes.status_of_failure(
        code,
        wrote=bool(answer.get("changed"))
        or task.done.get("status") in (report_schema.CHANGED, report_schema.LEFT),
    )
    remedy = str(answer.get("remedy") or "")
    is_late = task.deadline and time.monotonic() - began >= task.deadline - DEADLINE_MARGIN
    if is_late and status != report_schema.UNREACHABLE:
        error = CertflowError(
            f"the work took longer than certflow_deadline, {task.deadline} s: {text}",
            code="deadline-exceeded",
            remedy="Run again. The next run continues from the current state",
        )
        status, code, text, remedy = report_schema.FAILED, error.code, error.cause, error.remedy
    return {
        "status": status,
        "code": code,
        "reason": " ".join(text.split()),
        "evidence": [str(line) for line in answer.get("evidence") or ()],
        "remedy": remedy,
        **outcome_of_result.details(answer),
    }


def _record(
    run: FleetRun, task: ClusterTask, actions: Actions, outcome: Mapping[str, Any], seconds: float
) -> dict[str, Any]:
    """Append the outcome to the run file, print a line of progress, and write the report. Return the outcome."""
    recorded = dict(outcome)
    try:
        if task.phase == VERIFY and not _is_news(run, task.host, recorded):
            return recorded
        progress = _end(run, task.host, recorded, seconds)
    except RunFileError as error:
        actions.show(f"{task.host} {recorded['status']}: {error}")
        return recorded
    if _is_shown(recorded["status"], progress):
        actions.show(outcomes.progress_line(progress, task.host, recorded["status"], seconds))
    run_report.write_if_due(run)
    return recorded


def _is_news(run: FleetRun, host: str, outcome: Mapping[str, Any]) -> bool:
    """Return True if a verification failed, or found something left although the work left nothing. Raises RunFileError."""
    if outcome["status"] != report_schema.LEFT:
        return outcomes.is_failure(outcome)
    known = run.file.read().clusters.get(host)
    return known is None or known.status != report_schema.LEFT


def _end(run: FleetRun, host: str, outcome: Mapping[str, Any], seconds: float) -> Progress:
    stage = run.stage_of(host).name
    try:
        return run.file.end_cluster(host, stage, outcome, seconds)
    except RunFileError:
        # A full disk may have room for the status, which the budget needs.
        short = {key: outcome[key] for key in ("status", "code")}
        return run.file.end_cluster(host, stage, short, seconds)


def _is_shown(status: str, progress: Progress) -> bool:
    """Return True if the outcome gets a line of its own. Clusters without news are grouped."""
    is_quiet = status in outcomes.QUIET or status == report_schema.NOT_STARTED
    is_round = progress.done % QUIET_LINES == 0 or progress.done == progress.total
    return not is_quiet or is_round or progress.total <= FEW_CLUSTERS
