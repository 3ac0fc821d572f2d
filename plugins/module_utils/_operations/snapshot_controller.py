# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""snapshot_controller: install, upgrade or verify the snapshot controller of a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .._ansible.operation import Operation
from .._kube.client import Client
from .._process import interrupt, progress_lines
from .._result import Result
from .._upgrade.engine import Upgrade
from .._upgrade.options import UPGRADE, VERIFIED, request_from
from .._upgrade.planning import kubernetes_version


def run(client: Client, parameters: Mapping[str, Any], check_mode: bool) -> Result:
    """See the documentation of the module. Raises CertflowError."""
    # A signal before the first write ends with a result too. A worker that ends without one ends the play of every cluster.
    with progress_lines.started() as progress, interrupt.stoppable():
        request = request_from(parameters).for_kubernetes(kubernetes_version(client))
        upgrade = Upgrade(client, request, progress)
        if parameters["state"] == VERIFIED:
            return upgrade.verify(check_mode=check_mode)
        return upgrade.check() if check_mode else upgrade.run()


OPERATION = Operation(name="snapshot_controller", argument_spec=UPGRADE, run=run)
