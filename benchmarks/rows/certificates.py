# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rows about the certificate of a webhook on many clusters."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

from benchmarks import process
from benchmarks.lab import HostSet, Lab, slow_signer
from benchmarks.peers import PEERS, PLAYS, Peer, check
from benchmarks.relay import relayed
from benchmarks.rows.context import Bench, in_turn, lab
from benchmarks.samples import AGAIN, FIRST, FORKS, Case

#: Peers whose runs are short.
QUICK_PEERS = ("bare", "debug", "in_process", "role", "playbook")
#: From this number of hosts on a slow peer has one round.
MANY = 20
#: The largest size.
LARGE = 1000
#: Its peers. The others cost too much time, and tell nothing new.
LARGE_PEERS = ("bare", "debug", "in_process")
#: Round trip and delay of the signer, in seconds.
ROUND_TRIP, SIGNING = 0.05, 0.3


def certificates(bench: Bench) -> None:
    """All peers, from one host to as many as the run has."""
    sizes = {1: 3, 10: 3, 50: 3, 200: 2} | ({LARGE: 1} if bench.large else {})
    for count, rounds in sizes.items():
        if count <= bench.most_hosts:
            with lab() as made:
                peers = LARGE_PEERS if count == LARGE else tuple(PEERS)
                compare(bench, made, "certificates", peers, count, rounds=rounds)


def forks(bench: Bench) -> None:
    """The same number of hosts with more and fewer forks."""
    with lab() as made:
        for number in (2, 10, 50):
            compare(bench, made, "forks", ("bare", "debug", "in_process", "role"), 50, rounds=2, forks=number)


def distance(bench: Bench) -> None:
    """Clusters at a distance, with a slow signer."""
    peers = ("bare", "in_process", "role", "module", "scripts_2", "composed")
    with lab() as made, contextlib.ExitStack() as stack:
        for name, cluster in made.fleet.items():
            made.relays[name] = stack.enter_context(relayed(cluster.url))
            signer = stack.enter_context(relayed(cluster.url))
            stack.enter_context(slow_signer(cluster, signer, SIGNING))
            made.relays[name].delay(ROUND_TRIP / 2)
        compare(bench, made, "distance", peers, 20, rounds=2)


def traffic(bench: Bench) -> None:
    """Requests, connections, bytes, lines and events of each host."""
    with lab() as made, contextlib.ExitStack() as stack:
        for name, cluster in made.fleet.items():
            made.relays[name] = stack.enter_context(relayed(cluster.url))
        compare(bench, made, "traffic", QUICK_PEERS, 100, rounds=1)
        rest = tuple(key for key in PEERS if key not in QUICK_PEERS)
        compare(bench, made, "traffic", rest, 10, rounds=1)


def memory(bench: Bench) -> None:
    """Memory of Ansible and of its forks."""
    with lab() as made:
        compare(bench, made, "memory", (*QUICK_PEERS[1:], "module"), 50, rounds=2, memory=True)


def quick_on(bench: Bench, made: Lab, peers: Sequence[str] = QUICK_PEERS) -> None:
    """Measure the quick row on clusters that run already."""
    compare(bench, made, "quick", peers, 20, rounds=2)
    slow = ("scripts_2", "module") if peers == QUICK_PEERS else ()
    compare(bench, made, "quick", slow, 10, rounds=1)


def compare(
    bench: Bench,
    made: Lab,
    row: str,
    keys: Sequence[str],
    count: int,
    *,
    rounds: int,
    forks: int = FORKS,
    memory: bool = False,
) -> None:
    """Measure the peers one after the other, in several rounds, each time on new hosts."""
    wanted = bench.hosts(count)
    for number in bench.rounds(rounds):
        for key in in_turn(keys, number):
            peer = PEERS[key]
            reason = peer.why_not()
            is_enough = peer.is_slow and wanted >= MANY and number > 0
            if is_enough or bench.has_failed(row, key) or wanted > peer.most:
                continue
            with bench.attempt(row, key):
                if reason:
                    raise process.RunFailed(reason)
                _measure(bench, made, peer, Case(row, key, wanted, FIRST, forks), memory=memory)


def _measure(bench: Bench, made: Lab, peer: Peer, case: Case, *, memory: bool) -> None:
    hosts = made.hosts(case.hosts)
    try:
        phases = (FIRST, AGAIN) if peer.works and peer.keeps else (FIRST,)
        for phase in phases:
            measures = _run(made, peer, hosts, case, is_first=phase == FIRST, memory=memory)
            bench.add(replace(case, phase=phase), measures)
    finally:
        if bench.most_hosts < 10:  # a trial on clusters that others use too
            hosts.remove()


def _run(
    made: Lab, peer: Peer, hosts: HostSet, case: Case, *, is_first: bool, memory: bool
) -> dict[str, float]:
    asked, server = len(hosts.requests()), made.server_cpu()
    with _counted(made, hosts) as traffic:
        command = peer.command(hosts, case.forks)
        environment = {**command.environment, **_events(hosts)} if made.relays else command.environment
        run = process.run(replace(command, environment=environment), hosts.directory, memory=memory)
        check(peer, run, hosts, first=is_first)
    counts = {"requests": len(hosts.requests()) - asked, **traffic, **_event_count(hosts)}
    per_host = {name: value / case.hosts for name, value in counts.items()}
    return {**run.measures(), "server_cpu": made.server_cpu() - server, **per_host}


@contextlib.contextmanager
def _counted(made: Lab, hosts: HostSet) -> Iterator[dict[str, float]]:
    """Yield a dictionary that has the connections and bytes of the block at its end, if the lab has relays."""
    used = {host.cluster.name for host in hosts.hosts} & set(made.relays)
    before = {name: made.relays[name].counts() for name in used}
    counts: dict[str, float] = {}
    yield counts
    for name in used:
        for key, value in made.relays[name].counts().items():
            counts[key] = counts.get(key, 0) + value - before[name][key]


def _events(hosts: HostSet) -> dict[str, str]:
    """Return the variables with which Ansible counts its events."""
    file = hosts.directory / "events"
    file.unlink(missing_ok=True)
    return {
        "ANSIBLE_CALLBACK_PLUGINS": str(PLAYS / "callback_plugins"),
        "ANSIBLE_CALLBACKS_ENABLED": "bench_events",
        "BENCH_EVENTS": str(file),
    }


def _event_count(hosts: HostSet) -> dict[str, float]:
    file = hosts.directory / "events"
    return {"events": float(file.read_text())} if file.exists() else {}
