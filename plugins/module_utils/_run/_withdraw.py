# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""state: absent - take back what this collection made for a Secret, and nothing else."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from .._csr import _pending, _requests, _secret
from .._csr._intent import Intent
from .._csr._secret import Found
from .._kube import _rights
from .._kube._client import Client
from .._kube._errors import Conflict, NotFound
from .._kube._rights import Right
from .._webhook._patch import TargetChange
from .._webhook._targets import Target
from . import _bundles, _report, _secrets
from ._operation import Result


def run(client: Client, intent: Intent, targets: tuple[Target, ...], check_mode: bool) -> Result:
    """Remove recorded anchors from ``targets``, requests that were not issued with their keys, and the Secret.

    Issued requests stay: the cluster collects them after an hour, and auditors want them.
    """
    found = _secrets.read(client, intent.secret)
    stranger = _stranger(intent, found)
    own = None if stranger else found
    record = own.annotations if own else {}
    changes = _bundles.plan_removal(client, intent, targets, record)
    requests = _requests.unissued(client, intent.secret)
    waiting = _pending.find(client, intent.secret)
    warnings = [stranger] if stranger else []
    changed = bool(changes or requests or waiting or own)
    if changed:
        _rights.require(client, _needed(intent, changes, requests, waiting, own), f"take back the {intent}")
    if changed and not check_mode:
        changes = _bundles.remove(client, intent, changes, record)
        warnings += filter(None, (_requests.remove(client, csr) for csr in requests))
        if waiting:
            _pending.discard(client, intent.secret, waiting["metadata"]["uid"])
        if own:
            # Gone, or another object by now: not what this run looked at.
            with contextlib.suppress(NotFound, Conflict):
                client.delete(intent.secret.path, uid=own.uid)
    reason = "taken back" if changed else "there is nothing of this collection to take back"
    values = _report.values(intent, reason=reason, facts=None, anchor=None, csr=None, targets=changes)
    return Result(changed, values, _report.diff(own, None, changes), tuple(warnings))


def _stranger(intent: Intent, found: Found | None) -> str:
    """Why the Secret is left alone, "" where this collection made it for this Service."""
    if found is None:
        return ""
    reason = _secret.foreign(found, intent) if found.is_ours else "this collection did not make it"
    return f"{intent.secret} is left alone: {reason}" if reason else ""


def _needed(
    intent: Intent,
    changes: Sequence[TargetChange],
    requests: Sequence[Mapping[str, Any]],
    waiting: Mapping[str, Any] | None,
    own: Found | None,
) -> list[Right]:
    spec = intent.secret
    rights = _bundles.rights(changes)
    if requests:
        rights.append(Right("delete", _requests.GROUP, "certificatesigningrequests"))
    if waiting:
        rights.append(Right("delete", "", "secrets", spec.namespace, _pending.name(spec)))
    if own:
        rights.append(_secrets.right(spec, "delete"))
    return rights
