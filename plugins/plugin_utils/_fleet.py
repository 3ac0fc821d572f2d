# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The rules of a fleet run, over plain data: required variables, and hosts that mean the same cluster.

The playbooks certificates and upgrade use them through the lookup plugin fleet. This file contacts no cluster.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.certflow.kubernetes.plugins.module_utils._text import visible

DEFAULT_SERIAL = "1, 10"
# The value of a variable that refers to a variable that is not defined. The filter default treats it as absent.
UNDEFINED = object()
BATCH = re.compile(r"[1-9][0-9]*|[1-9][0-9]?%|100%")


@dataclass(frozen=True)
class Settings:
    """The settings of a run as the user gave them.

    pattern: the value of certflow_hosts on a host of the run.
    chosen: names of the hosts that Ansible chose for the play.
    limit: the value of --limit, or "".
    serial: certflow_serial, a text or a list.
    max_failures: certflow_max_failures.
    """

    pattern: Any
    chosen: Sequence[str] = ()
    limit: str = ""
    serial: Any = ""
    max_failures: Any = ""


@dataclass(frozen=True)
class Host:
    """A host of the run, with its variables from the inventory and the play. A value may be UNDEFINED."""

    name: str
    variables: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Member:
    """The known facts about the cluster of a host.

    uid: the UID of namespace kube-system, or "" if it is not known.
    server: the address of the API server, or "".
    context: the kubeconfig context, or "".
    work: the object that the run writes, such as the Secret's namespace and name. Empty for the whole cluster.
    """

    host: str
    uid: str = ""
    server: str = ""
    context: str = ""
    work: str = ""


@dataclass(frozen=True)
class Overlap:
    """Hosts that mean one cluster.

    refused: the reason for each host that must not be started.
    warnings: a line for each group of hosts that may mean one cluster.
    """

    refused: Mapping[str, str]
    warnings: Sequence[str]


def is_blank(value: Any) -> bool:
    """Return True for an empty value. A dictionary with an empty name is empty."""
    if isinstance(value, str):
        return not value.strip()
    if isinstance(value, Mapping) and "name" in value:
        return is_blank(value["name"])
    return value is None or value is UNDEFINED or value in ({}, [])


def batches(serial: Any) -> list[str]:
    """Return the sizes of the batches: numbers and percentages, from a text with commas or a list."""
    given = DEFAULT_SERIAL if is_blank(serial) else serial
    entries = given if isinstance(given, (list, tuple)) else [given]
    return [part.strip() for entry in entries for part in str(entry).split(",")]


def budget(max_failures: Any) -> str:
    """Return the number of clusters that may fail, as unchecked text."""
    return "0" if is_blank(max_failures) else str(max_failures).strip()


def problems(
    settings: Settings,
    hosts: Sequence[Host],
    required: Iterable[str],
    naming: Iterable[str],
    inventory_size: int,
    *,
    checked: Iterable[str] = (),
) -> list[str]:
    """Return the problems that prevent the run, one line each, the most basic one first.

    required: names of the variables that each host needs.
    naming: names of the variables by which a host names its cluster.
    inventory_size: number of hosts in the inventory.
    checked: names of further variables that tell which cluster is meant.
    """
    naming = tuple(naming)
    return [
        *_pattern_problems(settings, hosts, inventory_size),
        *_number_problems(settings),
        *_missing(hosts, required),
        *_undefined(hosts, (*naming, *checked)),
        *_unnamed(hosts, naming),
    ]


def _pattern_problems(settings: Settings, hosts: Sequence[Host], inventory_size: int) -> list[str]:
    if not inventory_size:
        return ["the inventory has no host. If it could not be read, a warning above says why"]
    if is_blank(settings.pattern):
        return [
            "certflow_hosts is empty. Give a host pattern, or leave the variable out to use the group clusters"
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
        yield f"certflow_serial has sizes that are not numbers or percentages of clusters: {', '.join(wrong)}"
    if not re.fullmatch("[0-9]+", budget(settings.max_failures)):
        yield f"certflow_max_failures is not a number of clusters: {budget(settings.max_failures)}"


def _missing(hosts: Sequence[Host], required: Iterable[str]) -> Iterable[str]:
    for name in required:
        without = [host.name for host in hosts if is_blank(host.variables.get(name))]
        if without:
            yield f"{name} is not set or empty for {', '.join(without)}"


def _undefined(hosts: Sequence[Host], names: Iterable[str]) -> Iterable[str]:
    """Yield an error for each variable that names a cluster and refers to a variable that is not defined."""
    for name in names:
        without = [host.name for host in hosts if host.variables.get(name) is UNDEFINED]
        if without:
            yield f"{name} refers to a variable that is not defined for {', '.join(without)}"


def _unnamed(hosts: Sequence[Host], naming: Sequence[str]) -> Iterable[str]:
    """Yield an error for hosts that name no cluster. A single host may take its cluster from the environment."""
    without = [host.name for host in hosts if all(is_blank(host.variables.get(name)) for name in naming)]
    if without and len(hosts) > 1:
        yield (
            f"these hosts do not name their cluster: {', '.join(without)}. Set certflow_context (and"
            " certflow_kubeconfig) for each host. Only a run with one host takes its cluster from the environment"
        )


def overlap(members: Sequence[Member]) -> Overlap:
    """Return the hosts that mean the same cluster and would write the same object."""
    refused: dict[str, str] = {}
    for group in _groups(members, _identity):
        first = group[0]
        secret = f" and write the same Secret {first.work}" if first.work else ""
        for member in group:
            refused[member.host] = (
                f"hosts {_names(group)} mean the same cluster (UID {first.uid}){secret}. Remove all but one of them from"
                " the run, or set certflow_allow_shared_cluster if the clusters are restored from one backup"
            )
    warnings = [
        f"hosts {_names(group)} have the same address ({visible(group[0].server)}) and context, and the UID of their cluster is not"
        " known: they may mean the same cluster"
        for group in _groups(members, _address)
        if any(not member.uid for member in group)
    ]
    return Overlap(refused, warnings)


def _identity(member: Member) -> Hashable:
    return (member.uid, member.work) if member.uid else None


def _address(member: Member) -> Hashable:
    server = member.server.strip().rstrip("/").lower()
    return (server, member.context, member.work) if server else None


def _groups(members: Sequence[Member], key: Callable[[Member], Hashable]) -> list[list[Member]]:
    """Return the groups of two or more members with one key. A member without a key is in no group."""
    found: defaultdict[Hashable, list[Member]] = defaultdict(list)
    for member in members:
        if key(member) is not None:
            found[key(member)].append(member)
    return [group for group in found.values() if len(group) > 1]


def _names(group: Sequence[Member]) -> str:
    return ", ".join(member.host for member in group)
