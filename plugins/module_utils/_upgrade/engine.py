# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The upgrade of a snapshot controller, from the plan to the verification.

A run plans, tries every step by dry runs, and verifies what is installed. Then it acquires the Lease and goes from release to
release. Each of these hops is planned again from the state that the one before it has left. A hop that fails is undone, as long
as the Lease is held. A run that is killed or interrupted is not undone: the next run continues.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from .._base.errors import CertflowError, as_error
from .._base.result import Result, make_left
from .._base.text import shortened, some
from .._kube.approved_plan import PlanGuard
from .._kube.lease import Lease, LeaseLostError
from .._kube.lease_state import LeaseState
from .._process import interrupt
from .._process.progress_lines import ProgressPrinter
from .._snapshot.actions.action import Step
from .._snapshot.actions.object_actions import WaitAvailable
from .._snapshot.actions.verifications import Verify
from .._snapshot.errors import PreflightError, UpgradeError
from .._snapshot.kinds import Reference
from .._snapshot.plan import undo_steps, verify_installed
from .._snapshot.plan.planner import Hop
from .._snapshot.release.release_table import Release, get
from . import actions, backups, plan_writes, planning, preflight, undo, upgrade_lease, verify_release
from .planning import NOTHING_WRITTEN, ClusterPlan
from .preflight import Preflight
from .release_checks import OK, CheckResult
from .step_runner import StepPosition, StepRunner
from .steps.apply_manifests import ActionContext
from .undo import UndoResult
from .upgrade_request import UpgradeRequest

if TYPE_CHECKING:
    from .._kube.client import Client

# A verification of what is installed does not wait for a repair. Seconds.
BEFORE_SECONDS = 30
# The time before the task's end that is kept for the undo. Seconds.
UNDO_SECONDS = 120


class Upgrade:
    """One run on one cluster. ``client.deadline`` is the end of the task."""

    def __init__(
        self, client: Client, request: UpgradeRequest, progress: ProgressPrinter, guard: PlanGuard
    ) -> None:
        self.client = client
        self.request = request
        self.progress = progress
        self._guard = guard
        self._steps = StepRunner(client, request, progress, end=client.deadline, reserve=UNDO_SECONDS)
        self._values: dict[str, Any] = {
            "previous_run": None,
            "backup": "",
            "undone": None,
        }
        self._notes: list[str] = []
        self._waited_for = ""

    def check(self) -> Result:
        """Plan, and try every step by dry runs. Raises PreflightError, CertflowError."""
        current = self._read()
        found = self._preflight(current, current.plan.hops)
        self.progress.print_line(
            f"{len(found.due)} steps would write: {', '.join(found.due) or 'none'}. The dry runs found no problem"
        )
        return self._result(changed=bool(found.due), found=found)

    def verify(self, *, check_mode: bool) -> Result:
        """Verify what is installed. In check mode create no objects. Raises CertflowError."""
        current = planning.read(self.client, self.request.release, self.request.options)
        if current.context.controller is None:
            raise CertflowError(
                "no snapshot controller is installed, so there is nothing to verify",
                code="verification-failed",
                remedy="Install one with state: present",
            )
        verified: list[dict[str, Any]] = []
        self._values = {**current.as_result(), **self._values, "verified": verified}
        seconds = self.request.step_timeout
        for step_id, action, result, undeleted in self._run_checks(current, seconds, check_mode=check_mode):
            verified.append(_report(step_id, action, result))
            self.progress.print_line(f"{result.verdict}: {action.subject}: {result.summary}")
            if not verify_release.passes(result, check_mode=check_mode):
                error = verify_release.failure(action, result, {}, undeleted)
                error.values = {**error.values, **current.as_result(), "verified": verified}
                raise error
            if result.is_answered and result.verdict != OK and not check_mode:
                self._steps.note_left(verify_release.left_unproven(action, result))
        return self._result(changed=False)

    def run(self) -> Result:
        """Bring the snapshot controller to the release.

        Raises:
            PreflightError: a step would fail. Nothing was written.
            UpgradeError: a step failed. The values tell what was changed and what was put back.
            LeaseHeldError, CertflowError: a hazard or another manager is in the way, or another failure before the first write.
        """
        self._check_time()
        current = self._read()
        found = self._preflight(current, current.plan.hops)
        # Another run may be at work, or may have been killed. Its steps are not due any more, but its verifications may be.
        if not found.due and not upgrade_lease.is_held(self.client):
            return self._verify_settled(current, found)
        if found.due:
            self._steps.before = self._check_before(current)
        lease = upgrade_lease.make_lease(self.client, self._report_wait)
        try:
            with interrupt.stop_on_signal(), interrupt.clean_up_with(lease.release):
                return self._run_hops(lease, current, found)
        except interrupt.RunInterrupted as signal:
            if isinstance(signal.__context__, UpgradeError):  # the signal came during the release
                raise signal.__context__ from None
            undone = UndoResult("", False, self._put_back(), undo.LEFT["interrupted"])
            raise self._failure(signal.error(), undone) from None
        except UpgradeError:
            raise
        except Exception as exc:
            if not self._steps.records:
                raise
            # The error is between two hops, so the ones before it are complete.
            last = self._steps.records[-1].hop
            problem = f"Nothing was put back, because the hop to {last} is complete"
            raise self._failure(as_error(exc), UndoResult("", False, problem=problem)) from exc

    @property
    def _lead(self) -> str:
        """Return the beginning of the cause if the plan is refused, or a dry run fails."""
        return "the next hop did not begin" if self._steps.records else NOTHING_WRITTEN

    # Before the first write.

    def _read(self) -> ClusterPlan:
        """Read the cluster and plan. Raises CertflowError if the plan is refused, and KubeError."""
        self._set_deadline(self.request.step_timeout)  # after a hop, the deadline is that of its last step
        current = planning.read(self.client, self.request.release, self.request.options)
        error = current.refusal(self._lead)
        if error:
            raise error
        self._values = {**current.as_result(), **self._values}  # the values of the first plan stay
        return current

    def _preflight(self, current: ClusterPlan, hops: Sequence[Hop]) -> Preflight:
        self._set_deadline(self.request.step_timeout)
        self.progress.set_activity("Try every step by dry runs")
        steps = [step for hop in hops for step in hop.steps]
        found = preflight.try_plan(self.client, self.request, current.context, steps)
        try:
            preflight.refuse(found, self._lead)
        except PreflightError as error:
            error.values = {**self._values, "steps": [], **error.values}
            raise
        self._notes += [note for note in found.notes if note not in self._notes]
        self._steps.signer = found.signer
        self._guard.allow(plan_writes.of_hops(self._action_context(current), hops, found))
        return found

    def _check_before(self, current: ClusterPlan) -> dict[str, dict[str, Any]]:
        """Verify the installed release, to tell later if this run or an earlier change broke it."""
        seconds = min(BEFORE_SECONDS, self.request.step_timeout)
        return {
            step_id: _report(step_id, action, result)
            for step_id, action, result, _undeleted in self._run_checks(current, seconds)
        }

    def _run_checks(
        self, current: ClusterPlan, seconds: int, *, check_mode: bool = False
    ) -> Iterator[tuple[str, Verify, CheckResult, list[str]]]:
        """Verify the installed release.

        Yield the id of each check, its action, its result, and a line for each object that was not deleted.

        seconds: the longest time for one check.
        """
        for step_id, action in verify_installed.plan_checks(current.context).items():
            self._set_deadline(seconds)
            self.progress.set_activity(f"Verify the present state: {action.summary}")
            result, undeleted = verify_release.run_check(
                self.client, action, namespace=self.request.probe_namespace, check_mode=check_mode
            )
            self._steps.warnings += undeleted
            yield step_id, action, result, undeleted

    def _verify_settled(self, current: ClusterPlan, found: Preflight) -> Result:
        """Verify the release if nothing is due."""
        steps = [
            _without_reconnect(step)
            for hop in current.plan.hops[-1:]
            for step in hop.steps
            if not step.action.writes_objects
        ]
        self._steps.reserve = 0
        try:
            self._run_steps(steps, str(self.request.release), self._action_context(current))
        except CertflowError as error:
            raise self._failure(
                error, UndoResult("", False, problem="Nothing was put back, because no step was due")
            ) from error
        return self._result(changed=self._steps.is_changed, found=found)

    # The upgrade.

    def _run_hops(self, lease: Lease, current: ClusterPlan, found: Preflight) -> Result:
        self.client.deadline = self._steps.end
        lease.acquire()
        self._steps.lease = lease
        self._note_previous_run(lease)
        done: list[Release] = []
        tried = found
        while True:
            # Another run may have changed the cluster before this run had the Lease. Each hop changes it, too.
            fresh = self._read()
            hops = fresh.plan.hops
            if not hops:
                break
            if hops[0].release in done:
                raise _reverted(hops[0])
            if done or fresh.context.installed != current.context.installed or self._guard.fixed:
                tried = self._preflight(fresh, hops[:1])
            current = fresh
            self._run_hop(current, hops[0], tried, f"hop {len(done) + 1} of {len(done) + len(hops)}")
            done.append(hops[0].release)
            if len(hops) == 1:
                break
        return self._result(changed=self._steps.is_changed, found=found)

    def _note_previous_run(self, lease: Lease) -> None:
        previous = self._values["previous_run"] = upgrade_lease.describe_previous(lease)
        if previous:
            words = upgrade_lease.previous_words(previous)
            self._notes.append(words)
            self.progress.print_line(words)

    def _run_hop(self, current: ClusterPlan, hop: Hop, found: Preflight, title: str) -> None:
        """Go through one hop, and put the previous release back if it fails. Raises UpgradeError."""
        is_repair = hop.start == str(hop.release)
        way = f"repair {hop.release}" if is_repair else f"{hop.start or 'nothing'} to {hop.release}"
        self.progress.print_line(f"{title}: {way}, {len(hop.steps)} steps")
        touched, planned = found.touched_in(hop), hop.lines
        every = (*touched, *(target for line in planned for target in line.objects))
        originals = backups.read_originals(self.client, every)
        self.client.left = {target.path: obj for target, obj in originals.items()}
        self._back_up([originals[target] for target in touched if target in originals])
        try:
            self._run_steps(hop.steps, str(hop.release), self._action_context(current))
        except Exception as exc:
            error = as_error(exc)
            code = self._code_for_undo(error)
            reason = undo.why_not_undone(hop, self._steps.records, code, is_wanted=self.request.undo)
            if reason:
                undone = UndoResult(hop.start, False, problem=reason)
            else:
                undone = self._undo(current, hop, originals)
            raise self._failure(error, undone) from exc

    def _action_context(self, current: ClusterPlan) -> ActionContext:
        return actions.make_context(self.client, self.request, current.context)

    def _code_for_undo(self, error: CertflowError) -> str:
        """Return the code that decides if the hop is undone.

        Without the Lease of the upgrade, another run may work on the same objects, whatever the API server refused. The Lease of
        the certificate is another one.
        """
        if not isinstance(error, LeaseLostError):
            return error.code
        return LeaseLostError.code if error.path in ("", upgrade_lease.PATH) else ""

    def _run_steps(
        self, steps: Sequence[Step], hop: str, context: ActionContext, *, undoes: bool = False
    ) -> None:
        for number, step in enumerate(steps, 1):
            self._steps.run(step, context, StepPosition(hop, number, len(steps), undoes))

    def _back_up(self, originals: Sequence[dict[str, Any]]) -> None:
        """Keep the objects of a hop as they are before it in a file, if the options say so."""
        if self.request.backup_directory and originals:
            now = self.client.now()
            path = backups.write_file(self.request.backup_directory, self.client.host, now, originals)
            self._values["backup"] = str(path)
            self.progress.print_line(f"backup: {path}")

    def _undo(
        self, current: ClusterPlan, hop: Hop, originals: Mapping[Reference, Mapping[str, Any]]
    ) -> UndoResult:
        """Put back the objects before the hop. A failure becomes the problem of the returned result."""
        self.progress.print_line(f"the hop to {hop.release} failed: {hop.start} is put back")
        self._steps.reserve = 0
        options = undo.options_before(current.context, self.request.options, originals, self.client.left)
        try:
            self._set_deadline(self.request.step_timeout)
            earlier = planning.read(self.client, get(hop.start), options)
            if refused := earlier.plan.refused:
                problem = f"{hop.start} was not put back, because its plan is refused: {refused[0].reason}"
                return UndoResult(hop.start, False, problem=problem)
            context = replace(self._action_context(earlier), originals=originals)
            steps = undo_steps.adapt(earlier.context, earlier.plan.hops[-1].steps)
            self._run_steps(steps, str(hop.release), context, undoes=True)
        except Exception as exc:
            problem = f"Putting {hop.start} back failed too: {shortened(as_error(exc).cause)}"
            return UndoResult(
                hop.start, False, self._put_back(), f"{problem.rstrip('.')}{self._missing(originals)}"
            )
        return UndoResult(hop.start, True, self._put_back())

    def _missing(self, originals: Iterable[Reference]) -> str:
        """Return a sentence about the objects that another client has deleted during the hop, which an undo leaves. "" without them."""
        self._set_deadline(BEFORE_SECONDS)
        gone: list[str] = []
        for target in originals:
            with suppress(CertflowError):  # the first failure says more
                if self.client.left[target.path] is not None and not self.client.find(target.path):
                    gone.append(str(target))
        return f". Another client deleted {some(gone)}" if gone else ""

    def _put_back(self) -> tuple[str, ...]:
        """Return the titles of the steps of the undo that changed something."""
        return tuple(record.title for record in self._steps.records if record.undoes and record.changed)

    # The end.

    def _failure(self, error: CertflowError, undone: UndoResult) -> UpgradeError:
        """Return the error with what was changed, and what was put back."""
        records = self._steps.records
        last = next(
            (record for record in reversed(records) if record.status != "done" and not record.undoes), None
        )
        changed = [record.id for record in records if record.changed and not record.undoes]
        where = f"step {last.id} of the hop to {last.hop}: " if last else ""
        # The role cuts a long message at its end, so it has no titles.
        before = f"Steps with changes before the failure: {', '.join(changed) or 'none'}"
        cause = f"{where}{shortened(error.cause).rstrip('.')}. {undone.words().rstrip('.')}. {before}"
        failed = UpgradeError(
            cause,
            code=error.code,
            evidence=error.evidence,
            remedy=error.remedy or "Run the task again. It continues from the current state",
        )
        failed.values = {
            **error.values,
            **self._values,
            "step": last.id if last else error.values.get("step", ""),
            "hop": last.hop if last else "",
            "steps": [asdict(record) for record in records],
            "undone": undone.as_result(),
            "notes": [*self._notes, *error.values.get("notes", ())],
            "changed": self._steps.is_changed,
        }
        return failed

    def _result(self, *, changed: bool, found: Preflight | None = None) -> Result:
        values = {
            **(found.as_result() if found else {"due": [], "foreseen": [], "problems": []}),
            **self._values,
            "notes": self._notes,
            "steps": [asdict(record) for record in self._steps.records],
            "left": make_left(len(self._steps.left), next(iter(self._steps.left.values()), {})),
            **self._guard.as_result(),
        }
        outcomes = (
            self._steps.outcomes
            if self._steps.records or not found  # else nothing was carried out
            else [outcome for tried in found.tried for outcome in tried.outcomes]
        )
        return Result(
            changed,
            values,
            diff=actions.diff(outcomes) if changed else None,
            warnings=tuple(dict.fromkeys(self._steps.warnings)),
        )

    def _report_wait(self, other: LeaseState) -> None:
        """Tell the user about the other run that holds the Lease: at once, and then with the progress."""
        text = f"Wait for another run: {upgrade_lease.holder_words(other)}"
        if text != self._waited_for:
            self._waited_for = text
            self.progress.print_line(text)
        self.progress.set_activity(text)

    def _set_deadline(self, seconds: int) -> None:
        self.client.deadline = min(self._steps.end, time.monotonic() + seconds)

    def _check_time(self) -> None:
        """Raise CertflowError if the time of the task does not suffice for one step and the undo."""
        left = self._steps.end - time.monotonic()
        needed = self.request.step_timeout + UNDO_SECONDS
        if left + 1 < needed:
            raise CertflowError(
                f"the time of the task, {left:.0f} s, is shorter than step_timeout and {UNDO_SECONDS} s for the undo",
                remedy=f"Set wait_timeout, and the timeout of the task, to at least {needed} s, or a shorter step_timeout",
            )


def _without_reconnect(step: Step) -> Step:
    """Return the step without its write while old pods end. Nothing is due, so the run does not hold the Lease."""
    return (
        replace(step, action=replace(step.action, reconnect=()))
        if isinstance(step.action, WaitAvailable)
        else step
    )


def _reverted(hop: Hop) -> CertflowError:
    """Return the error of a hop that is due again after it was complete."""
    return CertflowError(
        f"the hop to {hop.release} was complete, and then another program put {hop.start or 'something else'} back",
        code="upgrade-reverted",
        remedy="Find out what applies the older objects again, such as a GitOps tool, and run the task again",
    )


def _report(step_id: str, action: Verify, result: CheckResult) -> dict[str, Any]:
    return {
        "id": step_id,
        "subject": action.subject,
        "verdict": result.verdict,
        "summary": result.summary,
        "evidence": list(result.evidence),
        "remedy": result.remedy,
    }
