# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The upgrade playbook and the inventory plugin on seven hosts, four of them clusters with nodes."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.support import clusters
from tests.support.failures import absent
from tests.support.fleet.fleet_files import BY_HELM, DEPLOYMENTS, kubeconfig
from tests.support.playbooks import playbook
from tests.support.upgrade import snapshot_lab
from tests.support.upgrade.snapshot_rig import release_server

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.full
UPGRADE = Path("certflow.kubernetes.upgrade")
TARGET = "8.7.0"
# Cluster -> its release before, "" for none. A node uses about 17 of the 128 inotify instances that Linux
# allows for a user.
NODES = {"onprem-1": "7.0.2", "onprem-2": "4.2.1", "eks-1": "", "eks-2": "6.2.2"}
OTHERS = {"helm": "refused", "canary": "refused", "dead": "unreachable"}


@pytest.fixture(scope="module")
def seven() -> Iterator[clusters.Fleet]:
    reason = clusters.why_no_node()
    if reason:
        pytest.skip(reason)
    wanted = {name: f"{name.partition('-')[0]}-node" for name in NODES} | {
        "helm": "onprem",
        "canary": "onprem",
    }
    with clusters.running(wanted) as fleet:
        for name, release in NODES.items():
            snapshot_lab.load_images(fleet[name], TARGET)
            if release:
                snapshot_lab.install(fleet[name], release)
        fleet["helm"].api("POST", DEPLOYMENTS.format("kube-system"), BY_HELM)
        yield fleet


def release_of(cluster: clusters.Cluster) -> str:
    containers = cluster.api("GET", snapshot_lab.CONTROLLER)["spec"]["template"]["spec"]["containers"]
    return str(containers[0]["image"].rpartition(":v")[2])


def test_an_upgrade_of_seven_hosts(seven: clusters.Fleet, tmp_path: Path) -> None:
    """First the canary is refused and ends the run.

    Then the run ignores failures, which are in both stages. It makes a plan. A run with another registry is refused by each cluster,
    and a run with the plan carries it out.
    """
    (tmp_path / "host_vars").mkdir()
    another = {"snapshot_controller_cluster_uid": str(uuid.uuid4())}
    (tmp_path / "host_vars" / "canary.yml").write_text(yaml.safe_dump(another))
    (tmp_path / "clusters.yml").write_text("plugin: certflow.kubernetes.kubeconfig\nkubeconfig: kubeconfig\n")

    def run(order: list[str], *words: str, **variables: Any) -> tuple[playbook.PlaybookRun, dict[str, str]]:
        parts = {host: seven.get(host, seven["helm"]).kubeconfig for host in order}
        (tmp_path / "kubeconfig").write_text(yaml.safe_dump(kubeconfig(parts)))
        common: dict[str, Any] = {"snapshot_controller_version": TARGET, "certflow_report": "report.json"}
        common |= {"snapshot_controller_source": source, "snapshot_controller_accept": ["kubectl"]}
        common |= {"snapshot_controller_controller": {"spec": {"minReadySeconds": 3}}}
        arguments = ("-i", "clusters.yml", "-e", json.dumps({**common, **variables}), *words)
        done = playbook.play(tmp_path, UPGRADE, *arguments, HOME=str(tmp_path))
        written = json.loads((tmp_path / "report.json").read_text())["clusters"]
        return done, {entry["name"]: entry["status"] for entry in written}

    with release_server(TARGET) as source:
        stopped, statuses = run(["canary", *NODES, "helm", "dead"])
        assert statuses == dict.fromkeys([*NODES, "helm", "dead"], "not started") | {"canary": "refused"}, (
            stopped.output
        )
        assert release_of(seven["onprem-1"]) == "7.0.2"
        order = ["onprem-1", "helm", "eks-1", "dead", "onprem-2", "eks-2", "canary"]
        stages = [
            {"name": "first", "hosts": "onprem-1:helm:eks-1", "max_concurrency": 3},
            {"name": "all", "hosts": "rest", "max_concurrency": 3},
        ]
        given: dict[str, Any] = {"certflow_stages": stages, "certflow_max_failures": 3}
        planned, statuses = run(order, "--check", **given)
        assert statuses == dict.fromkeys(NODES, "planned") | OTHERS, planned.output
        (tmp_path / "report.json").rename(tmp_path / "plan.json")
        given["certflow_plan"] = str(tmp_path / "plan.json")
        other, statuses = run(order, **given, snapshot_controller_image_registry="registry.example.com")
        assert statuses == dict.fromkeys(order, "plan-differs"), other.output
        assert not absent(["image_registry"], other.output)
        assert release_of(seven["onprem-1"]) == "7.0.2"
        done, statuses = run(order, **given)
        assert statuses == dict.fromkeys(NODES, "changed") | dict.fromkeys(OTHERS, "plan-differs"), (
            done.output
        )
        assert {name: release_of(seven[name]) for name in NODES} == dict.fromkeys(NODES, TARGET)
        assert done.recap("failed") == len(OTHERS), done.output
