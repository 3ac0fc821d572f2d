# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run the playbook audit on a healthy, a broken and an unreachable cluster, and on one with an expired login."""

from __future__ import annotations

import datetime
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.support import playbook
from tests.support.audit_rig import AuditRig
from tests.support.failures import absent
from tests.support.fleet_files import kubeconfig
from tests.support.mirror import mirror
from tests.support.server_pki import ca

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.clusters import Fleet
    from tests.support.playbook import PlaybookRun

AUDIT = Path("certflow.kubernetes.audit")
HOSTILE = "{{ lookup('pipe', 'touch hacked') }}"
#: Host -> its status in the report. Every host but `well` fails.
STATUSES: dict[str, str] = {"broken": "ok", "dead": "unreachable", "expired": "failed", "well": "ok"}
#: The beginnings of lines with the result of a task.
RESULTS = ("ok: [", "changed: [", "skipping: [", "fatal: [", "failed: [")


class AuditFleet:
    """Four contexts over two clusters. One cluster has a broken webhook and a hostile Event."""

    def __init__(self, fleet: Fleet, directory: Path) -> None:
        self.fleet = fleet
        self.directory = directory
        self.rig = AuditRig(fleet["onprem"])
        self.rig.hook("service-missing", service="nosuch")
        self._write_event()
        old = fleet["eks"].kubeconfig_for("audit-expired", lifetime=-datetime.timedelta(days=1))
        parts = {
            "broken": fleet["onprem"].kubeconfig,
            "dead": fleet["onprem"].kubeconfig,
            "expired": old,
            "well": fleet["eks"].kubeconfig,
        }
        (directory / "kubeconfig").write_text(yaml.safe_dump(kubeconfig(parts)))
        inventory = {"plugin": "certflow.kubernetes.kubeconfig", "kubeconfig": "kubeconfig"}
        (directory / "clusters.yml").write_text(yaml.safe_dump(inventory))

    def _write_event(self) -> None:
        """Write an Event about a failed call, whose message is hostile."""
        message = f'failed calling webhook "service-missing.{self.rig.name}.certflow.test": {HOSTILE}'
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        event = {
            "metadata": {"name": "hostile"},
            "involvedObject": {"kind": "ReplicaSet", "namespace": self.rig.name, "name": "web"},
            "type": "Warning",
            "reason": "FailedCreate",
            "message": message,
            "lastTimestamp": now,
        }
        self.rig.make(f"/api/v1/namespaces/{self.rig.name}/events", event)

    def play(self, *arguments: str, **variables: Any) -> PlaybookRun:
        """Run the playbook. Variables lose their prefix certflow_."""
        extra = json.dumps({f"certflow_{name}": value for name, value in variables.items()})
        return playbook.play(
            self.directory,
            AUDIT,
            *("-i", "clusters.yml", "-e", extra, *arguments),
            ANSIBLE_SHOW_CUSTOM_STATS="true",
        )

    def report(self, name: str = "report.json") -> dict[str, Any]:
        return dict(json.loads((self.directory / name).read_text()))


@pytest.fixture(scope="module")
def audited(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AuditFleet]:
    made = AuditFleet(fleet, tmp_path_factory.mktemp("audit"))
    try:
        yield made
    finally:
        made.rig.close()


@pytest.fixture(scope="module")
def first(audited: AuditFleet) -> PlaybookRun:
    """Return the run over all hosts with every format."""
    formats = [f"report.{suffix}" for suffix in ("json", "html", "prom", "md", "xml")]
    return audited.play(report=formats)


def test_every_cluster_is_a_row_and_bad_ones_fail(audited: AuditFleet, first: PlaybookRun) -> None:
    report = audited.report()
    assert {one["name"]: one["status"] for one in report["clusters"]} == STATUSES, first.output
    assert {one["name"]: one["code"] for one in report["clusters"] if one["code"]} == {
        "dead": "unreachable",
        "expired": "authentication-failed",
    }
    assert first.status == 2
    assert failed_hosts(first) == {"broken", "dead", "expired"}
    (broken,) = [one for one in report["clusters"] if one["name"] == "broken"]
    assert "service-missing" in {one["check"] for one in broken["findings"]}


def failed_hosts(run: PlaybookRun) -> set[str]:
    """Return the hosts that the recap counts as failed."""
    rows = [line.split() for line in run.output.rpartition("PLAY RECAP")[2].splitlines()]
    return {row[0] for row in rows if "failed=1" in row}


def test_text_of_a_cluster_is_no_template(audited: AuditFleet, first: PlaybookRun) -> None:
    assert "pipe" in json.dumps(audited.report())
    assert first.output
    assert not (audited.directory / "hacked").exists()


def test_a_cluster_has_few_task_results(first: PlaybookRun) -> None:
    """The results of the first host include those of the whole run."""
    hosts = [line.split()[1].strip("[]:") for line in first.output.splitlines() if line.startswith(RESULTS)]
    assert hosts.count("broken") >= 5, first.output
    assert max(hosts.count(host) for host in STATUSES if host != "broken") <= 3, first.output


def test_files_are_private_but_for_the_metrics(audited: AuditFleet, first: PlaybookRun) -> None:
    assert first.output
    modes = {path.suffix: path.stat().st_mode & 0o777 for path in audited.directory.glob("report.*")}
    assert modes == {".json": 0o600, ".html": 0o600, ".prom": 0o644, ".md": 0o600, ".xml": 0o600}
    assert list(audited.directory.glob(".report*")) == []


def test_the_artifact_has_outcomes(first: PlaybookRun) -> None:
    text = first.output.rpartition("CUSTOM STATS")[2]
    assert not absent(("certflow_audit", '"dead":', '"unreachable"'), text), text


@pytest.mark.parametrize(
    ("host", "fail_on", "status"), [("well", "error", 0), ("broken", "never", 0), ("dead", "never", 2)]
)
def test_the_gate(audited: AuditFleet, host: str, fail_on: str, status: int) -> None:
    run = audited.play("--limit", host, fail_on=fail_on)
    assert run.status == status, run.output


def test_check_mode_writes_no_file(audited: AuditFleet) -> None:
    run = audited.play("--check", "--limit", "well", report="checked.json")
    assert run.status == 0, run.output
    assert "checked.json" in run.output
    assert not (audited.directory / "checked.json").exists()


def test_a_comparison_and_a_merge(audited: AuditFleet, first: PlaybookRun) -> None:
    assert first.output
    run = audited.play(
        "--limit", "well", report="later.json", compare_with="report.json", merge=["report.json"]
    )
    report = audited.report("later.json")
    assert {one["name"] for one in report["clusters"]} == set(STATUSES), run.output
    assert report["comparison"]["gone"] == []
    assert run.status == 0, run.output


#: Wrong variables -> names that the problem has. Each ends the run before a cluster is contacted.
WRONG: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "fail on": ({"fail_on": "eror"}, ("certflow_fail_on", "error,")),
    "misspelt": ({"reprot": "x.json"}, ("certflow_reprot", "certflow_report?")),
    "misspelt URL": ({"report_ulr": "x.json"}, ("certflow_report_ulr", "certflow_report_url?")),
    "suffix": ({"report": "report.pdf"}, ("report.pdf", ".json,")),
    "directory": ({"report": "absent/report.json"}, ("absent/report.json",)),
    "earlier report": ({"compare_with": "clusters.yml"}, ("clusters.yml",)),
    "absent report": ({"merge": ["absent.json"]}, ("absent.json",)),
    "exceptions": ({"exceptions": "absent.yml"}, ("absent.yml",)),
    "check of an exception": (
        {"exceptions": [{"check": "expird", "reason": "r", "until": "2027-01-31"}]},
        ("'expird',", "expired?"),
    ),
    "end of an exception": ({"exceptions": [{"check": "expired", "reason": "r"}]}, ("until",)),
    "URL": ({"report": "r.json", "report_url": "http://x/"}, ("https",)),
    "release": ({"snapshot_version": "1.0.0"}, ("1.0.0",)),
    "endpoints": ({"endpoints_per_service": 0}, ("endpoints_per_service",)),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_variables_end_the_run_first(audited: AuditFleet, name: str) -> None:
    variables, names = WRONG[name]
    run = audited.play("--limit", "dead,well", **variables)
    assert run.status == 2, run.output
    assert not absent(names, run.output), run.output
    assert "Audit the cluster" not in run.output
    assert "Traceback" not in run.output


def test_no_host_matches(audited: AuditFleet) -> None:
    for arguments in ((), ("--limit", "well")):
        run = audited.play(*arguments, hosts="absent")
        assert run.status != 0
        assert not absent(("certflow_hosts:",), run.output), run.output


def test_files_are_uploaded_and_a_failure_fails_the_run_after_the_report(audited: AuditFleet) -> None:
    (audited.directory / "ca.pem").write_bytes(ca().certificate.encode())
    secret = "a-token-of-the-test"
    with mirror(demanded={"Authorization": f"Bearer {secret}"}) as server:
        auth = {"token": secret, "ca_path": "ca.pem"}
        files = ["report.json", "report.html"]
        run = audited.play(
            "-vvv", "--limit", "well", report=files, report_url=f"{server.url}/f/", report_auth=auth
        )
        assert run.status == 0, run.output
        assert secret not in run.output
        assert set(server.received) == {"/f/report.json", "/f/report.html"}
        assert json.loads(server.received["/f/report.json"])["clusters"]
        auth["token"] = "wrong"
        run = audited.play(
            "--limit", "well", report="r2.json", report_url=f"{server.url}/f/", report_auth=auth
        )
    assert run.status == 2, run.output
    assert not absent(("401", "r2.json"), run.output), run.output
    assert audited.report("r2.json")["clusters"]


def test_a_directory_that_cannot_be_written(audited: AuditFleet) -> None:
    if os.geteuid() == 0:
        run = audited.play("--limit", "dead", report="/proc/report.json")
    else:
        run = audited.play("--limit", "dead", report="/report.json")
    assert run.status == 2
    assert not absent(("/report.json",), run.output)
    assert "Audit the cluster" not in run.output
