# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""One upgrade of the snapshot controller at a time: a run of several tasks takes the Lease first and gives it back last.

The Lease is in namespace kube-system, which every cluster has: there is one snapshot controller in a cluster. Each of the
run's tasks renews it while it works. Between two of them a run may wait for other clusters for longer than the Lease lasts.
So each task goes on only with the token of the first one: if another run held the Lease in between, the plan is outdated.
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
    """Wait for the Lease and take it. Return its token, for `kept`. Raises HeldByAnother, KubeError."""
    lease = _lease(client, run_id)
    lease.acquire()
    client.before_request = None
    return vars(lease.token) if lease.token else {}


@contextmanager
def kept(client: Client, token: Mapping[str, Any]) -> Iterator[None]:
    """Hold the Lease while the block works, and leave it to the run's next task. Does nothing without a token.

    Raises LeaseLostError if another run held it since the token was made, StepError, KubeError.
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
    """Give the Lease back, if it is this run's."""
    lease = _lease(client, run_id)
    held = terms(client.find(PATH) or {})
    if held.holder == run_id:
        lease.acquire()
        lease.release()


def other(client: Client, run_id: str) -> Terms | None:
    """Return another run that is at work now, None if there is none."""
    held = terms(client.find(PATH) or {})
    return None if held.holder == run_id or held.is_free(client.now(), 0.0, SECONDS) else held


def _token_from(given: Mapping[str, Any]) -> LeaseToken:
    try:
        return LeaseToken(str(given["holder"]), str(given["uid"]), int(given["transitions"]))
    except (KeyError, TypeError, ValueError):
        raise StepError(
            "lease is not what a step of action take_turn returned",
            remedy="Give its result's lease as it is",
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
