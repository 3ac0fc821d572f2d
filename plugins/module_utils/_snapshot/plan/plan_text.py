# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Show a plan to a person, as lines of text. Pure.

Names and messages of a cluster are hostile text. Each line stays one line without hidden characters.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..._base.text import visible
from ..actions.action import CHANGE, CREATE, DELETE, VERIFY
from ..hazards import table
from ..hazards.finding import listed
from .planner import Plan

NOTE, REFUSED = "note", "refused"
SIGNS = {CREATE: "+", CHANGE: "~", DELETE: "-", VERIFY: "?", NOTE: "!", REFUSED: "x"}


def lines(plan: Plan) -> list[str]:
    """Return the plan as lines: the way, the refusals, the writes and checks of each hop, and the notes.

    Each line but the first and the heads of hops begins with a sign of SIGNS and its verb.
    """
    found = [summary(plan), *_refusals(plan)]
    for index, hop in enumerate(plan.hops):
        if len(plan.hops) > 1:
            found.append(_head(plan, index))
        found += [_line(line.verb, line.text) for line in hop.lines]
    return [*found, *_notes(plan)]


def summary(plan: Plan) -> str:
    """Return the way in one line, such as "7.0.2 to 8.7.0 in 2 hops: 8.4.0, 8.7.0"."""
    first, target = plan.hops[0], plan.hops[-1].release
    hops = ", ".join(str(hop.release) for hop in plan.hops)
    many = f"in {len(plan.hops)} hops: {hops}" if len(plan.hops) > 1 else "in 1 hop"
    end = ". The plan is refused, so nothing is changed" if plan.refused else ""
    if first.context.controller is None:
        return f"No snapshot controller is installed; the plan installs {target} {many}{end}"
    if not first.start:
        return f"An unknown release to {target} {many}{end}"
    if first.start == str(target):
        where = f" {many}" if len(plan.hops) > 1 else ""
        return f"{target} is installed; the plan repairs and verifies it{where}{end}"
    downgrade = ", an older release," if first.context.is_downgrade else ""
    return f"{first.start} to {target}{downgrade} {many}{end}"


def _line(verb: str, text: str) -> str:
    return f"{SIGNS[verb]} {verb:<8}{visible(text)}"


def _head(plan: Plan, index: int) -> str:
    hop = plan.hops[index]
    reason = {"": "", "repair": ", repair and verify"}.get(hop.reason, f". Reason: {hop.reason}")
    start = hop.start or ("no release" if hop.context.controller is None else "an unknown release")
    return visible(f"Hop {index + 1} of {len(plan.hops)}: {start} to {hop.release}{reason}")


def _refusals(plan: Plan) -> Iterator[str]:
    for refusal in plan.refused:
        seen = "; ".join(listed(refusal.evidence))
        yield _line(
            REFUSED, f"{refusal.id}: {_sentence(refusal.reason)} Seen: {_sentence(seen)} {refusal.remedy}"
        )


def _sentence(text: str) -> str:
    return text if text.endswith(".") else f"{text}."


def _notes(plan: Plan) -> Iterator[str]:
    yield from (
        _line(NOTE, f"{detected.hazard.id}: {detected}")
        for detected in plan.hazards
        if detected.hazard.handling == table.REPORT
    )
