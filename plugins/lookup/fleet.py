# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lookup plugin: the hosts and the settings of a fleet run, for the playbooks certificates and upgrade."""

from __future__ import annotations

DOCUMENTATION = r"""
name: fleet
short_description: Check the hosts and the settings of a fleet run
version_added: 1.0.0
author: certflow.kubernetes contributors (@certflow)
description:
  - The playbooks certificates and upgrade of this collection use it. It does not contact a cluster.
  - It returns one answer for each term.
options:
  _terms:
    description:
      - V(hosts) is the list of the hosts that O(pattern) matches within C(--limit).
      - V(pattern) is O(pattern) if it matches a host. Otherwise it is V(localhost), on which the playbook reports the error.
        If C(--limit) excludes localhost, the lookup fails.
      - V(settings) is a dictionary with the checked settings. Its key C(problem) is empty if the run may start. If there are several
        problems, C(problems) has a line for each. C(stages) has the stages of the run, C(max_failures) the number of clusters that may
        fail, and C(canary) which clusters are the canary.
    required: true
  pattern:
    description:
      - The host pattern of the run.
    type: str
    default: ""
  role:
    description:
      - The role of the run, without the collection's name. V(pattern) and V(settings) check its variables.
    type: str
    default: ""
  job_name:
    description:
      - The name of this job in a workflow, for V(settings).
    type: raw
    default: ""
  required_job:
    description:
      - The name of an earlier job of the workflow that must have succeeded, for V(settings).
    type: raw
    default: ""
  fails_on_change:
    description:
      - Whether a cluster that would change fails.
    type: bool
    default: false
  reads_only:
    description:
      - Whether the run writes nothing.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Show the hosts of a run
  ansible.builtin.debug:
    msg: "{{ query('certflow.kubernetes.fleet', 'hosts', pattern='clusters') }}"
"""

RETURN = r"""
_raw:
  description:
    - The answer to each term.
  type: list
  elements: raw
"""

from collections.abc import Mapping
from typing import Any

import ansible.context  # not a name from it, because the arguments are set when the program starts
from ansible.errors import AnsibleLookupError
from ansible.inventory.manager import InventoryManager
from ansible.plugins.lookup import LookupBase
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet import check_run, stages
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._report import job_report
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._variables import (
    read_variables,
    role_variables,
)

LISTINGS = ("syntax", "listhosts", "listtasks", "listtags")


class LookupModule(LookupBase):  # type: ignore[misc]
    def run(self, terms: list[Any], variables: Any = None, **kwargs: Any) -> list[Any]:
        self.set_options(var_options=variables, direct=kwargs)
        questions = {
            "hosts": self._hosts,
            "pattern": self._pattern,
            "settings": self._settings,
        }
        unknown = [term for term in terms if term not in questions]
        if unknown:
            raise AnsibleLookupError(f"{unknown[0]} is not one of {', '.join(questions)}")
        answers: list[Any] = []
        for term in terms:
            answer = questions[term](variables or {})
            answers.extend(answer if term == "hosts" else [answer])
        return answers

    def _hosts(self, variables: Mapping[str, Any]) -> list[str]:
        """Return the names of the hosts that the pattern matches within --limit."""
        pattern = self.get_option("pattern")
        if role_variables.is_blank(pattern):
            return []
        manager = self._inventory(variables)
        manager.subset(_limit() or None)
        return [str(host) for host in manager.get_hosts(pattern)]

    def _inventory(self, variables: Mapping[str, Any]) -> Any:
        """Return the inventory with the groups and the names of the hosts."""
        manager = InventoryManager(self._loader, parse=False)
        for group, members in variables["groups"].items():
            manager.add_group(group)
            for member in members:
                manager.add_host(member, group=group)
        return manager

    def _pattern(self, variables: Mapping[str, Any]) -> str:
        if self._hosts(variables):
            if self.get_option("role"):
                self._spec()  # Ansible asks for the pattern before it forks. Each fork inherits the parsed file of the role.
            return str(self.get_option("pattern"))
        if _limit() and not any(ansible.context.CLIARGS.get(listing) for listing in LISTINGS):
            # Without a role there are no variables to check.
            lines = self._problems(variables, []) if self.get_option("role") else []
            words = f"no host matches certflow_hosts: {self.get_option('pattern')} within --limit {_limit()}"
            raise AnsibleLookupError((lines or [words])[0])
        return "localhost"

    def _settings(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        hosts = self._checked(self._hosts(variables), variables)
        names = self.get_option("job_name"), self.get_option("required_job")
        lines = [
            *self._problems(variables, hosts),
            *job_report.problems(*names, variables),
            *check_run.check_file_problems(hosts, variables.get("inventory_dir")),
        ]
        answer = {"problem": check_run.summary(lines, self._spec()), "problems": lines}
        if lines:
            return {**answer, "stages": [], "serial": [], "max_failures": 0, "canary": ""}
        given = self._given(variables, hosts)
        chosen, limits = check_run.assign_stages(given, hosts).stages, check_run.make_budget(given, hosts)
        return {
            **answer,
            "stages": stages.to_data(chosen),
            "serial": stages.serial(chosen),
            "max_failures": limits.limit,
            "canary": limits.canary,
        }

    def _spec(self) -> role_variables.RoleSpec:
        return role_variables.specification(self.get_option("role"))

    def _problems(self, variables: Mapping[str, Any], hosts: list[check_run.Host]) -> list[str]:
        size = len(variables["groups"].get("all", ()))
        return check_run.problems(self._given(variables, hosts), hosts, self._spec(), size)

    def _given(self, variables: Mapping[str, Any], hosts: list[check_run.Host]) -> check_run.Settings:
        manager = self._inventory(variables)
        return check_run.Settings(
            pattern=self.get_option("pattern"),
            chosen=variables.get("ansible_play_hosts_all") or (),
            limit=_limit(),
            members={
                pattern: [str(host) for host in manager.get_hosts(pattern)]
                for pattern in check_run.stage_patterns(hosts)
            },
            groups=variables["groups"],
            reads_only=self.get_option("reads_only"),
            names=[*self._of_play(variables), *read_variables.extra_names(self._loader)] if hosts else (),
        )

    @staticmethod
    def _of_play(variables: Mapping[str, Any]) -> dict[str, Any]:
        """Return the variables of the play, which hold for every host.

        Hostvars lack the variables of the play. So a variable that the current host has without an entry in its hostvars is
        the play's.
        """
        current = variables["hostvars"].raw_get(variables["inventory_hostname"])
        return {key: value for key, value in variables.items() if key not in current}

    def _checked(self, hosts: list[str], variables: Mapping[str, Any]) -> list[check_run.Host]:
        """Return the hosts with the variables that are checked, as a task of each host would see them."""
        names = [*role_variables.CLUSTER_VARIABLES, *check_run.CHECKED, *self._spec().options]
        hostvars, of_play = variables["hostvars"], self._of_play(variables)

        def host(name: str) -> check_run.Host:
            available = {**of_play, **hostvars.raw_get(name)}
            templar = self._templar.copy_with_new_env(available_variables=available)
            return check_run.Host(
                name,
                {key: read_variables.rendered(templar, available[key]) for key in names if key in available},
            )

        return [host(name) for name in hosts]


def _limit() -> str:
    return str(ansible.context.CLIARGS.get("subset") or "")
