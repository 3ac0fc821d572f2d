# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Control groups, of version 1 and 2 alike: a group by its name, in all hierarchies at once."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import NamedTuple

from tests.support.clusters.errors import ClusterError


class Hierarchy(NamedTuple):
    """One mounted hierarchy: with version 1 there is one for each controller, which its options name."""

    path: str
    type: str
    options: str


def hierarchies() -> list[Hierarchy]:
    """The hierarchies that this process sees."""
    found = {}
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _device, path, kind, options, *_rest = line.split()
        if kind in ("cgroup", "cgroup2"):
            found[path] = Hierarchy(path, kind, "rw" if kind == "cgroup2" else _mountable(options))
    return list(found.values())


def make(name: str) -> None:
    """Make a group directly below the root."""
    for hierarchy in hierarchies():
        root = Path(hierarchy.path)
        if hierarchy.type == "cgroup2":
            _delegate(root)
        (root / name).mkdir(exist_ok=True)
        for file in ("cpuset.cpus", "cpuset.mems"):  # version 1 begins with none, and then takes no process
            if hierarchy.type == "cgroup" and (root / file).exists():
                (root / name / file).write_text((root / file).read_text())


def join(name: str) -> None:
    """Move this process into a group."""
    for hierarchy in hierarchies():
        Path(hierarchy.path, name, "cgroup.procs").write_text("0")


def remove(name: str) -> None:
    """Remove a group and all below it. Its processes have been killed. Raises ClusterError if it does not go."""
    for hierarchy in hierarchies():
        top = Path(hierarchy.path, name)
        deadline = time.monotonic() + 10
        while top.exists():
            for group, _below, _files in os.walk(top, topdown=False):
                with contextlib.suppress(OSError):  # a process in it is just ending, or somebody was faster
                    os.rmdir(group)
            if time.monotonic() > deadline:
                raise ClusterError(f"the control group {top} does not go")
            time.sleep(0.02)


def _mountable(options: str) -> str:
    """Without what the kernel shows, and takes from nobody but the machine's own first process."""
    return ",".join(
        word for word in options.split(",") if not word.startswith(("release_agent=", "seclabel"))
    )


def _delegate(root: Path) -> None:
    """Groups below a root of version 2 have the controllers that it hands down."""
    there = set((root / "cgroup.subtree_control").read_text().split())
    wanted = set((root / "cgroup.controllers").read_text().split()) & {
        "cpu",
        "cpuset",
        "io",
        "memory",
        "pids",
    }
    with contextlib.suppress(OSError):  # the root is in a container, and holds processes
        if wanted - there:
            text = " ".join(f"+{controller}" for controller in sorted(wanted - there))
            (root / "cgroup.subtree_control").write_text(text)
