# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The row about the upgrade of the snapshot controller on clusters with nodes and real pods."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks import lab as labs
from benchmarks import process
from benchmarks.lab import Host, Lab
from benchmarks.peers import PLAYS, program
from benchmarks.process import Command, RunFailed
from benchmarks.rows.context import Bench, lab
from benchmarks.samples import Case
from tests.support import clusters
from tests.support.upgrade import snapshot_lab
from tests.support.upgrade.snapshot_rig import release_server

OLD, NEW = "7.0.2", "8.7.0"
#: Inotify instances that one node uses. Linux permits 128 for a user by default.
INOTIFY = 17
AT_ONCE = 10


def upgrade(bench: Bench) -> None:
    """Upgrade one cluster, and then as many at once as the machine carries, ten at most."""
    reason = clusters.why_no_node()
    if reason:
        raise RunFailed(reason)
    counts = [1, bench.hosts(min(AT_ONCE, _nodes()))]
    for count in sorted(set(counts)):
        peer = f"Role snapshot_controller, {OLD} to {NEW}"
        with (
            bench.attempt("upgrade", peer),
            lab({f"node-{number}": "onprem-node" for number in range(count)}) as made,
        ):
            run = _upgrade(made, count)
            bench.add(Case("upgrade", peer, count, forks=count), {**run, "per_cluster": run["wall"] / count})


def _nodes() -> int:
    """Return the number of nodes that this machine carries."""
    limit = int(Path("/proc/sys/fs/inotify/max_user_instances").read_text())
    return max(1, limit // INOTIFY - 1)


def _upgrade(made: Lab, count: int) -> dict[str, float]:
    for cluster in made.fleet.values():
        snapshot_lab.load_images(cluster, NEW)
        snapshot_lab.install(cluster, OLD)
    hosts = [Host(name, cluster, cluster.kubeconfig) for name, cluster in made.fleet.items()]
    inventory = made.directory / "inventory.json"
    with release_server(NEW) as source:
        variables = {
            "snapshot_controller_version": NEW,
            "snapshot_controller_source": source,
            "snapshot_controller_accept": ["kubectl"],
            "snapshot_controller_cache_directory": str(made.directory),
            "snapshot_controller_backup": str(made.directory),
        }
        entries = labs.inventory(hosts, lambda host: {"snapshot_controller_kubeconfig": str(host.kubeconfig)})
        inventory.write_text(json.dumps(entries))
        options = ["-i", str(inventory), "--forks", str(count), "-e", json.dumps(variables)]
        arguments = [program("ansible-playbook"), str(PLAYS / "upgrade.yml"), *options]
        run = process.run(Command(arguments), made.directory)
    if run.status:
        raise RunFailed(run.output[-1500:])
    return {"wall": run.wall, "cpu": run.cpu}
