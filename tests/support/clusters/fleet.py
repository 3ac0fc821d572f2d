# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several clusters at once, and their removal afterwards."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TYPE_CHECKING

from tests.support.clusters import directories, kubeconfig, namespaces, node, processes
from tests.support.clusters.build import Report, programs, say
from tests.support.clusters.cluster import Cluster
from tests.support.clusters.errors import ClusterError, UsageError
from tests.support.clusters.profiles import find

if TYPE_CHECKING:
    from pathlib import Path


class Fleet(Mapping[str, Cluster]):
    """The clusters of one fleet by name."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ready_after = 0.0  # seconds from the start until all clusters were ready
        self._clusters = {
            path.parent.name: Cluster(path.parent) for path in sorted(directory.glob("*/cluster.json"))
        }

    def __getitem__(self, name: str) -> Cluster:
        return self._clusters[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._clusters)

    def __len__(self) -> int:
        return len(self._clusters)

    @property
    def merged_kubeconfig(self) -> Path:
        """One kubeconfig with a context for each cluster, named like it. Its mode is 0600."""
        return kubeconfig.merge(
            self.directory / "kubeconfig", [cluster.kubeconfig for cluster in self.values()]
        )


@contextlib.contextmanager
def running(clusters: Mapping[str, str], report: Report = say) -> Iterator[Fleet]:
    """Yield clusters by name and profile (`onprem`, `eks`, `eks@1.36`), ready to use. They are removed when the block
    ends.

    A janitor removes them if this process is killed. Raises ClusterError.
    """
    check(clusters)
    prepare(clusters, report)
    directories.remove_leftovers()
    janitor = _start_janitor()
    directory = directories.new_fleet()
    fleet = None
    try:
        fleet = _lay_out(directory, clusters)
        with _network(fleet):
            _boot(fleet)
            yield fleet
    finally:
        if not directories.is_kept(directory):
            directories.remove(directory)  # after another interrupt here, the janitor removes it
            for cluster in fleet.values() if fleet else ():
                cluster.collect()
        janitor.kill()
        janitor.wait()


def _network(fleet: Fleet) -> contextlib.AbstractContextManager[None]:
    """Return the network of the clusters, which is one of their own if a cluster has several servers."""
    several = [cluster.servers for cluster in fleet.values() if len(cluster.servers) > 1]
    addresses = [server.address for servers in several for server in servers]
    return namespaces.own_network(*addresses) if addresses else contextlib.nullcontext()


def prepare(clusters: Mapping[str, str], report: Report = say) -> None:
    """Build the programs of these clusters before the start. This may take minutes."""
    for profile in map(find, dict.fromkeys(clusters.values())):
        programs(report, release=profile.release)
        if profile.node:
            node.prepare(report, release=profile.release)


def check(clusters: Mapping[str, str]) -> None:
    """Raise UsageError for an invalid name, an unknown profile or an unknown release."""
    if sys.platform != "linux":
        raise ClusterError("test clusters need Linux: they find their processes through /proc")
    for name, profile in clusters.items():
        if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?", name):
            raise UsageError(
                f"{name!r} is no name for a cluster: up to 40 of a-z, 0-9 and -, not - at the ends"
            )
        find(profile)


def _lay_out(directory: Path, clusters: Mapping[str, str]) -> Fleet:
    for name, profile in clusters.items():
        Cluster.create(directory / name, name, profile)
    return Fleet(directory)


def _boot(fleet: Fleet) -> None:
    """Start all clusters at once.

    After a failure or an interrupt, remove the directory, which stops the others.
    """
    begin = time.monotonic()
    with ThreadPoolExecutor(max_workers=len(fleet)) as pool:
        started = [pool.submit(cluster.boot) for cluster in fleet.values()]
        try:
            for future in as_completed(started):
                future.result()
        except BaseException:
            directories.remove(fleet.directory)
            raise
    fleet.ready_after = time.monotonic() - begin


def _start_janitor() -> subprocess.Popen[bytes]:
    """Start a process that outlives a crash of this one and cleans up after it."""
    owner = processes.Process.current()
    command, environment = processes.python("janitor", str(owner.pid), str(owner.started))
    return subprocess.Popen(
        command,
        env=environment,
        cwd="/",
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
