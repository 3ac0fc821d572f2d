# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A fleet run with an approved plan: what differs is refused before the first write, for each cluster by itself."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.failures import absent
from tests.support.fleet.wide_fleet import names, wide_fleet
from tests.support.playbooks import playbook

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.clusters import Fleet
    from tests.support.fleet.wide_fleet import WideFleet

SIX = names(6)
ONE_BY_ONE = [{"name": "all", "hosts": "rest", "max_concurrency": 1}]
SHOWN = {"ANSIBLE_SHOW_CUSTOM_STATS": "true"}
MODES = ("in_process", "module")


@pytest.fixture(scope="module")
def shared(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WideFleet]:
    with wide_fleet(fleet, tmp_path_factory.mktemp("plan")) as made:
        yield made


@pytest.fixture
def wide(shared: WideFleet) -> WideFleet:
    """Hosts without a certificate."""
    shared.empty()
    (shared.directory / "run.jsonl").unlink(missing_ok=True)
    return shared


def planned(wide: WideFleet, *arguments: str, **variables: Any) -> str:
    """Return the path of the plan of a run with these arguments."""
    path = str(wide.directory / "plan.json")
    run = wide.play("--check", *arguments, **{**variables, "certflow_report": path})
    assert run.status == 0, run.output
    return path


def artifact_of(run: playbook.PlaybookRun, job: str) -> dict[str, Any]:
    """Return the artifact of a job from the output of its run."""
    text = run.output.partition("RUN: ")[2]
    stats, _end = json.JSONDecoder().raw_decode(text)
    return dict(stats[f"certflow_report_{job}"])


def hash_of(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return str(json.load(file)["run"]["plan"])


def test_a_run_that_was_killed_is_completed_with_its_plan(wide: WideFleet) -> None:
    """Six clusters are planned, the run is killed after three, and the same command completes the rest."""
    wide.write(SIX)
    given: dict[str, Any] = {"certflow_plan": planned(wide), "certflow_stages": ONE_BY_ONE}
    shown = wide.play_until("[3/6]", **given)
    done = wide.held()
    assert set(SIX[:3]) <= done, shown
    assert len(done) < len(SIX)
    run = wide.play(**given)
    assert run.status == 0, run.output
    assert hash_of(given["certflow_plan"]) in run.output
    assert wide.held() == set(SIX)
    assert {wide.statuses()[host] for host in SIX[:3]} == {"ok"}


@pytest.mark.parametrize("mode", MODES)
def test_more_to_do_is_refused_alone(wide: WideFleet, mode: str) -> None:
    """c001 lost its certificate after the plan. c002 got one. c003 was not planned."""
    wide.write(SIX)
    wide.play("--limit", "c001")
    path = planned(wide, "--limit", "c001,c002,c004", __certflow_execution_mode=mode)
    wide.empty()
    wide.play("--limit", "c002")
    limit = "c001,c002,c003,c004"
    run = wide.play("--limit", limit, certflow_plan=path, __certflow_execution_mode=mode)
    assert run.status == 2, run.output
    expected = {"c001": "plan-differs", "c002": "ok", "c003": "plan-differs", "c004": "changed"}
    assert wide.statuses() == expected, run.output
    assert wide.held() == {"c002", "c004"}
    first = wide.outcomes()["c001"]
    assert first["code"] == "plan-differs"
    assert not absent(["Service", f"{wide.name}/c001"], first["reason"])


# Other variables of the run, and the option that differs.
ATTACKS: list[tuple[dict[str, Any], str]] = [
    ({"webhook_certificate_secret": {"name": "victim-tls"}}, "secret"),
    ({"webhook_certificate_service": "victim"}, "service"),
    ({"webhook_certificate_allow_names": ["kubernetes.default.svc"]}, "allow_names"),
    ({"webhook_certificate_signer_name": "kubernetes.io/kubelet-serving"}, "signer_name"),
]


def test_a_run_with_other_variables_than_its_plan_writes_nothing(wide: WideFleet) -> None:
    wide.write(names(2))
    path = planned(wide)
    for number, (given, option) in enumerate(ATTACKS):
        run = wide.play(certflow_plan=path, __certflow_execution_mode=MODES[number % len(MODES)], **given)
        assert run.status == 2, run.output
        assert {row["code"] for row in wide.outcomes().values()} == {"plan-differs"}, run.output
        assert not absent([option], run.output)
        assert wide.held() == set()


def test_the_plan_of_one_host_is_for_its_cluster(wide: WideFleet) -> None:
    """A run with one host has the UID in its plan too. Then the host names another cluster."""
    wide.write(SIX[:2])
    path = planned(wide, "--limit", "c001")
    wide.write(SIX[:2], {"c001": {"certflow_context": "c002"}})
    run = wide.play("--limit", "c001", certflow_plan=path)
    assert (run.status, wide.statuses()) == (2, {"c001": "plan-differs"}), run.output
    assert wide.held() == set()


def test_a_hash_and_another_file_are_no_plan(wide: WideFleet) -> None:
    wide.write(names(2))
    path = planned(wide)
    other = wide.directory / "other.json"
    with open(path, encoding="utf-8") as file:
        report = json.load(file)
    report["clusters"][0]["plan_digests"].append("write certificate:0")
    other.write_text(json.dumps(report))
    for value in (report["run"]["plan"], str(other)):
        run = wide.play(certflow_plan=value)
        assert run.status == 2, run.output
        assert not absent(["certflow_plan"], run.output)
        assert wide.held() == set()


def test_a_job_hands_its_plan_on(wide: WideFleet) -> None:
    """A later job gets the artifact of the check as an extra variable, and carries out its plan."""
    wide.write(names(2))
    check = wide.play("--check", certflow_job_name="check", env=SHOWN)
    artifact = artifact_of(check, "check")
    given: dict[str, Any] = {"certflow_required_job": "check", "certflow_report_check": artifact}
    run = wide.play(webhook_certificate_allow_names=["kubernetes.default.svc"], **given)
    assert set(wide.statuses().values()) == {"plan-differs"}, run.output
    run = wide.play(certflow_job_name="canary", certflow_hosts="c001", env=SHOWN, **given)
    canary = artifact_of(run, "canary")
    assert canary["plan"] == artifact["plan"]
    assert wide.held() == {"c001"}
    run = wide.play(certflow_required_job="canary", certflow_report_canary=canary)
    assert (run.status, wide.statuses()) == (0, {"c001": "ok", "c002": "changed"}), run.output
