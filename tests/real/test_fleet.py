# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbooks for a fleet: each cluster's outcome is in the report, whichever fails in whichever batch."""

from __future__ import annotations

import base64
import json
import re
import socket
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests import playbook

from .snapshot_site import module_proxy

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.clusters import Cluster, Fleet
    from tests.playbook import Run

CERTIFICATES = Path("certflow.kubernetes.certificates")
UPGRADE = Path("certflow.kubernetes.upgrade")
HOOKS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
# Context, cluster, and what becomes of it at first.
HOSTS = {
    "well-1": ("onprem", "changed"),
    "well-2": ("eks", "changed"),
    "canary": ("onprem", "failed"),  # a user without rights
    "dead": ("", "unreachable"),
    "owned": ("eks", "refused"),
}


class Site:
    """Contexts of two clusters in one kubeconfig, an inventory of them, and a namespace of its own on both."""

    def __init__(self, fleet: Fleet, directory: Path) -> None:
        self.fleet = fleet
        self.directory = directory
        self.name = f"fleet-{uuid.uuid4().hex[:8]}"
        for cluster in fleet.values():
            cluster.api("POST", "/api/v1/namespaces", {"metadata": {"name": self.name}})
        for host, (cluster_name, _status) in HOSTS.items():
            if cluster_name:
                fleet[cluster_name].api("POST", HOOKS, self._hook(host))

    def _hook(self, host: str) -> dict[str, Any]:
        marks = {"cert-manager.io/inject-ca-from": "team/webhook"} if host == "owned" else {}
        webhook = {
            "name": "hook.certflow.test",
            "clientConfig": {"service": {"namespace": self.name, "name": host}},
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        }
        return {"metadata": {"name": f"{self.name}-{host}", "annotations": marks}, "webhooks": [webhook]}

    def close(self) -> None:
        for host, (cluster_name, _status) in HOSTS.items():
            if cluster_name:
                self.fleet[cluster_name].api("DELETE", f"{HOOKS}/{self.name}-{host}")
        for cluster in self.fleet.values():
            cluster.api("DELETE", f"/api/v1/namespaces/{self.name}")

    def bundle(self, host: str) -> str:
        """The CA that the host's webhook trusts."""
        cluster = self.fleet[HOSTS[host][0]]
        webhook = cluster.api("GET", f"{HOOKS}/{self.name}-{host}")["webhooks"][0]
        return base64.b64decode(webhook["clientConfig"].get("caBundle", "")).decode()

    def play(self, name: Path, *arguments: str, order: tuple[str, ...] = tuple(HOSTS)) -> Run:
        """Run a playbook of the collection on the hosts, in this order."""
        (self.directory / "kubeconfig").write_text(
            yaml.safe_dump(kubeconfig({host: self._part(host) for host in order}))
        )
        inventory = {"plugin": "certflow.kubernetes.kubeconfig", "kubeconfig": "kubeconfig"}
        (self.directory / "clusters.yml").write_text(yaml.safe_dump(inventory))
        group_vars = {
            "webhook_certificate_service": "{{ inventory_hostname }}",
            "webhook_certificate_namespace": self.name,
            "webhook_certificate_secret": {"name": "{{ inventory_hostname }}"},
            "webhook_certificate_targets": [
                {
                    "kind": "ValidatingWebhookConfiguration",
                    "name": f"{self.name}-{{{{ inventory_hostname }}}}",
                }
            ],
        }
        (self.directory / "group_vars").mkdir(exist_ok=True)
        (self.directory / "group_vars" / "clusters.yml").write_text(yaml.safe_dump(group_vars))
        (self.directory / "report.json").unlink(missing_ok=True)
        command = ["-i", "clusters.yml", "-e", "certflow_report=report.json", *arguments]
        return playbook.play(self.directory, name, *command)

    def _part(self, host: str) -> Path:
        cluster: Cluster = self.fleet[HOSTS[host][0] or "onprem"]
        return cluster.kubeconfig_for(f"{self.name}-nobody") if host == "canary" else cluster.kubeconfig

    def report(self) -> dict[str, str]:
        """Status by cluster, as the file has it."""
        written = json.loads((self.directory / "report.json").read_text())
        return {name: outcome["status"] for name, outcome in written["clusters"].items()}


def kubeconfig(parts: Mapping[str, Path]) -> dict[str, Any]:
    """One kubeconfig with a context for each host, in this order; at that of `dead` nobody listens."""
    merged: dict[str, Any] = {"contexts": [], "clusters": [], "users": []}
    for host, path in parts.items():
        part = yaml.safe_load(path.read_text())
        if host == "dead":
            part["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{closed_port()}"
        for section, items in merged.items():
            items.append({**part[section][0], "name": host})
        merged["contexts"][-1]["context"] = {"cluster": host, "user": host}
    return merged


def closed_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


@pytest.fixture(scope="module")
def site(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(fleet, tmp_path_factory.mktemp("fleet"))
    yield made
    made.close()


def test_a_canary_that_fails_is_the_end(site: Site) -> None:
    """With the usual batches and budget; what was not reached is said, and nothing was written there."""
    run = site.play(CERTIFICATES, order=("canary", "well-1", "dead", "owned", "well-2"))
    assert run.status == 2, run.output
    assert site.report() == {
        "canary": "failed",
        **dict.fromkeys(("well-1", "dead", "owned", "well-2"), "not started"),
    }
    assert run.recap("failed") == 5, run.output  # so that AWX and --limit @retry run exactly these again
    assert '"canary: failed: ' in run.output
    assert '"well-2: not started: canary did not succeed, and certflow_max_failures is 0"' in run.output
    assert site.bundle("well-1") == ""


# Serial, order: the first one fails and is alone; all of the last batch fail. Each of them ends a run of plain plays.
BATCHES = (
    ("1, 2", ("dead", "well-1", "canary", "well-2", "owned")),
    ("[3]", ("well-2", "owned", "well-1", "canary", "dead")),
)


@pytest.mark.parametrize(("serial", "order"), BATCHES)
def test_every_outcome_is_in_the_report(site: Site, serial: str, order: tuple[str, ...]) -> None:
    before = {host: site.bundle(host) for host in ("well-1", "well-2")}
    arguments = ("-e", json.dumps({"certflow_serial": json.loads(serial) if "[" in serial else serial}))
    run = site.play(CERTIFICATES, *arguments, "-e", "certflow_max_failures=5", order=order)
    assert run.status == 2, run.output
    wanted = {host: status for host, (_cluster, status) in HOSTS.items()}
    wanted |= {host: "ok" for host, bundle in before.items() if bundle}
    assert site.report() == wanted, run.output
    assert list(json.loads((site.directory / "report.json").read_text())["clusters"]) == list(order)
    assert run.recap("failed") == 3, run.output
    assert run.recap("unreachable") == 0, run.output
    for host in before:
        assert site.bundle(host) == site.fleet[HOSTS[host][0]].ca_pem
    assert site.bundle("owned") == ""
    assert "PRIVATE KEY" not in run.output


def test_some_of_them_in_check_mode(site: Site) -> None:
    """With a pattern and --limit, which leaves localhost out, and which the checks survive."""
    run = site.play(
        CERTIFICATES, "--check", "-e", "certflow_hosts=clusters:!canary", "--limit", "well-1,canary"
    )
    assert run.status == 0, run.output
    assert set(site.report()) == {"well-1"}
    none = site.play(CERTIFICATES, "-e", "certflow_hosts=canary", "--limit", "well-1")
    assert none.status == 2, none.output
    assert "no host matches certflow_hosts: canary within --limit well-1" in none.output
    assert not (site.directory / "report.json").exists()


DEPLOYMENTS = "/apis/apps/v1/namespaces/{}/deployments"
# As `helm install` leaves it, as far as it says whose it is.
BY_HELM = {
    "metadata": {
        "name": "snapshot-controller",
        "labels": {"app.kubernetes.io/managed-by": "Helm"},
        "annotations": {
            "meta.helm.sh/release-name": "snapshots",
            "meta.helm.sh/release-namespace": "kube-system",
        },
    },
    "spec": {
        "replicas": 0,
        "selector": {"matchLabels": {"app": "x"}},
        "template": {
            "metadata": {"labels": {"app": "x"}},
            "spec": {
                "containers": [
                    {
                        "name": "snapshot-controller",
                        "image": "registry.k8s.io/sig-storage/snapshot-controller:v6.2.2",
                    }
                ]
            },
        },
    },
}


def test_an_upgrade_that_is_only_tried(site: Site, tmp_path: Path) -> None:
    """The same machinery: a cluster that can be upgraded, one that Helm owns, one that does not answer."""
    path = DEPLOYMENTS.format(site.name)
    site.fleet["eks"].api("POST", path, BY_HELM)
    with module_proxy("8.7.0") as proxy:
        own = {
            "snapshot_controller_source": proxy,
            "snapshot_controller_cache_directory": str(tmp_path),
            "snapshot_controller_backup_directory": str(tmp_path),
        }
        variables = {**own, "snapshot_controller_version": "8.7.0", "certflow_max_failures": 2}
        order = ("well-1", "owned", "dead")
        run = site.play(UPGRADE, "--check", "-e", json.dumps(variables), order=order)
    site.fleet["eks"].api("DELETE", f"{path}/snapshot-controller")
    assert site.report() == {"well-1": "changed", "owned": "refused", "dead": "unreachable"}, run.output
    assert run.status == 2, run.output
    assert re.search("well-1: changed: from [^ ]+ to 8.7.0, ", run.output), (
        run.output
    )  # what other tests have there
    assert "Helm" in json.loads((site.directory / "report.json").read_text())["clusters"]["owned"]["reason"]


# Playbook, arguments, what is said.
BAD = (
    (CERTIFICATES, ("-i", "localhost,", "-e", "certflow_hosts=prod-*"), "no host matches certflow_hosts: prod-*"),
    (CERTIFICATES, ("-e", '{"certflow_serial": ["1", "few", 0, "200%"]}'), "or list of them: few, 0, 200%"),
    (CERTIFICATES, ("-e", "certflow_max_failures=some"), "certflow_max_failures is no number of clusters: some"),
    (CERTIFICATES, ("-e", "certflow_report=/dev/null/report.json"), "/dev/null"),
    (UPGRADE, (), "snapshot_controller_version is not set for a, b"),
    (UPGRADE, ("-e", "snapshot_controller_version=8.9.9"), "8.9.9 is no release that this collection knows"),
    (UPGRADE, ("-e", "snapshot_controller_version=8.6.0 snapshot_controller_source=."), "lacks "),
)  # fmt: skip


@pytest.mark.parametrize(("name", "arguments", "words"), BAD)
def test_what_cannot_be_meant_is_said_before_any_cluster_is_asked(
    name: Path, arguments: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    """The hosts have no kubeconfig at all: whoever asked them would fail with other words."""
    (tmp_path / "hosts").write_text("[clusters]\na\nb\n")
    inventory = () if "-i" in arguments else ("-i", "hosts")
    run = playbook.play(tmp_path, name, *inventory, *arguments, KUBECONFIG="absent")
    assert run.status == 2, run.output
    assert words in " ".join(run.output.split()), run.output
    assert "One batch of clusters" not in run.output


def test_an_inventory_that_cannot_be_read_stops_the_run(tmp_path: Path) -> None:
    """Ansible itself warns, and would end well without having done anything."""
    (tmp_path / "clusters.yml").write_text("plugin: certflow.kubernetes.kubeconfig\nkubeconfig: absent\n")
    run = playbook.play(tmp_path, CERTIFICATES, "-i", "clusters.yml", COLUMNS="500")
    assert run.status == 2, run.output
    assert "Kubeconfig absent: it does not exist" in " ".join(run.output.split())
    assert "the inventory has no host" in run.output
