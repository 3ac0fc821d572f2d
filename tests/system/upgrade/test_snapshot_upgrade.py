# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run the role snapshot_controller from release to release with the real programs in pods, on both kinds of
clusters.

`make upgrades` runs every jump, chain, fault, repair and kill, and writes reference_upgrades.rst.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.support import clusters
from tests.support.clusters import build
from tests.support.upgrade import snapshot_lab
from tests.support.upgrade.snapshot_load import SnapshotLoad
from tests.support.waiting import wait_for
from tests.system.upgrade.rows import faults, jumps, lab
from tests.system.upgrade.rows.lab import UpgradePath

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.system.upgrade.rows.lab import Lab

    Say = Callable[[str], None]


@pytest.fixture(scope="module")
def rig() -> Iterator[Lab]:
    reason = clusters.why_no_node()
    if reason:
        pytest.skip(reason)
    with lab.running() as rig:
        yield rig


@pytest.fixture
def emptied(rig: Lab) -> Iterator[Lab]:
    yield rig
    rig.empty()


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """Print figures even if the test passes."""

    def said(text: str) -> None:
        with capsys.disabled():
            print(f"\n{text}", end="")

    return said


def test_one_run_from_the_oldest_to_the_newest_release(emptied: Lab, say: Say) -> None:
    """No release between them is needed on either kind of cluster, because no stored object needs one."""
    assert {entry.hops for entry in jumps.go(emptied, jumps.JUMPS[0], say)} == {("8.7.0",)}


# Three steps between 8.1.0 and 8.7.0: before the rules, the controller and the webhook are deleted.
KILLED_AT = ("configurations-delete", "controller", "validation-clean")


@pytest.mark.full
def test_the_webhook_is_removed_although_runs_are_killed(emptied: Lab, say: Say) -> None:
    upgrade = UpgradePath(emptied, "8.1.0", jumps.ONE, say)
    upgrade.to("8.7.0", killed_at=[faults.kill_at(step) for step in KILLED_AT])


@pytest.mark.full
def test_the_load_detects_a_careless_upgrade(emptied: Lab, say: Say) -> None:
    """After kubectl apply of 7.0.2 over 6.2.2 the Service has no pods.

    Fail then refuses everything, and Ignore accepts everything.
    """
    UpgradePath(emptied, "6.2.2", jumps.BOTH, say)
    deploy, _crds = build.snapshot_manifests("7.0.2")
    for name, policy in jumps.BOTH.items():
        cluster = emptied.fleet[name]
        with SnapshotLoad(cluster, "7.0.2") as load:
            time.sleep(2)
            begun = time.time()
            with pytest.raises(AssertionError, match="field is immutable"):
                snapshot_lab.kubectl(cluster, "apply", "-f", str(deploy / "webhook-example" / "webhook.yaml"))
            old = snapshot_lab.era("6.2.2").deployment
            snapshot_lab.kubectl(cluster, "rollout", "restart", f"deployment/{old}")
            wait_for(lambda: load.wrong() or load.accepted(), seconds=60)
        say(f"{name}, {policy}: careless\n{load.table([(begun, 'kubectl')])}\n")
        assert bool(load.wrong()) == (policy == "Fail")
        assert bool(load.accepted()) == (policy == "Ignore")
        assert all(answer.at >= begun for answer in (*load.wrong(), *load.accepted()))
