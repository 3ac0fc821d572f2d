# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The ways to install the certificate of a webhook on many clusters, as a table."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.lab import SECRET, SERVICE, HostSet, configuration, options
from benchmarks.process import Command, Finished, RunFailed
from tests.support import clusters
from tests.support.playbooks import playbook

PLAYS = Path(__file__).with_name("plays")
MODE = "__certflow_execution_mode"
#: More hosts than any run has.
UNLIMITED = 1_000_000


@dataclass(frozen=True)
class Peer:
    """One way."""

    key: str
    #: What the page calls it.
    title: str
    #: What a chart calls it.
    short: str
    #: Return the command for these hosts and this number of forks.
    command: Callable[[HostSet, int], Command]
    #: Return the number of hosts that a run changed, None if the peer does not tell.
    changed: Callable[[Finished], int | None]
    #: The largest number of hosts, because a run with more takes too long.
    most: int = UNLIMITED
    #: True if a run with many hosts takes minutes. It is measured in one round then.
    is_slow: bool = False
    #: False if a second run does the whole work again.
    keeps: bool = True
    #: True if it leaves certificates.
    works: bool = True
    #: Return the reason why it cannot run here, "" if it can.
    why_not: Callable[[], str] = str


def program(name: str) -> str:
    """Return the path of a program of the running environment."""
    return str(Path(sys.executable).with_name(name))


def _play(name: str, mode: str, hosts: HostSet, forks: int) -> Command:
    play = name if name.startswith("certflow.") else str(PLAYS / f"{name}.yml")
    extra = json.dumps({MODE: mode, "certflow_allow_shared_cluster": True})
    arguments = ["-i", str(hosts.inventory), "--forks", str(forks), "-e", extra]
    return Command([program("ansible-playbook"), play, *arguments], environment={"PATH": _path()})


def _debug(hosts: HostSet, forks: int) -> Command:
    arguments = ["-i", str(hosts.inventory), "--forks", str(forks), "-m", "ansible.builtin.debug"]
    return Command([program("ansible"), "clusters", *arguments])


def _bare(hosts: HostSet, forks: int) -> Command:
    plan = {"forks": forks, "hosts": [options(host) for host in hosts.hosts]}
    return Command([sys.executable, "-m", "benchmarks.bare"], json.dumps(plan))


def _scripts(at_once: int, hosts: HostSet, _forks: int) -> Command:
    plan = {
        "at_once": at_once,
        "service": SERVICE,
        "secret": SECRET,
        "scripts": str(clusters.snapshotter_dir() / "deploy" / "kubernetes" / "webhook-example"),
        "programs": str(clusters.programs()),
        "hosts": [
            {
                "name": host.name,
                "kubeconfig": str(host.kubeconfig),
                "template": configuration(host.name, ca_bundle="${CA_BUNDLE}"),
            }
            for host in hosts.hosts
        ],
    }
    return Command([sys.executable, "-m", "benchmarks.scripts"], json.dumps(plan))


def _path() -> str:
    return f"{clusters.programs()}{os.pathsep}{os.environ['PATH']}"


def _recap(run: Finished) -> int:
    return playbook.PlaybookRun(run.status, run.output).recap("changed")


def _last_line(run: Finished) -> int:
    return int(run.output.split()[-1])


def _unknown(_run: Finished) -> None:
    return None


def _needs(name: str) -> str:
    return "" if shutil.which(name) else f"the program {name} is not installed"


def _needs_collections() -> str:
    missing = [
        name
        for name in ("kubernetes.core", "community.crypto")
        if not any(
            (Path(entry) / "ansible_collections").joinpath(*name.split(".")).is_dir() for entry in sys.path
        )
    ]
    return f"{' and '.join(missing)} is not in this environment" if missing else ""


PEERS = {
    peer.key: peer
    for peer in (
        Peer(
            "bare", "The operation in Python, without Ansible", "operation without Ansible", _bare, _last_line
        ),
        Peer(
            "debug",
            "ansible -m debug: the least that Ansible costs",
            "ansible -m debug",
            _debug,
            _unknown,
            works=False,
        ),
        Peer(
            "in_process",
            "k8s_csr, in Ansible's process",
            "k8s_csr, in Ansible's process",
            partial(_play, "module", "in_process"),
            _recap,
        ),
        Peer(
            "role",
            "Role webhook_certificate",
            "role webhook_certificate",
            partial(_play, "role", "in_process"),
            _recap,
        ),
        Peer(
            "playbook",
            "Playbook certflow.kubernetes.certificates",
            "playbook certificates",
            partial(_play, "certflow.kubernetes.certificates", "in_process"),
            _recap,
        ),
        Peer(
            "module",
            "k8s_csr, as an ordinary module",
            "k8s_csr, ordinary module",
            partial(_play, "module", "module"),
            _recap,
            most=50,
            is_slow=True,
        ),
        Peer(
            "scripts_2",
            "create-cert.sh and patch-ca-bundle.sh, two at a time",
            "the scripts, two at a time",
            partial(_scripts, 2),
            _unknown,
            most=200,
            is_slow=True,
            keeps=False,
            why_not=partial(_needs, "jq"),
        ),
        Peer(
            "scripts_1",
            "create-cert.sh and patch-ca-bundle.sh, one at a time",
            "the scripts, one at a time",
            partial(_scripts, 1),
            _unknown,
            most=50,
            is_slow=True,
            keeps=False,
            why_not=partial(_needs, "jq"),
        ),
        Peer(
            "composed",
            "A playbook of kubernetes.core and community.crypto",
            "kubernetes.core, community.crypto",
            partial(_play, "composed", "auto"),
            _recap,
            most=50,
            is_slow=True,
            why_not=_needs_collections,
        ),
    )
}


def check(peer: Peer, run: Finished, hosts: HostSet, *, first: bool) -> None:
    """Raise RunFailed if a run did not do its work: all hosts changed in the first run, and none in the second."""
    changed = peer.changed(run)
    wanted = len(hosts.hosts) if first else 0
    # A play of several tasks changes several things on a host.
    is_right = changed is None or (changed >= wanted if first else changed == 0)
    if run.status or not is_right:
        raise RunFailed(f"status {run.status}, {changed} changed instead of {wanted}: {run.output[-1500:]}")
    if peer.works:
        hosts.verify()
