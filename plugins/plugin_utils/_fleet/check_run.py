# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The settings of a fleet run, and what is wrong with them. Pure, except for one check of a file. A run with a problem contacts no cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.certflow.kubernetes.plugins.module_utils import _paths
from ansible_collections.certflow.kubernetes.plugins.module_utils._errors import CertflowError

from .._variables import role_variables
from .._variables.role_variables import UNDEFINED, RoleSpec, is_blank, is_unset
from . import budget, durations, host_patterns, plan, stages, windows
from .budget import Budget
from .overlap import Member, find_overlap
from .stages import Assignment, some

# Role -> the playbook that runs it.
PLAYBOOKS = {"snapshot_controller": "upgrade", "webhook_certificate": "certificates"}
# The lines for a run without an inventory.
NO_INVENTORY = (
    (
        "the inventory has no host. If it could not be read, a warning above says why. Otherwise write the file clusters.yml "
        "with these three lines, and run: ansible-playbook -i clusters.yml certflow.kubernetes.{playbook} -e @FILE"
    ),
    "plugin: certflow.kubernetes.kubeconfig",
    "kubeconfig: ~/.kube/config # each context of this file becomes a host",
    'include: ["*"] # patterns of the contexts to use',
)
LONGEST_UID = 128
AFTER = "certflow_after_cluster"


@dataclass(frozen=True)
class Settings:
    """The settings of a run that are not variables of its hosts.

    pattern: the value of certflow_hosts on a host of the run.
    chosen: names of the hosts that Ansible chose for the play.
    limit: the value of --limit, or "".
    members: the hosts of the inventory that each pattern of certflow_stages matches.
    groups: group -> its hosts.
    reads_only: True in check mode.
    names: names of the variables that are not from the inventory. A misspelt one is an error.
    """

    pattern: Any
    chosen: Sequence[str] = ()
    limit: str = ""
    members: Mapping[str, Sequence[str]] = field(default_factory=dict)
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    reads_only: bool = False
    names: Collection[str] = ()


@dataclass(frozen=True)
class Host:
    """A host of the run.

    variables: the variables of the role and the playbook that are set for the host. A value may be UNDEFINED.
    """

    name: str
    variables: Mapping[str, Any] = field(default_factory=dict)


def stage_patterns(hosts: Sequence[Host]) -> list[str]:
    """Return the host patterns of certflow_stages, for Settings.members."""
    return stages.patterns(_shared(hosts, stages.NAME))


def assign_stages(settings: Settings, hosts: Sequence[Host]) -> Assignment:
    """Return the stages of the run."""
    names = [host.name for host in hosts]
    until = _shared(hosts, stages.UNTIL)
    return stages.assign(_shared(hosts, stages.NAME), names, settings.members, until)


def make_budget(settings: Settings, hosts: Sequence[Host]) -> Budget:
    """Return the failure budget of a run without problems. A percentage is of the clusters up to certflow_until."""
    clusters = stages.order(assign_stages(settings, hosts).stages)
    canary = "" if settings.reads_only else stages.canary_of(_shared(hosts, stages.NAME))
    return budget.make_budget(_shared(hosts, budget.NAME), len(clusters), canary)


def problems(settings: Settings, hosts: Sequence[Host], spec: RoleSpec, inventory_size: int) -> list[str]:
    """Return the problems that prevent the run, one line each, the most basic one first.

    spec: the variables of the role that runs.
    inventory_size: number of hosts in the inventory.
    """
    found = _pattern_problems(settings, hosts, inventory_size, spec)
    if found:
        return found
    return [
        *_run_problems(settings, hosts),
        *_misspelt(settings, spec),
        *_variable_problems(hosts, spec),
        *_unnamed(settings, hosts, spec, inventory_size),
        *_shared_clusters(hosts, spec),
    ]


def summary(lines: Sequence[str], spec: RoleSpec) -> str:
    """Return one line for all problems, "" without a problem. Several problems are listed above it."""
    if not lines or lines == _no_inventory(spec):
        return lines[0] if lines else ""
    more = [f"The list above has {len(lines) - 1} more."] if len(lines) > 1 else []
    page = [spec.page] if any(f"{spec.name}_" in line for line in lines) else []
    return " ".join([lines[0], *more, *page])


def _shared(hosts: Sequence[Host], name: str) -> Any:
    """Return the value that the hosts of a run share, None without one."""
    values = [host.variables[name] for host in hosts[:1] if name in host.variables]
    return values[0] if values else None


def _no_inventory(spec: RoleSpec) -> list[str]:
    return [line.format(playbook=PLAYBOOKS[spec.name]) for line in NO_INVENTORY]


def _pattern_problems(
    settings: Settings, hosts: Sequence[Host], inventory_size: int, spec: RoleSpec
) -> list[str]:
    if not inventory_size:
        return _no_inventory(spec)
    if is_blank(settings.pattern):
        return [
            "certflow_hosts is empty. Give a host pattern, or leave the variable out to use the group clusters."
        ]
    patterns = [str(settings.pattern), settings.limit, *stage_patterns(hosts)]
    ambiguous = [*host_patterns.ambiguity_problems(patterns, settings.groups)]
    if ambiguous:
        return ambiguous
    if not hosts:
        limit = f" within --limit {settings.limit}" if settings.limit else ""
        return [f"no host matches certflow_hosts: {settings.pattern}{limit}"]
    if settings.chosen and set(settings.chosen) != {host.name for host in hosts}:
        words = (
            f"the inventory sets certflow_hosts to {settings.pattern}, but the hosts of a play are chosen before variables of"
            " the inventory are read. Give certflow_hosts as an extra variable (-e)"
        )
        return [words]
    return []


def _run_problems(settings: Settings, hosts: Sequence[Host]) -> Iterator[str]:
    """Yield the problems of the variables that the hosts of a run share."""
    differing = [*_differing(hosts)]
    if differing:
        yield from differing
        return
    for name, check in RUN_CHECKS.items():
        value = _shared(hosts, name)
        if value is UNDEFINED:
            yield f"{name} refers to a variable that is not defined."
        elif not is_blank(value):
            yield from check(name, value)
    yield from assign_stages(settings, hosts).problems
    if _is_true(_shared(hosts, "certflow_fail_on_change")) and not settings.reads_only:
        yield (
            "certflow_fail_on_change is for runs that write nothing. Add --check, or remove certflow_fail_on_change."
        )


def _differing(hosts: Sequence[Host]) -> Iterator[str]:
    """Yield the variables of the run that have several values. A host without a value differs too."""
    for name in (*RUN_CHECKS, stages.NAME, stages.UNTIL):
        first = _shared(hosts, name)
        others = [host.name for host in hosts if host.variables.get(name) != first]
        if others:
            yield (
                f"{name} is a variable of the whole run, and it differs between {hosts[0].name} and {some(others)}."
                " Set it as an extra variable (-e), or for all clusters."
            )


def _variable_problems(hosts: Sequence[Host], spec: RoleSpec) -> Iterable[str]:
    """Yield a line for each problem of variables, with the hosts that have it."""
    found: dict[role_variables.Problem, list[str]] = {}
    for host in hosts:
        for problem in role_variables.problems(spec, host.variables):
            found.setdefault(problem, []).append(host.name)
    for problem, names in found.items():
        yield problem.line(some(names))
    lines: dict[str, list[str]] = {}
    for host in hosts:
        for line in _host_problems(host):
            lines.setdefault(line, []).append(host.name)
    for line, names in lines.items():
        yield f"{some(names)}: {line}"


def _host_problems(host: Host) -> Iterator[str]:
    for name, check in HOST_CHECKS.items():
        value = host.variables.get(name)
        if value is UNDEFINED and name not in role_variables.CLUSTER_VARIABLES:
            yield f"{name} refers to a variable that is not defined."
        elif not is_unset(value):
            yield from check(name, value)


def _misspelt(settings: Settings, spec: RoleSpec) -> Iterable[str]:
    for name, close in role_variables.misspelt(spec, settings.names).items():
        yield role_variables.misspelt_problem(spec, name, close).line()


def _unnamed(settings: Settings, hosts: Sequence[Host], spec: RoleSpec, inventory_size: int) -> Iterable[str]:
    without = some([host.name for host in hosts if not _names_cluster(host, spec)])
    yield from filter(None, [role_variables.unnamed_problem(without, inventory_size, settings.names)])


def _shared_clusters(hosts: Sequence[Host], spec: RoleSpec) -> Iterator[str]:
    """Yield a line for each group of hosts whose inventory says that they mean the same cluster and the same object.

    A UID that the inventory does not have is compared when the cluster starts.
    """
    if _is_true(_shared(hosts, "certflow_allow_shared_cluster")):
        return
    members = [Member(host.name, uid=_uid(host), work=_work(host, spec)) for host in hosts]
    for line in dict.fromkeys(find_overlap(members).values()):
        yield f"{line}."


def _uid(host: Host) -> str:
    value = host.variables.get("certflow_cluster_uid")
    return "" if is_blank(value) else str(value).strip()


def _work(host: Host, spec: RoleSpec) -> str:
    """Return namespace and name of the Secret, "" for a role that works on the whole cluster."""
    secret = host.variables.get(f"{spec.name}_secret")
    if not isinstance(secret, Mapping):
        return ""
    return f"{host.variables.get(f'{spec.name}_namespace', '')}/{secret.get('name', '')}"


def _names_cluster(host: Host, spec: RoleSpec) -> bool:
    names = [f"{owner}_{name}" for owner in ("certflow", spec.name) for name in ("kubeconfig", "context")]
    connection = host.variables.get(f"{spec.name}_connection")
    server = connection.get("host") if isinstance(connection, Mapping) else None
    return not all(map(is_blank, (*map(host.variables.get, names), server)))


def _check_flag(name: str, value: Any) -> Iterator[str]:
    try:
        role_variables.TYPES["bool"](value)
    except (TypeError, ValueError):
        yield f"{name} is not true or false: {durations.shown(value)}."


def _is_true(value: Any) -> bool:
    return not is_blank(value) and not [*_check_flag("", value)] and bool(role_variables.TYPES["bool"](value))


def _check_text(name: str, value: Any) -> Iterator[str]:
    """Yield a problem of a path or a name: a text without hidden characters."""
    if not isinstance(value, str) or not value.isprintable():
        yield f"{name} is not a text on one line: {durations.shown(value)}."


def _check_path(name: str, value: Any) -> Iterator[str]:
    yield from _check_text(name, value)
    try:
        _paths.expand(str(value).strip())
    except CertflowError as error:
        yield f"{name}: {error}"


def _check_report(name: str, value: Any) -> Iterator[str]:
    """Yield a problem of the path of a report. A suffix keeps a wrong path from another file, which would be replaced."""
    yield from _check_path(name, value)
    if isinstance(value, str) and not value.strip().lower().endswith(".json"):
        yield f"{name} does not end in .json: {durations.shown(value)}. The report of a run is a JSON file."


def check_file_problems(hosts: Sequence[Host], inventory_dir: str | None) -> Iterator[str]:
    """Yield a problem if certflow_after_cluster is a file that does not exist. It reads the disk.

    inventory_dir: where a relative path begins.
    """
    value = _shared(hosts, AFTER)
    if not isinstance(value, str) or not value.endswith((".yml", ".yaml")):
        return
    if not os.path.isfile(os.path.join(inventory_dir or "", value)):
        words = "A relative path begins at the folder of the inventory."
        yield f"{AFTER} is not a file: {durations.shown(value)}. {words}"


def _check_budget(_name: str, value: Any) -> Iterator[str]:
    yield from filter(None, [budget.find_problem(value)])


def _check_plan(_name: str, value: Any) -> Iterator[str]:
    yield from filter(None, [plan.find_problem(value)])


def _check_deadline(name: str, value: Any) -> Iterator[str]:
    yield from filter(None, [durations.find_problem(name, value, least=1)])


def _check_window(_name: str, value: Any) -> Iterator[str]:
    yield from windows.find_problems(value)


def _check_uid(name: str, value: Any) -> Iterator[str]:
    if (
        not isinstance(value, str)
        or not value.isprintable()
        or " " in value.strip()
        or len(value) > LONGEST_UID
    ):
        yield f"{name} is not a UID: {durations.shown(value)}."


Check = Callable[[str, Any], Iterator[str]]
#: Variable that the hosts of a run share -> its check. certflow_stages and certflow_until are checked together.
RUN_CHECKS: dict[str, Check] = {
    budget.NAME: _check_budget,
    AFTER: _check_text,
    "certflow_allow_shared_cluster": _check_flag,
    "certflow_fail_on_change": _check_flag,
    plan.NAME: _check_plan,
    "certflow_report": _check_report,
    "certflow_run_file": _check_path,
}
#: Variable that each host may have -> its check.
HOST_CHECKS: dict[str, Check] = {
    "certflow_cluster_uid": _check_uid,
    "certflow_deadline": _check_deadline,
    windows.NAME: _check_window,
    "certflow_window_override": _check_flag,
}
#: The variables of the playbooks that are to be read for the checks.
CHECKED = (*RUN_CHECKS, stages.NAME, stages.UNTIL, *HOST_CHECKS)
