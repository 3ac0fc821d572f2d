# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Control groups of version 1 and 2. A group with a name exists in all hierarchies at the same time."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import NamedTuple

from tests.support.clusters.errors import ClusterError


class Hierarchy(NamedTuple):
    """A mounted hierarchy. Version 1 has one for each controller, which its options name."""

    path: str
    type: str
    options: str


def hierarchies() -> list[Hierarchy]:
    """Return the hierarchies that this process sees."""
    found = {}
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _device, path, kind, options, *_rest = line.split()
        if kind in ("cgroup", "cgroup2"):
            found[path] = Hierarchy(path, kind, "rw" if kind == "cgroup2" else _mountable(options))
    return list(found.values())


def make(name: str) -> None:
    """Create a group below the root."""
    for hierarchy in hierarchies():
        root = Path(hierarchy.path)
        if hierarchy.type == "cgroup2":
            _delegate(root)
        (root / name).mkdir(exist_ok=True)
        # version 1 begins with empty files, and then accepts no process
        for file in ("cpuset.cpus", "cpuset.mems"):
            if hierarchy.type == "cgroup" and (root / file).exists():
                (root / name / file).write_text((root / file).read_text())


def join(name: str) -> None:
    """Move this process into a group."""
    for hierarchy in hierarchies():
        Path(hierarchy.path, name, "cgroup.procs").write_text("0")


def remove(name: str) -> None:
    """Remove a group and all groups below it.

    Their processes have been killed. Raises ClusterError if a group stays.
    """
    for hierarchy in hierarchies():
        top = Path(hierarchy.path, name)
        deadline = time.monotonic() + 10
        while top.exists():
            for group, _below, _files in os.walk(top, topdown=False):
                # a process in it is just ending, or another process removed it
                with contextlib.suppress(OSError):
                    os.rmdir(group)
            if time.monotonic() > deadline:
                raise ClusterError(f"the control group {top} does not go")
            time.sleep(0.02)


def _mountable(options: str) -> str:
    """Remove the options that only the machine's first process may set."""
    return ",".join(
        word for word in options.split(",") if not word.startswith(("release_agent=", "seclabel"))
    )


def _delegate(root: Path) -> None:
    """Enable the root's controllers for groups below it (version 2)."""
    there = set((root / "cgroup.subtree_control").read_text().split())
    wanted = set((root / "cgroup.controllers").read_text().split()) & {
        "cpu",
        "cpuset",
        "io",
        "memory",
        "pids",
    }
    with contextlib.suppress(OSError):  # the root is in a container and contains processes
        if wanted - there:
            text = " ".join(f"+{controller}" for controller in sorted(wanted - there))
            (root / "cgroup.subtree_control").write_text(text)
