# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Return the outcome of each downgrade after a successful upgrade. reference_upgrades.rst has them as a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.installed.state import (
    InstalledState,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.release.release_table import (
    RELEASES,
    Release,
)

from tests.unit.plugins.module_utils._snapshot.world import found, ours, planned, with_groups

SUPPORTED, UNATTENDED = "supported", "groups-unattended"


@dataclass(frozen=True)
class Column:
    """A kind of cluster. groups: True if group snapshots are on and some are stored. given: the user's options."""

    title: str
    groups: bool = False
    given: Mapping[str, Any] = field(default_factory=dict)

    def start(self, release: Release) -> InstalledState | None:
        """Return a cluster after a successful upgrade to the release, None if the release has no group snapshots."""
        if not self.groups:
            return ours(str(release))
        if release.groups is None:
            return None
        return with_groups(ours(str(release), group_snapshots=True), lists=1)


COLUMNS = (
    Column("Without group snapshots"),
    Column("With group snapshots", True),
    Column("With group snapshots, and `group_snapshots: false`", True, {"group_snapshots": False}),
)


def pairs() -> Iterator[tuple[Release, Release]]:
    """Yield every release with each older one that may be installed."""
    known = [release for release in RELEASES if not release.never]
    for number, start in enumerate(known):
        yield from ((start, target) for target in known[:number])


def outcome(start: Release, target: Release, column: Column) -> str:
    """Return "supported" or the hazards that refuse the downgrade, "" if the start has no group snapshots."""
    installed = column.start(start)
    if installed is None:
        return ""
    plan = planned(installed, str(target), **column.given)
    if plan.refused:
        return f"refused: {', '.join(f'`{refusal.id}`' for refusal in plan.refused)}"
    return f"{SUPPORTED}, reports `{UNATTENDED}`" if UNATTENDED in found(plan) else SUPPORTED
