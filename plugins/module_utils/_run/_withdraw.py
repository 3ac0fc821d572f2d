# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""state: absent - take back what this collection made for a Secret, and nothing else."""

from __future__ import annotations

from typing import Any

from .._csr import _marks, _requests, _secret
from .._csr._intent import Intent
from .._kube import _rights
from .._kube._client import Client
from .._kube._errors import Conflict, NotFound
from .._kube._rights import Right
from .._webhook import _patch
from .._webhook._patch import TargetChange
from .._webhook._targets import Target
from . import _bundles, _report
from ._operation import Result


def run(client: Client, intent: Intent, targets: tuple[Target, ...], check_mode: bool) -> Result:
    """Remove recorded anchors from ``targets``, requests that were never issued with their keys, and the Secret.

    Issued requests stay: the cluster collects them after an hour, and auditors want them.
    """
    spec = intent.secret
    obj = client.find(spec.path)
    found = _secret.found(obj, spec) if obj else None
    stranger = _stranger(intent, found)
    recorded = "" if found is None or stranger else _bundles.recorded(found.annotations)
    changes = [change for change in _bundles.plan_removal(intent, targets, client, recorded) if change.changed]
    requests = _requests.own_leftovers(client, intent)
    delete_secret = found is not None and not stranger
    changed = bool(changes or requests or delete_secret)
    warnings: list[str] = [stranger] if stranger else []
    if changed:
        _rights.require(client, _needed(intent, changes, bool(requests), delete_secret), f"take back the {intent}")
    if changed and not check_mode:
        for change in changes:
            prints = _prints(recorded, change)
            _patch.write(
                client,
                change,
                lambda fresh, change=change, prints=prints: _bundles.remove_from(  # type: ignore[misc]
                    intent, change.target, fresh, prints
                ),
            )
        warnings += filter(None, (_requests.remove(client, csr) for csr in requests))
        if found is not None and delete_secret:
            _delete(client, spec.path, found.uid)
    reason = "taken back" if changed else "there is nothing of this collection to take back"
    values = _report.values(intent, reason=reason, facts=None, anchor=None, csr=None, targets=changes)
    return Result(changed, values, _report.diff(found if delete_secret else None, None, changes), tuple(warnings))


def _stranger(intent: Intent, found: _secret.Found | None) -> str:
    """Why the Secret is left alone, "" where this collection made it for this Service."""
    if found is None:
        return ""
    if found.labels.get(_marks.MANAGED_BY) != _marks.MANAGER:
        return f"{intent.secret} was not made by this collection and is left alone"
    reason = _secret.foreign(found, intent)
    return f"{intent.secret} is left alone: {reason}" if reason else ""


def _needed(intent: Intent, changes: list[TargetChange], requests: bool, secret: bool) -> list[Right]:
    rights = _bundles.rights(changes)
    if requests:
        rights.append(Right("delete", _requests.GROUP, "certificatesigningrequests"))
    if secret:
        rights.append(Right("delete", "", "secrets", intent.secret.namespace, intent.secret.name))
    return rights


def _prints(recorded: str, change: TargetChange) -> set[str]:
    prefix = f"{change.target.kind}/{change.target.name}="
    return {entry.partition("=")[2] for entry in recorded.split() if entry.startswith(prefix)}


def _delete(client: Client, path: str, uid: Any) -> None:
    try:
        client.delete(path, uid=uid)
    except (NotFound, Conflict):
        pass  # gone, or another object by now: not what this run looked at


