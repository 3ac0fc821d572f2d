# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""k8s_signer_probe: show by throw-away requests which signers issue certificates here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .._ansible import argument_specs
from .._ansible.operation import Operation
from .._base.result import Result
from .._csr.errors import RequestError
from .._diagnosis import signer_probe
from .._diagnosis.signer_probe import probe_signers
from .._kube.client import Client

SPEC: dict[str, Any] = {
    "signers": {"type": "list", "elements": "str"},
    "probe_seconds": {"type": "int", "default": 15},
    **argument_specs.AUTH,
}


def run(client: Client, parameters: Mapping[str, Any], check_mode: bool) -> Result:
    """Probe the signers of the task, or the known serving signers. Raises CertflowError."""
    seconds = parameters["probe_seconds"]
    if seconds < 0:
        raise RequestError(
            f"the option probe_seconds has the value {seconds}",
            remedy="Set probe_seconds to 0 or more seconds",
        )
    report = probe_signers(
        client,
        parameters.get("signers") or signer_probe.serving_signers(),
        seconds=seconds,
        check_mode=check_mode,
    )
    warnings = (*report.leftovers, *report.warnings)
    return Result(bool(report.leftovers), {"signers": report.signers}, warnings=warnings)


OPERATION = Operation(
    name="k8s_signer_probe", argument_spec=SPEC, run=run, roles=lambda _parameters: ("probe",)
)
