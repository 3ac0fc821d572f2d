# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rows about the audit of many hosts over four control planes, each with ten webhooks, also in a rotation of their CA."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from benchmarks import lab as labs
from benchmarks import process
from benchmarks.lab import Host, HostSet, Lab
from benchmarks.peers import PLAYS, program
from benchmarks.process import Command, RunFailed
from benchmarks.relay import relayed
from benchmarks.rows.context import Bench, in_turn, lab
from benchmarks.samples import FORKS, Case
from tests.support import clusters
from tests.support.audit.audit_rig import AuditRig
from tests.support.clusters import Cluster
from tests.support.rotation.rotation_rig import RotationRig
from tests.support.webhooks.bundle_rig import pem
from tests.support.world import Shape

CLUSTERS = {f"onprem-{number}": "onprem" for number in range(1, 5)}
WEBHOOKS = 10
#: Loops that a user writes, two hosts at a time.
LOOP = PLAYS / "audit.sh"
PLAYBOOK = "certflow.kubernetes.audit"


@dataclass(frozen=True)
class AuditPeer:
    """One way to audit."""

    title: str
    #: Play of this folder, a playbook of the collection, or "" for the loop.
    play: str
    #: The largest number of hosts.
    most: int = 1000


#: The playbook for the phases of a rotation, in check mode: hosts share a control plane, so only the first one would have work.
PREPARE = "certflow.kubernetes.cluster_ca"
PLAYBOOKS = (PLAYBOOK, PREPARE)
PEERS = {
    "module": AuditPeer("audit_info, in Ansible's process", "audit"),
    "playbook": AuditPeer("Playbook certflow.kubernetes.audit", PLAYBOOK),
    "loop": AuditPeer("A loop of kubectl and openssl, two at a time", "", most=100),
}


ROTATION_PEERS = {
    "before": AuditPeer("Playbook certflow.kubernetes.audit, before the rotation", PLAYBOOK),
    "audit": AuditPeer("Playbook certflow.kubernetes.audit", PLAYBOOK),
    "prepare": AuditPeer("Playbook certflow.kubernetes.cluster_ca, phase prepare in check mode", PREPARE),
}


def audit(bench: Bench) -> None:
    """Audit the hosts by each peer."""
    sizes = bench.sizes(100, *((1000,) if bench.large else ()))
    with lab(CLUSTERS) as made, contextlib.ExitStack() as stack:
        for name, cluster in made.fleet.items():
            _webhooks(stack, cluster)
            made.relays[name] = stack.enter_context(relayed(cluster.url))
        for count in sizes:
            hosts = targets(made, count)
            for number in bench.rounds(2 if count < 1000 else 1):
                for key in in_turn(tuple(PEERS), number):
                    peer = PEERS[key]
                    if count <= peer.most and not bench.has_failed("audit", peer.title):
                        with bench.attempt("audit", peer.title):
                            bench.add(Case("audit", peer.title, count), measure(made, hosts, peer))


def _webhooks(stack: contextlib.ExitStack, cluster: Cluster) -> None:
    """Create webhooks on a cluster, each with a server of its own. All are healthy."""
    rig = AuditRig(cluster)
    stack.callback(rig.close)
    for number in range(WEBHOOKS):
        port = rig.serve(rig.leaf())
        rig.hook(f"hook-{number}", port=port, bundle=pem("good"))


def rotation(bench: Bench) -> None:
    """Audit the hosts before a rotation of their CAs and in it, and plan the phase prepare."""
    with lab(dict.fromkeys(CLUSTERS, "local-services")) as made:
        rotation_on(bench, made, "cluster-ca", 100)


def rotation_on(bench: Bench, made: Lab, row: str, most: int) -> None:
    """Measure a rotation on clusters that run already, for a row."""
    count = bench.hosts(most)
    with contextlib.ExitStack() as stack:
        rigs = {name: _rotating(stack, cluster) for name, cluster in made.fleet.items()}
        for name, cluster in made.fleet.items():
            made.relays[name] = stack.enter_context(relayed(cluster.url))
        _measure(bench, made, targets(made, count, "before", probe_urls=False), row, "before")
        for rig in rigs.values():
            rig.rotation.publish()
        hosts = targets(made, count, "rotating", probe_urls=False)
        for number in bench.rounds(2):
            for key in in_turn(("audit", "prepare"), number):
                _measure(bench, made, hosts, row, key)


def _rotating(stack: contextlib.ExitStack, cluster: Cluster) -> RotationRig:
    """Create webhooks in pods on a cluster, with certificates of its CA."""
    rig = RotationRig(cluster)
    stack.callback(rig.close)
    rig.create(Shape("program"), WEBHOOKS)
    return rig


def _measure(bench: Bench, made: Lab, hosts: HostSet, row: str, key: str) -> None:
    peer = ROTATION_PEERS[key]
    if not bench.has_failed(row, peer.title):
        with bench.attempt(row, peer.title):
            bench.add(Case(row, peer.title, len(hosts.hosts)), measure(made, hosts, peer))


def targets(made: Lab, count: int, purpose: str = "audit", *, probe_urls: bool = True) -> HostSet:
    """Return inventory hosts that are spread over the clusters. They have no objects of their own."""
    user = f"{purpose}-{count}-user"
    files = {name: made.kubeconfig(cluster, user) for name, cluster in made.fleet.items()}
    names = list(made.fleet)
    chosen = [names[number % len(names)] for number in range(count)]
    hosts = tuple(
        Host(f"audited-{number:04}", made.fleet[name], files[name]) for number, name in enumerate(chosen)
    )
    directory = made.directory / user
    directory.mkdir()
    made_set = HostSet(user, hosts, user, directory)
    made_set.inventory.write_text(
        json.dumps(labs.inventory(hosts, partial(variables, probe_urls=probe_urls)))
    )
    return made_set


def variables(host: Host, *, probe_urls: bool) -> Mapping[str, object]:
    """Return the variables of the play, and those of the playbook."""
    return {
        "cluster_kubeconfig": str(host.kubeconfig),
        "certflow_kubeconfig": str(host.kubeconfig),
        "certflow_audit_options": {"probe_urls": probe_urls},
        "certflow_allow_shared_cluster": True,
    }


def measure(made: Lab, hosts: HostSet, peer: AuditPeer) -> dict[str, float]:
    """Run a peer on all hosts, and return its measures."""
    before = {name: relay.counts()["bytes"] for name, relay in made.relays.items()}
    asked, server = len(hosts.requests()), made.server_cpu()
    run = process.run(command(hosts, peer), hosts.directory, memory=True)
    if run.status:
        raise RunFailed(run.output[-1500:])
    count = len(hosts.hosts)
    carried = sum(relay.counts()["bytes"] - before[name] for name, relay in made.relays.items())
    return {
        **run.measures(),
        "server_cpu": made.server_cpu() - server,
        "requests": (len(hosts.requests()) - asked) / count,
        "bytes": carried / count,
        "per_cluster": run.wall / count,
    }


def command(hosts: HostSet, peer: AuditPeer) -> Command:
    """Return the command of a peer."""
    environment = {"PATH": f"{clusters.programs()}{os.pathsep}{os.environ['PATH']}"}
    if not peer.play:
        files = "".join(f"{host.kubeconfig}\n" for host in hosts.hosts)
        return Command(["xargs", "-P", "2", "-n", "1", "bash", str(LOOP)], files, environment)
    play = peer.play if peer.play in PLAYBOOKS else str(PLAYS / f"{peer.play}.yml")
    extra = {"certflow_report": str(hosts.directory / "report.json")}
    if peer.play != PREPARE:
        extra["certflow_fail_on"] = "never"
    options = ["-i", str(hosts.inventory), "--forks", str(FORKS), "-e", json.dumps(extra)]
    check = ["--check"] if peer.play == PREPARE else []
    return Command([program("ansible-playbook"), play, *options, *check], environment=environment)
