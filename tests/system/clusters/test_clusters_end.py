# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check that no process and no file of a test's clusters stays, after any end of the test."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import clusters
from tests.support.cluster_runs import (
    COMMAND,
    kill_with_its_janitor,
    nothing_left,
    owner,
    processes_of,
    when_ready,
    while_starting,
)
from tests.support.clusters import cluster as cluster_module
from tests.support.clusters import components, directories, processes
from tests.support.clusters.components import Ports
from tests.support.clusters.processes import Process
from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable


def wait_for_removal(temporary: Path) -> None:
    wait_for(
        lambda: nothing_left(temporary),
        evidence=lambda: (processes_of(temporary), list(temporary.rglob("*"))),
    )


@pytest.mark.parametrize(
    ("moment", "number"),
    [
        (while_starting, signal.SIGINT),
        (when_ready, signal.SIGKILL),
        pytest.param(while_starting, signal.SIGTERM, marks=pytest.mark.full),
        pytest.param(while_starting, signal.SIGKILL, marks=pytest.mark.full),
        pytest.param(when_ready, signal.SIGINT, marks=pytest.mark.full),
        pytest.param(when_ready, signal.SIGTERM, marks=pytest.mark.full),
    ],
)
def test_no_process_and_no_file_is_left_after(
    temporary: Path, moment: Callable[[subprocess.Popen[str], Path], None], number: signal.Signals
) -> None:
    with owner() as process:
        moment(process, temporary)
        assert processes_of(temporary)
        process.send_signal(number)
        process.wait(60)
    wait_for_removal(temporary)


def test_the_next_run_removes_the_leftovers_of_a_crash(temporary: Path) -> None:
    with owner() as process:
        while_starting(process, temporary)
        kill_with_its_janitor(process)
    left = [Process.from_stat(path.read_text()) for path in temporary.rglob("*.process")]
    assert [program for program in left if program.alive]
    directories.remove_leftovers()
    assert not [program for program in left if program.alive]
    # A program that the owner was starting ends by itself, because its directory has another name now.
    wait_for_removal(temporary)


def test_a_program_of_a_test_ends_with_its_cluster(temporary: Path) -> None:
    """Its name is not that of a program of a control plane."""
    fleet = directories.new_fleet()
    child = processes.start(["sleep", "600"], fleet / "cainjector.process", fleet / "log")
    try:
        directories.remove(fleet)
        assert child.poll() == -signal.SIGKILL
    finally:
        child.kill()
        child.wait()
    assert nothing_left(temporary)


def test_a_program_that_starts_during_the_removal_makes_no_directory_again(temporary: Path) -> None:
    fleet = directories.new_fleet()
    gate = temporary / "gate"
    os.mkfifo(gate)
    etcd = components.etcd(fleet, cluster_module.free_ports())
    data = next(word.removeprefix("--data-dir=") for word in etcd if word.startswith("--data-dir="))
    child = processes.start(
        ["sh", "-c", f"read line < {gate}; mkdir -p {data}"], fleet / "etcd.process", temporary / "log"
    )
    (fleet / "etcd.process").unlink()  # a program whose identity is not written yet
    directories.remove(fleet)
    gate.write_text("go\n")
    assert child.wait(60) != 0
    assert not fleet.exists()


def test_a_taken_port_is_replaced(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as squatter:
        taken = squatter.getsockname()[1]
        free = cluster_module.free_ports()
        tries = iter(
            [Ports(free.apiserver, taken, free.etcd_peer), Ports(taken, free.etcd, free.etcd_peer), free]
        )
        monkeypatch.setattr(cluster_module, "free_ports", lambda: next(tries))
        with clusters.running({"c": "onprem"}) as fleet:
            assert fleet["c"].url == f"https://127.0.0.1:{free.apiserver}"
    assert nothing_left(temporary)


def test_a_program_that_does_not_start_is_reported(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.support.clusters.components.etcd", lambda directory, ports: ["--no-such-flag"])
    with (
        pytest.raises(clusters.ClusterError, match=r"cluster c: etcd ended with status \d+"),
        clusters.running({"c": "onprem"}),
    ):
        pass
    assert nothing_left(temporary)


def test_clusters_by_hand_run_until_they_are_stopped(temporary: Path) -> None:
    def command(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*COMMAND, *words], capture_output=True, text=True, check=False, timeout=120)

    try:
        assert command("up", "mine=eks").returncode == 0
        directories.remove_leftovers()  # every other run does this first
        listed = command("list").stdout.splitlines()
        assert len(listed) == 2
        assert listed[1].startswith("mine  eks      https://127.0.0.1:")
        assert "kube-apiserver" in listed[1]
        entry, merged = (Path(command("kubeconfig", *names).stdout.strip()) for names in (["mine"], []))
        assert entry != merged
        assert entry.read_text() == merged.read_text()
        again = command("up", "mine=onprem")
        assert (again.returncode, again.stderr) == (2, "clusters: already up: mine\n")
    finally:
        assert command("down").returncode == 0
    assert nothing_left(temporary)
