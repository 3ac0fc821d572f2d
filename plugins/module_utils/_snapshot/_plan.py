# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""From what is installed to a release: the hops, their steps, and what stands in the way. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from . import _hazards
from ._after import after
from ._hazards import Found
from ._installed import Installed
from ._owners import BY_KEY
from ._releases import Release, get, text
from ._situation import Options, Situation
from ._hop import steps
from ._steps import Step


@dataclass(frozen=True)
class Hop:
    """One release after another. start: "" where nothing was there. reason: why it is a hop of its own."""

    start: str
    release: Release
    reason: str
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Refusal:
    """Why nothing may be written. id: of a hazard, or "owner-" and the owner's key."""

    id: str
    reason: str
    evidence: tuple[str, ...]
    remedy: str


@dataclass(frozen=True)
class Plan:
    """refused: empty where the hops may be gone. hops: none where anything is refused. found: of all hops."""

    refused: tuple[Refusal, ...]
    hops: tuple[Hop, ...]
    found: tuple[Found, ...]


def plan(installed: Installed, target: Release, options: Options) -> Plan:
    """The way to the target, with hops in between only where a hazard demands one."""
    refused = list(_owners(Situation(installed, target, options)))
    hops: list[Hop] = []
    every: dict[str, Found] = {}
    here = installed
    while not hops or hops[-1].release != target:
        now = Situation(here, target, options)
        found = _hazards.find(now)
        between = next((one for one in found if one.finding.via), None)
        if between:
            now = Situation(here, get(between.finding.via), options)
            found = (between, *_hazards.find(now))
        every.update({one.hazard.id: one for one in found if one.hazard.id not in every})
        refused += _refusals(found, options)
        hops.append(_hop(now, found, between))
        if now.release != target:
            here = after(now)
    distinct = tuple({one.id: one for one in refused}.values())
    return Plan(distinct, () if distinct else tuple(hops), tuple(every.values()))


def _hop(now: Situation, found: Iterable[Found], between: Found | None) -> Hop:
    ids = frozenset(one.hazard.id for one in found)
    reason = "repair" if now.version == now.release.version else ""
    if between:
        seen = "; ".join(between.finding.evidence)
        reason = f"{between.hazard.title}: {seen}. {between.hazard.answer}"
    return Hop(text(now.version) if now.version else "", now.release, reason, tuple(steps(now, ids)))


def _refusals(found: Iterable[Found], options: Options) -> Iterable[Refusal]:
    for one in found:
        if one.stops(options.accept):
            row = one.hazard
            remedy = one.finding.remedy
            if row.handling == _hazards.ASK and row.id not in remedy:
                remedy = f"{remedy} Or accept it: accept: [{row.id}]."
            yield Refusal(row.id, f"{row.title}. {row.answer}", one.finding.evidence, remedy.strip())


def _owners(now: Situation) -> Iterable[Refusal]:
    """One refusal for each owner whose objects would be written."""
    found: dict[str, list[str]] = {}
    for what, origin in now.origins:
        if origin.key and not now.adopts(origin.key):
            found.setdefault(origin.key, []).extend(f"{what}: {mark}" for mark in origin.evidence)
    for key, evidence in found.items():
        yield _owned(key, evidence)


def _owned(key: str, evidence: list[str]) -> Refusal:
    row = BY_KEY[key]
    adopt = f" To adopt it: {row.adopting} Then adopt: [{key}]." if row.adopting else ""
    return Refusal(f"owner-{key}", f"It belongs to {row.name}", tuple(evidence), f"{row.upgrade}{adopt}")
