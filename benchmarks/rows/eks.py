# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rows about one cluster like EKS: the login program of the kubeconfig, and a request that is never issued."""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.certflow.kubernetes.plugins.module_utils._diagnosis import causes
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations import k8s_csr, k8s_csr_info

from benchmarks import lab as labs
from benchmarks import process
from benchmarks.lab import HostSet, Lab
from benchmarks.peers import MODE, PLAYS, program
from benchmarks.process import Command, RunFailed
from benchmarks.rows.context import Bench, lab
from benchmarks.samples import FORKS, Case
from tests.support import clusters
from tests.support.clusters import Cluster, aws_tokens
from tests.support.operations import operate
from tests.support.playbooks import aws_program

EKS = {"eks": "eks"}
LOGIN_SECONDS = 1.0
#: Peer -> its play and execution mode.
LOGINS = {
    "k8s_csr_info, in Ansible's process (token cached)": ("read", "in_process"),
    "k8s_csr_info, ordinary module (no cache)": ("read", "module"),
    "kubernetes.core.k8s_info": ("read_core", "auto"),
    "kubectl get, ten at a time": ("", ""),
}


def login(bench: Bench) -> None:
    """One request on each host, with a login program that costs one CPU second."""
    count = bench.hosts(20)
    with lab(EKS) as made:
        cluster = made.fleet["eks"]
        tokens = aws_tokens.read(cluster.directory / "pki")
        aws = aws_program.install(made.directory / "aws", tokens)
        hosts = made.hosts(count)
        config = made.directory / "login.kubeconfig"
        ca = base64.b64encode(cluster.ca_pem.encode()).decode()
        config.write_text(yaml.safe_dump(aws_program.kubeconfig(cluster.url, ca)))
        entries = labs.inventory(hosts.hosts, lambda _host: {"cluster_kubeconfig": str(config)})
        hosts.inventory.write_text(json.dumps(entries))
        path = os.pathsep.join([aws.path, str(clusters.programs()), os.environ["PATH"]])
        for _round in bench.rounds(2):
            for peer, (play, mode) in LOGINS.items():
                if bench.has_failed("login", peer):
                    continue
                with bench.attempt("login", peer):
                    aws.reset(tokens, cpu_seconds=LOGIN_SECONDS)
                    command = _reading(hosts, config, play, mode, path)
                    run = process.run(command, made.directory)
                    if run.status:
                        raise RunFailed(run.output[-1500:])
                    used = {"wall": run.wall, "cpu": run.cpu, "logins": len(aws.runs())}
                    bench.add(Case("login", peer, count), used)


def _reading(hosts: HostSet, config: Path, play: str, mode: str, path: str) -> Command:
    """Return the command that reads one object on each host."""
    if not play:
        read = f"kubectl --kubeconfig {config} get namespace kube-system"
        loop = f"seq {len(hosts.hosts)} | xargs -P {FORKS} -I% {read}"
        return Command(["sh", "-c", loop], environment={"PATH": path})
    extra = json.dumps({MODE: mode})
    options = ["-i", str(hosts.inventory), "--forks", str(FORKS), "-e", extra]
    return Command(
        [program("ansible-playbook"), str(PLAYS / f"{play}.yml"), *options], environment={"PATH": path}
    )


def cause(bench: Bench) -> None:
    """Seconds until a user knows why a request is not issued."""
    with lab(EKS) as made:
        for _round in bench.rounds(3):
            for peer, ask in CAUSES.items():
                if bench.has_failed("cause", peer):
                    continue
                with bench.attempt("cause", peer):
                    hosts = made.hosts(1)
                    began = time.monotonic()
                    code = ask(made, hosts)
                    bench.add(
                        Case("cause", peer), {"wall": time.monotonic() - began, "named": float(bool(code))}
                    )


def _by_k8s_csr(_made: Lab, hosts: HostSet) -> str:
    result = operate(k8s_csr.OPERATION, labs.options(hosts.hosts[0]))
    if not result.get("failed"):
        raise RunFailed("the request was issued")
    return _named(str((result.get("diagnosis") or {}).get("code", "")))


def _named(code: str) -> str:
    """Return the code of a cause. Raises RunFailed for another code, such as that of a time-out."""
    if code not in {cause.code for cause in causes.CAUSES}:
        raise RunFailed(f"the result has the code {code or 'none'}, which is not a cause")
    return code


def _by_k8s_csr_info(made: Lab, hosts: HostSet) -> str:
    host = hosts.hosts[0]
    stuck = next(_stuck(made.fleet["eks"]), "")
    if not stuck:
        raise RunFailed("no request of an earlier peer is stuck")
    result = operate(k8s_csr_info.OPERATION, {"kubeconfig": str(host.kubeconfig), "name": stuck})
    found: list[dict[str, Any]] = [csr["diagnosis"] for csr in result["csrs"] if csr["diagnosis"]]
    return _named(found[0]["code"] if found else "")


def _stuck(cluster: Cluster) -> Iterator[str]:
    """Yield the names of approved requests without a certificate."""
    for csr in cluster.api("GET", "/apis/certificates.k8s.io/v1/certificatesigningrequests")["items"]:
        conditions = {condition["type"] for condition in csr["status"].get("conditions", ())}
        if "Approved" in conditions and not csr["status"].get("certificate"):
            yield str(csr["metadata"]["name"])


def _by_script(made: Lab, hosts: HostSet) -> str:
    """Run create-cert.sh, which gives up after ten attempts without a cause."""
    host = hosts.hosts[0]
    script = clusters.snapshotter_dir() / "deploy" / "kubernetes" / "webhook-example" / "create-cert.sh"
    options = ["--service", labs.SERVICE, "--namespace", host.name, "--secret", labs.SECRET]
    environment = {
        "KUBECONFIG": str(host.kubeconfig),
        "TMPDIR": str(made.directory),
        "PATH": f"{clusters.programs()}{os.pathsep}{os.environ['PATH']}",
    }
    run = process.run(Command(["bash", str(script), *options], environment=environment), made.directory)
    if run.status == 0:
        raise RunFailed("the request was issued")
    return ""


#: The script is first, because its request is the one that k8s_csr_info explains.
CAUSES: dict[str, Callable[[Lab, HostSet], str]] = {
    "create-cert.sh": _by_script,
    "k8s_csr": _by_k8s_csr,
    "k8s_csr_info": _by_k8s_csr_info,
}
