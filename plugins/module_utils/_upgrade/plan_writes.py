# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""List what the steps of a plan write, for the comparison with an approved plan.

A run that was killed is planned again from another state. So a write is described by what is wanted, and not by the state before it:
each object is a write of its own, and generated names, versions and UIDs are left out. Hops and ids of steps are only in messages.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .._kube.approved_plan import Write, digest
from .._snapshot.actions.action import Step
from .._snapshot.actions.apply_release import ApplyRelease
from .._snapshot.actions.object_actions import WaitAvailable
from .._snapshot.actions.webhook_actions import IssueCertificate
from .._snapshot.kinds import Reference
from .._snapshot.plan.planner import Hop
from . import actions
from .preflight import Preflight
from .steps.apply_manifests import ActionContext


def of_hops(context: ActionContext, hops: Sequence[Hop], preflight: Preflight) -> Iterator[Write]:
    """Yield the writes of the steps that are due, and of those that follow from them.

    A step follows from an earlier one if that one writes the same object, or if it is in a later hop. Its own dry run cannot show
    that it will write. The API servers reconnect while the old pods of a Deployment end that an earlier step writes.
    """
    due = [tried.step for tried in preflight.tried if tried.is_due]
    touched: set[Reference] = set()
    for hop in hops:
        is_later = bool(touched)
        objects: dict[str, set[Reference]] = {}
        for line in hop.lines:
            objects.setdefault(line.step, set()).update(line.objects)
        for step in hop.steps:
            action, written = step.action, objects.get(step.id, set())
            if isinstance(action, WaitAvailable):
                written = {action.deployment}
            elif not action.writes_objects:
                continue
            follows = is_later or (touched and (not written or written & touched))
            if follows or step in due or step.id in preflight.certificates:
                touched |= written
                yield from of_step(context, step, str(hop.release), preflight.signer)


def of_step(context: ActionContext, step: Step, hop: str, signer: str) -> Iterator[Write]:
    """Yield the writes of a step. hop: the release of its hop. signer: of a certificate step."""
    title = f"step {step.id} of the hop to {hop}"
    action, contents = step.action, step.action.writes()
    if isinstance(action, ApplyRelease):
        contents[0].append(digest(actions.rendered(context, action)))
    elif isinstance(action, IssueCertificate):
        contents[0].append(signer)
    yield from (Write(step.id, title, content) for content in contents)
