# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fleet runs over many hosts: stages, budget, windows, deadline, soak, kills. Each report is compared with the clusters."""

from __future__ import annotations

import json
import os
import re
import subprocess
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.failures import absent
from tests.support.fleet.fleet_files import closed_port
from tests.support.fleet.wide_fleet import CERTIFICATES, FAILING, names, wide_fleet
from tests.support.playbooks import playbook

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.clusters import Fleet
    from tests.support.fleet.wide_fleet import WideFleet

# A run without news prints at most this many lines for 100 clusters.
LINES_PER_CLUSTER = 1.5
THREE_STAGES = [
    {"name": "first", "hosts": "c001,c002"},
    {"name": "second", "hosts": "c003,c004,c005", "max_concurrency": 1},
    {"name": "third", "hosts": "rest", "max_concurrency": 2},
]

# A host whose request waits for an approval.
WAITING = {
    "webhook_certificate_signer_name": "kubernetes.io/kubelet-serving",
    "webhook_certificate_approve": False,
    "webhook_certificate_wait_timeout": 300,
}


@pytest.fixture(scope="module")
def shared(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WideFleet]:
    with wide_fleet(fleet, tmp_path_factory.mktemp("wide")) as made:
        yield made


@pytest.fixture
def wide(shared: WideFleet) -> WideFleet:
    """The hosts without a certificate."""
    shared.empty()
    (shared.directory / "run.jsonl").unlink(missing_ok=True)
    return shared


def lines(run: playbook.PlaybookRun) -> list[str]:
    return [line for line in run.output.splitlines() if line.strip()]


def results(run: playbook.PlaybookRun, host: str) -> int:
    """Return the number of results of a host, as the recap counts them."""
    (row,) = re.findall(rf"^{host} +: (.*)$", run.output.rpartition("PLAY RECAP")[2], re.MULTILINE)
    counts = dict(part.split("=") for part in row.split())
    return sum(int(counts[key]) for key in ("ok", "failed", "skipped", "rescued"))


def test_a_clean_run_is_short(wide: WideFleet) -> None:
    """The second run changes nothing. Each host has at most three results."""
    hosts = names(24)
    wide.write(hosts)
    first = wide.play("--forks", "8")
    assert first.status == 0, first.output
    assert wide.statuses() == dict.fromkeys(hosts, "changed")
    assert wide.held() == set(hosts)
    quiet = {"ANSIBLE_DISPLAY_OK_HOSTS": "false"}
    second = wide.play("--forks", "8", env=quiet)
    assert second.status == 0, second.output
    assert wide.statuses() == dict.fromkeys(hosts, "ok")
    assert results(second, "c024") <= 3, second.output
    print(
        f"{len(lines(second))} lines for {len(hosts)} clusters without news, {results(second, 'c024')} results each"
    )
    assert len(lines(second)) < 36 + len(hosts) * LINES_PER_CLUSTER, second.output


def write_unreachable(directory: Path, hosts: list[str]) -> None:
    """Write the inventory hosts.json of hosts that cannot be reached. The group canary has the last of them."""
    config: dict[str, Any] = {
        "clusters": [{"name": "c", "cluster": {"server": f"https://127.0.0.1:{closed_port()}"}}],
        "users": [{"name": "u", "user": {"token": "x"}}],
        "contexts": [{"name": host, "context": {"cluster": "c", "user": "u"}} for host in hosts],
    }
    (directory / "kubeconfig").write_text(json.dumps(config))
    variables: dict[str, Any] = {
        "certflow_kubeconfig": str(directory / "kubeconfig"),
        "certflow_context": "{{ inventory_hostname }}",
        "certflow_max_failures": "100%",
        "certflow_report": str(directory / "report.json"),
        "certflow_run_file": str(directory / "run.jsonl"),
        "certflow_stages": [{"name": "all", "hosts": "all"}],
        "webhook_certificate_service": "s",
        "webhook_certificate_namespace": "n",
        "webhook_certificate_secret": {"name": "x"},
    }
    inventory = {
        "clusters": {"hosts": {host: dict[str, Any]() for host in hosts}, "vars": variables},
        "canary": {"hosts": {hosts[-1]: dict[str, Any]()}},
    }
    (directory / "hosts.json").write_text(json.dumps(inventory))


def test_names_that_differ_in_a_special_character(tmp_path: Path) -> None:
    """A run for one host begins no play on the others, and the canary comes before them, whatever their order in the inventory is."""
    write_unreachable(tmp_path, ["prod-eu", "*", "?", "prod:eu"])
    (tmp_path / "stages.json").write_text(
        json.dumps(
            {
                "certflow_stages": [
                    {"name": "first", "hosts": "canary"},
                    {"name": "then", "hosts": "clusters:!canary"},
                ]
            }
        )
    )

    def recap(*words: str) -> tuple[set[str], str]:
        run = playbook.play(tmp_path, CERTIFICATES, "-i", "hosts.json", *words)
        tail = run.output.rpartition("PLAY RECAP")[2]
        return {row.partition(" : ")[0].strip() for row in tail.splitlines() if " : ok=" in row}, run.output

    hosts, output = recap("-e", "certflow_hosts=canary")
    assert hosts == {"prod:eu"}, output
    assert "1 cluster: 1 unreachable" in output
    hosts, output = recap("-e", "@stages.json")
    assert hosts == {"prod-eu", "*", "?", "prod:eu"}, output
    assert re.search(r"^\[1/4\] prod:eu ", output, re.MULTILINE), output
    assert "4 clusters: 4 unreachable" in output


def test_a_run_ends_without_a_reader(tmp_path: Path) -> None:
    """The reader ends at the first line of progress. Ansible's thread for the lines of forks would end at the next one."""
    write_unreachable(tmp_path, names(4))
    with subprocess.Popen(
        playbook.command(tmp_path, CERTIFICATES, "-i", "hosts.json", "--forks", "1"),
        cwd=tmp_path,
        env={**os.environ, "ANSIBLE_DISPLAY_OK_HOSTS": "false", "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as run:
        assert run.stdout
        assert any(line.startswith("[1/4]") for line in run.stdout)
        run.stdout.close()
        try:
            run.wait(120)
        except subprocess.TimeoutExpired:
            run.kill()
            raise
    report = json.loads((tmp_path / "report.json").read_text())
    assert {cluster["status"] for cluster in report["clusters"]} == {"unreachable"}


@pytest.mark.full
@pytest.mark.parametrize("forks", ["1", "50"])
def test_the_output_of_100_clusters(wide: WideFleet, forks: str) -> None:
    hosts = names(100)
    wide.write(hosts)
    first = wide.play("--forks", "50")
    assert wide.held() == set(hosts), first.output
    run = wide.play("--forks", forks, env={"ANSIBLE_DISPLAY_OK_HOSTS": "false"})
    assert wide.statuses() == dict.fromkeys(hosts, "ok"), run.output
    print(f"{len(lines(run))} lines for 100 clusters")
    assert len(lines(run)) <= len(hosts) * LINES_PER_CLUSTER + 10, run.output


def test_a_budget_that_is_spent_in_the_last_stage(wide: WideFleet) -> None:
    """One failure is allowed. After the second one no further cluster starts, and running ones finish."""
    hosts = names(14)
    wide.write(hosts, {"c004": FAILING, "c007": FAILING})
    run = wide.play("--forks", "8", certflow_stages=THREE_STAGES, certflow_max_failures=1)
    assert run.status == 2, run.output
    found = wide.statuses()
    assert {host for host, status in found.items() if status == "failed"} == {"c004", "c007"}, run.output
    assert {host for host, status in found.items() if status == "changed"} == wide.held()
    assert {found[host] for host in ("c001", "c002", "c003", "c005", "c006")} == {"changed"}
    # Two clusters of the last stage are at work at the same time, so at most two started after the failure began.
    assert [found[host] for host in hosts[9:]] == ["not started"] * 5, run.output


def test_unreachable_clusters_and_another_uid(wide: WideFleet) -> None:
    """The budget has room for all of them. A cluster with another UID is not written to."""
    hosts = names(8)
    variables = {host: dead() for host in ("c003", "c005", "c008")}
    variables["c006"] = {"certflow_cluster_uid": "00000000-0000-0000-0000-000000000000"}
    wide.write(hosts, variables)
    run = wide.play("--forks", "8", certflow_max_failures="50%")
    assert run.status == 2, run.output
    found = wide.outcomes()
    assert {host: found[host]["status"] for host in ("c003", "c005", "c008")} == dict.fromkeys(
        ("c003", "c005", "c008"), "unreachable"
    ), run.output
    assert (found["c006"]["status"], found["c006"]["code"]) == ("refused", "wrong-cluster")
    assert wide.held() == {host for host, row in found.items() if row["status"] == "changed"}
    assert len(wide.held()) == 4


def dead() -> dict[str, Any]:
    """Return the variables of a host whose API server does not answer."""
    return {
        "certflow_kubeconfig": "",
        "certflow_context": "",
        "webhook_certificate_wait_timeout": 5,
        "webhook_certificate_connection": {"host": f"https://127.0.0.1:{closed_port()}", "api_key": "x"},
    }


def test_the_next_cluster_takes_the_place_of_an_unreachable_canary(wide: WideFleet) -> None:
    """It works alone until it has ended, and then the others start. A later run on the clusters without success continues too."""
    hosts = names(8)
    wide.write(hosts, {"c001": dead(), "c002": dead(), "c005": FAILING})
    run = wide.play("--forks", "8", certflow_max_failures="100%")
    assert run.status == 2, run.output
    lost = {"c001": "unreachable", "c002": "unreachable"}
    assert wide.statuses() == dict.fromkeys(hosts, "changed") | lost | {"c005": "failed"}, run.output
    steps = [
        (event["event"].removeprefix("cluster-"), event["cluster"])
        for event in map(json.loads, (wide.directory / "run.jsonl").read_text().splitlines())
        if event["event"] in ("cluster-started", "cluster-ended")
    ]
    alone = [(step, host) for host in ("c001", "c002", "c003") for step in ("started", "ended")]
    assert steps[: len(alone)] == alone
    at_work = [
        sum(1 if step == "started" else -1 for step, _host in steps[:end])
        for end in range(len(alone), len(steps))
    ]
    assert max(at_work) > 1, "several clusters are at work after the answer"

    wide.write(hosts, {"c001": dead(), "c002": dead()})
    again = wide.play("--limit", "c001,c002,c005", certflow_max_failures="100%")
    assert wide.statuses() == lost | {"c005": "changed"}, again.output
    assert wide.held() == set(hosts) - lost.keys()


@pytest.mark.parametrize(
    "stages", [None, [{"name": "canary", "hosts": "c001", "soak": "1h"}, {"name": "all", "hosts": "rest"}]]
)
def test_a_cluster_that_takes_the_place_of_the_canary_and_fails(
    wide: WideFleet, stages: list[dict[str, Any]] | None
) -> None:
    """No other cluster starts, whatever the budget is. A stage without a success does not soak."""
    wide.write(names(5), {"c001": dead(), "c002": FAILING})
    run = wide.play("--forks", "8", certflow_max_failures="100%", certflow_stages=stages)
    wanted = dict.fromkeys(names(5), "not started") | {"c001": "unreachable", "c002": "failed"}
    assert wide.statuses() == wanted, run.output
    assert wide.held() == set()
    assert "c002 did not succeed as the canary" in wide.outcomes()["c003"]["reason"]


def test_a_slice_of_a_job_has_a_canary_of_its_own(wide: WideFleet) -> None:
    """The clusters of the stage canary are in another slice, as with this --limit."""
    stages = [{"name": "canary", "hosts": "c001"}, {"name": "all", "hosts": "rest"}]
    wide.write(names(6), {"c003": FAILING})
    run = wide.play(
        "--forks", "8", "--limit", "c003,c004,c005", certflow_max_failures=9, certflow_stages=stages
    )
    assert wide.statuses() == {"c003": "failed", "c004": "not started", "c005": "not started"}, run.output
    assert wide.held() == set()


def window(opens: timedelta, closes: timedelta) -> dict[str, str]:
    """Return a window on every day, relative to now."""
    now = datetime.now(timezone.utc)
    start, end = now + opens, now + closes
    return {"start": f"{start:%H:%M}", "end": f"{end:%H:%M}", "timezone": "UTC"}


def test_windows_and_limit(wide: WideFleet) -> None:
    """A cluster outside its window waits, and the next one takes its place as the canary. The override lets it through."""
    open_now = window(timedelta(hours=-2), timedelta(hours=2))
    closed = window(timedelta(hours=2), timedelta(hours=4))
    wide.write(names(5), {"c001": {"certflow_window": open_now}, "c002": {"certflow_window": [closed]}})
    run = wide.play("--limit", "c001,c002,c003")
    assert wide.statuses() == {"c001": "changed", "c002": "waiting", "c003": "changed"}, run.output
    assert wide.held() == {"c001", "c003"}
    run = wide.play("--limit", "c002", "--check")
    assert wide.statuses() == {"c002": "planned"}, run.output
    assert "The maintenance window opens at" in wide.outcomes()["c002"]["reason"]
    run = wide.play("--limit", "c002,c004")
    assert wide.statuses() == {"c002": "waiting", "c004": "changed"}, run.output
    run = wide.play("--limit", "c002", certflow_window_override=True)
    assert (run.status, wide.statuses()) == (0, {"c002": "changed"}), run.output
    assert wide.held() == {"c001", "c002", "c003", "c004"}


def test_a_deadline_ends_the_work(wide: WideFleet) -> None:
    """The request of the second cluster waits for an approval."""
    wide.write(names(3), {"c002": {**WAITING, "certflow_deadline": "10s"}})
    run = wide.play(certflow_max_failures=2)
    found = wide.outcomes()
    assert found["c002"]["code"] == "deadline-exceeded", run.output
    assert wide.statuses() == {"c001": "changed", "c002": "failed", "c003": "changed"}
    assert wide.held() == {"c001", "c003"}


def test_until_and_the_user_s_check(wide: WideFleet) -> None:
    """The run ends after the second stage. The user's tasks fail one cluster, whose certificate stays."""
    (wide.directory / "check.yml").write_text(
        "- name: Check the cluster\n  ansible.builtin.fail:\n    msg: it is slow\n  when: inventory_hostname == 'c004'\n"
    )
    wide.write(names(8))
    run = wide.play(
        "--forks",
        "8",
        certflow_stages=THREE_STAGES,
        certflow_until="second",
        certflow_after_cluster="check.yml",
    )
    assert run.status == 2, run.output
    wanted = {**dict.fromkeys(names(5), "changed"), "c004": "failed"}
    assert wide.statuses() == wanted, run.output
    assert "it is slow" in wide.outcomes()["c004"]["reason"]
    assert wide.held() == set(names(5))


def test_a_check_that_does_not_end(wide: WideFleet) -> None:
    """A task of the check does not reach its host. The cluster counts as failed, and the next stage does not start."""
    unreachable = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": closed_port()}
    task = {"ansible.builtin.ping": {}, "vars": unreachable, "when": "inventory_hostname == 'c001'"}
    (wide.directory / "check.yml").write_text(json.dumps([task]))
    wide.write(names(3))
    stages = [{"name": "one", "hosts": "c001,c002"}, {"name": "two", "hosts": "rest"}]
    run = wide.play(certflow_stages=stages, certflow_after_cluster="check.yml")
    assert run.status != 0, run.output
    assert wide.statuses() == {"c001": "failed", "c002": "changed", "c003": "not started"}, run.output
    assert wide.held() == {"c001", "c002"}


def test_a_file_with_two_playbooks_works_on_the_hosts_of_each(wide: WideFleet) -> None:
    """The second playbook has one host and a report of its own. A host outside of it keeps the data of the first run."""
    wide.write(names(4))
    own = {
        "certflow_hosts": "c003",
        "webhook_certificate_secret": {"name": "second-{{ inventory_hostname }}"},
        "certflow_report": str(wide.directory / "second.json"),
    }
    plays: list[dict[str, Any]] = [
        {"import_playbook": str(CERTIFICATES)},
        {"import_playbook": str(CERTIFICATES), "vars": own},
    ]
    run_file = json.dumps({"certflow_run_file": str(wide.directory / "run.jsonl")})
    run = playbook.play(wide.directory, plays, "-i", "hosts.yml", "-e", run_file)
    assert run.status == 0, run.output
    assert wide.held() == {*names(4), "second-c003"}, run.output
    report = json.loads((wide.directory / "second.json").read_text())
    assert [(row["name"], row["status"]) for row in report["clusters"]] == [("c003", "changed")]


def test_a_report_that_is_not_written_fails_the_run(wide: WideFleet) -> None:
    """The folder of the report is lost while the run works."""
    lost = wide.directory / "lost"
    lost.mkdir()
    task = {"ansible.builtin.file": {"path": str(lost), "state": "absent"}}
    (wide.directory / "check.yml").write_text(json.dumps([task]))
    wide.write(names(2))
    run = wide.play(certflow_report=str(lost / "report.json"), certflow_after_cluster="check.yml")
    assert (run.status, run.recap("failed")) == (2, 1), run.output
    assert not absent([str(lost / "report.json")], run.output.rpartition("TASK [")[2]), run.output
    assert wide.held() == {*names(2)}


def test_a_soak_verifies_the_clusters_again(wide: WideFleet) -> None:
    """No endpoint serves the certificate, so the verification after the soak fails, and the next stage does not start."""
    wide.write(names(3))
    stages = [{"name": "canary", "hosts": "c001", "soak": "1s"}, {"name": "all", "hosts": "rest"}]
    run = wide.play(certflow_stages=stages)
    assert wide.statuses() == {"c001": "failed", "c002": "not started", "c003": "not started"}, run.output
    assert wide.outcomes()["c001"]["code"] == "verification-failed"
    assert wide.held() == {"c001"}


def test_a_playbook_that_is_imported_with_a_tag_has_its_soak(wide: WideFleet) -> None:
    """With this tag the run writes, so it verifies the canary, and what has not started is no skipped cluster."""
    wide.write(names(3))
    stages = [{"name": "canary", "hosts": "c001", "soak": "1s"}, {"name": "all", "hosts": "rest"}]
    plays: list[dict[str, Any]] = [{"import_playbook": str(CERTIFICATES), "tags": ["storage"]}]
    run = playbook.play(wide.directory, plays, *wide.arguments("--tags", "storage", certflow_stages=stages))
    assert wide.statuses() == {"c001": "failed", "c002": "not started", "c003": "not started"}, run.output
    assert (run.status, wide.held()) == (2, {"c001"})


def test_a_canary_that_waits_for_an_approval_is_not_verified(wide: WideFleet) -> None:
    wide.write(names(2), {"c001": {**WAITING, "webhook_certificate_wait": False}})
    stages = [{"name": "canary", "hosts": "c001", "soak": "1s"}, {"name": "all", "hosts": "rest"}]
    run = wide.play(certflow_stages=stages)
    assert wide.statuses() == {"c001": "left", "c002": "changed"}, run.output


def test_a_soak_of_a_later_stage_verifies_each_of_its_clusters(wide: WideFleet) -> None:
    wide.write(names(3))
    stages = [{"name": "canary", "hosts": "c001"}, {"name": "all", "hosts": "rest", "soak": "1s"}]
    run = wide.play(certflow_stages=stages)
    assert wide.statuses() == {"c001": "changed", "c002": "failed", "c003": "failed"}, run.output
    assert {wide.outcomes()[name]["code"] for name in ("c002", "c003")} == {"verification-failed"}


def test_a_run_that_is_killed(wide: WideFleet) -> None:
    """The report tells what had started. The next run completes the work and says what the last one had started."""
    hosts = names(6)
    wide.write(hosts, {"c003": WAITING})
    stages = [{"name": "all", "hosts": "rest", "max_concurrency": 3}]
    shown = wide.play_until("[5/6]", "--forks", "8", certflow_stages=stages)
    assert wide.held() == set(hosts) - {"c003"}, shown
    assert wide.statuses()["c003"] == "started"
    wide.write(hosts)
    run = wide.play("--forks", "8", certflow_stages=stages)
    assert run.status == 0, run.output
    assert not absent(["c003."], run.output.partition("PLAY [Run the role")[0])
    assert wide.statuses() == {**dict.fromkeys(hosts, "ok"), "c003": "changed"}
    assert wide.held() == set(hosts)


@pytest.mark.full
def test_two_runs_at_once(wide: WideFleet) -> None:
    """Both use one run file. Each cluster has one certificate, which one of the runs issued."""
    hosts = names(10)
    wide.write(hosts)
    reports = [wide.directory / f"report-{number}.json" for number in (1, 2)]
    running = [
        subprocess.Popen(
            playbook.command(
                wide.directory, CERTIFICATES, *wide.arguments("--forks", "4", certflow_report=str(report))
            ),
            cwd=wide.directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for report in reports
    ]
    outputs = [process.communicate()[0] for process in running]
    assert [process.returncode for process in running] == [0, 0], outputs
    rows = [json.loads(report.read_text())["clusters"] for report in reports]
    for row, other in zip(*rows, strict=True):
        assert sorted((row["status"], other["status"])) == ["changed", "ok"], outputs
    assert wide.held() == set(hosts)


def test_check_mode_and_a_torn_run_file(wide: WideFleet) -> None:
    """Check mode writes nothing to the clusters. The last line of the run file is torn, as by a full disk."""
    wide.write(names(3))
    planned = wide.play("--check")
    assert (planned.status, wide.statuses()) == (0, dict.fromkeys(names(3), "planned")), planned.output
    assert wide.held() == set()
    path = wide.directory / "run.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    run = wide.play()
    assert (run.status, wide.statuses()) == (0, dict.fromkeys(names(3), "changed")), run.output


def test_a_full_disk_stops_new_starts(wide: WideFleet) -> None:
    """The run file cannot grow after the first stage. The clusters that had no entry do not start."""
    hosts = names(6)
    wide.write(hosts)
    code = (
        "import os, resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500)); os.execv(sys.argv[1], sys.argv[1:])"
    )
    stages = [{"name": "all", "hosts": "rest", "max_concurrency": 1}]
    arguments = wide.arguments(certflow_report="", certflow_stages=stages)
    command = playbook.command(wide.directory, CERTIFICATES, *arguments)
    done = subprocess.run(
        ["python3", "-c", code, *command],
        cwd=wide.directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stdout
    assert "not started" in done.stdout, done.stdout
    assert "Traceback" not in done.stdout
    assert 0 < len(wide.held()) < len(hosts)
