# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""snapshot_controller_apply: carries out one step of a plan that snapshot_controller_plan made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .._snapshot import _steps
from .._snapshot._apply import Outcome
from .._snapshot._errors import NotYetError, StepError
from . import _snapshot_turn
from ._operation import Operation, Result
from ._snapshot_rendering import ACTIONS, RENDERING, context_from, report, step_from
from ._spec import AUTH

if TYPE_CHECKING:
    from .._kube._client import Client

TURNS = (_steps.TAKE_TURN, _steps.END_TURN)


def run(client: Client, parameters: Mapping[str, Any], check_mode: bool) -> Result:
    """See the module's documentation. Raises CertflowError."""
    if parameters["step"].get("action") in TURNS:
        return _turn(client, parameters, check_mode)
    step = step_from(parameters["step"])
    run_id = "" if check_mode else parameters["run_id"]
    if run_id:  # it has taken its turn
        client.answered_before()
    context = context_from(client, parameters, check_mode)
    try:
        with _snapshot_turn.kept(client, run_id):
            outcomes = ACTIONS[step.action](context, step.parameters)
    except NotYetError as exc:
        if not (check_mode and context.pending):
            raise
        return Result(True, _values(step, f"it can be tried only after the steps before it: {exc.cause}"))
    changed = [outcome for outcome in outcomes if outcome.changed]
    reason = step.reason if changed else "everything is as this step would have it"
    left = tuple(outcome.note for outcome in outcomes if outcome.note and not outcome.changed)
    diff = _diff(changed) if changed else None
    return Result(bool(changed), _values(step, reason, outcomes), diff=diff, warnings=left)


def _turn(client: Client, parameters: Mapping[str, Any], check_mode: bool) -> Result:
    """Take this run's turn, or give it back. It is no change: nothing of it is left in the end."""
    action, run_id = parameters["step"]["action"], parameters["run_id"]
    if not run_id:
        raise StepError(f"{action} needs run_id", remedy="Give the run a name of its own, such as a UUID")
    warnings: tuple[str, ...] = ()
    if action == _steps.END_TURN and not check_mode:
        _snapshot_turn.end(client, run_id)
    elif not check_mode:
        with _snapshot_turn.kept(client, run_id) as lease:
            warnings = (lease.problem,) if lease and lease.problem else ()
    reason = (
        "no other run writes until it is given back" if action == _steps.TAKE_TURN else "others may go on"
    )
    return Result(False, {"action": action, "reason": reason, "objects": []}, warnings=warnings)


def _values(step: _steps.Step, reason: str, outcomes: Sequence[Outcome] = ()) -> dict[str, Any]:
    return {"action": step.action, "reason": reason, "objects": [report(outcome) for outcome in outcomes]}


def _diff(changed: Sequence[Outcome]) -> dict[str, Any]:
    """Each object's changed fields by path; of one that comes or goes, that it does."""
    before: dict[str, Any] = {}
    after: dict[str, Any] = {}
    for outcome in changed:
        name = str(outcome.reference)
        if outcome.change == "deleted":
            before[name], after[name] = "there", "deleted"
        else:
            before[name] = {one.path: one.before for one in outcome.changes if one.before is not None}
            after[name] = {one.path: one.after for one in outcome.changes if one.after is not None}
    return {"before": before, "after": after}


OPERATION = Operation(
    name="snapshot_controller_apply",
    argument_spec={
        **AUTH,
        "wait_timeout": {"type": "int", "default": 600},
        "step": {"type": "dict", "required": True},
        **RENDERING,
        "run_id": {"type": "str", "default": ""},
        "originals": {"type": "list", "elements": "dict", "default": []},
        "pending": {"type": "bool", "default": False},
    },
    run=run,
)
