# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lookup plugin: the hosts, stages and limits of a fleet run, for keywords of the plays. It only reads."""

from __future__ import annotations

DOCUMENTATION = r"""
name: fleet
short_description: Read the hosts and the stages of a fleet run (internal)
version_added: 1.0.0
author: certflow.kubernetes contributors (@certflow)
description:
  - Internal. The playbooks of this collection use it, and it may change in any release.
  - It is a lookup, because Ansible's main process evaluates the keywords C(hosts), C(serial) and C(throttle) before a task exists.
    P(certflow.kubernetes.fleet_run#module) does the steps of a run that write.
options:
  _terms:
    description:
      - V(pattern) is O(pattern) if it matches a host. Otherwise it is V(localhost), on which the playbook reports the error.
        If C(--limit) excludes localhost, the lookup fails.
      - V(planned) is the list of host patterns of the run, in the order of its stages.
      - V(serial) is the list of the numbers of clusters of the stages.
      - V(stage) is the stage of the current host. Its keys are C(name), C(concurrency) and C(soak).
      - V(deadline) is O(deadline) in seconds.
      - V(reported) is a host pattern of the hosts without success, or of the first host.
    required: true
    choices: [pattern, planned, serial, stage, deadline, reported]
  playbook:
    description:
      - The playbook of the run, for V(pattern).
    type: str
    default: ""
  pattern:
    description:
      - The host pattern of the run, for V(pattern).
    type: raw
    default: ""
  deadline:
    description:
      - A duration, for V(deadline).
    type: raw
    default: ""
"""

EXAMPLES = r"""
- name: Show the stage of the host
  ansible.builtin.debug:
    msg: "{{ lookup('certflow.kubernetes.fleet', 'stage') }}"
"""

RETURN = r"""
_raw:
  description:
    - The answer to each term.
  type: list
  elements: raw
"""

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import ansible.context  # not a name from it, because the arguments are set when the program starts
from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

from ..module_utils._base.errors import CertflowError
from ..plugin_utils._fleet import (
    budget,
    check_hosts,
    fleet_operations,
    fleet_run,
    outcomes,
    read_run,
    run_report,
    run_steps,
)
from ..plugin_utils._fleet.fleet_run import FleetRun
from ..plugin_utils._variables.values import duration_seconds

#: The terms whose answer is a list, which becomes the result.
LISTS = ("planned", "serial")
LISTINGS = ("syntax", "listhosts", "listtasks", "listtags")
#: No host. Each host of a later playbook of the file has failed, so its run did not begin, and the last run is that of another playbook.
NO_HOST = "all:!all"


class LookupModule(LookupBase):  # type: ignore[misc]
    def run(self, terms: list[Any], variables: Any = None, **kwargs: Any) -> list[Any]:
        self.set_options(var_options=variables, direct=kwargs)
        questions: dict[str, Callable[[Mapping[str, Any]], Any]] = {
            "pattern": self._pattern,
            "planned": _planned,
            "serial": _serial,
            "stage": _stage,
            "deadline": lambda _variables: duration_seconds(self.get_option("deadline")),
            "reported": _reported,
        }
        answers: list[Any] = []
        try:
            for term in terms:
                answer = questions[term](variables or {})
                answers.extend(answer if term in LISTS else [answer])
        except CertflowError as error:
            raise AnsibleLookupError(str(error)) from None
        return answers

    def _pattern(self, variables: Mapping[str, Any]) -> str:
        pattern, playbook = self.get_option("pattern"), self.get_option("playbook")
        # Ansible asks for the pattern before it forks. Each fork inherits the parsed file of the role.
        fleet_operations.spec_of(playbook)
        if read_run.matching_hosts(self._loader, variables, pattern):
            return str(pattern)
        if read_run.limit() and not any(ansible.context.CLIARGS.get(listing) for listing in LISTINGS):
            run = read_run.read(self._loader, self._templar, variables, playbook, pattern)
            raise AnsibleLookupError(check_hosts.pattern_problems(run)[0])
        return "localhost"


def _planned(variables: Mapping[str, Any]) -> list[str]:
    run = fleet_run.find(variables)
    if run is None or _has_ended(run):
        return [NO_HOST if run else "localhost"]
    run_report.write_at_exit(run)  # The main process, which asks for the hosts of a play, ends after the run.
    return [check_hosts.exactly(host) for host in run.hosts]


def _serial(variables: Mapping[str, Any]) -> list[int]:
    run = fleet_run.find(variables)
    return [len(stage.hosts) for stage in run.stages] if run else [1]


def _reported(variables: Mapping[str, Any]) -> str:
    run = fleet_run.find(variables)
    if run is None or _has_ended(run):
        return NO_HOST if run else "localhost"
    rows = run_steps.outcomes_of({**variables, fleet_run.VARIABLE: run.to_data()})
    bad = [host for host, row in rows.items() if outcomes.is_failure(row)]
    return ",".join(map(check_hosts.exactly, bad or run.hosts[:1]))


def _has_ended(run: FleetRun) -> bool:
    # Without the run file, each cluster of the run gets its outcome from the work itself.
    with contextlib.suppress(CertflowError):
        return run.file.read().is_ended
    return False


def _stage(variables: Mapping[str, Any]) -> dict[str, Any]:
    run = fleet_run.of_task(variables)
    # Ansible evaluates the throttle in its main process, so each fork inherits what the run file has so far.
    stage, concurrency = run.stage_of(variables["inventory_hostname"]), 0
    with contextlib.suppress(CertflowError):
        concurrency = int(budget.needs_answer(run.file.read(), run.budget, stage.name))
    return {"name": stage.name, "concurrency": concurrency or stage.concurrency, "soak": stage.soak}
