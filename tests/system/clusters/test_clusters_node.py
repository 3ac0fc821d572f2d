# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check that nothing of a real node stays after any end of the test."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import clusters
from tests.support.cluster_runs import kill_with_its_janitor, nothing_left, owner, when_ready
from tests.support.clusters import cgroups, directories, namespaces
from tests.support.clusters.processes import Process
from tests.support.waiting import becomes_true

if TYPE_CHECKING:
    from collections.abc import Callable


# A cluster with one pod, which runs until its process is stopped.
RUN = """
import signal
from tests.support import clusters
from tests.support.clusters import image
from tests.support.waiting import wait_for
pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "p", "image": image.PAUSE}]}}
pods = "/api/v1/namespaces/default/pods"
with clusters.running({"c": "onprem-node"}) as fleet:
    fleet["c"].api("POST", pods, pod)
    wait_for(lambda: fleet["c"].api("GET", f"{pods}/p")["status"]["phase"] == "Running")
    print("ready", flush=True)
    signal.pause()
"""


# A running node


def while_the_node_starts(process: subprocess.Popen[str], temporary: Path) -> None:
    becomes_true(lambda: list(temporary.glob("*/fleet-*/*/kubelet.process")) or process.poll() is not None)


def when_a_pod_runs(process: subprocess.Popen[str], temporary: Path) -> None:
    when_ready(process, temporary)
    commands = [Path(f"/proc/{program.pid}/cmdline").read_bytes() for program in programs_inside(temporary)]
    assert [command for command in commands if b"pause" in command]


@pytest.mark.parametrize(
    ("moment", "end"),
    [
        pytest.param(
            while_the_node_starts,
            lambda process: process.send_signal(signal.SIGINT),
            marks=pytest.mark.full,
            id="Ctrl-C while it starts",
        ),
        pytest.param(when_a_pod_runs, lambda process: process.kill(), id="SIGKILL when a pod runs"),
    ],
)
def test_nothing_of_a_node_is_left_after(
    temporary: Path,
    moment: Callable[[subprocess.Popen[str], Path], None],
    end: Callable[[subprocess.Popen[str]], None],
) -> None:
    _skip_without_node()
    before = machine()
    with owner(RUN) as process:
        moment(process, temporary)
        inside, groups = programs_inside(temporary), control_groups(temporary)
        assert machine() == before
        end(process)
        process.wait(60)
    assert becomes_true(lambda: nothing_left(temporary))
    assert not [program for program in inside if program.alive]
    assert not [group for group in groups if group.exists()]
    assert machine() == before


def test_the_next_run_removes_the_node_of_a_crashed_run(temporary: Path) -> None:
    _skip_without_node()
    with owner(RUN) as process:
        while_the_node_starts(process, temporary)
        inside, groups = programs_inside(temporary), control_groups(temporary)
        kill_with_its_janitor(process)
    assert [program for program in inside if program.alive]
    directories.remove_leftovers()
    assert not [program for program in inside if program.alive]
    # The process that waited for a program of the node ends by itself.
    assert becomes_true(lambda: nothing_left(temporary))
    assert not [group for group in groups if group.exists()]


def _skip_without_node() -> None:
    reason = clusters.why_no_node()
    if reason:
        pytest.skip(reason)


def machine() -> dict[str, Any]:
    """Return the settings, mounts, directories and interfaces that a node might change on the machine."""
    places = [f"{base}/{name}" for base, names in namespaces.HIDDEN.items() for name in names]
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    return {
        "settings": {name: Path("/proc/sys", name).read_text() for name in namespaces.SETTINGS},
        "mounts": [line for line in mounts if "certflow" in line or any(place in line for place in places)],
        "places": {place: os.path.exists(place) and os.listdir(place) for place in places},
        "interfaces": sorted({"node0", "node1", "pods0"} & set(os.listdir("/sys/class/net"))),
    }


def control_groups(temporary: Path) -> list[Path]:
    """Return the control groups of the clusters in this directory, in all hierarchies."""
    fleets = [path.name for path in temporary.glob("*/fleet-*")]
    roots = [Path(hierarchy.path) for hierarchy in cgroups.hierarchies()]
    return [group for root in roots for fleet in fleets for group in root.glob(f"certflow-{fleet}-*")]


def programs_inside(temporary: Path) -> list[Process]:
    """Return all processes of the nodes in this directory: of containerd, kubelet and pods."""
    found = {}
    for group in control_groups(temporary):
        for path in group.rglob("cgroup.procs"):
            for pid in path.read_text().split():
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    found[pid] = Process.from_stat(Path(f"/proc/{pid}/stat").read_text())
    assert found
    return list(found.values())
