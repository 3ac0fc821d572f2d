# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""snapshot_controller_info: what is installed, who manages it, the hazards and the plan. Reads only.

Its options are also those of snapshot_controller that the plan depends on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .._ansible import argument_specs
from .._ansible.operation import READING_OVERTIME_SECONDS, Operation
from .._base import accept
from .._base.errors import CertflowError
from .._base.result import Result
from .._kube.client import Client
from .._snapshot.context.hop_context import UpgradeOptions
from .._snapshot.errors import ReleaseError
from .._snapshot.kinds import REGISTRY
from .._snapshot.plan import plan_text
from .._snapshot.release import release_table
from .._snapshot.release.pod_templates import WEBHOOK_PORT
from .._snapshot.release.release_table import Release
from .._upgrade import planning

ARGUMENTS: dict[str, Any] = {
    "version": {"type": "str", "required": True},
    "installed_version": {"type": "str"},
    "namespace": {"type": "str"},
    "webhook_namespace": {"type": "str"},
    "validation_webhook": {"type": "bool"},
    "conversion_webhook": {"type": "bool"},
    "group_snapshots": {"type": "bool"},
    "failure_policy": {"type": "str", "choices": ["Ignore", "Fail"]},
    "controller_arguments": {"type": "list", "elements": "str", "default": []},
    "webhook_arguments": {"type": "list", "elements": "str", "default": []},
    "webhook_port": {"type": "int", "default": WEBHOOK_PORT},
    "webhook_host_network": {"type": "bool", "default": False},
    "accept": accept.OPTION,
    "remove_controllers": {"type": "list", "elements": "str", "default": []},
    "image_registry": {"type": "str", "default": REGISTRY},
    **argument_specs.AUTH,
}


def run(client: Client, parameters: Mapping[str, Any], _check_mode: bool) -> Result:
    """Read the cluster and return the plan. Raises CertflowError."""
    current = planning.read(client, parse_release(parameters), parse_options(parameters))
    values = {
        **current.as_result(),
        "refusal": str(current.refusal() or ""),
        "lines": plan_text.lines(current.plan),
    }
    return Result(changed=False, values=values)


def parse_release(parameters: Mapping[str, Any]) -> Release:
    """Return the release of the option version. Raises CertflowError."""
    if not parameters["version"].strip():
        raise CertflowError("the option version is empty", remedy="Give a release, such as version: 8.7.0")
    return release_table.target(parameters["version"])


def parse_options(parameters: Mapping[str, Any]) -> UpgradeOptions:
    """Return the choices that the plan depends on. Raises CertflowError for a value that is not valid."""
    return UpgradeOptions(
        namespace=parameters["namespace"] or "",
        webhook_namespace=parameters["webhook_namespace"] or "",
        validation_webhook=parameters["validation_webhook"],
        conversion_webhook=parameters["conversion_webhook"],
        group_snapshots=parameters["group_snapshots"],
        failure_policy=parameters["failure_policy"] or "",
        accept=accept.parse(parameters["accept"]),
        remove_controllers=tuple(_parse_places(parameters["remove_controllers"])),
        installed_version=_parse_version(parameters["installed_version"]),
        controller_arguments=tuple(parameters["controller_arguments"]),
        webhook_arguments=tuple(parameters["webhook_arguments"]),
        webhook_port=parameters["webhook_port"],
        webhook_host_network=parameters["webhook_host_network"],
        image_registry=parameters["image_registry"] or REGISTRY,
    )


def _parse_version(words: str | None) -> release_table.Version | None:
    version = release_table.parse(words) if words else None
    if words and version is None:
        raise ReleaseError(
            f"the option installed_version has the value {words!r}, which is not a version",
            remedy="Set three numbers, such as 7.0.2",
        )
    return version


def _parse_places(names: list[str]) -> list[str]:
    for name in names:
        if name.count("/") != 1 or name.startswith("/") or name.endswith("/"):
            raise ReleaseError(
                f"the option remove_controllers has the value {name!r}, which is not of the form namespace/name",
                remedy="Set each as namespace/name, such as default/snapshot-controller",
            )
    return names


OPERATION = Operation(
    name="snapshot_controller_info",
    overtime=READING_OVERTIME_SECONDS,
    argument_spec=ARGUMENTS,
    run=run,
    roles=lambda _parameters: ("plan",),
)
