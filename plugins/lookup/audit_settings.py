# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lookup plugin: check the variables of the playbook audit."""

from __future__ import annotations

DOCUMENTATION = r"""
name: audit_settings
short_description: Check the variables of the playbook audit
version_added: 1.0.0
author: certflow.kubernetes contributors (@certflow)
description:
  - The playbook audit of this collection uses it. It does not contact a cluster.
  - It finds variables that have a wrong type or value, or that are misspelt, files that cannot be written, and earlier reports and
    exceptions that cannot be read.
options:
  _terms:
    description:
      - The hosts of the run.
    required: true
  pattern:
    description:
      - The host pattern of the run.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Show the problems of the settings
  ansible.builtin.debug:
    msg: "{{ lookup('certflow.kubernetes.audit_settings', *ansible_play_hosts_all, pattern='clusters').problems }}"
"""

RETURN = r"""
_raw:
  description:
    - A dictionary with the checked settings. Its key C(problem) is empty if the run may start. If there are several problems,
      C(problems) has a line for each.
  type: list
  elements: dict
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import ansible.context  # not a name from it, because the arguments are set when the program starts
from ansible.plugins.lookup import LookupBase
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet import check_audit
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._report import job_report, report_files
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._variables import read_variables


class LookupModule(LookupBase):  # type: ignore[misc]
    def run(self, terms: list[Any], variables: Any = None, **kwargs: Any) -> list[dict[str, Any]]:
        self.set_options(var_options=variables, direct=kwargs)
        available = variables or {}
        of_play = _of_play(available)
        run = check_audit.Run(
            pattern=self.get_option("pattern"),
            hosts={str(name): self._values(str(name), available, of_play) for name in terms},
            groups=available["groups"],
            inventory_size=len(available["groups"].get("all", ())),
            limit=str(ansible.context.CLIARGS.get("subset") or ""),
            chosen=available.get("ansible_play_hosts_all") or (),
            names=[*of_play, *read_variables.extra_names(self._loader)] if terms else (),
        )
        settings = check_audit.check(run, report_files.read_audit)
        if terms:
            settings.problems += job_report.problems(*self._jobs(available), available)
        return [{**asdict(settings), "problem": check_audit.summary(settings.problems)}]

    def _jobs(self, variables: Mapping[str, Any]) -> tuple[Any, Any]:
        """Return the name of this job in a workflow, and that of the job that must have succeeded."""
        return (
            read_variables.rendered(self._templar, variables.get("certflow_job_name", "")),
            read_variables.rendered(self._templar, variables.get("certflow_required_job", "")),
        )

    def _values(self, host: str, variables: Mapping[str, Any], of_play: Mapping[str, Any]) -> dict[str, Any]:
        """Return the variables of the playbook that are set, as a task of the host would see them."""
        available = {**of_play, **variables["hostvars"].raw_get(host)}
        templar = self._templar.copy_with_new_env(available_variables=available)
        return {
            name: read_variables.rendered(templar, available[name])
            for name in check_audit.SPEC.options
            if name in available
        }


def _of_play(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the variables of the play, which hold for every host. Hostvars lack them."""
    current = variables["hostvars"].raw_get(variables["inventory_hostname"])
    return {key: value for key, value in variables.items() if key not in current}
