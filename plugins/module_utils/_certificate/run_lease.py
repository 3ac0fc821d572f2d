# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""One run at a time for a Service: a run takes its turn before its first write, and holds it until it ends.

What it decided on was read before that, and is read again then: a run that had to wait finds most of its work done.
Runs that write nothing ask for no turn, and so do those of webhook_cabundle: each of its objects is one JSON patch on
the version that was read, decided again where somebody was faster, and that is all there is to it - while a
certificate's key, request, anchors and Secret are several objects that belong together.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Callable

from .._csr import markers
from .._csr.intent import Intent
from .._kube.client import Client
from .._kube.lease import Lease
from .._process.interrupt import put_away_by
from .._result import Result


class Moved(Exception):
    """What a run had decided on has changed before it was its turn: read and decide again. Never leaves this room."""


def alone(client: Client, intent: Intent, act: Callable[[Lease], Result]) -> Result:
    """Run ``act``, which calls ``take`` before its first write. Run it once more if it raises Moved.

    Release the Lease whatever ends the run, a signal included: the next run would wait for it otherwise.
    Raises what ``act`` raises, HeldByAnother, LeaseLostError.
    """
    lease = _lease(client, intent)
    with put_away_by(lease.release):
        try:
            result = act(lease)
        except Moved:
            result = act(lease)  # no other run writes, because this one holds the Lease now
    return replace(result, warnings=(*result.warnings, lease.problem)) if lease.problem else result


def take(lease: Lease | None, is_unchanged: Callable[[], bool]) -> None:
    """Wait for this run's turn, if it is not its turn yet. Raises Moved, HeldByAnother, KubeError."""
    if lease is None or lease.is_tried:
        return
    lease.acquire()
    if not lease.problem and not is_unchanged():
        raise Moved


def _lease(client: Client, intent: Intent) -> Lease:
    labels = markers.labels_for(intent.secret)
    return Lease(
        client,
        intent.namespace,
        f"certflow-{intent.service or labels[markers.SECRET_LABEL]}",
        purpose=str(intent),
        metadata={"labels": labels},
    )
