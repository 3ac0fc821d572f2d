# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""What a cluster shows of its kube-controller-manager: whether it runs, and with which flags."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .client import Client

LEASE = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/kube-controller-manager"
PODS = "/api/v1/namespaces/kube-system/pods"
# kubeadm and most others run it as a static pod with this label; its mirror can be read (k/k cmd/kubeadm/app/util/staticpod).
SELECTOR = {"labelSelector": "component=kube-controller-manager", "limit": "20"}
# Flags that tell what it signs and whether its Lease means anything. No other leaves this file.
FLAGS = ("cluster-signing-", "controllers", "leader-elect", "root-ca-file")
# A Lease that was given back says one second (client-go leaderelection release): a standby takes it within two.
SHORTEST_LEASE = timedelta(seconds=15)
# Beyond this our clock, or the API server's, cannot be what makes a Lease look old.
SKEW = timedelta(minutes=5)
LONGEST_PAUSE_SECONDS = 30.0  # whatever a Lease says


@dataclass(frozen=True)
class Lease:
    """The Lease of the controller-manager that leads. renewed: by its own clock. holder: "" where it was given back."""

    renewed: datetime
    length: timedelta
    holder: str

    @property
    def runs_out(self) -> datetime:
        return self.renewed + max(self.length, SHORTEST_LEASE)


@dataclass(frozen=True)
class Flags:
    """The flags of one controller-manager's pod, those of FLAGS alone, without the dashes."""

    pod: str
    values: Mapping[str, str]


def read_lease(client: Client, before: Lease | None = None) -> Lease | None:
    """The Lease, None where there is none, which proves nothing: without leader election there never is.

    before: what an earlier look found. One that seems to have run out is looked at again after a fifth of its length,
    more than the holder lets pass between renewals (2 of 15 seconds, on OpenShift 26 of 137): clocks differ, and a
    living one must not look dead. Raises ApiError.
    """
    lease = _lease(client.find(LEASE))
    if lease is None or lease == before or not lease.runs_out < client.now() < lease.runs_out + SKEW:
        return lease
    time.sleep(min(lease.length.total_seconds() / 5, LONGEST_PAUSE_SECONDS))
    return _lease(client.find(LEASE))


def read_flags(client: Client) -> tuple[Flags, ...]:
    """Of each controller-manager whose pod is visible; none is evidence of nothing. Raises ApiError."""
    pods = client.get(PODS, SELECTOR).get("items") or ()
    return tuple(Flags(pod["metadata"]["name"], dict(_wanted(pod))) for pod in pods)


def _lease(obj: Mapping[str, Any] | None) -> Lease | None:
    spec = (obj or {}).get("spec") or {}
    if not spec.get("renewTime"):
        return None
    length = timedelta(seconds=spec.get("leaseDurationSeconds") or 0)
    return Lease(_micro_time(spec["renewTime"]), length, spec.get("holderIdentity") or "")


def _micro_time(text: str) -> datetime:
    """metav1.MicroTime: UTC, always six digits of a second."""
    # Not strptime: it imports a module at its first use, in each fork anew. And Python 3.9 knows no Z here.
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def _wanted(pod: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Flags as --name=value, --name value, and --name alone."""
    for container in pod["spec"].get("containers") or ():
        words = [*(container.get("command") or ()), *(container.get("args") or ())]
        for word, following in zip(words, [*words[1:], ""]):
            name, equals, value = word.lstrip("-").partition("=")
            if word.startswith("--") and name.startswith(FLAGS):
                alone = "true" if following.startswith("--") or not following else following
                yield name, value if equals else alone
