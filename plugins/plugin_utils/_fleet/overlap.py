# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Find hosts of a fleet run that mean the same cluster. Pure.

A UID is what a cluster says about itself. A cluster that repeats the UID of another one must not keep that one from being worked on.
The address and the CA are from the inventory, and TLS proves them. So only equal UIDs, addresses and CAs together are a proof.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from ...module_utils._base.text import visible

REMEDY = "Remove all but one of them from the run, or set certflow_allow_shared_cluster if the clusters are restored from one backup"


class Claim(NamedTuple):
    """The facts about the cluster of a host when the host starts."""

    #: The UID of the namespace kube-system, "" if it is not known.
    uid: str
    #: The address and TLS name of the API server, or a sum of them.
    address: str = ""
    #: The CA that verified the API server, or a sum of it. "" if the server was not verified, or if that is not known.
    ca: str = ""
    #: The object that the run writes, such as the Secret's namespace and name. Empty for the whole cluster.
    work: str = ""


class Owner(NamedTuple):
    """An earlier host of the run that claimed the cluster."""

    host: str
    #: False if both may mean different clusters.
    is_proven: bool


def find_owner(claims: Mapping[Claim, str], claim: Claim, host: str) -> Owner | None:
    """Return the other host that means the same cluster and writes the same object, a proven one first. None without one.

    claims: claim -> host.
    """
    possible = ""
    for other, name in claims.items():
        if other.work != claim.work or name == host:
            continue
        has_uid = claim.uid != "" and claim.uid == other.uid
        has_address = claim.address != "" and claim.address == other.address
        if has_uid and has_address and claim.ca != "" and claim.ca == other.ca:
            return Owner(name, is_proven=True)
        if has_uid or (has_address and not (claim.uid and other.uid)):
            possible = possible or name
    return Owner(possible, is_proven=False) if possible else None


def find_overlap(clusters: Mapping[str, tuple[str, str]]) -> Iterator[str]:
    """Yield a line for each group of hosts that have the same UID in the inventory, and write the same object.

    clusters: host -> the UID of its cluster, "" if it is not known, and its work, as that of a claim.
    """
    for uid, work in dict.fromkeys(clusters.values()):
        hosts = [visible(host) for host, cluster in clusters.items() if cluster == (uid, work)]
        if uid and len(hosts) > 1:
            secret = f" and write the same Secret {visible(work)}" if work else ""
            yield f"the hosts {', '.join(hosts)} mean the same cluster (UID {visible(uid)}){secret}. {REMEDY}."
