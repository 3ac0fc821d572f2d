# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The actions that change objects, by name, and how results carry what they did."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .options import Request
from .steps import act, ca_bundle_steps
from .steps.act import Context
from .steps.apply_manifests import Outcome

if TYPE_CHECKING:
    from .._kube.client import Client

ACTIONS = {**act.ACTIONS, **ca_bundle_steps.ACTIONS}
CERTIFICATE, VERIFY = "certificate", "verify"
# Actions that look at pods until they are as they have to be.
WAITS = ("wait_available", "watch_pods")


def context_from(client: Client, request: Request, namespace: str, *, check_mode: bool = False) -> Context:
    """Return the context of actions. namespace: where a step applies that does not say it."""
    return Context(
        client,
        request.source,
        request.settings,
        namespace=namespace,
        take_over=bool(request.options.adopt),
        check_mode=check_mode,
    )


def report(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome as results carry it."""
    target = outcome.reference
    return {
        "kind": target.kind,
        "namespace": target.namespace,
        "name": target.name,
        "change": outcome.change,
        "changes": [{"path": one.path, "before": one.before, "after": one.after} for one in outcome.changes],
        "left": list(outcome.left),
        "note": outcome.note,
    }


def diff(outcomes: Iterable[Outcome]) -> dict[str, Any]:
    """Return each changed object's fields by path, before and after. An object that is deleted says so.

    A field that changed several times is shown with its first and its last value.
    """
    before: dict[str, Any] = {}
    after: dict[str, Any] = {}
    for outcome in (one for one in outcomes if one.changed):
        name = str(outcome.reference)
        if outcome.change == "deleted":
            before[name], after[name] = "exists", "deleted"
            continue
        if not isinstance(after.get(name), dict):
            before[name], after[name] = {}, {}
        for one in outcome.changes:
            if one.path not in after[name] and one.before is not None:
                before[name][one.path] = one.before
            after[name][one.path] = one.after
    return {"before": before, "after": {name: _without_none(value) for name, value in after.items()}}


def _without_none(value: Any) -> Any:
    return {path: one for path, one in value.items() if one is not None} if isinstance(value, dict) else value
