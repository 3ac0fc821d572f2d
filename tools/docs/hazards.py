# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""docs/hazards.md, made from the tables of hazards, releases and managers of the snapshot controller."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ansible_collections.certflow.kubernetes.plugins.module_utils._managers import PLACES
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.hazards import table
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.installed.installers import (
    INSTALLERS,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.release import release_table

if TYPE_CHECKING:
    from ansible_collections.certflow.kubernetes.plugins.module_utils._managers import Manager
    from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.hazards.table import Hazard

BEGIN = """\
# Hazards of snapshot controller upgrades

<!-- Made by `make docs` from the tables in plugins/module_utils/_snapshot: change those. -->

The modules `snapshot_controller_info` and `snapshot_controller` look for each of these hazards, for the installed release and the
release to go to. The result `hazards` has those that they find, with the evidence. There are four ways to handle a hazard:

| | |
|---|---|
| [`refuse`](#refused) | The plan is refused, with the reason and the remedy. Nothing is written. |
| [`ask`](#asked) | The plan is refused unless the task accepts the hazard by its id (`accept`). |
| [`step`](#handled-by-a-step) | A step of the plan handles it. |
| [`report`](#reported) | The result reports it. The plan does nothing about it. |

A plan that changes objects of [another manager](#other-managers) is refused too, and some releases are
[never installed](#releases-that-are-never-installed).
"""
SECTIONS = {
    table.REFUSE: "Refused",
    table.ASK: "Asked",
    table.STEP: "Handled by a step",
    table.REPORT: "Reported",
}
HAZARDS = "\n| Between | What goes wrong | What is done | Source |\n|---|---|---|---|\n"
NEVER = """
## Releases that are never installed

| Release | Reason |
|---|---|
"""
MANAGERS = """
## Other managers

| Manager | Recognised by | How to upgrade with it | How to adopt its objects |
|---|---|---|---|
"""
UPSTREAM = "kubernetes-csi/external-snapshotter"


def hazards() -> str:
    """Return the page."""
    parts = [BEGIN]
    for handling, title in SECTIONS.items():
        rows = [row for row in table.HAZARDS if row.handling == handling]
        parts += [f"\n## {title}\n", HAZARDS, *map(_hazard, rows)]
    parts += [NEVER, *_never(), MANAGERS, *map(_manager, INSTALLERS.values())]
    return "".join(parts)


def _hazard(row: Hazard) -> str:
    return _row(row.where, f"{row.title}<br>`{row.id}`", row.answer, _linked(row.source))


def _never() -> Iterator[str]:
    for release in release_table.RELEASES:
        if release.never:
            yield _row(
                str(release),
                f"{release.never[:1].upper()}{_linked(release.never[1:])}. Use {release_table.usable_after(release)} or newer.",
            )
        for program in release.unpublished:
            yield _row(f"{release}, with its webhook", f"The image {program} {release} was never published.")


def _manager(row: Manager) -> str:
    markers = [
        f"{PLACES.get(place, place)} `{pattern.replace('=', ': ', 1)}`"
        for place, pattern in (*row.markers, *row.controller_markers)
    ]
    if row.required:
        markers.append("each in addition to kubectl's marker, on an object that kubespray installs")
    adopting = f"{row.adopting} Then `adopt: [{row.key}]`." if row.adopting else "It cannot be adopted."
    article, _blank, _rest = row.name.partition(" ")
    name = row.name[:1].upper() + row.name[1:] if article in ("a", "an", "the") else row.name
    return _row(name, "<br>".join(markers) or "no marker", row.upgrade, adopting)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |\n"


def _linked(source: str) -> str:
    """Return a source with its issues as links. #N is an issue of upstream."""
    full = re.sub(r"(?<![\w/])#(\d+)", rf"{UPSTREAM}#\1", source)
    linked = re.sub(r"([\w.-]+/[\w.-]+)#(\d+)", r"[\1#\2](https://github.com/\1/issues/\2)", full)
    return linked.replace(f"[{UPSTREAM}#", "[#")
