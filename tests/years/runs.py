# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbooks of the collection, as their guides run them, and what the API servers saw of each run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from tests.support.playbook import kill_tree
from tests.support.rig import WRITES
from tests.years import player

if TYPE_CHECKING:
    from collections.abc import Mapping
    from multiprocessing.process import BaseProcess
    from pathlib import Path

    from tests.years.places import Place

#: A run takes no longer, with all waits for another run.
SECONDS = 600
#: Resources that a run writes without a change: what it asks by a write, and Leases and probes that it deletes again.
_NO_CHANGE = (
    *("leases", "volumesnapshots"),
    *("selfsubjectaccessreviews", "selfsubjectrulesreviews", "pods/portforward"),
)
_REPAIR = {"probe_urls": True, "proof_after": 1, "wait_timeout": 30}
#: The variables of each playbook.
_VARIABLES: dict[str, dict[str, Any]] = {
    "certificates": {
        "certflow_hosts": "webhooks",
        "certflow_allow_shared_cluster": True,
        "certflow_max_failures": "100%",
        "webhook_certificate_wait_timeout": 60,
    },
    "audit": {"certflow_fail_on": "never", "certflow_audit_options": {"probe_urls": True}},
    "repair": {"certflow_max_failures": "100%", "certflow_repair_options": _REPAIR},
    "cluster_ca": {
        "certflow_max_failures": "100%",
        "certflow_repair_options": _REPAIR,
        "certflow_cluster_ca": {"confirmed": True},
    },
    "upgrade": {
        "snapshot_controller_accept": ["kubectl"],
        "snapshot_controller_validation_webhook": False,
    },
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


@dataclass(frozen=True)
class Started:
    """A run that has not ended."""

    playbook: str
    is_check: bool
    process: BaseProcess
    #: The path of its report. The output is beside it.
    report: Path
    #: Place -> the size of its audit log at the start, and the user of the run there.
    starts: Mapping[str, tuple[int, str]]


def host(place: Place, program_name: str) -> str:
    """Return the inventory host of a program. Several certificates of a cluster are several hosts."""
    return f"{place.place}-{program_name}"


class Runs:
    """Runs from one directory, against the places that have runs."""

    def __init__(self, directory: Path, places: list[Place]) -> None:
        self._directory, self._places = directory, places
        self._context = player.context()
        self._count = 0

    def play(self, name: str, *arguments: str, kill_after: int = 0, **variables: Any) -> Run:
        """Run a playbook to its end. kill_after: the number of the request after which it is killed, 0 for never."""
        return self.finish(self.start(name, *arguments, kill_after=kill_after, **variables))

    def start(self, name: str, *arguments: str, kill_after: int = 0, **variables: Any) -> Started:
        self._count += 1
        report = self._directory / f"{name}-{self._count}.json"
        extra = json.dumps({**_VARIABLES[name], "certflow_report": str(report), **variables})
        words = ("-i", str(self._write_inventory()), "-e", extra, *arguments, f"certflow.kubernetes.{name}")
        starts = {place.place: (place.cluster.audit_log.stat().st_size, place.user) for place in self._places}
        ahead, output = self._places[-1].cluster.ahead, report.with_suffix(".txt")
        process = self._context.Process(
            target=player.play, args=(words, self._directory, ahead, kill_after, output)
        )
        process.start()
        return Started(name, "--check" in arguments, process, report, starts)

    def finish(self, started: Started) -> Run:
        started.process.join(SECONDS)
        end = ""
        if started.process.exitcode is None:
            end = f"no end within {SECONDS} s"
            kill_tree(started.process.pid or 0)
            started.process.join()
        report = started.report
        rows = {}
        if report.exists():
            rows = {row["name"]: row for row in json.loads(report.read_text())["clusters"]}
        output = report.with_suffix(".txt").read_text() + end
        writes = {place.place: _writes(place, *started.starts[place.place]) for place in self._places}
        status = started.process.exitcode or 0
        return Run(started.playbook, started.is_check, status, output, report, rows, writes)

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


def _writes(place: Place, start: int, user: str) -> list[Write]:
    """Return what a user wrote since a position of the audit log."""
    if place.months_off:
        return []
    with place.restarting:
        place.cluster.complete_audit_log()
    with place.cluster.audit_log.open("rb") as file:
        file.seek(start)
        lines = [line for line in file.read().split(b"\n") if user.encode() in line]
    writes = []
    for event in map(json.loads, lines):
        reference = event.get("objectRef", {})
        resource = "/".join(filter(None, [reference.get("resource"), reference.get("subresource")]))
        is_write = event["verb"] in WRITES and resource not in _NO_CHANGE
        is_done = event["stage"] == "ResponseComplete" and event["responseStatus"]["code"] < 300
        if is_write and is_done and "dryRun=" not in event["requestURI"]:
            writes.append(Write(event["verb"], resource, reference.get("name", "")))
    return writes
