# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""snapshot_controller_preflight: tries the steps of a plan before the first of them writes. Writes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._paths import expand
from .._snapshot import _backup, _preflight, _steps
from .._snapshot._errors import PreflightError
from .._snapshot._preflight import Foreseen, Problem, Tried
from . import _snapshot_turn
from ._operation import Operation, Result
from ._snapshot_rendering import ACTIONS, RENDERING, context_from, report, step_from
from ._spec import AUTH

if TYPE_CHECKING:
    from .._kube._client import Client


def run(client: Client, parameters: Mapping[str, Any], check_mode: bool) -> Result:
    """See the module's documentation. Raises PreflightError, CertflowError."""
    steps = [_step(given) for given in parameters["steps"]]
    backup = expand(parameters["backup_directory"] or "")
    context, place = context_from(client, parameters, True), parameters["probe_namespace"]
    foreseen = _preflight.foresee(context, steps, ACTIONS, probe_namespace=place)
    values = _values(foreseen)
    values["notes"] += _other_run(client, parameters["run_id"])
    if foreseen.problems and parameters["require"]:
        raise _error(foreseen.problems, values)
    touched = [outcome.reference for one in foreseen.tried if one.due for outcome in one.outcomes]
    originals = _backup.originals(client, touched)
    values["originals"] = [one for one in originals if one["kind"] == "Deployment"]
    values["backup"] = ""
    if backup and originals and not check_mode:
        values["backup"] = str(_backup.write(Path(backup), client.host, client.now(), originals))
    return Result(False, values)


def _step(given: Mapping[str, Any]) -> _steps.Step:
    """A plan's step; one that is another module's is that one's to check."""
    if given.get("action") in ACTIONS:
        return step_from(given)
    name, title, action = (str(given.get(field)) for field in ("id", "title", "action"))
    return _steps.Step(name, title, "", action, dict(given.get("parameters") or {}))


def _other_run(client: Client, run_id: str) -> list[str]:
    """Another run is no problem: the one that is to write waits for it."""
    other = _snapshot_turn.other(client, run_id)
    if other is None:
        return []
    until = f"; if that run is dead, it ends by itself at {other.until:%H:%M:%S} UTC" if other.until else ""
    lease = f"Lease {_snapshot_turn.NAMESPACE}/{_snapshot_turn.NAME}"
    return [f"another run works on the snapshot controller: {other.holder} holds {lease}{until}"]


def _values(foreseen: Foreseen) -> dict[str, Any]:
    return {
        "due": [one.step.id for one in foreseen.tried if one.due],
        "foreseen": [_tried(one) for one in foreseen.tried if one.due],
        "problems": [
            {"step": one.step, "cause": one.cause, "evidence": list(one.evidence), "remedy": one.remedy}
            for one in foreseen.problems
        ],
        "notes": list(foreseen.notes),
        "new_namespaces": [
            outcome.reference.name
            for one in foreseen.tried
            for outcome in one.outcomes
            if outcome.reference.kind == "Namespace" and outcome.change == "created"
        ],
    }


def _tried(one: Tried) -> dict[str, Any]:
    objects = [report(outcome) for outcome in one.outcomes if outcome.changed]
    return {"id": one.step.id, "title": one.step.title, "objects": objects, "note": one.note}


def _error(problems: Sequence[Problem], values: dict[str, Any]) -> PreflightError:
    causes = list(dict.fromkeys(one.cause for one in problems))
    more = f" (and {len(causes) - 1} more, see problems)" if len(causes) > 1 else ""
    evidence = [f"{one.step}: {one.cause}" if one.step else one.cause for one in problems]
    error = PreflightError(
        f"nothing was written: {causes[0]}{more}",
        evidence=[*evidence, *(line for one in problems for line in one.evidence)],
        remedy=problems[0].remedy,
    )
    error.values = values
    return error


OPERATION = Operation(
    name="snapshot_controller_preflight",
    argument_spec={
        **AUTH,
        "wait_timeout": {"type": "int", "default": 300},
        "steps": {"type": "list", "elements": "dict", "required": True},
        "backup_directory": {"type": "path"},
        "require": {"type": "bool", "default": True},
        "run_id": {"type": "str", "default": ""},
        "probe_namespace": {"type": "str", "default": ""},
        **RENDERING,
    },
    run=run,
)
