# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Carry out one step of a plan, and record its result."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from .._base.errors import CertflowError, as_error
from .._base.times import format_time
from .._kube.lease import Lease
from .._process.progress_lines import ProgressPrinter
from .._snapshot.actions.action import Action, Step
from .._snapshot.actions.verifications import Verify
from .._snapshot.actions.webhook_actions import IssueCertificate
from . import actions, certificate_step, upgrade_lease, verify_release
from .release_checks import OK
from .steps.apply_manifests import ActionContext, ObjectOutcome
from .upgrade_lease import RunRecord
from .upgrade_request import UpgradeRequest

if TYPE_CHECKING:
    from .._kube.client import Client

DONE, FAILED, INTERRUPTED = "done", "failed", "interrupted"
# The time of an action that is_short, in seconds.
SHORT_SECONDS = 60
# The progress shows steps that took longer. Shorter steps are in the result only.
SHOWN_SECONDS = 1.0
# A step of the undo begins if at least this time is left. Seconds.
LEAST_SECONDS = 10


@dataclass
class StepRecord:
    """The result of a step.

    hop: the release of the hop.
    id: the id of the step.
    title: the title of the step.
    action: the name of its action.
    undoes: True for a step of the undo.
    status: "done", "failed" or "interrupted".
    changed: True if something was written.
    reason: why it was due, or what was seen.
    seconds: how long it took.
    objects: the changed objects, as results carry them.
    """

    hop: str
    id: str
    title: str
    action: str
    undoes: bool
    status: str = DONE
    changed: bool = False
    reason: str = ""
    seconds: int = 0
    objects: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class StepPosition:
    """The position of a step in the run.

    hop: the release of the hop.
    number: its number among the steps of the hop, from 1 on.
    total: the number of steps of the hop.
    undoes: True for a step of the undo.
    """

    hop: str
    number: int
    total: int
    undoes: bool = False


class StepRunner:
    """Carry out steps, and keep the records.

    lease: the held Lease, None for steps that only look.
    end: the time of time.monotonic() at which the task ends.
    reserve: seconds that stay free before the end, for the undo.
    before: results of verifications before the upgrade, by step id.
    """

    def __init__(
        self,
        client: Client,
        request: UpgradeRequest,
        progress: ProgressPrinter,
        *,
        end: float,
        reserve: int,
    ) -> None:
        self.client = client
        self.request = request
        self.progress = progress
        self.end = end
        self.reserve = reserve
        self.lease: Lease | None = None
        self.before: Mapping[str, Mapping[str, Any]] = {}
        self.records: list[StepRecord] = []
        self.outcomes: list[ObjectOutcome] = []
        self.warnings: list[str] = []
        #: What is left, by its object.
        self.left: dict[str, Mapping[str, Any]] = {}
        self.signer = ""

    @property
    def is_changed(self) -> bool:
        return any(record.changed for record in self.records)

    def run(self, step: Step, context: ActionContext, position: StepPosition) -> None:
        """Carry out the step. Raises CertflowError, before it with the code "interrupted" if the time is too short, and RunInterrupted.

        The record also tells of a failure that is a defect of this collection.
        """
        seconds = self._time_limit(step)
        self._check_time(step, min(seconds, LEAST_SECONDS) if position.undoes else seconds)
        self.client.deadline = min(self.end, time.monotonic() + seconds)
        self.progress.set_activity(f"{position.number}/{position.total}  {step.title}")
        self.progress.detail(
            f"{position.number}/{position.total}  {step.id}{' (undo)' if position.undoes else ''}"
        )
        self._write_record(step, position)
        record = StepRecord(
            position.hop, step.id, step.title, step.action.action_name, position.undoes, reason=step.reason
        )
        self.records.append(record)
        written, begun = len(self.client.written), time.monotonic()
        try:
            self._carry_out(step, context, record)
        except Exception as error:
            record.status = FAILED
            record.reason = as_error(error).cause
            raise
        except BaseException:  # RunInterrupted, and what ends the process
            record.status = INTERRUPTED
            raise
        finally:
            record.changed = len(self.client.written) > written
            taken = time.monotonic() - begun
            record.seconds = round(taken)
            if taken >= SHOWN_SECONDS or record.status != DONE:
                ending = "" if record.status == DONE else f", {record.status}"
                self.progress.print_line(
                    f"{position.number}/{position.total}  {step.title}  {taken:.0f} s{ending}"
                )

    def note_left(self, row: Mapping[str, Any]) -> None:
        self.left[str(row["object"])] = row

    def _time_limit(self, step: Step) -> int:
        """Return the longest time that the step may take."""
        own = SHORT_SECONDS if step.action.is_short else self.request.step_timeout
        return min(self.request.step_timeout, step.action.time_limit or own)

    def _check_time(self, step: Step, seconds: int) -> None:
        left = self.end - time.monotonic() - self.reserve
        if left < seconds:
            raise CertflowError(
                f"the step {step.id} needs up to {seconds} s, and {max(0, left):.0f} s of the task's time are left for it",
                code="interrupted",
                remedy="Run the task again to continue, with a longer wait_timeout or a shorter step_timeout",
            )

    def _write_record(self, step: Step, position: StepPosition) -> None:
        if self.lease is None:
            return
        upgrade_lease.write_record(
            self.lease,
            RunRecord(
                version=str(self.request.release),
                step=step.id,
                since=format_time(self.client.now()),
                **asdict(position),
            ),
        )

    def _carry_out(self, step: Step, context: ActionContext, record: StepRecord) -> None:
        if isinstance(step.action, IssueCertificate):
            self._issue_certificate(step.action, record)
        elif isinstance(step.action, Verify):
            self._run_check(step.action, record)
        else:
            self._run_action(step.action, context, record)

    def _issue_certificate(self, action: IssueCertificate, record: StepRecord) -> None:
        result = certificate_step.issue(self.client, self.request, action, self.signer)
        record.reason = str(result.values["reason"])
        self.warnings += result.warnings
        if result.values["left"]["count"]:
            self.note_left(result.values["left"]["first"])

    def _run_check(self, action: Verify, record: StepRecord) -> None:
        result, undeleted = verify_release.run_check(
            self.client, action, namespace=self.request.probe_namespace
        )
        if not verify_release.passes(result):
            raise verify_release.failure(action, result, self.before.get(record.id, {}), undeleted)
        record.reason = result.summary
        self.warnings += undeleted
        row = verify_release.left_unproven(action, result)
        if result.verdict == OK:  # a later step of the run may prove what an earlier one did not
            self.left.pop(str(row["object"]), None)
        else:
            self.note_left(row)
            self.warnings.append(f"{action.subject} is not proven: {result.summary}")

    def _run_action(self, action: Action, context: ActionContext, record: StepRecord) -> None:
        outcomes = actions.carry_out(context, action)
        changed = [outcome for outcome in outcomes if outcome.is_changed]
        self.outcomes += changed
        record.objects = [actions.report(outcome) for outcome in changed]
        self.warnings += [outcome.note for outcome in outcomes if outcome.note and not outcome.is_changed]
        if not changed and action.writes_objects:
            record.reason = "the objects are already in the state of this step"
