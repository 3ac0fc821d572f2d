# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The steps of a fleet run that write on the controller: begin the run, wait, record, report and end. No step contacts a cluster."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean

from ...module_utils._ansible.operation import LIBRARIES_OF_RULES, missing_libraries
from ...module_utils._base import paths
from ...module_utils._base.errors import CertflowError
from ...module_utils._base.text import harmless, visible
from .._inventory.contexts import UNREAD
from .._report import job_report, report_files, report_schema
from .._variables import read_variables
from .._variables.specs import AUDIT
from .._variables.values import UNDEFINED, UNREADABLE, is_blank, is_unset, show_seconds
from . import (
    check_hosts,
    check_run,
    cluster_run,
    exceptions,
    fleet_operations,
    fleet_run,
    fleet_task,
    outcomes,
    private_file,
    read_run,
    run_file,
    run_report,
    stages,
)
from .budget import Budget
from .fleet_run import FleetRun

#: The result of the step check.
CHECKED = "__certflow_checked"
STATE = "~/.local/state/certflow.kubernetes"
JOB_NAME = "certflow_job_name"
#: AWX ends a job that prints nothing for a time that its administrator sets. Seconds.
SOAK_LINES = 60.0
REASON_BELOW = "The summary of the run has the reason"
SKIPPED = "--tags selected no task of the role. The role did not run, and nothing was written"


class Step:
    """The task of a step. The result of each method is that of the task."""

    def __init__(self, task: Any, loader: Any, templar: Any, variables: Mapping[str, Any]) -> None:
        self._loader = loader
        self._templar = templar
        self._variables = variables
        self._options: Mapping[str, Any] = task.args
        self._reads_only = bool(task.check_mode)
        self._host: str = variables["inventory_hostname"]

    def run(self) -> dict[str, Any]:
        """Do the step that the options name. Raises CertflowError."""
        return STEPS[self._options["step"]](self)

    def check(self) -> dict[str, Any]:
        """Check the hosts and the variables, and return the settings. A run with a problem fails before it contacts a cluster."""
        run = read_run.read(
            self._loader,
            self._templar,
            self._variables,
            self._options["playbook"],
            self._options["pattern"],
            reads_only=self._reads_only,
        )
        of_jobs = read_run.job_problems(run, self._variables)
        if run.playbook == AUDIT:
            from . import check_audit  # noqa: PLC0415  # the rules of an audit, which no other playbook loads

            lines, settings = check_audit.check(run, report_files.read_audit)
            lines += of_jobs
        else:
            files = check_run.check_file_problems(run, self._variables.get("inventory_dir"))
            lines = [*check_run.find_problems(run), *of_jobs, *files]
            settings = {}
            if not lines:
                limits = check_run.make_budget(run)
                settings = {
                    "stages": stages.to_data(check_run.assign_stages(run).stages),
                    "budget": {"limit": limits.limit, "canary": limits.canary},
                    "uids": check_run.uids(run),
                }
        libraries = _missing_libraries(run.hosts.values())
        unread = self._variables.get(UNREAD)
        left_out = (
            "the run would leave out the clusters of a source of the inventory. To run without them, name only the other sources (-i)."
            f" {unread}"
        )
        lines = [*libraries, *([left_out] if unread else []), *lines]
        if not lines:
            return {**settings, "notes": check_hosts.notes(run)}
        for line in lines if len(lines) > 1 else ():
            fleet_task.print_line(line)
        return {
            "failed": True,
            "msg": check_hosts.summary(run, lines),
            "code": "missing-library" if libraries else "invalid-input",
            "problems": lines,
        }

    def begin(self) -> dict[str, Any]:
        """Begin the run, and return it as plain data."""
        playbook, settings = self._options["playbook"], fleet_run.registered(self._variables, CHECKED)
        spec, role = fleet_operations.spec_of(playbook), fleet_operations.OPERATIONS[playbook].name
        values = read_variables.of_spec(self._templar, spec, self._variables)
        for name in spec.options:
            # The check found no such value, but a lookup may fail at any time.
            if values.get(name) in (UNDEFINED, UNREADABLE):
                raise CertflowError(
                    f"the variable {name} cannot be rendered",
                    code="invalid-input",
                    remedy="Correct its template",
                )
        plan = values.get("certflow_plan")
        if is_unset(plan):
            plan = job_report.plan_of(
                values.get("certflow_required_job"), role, self._variables, is_check=self._reads_only
            )
        report = str(values.get("certflow_report") or "").strip()
        begun = FleetRun(
            role=role,
            path=run_file_path(str(values.get("certflow_run_file") or ""), role),
            run=run_file.new_run_id(datetime.now(timezone.utc)),
            stages=stages.from_data(settings["stages"]),
            budget=Budget(**settings["budget"]),
            report=report_files.resolve(report) if report else "",
            is_check=self._reads_only,
            fails_on_change=check_run.is_true(values.get("certflow_fail_on_change")),
            shares_clusters=check_run.is_true(values.get("certflow_allow_shared_cluster")),
            plan=run_report.read_plan(plan, role).to_data() if plan else {},
            findings=run_report.read_findings(values.get(run_report.FINDINGS)),
            exceptions=exceptions.read(values.get(exceptions.NAME)),
            uids=settings["uids"],
            began=time.monotonic(),
            is_handed_on=not is_blank(values.get(JOB_NAME)),
        )
        # This is a fork of the process that works until the run has ended.
        unfinished = run_file.begin(
            begun.path, begun.run, len(begun.hosts), {"role": role, "check": begun.is_check}, os.getppid()
        )
        if unfinished is not None:
            fleet_task.print_line(outcomes.unfinished_line(unfinished.hosts, unfinished.at))
        if report:
            run_report.write(begun, run_report.outcomes_of(begun))
        return begun.to_data()

    def soak(self) -> dict[str, Any]:
        """Wait for the time of the host's stage, and print a line each minute, unless no cluster of the stage succeeded."""
        run = fleet_run.of_task(self._variables)
        stage, clusters = run.stage_of(self._host), run.file.read().clusters
        # Such as a canary that is unreachable.
        if not any(host in clusters and clusters[host].status in outcomes.DONE for host in stage.hosts):
            return {}
        run.file.start_soak(stage.name, stage.soak)
        end = time.monotonic() + stage.soak
        while (left := end - time.monotonic()) > 0:
            waits = show_seconds(left)
            fleet_task.print_line(f"stage {stage.name}: the clusters are verified again in {waits}")
            time.sleep(min(left, SOAK_LINES))
        return {}

    def check_began(self) -> dict[str, Any]:
        """Record that the user's check began. The cluster counts as failed until the check has ended."""
        run = fleet_run.of_task(self._variables)
        before, outcome = cluster_run.begin_check(run, self._host)
        return {cluster_run.OUTCOME: outcome, "before": before}

    def check_ended(self) -> dict[str, Any]:
        """Record that the user's check succeeded."""
        run, outcome = fleet_run.of_task(self._variables), self._variables["__certflow_check_began"]["before"]
        return {cluster_run.OUTCOME: cluster_run.end_check(run, self._host, outcome)}

    def failed(self) -> dict[str, Any]:
        """Record the failure of the task that failed before this one."""
        run, result = fleet_run.of_task(self._variables), self._variables["ansible_failed_result"]
        task, is_hidden = str(self._options.get("task") or ""), self._may_be_hidden()
        outcome = cluster_run.record_failure(run, self._host, result, task, is_hidden=is_hidden)
        return {cluster_run.OUTCOME: outcome}

    def _may_be_hidden(self) -> bool:
        """Return True unless no_log of the failed task is certainly false. A template of it may need an item of a loop."""
        failed_task = self._variables.get("ansible_failed_task")
        no_log = failed_task.get("no_log", False) if isinstance(failed_task, Mapping) else False
        value = read_variables.rendered(self._templar, no_log)
        try:
            return value is not None and bool(boolean(value, strict=True))
        except TypeError:
            return True

    def report(self) -> dict[str, Any]:
        """Fail the host if its outcome is a failure. The summary has the reason."""
        outcome = outcomes_of(self._variables)[self._host]
        words = dict.fromkeys(filter(None, (outcome["status"], outcome.get("code"))))
        is_handed_on = (
            outcome["status"] == report_schema.LEFT and fleet_run.of_task(self._variables).is_handed_on
        )
        return {
            "failed": outcomes.is_failure(outcome) and not is_handed_on,
            "msg": f"{', '.join(words)}. {REASON_BELOW}",
        }

    def end(self) -> dict[str, Any]:
        """End the run, write the report, and print the summary. Return its last lines, and the artifacts for later jobs."""
        run, rows = fleet_run.of_task(self._variables), outcomes_of(self._variables)
        plan = run_report.data_of_plan(run, rows)
        problems = [*fleet_run.registered(self._variables, CHECKED).get("notes", ())]
        if self._job_name() is UNREADABLE:
            problems.append(f"The variable {JOB_NAME} cannot be rendered, so later jobs get no report.")
        problems += _problem(run.file.end_run)
        unwritten = _problem(lambda: run_report.write(run, rows)) if run.report else []
        *lines, count, left = outcomes.summary_lines(rows, *unwritten)
        last = [count, *([f"plan {plan['hash']}"] if plan else []), left]
        for line in (*problems, *unwritten, *lines, *last):
            fleet_task.print_line(line)  # A callback may hide the results of successful tasks.
        return {
            "summary": [*problems, *unwritten, *last],
            "is_written": not unwritten,
            "artifacts": self._artifacts(run, rows, plan),
        }

    def _artifacts(
        self, run: FleetRun, rows: Mapping[str, Mapping[str, Any]], plan: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the outcomes under the id of the job, and the counts under its name, because a later job does not know the id."""
        shown = {
            host: {
                **{key: visible(str(row.get(key, ""))) for key in ("status", "code", "reason")},
                "is_failure": outcomes.is_failure(row),
            }
            for host, row in rows.items()
        }
        artifacts = {f"certflow_report_{self._variables.get('awx_job_id', 'cli')}": harmless(shown)}
        name = self._job_name()
        if not is_blank(name) and name is not UNREADABLE:
            statuses = {host: str(row["status"]) for host, row in rows.items()}
            made = job_report.make(run.role, run.is_check, statuses)
            artifacts[f"certflow_report_{name}"] = harmless({**made, "plan": plan})
        return artifacts

    def _job_name(self) -> Any:
        return read_variables.rendered(self._templar, self._variables.get(JOB_NAME, ""))


def _problem(act: Callable[[], object]) -> list[str]:
    """Do an act of the end of a run, and return its error as a line."""
    try:
        act()
    except CertflowError as error:
        return [str(error)]
    return []


def _missing_libraries(hosts: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the line about libraries without which no cluster can be read. The tasks of a run use this interpreter."""
    providers = (values.get(name) for values in hosts for name in values if name.endswith("_providers"))
    rows = (row for table in providers if isinstance(table, Mapping) for row in table.values())
    has_rule = any(isinstance(row, Mapping) and row.get("rule") for row in rows)
    missing = missing_libraries(LIBRARIES_OF_RULES if has_rule else {})
    if not missing:
        return []
    names = ", ".join(missing)
    return [f"{sys.executable} lacks the Python libraries {names}. Install them for that interpreter."]


def outcomes_of(variables: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the outcome of each host. variables: of a task, or of the main process with the run."""
    run = fleet_run.of_task(variables)
    results = {host: variables["hostvars"].raw_get(host).get("__certflow_done") for host in run.hosts}
    known = {
        host: dict(result[cluster_run.OUTCOME])
        for host, result in results.items()
        # An earlier playbook of the same file may have left its result.
        if isinstance(result, Mapping)
        and cluster_run.OUTCOME in result
        and result.get(cluster_run.RUN) == run.run
    }
    try:
        rows = run_report.outcomes_of(run, known)
    except CertflowError as error:
        lost = {"status": report_schema.NOT_STARTED, "code": error.code, "reason": error.cause}
        rows = {host: known.get(host, lost) for host in run.hosts}
    # A playbook that a user's playbook imports with a tag runs with that tag.
    is_begun = any(row["status"] != report_schema.NOT_STARTED or row["code"] for row in rows.values())
    is_selected = is_begun or fleet_operations.of_name(run.role).is_selected(variables["ansible_run_tags"])
    skipped = {"status": report_schema.SKIPPED, "code": "", "reason": SKIPPED}
    return rows if is_selected else dict.fromkeys(rows, skipped)


def run_file_path(path: str, role: str) -> str:
    """Return the absolute path of the run file. Raises RunFileError for a link that another user may have made.

    By default it is below the home directory, or in a new temporary directory if that cannot be written.
    """
    if path.strip():
        try:
            return paths.resolve(paths.expand(path.strip()))
        except OSError as error:
            raise private_file.unusable(path, error) from error
    with contextlib.suppress(CertflowError, OSError):
        folder = Path(paths.resolve(paths.expand(STATE)), "runs")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return str(folder / f"{role}.jsonl")
    return str(Path(tempfile.mkdtemp(prefix="certflow-run-")) / f"{role}.jsonl")


_NAMES = ("check", "begin", "soak", "check_began", "check_ended", "failed", "report", "end")
STEPS: dict[str, Callable[[Step], dict[str, Any]]] = {name: getattr(Step, name) for name in _NAMES}
