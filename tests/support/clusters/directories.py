# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The directories of running clusters, their owners, and their removal after any end of the owner.

A fleet is one directory, named after the process that owns it. Each cluster is a directory inside. A fleet is
alive while its owner runs. A fleet with the file `kept` was started by hand, and is alive while any of its
programs runs. All other directories are leftovers of a crash. The next process removes them.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.clusters import cgroups
from tests.support.clusters.errors import ClusterError
from tests.support.clusters.processes import Process, recorded

if TYPE_CHECKING:
    from collections.abc import Iterator

_FLEET = re.compile(r"fleet-(\d+)-(\d+)-\w+")
# The order in which programs are stopped, by the begin of their names. `namespace` ends all programs inside the node. An API server
# that loses its etcd first hangs for a minute.
_STOPPED_FIRST, _STOPPED_LAST = ("namespace",), ("relay", "kube-apiserver", "etcd")


def root() -> Path:
    """Return the directory of all fleets of this user.

    Raises ClusterError if other users could write in it.
    """
    _location().mkdir(mode=0o700, exist_ok=True)
    return _ours(_location())


def new_fleet() -> Path:
    """Return an empty directory that belongs to this process."""
    owner = Process.current()
    while True:
        try:
            return Path(tempfile.mkdtemp(prefix=f"fleet-{owner.pid}-{owner.started}-", dir=root()))
        except FileNotFoundError:  # another process removed the root with the last fleet
            continue


def keep(fleet: Path) -> None:
    """Let a fleet outlive its owner for as long as any of its programs runs."""
    (fleet / "kept").touch()


def is_kept(fleet: Path) -> bool:
    return (fleet / "kept").exists()


def kept() -> list[Path]:
    """Return the fleets that were started by hand."""
    return sorted(path for path in _entries() if is_kept(path))


def remove_leftovers() -> None:
    """Stop and remove leftovers of crashed runs: fleets without a living owner, and unfinished removals."""
    for path in _entries():
        fleet = _FLEET.fullmatch(path.name)
        owned = fleet is not None and Process(int(fleet[1]), int(fleet[2])).alive
        if not owned and not (is_kept(path) and any(process.alive for process in _processes(path))):
            remove(path)


def remove(directory: Path) -> None:
    """Stop every process of a fleet or a cluster and remove its directory.

    The processes are killed, because their files are deleted anyway. The directory is renamed first, so that
    no new process starts in it (`processes.start` needs its path).
    """
    if not directory.is_dir():
        return
    gone = Path(tempfile.mkdtemp(prefix=".gone-", dir=root()))
    with contextlib.suppress(FileNotFoundError):  # another process removed it
        directory.rename(gone)
    processes = list(_processes(gone))
    for process in processes:
        process.kill()
    for process in processes:
        if not process.wait(60):
            raise ClusterError(f"process {process.pid} does not end; its files are in {gone}")
    for name in _cgroups(gone):
        cgroups.remove(name)
    while gone.exists():
        with contextlib.suppress(FileNotFoundError):  # another process removes the same leftover
            shutil.rmtree(gone)
    with contextlib.suppress(OSError):  # not empty, because other clusters exist
        gone.parent.rmdir()


def _processes(directory: Path) -> Iterator[Process]:
    records = [*directory.glob("*.process"), *directory.glob("*/*.process")]  # of a cluster, and of a fleet
    for record in sorted(records, key=_place):
        if process := recorded(record):
            yield process


def _place(record: Path) -> int:
    """Return the place of a program in the order in which programs are stopped."""
    if record.name.startswith(_STOPPED_FIRST):
        return -1
    places = (place for place, name in enumerate(_STOPPED_LAST, 1) if record.name.startswith(name))
    return next(places, 0)


def _cgroups(directory: Path) -> Iterator[str]:
    for pattern in ("cgroup", "*/cgroup"):
        for file in directory.glob(pattern):
            with contextlib.suppress(FileNotFoundError):  # another process removes the same leftover
                yield file.read_text()


def _entries() -> list[Path]:
    try:
        return [path for path in _ours(_location()).iterdir() if path.is_dir()]
    except FileNotFoundError:
        return []


def _location() -> Path:
    return Path(tempfile.gettempdir()).resolve() / f"certflow-clusters-{os.getuid()}"


def _ours(path: Path) -> Path:
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise ClusterError(f"{path} must be a directory of yours with mode 0700; remove it and try again")
    return path
