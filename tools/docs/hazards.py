# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The page about hazards, made from the tables of hazards, releases and managers of the snapshot controller."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ansible_collections.certflow.kubernetes.plugins.module_utils._base.object_managers import (
    FIELD_MANAGER,
    PLACES,
    UNKNOWN,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.hazards import table
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.installed.installers import (
    INSTALLERS,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.release import release_table

from tools.docs import rst

if TYPE_CHECKING:
    from ansible_collections.certflow.kubernetes.plugins.module_utils._base.object_managers import Manager
    from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.hazards.table import Hazard

SECTIONS = {
    table.REFUSE: "Refused",
    table.ASK: "Asked",
    table.STEP: "Handled by a step",
    table.REPORT: "Reported",
}
UPSTREAM = "kubernetes-csi/external-snapshotter"

#: For each hazard, the releases between which it occurs.
BETWEEN: dict[str, str] = {
    "unreadable": "any",
    "hosted": "any",
    "kubespray-reverts": "any",
    "older-than-4.2": "before 4.2",
    "newer-than-known": "after 8.7",
    "version-unknown": "any",
    "two-controllers": "any",
    "other-containers": "any",
    "controllers-removed": "any",
    "leftover-statefulset": "4.0 to 4.1",
    "another-name": "any",
    "namespace-moves": "any",
    "webhook-moves": "any",
    "webhook-names": "4.2 to 8.1",
    "mixed-object": "any",
    "foreign-configuration": "any",
    "webhook-shared": "any",
    "secret-kept": "any",
    "names-elsewhere": "any",
    "crd-deleted": "any",
    "kubernetes-too-old": "7.0 to 8.0",
    "stored-versions": "any",
    "v1beta1-unserved": "5.0 to 6.0",
    "invalid-objects": "7.0 to 8.0",
    "invalid-objects-kept": "7.0 to 8.0",
    "default-classes": "any",
    "foreign-crds": "any",
    "crds-stay": "any way back",
    "alpha-sources": "6.3 to 7.0",
    "alpha-lists": "7.0 to 8.2",
    "alpha-dropped-empty": "8.1 to 8.2",
    "alpha-dropped": "8.1 to 8.2",
    "conversion-needed": "8.3 to 8.4",
    "conversion-refused": "8.3 to 8.4",
    "conversion-unsupported": "before 8.4, since 8.6",
    "conversion-left": "8.5 to 8.6",
    "lists-at-v1beta1": "8.3 to 8.6",
    "stored-at-v1beta1": "8.5 to 8.6",
    "sidecars-at-v1beta1": "8.5 to 8.6",
    "sidecars-before-crds": "8.3 to 8.4",
    "group-crds-first": "7.0 to 8.7",
    "back-to-alpha": "8.2 to 8.1, 8.0 to 7.0",
    "back-without-lists": "8.4 to 8.3",
    "no-way-back": "8.3 to 8.4 and before",
    "groups-unattended": "7.0 to 6.3, any way back",
    "rules-first": "7.0 to 8.0",
    "webhook-first": "5.0 to 6.0",
    "secret-type": "6.1 to 6.2",
    "webhook-selector": "6.3 to 7.0",
    "no-drain": "any",
    "webhook-port": "any",
    "host-port": "any",
    "no-drain-here": "any",
    "groups-path": "6.3 to 8.1",
    "dangling-configuration": "8.1 to 8.2",
    "webhook-left": "8.1 to 8.2, 8.5 to 8.6",
    "no-endpoints": "any",
    "volume-mode": "6.3 to 7.0",
    "rights-first": "4.2 to 5.0, 6.3 to 7.0, 8.1 to 8.2",
    "controller-selector": "6.3 to 7.0",
    "arguments-unknown": "any",
    "arguments-ended": "8.1 to 8.2, 8.2 to 8.3",
    "arguments-dropped": "any",
    "arguments-taken-back": "any",
    "sidecar-arguments": "8.1 to 8.2, 8.2 to 8.3",
    "nodes": "since 5.0",
}


def hazards() -> str:
    """Return the page."""
    sections = [
        (title, "".join(_hazard(row) for row in table.HAZARDS if row.handling == handling))
        for handling, title in SECTIONS.items()
    ]
    return rst.rendered(
        "hazards",
        "Made by `make docs` from the tables in plugins/module_utils/_snapshot.",
        sections=sections,
        never="".join(_never()),
        managers="".join(map(_manager, INSTALLERS.values())),
    )


def _hazard(row: Hazard) -> str:
    return _row(BETWEEN[row.id], f"{row.title}<br>`{row.id}`", row.answer, _linked(row.source))


def _never() -> Iterator[str]:
    for release in release_table.RELEASES:
        if release.never:
            yield _row(
                str(release),
                f"{release.never[:1].upper()}{_linked(release.never[1:])}. Use {release_table.usable_after(release)} or newer.",
            )


def _manager(row: Manager) -> str:
    markers = [
        f"{PLACES.get(place, place)} `{pattern.replace('=', ': ', 1)}`"
        for place, pattern in (*row.markers, *row.controller_markers)
    ]
    if row.required:
        markers.append("each in addition to kubectl's marker, on an object that kubespray installs")
    word = f"{FIELD_MANAGER}NAME" if row.key == UNKNOWN else row.key
    adopting = (
        f"{row.adopting} Then `accept: [{word}]`." if row.adopting else "Its objects cannot be accepted."
    )
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
