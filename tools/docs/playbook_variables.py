# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The page about the variables of the playbooks, from plugins/plugin_utils/_variables/playbooks.yml and _fleet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ansible_collections.certflow.kubernetes.plugins.module_utils._approved_plan import UNCOVERED
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet import durations, outcomes, run_file
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._report import run_statuses
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._variables.specs import (
    AUDIT,
    FLEET,
    PLAYBOOK_VARIABLES,
    Option,
)
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._variables.values import listed

from tools.docs import rst

INTRO = """\
# Variables of the playbooks

The playbooks `certflow.kubernetes.certificates` and `certflow.kubernetes.upgrade` run a role on a fleet. They take these variables, and the
variables of the role. `ansible-doc -t role certflow.kubernetes.webhook_certificate` shows the variables of a role.

| Variable | Default | Meaning |
|---|---|---|
"""
PER_HOST = """
Each host may have its own value of these variables: {names}. All hosts of a run share the value of every other variable. The run does not
start if the inventory gives them different values.
"""
DURATIONS = """
A duration is a number with `s`, `m`, `h` or `d`, such as `90s`, `15m` or `2h`. A number without a unit is in seconds. The longest duration is
{days} days.

## Stages

A run goes through its stages in their order. A stage starts when each cluster of the previous stage has ended and its soak time is over. Each
cluster is in exactly one stage. If a cluster is in no stage or in two, the run does not start.

```yaml
certflow_stages:
  - name: canary
    hosts: canary
    soak: 30m
  - name: first
    hosts: test:&provider_eks
    max_concurrency: 5
  - name: fleet
    hosts: rest
    max_concurrency: 20%
```

| Key | Default | Meaning |
|---|---|---|
| `name` | required | The name of the stage. |
| `hosts` | required | A host pattern, or `rest` for the clusters that are in no other stage. |
| `max_concurrency` | Ansible's `forks` | The number of clusters at work at the same time, or a percentage of the stage, rounded down, at least 1. When a cluster ends, the next one starts. |
| `soak` | `0` | The time to wait after the last cluster of the stage. Then the run verifies each of its clusters again. A cluster that fails this verification has failed. |

Without `certflow_stages`, the first cluster is the stage `canary`, and all others are the stage `rest`. A stage without a cluster within
`certflow_hosts` and `--limit` is left out. A pattern that matches no host of the inventory is an error. The number of forks limits each stage.

## Failure budget

`certflow_max_failures` is the number of clusters that may fail in the whole run. Clusters with the outcomes {counted} count. If more of them
fail, no further cluster starts. The clusters at work finish.

A canary shows whether the change works. Canaries are the clusters of a stage with the name `canary`, and the first cluster that answers.
If a canary has the outcome `failed` or `refused`, no further cluster starts, whatever the budget is. A refusal with one of these codes is an
exception, because it is about the cluster and its owners: {owners}.

A canary with such a refusal, or with the outcome `unreachable` or `plan-differs`, has shown nothing about the change. The next cluster
takes its place. A refused or unreachable canary counts for the budget. The run works only on the cluster that takes the place, until that
cluster has ended. Then the other clusters of its stage start.

The same happens if no cluster of the stage `canary` is within `certflow_hosts` and `--limit`, as in a slice of an AWX job. If all clusters
of a stage are unreachable, the run skips the soak of the stage. With `certflow_until: canary`, no cluster of another stage takes the
place, and the run fails.

If a cluster of your own stage `canary` waits for its maintenance window, no cluster of a later stage starts. Without `certflow_stages`,
the next cluster takes the place of a canary that waits.

A run with `--check` writes nothing, so it has no canary. With `certflow_stages`, a run has a canary only if a stage has the name `canary`.

## Maintenance windows

`certflow_window` is a window or a list of windows of a cluster. The run checks the window when it is about to start the cluster. A cluster
that has started finishes, also after the window has closed. Outside of its windows, the outcome of the cluster is `waiting`, and the report
has the next opening. If a certificate breaks before that opening, the cluster has failed, so that the run shows it.

```yaml
certflow_window:
  - days: [Fri]
    start: "22:00"
    end: "04:00"
    timezone: Europe/Berlin
  - days: Sat-Sun
    start: "10:00"
    end: "16:00"
    timezone: Europe/Berlin
```

| Key | Default | Meaning |
|---|---|---|
| `days` | every day | The days on which the window opens: `Mon`, `Tuesday`, a range such as `Mon-Fri`, or a list of them. |
| `start` | required | The time at which it opens, in quotes. Without quotes, YAML reads `22:00` as a number. |
| `end` | required | The time at which it closes. If it is not later than `start`, it is on the next day. `24:00` is the end of the day. |
| `timezone` | `UTC` | The name of a time zone. Its rules come from the zone database of the machine, or from the Python package `tzdata`. |

- A key without a value is an error, and so is an empty list of windows or of days. To remove the window of a group from a host, set
  `certflow_window` of the host to an empty text.
- The day is the day of the start. Friday 22:00 to 04:00 lasts until Saturday.
- A time that exists twice, when daylight saving time ends, means the first one.
- A time that is skipped, when daylight saving time begins, means the same moment by the clock before the change: 02:30 becomes 03:30.

A change calendar or another source can set `certflow_window_override` for each host with a lookup.

A run with `--check` ignores the windows. Its report shows the next opening for each cluster. If the window has closed when a stage is verified
again after its `soak`, the verification of the cluster creates no test objects.

## Approved plans

A run with `--check` makes a plan. For each cluster, the plan has the digests of the UID, of the options of the role's module, and of each
write that is due. `certflow_plan` takes the plan as the path of the report, or as the key `plan` of the artifact
`certflow_report_<certflow_job_name>`. If `certflow_required_job` names a job that has a plan, the run uses this plan.

A plan is an upper bound for each cluster. Fewer writes are no difference, and the run may leave out clusters of the plan. A cluster has the
outcome `plan-differs` in these cases:

- The cluster is not in the plan.
- Its UID or an option differs.
- The run would write more or something else.

The run compares before the first write, and again when it holds the Lease. The other clusters continue.

A plan needs the permission to get the namespace `kube-system`. Without this permission on a cluster, the cluster is not in the plan. The
plan does not cover the variables of the playbooks, such as the stages and `certflow_after_cluster`. It also does not cover these options of the modules:

| Options | Reason |
|---|---|
{uncovered}
## Outcomes

Each cluster of a run has exactly one outcome.

| Outcome | Meaning | Failed | Counts for `certflow_max_failures` |
|---|---|---|---|
"""
RUN_FILE = """
A cluster that waits has failed if a certificate breaks before its window opens. The report says `drift` and `skipped` only if the run had
the variable or the tags that the table names.

## Run file

The run appends a line to the run file when a cluster starts and when it ends. It reads this file to decide whether the failure budget is spent. The
file is never a reason to skip a cluster: a run on a cluster that is done costs two or three requests. After a run that was killed, the
next run with the same file names the clusters that were at work, and completes them.

The file has the mode 0600 and holds no addresses and no credentials. It must not be a link, must belong to the user that runs Ansible, and must
not be in a folder that a group or other users may write to, unless the folder is sticky, such as `/tmp`. If the file cannot be written, for example because the disk is full, no further
cluster starts. A file with more than {kilobytes} kB is reduced to its unfinished runs.

## How a host names its cluster

A run starts only if each host names its cluster. The variables `certflow_context` and `certflow_kubeconfig` do so, and
also the role's own variables, such as `webhook_certificate_context`. The single host of an inventory may take its cluster
from the environment. With `--limit`, and in each job of AWX, every host must name its cluster. The reason is that a slice of a job does not
show how many hosts the inventory has. No run starts if one of these variables, or `certflow_cluster_uid`, refers to an undefined variable.

The playbooks read the UID of each cluster when they start to work on it, with the permission to get the namespace `kube-system`. If an earlier host of the
run has the same UID, address and CA, the run refuses the later host. If only the UID is the same, the run warns and works on both, because a
cluster may report the UID of another one. For certificates, this applies to hosts with the same Secret. If
`certflow_cluster_uid` is set for a host, the playbooks do not read the UID.

## Input that is checked first

A run reports these problems before it contacts any cluster, one line each:

- an empty inventory, or a pattern that matches no host
- a required variable that is unset or empty
- a variable with an invalid type or value, such as a stage without hosts, a time zone that does not exist, or a duration without a number
- a variable of the run that has different values on different hosts
- an extra variable or a variable of the play whose name differs by one or two letters from a variable of the role or of the playbooks
- a release that does not exist or fails verification

A line names the variable, and the hosts that have the problem unless all hosts have it. For example:

```text
webhook_certificate_secret is not a dictionary: 'hook-tls'. Write webhook_certificate_secret: {{name: hook-tls}}.
prod-1, prod-2: certflow_window.start is not a time: 1320. Write it in quotes, such as "22:00".
certflow_max_failure is not a variable of these playbooks. Did you mean certflow_max_failures?
```

The roles make the same check when they run without these playbooks. A message of a module in a role names the variable instead of the
option. In AWX, the description of each question of the surveys in `examples/awx` names its variable.

## Variables that the plugins set

The inventory plugin sets `certflow_server`, the address of the API server, and `certflow_provider`, the provider that the kubeconfig shows.
"""
AUDIT_TEXT = """
## Variables of the playbook audit

The playbook `certflow.kubernetes.audit` takes {shared} of the first table. For an audit,
`certflow_report` is a path or a list of paths. The playbook also takes these variables. Each host may have its own value of {per_host}.

| Variable | Default | Meaning |
|---|---|---|
"""


def variables() -> str:
    """Return the page about the variables."""
    fleet, audit = _of(FLEET), {name: row for name, row in _of(AUDIT).items() if name not in _of(FLEET)}
    shared = [name for name in _of(AUDIT) if name not in audit]
    parts = (
        *(INTRO, *_variable_rows(fleet), PER_HOST.format(names=", ".join(_per_host(fleet)))),
        DURATIONS.format(
            days=durations.LONGEST.days, counted=_counted(), owners=_owners(), uncovered=_uncovered()
        ),
        *(*_outcome_rows(), RUN_FILE.format(kilobytes=run_file.MOST_KEPT_BYTES // 1024)),
        AUDIT_TEXT.format(shared=listed(f"`{name}`" for name in shared), per_host=listed(_per_host(audit))),
        *_variable_rows(audit),
    )
    return rst.page(
        "".join(parts),
        "playbook_variables",
        "Made by `make docs` from the tables in plugins/plugin_utils/_variables/playbooks.yml and _fleet/outcomes.py.",
    )


def _of(playbooks: str) -> dict[str, Option]:
    return {name: row for name, row in PLAYBOOK_VARIABLES.items() if playbooks in row["playbooks"]}


def _uncovered() -> str:
    """Return a row for each reason of the options that no plan covers."""
    options: dict[str, list[str]] = {}
    for name, reason in UNCOVERED.items():
        options.setdefault(reason, []).append(f"`{name}`")
    return "".join(f"| {', '.join(names)} | {reason}. |\n" for reason, names in options.items())


def _variable_rows(variables: Mapping[str, Option]) -> Iterator[str]:
    for name, row in variables.items():
        yield f"| `{name}` | {row.get('default', 'none')} | {_meaning(row)} |\n"


def _meaning(row: Option) -> str:
    choices = [f"`{choice}`" for choice in row.get("choices", ())]
    is_boolean = row["type"] == "bool"
    return f"{'Boolean. ' if is_boolean else ''}{row['description']}{f' One of {listed(choices)}.' if choices else ''}"


def _per_host(variables: Mapping[str, Option]) -> list[str]:
    return [f"`{name}`" for name, row in variables.items() if row["scope"] == "host"]


def _counted() -> str:
    *most, last = (f"`{name}`" for name, status in run_statuses.STATUSES.items() if status.counts)
    return f"{', '.join(most)} and {last}"


def _owners() -> str:
    return ", ".join(f"`{code}`" for code in sorted(outcomes.OF_ITS_OWNERS))


def _outcome_rows() -> Iterator[str]:
    for name, status in run_statuses.STATUSES.items():
        failed, counts = ("yes" if flag else "no" for flag in (status.is_failure, status.counts))
        yield f"| `{name}` | {status.meaning} | {failed} | {counts} |\n"
