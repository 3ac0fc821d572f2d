# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Read from the cluster if kube-controller-manager runs, and with which flags."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from .lease_state import read_lease

if TYPE_CHECKING:
    from .client import Client

LEASE = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/kube-controller-manager"
PODS = "/api/v1/namespaces/kube-system/pods"
# kubeadm and most others run it as a static pod with this label; its mirror can be read (k/k cmd/kubeadm/app/util/staticpod).
SELECTOR = {"labelSelector": "component=kube-controller-manager", "limit": "20"}
# Flags that tell what it signs, and if it holds a Lease. Other flags are not returned.
FLAGS = ("cluster-signing-", "controllers", "leader-elect", "root-ca-file")
# A released Lease has a length of one second (client-go leaderelection release), and a standby takes it within two.
SHORTEST_LEASE = timedelta(seconds=15)
# A larger difference of the clocks is not assumed.
SKEW = timedelta(minutes=5)
LONGEST_PAUSE_SECONDS = 30.0


@dataclass(frozen=True)
class ManagerLease:
    """The Lease of the controller-manager that leads."""

    #: The time of the last renewal, by the clock of the holder.
    renewed: datetime
    length: timedelta
    #: The name of the holder, "" if it has released the Lease.
    holder: str

    @property
    def runs_out(self) -> datetime:
        return self.renewed + max(self.length, SHORTEST_LEASE)


@dataclass(frozen=True)
class Flags:
    """The flags of one controller-manager's pod: those of FLAGS, without the dashes."""

    pod: str
    values: Mapping[str, str]


def find_lease(client: Client, before: ManagerLease | None = None) -> ManagerLease | None:
    """Return the Lease, None if there is none. Without leader election there is no Lease, so that proves nothing.

    A Lease that seems to have run out is read again after a fifth of its length. The holder renews it more often than that
    (every 2 of 15 seconds, on OpenShift every 26 of 137). Clocks differ, and a holder that works must not look dead.

    before: the result of an earlier call.
    Raises ApiError.
    """
    lease = _lease(client.find(LEASE))
    if lease is None or lease == before or not lease.runs_out < client.now() < lease.runs_out + SKEW:
        return lease
    time.sleep(min(lease.length.total_seconds() / 5, LONGEST_PAUSE_SECONDS))
    return _lease(client.find(LEASE))


def read_flags(client: Client) -> tuple[Flags, ...]:
    """Return the flags of each controller-manager with a visible pod. An empty result proves nothing. Raises ApiError."""
    pods = client.get(PODS, SELECTOR).get("items") or ()
    return tuple(Flags(pod["metadata"]["name"], dict(_listed_flags(pod))) for pod in pods)


def _lease(obj: Mapping[str, Any] | None) -> ManagerLease | None:
    state = read_lease(obj or {})
    if state.renewed is None:
        return None
    return ManagerLease(state.renewed, timedelta(seconds=state.seconds), state.holder)


def _listed_flags(pod: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the names and values of flags in the forms --name=value, --name value, and --name (true)."""
    for container in pod["spec"].get("containers") or ():
        words = [*(container.get("command") or ()), *(container.get("args") or ())]
        for word, following in zip(words, [*words[1:], ""]):
            name, equals, value = word.lstrip("-").partition("=")
            if word.startswith("--") and name.startswith(FLAGS):
                alone = "true" if following.startswith("--") or not following else following
                yield name, value if equals else alone
