# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fifty hosts over two real control planes: both execution modes of k8s_csr, and the scripts that it replaces.

Every figure is measured in one run on this machine. No figure is asserted. The scripts are create-cert.sh and
patch-ca-bundle.sh of external-snapshotter 7.0.2, two at a time.
"""

from __future__ import annotations

import datetime
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.support import clusters, playbook

HOSTS = 50
FORKS = 10
SCRIPTS_AT_A_TIME = 2
NAMES = ("onprem-1", "onprem-2")
PLAYBOOK = Path(__file__).with_name("certificates.yml")


@dataclass(frozen=True)
class BenchmarkHost:
    """A namespace that represents a cluster, with a webhook configuration of the same name."""

    name: str
    cluster: clusters.Cluster


@dataclass(frozen=True)
class Figure:
    """A row of the table."""

    way: str
    #: Wall clock of the first run and of the second one, in seconds.
    first: float
    again: float | None
    #: Requests to the API servers for each host, in the second run.
    requests: float | None


def main() -> int:
    """Measure and print the table. The exit status is 1 if a run did not do its work."""
    signal.signal(
        signal.SIGTERM, lambda _number, _frame: sys.exit(143)
    )  # so that clusters and keys are removed
    with (
        clusters.running(dict.fromkeys(NAMES, "onprem")) as fleet,
        tempfile.TemporaryDirectory() as directory,
    ):
        workplace = Path(directory)
        figures = [
            _play(fleet, workplace, "in_process", "k8s_csr, in Ansible's process"),
            _play(fleet, workplace, "module", "k8s_csr, ordinary module"),
        ]
        if shutil.which("jq"):
            figures.append(_scripts(fleet, workplace))
        else:
            print("not run: patch-ca-bundle.sh needs jq, which is not installed")
    _print(figures)
    return 0


def _play(fleet: clusters.Fleet, workplace: Path, mode: str, way: str) -> Figure:
    hosts = _hosts(fleet, mode.replace("_", "-"))
    inventory = workplace / f"{mode}.json"
    variables = {host.name: {"cluster_kubeconfig": str(host.cluster.kubeconfig)} for host in hosts}
    inventory.write_text(json.dumps({"all": {"hosts": variables}}))
    arguments = (
        "-i",
        str(inventory),
        "--forks",
        str(FORKS),
        "-e",
        f"certflow_kubernetes_execution_mode={mode}",
    )
    first = _timed(workplace, arguments, changed=len(hosts))
    began = datetime.datetime.now(datetime.UTC)
    again = _timed(workplace, arguments, changed=0)
    events = [event for name in NAMES for event in fleet[name].requests(since=began)]
    asked = [event for event in events if event.get("userAgent", "").startswith("certflow.kubernetes/")]
    return Figure(way, first, again, len(asked) / len(hosts))


def _scripts(fleet: clusters.Fleet, workplace: Path) -> Figure:
    hosts = _hosts(fleet, "scripts")
    (workplace / "tmp").mkdir()  # create-cert.sh leaves its private keys in the temporary directory
    began = time.monotonic()
    with ThreadPoolExecutor(max_workers=SCRIPTS_AT_A_TIME) as pool:
        for _done in pool.map(lambda host: _script(host, workplace), hosts):
            pass
    return Figure(
        f"create-cert.sh + patch-ca-bundle.sh, {SCRIPTS_AT_A_TIME} at a time",
        time.monotonic() - began,
        None,
        None,
    )


def _script(host: BenchmarkHost, workplace: Path) -> None:
    scripts = clusters.snapshotter_dir() / "deploy" / "kubernetes" / "webhook-example"
    environment = {
        **os.environ,
        "KUBECONFIG": str(host.cluster.kubeconfig),
        "TMPDIR": str(workplace / "tmp"),
        "PATH": f"{clusters.programs()}:{os.environ['PATH']}",
    }
    arguments = ["--service", "snapshot-validation-service", "--namespace", host.name]
    _run(
        ["bash", str(scripts / "create-cert.sh"), *arguments, "--secret", "snapshot-validation-secret"],
        environment,
    )
    template = json.dumps(_webhook(host.name, ca_bundle="${CA_BUNDLE}"))
    filled = _run(["bash", str(scripts / "patch-ca-bundle.sh")], environment, template)
    _run(["kubectl", "apply", "-f", "-"], environment, filled)


def _hosts(fleet: clusters.Fleet, prefix: str) -> list[BenchmarkHost]:
    """Create new hosts: a namespace and a webhook configuration for each."""
    hosts = [
        BenchmarkHost(f"{prefix}-{number:02}", fleet[NAMES[number % len(NAMES)]]) for number in range(HOSTS)
    ]
    for host in hosts:
        host.cluster.api("POST", "/api/v1/namespaces", {"metadata": {"name": host.name}})
        host.cluster.api(
            "POST",
            "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
            _webhook(host.name),
        )
    return hosts


def _webhook(name: str, ca_bundle: str = "") -> dict[str, object]:
    service = {"namespace": name, "name": "snapshot-validation-service", "path": "/volumesnapshot"}
    webhook = {
        "name": "validation-webhook.snapshot.storage.k8s.io",
        "clientConfig": {"service": service, **({"caBundle": ca_bundle} if ca_bundle else {})},
        "rules": [
            {
                "apiGroups": ["snapshot.storage.k8s.io"],
                "apiVersions": ["v1"],
                "operations": ["CREATE", "UPDATE"],
                "resources": ["volumesnapshots"],
            }
        ],
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "failurePolicy": "Ignore",
    }
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": name},
        "webhooks": [webhook],
    }


def _timed(workplace: Path, arguments: tuple[str, ...], *, changed: int) -> float:
    """Return the seconds that the play takes. End the benchmark if the play did not do its work."""
    began = time.monotonic()
    run = playbook.play(workplace, PLAYBOOK, *arguments)
    seconds = time.monotonic() - began
    if run.status or run.recap("changed") != changed:
        raise SystemExit(
            f"{changed} hosts should have changed, {run.recap('changed')} did:\n{run.output[-3000:]}"
        )
    return seconds


def _run(command: list[str], environment: dict[str, str], text: str = "") -> str:
    done = subprocess.run(command, env=environment, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(
            f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        )
    return done.stdout


def _print(figures: list[Figure]) -> None:
    width = max(len(figure.way) for figure in figures)
    print(
        f"\n{HOSTS} hosts, {len(NAMES)} control planes, {FORKS} forks, {os.cpu_count()} cores, seconds of wall clock"
    )
    print(f"{'':{width}}  first run  without change  requests a host, without change")
    for figure in figures:
        again = f"{figure.again:14.1f}" if figure.again is not None else f"{'does it again':>14}"
        requests = f"{figure.requests:8.1f}" if figure.requests is not None else f"{'-':>8}"
        print(f"{figure.way:{width}}  {figure.first:9.1f}  {again}  {requests}")
    quick, module = figures[0], figures[1]
    print(
        f"\nin-process against ordinary module: {module.first / quick.first:.1f} times as fast in the first run, ",
        end="",
    )
    print(f"{(module.again or 0) / (quick.again or 1):.1f} times without change")
    for figure in figures[2:]:
        print(
            f"in-process against {figure.way}: {figure.first / quick.first:.1f} times as fast in the first run"
        )


if __name__ == "__main__":
    sys.exit(main())
