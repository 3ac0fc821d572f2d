# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Show a plan to a person, as lines of text. Pure.

Names and messages of a cluster are hostile text. Each line stays one line without hidden characters.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..._base.text import visible
from ..actions.action import CHANGE, CREATE, DELETE, VERIFY, named
from ..actions.apply_release import controller_rbac
from ..context.upgrade_context import UpgradeContext
from ..hazards import table
from ..installed.installers import INSTALLERS
from ..kinds import Reference
from .planner import Hop, Plan, PlanRefusal

NOTE, REFUSED = "note", "refused"
SIGNS = {CREATE: "+", CHANGE: "~", DELETE: "-", VERIFY: "?", NOTE: "!", REFUSED: "x"}
_OWNER = "owner-"


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
    back = ", an older release," if first.context.is_downgrade else ""
    return f"{first.start} to {target}{back} {many}{end}"


def _line(verb: str, text: str) -> str:
    return f"{SIGNS[verb]} {verb:<8}{visible(text)}"


def _head(plan: Plan, index: int) -> str:
    hop = plan.hops[index]
    reason = {"": "", "repair": ", repair and verify"}.get(hop.reason, f". Reason: {hop.reason}")
    return visible(f"Hop {index + 1} of {len(plan.hops)}: {_way(hop)}{reason}")


def _way(hop: Hop) -> str:
    unknown = "no release" if hop.context.controller is None else "an unknown release"
    return f"{hop.start or unknown} to {hop.release}"


def _refusals(plan: Plan) -> Iterator[str]:
    for refusal in plan.refused:
        yield _line(REFUSED, f"{refusal.id}: {_sentence(refusal.reason)} {_seen(refusal)}{refusal.remedy}")
        for text in _accepted(plan, refusal):
            yield _line(REFUSED, f"{refusal.id}: {text}")


def _sentence(text: str) -> str:
    return text if text.endswith(".") else f"{text}."


def _seen(refusal: PlanRefusal) -> str:
    """Return the evidence of a hazard. The objects of a manager follow in their own line."""
    return "" if _is_owner(refusal) else _sentence(f"Seen: {'; '.join(refusal.evidence)}") + " "


def _is_owner(refusal: PlanRefusal) -> bool:
    return refusal.id.startswith(_OWNER)


def _accepted(plan: Plan, refusal: PlanRefusal) -> Iterator[str]:
    """Yield sentences with the other manager's objects that the plan would write if it were not refused."""
    if not _is_owner(refusal):
        return
    row = INSTALLERS[refusal.id[len(_OWNER) :]]
    context = plan.hops[0].context
    theirs = _names_of(context, row.key)
    last: dict[Reference, str] = {}
    for line in (line for hop in plan.hops for line in hop.lines):
        last.update((target, line.verb) for target in line.objects if str(target) in theirs)
    words = ", ".join(_words(context, row.key))
    start = f"With accept: [{words}], the plan would" if row.adopting else "The plan would"
    for verb, is_deleted in (("change", False), ("delete", True)):
        objects = [target for target, end in last.items() if (end == DELETE) == is_deleted]
        if objects:
            yield f"{start} {verb} {_of_manager(objects, row.name)}."


def _words(context: UpgradeContext, key: str) -> dict[str, None]:
    """Return the words of the option accept that the objects of a manager need."""
    return dict.fromkeys(
        word for _what, origin in context.origins if origin.key == key for word in origin.words
    )


def _names_of(context: UpgradeContext, key: str) -> set[str]:
    """Return the names of a manager's objects, such as "Deployment kube-system/snapshot-controller"."""
    installed = context.installed
    origins = [*context.origins, *installed.other_origins.items()]
    if installed.controller_role:  # the other RBAC objects are not read, but come from the same manifest
        role = installed.controller_role
        origins += [(str(target), role) for target in controller_rbac(context.namespace)]
    return {name for name, origin in origins if origin.key == key}


def _of_manager(objects: Sequence[Reference], name: str) -> str:
    count = f"{len(objects)} object{'s' * (len(objects) > 1)}"
    kinds = dict.fromkeys(target.kind for target in objects)
    listed = "; ".join(named([target for target in objects if target.kind == kind]) for kind in kinds)
    return f"{count} of {name}: {listed}"


def _notes(plan: Plan) -> Iterator[str]:
    for detected in plan.hazards:
        if detected.hazard.handling == table.REPORT:
            evidence = "; ".join(detected.finding.evidence)
            yield _line(
                NOTE, f"{detected.hazard.id}: {detected.hazard.title}: {evidence}. {detected.finding.remedy}"
            )
