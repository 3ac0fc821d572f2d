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
    try:
        with _snapshot_turn.kept(client, {} if check_mode else parameters["lease"]):
            context = context_from(client, parameters, check_mode)
            outcomes = ACTIONS[step.action](context, step.parameters)
    except NotYetError as exc:
        if not (check_mode and parameters["pending"]):
            raise
        return Result(True, _values(step, f"it can be tried only after the steps before it: {exc.cause}"))
    changed = [outcome for outcome in outcomes if outcome.changed]
    reason = step.reason if changed else "everything is as this step would have it"
    left = tuple(outcome.note for outcome in outcomes if outcome.note and not outcome.changed)
    diff = _diff(changed) if changed else None
    return Result(bool(changed), _values(step, reason, outcomes), diff=diff, warnings=left)


def _turn(client: Client, parameters: Mapping[str, Any], check_mode: bool) -> Result:
    """Acquire, check or release this run's Lease. This does not count as a change, because the Lease does not stay."""
    action, run_id, token = parameters["step"]["action"], parameters["run_id"], parameters["lease"]
    if not run_id:
        raise StepError(f"{action} needs run_id", remedy="Give the run a name of its own, such as a UUID")
    if not check_mode and action == _steps.END_TURN:
        _snapshot_turn.end(client, run_id)
    elif not check_mode and token:
        with _snapshot_turn.kept(client, token):
            pass
    elif not check_mode:
        token = _snapshot_turn.begin(client, run_id)
    reason = (
        "no other run writes until it is given back" if action == _steps.TAKE_TURN else "others may go on"
    )
    return Result(False, {"action": action, "reason": reason, "objects": [], "lease": token})


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
        "lease": {"type": "dict", "default": {}},
        "originals": {"type": "list", "elements": "dict", "default": []},
        "pending": {"type": "bool", "default": False},
    },
    run=run,
)
