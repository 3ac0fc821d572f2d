# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Test the ownership of processes and directories, and the removal of leftovers."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.support.clusters import directories, processes
from tests.support.clusters.errors import ClusterError
from tests.support.clusters.processes import Process
from tests.support.waiting import becomes_true

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of all fleets, for one test."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path / f"certflow-clusters-{os.getuid()}"


@pytest.fixture
def program(tmp_path: Path) -> Iterator[tuple[Process, subprocess.Popen[bytes]]]:
    """A running program with its recorded identity."""
    record = tmp_path / "etcd.process"
    with processes.start(SLEEP, record, tmp_path / "log") as child:
        try:
            process = processes.recorded(record)
            assert process
            yield process, child
        finally:
            child.kill()


def test_a_later_process_with_the_same_id_is_not_killed(
    program: tuple[Process, subprocess.Popen[bytes]],
) -> None:
    process, child = program
    ours = dataclasses.replace(process, started=process.started - 1)
    assert not ours.alive
    ours.kill()
    assert ours.wait(0)
    assert not process.wait(0.2)
    process.kill(signal.SIGTERM)
    assert process.wait(10)
    assert child.wait(10) == -signal.SIGTERM


def test_a_program_that_was_started_again_is_on_record_at_once(tmp_path: Path) -> None:
    """A caller that reads the record of the program before would wait for the end of the one that runs."""
    record = tmp_path / "etcd.process"
    for _start in range(10):
        with processes.start(["sleep", "60"], record, tmp_path / "log") as child:
            process = processes.recorded(record)
            child.kill()
        assert process
        assert process.pid == child.pid


def test_no_program_starts_in_a_removed_directory(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    with pytest.raises(FileNotFoundError):
        processes.start(["touch", str(mark)], tmp_path / "gone" / "etcd.process", tmp_path / "log")
    assert not mark.exists()


def test_no_program_starts_if_its_directory_is_removed_while_its_record_is_written(
    root: Path, tmp_path: Path
) -> None:
    fleet, mark, slow = directories.new_fleet(), tmp_path / "mark", tmp_path / "slow"
    slow.mkdir()
    (slow / "cat").write_text(f'#!/bin/sh\ntouch {tmp_path / "writes"}\nsleep 1\nexec /bin/cat "$@"\n')
    (slow / "cat").chmod(0o755)
    path = {"PATH": f"{slow}:{os.environ['PATH']}"}
    with ThreadPoolExecutor() as pool:
        started = pool.submit(
            processes.start, ["touch", str(mark)], fleet / "etcd.process", tmp_path / "log", path
        )
        assert becomes_true((tmp_path / "writes").exists)
        directories.remove(fleet)
        assert started.result().wait(60) != 0
    assert not mark.exists()


def test_fleets_with_a_living_owner_stay_and_leftovers_are_removed(root: Path) -> None:
    mine = directories.new_fleet()
    dead = root / "fleet-4194304-1-abc"  # above the highest process id
    half_removed = root / ".gone-abc"
    dead.mkdir()
    half_removed.mkdir()
    directories.remove_leftovers()
    assert list(root.iterdir()) == [mine]
    directories.remove(mine)
    assert not root.exists()


def test_a_kept_fleet_stays_while_one_of_its_programs_runs(
    root: Path, program: tuple[Process, subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    directories.root()
    fleet = root / "fleet-4194304-1-abc"
    (fleet / "c").mkdir(parents=True)
    directories.keep(fleet)
    (fleet / "c" / "etcd.process").write_text((tmp_path / "etcd.process").read_text())
    directories.remove_leftovers()
    assert directories.kept() == [fleet]
    program[0].kill()
    assert program[0].wait(10)
    directories.remove_leftovers()
    assert not root.exists()


def test_removing_a_fleet_ends_its_programs(
    root: Path, program: tuple[Process, subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    fleet = directories.new_fleet()
    (tmp_path / "etcd.process").rename(fleet / "etcd.process")
    directories.remove(fleet)
    assert not program[0].alive
    assert not root.exists()
    directories.remove(fleet)  # the directory does not exist any more


def test_a_directory_that_other_users_may_write_is_refused(root: Path) -> None:
    root.mkdir(mode=0o700)
    root.chmod(0o777)
    with pytest.raises(ClusterError, match="must be a directory of yours with mode 0700"):
        directories.new_fleet()
    with pytest.raises(ClusterError, match="must be a directory of yours with mode 0700"):
        directories.remove_leftovers()
