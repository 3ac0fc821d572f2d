# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The soak of a fleet run, with a webhook in pods: it is well, it dies during the soak, and the run is killed during the soak."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.support.fleet.fleet_files import kubeconfig
from tests.support.fleet.wide_fleet import CERTIFICATES
from tests.support.playbooks import playbook
from tests.support.waiting import wait_for
from tests.support.webhooks import node_webhook
from tests.support.webhooks.node_webhook import NodeWebhook

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.clusters import Cluster

CANARY, OTHER = "soak-canary", "soak-other"
MERGE_PATCH = "application/merge-patch+json"


class SoakRig:
    """Two hosts on one cluster. Each has a webhook in pods, and the first one is the canary."""

    def __init__(self, node: Cluster, directory: Path) -> None:
        self.node, self.directory = node, directory
        self.webhooks = {name: NodeWebhook(name, name) for name in (CANARY, OTHER)}
        for webhook in self.webhooks.values():
            node_webhook.deploy(node, webhook)
            node_webhook.configure(node, webhook)
        self._dump("kubeconfig", kubeconfig(dict.fromkeys(self.webhooks, node.kubeconfig)))
        variables = {
            "certflow_kubeconfig": str(directory / "kubeconfig"),
            "certflow_context": "{{ inventory_hostname }}",
            "certflow_allow_shared_cluster": True,
            "webhook_certificate_service": "{{ inventory_hostname }}",
            "webhook_certificate_namespace": "{{ inventory_hostname }}",
            "webhook_certificate_secret": {"name": "{{ inventory_hostname }}"},
            "webhook_certificate_signer_name": "ephemeral-ca",
            "webhook_certificate_targets": [
                {"kind": "ValidatingWebhookConfiguration", "name": "{{ inventory_hostname }}"}
            ],
        }
        members: dict[str, dict[str, Any]] = {name: {} for name in self.webhooks}
        self._dump("hosts.yml", {"clusters": {"hosts": members, "vars": variables}})

    def close(self) -> None:
        for webhook in self.webhooks.values():
            node_webhook.remove(self.node, webhook)

    def _dump(self, name: str, content: Any) -> None:
        (self.directory / name).write_text(yaml.safe_dump(content, sort_keys=False))

    def run(
        self, soak: str, during: Callable[[subprocess.Popen[str]], None] | None = None
    ) -> tuple[int, str]:
        """Run the playbook, and return its status and its output.

        soak: of the canary.
        during: called with the process once the soak has begun.
        """
        stages = [{"name": "canary", "hosts": CANARY, "soak": soak}, {"name": "all", "hosts": "rest"}]
        given = {
            "certflow_stages": stages,
            "certflow_report": str(self.directory / "report.json"),
            "certflow_run_file": str(self.directory / "run.jsonl"),
        }
        (self.directory / "run.jsonl").unlink(missing_ok=True)
        process = subprocess.Popen(
            playbook.command(self.directory, CERTIFICATES, "-i", "hosts.yml", "-e", json.dumps(given)),
            cwd=self.directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        if during:
            wait_for(self._soaks)
            during(process)
        output = process.communicate()[0]
        return process.returncode, output

    def _soaks(self) -> bool:
        path = self.directory / "run.jsonl"
        return path.exists() and "soak-started" in path.read_text()

    def statuses(self) -> list[str]:
        """Return the status of the canary and of the other host in the report."""
        report = json.loads((self.directory / "report.json").read_text())
        return [row["status"] for row in report["clusters"]]

    def scale(self, replicas: int) -> None:
        path = self.webhooks[CANARY].deployment_path
        self.node.api("PATCH", path, {"spec": {"replicas": replicas}}, MERGE_PATCH)


@pytest.fixture(scope="module")
def rig(node: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoakRig]:
    made = SoakRig(node, tmp_path_factory.mktemp("soak"))
    yield made
    made.close()


def test_the_soak_of_a_webhook(rig: SoakRig) -> None:
    """A kill during the soak loses nothing. A webhook that is well passes. One that dies during the soak stops the run."""
    rig.run("300s", playbook.kill)
    assert rig.statuses() == ["changed", "not started"]
    node_webhook.wait_until_ready(rig.node, rig.webhooks[CANARY])

    status, output = rig.run("2s")
    assert (status, rig.statuses()) == (0, ["ok", "changed"]), output

    status, output = rig.run("15s", lambda _process: rig.scale(0))
    assert (status, rig.statuses()) == (2, ["failed", "not started"]), output
    report = json.loads((rig.directory / "report.json").read_text())
    assert report["clusters"][0]["code"] == "verification-failed", output
