# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The row about the processor time of one host: how much of it Ansible uses, and how much each part of the task."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from statistics import fmean

from benchmarks import process
from benchmarks.lab import HostSet
from benchmarks.peers import PEERS, check
from benchmarks.process import Finished
from benchmarks.rows.context import Bench, lab
from benchmarks.samples import AGAIN, FIRST, FORKS, Case

HOSTS = 200
PROFILED = ("in_process", "role")


def profile(bench: Bench) -> None:
    """Measure one task of Ansible, and the module and the role with each of their parts."""
    count = bench.hosts(HOSTS)
    with lab() as made:
        for key in ("debug", *PROFILED):
            hosts = made.hosts(count)
            with bench.attempt("profile", key):
                for phase in (FIRST, AGAIN) if key in PROFILED else (FIRST,):
                    bench.add(Case("profile", key, count, phase), _run(hosts, key, phase))


def _run(hosts: HostSet, key: str, phase: str) -> dict[str, float]:
    """Run a peer, and return CPU milliseconds of a host."""
    peer, file = PEERS[key], hosts.directory / "profile"
    file.unlink(missing_ok=True)
    command = peer.command(hosts, FORKS)
    if key in PROFILED:
        arguments = [sys.executable, "-m", "benchmarks.profiled", str(file), *command.arguments[1:]]
        command = replace(command, arguments=arguments)
    run = process.run(command, hosts.directory)
    check(peer, run, hosts, first=phase == FIRST)
    return measures(run, file, len(hosts.hosts))


def measures(run: Finished, file: Path, count: int) -> dict[str, float]:
    """Return the parts of a run. The time that no fork has told is that of Ansible's main process and of its other tasks."""
    whole = run.cpu * 1000 / count
    if not file.exists():
        return {"ms": whole}
    forks = [json.loads(line) for line in file.read_text().splitlines()]
    mean = {
        name: fmean(fork.get(name, 0.0) for fork in forks)
        for name in ("before", "task", "kubeconfig", "requests", "faults")
    }
    return {
        "ms": whole,
        "ms_main": whole - mean["before"] - mean["task"],
        "ms_before": mean["before"],
        "ms_kubeconfig": mean["kubeconfig"],
        "ms_requests": mean["requests"],
        "ms_rest": mean["task"] - mean["kubeconfig"] - mean["requests"],
        "faults": mean["faults"],
    }
