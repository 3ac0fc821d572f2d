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
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .._errors import CertflowError, as_error
from .._kube.lease import Lease, LeaseLostError, Terms
from .._process import interrupt
from .._process.progress_lines import Progress
from .._result import Result
from .._snapshot.errors import PreflightError, UnprovenError, UpgradeError
from .._snapshot.plan import checks_before
from .._snapshot.plan.planner import Hop
from .._snapshot.plan.step_types import Step
from .._snapshot.release.release_table import Release, get
from . import actions, backups, planning, preflight_checks, undo, upgrade_lease, verification
from .actions import VERIFY, WAITS
from .checks import Verdict
from .options import Request
from .planning import NOTHING_WRITTEN, Reading
from .preflight_checks import Preflight
from .step_runner import Place, StepRunner
from .steps.act import Context
from .undo import Undone

if TYPE_CHECKING:
    from .._kube.client import Client

# A verification of what is installed does not wait for a repair. Seconds.
BEFORE_SECONDS = 30
# The time before the task's end that is kept for the way back. Seconds.
UNDO_SECONDS = 120
# The beginning of the names of backups in the cluster.
BACKUP = "certflow-snapshot-controller-backup"


class Upgrade:
    """One run on one cluster. ``client.deadline`` is the end of the task."""

    def __init__(self, client: Client, request: Request, progress: Progress) -> None:
        self.client, self.request, self.progress = client, request, progress
        self._steps = StepRunner(client, request, progress, end=client.deadline, reserve=UNDO_SECONDS)
        self._values: dict[str, Any] = {
            "previous_run": None,
            "backup": "",
            "backup_object": "",
            "undone": None,
        }
        self._notes: list[str] = []
        self._waited_for = ""

    def check(self) -> Result:
        """Plan, and try every step by dry runs. Raises UpgradeRefused, PreflightError, CertflowError."""
        reading = self._read()
        found = self._try(reading, self._steps_of(reading))
        due = ", ".join(found.due) or "none"
        self.progress.say(f"{len(found.due)} steps would write: {due}. The dry runs found no problem")
        return self._result(changed=bool(found.due), preflight=found)

    def verify(self, *, check_mode: bool) -> Result:
        """Verify what is installed. In check mode create no objects. Raises UnprovenError, CertflowError."""
        reading = planning.read(self.client, self.request.release, self.request.options)
        if reading.context.controller is None:
            raise UnprovenError(
                "no snapshot controller is installed, so there is nothing to verify",
                remedy="Install one with state: present",
            )
        verified: list[dict[str, Any]] = []
        self._values = {**reading.values(), **self._values, "verified": verified}
        seconds = self.request.step_timeout
        for step, verdict, left in self._checked(reading, seconds, check_mode=check_mode):
            verified.append(_verified(step, verdict))
            self.progress.say(f"{verdict.verdict}: {step.parameters['subject']}: {verdict.summary}")
            if not verification.passes(verdict, check_mode=check_mode):
                error = verification.failure(step, verdict, {}, left)
                error.values = {**error.values, **reading.values(), "verified": verified}
                raise error
        return self._result(changed=False)

    def run(self) -> Result:
        """Bring the snapshot controller to the release.

        Raises:
            UpgradeRefused: a hazard or another manager is in the way. Nothing was written.
            PreflightError: a step would fail. Nothing was written.
            UpgradeError: a step failed. The values tell what was changed and what was put back.
            HeldByAnother, CertflowError: other failures before the first write.
        """
        self._check_time()
        reading = self._read()
        found = self._try(reading, self._steps_of(reading))
        # Another run may be at work, or may have been killed. Its steps are not due any more, but its verifications may be.
        if not found.due and not upgrade_lease.is_held(self.client):
            return self._looked(reading, found)
        if found.due:
            self._steps.before = self._verified_before(reading)
        lease = upgrade_lease.lease_for(self.client, self._waiting)
        try:
            with interrupt.stoppable(), interrupt.put_away_by(lease.release):
                return self._upgrade(lease, reading, found)
        except interrupt.Interrupted as signal:
            if isinstance(signal.__context__, UpgradeError):  # the signal came during the release
                raise signal.__context__ from None
            raise self._failed(signal.error(), self._undone_by_signal()) from None
        except UpgradeError:
            raise
        except Exception as exc:
            if not self._steps.records:
                raise
            # The error is between two hops, so the ones before it are complete.
            last = self._steps.records[-1].hop
            problem = f"Nothing was put back, because the hop to {last} is complete"
            raise self._failed(as_error(exc), Undone("", False, problem=problem)) from exc

    @property
    def _lead(self) -> str:
        """Return the beginning of the cause if the plan is refused, or a dry run fails."""
        return "the next hop did not begin" if self._steps.records else NOTHING_WRITTEN

    # Before the first write.

    def _read(self) -> Reading:
        """Read the cluster and plan. Raises UpgradeRefused, ReleaseError, KubeError."""
        self._bound(self.request.step_timeout)  # after a hop, the deadline is that of its last step
        reading = planning.read(self.client, self.request.release, self.request.options)
        error = reading.refusal(self._lead)
        if error:
            raise error
        self._values = {**reading.values(), **self._values}  # those of the first reading stay
        return reading

    def _steps_of(self, reading: Reading) -> list[Step]:
        """Return the steps up to the hop that the run stops after. Raises ReleaseError."""
        return [step for hop in self._hops(reading.plan.hops) for step in hop.steps]

    def _hops(self, hops: Sequence[Hop]) -> list[Hop]:
        return planning.hops_until(hops, self.request.until)

    def _try(self, reading: Reading, steps: Sequence[Step]) -> Preflight:
        self._bound(self.request.step_timeout)
        self.progress.now("Try every step by dry runs")
        found = preflight_checks.run(self.client, self.request, reading.context, steps)
        try:
            preflight_checks.refuse(found, self._lead)
        except PreflightError as error:
            error.values = {**self._values, "steps": [], **error.values}
            raise
        self._notes += [note for note in found.notes if note not in self._notes]
        self._steps.signer = found.signer
        return found

    def _verified_before(self, reading: Reading) -> dict[str, dict[str, Any]]:
        """Verify what is installed, to tell what was broken before from what this run breaks."""
        seconds = min(BEFORE_SECONDS, self.request.step_timeout)
        return {step.id: _verified(step, verdict) for step, verdict, _left in self._checked(reading, seconds)}

    def _checked(
        self, reading: Reading, seconds: int, *, check_mode: bool = False
    ) -> Iterator[tuple[Step, Verdict, list[str]]]:
        """Verify what is installed. Yield each check with its verdict, and a line for each object that could not be removed.

        seconds: the longest time for one check.
        """
        for step in checks_before.plan_checks(reading.context):
            self._bound(seconds)
            self.progress.now(step.title)
            verdict, left = verification.verify(
                self.client, step, namespace=self.request.probe_namespace, check_mode=check_mode
            )
            self._steps.warnings += left
            yield step, verdict, left

    def _looked(self, reading: Reading, found: Preflight) -> Result:
        """Verify the release if nothing is due."""
        hops = self._hops(reading.plan.hops)
        steps = [
            _only_looking(step)
            for step in (hops[-1].steps if hops else ())
            if step.action in (VERIFY, *WAITS)
        ]
        self._steps.reserve = 0
        context = actions.context_from(self.client, self.request, reading.context.namespace)
        try:
            self._go(steps, str(self.request.release), context)
        except CertflowError as error:
            raise self._failed(
                error, Undone("", False, problem="Nothing was put back, because no step was due")
            ) from error
        return self._result(changed=self._steps.is_changed, preflight=found)

    # The upgrade.

    def _upgrade(self, lease: Lease, reading: Reading, found: Preflight) -> Result:
        self.client.deadline = self._steps.end
        lease.acquire()
        self._steps.lease = lease
        self._values["previous_run"] = upgrade_lease.previous(lease)
        if self._values["previous_run"]:
            words = upgrade_lease.previous_words(self._values["previous_run"])
            self._notes.append(words)
            self.progress.say(words)
        done: list[Release] = []
        now, tried = reading, found
        while True:
            # Another run may have changed the cluster before this one had the Lease, and a hop changes it.
            again = self._read()
            hops = self._hops(again.plan.hops)
            if not hops:
                break
            if hops[0].release in done:
                raise _reverted(hops[0])
            if done or again.installed != now.installed:
                tried = self._try(again, hops[0].steps)
            now = again
            self._hop(now, hops[0], tried, f"hop {len(done) + 1} of {len(done) + len(hops)}")
            done.append(hops[0].release)
            if len(hops) == 1:
                break
        return self._result(changed=self._steps.is_changed, preflight=found)

    def _hop(self, reading: Reading, hop: Hop, found: Preflight, title: str) -> None:
        """Go through one hop, and put the previous release back if it fails. Raises UpgradeError."""
        is_repair = hop.start == str(hop.release)
        way = f"repair {hop.release}" if is_repair else f"{hop.start or 'nothing'} to {hop.release}"
        self.progress.say(f"{title}: {way}, {len(hop.steps)} steps")
        originals = backups.originals(self.client, found.touched)
        self._back_up(originals)
        context = actions.context_from(self.client, self.request, reading.context.namespace)
        try:
            self._go(hop.steps, str(hop.release), context)
        except Exception as exc:
            error = as_error(exc)
            code = self._code_for_undo(error)
            why = undo.why_not(hop, self._steps.records, code, is_wanted=self.request.undo)
            undone = Undone(hop.start, False, problem=why) if why else self._undo(reading, hop, originals)
            raise self._failed(error, undone) from exc

    def _code_for_undo(self, error: CertflowError) -> str:
        """Return the code that decides if the hop is undone.

        Without the Lease of the upgrade, another run may work on the same objects, whatever the API server refused. The Lease of
        the certificate is another one.
        """
        if not isinstance(error, LeaseLostError):
            return error.code
        return LeaseLostError.code if error.path in ("", upgrade_lease.PATH) else ""

    def _go(self, steps: Sequence[Step], hop: str, context: Context, *, undoes: bool = False) -> None:
        for number, step in enumerate(steps, 1):
            self._steps.run(step, context, Place(hop, number, len(steps), undoes))

    def _back_up(self, originals: Sequence[dict[str, Any]]) -> None:
        """Keep the objects of a hop as they are before it, in a file and in the cluster, as the options say."""
        now = self.client.now()
        if self.request.backup_directory and originals:
            path = backups.write(self.request.backup_directory, self.client.host, now, originals)
            self._values["backup"] = str(path)
            self.progress.say(f"backup: {path}")
        if self.request.backup_in_cluster and originals:
            name = backups.store(self.client, upgrade_lease.NAMESPACE, BACKUP, originals, now)
            self._values["backup_object"] = name
            self.progress.say(f"backup: {name}")

    def _undo(self, reading: Reading, hop: Hop, originals: Sequence[dict[str, Any]]) -> Undone:
        """Put back the release before the hop. A failure becomes the problem of what is returned."""
        self.progress.say(f"the hop to {hop.release} failed: {hop.start} is put back")
        self._steps.reserve = 0
        options = undo.options_for(reading.context, self.request.options)
        deployments = [one for one in originals if one["kind"] == "Deployment"]
        request = replace(
            self.request,
            options=options,
            settings=replace(self.request.settings, originals=deployments, port=options.webhook_port),
        )
        try:
            self._bound(self.request.step_timeout)
            back = planning.read(self.client, get(hop.start), options)
            if back.plan.refused:
                return Undone(
                    hop.start,
                    False,
                    problem=f"{hop.start} was not put back, because its plan is refused: {back.plan.refused[0].reason}",
                )
            context = actions.context_from(self.client, request, back.context.namespace)
            for one in back.plan.hops:
                self._go(one.steps, str(hop.release), context, undoes=True)
        except Exception as exc:
            problem = f"Putting {hop.start} back failed too: {as_error(exc).cause}"
            return Undone(hop.start, False, self._put_back(), problem)
        return Undone(hop.start, True, self._put_back())

    def _put_back(self) -> tuple[str, ...]:
        """Return the titles of the steps of the way back that changed something."""
        return tuple(one.title for one in self._steps.records if one.undoes and one.changed)

    def _undone_by_signal(self) -> Undone:
        """Return the way back of an interrupted run: none, or the part that was carried out."""
        back = [one for one in self._steps.records if one.undoes]
        if not back:
            return Undone("", False, problem=undo.LEFT["interrupted"])
        problem = f"The run was interrupted in the step {back[-1].id} of the way back"
        return Undone("", False, self._put_back(), problem)

    # The end.

    def _failed(self, error: CertflowError, undone: Undone) -> UpgradeError:
        """Return the error with what was changed, and what was put back."""
        records = self._steps.records
        last = next((one for one in reversed(records) if one.status != "done" and not one.undoes), None)
        changed = [one.title for one in records if one.changed and not one.undoes]
        before = (
            f"Changed before that: {'; '.join(changed)}" if changed else "Nothing was changed before that"
        )
        where = f"step {last.id} of the hop to {last.hop}: " if last else ""
        cause = f"{where}{error.cause.rstrip('.')}. {before}. {undone.words().rstrip('.')}"
        failed = UpgradeError(
            cause,
            code=error.code,
            evidence=error.evidence,
            remedy=error.remedy or "Run the task again. It continues from the current state",
        )
        values = error.values
        failed.values = {
            **values,
            **self._values,
            "step": last.id if last else values.get("step", ""),
            "hop": last.hop if last else "",
            "steps": [one.as_dict() for one in records],
            "undone": undone.as_dict(),
            "notes": [*self._notes, *values.get("notes", ())],
            "changed": self._steps.is_changed,
        }
        return failed

    def _result(self, *, changed: bool, preflight: Preflight | None = None) -> Result:
        values = {
            **(preflight.values() if preflight else {"due": [], "foreseen": [], "problems": []}),
            **self._values,
            "notes": self._notes,
            "steps": [one.as_dict() for one in self._steps.records],
        }
        outcomes = self._steps.outcomes
        if preflight and not self._steps.records:  # nothing was carried out
            outcomes = [outcome for one in preflight.tried for outcome in one.outcomes]
        return Result(
            changed,
            values,
            diff=actions.diff(outcomes) if changed else None,
            warnings=tuple(dict.fromkeys(self._steps.warnings)),
        )

    def _waiting(self, other: Terms) -> None:
        """Tell the user about the other run that holds the Lease: at once, and then with the progress."""
        text = f"Wait for another run: {upgrade_lease.holder_words(other)}"
        if text != self._waited_for:
            self._waited_for = text
            self.progress.say(text)
        self.progress.now(text)

    def _bound(self, seconds: int) -> None:
        self.client.deadline = min(self._steps.end, time.monotonic() + seconds)

    def _check_time(self) -> None:
        """Raise CertflowError if the time of the task does not suffice for one step and the way back."""
        left = self._steps.end - time.monotonic()
        needed = self.request.step_timeout + UNDO_SECONDS
        if left + 1 < needed:
            raise CertflowError(
                f"the time of the task, {left:.0f} s, is shorter than step_timeout and {UNDO_SECONDS} s for the way back",
                remedy=f"Set wait_timeout, and the timeout of the task, to at least {needed} s, or a shorter step_timeout",
            )


def _only_looking(step: Step) -> Step:
    """Return the step without the write while old pods end: nothing is due, so the run does not hold the Lease."""
    return replace(step, parameters={key: one for key, one in step.parameters.items() if key != "reconnect"})


def _reverted(hop: Hop) -> CertflowError:
    """Return the error of a hop that is due again after it was complete."""
    return CertflowError(
        f"the hop to {hop.release} was complete, and then another program put {hop.start or 'something else'} back",
        code="upgrade-reverted",
        remedy="Find out what applies the older objects again, such as a GitOps tool, and run the task again",
    )


def _verified(step: Step, verdict: Verdict) -> dict[str, Any]:
    return {
        "id": step.id,
        "subject": step.parameters["subject"],
        "verdict": verdict.verdict,
        "summary": verdict.summary,
        "evidence": list(verdict.evidence),
        "remedy": verdict.remedy,
    }
