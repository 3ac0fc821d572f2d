# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rows of the benchmark, as a table. Each starts its own clusters, so a row that fails does not stop the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.rows import audit, certificates, eks, profile, rotation, upgrade
from benchmarks.rows.context import Bench, lab


@dataclass(frozen=True)
class Row:
    """One row: a question, and the function that measures the answer for all peers."""

    name: str
    #: What the page calls it.
    title: str
    #: What the page says about it, with light markup.
    text: str
    measure: Callable[[Bench], None]


def _quick(bench: Bench) -> None:
    """Measure a small part of the rows certificates and cluster-ca."""
    with lab() as made:
        certificates.quick_on(bench, made)
    with lab({"onprem-1": "local-services"}) as made:
        audit.rotation_on(bench, made, QUICK, 20)


#: The row of `make bench-quick`.
QUICK = "quick"
ROWS = {
    row.name: row
    for row in (
        Row(
            "certificates",
            "The certificate of a webhook on many clusters",
            "Each host gets a certificate from its cluster, and its webhook the CA. The second run finds all of it in place.",
            certificates.certificates,
        ),
        Row(
            "forks",
            "Forks",
            "Ansible works on as many hosts at the same time as it has forks.",
            certificates.forks,
        ),
        Row(
            "distance",
            "Distant clusters and a slow signer",
            "A relay in front of each API server delays every packet, so that a round trip takes 50 ms. The signer writes each certificate 300 ms later.",
            certificates.distance,
        ),
        Row(
            "traffic",
            "Requests, bytes, lines and events",
            "The requests are those of the API server's audit log. A relay counts connections and bytes. Events are those that AWX stores for each host.",
            certificates.traffic,
        ),
        Row(
            "memory",
            "Memory",
            "A page of memory that several processes share counts in equal parts for each of them (PSS). The values are peaks.",
            certificates.memory,
        ),
        Row(
            "profile",
            "Where the processor time goes",
            "The milliseconds of processor time for each host, with those of Ansible itself. The control planes are not in them. "
            "A page fault copies a page of memory that a fork shares with Ansible's main process.",
            profile.profile,
        ),
        Row(
            "login",
            "A login program that costs one CPU second",
            "Each host reads one object. The kubeconfig logs in through a program, as those of EKS do.",
            eks.login,
        ),
        Row(
            "cause",
            "A request that is never issued",
            "The cluster keeps the signer `kubernetes.io/kubelet-serving` for its nodes, as EKS does. The time ends when the failure is shown.",
            eks.cause,
        ),
        Row(
            "rotation",
            "A rotation under load",
            "The API server calls a webhook in two pods 20 times a second, until 100 seconds after its certificate was replaced.",
            rotation.rotation,
        ),
        Row(
            "audit",
            "Audit",
            "The hosts are four control planes with ten healthy webhooks each. Bytes are those between the audit and the API servers.",
            audit.audit,
        ),
        Row(
            "cluster-ca",
            "A rotation of the cluster CA",
            "The hosts are four control planes that publish a successor of their CA, with ten webhooks in pods each. No `caBundle` has the "
            "successor. The audit reads each certificate through the API server. The plan of the phase `prepare` audits, and tries each write.",
            audit.rotation,
        ),
        Row(
            "upgrade",
            "Upgrade of the snapshot controller",
            "Each cluster has a node and real pods. Each release on the way is installed and verified.",
            upgrade.upgrade,
        ),
        Row(
            QUICK,
            "Small comparison",
            "`make bench-quick` compares the ratios of this row.",
            _quick,
        ),
    )
}
