# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""snapshot_controller_info: what is installed, who manages it, the hazards and the plan. Reads only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .._ansible.operation import Operation
from .._kube.client import Client
from .._result import Result
from .._snapshot.plan import plan_text
from .._upgrade import planning
from .._upgrade.options import PLAN, options_from, release_from, until_from


def run(client: Client, parameters: Mapping[str, Any], _check_mode: bool) -> Result:
    """See the documentation of the module. Raises CertflowError."""
    release, until = release_from(parameters), until_from(parameters)
    reading = planning.read(client, release, options_from(parameters))
    hops = planning.hops_until(reading.plan.hops, until) or reading.plan.hops
    reading = replace(reading, plan=replace(reading.plan, hops=tuple(hops)))
    values = {
        **reading.values(),
        "refusal": str(reading.refusal() or ""),
        "lines": plan_text.lines(reading.plan),
        "markdown": plan_text.markdown(reading.plan),
    }
    return Result(changed=False, values=values)


OPERATION = Operation(name="snapshot_controller_info", argument_spec=PLAN, run=run)
