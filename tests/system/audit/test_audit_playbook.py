# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run the playbook audit on a healthy, a broken and an unreachable cluster, and on one with an expired login."""

from __future__ import annotations

import datetime
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.support.audit.audit_rig import AuditRig
from tests.support.certificates.server_pki import ca
from tests.support.failures import absent
from tests.support.fleet.fleet_files import kubeconfig
from tests.support.pages import page_files
from tests.support.pages.guide_commands import lay_out, shell
from tests.support.playbooks import playbook
from tests.support.upgrade.mirror import mirror

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.clusters import Fleet
    from tests.support.playbooks.playbook import PlaybookRun

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
    formats = [f"report.{suffix}" for suffix in ("json", "html", "prom", "xml")]
    return audited.play(report=formats)


def test_every_cluster_is_a_row_and_bad_ones_fail(audited: AuditFleet, first: PlaybookRun) -> None:
    report = audited.report()
    assert {cluster["name"]: cluster["status"] for cluster in report["clusters"]} == STATUSES, first.output
    assert {cluster["name"]: cluster["code"] for cluster in report["clusters"] if cluster["code"]} == {
        "dead": "unreachable",
        "expired": "authentication-failed",
    }
    assert first.status == 2
    assert failed_hosts(first) == {"broken", "dead", "expired"}
    (broken,) = [cluster for cluster in report["clusters"] if cluster["name"] == "broken"]
    assert "service-missing" in {finding["check"] for finding in broken["findings"]}


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
    assert modes == {".json": 0o600, ".html": 0o600, ".prom": 0o644, ".xml": 0o600}
    assert list(audited.directory.glob(".report*")) == []


def test_the_artifact_has_outcomes(first: PlaybookRun) -> None:
    text = first.output.rpartition("CUSTOM STATS")[2]
    assert not absent(("certflow_audit", '"dead":', '"unreachable"'), text), text


def test_the_gate_never_and_a_comparison(audited: AuditFleet, first: PlaybookRun) -> None:
    assert first.output
    run = audited.play(
        "--limit", "broken,well", fail_on="never", report="later.json", compare_with="report.json"
    )
    assert run.status == 0, run.output
    report = audited.report("later.json")
    assert {cluster["name"] for cluster in report["clusters"]} == {"broken", "well"}
    assert report["comparison"]["known"] > 0
    assert report["comparison"]["gone"] == []


def test_what_the_site_does_not_permit_is_not_read(audited: AuditFleet) -> None:
    run = audited.play("--limit", "well", report="narrow.json", audit_without=["port-forward"])
    assert run.status == 0, run.output
    (cluster,) = audited.report("narrow.json")["clusters"]
    assert cluster["limits"]["without"] == ["port-forward"]


def test_wrong_variables_end_the_run_before_a_cluster_is_contacted(audited: AuditFleet) -> None:
    """tests/unit has the table of all problems."""
    exception = {"check": "expird", "reason": "r", "until": "2027-01-31"}
    run = audited.play(
        "--limit",
        "dead,well",
        report="absent/report.json",
        exceptions=[exception],
        audit_options={"snapshot_version": "1.0.0"},
    )
    assert run.status == 2, run.output
    assert not absent(("absent/report.json", "'expird',", "expired?", "1.0.0"), run.output), run.output
    assert "CUSTOM" not in run.output
    assert "Traceback" not in run.output


@pytest.mark.full
def test_the_guide_as_printed(audited: AuditFleet, tmp_path: Path) -> None:
    guide = page_files.GUIDES / "guide_audit_fleet.rst"
    lay_out(guide, tmp_path)
    (tmp_path / ".kube").mkdir()
    shutil.copy(audited.fleet.merged_kubeconfig, tmp_path / ".kube" / "fleet.yml")
    shutil.copy(page_files.REPOSITORY / "examples" / "monitoring" / "certflow-alerts.yml", tmp_path)
    for command in page_files.commands(guide):
        shell(tmp_path / "none", tmp_path, command)
    assert json.loads((tmp_path / "today.json").read_text())["comparison"]["new"] == 0
    assert all((tmp_path / name).stat().st_size for name in ("audit.json", "audit.html"))


def test_the_play_of_the_guide_sends_the_files(audited: AuditFleet) -> None:
    """The second play runs although the audit has findings. Substitutions: the address of the server, its CA, and the host."""
    name, secret = "audit-and-send.yml", "a-token-of-the-test"
    (audited.directory / "ca.pem").write_bytes(ca().certificate.encode())
    text = page_files.files(page_files.GUIDES / "guide_audit_fleet.rst")[name]
    with mirror(demanded={"Authorization": f"Bearer {secret}"}) as server:
        text = text.replace("https://files.example.com/audits", f"{server.url}/f")
        text = text.replace(
            "        follow_redirects", "        ca_path: ca.pem\n        follow_redirects", 1
        )
        (audited.directory / name).write_text(text)
        words = ("-vvv", "-i", "clusters.yml", "--limit", "well,localhost")
        run = playbook.play(
            audited.directory, Path(name), *words, REPORT_TOKEN=secret, HOME=str(audited.directory)
        )
    assert run.status == 0, run.output
    assert secret not in run.output
    assert set(server.received) == {"/f/audit.json", "/f/audit.html"}
    assert json.loads(server.received["/f/audit.json"])["clusters"]
