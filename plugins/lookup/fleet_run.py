# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lookup plugin: begin, follow and end a fleet run, for the playbooks certificates and upgrade."""

from __future__ import annotations

DOCUMENTATION = r"""
name: fleet_run
short_description: Begin, follow and end a fleet run
version_added: 1.0.0
author: certflow.kubernetes contributors (@certflow)
description:
  - The playbooks certificates and upgrade of this collection use it. It does not contact a cluster.
  - It reads and writes the run file and the report of a run on the controller.
options:
  _terms:
    description:
      - V(begin) begins a run and returns the fact C(__certflow_run), from which the other terms read the run.
      - V(hosts) is the list of host patterns of the run, in the order of its stages.
      - V(serial) is the list of the numbers of clusters of the stages.
      - V(stage) is the stage of the current host. Its keys are C(name), C(concurrency) and C(soak).
      - V(deadline) is O(deadline) in seconds.
      - V(soak) waits for the time of the current host's stage, prints a line each minute, and returns the stage's name. It does not wait
        if no cluster of the stage succeeded.
      - V(check_began) and V(check_ended) record that the check of C(certflow_after_cluster) began and succeeded on the current host.
        They return the outcome of the host, which is a failure until the check has ended.
      - V(failed_task) records the failure O(result) of the current host, and returns its outcome.
      - V(end) ends the run, writes the report, prints the summary, and returns its last lines.
      - V(outcomes) is a dictionary with the C(status), C(code) and C(reason) of each host. Its key C(is_failure) says if the host fails.
      - V(artifact) is the same dictionary for the variables of later jobs. Its names and texts cannot be templates.
      - V(job_report) is a dictionary with the counts of the outcomes, for later jobs of a workflow.
      - V(reported) is a host pattern of the hosts without success, or of the first host.
    required: true
    choices: [begin, hosts, serial, stage, deadline, soak, check_began, check_ended, failed_task, end, outcomes, artifact,
              job_report, reported]
  role:
    description:
      - The role of the run, without the collection's name.
    type: str
    default: ""
  settings:
    description:
      - The answer of the lookup plugin P(certflow.kubernetes.fleet#lookup) to V(settings), for V(begin).
    type: dict
    default: {}
  run_file:
    description:
      - The path of the run file, for V(begin). By default a file in C(~/.local/state/certflow.kubernetes), or in a temporary
        directory if that cannot be written.
    type: str
    default: ""
  report:
    description:
      - The path of the report, for V(begin). Empty for none.
    type: str
    default: ""
  plan:
    description:
      - The plan, or the path of the report with the plan, for V(begin).
    type: raw
    default: ""
  required_job:
    description:
      - The name of the earlier job whose plan V(begin) uses without O(plan).
    type: str
    default: ""
  reads_only:
    description:
      - Whether the run writes nothing.
    type: bool
    default: false
  fails_on_change:
    description:
      - Whether a cluster that would change fails.
    type: bool
    default: false
  shares_clusters:
    description:
      - Whether several hosts may mean one cluster.
    type: bool
    default: false
  deadline:
    description:
      - A duration, for V(deadline).
    type: raw
    default: ""
  result:
    description:
      - The result of the failed task, for V(failed_task).
    type: dict
    default: {}
  task:
    description:
      - The name of the failed task, for V(failed_task).
    type: str
    default: ""
  is_skipped:
    description:
      - Whether the tags of the run selected no task of the role, for V(outcomes), V(artifact), V(end), V(job_report) and
        V(reported).
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Show the outcomes of a run
  ansible.builtin.debug:
    msg: "{{ lookup('certflow.kubernetes.fleet_run', 'outcomes') }}"
"""

RETURN = r"""
_raw:
  description:
    - The answer to each term.
  type: list
  elements: raw
"""

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ansible.constants import config
from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase
from ansible.utils.display import Display
from ansible_collections.certflow.kubernetes.plugins.module_utils import _paths
from ansible_collections.certflow.kubernetes.plugins.module_utils._errors import CertflowError
from ansible_collections.certflow.kubernetes.plugins.module_utils._text import harmless, visible
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet import (
    budget,
    cluster_run,
    durations,
    fleet_run,
    host_patterns,
    outcomes,
    run_file,
    run_report,
    stages,
)
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet.budget import Budget
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet.fleet_run import FleetRun
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._report import job_report, report_files

#: The terms whose answer is a list, which becomes the result.
LISTS = ("hosts", "serial", "end")
STATE = "~/.local/state/certflow.kubernetes"
#: AWX ends a job that prints nothing for a time that its administrator sets. Seconds.
SOAK_LINES = 60.0
SKIPPED = "--tags selected no task of the role. The role did not run, and nothing was written"

display = Display()


class LookupModule(LookupBase):  # type: ignore[misc]
    def run(self, terms: list[Any], variables: Any = None, **kwargs: Any) -> list[Any]:
        self.set_options(var_options=variables, direct=kwargs)
        questions: dict[str, Callable[[Mapping[str, Any]], Any]] = {
            "begin": self._begin,
            "hosts": self._hosts,
            "serial": self._serial,
            "stage": self._stage,
            "deadline": self._deadline,
            "soak": self._soak,
            "check_began": self._check_began,
            "check_ended": self._check_ended,
            "failed_task": self._failed_task,
            "end": self._end,
            "outcomes": self._outcomes,
            "artifact": lambda variables: harmless(self._outcomes(variables)),
            "job_report": self._job_report,
            "reported": self._reported,
        }
        unknown = [term for term in terms if term not in questions]
        if unknown:
            raise AnsibleLookupError(f"{unknown[0]} is not one of {', '.join(questions)}")
        answers: list[Any] = []
        try:
            for term in terms:
                answer = questions[term](variables or {})
                answers.extend(answer if term in LISTS else [answer])
        except CertflowError as error:
            raise AnsibleLookupError(str(error)) from None
        return answers

    def _begin(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """Return the run, or its problem, because an error of a lookup is shown in words of Ansible."""
        try:
            return self._begun(variables).to_data()
        except CertflowError as error:
            return {"problem": str(error)}

    def _begun(self, variables: Mapping[str, Any]) -> FleetRun:
        settings, role = self.get_option("settings"), self.get_option("role")
        plan = self.get_option("plan") or job_report.plan_of(self.get_option("required_job"), role, variables)
        report = self.get_option("report").strip()
        chosen = stages.from_data(settings["stages"])
        begun = FleetRun(
            role=role,
            path=_run_file_path(self.get_option("run_file"), role),
            run=run_file.new_run_id(datetime.now(timezone.utc)),
            stages=chosen,
            budget=Budget(settings["max_failures"], settings["canary"]),
            report=report_files.resolve(report) if report else "",
            is_check=self.get_option("reads_only"),
            fails_on_change=self.get_option("fails_on_change"),
            shares_clusters=self.get_option("shares_clusters"),
            plan=run_report.read_plan(plan, role).to_data() if plan else {},
        )
        facts = {"role": role, "check": begun.is_check}
        # This is a fork of the process that works until the run has ended.
        unfinished = run_file.begin(begun.path, begun.run, len(begun.hosts), facts, os.getppid())
        if unfinished is not None:
            display.display(outcomes.unfinished_line(unfinished.hosts, unfinished.at))
        if report:
            run_report.write_before_end(begun)
        return begun

    @staticmethod
    def _hosts(variables: Mapping[str, Any]) -> list[str]:
        run = _find_run(variables)
        if run:
            run_report.write_at_exit(run)  # Ansible's main process asks for the hosts of a play
        return [host_patterns.exactly(host) for host in run.hosts] if run else ["localhost"]

    @staticmethod
    def _serial(variables: Mapping[str, Any]) -> list[int]:
        run = _find_run(variables)
        return stages.serial(run.stages) if run else [1]

    @staticmethod
    def _stage(variables: Mapping[str, Any]) -> dict[str, Any]:
        run = _run(variables)
        # Ansible evaluates the throttle in its parent process, so each fork inherits what the run file has so far.
        stage, concurrency = run.stage_of(variables["inventory_hostname"]), 0
        with contextlib.suppress(CertflowError):
            concurrency = int(budget.needs_answer(run.file.read(), run.budget, stage.name))
        return {"name": stage.name, "concurrency": concurrency or stage.concurrency, "soak": stage.soak}

    def _deadline(self, _variables: Mapping[str, Any]) -> int:
        given = self.get_option("deadline")
        return durations.to_seconds(given) if str(given).strip() else 0

    @staticmethod
    def _soak(variables: Mapping[str, Any]) -> str:
        run = _run(variables)
        stage, clusters = run.stage_of(variables["inventory_hostname"]), run.file.read().clusters
        if not any(host in clusters and clusters[host].status in outcomes.DONE for host in stage.hosts):
            return stage.name  # such as a canary that is unreachable
        run.file.start_soak(stage.name, stage.soak)
        end = time.monotonic() + stage.soak
        while True:
            left = end - time.monotonic()
            if left <= 0:
                return stage.name
            shown = durations.show_seconds(left)
            display.display(f"stage {stage.name}: the clusters are verified again in {shown}")
            time.sleep(min(left, SOAK_LINES))

    @staticmethod
    def _check_began(variables: Mapping[str, Any]) -> dict[str, Any]:
        return cluster_run.begin_check(_run(variables), variables["inventory_hostname"])

    @staticmethod
    def _check_ended(variables: Mapping[str, Any]) -> dict[str, Any]:
        outcome = variables["__certflow_done"][cluster_run.OUTCOME]
        return cluster_run.end_check(_run(variables), variables["inventory_hostname"], outcome)

    def _failed_task(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        host = variables["inventory_hostname"]
        result, task = self.get_option("result"), self.get_option("task")
        return cluster_run.record_failure(_run(variables), host, result, task)

    def _outcomes(self, variables: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        return {
            host: {
                **{key: visible(str(row.get(key, ""))) for key in ("status", "code", "reason")},
                "is_failure": outcomes.is_failure(row),
            }
            for host, row in self._found(variables).items()
        }

    def _found(self, variables: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        run = _run(variables)
        known = {
            host: dict(result[cluster_run.OUTCOME])
            for host, result in _results(variables, run).items()
            if cluster_run.OUTCOME in result
        }
        try:
            found = run_report.outcomes_of(run, known)
        except CertflowError as error:
            lost = {"status": outcomes.NOT_STARTED, "code": error.code, "reason": error.cause}
            found = {host: known.get(host, lost) for host in run.hosts}
        if self.get_option("is_skipped"):
            skipped = {"status": outcomes.SKIPPED, "code": "", "reason": SKIPPED}
            return {
                host: skipped if row["status"] == outcomes.NOT_STARTED else row for host, row in found.items()
            }
        return found

    def _end(self, variables: Mapping[str, Any]) -> list[str]:
        run, found = _run(variables), self._found(variables)
        *lines, count = outcomes.summary_lines(found)
        plan = run_report.data_of_plan(run, found)
        last = [count, *([f"plan {plan['hash']}"] if plan else [])]
        problems: list[str] = []
        try:
            run.file.end_run()
        except CertflowError as error:
            problems.append(str(error))
        if run.report:
            try:
                run_report.write(run, found)
            except CertflowError as error:
                problems.append(str(error))
        # A callback may hide the results of successful tasks, and a callback that prints JSON needs standard output.
        is_json = "json" in str(config.get_config_value("DEFAULT_STDOUT_CALLBACK"))
        for line in (*problems, *lines, *last):
            display.display(line, stderr=is_json)
        return [*problems, *last]

    def _job_report(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        run, found = _run(variables), self._found(variables)
        statuses = {host: str(row["status"]) for host, row in found.items()}
        made = job_report.make(run.role, run.is_check, statuses)
        report: dict[str, Any] = harmless({**made, "plan": run_report.data_of_plan(run, found)})
        return report

    def _reported(self, variables: Mapping[str, Any]) -> str:
        run = _find_run(variables)
        if run is None:
            return "localhost"
        found = self._found({**variables, fleet_run.VARIABLE: run.to_data()})
        bad = [host for host, row in found.items() if outcomes.is_failure(row)]
        return ",".join(map(host_patterns.exactly, bad or run.hosts[:1]))


def _find_run(variables: Mapping[str, Any]) -> FleetRun | None:
    """Return the run that a host's fact has. Return None before the run began, and if tasks are only listed."""
    hostvars = variables.get("hostvars")
    if hostvars is None:
        return None
    for host in variables.get("groups", {}).get("all", ()):
        fact = hostvars.raw_get(host)
        if isinstance(fact, Mapping) and fleet_run.VARIABLE in fact:
            return fleet_run.from_data(fact[fleet_run.VARIABLE])
    return None


def _results(variables: Mapping[str, Any], run: FleetRun) -> dict[str, Mapping[str, Any]]:
    """Return the result of the working task of each host, {} without one."""
    hostvars = variables["hostvars"]
    found = {host: hostvars.raw_get(host).get("__certflow_done") for host in run.hosts}
    return {host: result if isinstance(result, Mapping) else {} for host, result in found.items()}


def _run(variables: Mapping[str, Any]) -> FleetRun:
    return fleet_run.from_data(variables[fleet_run.VARIABLE])


def _run_file_path(path: str, role: str) -> str:
    """Return the absolute path of the run file. Raises RunFileError for a link that another user may have made.

    By default it is below the home directory, or in a new temporary directory if that cannot be written.
    """
    if path.strip():
        try:
            return _paths.resolve(_paths.expand(path.strip()))
        except OSError as error:
            raise run_file.unusable(path, error) from error
    with contextlib.suppress(CertflowError, OSError):
        folder = Path(_paths.resolve(_paths.expand(STATE)), "runs")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return str(folder / f"{role}.jsonl")
    return str(Path(tempfile.mkdtemp(prefix="certflow-run-")) / f"{role}.jsonl")
