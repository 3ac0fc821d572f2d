# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A rotation of the CA of a cluster, around the programs of a world whose certificates that CA signs."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import yaml
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.checks.rotation_checks import (
    ROTATION_ROWS,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations import webhook_repair

from tests.support.webhooks.repair_rig import states
from tests.support.world import World

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.support.clusters import Cluster
    from tests.support.clusters.pki import KeyPair
    from tests.support.rig import ClusterRig
    from tests.support.world import Program


def rotation_findings(result: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Return check -> name of the object -> severity, of the findings about a rotation that fail."""
    severities: dict[str, dict[str, str]] = {row.id: {} for row in ROTATION_ROWS}
    for finding in result["findings"]:
        if finding["status"] == "fail" and finding["check"] in severities:
            severities[finding["check"]][finding["object"]["name"]] = finding["severity"]
    return {check: objects for check, objects in severities.items() if objects}


def with_ca(rig: ClusterRig, *cas: KeyPair) -> dict[str, Any]:
    """Return the user's kubeconfig with these CAs."""
    config: dict[str, Any] = yaml.safe_load(rig.kubeconfig.read_text())
    pem = b"".join(ca.certificate_pem for ca in cas)
    config["clusters"][0]["cluster"]["certificate-authority-data"] = base64.b64encode(pem).decode()
    return config


class RotationRig(World):
    """A world before a rotation of the CA of its cluster."""

    def __init__(self, cluster: Cluster, **rotation: Any) -> None:
        super().__init__(cluster)
        self.rotation = cluster.rotation(**rotation)
        self.old, self.new = self.rotation.outgoing, self.rotation.successor
        #: A CA after the successor, if a test makes one.
        self.third = self.new
        self.connection = {"kubeconfig": self.trust()}

    def trust(self) -> dict[str, Any]:
        """Return a kubeconfig that trusts both CAs."""
        return with_ca(self, self.old, self.new)

    def run(self, kinds: list[str], *, check_mode: bool = False, **options: Any) -> dict[str, Any]:
        """Run a phase with a kubeconfig that trusts both CAs."""
        arguments = {
            "kinds": kinds,
            "kubeconfig": self.trust(),
            "probe_urls": True,
            "proof_after": 1,
            "wait_timeout": 30,
            "cluster_ca": {"confirmed": True},
            **options,
        }
        return self.operate(webhook_repair.OPERATION, check_mode=check_mode, **arguments)

    def findings(self) -> dict[str, dict[str, str]]:
        """Audit the cluster as `run` connects to it. Return the findings about the rotation."""
        return rotation_findings(self.audit(kubeconfig=self.trust()))


def of_cluster(result: dict[str, Any]) -> list[tuple[str, str]]:
    """Return state and code of what a phase waits for in the whole cluster."""
    return [
        (entry["state"], entry["code"])
        for entry in result["repairs"]
        if entry["object"]["kind"] == "ConfigMap"
    ]


def of_program(result: dict[str, Any], program: Program) -> list[tuple[str, str]]:
    return [(state, code) for _check, state, code in states(result, program.full_name)]


def codes(result: dict[str, Any], programs: Sequence[Program]) -> dict[str, list[tuple[str, str]]]:
    """Return the name of each program -> state and code of its repairs."""
    return {program.name: of_program(result, program) for program in programs}
