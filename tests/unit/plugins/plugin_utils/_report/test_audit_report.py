# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write reports from results of audits."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._report import (
    audit_report,
    report_files,
    report_text,
)

from tests.support.audit import reports
from tests.support.audit.reports import failed, finding, result
from tests.support.failures import absent, fails, has_failed
from tests.support.fleet.fleet_files import closed_port
from tests.support.playbooks import playbook

if TYPE_CHECKING:
    from collections.abc import Iterator

RESULTS = {"bad": result(finding("expired")), "good": result(uid="uid-2"), "lost": failed("unreachable")}
SUFFIXES = tuple(report_files.FORMATS)


def run(results: dict[str, Any] = RESULTS, *, check_mode: bool = False, **options: Any) -> dict[str, Any]:
    parameters = {name: row.get("default") for name, row in audit_report.SPEC.items()}
    return audit_report.run({**parameters, "registered": "audit", **options}, results, check_mode=check_mode)


def test_every_format_is_written_with_its_mode(tmp_path: Path) -> None:
    answer = run(dest=[f"{tmp_path}/report{suffix}" for suffix in SUFFIXES])
    assert answer["problems"] == []
    assert answer["changed"]
    modes = {path.suffix: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == {suffix: 0o644 if suffix == ".prom" else 0o600 for suffix in SUFFIXES}
    report = json.loads((tmp_path / "report.json").read_text())
    assert [cluster["name"] for cluster in report["clusters"]] == sorted(RESULTS)
    assert set(answer["failed_hosts"]) == set(answer["failed_clusters"]) == {"bad", "lost"}


#: Names of hosts that a report shows in another form.
REWRITTEN = ("one\u200btwo", "PROD-ZÜRICH-Cluster01-K8s-Team-Payments-Backend-01")


def test_a_host_keeps_its_name_although_the_report_shows_another() -> None:
    answer = run({name: failed("unreachable") for name in (*REWRITTEN, "plain")})
    assert {cluster for cluster in answer["failed_clusters"] if cluster in REWRITTEN} == set()
    assert set(answer["failed_hosts"]) == {*REWRITTEN, "plain"}


def test_the_playbook_fails_for_a_host_whose_name_the_report_rewrites(tmp_path: Path) -> None:
    cluster = {"certflow_kubeconfig": str(tmp_path / "kubeconfig"), "certflow_context": "dead"}
    hosts = {"clusters": {"hosts": dict.fromkeys(REWRITTEN, cluster)}}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(hosts))
    dead = {
        "contexts": [{"name": "dead", "context": {"cluster": "dead", "user": "dead"}}],
        "clusters": [{"name": "dead", "cluster": {"server": f"https://127.0.0.1:{closed_port()}"}}],
        "users": [{"name": "dead", "user": {"token": "token"}}],
    }
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(dead))
    words = "certflow_audit_without='metrics, port-forward'"
    done = playbook.play(tmp_path, Path("certflow.kubernetes.audit"), "-i", "hosts.yml", "-e", words)
    assert (done.status, done.recap("failed")) == (2, len(REWRITTEN)), done.output
    assert f"{len(REWRITTEN)} unreachable" in done.output, done.output


def test_check_mode_writes_nothing(tmp_path: Path) -> None:
    answer = run(dest=[f"{tmp_path}/report.json"], check_mode=True)
    assert list(tmp_path.iterdir()) == []
    assert not answer["changed"]
    assert any(str(tmp_path) in line for line in answer["summary"])
    with fails("report-not-written", f"{tmp_path}/absent/report.json"):
        run(dest=[f"{tmp_path}/absent/report.json"], check_mode=True)


def test_the_mode_is_an_option(tmp_path: Path) -> None:
    run(dest=[f"{tmp_path}/report.json"], mode="0640")
    assert (tmp_path / "report.json").stat().st_mode & 0o777 == 0o640
    # YAML reads 0640 without quotes as 416.
    for wrong in ("rw", "0999", "010000", "416", "640"):
        with fails("invalid-input", "mode", f"'{wrong}',"):
            run(mode=wrong)


def test_a_report_is_compared_with_an_earlier_one(tmp_path: Path) -> None:
    old = reports.report({"bad": result(finding("expired"), finding("expiring", name="gone"))})
    (tmp_path / "before.json").write_text(report_text.dump(old))
    run(compare_with=f"{tmp_path}/before.json", dest=[f"{tmp_path}/new.json"])
    report = json.loads((tmp_path / "new.json").read_text())
    assert [cluster["name"] for cluster in report["clusters"]] == ["bad", "good", "lost"]
    assert (report["comparison"]["known"], len(report["comparison"]["gone"])) == (1, 1)


def test_clusters_with_one_uid_are_named(tmp_path: Path) -> None:
    """The faults of each stay in the report, because one of them may repeat the UID of the other."""
    both = {"prod": result(finding("deadlock"), uid="1"), "hostile": result(uid="1")}
    answer = run(both, dest=[f"{tmp_path}/new.json"])
    report = json.loads((tmp_path / "new.json").read_text())
    assert set(answer["failed_clusters"]) == {"prod"}
    named = [note for note in report["notes"] if not absent(["hostile", "prod", "UID"], note)]
    assert len(named) == 1


#: Options -> the code of the error, before a file is written. HERE is a directory.
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no earlier report": ({"compare_with": "HERE/absent.json"}, "invalid-input"),
    "comparison": ({"compare_with": "HERE/broken.json"}, "invalid-report"),
    "suffix": ({"dest": ["HERE/new.txt"]}, "invalid-input"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_options_are_refused_before_a_file_is_written(tmp_path: Path, name: str) -> None:
    (tmp_path / "broken.json").write_text('{"format_version": "9.0", "clusters": []}')
    options, code = WRONG[name]
    placed = json.loads(json.dumps({"dest": ["HERE/new.json"], **options}).replace("HERE", str(tmp_path)))
    with fails(code):
        run(**placed)
    assert [path.name for path in tmp_path.iterdir()] == ["broken.json"]


def test_a_pipe_is_refused_without_waiting_for_its_end(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.json"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=("",))
    writer.start()
    try:
        with fails("invalid-input", str(pipe)):
            run(compare_with=str(pipe))
    finally:
        reader = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)  # the thread waits until one exists
        writer.join()
        os.close(reader)


@contextlib.contextmanager
def small_files() -> Iterator[None]:
    """Let this process write no file above 1,000 bytes. It must not include a line of the tests' own output."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_that_cannot_be_written_keeps_its_content_and_the_others_are_written(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text("old")
    many = {f"cluster-{number}": result(finding("expired")) for number in range(20)}
    with small_files():
        answer = run(many, dest=[f"{tmp_path}/report.json", f"{tmp_path}/report.html"])
    assert has_failed(answer, "report-not-written", f"{tmp_path}/report.json")
    assert answer["summary"][-len(answer["problems"]) - 1 : -1] == answer["problems"]
    assert (tmp_path / "report.json").read_text() == "old"
    assert not list(tmp_path.glob("*.tmp"))
    assert len(answer["failed_hosts"]) == 20


def test_a_folder_that_is_lost_keeps_the_others(tmp_path: Path) -> None:
    answer = run(dest=[f"{tmp_path}/gone/a.html", f"{tmp_path}/a.json"])
    assert has_failed(answer, "report-not-written", f"{tmp_path}/gone/a.html")
    assert [file["changed"] for file in answer["files"]] == [False, True]
    assert set(answer["failed_hosts"]) == {"bad", "lost"}


def test_each_host_fails_without_a_report(tmp_path: Path) -> None:
    """The login of the hosts removes the earlier report after the checks of the playbook, and before the comparison."""
    earlier = tmp_path / "before.json"
    earlier.write_text(report_text.dump(reports.report({"other": result()})))
    remove = {"apiVersion": "client.authentication.k8s.io/v1", "command": "rm", "args": ["-f", str(earlier)]}
    kubeconfig = {
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
        "clusters": [{"name": "c", "cluster": {"server": f"https://127.0.0.1:{closed_port()}"}}],
        "users": [{"name": "c", "user": {"exec": {**remove, "interactiveMode": "Never"}}}],
    }
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(kubeconfig))
    cluster = {"certflow_kubeconfig": str(tmp_path / "kubeconfig"), "certflow_context": "c"}
    hosts = {"clusters": {"hosts": dict.fromkeys(("a", "b", "c"), cluster)}}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(hosts))
    words = f"certflow_compare_with={earlier}"
    done = playbook.play(tmp_path, Path("certflow.kubernetes.audit"), "-i", "hosts.yml", "-e", words)
    assert not earlier.exists()
    assert (done.status, done.recap("failed")) == (2, 3), done.output


def test_a_defect_in_one_format_keeps_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = report_files.FORMATS[".html"]._replace(render=lambda _report, _fail_on: str(1 // 0))
    monkeypatch.setitem(report_files.FORMATS, ".html", broken)
    answer = run(dest=[f"{tmp_path}/a.html", f"{tmp_path}/a.json"])
    assert has_failed(answer, "defect")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert [file["changed"] for file in answer["files"]] == [False, True]
