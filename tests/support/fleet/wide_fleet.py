# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Many hosts over few control planes. Each host has a Secret of its own, which tells what the run did to the host."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tests.support.fleet.fleet_files import kubeconfig
from tests.support.playbooks import playbook

if TYPE_CHECKING:
    from tests.support.clusters import Fleet
    from tests.support.playbooks.playbook import PlaybookRun

CERTIFICATES = Path("certflow.kubernetes.certificates")
#: A namespace that does not exist, so that the host fails.
FAILING = {"webhook_certificate_namespace": "absent"}


class WideFleet:
    """An inventory of hosts, and a namespace on both control planes."""

    def __init__(self, fleet: Fleet, directory: Path) -> None:
        self.fleet = fleet
        self.directory = directory
        self.name = f"wide-{uuid.uuid4().hex[:8]}"
        for cluster in fleet.values():
            cluster.api("POST", "/api/v1/namespaces", {"metadata": {"name": self.name}})

    def close(self) -> None:
        for cluster in self.fleet.values():
            cluster.api("DELETE", f"/api/v1/namespaces/{self.name}")

    def write(self, hosts: Sequence[str], variables: Mapping[str, Mapping[str, Any]] = {}) -> None:
        """Write the kubeconfig, the inventory with these hosts in their order, and the variables of some of them."""
        names = list(self.fleet)
        parts = {host: self.fleet[names[number % len(names)]].kubeconfig for number, host in enumerate(hosts)}
        self._dump("kubeconfig", kubeconfig(parts))
        group_vars = {
            "certflow_kubeconfig": str(self.directory / "kubeconfig"),
            "certflow_context": "{{ inventory_hostname }}",
            "certflow_allow_shared_cluster": True,
            "webhook_certificate_service": "{{ inventory_hostname }}",
            "webhook_certificate_namespace": self.name,
            "webhook_certificate_secret": {"name": "{{ inventory_hostname }}"},
            "webhook_certificate_signer_name": "ephemeral-ca",
        }
        members = {host: dict(variables.get(host, {})) for host in hosts}
        self._dump("hosts.yml", {"clusters": {"hosts": members, "vars": group_vars}})

    def _dump(self, name: str, content: Any) -> None:
        (self.directory / name).write_text(yaml.safe_dump(content, sort_keys=False))

    def arguments(self, *arguments: str, **variables: Any) -> tuple[str, ...]:
        """Return the arguments of a run with these extra variables."""
        (self.directory / "report.json").unlink(missing_ok=True)
        given = {
            "certflow_report": str(self.directory / "report.json"),
            "certflow_run_file": str(self.directory / "run.jsonl"),
            **variables,
        }
        return ("-i", "hosts.yml", "-e", json.dumps(given), *arguments)

    def play(self, *arguments: str, env: Mapping[str, str] = {}, **variables: Any) -> PlaybookRun:
        """Run the playbook certificates with these extra variables."""
        return playbook.play(self.directory, CERTIFICATES, *self.arguments(*arguments, **variables), **env)

    def play_until(self, mark: str, *arguments: str, **variables: Any) -> str:
        """Run the playbook, and kill it at the first line that begins with the mark. Return its lines."""
        return playbook.play_until(
            self.directory, CERTIFICATES, mark, *self.arguments(*arguments, **variables)
        )

    def outcomes(self) -> dict[str, dict[str, Any]]:
        """Return the row of each host in the report."""
        report = json.loads((self.directory / "report.json").read_text())
        return {row["name"]: row for row in report["clusters"]}

    def statuses(self) -> dict[str, str]:
        """Return the status of each host in the report."""
        return {host: row["status"] for host, row in self.outcomes().items()}

    def held(self) -> set[str]:
        """Return the hosts that have a certificate in their cluster."""
        path = f"/api/v1/namespaces/{self.name}/secrets"
        return {
            secret["metadata"]["name"]
            for cluster in self.fleet.values()
            for secret in cluster.api("GET", path)["items"]
            if secret["type"] == "kubernetes.io/tls"
        }

    def empty(self) -> None:
        """Delete the certificates of all hosts."""
        for cluster in self.fleet.values():
            cluster.api("DELETE", f"/api/v1/namespaces/{self.name}/secrets")


def names(number: int) -> list[str]:
    """Return names of hosts in their order."""
    return [f"c{index:03d}" for index in range(1, number + 1)]


@contextmanager
def wide_fleet(fleet: Fleet, directory: Path) -> Iterator[WideFleet]:
    """Yield the hosts, and remove their objects."""
    made = WideFleet(fleet, directory)
    try:
        yield made
    finally:
        made.close()
