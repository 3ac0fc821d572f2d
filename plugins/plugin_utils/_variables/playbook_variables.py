# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The variables of the playbooks, in tables. The checks of names and the reference page are made from them. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Variable:
    """A variable of the playbooks. Texts are in light markup, for the reference page."""

    name: str
    #: The value without the variable, "" for none.
    default: str
    meaning: str
    #: True if each host may have a value of its own. The hosts of a run share the value of every other variable.
    is_per_host: bool = False


_FLEET = (
    Variable(
        "certflow_hosts",
        "`clusters`",
        "The clusters, as a host pattern. Set it as an extra variable (`-e`) or as a variable of `import_playbook`.",
    ),
    Variable(
        "certflow_stages",
        "one cluster, then the rest",
        "The stages of the run, as a list. See [Stages](#stages).",
    ),
    Variable(
        "certflow_until",
        "",
        "The name of a stage. The run ends after it, and clusters of later stages do not belong to the run.",
    ),
    Variable(
        "certflow_max_failures",
        "`0`",
        "The clusters that may fail, as a number or as a percentage of the run, rounded down. If more fail, no further cluster "
        "starts, and those at work finish. See [Failure budget](#failure-budget).",
    ),
    Variable(
        "certflow_deadline",
        "",
        "The longest time for the work on a cluster, such as `20m`. After it the work is asked to end, and the cluster has failed.",
        is_per_host=True,
    ),
    Variable(
        "certflow_window",
        "",
        "The maintenance windows of a cluster. Outside of them, it does not start. See [Maintenance windows](#maintenance-windows).",
        is_per_host=True,
    ),
    Variable(
        "certflow_window_override",
        "`false`",
        "Boolean. If true, the cluster starts also outside of its windows.",
        is_per_host=True,
    ),
    Variable(
        "certflow_after_cluster",
        "",
        "A role or a file of tasks of your own that runs for each cluster at the end of its stage. If it fails, the cluster has failed. "
        "A name that ends in `.yml` or `.yaml` is a file, and a relative path starts at the folder of the inventory.",
    ),
    Variable(
        "certflow_plan",
        "",
        "The plan of an earlier run with `--check`: the path of its report, or the key `plan` of its artifact. The run writes at "
        "most what the plan has. The default is the plan of `certflow_required_job`, if that job has one.",
    ),
    Variable(
        "certflow_report",
        "",
        "The path of the report file (JSON), which ends in `.json`. See [Report of a fleet run](report).",
    ),
    Variable(
        "certflow_run_file",
        "in `~/.local/state`",
        "The path of the run file, in which the run records the clusters that it has started. See [Run file](#run-file).",
    ),
    Variable(
        "certflow_job_name",
        "",
        "The name of this job in a workflow. The job publishes its counts as the artifact `certflow_report_<name>`.",
    ),
    Variable(
        "certflow_required_job",
        "",
        "The name of an earlier job of the workflow. The run starts only if that job ended and succeeded on each of its clusters.",
    ),
    Variable(
        "certflow_fail_on_change",
        "`false`",
        "Boolean. If true, a cluster that would change fails with the status `drift`. It needs `--check`, and is for a nightly check "
        "for drift.",
    ),
    Variable(
        "certflow_allow_shared_cluster",
        "`false`",
        "Boolean. If true, two hosts may have the same cluster UID, for example because their clusters were restored from one backup.",
    ),
    Variable(
        "certflow_kubeconfig",
        "",
        "The path of a kubeconfig. The inventory plugin `kubeconfig` sets it.",
        is_per_host=True,
    ),
    Variable(
        "certflow_context",
        "",
        "The context of the kubeconfig. The inventory plugin `kubeconfig` sets it.",
        is_per_host=True,
    ),
    Variable(
        "certflow_cluster_uid",
        "",
        "The UID of the namespace `kube-system`. The role refuses any other cluster.",
        is_per_host=True,
    ),
    Variable(
        "certflow_kubernetes_execution_mode",
        "`auto`",
        "The execution mode of the modules: `auto`, `in_process` or `module`. See [Execution modes](execution_modes).",
        is_per_host=True,
    ),
)
_AUDIT = (
    Variable(
        "certflow_fail_on",
        "`error`",
        "The lowest severity that fails a cluster: `error`, `warning` or `never`. A cluster that could not be "
        "audited always fails.",
    ),
    Variable(
        "certflow_exceptions",
        "",
        "Findings that are accepted for a limited time: a list, or the path of a YAML file with a list. The keys of an "
        "entry are those of the option `exceptions` of the module `audit_info`.",
    ),
    Variable(
        "certflow_compare_with",
        "",
        "The path of an earlier JSON report. The report then says which findings are new, known or gone.",
    ),
    Variable(
        "certflow_merge",
        "",
        "Paths of JSON reports whose clusters are added to the report.",
    ),
    Variable(
        "certflow_snapshot_version",
        "",
        "A release of external-snapshotter. The audit also finds hazards of an upgrade to it.",
        is_per_host=True,
    ),
    Variable(
        "certflow_audit_without",
        "",
        "What the site does not permit, as a list, such as `[port-forward, metrics]`. The audit does not read it, and skips the checks "
        "that need it. The entries are those of the option `without` of the module `audit_info`.",
        is_per_host=True,
    ),
    Variable(
        "certflow_probe_urls",
        "`false`",
        "Boolean. If true, the audit also connects to the URLs of webhooks.",
        is_per_host=True,
    ),
    Variable(
        "certflow_endpoints_per_service",
        "`10`",
        "The maximum number of endpoints of one Service whose certificates are read.",
        is_per_host=True,
    ),
    Variable(
        "certflow_include_passed",
        "`false`",
        "Boolean. If true, the report also has the findings that passed.",
        is_per_host=True,
    ),
    Variable(
        "certflow_wait_timeout",
        "`120`",
        "The maximum time in seconds for the audit of one cluster.",
        is_per_host=True,
    ),
)
#: The variables of the playbooks certificates and upgrade by name, in the order of the page. The audit takes some of them.
FLEET_VARIABLES = {variable.name: variable for variable in _FLEET}
#: The variables that only the playbook audit takes.
AUDIT_VARIABLES = {variable.name: variable for variable in _AUDIT}
VARIABLES = {**FLEET_VARIABLES, **AUDIT_VARIABLES}
