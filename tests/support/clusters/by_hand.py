# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clusters that a user starts in a terminal. They run until the user stops them."""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING

from tests.support.clusters import directories, kubeconfig
from tests.support.clusters.errors import UsageError
from tests.support.clusters.fleet import Fleet, check, running

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from tests.support.clusters.cluster import Cluster


def up(clusters: Mapping[str, str]) -> Fleet:
    """Start clusters by name and profile. They outlive this process once all of them are ready."""
    check(clusters)
    with _alone():
        there = sorted(clusters.keys() & clusters_up().keys())
        if there:
            raise UsageError(f"already up: {', '.join(there)}")
        with running(clusters) as fleet:
            directories.keep(fleet.directory)
        return fleet


def down(names: Sequence[str]) -> list[str]:
    """Stop these clusters, or all without a name, and the leftovers of crashed runs.

    Return the names of stopped clusters.
    """
    with _alone():
        present = clusters_up()
        _expect(names, present)
        stopped = [name for name in present if name in names or not names]
        for name in stopped:
            cluster = present[name]
            last = len(Fleet(cluster.directory.parent)) == 1
            directories.remove(cluster.directory.parent if last else cluster.directory)
        if len(stopped) == len(present):
            _merged().unlink(missing_ok=True)
        directories.remove_leftovers()
    return stopped


def clusters_up() -> dict[str, Cluster]:
    """Return the clusters that were started by hand, by name."""
    return {name: cluster for fleet in directories.kept() for name, cluster in Fleet(fleet).items()}


def kubeconfig_of(name: str | None) -> Path:
    """Return the administrator's kubeconfig of one cluster, or of all clusters without a name."""
    present = clusters_up()
    if not present:
        raise UsageError("no cluster is up")
    if name is None:
        return kubeconfig.merge(_merged(), [cluster.kubeconfig for cluster in present.values()])
    _expect([name], present)
    return present[name].kubeconfig


def _expect(names: Sequence[str], present: Mapping[str, Cluster]) -> None:
    unknown = [name for name in names if name not in present]
    if unknown:
        raise UsageError(f"not up: {', '.join(unknown)}; up are: {', '.join(present) or 'none'}")


def _merged() -> Path:
    return directories.root() / "kubeconfig"


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Hold a lock during `up` or `down`. The kernel releases it when the process ends."""
    handle = os.open(directories.root(), os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
        with contextlib.suppress(OSError):  # not empty, because clusters run
            directories.root().rmdir()
