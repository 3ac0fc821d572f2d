# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The run file: what is appended, what is read, and files that must not be used."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import resource
import stat
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.times import format_time
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet import (
    details_file,
    outcomes,
    private_file,
    run_file,
    run_state,
    stages,
)
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet.budget import Budget
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet.overlap import Claim, Owner
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet.private_file import RunFileError
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet.run_file import RunFile

CLAIM = Claim("uid-1", "https://a", "ca", "ns/x")
pytestmark = pytest.mark.quick
fork = multiprocessing.get_context("fork")


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "report.run")


def begin(path: str, run: str = "r1", budget: Budget | None = None, total: int = 9) -> RunFile:
    run_file.begin(path, run, total, {"hash": "sha256:0"})
    return RunFile(path, run, budget or Budget())


def outcome(status: str, **keys: Any) -> dict[str, Any]:
    return {"status": status, "code": "", "reason": "x", **keys}


def events(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def in_child(work: Callable[[], None]) -> int | None:
    """Run the function in a forked process, and return how it ended."""
    process = fork.Process(target=work)
    process.start()
    process.join(60)
    return process.exitcode


def test_a_run(path: str) -> None:
    file = begin(path)
    assert file.start_cluster("a", "canary") == ""
    assert file.claim("a", CLAIM) is None
    assert file.end_cluster("a", "canary", outcome("changed"), 12.34) == outcomes.Progress(1, 9, 0, 0)
    file.start_soak("canary", 60)
    assert file.start_cluster("b", "fleet") == ""
    assert file.end_cluster("b", "fleet", outcome("failed", code="timed-out"), 2) == outcomes.Progress(
        2, 9, 1, 0
    )
    refusal = file.start_cluster("c", "fleet")
    assert refusal.startswith("b did not succeed")
    file.end_run()
    state = file.read()
    assert state.is_ended
    assert {host: cluster.status for host, cluster in state.clusters.items()} == {
        "a": "changed",
        "b": "failed",
    }
    assert (state.clusters["b"].code, state.clusters["a"].seconds) == ("timed-out", 12.3)
    assert [event["event"] for event in events(path)] == [
        *(
            "run-started",
            "cluster-started",
            "cluster-claimed",
            "cluster-ended",
            "soak-started",
        ),
        *("cluster-started", "cluster-ended", "run-ended"),
    ]
    assert all(event["run"] == "r1" for event in events(path))
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_the_last_outcome_of_a_cluster_counts(path: str) -> None:
    """The verification after the soak may fail a cluster that succeeded before."""
    file = begin(path)
    file.start_cluster("a", "fleet")
    file.end_cluster("a", "fleet", outcome("changed"))
    assert file.start_cluster("b", "fleet") == ""
    assert file.end_cluster("a", "fleet", outcome("failed")) == outcomes.Progress(1, 9, 1, 0)
    assert file.start_cluster("c", "fleet") != ""


def test_two_hosts_of_one_cluster(path: str) -> None:
    file = begin(path)
    assert file.claim("a", CLAIM) is None
    assert file.claim("b", CLAIM._replace(work="ns/y")) is None
    assert file.claim("c", CLAIM) == Owner("a", is_proven=True)
    assert file.claim("a", CLAIM) is None  # again
    assert begin(path, "r2").claim("c", CLAIM) is None  # in another run


def test_the_next_run_tells_what_the_last_one_had_started(path: str) -> None:
    assert run_file.begin(path, "r1", 3, {}) is None
    file = RunFile(path, "r1")
    for host in "ab":
        file.start_cluster(host, "canary")
    file.end_cluster("a", "fleet", outcome("ok"))
    found = run_file.begin(path, "r2", 3, {})
    assert found is not None
    assert (found.run, found.hosts, found.at) == ("r1", ("b",), events(path)[0]["at"])
    RunFile(path, "r2").start_cluster("c", "fleet")
    RunFile(path, "r2").end_run()
    assert run_file.begin(path, "r3", 3, {}) is None


def test_a_canary_that_waits_stops_later_stages(path: str) -> None:
    file = begin(path, budget=Budget(5, stages.NAMED))
    file.end_cluster("a", "canary", outcome("waiting", opens_at="2026-12-05T22:00:00Z"))
    assert file.start_cluster("b", "canary") == ""
    assert file.start_cluster("c", "fleet") != ""


def test_two_runs_at_once_do_not_share_a_budget(path: str) -> None:
    first, second = begin(path, "r1"), begin(path, "r2")
    first.start_cluster("a", "fleet")
    first.end_cluster("a", "fleet", outcome("failed"))
    assert second.start_cluster("b", "fleet") == ""
    assert first.start_cluster("b", "fleet") != ""


@pytest.mark.parametrize(
    "torn", [b'{"event":"cluster-ended","run":"r1","clus', b"\x00\x00", b'{"event"', b"{"]
)
def test_a_torn_last_line_is_dropped(path: str, torn: bytes) -> None:
    file = begin(path)
    file.start_cluster("a", "fleet")
    whole = Path(path).read_bytes()
    Path(path).write_bytes(whole + torn)
    assert file.read().unfinished == ["a"]
    assert Path(path).read_bytes() == whole
    file.end_cluster("a", "fleet", outcome("ok"))
    assert [event["event"] for event in events(path)] == ["run-started", "cluster-started", "cluster-ended"]


@pytest.mark.parametrize(
    "torn", [b"", b"{", b'{"event":"run-st', b'{"event":"run-started","run":"r0","total']
)
def test_a_torn_first_line_is_dropped(path: str, torn: bytes) -> None:
    """The first write of an earlier run was torn."""
    Path(path).write_bytes(torn)
    assert begin(path).start_cluster("a", "fleet") == ""
    assert [event["event"] for event in events(path)] == ["run-started", "cluster-started"]


@pytest.mark.parametrize(
    "line",
    [
        *(b"\x00\x00\x00", b"[]", b"7", b'{"event":"x","run":"r1"}', b'{"event":"cluster-ended","run":["r1"]}'),
        *(b'{"event":"cluster-ended","run":"r1","cluster":7}', b"[" * 5000, b'{"event":"cluster-ended"}'),
        b'{"event":"cluster-ended","run":"r1","cluster":"a","outcome":["failed"]}',
    ],
)  # fmt: skip
def test_a_line_that_is_not_an_event_is_passed_over(path: str, line: bytes) -> None:
    file = begin(path)
    Path(path).write_bytes(Path(path).read_bytes() + line + b"\n")
    assert file.start_cluster("a", "fleet") == ""
    assert file.read().unfinished == ["a"]


def test_the_first_failure_stops_further_starts_exactly(path: str) -> None:
    """Many processes start clusters at once: after the failure is recorded, none starts."""
    file = begin(path, budget=Budget(2), total=60)
    file.end_cluster("h60", "canary", outcome("ok"))

    def work(first: int) -> None:
        for number in range(first, 60, 12):
            if not file.start_cluster(f"h{number}", "fleet"):
                file.end_cluster(f"h{number}", "fleet", outcome("failed" if number % 3 else "ok"))

    processes = [fork.Process(target=work, args=(number,)) for number in range(12)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 12
    failed = 0
    for event in events(path):
        failed += event.get("outcome", {}).get("status") == "failed"
        assert not (failed > 2 and event["event"] == "cluster-started")
    assert failed > 2


def test_a_process_that_died_counts_as_a_failure(path: str) -> None:
    file = begin(path)
    assert in_child(lambda: os._exit(file.start_cluster("a", "fleet") != "")) == 0
    assert file.start_cluster("b", "fleet").startswith("a did not succeed")
    assert RunFile(path, "r1", Budget(1, canary="")).start_cluster("b", "fleet") == ""


def test_the_clusters_after_an_unreachable_canary_start_one_at_a_time(path: str) -> None:
    """Many processes start clusters at once. No second one starts before a cluster has answered."""
    file = begin(path, budget=Budget(20), total=60)
    file.end_cluster("h60", "canary", outcome("unreachable"))

    def work(first: int) -> None:
        for number in range(first, 60, 12):
            if not file.start_cluster(f"h{number}", "fleet"):
                time.sleep(0.01)
                file.end_cluster(f"h{number}", "fleet", outcome("unreachable" if number < 12 else "ok"))

    processes = [fork.Process(target=work, args=(number,)) for number in range(12)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 12
    at_work: set[str] = set()
    for event in events(path):
        if event.get("outcome", {}).get("status") == "ok":
            return
        if event["event"] == "cluster-started":
            assert not at_work, event
            at_work.add(event["cluster"])
        at_work -= {event["cluster"]} if event["event"] == "cluster-ended" else set()
    raise AssertionError("no cluster answered")


def test_a_full_disk_stops_further_starts(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part of the line was written. The file is as before, and the next write works."""
    file = begin(path)
    before = Path(path).read_bytes()
    write = os.write

    def fill(descriptor: int, data: bytes) -> int:
        if len(data) < 20:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, bytes(data)[:30])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", fill)
        with pytest.raises(RunFileError) as caught:
            file.start_cluster("a", "fleet")
    assert str(caught.value).isprintable()
    assert Path(path).read_bytes() == before
    assert file.start_cluster("a", "fleet") == ""


def test_a_limit_of_the_file_size_stops_further_starts(path: str) -> None:
    file = begin(path)
    size = os.path.getsize(path)

    def work() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, size + 10))
        try:
            file.start_cluster("a", "fleet")
        except RunFileError:
            os._exit(42)

    assert in_child(work) == 42
    assert os.path.getsize(path) == size


def test_a_file_that_disappears_stops_further_starts(path: str) -> None:
    file = begin(path)
    os.unlink(path)
    with pytest.raises(RunFileError):
        file.start_cluster("a", "fleet")
    assert not os.path.exists(path)
    begin(path, "r2")
    with pytest.raises(RunFileError):
        file.start_cluster("a", "fleet")


def link(path: Path) -> None:
    (path.parent / "other").write_text("")
    path.symlink_to(path.parent / "other")


def hard_link(path: Path) -> None:
    (path.parent / "other").write_text("")
    os.link(path.parent / "other", path)


def open_folder(path: Path) -> None:
    path.parent.chmod(0o777)


def large_file(path: Path) -> None:
    path.write_bytes(b'{"event":"run-started","run":"r1"}\n')
    os.truncate(path, 2**27)


# How the path is prepared.
UNUSABLE: dict[str, Callable[[Path], Any]] = {
    "link": link,
    "hard link": hard_link,
    "folder": lambda path: path.mkdir(),
    "pipe": os.mkfifo,
    "folder of everyone": open_folder,
    "folder of a group": lambda path: path.parent.chmod(0o770),
    "another file": lambda path: path.write_text("plugin: certflow.kubernetes.kubeconfig\n"),
    "binary file": lambda path: path.write_bytes(b"\x7fELF\n\xff"),
    "short file": lambda path: path.write_text("password"),
    "json file": lambda path: path.write_text('{"event":"x"}'),
    "large file": large_file,
}


@pytest.mark.parametrize("prepare", UNUSABLE.values(), ids=UNUSABLE)
def test_a_path_that_must_not_be_used(path: str, prepare: Callable[[Path], Any]) -> None:
    """The message is one line with a remedy. A file of another kind keeps its content and its mode."""
    prepare(Path(path))

    def look() -> tuple[int, bytes]:
        is_file = Path(path).is_file()
        return os.lstat(path).st_mode if os.path.lexists(path) else 0, Path(path).read_bytes()[
            :99
        ] if is_file else b""

    before = look()
    with pytest.raises(RunFileError) as caught:
        begin(path)
    assert caught.value.code == "run-file-unusable"
    assert caught.value.remedy
    assert path in caught.value.cause
    assert look() == before


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(RunFileError):
        begin(str(tmp_path / "no" / "report.run"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_a_file_of_another_user(path: str) -> None:
    begin(path)
    os.chown(path, 12345, -1)
    with pytest.raises(RunFileError):
        begin(path, "r2")


def test_a_folder_such_as_tmp_may_be_used(path: str) -> None:
    Path(path).parent.chmod(0o1777)
    assert begin(path).start_cluster("a", "fleet") == ""


def test_a_file_that_others_may_read_becomes_private(path: str) -> None:
    begin(path)
    os.chmod(path, 0o644)
    begin(path, "r2")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_a_held_lock_is_one_line(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file = begin(path)
    monkeypatch.setattr(private_file, "LOCK_TIMEOUT", 0.05)
    with file._open(), pytest.raises(RunFileError):
        file.read()


def test_a_large_file_is_reduced_to_the_runs_that_have_not_ended(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_file, "MOST_KEPT_BYTES", 3000)
    monkeypatch.setattr(run_file, "MOST_BYTES", 7000)
    begin(path, "open").start_cluster("a", "fleet")
    for number in range(40):
        begin(path, f"done-{number}").end_run()
        assert os.path.getsize(path) < 4000
    assert {event["run"] for event in events(path)} >= {"open", "done-39"}
    assert RunFile(path, "open").read().unfinished == ["a"]
    for number in range(40):
        begin(path, f"killed-{number}")
    assert "open" not in {event["run"] for event in events(path)}
    assert os.path.getsize(path) < 4000


@pytest.mark.parametrize("call", range(0, 36, 3))
def test_a_kill_while_old_runs_are_removed_loses_no_line(
    path: str, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    """The process ends before a system call."""
    begin(path, "open").start_cluster("a", "fleet")
    RunFile(path, "open").end_cluster("b", "fleet", large(1))
    monkeypatch.setattr(run_file, "MOST_KEPT_BYTES", 100)

    def begin_and_die() -> None:
        left = iter(range(call))
        for name in ("write", "ftruncate", "fsync", "fchmod", "replace", "unlink", "close"):
            real = getattr(os, name)

            def mortal(*arguments: Any, real: Callable[..., Any] = real, **options: Any) -> Any:
                if next(left, None) is None:
                    os._exit(9)
                return real(*arguments, **options)

            setattr(os, name, mortal)
        begin(path, "new")
        os._exit(0)

    assert in_child(begin_and_die) in (0, 9)
    assert RunFile(path, "open").read().unfinished == ["a"]
    assert RunFile(path, "open").read_details().clusters["b"].outcome == large(1)


def test_a_process_that_waits_for_the_lock_reads_the_new_file(path: str) -> None:
    file = begin(path)
    is_locked = fork.Event()
    # The fork must not inherit the lock.
    waiting = fork.Process(
        target=lambda: os._exit(is_locked.wait(60) and bool(file.start_cluster("a", "fleet")))
    )
    waiting.start()
    with private_file.opened(path, is_locked=True) as held:
        is_locked.set()
        time.sleep(0.2)
        held.replace(Path(path).read_bytes())
    waiting.join(60)
    assert waiting.exitcode == 0
    assert file.read().unfinished == ["a"]
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


@pytest.mark.parametrize(("pid", "days", "is_kept"), [(os.getpid(), 9, True), (0, 1, True), (0, 9, False)])
def test_a_run_at_work_stays_in_the_file(
    path: str, monkeypatch: pytest.MonkeyPatch, pid: int, days: int, is_kept: bool
) -> None:
    """A run without a process may be one of another container, so only its silence ends it."""
    monkeypatch.setattr(run_file, "MOST_KEPT_BYTES", 100)
    then = format_time(datetime.now(timezone.utc) - timedelta(days=days))
    monkeypatch.setattr(run_file, "_now", lambda: then)
    runs = [f"r{number}" for number in range(9)]
    for run in runs:
        run_file.begin(path, run, 9, {}, pid)
    assert [run for run in runs[:-1] if is_kept] == [event["run"] for event in events(path)][:-1]


def test_an_outcome_comes_back_whole(path: str) -> None:
    found = outcome(
        "failed", code="timed-out", evidence=["a", "b"], days_left=None, steps=[{"id": "x", "changed": True}]
    )
    file = begin(path)
    file.end_cluster("a", "fleet", found)
    assert file.read_details().clusters["a"].outcome == found
    assert file.read().clusters["a"].code == "timed-out"


WRITE = {"verb": "PATCH", "kind": "ValidatingWebhookConfiguration", "name": "x" * 40, "digest": "0" * 64}
# The number of writes in one cluster.
NUMBERS = (1, 18, 40, 400)


def large(number: int) -> dict[str, Any]:
    """Return an outcome with so many writes."""
    return outcome(
        "planned",
        reason="x" * number * 999,
        plan_digests=[f"write add-ca:{entry:064}" for entry in range(number)],
        repairs=[
            {"finding": str(entry), "reason": "\U0001f600" * 99, "writes": [WRITE]} for entry in range(number)
        ],
    )


@pytest.mark.parametrize("number", NUMBERS)
def test_a_large_outcome_comes_back_whole(path: str, number: int) -> None:
    """The event of a cluster stays short, and has the number of entries."""
    file = begin(path)
    file.end_cluster("a", "fleet", large(number))
    file.end_cluster("b", "fleet", outcome("ok"))
    assert file.read_details().clusters["a"].outcome == large(number)
    assert events(path)[1]["counts"] == {"plan_digests": number, "repairs": number}
    assert len(Path(path).read_bytes()) < 1000
    lines = Path(path + details_file.SUFFIX).read_bytes().splitlines()
    assert [json.loads(line)["cluster"] for line in lines] == ["a", "b"]


def test_details_of_another_file_or_of_a_torn_line_are_absent(path: str) -> None:
    file, details = begin(path), Path(path + details_file.SUFFIX)
    file.end_cluster("a", "fleet", large(1))
    details.write_bytes(details.read_bytes()[:-9])
    file.end_cluster("b", "fleet", large(1))
    clusters = file.read_details().clusters
    assert clusters["a"].outcome == {"status": "planned", "code": ""}
    assert clusters["b"].outcome == large(1)
    details.unlink()
    assert file.read_details().clusters["b"].status == "planned"


@pytest.mark.parametrize("prepare", [prepare for name, prepare in UNUSABLE.items() if "of " not in name])
def test_a_file_of_details_that_must_not_be_used(path: str, prepare: Callable[[Path], Any]) -> None:
    """The run does not begin, and the file stays as it is."""
    prepare(Path(path + details_file.SUFFIX))
    with pytest.raises(RunFileError):
        begin(path)


def test_details_are_private_and_are_removed_with_their_run(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_file, "MOST_KEPT_BYTES", 3000)
    begin(path, "open").end_cluster("a", "fleet", large(1))
    details = Path(path + details_file.SUFFIX)
    assert stat.S_IMODE(os.stat(details).st_mode) == 0o600
    for number in range(9):
        file = begin(path, f"done-{number}")
        file.end_cluster("a", "fleet", large(1))
        file.end_run()
    assert {json.loads(line)["run"] for line in details.read_bytes().splitlines()} == {"open", "done-8"}
    assert RunFile(path, "open").read_details().clusters["a"].outcome == large(1)


def test_a_full_disk_leaves_the_status(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The details do not fit. The budget has the status of the cluster, and the report says that the details are lost."""
    file = begin(path)
    monkeypatch.setattr(details_file, "append", lambda *_: (_ for _ in ()).throw(RunFileError("full")))
    with pytest.raises(RunFileError):
        file.end_cluster("a", "fleet", large(1))
    assert not file.read().clusters
    file.end_cluster("a", "fleet", {"status": "failed", "code": "x"})
    assert file.read().failed == ["a"]


def test_a_process_reads_only_what_was_added(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process appends meanwhile, and its events count."""
    file = begin(path)
    file.start_cluster("a", "fleet")
    assert in_child(lambda: os._exit(file.end_cluster("a", "fleet", outcome("failed")).failed)) == 1
    parsed: list[bytes] = []
    to_event = run_state.to_event

    def noted(line: bytes) -> Any:
        parsed.append(line)
        return to_event(line)

    monkeypatch.setattr(run_state, "to_event", noted)
    assert file.start_cluster("b", "fleet").startswith("a did not succeed")
    assert [json.loads(line)["event"] for line in parsed] == ["cluster-started", "cluster-ended"]


def test_only_the_report_reads_details(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each cluster reads the outcomes of all others before it starts."""
    file, begun = begin(path), begin(path, "forked")
    told = {**outcome("ok"), "findings": [{"check": "expired"}], "repairs": []}
    begun.end_cluster("a", "fleet", told)
    with monkeypatch.context() as patch:
        patch.setattr(details_file, "read", lambda *_: 1 / 0)
        patch.setattr(run_file, "_KNOWN", {})
        assert begun.read().clusters["a"].outcome == {"status": "ok", "code": ""}
    assert begun.read_details().clusters["a"].outcome == told
    assert file.read().clusters == {}


def test_a_file_that_was_reduced_meanwhile_is_read_again(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    done = begin(path, "done")
    for number in range(9):
        done.end_cluster(f"h{number}", "fleet", outcome("failed"))
    done.end_run()
    file = begin(path, "open")
    file.end_cluster("a", "fleet", outcome("failed"))
    monkeypatch.setattr(run_file, "MOST_KEPT_BYTES", 100)
    begin(path, "other")
    assert {event["run"] for event in events(path)} == {"open", "other"}
    assert file.read().failed == ["a"]
    assert file.start_cluster("b", "fleet") != ""
    with pytest.raises(RunFileError):
        done.read()


def test_a_file_with_other_lines_of_the_same_length_is_read_again(path: str) -> None:
    file = begin(path)
    file.end_cluster("a", "fleet", outcome("failed"))
    assert file.read().failed == ["a"]
    Path(path).write_bytes(Path(path).read_bytes().replace(b'"cluster":"a"', b'"cluster":"b"'))
    assert file.read().failed == ["b"]


def test_names_with_any_character_come_back(path: str) -> None:
    file = begin(path, budget=Budget(canary=""))
    names = ['"\n{"event":"run-ended","run":"r1"}', "\u202e\x00", "\ud800", "{{ x }}", "r1"]
    for name in names:
        assert file.start_cluster(name, name) == ""
    assert file.read().unfinished == names
    assert not file.read().is_ended


def test_the_name_of_a_run() -> None:
    now = datetime(2026, 12, 4, 22, 0, tzinfo=timezone.utc)
    names = {run_file.new_run_id(now) for _number in range(50)}
    assert len(names) == 50
    assert all(name.startswith("20261204T220000Z-") for name in names)
