# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbooks of the collection, as their guides run them, and what the API servers saw of each run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tests.support import playbook
from tests.support.rig import WRITES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.years.places import Place

#: A run takes no longer, with all waits for another run.
SECONDS = 600
_REPOSITORY = Path(__file__).resolve().parents[2]
#: Resources that a run writes without a change: what it asks by a write, and the Leases that it deletes again.
_NO_CHANGE = ("leases", "selfsubjectaccessreviews", "selfsubjectrulesreviews", "pods/portforward")
_OPTIONS = {
    "certflow_allow_shared_cluster": True,
    "certflow_max_failures": "100%",
    "certflow_fail_on": "never",
    "certflow_audit_options": {"probe_urls": True},
    "certflow_repair_options": {"probe_urls": True, "proof_after": 1, "wait_timeout": 30},
    "certflow_cluster_ca": {"confirmed": True},
    "webhook_certificate_wait_timeout": 60,
}
#: The variables that a playbook has.
_OF_PLAYBOOK = {
    "certificates": (
        "certflow_allow_shared_cluster",
        "certflow_max_failures",
        "webhook_certificate_wait_timeout",
    ),
    "audit": ("certflow_fail_on", "certflow_audit_options"),
    "repair": ("certflow_max_failures", "certflow_repair_options"),
    "cluster_ca": ("certflow_max_failures", "certflow_repair_options", "certflow_cluster_ca"),
}


@dataclass(frozen=True)
class Write:
    """A request that changed an object."""

    verb: str
    resource: str
    name: str

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}/{self.name}"


@dataclass(frozen=True)
class Run:
    """What a run printed and reported, and what it wrote."""

    playbook: str
    is_check: bool
    status: int
    output: str
    report: Path
    #: Inventory host -> its row of the report. A killed run may have none.
    rows: Mapping[str, dict[str, Any]]
    #: Place -> what it wrote there.
    writes: Mapping[str, list[Write]]

    @property
    def is_killed(self) -> bool:
        return self.status < 0


def host(place: Place, program_name: str) -> str:
    """Return the inventory host of a program. Several certificates of a cluster are several hosts."""
    return f"{place.place}-{program_name}"


class Runs:
    """Runs from one directory, against the places that have runs."""

    def __init__(self, directory: Path, places: list[Place]) -> None:
        self._directory, self._places = directory, places
        self.count = 0

    def play(self, name: str, *arguments: str, kill_after: int = 0, **variables: Any) -> Run:
        """Run a playbook to its end. kill_after: the number of the request after which it is killed, 0 for never."""
        return self.finish(self.start(name, *arguments, kill_after=kill_after, **variables))

    def start(self, name: str, *arguments: str, kill_after: int = 0, **variables: Any) -> Started:
        self.count += 1
        report = self._directory / f"{name}-{self.count}.json"
        hosts = {"certflow_hosts": "webhooks"} if name == "certificates" else {}
        given = {key: _OPTIONS[key] for key in _OF_PLAYBOOK[name]}
        files = {"certflow_report": str(report)}
        extra = json.dumps({**given, **hosts, **files, **variables})
        ahead = str(self._places[0].cluster.ahead.total_seconds())
        starts = {place.place: place.cluster.audit_log.stat().st_size for place in self._places}
        users = {place.place: place.user for place in self._places}
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.years.clocked", ahead, str(kill_after)),
                *("-i", str(self._write_inventory()), "-e", extra, *arguments),
                f"certflow.kubernetes.{name}",
            ],
            cwd=_REPOSITORY,
            env={**os.environ, "HOME": str(self._directory)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return Started(name, "--check" in arguments, process, report, starts, users)

    def finish(self, started: Started) -> Run:
        try:
            output, _errors = started.process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            playbook.kill(started.process)
            output = f"no end within {SECONDS} s\n{started.process.communicate()[0]}"
        rows = {}
        if started.report.exists():
            rows = {row["name"]: row for row in json.loads(started.report.read_text())["clusters"]}
        writes = {
            place.place: _writes(place, started.starts[place.place], started.users[place.place])
            for place in self._places
        }
        status = started.process.returncode
        return Run(started.playbook, started.is_check, status, output, started.report, rows, writes)

    def _write_inventory(self) -> Path:
        webhooks = {
            host(place, program.name): {
                "certflow_kubeconfig": str(place.kubeconfig),
                "webhook_certificate_service": program.name,
                "webhook_certificate_namespace": place.name,
                "webhook_certificate_secret": {"name": program.name},
                "webhook_certificate_targets": [program.target],
                "webhook_certificate_signer_name": place.signer,
            }
            for place in self._places
            for program in place.ours
        }
        clusters = {place.place: {"certflow_kubeconfig": str(place.kubeconfig)} for place in self._places}
        groups = {"clusters": {"hosts": clusters}, "webhooks": {"hosts": webhooks}}
        path = self._directory / "fleet.yml"
        path.write_text(yaml.safe_dump({"all": {"children": groups}}))
        return path


@dataclass(frozen=True)
class Started:
    """A run that has not ended. starts: place -> the size of its audit log. users: place -> the user of the run there."""

    playbook: str
    is_check: bool
    process: subprocess.Popen[str]
    report: Path
    starts: Mapping[str, int]
    users: Mapping[str, str]


def _writes(place: Place, start: int, user: str) -> list[Write]:
    """Return what a user wrote since a position of the audit log."""
    if place.months_off:
        return []
    place.cluster.complete_audit_log()
    with place.cluster.audit_log.open("rb") as file:
        file.seek(start)
        lines = [line for line in file.read().split(b"\n") if user.encode() in line]
    events = [event for event in map(json.loads, lines) if event["stage"] == "ResponseComplete"]
    found = []
    for event in events:
        reference = event.get("objectRef", {})
        resource = "/".join(filter(None, [reference.get("resource"), reference.get("subresource")]))
        is_done = event["responseStatus"]["code"] < 300 and "dryRun=" not in event["requestURI"]
        if is_done and event["verb"] in WRITES and resource not in _NO_CHANGE:
            found.append(Write(event["verb"], resource, reference.get("name", "")))
    return found
