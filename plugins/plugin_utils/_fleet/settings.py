# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The settings of a fleet run, and what is wrong with them. Pure.

The playbooks certificates and upgrade use them through the lookup plugin fleet. This file contacts no cluster.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .. import _role_variables
from .._role_variables import RoleSpec, is_blank

DEFAULT_SERIAL = "1, 10"
# At most so many hosts are listed in a problem.
MOST_NAMES = 5
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
BATCH = re.compile(r"[1-9][0-9]*|[1-9][0-9]?%|100%")


@dataclass(frozen=True)
class Settings:
    """The settings of a run as the user gave them.

    pattern: the value of certflow_hosts on a host of the run.
    chosen: names of the hosts that Ansible chose for the play.
    limit: the value of --limit, or "".
    serial: certflow_serial, a text or a list.
    max_failures: certflow_max_failures.
    fails_on_change: True if certflow_fail_on_change is set.
    reads_only: True in check mode.
    names: names of the variables that are not from the inventory. A misspelt one is an error.
    """

    pattern: Any
    chosen: Sequence[str] = ()
    limit: str = ""
    serial: Any = ""
    max_failures: Any = ""
    fails_on_change: bool = False
    reads_only: bool = False
    names: Collection[str] = ()


@dataclass(frozen=True)
class Host:
    """A host of the run.

    variables: the variables of the role and the playbook that the inventory or the play sets. A value may be UNDEFINED.
    """

    name: str
    variables: Mapping[str, Any] = field(default_factory=dict)


def batches(serial: Any) -> list[str]:
    """Return the sizes of the batches: numbers and percentages, from a text with commas or a list."""
    given = DEFAULT_SERIAL if is_blank(serial) else serial
    entries = given if isinstance(given, (list, tuple)) else [given]
    return [part.strip() for entry in entries for part in str(entry).split(",")]


def budget(max_failures: Any) -> str:
    """Return the number of clusters that may fail, as unchecked text."""
    return "0" if is_blank(max_failures) else str(max_failures).strip()


def problems(settings: Settings, hosts: Sequence[Host], spec: RoleSpec, inventory_size: int) -> list[str]:
    """Return the problems that prevent the run, one line each, the most basic one first.

    spec: the variables of the role that runs.
    inventory_size: number of hosts in the inventory.
    """
    found = _pattern_problems(settings, hosts, inventory_size, spec)
    if found:
        return found
    return [
        *_number_problems(settings),
        *_misspelt(settings, spec),
        *_variable_problems(hosts, spec),
        *_unnamed(hosts, spec),
    ]


def summary(lines: Sequence[str], spec: RoleSpec) -> str:
    """Return one line for all problems, "" without a problem. Several problems are listed above it."""
    if not lines or lines == _no_inventory(spec):
        return lines[0] if lines else ""
    more = [f"The list above has {len(lines) - 1} more."] if len(lines) > 1 else []
    page = [spec.page] if any(f"{spec.name}_" in line for line in lines) else []
    return " ".join([lines[0], *more, *page])


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


def _number_problems(settings: Settings) -> Iterable[str]:
    wrong = [size for size in batches(settings.serial) if not BATCH.fullmatch(size)]
    if wrong:
        yield f"certflow_serial has sizes that are not numbers or percentages of clusters: {', '.join(wrong)}."
    if not re.fullmatch("[0-9]+", budget(settings.max_failures)):
        yield f"certflow_max_failures is not a number of clusters: {budget(settings.max_failures)}."
    if settings.fails_on_change and not settings.reads_only:
        yield (
            "certflow_fail_on_change is for runs that write nothing. Add --check, or remove certflow_fail_on_change."
        )


def _variable_problems(hosts: Sequence[Host], spec: RoleSpec) -> Iterable[str]:
    """Yield a line for each problem of variables, with the hosts that have it."""
    found: dict[_role_variables.Problem, list[str]] = {}
    for host in hosts:
        for problem in _role_variables.problems(spec, host.variables):
            found.setdefault(problem, []).append(host.name)
    for problem, names in found.items():
        yield problem.line(_some(names))


def _misspelt(settings: Settings, spec: RoleSpec) -> Iterable[str]:
    for name, close in _role_variables.misspelt(spec, settings.names).items():
        yield _role_variables.misspelt_problem(spec, name, close).line()


def _some(names: Sequence[str]) -> str:
    """Return the names of hosts, at most five of them."""
    shown = ", ".join(names[:MOST_NAMES])
    return f"{shown} and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else shown


def _unnamed(hosts: Sequence[Host], spec: RoleSpec) -> Iterable[str]:
    """Yield an error for hosts that name no cluster. A single host may take its cluster from the environment."""
    without = [host.name for host in hosts if not _names_cluster(host, spec)]
    if without and len(hosts) > 1:
        yield (
            f"these hosts do not name their cluster: {_some(without)}. Set certflow_context (and"
            " certflow_kubeconfig) for each host. Only a run with one host takes its cluster from the environment."
        )


def _names_cluster(host: Host, spec: RoleSpec) -> bool:
    names = [f"{owner}_{name}" for owner in ("certflow", spec.name) for name in ("kubeconfig", "context")]
    connection = host.variables.get(f"{spec.name}_connection")
    server = connection.get("host") if isinstance(connection, Mapping) else None
    return not all(map(is_blank, (*map(host.variables.get, names), server)))
