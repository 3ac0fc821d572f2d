# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Whose caBundle it is: the other writers of a target, and what they leave to us."""

from __future__ import annotations

from dataclasses import dataclass

from .. import _managers
from .._errors import shaped
from .bundle_targets import KINDS, Object, Target
from .errors import OwnedTargetError


@dataclass(frozen=True)
class Owner:
    """writer: its name; evidence: the marks found; remedy: how to get the wanted bundle nevertheless.

    bundle: what it does with a caBundle that somebody else wrote, see _managers.Writer.
    """

    writer: str
    evidence: tuple[str, ...]
    remedy: str
    bundle: str


def owners(target: Target, obj: Object) -> tuple[Owner, ...]:
    """Return the other writers whose marks the object carries, in the order of the table."""
    kind = KINDS[target.kind]
    context = {
        "group": kind.group,
        "kind": target.kind,
        "name": target.name,
        "expression": kind.expression,
    }
    with shaped(target):
        writers = _managers.writers(obj["metadata"])
    return tuple(
        Owner(
            found.writer.name, found.evidence, found.writer.for_targets.format(**context), found.writer.bundle
        )
        for found in writers
        if found.writer.for_targets
    )


def live_writer(target: Target, obj: Object) -> Owner | None:
    """Return who writes the object's caBundle itself, at any time: what stands there is not ours to remove.

    None for writers that only apply a manifest, and where there is none.
    """
    return next((owner for owner in owners(target, obj) if owner.bundle in _managers.WRITING), None)


def check(target: Target, obj: Object, *, removes: str = "", take_over: bool = False) -> None:
    """Raise OwnedTargetError where another writer would be overruled.

    removes: the mode that takes away what is not wanted, empty where nothing is; it is refused even with take_over
    where a live writer's certificates might go: the API server would refuse the webhook until that writer comes back.
    """
    live = live_writer(target, obj) if removes else None
    if live:
        keep = "; mode: add with take_over: true keeps what it writes" if live.bundle == "merges" else ""
        raise OwnedTargetError(
            f"{_belongs(target, (live,))}, which writes its caBundle itself: mode {removes} would remove that",
            code="managed-bundle",
            evidence=live.evidence,
            remedy=f"{live.remedy}{keep}",
        )
    found = () if take_over else owners(target, obj)
    if found:
        raise OwnedTargetError(
            _belongs(target, found),
            evidence=[mark for owner in found for mark in owner.evidence],
            remedy=f"{'. '.join(owner.remedy for owner in found)}. Or write it nevertheless with take_over: true",
        )


def _belongs(target: Target, found: tuple[Owner, ...]) -> str:
    marks = "; ".join(mark for owner in found for mark in owner.evidence)
    return f"{target} belongs to {' and '.join(owner.writer for owner in found)} ({marks})"
