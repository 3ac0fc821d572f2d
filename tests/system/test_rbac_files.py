# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Grant the roles of docs/rbac on real API servers with kubectl, as the guide about permissions does."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from tests.support import clusters, guide_commands, pages, rbac

if TYPE_CHECKING:
    from tests.support.clusters import Cluster, Fleet

GUIDE = rbac.FILES.parents[1] / "docs" / "docsite" / "rst" / "guide_permissions.rst"
SUBJECT = {"kind": "ServiceAccount", "name": "certflow", "namespace": "automation"}


def test_kustomize_builds_every_role(cluster: Cluster) -> None:
    kubectl = clusters.programs() / "kubectl"
    built = subprocess.run(
        [kubectl, "kustomize", rbac.FILES], capture_output=True, text=True, check=True
    ).stdout
    files = [path for path in rbac.FILES.glob("*.yaml") if path.stem != "kustomization"]
    expected = {json.dumps(yaml.safe_load(path.read_text()), sort_keys=True) for path in files}
    assert {json.dumps(role, sort_keys=True) for role in yaml.safe_load_all(built)} == expected
    dry_run = ["apply", "--dry-run=server", "-k", str(rbac.FILES)]
    command = [str(kubectl), f"--kubeconfig={cluster.kubeconfig}", *dry_run]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.count("\n") == len(
        files
    )


def test_the_commands_of_the_guide_grant_the_roles_on_every_cluster(fleet: Fleet, tmp_path: Path) -> None:
    """A second run changes nothing."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "rbac").symlink_to(rbac.FILES)
    guide_commands.lay_out(GUIDE, tmp_path)
    (command,) = [text for kind, text in pages.blocks(GUIDE) if kind == "console" and "bindings.yml" in text]
    try:
        guide_commands.shell(fleet.merged_kubeconfig, tmp_path, command)
        for cluster in fleet.values():
            binding = cluster.api("GET", f"{rbac.RBAC}/clusterrolebindings/certflow-approve")
            assert binding["subjects"] == [SUBJECT]
        again = guide_commands.shell(fleet.merged_kubeconfig, tmp_path, command)
        assert again.count("unchanged") == again.count("\n")
    finally:
        removal = command.replace("apply -k", "delete --ignore-not-found -k").replace(
            "apply -f", "delete --ignore-not-found -f"
        )
        guide_commands.shell(fleet.merged_kubeconfig, tmp_path, removal)
