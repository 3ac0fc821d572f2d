# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A release and a set of group CRDs that do not exist yet. The hazards guard them like the newest ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.context.state_after import (
    state_after,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.installed.state import (
    InstalledState,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.release import (
    crd_sets,
    release_table,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.release.crd_sets import (
    SERVED,
    STORED,
    CrdSet,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.release.release_table import (
    CONVERTS,
    GROUP,
    GROUP_CONTENTS,
    GROUP_CRDS,
)

from tests.unit.plugins.module_utils._snapshot.world import (
    changed,
    found,
    ids,
    ours,
    planned,
    sidecar,
    upstream,
    with_groups,
    with_stored,
    with_workload,
)

LAST, NEXT = str(release_table.NEWEST), "99.0.0"
SET = CrdSet("99.0", "99.0", GROUP, {"v1": STORED, "v1beta2": SERVED, "v1beta1": SERVED}, True, "v0.99.0")


@pytest.fixture(autouse=True)
def next_release(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add the release and the set to the tables."""
    row = replace(release_table.get(LAST), version=(99, 0, 0), group_crds=SET.key)
    monkeypatch.setattr(crd_sets, "SETS", (*crd_sets.SETS, SET))
    monkeypatch.setattr(release_table, "RELEASES", (*release_table.RELEASES, row))


V1BETA1 = with_groups(upstream("8.3.0", groups=True), lists=1)
V1BETA2 = with_stored(with_groups(upstream("8.4.0", groups=True), lists=1), "v1beta1", "v1beta2")
OLD_SIDECAR = with_workload(
    with_groups(upstream("8.4.0", groups=True)), sidecar("8.3.0", "--feature-gates=CSIVolumeGroupSnapshot=true")
)  # fmt: skip
# A state, and the hazards that guard the lists of handles in it.
GUARDS: dict[str, tuple[InstalledState, dict[str, Any], set[str]]] = {
    "lists at v1beta1": (V1BETA1, {}, {"lists-at-v1beta1", "stored-at-v1beta1"}),
    "a webhook that converts": (V1BETA2, {}, {"stored-at-v1beta1", "conversion-left"}),
    "a sidecar at v1beta1": (OLD_SIDECAR, {}, {"sidecars-at-v1beta1"}),
    "v1alpha1": (
        with_groups(upstream("8.1.0", groups=True)), {"group_snapshots": True},
        {"alpha-dropped", "stored-at-v1beta1"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", GUARDS)
def test_a_hazard_guards_the_next_release_like_the_last_one(case: str) -> None:
    start, given, guards = GUARDS[case]
    for target in (LAST, NEXT):
        assert guards <= found(planned(start, target, **given)), target


def test_lists_at_v1beta1_need_the_hop_that_converts_them() -> None:
    plan = planned(V1BETA1, NEXT)
    assert [str(hop.release) for hop in plan.hops] == [CONVERTS, NEXT]
    assert plan.refused == ()


def test_objects_are_stored_at_a_version_that_the_next_release_has() -> None:
    """The webhook converts to v1beta2. Without it, the objects are stored at the version of the new CRDs."""
    (hop,) = planned(V1BETA2, NEXT).hops
    versions = [
        step.action.parameters()["version"]
        for step in hop.steps
        if step.action.action_name == "migrate_storage"
    ]
    assert set(versions) == {"v1beta2"}
    assert ids(planned(V1BETA2, NEXT)).index("rewrite-volumegroupsnapshotcontents-v1beta2") < ids(
        planned(V1BETA2, NEXT)
    ).index("group-crds")
    plain = with_stored(upstream("8.3.0", groups=True), "v1beta1")
    (hop,) = planned(plain, NEXT).hops
    assert {
        step.action.parameters()["version"]
        for step in hop.steps
        if step.action.action_name == "migrate_storage"
    } == {"v1"}


def test_the_predicted_state_stores_nothing_at_v1beta1() -> None:
    (hop,) = planned(V1BETA2, NEXT).hops
    after = state_after(hop.context)
    assert {after.crds[name].stored_versions for name in GROUP_CRDS} == {("v1beta2", "v1")}
    assert after.crds[GROUP_CONTENTS].conversion.strategy == "None"


def test_the_next_release_has_no_validation_webhook_to_lose() -> None:
    """A downgrade to a release with the webhook restores it."""
    start = changed(ours(NEXT), "controller", version=(99, 0, 0))
    assert "validation-webhook" not in str(planned(start, LAST).hops[0].steps)
    assert "webhook-deployment" in ids(planned(start, "8.1.1"))
