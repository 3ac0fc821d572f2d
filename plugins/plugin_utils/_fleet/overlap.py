# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Hosts of a fleet run that mean the same cluster. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.certflow.kubernetes.plugins.module_utils._text import visible


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


def find_overlap(members: Sequence[Member]) -> Overlap:
    """Return the hosts that mean the same cluster and would write the same object."""
    refused: dict[str, str] = {}
    for group in _groups(members, _identity):
        first = group[0]
        secret = f" and write the same Secret {visible(first.work)}" if first.work else ""
        for member in group:
            refused[member.host] = (
                f"the hosts {_names(group)} mean the same cluster (UID {visible(first.uid)}){secret}. Remove all but one of them from"
                " the run, or set certflow_allow_shared_cluster if the clusters are restored from one backup"
            )
    warnings = [
        f"the hosts {_names(group)} have the same address ({visible(group[0].server)}) and context, and the UID of their cluster is not"
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
    return ", ".join(visible(member.host) for member in group)
