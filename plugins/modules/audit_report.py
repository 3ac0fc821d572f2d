#!/usr/bin/python
# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The action plugin of this name does the work on the controller. This file has its documentation.

from __future__ import annotations

DOCUMENTATION = r"""
module: audit_report
short_description: Write the report of an audit
version_added: 1.0.0
author: certflow.kubernetes contributors (@certflow)
description:
  - Builds one report from the results of M(certflow.kubernetes.audit_info) of many hosts. It writes the report as JSON, HTML, metrics for
    Prometheus or JUnit.
  - It runs on the controller and contacts no cluster. The playbook C(certflow.kubernetes.audit) uses it.
  - The task does not fail because of findings. Use RV(failed_hosts) to fail a play.
options:
  registered:
    description:
      - The name of the variable in which each host registered its result of M(certflow.kubernetes.audit_info). A host whose task failed,
        and a host without a result, are rows of the report too.
    type: str
    required: true
  hosts:
    description:
      - The hosts of O(registered). If unset, all hosts of the play.
    type: list
    elements: str
  compare_with:
    description:
      - The path of an earlier JSON report. The report then says which findings are new, known or gone.
    type: path
  dest:
    description:
      - The files to write on the controller. The suffix of each decides its format. V(.json) is the report itself, and the other
        formats are made from it. V(.html) is a page, V(.prom) is for the textfile collector of the Prometheus node exporter, and
        V(.xml) is JUnit.
      - A file is written beside its destination and then renamed. So a reader never sees a partial file.
      - A link is followed only if other users could not have made it. So the file of another user in a common folder such as C(/tmp)
        never leads elsewhere.
    type: list
    elements: path
    default: []
  mode:
    description:
      - The mode of the files in quotes, with a leading zero, such as V('0640'). If unset, C(0644) for V(.prom), and C(0600) for the
        others. An existing file then keeps its mode or gets a narrower one.
    type: str
  fail_on:
    description:
      - The lowest severity that RV(failed_clusters) and RV(failed_hosts) count. V(warning) also counts what could not be read. A cluster
        that could not be audited always counts.
    type: str
    choices: [error, warning, never]
    default: error
attributes:
  check_mode:
    description:
      - Builds the report, checks that the files can be written, and writes no file.
    support: full
  diff_mode:
    description:
      - The difference between two reports is the comparison of O(compare_with).
    support: none
  idempotent:
    description:
      - Each run writes the files, because a report has the time at which it was made.
    support: none
seealso:
  - module: certflow.kubernetes.audit_info
"""

EXAMPLES = r"""
- name: Audit the cluster
  certflow.kubernetes.audit_info:
    cluster_name: "{{ inventory_hostname }}"
  register: audit

- name: Write the report of all hosts of the play
  certflow.kubernetes.audit_report:
    registered: audit
    dest: [report.json, report.html]
  run_once: true
  register: report

- name: Show the summary
  ansible.builtin.debug:
    msg: "{{ report.summary }}"
  run_once: true
"""

RETURN = r"""
counts:
  description: The numbers of clusters by status (C(clusters)), and of findings as in M(certflow.kubernetes.audit_info) (C(findings)).
  returned: success
  type: dict
failed_clusters:
  description: The clusters of the report that do not pass O(fail_on), each with the reason.
  returned: success
  type: dict
failed_hosts:
  description: The hosts of O(registered) that do not pass O(fail_on), each with the reason.
  returned: success
  type: dict
files:
  description: The files of the report.
  returned: success
  type: list
  elements: dict
  contains:
    path: {description: The absolute path., type: str, returned: success}
    format: {description: "V(html), V(json), V(junit) or V(prometheus).", type: str, returned: success}
    changed: {description: Whether the task wrote the file., type: bool, returned: success}
problems:
  description: A line for each file that could not be written. The task then fails, and returns the other values too.
  returned: success
  type: list
  elements: str
summary:
  description:
    - The short form of the report, as lines. It has the counts, the ten most urgent faults, the paths of the files, and in the last line
      what is left and what to do first.
  returned: success
  type: list
  elements: str
artifact:
  description:
    - Counts, the outcome of each cluster, and the ten most urgent faults in C(faults), with at most about 40 kB. Pass it to
      C(ansible.builtin.set_stats).
    - One fault of many objects and clusters is one entry. It has C(check), C(severity), C(effect), C(cause), C(breaks_at), C(findings) and
      C(clusters) as numbers, and C(first_cluster) and C(object) of its first finding. C(more_faults) is the number of other faults.
  returned: success
  type: dict
job_report:
  description: Whether all hosts of O(registered) pass, and counts, in the form of the playbooks' O(ignore:certflow_job_name).
  returned: success
  type: dict
code:
  description:
    - The kind of failure, for programs. A code never changes. RV(cause) and RV(remedy) may change between releases.
    - The page U(https://certflow.github.io/certflow.kubernetes/docsite/reference_failure_codes.html) lists all of them.
  returned: failure
  type: str
  sample: report-not-written
cause:
  description: The cause of the failure.
  returned: failure
  type: str
evidence:
  description: The observations behind it.
  returned: failure
  type: list
  elements: str
remedy:
  description: The way to mend it.
  returned: failure
  type: str
"""
