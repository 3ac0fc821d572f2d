# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbook cluster_ca on a fleet of ten clusters that are in different states, which is killed and continued.

Substitution: the six clusters with nothing to do are six contexts of one control plane, which no host writes to. Each other cluster
is a control plane of its own.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.support import clusters
from tests.support.fleet.fleet_files import kubeconfig
from tests.support.playbooks import playbook
from tests.support.rotation.rotation_rig import RotationRig
from tests.support.waiting import wait_for
from tests.support.world import Shape

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.clusters import Fleet

CLUSTER_CA = Path("certflow.kubernetes.cluster_ca")
PUBLISHED = ("published-1", "published-2")
SWITCHED, DEAD = "switched", "dead"
WELL = tuple(f"well-{number}" for number in range(1, 7))
#: The hosts in the order of the run.
HOSTS = (*PUBLISHED, SWITCHED, DEAD, *WELL)
ROTATING = HOSTS[:3]
FAILED_STATUS = 2
OPTIONS = {
    "certflow_allow_shared_cluster": True,
    "certflow_max_failures": 1,
    "certflow_stages": [{"name": "all", "hosts": "rest", "max_concurrency": 1}],
    "certflow_cluster_ca": {"confirmed": True},
    "certflow_repair_options": {"proof_after": 1, "wait_timeout": 30},
}


class Ten:
    """The fleet. Each cluster in a rotation has a webhook whose caBundle lacks the successor."""

    def __init__(self, rigs: dict[str, RotationRig], well: Path, directory: Path) -> None:
        self.directory, self.rigs = directory, rigs
        self.hooks = {host: rig.one(Shape("program")) for host, rig in rigs.items()}
        parts = dict.fromkeys((DEAD, *WELL), well)
        for host, rig in rigs.items():
            rig.rotation.publish()
            parts[host] = directory / f"kubeconfig-{host}"
            parts[host].write_text(yaml.safe_dump(rig.trust()))
        rigs[SWITCHED].rotation.switch()
        self.hooks[SWITCHED].issue(rigs[SWITCHED].new)
        (directory / "kubeconfig").write_text(
            yaml.safe_dump(kubeconfig({host: parts[host] for host in HOSTS}))
        )
        inventory = {"plugin": "certflow.kubernetes.kubeconfig", "kubeconfig": "kubeconfig"}
        (directory / "clusters.yml").write_text(yaml.safe_dump(inventory))

    def arguments(self, report: str, **variables: Any) -> tuple[str, ...]:
        files = {
            "certflow_report": str(self.directory / report),
            "certflow_run_file": str(self.directory / "run.jsonl"),
        }
        return ("-i", "clusters.yml", "-e", json.dumps({**OPTIONS, **files, **variables}))

    def run(self, report: str, **variables: Any) -> tuple[int, dict[str, str]]:
        """Run the playbook on all hosts. Return its exit status, and the status of each host."""
        run = playbook.play(self.directory, CLUSTER_CA, *self.arguments(report, **variables))
        print(run.output)
        return run.status, {host: row["status"] for host, row in self.rows(report).items()}

    def rows(self, report: str) -> dict[str, dict[str, Any]]:
        return {row["name"]: row for row in json.loads((self.directory / report).read_text())["clusters"]}

    def trust(self) -> dict[str, tuple[bool, bool]]:
        """Return for each cluster in a rotation if its webhook's caBundle has the outgoing CA, and if it has the successor."""
        return {
            host: (hook.trusts(self.rigs[host].old), hook.trusts(self.rigs[host].new))
            for host, hook in self.hooks.items()
        }


@pytest.fixture
def ten(fleet: Fleet, tmp_path: Path) -> Iterator[Ten]:
    with clusters.running(dict.fromkeys(ROTATING, "local-services")) as rotating:
        rigs = {host: RotationRig(cluster) for host, cluster in rotating.items()}
        try:
            yield Ten(rigs, fleet["onprem"].kubeconfig, tmp_path)
        finally:
            for rig in rigs.values():
                rig.close()


@pytest.mark.full
def test_ten_clusters_in_one_command_that_is_killed_after_the_third(ten: Ten) -> None:
    """The outcome of each cluster fits its own state. The next run completes the killed run, and only the dead cluster fails."""
    wait_for(lambda: not ten.hooks[SWITCHED].is_called())
    shown = playbook.play_until(ten.directory, CLUSTER_CA, "[3/10]", *ten.arguments("killed.json"))
    assert ten.trust() == dict.fromkeys(ROTATING, (True, True)), shown
    killed = {host: row["status"] for host, row in ten.rows("killed.json").items()}
    # The run writes its report at intervals, so a killed run may leave an earlier report. A report never has a false outcome.
    for host, status in killed.items():
        assert status in (
            {"changed", "started", "not started"} if host in ROTATING else {"started", "not started"}
        )

    nothing = dict.fromkeys(WELL, "ok")
    rest = {DEAD: "unreachable", **nothing}
    assert ten.run("prepare.json") == (FAILED_STATUS, {**dict.fromkeys(ROTATING, "ok"), **rest})
    for hook in ten.hooks.values():
        wait_for(hook.is_called)

    waiting = dict.fromkeys(ROTATING, "waiting")
    assert ten.run("finish.json", certflow_ca_phase="finish") == (FAILED_STATUS, {**waiting, **rest})
    rows = ten.rows("finish.json")
    codes = {host: {repair["code"] for repair in rows[host]["repairs"]} for host in ROTATING}
    assert codes == {**{host: {"not-switched"} for host in PUBLISHED}, SWITCHED: {"not-settled"}}
    assert ten.trust() == dict.fromkeys(ROTATING, (True, True))
