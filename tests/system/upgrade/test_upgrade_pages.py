# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The commands of the role's page about an upgrade, run as printed, and the examples of the module.

Substitutions: the manifests come from a server on this machine instead of GitHub, the images are on the node, and the
controller has one pod that counts as available after a second.
"""

from __future__ import annotations

import json
import shlex
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import clusters
from tests.support.pages import page_files
from tests.support.playbooks import playbook
from tests.support.upgrade import snapshot_kept, snapshot_lab
from tests.support.upgrade.snapshot_rig import release_server
from tools.ci.venvs import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.clusters import Cluster
    from tests.support.playbooks.playbook import PlaybookRun

ROLE_PAGE = REPOSITORY / "roles" / "snapshot_controller" / "README.md"
READING = ("--tags plan", "--check")
RELEASE = "8.7.0"
INVENTORY = """\
clusters:
  hosts:
    onprem:
    eks:
  vars:
    ansible_connection: local
    ansible_python_interpreter: "{{ ansible_playbook_python }}"
"""
DEPLOYMENTS = "/apis/apps/v1/deployments"


class Reader:
    """A reader who has the files of a page in a directory below a home with the kubeconfig."""

    def __init__(self, directory: Path, kubeconfig: Path, source: str) -> None:
        self.directory = directory
        (directory / ".kube").mkdir(parents=True)
        shutil.copy(kubeconfig, directory / ".kube" / "fleet.yml")
        (directory / "inventory.yml").write_text(INVENTORY)
        self.substituted = {
            "snapshot_controller_source": source,
            "snapshot_controller_controller": {"spec": {"replicas": 1, "minReadySeconds": 1}},
        }

    def runs(self, command: str, *words: str) -> PlaybookRun:
        """Run a command of the page."""
        (self.directory / "upgrade.yml").write_text(page_files.files(ROLE_PAGE)["upgrade.yml"])
        given = [word for word in shlex.split(command)[1:] if word != "upgrade.yml"]
        extra = ("-e", json.dumps(self.substituted), *words)
        return playbook.play(
            self.directory, self.directory / "upgrade.yml", *given, *extra, HOME=str(self.directory)
        )


def commands() -> list[str]:
    return [line for line in page_files.commands(ROLE_PAGE) if "upgrade.yml" in line]


@pytest.fixture(scope="module")
def source() -> Iterator[str]:
    with release_server(RELEASE) as source:
        yield source


def test_the_commands_that_only_read_run_as_printed(
    fleet: clusters.Fleet, source: str, tmp_path: Path
) -> None:
    reader = Reader(tmp_path / "home", fleet.merged_kubeconfig, source)
    shown = [line for line in commands() if any(words in line for words in READING)]
    assert len(shown) == 2, shown
    for command in shown:
        run = reader.runs(command)
        assert run.status == 0, run.output
        assert run.recap("changed") == (len(fleet) if "--check" in command else 0), run.output
    for cluster in fleet.values():
        assert _controllers(cluster) == []


@pytest.fixture
def reader(node: Cluster, source: str, tmp_path: Path) -> Iterator[Reader]:
    """A reader with one cluster, which has a node and no snapshot controller. Its context has a name of the inventory."""
    snapshot_lab.load_images(node, RELEASE)
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(node.kubeconfig.read_text())
    snapshot_lab.kubectl(node, "config", f"--kubeconfig={kubeconfig}", "rename-context", node.name, "onprem")
    yield Reader(tmp_path / "home", kubeconfig, source)
    snapshot_kept.remove(node)


@pytest.mark.full
def test_the_commands_upgrade_as_printed(node: Cluster, reader: Reader) -> None:
    """The commands of the role's page install and verify the release."""
    changed = {}
    for command in [*commands(), *_arguments()]:
        run = reader.runs(command, "--limit", "onprem")
        assert run.status == 0, run.output
        changed[command.rpartition("upgrade.yml")[2].strip()] = run.recap("changed")
    verified = "-e snapshot_controller_state=verified"
    assert changed == {"--tags plan": 0, "--check --diff": 1, "": 1, "--tags verify": 0, verified: 0}
    assert _controllers(node) == [f"{snapshot_lab.REGISTRY}/snapshot-controller:v{RELEASE}"]
    _examples_run(node, reader)


def _examples_run(node: Cluster, reader: Reader) -> None:
    """The cluster has the release, so the examples find nothing due, and verify it.

    The node has no image of the mirror, so that example runs in check mode, which tries its writes by dry runs.
    """
    tasks = page_files.examples("snapshot_controller")
    for task in tasks:
        arguments = task["certflow.kubernetes.snapshot_controller"]
        arguments["source"] = reader.substituted["snapshot_controller_source"]
        arguments.setdefault("controller", reader.substituted["snapshot_controller_controller"])
        task["check_mode"] = "image_registry" in arguments
    play: dict[str, Any] = {"hosts": "localhost", "gather_facts": False, "tasks": tasks}
    run = playbook.play(
        reader.directory, [play], HOME=str(reader.directory), K8S_AUTH_KUBECONFIG=str(node.kubeconfig)
    )
    assert run.status == 0, run.output
    mirrored = sum(task["check_mode"] for task in tasks)
    assert (run.recap("ok"), run.recap("changed"), mirrored) == (len(tasks), mirrored, 1), run.output


def _arguments() -> list[str]:
    """Return commands with the arguments of the page's table that the printed commands do not have."""
    return [
        f"upgrade.yml {line.split('`')[1]}"
        for line in ROLE_PAGE.read_text().splitlines()
        if line.startswith("| `-e ")
    ]


def _controllers(cluster: Cluster) -> list[str]:
    """Return the images of the snapshot controllers."""
    found = cluster.api("GET", DEPLOYMENTS)["items"]
    images = [entry["spec"]["template"]["spec"]["containers"][0]["image"] for entry in found]
    return [image for image in images if "snapshot-controller" in image]
