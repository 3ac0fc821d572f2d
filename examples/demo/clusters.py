# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The test rig of the demos: two clusters, a webhook server for each, and the programs that run."""

from __future__ import annotations

import json
import re
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from examples.demo import objects
from examples.demo.webhook import DemoWebhook, anything_goes, judge
from tests.support import clusters
from tests.support.clusters import AdminApiError, programs
from tools.ci import process, tree
from tools.ci.venvs import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import FrameType

    from tests.support.clusters import Cluster, Fleet

HERE = Path(__file__).parent
# The parts that can be broken on purpose, which shows that the demo can fail.
BREAKS = ("certificate", "rule")
BUILD = """\
First it builds Kubernetes into ~/.cache, once: about 7 minutes on 2 free cores. Later demos begin within a minute. Shorter ways:
  - CERTFLOW_KUBERNETES_BIN=FOLDER make demo, with kube-apiserver, kube-controller-manager, etcd and kubectl in the folder
  - a kind cluster of your own, with the first certificate of README.md. It needs no build"""
# The longest time of a program, so that one that hangs ends. A slow machine needs much less.
SECONDS = 3600.0


class Unseen(Exception):
    """A promise of the demo did not come true. The text says what happened instead."""


def say(text: str = "") -> None:
    print(text, flush=True)


def announce(title: str, scenes: Iterable[str]) -> None:
    """Print what the demo shows. If it builds Kubernetes before, print how long that takes, and the shorter ways."""
    say(title)
    for number, scene in enumerate(scenes, 1):
        say(f"  {number}. {scene}")
    if clusters.needs_build():
        say(BUILD)
    clusters.programs()


def ended(show: Callable[[], bool]) -> int:
    """Run a demo, which returns True if every step succeeded. Return the exit status. SIGTERM ends it like Ctrl-C."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return 0 if show() else 1
    except clusters.ClusterError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: interrupted. Nothing is left running", file=sys.stderr)
        return 130


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def say_end(is_complete: bool, start: float) -> None:
    """Print the end of a demo that began at a time of time.monotonic."""
    words = "Every step succeeded" if is_complete else "NOT every step succeeded"
    say(f"{words}, in {time.monotonic() - start:.0f} s. Nothing is left running.")


def quote(text: str) -> None:
    """Print the output of a program, set off from the text of the demo."""
    for line in text.splitlines():
        if line.strip():
            say(f"   | {line.rstrip()}")


class DemoClusters:
    """The clusters by name, and the programs that the demo runs. Its files are in the fleet's directory."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.directory = fleet.directory / "demo"
        self.directory.mkdir(mode=0o700)
        self.log = self.directory / "output"  # of the running program

    def run(self, *command: str | Path, **variables: str) -> tuple[int, str]:
        """Run a program, and return its status and output. End it and its children on return and on an interrupt."""
        log = self.log
        log.unlink(missing_ok=True)
        environment = tree.environ(Path(sys.prefix)) | {"HOME": str(self.directory), **variables}
        environment["PATH"] = f"{programs()}:{environment['PATH']}"
        status = process.run(command, log, environment, HERE, SECONDS)
        return status, log.read_text(errors="replace").partition("\n")[2]

    def playbook(self, name: str, *words: str, kubeconfig: Path | None = None) -> str:
        """Return the output of a playbook of this directory. Raises Unseen if it fails."""
        status, output = self.attempt(name, *words, kubeconfig=kubeconfig)
        if status:
            quote(output)
            raise Unseen(f"ansible-playbook {name} ended with status {status}")
        return output

    def attempt(
        self, name: str, *words: str, kubeconfig: Path | None = None, result_format: str = "yaml"
    ) -> tuple[int, str]:
        """Return the status and the output of a playbook of this directory."""
        program = Path(sys.executable).with_name("ansible-playbook")
        line = " ".join(["ansible-playbook -i inventory.yml", name, *words])
        say(f"   $ {line}        (in {HERE.relative_to(REPOSITORY)})")
        variables = {
            "KUBECONFIG": str(kubeconfig or self.fleet.merged_kubeconfig),
            "ANSIBLE_CALLBACK_RESULT_FORMAT": result_format,
        }
        return self.run(program, *line.split()[1:], **variables)


class FleetPlaybooks(DemoClusters):
    """The playbooks of the collection on a fleet, whose inventory and files are in the directory of the demo."""

    def play(self, name: str, *words: str) -> tuple[int, str]:
        """Return the status and the output of a playbook of the collection on the fleet."""
        say(f"   $ ansible-playbook -i fleet.yml certflow.kubernetes.{name} {' '.join(words)}")
        where = self.directory
        options = [
            re.sub(r"=(\w+\.json)", rf"={where}/\1", word.replace("@", f"@{where}/")) for word in words
        ]
        own = ("-e", f"certflow_run_file={where}/run.jsonl")
        program = Path(sys.executable).with_name("ansible-playbook")
        command: tuple[str | Path, ...] = (
            program,
            "-i",
            str(where / "fleet.yml"),
            f"certflow.kubernetes.{name}",
            *options,
            *own,
        )
        quiet = {"ANSIBLE_DISPLAY_OK_HOSTS": "false", "ANSIBLE_DISPLAY_SKIPPED_HOSTS": "false"}
        return self.run(*command, **(quiet if name != "audit" else {}))

    def rows(self, name: str = "report.json") -> list[dict[str, Any]]:
        """Return the clusters of a report."""
        return list(json.loads((self.directory / name).read_text())["clusters"])

    def report(self, name: str = "report.json") -> dict[str, str]:
        """Return the status of each host in a report."""
        return {row["name"]: row["status"] for row in self.rows(name)}


def progress(output: str, hosts: Iterable[str]) -> str:
    """Return the lines of progress and the summary of a run on these hosts."""
    lines = re.findall(r"^(?:\[\d+/\d+\] .*|stage .*|the run of .*)$", output, re.MULTILINE)
    summary = output.rpartition("PLAY [Report the outcomes]")[2].partition("PLAY RECAP")[0]
    shown = (r"\d+ clusters: ", r"plan sha256:", *(f"{host}: " for host in hosts))
    return "\n".join([*lines, *(line for line in summary.splitlines() if re.match("|".join(shown), line))])


class CertificateDemo(DemoClusters):
    """The demo of a certificate, with a webhook on this machine for each cluster."""

    def __init__(self, fleet: Fleet, broken: str = "") -> None:
        super().__init__(fleet)
        self.broken = broken
        rule = anything_goes if broken == "rule" else judge
        self.webhooks = {name: DemoWebhook(rule) for name in fleet}

    def close(self) -> None:
        for webhook in self.webhooks.values():
            webhook.close()

    def prepare(self) -> None:
        """Create the webhook's objects on each cluster, like its own manifests."""
        for name, cluster in self.fleet.items():
            cluster.api("POST", "/api/v1/namespaces", {"metadata": {"name": objects.NAMESPACE}})
            cluster.api("POST", f"{objects.NAMESPACED}/services", objects.service())
            # The cluster creates this ConfigMap itself. Wait for it, because the webhook would refuse it.
            _wait_for(cluster, f"{objects.CONFIG_MAPS}/kube-root-ca.crt")
            cluster.api("POST", objects.CONFIGURATIONS, objects.configuration(self.webhooks[name].port))


def secret(cluster: Cluster) -> tuple[str, str]:
    """Return the certificate and the key of the webhook as PEM text. Raises Unseen if the Secret does not exist."""
    try:
        return objects.pair(cluster.api("GET", f"{objects.NAMESPACED}/secrets/{objects.SECRET}"))
    except AdminApiError as error:
        raise Unseen(f"{cluster.name}: {error}") from error


def changed(output: str) -> dict[str, int]:
    """Return the number of changed tasks by host, from the recap of a playbook's output."""
    recap = output.rpartition("PLAY RECAP")[2]
    return {
        host: int(number) for host, number in re.findall(r"^(\S+) .*\bchanged=(\d+)", recap, re.MULTILINE)
    }


def _wait_for(cluster: Cluster, path: str) -> None:
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            cluster.api("GET", path)
        except AdminApiError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return
