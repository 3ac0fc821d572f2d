# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Carry out every supported downgrade of reference_upgrades.rst on the model of a cluster."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.release.release_table import (
    RELEASES,
    Release,
)

from tests.unit.plugins.module_utils._snapshot.hazards.test_hazards import V1BETA2
from tests.unit.plugins.module_utils._snapshot.plan.downgrades import (
    COLUMNS,
    SUPPORTED,
    Column,
    outcome,
    pairs,
)
from tests.unit.plugins.module_utils._snapshot.world import found, ours, planned
from tests.unit.plugins.module_utils._upgrade.test_interrupted_runs import cluster, finished, steps

TARGETS = [release for release in RELEASES[:-1] if not release.never]
# The parts of the state that go back. The CRDs stay.
PARTS = {"workloads", "detached", "configurations", "services", "ports", "secrets", "rights"}


def fresh(release: Release, column: Column) -> dict[str, Any]:
    """Return a fresh installation of the release, with the user's options of the column."""
    groups = column.given.get("group_snapshots", column.groups)
    return finished(cluster(ours(str(release), group_snapshots=groups)))


@pytest.mark.parametrize("column", COLUMNS, ids=[column.title for column in COLUMNS])
@pytest.mark.parametrize("target", TARGETS, ids=map(str, TARGETS))
def test_a_supported_downgrade_ends_as_a_fresh_installation(target: Release, column: Column) -> None:
    for start in (pair for pair, other in pairs() if other is target):
        installed = column.start(start)
        if installed is None or not outcome(start, target, column).startswith(SUPPORTED):
            continue
        here = cluster(installed)
        stored = finished(here)["crds"]
        list(steps(here, str(target), **column.given))  # no step breaks anything
        ended, wanted = finished(here), fresh(target, column)
        assert {part: ended[part] for part in PARTS} == {part: wanted[part] for part in PARTS}, str(start)
        assert ended["crds"] == stored, str(start)
        assert here.installed.groups == installed.groups


@pytest.mark.parametrize("target", TARGETS, ids=map(str, TARGETS))
def test_an_upgrade_and_its_downgrade_restore_the_state(target: Release) -> None:
    given: dict[str, Any] = {"failure_policy": "Fail"}
    for start in (pair for pair, other in pairs() if other is target):
        if outcome(start, target, COLUMNS[0]) != SUPPORTED:
            continue
        here = cluster(ours(str(target), **given))
        before = finished(here)
        list(steps(here, str(start), **given))
        list(steps(here, str(target), **given))
        ended = finished(here)
        assert {part: ended[part] for part in PARTS} == {part: before[part] for part in PARTS}, str(start)


def test_the_outcomes_name_hazards() -> None:
    """The table has only these words."""
    seen = {outcome(start, target, column) for start, target in pairs() for column in COLUMNS}
    assert seen == {
        "",
        "supported",
        "supported, reports `groups-unattended`",
        "refused: `back-to-alpha`",
        "refused: `back-without-lists`",
    }


def test_with_a_conversion_webhook_the_downgrade_leads_by_way_of_8_6() -> None:
    """reference_upgrades.rst describes this way."""
    given = {"group_snapshots": False}
    refused = planned(V1BETA2, "8.3.0", **given)
    assert [refusal.id for refusal in refused.refused] == ["back-without-lists"]
    here = cluster(V1BETA2)
    list(steps(here, "8.6.0"))
    assert "groups-unattended" in found(planned(here.installed, "8.3.0", **given))
    list(steps(here, "8.3.0", **given))
    assert set(here.faults()) == set()
