# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`python -m tests.integrate COLLECTION [TARGET...]` runs ansible-test integration on two new clusters.

COLLECTION is a copy of the collection in a folder ansible_collections/certflow/kubernetes. Its integration_config.yml is
written here.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import yaml

from tests import clusters
from tests.demo import objects
from tests.real import team_labels

CONFIG = Path("tests/integration/integration_config.yml")
# ansible-test finds the collection by the working directory, and refuses to be told another one.
_NOT_PASSED = ("PYTHONPATH", "ANSIBLE_")


def configuration(fleet: clusters.Fleet) -> dict[str, str]:
    """Return what integration_config.yml.template describes."""
    return {
        "integration_kubeconfig": str(fleet.merged_kubeconfig),
        "integration_context": "onprem",
        "integration_eks_context": "eks",
        "integration_kubectl": str(clusters.programs() / "kubectl"),
        "integration_webhook": objects.WEBHOOK,
        "integration_webhook_namespace": objects.NAMESPACE,
        "integration_snapshot_source": str(clusters.snapshotter_dir()),
    }


def main(arguments: list[str]) -> int:
    """Return the exit code of ansible-test."""
    collection, targets = Path(arguments[0]), arguments[1:]
    # ansible-test keeps a cache in the home directory, and Ansible its temporary files.
    home = collection.parents[2] / "home"
    home.mkdir(exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_PASSED)}
    program = Path(sys.executable).with_name("ansible-test")
    command = [str(program), "integration", "--color", "no", *targets]
    with (
        clusters.running({"onprem": "onprem", "eks": "eks"}) as fleet,
        contextlib.closing(team_labels.start(fleet["onprem"])),
    ):
        (collection / CONFIG).write_text(yaml.safe_dump(configuration(fleet)))
        return subprocess.run(
            command, cwd=collection, env={**kept, "HOME": str(home)}, check=False
        ).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
