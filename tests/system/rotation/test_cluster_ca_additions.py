# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The phase that adds the successor, with default options and the documented permissions, for what an audit cannot see."""

from __future__ import annotations

import contextlib
import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations import webhook_repair

from tests.support import clusters
from tests.support.operations import operate
from tests.support.permissions import rbac
from tests.support.rotation.rotation_rig import RotationRig
from tests.support.waiting import wait_for
from tests.support.webhooks.repair_rig import of
from tests.support.world import Shape, shapes

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The default of proof_after is 60 seconds.
SOON = 45
CALLED = (
    Shape("url", reached=shapes.BY_URL),
    Shape("slice", reached=shapes.BY_SLICE),
    Shape("external", reached=shapes.BY_NAME),
    Shape("unseen"),
    Shape("mutating", kind=shapes.MUTATING),
    Shape("conversion", kind=shapes.CONVERSION),
    Shape("api", kind=shapes.AGGREGATED),
)
IDLE = (
    (Shape("nowhere", reached=shapes.NOWHERE), 40),
    (Shape("unready", endpoints=(shapes.NOT_READY,)), 1),
    (Shape("unreachable", endpoints=(shapes.UNREACHABLE,)), 1),
    (Shape("scaled", endpoints=()), 1),
)


@pytest.fixture(scope="module")
def rig() -> Iterator[RotationRig]:
    with (
        clusters.running({"additions": "local-services"}) as fleet,
        contextlib.closing(RotationRig(fleet["additions"])) as rig,
    ):
        yield rig


def prepare(rig: RotationRig, *roles: dict[str, Any]) -> dict[str, Any]:
    """Run the phase with default options, as a user with these roles."""
    user = f"limited-{uuid.uuid4().hex[:8]}"
    rbac.grant(rig.cluster, user, *roles, rbac.documented("repair"))
    kubeconfig = str(rig.cluster.kubeconfig_for(user))
    return operate(webhook_repair.OPERATION, {"kubeconfig": kubeconfig, "kinds": ["add-successor"]})


def proofs(result: dict[str, Any], name: str) -> list[tuple[str, str]]:
    return [(entry["state"], entry["proof"]) for entry in of(result, name)]


def test_every_shape_gets_the_successor_and_keeps_it(rig: RotationRig) -> None:
    """The identity lacks the rule of the audit for port-forwards, which is optional. Nothing waits, because the field is the proof."""
    audit = rbac.documented("audit")
    audit["rules"] = [rule for rule in audit["rules"] if "pods/portforward" not in rule.get("resources", ())]
    called = [rig.one(shape) for shape in CALLED]
    every = called + [program for shape, copies in IDLE for program in rig.create(shape, copies)]
    for program in called:
        wait_for(program.is_called, evidence=program.call)
    rig.rotation.publish()
    with rig.calling(*called) as calls:
        started = time.monotonic()
        result = prepare(rig, audit)
        assert time.monotonic() - started < SOON
        assert "failed" not in result, result
        shown = {program.name: proofs(result, program.full_name) for program in every}
        assert shown == {program.name: [("repaired", "field")] for program in every}
        assert result["left"]["count"] == 0
        assert prepare(rig, audit)["changed"] is False
        assert all(program.trusts(rig.old) and program.trusts(rig.new) for program in every)
        rig.rotation.switch()
        for program in called:
            program.issue(rig.new)
        calls.wait_for_more()
    assert calls.failures == {}
