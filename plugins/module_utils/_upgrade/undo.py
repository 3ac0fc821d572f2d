# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Decide if a hop that failed is undone, and plan the undo. Pure.

The undo is a plan as well, from the state that the failed hop has left. The objects come back as the run read them before the
hop, so no manifest of the older release is needed (see undo_steps). Newer CRDs stay, because older controllers work with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from .._snapshot.context.hop_context import Undo, UpgradeOptions
from .._snapshot.context.upgrade_context import UpgradeContext
from .._snapshot.kinds import CONVERSION, VALIDATION, Reference
from .._snapshot.plan.planner import Hop
from .step_runner import StepRecord

# Failures after which nothing is put back, with the reason.
LEFT: dict[str, str] = {
    "interrupted": "The run was interrupted, so the previous release was not put back",
    "lease-lost": "Nothing was put back, because another run may have changed the same objects",
}


@dataclass(frozen=True)
class UndoResult:
    """The result of the undo.

    release: the release before the hop, "" if there was none.
    is_back: True if that release runs again.
    steps: the titles of the steps of the undo that changed something.
    problem: why nothing was put back, or why that failed.
    """

    release: str
    is_back: bool
    steps: tuple[str, ...] = ()
    problem: str = ""

    def as_result(self) -> dict[str, Any]:
        return {**asdict(self), "steps": list(self.steps)}

    def words(self) -> str:
        """Return a sentence for the message of the failure."""
        if not self.is_back:
            done = f". Steps that put something back before that: {len(self.steps)}" if self.steps else ""
            return f"{self.problem.rstrip('.')}{done}"
        return f"{self.release} runs again. Newer CRDs are kept, because {self.release} works with them"


def why_not_undone(hop: Hop, records: Iterable[StepRecord], code: str, *, is_wanted: bool) -> str:
    """Return the reason to put nothing back, "" if the previous release is put back."""
    if code in LEFT:
        return LEFT[code]
    if not any(record.changed for record in records if record.hop == str(hop.release) and not record.undoes):
        return "The hop had changed nothing"
    if not hop.start:
        return "No release was installed before, so nothing was put back"
    if hop.start == str(hop.release):
        return "The release was the same before, so nothing was put back"
    if hop.context.installed.orphan_sets:
        return "An earlier run was interrupted between two generations of pods, so nothing was put back"
    return "" if is_wanted else "Nothing was put back, because undo is false"


def options_before(
    before: UpgradeContext,
    options: UpgradeOptions,
    originals: Mapping[Reference, Any],
    left: Mapping[str, Any],
) -> UpgradeOptions:
    """Return the options of the plan that leads back to the state before the hop.

    Args:
        originals: the objects before the hop.
        left: each object by its path as the hop left it, None if the hop deleted it.
    """
    installed = before.installed
    webhooks = [*installed.all_of(VALIDATION), *installed.all_of(CONVERSION)]
    programs = [webhook.program for webhook in webhooks]
    changed = frozenset(target for target, obj in originals.items() if left[target.path] is not obj)
    deleted = frozenset(target for target in changed if left[target.path] is None)
    return replace(
        options,
        namespace=before.namespace,
        webhook_namespace=webhooks[0].namespace if webhooks else "",
        group_snapshots=before.groups.is_on,
        controller_arguments=(),
        webhook_arguments=(),
        webhook_port=webhooks[0].port if webhooks else options.webhook_port,
        validation_webhook=VALIDATION in programs,
        conversion_webhook=CONVERSION in programs,
        failure_policy="",
        failure_policies={
            configuration.name: configuration.hooks[0].failure_policy
            for configuration in installed.configurations
            if configuration.hooks
        },
        remove_controllers=(),
        undo=Undo(installed, frozenset(originals), changed, deleted),
    )
