# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Repairs of broken webhooks on a real control plane, with the answer of the API server before and after."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.bundle_rig import pem
from tests.support.repair_rig import RepairRig, states

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.clusters import Fleet


@pytest.fixture(scope="module")
def rig(fleet: Fleet) -> Iterator[RepairRig]:
    rig = RepairRig(fleet["onprem"])
    rig.publish(pem("other") + pem("good"))
    try:
        yield rig
    finally:
        rig.close()


def test_a_stale_bundle_gets_the_published_ca(rig: RepairRig) -> None:
    name = rig.broken("stale")
    assert "certificate signed by unknown authority" in rig.ask("stale")
    plan = rig.repair(check_mode=True)
    assert states(plan, name) == [("ca-mismatch", "planned", "")]
    assert rig.writes() == []
    result = rig.repair(approved_plan=plan["plan_digests"])
    assert states(result, name) == [("ca-mismatch", "repaired", "")], result
    assert rig.writes() == [("patch", "validatingwebhookconfigurations")]
    assert rig.ask("stale") == "accepted"
    again = rig.repair()
    assert (again["changed"], states(again, name)) == (False, [])
