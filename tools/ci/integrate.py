# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`python -m tools.ci.integrate COLLECTION [TARGET...]` runs ansible-test integration on new clusters.

COLLECTION is a copy of the collection in a folder ansible_collections/certflow/kubernetes. This program writes its
integration_config.yml.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from examples.demo import objects
from tests.support import clusters
from tests.support.upgrade import snapshot_lab, snapshot_rig
from tests.support.webhooks import team_labels

# The releases of external-snapshotter in the targets, and those that targets install with pods.
SNAPSHOT_RELEASES = ("7.0.2", "8.1.0", "8.3.0", "8.4.0", "8.7.0")
SNAPSHOT_IMAGES = ("8.1.0", "8.7.0")
# The cluster with a node, which only root can start.
NODE = "node"
CONFIG = Path("tests/integration/integration_config.yml")
# ansible-test finds the collection by the working directory, and accepts no other path.
_NOT_PASSED = ("PYTHONPATH", "ANSIBLE_")


def profiles(targets: Sequence[str]) -> dict[str, str]:
    """Return the profiles of the clusters by name. Say why a cluster is missing. targets: none for all targets.

    Only targets of the snapshot controller need pods, whose programs take minutes to build.
    """
    always = {"onprem": "onprem", "eks": "eks"}
    if targets and not any("snapshot" in target for target in targets):
        return always
    reason = clusters.why_no_node()
    if reason:
        print(f"Targets that need pods are skipped, because {reason}.", flush=True)
    return always | ({} if reason else {NODE: "onprem-node"})


def configuration(fleet: clusters.Fleet, snapshots: str) -> dict[str, str | bool]:
    """Return the values of integration_config.yml.template."""
    has_node = NODE in fleet
    return {
        "integration_kubeconfig": str(fleet.merged_kubeconfig),
        "integration_context": "onprem",
        "integration_eks_context": "eks",
        "integration_kubectl": str(clusters.programs() / "kubectl"),
        "integration_webhook": objects.WEBHOOK,
        "integration_webhook_namespace": objects.NAMESPACE,
        "integration_snapshot_source": snapshots,
        "integration_snapshot_context": NODE if has_node else "onprem",
        "integration_snapshot_pods": has_node,
    }


def run(collection: Path, targets: Sequence[str], values: Mapping[str, str | bool]) -> int:
    """Return the exit code of ansible-test. values: of integration_config.yml."""
    # ansible-test keeps a cache in the home directory, and Ansible its temporary files.
    home = collection.parents[2] / "home"
    home.mkdir(exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_PASSED)}
    program = Path(sys.executable).with_name("ansible-test")
    command = [str(program), "integration", "--color", "no", "--continue-on-error", *targets]
    (collection / CONFIG).write_text(yaml.safe_dump(dict(values)))
    return subprocess.run(command, cwd=collection, env={**kept, "HOME": str(home)}, check=False).returncode


def main(arguments: list[str]) -> int:
    """Return the exit code of ansible-test."""
    with (
        clusters.running(profiles(arguments[1:])) as fleet,
        contextlib.closing(team_labels.start(fleet["onprem"])),
        snapshot_rig.release_server(*SNAPSHOT_RELEASES) as snapshots,
    ):
        for release in SNAPSHOT_IMAGES if NODE in fleet else ():
            snapshot_lab.load_images(fleet[NODE], release)
        return run(Path(arguments[0]), arguments[1:], configuration(fleet, snapshots))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
