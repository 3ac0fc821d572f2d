#!/usr/bin/python
# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The action plugin of this name does the work on the controller. This file has its documentation.

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_run
short_description: Do a step of a fleet run (internal)
version_added: 1.0.0
author: certflow.kubernetes contributors (@certflow)
description:
  - Internal. The playbooks of this collection use it, and it may change in any release.
  - It checks the variables of a run, begins the run, records what happens to each cluster, and writes the report. It runs on the
    controller and contacts no cluster.
options:
  step:
    description:
      - V(check) checks the hosts and the variables. It returns the settings of the run.
      - V(begin) begins the run. The registered variable C(__certflow_run) is the run that every later step reads.
      - V(soak) waits for the time of the host's stage, and prints a line each minute.
      - V(check_began) and V(check_ended) record that the check of C(certflow_after_cluster) began and succeeded on the host.
      - V(failed) records the failure of the rescued task.
      - V(report) fails for a host whose outcome is a failure.
      - V(end) ends the run, writes the report, prints the summary, and returns the artifacts for later jobs.
    type: str
    required: true
    choices: [check, begin, soak, check_began, check_ended, failed, report, end]
  playbook:
    description:
      - The playbook of the run, for V(check) and V(begin).
    type: str
    choices: [audit, certificates, cluster_ca, repair, upgrade]
  pattern:
    description:
      - The host pattern of the run, for V(check).
    type: raw
  task:
    description:
      - The name of the failed task, for V(failed).
    type: str
attributes:
  check_mode:
    description:
      - Does the same, because it changes no cluster.
    support: full
  diff_mode:
    description:
      - Shows no differences.
    support: none
"""

EXAMPLES = r"""
- name: Wait until the clusters of the stage are verified again
  certflow.kubernetes.fleet_run:
    step: soak
  run_once: true
"""

RETURN = r"""
code:
  description:
    - The kind of failure, for programs.
  returned: failure
  type: str
cause:
  description:
    - The cause of the failure.
  returned: failure
  type: str
evidence:
  description:
    - The observations behind it.
  returned: failure
  type: list
  elements: str
remedy:
  description:
    - What to do.
  returned: failure
  type: str
problems:
  description:
    - The problems of the settings, one line each.
  returned: if the step V(check) found problems
  type: list
  elements: str
certflow_outcome:
  description:
    - The outcome of the cluster.
  returned: for V(check_began), V(check_ended) and V(failed)
  type: dict
summary:
  description:
    - The last lines of the summary.
  returned: for V(end)
  type: list
  elements: str
artifacts:
  description:
    - The variables for later jobs.
  returned: for V(end)
  type: dict
"""
