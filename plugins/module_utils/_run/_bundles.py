# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Where a certificate meets the webhooks that present it: anchors on targets, and the record of who added them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Iterable, Mapping, Sequence

from .._csr import _marks
from .._csr._anchors import Anchor
from .._csr._intent import Intent
from .._kube._client import Client
from .._kube._rights import Right
from .._webhook import _bundle, _patch, _targets
from .._webhook._patch import TargetChange
from .._webhook._targets import Target


@dataclass(frozen=True)
class SeenTarget:
    """A target as it was read."""

    target: Target
    obj: Mapping[str, Any]


def read(client: Client, targets: Iterable[Target]) -> tuple[SeenTarget, ...]:
    return tuple(SeenTarget(target, _targets.read(client, target)) for target in targets)


def plan(
    intent: Intent, seen: Sequence[SeenTarget], anchor: Anchor | None, leaf_pem: str | None
) -> tuple[TargetChange, ...]:
    """What adding the anchor changes; ``anchor`` None: not issued yet, so every target is taken to change."""
    return tuple(_plan(intent, entry.target, entry.obj, anchor, leaf_pem) for entry in seen)


def rights(changes: Iterable[TargetChange]) -> list[Right]:
    return [_targets.right(change.target, "patch") for change in changes if change.changed]


def write(
    client: Client, intent: Intent, changes: Sequence[TargetChange], anchor: Anchor, leaf_pem: str
) -> tuple[TargetChange, ...]:
    """Write what was planned. Every target was planned before the first is written."""
    return tuple(
        _patch.write(
            client, change, lambda obj, target=change.target: _plan(intent, target, obj, anchor, leaf_pem)  # type: ignore[misc]
        )
        if change.changed
        else change
        for change in changes
    )


def added(previous: str, changes: Iterable[TargetChange]) -> str:
    """The record for the Secret's annotation: what was recorded before, and what these changes add."""
    entries = set(previous.split())
    for change in changes:
        for bundle in change.bundles:
            before = {anchor.fingerprint for anchor in _bundle.anchors(bundle.config.ca_bundle)}
            after = {anchor.fingerprint for anchor in _bundle.anchors(bundle.after or "")}
            entries.update(f"{change.target.kind}/{change.target.name}={print_}" for print_ in after - before)
    return " ".join(sorted(entries))


def plan_removal(
    intent: Intent, targets: Iterable[Target], client: Client, recorded: str
) -> tuple[TargetChange, ...]:
    """What taking back the recorded anchors changes on these targets; targets that are gone need nothing."""
    changes = []
    for target in targets:
        prints = {
            entry.partition("=")[2] for entry in recorded.split() if entry.startswith(f"{target.kind}/{target.name}=")
        }
        obj = client.find(_targets.path(target)) if prints else None
        if obj is not None:
            changes.append(remove_from(intent, target, obj, prints))
    return tuple(changes)


def remove_from(intent: Intent, target: Target, obj: Mapping[str, Any], prints: set[str]) -> TargetChange:
    configs = _targets.client_configs(target, obj, service=service(intent))
    present = (anchor for config in configs for anchor in _bundle.anchors(config.ca_bundle))
    wanted = "".join(anchor.pem for anchor in present if anchor.fingerprint in prints)
    return _patch.plan(
        target, obj, wanted, mode="absent", service=service(intent), take_over=intent.take_over, now=_now()
    )


def service(intent: Intent) -> tuple[str, str] | None:
    return (intent.namespace, intent.service) if intent.service else None


def _plan(
    intent: Intent, target: Target, obj: Mapping[str, Any], anchor: Anchor | None, leaf_pem: str | None
) -> TargetChange:
    return _patch.plan(
        target,
        obj,
        anchor.pem if anchor else None,
        service=service(intent),
        take_over=intent.take_over,
        leaf_pem=leaf_pem,
        now=_now(),
    )


def _now() -> datetime:
    return datetime.now(timezone.utc)


def recorded(annotations: Mapping[str, str]) -> str:
    return annotations.get(_marks.ANCHORS, "")
