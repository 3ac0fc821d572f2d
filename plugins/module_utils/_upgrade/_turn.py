# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Allow one upgrade at a time: the first task of a run acquires the Lease, and its last task releases it.

The Lease is in namespace kube-system, which every cluster has: there is one snapshot controller in a cluster. Each of the
run's tasks renews it while it works. Between two of them a run may wait for other clusters for longer than the Lease lasts.
So each task needs the token of the first one. If another run held the Lease in between, the plan is outdated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .._kube._lease import GROUP, Lease, LeaseToken, Terms, terms
from .._snapshot._errors import StepError

if TYPE_CHECKING:
    from .._kube._client import Client

NAMESPACE, NAME = "kube-system", "certflow-snapshot-controller"
SECONDS = 150
PATH = f"/apis/{GROUP}/v1/namespaces/{NAMESPACE}/leases/{NAME}"


def begin(client: Client, run_id: str) -> dict[str, Any]:
    """Wait for the Lease and acquire it. Return its token for ``kept``. Raises HeldByAnother, KubeError."""
    lease = _lease(client, run_id)
    lease.acquire()
    client.before_request = None
    return vars(lease.token) if lease.token else {}


@contextmanager
def kept(client: Client, token: Mapping[str, Any]) -> Iterator[None]:
    """Hold the Lease during the block, and leave it to the run's next task. Do nothing without a token.

    Raises LeaseLostError if another run has held it since the token was made, StepError, KubeError.
    """
    if token:
        client.answered_before()
        known = _token_from(token)
        _lease(client, known.holder).resume(known)
    try:
        yield
    finally:
        client.before_request = None


def end(client: Client, run_id: str) -> None:
    """Release the Lease if this run holds it."""
    lease = _lease(client, run_id)
    held = terms(client.find(PATH) or {})
    if held.holder == run_id:
        lease.acquire()
        lease.release()


def other(client: Client, run_id: str) -> Terms | None:
    """Return the Lease of another run that is at work, None if no other run is at work."""
    held = terms(client.find(PATH) or {})
    return None if held.holder == run_id or held.is_free(client.now(), 0.0, SECONDS) else held


def _token_from(given: Mapping[str, Any]) -> LeaseToken:
    try:
        return LeaseToken(str(given["holder"]), str(given["uid"]), int(given["transitions"]))
    except (KeyError, TypeError, ValueError):
        raise StepError(
            "the option lease does not hold the value that a step of action take_turn returned",
            remedy="Pass the lease of that step's result without a change",
        ) from None


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
        is_optional=False,
    )
