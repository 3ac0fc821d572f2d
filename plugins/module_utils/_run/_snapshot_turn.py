# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""One upgrade of the snapshot controller at a time: a run of several tasks takes its turn, and gives it back at its end.

The Lease is in namespace kube-system, which every cluster has: there is one snapshot controller in a cluster. Each of the
run's tasks renews it while it works; between two of them a run may wait for a proof, so that it lasts longer than others.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .._kube._lease import GROUP, Lease, Terms, terms

if TYPE_CHECKING:
    from .._kube._client import Client

NAMESPACE, NAME = "kube-system", "certflow-snapshot-controller"
SECONDS = 150
PATH = f"/apis/{GROUP}/v1/namespaces/{NAMESPACE}/leases/{NAME}"


@contextmanager
def kept(client: Client, run_id: str) -> Iterator[Lease | None]:
    """Hold the turn of this run, and leave it to the run's next task. None, and no turn, without a run_id.

    Raises HeldByAnother, KubeError.
    """
    lease = _lease(client, run_id) if run_id else None
    if lease:
        lease.acquire()
    try:
        yield lease
    finally:
        client.before_request = None


def end(client: Client, run_id: str) -> None:
    """Give the turn back, where it is this run's."""
    lease = _lease(client, run_id)
    held = terms(client.find(PATH) or {})
    if held.holder == run_id:
        lease.acquire()
        lease.release()


def other(client: Client, run_id: str) -> Terms | None:
    """Another run that is at work now; None where there is none."""
    held = terms(client.find(PATH) or {})
    return None if held.holder == run_id or held.is_free(client.now()) else held


def _lease(client: Client, run_id: str) -> Lease:
    labels = {"app.kubernetes.io/managed-by": "certflow.kubernetes"}
    return Lease(
        client,
        NAMESPACE,
        NAME,
        purpose="snapshot controller",
        metadata={"labels": labels},
        holder=run_id,
        seconds=SECONDS,
    )
