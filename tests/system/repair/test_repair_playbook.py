# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Audit, plan, repair and audit a fleet: a cluster with a stale bundle, a healthy one, and one that does not answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.support.fleet.fleet_files import kubeconfig
from tests.support.playbooks import playbook
from tests.support.webhooks.bundle_rig import pem
from tests.support.webhooks.repair_rig import RepairRig

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.clusters import Fleet
    from tests.support.playbooks.playbook import PlaybookRun

#: The servers of the test are addresses outside of the cluster.
VARIABLES = {
    "certflow_audit_options": {"probe_urls": True},
    "certflow_fail_on": "never",
    "certflow_max_failures": 3,
    "certflow_repair_options": {"probe_urls": True, "proof_after": 1, "wait_timeout": 30},
}
UNTRUSTED = "certificate signed by unknown authority"


class RepairFleet:
    """Three contexts over two clusters. One cluster has a webhook with a stale bundle, and one whose CA nothing publishes."""

    def __init__(self, fleet: Fleet, directory: Path) -> None:
        self.directory = directory
        self.rig = RepairRig(fleet["onprem"])
        self.rig.publish(pem("good"))
        self.stale = self.rig.broken("stale")
        self.unpublished = self.rig.broken(
            "unpublished", bundle=pem("good"), port=self.rig.serve(self.rig.leaf(issuer="unpublished"))
        )
        parts = {
            "dead": fleet["onprem"].kubeconfig,
            "stale": fleet["onprem"].kubeconfig,
            "well": fleet["eks"].kubeconfig,
        }
        (directory / "kubeconfig").write_text(yaml.safe_dump(kubeconfig(parts)))
        inventory = {"plugin": "certflow.kubernetes.kubeconfig", "kubeconfig": "kubeconfig"}
        (directory / "clusters.yml").write_text(yaml.safe_dump(inventory))
        (directory / "variables.yml").write_text(yaml.safe_dump(VARIABLES))

    def play(self, name: str, report: str, *arguments: str, **variables: Any) -> PlaybookRun:
        """Run a playbook of the collection, which writes a report of this name."""
        extra = json.dumps({"certflow_report": report, **variables})
        files = ("-i", "clusters.yml", "-e", "@variables.yml", "-e", extra)
        return playbook.play(self.directory, Path(f"certflow.kubernetes.{name}"), *files, *arguments)

    def clusters(self, report: str) -> dict[str, dict[str, Any]]:
        """Return the clusters of a report by name."""
        return {row["name"]: row for row in json.loads((self.directory / report).read_text())["clusters"]}

    def exceptions(self) -> list[dict[str, Any]]:
        """Return an exception for the webhook whose CA nothing publishes."""
        entry = {"check": "ca-mismatch", "objects": [f"*/{self.unpublished}"]}
        return [{**entry, "reason": "its team looks for the CA", "until": "2099-01-01"}]

    def statuses(self, report: str) -> dict[str, str]:
        return {name: row["status"] for name, row in self.clusters(report).items()}

    def repairs(self, report: str, name: str) -> list[tuple[str, str]]:
        """Return state and code of each repair of an object."""
        rows = self.clusters(report)["stale"]["repairs"]
        return [(row["state"], row["code"]) for row in rows if row["object"]["name"] == name]

    def faults(self, report: str, name: str) -> set[str]:
        """Return the checks that find an error or a warning about an object."""
        findings = [
            row for row in self.clusters(report)["stale"]["findings"] if row["object"].get("name") == name
        ]
        return {row["check"] for row in findings if row["status"] == "fail" and row["severity"] != "info"}


@pytest.fixture(scope="module")
def broken(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RepairFleet]:
    made = RepairFleet(fleet, tmp_path_factory.mktemp("repair"))
    try:
        yield made
    finally:
        made.rig.close()


def test_a_fleet_from_the_finding_to_the_clean_audit(broken: RepairFleet) -> None:
    """The exit statuses are 2, because one cluster does not answer."""
    audit = broken.play("audit", "audit.json")
    assert audit.status == 2, audit.output
    assert "ca-mismatch" in broken.faults("audit.json", broken.stale)
    assert UNTRUSTED in broken.rig.ask("stale")

    plan = broken.play("repair", "plan.json", "--check", certflow_findings="audit.json")
    assert plan.status == 2, plan.output
    assert broken.statuses("plan.json") == {"dead": "plan-differs", "stale": "planned", "well": "planned"}, (
        plan.output
    )
    assert broken.repairs("plan.json", broken.stale) == [("planned", "")]
    assert UNTRUSTED in broken.rig.ask("stale")

    words = {"certflow_findings": "audit.json", "certflow_plan": "plan.json"}
    run = broken.play("repair", "run.json", **words)
    assert run.status == 2, run.output
    assert broken.statuses("run.json") == {"dead": "plan-differs", "stale": "left", "well": "ok"}, run.output
    assert broken.repairs("run.json", broken.stale) == [("repaired", "")]
    assert broken.repairs("run.json", broken.unpublished) == [("refused", "not-published")]
    assert f"{broken.unpublished} (not-published)" in run.output.partition("TASK [Publish")[0]
    left = broken.clusters("run.json")["stale"]["left"]
    assert (left["count"], left["first"]["object"]["name"]) == (1, broken.unpublished)
    assert broken.rig.ask("stale") == "accepted"

    clean = broken.play("audit", "clean.json")
    assert clean.status == 2, clean.output
    assert broken.faults("clean.json", broken.stale) == set()

    again = broken.play("repair", "again.json", "--limit", "stale,well", **words)
    assert again.status == 2, again.output
    assert broken.statuses("again.json") == {"stale": "left", "well": "ok"}, again.output
    assert broken.repairs("again.json", broken.stale) == [("gone", "")]
    accepted = {**words, "certflow_exceptions": broken.exceptions()}
    excepted = broken.play("repair", "excepted.json", "--limit", "stale,well", **accepted)
    assert excepted.status == 0, excepted.output
    assert broken.clusters("excepted.json")["stale"]["left"]["excepted"] == 1

    path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
    broken.rig.cluster.api("DELETE", f"{path}/{broken.stale}")
    broken.rig.broken("stale")
    recreated = broken.play("repair", "recreated.json", "--limit", "stale", **accepted)
    assert recreated.status == 2, recreated.output
    assert broken.repairs("recreated.json", broken.stale) == [("refused", "recreated")]
    handed_on = {**accepted, "certflow_job_name": "canary", "certflow_plan": ""}
    job = broken.play("repair", "job.json", "--limit", "stale", **handed_on)
    assert job.status == 0, job.output
    assert broken.statuses("job.json") == {"stale": "left"}


def test_an_approved_plan_of_forty_writes_in_one_cluster(broken: RepairFleet) -> None:
    names = [broken.rig.broken(f"many-{number}") for number in range(40)]
    accepted = {"certflow_exceptions": broken.exceptions()}
    plan = broken.play("repair", "plan-40.json", "--check", "--limit", "stale", **accepted)
    assert plan.status == 0, plan.output
    run = broken.play("repair", "run-40.json", "--limit", "stale", certflow_plan="plan-40.json", **accepted)
    assert run.status == 0, run.output
    assert [broken.repairs("run-40.json", name) for name in names] == [[("repaired", "")]] * 40
    assert broken.rig.ask("many-39") == "accepted"
