# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Check the options and the host patterns of a playbook run, and that each host names its cluster. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...module_utils._base.text import some, visible
from .._variables import check_variables
from .._variables.specs import OWN_VARIABLES, Spec
from .._variables.values import UNREADABLE, find_duration_problem, is_blank, is_unset
from . import fleet_operations

#: Characters that have a meaning in a pattern.
SPECIAL = frozenset(",:&!~[]*? ()")


def exactly(host: str) -> str:
    """Return a pattern for one host. A name with a special character becomes a regular expression that matches no other name."""
    escaped = (letter if letter.isalnum() else f"\\U{ord(letter):08x}" for letter in host)
    return f"~{''.join(escaped)}\\Z" if SPECIAL & {*host} else host


def ambiguity_problems(patterns: Iterable[str], groups: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Yield a line for each name in a pattern that is the name of a host and of a group. Ansible takes it for the host.

    groups: group -> its hosts. The group all has each host.
    """
    names = {name.lstrip("&!") for pattern in patterns for name in re.split(r"[,:\[]", pattern)}
    for name in sorted(names & groups.keys() & set(groups.get("all", ()))):
        yield (
            f"{visible(name)} is the name of a host and of a group, so a pattern with this name leaves out the hosts of the group."
            " Rename the host or the group."
        )


#: The file that the first line of a run without an inventory names.
INVENTORY_FILE = (
    "plugin: certflow.kubernetes.kubeconfig",
    "kubeconfig: ~/.kube/config # each context of this file becomes a host",
    'include: ["*"] # patterns of the contexts to use',
)


@dataclass(frozen=True)
class RunInput:
    """A run of a playbook as the user started it."""

    #: certificates, upgrade or audit.
    playbook: str
    #: The value of certflow_hosts.
    pattern: Any
    #: The hosts that the pattern matches within --limit -> their variables that are set. A value may be UNDEFINED or UNREADABLE.
    hosts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    #: The hosts that Ansible chose for the play.
    chosen: Sequence[str] = ()
    #: The value of --limit, or "".
    limit: str = ""
    #: The hosts of the inventory that each pattern of certflow_stages matches.
    members: Mapping[str, Sequence[str]] = field(default_factory=dict)
    #: Group of the inventory -> its hosts.
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    #: The number of hosts in the inventory.
    inventory_size: int = 0
    #: True in check mode, and with a tag with which the run writes nothing.
    reads_only: bool = False
    #: True with such a tag.
    has_reading_tag: bool = False
    #: Names of the variables that are not from the inventory. An unknown one is an error.
    names: Collection[str] = ()
    #: Host -> the names of its variables. A misspelt one is an error, and another unknown one is a note.
    inventory_names: Mapping[str, Collection[str]] = field(default_factory=dict)
    #: Host -> the problem of its kubeconfig, which has several contexts of which the host names none.
    unnamed_contexts: Mapping[str, str] = field(default_factory=dict)

    @property
    def spec(self) -> Spec:
        return fleet_operations.spec_of(self.playbook)

    @property
    def has_unreadable(self) -> bool:
        """Return True if a value is not known. Then no check but that of the variables applies."""
        return any(value is UNREADABLE for values in self.hosts.values() for value in values.values())

    def shared(self, name: str) -> Any:
        """Return the value that the hosts of the run share, None without one."""
        return next((values.get(name) for values in self.hosts.values()), None)


def pattern_problems(run: RunInput, patterns: Sequence[str] = ()) -> list[str]:
    """Return the problem of the hosts that prevents every other check. patterns: further host patterns of the run."""
    if not run.inventory_size:
        return _no_inventory(run)
    if is_blank(run.pattern):
        return [
            "certflow_hosts is empty. Give a host pattern, or leave the variable out to use the group clusters."
        ]
    ambiguous = [*ambiguity_problems([str(run.pattern), run.limit, *patterns], run.groups)]
    if ambiguous:
        return ambiguous
    if not run.hosts:
        return [no_match(run.pattern, run.limit)]
    if run.chosen and {*run.chosen} != {*run.hosts}:
        return [
            (
                f"the inventory sets certflow_hosts to {run.pattern}, but the hosts of a play are chosen before variables of the"
                " inventory are read. Give certflow_hosts as an extra variable (-e)"
            )
        ]
    return []


def no_match(pattern: Any, limit: str) -> str:
    if limit:
        return f"no host matches certflow_hosts: {pattern} within --limit {limit}"
    remedy = "Set certflow_hosts to a host or a group of the inventory, such as -e certflow_hosts=all"
    return f"no host matches certflow_hosts: {pattern}. {remedy}"


def _no_inventory(run: RunInput) -> list[str]:
    option = " -e @FILE" if run.spec.is_of_role else ""
    words = (
        "the inventory has no host. If it could not be read, a warning above says why. Otherwise write the file clusters.yml with"
        f" these three lines, and run: ansible-playbook -i clusters.yml certflow.kubernetes.{run.playbook}{option}"
    )
    return [words, *INVENTORY_FILE]


def deadline_problems(value: Any) -> Iterator[str]:
    """Yield the problem of a value of certflow_deadline."""
    yield from filter(None, [find_duration_problem("certflow_deadline", value, least=1)])


def variable_problems(run: RunInput, checks: Mapping[str, check_variables.Check]) -> list[str]:
    """Return the problems of names and values, one line each. checks: variable -> its further check."""
    return [
        *{**check_variables.unknown(run.spec, run.names), **_misspelt(run)}.values(),
        *check_variables.find_problems(run.spec, run.hosts, checks, run.names),
        *_unnamed(run),
        *_unnamed_contexts(run),
    ]


def _misspelt(run: RunInput) -> dict[str, str]:
    """Return the problem of each misspelt name, also of the inventory. A name that another host sets is no excuse."""
    problems: dict[str, str] = {}
    # Without what a host sets more names are near, and a fleet has few of them.
    near = check_variables.misspelt(run.spec, {*run.names}.union(*run.inventory_names.values())).keys()
    for host, values in run.hosts.items() if near else ():
        is_set = [name for name, value in values.items() if not is_unset(value)]
        names = near & {*run.names, *run.inventory_names.get(host, ())}
        problems |= check_variables.misspelt(run.spec, names, is_set)
    return problems


def notes(run: RunInput) -> list[str]:
    """Return a line for each unknown name of the inventory, for the summary of the run."""
    names = {name for names in run.inventory_names.values() for name in names} - {*run.names}
    unknown, misspelt = check_variables.unknown(run.spec, names), _misspelt(run)
    return [line for name, line in unknown.items() if name not in misspelt]


def _unnamed_contexts(run: RunInput) -> Iterator[str]:
    """Yield a line for each kubeconfig with several contexts, with the hosts that name none of them."""
    for line in dict.fromkeys(run.unnamed_contexts.values()):
        hosts = [host for host, problem in run.unnamed_contexts.items() if problem == line]
        yield f"{some(hosts)}: {line}"


def _unnamed(run: RunInput) -> Iterator[str]:
    """Yield the problem of hosts that name no cluster, unless the environment may name it.

    It may name the cluster of the only host of an inventory. A slice of an AWX job has a part of the inventory, and does not know it.
    """
    unnamed = [host for host, values in run.hosts.items() if not _names_cluster(run.spec.name, values)]
    if unnamed and (run.inventory_size > 1 or check_variables.AWX in run.names):
        yield (
            f"these hosts do not name their cluster: {some(unnamed)}. Set certflow_context (and certflow_kubeconfig) for each host."
            " Only the single host of an inventory may take its cluster from the environment, but never in a job of AWX."
        )


def _names_cluster(owner: str, values: Mapping[str, Any]) -> bool:
    names = [f"{prefix}_{name}" for prefix in ("certflow", owner) for name in OWN_VARIABLES]
    connection = values.get(f"{owner}_connection")
    server = connection.get("host") if isinstance(connection, Mapping) else None
    return not all(map(is_blank, (*map(values.get, names), server)))


def summary(run: RunInput, lines: Sequence[str]) -> str:
    """Return one line for all problems, "" without a problem. Several problems are listed above it."""
    if not lines or not run.inventory_size:
        return "".join(lines[:1])
    more = [f"The list above has {len(lines) - 1} more."] if len(lines) > 1 else []
    page = (
        [run.spec.page] if run.spec.is_of_role and any(f"{run.spec.name}_" in line for line in lines) else []
    )
    return " ".join([lines[0], *more, *page])
