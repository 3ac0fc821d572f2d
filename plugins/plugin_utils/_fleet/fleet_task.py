# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Read the variables of a task of a fleet run, print its lines, and check that no other host of the run means the same cluster."""

from __future__ import annotations

import hashlib
import os
import select
from collections.abc import Mapping
from typing import Any, Callable

from ansible.constants import config
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.utils.display import Display

from ...module_utils._base.errors import CertflowError
from ...module_utils._base.text import visible
from ...module_utils._kube.client import Client
from ...module_utils._kube.cluster_facts import read_cluster_uid
from ...module_utils._kube.errors import Forbidden
from . import cluster_run, fleet_run, overlap, windows
from .cluster_run import ClusterTask
from .fleet_run import FleetRun
from .overlap import Claim

Value = Callable[[str], Any]

display = Display()
#: Copies of the standard output and the standard error of the main process, which imports this file. A fork of Ansible has others.
_STREAMS = os.dup(1), os.dup(2)


def print_line(line: str) -> None:
    """Print a line. A callback that prints JSON needs standard output for itself.

    Ansible's main process prints the lines of its forks, in the order in which a fork sends them and its result. Without a reader, as
    after ``| head``, its thread for them would end, and the run would wait for ever. So no line is sent then.
    """
    is_json = "json" in str(config.get_config_value("DEFAULT_STDOUT_CALLBACK"))
    reader = select.poll()
    reader.register(_STREAMS[is_json], 0)
    if not reader.poll(0):
        display.display(line, stderr=is_json)


def is_controlled(variables: Mapping[str, Any]) -> bool:
    """Return True for a task that the fleet playbooks control."""
    return cluster_run.VARIABLE in variables and fleet_run.VARIABLE in variables


def read_task(value: Value, done: Mapping[str, Any], *, reads_only: bool, deadline: int) -> ClusterTask:
    """Return the task of the current host. Its windows were checked before the run began.

    value: returns the rendered value of a variable. done: the result of the work, {} before it.
    """
    is_overridden = boolean(value("certflow_window_override") or False, strict=False)
    window = value("certflow_window")
    return ClusterTask(
        host=value("inventory_hostname"),
        phase=value(cluster_run.VARIABLE),
        reads_only=reads_only,
        windows=() if is_overridden or not window else windows.parse(window),
        deadline=deadline,
        done=done.get(cluster_run.OUTCOME, {}),
    )


class ClusterCheck:
    """Claim the cluster of a task for its host, so that two hosts of a run do not work on one cluster.

    uid: the UID of the cluster, "" if it is not known.
    """

    def __init__(self, run: FleetRun, task: ClusterTask, arguments: Mapping[str, Any]) -> None:
        self._run = run
        self._task = task
        self._arguments = arguments
        self.uid = ""

    def __call__(self, client: Client) -> None:
        """Read the UID and claim the cluster. Raises CertflowError if another host of the run has claimed it."""
        try:
            uid = str(self._arguments.get("cluster_uid") or read_cluster_uid(client))
        except Forbidden:
            uid = ""
        self._claim(uid, *client.connection.proof)

    def check_result(self, result: Mapping[str, Any]) -> None:
        """Claim the cluster that k8s_csr_info has read. Raises CertflowError as above."""
        if not result.get("failed"):
            address = str((result.get("cluster") or {}).get("host") or "")
            self._claim(str(result.get("cluster_uid") or ""), address, "")

    def _claim(self, uid: str, address: str, ca: str) -> None:
        self.uid = uid
        # The run file holds no connection data.
        address = hashlib.sha256(address.encode()).hexdigest()
        claim(self._run, self._task.host, Claim(uid, address, ca, _written_object(self._arguments)))


def make_check(run: FleetRun, task: ClusterTask, arguments: Mapping[str, Any]) -> ClusterCheck | None:
    """Return the check of the cluster, None if several hosts may mean one cluster.

    arguments: of the task.
    """
    is_needed = not run.shares_clusters and len(run.hosts) > 1 and task.phase != cluster_run.VERIFY
    return ClusterCheck(run, task, arguments) if is_needed else None


def claim(run: FleetRun, host: str, made: Claim) -> None:
    """Claim the cluster for this host. Raises CertflowError if another host of the run has certainly claimed it.

    If that is not certain, show a warning, because a cluster may repeat the UID of another one.
    """
    owner = run.file.claim(host, made)
    if owner is None:
        return
    hosts = f"hosts {visible(owner.host)} and {visible(host)}"
    uid = f"UID {visible(made.uid) or 'not known'}"
    if not owner.is_proven:
        display.warning(
            f"{hosts} may mean the same cluster ({uid}): their UIDs or their addresses are the same. If they mean two clusters,"
            " one of them may repeat the UID of the other"
        )
        return
    secret = f" and write the same Secret {visible(made.work)}" if made.work else ""
    raise CertflowError(
        f"{hosts} mean the same cluster ({uid}){secret}", code="same-cluster", remedy=overlap.REMEDY
    )


def _written_object(arguments: Mapping[str, Any]) -> str:
    """Return the Secret that a task writes, "" for an upgrade, which changes the whole cluster."""
    secret = arguments.get("secret")
    name = secret.get("name") if isinstance(secret, Mapping) else secret
    return f"{arguments.get('namespace', '')}/{name}" if name else ""
