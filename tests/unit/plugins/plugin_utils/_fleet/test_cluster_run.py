# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The work on one cluster of a fleet run: its gate, its outcome, and its line of progress, with a real run file."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet import (
    cluster_run,
    fleet_run,
    fleet_task,
    run_file,
    run_report,
)
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet.budget import Budget
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet.cluster_run import ClusterTask
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet.fleet_run import FleetRun
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet.overlap import Claim
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet.stages import Stage
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet.windows import Window

from tests.support.failures import fails

HOSTS = tuple(f"c{number}" for number in range(1, 31))
KEPT = {
    "changed": False,
    "reason": "the certificate is kept",
    "not_after": "2027-01-01T00:00:00Z",
    "days_left": 90,
}
ISSUED = {**KEPT, "changed": True, "reason": "issued a certificate"}


class Rig:
    """A run in a directory, and the lines that it printed."""

    def __init__(self, directory: Path, budget: Budget) -> None:
        self.lines: list[str] = []
        stages = (Stage("canary", HOSTS[:1]), Stage("rest", HOSTS[1:]))
        self.run = FleetRun("webhook_certificate", str(directory / "run"), "one", stages, budget)
        run_file.begin(self.run.path, self.run.run, len(HOSTS), {})

    def work(self, host: str, result: dict[str, Any] | BaseException, **values: Any) -> dict[str, Any]:
        """Return the result of the working task on a host, whose module returns or raises ``result``."""
        self.calls = 0

        def work() -> dict[str, Any]:
            self.calls += 1
            if isinstance(result, BaseException):
                raise result
            return result

        def look() -> dict[str, Any]:
            self.looks += 1
            return work()

        self.looks = 0
        task = replace(ClusterTask(host, cluster_run.WORK, reads_only=False), **values)
        return cluster_run.work_on(self.run, task, cluster_run.Actions(work, self.lines.append, look))

    def status(self, host: str) -> str:
        return str(run_report.outcomes_of(self.run)[host]["status"])


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path, Budget(1))


@pytest.mark.parametrize(
    ("result", "reads_only", "status", "code"),
    [
        (KEPT, False, "ok", ""),
        (ISSUED, False, "changed", ""),
        (ISSUED, True, "planned", ""),
        ({"failed": True, "code": "unreachable", "cause": "no answer"}, False, "unreachable", "unreachable"),
        ({"failed": True, "code": "owned-by-another", "cause": "Helm"}, False, "refused", "owned-by-another"),
        ({"failed": True, "code": "owned-by-another", "cause": "Helm", "changed": True}, False, "failed", "owned-by-another"),
        ({"failed": True, "code": "plan-differs", "cause": "more"}, False, "plan-differs", "plan-differs"),
        ({"failed": True, "code": "plan-differs", "cause": "more", "changed": True}, False, "failed", "plan-differs"),
        ({"failed": True, "msg": "two\nlines"}, False, "failed", ""),
        ({"refusal": "Helm manages it", "changed": False}, True, "refused", "upgrade-refused"),
    ],
)  # fmt: skip
def test_the_outcome_of_a_result(
    rig: Rig, result: dict[str, Any], reads_only: bool, status: str, code: str
) -> None:
    outcome = rig.work("c2", result, reads_only=reads_only)[cluster_run.OUTCOME]
    assert (outcome["status"], outcome["code"]) == (status, code)
    assert "\n" not in outcome["reason"]
    assert rig.status("c2") == status


def test_a_message_of_ansible_loses_its_login(rig: Rig) -> None:
    message = "Received HTTP error for https://probe:s3cret-word@status.example/c2 : HTTP Error 403"
    reason = rig.work("c2", {"failed": True, "msg": message})[cluster_run.OUTCOME]["reason"]
    assert "s3cret-word" not in reason
    assert "status.example" in reason


def test_a_cluster_after_a_spent_budget_is_not_contacted(rig: Rig) -> None:
    for host in ("c2", "c3"):
        rig.work(host, {"failed": True, "msg": "broken"})
    answer = rig.work("c4", KEPT)
    assert (rig.calls, answer.get("failed", False)) == (0, False)
    assert rig.status("c4") == "not started"


def test_a_cluster_that_the_plan_does_not_have_is_refused_alone(rig: Rig) -> None:
    """It is not contacted, and it does not count for the budget."""
    rig.run = replace(rig.run, plan={"hash": "x", "clusters": {host: [] for host in ("c1", "c5")}})
    for host in ("c2", "c3", "c4"):
        outcome = rig.work(host, ISSUED)[cluster_run.OUTCOME]
        assert (rig.calls, outcome["status"], outcome["code"]) == (0, "plan-differs", "plan-differs")
    rig.work("c5", ISSUED)
    assert (rig.calls, rig.status("c5")) == (1, "changed")


def closed() -> tuple[Window, ...]:
    """Return a window that opens in some hours."""
    opens = datetime.now(timezone.utc) + timedelta(hours=5)
    return (Window(frozenset(range(7)), opens.hour * 60, opens.hour * 60 + 30, timezone.utc),)


def test_a_run_that_writes_nothing_ignores_the_window_and_shows_it(rig: Rig) -> None:
    planned = {**ISSUED, "plan_digests": ["cluster:c", "write certificate:x"]}
    outcome = rig.work("c2", planned, reads_only=True, windows=closed())[cluster_run.OUTCOME]
    assert (rig.calls, outcome["status"]) == (1, "planned")
    assert outcome["plan_digests"] == planned["plan_digests"]
    assert outcome["opens_at"] in outcome["reason"]
    outcome = rig.work("c3", ISSUED, windows=closed())[cluster_run.OUTCOME]
    assert (rig.calls, outcome["status"]) == (0, "waiting")


@pytest.mark.parametrize(("windows", "looks"), [(closed(), 1), ((), 0)])
def test_a_verification_outside_of_the_window_creates_nothing(
    rig: Rig, windows: tuple[Window, ...], looks: int
) -> None:
    rig.work("c2", ISSUED)
    rig.work("c2", KEPT, phase=cluster_run.VERIFY, windows=windows)
    assert rig.looks == looks
    assert any("creates no test object" in line for line in rig.lines) == bool(looks)


def test_an_error_of_the_work_is_recorded_and_raised_again(rig: Rig) -> None:
    with pytest.raises(ValueError, match="defect"):
        rig.work("c2", ValueError("defect"))
    assert rig.status("c2") == "failed"


def test_a_signal_leaves_the_cluster_started(rig: Rig) -> None:
    with pytest.raises(SystemExit):
        rig.work("c2", SystemExit())
    assert rig.status("c2") == "started"


def test_a_recorded_failure_is_printed_once(rig: Rig) -> None:
    """The end of the run prints it and fails the host. The result of the work has no second copy."""
    failed = {
        "failed": True,
        "changed": True,
        "code": "x",
        "cause": "broken",
        "msg": "a: broken",
        "plan": [{"id": "p" * 9000}],
    }
    answer = rig.work("c2", failed)
    assert answer == {"changed": True, "msg": "a: broken", cluster_run.OUTCOME: answer[cluster_run.OUTCOME]}
    assert rig.status("c2") == "failed"
    assert rig.work("c3", failed, phase=cluster_run.VERIFY)["failed"], "the user's check must not run"


class TaskTimeoutError(BaseException):
    """Ansible's error has this name."""


def test_a_deadline_that_has_passed(rig: Rig) -> None:
    answer = rig.work("c2", TaskTimeoutError("timed out"), deadline=1)
    assert answer[cluster_run.OUTCOME]["code"] == "deadline-exceeded"
    assert rig.status("c2") == "failed"


def test_a_cluster_that_is_unreachable_until_its_deadline(rig: Rig) -> None:
    """It has shown nothing about the change, so it does not fail as a canary."""
    rig.work("c1", {"failed": True, "code": "unreachable", "cause": "no answer"}, deadline=1)
    assert rig.status("c1") == "unreachable"
    rig.work("c2", KEPT)
    assert rig.status("c2") == "ok"


def test_a_canary_that_was_written_to_and_does_not_answer_has_failed(rig: Rig) -> None:
    """The change may be the cause, so no further cluster starts."""
    rig.work("c1", {"failed": True, "code": "unreachable", "cause": "no answer", "changed": True})
    assert rig.status("c1") == "failed"
    rig.work("c2", KEPT)
    assert rig.status("c2") == "not started"


def test_quiet_clusters_share_lines(rig: Rig) -> None:
    """Of 30 quiet clusters every tenth has a line. A cluster that changed has one."""
    for host in HOSTS:
        rig.work(host, ISSUED if host == "c13" else KEPT)
    assert [line.partition("]")[0] for line in rig.lines] == ["[10/30", "[13/30", "[20/30", "[30/30"]


def test_a_verification_is_recorded_only_if_it_fails(rig: Rig) -> None:
    rig.work("c2", ISSUED)
    rig.work("c2", KEPT, phase=cluster_run.VERIFY)
    assert rig.status("c2") == "changed"
    rig.work("c2", {"failed": True, "code": "verification-failed"}, phase=cluster_run.VERIFY)
    assert rig.status("c2") == "failed"


@pytest.mark.parametrize(
    ("start", "status"),
    [("8.7.0", "changed"), ("8.4.0", "failed"), ("8.8.0", "failed"), ("", "changed")],
)
def test_a_release_that_another_program_replaced_during_the_soak(rig: Rig, start: str, status: str) -> None:
    """The verification judges the installed release. "" is a release that no image shows."""
    rig.run = replace(rig.run, role="snapshot_controller")
    hops = [{"start": start, "release": "8.7.0"}]
    worked = rig.work("c2", {"changed": True, "hops": [{"start": "8.4.0", "release": "8.7.0"}]})
    done = worked[cluster_run.OUTCOME]
    rig.work("c2", {"changed": False, "verified": [], "hops": hops}, phase=cluster_run.VERIFY, done=done)
    assert rig.status("c2") == status


def test_a_run_that_only_verifies_is_verified_again_after_a_soak(rig: Rig) -> None:
    """The installed release is another one than that of the variables."""
    rig.run = replace(rig.run, role="snapshot_controller")
    found = {
        "changed": False,
        "verified": [],
        "due": [],
        "installed": {"version": "8.4.0"},
        "hops": [{"start": "8.4.0", "release": "8.6.0"}, {"start": "8.6.0", "release": "8.7.0"}],
    }
    done = rig.work("c2", found)[cluster_run.OUTCOME]
    rig.work("c2", found, phase=cluster_run.VERIFY, done=done)
    assert rig.status("c2") == "ok"


@pytest.mark.parametrize("code", ["unreachable", "managed-bundle"])
@pytest.mark.parametrize(("worked", "next_status"), [(ISSUED, "not started"), (KEPT, "ok")])
def test_a_canary_that_changed_and_is_not_verified_has_failed(
    rig: Rig, worked: dict[str, Any], next_status: str, code: str
) -> None:
    """The change may be the cause. Without a change the canary has shown nothing."""
    done = rig.work("c1", worked)[cluster_run.OUTCOME]
    failure = {"failed": True, "code": code, "cause": "no answer"}
    rig.work("c1", failure, phase=cluster_run.VERIFY, done=done)
    assert (rig.status("c1") == "failed") is (worked is ISSUED)
    rig.work("c2", KEPT)
    assert rig.status("c2") == next_status


def test_a_check_of_the_user_that_reaches_no_cluster_has_failed(rig: Rig) -> None:
    rig.work("c1", ISSUED)
    cluster_run.begin_check(rig.run, "c1")
    failure = {"failed": True, "code": "unreachable", "msg": "no answer"}
    assert cluster_run.record_failure(rig.run, "c1", failure, "check")["status"] == "failed"


def test_a_failed_verification_that_was_not_recorded_is_recorded_later(rig: Rig) -> None:
    """A full disk has kept it out of the run file, where the work is recorded as changed. A recorded one keeps its time."""
    rig.work("c2", ISSUED)
    outcome = {"status": "failed", "code": "verification-failed", "reason": "no endpoint serves it"}
    for _repetition in range(2):
        assert cluster_run.record_failure(rig.run, "c2", {cluster_run.OUTCOME: outcome}, "verify") == outcome
        assert rig.status("c2") == "failed"
    events = [json.loads(line) for line in Path(rig.run.path).read_text().splitlines()]
    assert [event["event"] for event in events].count("cluster-ended") == 2


def test_a_failed_verification_keeps_its_cause(rig: Rig) -> None:
    rig.run = replace(rig.run, role="webhook_repair")
    failure = {"failed": True, "changed": True, "code": "unreachable", "cause": "no answer"}
    outcome = rig.work("c2", failure, phase=cluster_run.VERIFY)[cluster_run.OUTCOME]
    assert outcome["code"] == "unreachable"


def test_a_run_file_that_cannot_be_used_starts_no_cluster(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "run").unlink()
    outcome = rig.work("c2", KEPT)[cluster_run.OUTCOME]
    assert (rig.calls, outcome["status"], outcome["code"]) == (0, "not started", "run-file-unusable")


def test_a_run_survives_as_plain_data(rig: Rig) -> None:
    assert fleet_run.from_data(rig.run.to_data()) == rig.run


@pytest.mark.parametrize(
    ("uid", "ca", "is_refused"), [("u-1", "ca", True), ("u-1", "", False), ("", "ca", False)]
)
def test_a_second_host_of_a_cluster(rig: Rig, uid: str, ca: str, is_refused: bool) -> None:
    """Without the UID or a verified server there is only a warning."""
    claim = Claim(uid, "https://a", ca, "apps/tls")
    fleet_task.claim(rig.run, "c1", claim)
    fleet_task.claim(rig.run, "c3", claim._replace(work="apps/other"))
    if is_refused:
        with fails("same-cluster", "c1", "c2", "apps/tls"):
            fleet_task.claim(rig.run, "c2", claim)
    else:
        fleet_task.claim(rig.run, "c2", claim)


def statuses(path: Path) -> list[tuple[str, str]]:
    """Return the status of the first three hosts in a report, and their reasons."""
    rows = {row["name"]: row for row in json.loads(path.read_text())["clusters"]}
    return [(rows[host]["status"], rows[host]["reason"]) for host in HOSTS[:3]]


def with_report(rig: Rig, path: Path) -> FleetRun:
    rig.run = replace(rig.run, report=str(path))
    run_report.write(rig.run, run_report.outcomes_of(rig.run))
    os.utime(path, (0, 0))
    return rig.run


def test_the_report_of_a_run_that_works_tells_which_cluster_has_started(rig: Rig, tmp_path: Path) -> None:
    """A run that is killed leaves this report. It does not say of a cluster at work that it was not reached."""
    path = tmp_path / "report.json"
    run = with_report(rig, path)
    seen = []

    def work() -> dict[str, Any]:
        seen.extend(statuses(path))
        return ISSUED

    task = ClusterTask("c2", cluster_run.WORK, reads_only=False)
    cluster_run.work_on(run, task, cluster_run.Actions(work, rig.lines.append, work))
    assert seen[1:] == [(status, run_report.REASONS[status]) for status in ("started", "not started")]


@pytest.mark.parametrize(("is_parent", "is_ended", "is_written"), [(True, False, True), (False, False, False), (True, True, False)])  # fmt: skip
def test_the_report_of_a_run_that_is_interrupted(
    rig: Rig, tmp_path: Path, is_parent: bool, is_ended: bool, is_written: bool
) -> None:
    """The main process writes it at its end. A forked process does not, and the report of an ended run stays."""
    path = tmp_path / "report.json"
    rig.work("c1", ISSUED)
    run = with_report(rig, path)
    run.file.start_cluster("c2", "rest")
    if is_ended:
        run.file.end_run()
    before = path.read_bytes()
    run_report._write_unfinished(run, os.getpid() if is_parent else 1)
    assert (path.read_bytes() != before) == is_written
    if is_written:
        assert [status for status, _reason in statuses(path)] == ["changed", "started", "not started"]
